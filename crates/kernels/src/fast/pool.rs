//! Pooling in NHWC: max-pooling 3x3 with stride 2 and padding 1 behind the stem, and the average at the end.

use super::norm::{Affine, Backward};
use super::shape::Map;
use super::simd::{multiply_add, set_vector, vector, vectorized};
use pulp::Simd;
use rayon::prelude::*;

/// In place of a window's maximum where nothing in it is positive: no gradient passes.
pub(crate) const NOWHERE: u8 = 9;

/// Rows or columns of the window of output `index` in a map of `len`: the first, and one past the last.
pub(crate) fn window(index: usize, len: usize) -> (usize, usize) {
    ((2 * index).saturating_sub(1), (2 * index + 2).min(len))
}

/// What max-pooling keeps of a map: for every channel of every pixel the maximum of `relu(z * scale + shift)` over the
/// window, the `z` that it comes from, and where that lies (3 row + column, the first of equal ones as in PyTorch).
pub(crate) struct MaxPooled {
    pub(crate) out: Vec<f32>,
    pub(crate) z: Vec<f32>,
    pub(crate) places: Vec<u8>,
}

impl MaxPooled {
    /// Fills the buffers, which have the extent of [`Map::pooled`].
    pub(crate) fn fill<S: Simd>(&mut self, simd: S, map: Map, z: &[f32], affine: &Affine) {
        let channels = affine.scale.len();
        let to = map.pooled();
        let line = to.width * channels;
        assert_eq!(z.len(), map.pixels() * channels);
        let rows = self.out.par_chunks_mut(line).zip(self.z.par_chunks_mut(line));
        let rows = rows.zip(self.places.par_chunks_mut(line));
        rows.enumerate().for_each(|(index, ((out, picked), places))| {
            let (image, y) = (index / to.height, index % to.height);
            vectorized!(simd, {
                let vectors = channels / S::F32_LANES * S::F32_LANES;
                for x in 0..to.width {
                    let pixel = x * channels..(x + 1) * channels;
                    let mut to = (&mut out[pixel.clone()], &mut picked[pixel.clone()], &mut places[pixel]);
                    for c in (0..vectors).step_by(S::F32_LANES) {
                        largest(simd, map, (image, y, x), z, affine, c, &mut to);
                    }
                    for c in vectors..channels {
                        largest(pulp::Scalar, map, (image, y, x), z, affine, c, &mut to);
                    }
                }
            });
        });
    }
}

/// One vector of channels, from `c` on, of the output `(image, y, x)`: the maximum, its `z`, and its place.
#[inline(always)]
fn largest<S: Simd>(
    simd: S,
    map: Map,
    (image, y, x): (usize, usize, usize),
    z: &[f32],
    affine: &Affine,
    c: usize,
    (out, picked, places): &mut (&mut [f32], &mut [f32], &mut [u8]),
) {
    let (scale, shift) = (vector(simd, &affine.scale, c), vector(simd, &affine.shift, c));
    let mut best = simd.splat_f32s(0.0);
    let mut best_z = best;
    let mut place = simd.splat_u32s(u32::from(NOWHERE));
    let (rows, columns) = (window(y, map.height), window(x, map.width));
    for row in rows.0..rows.1 {
        for column in columns.0..columns.1 {
            let at = ((image * map.height + row) * map.width + column) * affine.scale.len() + c;
            let here = vector(simd, z, at);
            let value = multiply_add(simd, here, scale, shift);
            // NaN is not less than or equal to anything, so it is taken, and found later.
            let stays = simd.less_than_or_equal_f32s(value, best);
            best = simd.select_f32s(stays, best, value);
            best_z = simd.select_f32s(stays, best_z, here);
            let number = simd.splat_u32s((3 * (row + 1 - 2 * y) + (column + 1 - 2 * x)) as u32);
            place = simd.select_u32s(stays, place, number);
        }
    }
    set_vector(simd, &mut out[c..], best);
    set_vector(simd, &mut picked[c..], best_z);
    let numbers: &[u32] = bytemuck::cast_slice(std::slice::from_ref(&place));
    for (place, &number) in places[c..].iter_mut().zip(numbers) {
        *place = number as u8;
    }
}

/// The gradient of the pooled map's input, in front of its batch norm, row by row and never in whole: each number of `g`
/// at its place, then `k1 g + k2 z + k3`.
pub(crate) struct PooledGradient<'a> {
    /// Extent of the input.
    pub(crate) map: Map,
    /// Gradient of the pooled map, 0 where nothing positive was pooled.
    pub(crate) g: &'a [f32],
    pub(crate) places: &'a [u8],
    pub(crate) z: &'a [f32],
    pub(crate) backward: &'a Backward,
}

impl PooledGradient<'_> {
    /// Writes row `y` of `image` to `to`, pixels `stride` numbers apart, zeros behind their channels.
    #[inline(always)]
    pub(crate) fn row(&self, image: usize, y: usize, stride: usize, to: &mut [f32]) {
        let Self { map, g, places, z, backward } = self;
        let channels = backward.k1.len();
        let (k1, k2, k3) = (&backward.k1[..channels], &backward.k2[..channels], &backward.k3[..channels]);
        let small = map.pooled();
        // Windows that cover a row or column: the one it is in the middle of or begins, and the one it ends.
        let covering = |at: usize, len: usize| at / 2..(at / 2 + 1 + at % 2).min(len);
        for (x, to) in to.chunks_exact_mut(stride).enumerate() {
            let (to, rest) = to.split_at_mut(channels);
            rest.fill(0.0);
            to.fill(0.0);
            for row in covering(y, small.height) {
                for column in covering(x, small.width) {
                    let at = ((image * small.height + row) * small.width + column) * channels;
                    let (g, places) = (&g[at..][..channels], &places[at..][..channels]);
                    let place = (3 * (y + 1 - 2 * row) + (x + 1 - 2 * column)) as u8;
                    for c in 0..channels {
                        to[c] += if places[c] == place { g[c] } else { 0.0 };
                    }
                }
            }
            let z = &z[((image * map.height + y) * map.width + x) * channels..][..channels];
            for c in 0..channels {
                to[c] = k1[c] * to[c] + (k2[c] * z[c] + k3[c]);
            }
        }
    }
}

/// The mean over each image: `(images, channels)`.
pub(crate) fn average_pool<S: Simd>(simd: S, map: Map, channels: usize, x: &[f32]) -> Vec<f32> {
    let pixels = map.height * map.width;
    let mut means = vec![0.0; map.images * channels];
    means.par_chunks_mut(channels).zip(x.par_chunks(pixels * channels)).for_each(|(means, x)| {
        vectorized!(simd, {
            for x in x.chunks_exact(channels) {
                for (mean, x) in means.iter_mut().zip(x) {
                    *mean += x;
                }
            }
            for mean in means.iter_mut() {
                *mean /= pixels as f32;
            }
        });
    });
    means
}

/// The gradient of [`average_pool`]'s input.
pub(crate) fn average_pool_backward(map: Map, channels: usize, g: &[f32], gradient: &mut [f32]) {
    let pixels = map.height * map.width;
    gradient.par_chunks_mut(pixels * channels).zip(g.par_chunks(channels)).for_each(|(gradient, g)| {
        for gradient in gradient.chunks_exact_mut(channels) {
            for (gradient, g) in gradient.iter_mut().zip(g) {
                *gradient = g / pixels as f32;
            }
        }
    });
}
