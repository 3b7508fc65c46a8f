//! The operators one by one, on made-up numbers in the network's own shapes, for benches.

use super::algorithm::Problem;
use super::arena::Arena;
use super::blur::blur;
use super::conv;
use super::gemm::{Strided, Update, multiply_panel, panel_width};
use super::norm::{Affine, Backward, Mask, Shortcut, finish_block};
use super::pool::{MaxPooled, PooledGradient};
use super::read::Source;
use super::shape::{Convolution, Map};
use super::simd::{InstructionSet, vectorized, with_instructions};
use super::stem::Padded;
use super::write::{Target, Then};
use crate::ImageBatch;
use crate::resnet::Architecture;
use pulp::Simd;
use rayon::prelude::*;
use std::sync::Arc;

/// An operator on made-up numbers, ready to run again and again.
pub struct Operator {
    /// The first layer that has this shape, e.g. `layer1.0.conv1`.
    pub layer: String,
    /// Shape, e.g. `3x3/1 64->64 16x16`.
    pub shape: String,
    /// Layers of this shape.
    pub layers: usize,
    /// `forward`, `input gradient` or `weight gradient`, and the method where there are several.
    pub pass: String,
    /// Floating-point operations of the direct convolution that one call stands for, padding counted; 0 where memory
    /// bounds the operator.
    pub flop: f64,
    /// Bytes that one call must read and write at least.
    pub bytes: f64,
    run: Box<dyn FnMut() + Send>,
}

impl Operator {
    /// Reads and writes so many `numbers` of f32 at least.
    pub(crate) fn new(
        layer: &str,
        shape: String,
        pass: &str,
        flop: f64,
        numbers: usize,
        run: impl FnMut() + Send + 'static,
    ) -> Self {
        let (layer, pass, bytes) = (layer.into(), pass.into(), 4.0 * numbers as f64);
        Self { layer, shape, layers: 1, pass, flop, bytes, run: Box::new(run) }
    }

    /// Computes it once, on the current thread pool.
    pub fn run(&mut self) {
        (self.run)();
    }
}

/// Every operator of a step on `batch` images of `size_px`, computed with `instructions`, which must be among
/// [`InstructionSet::available`].
pub(crate) fn operators(
    architecture: &Architecture,
    instructions: InstructionSet,
    size_px: usize,
    batch: usize,
) -> Vec<Operator> {
    with_instructions!(instructions, simd => {
        let map = Map { images: batch, height: size_px, width: size_px };
        let of_stem = |name: &str, conv| {
            let images = ImageBatch::new(vec![90; map.pixels() * 3], batch, size_px).expect("the sizes agree");
            Vec::from(stem_operators(simd, name, conv, images))
        };
        let of_layer = |name: &str, shape: &str, conv, map| Vec::from(convolution_operators(simd, name, shape, conv, map));
        of_layers(architecture, map, of_stem, of_layer, |map, channels| {
            let (x, mut to) = (numbers(map.pixels() * channels, 0.1), vec![0.0; map.pixels() * channels]);
            (2 * x.len(), Box::new(move || blur(simd, map, channels, Source::Plain(&x), &mut to)))
        })
    })
}

/// Matrix products on operands that stay in the first-level cache, on all threads of the current pool at once: the floor
/// of every convolution.
pub fn matrix_products(instructions: InstructionSet) -> Operator {
    const CALLS: usize = 2_000;
    with_instructions!(instructions, simd => {
        let (rows, depth, width) = (48, 64, panel(simd));
        let (a, b) = (numbers(rows * depth, 0.1), numbers(depth * width, 0.2));
        let threads = rayon::current_num_threads();
        let run = move || (0..threads).into_par_iter().for_each(|_| {
            let mut c = vec![0.0; rows * width];
            for _ in 0..CALLS {
                vectorized!(simd, {
                    let a = Strided::new(&a, depth, 1);
                    multiply_panel(simd, (rows, depth), a, (&b, width), &mut c, Update::Set);
                });
                std::hint::black_box(&mut c);
            }
        });
        let flop = (2 * rows * depth * width * CALLS * threads) as f64;
        Operator::new("matrix product", format!("{rows}x{depth} {depth}x{width}"), "floor", flop, 0, run)
    })
}

fn panel<S: Simd>(_: S) -> usize {
    panel_width::<S>()
}

/// Numbers around 0, another sequence for each `phase`.
pub(crate) fn numbers(len: usize, phase: f64) -> Vec<f32> {
    (0..len).map(|index| (index as f64 * 0.73 + phase).sin() as f32).collect()
}

/// Those of the stem over images of extent `map`, of each shape of the other layers, and of each shape that is smoothed, which the functions
/// make.
pub(crate) fn of_layers(
    architecture: &Architecture,
    map: Map,
    of_stem: impl Fn(&str, Convolution) -> Vec<Operator>,
    of_layer: impl Fn(&str, &str, Convolution, Map) -> Vec<Operator>,
    of_blur: impl Fn(Map, usize) -> (usize, Box<dyn FnMut() + Send>),
) -> Vec<Operator> {
    let plan = architecture.plan();
    let (stem, conv) = (&plan.layers[0].conv, plan.layers[0].shape);
    let mut at = conv.output(map).pooled();
    let mut all = of_stem(stem, conv);
    for block in plan.blocks {
        let mut next = at;
        let mut layers: Vec<(usize, Map)> = block.downsample.map(|layer| (layer, at)).into_iter().collect();
        for layer in block.layers() {
            layers.push((layer, next));
            next = plan.layers[layer].shape.output(next);
        }
        layers.sort_by_key(|(layer, _)| *layer);
        for (layer, map) in layers {
            let of_shortcut = block.downsample == Some(layer) && block.blurred != Some(block.first);
            if block.blurred.is_some() && (of_shortcut || block.blurred == Some(layer)) {
                let (name, channels) = (&plan.layers[layer].conv, plan.layers[layer].shape.in_channels);
                let shape = format!("{channels} {}x{}", map.height, map.width);
                let pass = "blur, forward or gradient";
                let (numbers, run) = of_blur(map, channels);
                all.push(Operator::new(name, shape, pass, 0.0, numbers, run));
            }
            let (name, conv) = (&plan.layers[layer].conv, plan.layers[layer].shape);
            let Convolution { in_channels, out_channels, kernel, stride, .. } = conv;
            let Map { height, width, .. } = map;
            let shape = format!("{kernel}x{kernel}/{stride} {in_channels}->{out_channels} {height}x{width}");
            all.iter_mut().filter(|operator| operator.shape == shape).for_each(|operator| operator.layers += 1);
            if all.iter().all(|operator| operator.shape != shape) {
                all.extend(of_layer(name, &shape, conv, map));
            }
        }
        at = next;
    }
    all
}

/// A convolution and what stands around it, in made-up numbers.
pub(crate) struct Surroundings {
    pub(crate) conv: Convolution,
    pub(crate) map: Map,
    pub(crate) x: Vec<f32>,
    pub(crate) affine: Affine,
    pub(crate) mean: Vec<f32>,
    pub(crate) g: Vec<f32>,
    pub(crate) z: Vec<f32>,
    pub(crate) backward: Backward,
    /// Packed.
    pub(crate) weights: Vec<f32>,
    pub(crate) arena: Arena,
}

impl Surroundings {
    pub(crate) fn new<S: Simd>(simd: S, conv: Convolution, map: Map) -> Self {
        let (len, ins, outs) = (conv.output(map).pixels() * conv.out_channels, conv.in_channels, conv.out_channels);
        let scaled = |len, phase, factor: f32| numbers(len, phase).iter().map(|x| factor * x).collect();
        let scale = numbers(ins, 1.0).iter().map(|x| 1.0 + 0.5 * x).collect();
        let mut weights = vec![0.0; conv.packed_len(simd)];
        conv.pack(simd, &numbers(outs * ins * conv.taps(), 0.4), &mut weights);
        Self {
            x: numbers(map.pixels() * ins, 0.1),
            affine: Affine { scale, shift: scaled(ins, 2.0, 0.2) },
            mean: numbers(ins, 0.9),
            g: numbers(len, 0.2),
            z: numbers(len, 0.3),
            backward: Backward { k1: numbers(outs, 3.0), k2: numbers(outs, 4.0), k3: scaled(outs, 5.0, 0.1) },
            arena: Arena::default(),
            conv,
            map,
            weights,
        }
    }

    pub(crate) fn problem<S>(&self, simd: S) -> Problem<'_, S> {
        Problem { simd, conv: self.conv, weights: &self.weights, input: self.map, arena: &self.arena }
    }

    pub(crate) fn x(&self) -> Source<'_> {
        Source::Relu(&self.x, &self.affine)
    }

    pub(crate) fn dz(&self) -> Source<'_> {
        Source::Gradient(&self.g, &self.z, &self.backward)
    }

    /// The mask of a ReLU behind `x`, and what the batch norm before it sums.
    pub(crate) fn mask(&self) -> Then<'_> {
        Then::Mask { mask: Mask::Normalized(&self.affine), z: &self.x, mean: &self.mean }
    }

    /// Operations of the convolution.
    fn flop(&self) -> f64 {
        2.0 * (self.z.len() * self.conv.taps() * self.conv.in_channels) as f64
    }
}

fn convolution_operators<S: Simd>(simd: S, name: &str, shape: &str, conv: Convolution, map: Map) -> [Operator; 3] {
    let all = Arc::new(Surroundings::new(simd, conv, map));
    let algorithm = conv::algorithm(&all.problem(simd)).name();
    let (flop, x_len, w_len, z_len) = (all.flop(), all.x.len(), all.weights.len(), all.z.len());
    let pass = |pass: &str| format!("{pass}, {algorithm}");
    let (a, mut y) = (all.clone(), vec![0.0; z_len]);
    let forward = move || {
        let target = Target::new(&mut y, Update::Set, Then::Squares);
        conv::forward(&a.problem(simd), a.x(), &target);
    };
    let (a, mut gradient) = (all.clone(), vec![0.0; w_len]);
    let weight_gradient = move || conv::weight_gradient(&a.problem(simd), a.x(), a.dz(), &mut gradient);
    let mut dx = vec![0.0; x_len];
    let input_gradient = move || {
        let target = Target::new(&mut dx, Update::Set, all.mask());
        conv::input_gradient(&all.problem(simd), all.dz(), &target);
    };
    let numbers = x_len + w_len + z_len;
    [
        Operator::new(name, shape.into(), &pass("forward"), flop, numbers, forward),
        Operator::new(name, shape.into(), &pass("weight gradient"), flop, numbers + z_len, weight_gradient),
        Operator::new(name, shape.into(), &pass("input gradient"), flop, numbers + x_len + z_len, input_gradient),
    ]
}

/// The stem and the max-pool behind it, and the end of a block at the largest map.
fn stem_operators<S: Simd>(simd: S, name: &str, conv: Convolution, images: ImageBatch) -> [Operator; 5] {
    let (map, channels) = (Map::of(&images), conv.out_channels);
    let wide = conv.output(map);
    let stem = Arc::new(Surroundings::new(simd, conv, map));
    let behind = Arc::new(Surroundings::new(simd, Convolution::new([channels; 2], 3, 1), wide.pooled()));
    let padded = Arc::new(Padded::new(simd, &images, conv.padding, &stem.arena));
    let (flop, image_len, wide_len, len) = (stem.flop(), padded.values.len(), stem.z.len(), behind.x.len());
    let shape = |map: Map| format!("{channels} {}x{}", map.height, map.width);

    let arena = Arena::default();
    let normalize = move || arena.give(Padded::new(simd, &images, conv.padding, &arena).values);
    let (a, from, mut z) = (stem.clone(), padded.clone(), vec![0.0; wide_len]);
    let forward = move || {
        from.convolve(simd, &conv, &a.weights, &Target::new(&mut z, Update::Set, Then::Squares));
    };
    let pool = || MaxPooled { out: vec![0.0; len], z: vec![0.0; len], places: vec![0; len] };
    let mut from_pool = pool();
    from_pool.fill(simd, wide, &stem.z, &behind.affine);
    let (a, around, mut out) = (stem.clone(), behind.clone(), pool());
    let max_pool = move || out.fill(simd, wide, &a.z, &around.affine);
    let mut gradient = vec![0.0; stem.weights.len()];
    let weight_gradient = move || {
        let Surroundings { g, z, backward, arena, .. } = &*stem;
        let dz = PooledGradient { map: wide, g: &g[..len], places: &from_pool.places, z, backward };
        padded.weight_gradient(simd, &conv, &dz, &mut gradient, arena);
    };
    let mut out = vec![0.0; len];
    let end = move || finish_block(simd, &behind.z, &behind.affine, Shortcut::Identity(&behind.x), &mut out);
    let numbers = image_len + wide_len + len + len / 4;
    [
        Operator::new("images", shape(map), "normalise", 0.0, image_len + image_len / 4, normalize),
        Operator::new(name, shape(wide), "forward, segments", flop, image_len + wide_len, forward),
        Operator::new("maxpool", shape(wide), "forward", 0.0, wide_len + 2 * len + len / 4, max_pool),
        Operator::new(name, shape(wide), "weight gradient behind max-pool", flop, numbers, weight_gradient),
        Operator::new("layer1.0", shape(wide.pooled()), "batch norm + shortcut + ReLU", 0.0, 3 * len, end),
    ]
}
