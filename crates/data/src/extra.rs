//! CIFAR-10, MNIST and Fashion-MNIST through candle-datasets: from a folder with their original files, or from the hub.
//!
//! They are written once as PNG files in the layout of every other data set, and go through the same code from there.

use crate::{Error, ImageSource, Profile, ProgressFn, Result};
use candle_core::{DType, Tensor};
use candle_datasets::vision::{self, cifar, fashion_mnist, mnist};
use faceoff_runs::{SplitName, unfinished_folder};
use sha2::{Digest, Sha256};
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Loads a set from a folder with its original files, or from the hub.
pub(crate) type Load = fn(Option<&Path>) -> candle_core::Result<vision::Dataset>;

pub(crate) fn cifar10(files: Option<&Path>) -> candle_core::Result<vision::Dataset> {
    files.map_or_else(cifar::load, cifar::load_dir)
}

pub(crate) fn mnist(files: Option<&Path>) -> candle_core::Result<vision::Dataset> {
    files.map_or_else(mnist::load, mnist::load_dir)
}

/// Its files have MNIST's format.
pub(crate) fn fashion_mnist(files: Option<&Path>) -> candle_core::Result<vision::Dataset> {
    files.map_or_else(fashion_mnist::load, mnist::load_dir)
}

/// The folder of one of these sets, after making it if need be.
pub(crate) fn folder(profile: &Profile, load: Load, source: &ImageSource, progress: ProgressFn) -> Result<PathBuf> {
    // What comes from a folder is kept apart by that folder's path, so that two of them never mix.
    let folder = source.cache_dir.join(match &source.data_dir {
        None => profile.name.to_string(),
        Some(files) => {
            let path = std::fs::canonicalize(files).map_err(Error::io("open", files))?;
            let digest = hex::encode(Sha256::digest(path.as_os_str().as_encoded_bytes()));
            format!("{}-{}", profile.name, &digest[..16])
        }
    });
    if folder.exists() {
        return Ok(folder);
    }
    let failed = |error: &dyn Display| {
        let rule =
            format!("it cannot be loaded ({error}); pass a folder with its original binary files with --data DIR");
        Error::setting("data.dataset", profile.name, rule)
    };
    let dataset = load(source.data_dir.as_deref()).map_err(|error| failed(&error))?;
    let temporary = unfinished_folder(&source.cache_dir)?;
    for (split, images, labels) in [
        (SplitName::Train, &dataset.train_images, &dataset.train_labels),
        (SplitName::Val, &dataset.test_images, &dataset.test_labels),
    ] {
        let split_folder = temporary.path().join(split.as_str());
        for class in profile.class_names {
            let path = split_folder.join(class);
            std::fs::create_dir_all(&path).map_err(Error::io("create folder", &path))?;
        }
        let labels = labels.to_dtype(DType::U32).and_then(|labels| labels.to_vec1::<u32>());
        let labels = labels.map_err(|error| failed(&error))?;
        for (index, &label) in labels.iter().enumerate() {
            let (pixels, side) = images.get(index).and_then(|image| rgb(&image)).map_err(|error| failed(&error))?;
            let (split, classes) = (split.as_str(), profile.class_names);
            let class = classes.get(label as usize).ok_or_else(|| {
                failed(&format!("image {index} of {split} has label {label}, of {} classes", classes.len()))
            })?;
            let path = split_folder.join(class).join(format!("{index:06}.png"));
            image::save_buffer(&path, &pixels, side, side, image::ExtendedColorType::Rgb8)
                .map_err(|error| Error::io("write", &path)(std::io::Error::other(error)))?;
            progress("write images", index as u64 + 1, labels.len() as u64);
        }
    }
    std::fs::rename(temporary.path(), &folder).map_err(Error::io("rename", temporary.path()))?;
    Ok(folder)
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
