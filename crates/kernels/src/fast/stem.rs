//! The stem: pixels to normalised images, and the convolution over them.
//!
//! Images have three channels, too few for vectors over channels, and a kernel of 7x7 overlaps itself so much that
//! gathered patches would be twelve times the image. Over images with their padding written out, the part of a patch
//! that belongs to one row of the kernel is contiguous, and the next pixel's lies a fixed distance further: the matrix
//! product reads patches where they are, one *segment* for each row of the kernel.

use super::arena::{Arena, with_scratch};
use super::gather::sum_strips;
use super::gemm::{Strided, Update, multiply_panel, panel_width};
use super::norm::ChannelSums;
use super::pool::PooledGradient;
use super::shape::{Convolution, Map};
use super::simd::vectorized;
use super::write::Target;
use crate::ImageBatch;
use crate::resnet::{DEVIATION, MEAN};
use pulp::Simd;
use rayon::prelude::*;

/// Channels of an image.
const CHANNELS: usize = 3;
/// Output pixels of a strip of the weights' gradient, about.
const STRIP_PIXELS: usize = 256;

/// Normalised images with a border of zeros, `(image, row, column, channel)`.
pub(crate) struct Padded {
    pub(crate) values: Vec<f32>,
    /// Extent without the border.
    pub(crate) map: Map,
    padding: usize,
}

impl Padded {
    /// `(pixel / 255 - mean) / deviation`.
    pub(crate) fn new<S: Simd>(simd: S, images: &ImageBatch, padding: usize, arena: &Arena) -> Self {
        let scale = DEVIATION.map(|deviation| 1.0 / (255.0 * deviation));
        let shift: [f32; CHANNELS] = std::array::from_fn(|channel| -MEAN[channel] / DEVIATION[channel]);
        let (size, map) = (images.size_px(), Map::of(images));
        let side = size + 2 * padding;
        let mut values = arena.take(images.count() * side * side * CHANNELS);
        values.par_chunks_mut(side * CHANNELS).enumerate().for_each(|(index, row)| {
            let (image, y) = (index / side, (index % side).wrapping_sub(padding));
            if y >= size {
                row.fill(0.0);
                return;
            }
            let (left, rest) = row.split_at_mut(padding * CHANNELS);
            let (inside, right) = rest.split_at_mut(size * CHANNELS);
            left.fill(0.0);
            right.fill(0.0);
            let pixels = &images.pixels()[(image * size + y) * size * CHANNELS..][..size * CHANNELS];
            vectorized!(simd, {
                let pixels = pixels.chunks_exact(CHANNELS);
                for (value, pixel) in inside.chunks_exact_mut(CHANNELS).zip(pixels) {
                    for channel in 0..CHANNELS {
                        value[channel] = f32::from(pixel[channel]) * scale[channel] + shift[channel];
                    }
                }
            });
        });
        Self { values, map, padding }
    }

    /// Numbers of a row.
    fn row(&self) -> usize {
        (self.map.width + 2 * self.padding) * CHANNELS
    }

    /// From the first number of the window of output row `y` on.
    fn window(&self, image: usize, y: usize) -> &[f32] {
        &self.values[(image * (self.map.height + 2 * self.padding) + y) * self.row()..]
    }

    /// Their convolution into `target`, and the target's sums.
    pub(crate) fn convolve<S: Simd>(
        &self,
        simd: S,
        conv: &Convolution,
        weights: &[f32],
        target: &Target<'_>,
    ) -> ChannelSums {
        assert_eq!((conv.in_channels, conv.padding), (CHANNELS, self.padding));
        let output = conv.output(self.map);
        let (width, outs, segment) = (panel_width::<S>(), conv.out_channels, conv.kernel * CHANNELS);
        let depth = conv.kernel * segment;
        let rows = output.images * output.height;
        let strip = (STRIP_PIXELS / output.width).max(1);
        let parts: Vec<ChannelSums> = (0..rows.div_ceil(strip))
            .into_par_iter()
            .map(|index| {
                let mut sums = ChannelSums::zero(outs);
                with_scratch(output.width * width, |tile| {
                    for row in index * strip..rows.min((index + 1) * strip) {
                        let a = Strided {
                            values: self.window(row / output.height, row % output.height * conv.stride),
                            row: conv.stride * CHANNELS,
                            column: 1,
                            segment: self.row(),
                            segments: conv.kernel,
                        };
                        vectorized!(simd, {
                            for panel in 0..outs.div_ceil(width) {
                                let b = (&weights[panel * depth * width..][..depth * width], width);
                                multiply_panel(simd, (output.width, segment), a, b, tile, Update::Set);
                                let columns = width.min(outs - panel * width);
                                let at = |x: usize| (row * output.width + x) * outs + panel * width;
                                #[allow(unsafe_code)] // panels interleave in the target
                                // SAFETY: every row and every panel has its own numbers.
                                unsafe {
                                    target.put_rows(simd, tile, panel * width, columns, at, &mut sums);
                                }
                            }
                        });
                    }
                });
                sums
            })
            .collect();
        ChannelSums::total(outs, &parts)
    }

    /// The gradient of the weights, in panels.
    pub(crate) fn weight_gradient<S: Simd>(
        &self,
        simd: S,
        conv: &Convolution,
        dy: &PooledGradient<'_>,
        gradient: &mut [f32],
        arena: &Arena,
    ) {
        let output = conv.output(self.map);
        let (width, segment) = (panel_width::<S>(), conv.kernel * CHANNELS);
        let padded = gradient.len() / (conv.kernel * segment);
        let strip = (STRIP_PIXELS / output.width).clamp(1, output.height);
        let strips_of_image = output.height.div_ceil(strip);
        sum_strips(simd, arena, output.images * strips_of_image, gradient, |index, partial, update| {
            let (image, y) = (index / strips_of_image, index % strips_of_image * strip);
            let rows = strip.min(output.height - y);
            with_scratch(rows * output.width * padded, |dz| {
                vectorized!(simd, {
                    for (row, dz) in dz.chunks_exact_mut(output.width * padded).enumerate() {
                        dy.row(image, y + row, padded, dz);
                    }
                    // A panel's segments of `(segment, width)`, one for each row of the kernel.
                    for (index, sum) in partial.chunks_exact_mut(segment * width).enumerate() {
                        let (panel, kernel_row) = (index / conv.kernel, index % conv.kernel);
                        let a = Strided {
                            values: self.window(image, y * conv.stride + kernel_row),
                            row: 1,
                            column: conv.stride * CHANNELS,
                            segment: conv.stride * self.row(),
                            segments: rows,
                        };
                        let b = (&dz[panel * width..], padded);
                        multiply_panel(simd, (segment, output.width), a, b, sum, update);
                    }
                });
            });
        });
    }
}
