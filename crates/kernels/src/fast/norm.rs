//! Batch norm in NHWC, as two numbers a channel that the neighbouring operators apply while they read.
//!
//! Ioffe and Szegedy, arXiv:1502.03167. Forward, `z` becomes `z * scale + shift` ([`Affine`]). Backward, the gradient
//! `g` of that becomes `k1 g + k2 z + k3` ([`Backward`]), with `k1 = scale`, `k2 = -scale^2 ...` from two
//! sums over the batch. Sums run in f32 over some dozen rows at most and in f64 from there on, always over the same
//! pieces in the same order.

use super::simd::vectorized;
use crate::resnet::BATCH_NORM_EPSILON;
use pulp::Simd;
use rayon::prelude::*;

/// Rows that are summed in f32.
const BLOCK_ROWS: usize = 32;
/// Numbers in a piece of work, about; a piece is a whole number of rows.
const PIECE: usize = 1 << 15;

/// Rows of a piece of a map with `channels` channels.
fn piece_rows(channels: usize) -> usize {
    (PIECE / channels).next_multiple_of(BLOCK_ROWS)
}

/// ReLU that lets NaN pass, as PyTorch's.
#[inline(always)]
pub(crate) fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// `z * scale + shift`, channel by channel.
#[derive(Clone)]
pub(crate) struct Affine {
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
}

/// `k1 g + k2 z + k3`, channel by channel.
pub(crate) struct Backward {
    pub(crate) k1: Vec<f32>,
    pub(crate) k2: Vec<f32>,
    pub(crate) k3: Vec<f32>,
}

/// Where a gradient passes a ReLU.
#[derive(Clone, Copy)]
pub(crate) enum Mask<'a> {
    /// Where this output of the ReLU is positive.
    Output(&'a [f32]),
    /// Where `z * scale + shift` is positive, `z` being the map of the sums.
    Normalized(&'a Affine),
}

/// Two sums a channel over all rows: of `x` and `x^2` forward, of `g` and `g (z - mean)` backward.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChannelSums {
    pub(crate) first: Vec<f64>,
    pub(crate) second: Vec<f64>,
}

impl ChannelSums {
    pub(crate) fn zero(channels: usize) -> Self {
        Self { first: vec![0.0; channels], second: vec![0.0; channels] }
    }

    /// The sum of `parts` in their order.
    pub(crate) fn total(channels: usize, parts: &[Self]) -> Self {
        let mut total = Self::zero(channels);
        parts.iter().for_each(|part| total.add(0, part));
        total
    }

    /// Adds the sums of some channels, from `channel` on.
    pub(crate) fn add(&mut self, channel: usize, part: &Self) {
        self.first[channel..].iter_mut().zip(&part.first).for_each(|(sum, value)| *sum += value);
        self.second[channel..].iter_mut().zip(&part.second).for_each(|(sum, value)| *sum += value);
    }

    /// Adds a block's sums in f32 over the channels from `channel` on.
    #[inline(always)]
    pub(crate) fn add_block(&mut self, channel: usize, first: &[f32], second: &[f32]) {
        for (sum, &value) in self.first[channel..].iter_mut().zip(first) {
            *sum += f64::from(value);
        }
        for (sum, &value) in self.second[channel..].iter_mut().zip(second) {
            *sum += f64::from(value);
        }
    }
}

/// A batch norm, and the statistics that it normalises by.
pub(crate) struct Normalization {
    pub(crate) affine: Affine,
    pub(crate) mean: Vec<f32>,
    /// Biased.
    pub(crate) variance: Vec<f64>,
    inverse_deviation: Vec<f64>,
    /// Rows of the batch.
    pub(crate) rows: usize,
}

impl Normalization {
    /// From the sums of `z` and `z^2` over `rows` rows.
    pub(crate) fn of_batch(sums: &ChannelSums, rows: usize, weight: &[f32], bias: &[f32]) -> Self {
        let count = rows as f64;
        let mean: Vec<f64> = sums.first.iter().map(|sum| sum / count).collect();
        let variance = sums.second.iter().zip(&mean).map(|(sum, mean)| (sum / count - mean * mean).max(0.0)).collect();
        Self { rows, ..Self::new(mean, variance, weight, bias) }
    }

    /// From statistics of no rows at hand.
    pub(crate) fn new(mean: Vec<f64>, variance: Vec<f64>, weight: &[f32], bias: &[f32]) -> Self {
        let inverse_deviation: Vec<f64> =
            variance.iter().map(|variance| 1.0 / (variance + BATCH_NORM_EPSILON).sqrt()).collect();
        let scale = weight.iter().zip(&inverse_deviation).map(|(&weight, inverse)| f64::from(weight) * inverse);
        let shift = bias.iter().zip(scale.clone()).zip(&mean);
        let shift = shift.map(|((&bias, scale), mean)| (f64::from(bias) - scale * mean) as f32).collect();
        let affine = Affine { scale: scale.map(|scale| scale as f32).collect(), shift };
        let mean = mean.iter().map(|&mean| mean as f32).collect();
        Self { affine, mean, variance, inverse_deviation, rows: 0 }
    }

    /// The gradients of weight and bias from the sums of `g` and `g (z - mean)`, and what turns `g` into the gradient
    /// of `z`.
    pub(crate) fn backward(
        &self,
        sums: &ChannelSums,
        weight: &[f32],
        weight_gradient: &mut [f32],
        bias_gradient: &mut [f32],
    ) -> Backward {
        let channels = weight.len();
        let mut backward = Backward { k1: vec![0.0; channels], k2: vec![0.0; channels], k3: vec![0.0; channels] };
        for channel in 0..channels {
            let inverse = self.inverse_deviation[channel];
            let (sum, product) = (sums.first[channel], sums.second[channel] * inverse);
            weight_gradient[channel] = product as f32;
            bias_gradient[channel] = sum as f32;
            let k1 = f64::from(weight[channel]) * inverse;
            let k2 = -k1 * inverse * product / self.rows as f64;
            let k3 = -k1 * sum / self.rows as f64 - k2 * f64::from(self.mean[channel]);
            (backward.k1[channel], backward.k2[channel], backward.k3[channel]) = (k1 as f32, k2 as f32, k3 as f32);
        }
        backward
    }
}

/// What is added to a block's second normalised map.
#[derive(Clone, Copy)]
pub(crate) enum Shortcut<'a> {
    /// The block's input.
    Identity(&'a [f32]),
    /// The projection, before its batch norm.
    Projection(&'a [f32], &'a Affine),
}

/// The end of a block: `out = relu(z * scale + shift + shortcut)`.
pub(crate) fn finish_block<S: Simd>(simd: S, z: &[f32], affine: &Affine, shortcut: Shortcut<'_>, out: &mut [f32]) {
    let channels = affine.scale.len();
    let piece = piece_rows(channels) * channels;
    out.par_chunks_mut(piece).enumerate().for_each(|(index, out)| {
        let start = index * piece;
        let z = &z[start..][..out.len()];
        vectorized!(simd, {
            for (row, (out, z)) in out.chunks_exact_mut(channels).zip(z.chunks_exact(channels)).enumerate() {
                let at = start + row * channels;
                let (scale, shift) = (&affine.scale[..channels], &affine.shift[..channels]);
                match shortcut {
                    Shortcut::Identity(x) => {
                        let x = &x[at..][..channels];
                        for c in 0..channels {
                            out[c] = relu(z[c] * scale[c] + shift[c] + x[c]);
                        }
                    }
                    Shortcut::Projection(x, projection) => {
                        let x = &x[at..][..channels];
                        let (scale_x, shift_x) = (&projection.scale[..channels], &projection.shift[..channels]);
                        for c in 0..channels {
                            out[c] = relu(z[c] * scale[c] + shift[c] + (x[c] * scale_x[c] + shift_x[c]));
                        }
                    }
                }
            }
        });
    });
}

/// Sets `g` to 0 where the ReLU of `mask` was closed, and sums `g` and `g (z - mean)`.
pub(crate) fn mask_and_sum<S: Simd>(
    simd: S,
    g: &mut [f32],
    mask: Option<Mask<'_>>,
    z: &[f32],
    mean: &[f32],
) -> ChannelSums {
    let channels = mean.len();
    let piece = piece_rows(channels) * channels;
    let parts: Vec<ChannelSums> = g
        .par_chunks_mut(piece)
        .enumerate()
        .map(|(index, g)| {
            let start = index * piece;
            vectorized!(simd, {
                let mut sums = ChannelSums::zero(channels);
                let (mut first, mut second) = (vec![0.0; channels], vec![0.0; channels]);
                for (block, g) in g.chunks_mut(BLOCK_ROWS * channels).enumerate() {
                    first.fill(0.0);
                    second.fill(0.0);
                    let (first, second) = (&mut first[..channels], &mut second[..channels]);
                    for (row, g) in g.chunks_exact_mut(channels).enumerate() {
                        let at = start + (block * BLOCK_ROWS + row) * channels;
                        let (z, mean) = (&z[at..][..channels], &mean[..channels]);
                        match mask {
                            None => {}
                            Some(Mask::Output(out)) => {
                                let out = &out[at..][..channels];
                                for c in 0..channels {
                                    g[c] = if out[c] > 0.0 { g[c] } else { 0.0 };
                                }
                            }
                            Some(Mask::Normalized(affine)) => {
                                let (scale, shift) = (&affine.scale[..channels], &affine.shift[..channels]);
                                for c in 0..channels {
                                    g[c] = if z[c] * scale[c] + shift[c] > 0.0 { g[c] } else { 0.0 };
                                }
                            }
                        }
                        for c in 0..channels {
                            first[c] += g[c];
                            second[c] += g[c] * (z[c] - mean[c]);
                        }
                    }
                    sums.add_block(0, first, second);
                }
                sums
            })
        })
        .collect();
    ChannelSums::total(channels, &parts)
}
