//! Pixels to normalised values.

use super::simd::vectorize;
use crate::Images;
use crate::resnet::{DEVIATION, MEAN};
use pulp::Simd;
use rayon::prelude::*;

/// `(pixel / 255 - mean) / deviation` in NHWC.
pub(crate) fn normalize_pixels<S: Simd>(simd: S, images: &Images, values: &mut [f32]) {
    let scale = DEVIATION.map(|deviation| 1.0 / (255.0 * deviation));
    let shift: [f32; 3] = std::array::from_fn(|channel| -MEAN[channel] / DEVIATION[channel]);
    let piece = 3 * (1 << 14);
    values.par_chunks_mut(piece).zip(images.pixels().par_chunks(piece)).for_each(|(values, pixels)| {
        vectorize(
            simd,
            #[inline(always)]
            || {
                for (value, pixel) in values.chunks_exact_mut(3).zip(pixels.chunks_exact(3)) {
                    for channel in 0..3 {
                        value[channel] = f32::from(pixel[channel]) * scale[channel] + shift[channel];
                    }
                }
            },
        );
    });
}
