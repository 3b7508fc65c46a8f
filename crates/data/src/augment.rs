//! From a stored image to what the encoder sees: a random view in training, the same view always in evaluation.
//!
//! Both follow torchvision on PIL images: bilinear filtering with antialiasing. Pixels go from the stored image straight
//! to the view: a training crop is a window into the stored bytes, and evaluation computes only what its centre crop keeps.

use crate::Rgb;
use faceoff_runs::{AugmentationConfig, Flip};
use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ImageView, ResizeAlg, ResizeOptions, Resizer};
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

impl Pixels<'_> {
    fn view(&self) -> TypedImageRef<'_, U8x3> {
        TypedImageRef::from_buffer(self.width, self.height, self.bytes).expect("the bytes are those of the image")
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

/// One worker's means of making views: its buffers are used again.
pub(crate) struct Viewer {
    resizer: Resizer,
    /// Side of the views.
    pub(crate) size_px: usize,
    config: AugmentationConfig,
}

impl Viewer {
    pub(crate) fn new(size_px: usize, config: &AugmentationConfig) -> Self {
        // The resizer takes the widest instructions that it finds when it runs (AVX2, NEON).
        Self { resizer: Resizer::new(), size_px, config: config.clone() }
    }

    /// Random resized crop (Szegedy et al., arXiv:1409.4842, section 6) and flip, into `out` (size, size, 3): the view of the image `id` in
    /// an epoch, counted from 0.
    pub(crate) fn train(&mut self, image: Pixels, (seed, epoch, id): (u64, usize, &str), out: &mut [u8]) {
        let mut random = stream(seed, epoch, id);
        let Crop { left, top, width, height } = random_crop(image.width, image.height, &self.config, &mut random);
        let stored = image.view();
        // torchvision crops first: the filter must not see what lies beside the crop.
        let crop = TypedCroppedImage::from_ref(&stored, left, top, width, height).expect("the crop lies in the image");
        self.resize(&crop, &bilinear(), out);
        let drawn = |random: &mut ChaCha8Rng| random.random::<f64>() < self.config.flip_probability;
        let mirrored = match self.config.flip {
            Flip::Random => drawn(&mut random),
            Flip::Alternating => drawn(&mut stream(seed, 0, &format!("{id} flip"))) != (epoch % 2 == 1),
        };
        if mirrored {
            flip(out, self.size_px);
        }
    }

    /// Shorter side to `eval_resize_factor` times the size, then the centre, into `out` (size, size, 3).
    pub(crate) fn eval(&mut self, image: Pixels, out: &mut [u8]) {
        let size = self.size_px as u32;
        let shorter = self.config.eval_shorter_side_px(self.size_px);
        let longer = |long: u32, short: u32| (u64::from(shorter) * u64::from(long) / u64::from(short)) as u32;
        let (width, height) = if image.width <= image.height {
            (shorter, longer(image.height, image.width))
        } else {
            (longer(image.width, image.height), shorter)
        };
        // The centre of the resized image as a window into the stored one: offset and length on one axis. Here the
        // filter sees what lies beside the window, as it does where the crop comes last.
        let window = |stored: u32, resized: u32| {
            let pixels = f64::from(stored) / f64::from(resized);
            let start = (f64::from(resized - size) / 2.0).round_ties_even() * pixels;
            (start, (f64::from(size) * pixels).min(f64::from(stored) - start))
        };
        let ((left, width), (top, height)) = (window(image.width, width), window(image.height, height));
        self.resize(&image.view(), &bilinear().crop(left, top, width, height), out);
    }

    fn resize(&mut self, from: &impl ImageView<Pixel = U8x3>, options: &ResizeOptions, out: &mut [u8]) {
        let size = self.size_px as u32;
        let mut to = TypedImage::<U8x3>::from_buffer(size, size, out).expect("the bytes are those of the view");
        self.resizer.resize_typed(from, &mut to, options).expect("the window lies in the image");
    }
}

fn bilinear() -> ResizeOptions {
    ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
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

/// Mirrors each row.
fn flip(pixels: &mut [u8], width: usize) {
    for row in pixels.chunks_exact_mut(width * 3) {
        row.as_chunks_mut::<3>().0.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const CONFIG: AugmentationConfig = AugmentationConfig {
        crop_scale: [0.35, 1.0],
        crop_aspect: [0.75, 4.0 / 3.0],
        flip_probability: 0.5,
        flip: Flip::Random,
        eval_resize_factor: 1.14,
    };

    fn image(width: u32, height: u32) -> Rgb {
        let pixel = |index: u32| ((u64::from(index) * 7919 + u64::from(index) / 97 * 31) % 256) as u8;
        Rgb { width, height, pixels: (0..width * height * 3).map(pixel).collect() }
    }

    fn train_view(image: &Rgb, size: usize, config: &AugmentationConfig, view: (u64, usize, &str)) -> Vec<u8> {
        let mut out = vec![0; size * size * 3];
        Viewer::new(size, config).train(image.into(), view, &mut out);
        out
    }

    /// The view of all of `image`, mirrored or not: scale 1 and the image's own aspect.
    fn whole_view(image: &Rgb, size: usize, mirrored: bool) -> Vec<u8> {
        let aspect = f64::from(image.width) / f64::from(image.height);
        let flip_probability = if mirrored { 1.0 } else { 0.0 };
        let whole =
            AugmentationConfig { crop_scale: [1.0, 1.0], crop_aspect: [aspect, aspect], flip_probability, ..CONFIG };
        train_view(image, size, &whole, (0, 0, "x"))
    }

    /// Asserts that a view is near the pixels that the golden samples.
    fn assert_near(view: &[u8], golden: &Value) {
        let sampled = view.iter().step_by((view.len() / 500).max(1));
        let apart: Vec<f64> =
            sampled.zip(golden.as_array().unwrap()).map(|(&a, b)| (f64::from(a) - b.as_f64().unwrap()).abs()).collect();
        assert_eq!(apart.len(), golden.as_array().unwrap().len());
        assert!(apart.iter().all(|&apart| apart <= 1.0) && apart.iter().sum::<f64>() / (apart.len() as f64) < 0.25);
    }

    /// On PIL images; the goldens are made by `scripts/golden_views.py`.
    #[test]
    fn views_equal_torchvisions() {
        let cases: Value = serde_json::from_str(include_str!("../tests/golden/views.json")).unwrap();
        for case in cases.as_array().unwrap() {
            let [width, height, size] = ["width", "height", "size_px"].map(|key| case[key].as_u64().unwrap());
            let (image, size) = (image(width as u32, height as u32), size as usize);
            let mut view = vec![0; size * size * 3];
            Viewer::new(size, &CONFIG).eval((&image).into(), &mut view);
            assert_near(&view, &case["evaluation"]);
            view = whole_view(&image, size, false);
            assert_near(&view, &case["whole"]);
            flip(&mut view, size);
            assert_eq!(whole_view(&image, size, true), view);
        }
        let mut row = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        flip(&mut row, 3);
        assert_eq!(row, [7, 8, 9, 4, 5, 6, 1, 2, 3]);
    }

    /// The view of a crop is that of an image cut out by itself: nothing beside the crop is seen.
    #[test]
    fn training_views_are_those_of_their_crops() {
        for (width, height, size) in [(160, 213, 64), (240, 160, 128), (40, 33, 48), (17, 90, 16)] {
            let image = image(width, height);
            for (seed, epoch, id) in [(0, 0, "a"), (0, 1, "a"), (1, 0, "a"), (0, 0, "b"), (7, 3, "c")] {
                let view = train_view(&image, size, &CONFIG, (seed, epoch, id));
                let mut random = stream(seed, epoch, id);
                let crop = random_crop(width, height, &CONFIG, &mut random);
                let row = |y: u32| &image.pixels[3 * (y * width + crop.left) as usize..][..3 * crop.width as usize];
                let pixels = (crop.top..crop.top + crop.height).flat_map(row).copied().collect();
                let cut = Rgb { width: crop.width, height: crop.height, pixels };
                let mirrored = random.random::<f64>() < CONFIG.flip_probability;
                assert!(view == whole_view(&cut, size, mirrored), "{crop:?} of {width} x {height} to {size}");
            }
        }
    }

    /// Another seed, epoch or image gives another view; the same ones the same.
    #[test]
    fn views_are_a_function_of_seed_epoch_and_name() {
        let image = image(60, 50);
        let view = |seed, epoch, id| train_view(&image, 32, &CONFIG, (seed, epoch, id));
        assert_eq!(view(0, 0, "a"), view(0, 0, "a"));
        for other in [view(1, 0, "a"), view(0, 1, "a"), view(0, 0, "b")] {
            assert_ne!(view(0, 0, "a"), other);
        }
    }

    /// Alternating flips begin by chance and change sides with every epoch; the crops stay those of random flips.
    #[test]
    fn alternating_flips_change_sides_every_epoch() {
        let (image, size) = (image(60, 50), 32);
        let alternating = AugmentationConfig { flip: Flip::Alternating, ..CONFIG };
        let never = AugmentationConfig { flip_probability: 0.0, ..CONFIG };
        let mut first = 0;
        for id in 0..200 {
            let id = id.to_string();
            let mirrored: Vec<bool> = (0..5)
                .map(|epoch| {
                    let view = train_view(&image, size, &alternating, (3, epoch, &id));
                    let mut plain = train_view(&image, size, &never, (3, epoch, &id));
                    let same = view == plain;
                    flip(&mut plain, size);
                    assert!(same != (view == plain), "one of both sides");
                    !same
                })
                .collect();
            assert!(mirrored.windows(2).all(|pair| pair[0] != pair[1]), "{mirrored:?}");
            first += usize::from(mirrored[0]);
        }
        assert!((70..=130).contains(&first), "{first} of 200 begin mirrored");
    }

    /// Crops lie inside the image and have the areas and aspects asked for, up to the rounding of their sides.
    #[test]
    fn random_crops_fit() {
        let mut random = stream(0, 0, "x");
        for (width, height) in [(160, 213), (500, 160), (160, 900), (17, 17)] {
            let mut areas = Vec::new();
            for _ in 0..2000 {
                let crop = random_crop(width, height, &CONFIG, &mut random);
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
