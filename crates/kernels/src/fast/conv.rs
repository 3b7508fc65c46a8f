//! Convolutions in NHWC as matrix products over gathered patches (im2col), for every kernel, stride and map.
//!
//! Weights are kept in *panels* `(out / width, tap, in, width)`, zero-padded to whole panels of two vectors: the layout
//! that the matrix product streams, and the layout in which the gradient of the weights comes out of one. The forward
//! pass and the gradient of the input are the same operation, [`Gather`]: rows of patches times panels, scattered to a
//! regular grid of the target. Patches of one strip of pixels live in a thread's scratch memory, never in whole.

use super::arena::{Arena, Shared, with_scratch};
use super::gemm::{Strided, multiply_panel, panels};
use super::norm::{Affine, ChannelSums, relu};
use super::simd::{panel_width, vectorize};
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

/// A map, and what turns it into the convolution's input while it is read.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) map: Map,
    pub(crate) values: &'a [f32],
    /// The input is `relu(values * scale + shift)`.
    pub(crate) affine: Option<&'a Affine>,
}

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

    /// Numbers from one row of patches to the next: whole cache lines, an odd number of them, because columns of this
    /// matrix are read too.
    fn stride(&self) -> usize {
        (self.depth().div_ceil(16) | 1) * 16
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
    fn fill(&self, first: usize, rows: usize, input: Input<'_>, patches: &mut [f32]) {
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
                    let start = (line as isize + source_x) as usize + before;
                    let to = &mut to[before * channels..inside * channels];
                    let from = &input.values[start * channels..][..to.len()];
                    match input.affine {
                        None => to.copy_from_slice(from),
                        Some(affine) => normalize(from, affine, to),
                    }
                }
            }
        }
    }

    /// The product with `weights`, panels of `(depth, width)` each, stored to or added to `y`; with the sums of what is
    /// stored and of its squares on request.
    fn multiply<S: Simd>(
        &self,
        simd: S,
        input: Input<'_>,
        weights: &[f32],
        out_channels: usize,
        add: bool,
        y: Shared<'_>,
        with_sums: bool,
    ) -> Option<ChannelSums> {
        let (width, depth, stride, strip) =
            (panel_width::<S>(), self.depth(), self.stride(), self.strip_rows());
        let strips: Vec<Option<ChannelSums>> = (0..self.rows().div_ceil(strip))
            .into_par_iter()
            .map(|index| {
                let first = index * strip;
                let rows = strip.min(self.rows() - first);
                with_scratch(strip * (stride + width), |scratch| {
                    let (patches, tile) = scratch.split_at_mut(strip * stride);
                    vectorize(
                        simd,
                        #[inline(always)]
                        || {
                            self.fill(first, rows, input, patches);
                            let mut sums = with_sums.then(|| ChannelSums::zero(out_channels));
                            for (panel, weights) in weights.chunks_exact(depth * width).enumerate() {
                                let a = Strided { start: patches.as_ptr(), row: stride, column: 1 };
                                let c = tile.as_mut_ptr();
                                // SAFETY: the scratch holds `strip` rows of `stride` and of `width` numbers, a panel
                                // `depth` rows of `width`.
                                #[allow(unsafe_code)] // calls the micro-kernel
                                unsafe {
                                    let b = (weights.as_ptr(), width);
                                    multiply_panel(simd, rows, depth, a, b, (c, width), false);
                                }
                                let columns = width.min(out_channels - panel * width);
                                let (mut sum, mut square) = ([0.0; 64], [0.0; 64]);
                                for row in 0..rows {
                                    let at = self.target_pixel(first + row) * out_channels + panel * width;
                                    // SAFETY: every row has its own pixel of the target, every panel its own channels.
                                    #[allow(unsafe_code)] // strips and panels interleave in the target
                                    let to = unsafe { y.part(at, columns) };
                                    let from = &tile[row * width..][..columns];
                                    if add {
                                        to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                                    } else {
                                        to.copy_from_slice(from);
                                    }
                                    if with_sums {
                                        for (c, from) in from.iter().enumerate() {
                                            sum[c] += from;
                                            square[c] += from * from;
                                        }
                                    }
                                }
                                if let Some(sums) = &mut sums {
                                    let range = panel * width..panel * width + columns;
                                    for (c, channel) in range.enumerate() {
                                        sums.first[channel] += f64::from(sum[c]);
                                        sums.second[channel] += f64::from(square[c]);
                                    }
                                }
                            }
                            sums
                        },
                    )
                })
            })
            .collect();
        let strips: Option<Vec<ChannelSums>> = strips.into_iter().collect();
        strips.filter(|_| with_sums).map(|strips| ChannelSums::total(out_channels, &strips))
    }
}

/// `to = relu(from * scale + shift)` over whole pixels.
#[inline(always)]
fn normalize(from: &[f32], affine: &Affine, to: &mut [f32]) {
    let channels = affine.scale.len();
    let (scale, shift) = (&affine.scale[..channels], &affine.shift[..channels]);
    for (to, from) in to.chunks_exact_mut(channels).zip(from.chunks_exact(channels)) {
        for c in 0..channels {
            to[c] = relu(from[c] * scale[c] + shift[c]);
        }
    }
}

impl Convolution {
    pub(crate) fn output(&self, input: Map) -> Map {
        let side = |len: usize| (len + 2 * self.padding - self.kernel) / self.stride + 1;
        Map { images: input.images, height: side(input.height), width: side(input.width) }
    }

    fn taps(&self) -> usize {
        self.kernel * self.kernel
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

    /// `y = x * w`; with the sums of `y` and `y^2` on request.
    pub(crate) fn forward<S: Simd>(
        &self,
        simd: S,
        input: Input<'_>,
        weights: &[f32],
        y: &mut [f32],
        with_sums: bool,
    ) -> Option<ChannelSums> {
        let gather = self.forward_gather(input.map);
        gather.multiply(simd, input, weights, self.out_channels, false, Shared::new(y), with_sums)
    }

    /// The gradient of the input, stored to or added to `dx`, from the output's gradient `dy`.
    ///
    /// Pixels of the input whose coordinates agree modulo the stride meet the same taps, so that each of these classes
    /// is one product: patches of `dy` times the transposed weights of those taps.
    pub(crate) fn input_gradient<S: Simd>(
        &self,
        simd: S,
        map: Map,
        dy: &[f32],
        weights: &[f32],
        add: bool,
        dx: &mut [f32],
        arena: &Arena,
    ) {
        let (output, stride) = (self.output(map), self.stride);
        let input = Input { map: output, values: dy, affine: None };
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
            if grid.pixels() == 0 || (taps.is_empty() && add) {
                continue;
            }
            let run = |index: usize| Run {
                row: first_row + index as isize,
                column: first_column,
                taps: columns.len(),
            };
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
            if taps.is_empty() {
                for row in 0..gather.rows() {
                    dx[gather.target_pixel(row) * self.in_channels..][..self.in_channels].fill(0.0);
                }
                continue;
            }
            let transposed_len = panels::<S>(self.in_channels) * panel_width::<S>() * gather.depth();
            let mut transposed = arena.take(transposed_len);
            self.transpose::<S>(simd, weights, &taps, &mut transposed);
            gather.multiply(simd, input, &transposed, self.in_channels, add, Shared::new(dx), false);
            arena.give(transposed);
        }
    }

    /// The weights of `taps` as panels `(in / width, tap, out, width)`.
    fn transpose<S: Simd>(&self, simd: S, weights: &[f32], taps: &[usize], transposed: &mut [f32]) {
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

    /// The gradient of the weights, in panels.
    pub(crate) fn weight_gradient<S: Simd>(
        &self,
        simd: S,
        input: Input<'_>,
        dy: &[f32],
        gradient: &mut [f32],
        arena: &Arena,
    ) {
        /// Partial sums, of a fixed number for any number of threads.
        const PARTS: usize = 8;
        let gather = self.forward_gather(input.map);
        let (width, depth, stride, strip) =
            (panel_width::<S>(), gather.depth(), gather.stride(), gather.strip_rows());
        let (len, outs) = (gradient.len(), self.out_channels);
        let strips = gather.rows().div_ceil(strip);
        let parts = PARTS.min(strips);
        let mut partial = arena.take(parts * len);
        partial.par_chunks_mut(len).enumerate().for_each(|(part, partial)| {
            let strips = strips * part / parts..strips * (part + 1) / parts;
            for index in strips.clone() {
                let first = index * strip;
                let rows = strip.min(gather.rows() - first);
                with_scratch(strip * (stride + width), |scratch| {
                    let (patches, tile) = scratch.split_at_mut(strip * stride);
                    vectorize(
                        simd,
                        #[inline(always)]
                        || {
                            gather.fill(first, rows, input, patches);
                            for (panel, partial) in partial.chunks_exact_mut(depth * width).enumerate() {
                                let columns = width.min(outs - panel * width);
                                for row in 0..rows {
                                    let (to, rest) = tile[row * width..][..width].split_at_mut(columns);
                                    to.copy_from_slice(
                                        &dy[(first + row) * outs + panel * width..][..columns],
                                    );
                                    rest.fill(0.0);
                                }
                                let a = Strided { start: patches.as_ptr(), row: 1, column: stride };
                                // SAFETY: the scratch holds `strip` rows of `stride` and of `width` numbers, a panel
                                // `depth` rows of `width`.
                                #[allow(unsafe_code)] // calls the micro-kernel
                                unsafe {
                                    let (b, c) = ((tile.as_ptr(), width), (partial.as_mut_ptr(), width));
                                    multiply_panel(simd, depth, rows, a, b, c, index > strips.start);
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
