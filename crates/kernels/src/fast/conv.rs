//! Convolutions in NHWC: which of three algorithms computes what.
//!
//! | algorithm | where | why |
//! |---|---|---|
//! | [`super::winograd`] | 3x3, stride 1, maps of more than 4 pixels | 36 products for 16 outputs instead of 144 |
//! | [`super::positions`] | outputs of at most 4 pixels, of 16 with a stride | no work on padding, nothing gathered |
//! | [`super::gather`] | the rest: strides on larger maps, odd numbers of channels | works for everything |

use super::algorithm::{Algorithm, Problem};
use super::gather::Gather;
use super::gemm::panel_width;
use super::norm::ChannelSums;
use super::positions::Positions;
use super::read::Source;
use super::winograd::Winograd;
use super::write::Target;
use pulp::Simd;

/// The algorithm of a problem.
pub(crate) fn algorithm<S: Simd>(problem: &Problem<'_, S>) -> &'static dyn Algorithm<S> {
    let (conv, output, width) = (&problem.conv, problem.output(), panel_width::<S>());
    if !conv.in_channels.is_multiple_of(width) || !conv.out_channels.is_multiple_of(width) {
        return &Gather;
    }
    let few = if conv.stride == 1 { 4 } else { 16 };
    match (conv.kernel, conv.stride, conv.padding) {
        _ if output.height * output.width <= few => &Positions,
        (3, 1, 1) => &Winograd,
        _ => &Gather,
    }
}

/// See [`Algorithm::forward`].
pub(crate) fn forward<S: Simd>(problem: &Problem<'_, S>, x: Source<'_>, target: &Target<'_>) -> ChannelSums {
    x.check(problem.input, problem.conv.in_channels);
    algorithm(problem).forward(problem, x, target)
}

/// See [`Algorithm::input_gradient`].
pub(crate) fn input_gradient<S: Simd>(problem: &Problem<'_, S>, dy: Source<'_>, target: &Target<'_>) -> ChannelSums {
    dy.check(problem.output(), problem.conv.out_channels);
    algorithm(problem).input_gradient(problem, dy, target)
}

/// See [`Algorithm::weight_gradient`].
pub(crate) fn weight_gradient<S: Simd>(problem: &Problem<'_, S>, x: Source<'_>, dy: Source<'_>, gradient: &mut [f32]) {
    x.check(problem.input, problem.conv.in_channels);
    dy.check(problem.output(), problem.conv.out_channels);
    algorithm(problem).weight_gradient(problem, x, dy, gradient);
}

#[cfg(test)]
mod tests {
    use super::super::gemm::Update;
    use super::super::operators::{Surroundings, numbers};
    use super::super::shape::{Convolution, Map};
    use super::super::simd::{InstructionSet, with_instructions};
    use super::super::write::Then;
    use super::*;
    use proptest::prelude::*;

    impl Surroundings {
        /// `relu(x * scale + shift)`.
        fn input64(&self) -> Vec<Number> {
            let ins = self.conv.in_channels;
            let value = |(at, &x): (usize, &f32)| {
                let [scale, shift] = [&self.affine.scale, &self.affine.shift].map(|of| of[at % ins].into());
                let sum = Number::sum([Number::from(x).times(scale), shift]);
                Number { value: sum.value.max(0.0), ..sum }
            };
            self.x.iter().enumerate().map(value).collect()
        }

        /// `k1 g + k2 z + k3`.
        fn dz64(&self) -> Vec<Number> {
            let outs = self.conv.out_channels;
            let value = |at: usize| {
                let [k1, k2, k3] =
                    [&self.backward.k1, &self.backward.k2, &self.backward.k3].map(|of| of[at % outs].into());
                Number::sum([Number::from(self.g[at]).times(k1), Number::from(self.z[at]).times(k2), k3])
            };
            (0..self.g.len()).map(value).collect()
        }

        /// Every product of the definition: index of the input, of the output, of the weight.
        fn each(&self, mut product: impl FnMut(usize, usize, usize)) {
            let Convolution { in_channels: ins, out_channels: outs, kernel, stride, padding } = self.conv;
            let (from, to) = (self.map, self.conv.output(self.map));
            for pixel in 0..to.pixels() {
                let (image, y, x) = (pixel / to.width / to.height, pixel / to.width % to.height, pixel % to.width);
                for tap in 0..kernel * kernel {
                    // Underflow wraps to a place outside.
                    let row = (y * stride + tap / kernel).wrapping_sub(padding);
                    let column = (x * stride + tap % kernel).wrapping_sub(padding);
                    if row >= from.height || column >= from.width {
                        continue;
                    }
                    let met = (image * from.height + row) * from.width + column;
                    for out in 0..outs {
                        for channel in 0..ins {
                            let weight = (out * ins + channel) * kernel * kernel + tap;
                            product(met * ins + channel, pixel * outs + out, weight);
                        }
                    }
                }
            }
        }

        fn check<S: Simd>(&self, simd: S, what: &str) {
            let (problem, conv, outs) = (self.problem(simd), self.conv, self.conv.out_channels);
            let (input, dz) = (self.x(), self.dz());
            let weights = conv.unpack(simd, &self.weights);
            assert_eq!(weights, numbers(weights.len(), 0.4));

            let (input64, dz64) = (self.input64(), self.dz64());
            let [mut y, mut dx, mut dw] = [&self.z, &self.x, &weights].map(|like| vec![Number::default(); like.len()]);
            self.each(|from, to, weight| {
                let w = weights[weight].into();
                y[to].add(input64[from].times(w));
                dx[from].add(dz64[to].times(w));
                dw[weight].add(input64[from].times(dz64[to]));
            });
            let near = |what: &str, found: &[f32], expected: &[Number]| {
                near(what, algorithm(&problem).name(), found, expected);
            };

            let mut found = numbers(y.len(), 0.7);
            let target = Target::new(&mut found, Update::Set, Then::Squares);
            let sums = forward(&problem, input, &target);
            near(&format!("{what}: output"), &found, &y);
            let squares = |at: usize, value: f64| (at % outs, value, value * value);
            check_sums(&format!("{what}: sums of the output"), &sums, &found, squares);

            let mut found = vec![0.5; self.weights.len()];
            weight_gradient(&problem, input, dz, &mut found);
            near(&format!("{what}: weight gradient"), &conv.unpack(simd, &found), &dw);

            // Added to what is in place, then masked by the ReLU of the same input.
            let old = numbers(dx.len(), 0.8);
            for (at, &old) in old.iter().enumerate() {
                dx[at].add(old.into());
                dx[at].value = if input64[at].value > 0.0 { dx[at].value } else { 0.0 };
            }
            let mut found = old.clone();
            let target = Target::new(&mut found, Update::Add, self.mask());
            let sums = input_gradient(&problem, dz, &target);
            near(&format!("{what}: input gradient"), &found, &dx);
            let product = |at: usize, value: f64| {
                let channel = at % conv.in_channels;
                (channel, value, value * (f64::from(self.x[at]) - f64::from(self.mean[channel])))
            };
            check_sums(&format!("{what}: sums of the input gradient"), &sums, &found, product);
        }
    }

    /// A number in f64 and its size: that of its terms if none were negative, the measure of rounding in f32 however much
    /// the terms cancel.
    #[derive(Clone, Copy, Default)]
    struct Number {
        value: f64,
        size: f64,
        /// The sum of the absolute values of what was added: never more than the size.
        added: f64,
    }

    impl From<f32> for Number {
        fn from(value: f32) -> Self {
            Self { value: value.into(), size: value.abs().into(), ..Self::default() }
        }
    }

    impl Number {
        fn sum<const N: usize>(terms: [Self; N]) -> Self {
            let mut sum = Self::default();
            terms.into_iter().for_each(|term| sum.add(term));
            sum
        }

        fn times(self, other: Self) -> Self {
            Self { value: self.value * other.value, size: self.size * other.size, ..Self::default() }
        }

        fn add(&mut self, term: Self) {
            self.value += term.value;
            self.size += term.size;
            self.added += term.value.abs();
        }
    }

    /// Errors are measured against the number's own size; those of Winograd's method against the largest sum of all, for it
    /// mixes the outputs of a tile and loses digits in its transforms (arXiv:1803.10986).
    fn near(what: &str, algorithm: &str, found: &[f32], expected: &[Number]) {
        let largest = expected.iter().fold(1e-3, |largest: f64, number| largest.max(number.added));
        for (at, (&found, number)) in found.iter().zip(expected).enumerate() {
            let allowed = if algorithm == "Winograd" { 5e-6 * largest } else { 1e-6 * number.size };
            let error = (f64::from(found) - number.value).abs();
            assert!(error <= allowed, "{what} at {at}: {found} instead of {}, allowed {allowed:e}", number.value);
        }
    }

    /// `terms` gives the channel of a number and its two terms. Errors are measured against the sums of absolute values.
    fn check_sums(what: &str, sums: &ChannelSums, values: &[f32], terms: impl Fn(usize, f64) -> (usize, f64, f64)) {
        let channels = sums.first.len();
        let mut expected = vec![[0.0; 4]; channels];
        for (at, &value) in values.iter().enumerate() {
            let (channel, first, second) = terms(at, value.into());
            let [one, two, one_size, two_size] = &mut expected[channel];
            (*one, *two) = (*one + first, *two + second);
            (*one_size, *two_size) = (*one_size + first.abs(), *two_size + second.abs());
        }
        for (channel, [one, two, one_size, two_size]) in expected.into_iter().enumerate() {
            let errors =
                [(sums.first[channel] - one) / one_size.max(1e-9), (sums.second[channel] - two) / two_size.max(1e-9)];
            assert!(errors.iter().all(|error| error.abs() < 2e-6), "{what}, channel {channel}: {errors:?}");
        }
    }

    /// With every instruction set, by `expected` where that names an algorithm.
    fn check(conv: Convolution, (images, height, width): (usize, usize, usize), expected: Option<&str>) {
        let map = Map { images, height, width };
        for set in InstructionSet::available() {
            let what = format!("{conv:?} over {map:?} with {}", set.name());
            with_instructions!(set, simd => {
                let case = Surroundings::new(simd, conv, map);
                let found = algorithm(&case.problem(simd)).name();
                assert!(expected.is_none_or(|expected| expected == found), "{what}: {found}");
                case.check(simd, &what);
            });
        }
    }

    /// One case or more for each algorithm.
    #[test]
    fn every_algorithm_equals_the_definition() {
        for (conv, map, expected) in [
            (([32, 64], 3, 1), (3, 8, 8), "Winograd"),
            (([64, 32], 3, 1), (1, 5, 7), "Winograd"),
            (([32, 32], 3, 1), (9, 17, 9), "Winograd"),
            (([96, 32], 3, 1), (1, 8, 8), "Winograd"),
            (([32, 64], 3, 1), (5, 2, 2), "positions"),
            (([64, 64], 3, 1), (13, 1, 2), "positions"),
            (([32, 64], 3, 2), (3, 8, 7), "positions"),
            (([64, 32], 1, 2), (2, 5, 5), "positions"),
            (([32, 32], 3, 2), (2, 11, 16), "im2col"),
            (([32, 64], 1, 2), (1, 13, 9), "im2col"),
            (([3, 32], 7, 2), (2, 9, 12), "im2col"),
            (([5, 7], 3, 1), (1, 4, 6), "im2col"),
        ] {
            let (channels, kernel, stride) = conv;
            check(Convolution::new(channels, kernel, stride), map, Some(expected));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

        #[test]
        fn any_shape_equals_the_definition(
            channels in prop_oneof![(1usize..40, 1usize..40), Just((32, 32)), Just((64, 32))],
            kernel in prop_oneof![Just(1usize), Just(3), Just(7)],
            stride in 1usize..3,
            map in (1usize..4, 1usize..14, 1usize..14),
        ) {
            check(Convolution::new([channels.0, channels.1], kernel, stride), map, None);
        }
    }
}
