//! The encoder through Candle's own operators and autograd: on the CPU the oracle of the tests, on CUDA and Metal the
//! implementation.
//!
//! Layout NCHW, as Candle's convolutions want it. Three operators are written here from simpler ones: ReLU and max-pooling, because Candle's
//! have other gradients than PyTorch's (ReLU passes the gradient at 0; max-pooling has none for overlapping windows, and spreads it over
//! ties), and the blur, because Candle computes a convolution of each channel by itself one channel after the other.

use crate::adamw::{AdamW, AdamWStep};
use crate::resnet::{self, Architecture, BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, Block, ConvBatchNorm};
use crate::seam::{Owned, Owner, check_gradient};
use crate::state::checked;
use crate::{Encoder, Error, Gradients, Inputs, Result, State, Tape};
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use std::collections::HashMap;

/// An encoder in Candle's operators.
pub struct PortableEncoder {
    device: Device,
    dtype: DType,
    layers: Vec<Layer>,
    blocks: Vec<Block>,
    dim: usize,
    /// All trained tensors, in the order of [`Architecture::parameters`].
    parameters: Vec<(String, Var)>,
    optimizer: AdamW,
    owner: Owner,
}

/// A convolution and its batch norm.
struct Layer {
    plan: ConvBatchNorm,
    conv: Var,
    weight: Var,
    bias: Var,
    running_mean: Tensor,
    running_var: Tensor,
    batches: i64,
}

impl PortableEncoder {
    /// The encoder of `state` on `device`, computing in `dtype` (f32, or f64 for tests).
    pub fn new(architecture: &Architecture, state: &State, device: &Device, dtype: DType) -> Result<Self> {
        let tensors = checked(architecture, state)?;
        let plan = architecture.plan();
        let layer = |plan| Layer::new(plan, &tensors, device, dtype);
        let layers = plan.layers.into_iter().map(layer).collect::<Result<Vec<_>>>()?;
        let parameters: Vec<_> = layers.iter().flat_map(Layer::parameters).collect();
        let (device, dim, owner) = (device.clone(), architecture.dim(), Owner::new());
        let optimizer = AdamW::new(parameters.clone())?;
        Ok(Self { device, dtype, layers, blocks: plan.blocks, dim, parameters, optimizer, owner })
    }

    /// Pixels to normalised values, `(batch, 3, size, size)`.
    fn input(&self, inputs: &Inputs) -> Result<Tensor> {
        let images = inputs.images()?;
        let (count, size) = (images.count(), images.size_px());
        let pixels = Tensor::from_slice(images.pixels(), (count, size, size, 3), &self.device)?;
        let pixels = pixels.permute((0, 3, 1, 2))?.to_dtype(self.dtype)?.contiguous()?;
        let row = |values: [f32; 3]| Tensor::new(&values, &self.device)?.to_dtype(self.dtype)?.reshape((1, 3, 1, 1));
        Ok((pixels / 255.0)?.broadcast_sub(&row(resnet::MEAN)?)?.broadcast_div(&row(resnet::DEVIATION)?)?)
    }
}

impl Layer {
    fn new(plan: ConvBatchNorm, tensors: &HashMap<String, Tensor>, device: &Device, dtype: DType) -> Result<Self> {
        let tensor = |name: String| -> Result<Tensor> { Ok(tensors[&name].to_device(device)?.to_dtype(dtype)?) };
        let var = |name: String| -> Result<Var> { Ok(Var::from_tensor(&tensor(name)?)?) };
        let (conv, norm) = (&plan.conv, &plan.norm);
        Ok(Self {
            conv: var(format!("{conv}.weight"))?,
            weight: var(format!("{norm}.weight"))?,
            bias: var(format!("{norm}.bias"))?,
            running_mean: tensor(format!("{norm}.running_mean"))?,
            running_var: tensor(format!("{norm}.running_var"))?,
            batches: tensors[&format!("{norm}.num_batches_tracked")].to_scalar()?,
            plan,
        })
    }

    fn parameters(&self) -> [(String, Var); 3] {
        let (conv, norm) = (&self.plan.conv, &self.plan.norm);
        [
            (format!("{conv}.weight"), self.conv.clone()),
            (format!("{norm}.weight"), self.weight.clone()),
            (format!("{norm}.bias"), self.bias.clone()),
        ]
    }

    fn convolve(&self, input: &Tensor) -> Result<Tensor> {
        Ok(input.conv2d(&self.conv, self.plan.shape.padding, self.plan.shape.stride, 1, 1)?)
    }

    /// Convolution and batch norm with the batch's own statistics, which move the running ones.
    fn train(&mut self, input: &Tensor) -> Result<Tensor> {
        let x = self.convolve(input)?;
        let count = x.elem_count() / self.plan.shape.out_channels;
        if count < 2 {
            return Err(Error::NoVariance(self.plan.norm.clone()));
        }
        let mean = x.mean_keepdim((0, 2, 3))?;
        let centered = x.broadcast_sub(&mean)?;
        let variance = centered.sqr()?.mean_keepdim((0, 2, 3))?;

        let unbiased = count as f64 / (count - 1) as f64;
        let running = |old: &Tensor, new: &Tensor, factor: f64| -> Result<Tensor> {
            let new = (new.detach().flatten_all()? * (BATCH_NORM_MOMENTUM * factor))?;
            Ok(((old * (1.0 - BATCH_NORM_MOMENTUM))? + new)?)
        };
        self.running_mean = running(&self.running_mean, &mean, 1.0)?;
        self.running_var = running(&self.running_var, &variance, unbiased)?;
        self.batches += 1;
        self.scale_and_shift(&centered, &variance)
    }

    /// Convolution and batch norm with the running statistics.
    fn infer(&self, input: &Tensor) -> Result<Tensor> {
        let x = self.convolve(input)?;
        let centered = x.broadcast_sub(&self.running_mean.reshape((1, (), 1, 1))?)?;
        self.scale_and_shift(&centered, &self.running_var.reshape((1, (), 1, 1))?)
    }

    fn scale_and_shift(&self, centered: &Tensor, variance: &Tensor) -> Result<Tensor> {
        let normalized = centered.broadcast_div(&(variance + BATCH_NORM_EPSILON)?.sqrt()?)?;
        let (weight, bias) = (self.weight.reshape((1, (), 1, 1))?, self.bias.reshape((1, (), 1, 1))?);
        Ok(normalized.broadcast_mul(&weight)?.broadcast_add(&bias)?)
    }
}

impl Encoder for PortableEncoder {
    fn forward_train(&mut self, images: &Inputs) -> Result<(Tensor, Tape)> {
        let (input, layers) = (self.input(images)?, &mut self.layers);
        let embeddings = embed(&self.blocks, &input, |layer, x| layers[layer].train(x))?;
        Ok((embeddings.detach(), Tape(Owned::new(self.owner, embeddings))))
    }

    fn backward(&mut self, tape: Tape, grad: &Tensor) -> Result<Gradients> {
        // The embeddings with their autograd graph.
        let embeddings: Tensor = tape.0.open(self.owner)?;
        check_gradient(grad, [embeddings.dim(0)?, self.dim])?;
        let gradients: GradStore = (&embeddings * grad)?.sum_all()?.backward()?;
        Ok(Gradients(Owned::new(self.owner, gradients)))
    }

    fn apply(&mut self, gradients: Gradients, step: &AdamWStep) -> Result<()> {
        self.optimizer.step(gradients.0.view(self.owner)?, step)
    }

    fn forward(&self, images: &Inputs) -> Result<Tensor> {
        Ok(embed(&self.blocks, &self.input(images)?, |layer, x| self.layers[layer].infer(x))?.detach())
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn state(&self) -> Result<State> {
        let cpu = Device::Cpu;
        let mut state = State::new();
        for layer in &self.layers {
            for (name, var) in layer.parameters() {
                state.push((name, var.as_tensor().detach().to_device(&cpu)?.copy()?));
            }
            let norm = &layer.plan.norm;
            state.push((format!("{norm}.running_mean"), layer.running_mean.to_device(&cpu)?));
            state.push((format!("{norm}.running_var"), layer.running_var.to_device(&cpu)?));
            state.push((format!("{norm}.num_batches_tracked"), Tensor::new(layer.batches, &cpu)?));
        }
        Ok(state)
    }

    fn optimizer_state(&self) -> Result<State> {
        self.optimizer.state()
    }

    fn load_optimizer_state(&mut self, state: &State) -> Result<()> {
        self.optimizer.load_state(state)
    }

    fn named_gradients(&self, gradients: &Gradients) -> Result<State> {
        let gradients: &GradStore = gradients.0.view(self.owner)?;
        let named = |(name, var): &(String, Var)| {
            let gradient = gradients.get(var).expect("the embeddings depend on every parameter");
            Ok((name.clone(), gradient.to_device(&Device::Cpu)?))
        };
        self.parameters.iter().map(named).collect()
    }
}

/// The embeddings of normalised images; `layer` computes a convolution and its batch norm.
fn embed(blocks: &[Block], images: &Tensor, mut layer: impl FnMut(usize, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let mut x = max_pool(&relu(&layer(0, images)?)?)?;
    for block in blocks {
        let blurred = block.blurred.map(|_| blur(&x)).transpose()?;
        let halved = blurred.as_ref().unwrap_or(&x);
        let mut branch = layer(block.first, if block.blurred == Some(block.first) { halved } else { &x })?;
        for next in block.first + 1..=block.last {
            let mut inner = relu(&branch)?;
            if block.blurred == Some(next) {
                inner = blur(&inner)?;
            }
            branch = layer(next, &inner)?;
        }
        let shortcut = match block.downsample {
            Some(projection) => layer(projection, halved)?,
            None => x,
        };
        x = relu(&(branch + shortcut)?)?;
    }
    Ok(x.mean((2, 3))?)
}

/// ReLU with gradient 0 at 0, as PyTorch's.
fn relu(x: &Tensor) -> Result<Tensor> {
    Ok((x * x.gt(0.0)?.to_dtype(x.dtype())?)?)
}

/// See [`Architecture::blur_pool`].
fn blur(x: &Tensor) -> Result<Tensor> {
    let along = |x: &Tensor, dimension: usize| -> Result<Tensor> {
        let (padded, len) = (x.pad_with_zeros(dimension, 1, 1)?, x.dim(dimension)?);
        Ok(((x * 2.0)? + (padded.narrow(dimension, 0, len)? + padded.narrow(dimension, 2, len)?)?)?)
    };
    Ok((along(&along(x, 2)?, 3)? / 16.0)?)
}

/// Max-pooling, window 3, stride 2, padding 1; the gradient goes to the first of equal maxima, as PyTorch's.
///
/// Padded to an even number of rows and columns, the map falls apart into four maps of every second row and column; the
/// nine members of a window are nine shifted views of those.
fn max_pool(x: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let (rows, columns) = (height.div_ceil(2), width.div_ceil(2));
    let padded = pad(&pad(x, 2, 2 * rows + 2)?, 3, 2 * columns + 2)?;
    let split = padded.reshape((batch * channels, rows + 1, 2, columns + 1, 2))?;
    let mut largest: Option<Tensor> = None;
    for row in 0..3 {
        for column in 0..3 {
            let member = split
                .narrow(2, row % 2, 1)?
                .narrow(4, column % 2, 1)?
                .narrow(1, row / 2, rows)?
                .narrow(3, column / 2, columns)?
                .contiguous()?;
            largest = Some(match largest {
                Some(largest) => member.gt(&largest)?.where_cond(&member, &largest)?,
                None => member,
            });
        }
    }
    let largest = largest.expect("a window has nine members");
    Ok(largest.reshape((batch, channels, rows, columns))?)
}

/// One row or column of the lowest number before `x`, and as many after it as make `length`.
fn pad(x: &Tensor, dimension: usize, length: usize) -> Result<Tensor> {
    let fill = |count: usize| -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        shape[dimension] = count;
        Ok(Tensor::full(f32::MIN, shape, x.device())?.to_dtype(x.dtype())?)
    };
    let after = length - 1 - x.dim(dimension)?;
    Ok(Tensor::cat(&[&fill(1)?, x, &fill(after)?], dimension)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against Candle's own convolution, of one channel after the other.
    #[test]
    fn the_blur_is_a_convolution_of_each_channel_by_itself() {
        let cpu = Device::Cpu;
        for (images, channels, height, width) in [(1, 64, 1, 1), (2, 64, 1, 6), (33, 4, 5, 7), (1, 128, 8, 3)] {
            let count = images * channels * height * width;
            let x: Vec<f64> = (0..count).map(|at| (at as f64 * 0.73).sin()).collect();
            let x = Tensor::from_vec(x, (images, channels, height, width), &cpu).unwrap();
            let filter = [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0].map(|weight: f64| weight / 16.0);
            let filters = Tensor::from_vec(filter.repeat(channels), (channels, 1, 3, 3), &cpu).unwrap();
            let expected = x.conv2d(&filters, 1, 1, 1, channels).unwrap();
            let apart = (blur(&x).unwrap() - expected).unwrap().abs().unwrap().flatten_all().unwrap();
            assert!(apart.max(0).unwrap().to_scalar::<f64>().unwrap() < 1e-14);
        }
    }
}
