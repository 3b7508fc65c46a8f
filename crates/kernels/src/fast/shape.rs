//! Shapes: the extent of a map, a convolution and the layout of its weights.
//!
//! Weights are kept in *panels* `(out / width, tap, in, width)`, zero-padded to whole panels of a few vectors: the layout
//! that the matrix product streams, and the layout in which the gradient of the weights comes out of one.

use super::gemm::{panel_width, panels};
use super::simd::vectorized;
use crate::resnet::ConvBatchNorm;
use pulp::Simd;
use rayon::prelude::*;

/// Extent of a map in NHWC, without its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) images: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Map {
    pub(crate) fn pixels(&self) -> usize {
        self.images * self.height * self.width
    }
}

/// A convolution's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Convolution {
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

impl From<&ConvBatchNorm> for Convolution {
    fn from(plan: &ConvBatchNorm) -> Self {
        let &ConvBatchNorm { in_channels, out_channels, kernel, stride, padding, .. } = plan;
        Self { in_channels, out_channels, kernel, stride, padding }
    }
}

impl Convolution {
    pub(crate) fn output(&self, input: Map) -> Map {
        let side = |len: usize| (len + 2 * self.padding - self.kernel) / self.stride + 1;
        Map { images: input.images, height: side(input.height), width: side(input.width) }
    }

    pub(crate) fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Its weights as kernels.
    pub(crate) fn kernels<'a>(&self, weights: &'a [f32]) -> Kernels<'a> {
        let (ins, outs) = (self.in_channels, self.out_channels);
        Kernels { weights, taps: self.taps(), ins, outs, order: Order::Stored }
    }

    /// Its weights as the kernels of its input's gradient.
    pub(crate) fn turned_kernels<'a>(&self, weights: &'a [f32]) -> Kernels<'a> {
        let (ins, outs) = (self.out_channels, self.in_channels);
        Kernels { weights, taps: self.taps(), ins, outs, order: Order::Turned }
    }

    /// Length of the packed weights.
    pub(crate) fn packed_len<S: Simd>(&self, _: S) -> usize {
        panels::<S>(self.out_channels) * panel_width::<S>() * self.taps() * self.in_channels
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

    /// Length of `taps` taps of the transposed weights.
    pub(crate) fn transposed_len<S: Simd>(&self, taps: usize) -> usize {
        panels::<S>(self.in_channels) * panel_width::<S>() * taps * self.out_channels
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

/// In which order kernels are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Stored,
    /// Turned by half a turn, input and output channels exchanged.
    Turned,
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
    order: Order,
}

impl Kernels<'_> {
    /// Numbers of scratch memory that [`Kernels::panel`] needs.
    pub(crate) fn scratch<S: Simd>(&self) -> usize {
        if self.order == Order::Turned { self.taps * self.ins * panel_width::<S>() } else { 0 }
    }

    /// A panel, `(tap, ins, width)`. The channels must fill whole panels.
    #[inline(always)]
    pub(crate) fn panel<'a, S: Simd>(&'a self, _: S, panel: usize, scratch: &'a mut [f32]) -> &'a [f32] {
        let (width, ins, outs) = (panel_width::<S>(), self.ins, self.outs);
        let len = self.taps * ins * width;
        if self.order == Order::Stored {
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
