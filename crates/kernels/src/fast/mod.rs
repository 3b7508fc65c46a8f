//! The encoder written by hand for CPUs: ResNet-18 in f32, forward, backward and AdamW.

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
pub use simd::{CpuKernels, InstructionSet, KERNELS_VARIABLE};

use crate::resnet::{self, EMBEDDING_DIM};
use crate::seam::{GradientsKind, TapeKind};
use crate::state::{checked, checked_moments};
use crate::{AdamWStep, Encoder, Error, Gradients, Images, Result, State, Tape};
use candle_core::{DType, Device, Tensor};
use conv::Convolution;
use network::{Layer, Network, NetworkTape};
use simd::with_instructions;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// ResNet-18 on the CPU, computed by the kernels of one [`InstructionSet`].
pub struct FastEncoder {
    instructions: InstructionSet,
    network: Network,
    /// First moments, laid out as the parameters.
    m: Vec<f32>,
    /// Second moments, laid out as the parameters.
    v: Vec<f32>,
    /// Tells this encoder's tapes and gradients from another's.
    id: u64,
}

/// What [`FastEncoder::backward`] needs, and whose it is.
pub(crate) struct FastTape {
    encoder: u64,
    network: NetworkTape,
}

/// Gradients laid out as the parameters, and whose they are.
pub(crate) struct FastGradients {
    encoder: u64,
    values: Vec<f32>,
}

impl FastEncoder {
    /// The encoder of `state` (torchvision's names and shapes), computing with `instructions`, which must be among
    /// [`InstructionSet::available`].
    pub fn new(state: &State, instructions: InstructionSet) -> Result<Self> {
        if !InstructionSet::available().contains(&instructions) {
            return Err(Error::Misuse(format!(
                "this machine has no {}; choose one of InstructionSet::available()",
                instructions.name()
            )));
        }
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let network = with_instructions!(instructions, simd => load(simd, state))?;
        let zeros = vec![0.0; network.parameters.len()];
        Ok(Self {
            instructions,
            network,
            m: zeros.clone(),
            v: zeros,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// The instruction set in use.
    pub fn instructions(&self) -> InstructionSet {
        self.instructions
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

    fn own_gradients<'a>(&self, gradients: &'a Gradients) -> Result<&'a [f32]> {
        match &gradients.0 {
            GradientsKind::Fast(gradients) if gradients.encoder == self.id => Ok(&gradients.values),
            _ => Err(Error::Misuse("the gradients are of another encoder".into())),
        }
    }
}

fn vector(values: &[f32]) -> Result<Tensor> {
    Ok(Tensor::new(values, &Device::Cpu)?)
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// The network of a state.
fn load<S: pulp::Simd>(simd: S, state: &State) -> Result<Network> {
    let tensors = checked(state)?;
    let tensor = |name: String| values(&tensors[&name]);
    let mut layers = Vec::new();
    let mut parameters = Vec::new();
    for plan in resnet::layers() {
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
    Ok(Network::new(layers, parameters))
}

impl Encoder for FastEncoder {
    fn forward_train(&mut self, images: &Images) -> Result<(Tensor, Tape)> {
        let network = &mut self.network;
        let (embeddings, network) =
            with_instructions!(self.instructions, simd => network.forward_train(simd, images))?;
        let embeddings = Tensor::from_vec(embeddings, (images.count(), EMBEDDING_DIM), &Device::Cpu)?;
        Ok((embeddings, Tape(TapeKind::Fast(Box::new(FastTape { encoder: self.id, network })))))
    }

    fn backward(&mut self, tape: Tape, grad: &Tensor) -> Result<Gradients> {
        let tape = match tape.0 {
            TapeKind::Fast(tape) if tape.encoder == self.id => tape.network,
            _ => return Err(Error::Misuse("the tape is of another encoder".into())),
        };
        let expected = [tape.count(), EMBEDDING_DIM];
        if grad.dims() != expected {
            return Err(Error::Misuse(format!(
                "the gradient's shape is {:?}, the embeddings' {expected:?}: they must be equal",
                grad.dims()
            )));
        }
        let grad = values(grad)?;
        let values = with_instructions!(self.instructions, simd => self.network.backward(simd, tape, &grad));
        Ok(Gradients(GradientsKind::Fast(FastGradients { encoder: self.id, values })))
    }

    fn apply(&mut self, gradients: Gradients, step: &AdamWStep) -> Result<()> {
        self.own_gradients(&gradients)?;
        let GradientsKind::Fast(FastGradients { values, .. }) = gradients.0 else {
            unreachable!("they are this encoder's");
        };
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

    fn forward(&self, images: &Images) -> Result<Tensor> {
        let embeddings = with_instructions!(self.instructions, simd => self.network.forward(simd, images));
        Ok(Tensor::from_vec(embeddings, (images.count(), EMBEDDING_DIM), &Device::Cpu)?)
    }

    fn dim(&self) -> usize {
        EMBEDDING_DIM
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
        let moments = checked_moments(state, &resnet::parameters())?;
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
        self.named(self.own_gradients(gradients)?, "")
    }
}
