//! Data sets, open: files, labels, batches, the cache of decoded images, and what is wrong with broken ones.

use crate::{quiet, refusal, source, synthetic};
use faceoff_data::{Batch, Dataset, Error, ImageSource, broken_images, profile};
use faceoff_runs::{DataConfig, DataRecord, Sampler, SplitName};
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

fn batches(loader: faceoff_data::Loader) -> Vec<Batch> {
    loader.map(Result::unwrap).collect()
}

/// The folder of the synthetic set in a cache.
fn folder_in(cache: &Path) -> PathBuf {
    cache.join("synthetic-60-40-40px-0")
}

fn open(config: &DataConfig, cache: &Path) -> Dataset {
    Dataset::open(config, &source(cache), &quiet).unwrap()
}

/// The synthetic set as a user's own folder.
fn as_folder(cache: &Path) -> (DataConfig, ImageSource) {
    open(&synthetic(), cache);
    let config = DataConfig { dataset: "folder".into(), ..synthetic() };
    (config, ImageSource { data_dir: Some(folder_in(cache)), ..source(cache) })
}

#[test]
fn the_synthetic_set_is_the_same_everywhere() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let with = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let (a, b) =
        (with(1).install(|| open(&synthetic(), one.path())), with(3).install(|| open(&synthetic(), two.path())));
    assert_eq!(a.record(), b.record());
    let DataRecord { train_images, val_images, .. } = a.record();
    assert_eq!((*train_images, *val_images, a.classes()), (60, 40, 10));
    assert_eq!(a.items(SplitName::Val)[0].id, "val/stripes-0/000000.JPEG");
    let mut other = synthetic();
    other.synthetic.as_mut().unwrap().seed = 1;
    assert_ne!(a.record().fingerprint, open(&other, one.path()).record().fingerprint);
}

#[test]
fn batches_do_not_depend_on_the_number_of_workers() {
    let cache = tempfile::tempdir().unwrap();
    let images = open(&synthetic(), cache.path());
    let epoch = |threads: usize, epoch: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| batches(images.train_epoch(0, epoch, 16, None).unwrap()))
    };
    let first = epoch(1, 0);
    assert_eq!(first, epoch(3, 0));
    assert_ne!(first, epoch(1, 1));
    // 60 images make three batches of 16; the rest is dropped in training and kept in evaluation.
    assert_eq!(first.iter().map(|batch| batch.labels.len()).collect::<Vec<_>>(), [16; 3]);
    let whole = batches(images.eval_batches(SplitName::Train, 16).unwrap());
    assert_eq!(whole.iter().map(|batch| batch.labels.len()).collect::<Vec<_>>(), [16, 16, 16, 12]);
    let labels: Vec<u32> = whole.iter().flat_map(|batch| batch.labels.clone()).collect();
    assert_eq!(labels, images.items(SplitName::Train).iter().map(|item| item.label).collect::<Vec<_>>());
    assert!(whole.iter().all(|batch| batch.pixels.len() == batch.labels.len() * 32 * 32 * 3));
}

/// A batch of another side has the same images, crops and flips: only their pixels are fewer.
#[test]
fn each_batch_of_an_epoch_may_have_its_own_side() {
    let cache = tempfile::tempdir().unwrap();
    let images = open(&synthetic(), cache.path());
    let of = |sides: [usize; 3]| batches(images.train_epoch_of(0, 1, 16, None, |batch| sides[batch]).unwrap());
    let (mixed, full, small) = (of([16, 24, 32]), of([32; 3]), of([16; 3]));
    assert_eq!(mixed.iter().map(|batch| batch.side_px).collect::<Vec<_>>(), [16, 24, 32]);
    assert_eq!(mixed[1].pixels.len(), 16 * 24 * 24 * 3);
    assert_eq!((&mixed[0], &mixed[2]), (&small[0], &full[2]));
    assert!(mixed.iter().zip(&full).all(|(one, other)| one.labels == other.labels));
    assert_eq!(full, batches(images.train_epoch(0, 1, 16, None).unwrap()));
}

/// 60 images of 10 classes: an epoch of 15 batches of 2 x 2.
#[test]
fn a_sampler_fills_batches_class_by_class() {
    let cache = tempfile::tempdir().unwrap();
    let images = open(&synthetic(), cache.path());
    let sampler = |classes, images| Some(Sampler { classes, images });
    let epoch = |epoch: usize| batches(images.train_epoch(0, epoch, 4, sampler(2, 2)).unwrap());
    let first = epoch(0);
    assert_eq!(first.len(), 15);
    let mut seen = HashSet::new();
    for Batch { labels, pixels, .. } in &first {
        assert!(labels[0] == labels[1] && labels[2] == labels[3] && labels[0] != labels[2], "{labels:?}");
        seen.extend(pixels.chunks(32 * 32 * 3).map(<[u8]>::to_vec));
    }
    // Classes of six images come three times each: every image once.
    assert_eq!(seen.len(), 60);
    assert_eq!(first, epoch(0));
    assert_ne!(first, epoch(1));
    // Of four images of all ten classes, two are left when the second batch is due: the classes begin again.
    let larger = batches(images.train_epoch(0, 0, 20, sampler(5, 4)).unwrap());
    assert_eq!(larger.len(), 3);
    for Batch { labels, pixels, .. } in &larger {
        let distinct: HashSet<_> = pixels.chunks(32 * 32 * 3).collect();
        assert_eq!((labels.len(), distinct.len()), (20, 20));
    }
    for (classes, of_each) in [(11, 2), (2, 7)] {
        let refused = images.train_epoch(0, 0, classes * of_each, sampler(classes, of_each)).err().unwrap().to_string();
        assert!(refused.contains("10 classes, the smallest of 6 images"), "{refused}");
    }
}

#[test]
fn a_dropped_loader_does_not_hang() {
    let cache = tempfile::tempdir().unwrap();
    let images = open(&synthetic(), cache.path());
    let mut loader = images.train_epoch(0, 0, 2, None).unwrap();
    loader.next().unwrap().unwrap();
    assert!(loader.wait_seconds() >= 0.0);
}

#[test]
fn label_noise_comes_from_the_list() {
    let cache = tempfile::tempdir().unwrap();
    let noisy = |percent| open(&DataConfig { label_noise_percent: percent, ..synthetic() }, cache.path());
    let wrong =
        |images: &Dataset, split| images.items(split).iter().filter(|item| item.label != item.label_trained).count();
    assert_eq!(wrong(&noisy(0), SplitName::Train), 0);
    let half = noisy(50);
    assert!((18..=42).contains(&wrong(&half, SplitName::Train)));
    assert_eq!(wrong(&half, SplitName::Val), 0);
    // Training sees the noisy labels.
    let mut trained = batches(half.train_epoch(0, 0, 60, None).unwrap()).remove(0).labels;
    let mut expected: Vec<u32> = half.items(SplitName::Train).iter().map(|item| item.label_trained).collect();
    trained.sort_unstable();
    expected.sort_unstable();
    assert_eq!(trained, expected);
}

#[test]
fn held_out_classes_are_evaluated_and_never_trained() {
    let cache = tempfile::tempdir().unwrap();
    let held_out_classes = vec!["stripes-3".to_string(), "stripes-7".into()];
    let config = DataConfig { held_out_classes, ..synthetic() };
    let images = open(&config, cache.path());
    assert_eq!((images.record().train_images, images.classes()), (48, 8));
    assert_eq!(images.record().classes, ["stripes-3", "stripes-7"]);
    assert_eq!(images.items(SplitName::Train).len(), 12);
    for item in images.items(SplitName::Val) {
        assert!(item.id.contains(if item.label == 0 { "stripes-3" } else { "stripes-7" }), "{item:?}");
    }
    // What training saw is embedded too, under the labels that the head knows.
    let [train, val] = SplitName::SEEN.map(|split| images.items(split));
    assert_eq!(train.len(), 48);
    assert!(val.iter().all(|item| item.label < 8 && !item.id.contains("stripes-3") && !item.id.contains("stripes-7")));
    assert_eq!(
        val.len() + images.items(SplitName::Val).len(),
        open(&synthetic(), cache.path()).items(SplitName::Val).len()
    );
    assert!(open(&synthetic(), cache.path()).items(SplitName::SeenVal).is_empty());
    let unknown = DataConfig { held_out_classes: vec!["poodle".into()], ..synthetic() };
    let error = refusal(&unknown, &source(cache.path())).to_string();
    assert!(error.contains("poodle") && error.contains("stripes-9"), "{error}");
}

#[test]
fn tuning_sees_training_images_alone() {
    let cache = tempfile::tempdir().unwrap();
    let open = |tuning_split_seed| open(&DataConfig { tuning_split_seed, ..synthetic() }, cache.path());
    let ids = |images: &Dataset, split| -> BTreeSet<String> {
        images.items(split).iter().map(|item| item.id.clone()).collect()
    };
    let all = ids(&open(None), SplitName::Train);
    let images = open(Some(1));
    let (trained, held) = (ids(&images, SplitName::Train), ids(&images, SplitName::Val));
    assert_eq!((trained.len(), held.len(), images.record().train_images), (50, 10, 50));
    assert!(trained.is_disjoint(&held));
    assert_eq!(trained.union(&held).cloned().collect::<BTreeSet<_>>(), all);
    let classes: BTreeSet<u32> = images.items(SplitName::Val).iter().map(|item| item.label).collect();
    assert_eq!(classes.len(), 10);
    assert_ne!(ids(&open(Some(2)), SplitName::Val), held);
    // The pixels are those of the same images, wherever they now stand.
    let first = images.items(SplitName::Val)[0].id.clone();
    let place = open(None).items(SplitName::Train).iter().position(|item| item.id == first).unwrap();
    let of_all = batches(open(None).eval_batches(SplitName::Train, 60).unwrap());
    let of_held = batches(images.eval_batches(SplitName::Val, 10).unwrap());
    let size = 32 * 32 * 3;
    assert!(of_held[0].pixels[..size] == of_all[0].pixels[place * size..][..size]);
}

#[test]
fn fewer_images_are_taken_evenly() {
    let cache = tempfile::tempdir().unwrap();
    let config = DataConfig { images_per_split: Some(25), ..synthetic() };
    let images = open(&config, cache.path());
    let mut counts = [0; 10];
    images.items(SplitName::Val).iter().for_each(|item| counts[item.label as usize] += 1);
    counts.sort_unstable();
    assert_eq!(counts, [2, 2, 2, 2, 2, 3, 3, 3, 3, 3]);
}

#[test]
fn the_cache_follows_the_files() {
    let cache = tempfile::tempdir().unwrap();
    let (config, source) = as_folder(cache.path());
    let open = || Dataset::open(&config, &source, &quiet).unwrap();
    let first = open();
    let cached = || -> Vec<PathBuf> {
        std::fs::read_dir(cache.path().join("decoded")).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    assert_eq!(cached().len(), 1);

    // Cut short, as by a full disk: noticed and made again.
    let path = cached()[0].clone();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(open().record().fingerprint, first.record().fingerprint);
    assert_eq!(std::fs::read(&path).unwrap(), whole);

    // Another image under an old name: another fingerprint.
    let folder = folder_in(cache.path());
    std::fs::copy(folder.join("val/stripes-1/000001.JPEG"), folder.join("val/stripes-0/000000.JPEG")).unwrap();
    assert_ne!(open().record().fingerprint, first.record().fingerprint);
}

#[test]
fn broken_images_are_named() {
    let cache = tempfile::tempdir().unwrap();
    let (config, source) = as_folder(cache.path());
    let folder = folder_in(cache.path());
    let cut = folder.join("train/stripes-4/000014.JPEG");
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let error = refusal(&config, &source);
    assert!(matches!(&error, Error::Image { path, .. } if *path == cut), "{error}");
    assert!(error.to_string().contains("replace or remove the file"), "{error}");
    // What the cache holds is made again, in one step.
    let message = refusal(&synthetic(), &crate::source(cache.path())).to_string();
    assert!(message.contains(&format!("remove the folder {}", folder.display())), "{message}");
    let empty = folder.join("val/stripes-0/000010.JPEG");
    std::fs::write(&empty, b"").unwrap();
    let (broken, count) = broken_images(&folder, profile("folder").unwrap(), &quiet).unwrap();
    assert_eq!(count, 100);
    let messages: Vec<String> = broken.iter().map(ToString::to_string).collect();
    assert_eq!(messages.len(), 2);
    assert!(messages[0].contains("train/stripes-4/000014.JPEG"), "{messages:?}");
    assert!(messages[1].contains("val/stripes-0/000010.JPEG") && messages[1].contains("empty"), "{messages:?}");
}

#[test]
fn the_list_is_checked_with_counts_per_class() {
    let cache = tempfile::tempdir().unwrap();
    let (config, source) = as_folder(cache.path());
    let folder = folder_in(cache.path());
    std::fs::remove_file(folder.join("train/stripes-2/000012.JPEG")).unwrap();
    std::fs::copy(folder.join("val/stripes-1/000001.JPEG"), folder.join("val/stripes-1/new.JPEG")).unwrap();
    let message = refusal(&config, &source).to_string();
    for part in ["train/stripes-2: 5 of 6", "val/stripes-1: 5 of 4", "100 files where 100 are listed"] {
        assert!(message.contains(part), "{message} lacks {part}");
    }
}

#[test]
fn grey_and_png_images_become_rgb() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("mine");
    for split in ["train", "val"] {
        for (class, value) in [("cat", 40u8), ("dog", 200)] {
            let path = folder.join(split).join(class);
            std::fs::create_dir_all(&path).unwrap();
            let grey = image::GrayImage::from_pixel(50, 40, image::Luma([value]));
            grey.save(path.join("a.jpg")).unwrap();
            image::RgbImage::from_pixel(40, 50, image::Rgb([value, 0, value])).save(path.join("b.PNG")).unwrap();
            std::fs::write(path.join("notes.txt"), "no image").unwrap();
        }
    }
    let config = DataConfig { dataset: "folder".into(), ..synthetic() };
    let source = ImageSource { data_dir: Some(folder.clone()), ..source(cache.path()) };
    let images = Dataset::open(&config, &source, &quiet).unwrap();
    assert_eq!(images.record().classes, ["cat", "dog"]);
    let batch = &batches(images.eval_batches(SplitName::Val, 4).unwrap())[0];
    let first = |image: usize| &batch.pixels[image * 32 * 32 * 3..][..3];
    assert_eq!([first(0), first(1), first(3)], [&[40, 40, 40], &[40, 0, 40], &[200, 0, 200]]);

    std::fs::remove_dir_all(folder.join("val/dog")).unwrap();
    let message = refusal(&config, &source).to_string();
    assert!(message.contains("class `dog` has no image in val/"), "{message}");
    let nowhere = ImageSource { data_dir: Some(cache.path().join("nowhere")), ..source };
    assert!(refusal(&config, &nowhere).to_string().contains("there is no such folder"));
}
