//! The encoder written by hand for CPUs: a ResNet in f32, forward, backward and AdamW.

mod algorithm;
pub(crate) mod arena;
mod blur;
mod conv;
mod gather;
mod gemm;
mod network;
pub(crate) mod norm;
mod operators;
mod optimizer;
pub(crate) mod parameters;
pub(crate) mod pool;
mod positions;
mod read;
mod shape;
pub(crate) mod simd;
mod stem;
mod winograd;
mod write;

pub use operators::{Operator, matrix_products};
pub(crate) use operators::{numbers, of_layers, operators};
pub use simd::InstructionSet;

use crate::ImageBatch;
use crate::flat::Network;
use crate::resnet::Convolution;
use arena::Arena;
use network::NetworkTape;
use parameters::OnCpu;
use pulp::Simd;
use simd::with_instructions;

/// The CPU, computing with the kernels of one [`InstructionSet`].
pub(crate) struct Cpu {
    instructions: InstructionSet,
    arena: Arena,
    bytes: Arena<u8>,
}

impl Cpu {
    /// With `instructions`, which must be among [`InstructionSet::available`].
    pub(crate) fn new(instructions: InstructionSet) -> Self {
        Self { instructions, arena: Arena::default(), bytes: Arena::default() }
    }
}

impl OnCpu for Cpu {
    type Tape = NetworkTape;

    fn instructions(&self) -> InstructionSet {
        self.instructions
    }

    fn packed_len(&self, conv: &Convolution) -> usize {
        with_instructions!(self.instructions, simd => conv.packed_len(simd))
    }

    fn pack(&self, conv: &Convolution, weights: &[f32], packed: &mut [f32]) {
        with_instructions!(self.instructions, simd => conv.pack(simd, weights, packed));
    }

    fn unpack(&self, conv: &Convolution, packed: &[f32]) -> Vec<f32> {
        with_instructions!(self.instructions, simd => conv.unpack(simd, packed))
    }

    fn forward_train<S: Simd>(network: &mut Network<Self>, simd: S, images: &ImageBatch) -> (Vec<f32>, NetworkTape) {
        network.forward_train(simd, images)
    }

    fn forward<S: Simd>(network: &Network<Self>, simd: S, images: &ImageBatch) -> Vec<f32> {
        network.forward(simd, images)
    }

    fn backward<S: Simd>(network: &Network<Self>, simd: S, tape: NetworkTape, grad: &[f32]) -> Vec<f32> {
        network.backward(simd, tape, grad)
    }

    fn moved(&mut self, gradients: Vec<f32>) {
        self.arena.give(gradients);
    }
}
