//! The network: forward and backward of a training step, and inference, over the operators of this folder.

use super::arena::Arena;
use super::conv::{Convolution, Input, Map};
use super::norm::{
    Affine, ChannelSums, Mask, Normalization, Shortcut, finish_block, inference_affine, mask_and_sum,
    product_sum,
};
use super::pool::{average_pool, average_pool_backward, max_pool, max_pool_backward, pooled};
use super::stem::normalize_pixels;
use crate::resnet::{self, BATCH_NORM_MOMENTUM, ConvBatchNorm, EMBEDDING_DIM};
use crate::{Error, Images, Result};
use pulp::Simd;
use std::ops::Range;

/// A convolution and its batch norm; the trained tensors lie in the flat buffer of all parameters.
pub(crate) struct Layer {
    pub(crate) plan: ConvBatchNorm,
    pub(crate) conv: Convolution,
    /// The convolution's weights, in panels.
    pub(crate) weights: Range<usize>,
    /// The batch norm's weight.
    pub(crate) weight: Range<usize>,
    /// The batch norm's bias.
    pub(crate) bias: Range<usize>,
    pub(crate) running_mean: Vec<f32>,
    pub(crate) running_var: Vec<f32>,
    pub(crate) batches: i64,
}

/// A block's layers, as indices.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    second: usize,
    downsample: Option<usize>,
}

/// All layers in torchvision's order, the values of all parameters, and memory.
pub(crate) struct Network {
    pub(crate) layers: Vec<Layer>,
    blocks: Vec<Block>,
    pub(crate) parameters: Vec<f32>,
    pub(crate) arena: Arena,
    bytes: Arena<u8>,
}

/// A layer's outcome in training: the convolution's output and the batch's statistics.
struct Trained {
    z: Vec<f32>,
    norm: Normalization,
}

/// What the backward pass needs of a block, beside its input.
struct BlockTape {
    first: Trained,
    second: Trained,
    downsample: Option<Trained>,
    out: Vec<f32>,
}

/// What the backward pass needs.
pub(crate) struct NetworkTape {
    images: Vec<f32>,
    map: Map,
    stem: Trained,
    pooled: Vec<f32>,
    places: Vec<u8>,
    blocks: Vec<BlockTape>,
}

impl NetworkTape {
    /// Images of the batch.
    pub(crate) fn count(&self) -> usize {
        self.map.images
    }
}

impl Network {
    /// Over `layers`, in torchvision's order, whose tensors lie in `parameters`.
    pub(crate) fn new(layers: Vec<Layer>, parameters: Vec<f32>) -> Self {
        let mut next = 1;
        let mut index = || {
            next += 1;
            next - 1
        };
        let block = |plan: resnet::BasicBlock| Block {
            first: index(),
            second: index(),
            downsample: plan.downsample.map(|_| index()),
        };
        let blocks = resnet::blocks().into_iter().map(block).collect();
        Self { layers, blocks, parameters, arena: Arena::default(), bytes: Arena::default() }
    }

    fn weights(&self, layer: usize) -> &[f32] {
        &self.parameters[self.layers[layer].weights.clone()]
    }

    fn affine_parameters(&self, layer: usize) -> (&[f32], &[f32]) {
        let layer = &self.layers[layer];
        (&self.parameters[layer.weight.clone()], &self.parameters[layer.bias.clone()])
    }

    fn input_map(images: &Images) -> Map {
        Map { images: images.count(), height: images.size_px(), width: images.size_px() }
    }

    /// Every batch norm needs at least two values a channel.
    fn check_batch(&self, map: Map) -> Result<()> {
        let outputs = self.blocks.iter().map(|block| block.first).zip(self.maps(map).into_iter().skip(1));
        let outputs = std::iter::once((0, self.layers[0].conv.output(map))).chain(outputs);
        match outputs.into_iter().find(|(_, map)| map.pixels() < 2) {
            Some((layer, _)) => Err(Error::Misuse(format!(
                "batch norm `{}` sees one value a channel and has no variance; train on more or larger images",
                self.layers[layer].plan.norm
            ))),
            None => Ok(()),
        }
    }

    /// The extents of the first block's input and of every block's output, for images of extent `map`.
    fn maps(&self, map: Map) -> Vec<Map> {
        let mut maps = vec![pooled(self.layers[0].conv.output(map))];
        for block in &self.blocks {
            maps.push(self.layers[block.first].conv.output(*maps.last().expect("it begins with one")));
        }
        maps
    }

    fn train_layer<S: Simd>(&self, simd: S, layer: usize, input: Input<'_>) -> Trained {
        let conv = &self.layers[layer].conv;
        let rows = conv.output(input.map).pixels();
        let mut z = self.arena.take(rows * conv.out_channels);
        let sums = conv.forward(simd, input, self.weights(layer), &mut z, true).expect("sums were asked for");
        let (weight, bias) = self.affine_parameters(layer);
        Trained { z, norm: Normalization::new(&sums, rows, weight, bias) }
    }

    /// Embeddings `(images, 512)` with the batch's statistics, which move the running ones.
    pub(crate) fn forward_train<S: Simd>(
        &mut self,
        simd: S,
        images: &Images,
    ) -> Result<(Vec<f32>, NetworkTape)> {
        let map = Self::input_map(images);
        self.check_batch(map)?;
        let mut values = self.arena.take(images.pixels().len());
        normalize_pixels(simd, images, &mut values);
        let stem = self.train_layer(simd, 0, Input { map, values: &values, affine: None });
        let (channels, wide) = (self.layers[0].conv.out_channels, self.layers[0].conv.output(map));
        let mut at = pooled(wide);
        let mut first = self.arena.take(at.pixels() * channels);
        let mut places = self.bytes.take(first.len());
        max_pool(simd, wide, &stem.z, &stem.norm.affine, &mut first, &mut places);

        let mut blocks: Vec<BlockTape> = Vec::with_capacity(self.blocks.len());
        for &block in &self.blocks {
            let x = blocks.last().map_or(&first, |block| &block.out);
            let input = Input { map: at, values: x, affine: None };
            let one = self.train_layer(simd, block.first, input);
            let next = self.layers[block.first].conv.output(at);
            let inner = Input { map: next, values: &one.z, affine: Some(&one.norm.affine) };
            let two = self.train_layer(simd, block.second, inner);
            let downsample = block.downsample.map(|layer| self.train_layer(simd, layer, input));
            let shortcut = match &downsample {
                Some(trained) => Shortcut::Projection(&trained.z, &trained.norm.affine),
                None => Shortcut::Identity(x),
            };
            let mut out = self.arena.take(two.z.len());
            finish_block(simd, &two.z, &two.norm.affine, shortcut, &mut out);
            blocks.push(BlockTape { first: one, second: two, downsample, out });
            at = next;
        }
        let last = &blocks.last().expect("there are eight blocks").out;
        let embeddings = average_pool(simd, at, EMBEDDING_DIM, last);

        self.move_statistics(0, &stem.norm);
        for (index, tape) in blocks.iter().enumerate() {
            let block = self.blocks[index];
            self.move_statistics(block.first, &tape.first.norm);
            self.move_statistics(block.second, &tape.second.norm);
            if let (Some(layer), Some(trained)) = (block.downsample, &tape.downsample) {
                self.move_statistics(layer, &trained.norm);
            }
        }
        Ok((embeddings, NetworkTape { images: values, map, stem, pooled: first, places, blocks }))
    }

    fn move_statistics(&mut self, layer: usize, norm: &Normalization) {
        let layer = &mut self.layers[layer];
        let unbiased = norm.rows as f64 / (norm.rows - 1) as f64;
        let moved = |old: f32, new: f64| {
            (f64::from(old) * (1.0 - BATCH_NORM_MOMENTUM) + new * BATCH_NORM_MOMENTUM) as f32
        };
        for (running, &mean) in layer.running_mean.iter_mut().zip(&norm.mean) {
            *running = moved(*running, f64::from(mean));
        }
        for (running, &variance) in layer.running_var.iter_mut().zip(&norm.variance) {
            *running = moved(*running, variance * unbiased);
        }
        layer.batches += 1;
    }

    /// The gradients of all parameters, laid out as the parameters, from that of the embeddings.
    pub(crate) fn backward<S: Simd>(&self, simd: S, tape: NetworkTape, grad: &[f32]) -> Vec<f32> {
        let mut gradients = self.arena.take(self.parameters.len());
        let wide = self.layers[0].conv.output(tape.map);
        let maps = self.maps(tape.map);
        let last = maps[self.blocks.len()];
        let mut g = self.arena.take(last.pixels() * EMBEDDING_DIM);
        average_pool_backward(last, EMBEDDING_DIM, grad, &mut g);

        let NetworkTape { images, map, stem, pooled: first, places, blocks } = tape;
        let mut blocks = blocks;
        while let Some(tape) = blocks.pop() {
            let index = blocks.len();
            let x = blocks.last().map_or(&first, |block| &block.out);
            g = self.backward_block(simd, self.blocks[index], maps[index], x, tape, g, &mut gradients);
        }

        let channels = self.layers[0].conv.out_channels;
        let mut g0 = self.arena.take(wide.pixels() * channels);
        max_pool_backward(simd, wide, channels, &g, &first, &places, &mut g0);
        let sums = mask_and_sum(simd, &mut g0, Mask::Normalized(&stem.norm.affine), &stem.z, &stem.norm.mean);
        self.norm_backward(0, &stem.norm, &sums, &mut gradients).apply_in_place(simd, &mut g0, &stem.z);
        let input = Input { map, values: &images, affine: None };
        self.weight_gradient(simd, 0, input, &g0, &mut gradients);
        for buffer in [images, stem.z, first, g, g0] {
            self.arena.give(buffer);
        }
        self.bytes.give(places);
        gradients
    }

    /// From the gradient `g` of a block's output to that of its input `x`.
    fn backward_block<S: Simd>(
        &self,
        simd: S,
        block: Block,
        map: Map,
        x: &[f32],
        tape: BlockTape,
        mut g: Vec<f32>,
        gradients: &mut [f32],
    ) -> Vec<f32> {
        let BlockTape { first, second, downsample, out } = tape;
        let (conv1, conv2) = (&self.layers[block.first].conv, &self.layers[block.second].conv);
        let next = conv1.output(map);
        let input = Input { map, values: x, affine: None };

        let sums = mask_and_sum(simd, &mut g, Mask::Output(&out), &second.z, &second.norm.mean);
        let mut dz = self.arena.take(g.len());
        self.norm_backward(block.second, &second.norm, &sums, gradients).apply(simd, &g, &second.z, &mut dz);
        let inner = Input { map: next, values: &first.z, affine: Some(&first.norm.affine) };
        self.weight_gradient(simd, block.second, inner, &dz, gradients);
        let mut dz1 = self.arena.take(first.z.len());
        conv2.input_gradient(simd, next, &dz, self.weights(block.second), false, &mut dz1, &self.arena);

        let mask = Mask::Normalized(&first.norm.affine);
        let inner_sums = mask_and_sum(simd, &mut dz1, mask, &first.z, &first.norm.mean);
        self.norm_backward(block.first, &first.norm, &inner_sums, gradients)
            .apply_in_place(simd, &mut dz1, &first.z);
        self.weight_gradient(simd, block.first, input, &dz1, gradients);

        let dx = match (block.downsample, downsample) {
            (Some(layer), Some(projection)) => {
                let second = product_sum(simd, &g, &projection.z, &projection.norm.mean);
                let sums = ChannelSums { first: sums.first, second };
                self.norm_backward(layer, &projection.norm, &sums, gradients).apply_in_place(
                    simd,
                    &mut g,
                    &projection.z,
                );
                self.weight_gradient(simd, layer, input, &g, gradients);
                let mut dx = self.arena.take(x.len());
                conv1.input_gradient(simd, map, &dz1, self.weights(block.first), false, &mut dx, &self.arena);
                let conv = &self.layers[layer].conv;
                conv.input_gradient(simd, map, &g, self.weights(layer), true, &mut dx, &self.arena);
                self.arena.give(g);
                self.arena.give(projection.z);
                dx
            }
            _ => {
                conv1.input_gradient(simd, map, &dz1, self.weights(block.first), true, &mut g, &self.arena);
                g
            }
        };
        for buffer in [dz, dz1, first.z, second.z, out] {
            self.arena.give(buffer);
        }
        dx
    }

    fn norm_backward(
        &self,
        layer: usize,
        norm: &Normalization,
        sums: &ChannelSums,
        gradients: &mut [f32],
    ) -> super::norm::Backward {
        let (weight, _) = self.affine_parameters(layer);
        let Layer { weight: weights, bias, .. } = &self.layers[layer];
        // The bias lies right behind the weight.
        let (weight_gradient, bias_gradient) =
            gradients[weights.start..bias.end].split_at_mut(bias.start - weights.start);
        norm.backward(sums, weight, weight_gradient, bias_gradient)
    }

    fn weight_gradient<S: Simd>(
        &self,
        simd: S,
        layer: usize,
        input: Input<'_>,
        dy: &[f32],
        gradients: &mut [f32],
    ) {
        let layer = &self.layers[layer];
        layer.conv.weight_gradient(simd, input, dy, &mut gradients[layer.weights.clone()], &self.arena);
    }

    /// Embeddings `(images, 512)` with the running statistics.
    pub(crate) fn forward<S: Simd>(&self, simd: S, images: &Images) -> Vec<f32> {
        let map = Self::input_map(images);
        let mut values = self.arena.take(images.pixels().len());
        normalize_pixels(simd, images, &mut values);
        let (z, affine) = self.infer_layer(simd, 0, Input { map, values: &values, affine: None });
        let wide = self.layers[0].conv.output(map);
        let mut at = pooled(wide);
        let mut x = self.arena.take(at.pixels() * affine.scale.len());
        let mut places = self.bytes.take(x.len());
        max_pool(simd, wide, &z, &affine, &mut x, &mut places);
        self.bytes.give(places);
        self.arena.give(values);
        self.arena.give(z);

        for block in &self.blocks {
            let input = Input { map: at, values: &x, affine: None };
            let (z1, affine1) = self.infer_layer(simd, block.first, input);
            let next = self.layers[block.first].conv.output(at);
            let inner = Input { map: next, values: &z1, affine: Some(&affine1) };
            let (z2, affine2) = self.infer_layer(simd, block.second, inner);
            let projection = block.downsample.map(|layer| self.infer_layer(simd, layer, input));
            let shortcut = match &projection {
                Some((z, affine)) => Shortcut::Projection(z, affine),
                None => Shortcut::Identity(&x),
            };
            let mut out = self.arena.take(z2.len());
            finish_block(simd, &z2, &affine2, shortcut, &mut out);
            for buffer in [z1, z2, x].into_iter().chain(projection.map(|(z, _)| z)) {
                self.arena.give(buffer);
            }
            (x, at) = (out, next);
        }
        let embeddings = average_pool(simd, at, EMBEDDING_DIM, &x);
        self.arena.give(x);
        embeddings
    }

    fn infer_layer<S: Simd>(&self, simd: S, layer: usize, input: Input<'_>) -> (Vec<f32>, Affine) {
        let Layer { conv, running_mean, running_var, .. } = &self.layers[layer];
        let mut z = self.arena.take(conv.output(input.map).pixels() * conv.out_channels);
        conv.forward(simd, input, self.weights(layer), &mut z, false);
        let (weight, bias) = self.affine_parameters(layer);
        (z, inference_affine(running_mean, running_var, weight, bias))
    }
}
