//! A data set made on the fly, in Imagewoof's layout: ten classes of striped textures that resemble their neighbours.
//!
//! A class is an orientation and a width of stripes; both scatter from image to image so far that neighbours overlap,
//! and colours, contrast, shading and noise say nothing about the class.

use crate::profile::LIST;
use crate::sync::rename_synced;
use crate::{Error, ProgressFn, Result};
use faceoff_runs::{SplitName, SyntheticConfig, unfinished_folder};
use image::codecs::jpeg::JpegEncoder;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::f64::consts::PI;
use std::path::{Path, PathBuf};

const CLASSES: usize = 10;
const JPEG_QUALITY: u8 = 90;
/// Columns of wrong labels, in percent.
const NOISE_PERCENT: [u32; 5] = [0, 1, 5, 25, 50];

/// The folder of the set that `config` describes, after making it if need be.
pub(crate) fn folder(config: &SyntheticConfig, cache: &Path, progress: ProgressFn) -> Result<PathBuf> {
    let SyntheticConfig { train_images, val_images, image_px, seed } = *config;
    let folder = cache.join(format!("synthetic-{train_images}-{val_images}-{image_px}px-{seed}"));
    if folder.exists() {
        return Ok(folder);
    }
    let temporary = unfinished_folder(cache)?;
    let columns = NOISE_PERCENT.map(|percent| format!("noisy_labels_{percent}"));
    let mut list = format!("path,{},is_valid\n", columns.join(","));
    for (split, count) in [(SplitName::Train, train_images), (SplitName::Val, val_images)] {
        for class in 0..CLASSES {
            let path = temporary.path().join(split.as_str()).join(name(class));
            std::fs::create_dir_all(&path).map_err(Error::io("create folder", &path))?;
        }
        for first in (0..count).step_by(256) {
            (first..count.min(first + 256)).into_par_iter().try_for_each(|index| -> Result<()> {
                let id = id(split, index);
                let path = temporary.path().join(&id);
                let bytes = texture(index % CLASSES, image_px, &mut stream(seed, &id));
                std::fs::write(&path, bytes).map_err(Error::io("write", &path))
            })?;
            progress("make synthetic images", first as u64, count as u64);
        }
        for index in 0..count {
            let id = id(split, index);
            let labels = NOISE_PERCENT.map(|percent| name(noisy(index % CLASSES, percent, seed, &id)));
            let is_valid = if split == SplitName::Val { "True" } else { "False" };
            list.push_str(&format!("{id},{},{is_valid}\n", labels.join(",")));
        }
    }
    let path = temporary.path().join(LIST);
    std::fs::write(&path, list).map_err(Error::io("write", &path))?;
    rename_synced(temporary.path(), &folder)?;
    Ok(folder)
}

fn name(class: usize) -> String {
    format!("stripes-{class}")
}

fn id(split: SplitName, index: usize) -> String {
    format!("{}/{}/{index:06}.JPEG", split.as_str(), name(index % CLASSES))
}

fn stream(seed: u64, id: &str) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(Sha256::digest(format!("synthetic {seed} {id}")).into())
}

/// The class that a column with `percent` % wrong labels gives an image.
fn noisy(class: usize, percent: u32, seed: u64, id: &str) -> usize {
    let mut random = stream(seed, &format!("label {id}"));
    let wrong = random.random::<f64>() < f64::from(percent) / 100.0;
    let other = random.random_range(1..CLASSES);
    if wrong { (class + other) % CLASSES } else { class }
}

/// One image as JPEG; its longer side is up to 1.4 times `image_px`.
fn texture(class: usize, image_px: usize, random: &mut ChaCha8Rng) -> Vec<u8> {
    let longer = (image_px as f64 * random.random_range(1.0..1.4)) as usize;
    let (width, height) = if random.random() { (longer, image_px) } else { (image_px, longer) };

    // Near enough to a normal distribution: the sum of uniform numbers, deviation 1.
    let mut scatter = |deviation: f64| {
        let sum: f64 = (0..12).map(|_| random.random::<f64>()).sum();
        deviation * (sum - 6.0)
    };
    let angle = PI * class as f64 / CLASSES as f64 + scatter(0.13);
    let waves = if class.is_multiple_of(2) { 5.0 } else { 8.0 } * scatter(0.18).exp();
    let (phase, bend, bend_phase) = (scatter(2.0), scatter(0.35), scatter(2.0));
    let shading = [scatter(25.0), scatter(25.0)];
    let colors: [[f64; 3]; 2] = [(); 2].map(|()| [(); 3].map(|()| 128.0 + scatter(45.0)));
    let contrast = 0.35 + 0.4 * random.random::<f64>();

    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (x as f64 / image_px as f64, y as f64 / image_px as f64);
            let along = u * angle.cos() + v * angle.sin();
            let across = v * angle.cos() - u * angle.sin();
            let stripe = (2.0 * PI * waves * (along + 0.1 * bend * (3.0 * across + bend_phase).sin()) + phase).sin();
            let mix = 0.5 + 0.5 * contrast * stripe;
            let noise = 36.0 * (random.random::<f64>() - 0.5);
            let light = shading[0] * (u - 0.5) + shading[1] * (v - 0.5) + noise;
            for channel in 0..3 {
                let value = mix * colors[0][channel] + (1.0 - mix) * colors[1][channel] + light;
                pixels.push(value.clamp(0.0, 255.0) as u8);
            }
        }
    }
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)
        .encode(&pixels, width as u32, height as u32, image::ExtendedColorType::Rgb8)
        .expect("a small RGB image in memory can be encoded");
    bytes
}
