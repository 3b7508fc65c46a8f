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
//! Work is cut into chunks of tiles whose transformed inputs stay in a second-level cache, and, where there are fewer
//! chunks than threads, into groups of panels too, which repeat the transform of the inputs but change no number.

use super::arena::{Arena, with_scratch};
use super::conv::{Convolution, Kernels, Map};
use super::gemm::{Strided, apart, multiply_panel, panel_width};
use super::norm::ChannelSums;
use super::read::{Reader, Source, with_reader};
use super::simd::{lanes_of, load, multiply_add, store, vectorize};
use super::write::Target;
use pulp::Simd;
use rayon::prelude::*;

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
/// Tiles whose outputs are summed in f32.
const SUMMED_TILES: usize = 4;

/// The tiles of a map.
#[derive(Clone, Copy)]
struct Tiles {
    map: Map,
    down: usize,
    across: usize,
}

impl Tiles {
    fn new(map: Map) -> Self {
        Self { map, down: map.height.div_ceil(OUTPUTS), across: map.width.div_ceil(OUTPUTS) }
    }

    fn count(&self) -> usize {
        self.map.images * self.down * self.across
    }

    /// Image, row and column of a tile's first output.
    fn origin(&self, tile: usize) -> (usize, usize, usize) {
        let (line, x) = (tile / self.across, tile % self.across);
        (line / self.down, line % self.down * OUTPUTS, x * OUTPUTS)
    }

    /// Tiles of a chunk whose inputs take about `numbers` numbers, for tiles of `channels` channels.
    fn chunk(&self, channels: usize, numbers: usize) -> usize {
        let fitting = (numbers / (PLACES * apart(channels))).max(24);
        let chunks = self.count().div_ceil(fitting.max(if self.count() <= 128 { 128 } else { 0 }));
        self.count().div_ceil(chunks)
    }
}

/// `B^T d`.
#[inline(always)]
fn input<S: Simd>(simd: S, d: [S::f32s; INPUTS]) -> [S::f32s; INPUTS] {
    let [two, four, minus4, minus5] = [2.0, 4.0, -4.0, -5.0].map(|x| simd.splat_f32s(x));
    let a = multiply_add(simd, minus4, d[2], d[4]);
    let b = multiply_add(simd, minus4, d[1], d[3]);
    let c = simd.sub_f32s(d[4], d[2]);
    let e = simd.mul_f32s(two, simd.sub_f32s(d[3], d[1]));
    [
        multiply_add(simd, four, d[0], multiply_add(simd, minus5, d[2], d[4])),
        simd.add_f32s(a, b),
        simd.sub_f32s(a, b),
        simd.add_f32s(c, e),
        simd.sub_f32s(c, e),
        multiply_add(simd, four, d[1], multiply_add(simd, minus5, d[3], d[5])),
    ]
}

/// `A^T m`.
#[inline(always)]
fn output<S: Simd>(simd: S, m: [S::f32s; INPUTS]) -> [S::f32s; OUTPUTS] {
    let [two, four, eight] = [2.0, 4.0, 8.0].map(|x| simd.splat_f32s(x));
    let (p, q) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (r, s) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(m[0], simd.add_f32s(p, r)),
        multiply_add(simd, two, s, q),
        multiply_add(simd, four, r, p),
        simd.add_f32s(m[5], multiply_add(simd, eight, s, q)),
    ]
}

/// `A y`.
#[inline(always)]
fn output_gradient<S: Simd>(simd: S, y: [S::f32s; OUTPUTS]) -> [S::f32s; INPUTS] {
    let [two, four, eight] = [2.0, 4.0, 8.0].map(|x| simd.splat_f32s(x));
    let (even, odd) = (simd.add_f32s(y[0], y[2]), simd.add_f32s(y[1], y[3]));
    let even2 = multiply_add(simd, four, y[2], y[0]);
    let odd2 = multiply_add(simd, eight, y[3], simd.mul_f32s(two, y[1]));
    [
        y[0],
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        simd.add_f32s(even2, odd2),
        simd.sub_f32s(even2, odd2),
        y[3],
    ]
}

/// `G g`.
#[inline(always)]
fn kernel<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; INPUTS] {
    let [quarter, sixth, minus6th, twelfth, twenty4th] =
        [1.0 / 4.0, 1.0 / 6.0, -1.0 / 6.0, 1.0 / 12.0, 1.0 / 24.0].map(|x| simd.splat_f32s(x));
    let outer = simd.mul_f32s(minus6th, simd.add_f32s(g[0], g[2]));
    let inner = simd.mul_f32s(sixth, g[1]);
    let outer2 = multiply_add(simd, twenty4th, g[0], simd.mul_f32s(sixth, g[2]));
    let inner2 = simd.mul_f32s(twelfth, g[1]);
    [
        simd.mul_f32s(quarter, g[0]),
        simd.sub_f32s(outer, inner),
        simd.add_f32s(outer, inner),
        simd.add_f32s(outer2, inner2),
        simd.sub_f32s(outer2, inner2),
        g[2],
    ]
}

/// `G^T u`.
#[inline(always)]
fn kernel_gradient<S: Simd>(simd: S, u: [S::f32s; INPUTS]) -> [S::f32s; 3] {
    let [quarter, sixth, minus6th, twelfth, twenty4th] =
        [1.0 / 4.0, 1.0 / 6.0, -1.0 / 6.0, 1.0 / 12.0, 1.0 / 24.0].map(|x| simd.splat_f32s(x));
    let (p, q) = (simd.add_f32s(u[1], u[2]), simd.sub_f32s(u[1], u[2]));
    let (r, s) = (simd.add_f32s(u[3], u[4]), simd.sub_f32s(u[3], u[4]));
    let outer = simd.mul_f32s(minus6th, p);
    [
        multiply_add(simd, quarter, u[0], multiply_add(simd, twenty4th, r, outer)),
        multiply_add(simd, minus6th, q, simd.mul_f32s(twelfth, s)),
        simd.add_f32s(u[5], multiply_add(simd, sixth, r, outer)),
    ]
}

/// `B^T d B` of one tile, all channels: place `p` of channel `c` goes to `v[p * plane + c]`.
///
/// # Safety
/// `reader` must be readable for every pixel of the map, `v` writable in the extents above.
#[inline(always)]
#[allow(unsafe_code)] // 36 streams of stores
unsafe fn transform_input<S: Simd, R: Reader<S>>(
    simd: S,
    reader: R,
    tiles: &Tiles,
    tile: usize,
    channels: usize,
    v: *mut f32,
    plane: usize,
) {
    let (image, y0, x0) = tiles.origin(tile);
    let Map { height, width, .. } = tiles.map;
    for c in (0..channels).step_by(S::F32_LANES) {
        let constants = reader.constants(simd, c);
        let mut half = [[simd.splat_f32s(0.0); INPUTS]; INPUTS];
        for j in 0..INPUTS {
            // One column left of the first output; underflow wraps to a place outside.
            let x = (x0 + j).wrapping_sub(1);
            if x >= width {
                continue;
            }
            let mut d = [simd.splat_f32s(0.0); INPUTS];
            for (i, d) in d.iter_mut().enumerate() {
                let y = (y0 + i).wrapping_sub(1);
                if y < height {
                    let pixel = (image * height + y) * width + x;
                    // SAFETY: a pixel of the map.
                    *d = unsafe { reader.read(simd, pixel * channels + c, constants) };
                }
            }
            let d = input(simd, d);
            for i in 0..INPUTS {
                half[i][j] = d[i];
            }
        }
        for (i, half) in half.into_iter().enumerate() {
            let d = input(simd, half);
            for (j, d) in d.into_iter().enumerate() {
                // SAFETY: the caller's contract.
                unsafe { store(simd, v.add((i * INPUTS + j) * plane + c), d) };
            }
        }
    }
}

/// `B^T d B` of tiles `first..first + count`, all channels: place `p` of tile `t` goes to row `t - first` of plane `p` of `v`.
fn transform_inputs<S: Simd>(
    simd: S,
    source: Source<'_>,
    tiles: &Tiles,
    first: usize,
    count: usize,
    channels: usize,
    v: &mut [f32],
) {
    let stride = apart(channels);
    let plane = apart(count * stride);
    source.check(tiles.map, channels);
    assert!(channels.is_multiple_of(S::F32_LANES) && first + count <= tiles.count());
    assert!(v.len() >= PLACES * plane);
    with_reader!(source, reader => vectorize(simd, #[inline(always)] || {
        for tile in 0..count {
            #[allow(unsafe_code)] // calls the transform
            // SAFETY: the source was checked, and `v` has `count` rows at each place.
            unsafe {
                let v = v.as_mut_ptr().add(tile * stride);
                transform_input(simd, reader, tiles, first + tile, channels, v, plane);
            }
        }
    }));
}

/// `A dy A^T` of one tile for the channels of one panel: place `p` goes to `d[p * plane ..]`.
///
/// # Safety
/// As [`transform_input`].
#[inline(always)]
#[allow(unsafe_code)] // 36 streams of stores
unsafe fn transform_gradient<S: Simd, R: Reader<S>>(
    simd: S,
    reader: R,
    tiles: &Tiles,
    tile: usize,
    (channels, panel): (usize, usize),
    d: *mut f32,
    plane: usize,
) {
    let (image, y0, x0) = tiles.origin(tile);
    let Map { height, width, .. } = tiles.map;
    for offset in (0..panel_width::<S>()).step_by(S::F32_LANES) {
        let c = panel * panel_width::<S>() + offset;
        let constants = reader.constants(simd, c);
        let mut half = [[simd.splat_f32s(0.0); OUTPUTS]; INPUTS];
        for j in 0..OUTPUTS {
            if x0 + j >= width {
                continue;
            }
            let mut y = [simd.splat_f32s(0.0); OUTPUTS];
            for (i, y) in y.iter_mut().enumerate() {
                if y0 + i < height {
                    let pixel = (image * height + y0 + i) * width + x0 + j;
                    // SAFETY: a pixel of the map.
                    *y = unsafe { reader.read(simd, pixel * channels + c, constants) };
                }
            }
            let y = output_gradient(simd, y);
            for i in 0..INPUTS {
                half[i][j] = y[i];
            }
        }
        for (i, half) in half.into_iter().enumerate() {
            for (j, y) in output_gradient(simd, half).into_iter().enumerate() {
                // SAFETY: the caller's contract.
                unsafe { store(simd, d.add((i * INPUTS + j) * plane + offset), y) };
            }
        }
    }
}

/// `G g G^T` for input channels `first..first + count` of a panel of kernels: place `p` of channel `c` goes to
/// `u[p * plane + (c - first) * width..]`, where planes are [`apart`].
///
/// # Safety
/// `kernels` must hold a panel, `(tap, ins, width)`, and `u` be writable in the extents above.
#[inline(always)]
#[allow(unsafe_code)] // 36 streams of stores
unsafe fn transform_kernels<S: Simd>(
    simd: S,
    kernels: *const f32,
    ins: usize,
    first: usize,
    count: usize,
    u: *mut f32,
) {
    let width = panel_width::<S>();
    let plane = apart(count * width);
    for c in 0..count {
        for offset in (0..width).step_by(S::F32_LANES) {
            let mut half = [[simd.splat_f32s(0.0); 3]; INPUTS];
            for j in 0..3 {
                // SAFETY: the caller's contract.
                let tap = |i: usize| unsafe {
                    load(simd, kernels.add(((i * 3 + j) * ins + first + c) * width + offset))
                };
                let g = kernel(simd, [tap(0), tap(1), tap(2)]);
                for i in 0..INPUTS {
                    half[i][j] = g[i];
                }
            }
            for (i, half) in half.into_iter().enumerate() {
                for (j, g) in kernel(simd, half).into_iter().enumerate() {
                    // SAFETY: the caller's contract.
                    unsafe { store(simd, u.add((i * INPUTS + j) * plane + c * width + offset), g) };
                }
            }
        }
    }
}

/// `G^T u G`, the way back from [`transform_kernels`]'s layout to a panel's.
///
/// # Safety
/// As [`transform_kernels`], with the roles of reading and writing exchanged.
#[inline(always)]
#[allow(unsafe_code)] // 36 streams of loads
unsafe fn restore_kernels<S: Simd>(
    simd: S,
    u: *const f32,
    ins: usize,
    first: usize,
    count: usize,
    gradient: *mut f32,
) {
    let width = panel_width::<S>();
    let plane = apart(count * width);
    for c in 0..count {
        for offset in (0..width).step_by(S::F32_LANES) {
            let mut half = [[simd.splat_f32s(0.0); INPUTS]; 3];
            for j in 0..INPUTS {
                let mut column = [simd.splat_f32s(0.0); INPUTS];
                for (i, column) in column.iter_mut().enumerate() {
                    // SAFETY: the caller's contract.
                    *column = unsafe { load(simd, u.add((i * INPUTS + j) * plane + c * width + offset)) };
                }
                let g = kernel_gradient(simd, column);
                for i in 0..3 {
                    half[i][j] = g[i];
                }
            }
            for (i, half) in half.into_iter().enumerate() {
                for (j, g) in kernel_gradient(simd, half).into_iter().enumerate() {
                    // SAFETY: the caller's contract.
                    unsafe { store(simd, gradient.add(((i * 3 + j) * ins + first + c) * width + offset), g) };
                }
            }
        }
    }
}

/// `A^T m A` of tiles `first..first + count` for one panel, put into `target`; `m` is `(place, tile, width)`, the
/// planes of its places [`apart`].
///
/// # Safety
/// `m` must be readable in its extent; nothing else may use these tiles and channels of the target.
#[inline(always)]
#[allow(unsafe_code)] // 36 streams of loads
unsafe fn restore_outputs<S: Simd>(
    simd: S,
    tiles: &Tiles,
    first: usize,
    count: usize,
    (channels, panel): (usize, usize),
    m: *const f32,
    target: &Target<'_>,
    sums: &mut ChannelSums,
) {
    let width = panel_width::<S>();
    let plane = apart(count * width);
    let zeros = [simd.splat_f32s(0.0); 2];
    for offset in (0..width).step_by(S::F32_LANES) {
        let channel = panel * width + offset;
        let mut own = zeros;
        for tile in 0..count {
            let (image, y0, x0) = tiles.origin(first + tile);
            let mut half = [[simd.splat_f32s(0.0); INPUTS]; OUTPUTS];
            for j in 0..INPUTS {
                let mut column = [simd.splat_f32s(0.0); INPUTS];
                for (i, column) in column.iter_mut().enumerate() {
                    let place = i * INPUTS + j;
                    // SAFETY: the caller's contract.
                    *column = unsafe { load(simd, m.add(place * plane + tile * width + offset)) };
                }
                let y = output(simd, column);
                for i in 0..OUTPUTS {
                    half[i][j] = y[i];
                }
            }
            for (i, half) in half.into_iter().enumerate() {
                if y0 + i >= tiles.map.height {
                    break;
                }
                let line = (image * tiles.map.height + y0 + i) * tiles.map.width + x0;
                for (j, value) in output(simd, half).into_iter().enumerate() {
                    if x0 + j < tiles.map.width {
                        // SAFETY: the caller's contract.
                        unsafe {
                            target.put(simd, (line + j) * channels + channel, channel, value, &mut own)
                        };
                    }
                }
            }
            if target.sums() && (tile % SUMMED_TILES == SUMMED_TILES - 1 || tile + 1 == count) {
                sums.add_block(channel, lanes_of::<S>(&own[0]), lanes_of::<S>(&own[1]));
                own = zeros;
            }
        }
    }
}

/// The convolution of `source` over `map` with `kernels` into `target`.
pub(crate) fn convolve<S: Simd>(
    simd: S,
    map: Map,
    source: Source<'_>,
    kernels: &Kernels<'_>,
    target: &Target<'_>,
    arena: &Arena,
) -> ChannelSums {
    let (width, ins, outs) = (panel_width::<S>(), kernels.ins, kernels.outs);
    let tiles = Tiles::new(map);
    let (chunk, stride, panels) = (tiles.chunk(ins, CHUNK), apart(ins), outs / width);
    let chunks = tiles.count().div_ceil(chunk);
    // Kernels are transformed while multiplying where that happens once, and before where several chunks share them.
    let ready = (chunks > 1).then(|| {
        let mut ready = arena.take(panels * PLACES * apart(ins * width));
        ready.par_chunks_mut(PLACES * apart(ins * width)).enumerate().for_each(|(panel, ready)| {
            with_scratch(kernels.scratch::<S>(), |scratch| {
                vectorize(
                    simd,
                    #[inline(always)]
                    || {
                        let kernels = kernels.panel(simd, panel, scratch).as_ptr();
                        #[allow(unsafe_code)] // calls the transform
                        // SAFETY: both are whole panels.
                        unsafe {
                            transform_kernels(simd, kernels, ins, 0, ins, ready.as_mut_ptr());
                        }
                    },
                );
            });
        });
        ready
    });
    let depth = if ready.is_some() { ins } else { DEPTH.min(ins) };
    let groups = rayon::current_num_threads().div_ceil(chunks).min(panels);
    let parts: Vec<ChannelSums> = (0..chunks * groups)
        .into_par_iter()
        .map(|task| {
            let (index, group) = (task / groups, task % groups);
            let first = index * chunk;
            let count = chunk.min(tiles.count() - first);
            // From one place to the next.
            let (v_plane, u_plane, m_plane) =
                (apart(count * stride), apart(depth * width), apart(count * width));
            let (u_len, turned_len) =
                if ready.is_some() { (0, 0) } else { (PLACES * u_plane, kernels.scratch::<S>()) };
            let mut sums = ChannelSums::zero(outs);
            with_scratch(PLACES * (v_plane + m_plane) + u_len + turned_len, |scratch| {
                let (v, rest) = scratch.split_at_mut(PLACES * v_plane);
                let (m, rest) = rest.split_at_mut(PLACES * m_plane);
                let (u, turned) = rest.split_at_mut(u_len);
                transform_inputs(simd, source, &tiles, first, count, ins, v);
                for panel in panels * group / groups..panels * (group + 1) / groups {
                    vectorize(
                        simd,
                        #[inline(always)]
                        || {
                            let own = ready.is_none().then(|| kernels.panel(simd, panel, turned).as_ptr());
                            for done in (0..ins).step_by(depth) {
                                let u = match (&ready, own) {
                                    (None, Some(own)) => {
                                        #[allow(unsafe_code)] // calls the transform
                                        // SAFETY: a whole panel, and `u` has room for `depth` channels.
                                        unsafe {
                                            transform_kernels(simd, own, ins, done, depth, u.as_mut_ptr());
                                        }
                                        u.as_ptr()
                                    }
                                    (ready, _) => ready.as_ref().map_or(u.as_ptr(), |ready| {
                                        ready[panel * PLACES * u_plane..].as_ptr()
                                    }),
                                };
                                for place in 0..PLACES {
                                    #[allow(unsafe_code)] // calls the micro-kernel
                                    // SAFETY: `v`, `u` and `m` hold whole planes of every place.
                                    unsafe {
                                        let start = v.as_ptr().add(place * v_plane + done);
                                        let a = Strided::new(start, stride, 1);
                                        let b = (u.add(place * u_plane), width);
                                        let c = (m.as_mut_ptr().add(place * m_plane), width);
                                        multiply_panel(simd, count, depth, a, b, c, done > 0);
                                    }
                                }
                            }
                            #[allow(unsafe_code)] // calls the transform
                            // SAFETY: every task has its own tiles and panels of the target.
                            unsafe {
                                let m = m.as_ptr();
                                restore_outputs(
                                    simd,
                                    &tiles,
                                    first,
                                    count,
                                    (outs, panel),
                                    m,
                                    target,
                                    &mut sums,
                                );
                            }
                        },
                    );
                }
            });
            sums
        })
        .collect();
    if let Some(ready) = ready {
        arena.give(ready);
    }
    ChannelSums::total(outs, &parts)
}

impl Convolution {
    /// The gradient of the kernels, in panels.
    pub(crate) fn winograd_weight_gradient<S: Simd>(
        &self,
        simd: S,
        map: Map,
        source: Source<'_>,
        dy: Source<'_>,
        gradient: &mut [f32],
        arena: &Arena,
    ) {
        /// Partial sums, of a fixed number for any number of threads.
        const PARTS: usize = 8;
        let (ins, outs, width) = (self.in_channels, self.out_channels, panel_width::<S>());
        let tiles = Tiles::new(map);
        // Every chunk reads and writes the sums once: they must be worth it.
        let chunk = tiles.chunk(ins, CHUNK.max(PLACES * ins * outs / 2));
        let (stride, panels) = (apart(ins), outs / width);
        let chunks = tiles.count().div_ceil(chunk);
        dy.check(map, outs);
        let parts = PARTS.min(chunks);
        let groups = rayon::current_num_threads().div_ceil(parts).min(panels);
        let panel_len = PLACES * ins * width;
        let mut partial = arena.take(parts * panels * panel_len);
        // (part, panel): each task takes the panels of its group.
        let shared = super::arena::Shared::new(&mut partial);
        (0..parts * groups).into_par_iter().for_each(|task| {
            let (part, group) = (task / groups, task % groups);
            let own = chunks * part / parts..chunks * (part + 1) / parts;
            for index in own.clone() {
                let first = index * chunk;
                let count = chunk.min(tiles.count() - first);
                let (v_plane, d_plane) = (apart(count * stride), apart(count * width));
                with_scratch(PLACES * (v_plane + d_plane), |scratch| {
                    let (v, d) = scratch.split_at_mut(PLACES * v_plane);
                    transform_inputs(simd, source, &tiles, first, count, ins, v);
                    for panel in panels * group / groups..panels * (group + 1) / groups {
                        #[allow(unsafe_code)] // tasks write whole panels of their own
                        // SAFETY: every task has its own panels of its part.
                        let partial = unsafe { shared.part((part * panels + panel) * panel_len, panel_len) };
                        with_reader!(dy, reader => vectorize(simd, #[inline(always)] || {
                            for tile in 0..count {
                                #[allow(unsafe_code)] // calls the transform
                                // SAFETY: the source was checked, and `d` has `count` rows at each place.
                                unsafe {
                                    let d = d.as_mut_ptr().add(tile * width);
                                    let which = (outs, panel);
                                    transform_gradient(simd, reader, &tiles, first + tile, which, d, d_plane);
                                }
                            }
                            for place in 0..PLACES {
                                #[allow(unsafe_code)] // calls the micro-kernel
                                // SAFETY: `v`, `d` and `partial` hold whole planes of every place.
                                unsafe {
                                    let start = v.as_ptr().add(place * v_plane);
                                    let a = Strided::new(start, 1, stride);
                                    let b = (d.as_ptr().add(place * d_plane), width);
                                    let c = (partial.as_mut_ptr().add(place * ins * width), width);
                                    multiply_panel(simd, ins, count, a, b, c, index > own.start);
                                }
                            }
                        }));
                    }
                });
            }
        });
        self.restore_gradient(simd, &partial, parts, gradient);
        arena.give(partial);
    }

    /// Sums the parts, in their order, and brings them back to kernels.
    fn restore_gradient<S: Simd>(&self, simd: S, partial: &[f32], parts: usize, gradient: &mut [f32]) {
        let (ins, width) = (self.in_channels, panel_width::<S>());
        let len = partial.len() / parts;
        let panel_len = PLACES * ins * width;
        gradient.par_chunks_mut(9 * ins * width).enumerate().for_each(|(panel, gradient)| {
            with_scratch(PLACES * apart(DEPTH * width), |u| {
                for first in (0..ins).step_by(DEPTH) {
                    let count = DEPTH.min(ins - first);
                    vectorize(
                        simd,
                        #[inline(always)]
                        || {
                            let planes = u.chunks_exact_mut(apart(count * width)).take(PLACES);
                            for (place, plane) in planes.enumerate() {
                                let plane = &mut plane[..count * width];
                                for part in 0..parts {
                                    let at = part * len + panel * panel_len + (place * ins + first) * width;
                                    let from = &partial[at..][..plane.len()];
                                    if part == 0 {
                                        plane.copy_from_slice(from);
                                    } else {
                                        plane.iter_mut().zip(from).for_each(|(u, from)| *u += from);
                                    }
                                }
                            }
                            #[allow(unsafe_code)] // calls the transform
                            // SAFETY: `u` holds `count` channels at every place, `gradient` is a whole panel.
                            unsafe {
                                restore_kernels(simd, u.as_ptr(), ins, first, count, gradient.as_mut_ptr());
                            }
                        },
                    );
                }
            });
        });
    }
}
