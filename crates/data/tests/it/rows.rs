//! Embeddings of another model in the place of images: what is read, split, refused.

use crate::{quiet, source, synthetic};
use faceoff_data::{Dataset, EmbeddingFiles, ImageSource, preview};
use faceoff_runs::{DataConfig, EMBEDDINGS, OwnData, OwnSplit, SplitName};
use ndarray::Array2;
use ndarray_npy::write_npy;
use std::collections::BTreeSet;
use std::path::Path;

const TRAIN: SplitName = SplitName::Train;
const VAL: SplitName = SplitName::Val;

fn config() -> DataConfig {
    let split = OwnSplit { validation_share: 0.25, seed: 0 };
    let own = Some(OwnData { name: "clip".into(), split });
    DataConfig { dataset: EMBEDDINGS.into(), synthetic: None, own, ..synthetic() }
}

/// The number of a row at a column.
fn number(row: usize, column: usize) -> f64 {
    1.0 + row as f64 + column as f64 / 8.0
}

/// Files of 24 rows of 5 numbers, and a table of their labels.
fn files(folder: &Path, table: &str) -> ImageSource {
    let [npy, csv] = ["clip.npy", "clip.csv"].map(|name| folder.join(name));
    write_npy(&npy, &Array2::from_shape_fn((24, 5), |(row, column)| number(row, column) as f32)).unwrap();
    std::fs::write(&csv, table).unwrap();
    let embeddings = Some(EmbeddingFiles { train: npy, val: None });
    ImageSource { labels: Some(csv), embeddings, ..source(&folder.join("cache")) }
}

fn labels(line: impl Fn(usize) -> String) -> String {
    (0..24).map(|row| line(row) + "\n").collect()
}

fn plain() -> String {
    "label\n".to_string() + &labels(|row| format!("class {}", row % 3))
}

fn ids(images: &Dataset, side: SplitName) -> Vec<String> {
    images.items(side).iter().map(|item| item.id.clone()).collect()
}

fn refusal(source: &ImageSource) -> String {
    Dataset::open(&config(), source, &quiet).err().unwrap().to_string()
}

#[test]
fn batches_hold_the_rows_of_their_images_and_the_split_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let table = "label,group\n".to_string() + &labels(|row| format!("class {},scene {}", row % 3, row / 6));
    let source = files(folder.path(), &table);
    let images = Dataset::open(&config(), &source, &quiet).unwrap();
    assert_eq!((images.record().train_images, images.record().val_images, images.classes()), (18, 6, 3));
    // One scene of six rows as a whole.
    let scenes: BTreeSet<usize> =
        ids(&images, VAL).iter().map(|id| id.strip_prefix("clip:").unwrap().parse::<usize>().unwrap() / 6).collect();
    assert_eq!(scenes.len(), 1);
    let sizes = preview(&config(), &source).unwrap().sizes;
    assert_eq!(sizes, images.sizes());
    let notes = images.record().notes.join(" ");
    assert!(notes.contains("a row of clip.npy, 5 numbers"), "{notes}");

    for (loader, augmented) in
        [(images.eval_batches(TRAIN, 7).unwrap(), false), (images.train_epoch(3, 0, 6, None).unwrap(), true)]
    {
        let mut seen = 0;
        for batch in loader {
            let batch = batch.unwrap();
            assert!(batch.pixels.is_empty());
            for (row, &label) in batch.rows.chunks_exact(5).zip(&batch.labels) {
                let place = row[0] as usize - 1;
                assert_eq!(place % 3, label as usize);
                assert!((0..5).all(|column| f64::from(row[column]) == number(place, column)), "{row:?}");
                seen += 1;
            }
        }
        assert_eq!(seen, 18, "{augmented}");
    }

    let split = folder.path().join("split.csv");
    std::fs::write(&split, images.split_table().unwrap()).unwrap();
    let again = Dataset::open(&config(), &ImageSource { labels: Some(split), ..source }, &quiet).unwrap();
    assert_eq!([TRAIN, VAL].map(|side| ids(&again, side)), [TRAIN, VAL].map(|side| ids(&images, side)));
    assert_eq!(again.record().fingerprint, images.record().fingerprint);
    assert!(again.split_table().is_none());
}

#[test]
fn the_fingerprint_says_which_row_an_image_is() {
    let folder = tempfile::tempdir().unwrap();
    // The first and the fourth row have one class; one of them is left out, the other is `x`.
    let fingerprint = |x: usize| {
        let line = |row: usize| match row {
            0 | 3 if row == x => "class 0,x,train".to_string(),
            0 | 3 => "class 0,y,test".into(),
            _ => format!("class {},{row},{}", row % 3, ["train", "val"][row % 2]),
        };
        let source = files(folder.path(), &("label,id,split\n".to_string() + &labels(line)));
        let images = Dataset::open(&config(), &source, &quiet).unwrap();
        (ids(&images, TRAIN).into_iter().collect::<BTreeSet<_>>(), images.record().fingerprint.clone())
    };
    let [(of_first, first), (of_fourth, fourth)] = [0, 3].map(fingerprint);
    assert!(of_first == of_fourth && first != fourth);
    assert_eq!(fingerprint(0).1, first);
}

#[test]
fn the_record_says_which_files_were_given() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = files(folder.path(), &plain());
    let given = |source: &ImageSource| Dataset::open(&config(), source, &quiet).unwrap().record().options.join(" ");
    assert_eq!(given(&source), "--embeddings --labels");
    let embeddings = source.embeddings.as_mut().unwrap();
    embeddings.val = Some([embeddings.train.clone(), folder.path().join("val.csv")]);
    std::fs::write(folder.path().join("val.csv"), plain()).unwrap();
    assert_eq!(given(&source), "--embeddings --labels --val-embeddings --val-labels");
}

#[test]
fn a_class_of_one_row_is_left_out_and_the_split_still_has_a_line_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let table = "label\n".to_string() + &labels(|row| if row == 5 { "lone".into() } else { format!("{}", row % 2) });
    let source = files(folder.path(), &table);
    let images = Dataset::open(&config(), &source, &quiet).unwrap();
    assert!(images.remarks()[0].contains("1 classes with 1 images are left out"), "{:?}", images.remarks());
    let split = folder.path().join("split.csv");
    let text = images.split_table().unwrap();
    assert!(text.lines().count() == 25 && text.contains("clip:5,lone,test,"), "{text}");
    std::fs::write(&split, text).unwrap();
    let again = Dataset::open(&config(), &ImageSource { labels: Some(split), ..source }, &quiet).unwrap();
    assert_eq!(ids(&again, VAL), ids(&images, VAL));
}

#[test]
fn validation_files_are_taken_as_they_are_in_every_width() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = files(folder.path(), &plain());
    let [npy, csv] = ["val.npy", "val.csv"].map(|name| folder.path().join(name));
    // The third row stands among the training rows too.
    let shifted = |row: usize| if row == 2 { 2 } else { row + 100 };
    write_npy(&npy, &Array2::from_shape_fn((6, 5), |(row, column)| number(shifted(row), column) as f32)).unwrap();
    std::fs::write(&csv, "id,label\na,class 0\nb,class 1\nc,class 2\nd,class 0\ne,class 1\nf,class 2\n").unwrap();
    source.embeddings.as_mut().unwrap().val = Some([npy.clone(), csv.clone()]);
    let images = Dataset::open(&config(), &source, &quiet).unwrap();
    assert_eq!((images.record().train_images, images.record().val_images), (24, 6));
    assert_eq!(ids(&images, VAL), ["a", "b", "c", "d", "e", "f"]);
    assert!(images.split_table().is_none());
    assert!(images.remarks().iter().any(|remark| remark.starts_with("1 validation rows are training rows too")));
    let rows = |images: &Dataset| images.eval_batches(VAL, 6).unwrap().next().unwrap().unwrap().rows;
    let of_f32 = rows(&images);
    assert_eq!(of_f32[..2], [101.0, 101.125]);

    write_npy(&npy, &Array2::from_shape_fn((6, 5), |(row, column)| number(shifted(row), column))).unwrap();
    assert_eq!(rows(&Dataset::open(&config(), &source, &quiet).unwrap()), of_f32);
    // As NumPy writes f16, big-endian.
    let header = format!("{:<117}\n", "{'descr': '>f2', 'fortran_order': False, 'shape': (6, 5), }");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(of_f32.iter().flat_map(|&value| half::f16::from_f32(value).to_be_bytes()));
    std::fs::write(&npy, bytes).unwrap();
    assert_eq!(rows(&Dataset::open(&config(), &source, &quiet).unwrap()), of_f32);

    std::fs::write(&csv, "label,split\n1,val\n2,train\n1,\n2,\n1,\n2,\n").unwrap();
    let message = refusal(&source);
    assert!(message.contains("line 3 has the split `train`") && message.contains("are val images here"), "{message}");
}

#[test]
fn what_cannot_be_trained_on_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let said = |table: &str, part: &str| {
        let message = refusal(&files(folder.path(), table));
        assert!(message.contains(part), "{message} lacks {part}");
    };
    said("label\na\nb\n", "it has 2 labels, but");
    said("name,kind\na,b\n", "it has no column `label`: its first line is `name,kind`");
    said(&("label\n".to_string() + &labels(|_| "one".into())), "1 class (one) is too few to tell apart");
    said(&plain().replacen("class 1", "\"\"", 1), "line 3 has no label");
    said(
        &("id,label\n".to_string() + &labels(|row| format!("{},c{}", row / 2, row % 3))),
        "line 3 names 0 again, after line 2",
    );
    said(
        &("label,split\n".to_string() + &labels(|row| format!("c{},{}", row % 3, ["val", ""][row % 2]))),
        "line 3 has no split",
    );
    said(&("label,split\n".to_string() + &labels(|row| format!("c{},dev", row % 3))), "line 2 has the split `dev`");

    let source = files(folder.path(), &plain());
    let npy = &source.embeddings.as_ref().unwrap().train;
    let mut numbers = Array2::from_shape_fn((24, 5), |(row, column)| number(row, column));
    let mut with = |row: usize, column: usize, value: f64, part: &str| {
        let before = std::mem::replace(&mut numbers[[row, column]], value);
        write_npy(npy, &numbers).unwrap();
        numbers[[row, column]] = before;
        let message = refusal(&source);
        assert!(message.contains(part), "{message} lacks {part}");
    };
    with(7, 2, f64::NAN, "row 7, column 2 is NaN");
    with(0, 4, 1e300, "row 0, column 4 is 1");
    with(0, 4, 1e25, "row 0 has the length 1");
    numbers.row_mut(9).fill(0.0);
    write_npy(npy, &numbers).unwrap();
    assert!(refusal(&source).contains("row 9 has the length 0"));
    write_npy(npy, &numbers.t().as_standard_layout().to_owned().t()).unwrap();
    assert!(refusal(&source).contains("ascontiguousarray"));
    let bytes = std::fs::read(npy).unwrap();
    std::fs::write(npy, &bytes[..bytes.len() - 8]).unwrap();
    assert!(refusal(&source).contains("it was cut short"));
}

#[test]
fn a_file_that_changes_under_a_training_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let source = files(folder.path(), &plain());
    let images = Dataset::open(&config(), &source, &quiet).unwrap();
    let npy = &source.embeddings.as_ref().unwrap().train;
    let mut bytes = std::fs::read(npy).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(npy, bytes).unwrap();
    let batches = images.eval_batches(TRAIN, 4).unwrap().chain(images.eval_batches(VAL, 4).unwrap());
    let message = batches.filter_map(Result::err).next().unwrap().to_string();
    assert!(message.contains("row 23 is not what it was"), "{message}");
}
