//! The network: forward and backward of a training step, and inference, over the operators of this folder.

use super::Cpu;
use super::algorithm::Problem;
use super::blur::blur;
use super::conv;
use super::gemm::Update;
use super::norm::{ChannelSums, Mask, Shortcut, finish_block, mask_and_sum};
use super::parameters::{BlockTape, Output};
use super::pool::{MaxPooled, PooledGradient, average_pool, average_pool_backward};
use super::read::Source;
use super::shape::Map;
use super::stem::Padded;
use super::write::{Target, Then};
use crate::ImageBatch;
use crate::flat::Network;
use pulp::Simd;

/// What the backward pass needs.
pub(crate) struct NetworkTape {
    images: Padded,
    stem: Output<f32>,
    pooled: MaxPooled,
    blocks: Vec<BlockTape<f32>>,
}

/// What a convolution sums for its batch norm.
fn sums_of(training: bool) -> Then<'static> {
    if training { Then::Squares } else { Then::Nothing }
}

impl Network<Cpu> {
    fn give(&self, buffers: impl IntoIterator<Item = Vec<f32>>) {
        buffers.into_iter().for_each(|buffer| self.machine.arena.give(buffer));
    }

    /// A layer over maps of extent `input`.
    fn problem<S: Simd>(&self, simd: S, layer: usize, input: Map) -> Problem<'_, S> {
        let (conv, weights) = (self.conv(layer), self.weights(layer));
        Problem { simd, conv, weights, input, arena: &self.machine.arena }
    }

    fn layer<S: Simd>(&self, simd: S, layer: usize, (map, source): (Map, Source<'_>), training: bool) -> Output<f32> {
        let problem = self.problem(simd, layer, map);
        let mut z = self.machine.arena.take(problem.output().pixels() * problem.conv.out_channels);
        let sums = conv::forward(&problem, source, &Target::new(&mut z, Update::Set, sums_of(training)));
        self.normalized(layer, z, &sums, training)
    }

    /// With the statistics of the batch in training, the running ones otherwise.
    fn normalized(&self, layer: usize, z: Vec<f32>, sums: &ChannelSums, training: bool) -> Output<f32> {
        let rows = z.len() / self.conv(layer).out_channels;
        let norm = if training { self.of_batch(layer, sums, rows) } else { self.of_running(layer) };
        Output { z, norm }
    }

    /// Normalised images, the stem over them, and the max-pooling.
    fn stem<S: Simd>(&self, simd: S, images: &ImageBatch, training: bool) -> (Padded, Output<f32>, MaxPooled) {
        let (conv, Cpu { arena, bytes, .. }) = (&self.conv(0), &self.machine);
        let images = Padded::new(simd, images, conv.padding, arena);
        let wide = conv.output(images.map);
        let mut z = arena.take(wide.pixels() * conv.out_channels);
        let target = Target::new(&mut z, Update::Set, sums_of(training));
        let sums = images.convolve(simd, conv, self.weights(0), &target);
        let stem = self.normalized(0, z, &sums, training);
        let len = wide.pooled().pixels() * conv.out_channels;
        let mut pooled = MaxPooled { out: arena.take(len), z: arena.take(len), places: bytes.take(len) };
        pooled.fill(simd, wide, &stem.z, &stem.norm.affine);
        (images, stem, pooled)
    }

    /// The blur of a map.
    fn blur<S: Simd>(&self, simd: S, (map, source): (Map, Source<'_>), channels: usize) -> Vec<f32> {
        let mut to = self.machine.arena.take(map.pixels() * channels);
        blur(simd, map, channels, source, &mut to);
        to
    }

    /// From the gradient `g` of the blur of a ReLU's output to that of what stands in front of the ReLU, with its sums for the batch norm
    /// of `z` and `mean`.
    fn blur_backward<S: Simd>(
        &self,
        simd: S,
        (map, g): (Map, Vec<f32>),
        mask: Mask<'_>,
        z: &[f32],
        mean: &[f32],
    ) -> (Vec<f32>, ChannelSums) {
        let mut behind = self.blur(simd, (map, Source::Plain(&g)), mean.len());
        let sums = mask_and_sum(simd, &mut behind, Some(mask), z, mean);
        self.give([g]);
        (behind, sums)
    }

    /// A block over `x` of extent `map`.
    fn block<S: Simd>(&self, simd: S, block: usize, map: Map, x: &[f32], training: bool) -> BlockTape<f32> {
        let block = self.blocks[block];
        let maps = self.maps_within(&block, map);
        let channels = |layer: usize| self.conv(layer).in_channels;
        let smooth = block.blurred.map(|_| self.blur(simd, (map, Source::Plain(x)), channels(block.first)));
        let halved = Source::Plain(smooth.as_deref().unwrap_or(x));
        let mut inner = None;
        let mut layers: Vec<Output<f32>> = Vec::with_capacity(maps.len() - 1);
        for (layer, map) in block.layers().zip(maps) {
            let source = layers.last().map_or(Source::Plain(x), |before| Source::Relu(&before.z, &before.norm.affine));
            let source = match block.blurred == Some(layer) {
                true if layer == block.first => halved,
                true => Source::Plain(inner.insert(self.blur(simd, (map, source), channels(layer)))),
                false => source,
            };
            let output = self.layer(simd, layer, (map, source), training);
            layers.push(output);
        }
        let downsample = block.downsample.map(|layer| self.layer(simd, layer, (map, halved), training));
        let shortcut = match &downsample {
            Some(projection) => Shortcut::Projection(&projection.z, &projection.norm.affine),
            None => Shortcut::Identity(x),
        };
        let last = layers.last().expect("a block has layers");
        let mut out = self.machine.arena.take(last.z.len());
        finish_block(simd, &last.z, &last.norm.affine, shortcut, &mut out);
        let blurred = smooth.into_iter().chain(inner).collect();
        BlockTape { layers, inner: Vec::new(), downsample, blurred, out }
    }

    /// Embeddings `(images, dim)` with the batch's statistics, which move the running ones.
    pub(crate) fn forward_train<S: Simd>(&mut self, simd: S, images: &ImageBatch) -> (Vec<f32>, NetworkTape) {
        let maps = self.maps(Map::of(images));
        let (images, stem, pooled) = self.stem(simd, images, true);
        let mut blocks: Vec<BlockTape<f32>> = Vec::with_capacity(self.blocks.len());
        for index in 0..self.blocks.len() {
            let x = blocks.last().map_or(&pooled.out, |block| &block.out);
            blocks.push(self.block(simd, index, maps[index], x, true));
        }
        let last = &blocks.last().expect("an encoder has blocks").out;
        let embeddings = average_pool(simd, maps[self.blocks.len()], self.dim, last);

        self.move_running(&stem, &blocks);
        (embeddings, NetworkTape { images, stem, pooled, blocks })
    }

    /// Embeddings `(images, dim)` with the running statistics.
    pub(crate) fn forward<S: Simd>(&self, simd: S, images: &ImageBatch) -> Vec<f32> {
        let maps = self.maps(Map::of(images));
        let (images, stem, pooled) = self.stem(simd, images, false);
        self.machine.bytes.give(pooled.places);
        self.give([images.values, stem.z, pooled.z]);
        let mut x = pooled.out;
        for index in 0..self.blocks.len() {
            let BlockTape { layers, downsample, blurred, out, .. } = self.block(simd, index, maps[index], &x, false);
            self.give(layers.into_iter().chain(downsample).map(|output| output.z).chain(blurred));
            self.give([std::mem::replace(&mut x, out)]);
        }
        let embeddings = average_pool(simd, maps[self.blocks.len()], self.dim, &x);
        self.give([x]);
        embeddings
    }

    /// The gradients of all parameters, laid out as the parameters, from that of the embeddings.
    pub(crate) fn backward<S: Simd>(&self, simd: S, tape: NetworkTape, grad: &[f32]) -> Vec<f32> {
        let mut gradients = self.machine.arena.take(self.parameters.len());
        let map = tape.images.map;
        let wide = self.conv(0).output(map);
        let maps = self.maps(map);
        let last = maps[self.blocks.len()];
        let mut g = self.machine.arena.take(last.pixels() * self.dim);
        average_pool_backward(last, self.dim, grad, &mut g);

        let NetworkTape { images, stem, pooled: first, mut blocks } = tape;
        let end = blocks.last().expect("an encoder has blocks");
        let mut sums = mask_and_sum(simd, &mut g, Some(Mask::Output(&end.out)), &end.last().z, &end.last().norm.mean);
        while let Some(tape) = blocks.pop() {
            let index = blocks.len();
            let before: [&[f32]; 3] = match blocks.last() {
                Some(block) => [&block.out, &block.last().z, &block.last().norm.mean],
                None => [&first.out, &first.z, &stem.norm.mean],
            };
            (g, sums) = self.backward_block(simd, index, maps[index], (before, tape), (g, sums), &mut gradients);
        }

        let backward = &self.norm_backward(0, &stem.norm, &sums, &mut gradients);
        let dz = PooledGradient { map: wide, g: &g, places: &first.places, z: &stem.z, backward };
        let arena = &self.machine.arena;
        images.weight_gradient(simd, &self.conv(0), &dz, self.weights_of(0, &mut gradients), arena);
        self.give([images.values, stem.z, first.out, first.z, g]);
        self.machine.bytes.give(first.places);
        gradients
    }

    /// From the gradient of a block's output, behind its ReLU, with the sums of its last batch norm, to the same of
    /// what stands in front, the block before or the stem: `before` is the block's input, and the numbers and means of the
    /// batch norm that made it.
    fn backward_block<S: Simd>(
        &self,
        simd: S,
        block: usize,
        map: Map,
        ([x, z_before, mean_before], tape): ([&[f32]; 3], BlockTape<f32>),
        (mut g, sums): (Vec<f32>, ChannelSums),
        gradients: &mut [f32],
    ) -> (Vec<f32>, ChannelSums) {
        let block = self.blocks[block];
        let BlockTape { layers, downsample, blurred, out, .. } = tape;
        let maps = self.maps_within(&block, map);
        // The gradient behind the ReLU of the layer at hand, with its sums; behind the last stands that of the block.
        let mut inner: Option<(Vec<f32>, ChannelSums)> = None;
        for place in (1..layers.len()).rev() {
            let (layer, before, output) = (block.first + place, &layers[place - 1], &layers[place]);
            let problem = self.problem(simd, layer, maps[place]);
            let (behind, sums) = inner.as_ref().map_or((&g, &sums), |(behind, sums)| (behind, sums));
            let backward = self.norm_backward(layer, &output.norm, sums, gradients);
            let dz = Source::Gradient(behind, &output.z, &backward);
            let (z, mean, mask) = (&before.z, &before.norm.mean, Mask::Normalized(&before.norm.affine));
            let (source, then) = match block.blurred == Some(layer) {
                true => (Source::Plain(&blurred[1]), Then::Nothing),
                false => (Source::Relu(z, &before.norm.affine), Then::Mask { mask, z, mean }),
            };
            conv::weight_gradient(&problem, source, dz, self.weights_of(layer, gradients));
            let mut below = self.machine.arena.take(z.len());
            let sums = conv::input_gradient(&problem, dz, &Target::new(&mut below, Update::Set, then));
            let next = match block.blurred == Some(layer) {
                true => self.blur_backward(simd, (maps[place], below), mask, z, mean),
                false => (below, sums),
            };
            self.give(inner.replace(next).map(|(behind, _)| behind));
        }
        let (g1, sums1) = inner.expect("a block has two layers or more");
        let first = &layers[0];
        let problem1 = self.problem(simd, block.first, map);
        // What the shortcut reads, and whether the first layer reads it too.
        let (halved, first_blurs) = (blurred.first().map_or(x, |x| &x[..]), block.blurred == Some(block.first));
        let source = Source::Plain(if first_blurs { halved } else { x });

        let backward1 = self.norm_backward(block.first, &first.norm, &sums1, gradients);
        let dz1 = Source::Gradient(&g1, &first.z, &backward1);
        conv::weight_gradient(&problem1, source, dz1, self.weights_of(block.first, gradients));
        if let (Some(layer), Some(projection)) = (block.downsample, downsample) {
            // The sum of `g` is known.
            let products = mask_and_sum(simd, &mut g, None, &projection.z, &projection.norm.mean).second;
            let sums = ChannelSums { first: sums.first, second: products };
            let backward = self.norm_backward(layer, &projection.norm, &sums, gradients);
            let dz = Source::Gradient(&g, &projection.z, &backward);
            let problem = self.problem(simd, layer, map);
            conv::weight_gradient(&problem, Source::Plain(halved), dz, self.weights_of(layer, gradients));
            let mut dx = self.machine.arena.take(x.len());
            let target = Target::new(&mut dx, Update::Set, Then::Nothing);
            conv::input_gradient(&problem, dz, &target);
            self.give([std::mem::replace(&mut g, dx), projection.z]);
            if block.blurred.is_some() && !first_blurs {
                let dx = self.blur(simd, (map, Source::Plain(&g)), problem.conv.in_channels);
                self.give([std::mem::replace(&mut g, dx)]);
            }
        }
        // What the shortcut brought stands in `g`.
        let mask = Mask::Output(x);
        let then = if first_blurs { Then::Nothing } else { Then::Mask { mask, z: z_before, mean: mean_before } };
        let sums = conv::input_gradient(&problem1, dz1, &Target::new(&mut g, Update::Add, then));
        self.give([g1, out].into_iter().chain(layers.into_iter().map(|output| output.z)).chain(blurred));
        match first_blurs {
            true => self.blur_backward(simd, (map, g), mask, z_before, mean_before),
            false => (g, sums),
        }
    }
}
