//! What the encoders for CPUs share: parameters in the memory at hand, layers' outcomes, batch norms and their statistics.

use super::norm::{Backward, ChannelSums, Normalization};
use super::optimizer;
use super::simd::{InstructionSet, with_instructions};
use crate::flat::{self, Machine, Network};
use crate::resnet::{BATCH_NORM_MOMENTUM, Convolution};
use crate::{AdamWStep, ImageBatch, Result};
use candle_core::{Device, Tensor};
use pulp::Simd;

/// A layer's outcome: the convolution's output, numbers of type `T`, and the batch norm of it.
pub(crate) struct Output<T> {
    pub(crate) z: Vec<T>,
    pub(crate) norm: Normalization,
}

/// A block's outcome.
pub(crate) struct BlockTape<T> {
    /// Those of its convolutions, without the shortcut's.
    pub(crate) layers: Vec<Output<T>>,
    /// What stands between them, where it is kept.
    pub(crate) inner: Vec<Vec<T>>,
    pub(crate) downsample: Option<Output<T>>,
    /// With BlurPool the smoothed input, which the shortcut reads, and the smoothed input of the convolution with the stride, where that is
    /// another map.
    pub(crate) blurred: Vec<Vec<T>>,
    pub(crate) out: Vec<T>,
}

impl<T> BlockTape<T> {
    /// The outcome of the last convolution.
    pub(crate) fn last(&self) -> &Output<T> {
        self.layers.last().expect("a block has layers")
    }
}

/// An encoder written by hand for CPUs, as far as it differs from others. Passes are compiled for the instructions of `S`.
pub(crate) trait OnCpu: Sized + Send {
    /// What the backward pass needs of a batch.
    type Tape: Send + 'static;

    fn instructions(&self) -> InstructionSet;
    /// See [`Machine::packed_len`], and for the next two likewise.
    fn packed_len(&self, conv: &Convolution) -> usize;
    fn pack(&self, conv: &Convolution, weights: &[f32], packed: &mut [f32]);
    fn unpack(&self, conv: &Convolution, packed: &[f32]) -> Vec<f32>;
    /// Embeddings `(images, dim)` with the batch's statistics, which move the running ones.
    fn forward_train<S: Simd>(network: &mut Network<Self>, simd: S, images: &ImageBatch) -> (Vec<f32>, Self::Tape);
    /// Embeddings `(images, dim)` with the running statistics.
    fn forward<S: Simd>(network: &Network<Self>, simd: S, images: &ImageBatch) -> Vec<f32>;
    /// The gradients of all parameters, laid out as the parameters, from that of the embeddings.
    fn backward<S: Simd>(network: &Network<Self>, simd: S, tape: Self::Tape, grad: &[f32]) -> Vec<f32>;
    /// Takes back the gradients of a step that has moved the weights.
    fn moved(&mut self, gradients: Vec<f32>);
}

impl<C: OnCpu> Machine for C {
    type Buffer = Vec<f32>;
    type Tape = C::Tape;

    fn packed_len(&self, conv: &Convolution) -> usize {
        OnCpu::packed_len(self, conv)
    }

    fn pack(&self, conv: &Convolution, weights: &[f32], packed: &mut [f32]) {
        OnCpu::pack(self, conv, weights, packed);
    }

    fn unpack(&self, conv: &Convolution, packed: &[f32]) -> Vec<f32> {
        OnCpu::unpack(self, conv, packed)
    }

    fn upload(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        Ok(values)
    }

    fn download(&self, buffer: &Vec<f32>) -> Result<Vec<f32>> {
        Ok(buffer.clone())
    }

    fn forward_train(network: &mut Network<Self>, images: &ImageBatch) -> Result<(Tensor, Self::Tape)> {
        let instructions = network.machine.instructions();
        let (embeddings, tape) = with_instructions!(instructions, simd => C::forward_train(network, simd, images));
        Ok((Tensor::from_vec(embeddings, (images.count(), network.dim), &Device::Cpu)?, tape))
    }

    fn forward(network: &Network<Self>, images: &ImageBatch) -> Result<Tensor> {
        let instructions = network.machine.instructions();
        let embeddings = with_instructions!(instructions, simd => C::forward(network, simd, images));
        Ok(Tensor::from_vec(embeddings, (images.count(), network.dim), &Device::Cpu)?)
    }

    fn backward(network: &Network<Self>, tape: Self::Tape, grad: &Tensor) -> Result<Vec<f32>> {
        let (instructions, grad) = (network.machine.instructions(), flat::numbers(grad)?);
        Ok(with_instructions!(instructions, simd => C::backward(network, simd, tape, &grad)))
    }

    fn adamw(
        network: &mut Network<Self>,
        moments: [&mut Vec<f32>; 2],
        gradients: Vec<f32>,
        step: &AdamWStep,
    ) -> Result<()> {
        let Network { machine, parameters, decayed, .. } = network;
        let instructions = machine.instructions();
        with_instructions!(instructions, simd => {
            optimizer::adamw(simd, step, *decayed, parameters, moments, &gradients);
        });
        machine.moved(gradients);
        Ok(())
    }
}

impl<C: OnCpu> Network<C> {
    pub(crate) fn weights(&self, layer: usize) -> &[f32] {
        &self.parameters[self.layers[layer].weights.clone()]
    }

    /// The part of `gradients` that belongs to a layer's convolution.
    pub(crate) fn weights_of<'a>(&self, layer: usize, gradients: &'a mut [f32]) -> &'a mut [f32] {
        &mut gradients[self.layers[layer].weights.clone()]
    }

    /// Weight and bias of a layer's batch norm.
    fn norm(&self, layer: usize) -> [&[f32]; 2] {
        self.layers[layer].norm.each_ref().map(|range| &self.parameters[range.clone()])
    }

    /// A layer's batch norm with the statistics of a batch of `rows` pixels.
    pub(crate) fn of_batch(&self, layer: usize, sums: &ChannelSums, rows: usize) -> Normalization {
        let [weight, bias] = self.norm(layer);
        Normalization::of_batch(sums, rows, weight, bias)
    }

    /// A layer's batch norm with the running statistics.
    pub(crate) fn of_running(&self, layer: usize) -> Normalization {
        let [weight, bias] = self.norm(layer);
        let running = self.layers[layer].running.each_ref().map(|range| &self.running[range.clone()]);
        let [mean, variance] = running.map(|values| values.iter().map(|&value| f64::from(value)).collect());
        Normalization::new(mean, variance, weight, bias)
    }

    /// Moves the running statistics by those of a batch.
    pub(crate) fn move_running<T>(&mut self, stem: &Output<T>, blocks: &[BlockTape<T>]) {
        let moved =
            |old: f32, new: f64| (f64::from(old) * (1.0 - BATCH_NORM_MOMENTUM) + new * BATCH_NORM_MOMENTUM) as f32;
        // The order of the layers.
        let outputs = blocks.iter().flat_map(|block| block.layers.iter().chain(&block.downsample));
        for (layer, Output { norm, .. }) in self.layers.iter().zip(std::iter::once(stem).chain(outputs)) {
            let unbiased = norm.rows as f64 / (norm.rows - 1) as f64;
            let [mean, variance] = layer.running.clone();
            for (running, &mean) in self.running[mean].iter_mut().zip(&norm.mean) {
                *running = moved(*running, f64::from(mean));
            }
            for (running, &variance) in self.running[variance].iter_mut().zip(&norm.variance) {
                *running = moved(*running, variance * unbiased);
            }
        }
    }

    /// What turns the gradient of a layer's batch norm into that of its input, from the sums of the former; the gradients of the batch norm's
    /// parameters go to their places.
    pub(crate) fn norm_backward(
        &self,
        layer: usize,
        norm: &Normalization,
        sums: &ChannelSums,
        gradients: &mut [f32],
    ) -> Backward {
        let [weight, _] = self.norm(layer);
        let [of_weight, of_bias] = &self.layers[layer].norm;
        let (of_weight, of_bias) =
            gradients[of_weight.start..of_bias.end].split_at_mut(of_bias.start - of_weight.start);
        norm.backward(sums, weight, of_weight, of_bias)
    }
}
