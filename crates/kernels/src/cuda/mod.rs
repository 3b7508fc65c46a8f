//! The encoder written for CUDA: a ResNet in f32, forward, backward and AdamW, over own kernels and cuBLAS.
//!
//! Candle's operators would do (see [`crate::PortableEncoder`]), and take several times as long: a step on small images is a
//! matter of launches, and they launch several for what is one here. The plan is that of the CPU encoder: maps
//! channels last, convolutions as matrix products over columns, batch norm fused with its neighbours, a backward pass by
//! hand, and buffers that go from step to step. `kernels.cu` holds the kernels, `network.rs` the plan, `gpu.rs` what is
//! unsafe.

mod gpu;
mod network;

use crate::resnet::Architecture;
use crate::seam::{Owner, check_gradient};
use crate::state::{checked, checked_moments};
use crate::{AdamWStep, Encoder, Gradients, ImageBatch, Precision, Result, State, Tape};
use candle_core::{CudaDevice, DType, Device, Tensor};
use gpu::{Buffer, Gpu, Grid, Step, count, launch};
use network::{Layer, Network, NetworkTape};

pub(crate) use gpu::keep_memory;

/// An encoder on a CUDA device.
pub struct CudaEncoder {
    architecture: Architecture,
    network: Network,
    /// First moments, laid out as the parameters.
    m: Buffer,
    /// Second moments, laid out as the parameters.
    v: Buffer,
    /// The first so many parameters are convolutions' weights, which decay.
    decayed: usize,
    owner: Owner,
}

impl CudaEncoder {
    /// The encoder of `state` (torchvision's names and shapes) on `device`.
    pub fn new(
        architecture: &Architecture,
        state: &State,
        device: &CudaDevice,
        precision: Precision,
    ) -> Result<Self> {
        let tensors = checked(architecture, state)?;
        let gpu = Gpu::new(device, precision)?;
        let plan = architecture.plan();
        let mut layers = Vec::new();
        let (mut weights, mut running) = (0, 0);
        for plan in plan.layers {
            // Products run faster over rows of whole quadruples.
            let row = (plan.in_channels * plan.kernel * plan.kernel).next_multiple_of(4);
            let batches = tensors[&format!("{}.num_batches_tracked", plan.norm)].to_scalar()?;
            let channels = plan.out_channels;
            layers.push(Layer { row, weights, norm: 0, running, batches, plan });
            weights += channels * row;
            running += 2 * channels;
        }
        let decayed = weights;
        let mut len = weights;
        for layer in &mut layers {
            layer.norm = len;
            len += 2 * layer.plan.out_channels;
        }
        let tensor = |name: &str| numbers(&tensors[name]);
        let parameters = pack(&layers, len, tensor)?;
        let mut statistics = Vec::with_capacity(running);
        for Layer { plan, .. } in &layers {
            statistics.extend(numbers(&tensors[&format!("{}.running_mean", plan.norm)])?);
            statistics.extend(numbers(&tensors[&format!("{}.running_var", plan.norm)])?);
        }
        let (parameters, running) = (gpu.upload(&parameters)?, gpu.upload(&statistics)?);
        let (m, v) = (gpu.zeros(len)?, gpu.zeros(len)?);
        let network =
            Network { gpu, layers, blocks: plan.blocks, dim: architecture.dim(), parameters, running };
        Ok(Self { architecture: architecture.clone(), network, m, v, decayed, owner: Owner::new() })
    }

    /// The tensors of `values`, laid out as the parameters, under torchvision's names with `suffix`.
    fn named(&self, values: &Buffer, suffix: &str) -> Result<State> {
        let values = self.network.gpu.download(values)?;
        let mut named = State::new();
        for Layer { plan, row, weights, norm, .. } in &self.network.layers {
            let (channels, kernel) = (plan.in_channels, plan.kernel);
            let window = kernel * kernel;
            let rows = values[*weights..weights + plan.out_channels * row].chunks_exact(*row);
            let unpacked: Vec<f32> = rows
                .flat_map(|row| {
                    (0..channels * window).map(move |index| row[index % window * channels + index / window])
                })
                .collect();
            let shape = (plan.out_channels, channels, kernel, kernel);
            named.push((
                format!("{}.weight{suffix}", plan.conv),
                Tensor::from_vec(unpacked, shape, &Device::Cpu)?,
            ));
            for (index, part) in ["weight", "bias"].into_iter().enumerate() {
                let start = norm + index * plan.out_channels;
                let part_values = Tensor::new(&values[start..start + plan.out_channels], &Device::Cpu)?;
                named.push((format!("{}.{part}{suffix}", plan.norm), part_values));
            }
        }
        Ok(named)
    }
}

/// Named tensors in torchvision's layouts as one vector: a row of weights an output channel, the values of its window
/// `(kernel, kernel, channel)`; then the batch norms' weights and biases.
fn pack(layers: &[Layer], len: usize, tensor: impl Fn(&str) -> Result<Vec<f32>>) -> Result<Vec<f32>> {
    let mut packed = vec![0.0; len];
    for Layer { plan, row, weights, norm, .. } in layers {
        let (channels, window) = (plan.in_channels, plan.kernel * plan.kernel);
        let values = tensor(&format!("{}.weight", plan.conv))?;
        for (out, values) in values.chunks_exact(channels * window).enumerate() {
            let row = &mut packed[weights + out * row..][..channels * window];
            for (index, &value) in values.iter().enumerate() {
                row[index % window * channels + index / window] = value;
            }
        }
        for (index, part) in ["weight", "bias"].into_iter().enumerate() {
            packed[norm + index * plan.out_channels..][..plan.out_channels]
                .copy_from_slice(&tensor(&format!("{}.{part}", plan.norm))?);
        }
    }
    Ok(packed)
}

fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

impl Encoder for CudaEncoder {
    fn forward_train(&mut self, images: &ImageBatch) -> Result<(Tensor, Tape)> {
        let (embeddings, tape) = self.network.forward_train(images)?;
        let embeddings = self.network.gpu.tensor(embeddings, (images.count(), self.network.dim))?;
        Ok((embeddings, Tape::new(self.owner, tape)))
    }

    fn backward(&mut self, tape: Tape, grad: &Tensor) -> Result<Gradients> {
        let tape: NetworkTape = tape.into_content(self.owner)?;
        check_gradient(grad, [tape.count(), self.network.dim])?;
        let values = self.network.gpu.with_tensor(grad, |place| self.network.backward(tape, place))?;
        Ok(Gradients::new(self.owner, values))
    }

    fn apply(&mut self, gradients: Gradients, step: &AdamWStep) -> Result<()> {
        let values: Buffer = gradients.into_content(self.owner)?;
        let factors = step.factors();
        let numbers = Step {
            keep: factors.keep as f32,
            beta1: step.beta1 as f32,
            one_minus_beta1: (1.0 - step.beta1) as f32,
            beta2: step.beta2 as f32,
            one_minus_beta2: (1.0 - step.beta2) as f32,
            rate: factors.rate as f32,
            root_correction: factors.root_correction as f32,
            epsilon: step.epsilon as f32,
        };
        let Network { gpu, parameters, .. } = &self.network;
        let (decayed, total) = (count(self.decayed)?, count(parameters.len())?);
        #[rustfmt::skip]
        launch!(
            gpu, adamw, Grid::each(total), parameters.address, self.m.address, self.v.address, values.address, numbers,
            decayed, total,
        )?;
        gpu.give([values]);
        Ok(())
    }

    fn forward(&self, images: &ImageBatch) -> Result<Tensor> {
        let embeddings = self.network.forward(images)?;
        self.network.gpu.tensor(embeddings, (images.count(), self.network.dim))
    }

    fn dim(&self) -> usize {
        self.network.dim
    }

    fn state(&self) -> Result<State> {
        let running = self.network.gpu.download(&self.network.running)?;
        let mut parameters = self.named(&self.network.parameters, "")?.into_iter();
        let mut state = State::new();
        for Layer { plan, running: place, batches, .. } in &self.network.layers {
            state.extend(parameters.by_ref().take(3));
            for (index, part) in ["running_mean", "running_var"].into_iter().enumerate() {
                let start = place + index * plan.out_channels;
                let values = Tensor::new(&running[start..start + plan.out_channels], &Device::Cpu)?;
                state.push((format!("{}.{part}", plan.norm), values));
            }
            let batches = Tensor::new(*batches, &Device::Cpu)?;
            state.push((format!("{}.num_batches_tracked", plan.norm), batches));
        }
        Ok(state)
    }

    fn optimizer_state(&self) -> Result<State> {
        let (m, v) = (self.named(&self.m, ".m")?, self.named(&self.v, ".v")?);
        Ok(m.into_iter().zip(v).flat_map(|(m, v)| [m, v]).collect())
    }

    fn load_optimizer_state(&mut self, state: &State) -> Result<()> {
        let moments = checked_moments(state, &self.architecture.parameters())?;
        let (gpu, layers) = (&self.network.gpu, &self.network.layers);
        for (suffix, buffer) in [(".m", &mut self.m), (".v", &mut self.v)] {
            let values = pack(layers, buffer.len(), |name| numbers(&moments[&format!("{name}{suffix}")]))?;
            gpu.overwrite(buffer, &values)?;
        }
        Ok(())
    }

    fn named_gradients(&self, gradients: &Gradients) -> Result<State> {
        self.named(gradients.content::<Buffer>(self.owner)?, "")
    }
}
