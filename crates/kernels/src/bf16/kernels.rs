//! The weights of convolutions: f32 where they are trained, squares of bf16 where they are multiplied.
//!
//! Trained weights and their gradients lie as gradients come out of the products, `(block of outputs, block of inputs, tap, input, output)`.
//! The stem's taps are the lines of its kernel, and its inputs a line's numbers, filled up with zeros to a block.

use super::number::{AREA, LANES, Row, lanes, transpose};
use crate::fast::simd::vectorized;
use crate::resnet::Convolution;
use pulp::Simd;
use rayon::prelude::*;

/// A convolution as products of squares see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// Blocks of input channels.
    pub(crate) ins: usize,
    /// Blocks of output channels.
    pub(crate) outs: usize,
    pub(crate) taps: usize,
    /// Inputs of a block that are there; the others' weights are 0.
    used: usize,
}

impl Blocks {
    pub(crate) fn of(conv: &Convolution) -> Self {
        let Convolution { in_channels, out_channels, kernel, .. } = *conv;
        assert!(out_channels.is_multiple_of(LANES), "an encoder's channels come in blocks");
        let outs = out_channels / LANES;
        if in_channels.is_multiple_of(LANES) {
            return Self { ins: in_channels / LANES, outs, taps: kernel * kernel, used: LANES };
        }
        let used = in_channels * kernel;
        assert!(used <= LANES, "a line of the stem's kernel fits a block");
        Self { ins: 1, outs, taps: kernel, used }
    }

    /// Whether a tap is a line of the kernel.
    pub(crate) fn is_stem(&self) -> bool {
        self.used < LANES
    }

    /// Numbers of the trained weights.
    pub(crate) fn len(&self) -> usize {
        self.ins * self.outs * self.taps * AREA
    }

    /// Places of the trained weights in torchvision's order `(out, in, row, column)`.
    fn places(self, conv: &Convolution) -> impl Iterator<Item = usize> {
        let Convolution { in_channels, out_channels, kernel, .. } = *conv;
        let taps = kernel * kernel;
        (0..out_channels * in_channels * taps).map(move |index| {
            let (out, channel, tap) = (index / taps / in_channels, index / taps % in_channels, index % taps);
            let (tap, input) =
                if self.is_stem() { (tap / kernel, tap % kernel * in_channels + channel) } else { (tap, channel) };
            let block = (out / LANES * self.ins + input / LANES) * self.taps + tap;
            block * AREA + input % LANES * LANES + out % LANES
        })
    }

    /// torchvision's `(out, in, kernel, kernel)` to the trained weights.
    pub(crate) fn pack(self, conv: &Convolution, weights: &[f32], packed: &mut [f32]) {
        packed.fill(0.0);
        self.places(conv).zip(weights).for_each(|(place, &weight)| packed[place] = weight);
    }

    /// The way back.
    pub(crate) fn unpack(self, conv: &Convolution, packed: &[f32]) -> Vec<f32> {
        self.places(conv).map(|place| packed[place]).collect()
    }

    /// Sets the gradients of weights that are not there to 0.
    pub(crate) fn clear_unused(self, gradient: &mut [f32]) {
        if self.used < LANES {
            gradient.chunks_exact_mut(AREA).for_each(|square| square[self.used * LANES..].fill(0.0));
        }
    }

    /// The kernels of the product: `(block of outputs, tap, block of inputs)`, squares of `(output, input)`.
    pub(crate) fn forward<S: Simd>(self, simd: S, weights: &[f32], kernels: &mut [Row]) {
        kernels.par_chunks_exact_mut(LANES).enumerate().for_each(|(index, square)| {
            let (out, tap, input) = (index / self.ins / self.taps, index / self.ins % self.taps, index % self.ins);
            let from = &weights[((out * self.ins + input) * self.taps + tap) * AREA..][..AREA];
            vectorized!(simd, {
                let inputs = from.as_chunks::<LANES>().0;
                let square = square.first_chunk_mut().expect("kernels are whole squares");
                transpose(simd, &lanes(|input| Row::rounded(&inputs[input])), square);
            });
        });
    }

    /// The kernels of the input's gradient: `(block of inputs, tap, block of outputs)`, squares of `(input, output)`.
    pub(crate) fn backward<S: Simd>(self, simd: S, weights: &[f32], kernels: &mut [Row]) {
        kernels.par_chunks_exact_mut(LANES).enumerate().for_each(|(index, square)| {
            let (input, tap, out) = (index / self.outs / self.taps, index / self.outs % self.taps, index % self.outs);
            let from = &weights[((out * self.ins + input) * self.taps + tap) * AREA..][..AREA];
            vectorized!(simd, {
                for (row, from) in square.iter_mut().zip(from.as_chunks::<LANES>().0) {
                    *row = Row::rounded(from);
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::number::{rounded, widened};
    use super::*;

    #[test]
    fn weights_come_back_and_kernels_hold_them_rounded() {
        for (channels, kernel, stride) in [([64, 96], 3, 2), ([96, 32], 1, 1), ([3, 64], 7, 2)] {
            let conv = Convolution::new(channels, kernel, stride);
            let blocks = Blocks::of(&conv);
            let weights = crate::fast::numbers(channels[0] * channels[1] * conv.taps(), 0.3);
            let mut packed = vec![1.0; blocks.len()];
            blocks.pack(&conv, &weights, &mut packed);
            assert_eq!(blocks.unpack(&conv, &packed), weights);
            let absent = packed.iter().filter(|&&weight| weight == 0.0).count();
            assert_eq!(absent, blocks.len() - weights.len());
            let mut gradient = vec![1.0; blocks.len()];
            blocks.clear_unused(&mut gradient);
            assert_eq!(gradient.iter().filter(|&&number| number == 0.0).count(), absent);

            let [mut forward, mut backward] = [(); 2].map(|()| vec![Row::default(); blocks.len() / LANES]);
            blocks.forward(pulp::Scalar, &packed, &mut forward);
            blocks.backward(pulp::Scalar, &packed, &mut backward);
            for out in 0..LANES * blocks.outs {
                for input in 0..LANES * blocks.ins {
                    for tap in 0..blocks.taps {
                        let [o, i] = [out / LANES, input / LANES];
                        let weight = packed
                            [((o * blocks.ins + i) * blocks.taps + tap) * AREA + input % LANES * LANES + out % LANES];
                        let there =
                            forward[((o * blocks.taps + tap) * blocks.ins + i) * LANES + out % LANES].0[input % LANES];
                        let back = backward[((i * blocks.taps + tap) * blocks.outs + o) * LANES + input % LANES].0
                            [out % LANES];
                        assert_eq!([there, back], [rounded(weight); 2]);
                        assert!((widened(there) - weight).abs() <= weight.abs() / 256.0);
                    }
                }
            }
        }
    }
}
