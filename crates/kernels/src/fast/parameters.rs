//! What the encoders for CPUs do with the parameters and statistics of their layers.

use super::norm::{Backward, ChannelSums, Normalization};
use crate::flat::{Layer, Machine, Network};
use crate::resnet::BATCH_NORM_MOMENTUM;

impl<M: Machine<Buffer = Vec<f32>>> Network<M> {
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

    /// Moves the running statistics by those of a batch: `norms` in the order of `layers`.
    pub(crate) fn move_running<'a>(
        layers: &[Layer],
        running: &mut [f32],
        norms: impl Iterator<Item = &'a Normalization>,
    ) {
        let moved =
            |old: f32, new: f64| (f64::from(old) * (1.0 - BATCH_NORM_MOMENTUM) + new * BATCH_NORM_MOMENTUM) as f32;
        for (layer, norm) in layers.iter().zip(norms) {
            let unbiased = norm.rows as f64 / (norm.rows - 1) as f64;
            let [mean, variance] = layer.running.clone();
            for (running, &mean) in running[mean].iter_mut().zip(&norm.mean) {
                *running = moved(*running, f64::from(mean));
            }
            for (running, &variance) in running[variance].iter_mut().zip(&norm.variance) {
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
