//! Tests of the images' way from a server to a batch.

mod archive;
mod download;
#[cfg(feature = "extra-datasets")]
mod extra;
mod folders;
mod images;
mod own;
mod profiles;
mod rows;

use faceoff_data::{Dataset, Error, ImageSource};
use faceoff_runs::{AugmentationConfig, DataConfig, Flip, SYNTHETIC, SyntheticConfig};
use std::path::Path;

fn quiet(_: &str, _: u64, _: u64) {}

/// 60 + 40 synthetic images.
fn synthetic() -> DataConfig {
    DataConfig {
        dataset: SYNTHETIC.into(),
        image_size_px: 32,
        images_per_split: None,
        label_noise_percent: 0,
        held_out_classes: Vec::new(),
        tuning_split_seed: None,
        synthetic_fallback: false,
        synthetic: Some(SyntheticConfig { train_images: 60, val_images: 40, image_px: 40, seed: 0 }),
        augmentation: AugmentationConfig {
            crop_scale: [0.35, 1.0],
            crop_aspect: [0.75, 4.0 / 3.0],
            flip_probability: 0.5,
            flip: Flip::Random,
            eval_resize_factor: 1.14,
        },
        own: None,
    }
}

fn source(cache_dir: &Path) -> ImageSource {
    ImageSource::cached(cache_dir.to_path_buf())
}

/// Why the images cannot be opened.
fn refusal(config: &DataConfig, source: &ImageSource) -> Error {
    Dataset::open(config, source, &quiet).err().unwrap()
}
