//! MNIST's own files through candle-datasets.

use crate::{quiet, source, synthetic};
use faceoff_data::{Dataset, ImageSource};
use faceoff_runs::{DataConfig, SplitName};
use std::path::Path;

/// `count` images whose pixels all equal ten times their label, in MNIST's format.
fn write_mnist(folder: &Path, prefix: &str, count: u8, label_of: impl Fn(u8) -> u8) {
    let number = |value: u32| value.to_be_bytes();
    let mut images = [number(2051), number(count.into()), number(28), number(28)].concat();
    let mut labels = [number(2049), number(count.into())].concat();
    for index in 0..count {
        images.extend([10 * label_of(index); 28 * 28]);
        labels.push(label_of(index));
    }
    std::fs::write(folder.join(format!("{prefix}-images-idx3-ubyte")), images).unwrap();
    std::fs::write(folder.join(format!("{prefix}-labels-idx1-ubyte")), labels).unwrap();
}

#[test]
fn mnist_comes_from_its_own_files() {
    let cache = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    write_mnist(files.path(), "train", 40, |index| index % 10);
    write_mnist(files.path(), "t10k", 20, |index| index % 10);
    let config = DataConfig { dataset: "mnist".into(), ..synthetic() };
    let source = ImageSource { data_dir: Some(files.path().to_path_buf()), ..source(cache.path()) };
    let images = Dataset::open(&config, &source, &quiet).unwrap();
    let record = images.record();
    assert_eq!((record.train_images, record.val_images, images.classes()), (40, 20, 10));
    assert_eq!(record.name, "mnist");
    let batch = images.eval_batches(SplitName::Val, 20).unwrap().next().unwrap().unwrap();
    for (image, &label) in batch.pixels.chunks_exact(32 * 32 * 3).zip(&batch.labels) {
        assert!(image.iter().all(|&value| u32::from(value) == 10 * label));
    }

    // Another folder is another set; one that is broken is refused and leaves nothing.
    let broken = tempfile::tempdir().unwrap();
    write_mnist(broken.path(), "train", 40, |index| index % 10);
    write_mnist(broken.path(), "t10k", 20, |index| index % 11);
    let source = ImageSource { data_dir: Some(broken.path().to_path_buf()), ..source };
    let message = Dataset::open(&config, &source, &quiet).err().unwrap().to_string();
    assert!(message.contains("label 10, of 10 classes") && message.contains("--data DIR"), "{message}");
}
