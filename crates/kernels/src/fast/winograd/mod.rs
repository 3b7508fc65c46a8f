//! 3x3 convolutions with stride 1 and padding 1 by Winograd's F(4x4, 3x3): 36 products a tile instead of 144.
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308. With the constant matrices
//! `A`, `B`, `G` of that paper, a tile of 4x4 outputs is `A^T [(G g G^T) . (B^T d B)] A`, where `d` is the 6x6 window of
//! inputs and `.` a sum over channels at each of the 36 places. So the convolution is 36 matrix products, tiles by
//! channels. The gradient of the input is the same operation with the kernel turned and its channels exchanged; the
//! gradient of the kernel is `G^T [(B^T d B) . (A dy A^T)] G` with sums over tiles.
//!
//! Maps that 4 does not divide end in tiles that hang over: what lies outside is read as 0 and never written.
//!
//! `transforms` has the constant matrices, `tiles` what they are applied to, `planes` the memory between them.
//!
//! Work is cut into chunks of tiles whose transformed inputs stay in a second-level cache, and, where there are fewer
//! chunks than threads, into groups of panels too, which repeat the transform of the inputs but change no number.

mod planes;
mod tiles;
mod transforms;

use super::algorithm::{Algorithm, Problem};
use super::arena::{Arena, with_scratch};
use super::gemm::{Strided, Update, apart, multiply_panel, panel_width};
use super::norm::ChannelSums;
use super::read::Source;
use super::shape::Kernels;
use super::simd::vectorized;
use super::write::Target;
use planes::{Planes, PlanesMut};
use pulp::Simd;
use rayon::prelude::*;
use std::ops::Range;
use tiles::{Chunk, Tiles, restore_kernels, transform_kernels};

/// Side of a kernel.
const KERNEL: usize = 3;
/// Taps of a kernel.
const TAPS: usize = KERNEL * KERNEL;
/// Outputs of a tile in each direction.
const OUTPUTS: usize = 4;
/// Inputs of a tile in each direction, and places of a transformed one.
const INPUTS: usize = 6;
/// Places of a transformed tile: the number of matrix products.
const PLACES: usize = INPUTS * INPUTS;
/// Numbers of a chunk's transformed inputs, about: 600 KB.
const CHUNK: usize = 60_000;
/// Input channels whose kernels are transformed at a time, where that is done while multiplying.
const DEPTH: usize = 64;

/// See the module.
pub(crate) struct Winograd;

impl<S: Simd> Algorithm<S> for Winograd {
    fn name(&self) -> &'static str {
        "Winograd"
    }

    fn forward(&self, problem: &Problem<'_, S>, x: Source<'_>, target: &Target<'_>) -> ChannelSums {
        convolve(problem, x, &problem.conv.kernels(problem.weights), target)
    }

    /// A convolution of the same kind.
    fn input_gradient(&self, problem: &Problem<'_, S>, dy: Source<'_>, target: &Target<'_>) -> ChannelSums {
        convolve(problem, dy, &problem.conv.turned_kernels(problem.weights), target)
    }

    fn weight_gradient(&self, problem: &Problem<'_, S>, x: Source<'_>, dy: Source<'_>, gradient: &mut [f32]) {
        /// Partial sums, of a fixed number for any number of threads.
        const PARTS: usize = 8;
        let &Problem { simd, conv, input, arena, .. } = problem;
        let (ins, outs, width) = (conv.in_channels, conv.out_channels, panel_width::<S>());
        // Every chunk reads and writes the sums once: they must be worth it.
        let chunks = Tiles::new(input).chunks(ins, CHUNK.max(PLACES * ins * outs / 2));
        let (parts, panels) = (PARTS.min(chunks.len()), outs / width);
        let groups = rayon::current_num_threads().div_ceil(parts).min(panels);
        let panel_len = PLACES * ins * width;
        let mut partial = arena.take(parts * panels * panel_len);
        // Each task takes the chunks of its part and the panels of its group.
        let mut rest = &mut partial[..];
        let tasks = (0..parts * groups).map(|task| {
            let (part, group) = (task / groups, task % groups);
            let panels = panels * group / groups..panels * (group + 1) / groups;
            let (own, others) = std::mem::take(&mut rest).split_at_mut(panels.len() * panel_len);
            rest = others;
            (&chunks[chunks.len() * part / parts..chunks.len() * (part + 1) / parts], panels, own)
        });
        tasks.collect::<Vec<_>>().into_par_iter().for_each(|(chunks, panels, partial)| {
            for (index, chunk) in chunks.iter().enumerate() {
                let stride = apart(ins);
                let (v_len, d_len) = (apart(chunk.count * stride), apart(chunk.count * width));
                with_scratch(PLACES * (v_len + d_len), |scratch| {
                    let (v, d) = scratch.split_at_mut(PLACES * v_len);
                    chunk.transform_inputs(simd, x, ins, PlanesMut::new(v, v_len));
                    let (v, mut d) = (Planes::<PLACES>::new(v, v_len), PlanesMut::new(d, d_len));
                    let update = if index > 0 { Update::Add } else { Update::Set };
                    for (panel, partial) in panels.clone().zip(partial.chunks_exact_mut(panel_len)) {
                        chunk.transform_gradients(simd, dy, (outs, panel), d.reborrow());
                        let mut sums = PlanesMut::<PLACES>::new(partial, ins * width);
                        let d = d.as_planes();
                        vectorized!(simd, {
                            for place in 0..PLACES {
                                let a = Strided::new(v.plane(place), 1, stride);
                                let (b, c) = ((d.plane(place), width), sums.plane_mut(place));
                                multiply_panel(simd, (ins, chunk.count), a, b, c, update);
                            }
                        });
                    }
                });
            }
        });
        restore_gradient(simd, ins, partial.chunks_exact(panels * panel_len), gradient);
        arena.give(partial);
    }
}

/// The convolution of `source` with `kernels` into `target`.
fn convolve<S: Simd>(
    problem: &Problem<'_, S>,
    source: Source<'_>,
    kernels: &Kernels<'_>,
    target: &Target<'_>,
) -> ChannelSums {
    let &Problem { simd, input, arena, .. } = problem;
    let chunks = Tiles::new(input).chunks(kernels.ins, CHUNK);
    // Kernels are transformed while multiplying where that happens once, and before where several chunks share them.
    let ready = (chunks.len() > 1).then(|| transformed(simd, kernels, arena));
    let panels = kernels.outs / panel_width::<S>();
    let groups = rayon::current_num_threads().div_ceil(chunks.len()).min(panels);
    let parts: Vec<ChannelSums> = (0..chunks.len() * groups)
        .into_par_iter()
        .map(|task| {
            let (chunk, group) = (&chunks[task / groups], task % groups);
            let panels = panels * group / groups..panels * (group + 1) / groups;
            convolve_chunk(simd, chunk, source, (kernels, ready.as_deref()), panels, target)
        })
        .collect();
    if let Some(ready) = ready {
        arena.give(ready);
    }
    ChannelSums::total(kernels.outs, &parts)
}

/// All panels of `kernels` transformed, one after the other.
fn transformed<S: Simd>(simd: S, kernels: &Kernels<'_>, arena: &Arena) -> Vec<f32> {
    let (ins, tap_len) = (kernels.ins, kernels.ins * panel_width::<S>());
    let panel_len = PLACES * apart(tap_len);
    let mut ready = arena.take(kernels.outs / panel_width::<S>() * panel_len);
    ready.par_chunks_mut(panel_len).enumerate().for_each(|(panel, ready)| {
        with_scratch(kernels.scratch::<S>(), |scratch| {
            vectorized!(simd, {
                let kernels = Planes::new(kernels.panel(simd, panel, scratch), tap_len);
                transform_kernels(simd, kernels, 0..ins, PlanesMut::new(ready, apart(tap_len)));
            });
        });
    });
    ready
}

/// As [`convolve`], for the tiles of a chunk and the output channels of some panels, which no other task may write. `ready`
/// holds all kernels transformed, where they are.
fn convolve_chunk<S: Simd>(
    simd: S,
    chunk: &Chunk,
    source: Source<'_>,
    (kernels, ready): (&Kernels<'_>, Option<&[f32]>),
    panels: Range<usize>,
    target: &Target<'_>,
) -> ChannelSums {
    let (width, ins, outs) = (panel_width::<S>(), kernels.ins, kernels.outs);
    let (stride, depth) = (apart(ins), if ready.is_some() { ins } else { DEPTH.min(ins) });
    let (v_len, u_len, m_len) = (apart(chunk.count * stride), apart(depth * width), apart(chunk.count * width));
    let (own_len, turned_len) = if ready.is_some() { (0, 0) } else { (PLACES * u_len, kernels.scratch::<S>()) };
    let mut sums = ChannelSums::zero(outs);
    with_scratch(PLACES * (v_len + m_len) + own_len + turned_len, |scratch| {
        let (v, rest) = scratch.split_at_mut(PLACES * v_len);
        let (m, rest) = rest.split_at_mut(PLACES * m_len);
        let (own, turned) = rest.split_at_mut(own_len);
        chunk.transform_inputs(simd, source, ins, PlanesMut::new(v, v_len));
        let (v, mut m) = (Planes::<PLACES>::new(v, v_len), PlanesMut::<PLACES>::new(m, m_len));
        for panel in panels {
            vectorized!(simd, {
                let taps = match ready {
                    Some(_) => None,
                    None => Some(Planes::new(kernels.panel(simd, panel, turned), ins * width)),
                };
                for first in (0..ins).step_by(depth) {
                    let channels = first..ins.min(first + depth);
                    let u = match (ready, taps) {
                        (None, Some(taps)) => {
                            transform_kernels(simd, taps, channels.clone(), PlanesMut::new(own, u_len));
                            Planes::<PLACES>::new(own, u_len)
                        }
                        (ready, _) => Planes::new(&ready.unwrap_or(own)[panel * PLACES * u_len..], u_len),
                    };
                    let update = if first > 0 { Update::Add } else { Update::Set };
                    for place in 0..PLACES {
                        let a = Strided::new(&v.plane(place)[first..], stride, 1);
                        let (b, c) = ((u.plane(place), width), m.plane_mut(place));
                        multiply_panel(simd, (chunk.count, channels.len()), a, b, c, update);
                    }
                }
                #[allow(unsafe_code)] // tiles and panels of several tasks interleave in the target
                // SAFETY: every task has its own tiles and panels of the target.
                unsafe {
                    chunk.restore_outputs(simd, m.as_planes(), (outs, panel), target, &mut sums);
                }
            });
        }
    });
    sums
}

/// Sums the parts, in their order, and brings them back to kernels.
fn restore_gradient<'a, S: Simd>(
    simd: S,
    ins: usize,
    parts: impl Iterator<Item = &'a [f32]> + Clone + Sync,
    gradient: &mut [f32],
) {
    let width = panel_width::<S>();
    gradient.par_chunks_mut(TAPS * ins * width).enumerate().for_each(|(panel, gradient)| {
        let mut gradient = PlanesMut::new(gradient, ins * width);
        with_scratch(PLACES * apart(DEPTH * width), |scratch| {
            for first in (0..ins).step_by(DEPTH) {
                let channels = first..ins.min(first + DEPTH);
                let len = channels.len() * width;
                vectorized!(simd, {
                    let mut u = PlanesMut::<PLACES>::new(scratch, apart(len));
                    for place in 0..PLACES {
                        let sum = &mut u.plane_mut(place)[..len];
                        let at = ((panel * PLACES + place) * ins + first) * width;
                        for (part, values) in parts.clone().enumerate() {
                            let values = &values[at..][..len];
                            if part == 0 {
                                sum.copy_from_slice(values);
                            } else {
                                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                            }
                        }
                    }
                    restore_kernels(simd, u.as_planes(), channels.clone(), gradient.reborrow());
                });
            }
        });
    });
}
