//! BlurPool in NHWC: every channel smoothed by `[1, 2, 1]` by `[1, 2, 1]`, divided by 16, with stride 1 and a border of zeros.
//!
//! See [`crate::Architecture::blur_pool`]. The filter is symmetric and so is the border, so that the gradient of the input is the blur of the
//! output's gradient. Factors are powers of two: every sum of a number is rounded alike by all instruction sets.

use super::arena::with_scratch;
use super::read::Source;
use super::shape::Map;
use super::simd::vectorized;
use pulp::Simd;
use rayon::prelude::*;

/// The blur of `source` over `map` with `channels` channels, into `to`.
pub(crate) fn blur<S: Simd>(simd: S, map: Map, channels: usize, source: Source<'_>, to: &mut [f32]) {
    source.check(map, channels);
    assert_eq!(to.len(), map.pixels() * channels);
    let line = map.width * channels;
    to.par_chunks_mut(line).enumerate().for_each(|(index, to)| {
        let y = index % map.height;
        let neighbors = [(y > 0).then(|| index - 1), (y + 1 < map.height).then_some(index + 1)];
        // The sum of three lines with a pixel of zeros at each end, and a line as it is read.
        with_scratch(2 * line + 2 * channels, |scratch| {
            let (sum, other) = scratch.split_at_mut(line + 2 * channels);
            vectorized!(simd, {
                sum[..channels].fill(0.0);
                sum[channels + line..].fill(0.0);
                let inside = &mut sum[channels..][..line];
                source.copy(index * line, channels, inside);
                inside.iter_mut().for_each(|x| *x *= 2.0);
                for neighbor in neighbors.into_iter().flatten() {
                    source.copy(neighbor * line, channels, other);
                    inside.iter_mut().zip(&*other).for_each(|(sum, x)| *sum += x);
                }
                let (left, here, right) = (&sum[..line], &sum[channels..][..line], &sum[2 * channels..][..line]);
                for at in 0..line {
                    to[at] = (2.0 * here[at] + (left[at] + right[at])) / 16.0;
                }
            });
        });
    });
}

#[cfg(test)]
mod tests {
    use super::super::norm::Affine;
    use super::super::operators::numbers;
    use super::super::simd::{InstructionSet, with_instructions};
    use super::*;

    /// One image and more than a group of them, channels of the network and others, and maps of a pixel, a line and a column.
    const CASES: [(usize, usize, usize, usize); 8] = [
        (1, 1, 1, 64),
        (33, 1, 1, 128),
        (1, 1, 9, 64),
        (2, 6, 1, 64),
        (33, 5, 7, 64),
        (1, 5, 7, 128),
        (3, 8, 8, 5),
        (1, 2, 2, 1),
    ];

    /// The definition, in f64: each number, and the sum of its terms' absolute values.
    fn defined(map: Map, channels: usize, x: &[f64]) -> Vec<[f64; 2]> {
        let at = |image: usize, row: usize, column: usize| (image * map.height + row) * map.width + column;
        let mut all = Vec::with_capacity(x.len());
        for pixel in 0..map.pixels() {
            let (image, row, column) =
                (pixel / map.width / map.height, pixel / map.width % map.height, pixel % map.width);
            for channel in 0..channels {
                let [mut sum, mut size] = [0.0; 2];
                for (tap, weight) in [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0].into_iter().enumerate() {
                    // Underflow wraps to a place outside.
                    let (row, column) = ((row + tap / 3).wrapping_sub(1), (column + tap % 3).wrapping_sub(1));
                    if row < map.height && column < map.width {
                        let term = weight / 16.0 * x[at(image, row, column) * channels + channel];
                        (sum, size) = (sum + term, size + term.abs());
                    }
                }
                all.push([sum, size]);
            }
        }
        all
    }

    fn wide(numbers: &[f32]) -> Vec<f64> {
        numbers.iter().map(|&x| x.into()).collect()
    }

    /// A number is the last of four sums one behind the other (of lines: two; of columns: two), each rounded once; products with powers of
    /// two are exact. So it errs by 4 2^-24 of the sum of its terms' absolute values, at most.
    #[test]
    fn equals_the_definition_with_all_instructions_to_the_same_bit() {
        for (images, height, width, channels) in CASES {
            let map = Map { images, height, width };
            let x = numbers(map.pixels() * channels, 0.3);
            let affine = Affine { scale: numbers(channels, 1.0), shift: numbers(channels, 2.0) };
            let relu: Vec<f32> = (0..x.len())
                .map(|at| (x[at] * affine.scale[at % channels] + affine.shift[at % channels]).max(0.0))
                .collect();
            for (source, read) in [(Source::Plain(&x), &x), (Source::Relu(&x, &affine), &relu)] {
                let expected = defined(map, channels, &wide(read));
                let mut of_all = Vec::new();
                for set in InstructionSet::available() {
                    let mut found = vec![f32::NAN; x.len()];
                    with_instructions!(set, simd => blur(simd, map, channels, source, &mut found));
                    for (at, (found, [value, size])) in found.iter().zip(&expected).enumerate() {
                        let error = (f64::from(*found) - value).abs();
                        assert!(error <= 4.0 * size / 2_f64.powi(24), "{map:?} at {at} by {}: {error:e}", set.name());
                    }
                    of_all.push(found);
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
            let [x, y] = [5, 11].map(|factor| {
                let number = |at: usize| 16.0 * ((at * factor + at / 7) % 13) as f32 - 80.0;
                (0..map.pixels() * channels).map(number).collect::<Vec<_>>()
            });
            let blurred = |x: &[f32]| {
                let mut to = vec![f32::NAN; x.len()];
                let set = InstructionSet::available()[0];
                with_instructions!(set, simd => blur(simd, map, channels, Source::Plain(x), &mut to));
                wide(&to)
            };
            let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let (left, right) = (product(&blurred(&x), &wide(&y)), product(&wide(&x), &blurred(&y)));
            assert!(left == right && left != 0.0, "{map:?}: {left} {right}");
        }
    }
}
