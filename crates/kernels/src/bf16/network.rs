//! The network: forward and backward of a training step, and inference, over the operators of this folder.

use super::Cpu;
use super::blur::blur;
use super::conv::{Finish, Operands, convolve, weight_gradient};
use super::kernels::Blocks;
use super::map::Windows;
use super::number::{AREA, LANES, Row};
use super::passes::{
    Activate, Gradient, Paired, Plain, Shortcut, Statistics, average_pool, average_pool_backward, mask_and_sum,
    norm_gradient,
};
use super::stem::{Images, MaxPooled};
use crate::ImageBatch;
use crate::fast::norm::ChannelSums;
use crate::fast::parameters::{BlockTape, Output};
use crate::flat::Network;
use crate::resnet::{Block, Map};
use pulp::Simd;

/// The same numbers as they are, and in pairs of channels, as the next convolution reads them.
struct Activation {
    plain: Vec<Row>,
    pairs: Vec<Row>,
}

/// What the backward pass needs.
pub(crate) struct NetworkTape {
    images: Images,
    stem: Output<Row>,
    pooled: MaxPooled,
    blocks: Vec<BlockTape<Row>>,
}

impl Network<Cpu> {
    fn take(&self, map: Map, channels: usize) -> Vec<Row> {
        self.machine.rows.take(map.rows(channels))
    }

    fn give(&self, maps: impl IntoIterator<Item = Vec<Row>>) {
        maps.into_iter().for_each(|map| self.machine.rows.give(map));
    }

    /// The kernels of a layer's output, which are made once for all layers and steps of inference.
    fn kernels<S: Simd>(&self, simd: S, layer: usize) -> &[Row] {
        let all = self.machine.kernels.get_or_init(|| {
            let mut all = self.machine.rows.take(self.decayed / LANES);
            for (index, layer) in self.layers.iter().enumerate() {
                let range = layer.weights.start / LANES..layer.weights.end / LANES;
                Blocks::of(&layer.plan.shape).forward(simd, self.weights(index), &mut all[range]);
            }
            all
        });
        let weights = &self.layers[layer].weights;
        &all[weights.start / LANES..weights.end / LANES]
    }

    /// A layer over `source`, in pairs of channels, of extent `map`, finished into `maps`.
    fn convolve<S: Simd, F: Finish<N>, const N: usize>(
        &self,
        simd: S,
        layer: usize,
        (map, source): (Map, &[Row]),
        finish: &F,
        maps: [&mut [Row]; N],
    ) -> ChannelSums {
        let conv = self.conv(layer);
        let windows = Windows::of_output(&conv, map);
        self.convolve_in(simd, layer, (map, source, &windows), finish, maps)
    }

    fn convolve_in<S: Simd, F: Finish<N>, const N: usize>(
        &self,
        simd: S,
        layer: usize,
        (map, source, windows): (Map, &[Row], &Windows),
        finish: &F,
        maps: [&mut [Row]; N],
    ) -> ChannelSums {
        let (engine, blocks) = (self.machine.engine, Blocks::of(&self.conv(layer)).ins);
        let (kernels, images) = (self.kernels(simd, layer), map.images);
        convolve(simd, &Operands { engine, kernels, blocks, source, windows, images }, finish, maps)
    }

    /// A layer in training.
    fn layer<S: Simd>(&self, simd: S, layer: usize, (map, pairs): (Map, &[Row])) -> Output<Row> {
        let conv = self.conv(layer);
        let output = conv.output(map);
        let mut z = self.take(output, conv.out_channels);
        let sums = self.convolve(simd, layer, (map, pairs), &Statistics, [&mut z]);
        Output { z, norm: self.of_batch(layer, &sums, output.pixels()) }
    }

    /// What the batch norm and ReLU behind a layer make of it.
    fn activate<S: Simd>(
        &self,
        simd: S,
        map: Map,
        Output { z, norm }: &Output<Row>,
        shortcut: Shortcut<'_>,
    ) -> Activation {
        let [mut plain, mut pairs] = [(); 2].map(|()| self.machine.rows.take(z.len()));
        Activate { affine: &norm.affine, shortcut }.pass(simd, map, z, &mut plain, &mut pairs);
        Activation { plain, pairs }
    }

    /// The blur of a map.
    fn blur<S: Simd>(&self, simd: S, of: (Map, usize), plain: &[Row]) -> Activation {
        let [mut blurred, mut pairs] = [(); 2].map(|()| self.machine.rows.take(plain.len()));
        blur(simd, of, &[plain], &Paired, [&mut blurred, &mut pairs]);
        Activation { plain: blurred, pairs }
    }

    /// A block over `x` of extent `map`, whose pairs are not needed any more; its outcome, and the pairs of that.
    fn block<S: Simd>(
        &self,
        simd: S,
        block: &Block,
        map: Map,
        plain: &[Row],
        pairs: Vec<Row>,
    ) -> (BlockTape<Row>, Vec<Row>) {
        let maps = self.maps_within(block, map);
        let (mut layers, mut pairs) = (Vec::new(), pairs);
        let [mut inner, mut blurred]: [Vec<Vec<Row>>; 2] = Default::default();
        let channels = |layer: usize| self.conv(layer).in_channels;
        // What the shortcut reads.
        let mut halved = None;
        if block.blurred.is_some() {
            let Activation { plain, pairs } = self.blur(simd, (map, channels(block.first)), plain);
            blurred.push(plain);
            halved = Some(pairs);
        }
        let downsample =
            block.downsample.map(|layer| self.layer(simd, layer, (map, halved.as_deref().unwrap_or(&pairs))));
        for (place, layer) in block.layers().enumerate() {
            if block.blurred == Some(layer) {
                let smooth = match inner.last() {
                    None => halved.take().expect("the block's input is smoothed"),
                    Some(before) => {
                        let Activation { plain, pairs } = self.blur(simd, (maps[place], channels(layer)), before);
                        blurred.push(plain);
                        pairs
                    }
                };
                self.give([std::mem::replace(&mut pairs, smooth)]);
            }
            let output = self.layer(simd, layer, (maps[place], &pairs));
            let shortcut = match &downsample {
                _ if layer != block.last => Shortcut::None,
                Some(Output { z, norm }) => Shortcut::Projection(z, &norm.affine),
                None => Shortcut::Identity(plain),
            };
            let next = self.activate(simd, maps[place + 1], &output, shortcut);
            self.give([std::mem::replace(&mut pairs, next.pairs)]);
            layers.push(output);
            inner.push(next.plain);
        }
        let out = inner.pop().expect("a block has layers");
        self.give(halved);
        (BlockTape { layers, inner, downsample, blurred, out }, pairs)
    }

    /// Normalised images, and the stem over them with its sums.
    fn stem<S: Simd, F: Finish<1>>(&self, simd: S, images: &ImageBatch, finish: &F) -> (Images, Vec<Row>, ChannelSums) {
        let conv = self.conv(0);
        let images = Images::new(simd, images, &conv, &self.machine.rows);
        let mut z = self.take(conv.output(images.map), conv.out_channels);
        let sums = self.convolve_in(simd, 0, (images.map, &images.pairs, &images.windows), finish, [&mut z]);
        (images, z, sums)
    }

    /// Embeddings `(images, dim)` with the batch's statistics, which move the running ones.
    pub(crate) fn forward_train<S: Simd>(&mut self, simd: S, images: &ImageBatch) -> (Vec<f32>, NetworkTape) {
        let maps = self.maps(Map::of(images));
        let (images, z, sums) = self.stem(simd, images, &Statistics);
        let wide = self.conv(0).output(images.map);
        let stem = Output { z, norm: self.of_batch(0, &sums, wide.pixels()) };
        let Cpu { rows, bytes, .. } = &self.machine;
        let mut pooled = MaxPooled::new(simd, wide, &stem.z, &stem.norm.affine, (rows, bytes));
        let mut pairs = std::mem::take(&mut pooled.pairs);
        let mut blocks: Vec<BlockTape<Row>> = Vec::with_capacity(self.blocks.len());
        for (block, &map) in self.blocks.iter().zip(&maps) {
            let x = blocks.last().map_or(&pooled.plain, |block| &block.out);
            let (tape, next) = self.block(simd, block, map, x, pairs);
            pairs = next;
            blocks.push(tape);
        }
        self.give([pairs]);
        let last = &blocks.last().expect("an encoder has blocks").out;
        let embeddings = average_pool(maps[self.blocks.len()], self.dim, last);
        self.move_running(&stem, &blocks);
        (embeddings, NetworkTape { images, stem, pooled, blocks })
    }

    /// Embeddings `(images, dim)` with the running statistics.
    pub(crate) fn forward<S: Simd>(&self, simd: S, images: &ImageBatch) -> Vec<f32> {
        let maps = self.maps(Map::of(images));
        let (images, z, _) = self.stem(simd, images, &Plain);
        let wide = self.conv(0).output(images.map);
        let Cpu { rows, bytes, .. } = &self.machine;
        let pooled = MaxPooled::new(simd, wide, &z, &self.of_running(0).affine, (rows, bytes));
        self.give([images.plain, images.pairs, z, pooled.z]);
        self.machine.bytes.give(pooled.places);
        let mut x = Activation { plain: pooled.plain, pairs: pooled.pairs };
        for (block, &map) in self.blocks.iter().zip(&maps) {
            x = self.infer_block(simd, block, map, x);
        }
        let embeddings = average_pool(maps[self.blocks.len()], self.dim, &x.plain);
        self.give([x.plain, x.pairs]);
        embeddings
    }

    /// A block in inference.
    fn infer_block<S: Simd>(&self, simd: S, block: &Block, map: Map, x: Activation) -> Activation {
        let maps = self.maps_within(block, map);
        let Activation { plain, mut pairs } = x;
        let mut halved = block.blurred.map(|_| self.blur(simd, (map, self.conv(block.first).in_channels), &plain));
        let downsample = block.downsample.map(|layer| {
            let output = self.conv(layer).output(map);
            let mut z = self.take(output, self.conv(layer).out_channels);
            let pairs = halved.as_ref().map_or(&pairs, |halved| &halved.pairs);
            self.convolve(simd, layer, (map, pairs), &Plain, [&mut z]);
            Output { z, norm: self.of_running(layer) }
        });
        if let Some(halved) = halved.as_mut().filter(|_| block.blurred == Some(block.first)) {
            std::mem::swap(&mut pairs, &mut halved.pairs);
        }
        for (place, layer) in (block.first..block.last).enumerate() {
            let norm = self.of_running(layer);
            let channels = self.conv(layer).out_channels;
            let mut next = self.take(maps[place + 1], channels);
            let activate = Activate { affine: &norm.affine, shortcut: Shortcut::None };
            if block.blurred == Some(layer + 1) {
                let mut sharp = self.take(maps[place + 1], channels);
                self.convolve(simd, layer, (maps[place], &pairs), &activate, [&mut sharp, &mut next]);
                let smooth = self.blur(simd, (maps[place + 1], channels), &sharp);
                self.give([sharp, smooth.plain, std::mem::replace(&mut next, smooth.pairs)]);
            } else {
                self.convolve(simd, layer, (maps[place], &pairs), &activate, [&mut next]);
            }
            self.give([std::mem::replace(&mut pairs, next)]);
        }
        let shortcut = match &downsample {
            Some(Output { z, norm }) => Shortcut::Projection(z, &norm.affine),
            None => Shortcut::Identity(&plain),
        };
        let (norm, place) = (self.of_running(block.last), maps.len() - 2);
        let [mut out, mut out_pairs] = [(); 2].map(|()| self.take(maps[place + 1], self.conv(block.last).out_channels));
        let activate = Activate { affine: &norm.affine, shortcut };
        self.convolve(simd, block.last, (maps[place], &pairs), &activate, [&mut out, &mut out_pairs]);
        self.give([plain, pairs].into_iter().chain(downsample.map(|output| output.z)));
        self.give(halved.into_iter().flat_map(|halved| [halved.plain, halved.pairs]));
        Activation { plain: out, pairs: out_pairs }
    }

    /// The gradient of a map from those of its blur, whose sum counts, finished by `target`, and its sums.
    fn blur_backward<S: Simd, F: Finish<1>>(
        &self,
        simd: S,
        (map, channels): (Map, usize),
        gradients: &[&[Row]],
        target: &F,
    ) -> (Vec<Row>, ChannelSums) {
        let mut dx = self.take(map, channels);
        let sums = blur(simd, (map, channels), gradients, target, [&mut dx]);
        (dx, sums)
    }

    /// The gradients of all parameters, laid out as the parameters, from that of the embeddings.
    pub(crate) fn backward<S: Simd>(&self, simd: S, tape: NetworkTape, grad: &[f32]) -> Vec<f32> {
        let mut gradients = self.machine.numbers.take(self.parameters.len());
        let NetworkTape { images, stem, pooled, mut blocks } = tape;
        let maps = self.maps(images.map);
        let last = maps[self.blocks.len()];
        let mut g = self.take(last, self.dim);
        average_pool_backward(last, self.dim, grad, &mut g);
        let end = blocks.last().expect("an encoder has blocks");
        let mut sums = mask_and_sum(simd, last, &mut g, Some(&end.out), &end.last().z, &end.last().norm.mean);
        while let Some(tape) = blocks.pop() {
            let index = blocks.len();
            let before = match blocks.last() {
                Some(block) => Before { x: &block.out, z: &block.last().z, mean: &block.last().norm.mean },
                None => Before { x: &pooled.plain, z: &pooled.z, mean: &stem.norm.mean },
            };
            (g, sums) = self.backward_block(simd, index, maps[index], (before, tape), (g, sums), &mut gradients);
        }

        let (conv, wide) = (self.conv(0), self.conv(0).output(images.map));
        let backward = self.norm_backward(0, &stem.norm, &sums, &mut gradients);
        let mut dz = self.machine.rows.take(stem.z.len());
        pooled.gradient(simd, wide, (&g, &stem.z), &backward, &mut dz);
        let of_weights = self.weights_of(0, &mut gradients);
        let (engine, blocks) = (self.machine.engine, Blocks::of(&conv));
        let operands = (&images.plain[..], &dz[..]);
        weight_gradient(simd, engine, blocks, &images.windows, operands, of_weights, &self.machine.numbers);
        blocks.clear_unused(of_weights);
        self.give([images.plain, images.pairs, stem.z, pooled.plain, pooled.z, g, dz]);
        self.machine.bytes.give(pooled.places);
        gradients
    }

    /// From the gradient of a block's output, behind its ReLU, with the sums of its last batch norm, to the same of
    /// what stands in front, the block before or the stem.
    fn backward_block<S: Simd>(
        &self,
        simd: S,
        block: usize,
        map: Map,
        (before, tape): (Before<'_>, BlockTape<Row>),
        (g, sums): (Vec<Row>, ChannelSums),
        gradients: &mut [f32],
    ) -> (Vec<Row>, ChannelSums) {
        let block = self.blocks[block];
        let BlockTape { layers, inner, downsample, blurred, out } = tape;
        let maps = self.maps_within(&block, map);
        let end = maps[layers.len()];
        // What the shortcut reads, and whether the first layer reads it too.
        let (halved, first_blurs) = (blurred.first().map_or(before.x, |x| x), block.blurred == Some(block.first));
        // What the shortcut brings to the block's input, and `g` where that is another.
        let (brought, of_projection) = match block.downsample.zip(downsample) {
            Some((layer, output)) => {
                // The sum of `g` is known.
                let mut g = g;
                let products = mask_and_sum(simd, end, &mut g, None, &output.z, &output.norm.mean).second;
                let sums = ChannelSums { first: sums.first.clone(), second: products };
                let source = (map, halved);
                let (mut dx, _) = self.backward_layer(simd, layer, source, &output, (&g, &sums), &Plain, gradients);
                self.give([output.z]);
                if block.blurred.is_some() && !first_blurs {
                    let (behind, _) = self.blur_backward(simd, (map, self.conv(layer).in_channels), &[&dx], &Plain);
                    self.give([std::mem::replace(&mut dx, behind)]);
                }
                (dx, Some(g))
            }
            None => (g, None),
        };
        let at_end = of_projection.as_ref().unwrap_or(&brought);
        // The gradient behind the ReLU of the layer at hand, with its sums; behind the last stands that of the block.
        let mut behind: Option<(Vec<Row>, ChannelSums)> = None;
        for place in (1..layers.len()).rev() {
            let found = behind.as_ref().map_or((&at_end[..], &sums), |(g, sums)| (&g[..], sums));
            let (activation, input, layer) = (&inner[place - 1], &layers[place - 1], block.first + place);
            let target = Gradient { shortcut: None, activation, z: &input.z, mean: &input.norm.mean };
            let next = if block.blurred == Some(layer) {
                let source = (maps[place], &blurred[1][..]);
                let (dx, _) = self.backward_layer(simd, layer, source, &layers[place], found, &Plain, gradients);
                let next = self.blur_backward(simd, (maps[place], input.norm.mean.len()), &[&dx], &target);
                self.give([dx]);
                next
            } else {
                let source = (maps[place], &activation[..]);
                self.backward_layer(simd, layer, source, &layers[place], found, &target, gradients)
            };
            self.give(behind.replace(next).map(|(g, _)| g));
        }
        let (first, of_first) = behind.expect("a block has two layers or more");
        let target = Gradient { shortcut: Some(&brought), activation: before.x, z: before.z, mean: before.mean };
        let (found, layer) = ((&first[..], &of_first), block.first);
        let next = if first_blurs {
            let (dx, _) = self.backward_layer(simd, layer, (map, halved), &layers[0], found, &Plain, gradients);
            let target = Gradient { shortcut: None, ..target };
            let next = self.blur_backward(simd, (map, before.mean.len()), &[&dx, &brought], &target);
            self.give([dx]);
            next
        } else {
            self.backward_layer(simd, layer, (map, before.x), &layers[0], found, &target, gradients)
        };
        self.give([first, out, brought].into_iter().chain(of_projection).chain(inner).chain(blurred));
        self.give(layers.into_iter().map(|output| output.z));
        next
    }

    /// The gradients of a layer's parameters, into their places, and of its input, from that of its batch norm's output, with its sums.
    #[allow(clippy::too_many_arguments)] // a layer's surroundings
    fn backward_layer<S: Simd, F: Finish<1>>(
        &self,
        simd: S,
        layer: usize,
        (map, x): (Map, &[Row]),
        Output { z, norm }: &Output<Row>,
        (g, sums): (&[Row], &ChannelSums),
        target: &F,
        gradients: &mut [f32],
    ) -> (Vec<Row>, ChannelSums) {
        let (conv, engine) = (self.conv(layer), self.machine.engine);
        let blocks = Blocks::of(&conv);
        let backward = self.norm_backward(layer, norm, sums, gradients);
        let [mut channels, mut images] = [(); 2].map(|()| self.machine.rows.take(z.len()));
        norm_gradient(simd, conv.output(map), (g, z), &backward, &mut channels, &mut images);
        let of_weights = self.weights_of(layer, gradients);
        let numbers = &self.machine.numbers;
        weight_gradient(simd, engine, blocks, &Windows::of_output(&conv, map), (x, &images), of_weights, numbers);

        let mut kernels = self.machine.rows.take(blocks.len() * LANES / AREA);
        blocks.backward(simd, self.weights(layer), &mut kernels);
        let mut dx = self.take(map, conv.in_channels);
        let (windows, count) = (Windows::of_input(&conv, map), map.images);
        let operands = Operands {
            engine,
            kernels: &kernels,
            blocks: blocks.outs,
            source: &channels,
            windows: &windows,
            images: count,
        };
        let sums = convolve(simd, &operands, target, [&mut dx]);
        self.give([channels, images, kernels]);
        (dx, sums)
    }
}

/// What stands in front of a block: its input, and the numbers and means of the batch norm that made it.
struct Before<'a> {
    x: &'a [Row],
    z: &'a [Row],
    mean: &'a [f32],
}
