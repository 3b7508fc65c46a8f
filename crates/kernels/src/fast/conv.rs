//! Convolutions in NHWC: shapes, the layout of weights, and which of three methods computes what.
//!
//! | method | where | why |
//! |---|---|---|
//! | [`super::winograd`] | 3x3, stride 1, maps of more than 4 pixels | 36 products for 16 outputs instead of 144 |
//! | [`super::positions`] | outputs of at most 4 pixels, of 16 with a stride | no work on padding, nothing gathered |
//! | [`super::gather`] | the rest: the stem, strides on larger maps, odd numbers of channels | works for everything |
//!
//! Weights are kept in *panels* `(out / width, tap, in, width)`, zero-padded to whole panels of two vectors: the layout
//! that the matrix product streams, and the layout in which the gradient of the weights comes out of one.

use super::arena::Arena;
use super::gemm::panels;
use super::norm::ChannelSums;
use super::read::Source;
use super::simd::{panel_width, vectorize};
use super::winograd;
use super::write::Target;
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

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Winograd,
    Positions,
    Gather,
}

/// A convolution's input.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) map: Map,
    pub(crate) source: Source<'a>,
}

impl Convolution {
    pub(crate) fn output(&self, input: Map) -> Map {
        let side = |len: usize| (len + 2 * self.padding - self.kernel) / self.stride + 1;
        Map { images: input.images, height: side(input.height), width: side(input.width) }
    }

    pub(crate) fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    pub(crate) fn method<S: Simd>(&self, input: Map) -> Method {
        let output = self.output(input);
        let width = panel_width::<S>();
        if !self.in_channels.is_multiple_of(width) || !self.out_channels.is_multiple_of(width) {
            return Method::Gather;
        }
        let few = if self.stride == 1 { 4 } else { 16 };
        match (self.kernel, self.stride, self.padding) {
            _ if output.height * output.width <= few => Method::Positions,
            (3, 1, 1) => Method::Winograd,
            _ => Method::Gather,
        }
    }

    /// Length of the packed weights.
    pub(crate) fn packed_len<S: Simd>(&self) -> usize {
        panels::<S>(self.out_channels) * panel_width::<S>() * self.taps() * self.in_channels
    }

    /// Index in the packed weights of torchvision's `(out, in, row, column)`.
    fn packed_index<S: Simd>(&self, out: usize, channel: usize, tap: usize) -> usize {
        let width = panel_width::<S>();
        ((out / width * self.taps() + tap) * self.in_channels + channel) * width + out % width
    }

    /// torchvision's `(out, in, kernel, kernel)` to panels.
    pub(crate) fn pack<S: Simd>(&self, _: S, weights: &[f32], packed: &mut [f32]) {
        packed.fill(0.0);
        for (index, &weight) in weights.iter().enumerate() {
            let (pair, tap) = (index / self.taps(), index % self.taps());
            packed[self.packed_index::<S>(pair / self.in_channels, pair % self.in_channels, tap)] = weight;
        }
    }

    /// Panels to torchvision's `(out, in, kernel, kernel)`.
    pub(crate) fn unpack<S: Simd>(&self, _: S, packed: &[f32]) -> Vec<f32> {
        let len = self.out_channels * self.in_channels * self.taps();
        let weight = |index: usize| {
            let (pair, tap) = (index / self.taps(), index % self.taps());
            packed[self.packed_index::<S>(pair / self.in_channels, pair % self.in_channels, tap)]
        };
        (0..len).map(weight).collect()
    }

    /// The convolution of `input` into `target`, and the target's sums.
    pub(crate) fn forward<S: Simd>(
        &self,
        simd: S,
        input: Input<'_>,
        weights: &[f32],
        target: &Target<'_>,
        arena: &Arena,
    ) -> ChannelSums {
        input.source.check(input.map, self.in_channels);
        match self.method::<S>(input.map) {
            Method::Winograd => {
                let channels = (self.in_channels, self.out_channels);
                winograd::convolve(simd, input.map, input.source, channels, weights, target, arena)
            }
            Method::Positions => self.positions_forward(simd, input, weights, target, arena),
            Method::Gather => self.gather_forward(simd, input, weights, target),
        }
    }

    /// The gradient of the input, whose extent is `map`, from the output's gradient `dy`; and the target's sums.
    pub(crate) fn input_gradient<S: Simd>(
        &self,
        simd: S,
        map: Map,
        dy: Source<'_>,
        weights: &[f32],
        target: &Target<'_>,
        arena: &Arena,
    ) -> ChannelSums {
        dy.check(self.output(map), self.out_channels);
        match self.method::<S>(map) {
            Method::Winograd => {
                // Turned by half a turn, channels exchanged: a convolution of the same kind.
                let turned: Vec<usize> = (0..self.taps()).rev().collect();
                let mut transposed = arena.take(self.transposed_len::<S>(self.taps()));
                self.transpose(simd, weights, &turned, &mut transposed);
                let channels = (self.out_channels, self.in_channels);
                let sums = winograd::convolve(simd, map, dy, channels, &transposed, target, arena);
                arena.give(transposed);
                sums
            }
            Method::Positions => self.positions_input_gradient(simd, map, dy, weights, target, arena),
            Method::Gather => self.gather_input_gradient(simd, map, dy, weights, target, arena),
        }
    }

    /// The gradient of the weights, in panels, from the output's gradient `dy`.
    pub(crate) fn weight_gradient<S: Simd>(
        &self,
        simd: S,
        input: Input<'_>,
        dy: Source<'_>,
        gradient: &mut [f32],
        arena: &Arena,
    ) {
        input.source.check(input.map, self.in_channels);
        dy.check(self.output(input.map), self.out_channels);
        match self.method::<S>(input.map) {
            Method::Winograd => {
                self.winograd_weight_gradient(simd, input.map, input.source, dy, gradient, arena);
            }
            Method::Positions => self.positions_weight_gradient(simd, input, dy, gradient, arena),
            Method::Gather => self.gather_weight_gradient(simd, input, dy, gradient, arena),
        }
    }

    /// Length of `taps` taps of the transposed weights.
    pub(crate) fn transposed_len<S: Simd>(&self, taps: usize) -> usize {
        panels::<S>(self.in_channels) * panel_width::<S>() * taps * self.out_channels
    }

    /// The weights of `taps` as panels `(in / width, tap, out, width)`.
    pub(crate) fn transpose<S: Simd>(
        &self,
        simd: S,
        weights: &[f32],
        taps: &[usize],
        transposed: &mut [f32],
    ) {
        let width = panel_width::<S>();
        let (ins, outs) = (self.in_channels, self.out_channels);
        let block = outs * width;
        transposed.par_chunks_mut(block).enumerate().for_each(|(index, transposed)| {
            let (panel, tap) = (index / taps.len(), taps[index % taps.len()]);
            let channels = width.min(ins - panel * width);
            vectorize(
                simd,
                #[inline(always)]
                || {
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
                },
            );
        });
    }
}
