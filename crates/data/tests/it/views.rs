//! Views against torchvision's on PIL images; the goldens are made by `scripts/golden_views.py`.

use crate::augmentation;
use faceoff_data::{Rgb, eval_view, train_view};
use faceoff_runs::AugmentationConfig;
use serde_json::Value;

fn image(width: u32, height: u32) -> Rgb {
    let pixel = |index: u32| ((u64::from(index) * 7919 + u64::from(index) / 97 * 31) % 256) as u8;
    Rgb { width, height, pixels: (0..width * height * 3).map(pixel).collect() }
}

/// Largest and mean difference of the pixels that the golden samples.
fn differences(view: &[u8], golden: &Value) -> (u8, f64) {
    let golden: Vec<u8> = golden.as_array().unwrap().iter().map(|value| value.as_u64().unwrap() as u8).collect();
    let step = (view.len() / 500).max(1);
    let sampled: Vec<u8> = view.iter().copied().step_by(step).collect();
    assert_eq!(sampled.len(), golden.len());
    let apart: Vec<u8> = sampled.iter().zip(&golden).map(|(a, b)| a.abs_diff(*b)).collect();
    (*apart.iter().max().unwrap(), apart.iter().map(|&x| f64::from(x)).sum::<f64>() / apart.len() as f64)
}

fn mirrored(view: &[u8], size: usize) -> Vec<u8> {
    let pixel = |row: usize, column: usize| &view[(row * size + column) * 3..][..3];
    (0..size).flat_map(|row| (0..size).rev().flat_map(move |column| pixel(row, column).to_vec())).collect()
}

#[test]
fn views_equal_torchvisions() {
    let cases: Value = serde_json::from_str(include_str!("../golden/views.json")).unwrap();
    for case in cases.as_array().unwrap() {
        let number = |key: &str| case[key].as_u64().unwrap();
        let image = image(number("width") as u32, number("height") as u32);
        let size = number("size_px") as usize;
        let (most, mean) = differences(&eval_view(&image, size, &augmentation()), &case["evaluation"]);
        assert!(most <= 1 && mean < 0.25, "evaluation {case}: {most} {mean}");

        // A crop of everything: scale 1 and the image's own aspect.
        let aspect = f64::from(image.width) / f64::from(image.height);
        let all = |flip_probability| AugmentationConfig {
            crop_scale: [1.0, 1.0],
            crop_aspect: [aspect, aspect],
            flip_probability,
            ..augmentation()
        };
        let straight = train_view(&image, size, &all(0.0), 0, 0, "x");
        let (most, mean) = differences(&straight, &case["whole"]);
        assert!(most <= 1 && mean < 0.25, "whole: {most} {mean}");
        assert_eq!(train_view(&image, size, &all(1.0), 0, 0, "x"), mirrored(&straight, size));
    }
}

/// Another seed, epoch or image gives another view; the same ones the same.
#[test]
fn views_are_a_function_of_seed_epoch_and_name() {
    let image = image(60, 50);
    let view = |seed, epoch, id| train_view(&image, 32, &augmentation(), seed, epoch, id);
    assert_eq!(view(0, 0, "a"), view(0, 0, "a"));
    for other in [view(1, 0, "a"), view(0, 1, "a"), view(0, 0, "b")] {
        assert_ne!(view(0, 0, "a"), other);
    }
}
