//! The encoder written for CUDA: a ResNet in f32 or with maps in bf16, forward, backward and AdamW, over own kernels and cuBLAS.
//!
//! Candle's operators would do (see [`crate::PortableEncoder`]), and take several times as long: a step on small images is a
//! matter of launches, and they launch several for what is one here. The plan is that of the CPU encoder: maps
//! channels last, convolutions as matrix products over columns, batch norm fused with its neighbours, a backward pass by
//! hand, and buffers that go from step to step. `kernels.cu` holds the kernels, `network.rs` the plan, `gpu.rs` what is
//! unsafe.

mod gpu;
mod kernels;
mod network;

use crate::flat::{FlatEncoder, Machine, Network};
use crate::resnet::{Architecture, Convolution};
use crate::{AdamWStep, Encoder, ImageBatch, Precision, Result, State};
use candle_core::Tensor;
use candle_core::cuda_backend::CudaDevice;
use gpu::{Buffer, Gpu, Number};
use half::bf16;
use kernels::Step;
use network::{NetworkTape, row};

pub(crate) use gpu::keep_memory;

/// The encoder of `state` on `device`.
pub(crate) fn encoder(
    architecture: &Architecture,
    state: &State,
    device: &CudaDevice,
    precision: Precision,
) -> Result<Box<dyn Encoder>> {
    Ok(match precision {
        Precision::Bf16 => Box::new(FlatEncoder::new(architecture, state, Gpu::<bf16>::new(device, precision)?)?),
        Precision::F32 | Precision::Tf32 => {
            Box::new(FlatEncoder::new(architecture, state, Gpu::<f32>::new(device, precision)?)?)
        }
    })
}

impl<N: Number> Machine for Gpu<N> {
    type Buffer = Buffer;
    type Tape = NetworkTape<N>;

    fn packed_len(&self, conv: &Convolution) -> usize {
        conv.out_channels * row::<N>(conv)
    }

    /// A row of weights an output channel, the values of its window `(kernel, kernel, channel)`.
    fn pack(&self, conv: &Convolution, weights: &[f32], packed: &mut [f32]) {
        let (channels, window) = (conv.in_channels, conv.taps());
        let rows = packed.chunks_exact_mut(row::<N>(conv));
        for (row, values) in rows.zip(weights.chunks_exact(channels * window)) {
            for (index, &value) in values.iter().enumerate() {
                row[index % window * channels + index / window] = value;
            }
        }
    }

    fn unpack(&self, conv: &Convolution, packed: &[f32]) -> Vec<f32> {
        let (channels, window) = (conv.in_channels, conv.taps());
        let rows = packed.chunks_exact(row::<N>(conv));
        rows.flat_map(|row| (0..channels * window).map(move |index| row[index % window * channels + index / window]))
            .collect()
    }

    fn upload(&self, values: Vec<f32>) -> Result<Buffer> {
        Ok(Buffer::new(self.device.clone_htod(&values)?))
    }

    fn download(&self, buffer: &Buffer) -> Result<Vec<f32>> {
        Ok(self.device.clone_dtoh(&buffer.slice)?)
    }

    fn forward_train(network: &mut Network<Self>, images: &ImageBatch) -> Result<(Tensor, NetworkTape<N>)> {
        let (embeddings, tape) = network.forward_train(images)?;
        Ok((network.machine.tensor(embeddings, (images.count(), network.dim)), tape))
    }

    fn forward(network: &Network<Self>, images: &ImageBatch) -> Result<Tensor> {
        Ok(network.machine.tensor(network.forward(images)?, (images.count(), network.dim)))
    }

    fn backward(network: &Network<Self>, tape: NetworkTape<N>, grad: &Tensor) -> Result<Buffer> {
        network.machine.with_tensor(grad, |grad| network.backward(tape, grad))
    }

    fn adamw(network: &mut Network<Self>, [m, v]: [&mut Buffer; 2], gradients: Buffer, step: &AdamWStep) -> Result<()> {
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
        let (parameters, moments) = (network.parameters.view(), [m.view(), v.view()]);
        network.machine.adamw(parameters, moments, gradients.view(), numbers, network.decayed)?;
        network.machine.vectors.give([gradients]);
        Ok(())
    }
}
