//! How maps and kernels lie in memory, and which squares a convolution multiplies.
//!
//! ```text
//! map      (group of 32 images, block of 32 channels, pixel, channel, image)   one square a pixel of a group and block
//! kernels  (block of outputs, tap, block of inputs, output, input)            one square a tap and two blocks
//! ```
//!
//! With images innermost a pixel's window needs no padding and no copy, whatever the extent of the map: taps outside are left out. Images that fill up
//! the last group are 0 in outputs of convolutions and in gradients, which are summed over images, and any number in activations.

use super::number::{LANES, Row};
use crate::resnet::{Convolution, Map};

impl Map {
    /// Groups of images.
    pub(crate) fn groups(&self) -> usize {
        self.images.div_ceil(LANES)
    }

    /// Pixels of an image.
    pub(crate) fn area(&self) -> usize {
        self.height * self.width
    }

    /// Rows of a map with so many channels.
    pub(crate) fn rows(&self, channels: usize) -> usize {
        self.groups() * self.area() * channels
    }

    /// Images of a group.
    pub(crate) fn lanes(&self, group: usize) -> usize {
        LANES.min(self.images - group * LANES)
    }
}

/// For every pixel of a result the taps that meet something, with what they meet.
pub(crate) struct Windows {
    /// Taps and rows of the map behind the first of its group and block, pixel after pixel of the result.
    met: Vec<(u32, u32)>,
    /// Where each pixel's begin, and the end.
    starts: Vec<usize>,
    pub(crate) taps: usize,
    /// Rows of the map that belong to a group and block.
    pub(crate) rows: usize,
}

impl Windows {
    fn new(taps: usize, rows: usize, result: Map, mut meets: impl FnMut([usize; 2], &mut Vec<(u32, u32)>)) -> Self {
        let (mut met, mut starts) = (Vec::with_capacity(taps * result.area()), vec![0]);
        for y in 0..result.height {
            for x in 0..result.width {
                meets([y, x], &mut met);
                starts.push(met.len());
            }
        }
        Self { met, starts, taps, rows }
    }

    /// Of the output's pixels over the input `map`.
    pub(crate) fn of_output(conv: &Convolution, map: Map) -> Self {
        let Convolution { kernel, stride, padding, .. } = *conv;
        Self::new(conv.taps(), map.area() * LANES, conv.output(map), |[y, x], met| {
            for tap in 0..kernel * kernel {
                // Underflow wraps to a place outside.
                let row = (y * stride + tap / kernel).wrapping_sub(padding);
                let column = (x * stride + tap % kernel).wrapping_sub(padding);
                if row < map.height && column < map.width {
                    met.push((tap as u32, ((row * map.width + column) * LANES) as u32));
                }
            }
        })
    }

    /// Of the input's pixels over the output: which outputs a pixel has a part in, for its gradient.
    pub(crate) fn of_input(conv: &Convolution, map: Map) -> Self {
        let Convolution { kernel, stride, padding, .. } = *conv;
        let output = conv.output(map);
        let from = |at: usize, tap: usize, len: usize| {
            let shifted = (at + padding).checked_sub(tap)?;
            (shifted.is_multiple_of(stride) && shifted / stride < len).then_some(shifted / stride)
        };
        Self::new(conv.taps(), output.area() * LANES, map, |[y, x], met| {
            for tap in 0..kernel * kernel {
                let (row, column) = (from(y, tap / kernel, output.height), from(x, tap % kernel, output.width));
                if let (Some(row), Some(column)) = (row, column) {
                    met.push((tap as u32, ((row * output.width + column) * LANES) as u32));
                }
            }
        })
    }

    /// Of the stem's outputs over images whose lines are `line` rows long and begin with their padding: a tap is a whole line of the kernel.
    pub(crate) fn of_stem(conv: &Convolution, map: Map, line: usize) -> Self {
        let Convolution { in_channels, kernel, stride, padding, .. } = *conv;
        Self::new(kernel, (map.height + 2 * padding) * line, conv.output(map), |[y, x], met| {
            met.extend(
                (0..kernel).map(|tap| (tap as u32, ((y * stride + tap) * line + x * stride * in_channels) as u32)),
            );
        })
    }

    /// What the window of a pixel meets: taps, in their order, and places.
    pub(crate) fn of(&self, pixel: usize) -> &[(u32, u32)] {
        &self.met[self.starts[pixel]..self.starts[pixel + 1]]
    }

    /// Pixels of the result.
    pub(crate) fn pixels(&self) -> usize {
        self.starts.len() - 1
    }
}

/// The square that begins at row `at`.
#[inline(always)]
pub(crate) fn square(rows: &[Row], at: usize) -> &super::number::Square {
    rows[at..].first_chunk().expect("a map holds whole squares")
}
