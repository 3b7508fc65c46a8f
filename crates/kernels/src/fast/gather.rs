//! Convolutions as matrix products over gathered patches (im2col), for every kernel, stride and map.
//!
//! The forward pass and the gradient of the input are the same operation, [`Product`]: rows of patches times panels,
//! scattered to a regular grid of the target. Patches of one strip of pixels live in a thread's scratch memory, never in
//! whole.

use super::algorithm::{Algorithm, Problem};
use super::arena::{Arena, with_scratch};
use super::gemm::{Strided, Update, apart, multiply_panel, panel_width};
use super::norm::ChannelSums;
use super::read::Source;
use super::shape::{Convolution, Map};
use super::simd::vectorized;
use super::write::Target;
use pulp::Simd;
use rayon::prelude::*;

/// See the module.
pub(crate) struct Gather;

/// Consecutive taps of one row of the kernel.
#[derive(Debug, Clone, Copy)]
struct Run {
    row: isize,
    column: isize,
    taps: usize,
}

/// A matrix product whose left-hand side is gathered from `source` and whose result goes to a grid of `target`.
///
/// Row `(image, y, x)` of the product gathers the source's pixels `(step * y + row, step * x + column)` of every tap and
/// goes to the target's pixel `(target_step * y + phase.0, target_step * x + phase.1)`.
struct Product {
    source: Map,
    channels: usize,
    step: usize,
    runs: Vec<Run>,
    grid: Map,
    target: Map,
    target_step: usize,
    phase: (usize, usize),
}

impl Product {
    fn depth(&self) -> usize {
        self.runs.iter().map(|run| run.taps).sum::<usize>() * self.channels
    }

    /// Numbers from one row of patches to the next; columns of this matrix are read too.
    fn stride(&self) -> usize {
        apart(self.depth())
    }

    /// Rows of a strip: its patches should leave half of a second-level cache free.
    fn strip_rows(&self) -> usize {
        (80_000 / self.stride()).clamp(48, 192) / 12 * 12
    }

    fn rows(&self) -> usize {
        self.grid.pixels()
    }

    fn target_pixel(&self, row: usize) -> usize {
        let (x, line) = (row % self.grid.width, row / self.grid.width);
        let (y, image) = (line % self.grid.height, line / self.grid.height);
        let line = image * self.target.height + y * self.target_step + self.phase.0;
        line * self.target.width + x * self.target_step + self.phase.1
    }

    /// Writes the patches of rows `first..` into `patches`, `stride()` numbers apart.
    #[inline(always)]
    fn fill(&self, first: usize, rows: usize, source: Source<'_>, patches: &mut [f32]) {
        let (channels, stride) = (self.channels, self.stride());
        for (row, patch) in patches.chunks_exact_mut(stride).take(rows).enumerate() {
            let row = first + row;
            let (x, line) = (row % self.grid.width, row / self.grid.width);
            let (y, image) = (line % self.grid.height, line / self.grid.height);
            let mut at = 0;
            for run in &self.runs {
                let numbers = run.taps * channels;
                let to = &mut patch[at..at + numbers];
                at += numbers;
                let source_y = (self.step * y) as isize + run.row;
                let source_x = (self.step * x) as isize + run.column;
                if source_y < 0 || source_y >= self.source.height as isize {
                    to.fill(0.0);
                    continue;
                }
                let before = (-source_x).clamp(0, run.taps as isize) as usize;
                let inside = (self.source.width as isize - source_x).clamp(before as isize, run.taps as isize) as usize;
                to[..before * channels].fill(0.0);
                to[inside * channels..].fill(0.0);
                if inside > before {
                    let line = (image * self.source.height + source_y as usize) * self.source.width;
                    let pixel = (line as isize + source_x) as usize + before;
                    source.copy(pixel * channels, channels, &mut to[before * channels..inside * channels]);
                }
            }
        }
    }

    /// The product with `weights`, panels of `(depth, width)` each, into `target`.
    fn multiply<S: Simd>(
        &self,
        simd: S,
        source: Source<'_>,
        weights: &[f32],
        out_channels: usize,
        target: &Target<'_>,
    ) -> ChannelSums {
        let (width, depth, stride, strip) = (panel_width::<S>(), self.depth(), self.stride(), self.strip_rows());
        let strips: Vec<ChannelSums> = (0..self.rows().div_ceil(strip))
            .into_par_iter()
            .map(|index| {
                let first = index * strip;
                let rows = strip.min(self.rows() - first);
                let mut sums = ChannelSums::zero(out_channels);
                with_scratch(strip * (stride + width), |scratch| {
                    let (patches, tile) = scratch.split_at_mut(strip * stride);
                    vectorized!(simd, {
                        self.fill(first, rows, source, patches);
                        for panel in 0..out_channels.div_ceil(width) {
                            let b = (&weights[panel * depth * width..][..depth * width], width);
                            let (a, tile) = (Strided::new(patches, stride, 1), &mut tile[..rows * width]);
                            multiply_panel(simd, (rows, depth), a, b, tile, Update::Set);
                            let columns = width.min(out_channels - panel * width);
                            let at = |row: usize| self.target_pixel(first + row) * out_channels + panel * width;
                            #[allow(unsafe_code)] // strips and panels interleave in the target
                            // SAFETY: every row has its own pixel of the target, every panel its own channels.
                            unsafe {
                                target.put_rows(simd, tile, panel * width, columns, at, &mut sums);
                            }
                        }
                    });
                });
                sums
            })
            .collect();
        ChannelSums::total(out_channels, &strips)
    }

    /// The patches of a convolution's input.
    fn of_input(conv: &Convolution, source: Map) -> Self {
        let (channels, step, padding) = (conv.in_channels, conv.stride, conv.padding as isize);
        let run = |row: usize| Run { row: row as isize - padding, column: -padding, taps: conv.kernel };
        let (runs, target) = ((0..conv.kernel).map(run).collect(), conv.output(source));
        Self { source, channels, step, runs, grid: target, target, target_step: 1, phase: (0, 0) }
    }
}

impl<S: Simd> Algorithm<S> for Gather {
    fn name(&self) -> &'static str {
        "im2col"
    }

    fn forward(&self, problem: &Problem<'_, S>, x: Source<'_>, target: &Target<'_>) -> ChannelSums {
        let &Problem { simd, conv, weights, input, .. } = problem;
        Product::of_input(&conv, input).multiply(simd, x, weights, conv.out_channels, target)
    }

    /// Pixels of the input whose coordinates agree modulo the stride meet the same taps, so that each of these classes
    /// is one product: patches of `dy` times the transposed weights of those taps.
    fn input_gradient(&self, problem: &Problem<'_, S>, dy: Source<'_>, target: &Target<'_>) -> ChannelSums {
        let &Problem { simd, conv, weights, input: map, arena } = problem;
        let Convolution { kernel, stride, padding, .. } = conv;
        // Taps of a row or column that a class meets, by rising place in `dy`, and the first place.
        let meets = |phase: usize| -> (isize, Vec<usize>) {
            let meets = |tap: &usize| (phase + padding + stride - tap % stride).is_multiple_of(stride);
            let taps: Vec<usize> = (0..kernel).rev().filter(meets).collect();
            let place = |&tap: &usize| (phase as isize + padding as isize - tap as isize) / stride as isize;
            (taps.first().map_or(0, place), taps)
        };
        let mut sums = Vec::new();
        for phase in (0..stride * stride).map(|class| (class / stride, class % stride)) {
            let side = |len: usize, phase: usize| (len + stride - 1 - phase) / stride;
            let grid = Map { images: map.images, height: side(map.height, phase.0), width: side(map.width, phase.1) };
            let ((first_row, rows), (first_column, columns)) = (meets(phase.0), meets(phase.1));
            let taps: Vec<usize> =
                rows.iter().flat_map(|row| columns.iter().map(move |column| row * kernel + column)).collect();
            let run = |index: usize| Run { row: first_row + index as isize, column: first_column, taps: columns.len() };
            // A class that meets no tap is a product of no depth: zeros.
            let (source, channels, runs) = (problem.output(), conv.out_channels, (0..rows.len()).map(run).collect());
            let product = Product { source, channels, step: 1, runs, grid, target: map, target_step: stride, phase };
            let padded = conv.in_channels.next_multiple_of(panel_width::<S>());
            let mut transposed = arena.take(padded * taps.len() * conv.out_channels);
            conv.transpose(simd, weights, &taps, &mut transposed);
            sums.push(product.multiply(simd, dy, &transposed, conv.in_channels, target));
            arena.give(transposed);
        }
        ChannelSums::total(conv.in_channels, &sums)
    }

    fn weight_gradient(&self, problem: &Problem<'_, S>, x: Source<'_>, dy: Source<'_>, gradient: &mut [f32]) {
        let &Problem { simd, conv, input, arena, .. } = problem;
        let product = Product::of_input(&conv, input);
        let (width, depth, stride, strip) =
            (panel_width::<S>(), product.depth(), product.stride(), product.strip_rows());
        let (padded, outs) = (gradient.len() / depth, conv.out_channels);
        sum_strips(simd, arena, product.rows().div_ceil(strip), gradient, |index, partial, update| {
            let first = index * strip;
            let rows = strip.min(product.rows() - first);
            with_scratch(strip * (stride + padded), |scratch| {
                let (patches, rows_of_dy) = scratch.split_at_mut(strip * stride);
                vectorized!(simd, {
                    product.fill(first, rows, x, patches);
                    // Columns of the last panel that no channel fills stay 0.
                    for (index, row) in rows_of_dy.chunks_exact_mut(padded).take(rows).enumerate() {
                        let (channels, rest) = row.split_at_mut(outs);
                        dy.copy((first + index) * outs, outs, channels);
                        rest.fill(0.0);
                    }
                    for (panel, partial) in partial.chunks_exact_mut(depth * width).enumerate() {
                        let a = Strided::new(patches, 1, stride);
                        let b = (&rows_of_dy[panel * width..], padded);
                        multiply_panel(simd, (depth, rows), a, b, partial, update);
                    }
                });
            });
        });
    }
}

/// `sum` becomes the sum over all strips, which `strip` sets or adds by their number. Strips go to parts, of a fixed number
/// for any number of threads, which are added in their order.
pub(crate) fn sum_strips<S: Simd>(
    simd: S,
    arena: &Arena,
    strips: usize,
    sum: &mut [f32],
    strip: impl Fn(usize, &mut [f32], Update) + Sync,
) {
    const PARTS: usize = 8;
    const PIECE: usize = 1 << 14;
    let (len, parts) = (sum.len(), PARTS.min(strips));
    let mut partial = arena.take(parts * len);
    partial.par_chunks_mut(len).enumerate().for_each(|(part, partial)| {
        let own = strips * part / parts..strips * (part + 1) / parts;
        for index in own.clone() {
            strip(index, partial, if index > own.start { Update::Add } else { Update::Set });
        }
    });
    sum.par_chunks_mut(PIECE).enumerate().for_each(|(index, sum)| {
        vectorized!(simd, {
            for (part, partial) in partial.chunks_exact(len).enumerate() {
                let from = &partial[index * PIECE..][..sum.len()];
                if part == 0 {
                    sum.copy_from_slice(from);
                } else {
                    sum.iter_mut().zip(from).for_each(|(sum, from)| *sum += from);
                }
            }
        });
    });
    arena.give(partial);
}
