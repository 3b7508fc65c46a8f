//! BlurPool: every channel smoothed by `[1, 2, 1]` by `[1, 2, 1]`, divided by 16, with stride 1 and a border of zeros.
//!
//! See [`crate::Architecture::blur_pool`]; it is its own adjoint. Sums run in f32 in the order of the taps, and are rounded once where they are
//! stored; factors are powers of two, so that every machine computes the same bits.

use super::conv::{Finish, in_bands};
use super::number::{LANES, Row, Sums};
use crate::fast::norm::ChannelSums;
use crate::fast::simd::vectorized;
use crate::resnet::Map;
use pulp::Simd;

/// The blur of the sum of maps of extent `map` and so many channels, finished into `maps`, and the totals, channel by channel.
pub(crate) fn blur<S: Simd, F: Finish<N>, const N: usize>(
    simd: S,
    (map, channels): (Map, usize),
    sources: &[&[Row]],
    finish: &F,
    maps: [&mut [Row]; N],
) -> ChannelSums {
    let (pixels, blocks) = (map.area(), channels / LANES);
    assert!(sources.iter().all(|source| source.len() == map.rows(channels)));
    in_bands(simd, (pixels, blocks, map.images), finish, maps, |group, block, first_pixel, sums| {
        let start = (group * blocks + block) * pixels;
        vectorized!(simd, {
            for (pixel, sums) in sums.iter_mut().enumerate() {
                *sums = Sums::ZERO;
                let (y, x) = ((first_pixel + pixel) / map.width, (first_pixel + pixel) % map.width);
                for source in sources {
                    for line in y.saturating_sub(1)..(y + 2).min(map.height) {
                        for column in x.saturating_sub(1)..(x + 2).min(map.width) {
                            let weight = [4.0, 2.0, 1.0][line.abs_diff(y) + column.abs_diff(x)] / 16.0;
                            let from = &source[(start + line * map.width + column) * LANES..][..LANES];
                            for (sums, from) in sums.0.iter_mut().zip(from) {
                                let from = from.widened();
                                for lane in 0..LANES {
                                    sums[lane] += weight * from[lane];
                                }
                            }
                        }
                    }
                }
            }
        });
    })
}

#[cfg(test)]
mod tests {
    use super::super::number::{pair_rows, rounded, widened};
    use super::super::passes::{Paired, Plain};
    use super::*;
    use crate::InstructionSet;
    use crate::fast::numbers;
    use crate::fast::simd::with_instructions;

    /// One image and more than a group of them, and maps of a pixel, a line and a column.
    const CASES: [(usize, usize, usize, usize); 6] =
        [(1, 1, 1, 64), (33, 1, 1, 128), (1, 1, 9, 64), (2, 6, 1, 64), (33, 5, 7, 64), (1, 5, 7, 128)];

    fn map_of(of: Map, channels: usize, number: impl Fn(usize) -> f32) -> Vec<Row> {
        (0..of.rows(channels)).map(|row| Row(std::array::from_fn(|lane| rounded(number(row * LANES + lane))))).collect()
    }

    /// The definition, in f64, of the sum of `sources`: each number, and the sum of its terms' absolute values.
    fn defined(map: Map, channels: usize, sources: &[&[Row]]) -> Vec<[f64; 2]> {
        let mut all = Vec::new();
        for at in 0..map.rows(channels) * LANES {
            let (lane, channel, pixel, block) =
                (at % LANES, at / LANES % LANES, at / LANES / LANES % map.area(), at / LANES / LANES / map.area());
            let [mut sum, mut size] = [0.0; 2];
            for (tap, weight) in [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0].into_iter().enumerate() {
                // Underflow wraps to a place outside.
                let row = (pixel / map.width + tap / 3).wrapping_sub(1);
                let column = (pixel % map.width + tap % 3).wrapping_sub(1);
                if row < map.height && column < map.width {
                    let from = (block * map.area() + row * map.width + column) * LANES + channel;
                    for source in sources {
                        let term = weight / 16.0 * f64::from(widened(source[from].0[lane]));
                        (sum, size) = (sum + term, size + term.abs());
                    }
                }
            }
            all.push([sum, size]);
        }
        all
    }

    fn wide(rows: &[Row]) -> Vec<f64> {
        rows.iter().flat_map(Row::widened).map(f64::from).collect()
    }

    /// So many sums, each rounded to 24 bits, errors of 2^-24, and the outcome to 8, an error of 2^-8 at most.
    #[test]
    fn equals_the_definition_with_all_instructions_to_the_same_bit() {
        for (images, height, width, channels) in CASES {
            let map = Map { images, height, width };
            let [one, two] = [0.3, 1.9].map(|phase| {
                let numbers = numbers(map.rows(channels) * LANES, phase);
                map_of(map, channels, |at| numbers[at])
            });
            for sources in [&[&one[..]][..], &[&one, &two]] {
                let expected = defined(map, channels, sources);
                let mut of_all = Vec::new();
                for set in InstructionSet::available() {
                    let [mut plain, mut pairs] = [(); 2].map(|()| vec![Row::default(); one.len()]);
                    with_instructions!(set, simd => {
                        blur(simd, (map, channels), sources, &Paired, [&mut plain, &mut pairs]);
                    });
                    for (at, (found, [value, size])) in wide(&plain).iter().zip(&expected).enumerate() {
                        let in_sums = 9.0 * sources.len() as f64 * size / 2_f64.powi(24);
                        let (error, allowed) = ((found - value).abs(), in_sums + (value.abs() + in_sums) / 256.0);
                        assert!(error <= allowed, "{map:?} at {at} by {}: {error:e}, allowed {allowed:e}", set.name());
                    }
                    for (plain, pairs) in plain.as_chunks::<LANES>().0.iter().zip(pairs.as_chunks::<LANES>().0) {
                        let mut expected = [Row::default(); LANES];
                        pair_rows(plain, &mut expected);
                        assert_eq!(*pairs, expected);
                    }
                    of_all.push(plain);
                }
                assert!(of_all.windows(2).all(|pair| pair[0] == pair[1]), "{map:?}");
            }
        }
    }

    /// `<blur(x), y> = <x, blur(y)>`, exactly: of multiples of 16 every sum is a small whole number.
    #[test]
    fn is_its_own_adjoint() {
        for (images, height, width, channels) in CASES {
            let map = Map { images, height, width };
            let [x, y] =
                [5, 11].map(|factor| map_of(map, channels, |at| 16.0 * ((at * factor + at / 7) % 13) as f32 - 80.0));
            let blurred = |x: &[Row]| {
                let mut to = vec![Row::default(); x.len()];
                with_instructions!(InstructionSet::available()[0], simd => {
                    blur(simd, (map, channels), &[x], &Plain, [&mut to]);
                });
                wide(&to)
            };
            let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let (left, right) = (product(&blurred(&x), &wide(&y)), product(&wide(&x), &blurred(&y)));
            assert!(left == right && left != 0.0, "{map:?}: {left} {right}");
        }
    }
}
