//! Convolutions' weights as the CPU keeps them.
//!
//! Weights are kept in *panels* `(out / width, tap, in, width)`, zero-padded to whole panels of a few vectors: the layout
//! that the matrix product streams, and the layout in which the gradient of the weights comes out of one.

use super::gemm::panel_width;
use super::simd::vectorized;
pub(crate) use crate::resnet::{Convolution, Map};
use pulp::Simd;
use rayon::prelude::*;

impl Convolution {
    /// Its weights as kernels.
    pub(crate) fn kernels<'a>(&self, weights: &'a [f32]) -> Kernels<'a> {
        Kernels { weights, taps: self.taps(), ins: self.in_channels, outs: self.out_channels, turned: false }
    }

    /// Its weights as the kernels of its input's gradient.
    pub(crate) fn turned_kernels<'a>(&self, weights: &'a [f32]) -> Kernels<'a> {
        Kernels { weights, taps: self.taps(), ins: self.out_channels, outs: self.in_channels, turned: true }
    }

    /// Length of the packed weights.
    pub(crate) fn packed_len<S: Simd>(&self, _: S) -> usize {
        self.out_channels.next_multiple_of(panel_width::<S>()) * self.taps() * self.in_channels
    }

    /// Places in the packed weights, in the order of torchvision's `(out, in, row, column)`.
    fn packed_places<S: Simd>(&self) -> impl Iterator<Item = usize> {
        let (width, taps, ins) = (panel_width::<S>(), self.taps(), self.in_channels);
        (0..self.out_channels * ins * taps).map(move |index| {
            let (out, channel, tap) = (index / taps / ins, index / taps % ins, index % taps);
            ((out / width * taps + tap) * ins + channel) * width + out % width
        })
    }

    /// torchvision's `(out, in, kernel, kernel)` to panels.
    pub(crate) fn pack<S: Simd>(&self, _: S, weights: &[f32], packed: &mut [f32]) {
        packed.fill(0.0);
        self.packed_places::<S>().zip(weights).for_each(|(place, &weight)| packed[place] = weight);
    }

    /// Panels to torchvision's `(out, in, kernel, kernel)`.
    pub(crate) fn unpack<S: Simd>(&self, _: S, packed: &[f32]) -> Vec<f32> {
        self.packed_places::<S>().map(|place| packed[place]).collect()
    }

    /// The weights of `taps` as panels `(in / width, tap, out, width)`.
    pub(crate) fn transpose<S: Simd>(&self, simd: S, weights: &[f32], taps: &[usize], transposed: &mut [f32]) {
        let width = panel_width::<S>();
        let (ins, outs) = (self.in_channels, self.out_channels);
        let block = outs * width;
        transposed.par_chunks_mut(block).enumerate().for_each(|(index, transposed)| {
            let (panel, tap) = (index / taps.len(), taps[index % taps.len()]);
            let channels = width.min(ins - panel * width);
            vectorized!(simd, {
                for (out_panel, rows) in transposed.chunks_mut(width * width).enumerate() {
                    let from = ((out_panel * self.taps() + tap) * ins + panel * width) * width;
                    let from = &weights[from..][..channels * width];
                    for (out, row) in rows.chunks_exact_mut(width).enumerate() {
                        for channel in 0..channels {
                            row[channel] = from[channel * width + out];
                        }
                        row[channels..].fill(0.0);
                    }
                }
            });
        });
    }
}

/// The kernels of a product: those of a layer, or the turned ones for the gradient of its input. The latter are made panel
/// by panel where they are used, and never in whole.
#[derive(Clone, Copy)]
pub(crate) struct Kernels<'a> {
    weights: &'a [f32],
    pub(crate) taps: usize,
    /// Input channels of the product.
    pub(crate) ins: usize,
    /// Output channels of the product.
    pub(crate) outs: usize,
    /// By half a turn, input and output channels exchanged.
    turned: bool,
}

impl Kernels<'_> {
    /// Numbers of scratch memory that [`Kernels::panel`] needs.
    pub(crate) fn scratch<S: Simd>(&self) -> usize {
        if self.turned { self.taps * self.ins * panel_width::<S>() } else { 0 }
    }

    /// A panel, `(tap, ins, width)`. The channels must fill whole panels.
    #[inline(always)]
    pub(crate) fn panel<'a, S: Simd>(&'a self, _: S, panel: usize, scratch: &'a mut [f32]) -> &'a [f32] {
        let (width, ins, outs) = (panel_width::<S>(), self.ins, self.outs);
        let len = self.taps * ins * width;
        if !self.turned {
            return &self.weights[panel * len..][..len];
        }
        for (tap, rows) in scratch.chunks_exact_mut(ins * width).enumerate() {
            for (block, to) in rows.chunks_exact_mut(width * width).enumerate() {
                let tap = self.taps - 1 - tap;
                let from = ((block * self.taps + tap) * outs + panel * width) * width;
                transpose_square(width, &self.weights[from..][..width * width], to);
            }
        }
        scratch
    }
}

/// `to` becomes the transpose of `from`, both `(width, width)`, by squares that fit the registers.
#[inline(always)]
fn transpose_square(width: usize, from: &[f32], to: &mut [f32]) {
    const SIDE: usize = 8;
    for i in (0..width).step_by(SIDE) {
        for j in (0..width).step_by(SIDE) {
            let mut square = [[0.0; SIDE]; SIDE];
            for (row, square) in square.iter_mut().enumerate() {
                square.copy_from_slice(&from[(i + row) * width + j..][..SIDE]);
            }
            for column in 0..SIDE {
                let line: [f32; SIDE] = std::array::from_fn(|row| square[row][column]);
                to[(j + column) * width + i..][..SIDE].copy_from_slice(&line);
            }
        }
    }
}
