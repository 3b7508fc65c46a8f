//! Images of the user's own: layouts, tables, what chance decides, and what is left out.

use crate::{quiet, refusal, source, synthetic};
use faceoff_data::{Dataset, Error, ImageSource, broken_own_images, file_name_of, preview, unseen_classes};
use faceoff_runs::{DataConfig, FOLDER, OwnData, OwnSplit, SplitName};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tempfile::TempDir;

fn own(seed: u64) -> DataConfig {
    let split = OwnSplit { validation_share: 0.25, seed };
    DataConfig {
        dataset: FOLDER.into(),
        synthetic: None,
        own: Some(OwnData { name: "Mes photos".into(), split }),
        ..synthetic()
    }
}

/// A folder with as many images of each name as said; `cache` in it is for what is decoded.
fn folder(images: &[(&str, usize)]) -> (TempDir, ImageSource) {
    let folder = tempfile::tempdir().unwrap();
    for (class, (name, count)) in images.iter().enumerate() {
        let path = folder.path().join("mine").join(name);
        std::fs::create_dir_all(&path).unwrap();
        for index in 0..*count {
            let color = image::Rgb([class as u8 * 20, index as u8, 99]);
            image::RgbImage::from_pixel(40, 40, color).save(path.join(format!("{index}.png"))).unwrap();
        }
    }
    let source = ImageSource { data_dir: Some(folder.path().join("mine")), ..source(&folder.path().join("cache")) };
    (folder, source)
}

fn open(source: &ImageSource, seed: u64) -> Dataset {
    Dataset::open(&own(seed), source, &quiet).unwrap()
}

/// Images of each class on a side.
fn counts(images: &Dataset, side: SplitName) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for item in images.items(side) {
        *counts.entry(images.record().classes[item.label as usize].as_str()).or_default() += 1;
    }
    counts
}

fn ids(images: &Dataset, side: SplitName) -> Vec<(String, u32)> {
    images.items(side).iter().map(|item| (item.id.clone(), item.label)).collect()
}

const BOTH: [SplitName; 2] = SplitName::ALL;
const TRAIN: SplitName = SplitName::Train;
const VAL: SplitName = SplitName::Val;

#[test]
fn class_folders_alone_are_split_by_class_and_seed_and_the_table_reads_back() {
    let (folder, source) = folder(&[("d\u{e9}j\u{e0} vu", 12), ("b, \"c\"", 4), ("a", 2), ("lone", 1)]);
    let images = open(&source, 0);
    let record = images.record();
    assert_eq!((record.name.as_str(), record.synthetic), ("Mes photos", false));
    assert_eq!(record.classes, ["a", "b, \"c\"", "d\u{e9}j\u{e0} vu"]);
    assert_eq!(Vec::from_iter(counts(&images, VAL).into_values()), [1, 1, 3]);
    assert_eq!(Vec::from_iter(counts(&images, TRAIN).into_values()), [1, 3, 9]);
    let remarks = images.remarks().join("\n");
    assert!(remarks.contains("1 classes with 1 images are left out") && remarks.contains("`lone`"), "{remarks}");
    assert!(remarks.contains("5 of 18 images") && remarks.contains("25 %"), "{remarks}");
    assert!(record.notes.iter().any(|note| note.contains("chosen by seed 0")), "{:?}", record.notes);

    assert_eq!(ids(&open(&source, 0), VAL), ids(&images, VAL));
    let other = open(&source, 1);
    assert_ne!(ids(&other, VAL), ids(&images, VAL));
    assert_ne!(other.record().fingerprint, record.fingerprint);

    let table = folder.path().join("split.csv");
    std::fs::write(&table, images.split_table().unwrap()).unwrap();
    let again = open(&ImageSource { labels: Some(table), ..source }, 7);
    assert_eq!(BOTH.map(|side| ids(&again, side)), BOTH.map(|side| ids(&images, side)));
    assert!(again.split_table().is_none() && again.remarks().is_empty());
    let batch = |images: &Dataset| images.eval_batches(VAL, 18).unwrap().next().unwrap().unwrap();
    assert_eq!(batch(&again), batch(&images));
}

#[test]
fn sides_are_known_by_their_usual_names() {
    for (train, val) in [("train", "val"), ("Train", "Validation"), ("training", "test"), ("TRAIN", "valid")] {
        let [a, b, c, d] = [format!("{train}/a"), format!("{train}/b"), format!("{val}/a"), format!("{val}/b")];
        let (_folder, source) = folder(&[(&a, 3), (&b, 3), (&c, 2), (&d, 2)]);
        let images = open(&source, 0);
        assert_eq!(BOTH.map(|side| images.items(side).len()), [6, 4], "{train} {val}");
        assert!(images.split_table().is_none() && images.remarks().is_empty());
    }
    // A third part is not used, and said; train/ alone is split.
    let (_folder, source) = folder(&[("train/a", 3), ("train/b", 3), ("val/a", 2), ("val/b", 2), ("test/a", 5)]);
    assert!(open(&source, 0).passed_over().unwrap().contains("1 folders beside these (e.g. test)"));
    let (_folder, source) = folder(&[("train/a", 4), ("train/b", 4)]);
    assert_eq!(BOTH.map(|side| open(&source, 0).items(side).len()), [6, 2]);
    // A class may be called so.
    let (_folder, source) = folder(&[("train", 4), ("bus", 4)]);
    assert_eq!(open(&source, 0).record().classes, ["bus", "train"]);
    // A class that stands on one side only is left out.
    let (_folder, source) = folder(&[("train/a", 3), ("train/b", 3), ("train/c", 3), ("val/a", 2), ("val/b", 2)]);
    let images = open(&source, 0);
    assert_eq!(images.record().classes, ["a", "b"]);
    assert!(images.remarks()[0].contains("1 classes with 3 images"), "{:?}", images.remarks());

    for (layout, part) in [
        (&[("val/a", 2), ("val/b", 2)][..], "there is val/ but no train/"),
        (&[("gallery/a", 2), ("train/a", 2)][..], "belong together"),
        (&[("only", 3)][..], "1 class (only) is too few"),
        (&[("train/a", 2), ("gallery/a", 2), ("query/a", 2)][..], "class `a` is in train/ and in gallery/"),
    ] {
        let (_folder, source) = folder(layout);
        let message = refusal(&own(0), &source).to_string();
        assert!(message.contains(part), "{message} lacks {part}");
    }
}

#[test]
fn queries_are_evaluated_among_a_gallery_of_classes_that_training_never_sees() {
    let [a, b, c, d] = ["train/a", "train/b", "gallery/c", "gallery/d"].map(|name| (name, 4));
    let (_folder, source) = folder(&[a, b, c, d, ("query/c", 2), ("query/d", 1), ("gallery/extra", 3)]);
    let unseen = unseen_classes(&source).unwrap();
    assert_eq!(unseen, ["c", "d"]);
    let config = DataConfig { held_out_classes: unseen, ..own(0) };
    let images = Dataset::open(&config, &source, &quiet).unwrap();
    assert!(images.evaluates_unseen_classes());
    assert_eq!((images.classes(), images.record().train_images), (2, 8));
    assert_eq!(images.record().classes, ["c", "d"]);
    assert_eq!(BOTH.map(|side| images.items(side).len()), [8, 3]);
    assert!(images.items(TRAIN).iter().all(|item| item.id.starts_with("gallery/")));
    assert!(images.remarks().iter().any(|remark| remark.contains("`extra`")), "{:?}", images.remarks());
    // Without train/ they are training and validation images of the same classes.
    let (_folder, source) = folder(&[("gallery/c", 4), ("gallery/d", 4), ("query/c", 2), ("query/d", 1)]);
    assert!(unseen_classes(&source).unwrap().is_empty());
    assert_eq!(open(&source, 0).record().train_images, 8);
}

/// A table of two classes, eight images each, two of each group; `a` and `b` share a group.
fn table(separator: char) -> String {
    let line = |(class, index): (&str, usize)| {
        let group = if index < 2 { "shared".into() } else { format!("{class}{}", index / 2) };
        [format!("{class}/{index}.png"), format!("class {class}"), group].join(&separator.to_string())
    };
    let rows = (0..16).map(|place| line((["a", "b"][place % 2], place / 2)));
    let title = ["path", "Label", "group"].join(&separator.to_string());
    [title].into_iter().chain(rows).collect::<Vec<_>>().join("\r\n")
}

#[test]
fn tables_of_any_separator_with_a_byte_order_mark_are_split_by_group() {
    let (folder, source) = folder(&[("a", 8), ("b", 8)]);
    let labels = folder.path().join("labels.csv");
    let source = ImageSource { labels: Some(labels.clone()), ..source };
    let mut before = None;
    for separator in [',', ';', '\t'] {
        std::fs::write(&labels, format!("\u{feff}{}", table(separator))).unwrap();
        let images = open(&source, 3);
        assert_eq!(images.record().classes, ["class a", "class b"]);
        let rows = images.split_table().unwrap().lines().skip(1).map(|row| row.split(',').collect::<Vec<_>>());
        let mut sides: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        rows.for_each(|row| _ = sides.entry(row[3].into()).or_default().insert(row[2].into()));
        assert!(sides.len() == 7 && sides.values().all(|sides| sides.len() == 1), "{sides:?}");
        assert_eq!(counts(&images, VAL), BTreeMap::from([("class a", 2), ("class b", 2)]));
        let fingerprint = images.record().fingerprint.clone();
        assert_eq!(*before.get_or_insert(fingerprint.clone()), fingerprint);
    }
    // Another label changes the fingerprint, although no file changed.
    std::fs::write(&labels, table(',').replace("a/7.png,class a", "a/7.png,class b")).unwrap();
    assert_ne!(open(&source, 3).record().fingerprint, before.unwrap());
}

#[test]
fn a_split_of_the_users_own_is_kept_and_its_faults_are_named() {
    let (folder, given) = folder(&[("a", 4), ("b", 4)]);
    let labels = folder.path().join("mine/labels.csv");
    // Without --data paths start at the table's folder; those of Windows are read too.
    let source = ImageSource { labels: Some(labels.clone()), data_dir: None, ..given };
    let text = |split: [&str; 4], group: &str| {
        let rows = (0..8).map(|place| {
            let (class, index) = (["a", "b"][place % 2], place / 2);
            format!("{class}\\{index}.png,{class},{},{group}", split[index])
        });
        ["path,label,split,group".to_string()].into_iter().chain(rows).collect::<Vec<_>>().join("\n")
    };
    std::fs::write(&labels, text(["train", "Training", "valid", "test"], "")).unwrap();
    let images = open(&source, 0);
    assert_eq!(BOTH.map(|side| images.items(side).len()), [4, 2]);
    assert!(images.passed_over().unwrap().contains("2 rows of the split test"));
    assert_eq!(images.items(VAL)[0].id, "a/2.png");
    std::fs::write(&labels, text(["train", "train", "test", "test"], "x")).unwrap();
    let images = open(&source, 0);
    assert_eq!(images.items(VAL).len(), 4);
    assert!(images.remarks()[0].contains("1 groups have training and validation images, e.g. `x`"));

    for (table, part) in [
        (text(["train", "", "val", "val"], ""), "line 4 has no split, but line 2 has"),
        (text(["train", "trian", "val", "val"], ""), "has the split `trian`; it must be `train` or `val`"),
        ("path;class\na/0.png;a".into(), "its first line is `path;class`"),
        ("path,label\na/0.png,".into(), "line 2 has no label"),
        ("path,label\na/0.png,a\n./a/0.png,b".into(), "line 3 names a/0.png again, after line 2"),
        ("path,label\n../x.png,a".into(), "lies outside of"),
        ("path,label\na/9.png,a\na/0.png,a".into(), "1 of its images are not there, e.g. a/9.png"),
        ("path,label\n".into(), "it lists no image"),
    ] {
        std::fs::write(&labels, table).unwrap();
        let error = refusal(&own(0), &source);
        assert!(matches!(error, Error::Table { .. }) && error.to_string().contains(part), "{error} lacks {part}");
    }
}

/// From the working folder to `path`, which is absolute.
#[cfg(unix)]
fn relative(path: &Path) -> std::path::PathBuf {
    let up = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect::<std::path::PathBuf>();
    up.join(path.canonicalize().unwrap().strip_prefix("/").unwrap())
}

#[test]
#[cfg(unix)]
fn absolute_paths_in_a_table_fit_a_folder_however_it_is_typed() {
    let (folder, given) = folder(&[("a", 4), ("b", 4)]);
    let mine = folder.path().join("mine");
    let linked = folder.path().join("linked");
    std::os::unix::fs::symlink(&mine, &linked).unwrap();
    let labels = mine.join("labels.csv");
    let rows = ["a", "b"].map(|class| (0..4).map(move |index| format!("{class}/{index}.png,{class}\n")));
    let rows: Vec<String> = rows.into_iter().flatten().collect();
    for (base, folder) in
        [(&mine, &mine), (&mine, &relative(&mine)), (&linked, &linked), (&mine, &linked), (&mine, &relative(&linked))]
    {
        let rows = rows.iter().map(|row| format!("{}/{row}", base.display())).collect::<String>();
        std::fs::write(&labels, format!("path,label\n{rows}")).unwrap();
        let source = ImageSource { data_dir: Some(folder.clone()), labels: Some(labels.clone()), ..given.clone() };
        let images = open(&source, 0);
        assert_eq!(BOTH.map(|side| images.items(side).len()), [6, 2], "{}", folder.display());
        assert!(images.items(VAL)[0].id.starts_with("a/"));
    }
    std::fs::write(&labels, format!("path,label\n{}/other/0.png,a\n", folder.path().display())).unwrap();
    let source = ImageSource { data_dir: Some(relative(&mine)), labels: Some(labels), ..given };
    assert!(refusal(&own(0), &source).to_string().contains("lies outside of"));
}

/// Names that differ in Unicode's form alone have one id; where the system keeps them apart, so are their pixels.
#[test]
#[cfg(target_os = "linux")]
fn two_files_whose_ids_coincide_are_two_images() {
    let (_folder, source) = folder(&[("train/a", 2), ("train/b", 2), ("val/a", 1), ("val/b", 1)]);
    let path = source.data_dir.as_ref().unwrap().join("train/a");
    for (name, color) in [("\u{e9}.png", [200, 0, 0]), ("e\u{301}.png", [0, 200, 0])] {
        image::RgbImage::from_pixel(40, 40, image::Rgb(color)).save(path.join(name)).unwrap();
    }
    let images = open(&source, 0);
    let pixels = images.eval_batches(TRAIN, 6).unwrap().next().unwrap().unwrap().pixels;
    let distinct: BTreeSet<&[u8]> = pixels.chunks_exact(pixels.len() / 6).collect();
    assert_eq!(distinct.len(), 6);
}

/// As a disk that fails for a while, or a permission: size and time of the file are the same.
#[test]
fn an_image_that_can_be_read_by_now_is_not_left_out_any_longer() {
    let (_folder, source) = folder(&[("a", 4), ("b", 4)]);
    let whole = open(&source, 0);
    let skipping = ImageSource { skip_unreadable: true, ..source.clone() };
    let path = source.data_dir.as_ref().unwrap().join("a/0.png");
    let (bytes, time) =
        (std::fs::read(&path).unwrap(), std::time::UNIX_EPOCH + std::time::Duration::from_secs(1 << 30));
    let put = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    put(&vec![0; bytes.len()]);
    for _ in 0..2 {
        assert_eq!(open(&skipping, 0).unreadable().len(), 1);
    }
    let listed = "path,problem\na/0.png,";
    assert!(open(&skipping, 0).unreadable_table().unwrap().starts_with(listed));
    put(&bytes);
    let images = open(&skipping, 0);
    assert!(images.unreadable().is_empty() && images.unreadable_table().is_none());
    assert_eq!(images.record().fingerprint, whole.record().fingerprint);
}

#[test]
fn unreadable_images_are_listed_and_left_out_only_if_asked() {
    let (_folder, source) = folder(&[("a", 6), ("b", 6)]);
    let whole = open(&source, 0);
    for name in ["a/cut.png", "b/text.jpg"] {
        std::fs::write(source.data_dir.as_ref().unwrap().join(name), b"no image").unwrap();
    }
    let skipping = ImageSource { skip_unreadable: true, ..source.clone() };
    for _ in 0..2 {
        assert!(refusal(&own(0), &source).to_string().contains("--skip-unreadable"));
        let images = open(&skipping, 0);
        let names: Vec<&str> = images.unreadable().iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(names, ["a/cut.png", "b/text.jpg"]);
        assert!(images.remarks()[0].contains("2 images cannot be read and are left out, e.g. a/cut.png"));
        // It is the set without them, to the last pixel.
        assert_eq!(images.record().fingerprint, whole.record().fingerprint);
        let batch = |images: &Dataset| images.eval_batches(TRAIN, 12).unwrap().next().unwrap().unwrap();
        assert_eq!(batch(&images), batch(&whole));
    }
    let (broken, count, _) = broken_own_images(&source, &quiet).unwrap();
    assert_eq!((broken.len(), count), (2, 14));
    let looked = preview(&own(0), &skipping).unwrap();
    assert_eq!(looked.sizes, open(&skipping, 0).sizes());
    assert_eq!(looked.decoded_bytes, Some(12 * 40 * 40 * 3));
    assert!(
        looked.remarks.iter().any(|remark| remark.contains("2 images cannot be read: they are left out")),
        "{:?}",
        looked.remarks
    );
}

#[test]
fn names_of_folders_become_names_of_reports() {
    for (title, name) in [
        ("Meine F\u{f6}tos (2024)", "Meine-Fotos-2024"),
        ("caf\u{65}\u{301}", "cafe"),
        ("../up", "up"),
        (".hidden", "hidden"),
        ("\u{6771}\u{4eac}", "images"),
        ("a_b.c-d", "a_b.c-d"),
    ] {
        assert_eq!(file_name_of(title), name);
    }
    assert!(Path::new("reports").join(file_name_of("/etc/passwd")).starts_with("reports"));
}
