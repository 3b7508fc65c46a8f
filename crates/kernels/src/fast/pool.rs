//! Pooling in NHWC: max-pooling 3x3 with stride 2 and padding 1 behind the stem, and the average at the end.

use super::conv::Map;
use super::norm::{Affine, relu};
use super::simd::vectorize;
use pulp::Simd;
use rayon::prelude::*;

/// The pooled map's extent.
pub(crate) fn pooled(map: Map) -> Map {
    Map { height: map.height.div_ceil(2), width: map.width.div_ceil(2), ..map }
}

/// Rows or columns of the window of output `index` in a map of `len`: the first, and one past the last.
fn window(index: usize, len: usize) -> (usize, usize) {
    ((2 * index).saturating_sub(1), (2 * index + 2).min(len))
}

/// `out = max over the window of relu(z * scale + shift)`, and where in the window (3 row + column, the first of equal
/// maxima, as PyTorch).
pub(crate) fn max_pool<S: Simd>(
    simd: S,
    map: Map,
    z: &[f32],
    affine: &Affine,
    out: &mut [f32],
    places: &mut [u8],
) {
    let channels = affine.scale.len();
    let to = pooled(map);
    let line = to.width * channels;
    out.par_chunks_mut(line).zip(places.par_chunks_mut(line)).enumerate().for_each(
        |(index, (out, places))| {
            let (image, y) = (index / to.height, index % to.height);
            let (scale, shift) = (&affine.scale[..channels], &affine.shift[..channels]);
            vectorize(
                simd,
                #[inline(always)]
                || {
                    let pixels = out.chunks_exact_mut(channels).zip(places.chunks_exact_mut(channels));
                    for (x, (out, places)) in pixels.enumerate() {
                        out.fill(f32::NEG_INFINITY);
                        let (rows, columns) = (window(y, map.height), window(x, map.width));
                        for row in rows.0..rows.1 {
                            for column in columns.0..columns.1 {
                                let place = (3 * (row + 1 - 2 * y) + (column + 1 - 2 * x)) as u8;
                                let z = &z[((image * map.height + row) * map.width + column) * channels..]
                                    [..channels];
                                for c in 0..channels {
                                    let value = relu(z[c] * scale[c] + shift[c]);
                                    let larger = value > out[c];
                                    out[c] = if larger { value } else { out[c] };
                                    places[c] = if larger { place } else { places[c] };
                                }
                            }
                        }
                    }
                },
            );
        },
    );
}

/// The gradient of the map in front of the ReLU: `g`, where `out` is positive, at its place; elsewhere 0.
pub(crate) fn max_pool_backward<S: Simd>(
    simd: S,
    map: Map,
    channels: usize,
    g: &[f32],
    out: &[f32],
    places: &[u8],
    gradient: &mut [f32],
) {
    let to = pooled(map);
    gradient.par_chunks_mut(map.width * channels).enumerate().for_each(|(index, gradient)| {
        let (image, row) = (index / map.height, index % map.height);
        vectorize(
            simd,
            #[inline(always)]
            || {
                gradient.fill(0.0);
                for y in row / 2..(row / 2 + 1 + row % 2).min(to.height) {
                    for x in 0..to.width {
                        let at = ((image * to.height + y) * to.width + x) * channels;
                        let (g, out) = (&g[at..][..channels], &out[at..][..channels]);
                        let places = &places[at..][..channels];
                        let columns = window(x, map.width);
                        for column in columns.0..columns.1 {
                            let place = (3 * (row + 1 - 2 * y) + (column + 1 - 2 * x)) as u8;
                            let gradient = &mut gradient[column * channels..][..channels];
                            for c in 0..channels {
                                let here = places[c] == place && out[c] > 0.0;
                                gradient[c] += if here { g[c] } else { 0.0 };
                            }
                        }
                    }
                }
            },
        );
    });
}

/// The mean over each image: `(images, channels)`.
pub(crate) fn average_pool<S: Simd>(simd: S, map: Map, channels: usize, x: &[f32]) -> Vec<f32> {
    let pixels = map.height * map.width;
    let mut means = vec![0.0; map.images * channels];
    means.par_chunks_mut(channels).zip(x.par_chunks(pixels * channels)).for_each(|(means, x)| {
        vectorize(
            simd,
            #[inline(always)]
            || {
                for x in x.chunks_exact(channels) {
                    for (mean, x) in means.iter_mut().zip(x) {
                        *mean += x;
                    }
                }
                for mean in means.iter_mut() {
                    *mean /= pixels as f32;
                }
            },
        );
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
