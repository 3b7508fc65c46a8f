//! CIFAR-10, MNIST and Fashion-MNIST through candle-datasets: from a folder with their original files, or from the hub.
//!
//! They are written once as PNG files in the layout of every other data set, and go through the same code from there.

use crate::{Error, ImageSource, ProgressFn, Result};
use candle_core::{DType, Tensor};
use candle_datasets::vision::{self, cifar, fashion_mnist, mnist};
use faceoff_runs::{DatasetName, SplitName};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const FASHION_CLASSES: [&str; 10] =
    ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"];
const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// The folder of one of these sets, after making it if need be; `None` for any other set.
pub(crate) fn folder(
    name: DatasetName,
    source: &ImageSource,
    progress: ProgressFn,
) -> Result<Option<PathBuf>> {
    let classes = match name {
        DatasetName::Cifar10 => CIFAR10_CLASSES,
        DatasetName::Mnist => DIGITS,
        DatasetName::FashionMnist => FASHION_CLASSES,
        _ => return Ok(None),
    };
    // What comes from a folder is kept apart by that folder's path, so that two of them never mix.
    let folder = source.cache_dir.join(match &source.data_dir {
        None => name.as_str().to_string(),
        Some(files) => {
            let path = std::fs::canonicalize(files).map_err(Error::io("open", files))?;
            format!(
                "{}-{}",
                name.as_str(),
                &hex::encode(Sha256::digest(path.as_os_str().as_encoded_bytes()))[..16]
            )
        }
    });
    if folder.exists() {
        return Ok(Some(folder));
    }
    let loaded = match (name, &source.data_dir) {
        (DatasetName::Cifar10, Some(files)) => cifar::load_dir(files),
        (_, Some(files)) => mnist::load_dir(files),
        (DatasetName::Cifar10, None) => cifar::load(),
        (DatasetName::Mnist, None) => mnist::load(),
        (_, None) => fashion_mnist::load(),
    };
    let failed = |error: candle_core::Error| Error::Setting {
        key: "data.dataset",
        value: name.as_str().into(),
        rule: format!(
            "it cannot be loaded ({error}); pass a folder with its original binary files with --data DIR"
        ),
    };
    let dataset = loaded.map_err(failed)?;
    std::fs::create_dir_all(&source.cache_dir).map_err(Error::io("create folder", &source.cache_dir))?;
    let temporary = tempfile::Builder::new()
        .prefix(faceoff_runs::PARTIAL_PREFIX)
        .tempdir_in(&source.cache_dir)
        .map_err(Error::io("create a temporary folder in", &source.cache_dir))?;
    write(&dataset, temporary.path(), classes, progress).map_err(|error| match error {
        Failure::Tensor(error) => failed(error),
        Failure::File(error) => error,
    })?;
    std::fs::rename(temporary.path(), &folder).map_err(Error::io("rename", temporary.path()))?;
    Ok(Some(folder))
}

enum Failure {
    Tensor(candle_core::Error),
    File(Error),
}

impl From<candle_core::Error> for Failure {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error)
    }
}

fn write(
    dataset: &vision::Dataset,
    folder: &Path,
    classes: [&str; 10],
    progress: ProgressFn,
) -> std::result::Result<(), Failure> {
    for (split, images, labels) in [
        (SplitName::Train, &dataset.train_images, &dataset.train_labels),
        (SplitName::Val, &dataset.test_images, &dataset.test_labels),
    ] {
        for class in classes {
            let path = folder.join(split.as_str()).join(class);
            std::fs::create_dir_all(&path)
                .map_err(|error| Failure::File(Error::io("create folder", &path)(error)))?;
        }
        let labels = labels.to_dtype(DType::U32)?.to_vec1::<u32>()?;
        for (index, &label) in labels.iter().enumerate() {
            let (pixels, side) = rgb(&images.get(index)?)?;
            let class = classes.get(label as usize).ok_or_else(|| {
                candle_core::Error::Msg(format!(
                    "image {index} of {} has label {label}, of 10 classes",
                    split.as_str()
                ))
            })?;
            let path = folder.join(format!("{}/{class}/{index:06}.png", split.as_str()));
            image::save_buffer(&path, &pixels, side, side, image::ExtendedColorType::Rgb8)
                .map_err(|error| Failure::File(Error::io("write", &path)(std::io::Error::other(error))))?;
            progress("write images", index as u64 + 1, labels.len() as u64);
        }
    }
    Ok(())
}

/// An image in [0, 1], `(3, side, side)` or `(side * side,)` grey, as RGB bytes and its side.
fn rgb(image: &Tensor) -> candle_core::Result<(Vec<u8>, u32)> {
    let bytes = ((image * 255.0)?.round()?).to_dtype(DType::U8)?;
    if let [3, side, _] = *bytes.dims() {
        return Ok((bytes.permute((1, 2, 0))?.flatten_all()?.to_vec1()?, side as u32));
    }
    let grey = bytes.flatten_all()?.to_vec1::<u8>()?;
    let side = (grey.len() as f64).sqrt() as u32;
    Ok((grey.iter().flat_map(|&value| [value; 3]).collect(), side))
}
