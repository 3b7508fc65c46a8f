//! The encoder written by hand for CPUs: a ResNet in f32, forward, backward and AdamW.

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
mod simd;
mod stem;
mod winograd;
mod write;

pub use operators::{Operator, matrix_products, operators};
pub use simd::InstructionSet;

use crate::resnet::Architecture;
use crate::seam::{Owner, check_gradient};
use crate::state::{checked, checked_moments};
use crate::{AdamWStep, Arithmetic, Encoder, Gradients, ImageBatch, Result, State, Tape};
use candle_core::{DType, Device, Tensor};
use conv::Convolution;
use network::{Layer, Network, NetworkTape};
use simd::with_instructions;
use std::ops::Range;

/// An encoder on the CPU, computed by the kernels of one [`InstructionSet`].
pub struct FastEncoder {
    architecture: Architecture,
    instructions: InstructionSet,
    network: Network,
    /// First moments, laid out as the parameters.
    m: Vec<f32>,
    /// Second moments, laid out as the parameters.
    v: Vec<f32>,
    owner: Owner,
}

impl FastEncoder {
    /// The encoder of `state` (torchvision's names and shapes), computing with `instructions`, which must be among
    /// [`InstructionSet::available`].
    pub fn new(architecture: &Architecture, state: &State, instructions: InstructionSet) -> Result<Self> {
        Arithmetic::on_cpu(Some(instructions.name()))?;
        let network = with_instructions!(instructions, simd => load(simd, architecture, state))?;
        let (m, v) = (vec![0.0; network.parameters.len()], vec![0.0; network.parameters.len()]);
        let (architecture, owner) = (architecture.clone(), Owner::new());
        Ok(Self { architecture, instructions, network, m, v, owner })
    }

    /// The tensors of `values`, laid out as the parameters, under torchvision's names with `suffix`.
    fn named(&self, values: &[f32], suffix: &str) -> Result<State> {
        let mut named = State::new();
        for layer in &self.network.layers {
            let (name, conv) = (&layer.plan.norm, &layer.conv);
            let packed = &values[layer.weights.clone()];
            let weights = with_instructions!(self.instructions, simd => conv.unpack(simd, packed));
            let shape = (conv.out_channels, conv.in_channels, conv.kernel, conv.kernel);
            let weights = Tensor::from_vec(weights, shape, &Device::Cpu)?;
            named.push((format!("{}.weight{suffix}", layer.plan.conv), weights));
            for (part, range) in [("weight", &layer.weight), ("bias", &layer.bias)] {
                named.push((format!("{name}.{part}{suffix}"), vector(&values[range.clone()])?));
            }
        }
        Ok(named)
    }
}

fn vector(values: &[f32]) -> Result<Tensor> {
    Ok(Tensor::new(values, &Device::Cpu)?)
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// The network of a state.
fn load<S: pulp::Simd>(simd: S, architecture: &Architecture, state: &State) -> Result<Network> {
    let tensors = checked(architecture, state)?;
    let tensor = |name: String| values(&tensors[&name]);
    let plan = architecture.plan();
    let mut layers = Vec::new();
    let mut parameters = Vec::new();
    for plan in plan.layers {
        let conv = Convolution::from(&plan);
        let mut append = |values: &[f32]| -> Range<usize> {
            parameters.extend_from_slice(values);
            parameters.len() - values.len()..parameters.len()
        };
        let mut packed = vec![0.0; conv.packed_len::<S>()];
        conv.pack(simd, &tensor(format!("{}.weight", plan.conv))?, &mut packed);
        let norm = &plan.norm;
        layers.push(Layer {
            weights: append(&packed),
            weight: append(&tensor(format!("{norm}.weight"))?),
            bias: append(&tensor(format!("{norm}.bias"))?),
            running_mean: tensor(format!("{norm}.running_mean"))?,
            running_var: tensor(format!("{norm}.running_var"))?,
            batches: tensors[&format!("{norm}.num_batches_tracked")].to_scalar()?,
            conv,
            plan,
        });
    }
    Ok(Network::new(layers, plan.blocks, architecture.dim(), parameters))
}

impl Encoder for FastEncoder {
    fn forward_train(&mut self, images: &ImageBatch) -> Result<(Tensor, Tape)> {
        let network = &mut self.network;
        let (embeddings, tape) =
            with_instructions!(self.instructions, simd => network.forward_train(simd, images))?;
        let embeddings = Tensor::from_vec(embeddings, (images.count(), self.network.dim), &Device::Cpu)?;
        Ok((embeddings, Tape::new(self.owner, tape)))
    }

    fn backward(&mut self, tape: Tape, grad: &Tensor) -> Result<Gradients> {
        let tape: NetworkTape = tape.into_content(self.owner)?;
        check_gradient(grad, [tape.count(), self.network.dim])?;
        let grad = values(grad)?;
        let values = with_instructions!(self.instructions, simd => self.network.backward(simd, tape, &grad));
        Ok(Gradients::new(self.owner, values))
    }

    fn apply(&mut self, gradients: Gradients, step: &AdamWStep) -> Result<()> {
        let values: Vec<f32> = gradients.into_content(self.owner)?;
        let Network { layers, parameters, arena, .. } = &mut self.network;
        for layer in layers {
            let tensors = [(&layer.weights, true), (&layer.weight, false), (&layer.bias, false)];
            for (range, decays) in tensors.map(|(range, decays)| (range.clone(), decays)) {
                let (weights, gradient) = (&mut parameters[range.clone()], &values[range.clone()]);
                let (m, v) = (&mut self.m[range.clone()], &mut self.v[range]);
                with_instructions!(self.instructions, simd => {
                    optimizer::adamw(simd, step, decays, weights, m, v, gradient)
                });
            }
        }
        arena.give(values);
        Ok(())
    }

    fn forward(&self, images: &ImageBatch) -> Result<Tensor> {
        let embeddings = with_instructions!(self.instructions, simd => self.network.forward(simd, images));
        Ok(Tensor::from_vec(embeddings, (images.count(), self.network.dim), &Device::Cpu)?)
    }

    fn dim(&self) -> usize {
        self.network.dim
    }

    fn state(&self) -> Result<State> {
        let trained = self.named(&self.network.parameters, "")?;
        let mut state = State::new();
        for (layer, tensors) in self.network.layers.iter().zip(trained.chunks_exact(3)) {
            let norm = &layer.plan.norm;
            state.extend_from_slice(tensors);
            state.push((format!("{norm}.running_mean"), vector(&layer.running_mean)?));
            state.push((format!("{norm}.running_var"), vector(&layer.running_var)?));
            state.push((format!("{norm}.num_batches_tracked"), Tensor::new(layer.batches, &Device::Cpu)?));
        }
        Ok(state)
    }

    fn optimizer_state(&self) -> Result<State> {
        let (m, v) = (self.named(&self.m, ".m")?, self.named(&self.v, ".v")?);
        Ok(m.into_iter().zip(v).flat_map(|(m, v)| [m, v]).collect())
    }

    fn load_optimizer_state(&mut self, state: &State) -> Result<()> {
        let moments = checked_moments(state, &self.architecture.parameters())?;
        for (suffix, flat) in [("m", &mut self.m), ("v", &mut self.v)] {
            for layer in &self.network.layers {
                let (norm, conv) = (&layer.plan.norm, &layer.conv);
                let tensor = |name: &str| values(&moments[&format!("{name}.{suffix}")]);
                let weights = tensor(&format!("{}.weight", layer.plan.conv))?;
                let packed = &mut flat[layer.weights.clone()];
                with_instructions!(self.instructions, simd => conv.pack(simd, &weights, packed));
                flat[layer.weight.clone()].copy_from_slice(&tensor(&format!("{norm}.weight"))?);
                flat[layer.bias.clone()].copy_from_slice(&tensor(&format!("{norm}.bias"))?);
            }
        }
        Ok(())
    }

    fn named_gradients(&self, gradients: &Gradients) -> Result<State> {
        self.named(gradients.content::<Vec<f32>>(self.owner)?, "")
    }
}
