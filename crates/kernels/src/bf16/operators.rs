//! The operators one by one, on made-up numbers in the network's own shapes, for benches; see [`crate::fast::Operator`].

use super::blur::blur;
use super::conv::{Operands, convolve, weight_gradient};
use super::engine::{Engine, Product};
use super::kernels::Blocks;
use super::map::Windows;
use super::number::{LANES, Row, Square, Sums};
use super::passes::{Activate, Gradient, Paired, Shortcut, Statistics, norm_gradient};
use super::stem::{Images, MaxPooled};
use crate::fast::arena::Arena;
use crate::fast::norm::{Affine, Backward};
use crate::fast::simd::with_instructions;
use crate::fast::{Operator, numbers, of_layers};
use crate::resnet::{Architecture, Convolution, Map};
use crate::{ImageBatch, InstructionSet};
use pulp::Simd;
use rayon::prelude::*;
use std::sync::Arc;

/// Every operator of a step on `batch` images of `size_px`.
pub(crate) fn operators(architecture: &Architecture, engine: Engine, size_px: usize, batch: usize) -> Vec<Operator> {
    let map = Map { images: batch, height: size_px, width: size_px };
    with_instructions!(InstructionSet::available()[0], simd => of_layers(
        architecture,
        map,
        |name, conv| of_stem(simd, engine, name, conv, map),
        |name, shape, conv, map| of_layer(simd, engine, name, shape, conv, map),
        |of, channels| {
            let x = self::map(of.rows(channels) / LANES, 0.1);
            let [mut plain, mut pairs] = [(); 2].map(|()| vec![Row::default(); x.len()]);
            let numbers = 3 * x.len() * LANES / 2;
            let run = move || drop(blur(simd, (of, channels), &[&x], &Paired, [&mut plain, &mut pairs]));
            (numbers, Box::new(run))
        },
    ))
}

/// Products of squares that stay in the first-level cache, on all threads of the current pool at once.
pub(crate) fn squares(engine: Engine) -> Operator {
    // As deep as the kernels of 64 channels: 36 KiB of each factor would not stay, so the same few squares come again.
    const DEPTH: usize = 18;
    const DIFFERENT: usize = 6;
    // The emulation takes some fifty times as long.
    let calls = if engine == Engine::Emulated { 20 } else { 1_000 };
    let threads = rayon::current_num_threads();
    let factors: Vec<Square> = map(DIFFERENT, 0.1).as_chunks::<LANES>().0.to_vec();
    let run = move || {
        with_instructions!(InstructionSet::available()[0], simd => {
            (0..threads).into_par_iter().for_each(|_| {
                let products: Vec<Product<'_>> = (0..DEPTH)
                    .map(|at| Product { first: &factors[at % DIFFERENT], second: &factors[(at + 1) % DIFFERENT] })
                    .collect();
                let mut sums = Sums::ZERO;
                for _ in 0..calls {
                    engine.multiply(simd, &products, &mut sums, true);
                    std::hint::black_box(&mut sums);
                }
            });
        });
    };
    let flop = (2 * LANES.pow(3) * DEPTH * calls * threads) as f64;
    Operator::new("squares", format!("{LANES}x{LANES} {LANES}x{LANES}"), "floor", flop, 0, run)
}

/// So many squares of made-up numbers.
fn map(squares: usize, phase: f64) -> Vec<Row> {
    numbers(squares * LANES * LANES, phase).as_chunks::<LANES>().0.iter().map(Row::rounded).collect()
}

/// A convolution and what stands around it.
struct Surroundings {
    engine: Engine,
    input: Map,
    output: Map,
    blocks: Blocks,
    forward: Vec<Row>,
    backward: Vec<Row>,
    windows: [Windows; 2],
    x: Vec<Row>,
    z: Vec<Row>,
    dz: Vec<Row>,
    affine: Affine,
    norm: Backward,
    mean: Vec<f32>,
}

impl Surroundings {
    fn new<S: Simd>(simd: S, engine: Engine, conv: Convolution, input: Map) -> Self {
        let (blocks, output) = (Blocks::of(&conv), conv.output(input));
        let weights = numbers(blocks.len(), 0.4);
        let [mut forward, mut backward] = [(); 2].map(|()| vec![Row::default(); blocks.len() / LANES]);
        blocks.forward(simd, &weights, &mut forward);
        blocks.backward(simd, &weights, &mut backward);
        let (ins, outs) = (blocks.ins * LANES, conv.out_channels);
        Self {
            windows: [Windows::of_output(&conv, input), Windows::of_input(&conv, input)],
            x: map(input.rows(ins) / LANES, 0.1),
            z: map(output.rows(outs) / LANES, 0.2),
            dz: map(output.rows(outs) / LANES, 0.3),
            affine: Affine { scale: numbers(outs, 1.0), shift: numbers(outs, 2.0) },
            norm: Backward { k1: numbers(outs, 3.0), k2: numbers(outs, 4.0), k3: numbers(outs, 5.0) },
            mean: numbers(ins, 0.9),
            engine,
            input,
            output,
            blocks,
            forward,
            backward,
        }
    }

    /// Operations of the products, those of taps outside the map counted too.
    fn flop(&self, conv: &Convolution) -> f64 {
        2.0 * (self.output.pixels() * conv.out_channels * conv.taps() * conv.in_channels) as f64
    }
}

fn of_layer<S: Simd>(simd: S, engine: Engine, name: &str, shape: &str, conv: Convolution, input: Map) -> Vec<Operator> {
    let all = Arc::new(Surroundings::new(simd, engine, conv, input));
    let flop = all.flop(&conv);
    // Numbers of bf16 are half as long.
    let [x, z, w] = [all.x.len(), all.z.len(), all.forward.len()].map(|rows| rows * LANES / 2);
    let (a, mut y) = (all.clone(), vec![Row::default(); all.z.len()]);
    let forward = move || {
        let Surroundings { engine, ref forward, ref blocks, ref x, ref windows, .. } = *a;
        let (windows, images) = (&windows[0], a.input.images);
        let operands = Operands { engine, kernels: forward, blocks: blocks.ins, source: x, windows, images };
        convolve(simd, &operands, &Statistics, [&mut y]);
    };
    let (a, mut dx) = (all.clone(), vec![Row::default(); all.x.len()]);
    let input_gradient = move || {
        let Surroundings { engine, ref backward, ref blocks, ref x, ref dz, ref windows, .. } = *a;
        let (windows, images) = (&windows[1], a.input.images);
        let target = Gradient { shortcut: None, activation: x, z: x, mean: &a.mean };
        let operands = Operands { engine, kernels: backward, blocks: blocks.outs, source: dz, windows, images };
        convolve(simd, &operands, &target, [&mut dx]);
    };
    let (a, mut dw, arena) = (all.clone(), vec![0.0; all.blocks.len()], Arena::default());
    let of_weights = move || {
        weight_gradient(simd, a.engine, a.blocks, &a.windows[0], (&a.x, &a.dz), &mut dw, &arena);
    };
    let (a, [mut plain, mut pairs]) = (all.clone(), [(); 2].map(|()| vec![Row::default(); all.z.len()]));
    let activate = move || {
        let activate = Activate { affine: &a.affine, shortcut: Shortcut::None };
        activate.pass(simd, a.output, &a.z, &mut plain, &mut pairs);
    };
    let [mut channels, mut images] = [(); 2].map(|()| vec![Row::default(); all.z.len()]);
    let gradient = move || {
        norm_gradient(simd, all.output, (&all.dz, &all.z), &all.norm, &mut channels, &mut images);
    };
    vec![
        Operator::new(name, shape.into(), "forward", flop, x + z + w, forward),
        Operator::new(name, shape.into(), "batch norm + ReLU", 0.0, 3 * z, activate),
        Operator::new(name, shape.into(), "batch norm's gradient", 0.0, 4 * z, gradient),
        Operator::new(name, shape.into(), "weight gradient", flop, x + z + 2 * w, of_weights),
        Operator::new(name, shape.into(), "input gradient", flop, 3 * x + z + w, input_gradient),
    ]
}

/// The images' way to the first block, and back to the stem's weights.
fn of_stem<S: Simd>(simd: S, engine: Engine, name: &str, conv: Convolution, input: Map) -> Vec<Operator> {
    let side = input.height;
    let batch = ImageBatch::new(vec![90; input.pixels() * 3], input.images, side).expect("the sizes agree");
    let (arena, bytes) = (Arc::new(Arena::default()), Arena::default());
    let stem = Arc::new(Surroundings::new(simd, engine, conv, input));
    let images = Arc::new(Images::new(simd, &batch, &conv, &arena));
    let (wide, flop) = (stem.output, stem.flop(&conv));
    let [image, z, w] = [images.plain.len(), stem.z.len(), stem.forward.len()].map(|rows| rows * LANES / 2);
    let shape = format!("{} {}x{}", conv.out_channels, wide.height, wide.width);
    let pooled = MaxPooled::new(simd, wide, &stem.z, &stem.affine, (&arena, &bytes));
    let small = pooled.plain.len() * LANES / 2;

    let of_images = arena.clone();
    let normalize = move || {
        let Images { plain, pairs, .. } = Images::new(simd, &batch, &conv, &of_images);
        [plain, pairs].into_iter().for_each(|rows| of_images.give(rows));
    };
    let (a, from, mut y) = (stem.clone(), images.clone(), vec![Row::default(); stem.z.len()]);
    let forward = move || {
        let Surroundings { engine, ref forward, .. } = *a;
        let (source, windows) = (&from.pairs[..], &from.windows);
        let operands = Operands { engine, kernels: forward, blocks: 1, source, windows, images: a.input.images };
        convolve(simd, &operands, &Statistics, [&mut y]);
    };
    let (a, rows) = (stem.clone(), arena.clone());
    let max_pool = move || {
        let MaxPooled { plain, pairs, z, places } = MaxPooled::new(simd, wide, &a.z, &a.affine, (&rows, &bytes));
        [plain, pairs, z].into_iter().for_each(|map| rows.give(map));
        bytes.give(places);
    };
    let (a, mut columns) = (stem.clone(), vec![Row::default(); stem.z.len()]);
    let unpool = move || pooled.gradient(simd, wide, (&pooled.z, &a.z), &a.norm, &mut columns);
    let (mut dw, numbers) = (vec![0.0; stem.blocks.len()], Arena::default());
    let of_weights = move || {
        let operands = (&images.plain[..], &stem.dz[..]);
        weight_gradient(simd, stem.engine, stem.blocks, &images.windows, operands, &mut dw, &numbers);
    };
    vec![
        Operator::new("images", format!("3 {side}x{side}"), "normalise", 0.0, 2 * image, normalize),
        Operator::new(name, shape.clone(), "forward", flop, image + z + w, forward),
        Operator::new("maxpool", shape.clone(), "forward", 0.0, z + 4 * small, max_pool),
        Operator::new("maxpool", shape.clone(), "gradient", 0.0, 2 * z + 2 * small, unpool),
        Operator::new(name, shape, "weight gradient", flop, image + z + 2 * w, of_weights),
    ]
}
