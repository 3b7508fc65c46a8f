//! Tiles of a map: read and transformed, and transformed back and written.

use super::planes::{Planes, PlanesMut};
use super::transforms::{input, kernel, kernel_gradient, of_columns, output, output_gradient};
use super::{INPUTS, KERNEL, OUTPUTS, PLACES, TAPS};
use crate::fast::gemm::{apart, panel_width};
use crate::fast::norm::ChannelSums;
use crate::fast::read::{Reader, Source, with_reader};
use crate::fast::shape::Map;
use crate::fast::simd::{lanes_of, vectorized};
use crate::fast::write::{Finish, Target, with_finish};
use pulp::Simd;
use std::ops::Range;

/// Tiles whose outputs are summed in f32.
const SUMMED_TILES: usize = 4;

/// The tiles of a map.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    map: Map,
    down: usize,
    across: usize,
}

impl Tiles {
    pub(super) fn new(map: Map) -> Self {
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

    /// All tiles, in chunks whose inputs take about `numbers` numbers, for tiles of `channels` channels.
    pub(super) fn chunks(self, channels: usize, numbers: usize) -> Vec<Chunk> {
        let fitting = (numbers / (PLACES * apart(channels))).max(24);
        let chunks = self.count().div_ceil(fitting.max(if self.count() <= 128 { 128 } else { 0 }));
        let len = self.count().div_ceil(chunks);
        let chunk = |first| Chunk { tiles: self, first, count: len.min(self.count() - first) };
        (0..self.count()).step_by(len).map(chunk).collect()
    }
}

/// Some of a map's tiles, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    tiles: Tiles,
    first: usize,
    pub(super) count: usize,
}

impl Chunk {
    /// `B^T d B` of every tile, all channels: place `p` of tile `t` goes to row `t` of plane `p`.
    pub(super) fn transform_inputs<S: Simd>(
        &self,
        simd: S,
        source: Source<'_>,
        channels: usize,
        mut v: PlanesMut<'_, PLACES>,
    ) {
        source.check(self.tiles.map, channels);
        assert!(channels.is_multiple_of(S::F32_LANES));
        with_reader!(source, reader => vectorized!(simd, {
            for tile in 0..self.count {
                self.transform_input(simd, reader, tile, channels, v.reborrow());
            }
        }));
    }

    #[inline(always)]
    fn transform_input<S: Simd, R: Reader<S>>(
        &self,
        simd: S,
        reader: R,
        tile: usize,
        channels: usize,
        mut v: PlanesMut<'_, PLACES>,
    ) {
        let (image, y0, x0) = self.tiles.origin(self.first + tile);
        let Map { height, width, .. } = self.tiles.map;
        for c in (0..channels).step_by(S::F32_LANES) {
            let constants = reader.constants(simd, c);
            let rows = of_columns(
                simd,
                #[inline(always)]
                |j| {
                    // One column left of the first output; underflow wraps to a place outside.
                    let x = (x0 + j).wrapping_sub(1);
                    if x >= width {
                        return None;
                    }
                    let mut d = [simd.splat_f32s(0.0); INPUTS];
                    for (i, d) in d.iter_mut().enumerate() {
                        let y = (y0 + i).wrapping_sub(1);
                        if y < height {
                            let at = ((image * height + y) * width + x) * channels + c;
                            #[allow(unsafe_code)] // no bounds checks in the innermost loops
                            // SAFETY: a pixel of the map, and the source was checked.
                            unsafe {
                                *d = reader.read(simd, at, constants);
                            }
                        }
                    }
                    Some(d)
                },
                #[inline(always)]
                |d| input(simd, d),
            );
            for (i, row) in rows.into_iter().enumerate() {
                for (j, d) in input(simd, row).into_iter().enumerate() {
                    v.store(simd, i * INPUTS + j, tile * apart(channels) + c, d);
                }
            }
        }
    }

    /// `A dy A^T` of every tile for the channels of one panel: place `p` of tile `t` goes to row `t` of plane `p`, rows a
    /// panel apart.
    pub(super) fn transform_gradients<S: Simd>(
        &self,
        simd: S,
        source: Source<'_>,
        (channels, panel): (usize, usize),
        mut d: PlanesMut<'_, PLACES>,
    ) {
        source.check(self.tiles.map, channels);
        assert!(channels.is_multiple_of(panel_width::<S>()) && panel * panel_width::<S>() < channels);
        with_reader!(source, reader => vectorized!(simd, {
            for tile in 0..self.count {
                self.transform_gradient(simd, reader, tile, (channels, panel), d.reborrow());
            }
        }));
    }

    #[inline(always)]
    fn transform_gradient<S: Simd, R: Reader<S>>(
        &self,
        simd: S,
        reader: R,
        tile: usize,
        (channels, panel): (usize, usize),
        mut d: PlanesMut<'_, PLACES>,
    ) {
        let (image, y0, x0) = self.tiles.origin(self.first + tile);
        let Map { height, width, .. } = self.tiles.map;
        for offset in (0..panel_width::<S>()).step_by(S::F32_LANES) {
            let c = panel * panel_width::<S>() + offset;
            let constants = reader.constants(simd, c);
            let rows = of_columns(
                simd,
                #[inline(always)]
                |j| {
                    if x0 + j >= width {
                        return None;
                    }
                    let mut y = [simd.splat_f32s(0.0); OUTPUTS];
                    for (i, y) in y.iter_mut().enumerate() {
                        if y0 + i < height {
                            let at = ((image * height + y0 + i) * width + x0 + j) * channels + c;
                            #[allow(unsafe_code)] // no bounds checks in the innermost loops
                            // SAFETY: a pixel of the map, and the source was checked.
                            unsafe {
                                *y = reader.read(simd, at, constants);
                            }
                        }
                    }
                    Some(y)
                },
                #[inline(always)]
                |y| output_gradient(simd, y),
            );
            for (i, row) in rows.into_iter().enumerate() {
                for (j, y) in output_gradient(simd, row).into_iter().enumerate() {
                    d.store(simd, i * INPUTS + j, tile * panel_width::<S>() + offset, y);
                }
            }
        }
    }

    /// `A^T m A` of every tile for one panel, put into `target`; row `t` of a plane of `m` is tile `t`, rows are a panel
    /// apart.
    ///
    /// # Safety
    /// Nothing else may use these tiles and channels of the target.
    #[inline(always)]
    #[allow(unsafe_code)] // the tiles of several tasks interleave in the target
    pub(super) unsafe fn restore_outputs<S: Simd>(
        &self,
        simd: S,
        m: Planes<'_, PLACES>,
        (channels, panel): (usize, usize),
        target: &Target<'_>,
        sums: &mut ChannelSums,
    ) {
        let width = panel_width::<S>();
        with_finish!(target.then, finish => {
            for offset in (0..width).step_by(S::F32_LANES) {
                let channel = panel * width + offset;
                let finish = (finish, finish.constants(simd, channel));
                let zeros = [simd.splat_f32s(0.0); 2];
                let mut own = zeros;
                for tile in 0..self.count {
                    // SAFETY: the caller's contract.
                    unsafe { self.restore_output(simd, (m, tile, offset), (channels, channel), (target, finish), &mut own) };
                    if target.sums() && (tile % SUMMED_TILES == SUMMED_TILES - 1 || tile + 1 == self.count) {
                        sums.add_block(channel, lanes_of::<S>(&own[0]), lanes_of::<S>(&own[1]));
                        own = zeros;
                    }
                }
            }
        });
    }

    /// As [`Chunk::restore_outputs`], for one vector of channels of one tile.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    #[allow(unsafe_code)] // as there
    unsafe fn restore_output<S: Simd, F: Finish<S>>(
        &self,
        simd: S,
        (m, tile, offset): (Planes<'_, PLACES>, usize, usize),
        (channels, channel): (usize, usize),
        (target, finish): (&Target<'_>, (F, F::Constants)),
        sums: &mut [S::f32s; 2],
    ) {
        let (image, y0, x0) = self.tiles.origin(self.first + tile);
        let Map { height, width, .. } = self.tiles.map;
        let rows = of_columns(
            simd,
            #[inline(always)]
            |j| Some(column(simd, m, j, tile * panel_width::<S>() + offset)),
            #[inline(always)]
            |m| output(simd, m),
        );
        for (i, row) in rows.into_iter().enumerate() {
            if y0 + i >= height {
                break;
            }
            let line = (image * height + y0 + i) * width + x0;
            for (j, value) in output(simd, row).into_iter().enumerate() {
                if x0 + j < width {
                    // SAFETY: the caller's contract.
                    unsafe { target.put(simd, (line + j) * channels + channel, finish, value, sums) };
                }
            }
        }
    }
}

/// The vectors at `offset` of the places in column `j`.
#[inline(always)]
fn column<S: Simd>(simd: S, planes: Planes<'_, PLACES>, j: usize, offset: usize) -> [S::f32s; INPUTS] {
    let mut column = [simd.splat_f32s(0.0); INPUTS];
    for (i, column) in column.iter_mut().enumerate() {
        *column = planes.load(simd, i * INPUTS + j, offset);
    }
    column
}

/// `G g G^T` of the input channels `channels` of a panel of kernels, whose taps are planes `(ins, width)`: place `p` of the
/// first of them goes to the start of plane `p` of `u`.
#[inline(always)]
pub(super) fn transform_kernels<S: Simd>(
    simd: S,
    kernels: Planes<'_, TAPS>,
    channels: Range<usize>,
    mut u: PlanesMut<'_, PLACES>,
) {
    let (from, to) = (channels.start * panel_width::<S>(), channels.end * panel_width::<S>());
    for at in (from..to).step_by(S::F32_LANES) {
        let rows = of_columns(
            simd,
            #[inline(always)]
            |j| {
                Some([
                    kernels.load(simd, j, at),
                    kernels.load(simd, KERNEL + j, at),
                    kernels.load(simd, 2 * KERNEL + j, at),
                ])
            },
            #[inline(always)]
            |g| kernel(simd, g),
        );
        for (i, row) in rows.into_iter().enumerate() {
            for (j, g) in kernel(simd, row).into_iter().enumerate() {
                u.store(simd, i * INPUTS + j, at - from, g);
            }
        }
    }
}

/// `G^T u G`, the way back from [`transform_kernels`]'s layout to a panel's.
#[inline(always)]
pub(super) fn restore_kernels<S: Simd>(
    simd: S,
    u: Planes<'_, PLACES>,
    channels: Range<usize>,
    mut gradient: PlanesMut<'_, TAPS>,
) {
    let (from, to) = (channels.start * panel_width::<S>(), channels.end * panel_width::<S>());
    for at in (from..to).step_by(S::F32_LANES) {
        let rows = of_columns(
            simd,
            #[inline(always)]
            |j| Some(column(simd, u, j, at - from)),
            #[inline(always)]
            |u| kernel_gradient(simd, u),
        );
        for (i, row) in rows.into_iter().enumerate() {
            for (j, g) in kernel_gradient(simd, row).into_iter().enumerate() {
                gradient.store(simd, i * KERNEL + j, at, g);
            }
        }
    }
}
