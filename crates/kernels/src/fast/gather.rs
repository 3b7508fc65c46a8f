//! Convolutions as matrix products over gathered patches (im2col), for every kernel, stride and map.
//!
//! The forward pass and the gradient of the input are the same operation, [`Gather`]: rows of patches times panels,
//! scattered to a regular grid of the target. Patches of one strip of pixels live in a thread's scratch memory, never in
//! whole.

use super::arena::{Arena, with_scratch};
use super::conv::{Convolution, Input, Map};
use super::gemm::{Strided, apart, multiply_panel, panel_width};
use super::norm::ChannelSums;
use super::read::Source;
use super::simd::vectorize;
use super::write::Target;
use pulp::Simd;
use rayon::prelude::*;

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
struct Gather {
    source: Map,
    channels: usize,
    step: usize,
    runs: Vec<Run>,
    grid: Map,
    target: Map,
    target_step: usize,
    phase: (usize, usize),
}

impl Gather {
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
        (image * self.target.height + y * self.target_step + self.phase.0) * self.target.width
            + x * self.target_step
            + self.phase.1
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
                let inside = (self.source.width as isize - source_x).clamp(before as isize, run.taps as isize)
                    as usize;
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
        let (width, depth, stride, strip) =
            (panel_width::<S>(), self.depth(), self.stride(), self.strip_rows());
        let strips: Vec<ChannelSums> = (0..self.rows().div_ceil(strip))
            .into_par_iter()
            .map(|index| {
                let first = index * strip;
                let rows = strip.min(self.rows() - first);
                let mut sums = ChannelSums::zero(out_channels);
                with_scratch(strip * (stride + width), |scratch| {
                    let (patches, tile) = scratch.split_at_mut(strip * stride);
                    vectorize(
                        simd,
                        #[inline(always)]
                        || {
                            self.fill(first, rows, source, patches);
                            for panel in 0..out_channels.div_ceil(width) {
                                let weights = &weights[panel * depth * width..][..depth * width];
                                let a = Strided::new(patches.as_ptr(), stride, 1);
                                let c = tile.as_mut_ptr();
                                #[allow(unsafe_code)] // calls the micro-kernel
                                // SAFETY: the scratch holds `strip` rows of `stride` and of `width` numbers, a panel
                                // `depth` rows of `width`.
                                unsafe {
                                    let b = (weights.as_ptr(), width);
                                    multiply_panel(simd, rows, depth, a, b, (c, width), false);
                                }
                                let columns = width.min(out_channels - panel * width);
                                let at = |row: usize| {
                                    self.target_pixel(first + row) * out_channels + panel * width
                                };
                                let tile = &tile[..rows * width];
                                #[allow(unsafe_code)] // strips and panels interleave in the target
                                // SAFETY: every row has its own pixel of the target, every panel its own channels.
                                unsafe {
                                    target.put_rows(simd, tile, panel * width, columns, at, &mut sums);
                                }
                            }
                        },
                    );
                });
                sums
            })
            .collect();
        ChannelSums::total(out_channels, &strips)
    }
}

impl Convolution {
    fn forward_gather(&self, map: Map) -> Gather {
        let padding = self.padding as isize;
        let run = |row: usize| Run { row: row as isize - padding, column: -padding, taps: self.kernel };
        let target = self.output(map);
        Gather {
            source: map,
            channels: self.in_channels,
            step: self.stride,
            runs: (0..self.kernel).map(run).collect(),
            grid: target,
            target,
            target_step: 1,
            phase: (0, 0),
        }
    }

    pub(crate) fn gather_forward<S: Simd>(
        &self,
        simd: S,
        input: Input<'_>,
        weights: &[f32],
        target: &Target<'_>,
    ) -> ChannelSums {
        self.forward_gather(input.map).multiply(simd, input.source, weights, self.out_channels, target)
    }

    /// Pixels of the input whose coordinates agree modulo the stride meet the same taps, so that each of these classes
    /// is one product: patches of `dy` times the transposed weights of those taps.
    pub(crate) fn gather_input_gradient<S: Simd>(
        &self,
        simd: S,
        map: Map,
        dy: Source<'_>,
        weights: &[f32],
        target: &Target<'_>,
        arena: &Arena,
    ) -> ChannelSums {
        let (output, stride) = (self.output(map), self.stride);
        // Taps of a row or column that a class meets, by rising place in `dy`, and the first place.
        let meets = |phase: usize| -> (isize, Vec<usize>) {
            let taps: Vec<usize> = (0..self.kernel)
                .rev()
                .filter(|tap| (phase + self.padding + stride - tap % stride).is_multiple_of(stride))
                .collect();
            let first = taps
                .first()
                .map_or(0, |&tap| (phase as isize + self.padding as isize - tap as isize) / stride as isize);
            (first, taps)
        };
        let mut sums = Vec::new();
        for phase in (0..stride * stride).map(|class| (class / stride, class % stride)) {
            let side = |len: usize, phase: usize| (len + stride - 1 - phase) / stride;
            let grid = Map {
                images: map.images,
                height: side(map.height, phase.0),
                width: side(map.width, phase.1),
            };
            let ((first_row, rows), (first_column, columns)) = (meets(phase.0), meets(phase.1));
            let taps: Vec<usize> = rows
                .iter()
                .flat_map(|row| columns.iter().map(move |column| row * self.kernel + column))
                .collect();
            let run = |index: usize| Run {
                row: first_row + index as isize,
                column: first_column,
                taps: columns.len(),
            };
            // A class that meets no tap is a product of no depth: zeros.
            let gather = Gather {
                source: output,
                channels: self.out_channels,
                step: 1,
                runs: (0..rows.len()).map(run).collect(),
                grid,
                target: map,
                target_step: stride,
                phase,
            };
            let mut transposed = arena.take(self.transposed_len::<S>(taps.len()));
            self.transpose(simd, weights, &taps, &mut transposed);
            sums.push(gather.multiply(simd, dy, &transposed, self.in_channels, target));
            arena.give(transposed);
        }
        ChannelSums::total(self.in_channels, &sums)
    }

    pub(crate) fn gather_weight_gradient<S: Simd>(
        &self,
        simd: S,
        input: Input<'_>,
        dy: Source<'_>,
        gradient: &mut [f32],
        arena: &Arena,
    ) {
        /// Partial sums, of a fixed number for any number of threads.
        const PARTS: usize = 8;
        let gather = self.forward_gather(input.map);
        let (width, depth, stride, strip) =
            (panel_width::<S>(), gather.depth(), gather.stride(), gather.strip_rows());
        let (len, outs) = (gradient.len(), self.out_channels);
        let padded = len / depth;
        let strips = gather.rows().div_ceil(strip);
        let parts = PARTS.min(strips);
        let mut partial = arena.take(parts * len);
        partial.par_chunks_mut(len).enumerate().for_each(|(part, partial)| {
            let strips = strips * part / parts..strips * (part + 1) / parts;
            for index in strips.clone() {
                let first = index * strip;
                let rows = strip.min(gather.rows() - first);
                with_scratch(strip * (stride + padded), |scratch| {
                    let (patches, rows_of_dy) = scratch.split_at_mut(strip * stride);
                    vectorize(
                        simd,
                        #[inline(always)]
                        || {
                            gather.fill(first, rows, input.source, patches);
                            // Columns of the last panel that no channel fills stay 0.
                            for (index, padded_row) in
                                rows_of_dy.chunks_exact_mut(padded).take(rows).enumerate()
                            {
                                let (channels, rest) = padded_row.split_at_mut(outs);
                                dy.copy((first + index) * outs, outs, channels);
                                rest.fill(0.0);
                            }
                            for (panel, partial) in partial.chunks_exact_mut(depth * width).enumerate() {
                                let a = Strided::new(patches.as_ptr(), 1, stride);
                                let b = rows_of_dy[panel * width..].as_ptr();
                                #[allow(unsafe_code)] // calls the micro-kernel
                                // SAFETY: the scratch holds `strip` rows of `stride` and of `padded` numbers, a panel
                                // `depth` rows of `width`.
                                unsafe {
                                    let c = (partial.as_mut_ptr(), width);
                                    multiply_panel(
                                        simd,
                                        depth,
                                        rows,
                                        a,
                                        (b, padded),
                                        c,
                                        index > strips.start,
                                    );
                                }
                            }
                        },
                    );
                });
            }
        });
        sum_parts(simd, &partial, gradient);
        arena.give(partial);
    }
}

/// `sum` becomes the sum of `parts`, which lie one after the other, in their order.
pub(crate) fn sum_parts<S: Simd>(simd: S, parts: &[f32], sum: &mut [f32]) {
    const PIECE: usize = 1 << 14;
    let len = sum.len();
    sum.par_chunks_mut(PIECE).enumerate().for_each(|(index, sum)| {
        vectorize(
            simd,
            #[inline(always)]
            || {
                for (part, parts) in parts.chunks_exact(len).enumerate() {
                    let from = &parts[index * PIECE..][..sum.len()];
                    if part == 0 {
                        sum.copy_from_slice(from);
                    } else {
                        sum.iter_mut().zip(from).for_each(|(sum, from)| *sum += from);
                    }
                }
            },
        );
    });
}
