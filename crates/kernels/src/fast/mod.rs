//! The encoder written by hand for CPUs: a ResNet in f32, forward, backward and AdamW.

mod algorithm;
mod arena;
mod conv;
mod gather;
mod gemm;
mod network;
mod norm;
mod operators;
mod optimizer;
mod pool;
mod positions;
mod read;
mod shape;
mod simd;
mod stem;
mod winograd;
mod write;

pub use operators::{Operator, matrix_products, operators};
pub use simd::InstructionSet;

use crate::flat::{Machine, Network, numbers};
use crate::resnet::ConvBatchNorm;
use crate::{AdamWStep, ImageBatch, Result};
use arena::Arena;
use candle_core::{Device, Tensor};
use network::NetworkTape;
use shape::Convolution;
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

impl Network<Cpu> {
    fn tensor(&self, embeddings: Vec<f32>) -> Result<Tensor> {
        Ok(Tensor::from_vec(embeddings, ((), self.dim), &Device::Cpu)?)
    }
}

impl Machine for Cpu {
    type Buffer = Vec<f32>;
    type Tape = NetworkTape;

    fn packed_len(&self, plan: &ConvBatchNorm) -> usize {
        with_instructions!(self.instructions, simd => Convolution::from(plan).packed_len(simd))
    }

    fn pack(&self, plan: &ConvBatchNorm, weights: &[f32], packed: &mut [f32]) {
        with_instructions!(self.instructions, simd => Convolution::from(plan).pack(simd, weights, packed));
    }

    fn unpack(&self, plan: &ConvBatchNorm, packed: &[f32]) -> Vec<f32> {
        with_instructions!(self.instructions, simd => Convolution::from(plan).unpack(simd, packed))
    }

    fn upload(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        Ok(values)
    }

    fn download(&self, buffer: &Vec<f32>) -> Result<Vec<f32>> {
        Ok(buffer.clone())
    }

    fn forward_train(network: &mut Network<Self>, images: &ImageBatch) -> Result<(Tensor, NetworkTape)> {
        let (embeddings, tape) = with_instructions!(network.machine.instructions, simd => {
            network.forward_train(simd, images)
        })?;
        Ok((network.tensor(embeddings)?, tape))
    }

    fn forward(network: &Network<Self>, images: &ImageBatch) -> Result<Tensor> {
        let instructions = network.machine.instructions;
        network.tensor(with_instructions!(instructions, simd => network.forward(simd, images)))
    }

    fn backward(network: &Network<Self>, tape: NetworkTape, grad: &Tensor) -> Result<Vec<f32>> {
        let (instructions, grad) = (network.machine.instructions, numbers(grad)?);
        Ok(with_instructions!(instructions, simd => network.backward(simd, tape, &grad)))
    }

    fn adamw(
        network: &mut Network<Self>,
        [m, v]: [&mut Vec<f32>; 2],
        gradients: Vec<f32>,
        step: &AdamWStep,
    ) -> Result<()> {
        let Network { machine, parameters, decayed, .. } = network;
        let (decayed, keep) = (*decayed, step.factors().keep);
        for (range, keep) in [(0..decayed, keep), (decayed..gradients.len(), 1.0)] {
            let (weights, gradient) = (&mut parameters[range.clone()], &gradients[range.clone()]);
            let (m, v) = (&mut m[range.clone()], &mut v[range]);
            with_instructions!(machine.instructions, simd => {
                optimizer::adamw(simd, step, keep, weights, m, v, gradient)
            });
        }
        machine.arena.give(gradients);
        Ok(())
    }
}
