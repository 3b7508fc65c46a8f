//! What convolutions write: a map, with what comes next done to each number while it is at hand.

use super::gemm::{Update, panel_width};
use super::norm::{ChannelSums, Mask};
use super::simd::{lanes_of, multiply_add, set_vector, vector};
use pulp::{Scalar, Simd};
use std::marker::PhantomData;

/// A map in NHWC that the tasks of a convolution fill, each at places of its own.
pub(crate) struct Target<'a> {
    start: *mut f32,
    len: usize,
    map: PhantomData<&'a mut [f32]>,
    update: Update,
    then: Then<'a>,
}

#[allow(unsafe_code)] // the tasks' parts interleave (tiles of an image, columns of a matrix): no safe split exists
// SAFETY: a target is a mutable slice, written under the contract of `Target::put` alone.
unsafe impl Sync for Target<'_> {}

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

impl<'a> Target<'a> {
    pub(crate) fn new(map: &'a mut [f32], update: Update, then: Then<'a>) -> Self {
        Self { start: map.as_mut_ptr(), len: map.len(), map: PhantomData, update, then }
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
    /// Nothing else may use these numbers of the target. (That they lie inside is checked.)
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
        let (lanes, len) = (S::F32_LANES, self.len);
        assert!(lanes <= len && at <= len - lanes, "{lanes} numbers from {at} on of {len}");
        // SAFETY: inside the slice, and the caller vouches that no other task uses it.
        let y = unsafe { std::slice::from_raw_parts_mut(self.start.add(at), lanes) };
        let value = match self.update {
            Update::Set => value,
            Update::Add => simd.add_f32s(value, vector(simd, y, 0)),
        };
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
                let centered = simd.sub_f32s(z, vector(simd, mean, channel));
                *ones = simd.add_f32s(*ones, value);
                *twos = multiply_add(simd, value, centered, *twos);
                value
            }
        };
        set_vector(simd, y, value);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "1 numbers from 4 on of 4")]
    #[allow(unsafe_code)] // the check under test
    fn a_place_outside_is_refused() {
        let mut map = [0.0; 4];
        let target = Target::new(&mut map, Update::Set, Then::Nothing);
        // SAFETY: nothing else uses the slice.
        unsafe { target.put(Scalar, 4, 0, 1.0, &mut [0.0; 2]) };
    }
}
