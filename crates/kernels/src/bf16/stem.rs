//! The images as the stem's convolution reads them, and the max-pooling behind it, 3x3 with stride 2 and padding 1.
//!
//! A line of an image is `(column, channel)`, one row each, with its padding: the part of a window that belongs to a line of the kernel is
//! contiguous, and is a tap of [`super::kernels::Blocks`].

use super::map::Windows;
use super::number::{LANES, Row, lanes, pair_columns, pair_rows};
use super::passes::gradient_square;
use crate::ImageBatch;
use crate::fast::arena::Arena;
use crate::fast::norm::{Affine, Backward};
use crate::fast::pool::{NOWHERE, window};
use crate::fast::simd::vectorized;
use crate::resnet::{Convolution, DEVIATION, MEAN, Map};
use pulp::Simd;
use rayon::prelude::*;

/// Channels of an image.
const CHANNELS: usize = 3;

/// Normalised images with a border of zeros, `(group, line, column, channel)`.
pub(crate) struct Images {
    pub(crate) plain: Vec<Row>,
    /// In pairs of rows.
    pub(crate) pairs: Vec<Row>,
    /// Extent without the border.
    pub(crate) map: Map,
    pub(crate) windows: Windows,
}

impl Images {
    /// `(pixel / 255 - mean) / deviation`.
    pub(crate) fn new<S: Simd>(simd: S, images: &ImageBatch, conv: &Convolution, arena: &Arena<Row>) -> Self {
        let (size, map, padding) = (images.size_px(), Map::of(images), conv.padding);
        let step = conv.stride * CHANNELS;
        assert!(conv.in_channels == CHANNELS && step.is_multiple_of(2), "windows begin at pairs of rows");
        // The last window of a line reads a whole square.
        let line = ((conv.output(map).width - 1) * step + LANES).max((size + 2 * padding) * CHANNELS);
        let line = line.next_multiple_of(LANES);
        let lines = size + 2 * padding;
        let scale = DEVIATION.map(|deviation| 1.0 / (255.0 * deviation));
        let shift: [f32; CHANNELS] = std::array::from_fn(|channel| -MEAN[channel] / DEVIATION[channel]);
        let [mut plain, mut pairs] = [(); 2].map(|()| arena.take(map.groups() * lines * line));
        let rows = plain.par_chunks_mut(line).zip(pairs.par_chunks_mut(line));
        rows.enumerate().for_each(|(index, (plain, pairs))| {
            let (group, y) = (index / lines, (index % lines).wrapping_sub(padding));
            plain.fill(Row::default());
            if y >= size {
                pairs.fill(Row::default());
                return;
            }
            let (of_image, used) = (size * size * CHANNELS, map.lanes(group));
            let of_group = &images.pixels()[group * LANES * of_image..][..used * of_image];
            vectorized!(simd, {
                for (at, to) in plain[padding * CHANNELS..][..size * CHANNELS].iter_mut().enumerate() {
                    let mut bytes = [0_u8; LANES];
                    for (byte, image) in bytes.iter_mut().zip(of_group.chunks_exact(of_image)) {
                        *byte = image[y * size * CHANNELS + at];
                    }
                    let (scale, shift) = (scale[at % CHANNELS], shift[at % CHANNELS]);
                    *to = Row::rounded(&lanes(
                        |lane| {
                            if lane < used { f32::from(bytes[lane]) * scale + shift } else { 0.0 }
                        },
                    ));
                }
                let squares = plain.as_chunks::<LANES>().0.iter().zip(pairs.as_chunks_mut::<LANES>().0);
                squares.for_each(|(plain, pairs)| pair_rows(plain, pairs));
            });
        });
        let windows = Windows::of_stem(conv, map, line);
        Self { plain, pairs, map, windows }
    }
}

/// What max-pooling keeps of a map: for every channel of every pixel the maximum of `relu(z * scale + shift)` over the
/// window, the `z` that it comes from, and where that lies (3 row + column, the first of equal ones as in PyTorch).
pub(crate) struct MaxPooled {
    pub(crate) plain: Vec<Row>,
    pub(crate) pairs: Vec<Row>,
    pub(crate) z: Vec<Row>,
    pub(crate) places: Vec<u8>,
}

impl MaxPooled {
    /// Of the map `z` of extent `map`.
    pub(crate) fn new<S: Simd>(
        simd: S,
        map: Map,
        z: &[Row],
        affine: &Affine,
        (rows, bytes): (&Arena<Row>, &Arena<u8>),
    ) -> Self {
        let (small, channels) = (map.pooled(), affine.scale.len());
        let len = small.rows(channels);
        let [plain, pairs, picked] = [(); 3].map(|()| rows.take(len));
        let mut pooled = Self { plain, pairs, z: picked, places: bytes.take(len * LANES) };
        let line = small.width * LANES;
        let lines = pooled.plain.par_chunks_mut(line).zip(pooled.pairs.par_chunks_mut(line));
        let lines = lines.zip(pooled.z.par_chunks_mut(line)).zip(pooled.places.par_chunks_mut(line * LANES));
        lines.enumerate().for_each(|(index, (((plain, pairs), picked), places))| {
            let (block, y) = (index / small.height, index % small.height);
            let channel = block * LANES % channels;
            let z = &z[block * map.area() * LANES..][..map.area() * LANES];
            vectorized!(simd, {
                for (at, ((plain, picked), places)) in
                    plain.iter_mut().zip(picked.iter_mut()).zip(places.as_chunks_mut::<LANES>().0).enumerate()
                {
                    let (x, row) = (at / LANES, at % LANES);
                    let (scale, shift) = (affine.scale[channel + row], affine.shift[channel + row]);
                    // All in 32 bits, so that vectors of them have as many lanes.
                    let [mut best, mut best_z] = [[0.0; LANES]; 2];
                    let mut place = [u32::from(NOWHERE); LANES];
                    let (lines, columns) = (window(y, map.height), window(x, map.width));
                    for line in lines.0..lines.1 {
                        for column in columns.0..columns.1 {
                            let numbers = z[(line * map.width + column) * LANES + row].widened();
                            let number = (3 * (line + 1 - 2 * y) + (column + 1 - 2 * x)) as u32;
                            for lane in 0..LANES {
                                let value = numbers[lane] * scale + shift;
                                // NaN is not less than or equal to anything, so it is taken, and found later.
                                let stays = value <= best[lane];
                                best[lane] = if stays { best[lane] } else { value };
                                best_z[lane] = if stays { best_z[lane] } else { numbers[lane] };
                                place[lane] = if stays { place[lane] } else { number };
                            }
                        }
                    }
                    *plain = Row::rounded(&best);
                    *picked = Row(lanes(|lane| (best_z[lane].to_bits() >> 16) as u16));
                    *places = lanes(|lane| place[lane] as u8);
                }
                let squares = plain.as_chunks::<LANES>().0.iter().zip(pairs.as_chunks_mut::<LANES>().0);
                squares.for_each(|(plain, pairs)| pair_rows(plain, pairs));
            });
        });
        pooled
    }

    /// The gradient of the pooled map's input in front of its batch norm, in pairs of images: each number of `g` at its place, then `k1 g + k2 z + k3`.
    pub(crate) fn gradient<S: Simd>(
        &self,
        simd: S,
        map: Map,
        (g, z): (&[Row], &[Row]),
        backward: &Backward,
        images: &mut [Row],
    ) {
        let (small, places) = (map.pooled(), self.places.as_chunks::<LANES>().0);
        // Windows that cover a line or column: the one it is in the middle of or begins, and the one it ends.
        let covering = |at: usize, len: usize| at / 2..(at / 2 + 1 + at % 2).min(len);
        images.par_chunks_mut(map.width * LANES).enumerate().for_each(|(index, images)| {
            let (block, y) = (index / map.height, index % map.height);
            vectorized!(simd, {
                for (x, images) in images.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                    let at = (index * map.width + x) * LANES;
                    let of_row = |row: usize| {
                        let mut sum = [0.0; LANES];
                        for line in covering(y, small.height) {
                            for column in covering(x, small.width) {
                                let at = ((block * small.height + line) * small.width + column) * LANES + row;
                                let place = (3 * (y + 1 - 2 * line) + (x + 1 - 2 * column)) as u32;
                                let (g, places) = (g[at].widened(), &places[at]);
                                for lane in 0..LANES {
                                    sum[lane] += if u32::from(places[lane]) == place { g[lane] } else { 0.0 };
                                }
                            }
                        }
                        sum
                    };
                    pair_columns(simd, &gradient_square(map, at, backward, of_row, z), images);
                }
            });
        });
    }
}
