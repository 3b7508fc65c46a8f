//! The encoder for CPUs in bf16: activations and their gradients are stored in bf16, products of bf16 are summed in f32; trained weights,
//! statistics of batch norms, the optimiser and what is outside the encoder stay f32.
//!
//! Made for AMX, whose tiles multiply squares ([`engine`]); [`map`] says how numbers lie so that they do it without copies.

mod blur;
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
use crate::fast::parameters::OnCpu;
use crate::flat::Network;
use crate::resnet::Convolution;
use crate::{ImageBatch, InstructionSet};
use kernels::Blocks;
use network::NetworkTape;
use number::Row;
use pulp::Simd;
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

impl OnCpu for Cpu {
    type Tape = NetworkTape;

    fn instructions(&self) -> InstructionSet {
        self.instructions
    }

    fn packed_len(&self, conv: &Convolution) -> usize {
        Blocks::of(conv).len()
    }

    fn pack(&self, conv: &Convolution, weights: &[f32], packed: &mut [f32]) {
        Blocks::of(conv).pack(conv, weights, packed);
    }

    fn unpack(&self, conv: &Convolution, packed: &[f32]) -> Vec<f32> {
        Blocks::of(conv).unpack(conv, packed)
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
        self.numbers.give(gradients);
        if let Some(kernels) = self.kernels.take() {
            self.rows.give(kernels);
        }
    }
}
