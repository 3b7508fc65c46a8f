//! Convolutions whose output has a few pixels: one small matrix product for every output pixel and tap that meet.
//!
//! On a map of 2x2 pixels a 3x3 kernel reads padding more often than not; here it costs nothing. Rows of the products
//! are images. Maps are first copied to *positions*, `(pixel, image, channel)`, so that rows lie at a stride that suits
//! the cache and whatever is applied while reading is applied once.

use super::algorithm::{Algorithm, Problem};
use super::arena::{Arena, with_scratch};
use super::gemm::{Strided, Update, apart, multiply_panel, panel_width};
use super::norm::ChannelSums;
use super::read::Source;
use super::shape::{Convolution, Kernels, Map};
use super::simd::vectorized;
use super::write::Target;
use pulp::Simd;
use rayon::prelude::*;

/// See the module.
pub(crate) struct Positions;

/// A map as `(pixel, image, channel)`, rows `stride` apart.
struct ByPixel {
    values: Vec<f32>,
    images: usize,
    stride: usize,
}

impl ByPixel {
    fn new<S: Simd>(simd: S, map: Map, source: Source<'_>, channels: usize, arena: &Arena) -> Self {
        let stride = apart(channels);
        let (images, pixels) = (map.images, map.height * map.width);
        let mut values = arena.take(pixels * images * stride);
        values.par_chunks_mut(images * stride).enumerate().for_each(|(pixel, values)| {
            vectorized!(simd, {
                for (image, row) in values.chunks_exact_mut(stride).enumerate() {
                    let start = (image * pixels + pixel) * channels;
                    source.copy(start, channels, &mut row[..channels]);
                }
            });
        });
        Self { values, images, stride }
    }

    fn pixel(&self, pixel: usize) -> &[f32] {
        &self.values[pixel * self.images * self.stride..][..self.images * self.stride]
    }
}

/// For every pixel of a product's result, the taps that meet its operand and the operand's pixels that they meet.
type Meetings = Vec<Vec<(usize, usize)>>;

/// The meetings of a convolution with its input.
fn meetings(conv: &Convolution, input: Map) -> Meetings {
    let output = conv.output(input);
    let along =
        |at: usize, tap: usize, len: usize| (at * conv.stride + tap).checked_sub(conv.padding).filter(|&at| at < len);
    let meets = |pixel: usize| {
        let meet = (0..conv.taps()).filter_map(|tap| {
            let y = along(pixel / output.width, tap / conv.kernel, input.height)?;
            let x = along(pixel % output.width, tap % conv.kernel, input.width)?;
            Some((tap, y * input.width + x))
        });
        meet.collect()
    };
    (0..output.height * output.width).map(meets).collect()
}

impl<S: Simd> Algorithm<S> for Positions {
    fn name(&self) -> &'static str {
        "positions"
    }

    fn forward(&self, problem: &Problem<'_, S>, x: Source<'_>, target: &Target<'_>) -> ChannelSums {
        let &Problem { simd, conv, weights, input, arena } = problem;
        let from = ByPixel::new(simd, input, x, conv.in_channels, arena);
        let sums = multiply(simd, &from, &conv.kernels(weights), &meetings(&conv, input), target);
        arena.give(from.values);
        sums
    }

    fn input_gradient(&self, problem: &Problem<'_, S>, dy: Source<'_>, target: &Target<'_>) -> ChannelSums {
        let &Problem { simd, conv, weights, input, arena } = problem;
        let from = ByPixel::new(simd, problem.output(), dy, conv.out_channels, arena);
        let mut reversed = vec![Vec::new(); input.height * input.width];
        for (pixel, meets) in meetings(&conv, input).into_iter().enumerate() {
            for (tap, met) in meets {
                reversed[met].push((conv.taps() - 1 - tap, pixel));
            }
        }
        let sums = multiply(simd, &from, &conv.turned_kernels(weights), &reversed, target);
        arena.give(from.values);
        sums
    }

    fn weight_gradient(&self, problem: &Problem<'_, S>, x: Source<'_>, dy: Source<'_>, gradient: &mut [f32]) {
        let &Problem { simd, conv, input, arena, .. } = problem;
        let (ins, width) = (conv.in_channels, panel_width::<S>());
        let x = ByPixel::new(simd, input, x, ins, arena);
        let dy = ByPixel::new(simd, problem.output(), dy, conv.out_channels, arena);
        let meetings = meetings(&conv, input);
        gradient.par_chunks_mut(ins * width).enumerate().for_each(|(index, gradient)| {
            let (panel, tap) = (index / conv.taps(), index % conv.taps());
            let pairs = meetings.iter().enumerate().flat_map(|(pixel, meets)| {
                meets.iter().filter(|(other, _)| *other == tap).map(move |&(_, met)| (pixel, met))
            });
            let mut update = Update::Set;
            for (pixel, met) in pairs {
                let (x_rows, dy_rows) = (x.pixel(met), &dy.pixel(pixel)[panel * width..]);
                vectorized!(simd, {
                    let a = Strided::new(x_rows, 1, x.stride);
                    multiply_panel(simd, (ins, x.images), a, (dy_rows, dy.stride), gradient, update);
                });
                update = Update::Add;
            }
            if update == Update::Set {
                gradient.fill(0.0);
            }
        });
        arena.give(x.values);
        arena.give(dy.values);
    }
}

/// For every pixel of the target the sum over `meetings[pixel]` of products of pixels of `from` with the taps' kernels.
fn multiply<S: Simd>(
    simd: S,
    from: &ByPixel,
    kernels: &Kernels<'_>,
    meetings: &Meetings,
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
                vectorized!(simd, {
                    weights = kernels.panel(simd, panel, turned.take().expect("it runs once"));
                });
                for (pixel, meetings) in meetings.iter().enumerate() {
                    vectorized!(simd, {
                        if meetings.is_empty() {
                            tile.fill(0.0);
                        }
                        for (index, &(tap, met)) in meetings.iter().enumerate() {
                            let a = Strided::new(from.pixel(met), from.stride, 1);
                            let b = (&weights[tap * ins * width..][..ins * width], width);
                            let update = if index > 0 { Update::Add } else { Update::Set };
                            multiply_panel(simd, (images, ins), a, b, tile, update);
                        }
                        let at = |image: usize| (image * pixels + pixel) * outs + panel * width;
                        #[allow(unsafe_code)] // panels interleave in the target
                        // SAFETY: every task has its own channels of the target.
                        unsafe {
                            target.put_rows(simd, tile, panel * width, width, at, &mut sums);
                        }
                    });
                }
            });
            sums
        })
        .collect();
    ChannelSums::total(outs, &parts)
}
