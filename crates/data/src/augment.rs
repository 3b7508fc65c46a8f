//! From a stored image to what the encoder sees: a random view in training, the same view always in evaluation.
//!
//! Both follow torchvision on PIL images: bilinear filtering with antialiasing, computed on the crop alone.

use crate::Rgb;
use faceoff_runs::AugmentationConfig;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// A stored image, borrowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pixels<'a> {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) bytes: &'a [u8],
}

impl<'a> From<&'a Rgb> for Pixels<'a> {
    fn from(image: &'a Rgb) -> Self {
        Self { width: image.width, height: image.height, bytes: &image.pixels }
    }
}

/// A rectangle of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Crop {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

/// Tries to draw a crop that fits, before the centre is taken.
const TRIES: usize = 10;

/// The stream of random numbers of one image in one epoch: a function of seed, epoch and the image's name alone.
pub(crate) fn stream(seed: u64, epoch: usize, id: &str) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(Sha256::digest(format!("augment {seed} {epoch} {id}")).into())
}

/// One worker's means of making views: buffers that are used again.
pub(crate) struct Viewer {
    resizer: Resizer,
    crop: Vec<u8>,
    resized: Vec<u8>,
    size_px: usize,
    config: AugmentationConfig,
}

impl Viewer {
    pub(crate) fn new(size_px: usize, config: &AugmentationConfig) -> Self {
        Self {
            resizer: Resizer::new(),
            crop: Vec::new(),
            resized: Vec::new(),
            size_px,
            config: config.clone(),
        }
    }

    /// Random resized crop (Szegedy et al., arXiv:1409.4842, section 6) and flip, into `out` (size, size, 3).
    pub(crate) fn train(&mut self, image: Pixels, random: &mut ChaCha8Rng, out: &mut [u8]) {
        let crop = random_crop(image.width, image.height, &self.config, random);
        copy_crop(image, crop, &mut self.crop);
        let size = self.size_px as u32;
        resize(&mut self.resizer, &self.crop, (crop.width, crop.height), out, (size, size));
        if random.random::<f64>() < self.config.flip_probability {
            flip(out, self.size_px);
        }
    }

    /// Shorter side to `eval_resize_factor` times the size, then the centre, into `out` (size, size, 3).
    pub(crate) fn eval(&mut self, image: Pixels, out: &mut [u8]) {
        let size = self.size_px as u32;
        // Python's rounding: halves go to the even number.
        let shorter = (f64::from(size) * self.config.eval_resize_factor).round_ties_even() as u32;
        let longer = |long: u32, short: u32| (u64::from(shorter) * u64::from(long) / u64::from(short)) as u32;
        let (width, height) = if image.width <= image.height {
            (shorter, longer(image.height, image.width))
        } else {
            (longer(image.width, image.height), shorter)
        };
        self.resized.resize((width * height * 3) as usize, 0);
        resize(
            &mut self.resizer,
            image.bytes,
            (image.width, image.height),
            &mut self.resized,
            (width, height),
        );
        let middle = |length: u32| (f64::from(length - size) / 2.0).round_ties_even() as u32;
        let crop = Crop { left: middle(width), top: middle(height), width: size, height: size };
        copy_crop(Pixels { width, height, bytes: &self.resized }, crop, &mut self.crop);
        out.copy_from_slice(&self.crop);
    }
}

/// The view of `image` in one epoch of training: `size_px * size_px * 3` bytes.
pub fn train_view(
    image: &Rgb,
    size_px: usize,
    config: &AugmentationConfig,
    seed: u64,
    epoch: usize,
    id: &str,
) -> Vec<u8> {
    let mut out = vec![0; size_px * size_px * 3];
    Viewer::new(size_px, config).train(image.into(), &mut stream(seed, epoch, id), &mut out);
    out
}

/// The view of `image` in evaluation: `size_px * size_px * 3` bytes.
pub fn eval_view(image: &Rgb, size_px: usize, config: &AugmentationConfig) -> Vec<u8> {
    let mut out = vec![0; size_px * size_px * 3];
    Viewer::new(size_px, config).eval(image.into(), &mut out);
    out
}

/// torchvision's `RandomResizedCrop.get_params`.
fn random_crop(width: u32, height: u32, config: &AugmentationConfig, random: &mut ChaCha8Rng) -> Crop {
    let area = f64::from(width) * f64::from(height);
    let [low, high] = config.crop_aspect.map(f64::ln);
    for _ in 0..TRIES {
        let target = area * within(random, config.crop_scale[0], config.crop_scale[1]);
        let aspect = within(random, low, high).exp();
        let w = (target * aspect).sqrt().round_ties_even() as u32;
        let h = (target / aspect).sqrt().round_ties_even() as u32;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let top = random.random_range(0..=height - h);
            let left = random.random_range(0..=width - w);
            return Crop { left, top, width: w, height: h };
        }
    }
    let [low, high] = config.crop_aspect;
    let ratio = f64::from(width) / f64::from(height);
    let side = |length: f64| (length.round_ties_even() as u32).max(1);
    let (w, h) = if ratio < low {
        (width, side(f64::from(width) / low).min(height))
    } else if ratio > high {
        (side(f64::from(height) * high).min(width), height)
    } else {
        (width, height)
    };
    Crop { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
}

fn within(random: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * random.random::<f64>()
}

fn copy_crop(image: Pixels, crop: Crop, out: &mut Vec<u8>) {
    out.clear();
    for row in crop.top..crop.top + crop.height {
        let start = (row * image.width + crop.left) as usize * 3;
        out.extend_from_slice(&image.bytes[start..start + crop.width as usize * 3]);
    }
}

fn resize(
    resizer: &mut Resizer,
    from: &[u8],
    (width, height): (u32, u32),
    to: &mut [u8],
    (w, h): (u32, u32),
) {
    let from = ImageRef::new(width, height, from, PixelType::U8x3).expect("the bytes are those of the image");
    let mut to = Image::from_slice_u8(w, h, to, PixelType::U8x3).expect("the bytes are those of the view");
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    resizer
        .resize(&from, &mut to, &options)
        .expect("both images have one type of pixel and at least one pixel");
}

/// Mirrors each row.
fn flip(pixels: &mut [u8], width: usize) {
    for row in pixels.chunks_exact_mut(width * 3) {
        for column in 0..width / 2 {
            for channel in 0..3 {
                row.swap(column * 3 + channel, (width - 1 - column) * 3 + channel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Crops lie inside the image and have the areas and aspects asked for, up to the rounding of their sides.
    #[test]
    fn random_crops_fit() {
        let config = AugmentationConfig {
            crop_scale: [0.35, 1.0],
            crop_aspect: [0.75, 4.0 / 3.0],
            flip_probability: 0.5,
            eval_resize_factor: 1.14,
        };
        let mut random = stream(0, 0, "x");
        for (width, height) in [(160, 213), (500, 160), (160, 900), (17, 17)] {
            let mut areas = Vec::new();
            for _ in 0..2000 {
                let crop = random_crop(width, height, &config, &mut random);
                assert!(crop.left + crop.width <= width && crop.top + crop.height <= height, "{crop:?}");
                let aspect = f64::from(crop.width) / f64::from(crop.height);
                assert!((0.68..1.46).contains(&aspect), "{crop:?} of {width} x {height}");
                areas.push(f64::from(crop.width * crop.height) / f64::from(width * height));
            }
            let mean = areas.iter().sum::<f64>() / areas.len() as f64;
            if (width, height) == (160, 213) {
                // torchvision draws 0.579 on average.
                assert!((0.57..0.59).contains(&mean), "{mean}");
            }
        }
    }
}
