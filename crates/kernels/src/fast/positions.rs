//! Convolutions whose output has a few pixels: one small matrix product for every output pixel and tap that meet.
//!
//! On a map of 2x2 pixels a 3x3 kernel reads padding more often than not; here it costs nothing. Rows of the products
//! are images. Maps are first copied to *positions*, `(pixel, image, channel)`, so that rows lie at a stride that suits
//! the cache and whatever is applied while reading is applied once.

use super::arena::{Arena, with_scratch};
use super::conv::{Convolution, Input, Kernels, Map};
use super::gemm::{Strided, apart, multiply_panel, panel_width};
use super::norm::ChannelSums;
use super::read::Source;
use super::simd::vectorize;
use super::write::Target;
use pulp::Simd;
use rayon::prelude::*;

/// A map as `(pixel, image, channel)`, rows `stride` apart.
struct Positions {
    values: Vec<f32>,
    images: usize,
    stride: usize,
}

impl Positions {
    fn new<S: Simd>(simd: S, map: Map, source: Source<'_>, channels: usize, arena: &Arena) -> Self {
        let stride = apart(channels);
        let (images, pixels) = (map.images, map.height * map.width);
        let mut values = arena.take(pixels * images * stride);
        values.par_chunks_mut(images * stride).enumerate().for_each(|(pixel, values)| {
            vectorize(
                simd,
                #[inline(always)]
                || {
                    for (image, row) in values.chunks_exact_mut(stride).enumerate() {
                        let start = (image * pixels + pixel) * channels;
                        source.copy(start, channels, &mut row[..channels]);
                    }
                },
            );
        });
        Self { values, images, stride }
    }

    fn pixel(&self, pixel: usize) -> &[f32] {
        &self.values[pixel * self.images * self.stride..][..self.images * self.stride]
    }
}

impl Convolution {
    /// For every pixel of the output, the taps that meet the input and the input's pixels that they meet.
    fn meetings(&self, input: Map) -> Vec<Vec<(usize, usize)>> {
        let output = self.output(input);
        let along = |at: usize, tap: usize, len: usize| {
            (at * self.stride + tap).checked_sub(self.padding).filter(|&at| at < len)
        };
        let taps = (0..self.kernel).flat_map(|row| (0..self.kernel).map(move |column| (row, column)));
        let meets = |y: usize, x: usize| {
            let meet = taps.clone().filter_map(|(row, column)| {
                let (y, x) = (along(y, row, input.height)?, along(x, column, input.width)?);
                Some((row * self.kernel + column, y * input.width + x))
            });
            meet.collect()
        };
        (0..output.height)
            .flat_map(|y| (0..output.width).map(move |x| (y, x)))
            .map(|(y, x)| meets(y, x))
            .collect()
    }

    pub(crate) fn positions_forward<S: Simd>(
        &self,
        simd: S,
        input: Input<'_>,
        weights: &[f32],
        target: &Target<'_>,
        arena: &Arena,
    ) -> ChannelSums {
        let from = Positions::new(simd, input.map, input.source, self.in_channels, arena);
        let sums = multiply(simd, &from, &self.kernels(weights), &self.meetings(input.map), target);
        arena.give(from.values);
        sums
    }

    pub(crate) fn positions_input_gradient<S: Simd>(
        &self,
        simd: S,
        map: Map,
        dy: Source<'_>,
        weights: &[f32],
        target: &Target<'_>,
        arena: &Arena,
    ) -> ChannelSums {
        let from = Positions::new(simd, self.output(map), dy, self.out_channels, arena);
        let mut meetings = vec![Vec::new(); map.height * map.width];
        for (pixel, meets) in self.meetings(map).into_iter().enumerate() {
            for (tap, met) in meets {
                meetings[met].push((self.taps() - 1 - tap, pixel));
            }
        }
        let sums = multiply(simd, &from, &self.turned_kernels(weights), &meetings, target);
        arena.give(from.values);
        sums
    }

    pub(crate) fn positions_weight_gradient<S: Simd>(
        &self,
        simd: S,
        input: Input<'_>,
        dy: Source<'_>,
        gradient: &mut [f32],
        arena: &Arena,
    ) {
        let (ins, width) = (self.in_channels, panel_width::<S>());
        let x = Positions::new(simd, input.map, input.source, ins, arena);
        let dy = Positions::new(simd, self.output(input.map), dy, self.out_channels, arena);
        let meetings = self.meetings(input.map);
        gradient.par_chunks_mut(ins * width).enumerate().for_each(|(index, gradient)| {
            let (panel, tap) = (index / self.taps(), index % self.taps());
            let pairs = meetings.iter().enumerate().flat_map(|(pixel, meets)| {
                meets.iter().filter(|(other, _)| *other == tap).map(move |&(_, met)| (pixel, met))
            });
            let mut first = true;
            for (pixel, met) in pairs {
                let (x_rows, dy_rows) = (x.pixel(met), dy.pixel(pixel));
                vectorize(
                    simd,
                    #[inline(always)]
                    #[allow(unsafe_code)] // calls the micro-kernel
                    // SAFETY: a position has a row for each image, `gradient` one of `width` for each input channel.
                    || unsafe {
                        let a = Strided::new(x_rows.as_ptr(), 1, x.stride);
                        let b = (dy_rows.as_ptr().add(panel * width), dy.stride);
                        let c = (gradient.as_mut_ptr(), width);
                        multiply_panel(simd, ins, x.images, a, b, c, !first);
                    },
                );
                first = false;
            }
            if first {
                gradient.fill(0.0);
            }
        });
        arena.give(x.values);
        arena.give(dy.values);
    }
}

/// For every pixel of the target the sum over `meetings[pixel]`, pairs of a tap and a pixel of `from`, of products with
/// the tap's kernels.
fn multiply<S: Simd>(
    simd: S,
    from: &Positions,
    kernels: &Kernels<'_>,
    meetings: &[Vec<(usize, usize)>],
    target: &Target<'_>,
) -> ChannelSums {
    let (width, images, pixels) = (panel_width::<S>(), from.images, meetings.len());
    let (ins, outs) = (kernels.ins, kernels.outs);
    let parts: Vec<ChannelSums> = (0..outs / width)
        .into_par_iter()
        .map(|panel| {
            let mut sums = ChannelSums::zero(outs);
            with_scratch(images * width + kernels.scratch::<S>(), |scratch| {
                let (tile, turned) = scratch.split_at_mut(images * width);
                let mut weights: &[f32] = &[];
                let mut turned = Some(turned);
                vectorize(
                    simd,
                    #[inline(always)]
                    || weights = kernels.panel(simd, panel, turned.take().expect("it runs once")),
                );
                for (pixel, meetings) in meetings.iter().enumerate() {
                    vectorize(
                        simd,
                        #[inline(always)]
                        || {
                            if meetings.is_empty() {
                                tile.fill(0.0);
                            }
                            for (index, &(tap, met)) in meetings.iter().enumerate() {
                                let weights = &weights[tap * ins * width..][..ins * width];
                                let rows = from.pixel(met);
                                #[allow(unsafe_code)] // calls the micro-kernel
                                // SAFETY: a position has a row for each image, a panel `ins` rows of `width` a tap.
                                unsafe {
                                    let a = Strided::new(rows.as_ptr(), from.stride, 1);
                                    let b = (weights.as_ptr(), width);
                                    multiply_panel(
                                        simd,
                                        images,
                                        ins,
                                        a,
                                        b,
                                        (tile.as_mut_ptr(), width),
                                        index > 0,
                                    );
                                }
                            }
                            let at = |image: usize| (image * pixels + pixel) * outs + panel * width;
                            #[allow(unsafe_code)] // panels interleave in the target
                            // SAFETY: every task has its own channels of the target.
                            unsafe {
                                target.put_rows(simd, tile, panel * width, width, at, &mut sums);
                            }
                        },
                    );
                }
            });
            sums
        })
        .collect();
    ChannelSums::total(outs, &parts)
}
