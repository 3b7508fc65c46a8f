//! What convolutions write: a map, with what comes next done to each number while it is at hand.

use super::arena::Shared;
use super::gemm::panel_width;
use super::norm::{Affine, ChannelSums};
use super::simd::{lanes_of, multiply_add, store, vector};
use pulp::{Scalar, Simd};

/// A map in NHWC that a convolution fills.
pub(crate) struct Target<'a> {
    pub(crate) y: Shared<'a>,
    /// Whether results are added to what stands there.
    pub(crate) add: bool,
    pub(crate) then: Then<'a>,
}

/// What happens to a number before it is stored.
#[derive(Clone, Copy)]
pub(crate) enum Then<'a> {
    /// Nothing.
    Nothing,
    /// It is summed, and its square, for a batch norm's statistics.
    Squares,
    /// It is the gradient behind a ReLU: set to 0 where that was closed, then summed, and its product with
    /// `z - mean`, for a batch norm's backward pass.
    Mask { mask: Mask<'a>, z: &'a [f32], mean: &'a [f32] },
}

/// Where a gradient passes a ReLU.
#[derive(Clone, Copy)]
pub(crate) enum Mask<'a> {
    /// Where this output of the ReLU is positive.
    Output(&'a [f32]),
    /// Where `z * scale + shift` is positive, `z` being the map of the sums.
    Normalized(&'a Affine),
}

impl<'a> Target<'a> {
    /// Stores into `y`, or adds to it.
    pub(crate) fn new(y: &'a mut [f32], add: bool, then: Then<'a>) -> Self {
        Self { y: Shared::new(y), add, then }
    }

    /// Whether [`Target::put`] sums.
    #[inline(always)]
    pub(crate) fn sums(&self) -> bool {
        !matches!(self.then, Then::Nothing)
    }

    /// Takes one vector, which belongs to the channels from `channel` on and goes to index `at`; adds to the sums of
    /// these channels.
    ///
    /// # Safety
    /// Nothing else may use these numbers of the target.
    #[inline(always)]
    #[allow(unsafe_code)] // tiles and panels of several tasks interleave in the target
    pub(crate) unsafe fn put<S: Simd>(
        &self,
        simd: S,
        at: usize,
        channel: usize,
        value: S::f32s,
        [ones, twos]: &mut [S::f32s; 2],
    ) {
        // SAFETY: the caller's contract.
        let y = unsafe { self.y.part(at, S::F32_LANES) };
        let value = if self.add { simd.add_f32s(value, vector(simd, y, 0)) } else { value };
        let value = match self.then {
            Then::Nothing => value,
            Then::Squares => {
                *ones = simd.add_f32s(*ones, value);
                *twos = multiply_add(simd, value, value, *twos);
                value
            }
            Then::Mask { mask, z, mean } => {
                let (z, zero) = (vector(simd, z, at), simd.splat_f32s(0.0));
                let open = match mask {
                    Mask::Output(out) => vector(simd, out, at),
                    Mask::Normalized(affine) => {
                        let (scale, shift) =
                            (vector(simd, &affine.scale, channel), vector(simd, &affine.shift, channel));
                        multiply_add(simd, z, scale, shift)
                    }
                };
                let value = simd.select_f32s(simd.greater_than_f32s(open, zero), value, zero);
                let centred = simd.sub_f32s(z, vector(simd, mean, channel));
                *ones = simd.add_f32s(*ones, value);
                *twos = multiply_add(simd, value, centred, *twos);
                value
            }
        };
        // SAFETY: the slice is one vector long.
        unsafe { store(simd, y.as_mut_ptr(), value) };
    }

    /// Takes rows of a panel, `tile`, of which the first `columns` numbers belong to the channels from `channel` on. Row
    /// `r` goes to index `at(r)`.
    ///
    /// # Safety
    /// Nothing else may use these numbers of the target.
    #[inline(always)]
    #[allow(unsafe_code)] // panels interleave in the target
    pub(crate) unsafe fn put_rows<S: Simd>(
        &self,
        simd: S,
        tile: &[f32],
        channel: usize,
        columns: usize,
        at: impl Fn(usize) -> usize,
        sums: &mut ChannelSums,
    ) {
        let (lanes, width) = (S::F32_LANES, panel_width::<S>());
        let whole = columns / lanes * lanes;
        for offset in (0..whole).step_by(lanes) {
            let mut own = [simd.splat_f32s(0.0); 2];
            for (row, values) in tile.chunks_exact(width).enumerate() {
                let value = vector(simd, values, offset);
                // SAFETY: the caller's contract.
                unsafe { self.put(simd, at(row) + offset, channel + offset, value, &mut own) };
            }
            if self.sums() {
                sums.add_block(channel + offset, lanes_of::<S>(&own[0]), lanes_of::<S>(&own[1]));
            }
        }
        for offset in whole..columns {
            let mut own = [0.0; 2];
            for (row, values) in tile.chunks_exact(width).enumerate() {
                let to = (at(row) + offset, channel + offset);
                // SAFETY: the caller's contract.
                unsafe { self.put(Scalar, to.0, to.1, values[offset], &mut own) };
            }
            if self.sums() {
                sums.add_block(channel + offset, &own[..1], &own[1..]);
            }
        }
    }
}
