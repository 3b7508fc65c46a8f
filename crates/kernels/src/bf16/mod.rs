//! The encoder for CPUs in bf16: activations and their gradients are stored in bf16, products of bf16 are summed in f32; trained weights,
//! statistics of batch norms, the optimiser and what is outside the encoder stay f32.
//!
//! Made for AMX, whose tiles multiply squares ([`engine`]); [`map`] says how numbers lie so that they do it without copies.

mod conv;
mod engine;
mod kernels;
mod map;
mod network;
mod number;
mod operators;
mod passes;
mod stem;

pub(crate) use engine::Engine;
pub(crate) use operators::{operators, squares};

use crate::fast::arena::Arena;
use crate::fast::optimizer;
use crate::fast::simd::with_instructions;
use crate::flat::{Machine, Network, numbers};
use crate::resnet::Convolution;
use crate::{AdamWStep, ImageBatch, InstructionSet, Result};
use candle_core::{Device, Tensor};
use kernels::Blocks;
use network::NetworkTape;
use number::Row;
use std::sync::OnceLock;

/// The CPU, multiplying with an [`Engine`], and doing the rest with the kernels of an [`InstructionSet`].
pub(crate) struct Cpu {
    engine: Engine,
    instructions: InstructionSet,
    rows: Arena<Row>,
    bytes: Arena<u8>,
    numbers: Arena<f32>,
    /// Of all layers' outputs, made from the weights when they are first needed.
    kernels: OnceLock<Vec<Row>>,
}

impl Cpu {
    /// With `engine` and `instructions`, which must be among those available.
    pub(crate) fn new(engine: Engine, instructions: InstructionSet) -> Self {
        let (rows, bytes, numbers) = (Arena::default(), Arena::default(), Arena::default());
        Self { engine, instructions, rows, bytes, numbers, kernels: OnceLock::new() }
    }
}

impl Machine for Cpu {
    type Buffer = Vec<f32>;
    type Tape = NetworkTape;

    fn packed_len(&self, conv: &Convolution) -> usize {
        Blocks::of(conv).len()
    }

    fn pack(&self, conv: &Convolution, weights: &[f32], packed: &mut [f32]) {
        Blocks::of(conv).pack(conv, weights, packed);
    }

    fn unpack(&self, conv: &Convolution, packed: &[f32]) -> Vec<f32> {
        Blocks::of(conv).unpack(conv, packed)
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
        let (instructions, grad) = (network.machine.instructions, numbers(grad)?);
        Ok(with_instructions!(instructions, simd => network.backward(simd, tape, &grad)))
    }

    fn adamw(
        network: &mut Network<Self>,
        moments: [&mut Vec<f32>; 2],
        gradients: Vec<f32>,
        step: &AdamWStep,
    ) -> Result<()> {
        optimizer::apply(network.machine.instructions, network, moments, &gradients, step);
        network.machine.numbers.give(gradients);
        if let Some(kernels) = network.machine.kernels.take() {
            network.machine.rows.give(kernels);
        }
        Ok(())
    }
}
