//! Timings of the operators one by one, on made-up numbers in the network's own shapes.

use super::arena::Arena;
use super::conv::{Convolution, Input, Map, Method};
use super::gemm::{Strided, multiply_panel};
use super::norm::{Affine, Backward, Shortcut, finish_block};
use super::pool::{MaxPooled, PooledGradient, pooled};
use super::read::Source;
use super::simd::{InstructionSet, panel_width, vectorize, with_instructions};
use super::stem::Padded;
use super::write::{Mask, Target, Then};
use crate::{Images, resnet};
use pulp::Simd;
use rayon::prelude::*;

/// How long an operator takes.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatorTime {
    /// The first layer that has this shape, e.g. `layer1.0.conv1`.
    pub layer: String,
    /// Shape, e.g. `3x3/1 64->64 16x16`.
    pub shape: String,
    /// Layers of this shape.
    pub layers: usize,
    /// `forward`, `input gradient` or `weight gradient`, and the method where there are several.
    pub pass: String,
    /// Seconds, the median of the repeats.
    pub seconds: f64,
    /// Floating-point operations of the direct convolution that one call stands for, padding counted; 0 where memory
    /// bounds the operator.
    pub flop: f64,
    /// Bytes that one call must read and write at least.
    pub bytes: f64,
}

/// Times every operator of a step on `batch` images of `size_px`, each `repeats` times after once for warming up, by
/// `clock` (seconds since any moment), on the current thread pool.
pub fn operator_times(
    instructions: InstructionSet,
    size_px: usize,
    batch: usize,
    repeats: usize,
    clock: &dyn Fn() -> f64,
) -> Vec<OperatorTime> {
    let timer = Timer { repeats, clock };
    with_instructions!(instructions, simd => times(simd, size_px, batch, &timer))
}

/// GFLOP/s of the matrix micro-kernel on operands that stay in the first-level cache, all threads of the current pool
/// together: the floor of every convolution.
pub fn gemm_peak_gflops(instructions: InstructionSet, repeats: usize, clock: &dyn Fn() -> f64) -> f64 {
    const CALLS: usize = 2_000;
    let timer = Timer { repeats, clock };
    with_instructions!(instructions, simd => {
        let (rows, depth, width) = (48, 64, panel(simd));
        let threads = rayon::current_num_threads();
        let seconds = timer.median(|| {
            (0..threads).into_par_iter().for_each(|_| {
                let (a, b, mut c) = (numbers(rows * depth), numbers(depth * width), vec![0.0; rows * width]);
                for _ in 0..CALLS {
                    vectorize(simd, #[inline(always)] || {
                        // SAFETY: the vectors have the extents that the contract asks for.
                        #[allow(unsafe_code)] // calls the micro-kernel
                        unsafe {
                            let a = Strided::new(a.as_ptr(), depth, 1);
                            multiply_panel(simd, rows, depth, a, (b.as_ptr(), width), (c.as_mut_ptr(), width), false);
                        }
                    });
                    std::hint::black_box(&mut c);
                }
            });
        });
        (2 * rows * depth * width * CALLS * threads) as f64 / seconds * 1e-9
    })
}

fn panel<S: Simd>(_: S) -> usize {
    panel_width::<S>()
}

struct Timer<'a> {
    repeats: usize,
    clock: &'a dyn Fn() -> f64,
}

impl Timer<'_> {
    fn median(&self, mut task: impl FnMut()) -> f64 {
        task();
        let mut seconds: Vec<f64> = (0..self.repeats.max(1))
            .map(|_| {
                let start = (self.clock)();
                task();
                (self.clock)() - start
            })
            .collect();
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    }
}

/// Numbers around 0, the same every time.
fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|index| ((index * 7919) % 1009) as f32 / 504.5 - 1.0).collect()
}

/// Every convolution with the extent of its input, and the extent of the stem's output.
fn convolutions(size_px: usize, batch: usize) -> (Vec<(String, Convolution, Map)>, Map) {
    let image = Map { images: batch, height: size_px, width: size_px };
    let stem = resnet::stem();
    let wide = Convolution::from(&stem).output(image);
    let mut all = vec![(stem.conv.clone(), Convolution::from(&stem), image)];
    let mut at = pooled(wide);
    for block in resnet::blocks() {
        let next = Convolution::from(&block.first).output(at);
        all.push((block.first.conv.clone(), Convolution::from(&block.first), at));
        all.push((block.second.conv.clone(), Convolution::from(&block.second), next));
        if let Some(plan) = &block.downsample {
            all.push((plan.conv.clone(), Convolution::from(plan), at));
        }
        at = next;
    }
    (all, wide)
}

fn times<S: Simd>(simd: S, size_px: usize, batch: usize, timer: &Timer<'_>) -> Vec<OperatorTime> {
    let (all, wide) = convolutions(size_px, batch);
    let images = Images::new(vec![90; batch * size_px * size_px * 3], batch, size_px).expect("sizes agree");
    let mut times: Vec<OperatorTime> = Vec::new();
    let mut seen: Vec<(Convolution, Map, usize, usize)> = Vec::new();
    times.extend(stem_times(simd, &all[0].0, all[0].1, &images, wide, timer));
    for (name, conv, map) in all.into_iter().skip(1) {
        if let Some((_, _, first, end)) = seen.iter().find(|(c, m, ..)| (*c, *m) == (conv, map)) {
            times[*first..*end].iter_mut().for_each(|time| time.layers += 1);
            continue;
        }
        let first = times.len();
        times.extend(convolution_times(simd, &name, conv, map, timer));
        seen.push((conv, map, first, times.len()));
    }
    times
}

fn convolution_times<S: Simd>(
    simd: S,
    name: &str,
    conv: Convolution,
    map: Map,
    timer: &Timer<'_>,
) -> Vec<OperatorTime> {
    let arena = Arena::default();
    let output = conv.output(map);
    let (ins, outs) = (conv.in_channels, conv.out_channels);
    let (x, z) = (numbers(map.pixels() * ins), numbers(output.pixels() * outs));
    let g = z.clone();
    let mut weights = vec![0.0; conv.packed_len::<S>()];
    conv.pack(simd, &numbers(outs * ins * conv.taps()), &mut weights);
    let (affine, mean) = (Affine { scale: vec![0.9; ins], shift: vec![0.1; ins] }, vec![0.01; ins]);
    let way = Backward { k1: vec![0.9; outs], k2: vec![0.1; outs], k3: vec![0.01; outs] };
    let dz = Source::Gradient(&g, &z, &way);
    let input = Input { map, source: Source::Relu(&x, &affine) };
    let mut y = vec![0.0; z.len()];
    let forward = timer.median(|| {
        let target = Target::new(&mut y, false, Then::Squares);
        conv.forward(simd, input, &weights, &target, &arena);
    });
    let mut gradient = vec![0.0; weights.len()];
    let weight_gradient = timer.median(|| conv.weight_gradient(simd, input, dz, &mut gradient, &arena));
    let method = match conv.method::<S>(map) {
        Method::Winograd => "Winograd",
        Method::Positions => "positions",
        Method::Gather => "im2col",
    };
    let flop = 2.0 * (output.pixels() * outs * conv.taps() * ins) as f64;
    let (x_bytes, z_bytes, w_bytes) =
        (4.0 * x.len() as f64, 4.0 * z.len() as f64, 4.0 * weights.len() as f64);
    let time = |pass: &str, seconds: f64, bytes: f64| OperatorTime {
        layer: name.into(),
        shape: format!(
            "{}x{}/{} {ins}->{outs} {}x{}",
            conv.kernel, conv.kernel, conv.stride, map.height, map.width
        ),
        layers: 1,
        pass: format!("{pass}, {method}"),
        seconds,
        flop,
        bytes,
    };
    let mut dx = vec![0.0; x.len()];
    let input_gradient = timer.median(|| {
        let then = Then::Mask { mask: Mask::Normalized(&affine), z: &x, mean: &mean };
        conv.input_gradient(simd, map, dz, &weights, &Target::new(&mut dx, false, then), &arena);
    });
    vec![
        time("forward", forward, x_bytes + w_bytes + z_bytes),
        time("weight gradient", weight_gradient, x_bytes + w_bytes + 2.0 * z_bytes),
        time("input gradient", input_gradient, 2.0 * x_bytes + w_bytes + 2.0 * z_bytes),
    ]
}

/// The stem and the max-pool behind it, and the end of a block at the largest map.
fn stem_times<S: Simd>(
    simd: S,
    name: &str,
    conv: Convolution,
    images: &Images,
    wide: Map,
    timer: &Timer<'_>,
) -> Vec<OperatorTime> {
    let arena = Arena::default();
    let channels = conv.out_channels;
    let affine = Affine { scale: vec![0.9; channels], shift: vec![0.1; channels] };
    let way = Backward { k1: vec![0.9; channels], k2: vec![0.1; channels], k3: vec![0.01; channels] };
    let small = pooled(wide);
    let (mut z, len) = (numbers(wide.pixels() * channels), small.pixels() * channels);
    let mut weights = vec![0.0; conv.packed_len::<S>()];
    conv.pack(simd, &numbers(channels * 3 * conv.taps()), &mut weights);
    let padded = Padded::new(simd, images, conv.padding, &arena);
    let normalize = timer.median(|| {
        arena.give(Padded::new(simd, images, conv.padding, &arena).values);
    });
    let forward = timer.median(|| {
        conv.stem_forward(simd, &padded, &weights, &Target::new(&mut z, false, Then::Squares));
    });
    let mut pool = MaxPooled { out: vec![0.0; len], z: vec![0.0; len], places: vec![0; len] };
    let max_pool = timer.median(|| pool.fill(simd, wide, &z, &affine));
    let g = numbers(len);
    let dz = PooledGradient { map: wide, g: &g, places: &pool.places, z: &z, way: &way };
    let mut gradient = vec![0.0; weights.len()];
    let weight_gradient =
        timer.median(|| conv.stem_weight_gradient(simd, &padded, &dz, &mut gradient, &arena));
    let (x, mut out) = (numbers(len), vec![0.0; len]);
    let end = timer.median(|| finish_block(simd, &z[..len], &affine, Shortcut::Identity(&x), &mut out));
    let flop = 2.0 * (z.len() * conv.taps() * conv.in_channels) as f64;
    let time = |layer: &str, map: Map, pass: &str, seconds: f64, flop: f64, numbers: usize| OperatorTime {
        layer: layer.into(),
        shape: format!("{channels} {}x{}", map.height, map.width),
        layers: 1,
        pass: pass.into(),
        seconds,
        flop,
        bytes: 4.0 * numbers as f64,
    };
    let image = padded.values.len();
    vec![
        time("images", padded.map(), "normalise", normalize, 0.0, image + image / 4),
        time(name, wide, "forward, segments", forward, flop, image + z.len()),
        time("maxpool", wide, "forward", max_pool, 0.0, z.len() + 2 * len + len / 4),
        time(
            name,
            wide,
            "weight gradient behind max-pool",
            weight_gradient,
            flop,
            image + z.len() + len + len / 4,
        ),
        time("layer1.0", small, "batch norm + shortcut + ReLU", end, 0.0, 3 * len),
    ]
}
