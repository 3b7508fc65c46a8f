//! The encoder written by hand for CPUs: a ResNet in f32, forward, backward and AdamW.

mod algorithm;
pub(crate) mod arena;
mod conv;
mod gather;
mod gemm;
mod network;
pub(crate) mod norm;
mod operators;
pub(crate) mod optimizer;
mod parameters;
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

use crate::flat::{self, Machine, Network};
use crate::resnet::Convolution;
use crate::{AdamWStep, ImageBatch, Result};
use arena::Arena;
use candle_core::{Device, Tensor};
use network::NetworkTape;
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

impl Machine for Cpu {
    type Buffer = Vec<f32>;
    type Tape = NetworkTape;

    fn packed_len(&self, conv: &Convolution) -> usize {
        with_instructions!(self.instructions, simd => conv.packed_len(simd))
    }

    fn pack(&self, conv: &Convolution, weights: &[f32], packed: &mut [f32]) {
        with_instructions!(self.instructions, simd => conv.pack(simd, weights, packed));
    }

    fn unpack(&self, conv: &Convolution, packed: &[f32]) -> Vec<f32> {
        with_instructions!(self.instructions, simd => conv.unpack(simd, packed))
    }

    fn upload(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        Ok(values)
    }

    fn download(&self, buffer: &Vec<f32>) -> Result<Vec<f32>> {
        Ok(buffer.clone())
    }

    fn forward_train(network: &mut Network<Self>, images: &ImageBatch) -> Result<(Tensor, NetworkTape)> {
        let instructions = network.machine.instructions;
        let (embeddings, tape) = with_instructions!(instructions, simd => network.forward_train(simd, images));
        Ok((Tensor::from_vec(embeddings, (images.count(), network.dim), &Device::Cpu)?, tape))
    }

    fn forward(network: &Network<Self>, images: &ImageBatch) -> Result<Tensor> {
        let instructions = network.machine.instructions;
        let embeddings = with_instructions!(instructions, simd => network.forward(simd, images));
        Ok(Tensor::from_vec(embeddings, (images.count(), network.dim), &Device::Cpu)?)
    }

    fn backward(network: &Network<Self>, tape: NetworkTape, grad: &Tensor) -> Result<Vec<f32>> {
        let (instructions, grad) = (network.machine.instructions, flat::numbers(grad)?);
        Ok(with_instructions!(instructions, simd => network.backward(simd, tape, &grad)))
    }

    fn adamw(
        network: &mut Network<Self>,
        moments: [&mut Vec<f32>; 2],
        gradients: Vec<f32>,
        step: &AdamWStep,
    ) -> Result<()> {
        optimizer::apply(network.machine.instructions, network, moments, &gradients, step);
        network.machine.arena.give(gradients);
        Ok(())
    }
}
