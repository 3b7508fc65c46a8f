//! The network: forward and backward of a training step, and inference, over the operators of this folder.

use super::Cpu;
use super::algorithm::Problem;
use super::conv;
use super::gemm::Update;
use super::norm::{
    Affine, Backward, ChannelSums, Mask, Normalization, Shortcut, finish_block, inference_affine, mask_and_sum,
    product_sum,
};
use super::pool::{MaxPooled, PooledGradient, average_pool, average_pool_backward, pooled};
use super::read::Source;
use super::shape::{Convolution, Map};
use super::stem::Padded;
use super::write::{Target, Then};
use crate::flat::Network;
use crate::resnet::BATCH_NORM_MOMENTUM;
use crate::{Error, ImageBatch, Result};
use pulp::Simd;

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

impl Network<Cpu> {
    fn conv(&self, layer: usize) -> Convolution {
        Convolution::from(&self.layers[layer].plan)
    }

    fn weights(&self, layer: usize) -> &[f32] {
        &self.parameters[self.layers[layer].weights.clone()]
    }

    /// Weight and bias of a layer's batch norm.
    fn norm(&self, layer: usize) -> [&[f32]; 2] {
        self.layers[layer].norm.each_ref().map(|range| &self.parameters[range.clone()])
    }

    fn input_map(images: &ImageBatch) -> Map {
        Map { images: images.count(), height: images.size_px(), width: images.size_px() }
    }

    /// Every batch norm needs at least two values a channel.
    fn check_batch(&self, map: Map) -> Result<()> {
        let outputs = self.blocks.iter().map(|block| block.first).zip(self.maps(map).into_iter().skip(1));
        let outputs = std::iter::once((0, self.conv(0).output(map))).chain(outputs);
        match outputs.into_iter().find(|(_, map)| map.pixels() < 2) {
            Some((layer, _)) => Err(Error::NoVariance(self.layers[layer].plan.norm.clone())),
            None => Ok(()),
        }
    }

    /// The extents of the first block's input and of every block's output, for images of extent `map`.
    fn maps(&self, map: Map) -> Vec<Map> {
        let mut maps = vec![pooled(self.conv(0).output(map))];
        for block in &self.blocks {
            maps.push(self.conv(block.first).output(*maps.last().expect("it begins with one")));
        }
        maps
    }

    /// A layer over maps of extent `input`.
    fn problem<S: Simd>(&self, simd: S, layer: usize, input: Map) -> Problem<'_, S> {
        let (conv, weights) = (self.conv(layer), self.weights(layer));
        Problem { simd, conv, weights, input, arena: &self.machine.arena }
    }

    /// A layer's convolution, and the sums that `then` asks for.
    fn convolve<S: Simd>(
        &self,
        simd: S,
        layer: usize,
        (map, source): (Map, Source<'_>),
        then: Then<'_>,
    ) -> (Vec<f32>, ChannelSums) {
        let problem = self.problem(simd, layer, map);
        let mut z = self.machine.arena.take(problem.output().pixels() * problem.conv.out_channels);
        let target = Target::new(&mut z, Update::Set, then);
        let sums = conv::forward(&problem, source, &target);
        (z, sums)
    }

    fn train_layer<S: Simd>(&self, simd: S, layer: usize, input: (Map, Source<'_>)) -> Trained {
        let (z, sums) = self.convolve(simd, layer, input, Then::Squares);
        self.trained(layer, z, &sums)
    }

    fn trained(&self, layer: usize, z: Vec<f32>, sums: &ChannelSums) -> Trained {
        let [weight, bias] = self.norm(layer);
        let rows = z.len() / weight.len();
        Trained { z, norm: Normalization::new(sums, rows, weight, bias) }
    }

    /// The stem's convolution of normalised images, and the sums that `then` asks for.
    fn convolve_stem<S: Simd>(&self, simd: S, images: &ImageBatch, then: Then<'_>) -> (Padded, Vec<f32>, ChannelSums) {
        let conv = &self.conv(0);
        let images = Padded::new(simd, images, conv.padding, &self.machine.arena);
        let mut z = self.machine.arena.take(conv.output(images.map()).pixels() * conv.out_channels);
        let sums = images.convolve(simd, conv, self.weights(0), &Target::new(&mut z, Update::Set, then));
        (images, z, sums)
    }

    fn max_pool<S: Simd>(&self, simd: S, map: Map, z: &[f32], affine: &Affine) -> MaxPooled {
        let len = pooled(map).pixels() * affine.scale.len();
        let (out, picked) = (self.machine.arena.take(len), self.machine.arena.take(len));
        let mut pooled = MaxPooled { out, z: picked, places: self.machine.bytes.take(len) };
        pooled.fill(simd, map, z, affine);
        pooled
    }

    /// Embeddings `(images, dim)` with the batch's statistics, which move the running ones.
    pub(crate) fn forward_train<S: Simd>(&mut self, simd: S, images: &ImageBatch) -> Result<(Vec<f32>, NetworkTape)> {
        let map = Self::input_map(images);
        self.check_batch(map)?;
        let wide = self.conv(0).output(map);
        let (values, z, sums) = self.convolve_stem(simd, images, Then::Squares);
        let stem = self.trained(0, z, &sums);
        let first = self.max_pool(simd, wide, &stem.z, &stem.norm.affine);
        let mut at = pooled(wide);

        let mut blocks: Vec<BlockTape> = Vec::with_capacity(self.blocks.len());
        for &block in &self.blocks {
            let x = blocks.last().map_or(&first.out, |block| &block.out);
            let input = (at, Source::Plain(x));
            let one = self.train_layer(simd, block.first, input);
            let next = self.conv(block.first).output(at);
            let inner = (next, Source::Relu(&one.z, &one.norm.affine));
            let two = self.train_layer(simd, block.second, inner);
            let downsample = block.downsample.map(|layer| self.train_layer(simd, layer, input));
            let shortcut = match &downsample {
                Some(trained) => Shortcut::Projection(&trained.z, &trained.norm.affine),
                None => Shortcut::Identity(x),
            };
            let mut out = self.machine.arena.take(two.z.len());
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
        let moved =
            |old: f32, new: f64| (f64::from(old) * (1.0 - BATCH_NORM_MOMENTUM) + new * BATCH_NORM_MOMENTUM) as f32;
        let [mean, variance] = layer.running.clone();
        for (running, &mean) in self.running[mean].iter_mut().zip(&norm.mean) {
            *running = moved(*running, f64::from(mean));
        }
        for (running, &variance) in self.running[variance].iter_mut().zip(&norm.variance) {
            *running = moved(*running, variance * unbiased);
        }
        layer.batches += 1;
    }

    /// The gradients of all parameters, laid out as the parameters, from that of the embeddings.
    pub(crate) fn backward<S: Simd>(&self, simd: S, tape: NetworkTape, grad: &[f32]) -> Vec<f32> {
        let mut gradients = self.machine.arena.take(self.parameters.len());
        let map = tape.images.map();
        let wide = self.conv(0).output(map);
        let maps = self.maps(map);
        let last = maps[self.blocks.len()];
        let mut g = self.machine.arena.take(last.pixels() * self.dim);
        average_pool_backward(last, self.dim, grad, &mut g);

        let NetworkTape { images, stem, pooled: first, mut blocks } = tape;
        let end = blocks.last().expect("an encoder has blocks");
        let mut sums = mask_and_sum(simd, &mut g, Mask::Output(&end.out), &end.second.z, &end.second.norm.mean);
        while let Some(tape) = blocks.pop() {
            let index = blocks.len();
            let before = match blocks.last() {
                Some(before) => Before::Block(before),
                None => Before::Pool(&first, &stem),
            };
            (g, sums) = self.backward_block(simd, index, maps[index], (before, tape), (g, sums), &mut gradients);
        }

        let backward = &self.norm_backward(0, &stem.norm, &sums, &mut gradients);
        let dz = PooledGradient { map: wide, g: &g, places: &first.places, z: &stem.z, backward };
        let arena = &self.machine.arena;
        images.weight_gradient(simd, &self.conv(0), &dz, self.weights_of(0, &mut gradients), arena);
        for buffer in [images.values, stem.z, first.out, first.z, g] {
            self.machine.arena.give(buffer);
        }
        self.machine.bytes.give(first.places);
        gradients
    }

    /// From the gradient of a block's output, behind its ReLU, with the sums of its second batch norm, to the same of
    /// what stands in front: the block before, or the stem.
    fn backward_block<S: Simd>(
        &self,
        simd: S,
        block: usize,
        map: Map,
        (before, tape): (Before<'_>, BlockTape),
        (mut g, sums): (Vec<f32>, ChannelSums),
        gradients: &mut [f32],
    ) -> (Vec<f32>, ChannelSums) {
        let block = self.blocks[block];
        let BlockTape { first, second, downsample, out } = tape;
        let problem1 = self.problem(simd, block.first, map);
        let problem2 = self.problem(simd, block.second, problem1.output());
        let (x, z_before, mean_before) = before.parts();

        let backward2 = self.norm_backward(block.second, &second.norm, &sums, gradients);
        let dz2 = Source::Gradient(&g, &second.z, &backward2);
        let inner = Source::Relu(&first.z, &first.norm.affine);
        conv::weight_gradient(&problem2, inner, dz2, self.weights_of(block.second, gradients));
        let mut g1 = self.machine.arena.take(first.z.len());
        let mask = Mask::Normalized(&first.norm.affine);
        let then = Then::Mask { mask, z: &first.z, mean: &first.norm.mean };
        let target = Target::new(&mut g1, Update::Set, then);
        let sums1 = conv::input_gradient(&problem2, dz2, &target);

        let backward1 = self.norm_backward(block.first, &first.norm, &sums1, gradients);
        let dz1 = Source::Gradient(&g1, &first.z, &backward1);
        conv::weight_gradient(&problem1, Source::Plain(x), dz1, self.weights_of(block.first, gradients));
        if let (Some(layer), Some(projection)) = (block.downsample, downsample) {
            let second = product_sum(simd, &g, &projection.z, &projection.norm.mean);
            let sums = ChannelSums { first: sums.first, second };
            let backward = self.norm_backward(layer, &projection.norm, &sums, gradients);
            let dz = Source::Gradient(&g, &projection.z, &backward);
            let problem = self.problem(simd, layer, map);
            conv::weight_gradient(&problem, Source::Plain(x), dz, self.weights_of(layer, gradients));
            let mut dx = self.machine.arena.take(x.len());
            let target = Target::new(&mut dx, Update::Set, Then::Nothing);
            conv::input_gradient(&problem, dz, &target);
            self.machine.arena.give(std::mem::replace(&mut g, dx));
            self.machine.arena.give(projection.z);
        }
        // What the shortcut brought stands in `g`.
        let then = Then::Mask { mask: Mask::Output(x), z: z_before, mean: mean_before };
        let target = Target::new(&mut g, Update::Add, then);
        let sums = conv::input_gradient(&problem1, dz1, &target);
        for buffer in [g1, first.z, second.z, out] {
            self.machine.arena.give(buffer);
        }
        (g, sums)
    }

    fn norm_backward(&self, layer: usize, norm: &Normalization, sums: &ChannelSums, gradients: &mut [f32]) -> Backward {
        let [weight, _] = self.norm(layer);
        let [of_weight, of_bias] = &self.layers[layer].norm;
        let (of_weight, of_bias) =
            gradients[of_weight.start..of_bias.end].split_at_mut(of_bias.start - of_weight.start);
        norm.backward(sums, weight, of_weight, of_bias)
    }

    /// The part of `gradients` that belongs to a layer's convolution.
    fn weights_of<'a>(&self, layer: usize, gradients: &'a mut [f32]) -> &'a mut [f32] {
        &mut gradients[self.layers[layer].weights.clone()]
    }

    /// Embeddings `(images, dim)` with the running statistics.
    pub(crate) fn forward<S: Simd>(&self, simd: S, images: &ImageBatch) -> Vec<f32> {
        let wide = self.conv(0).output(Self::input_map(images));
        let (values, z, _) = self.convolve_stem(simd, images, Then::Nothing);
        let pool = self.max_pool(simd, wide, &z, &self.running_affine(0));
        self.machine.bytes.give(pool.places);
        for buffer in [values.values, z, pool.z] {
            self.machine.arena.give(buffer);
        }
        let (mut x, mut at) = (pool.out, pooled(wide));

        for block in &self.blocks {
            let input = (at, Source::Plain(&x));
            let (z1, affine1) = self.infer_layer(simd, block.first, input);
            let next = self.conv(block.first).output(at);
            let inner = (next, Source::Relu(&z1, &affine1));
            let (z2, affine2) = self.infer_layer(simd, block.second, inner);
            let projection = block.downsample.map(|layer| self.infer_layer(simd, layer, input));
            let shortcut = match &projection {
                Some((z, affine)) => Shortcut::Projection(z, affine),
                None => Shortcut::Identity(&x),
            };
            let mut out = self.machine.arena.take(z2.len());
            finish_block(simd, &z2, &affine2, shortcut, &mut out);
            for buffer in [z1, z2, x].into_iter().chain(projection.map(|(z, _)| z)) {
                self.machine.arena.give(buffer);
            }
            (x, at) = (out, next);
        }
        let embeddings = average_pool(simd, at, self.dim, &x);
        self.machine.arena.give(x);
        embeddings
    }

    fn infer_layer<S: Simd>(&self, simd: S, layer: usize, input: (Map, Source<'_>)) -> (Vec<f32>, Affine) {
        let (z, _) = self.convolve(simd, layer, input, Then::Nothing);
        (z, self.running_affine(layer))
    }

    fn running_affine(&self, layer: usize) -> Affine {
        let [mean, variance] = self.layers[layer].running.each_ref().map(|range| &self.running[range.clone()]);
        let [weight, bias] = self.norm(layer);
        inference_affine(mean, variance, weight, bias)
    }
}
