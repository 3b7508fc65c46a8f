//! The operators one by one, on made-up numbers in the network's own shapes, for benches.

use super::algorithm::Problem;
use super::arena::Arena;
use super::conv;
use super::gemm::{Strided, Update, multiply_panel, panel_width};
use super::norm::{Affine, Backward, Mask, Shortcut, finish_block};
use super::pool::{MaxPooled, PooledGradient, pooled};
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
    /// Computes it once, on the current thread pool.
    pub fn run(&mut self) {
        (self.run)();
    }
}

/// Every operator of a step on `batch` images of `size_px`, computed with `instructions`, which must be among
/// [`InstructionSet::available`].
pub fn operators(
    architecture: &Architecture,
    instructions: InstructionSet,
    size_px: usize,
    batch: usize,
) -> Vec<Operator> {
    with_instructions!(instructions, simd => all(simd, architecture, size_px, batch))
}

/// Matrix products on operands that stay in the first-level cache, on all threads of the current pool at once: the floor
/// of every convolution.
pub fn matrix_products(instructions: InstructionSet) -> Operator {
    const CALLS: usize = 2_000;
    with_instructions!(instructions, simd => {
        let (rows, depth, width) = (48, 64, panel(simd));
        let (a, b) = (numbers(rows * depth), numbers(depth * width));
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
        Operator {
            layer: "matrix product".into(),
            shape: format!("{rows}x{depth} {depth}x{width}"),
            layers: 1,
            pass: "floor".into(),
            flop: (2 * rows * depth * width * CALLS * threads) as f64,
            bytes: 0.0,
            run: Box::new(run),
        }
    })
}

fn panel<S: Simd>(_: S) -> usize {
    panel_width::<S>()
}

/// Numbers around 0, the same every time.
fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|index| ((index * 7919) % 1009) as f32 / 504.5 - 1.0).collect()
}

fn all<S: Simd>(simd: S, architecture: &Architecture, size_px: usize, batch: usize) -> Vec<Operator> {
    let plan = architecture.plan();
    let of_layer = |layer: usize| (&plan.layers[layer].conv, Convolution::from(&plan.layers[layer]));
    let pixels = vec![90; batch * size_px * size_px * 3];
    let images = ImageBatch::new(pixels, batch, size_px).expect("the sizes agree");
    let (stem, conv) = of_layer(0);
    let wide = conv.output(Map { images: batch, height: size_px, width: size_px });
    let mut all = stem_operators(simd, stem, conv, images, wide);
    let mut seen: Vec<(Convolution, Map, usize, usize)> = Vec::new();
    let mut at = pooled(wide);
    for block in plan.blocks {
        let next = of_layer(block.first).1.output(at);
        let layers = [(block.first, at), (block.second, next)];
        for (layer, map) in layers.into_iter().chain(block.downsample.map(|layer| (layer, at))) {
            let (name, conv) = of_layer(layer);
            if let Some((_, _, first, end)) = seen.iter().find(|(c, m, ..)| (*c, *m) == (conv, map)) {
                all[*first..*end].iter_mut().for_each(|operator| operator.layers += 1);
                continue;
            }
            let first = all.len();
            all.extend(convolution_operators(simd, name, conv, map));
            seen.push((conv, map, first, all.len()));
        }
        at = next;
    }
    all
}

/// A convolution and what stands around it.
struct Surroundings {
    conv: Convolution,
    map: Map,
    x: Vec<f32>,
    affine: Affine,
    mean: Vec<f32>,
    g: Vec<f32>,
    z: Vec<f32>,
    backward: Backward,
    weights: Vec<f32>,
    arena: Arena,
}

impl Surroundings {
    fn problem<S>(&self, simd: S) -> Problem<'_, S> {
        let (weights, input, arena) = (&self.weights[..], self.map, &self.arena);
        Problem { simd, conv: self.conv, weights, input, arena }
    }

    fn x(&self) -> Source<'_> {
        Source::Relu(&self.x, &self.affine)
    }

    fn dz(&self) -> Source<'_> {
        Source::Gradient(&self.g, &self.z, &self.backward)
    }
}

/// Like any batch norm's backward pass.
fn backward(channels: usize) -> Backward {
    Backward { k1: vec![0.9; channels], k2: vec![0.1; channels], k3: vec![0.01; channels] }
}

fn convolution_operators<S: Simd>(simd: S, name: &str, conv: Convolution, map: Map) -> Vec<Operator> {
    let output = conv.output(map);
    let (ins, outs) = (conv.in_channels, conv.out_channels);
    let mut weights = vec![0.0; conv.packed_len(simd)];
    conv.pack(simd, &numbers(outs * ins * conv.taps()), &mut weights);
    let all = Arc::new(Surroundings {
        conv,
        map,
        x: numbers(map.pixels() * ins),
        affine: Affine { scale: vec![0.9; ins], shift: vec![0.1; ins] },
        mean: vec![0.01; ins],
        g: numbers(output.pixels() * outs),
        z: numbers(output.pixels() * outs),
        backward: backward(outs),
        weights,
        arena: Arena::default(),
    });
    let algorithm = conv::algorithm(&all.problem(simd)).name();
    let flop = 2.0 * (output.pixels() * outs * conv.taps() * ins) as f64;
    let (x_bytes, z_bytes) = (4.0 * all.x.len() as f64, 4.0 * all.z.len() as f64);
    let w_bytes = 4.0 * all.weights.len() as f64;
    let operator = |pass: &str, bytes: f64, run: Box<dyn FnMut() + Send>| Operator {
        layer: name.into(),
        shape: format!("{}x{}/{} {ins}->{outs} {}x{}", conv.kernel, conv.kernel, conv.stride, map.height, map.width),
        layers: 1,
        pass: format!("{pass}, {algorithm}"),
        flop,
        bytes,
        run,
    };
    let (a, mut y) = (all.clone(), vec![0.0; all.z.len()]);
    let forward = move || {
        let target = Target::new(&mut y, Update::Set, Then::Squares);
        conv::forward(&a.problem(simd), a.x(), &target);
    };
    let (a, mut gradient) = (all.clone(), vec![0.0; all.weights.len()]);
    let weight_gradient = move || conv::weight_gradient(&a.problem(simd), a.x(), a.dz(), &mut gradient);
    let (a, mut dx) = (all.clone(), vec![0.0; all.x.len()]);
    let input_gradient = move || {
        let then = Then::Mask { mask: Mask::Normalized(&a.affine), z: &a.x, mean: &a.mean };
        let target = Target::new(&mut dx, Update::Set, then);
        conv::input_gradient(&a.problem(simd), a.dz(), &target);
    };
    vec![
        operator("forward", x_bytes + w_bytes + z_bytes, Box::new(forward)),
        operator("weight gradient", x_bytes + w_bytes + 2.0 * z_bytes, Box::new(weight_gradient)),
        operator("input gradient", 2.0 * x_bytes + w_bytes + 2.0 * z_bytes, Box::new(input_gradient)),
    ]
}

/// The stem and the max-pool behind it, and the end of a block at the largest map.
fn stem_operators<S: Simd>(simd: S, name: &str, conv: Convolution, images: ImageBatch, wide: Map) -> Vec<Operator> {
    let channels = conv.out_channels;
    let affine = || Affine { scale: vec![0.9; channels], shift: vec![0.1; channels] };
    let small = pooled(wide);
    let (wide_len, len) = (wide.pixels() * channels, small.pixels() * channels);
    let mut weights = vec![0.0; conv.packed_len(simd)];
    conv.pack(simd, &numbers(channels * 3 * conv.taps()), &mut weights);
    let padded = Arc::new(Padded::new(simd, &images, conv.padding, &Arena::default()));
    let image_len = padded.values.len();
    let flop = 2.0 * (wide_len * conv.taps() * conv.in_channels) as f64;
    let map = padded.map();
    let operator = |layer: &str, map: Map, pass: &str, flop, numbers: usize, run: Box<dyn FnMut() + Send>| Operator {
        layer: layer.into(),
        shape: format!("{channels} {}x{}", map.height, map.width),
        layers: 1,
        pass: pass.into(),
        flop,
        bytes: 4.0 * numbers as f64,
        run,
    };

    let arena = Arena::default();
    let normalize = move || arena.give(Padded::new(simd, &images, conv.padding, &arena).values);
    let (from, mut z) = (padded.clone(), vec![0.0; wide_len]);
    let forward = move || {
        from.convolve(simd, &conv, &weights, &Target::new(&mut z, Update::Set, Then::Squares));
    };
    let pool = || MaxPooled { out: vec![0.0; len], z: vec![0.0; len], places: vec![0; len] };
    let (z, around, mut out) = (numbers(wide_len), affine(), pool());
    let max_pool = move || out.fill(simd, wide, &z, &around);
    let (z, mut from_pool, g) = (numbers(wide_len), pool(), numbers(len));
    from_pool.fill(simd, wide, &z, &affine());
    let backward = backward(channels);
    let (arena, mut gradient) = (Arena::default(), vec![0.0; conv.packed_len(simd)]);
    let weight_gradient = move || {
        let dz = PooledGradient { map: wide, g: &g, places: &from_pool.places, z: &z, backward: &backward };
        padded.weight_gradient(simd, &conv, &dz, &mut gradient, &arena);
    };
    let (z, x, around, mut out) = (numbers(len), numbers(len), affine(), vec![0.0; len]);
    let end = move || finish_block(simd, &z, &around, Shortcut::Identity(&x), &mut out);
    let behind = "weight gradient behind max-pool";
    let behind_len = image_len + wide_len + len + len / 4;
    vec![
        operator("images", map, "normalise", 0.0, image_len + image_len / 4, Box::new(normalize)),
        operator(name, wide, "forward, segments", flop, image_len + wide_len, Box::new(forward)),
        operator("maxpool", wide, "forward", 0.0, wide_len + 2 * len + len / 4, Box::new(max_pool)),
        operator(name, wide, behind, flop, behind_len, Box::new(weight_gradient)),
        operator("layer1.0", small, "batch norm + shortcut + ReLU", 0.0, 3 * len, Box::new(end)),
    ]
}
