//! Convolutions in NHWC: shapes, the layout of weights, and which of three methods computes what.
//!
//! | method | where | why |
//! |---|---|---|
//! | [`super::winograd`] | 3x3, stride 1, maps of more than 4 pixels | 36 products for 16 outputs instead of 144 |
//! | [`super::positions`] | outputs of at most 4 pixels, of 16 with a stride | no work on padding, nothing gathered |
//! | [`super::gather`] | the rest: the stem, strides on larger maps, odd numbers of channels | works for everything |
//!
//! Weights are kept in *panels* `(out / width, tap, in, width)`, zero-padded to whole panels of a few vectors: the layout
//! that the matrix product streams, and the layout in which the gradient of the weights comes out of one.

use super::arena::Arena;
use super::gemm::{panel_width, panels};
use super::norm::ChannelSums;
use super::read::Source;
use super::simd::vectorize;
use super::winograd;
use super::write::Target;
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

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Winograd,
    Positions,
    Gather,
}

/// A convolution's input.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) map: Map,
    pub(crate) source: Source<'a>,
}

/// The kernels of a product: those of a layer, or, for the gradient of its input, turned by half a turn and with input
/// and output channels exchanged. The latter are made panel by panel where they are used, and never in whole.
#[derive(Clone, Copy)]
pub(crate) struct Kernels<'a> {
    weights: &'a [f32],
    pub(crate) taps: usize,
    /// Input channels of the product.
    pub(crate) ins: usize,
    /// Output channels of the product.
    pub(crate) outs: usize,
    turned: bool,
}

impl Kernels<'_> {
    /// Numbers of scratch memory that [`Kernels::panel`] needs.
    pub(crate) fn scratch<S: Simd>(&self) -> usize {
        if self.turned { self.taps * self.ins * panel_width::<S>() } else { 0 }
    }

    /// A panel, `(tap, ins, width)`. The channels must fill whole panels.
    #[inline(always)]
    pub(crate) fn panel<'a, S: Simd>(&'a self, _: S, panel: usize, scratch: &'a mut [f32]) -> &'a [f32] {
        let (width, ins, outs) = (panel_width::<S>(), self.ins, self.outs);
        let len = self.taps * ins * width;
        if !self.turned {
            return &self.weights[panel * len..][..len];
        }
        for (tap, rows) in scratch.chunks_exact_mut(ins * width).enumerate() {
            for (block, to) in rows.chunks_exact_mut(width * width).enumerate() {
                let tap = self.taps - 1 - tap;
                let from = ((block * self.taps + tap) * outs + panel * width) * width;
                transpose_square(width, &self.weights[from..][..width * width], to);
            }
        }
        scratch
    }
}

/// `to` becomes the transpose of `from`, both `(width, width)`, by squares that fit the registers.
#[inline(always)]
fn transpose_square(width: usize, from: &[f32], to: &mut [f32]) {
    const SIDE: usize = 8;
    for i in (0..width).step_by(SIDE) {
        for j in (0..width).step_by(SIDE) {
            let mut square = [[0.0; SIDE]; SIDE];
            for (row, square) in square.iter_mut().enumerate() {
                square.copy_from_slice(&from[(i + row) * width + j..][..SIDE]);
            }
            for column in 0..SIDE {
                let line: [f32; SIDE] = std::array::from_fn(|row| square[row][column]);
                to[(j + column) * width + i..][..SIDE].copy_from_slice(&line);
            }
        }
    }
}

impl Convolution {
    /// Its weights as kernels.
    pub(crate) fn kernels<'a>(&self, weights: &'a [f32]) -> Kernels<'a> {
        let (ins, outs) = (self.in_channels, self.out_channels);
        Kernels { weights, taps: self.taps(), ins, outs, turned: false }
    }

    /// Its weights as the kernels of its input's gradient.
    pub(crate) fn turned_kernels<'a>(&self, weights: &'a [f32]) -> Kernels<'a> {
        let (ins, outs) = (self.out_channels, self.in_channels);
        Kernels { weights, taps: self.taps(), ins, outs, turned: true }
    }

    pub(crate) fn output(&self, input: Map) -> Map {
        let side = |len: usize| (len + 2 * self.padding - self.kernel) / self.stride + 1;
        Map { images: input.images, height: side(input.height), width: side(input.width) }
    }

    pub(crate) fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    pub(crate) fn method<S: Simd>(&self, input: Map) -> Method {
        let output = self.output(input);
        let width = panel_width::<S>();
        if !self.in_channels.is_multiple_of(width) || !self.out_channels.is_multiple_of(width) {
            return Method::Gather;
        }
        let few = if self.stride == 1 { 4 } else { 16 };
        match (self.kernel, self.stride, self.padding) {
            _ if output.height * output.width <= few => Method::Positions,
            (3, 1, 1) => Method::Winograd,
            _ => Method::Gather,
        }
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

    /// The convolution of `input` into `target`, and the target's sums.
    pub(crate) fn forward<S: Simd>(
        &self,
        simd: S,
        input: Input<'_>,
        weights: &[f32],
        target: &Target<'_>,
        arena: &Arena,
    ) -> ChannelSums {
        input.source.check(input.map, self.in_channels);
        match self.method::<S>(input.map) {
            Method::Winograd => {
                winograd::convolve(simd, input.map, input.source, &self.kernels(weights), target, arena)
            }
            Method::Positions => self.positions_forward(simd, input, weights, target, arena),
            Method::Gather => self.gather_forward(simd, input, weights, target),
        }
    }

    /// The gradient of the input, whose extent is `map`, from the output's gradient `dy`; and the target's sums.
    pub(crate) fn input_gradient<S: Simd>(
        &self,
        simd: S,
        map: Map,
        dy: Source<'_>,
        weights: &[f32],
        target: &Target<'_>,
        arena: &Arena,
    ) -> ChannelSums {
        dy.check(self.output(map), self.out_channels);
        match self.method::<S>(map) {
            Method::Winograd => {
                // A convolution of the same kind.
                winograd::convolve(simd, map, dy, &self.turned_kernels(weights), target, arena)
            }
            Method::Positions => self.positions_input_gradient(simd, map, dy, weights, target, arena),
            Method::Gather => self.gather_input_gradient(simd, map, dy, weights, target, arena),
        }
    }

    /// The gradient of the weights, in panels, from the output's gradient `dy`.
    pub(crate) fn weight_gradient<S: Simd>(
        &self,
        simd: S,
        input: Input<'_>,
        dy: Source<'_>,
        gradient: &mut [f32],
        arena: &Arena,
    ) {
        input.source.check(input.map, self.in_channels);
        dy.check(self.output(input.map), self.out_channels);
        match self.method::<S>(input.map) {
            Method::Winograd => {
                self.winograd_weight_gradient(simd, input.map, input.source, dy, gradient, arena);
            }
            Method::Positions => self.positions_weight_gradient(simd, input, dy, gradient, arena),
            Method::Gather => self.gather_weight_gradient(simd, input, dy, gradient, arena),
        }
    }

    /// Length of `taps` taps of the transposed weights.
    pub(crate) fn transposed_len<S: Simd>(&self, taps: usize) -> usize {
        panels::<S>(self.in_channels) * panel_width::<S>() * taps * self.out_channels
    }

    /// The weights of `taps` as panels `(in / width, tap, out, width)`.
    pub(crate) fn transpose<S: Simd>(
        &self,
        simd: S,
        weights: &[f32],
        taps: &[usize],
        transposed: &mut [f32],
    ) {
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
}

#[cfg(test)]
mod tests {
    use super::super::norm::{Affine, Backward};
    use super::super::simd::{InstructionSet, with_instructions};
    use super::super::write::{Mask, Then};
    use super::*;
    use proptest::prelude::*;

    /// Numbers around 0, another sequence for each `phase`.
    fn numbers(len: usize, phase: f64) -> Vec<f32> {
        (0..len).map(|index| (index as f64 * 0.73 + phase).sin() as f32).collect()
    }

    fn affine(channels: usize) -> Affine {
        let shift = numbers(channels, 2.0).iter().map(|x| 0.2 * x).collect();
        Affine { scale: numbers(channels, 1.0).iter().map(|x| 1.0 + 0.5 * x).collect(), shift }
    }

    fn way(channels: usize) -> Backward {
        let k3 = numbers(channels, 5.0).iter().map(|x| 0.1 * x).collect();
        Backward { k1: numbers(channels, 3.0), k2: numbers(channels, 4.0), k3 }
    }

    /// A convolution over a map, and what stands around it.
    struct Case {
        conv: Convolution,
        map: Map,
        x: Vec<f32>,
        affine: Affine,
        g: Vec<f32>,
        z: Vec<f32>,
        way: Backward,
        weights: Vec<f32>,
    }

    impl Case {
        fn new(conv: Convolution, map: Map) -> Self {
            let (output, ins, outs) = (conv.output(map), conv.in_channels, conv.out_channels);
            Self {
                x: numbers(map.pixels() * ins, 0.1),
                affine: affine(ins),
                g: numbers(output.pixels() * outs, 0.2),
                z: numbers(output.pixels() * outs, 0.3),
                way: way(outs),
                weights: numbers(outs * ins * conv.taps(), 0.4),
                conv,
                map,
            }
        }

        /// `relu(x * scale + shift)`.
        fn input(&self) -> Vec<Number> {
            let ins = self.conv.in_channels;
            let value = |(at, &x): (usize, &f32)| {
                let [scale, shift] = [&self.affine.scale, &self.affine.shift].map(|of| of[at % ins].into());
                let sum = Number::sum([Number::from(x).times(scale), shift]);
                Number { value: sum.value.max(0.0), ..sum }
            };
            self.x.iter().enumerate().map(value).collect()
        }

        /// `k1 g + k2 z + k3`.
        fn dz(&self) -> Vec<Number> {
            let outs = self.conv.out_channels;
            let value = |at: usize| {
                let [k1, k2, k3] = [&self.way.k1, &self.way.k2, &self.way.k3].map(|of| of[at % outs].into());
                Number::sum([Number::from(self.g[at]).times(k1), Number::from(self.z[at]).times(k2), k3])
            };
            (0..self.g.len()).map(value).collect()
        }

        /// Every product of the definition: index of the input, of the output, of the weight.
        fn each(&self, mut product: impl FnMut(usize, usize, usize)) {
            let Convolution { in_channels: ins, out_channels: outs, kernel, stride, padding } = self.conv;
            let (from, to) = (self.map, self.conv.output(self.map));
            for pixel in 0..to.pixels() {
                let (image, y, x) =
                    (pixel / to.width / to.height, pixel / to.width % to.height, pixel % to.width);
                for tap in 0..kernel * kernel {
                    let (row, column) = (y * stride + tap / kernel, x * stride + tap % kernel);
                    let (Some(row), Some(column)) = (row.checked_sub(padding), column.checked_sub(padding))
                    else {
                        continue;
                    };
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
            let (arena, conv) = (Arena::default(), self.conv);
            let (ins, outs) = (conv.in_channels, conv.out_channels);
            let input = Input { map: self.map, source: Source::Relu(&self.x, &self.affine) };
            let dz = Source::Gradient(&self.g, &self.z, &self.way);
            let mut packed = vec![0.0; conv.packed_len::<S>()];
            conv.pack(simd, &self.weights, &mut packed);
            assert_eq!(conv.unpack(simd, &packed), self.weights);

            let (input64, dz64) = (self.input(), self.dz());
            let [mut y, mut dx, mut dw] =
                [&self.z, &self.x, &self.weights].map(|like| vec![Number::default(); like.len()]);
            self.each(|from, to, weight| {
                let w = self.weights[weight].into();
                y[to].add(input64[from].times(w));
                dx[from].add(dz64[to].times(w));
                dw[weight].add(input64[from].times(dz64[to]));
            });
            let near = |what: &str, found: &[f32], expected: &[Number]| {
                near(what, conv.method::<S>(self.map), found, expected);
            };

            let mut found = numbers(y.len(), 0.7);
            let target = Target::new(&mut found, false, Then::Squares);
            let sums = conv.forward(simd, input, &packed, &target, &arena);
            near(&format!("{what}: output"), &found, &y);
            let squares = |at: usize, value: f64| (at % outs, value, value * value);
            check_sums(&format!("{what}: sums of the output"), &sums, &found, squares);

            let mut found = vec![0.5; packed.len()];
            conv.weight_gradient(simd, input, dz, &mut found, &arena);
            near(&format!("{what}: weight gradient"), &conv.unpack(simd, &found), &dw);

            // Added to what stands there, then masked by the ReLU of the same input.
            let there = numbers(dx.len(), 0.8);
            let mean = numbers(ins, 0.9);
            for (at, &there) in there.iter().enumerate() {
                dx[at].add(there.into());
                dx[at].value = if input64[at].value > 0.0 { dx[at].value } else { 0.0 };
            }
            let mut found = there.clone();
            let mask = Mask::Normalized(&self.affine);
            let target = Target::new(&mut found, true, Then::Mask { mask, z: &self.x, mean: &mean });
            let sums = conv.input_gradient(simd, self.map, dz, &packed, &target, &arena);
            near(&format!("{what}: input gradient"), &found, &dx);
            let product = |at: usize, value: f64| {
                let centred = f64::from(self.x[at]) - f64::from(mean[at % ins]);
                (at % ins, value, value * centred)
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
    fn near(what: &str, method: Method, found: &[f32], expected: &[Number]) {
        let largest = expected.iter().fold(1e-3, |largest: f64, number| largest.max(number.added));
        for (at, (&found, number)) in found.iter().zip(expected).enumerate() {
            let allowed = match method {
                Method::Winograd => 5e-6 * largest,
                Method::Positions | Method::Gather => 1e-6 * number.size,
            };
            let error = (f64::from(found) - number.value).abs();
            assert!(
                error <= allowed,
                "{what} at {at}: {found} instead of {}, allowed {allowed:e}",
                number.value
            );
        }
    }

    /// `terms` gives the channel of a number and its two terms. Errors are measured against the sums of absolute values.
    fn check_sums(
        what: &str,
        sums: &ChannelSums,
        values: &[f32],
        terms: impl Fn(usize, f64) -> (usize, f64, f64),
    ) {
        let channels = sums.first.len();
        let mut expected = vec![[0.0; 4]; channels];
        for (at, &value) in values.iter().enumerate() {
            let (channel, first, second) = terms(at, value.into());
            let [one, two, one_size, two_size] = &mut expected[channel];
            (*one, *two) = (*one + first, *two + second);
            (*one_size, *two_size) = (*one_size + first.abs(), *two_size + second.abs());
        }
        for (channel, [one, two, one_size, two_size]) in expected.into_iter().enumerate() {
            let errors = [
                (sums.first[channel] - one) / one_size.max(1e-9),
                (sums.second[channel] - two) / two_size.max(1e-9),
            ];
            assert!(errors.iter().all(|error| error.abs() < 2e-6), "{what}, channel {channel}: {errors:?}");
        }
    }

    fn conv(in_channels: usize, out_channels: usize, kernel: usize, stride: usize) -> Convolution {
        Convolution { in_channels, out_channels, kernel, stride, padding: kernel / 2 }
    }

    fn check(conv: Convolution, (images, height, width): (usize, usize, usize)) {
        let map = Map { images, height, width };
        let case = Case::new(conv, map);
        for set in InstructionSet::available() {
            let what = format!("{conv:?} over {map:?} with {}", set.name());
            with_instructions!(set, simd => case.check(simd, &what));
        }
    }

    /// One case or more for each method; [`Method`] says which.
    #[test]
    fn every_method_equals_the_definition() {
        for (conv, map, method) in [
            (conv(32, 64, 3, 1), (3, 8, 8), Method::Winograd),
            (conv(64, 32, 3, 1), (1, 5, 7), Method::Winograd),
            (conv(32, 32, 3, 1), (9, 17, 9), Method::Winograd),
            (conv(32, 64, 3, 1), (5, 2, 2), Method::Positions),
            (conv(64, 64, 3, 1), (13, 1, 2), Method::Positions),
            (conv(32, 64, 3, 2), (3, 8, 7), Method::Positions),
            (conv(64, 32, 1, 2), (2, 5, 5), Method::Positions),
            (conv(32, 32, 3, 2), (2, 11, 16), Method::Gather),
            (conv(32, 64, 1, 2), (1, 13, 9), Method::Gather),
            (conv(3, 32, 7, 2), (2, 9, 12), Method::Gather),
            (conv(5, 7, 3, 1), (1, 4, 6), Method::Gather),
        ] {
            let extent = Map { images: map.0, height: map.1, width: map.2 };
            for set in InstructionSet::available() {
                let found = with_instructions!(set, simd => method_of(simd, conv, extent));
                assert_eq!(found, method, "{conv:?} {map:?}");
            }
            check(conv, map);
        }
    }

    fn method_of<S: Simd>(_: S, conv: Convolution, map: Map) -> Method {
        conv.method::<S>(map)
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
            check(conv(channels.0, channels.1, kernel, stride), map);
        }
    }
}
