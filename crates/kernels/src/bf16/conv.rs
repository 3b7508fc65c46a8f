//! Convolutions and their gradients, as products of squares read where they lie.
//!
//! | pass | first square | second square | sums |
//! |---|---|---|---|
//! | forward | kernels `(output, input)` | the input, pairs of channels | `(output, image)` of a pixel |
//! | input gradient | kernels `(input, output)` | the output's gradient, pairs of channels | `(input, image)` of a pixel |
//! | weight gradient | the input `(input, image)` | the output's gradient, pairs of images | `(input, output)` of a tap |

use super::engine::{Engine, Product};
use super::kernels::Blocks;
use super::map::{Windows, square};
use super::number::{AREA, LANES, Row, Square, Sums};
use crate::fast::arena::Arena;
use crate::fast::norm::ChannelSums;
use crate::fast::simd::vectorized;
use pulp::Simd;
use rayon::prelude::*;

/// Pixels of a task, at most.
pub(super) const BAND: usize = 16;
/// Pixels that are summed together: their sums, 4 KiB each, stay in the first-level cache until they are finished.
const ABREAST: usize = 4;
/// Squares of kernels that are taken at a time for all pixels abreast: 2 KiB each, beside the sums in the first-level cache.
const AT_ONCE: usize = 8;
/// Output pixels whose products a tap's weights sum before the next tap's turn: their squares stay in the first-level cache.
const PIXELS: usize = 8;
/// Tasks of a weight gradient, about: fixed, so that sums do not depend on the number of threads.
const TASKS: usize = 32;

/// Two sums of each number of a pixel's square over pixels.
pub(crate) struct Totals([Sums; 2]);

impl Totals {
    pub(super) const ZERO: Self = Self([Sums::ZERO, Sums::ZERO]);

    /// Adds a row's numbers, and their products with `others`.
    #[inline(always)]
    pub(crate) fn add(&mut self, row: usize, values: &[f32; LANES], others: &[f32; LANES]) {
        let [first, second] = &mut self.0;
        for lane in 0..LANES {
            first.0[row][lane] += values[lane];
            second.0[row][lane] += values[lane] * others[lane];
        }
    }

    /// Summed over the lanes, in f64: eight sums side by side, then these.
    #[inline(always)]
    pub(super) fn of_channels(&self) -> ChannelSums {
        const PARTS: usize = 8;
        let mut sums = ChannelSums::zero(LANES);
        for (Sums(rows), to) in self.0.iter().zip([&mut sums.first, &mut sums.second]) {
            for (row, to) in rows.iter().zip(to) {
                let mut parts = [0.0_f64; PARTS];
                for numbers in row.as_chunks::<PARTS>().0 {
                    for (part, &number) in parts.iter_mut().zip(numbers) {
                        *part += f64::from(number);
                    }
                }
                for part in parts {
                    *to += part;
                }
            }
        }
        sums
    }
}

/// A pixel whose sums are complete.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Block of channels.
    pub(crate) block: usize,
    /// Row at which its square begins in a map.
    pub(crate) at: usize,
    /// Images of its group.
    pub(crate) lanes: usize,
}

/// What is written for a pixel's sums, to `N` maps.
pub(crate) trait Finish<const N: usize>: Sync {
    /// Writes all rows of the squares `to`.
    fn finish(&self, place: Place, sums: &Sums, to: [&mut Square; N], totals: &mut Totals);
}

/// The squares that a convolution multiplies for its outputs or for its input's gradient.
pub(crate) struct Operands<'a> {
    pub(crate) engine: Engine,
    /// `(block of results, tap, block of sources)`.
    pub(crate) kernels: &'a [Row],
    /// Blocks of the sources.
    pub(crate) blocks: usize,
    /// In pairs of channels.
    pub(crate) source: &'a [Row],
    pub(crate) windows: &'a Windows,
    pub(crate) images: usize,
}

/// All results' squares, finished into `maps`, and the totals, channel by channel.
pub(crate) fn convolve<S: Simd, F: Finish<N>, const N: usize>(
    simd: S,
    operands: &Operands<'_>,
    finish: &F,
    maps: [&mut [Row]; N],
) -> ChannelSums {
    let Operands { engine, kernels, blocks, source, windows, images } = *operands;
    let (pixels, taps) = (windows.pixels(), windows.taps);
    let results = kernels.len() / (LANES * taps * blocks);
    assert_eq!(source.len(), images.div_ceil(LANES) * blocks * windows.rows);
    // As many turns as that takes, and the taps shared out evenly among them.
    let blocks_at_once = blocks.min(AT_ONCE);
    let taps_at_once = taps.div_ceil(taps.div_ceil((AT_ONCE / blocks).max(1)));

    in_bands(simd, (pixels, results, images), finish, maps, |group, result, first_pixel, sums| {
        let from = &source[group * blocks * windows.rows..][..blocks * windows.rows];
        let kernels = &kernels[result * taps * blocks * LANES..][..taps * blocks * LANES];
        let mut products = [Product { first: square(kernels, 0), second: square(from, 0) }; AT_ONCE];
        for first_tap in (0..taps).step_by(taps_at_once) {
            let now = first_tap as u32..(first_tap + taps_at_once) as u32;
            for first_block in (0..blocks).step_by(blocks_at_once) {
                let of_blocks = first_block..blocks.min(first_block + blocks_at_once);
                for (pixel, sums) in sums.iter_mut().enumerate() {
                    let mut count = 0;
                    for &(tap, place) in windows.of(first_pixel + pixel).iter().filter(|(tap, _)| now.contains(tap)) {
                        for block in of_blocks.clone() {
                            products[count] = Product {
                                first: square(kernels, (tap as usize * blocks + block) * LANES),
                                second: square(from, block * windows.rows + place as usize),
                            };
                            count += 1;
                        }
                    }
                    engine.multiply(simd, &products[..count], sums, (first_tap, first_block) == (0, 0));
                }
            }
        }
    })
}

/// Maps of so many pixels, blocks and images, finished from what `fill` sets for a group, a block, and some pixels from one on: their squares'
/// sums; and the totals, channel by channel.
pub(crate) fn in_bands<S: Simd, F: Finish<N>, const N: usize>(
    simd: S,
    (pixels, blocks, images): (usize, usize, usize),
    finish: &F,
    maps: [&mut [Row]; N],
    fill: impl Fn(usize, usize, usize, &mut [Sums]) + Sync,
) -> ChannelSums {
    // Each task has a band of one group and block in every map.
    let (groups, bands) = (images.div_ceil(LANES), pixels.div_ceil(BAND));
    let mut parts: Vec<[&mut [Row]; N]> = Vec::with_capacity(groups * blocks * bands);
    let mut of_map = maps.map(|map| {
        assert_eq!(map.len(), groups * blocks * pixels * LANES);
        map.chunks_mut(pixels * LANES).flat_map(|block| block.chunks_mut(BAND * LANES))
    });
    for _ in 0..groups * blocks * bands {
        parts.push(of_map.each_mut().map(|bands| bands.next().expect("every map has as many bands")));
    }

    let totals: Vec<ChannelSums> = parts
        .into_par_iter()
        .enumerate()
        .map(|(task, mut maps)| {
            let (index, first_pixel) = (task / bands, task % bands * BAND);
            let (group, block) = (index / blocks, index % blocks);
            let lanes = LANES.min(images - group * LANES);
            let mut totals = Totals::ZERO;
            let mut sums = [Sums::ZERO; ABREAST];
            for first in (0..BAND.min(pixels - first_pixel)).step_by(ABREAST) {
                let sums = &mut sums[..ABREAST.min(pixels - first_pixel - first)];
                fill(group, block, first_pixel + first, sums);
                vectorized!(simd, {
                    for (pixel, sums) in sums.iter().enumerate() {
                        let pixel = first + pixel;
                        let place = Place { block, at: (index * pixels + first_pixel + pixel) * LANES, lanes };
                        let to = maps
                            .each_mut()
                            .map(|map| map[pixel * LANES..].first_chunk_mut().expect("a band holds whole squares"));
                        finish.finish(place, sums, to, &mut totals);
                    }
                });
            }
            vectorized!(simd, totals.of_channels())
        })
        .collect();
    let mut sums = ChannelSums::zero(blocks * LANES);
    for (task, part) in totals.iter().enumerate() {
        sums.add(task / bands % blocks * LANES, part);
    }
    sums
}

/// The gradient of the trained weights from the input and from the output's gradient in pairs of images.
pub(crate) fn weight_gradient<S: Simd>(
    simd: S,
    engine: Engine,
    Blocks { ins, outs, taps, .. }: Blocks,
    windows: &Windows,
    (input, output): (&[Row], &[Row]),
    gradient: &mut [f32],
    arena: &Arena,
) {
    let pixels = windows.pixels();
    let groups = input.len() / (ins * windows.rows);
    assert_eq!((input.len(), output.len()), (groups * ins * windows.rows, groups * outs * pixels * LANES));
    // Bands of a few pixels of one group; every part sums a run of them.
    let bands = groups * pixels.div_ceil(PIXELS);
    let parts = TASKS.div_ceil(ins * outs).min(bands);
    let sum_part = |index: usize, to: &mut [f32]| {
        let (part, out, block) = (index / ins / outs, index / ins % outs, index % ins);
        let mut sums = vec![Sums::ZERO; taps];
        let mut products = vec![Vec::with_capacity(PIXELS); taps];
        for band in part * bands / parts..(part + 1) * bands / parts {
            let (group, first) = (band / pixels.div_ceil(PIXELS), band % pixels.div_ceil(PIXELS) * PIXELS);
            let input = &input[(group * ins + block) * windows.rows..][..windows.rows];
            let output = &output[(group * outs + out) * pixels * LANES..][..pixels * LANES];
            products.iter_mut().for_each(Vec::clear);
            for pixel in first..pixels.min(first + PIXELS) {
                let second = square(output, pixel * LANES);
                for &(tap, place) in windows.of(pixel) {
                    products[tap as usize].push(Product { first: square(input, place as usize), second });
                }
            }
            for (sums, products) in sums.iter_mut().zip(&products) {
                engine.multiply(simd, products, sums, false);
            }
        }
        for (to, Sums(sums)) in to.chunks_exact_mut(AREA).zip(&sums) {
            to.copy_from_slice(sums.as_flattened());
        }
    };
    let square_len = taps * AREA;
    if parts == 1 {
        gradient.par_chunks_exact_mut(square_len).enumerate().for_each(|(index, to)| sum_part(index, to));
        return;
    }
    let mut partial = arena.take(parts * gradient.len());
    partial.par_chunks_exact_mut(square_len).enumerate().for_each(|(index, to)| sum_part(index, to));
    let len = gradient.len();
    gradient.par_chunks_mut(square_len).enumerate().for_each(|(index, to)| {
        vectorized!(simd, {
            to.fill(0.0);
            for part in 0..parts {
                let from = &partial[part * len + index * square_len..][..to.len()];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
        });
    });
    arena.give(partial);
}

#[cfg(test)]
mod tests {
    use super::super::number::{pair_columns, pair_rows, rounded, widened};
    use super::super::passes::{Gradient, Statistics};
    use super::super::stem::Images;
    use super::*;
    use crate::ImageBatch;
    use crate::fast::numbers;
    use crate::resnet::{Convolution, Map};

    /// A map of made-up numbers in bf16, images beyond the last 0.
    fn map(of: Map, channels: usize, phase: f64) -> Vec<Row> {
        let values = numbers(of.rows(channels) * LANES, phase);
        let row = |(at, values): (usize, &[f32; LANES])| {
            let mut row = Row::rounded(values);
            row.0[of.lanes(at / of.area() / channels)..].fill(0);
            row
        };
        values.as_chunks::<LANES>().0.iter().enumerate().map(row).collect()
    }

    fn columns(from: &Square, to: &mut Square) {
        pair_columns(pulp::Scalar, from, to);
    }

    fn paired(rows: &[Row], pair: fn(&Square, &mut Square)) -> Vec<Row> {
        let mut pairs = vec![Row::default(); rows.len()];
        rows.as_chunks::<LANES>().0.iter().zip(pairs.as_chunks_mut::<LANES>().0).for_each(|(from, to)| pair(from, to));
        pairs
    }

    /// Row and lane of a number of a map.
    fn place(of: Map, channels: usize, [image, pixel, channel]: [usize; 3]) -> (usize, usize) {
        let block = image / LANES * (channels / LANES) + channel / LANES;
        ((block * of.area() + pixel) * LANES + channel % LANES, image % LANES)
    }

    /// A sum of products in f64, and the sum of their sizes.
    #[derive(Clone, Copy, Default)]
    struct Sum([f64; 3]);

    impl Sum {
        fn add(&mut self, a: f64, b: f64) {
            let [sum, size, terms] = &mut self.0;
            (*sum, *size, *terms) = (*sum + a * b, *size + (a * b).abs(), *terms + 1.0);
        }

        /// f32 rounds each partial sum, and bf16, where it is stored, to half of 2^-8.
        fn check(&self, found: f64, stored: bool, what: &str) {
            let [sum, size, terms] = self.0;
            let allowed =
                (terms + 64.0) * 2.0_f64.powi(-24) * size + if stored { sum.abs() * 2.0_f64.powi(-8) } else { 0.0 };
            assert!((found - sum).abs() <= allowed + 1e-30, "{what}: {found} instead of {sum}, allowed {allowed:e}");
        }
    }

    fn number(rows: &[Row], (row, lane): (usize, usize)) -> f64 {
        widened(rows[row].0[lane]).into()
    }

    /// Forward, the gradients of the input and of the weights, and their sums, against the definition, by every engine.
    fn check(channels: [usize; 2], kernel: usize, stride: usize, input: Map) {
        let (conv, [ins, outs]) = (Convolution::new(channels, kernel, stride), channels);
        let (blocks, output) = (Blocks::of(&conv), conv.output(input));
        let weights = numbers(outs * ins * conv.taps(), 0.4).iter().map(|&x| widened(rounded(x))).collect::<Vec<_>>();
        let mut packed = vec![0.0; blocks.len()];
        blocks.pack(&conv, &weights, &mut packed);
        let (x, z, dz, old) =
            (map(input, ins, 0.1), map(input, ins, 0.2), map(output, outs, 0.3), map(input, ins, 0.5));
        let mean = numbers(ins, 0.6);

        let [mut y, mut dx, mut dw] = [
            vec![Sum::default(); output.rows(outs) * LANES],
            vec![Sum::default(); input.rows(ins) * LANES],
            vec![Sum::default(); weights.len()],
        ];
        let flat = |(row, lane): (usize, usize)| row * LANES + lane;
        for image in 0..input.images {
            for pixel in 0..output.area() {
                for tap in 0..conv.taps() {
                    let row = (pixel / output.width * stride + tap / kernel).wrapping_sub(conv.padding);
                    let column = (pixel % output.width * stride + tap % kernel).wrapping_sub(conv.padding);
                    if row >= input.height || column >= input.width {
                        continue;
                    }
                    for out in 0..outs {
                        let to = place(output, outs, [image, pixel, out]);
                        for channel in 0..ins {
                            let from = place(input, ins, [image, row * input.width + column, channel]);
                            let weight = (out * ins + channel) * conv.taps() + tap;
                            y[flat(to)].add(number(&x, from), weights[weight].into());
                            dx[flat(from)].add(number(&dz, to), weights[weight].into());
                            dw[weight].add(number(&x, from), number(&dz, to));
                        }
                    }
                }
            }
        }

        let arena = Arena::default();
        let [windows, turned] = [Windows::of_output(&conv, input), Windows::of_input(&conv, input)];
        let [mut forward, mut backward] = [(); 2].map(|()| vec![Row::default(); blocks.len() / LANES]);
        blocks.forward(pulp::Scalar, &packed, &mut forward);
        blocks.backward(pulp::Scalar, &packed, &mut backward);
        let (pairs, dz_pairs, dz_columns) = (paired(&x, pair_rows), paired(&dz, pair_rows), paired(&dz, columns));
        for engine in Engine::available() {
            let what =
                |what: &str, at: usize| format!("{what} of {conv:?} over {input:?} by {} at {at}", engine.name());
            let operands = |kernels, blocks, source, windows| Operands {
                engine,
                kernels,
                blocks,
                source,
                windows,
                images: input.images,
            };
            let check_sums = |name: &str,
                              sums: &ChannelSums,
                              found: &[Row],
                              of: Map,
                              channels: usize,
                              other: &dyn Fn(usize, usize, f64) -> f64| {
                for channel in 0..channels {
                    let mut expected = [Sum::default(); 2];
                    for image in 0..of.images {
                        for pixel in 0..of.area() {
                            let (row, lane) = place(of, channels, [image, pixel, channel]);
                            let value = number(found, (row, lane));
                            expected[0].add(value, 1.0);
                            expected[1].add(value, other(row, lane, value));
                        }
                    }
                    for (expected, found) in expected.iter().zip([sums.first[channel], sums.second[channel]]) {
                        expected.check(found, false, &what(name, channel));
                    }
                }
            };

            let mut found = vec![Row([7; LANES]); output.rows(outs)];
            let all = operands(&forward, blocks.ins, &pairs, &windows);
            let sums = convolve(pulp::Scalar, &all, &Statistics, [&mut found]);
            y.iter()
                .enumerate()
                .for_each(|(at, sum)| sum.check(number(&found, (at / LANES, at % LANES)), true, &what("output", at)));
            check_sums("sums", &sums, &found, output, outs, &|_, _, value| value);

            let mut found = vec![Row([7; LANES]); input.rows(ins)];
            let target = Gradient { shortcut: Some(&old), activation: &x, z: &z, mean: &mean };
            let all = operands(&backward, blocks.outs, &dz_pairs, &turned);
            let sums = convolve(pulp::Scalar, &all, &target, [&mut found]);
            for (at, &(mut sum)) in dx.iter().enumerate() {
                let from = (at / LANES, at % LANES);
                sum.add(number(&old, from), 1.0);
                let open = number(&x, from) > 0.0;
                (if open { sum } else { Sum::default() }).check(
                    number(&found, from),
                    true,
                    &what("input gradient", at),
                );
            }
            check_sums("sums of the gradient", &sums, &found, input, ins, &|row, lane, _| {
                let channel = row / (input.area() * LANES) * LANES % ins + row % LANES;
                number(&z, (row, lane)) - f64::from(mean[channel])
            });

            let mut found = vec![7.0; blocks.len()];
            weight_gradient(pulp::Scalar, engine, blocks, &windows, (&x, &dz_columns), &mut found, &arena);
            for (at, (sum, found)) in dw.iter().zip(blocks.unpack(&conv, &found)).enumerate() {
                sum.check(found.into(), false, &what("weight gradient", at));
            }
        }
    }

    #[test]
    fn equal_the_definition() {
        let map = |images, height, width| Map { images, height, width };
        check([32, 64], 3, 1, map(3, 5, 4));
        check([64, 32], 3, 2, map(33, 4, 5));
        check([32, 32], 1, 2, map(2, 7, 3));
        check([64, 96], 1, 1, map(1, 1, 1));
        check([128, 32], 3, 1, map(2, 2, 9));
    }

    /// The stem's windows are read where they lie, across the border of the images.
    #[test]
    fn the_stem_equals_the_definition() {
        for (count, size) in [(2, 9), (33, 6)] {
            let conv = Convolution::new([3, 32], 7, 2);
            let blocks = Blocks::of(&conv);
            let pixels: Vec<u8> = (0..count * size * size * 3).map(|at| (at * 7919 % 251) as u8).collect();
            let images = ImageBatch::new(pixels, count, size).unwrap();
            let arena = Arena::default();
            let stem = Images::new(pulp::Scalar, &images, &conv, &arena);
            let output = conv.output(stem.map);
            let weights = numbers(32 * 3 * 49, 0.4).iter().map(|&x| widened(rounded(x))).collect::<Vec<_>>();
            let mut packed = vec![0.0; blocks.len()];
            blocks.pack(&conv, &weights, &mut packed);
            let mut kernels = vec![Row::default(); blocks.len() / LANES];
            blocks.forward(pulp::Scalar, &packed, &mut kernels);
            let dz = map(output, 32, 0.3);
            let [mut y, mut dw] = [vec![Sum::default(); output.rows(32) * LANES], vec![Sum::default(); weights.len()]];
            for image in 0..count {
                for pixel in 0..output.area() {
                    for at in 0..147 {
                        let (channel, tap) = (at % 3, at / 3);
                        let row = (pixel / output.width * 2 + tap / 7).wrapping_sub(3);
                        let column = (pixel % output.width * 2 + tap % 7).wrapping_sub(3);
                        if row >= size || column >= size {
                            continue;
                        }
                        let byte = images.pixels()[((image * size + row) * size + column) * 3 + channel];
                        let (mean, deviation) = (crate::resnet::MEAN[channel], crate::resnet::DEVIATION[channel]);
                        let exact = (f32::from(byte) / 255.0 - mean) / deviation;
                        let lines = stem.plain.len() / stem.map.groups() / (size + 6);
                        let at = (image / LANES * (size + 6) + row + 3) * lines + (column + 3) * 3 + channel;
                        let x = number(&stem.plain, (at, image % LANES));
                        assert!((x - f64::from(exact)).abs() <= f64::from(exact.abs()) / 256.0 + 1e-6, "{x}, {exact}");
                        for out in 0..32 {
                            let (to, weight) = (place(output, 32, [image, pixel, out]), (out * 3 + channel) * 49 + tap);
                            y[to.0 * LANES + to.1].add(x, weights[weight].into());
                            dw[weight].add(x, number(&dz, to));
                        }
                    }
                }
            }
            for engine in Engine::available() {
                let mut found = vec![Row([7; LANES]); output.rows(32)];
                let (windows, images) = (&stem.windows, count);
                let operands = Operands { engine, kernels: &kernels, blocks: 1, source: &stem.pairs, windows, images };
                convolve(pulp::Scalar, &operands, &Statistics, [&mut found]);
                y.iter()
                    .enumerate()
                    .for_each(|(at, sum)| sum.check(number(&found, (at / LANES, at % LANES)), true, "stem"));
                let mut found = vec![7.0; blocks.len()];
                let operands = (&stem.plain[..], &paired(&dz, columns)[..]);
                weight_gradient(pulp::Scalar, engine, blocks, windows, operands, &mut found, &Arena::default());
                blocks.clear_unused(&mut found);
                for (sum, found) in dw.iter().zip(blocks.unpack(&conv, &found)) {
                    sum.check(found.into(), false, "weight gradient of the stem");
                }
            }
        }
    }
}
