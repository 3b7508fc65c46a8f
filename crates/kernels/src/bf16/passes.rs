//! What is done to maps between convolutions, square by square, and what convolutions do to their sums.
//!
//! The same as [`crate::fast::norm`], in this folder's layout: a batch norm is two numbers a channel, forward `z * scale + shift`, backward
//! `k1 g + k2 z + k3`. Numbers are widened to f32, and rounded once when they are stored. There is no fused multiply-add and no sum whose order
//! depends on the instructions, so that every machine computes the same bits.

use super::conv::{BAND, Finish, Place, Totals};
use super::number::{LANES, Row, Square, Sums, clear_lanes, lanes, pair_columns, pair_rows, rounded};
use crate::fast::norm::{Affine, Backward, ChannelSums, relu};
use crate::fast::simd::vectorized;
use crate::resnet::Map;
use pulp::Simd;
use rayon::prelude::*;

/// Squares of a piece of work.
const PIECE: usize = 32;

/// A layer's sums are its output, and what a batch norm needs to know of it.
pub(crate) struct Statistics;

impl Finish<1> for Statistics {
    #[inline(always)]
    fn finish(&self, place: Place, sums: &Sums, [z]: [&mut Square; 1], totals: &mut Totals) {
        z.iter_mut().zip(&sums.0).for_each(|(z, sums)| *z = Row::rounded(sums));
        clear_lanes(z, place.lanes);
        for (row, z) in z.iter().enumerate() {
            let values = z.widened();
            totals.add(row, &values, &values);
        }
    }
}

/// Sums are stored as they are.
pub(crate) struct Plain;

impl Finish<1> for Plain {
    #[inline(always)]
    fn finish(&self, _: Place, sums: &Sums, [to]: [&mut Square; 1], _: &mut Totals) {
        to.iter_mut().zip(&sums.0).for_each(|(to, sums)| *to = Row::rounded(sums));
    }
}

/// Sums are stored as they are, and in pairs of channels.
pub(crate) struct Paired;

impl Finish<2> for Paired {
    #[inline(always)]
    fn finish(&self, place: Place, sums: &Sums, [plain, pairs]: [&mut Square; 2], totals: &mut Totals) {
        Plain.finish(place, sums, [plain], totals);
        pair_rows(plain, pairs);
    }
}

/// Sums are the gradient of a layer's input, an activation, and become that of what stands in front of its ReLU.
pub(crate) struct Gradient<'a> {
    /// What the shortcut brought, of the same map.
    pub(crate) shortcut: Option<&'a [Row]>,
    pub(crate) activation: &'a [Row],
    /// What the activation's batch norm was made of, and its means.
    pub(crate) z: &'a [Row],
    pub(crate) mean: &'a [f32],
}

impl Finish<1> for Gradient<'_> {
    #[inline(always)]
    fn finish(&self, Place { block, at, .. }: Place, sums: &Sums, [to]: [&mut Square; 1], totals: &mut Totals) {
        for (row, (to, sums)) in to.iter_mut().zip(&sums.0).enumerate() {
            let mut values = *sums;
            if let Some(shortcut) = self.shortcut {
                let shortcut = shortcut[at + row].widened();
                for lane in 0..LANES {
                    values[lane] += shortcut[lane];
                }
            }
            let (open, z) = (self.activation[at + row].widened(), self.z[at + row].widened());
            for lane in 0..LANES {
                values[lane] = if open[lane] > 0.0 { values[lane] } else { 0.0 };
            }
            *to = Row::rounded(&values);
            let mean = self.mean[block * LANES + row];
            totals.add(row, &to.widened(), &lanes(|lane| z[lane] - mean));
        }
    }
}

/// What is added to a block's last normalised map.
#[derive(Clone, Copy)]
pub(crate) enum Shortcut<'a> {
    /// Nothing: it is no block's last.
    None,
    /// The block's input.
    Identity(&'a [Row]),
    /// The projection, before its batch norm.
    Projection(&'a [Row], &'a Affine),
}

impl Shortcut<'_> {
    /// Row `at`, of channel `channel`, added to `values`.
    #[inline(always)]
    fn add(self, at: usize, channel: usize, values: &mut [f32; LANES]) {
        match self {
            Self::None => {}
            Self::Identity(x) => {
                let x = x[at].widened();
                for lane in 0..LANES {
                    values[lane] += x[lane];
                }
            }
            Self::Projection(z, affine) => {
                let (z, scale, shift) = (z[at].widened(), affine.scale[channel], affine.shift[channel]);
                for lane in 0..LANES {
                    values[lane] += z[lane] * scale + shift;
                }
            }
        }
    }
}

/// `relu(z * scale + shift + shortcut)`, channel by channel: the end of a layer.
#[derive(Clone, Copy)]
pub(crate) struct Activate<'a> {
    pub(crate) affine: &'a Affine,
    pub(crate) shortcut: Shortcut<'a>,
}

impl Activate<'_> {
    /// Of the numbers `z` of row `at` and of a channel.
    #[inline(always)]
    fn row(&self, at: usize, channel: usize, z: &[f32; LANES]) -> Row {
        let (scale, shift) = (self.affine.scale[channel], self.affine.shift[channel]);
        let mut values = lanes(|lane| z[lane] * scale + shift);
        self.shortcut.add(at, channel, &mut values);
        Row::rounded(&lanes(|lane| relu(values[lane])))
    }

    /// Over a whole map `z`, to the activation and the same in pairs of channels.
    pub(crate) fn pass<S: Simd>(&self, simd: S, map: Map, z: &[Row], plain: &mut [Row], pairs: &mut [Row]) {
        let (plain, pairs) = (plain.par_chunks_mut(PIECE * LANES), pairs.par_chunks_mut(PIECE * LANES));
        plain.zip(pairs).enumerate().for_each(|(piece, (plain, pairs))| {
            vectorized!(simd, {
                let squares = plain.as_chunks_mut::<LANES>().0.iter_mut().zip(pairs.as_chunks_mut::<LANES>().0);
                for (index, (plain, pairs)) in squares.enumerate() {
                    let at = (piece * PIECE + index) * LANES;
                    let channel = channel_of(map, at, self.affine.scale.len());
                    for (row, plain) in plain.iter_mut().enumerate() {
                        *plain = self.row(at + row, channel + row, &z[at + row].widened());
                    }
                    pair_rows(plain, pairs);
                }
            });
        });
    }
}

/// In inference a layer's sums become the activation at once, in pairs of channels.
impl Finish<1> for Activate<'_> {
    #[inline(always)]
    fn finish(&self, Place { block, at, .. }: Place, sums: &Sums, [pairs]: [&mut Square; 1], _: &mut Totals) {
        let rows = lanes(|row| self.row(at + row, block * LANES + row, &sums.0[row]));
        pair_rows(&rows, pairs);
    }
}

/// And, at the end of a block, as it is too.
impl Finish<2> for Activate<'_> {
    #[inline(always)]
    fn finish(&self, Place { block, at, .. }: Place, sums: &Sums, [plain, pairs]: [&mut Square; 2], _: &mut Totals) {
        for (row, plain) in plain.iter_mut().enumerate() {
            *plain = self.row(at + row, block * LANES + row, &sums.0[row]);
        }
        pair_rows(plain, pairs);
    }
}

/// The first channel of the square that begins at row `at` of a map.
#[inline(always)]
fn channel_of(map: Map, at: usize, channels: usize) -> usize {
    at / (map.area() * LANES) * LANES % channels
}

/// The group of the square that begins at row `at` of a map.
#[inline(always)]
fn group_of(map: Map, at: usize, channels: usize) -> usize {
    at / (map.area() * channels)
}

/// The gradient of a batch norm's input, `k1 g + k2 z + k3`, as convolutions read it: in pairs of channels for the gradient of their input, in pairs
/// of images for that of their weights.
pub(crate) fn norm_gradient<S: Simd>(
    simd: S,
    map: Map,
    (g, z): (&[Row], &[Row]),
    backward: &Backward,
    channels: &mut [Row],
    images: &mut [Row],
) {
    let of_channels = channels.par_chunks_mut(PIECE * LANES);
    of_channels.zip(images.par_chunks_mut(PIECE * LANES)).enumerate().for_each(|(piece, (channels, images))| {
        vectorized!(simd, {
            let squares = channels.as_chunks_mut::<LANES>().0.iter_mut().zip(images.as_chunks_mut::<LANES>().0);
            for (index, (channels, images)) in squares.enumerate() {
                let at = (piece * PIECE + index) * LANES;
                let rows = gradient_square(map, at, backward, |row| g[at + row].widened(), z);
                pair_rows(&rows, channels);
                pair_columns(simd, &rows, images);
            }
        });
    });
}

/// `k1 g + k2 z + k3` of the square that begins at row `at`, 0 for images beyond the group's.
#[inline(always)]
pub(crate) fn gradient_square(
    map: Map,
    at: usize,
    Backward { k1, k2, k3 }: &Backward,
    g: impl Fn(usize) -> [f32; LANES],
    z: &[Row],
) -> Square {
    let (first, used) = (channel_of(map, at, k1.len()), map.lanes(group_of(map, at, k1.len())));
    let mut square = lanes(|row| {
        let (g, z, channel) = (g(row), z[at + row].widened(), first + row);
        Row(lanes(|lane| rounded(k1[channel] * g[lane] + (k2[channel] * z[lane] + k3[channel]))))
    });
    clear_lanes(&mut square, used);
    square
}

/// Sets `g` to 0 where `out`, the output of a ReLU, is not positive, and sums `g` and `g (z - mean)`.
pub(crate) fn mask_and_sum<S: Simd>(
    simd: S,
    map: Map,
    g: &mut [Row],
    out: Option<&[Row]>,
    z: &[Row],
    mean: &[f32],
) -> ChannelSums {
    let area = map.area() * LANES;
    let parts: Vec<ChannelSums> = g
        .par_chunks_mut(area)
        .enumerate()
        .map(|(block, g)| {
            let channel = channel_of(map, block * area, mean.len());
            vectorized!(simd, {
                let mut sums = ChannelSums::zero(LANES);
                for (band, g) in g.chunks_mut(BAND * LANES).enumerate() {
                    let mut totals = Totals::ZERO;
                    for (index, g) in g.iter_mut().enumerate() {
                        let (at, row) = (block * area + band * BAND * LANES + index, index % LANES);
                        let mut values = g.widened();
                        if let Some(out) = out {
                            let out = out[at].widened();
                            values = lanes(|lane| if out[lane] > 0.0 { values[lane] } else { 0.0 });
                            *g = Row::rounded(&values);
                        }
                        let (z, mean) = (z[at].widened(), mean[channel + row]);
                        totals.add(row, &values, &lanes(|lane| z[lane] - mean));
                    }
                    sums.add(0, &totals.of_channels());
                }
                sums
            })
        })
        .collect();
    let mut sums = ChannelSums::zero(mean.len());
    for (block, part) in parts.iter().enumerate() {
        sums.add(channel_of(map, block * area, mean.len()), part);
    }
    sums
}

/// The mean over each image: `(images, channels)`.
pub(crate) fn average_pool(map: Map, channels: usize, x: &[Row]) -> Vec<f32> {
    let mut means = vec![0.0; map.images * channels];
    for (block, squares) in x.chunks_exact(map.area() * LANES).enumerate() {
        let (group, channel) = (block * LANES / channels, block * LANES % channels);
        for row in 0..LANES {
            let mut sums = [0.0; LANES];
            for square in squares.chunks_exact(LANES) {
                let x = square[row].widened();
                for lane in 0..LANES {
                    sums[lane] += x[lane];
                }
            }
            for (lane, sum) in sums[..map.lanes(group)].iter().enumerate() {
                means[(group * LANES + lane) * channels + channel + row] = sum / map.area() as f32;
            }
        }
    }
    means
}

/// The gradient of [`average_pool`]'s input.
pub(crate) fn average_pool_backward(map: Map, channels: usize, grad: &[f32], g: &mut [Row]) {
    for (block, squares) in g.chunks_exact_mut(map.area() * LANES).enumerate() {
        let (group, channel) = (block * LANES / channels, block * LANES % channels);
        for row in 0..LANES {
            let of = |lane: usize| grad[(group * LANES + lane) * channels + channel + row] / map.area() as f32;
            let mut values = [0.0; LANES];
            values[..map.lanes(group)].iter_mut().enumerate().for_each(|(lane, value)| *value = of(lane));
            let values = Row::rounded(&values);
            squares.chunks_exact_mut(LANES).for_each(|square| square[row] = values);
        }
    }
}
