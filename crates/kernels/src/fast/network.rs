//! The network: forward and backward of a training step, and inference, over the operators of this folder.

use super::arena::Arena;
use super::conv::{Convolution, Input, Map};
use super::norm::{
    Affine, Backward, ChannelSums, Normalization, Shortcut, finish_block, inference_affine, mask_and_sum,
    product_sum,
};
use super::pool::{MaxPooled, PooledGradient, average_pool, average_pool_backward, pooled};
use super::read::Source;
use super::stem::Padded;
use super::write::{Mask, Target, Then};
use crate::resnet::{BATCH_NORM_MOMENTUM, BasicBlock, ConvBatchNorm};
use crate::{Error, ImageBatch, Result};
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

/// All layers in torchvision's order, the values of all parameters, and memory.
pub(crate) struct Network {
    pub(crate) layers: Vec<Layer>,
    blocks: Vec<BasicBlock>,
    /// Width of an embedding.
    pub(crate) dim: usize,
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

/// What stands in front of a block.
enum Before<'a> {
    Pool(&'a MaxPooled, &'a Trained),
    Block(&'a BlockTape),
}

impl<'a> Before<'a> {
    /// The block's input, and the numbers and means of the batch norm that made it.
    fn parts(&self) -> (&'a [f32], &'a [f32], &'a [f32]) {
        match self {
            Self::Pool(pooled, stem) => (&pooled.out, &pooled.z, &stem.norm.mean),
            Self::Block(BlockTape { out, second, .. }) => (out, &second.z, &second.norm.mean),
        }
    }
}

/// What the backward pass needs.
pub(crate) struct NetworkTape {
    images: Padded,
    stem: Trained,
    pooled: MaxPooled,
    blocks: Vec<BlockTape>,
}

impl NetworkTape {
    /// Images of the batch.
    pub(crate) fn count(&self) -> usize {
        self.images.map().images
    }
}

impl Network {
    /// Over `layers`, in torchvision's order, whose tensors lie in `parameters`.
    pub(crate) fn new(layers: Vec<Layer>, blocks: Vec<BasicBlock>, dim: usize, parameters: Vec<f32>) -> Self {
        Self { layers, blocks, dim, parameters, arena: Arena::default(), bytes: Arena::default() }
    }

    fn weights(&self, layer: usize) -> &[f32] {
        &self.parameters[self.layers[layer].weights.clone()]
    }

    fn affine_parameters(&self, layer: usize) -> (&[f32], &[f32]) {
        let layer = &self.layers[layer];
        (&self.parameters[layer.weight.clone()], &self.parameters[layer.bias.clone()])
    }

    fn input_map(images: &ImageBatch) -> Map {
        Map { images: images.count(), height: images.size_px(), width: images.size_px() }
    }

    /// Every batch norm needs at least two values a channel.
    fn check_batch(&self, map: Map) -> Result<()> {
        let outputs = self.blocks.iter().map(|block| block.first).zip(self.maps(map).into_iter().skip(1));
        let outputs = std::iter::once((0, self.layers[0].conv.output(map))).chain(outputs);
        match outputs.into_iter().find(|(_, map)| map.pixels() < 2) {
            Some((layer, _)) => Err(Error::NoVariance(self.layers[layer].plan.norm.clone())),
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
        let target = Target::new(&mut z, false, Then::Squares);
        let sums = conv.forward(simd, input, self.weights(layer), &target, &self.arena);
        self.trained(layer, z, &sums, rows)
    }

    fn trained(&self, layer: usize, z: Vec<f32>, sums: &ChannelSums, rows: usize) -> Trained {
        let (weight, bias) = self.affine_parameters(layer);
        Trained { z, norm: Normalization::new(sums, rows, weight, bias) }
    }

    fn padded<S: Simd>(&self, simd: S, images: &ImageBatch) -> Padded {
        Padded::new(simd, images, self.layers[0].conv.padding, &self.arena)
    }

    fn max_pool<S: Simd>(&self, simd: S, map: Map, z: &[f32], affine: &Affine) -> MaxPooled {
        let len = pooled(map).pixels() * affine.scale.len();
        let (out, picked) = (self.arena.take(len), self.arena.take(len));
        let mut pooled = MaxPooled { out, z: picked, places: self.bytes.take(len) };
        pooled.fill(simd, map, z, affine);
        pooled
    }

    /// Embeddings `(images, dim)` with the batch's statistics, which move the running ones.
    pub(crate) fn forward_train<S: Simd>(
        &mut self,
        simd: S,
        images: &ImageBatch,
    ) -> Result<(Vec<f32>, NetworkTape)> {
        let map = Self::input_map(images);
        self.check_batch(map)?;
        let (values, wide) = (self.padded(simd, images), self.layers[0].conv.output(map));
        let mut z = self.arena.take(wide.pixels() * self.layers[0].conv.out_channels);
        let target = Target::new(&mut z, false, Then::Squares);
        let sums = self.layers[0].conv.stem_forward(simd, &values, self.weights(0), &target);
        let stem = self.trained(0, z, &sums, wide.pixels());
        let first = self.max_pool(simd, wide, &stem.z, &stem.norm.affine);
        let mut at = pooled(wide);

        let mut blocks: Vec<BlockTape> = Vec::with_capacity(self.blocks.len());
        for &block in &self.blocks {
            let x = blocks.last().map_or(&first.out, |block| &block.out);
            let input = Input { map: at, source: Source::Plain(x) };
            let one = self.train_layer(simd, block.first, input);
            let next = self.layers[block.first].conv.output(at);
            let inner = Input { map: next, source: Source::Relu(&one.z, &one.norm.affine) };
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
        let last = &blocks.last().expect("an encoder has blocks").out;
        let embeddings = average_pool(simd, at, self.dim, last);

        self.move_statistics(0, &stem.norm);
        for (index, tape) in blocks.iter().enumerate() {
            let block = self.blocks[index];
            self.move_statistics(block.first, &tape.first.norm);
            self.move_statistics(block.second, &tape.second.norm);
            if let (Some(layer), Some(trained)) = (block.downsample, &tape.downsample) {
                self.move_statistics(layer, &trained.norm);
            }
        }
        Ok((embeddings, NetworkTape { images: values, stem, pooled: first, blocks }))
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
        let map = tape.images.map();
        let wide = self.layers[0].conv.output(map);
        let maps = self.maps(map);
        let last = maps[self.blocks.len()];
        let mut g = self.arena.take(last.pixels() * self.dim);
        average_pool_backward(last, self.dim, grad, &mut g);

        let NetworkTape { images, stem, pooled: first, mut blocks } = tape;
        let end = blocks.last().expect("an encoder has blocks");
        let mut sums =
            mask_and_sum(simd, &mut g, Mask::Output(&end.out), &end.second.z, &end.second.norm.mean);
        while let Some(tape) = blocks.pop() {
            let index = blocks.len();
            let before = match blocks.last() {
                Some(before) => Before::Block(before),
                None => Before::Pool(&first, &stem),
            };
            (g, sums) = self.backward_block(
                simd,
                self.blocks[index],
                maps[index],
                before,
                tape,
                (g, sums),
                &mut gradients,
            );
        }

        let way = self.norm_backward(0, &stem.norm, &sums, &mut gradients);
        let dz = PooledGradient { map: wide, g: &g, places: &first.places, z: &stem.z, way: &way };
        let Layer { conv, weights, .. } = &self.layers[0];
        conv.stem_weight_gradient(simd, &images, &dz, &mut gradients[weights.clone()], &self.arena);
        for buffer in [images.values, stem.z, first.out, first.z, g] {
            self.arena.give(buffer);
        }
        self.bytes.give(first.places);
        gradients
    }

    /// From the gradient of a block's output, behind its ReLU, with the sums of its second batch norm, to the same of
    /// what stands in front: the block before, or the stem.
    fn backward_block<S: Simd>(
        &self,
        simd: S,
        block: BasicBlock,
        map: Map,
        before: Before<'_>,
        tape: BlockTape,
        (mut g, sums): (Vec<f32>, ChannelSums),
        gradients: &mut [f32],
    ) -> (Vec<f32>, ChannelSums) {
        let BlockTape { first, second, downsample, out } = tape;
        let (conv1, conv2) = (&self.layers[block.first].conv, &self.layers[block.second].conv);
        let next = conv1.output(map);
        let (x, z_before, mean_before) = before.parts();
        let then = Then::Mask { mask: Mask::Output(x), z: z_before, mean: mean_before };
        let input = Input { map, source: Source::Plain(x) };

        let way2 = self.norm_backward(block.second, &second.norm, &sums, gradients);
        let dz2 = Source::Gradient(&g, &second.z, &way2);
        let inner = Input { map: next, source: Source::Relu(&first.z, &first.norm.affine) };
        self.weight_gradient(simd, block.second, inner, dz2, gradients);
        let mut g1 = self.arena.take(first.z.len());
        let mask = Mask::Normalized(&first.norm.affine);
        let behind = Then::Mask { mask, z: &first.z, mean: &first.norm.mean };
        let target = Target::new(&mut g1, false, behind);
        let sums1 = conv2.input_gradient(simd, next, dz2, self.weights(block.second), &target, &self.arena);

        let way1 = self.norm_backward(block.first, &first.norm, &sums1, gradients);
        let dz1 = Source::Gradient(&g1, &first.z, &way1);
        self.weight_gradient(simd, block.first, input, dz1, gradients);
        if let (Some(layer), Some(projection)) = (block.downsample, downsample) {
            let second = product_sum(simd, &g, &projection.z, &projection.norm.mean);
            let sums = ChannelSums { first: sums.first, second };
            let way = self.norm_backward(layer, &projection.norm, &sums, gradients);
            let dz = Source::Gradient(&g, &projection.z, &way);
            self.weight_gradient(simd, layer, input, dz, gradients);
            let mut dx = self.arena.take(x.len());
            let conv = &self.layers[layer].conv;
            let target = Target::new(&mut dx, false, Then::Nothing);
            conv.input_gradient(simd, map, dz, self.weights(layer), &target, &self.arena);
            self.arena.give(std::mem::replace(&mut g, dx));
            self.arena.give(projection.z);
        }
        // What the shortcut brought stands in `g`.
        let target = Target::new(&mut g, true, then);
        let sums = conv1.input_gradient(simd, map, dz1, self.weights(block.first), &target, &self.arena);
        for buffer in [g1, first.z, second.z, out] {
            self.arena.give(buffer);
        }
        (g, sums)
    }

    fn norm_backward(
        &self,
        layer: usize,
        norm: &Normalization,
        sums: &ChannelSums,
        gradients: &mut [f32],
    ) -> Backward {
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
        dy: Source<'_>,
        gradients: &mut [f32],
    ) {
        let layer = &self.layers[layer];
        layer.conv.weight_gradient(simd, input, dy, &mut gradients[layer.weights.clone()], &self.arena);
    }

    /// Embeddings `(images, dim)` with the running statistics.
    pub(crate) fn forward<S: Simd>(&self, simd: S, images: &ImageBatch) -> Vec<f32> {
        let map = Self::input_map(images);
        let (values, wide) = (self.padded(simd, images), self.layers[0].conv.output(map));
        let mut z = self.arena.take(wide.pixels() * self.layers[0].conv.out_channels);
        let target = Target::new(&mut z, false, Then::Nothing);
        self.layers[0].conv.stem_forward(simd, &values, self.weights(0), &target);
        let pool = self.max_pool(simd, wide, &z, &self.running_affine(0));
        self.bytes.give(pool.places);
        for buffer in [values.values, z, pool.z] {
            self.arena.give(buffer);
        }
        let (mut x, mut at) = (pool.out, pooled(wide));

        for block in &self.blocks {
            let input = Input { map: at, source: Source::Plain(&x) };
            let (z1, affine1) = self.infer_layer(simd, block.first, input);
            let next = self.layers[block.first].conv.output(at);
            let inner = Input { map: next, source: Source::Relu(&z1, &affine1) };
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
        let embeddings = average_pool(simd, at, self.dim, &x);
        self.arena.give(x);
        embeddings
    }

    fn infer_layer<S: Simd>(&self, simd: S, layer: usize, input: Input<'_>) -> (Vec<f32>, Affine) {
        let conv = &self.layers[layer].conv;
        let mut z = self.arena.take(conv.output(input.map).pixels() * conv.out_channels);
        let target = Target::new(&mut z, false, Then::Nothing);
        conv.forward(simd, input, self.weights(layer), &target, &self.arena);
        (z, self.running_affine(layer))
    }

    fn running_affine(&self, layer: usize) -> Affine {
        let Layer { running_mean, running_var, .. } = &self.layers[layer];
        let (weight, bias) = self.affine_parameters(layer);
        inference_affine(running_mean, running_var, weight, bias)
    }
}
