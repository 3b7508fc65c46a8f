//! What convolutions write: a map, with what comes next done to each number while it is at hand.

use super::gemm::{Update, panel_width};
use super::norm::{Affine, ChannelSums, Mask};
use super::simd::{lanes_of, load, multiply_add, store, vector};
use pulp::{Scalar, Simd};
use std::marker::PhantomData;
use std::ops::Range;

/// A map in NHWC that the tasks of a convolution fill, each at places of its own.
pub(crate) struct Target<'a> {
    start: *mut f32,
    len: usize,
    map: PhantomData<&'a mut [f32]>,
    update: Update,
    pub(crate) then: Then<'a>,
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

/// A case of [`Then`], done to one vector at a time.
pub(crate) trait Finish<S: Simd>: Copy {
    /// What belongs to the channels of a vector, the same for all pixels.
    type Constants: Copy;

    fn constants(self, simd: S, channel: usize) -> Self::Constants;

    /// What is stored for `value`, which goes to index `at`; adds to the sums.
    ///
    /// # Safety
    /// `at` and the numbers of one vector behind it must lie within the target.
    #[allow(unsafe_code)] // see the implementations
    unsafe fn finish(
        self,
        simd: S,
        at: usize,
        constants: Self::Constants,
        value: S::f32s,
        sums: &mut [S::f32s; 2],
    ) -> S::f32s;
}

/// [`Then::Nothing`].
#[derive(Clone, Copy)]
pub(crate) struct Nothing;

#[allow(unsafe_code)] // implements an unsafe method
impl<S: Simd> Finish<S> for Nothing {
    type Constants = ();

    #[inline(always)]
    fn constants(self, _: S, _: usize) {}

    #[inline(always)]
    unsafe fn finish(self, _: S, _: usize, (): (), value: S::f32s, _: &mut [S::f32s; 2]) -> S::f32s {
        value
    }
}

/// [`Then::Squares`].
#[derive(Clone, Copy)]
pub(crate) struct Squares;

#[allow(unsafe_code)] // implements an unsafe method
impl<S: Simd> Finish<S> for Squares {
    type Constants = ();

    #[inline(always)]
    fn constants(self, _: S, _: usize) {}

    #[inline(always)]
    unsafe fn finish(self, simd: S, _: usize, (): (), value: S::f32s, [ones, twos]: &mut [S::f32s; 2]) -> S::f32s {
        *ones = simd.add_f32s(*ones, value);
        *twos = multiply_add(simd, value, value, *twos);
        value
    }
}

/// [`Mask::Output`], with `z` and `mean`.
#[allow(unsafe_code)] // implements an unsafe method; no bounds checks in the innermost loops
impl<S: Simd> Finish<S> for (&[f32], &[f32], &[f32]) {
    type Constants = S::f32s;

    #[inline(always)]
    fn constants(self, simd: S, channel: usize) -> S::f32s {
        vector(simd, self.2, channel)
    }

    #[inline(always)]
    unsafe fn finish(self, simd: S, at: usize, mean: S::f32s, value: S::f32s, sums: &mut [S::f32s; 2]) -> S::f32s {
        // SAFETY: the caller's contract, and both maps are as long as the target.
        let (open, z) = unsafe { (load(simd, self.0.as_ptr().add(at)), load(simd, self.1.as_ptr().add(at))) };
        masked(simd, open, simd.sub_f32s(z, mean), value, sums)
    }
}

/// [`Mask::Normalized`], with `z` and `mean`.
#[allow(unsafe_code)] // implements an unsafe method; no bounds checks in the innermost loops
impl<S: Simd> Finish<S> for (&Affine, &[f32], &[f32]) {
    type Constants = [S::f32s; 3];

    #[inline(always)]
    fn constants(self, simd: S, channel: usize) -> [S::f32s; 3] {
        let (affine, _, mean) = self;
        [&affine.scale, &affine.shift, mean].map(|values| vector(simd, values, channel))
    }

    #[inline(always)]
    unsafe fn finish(
        self,
        simd: S,
        at: usize,
        [scale, shift, mean]: [S::f32s; 3],
        value: S::f32s,
        sums: &mut [S::f32s; 2],
    ) -> S::f32s {
        // SAFETY: the caller's contract, and `z` is as long as the target.
        let z = unsafe { load(simd, self.1.as_ptr().add(at)) };
        masked(simd, multiply_add(simd, z, scale, shift), simd.sub_f32s(z, mean), value, sums)
    }
}

/// `value` where `open` is positive, and the sums of it and of its product with `centered`.
#[inline(always)]
fn masked<S: Simd>(
    simd: S,
    open: S::f32s,
    centered: S::f32s,
    value: S::f32s,
    [ones, twos]: &mut [S::f32s; 2],
) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    let value = simd.select_f32s(simd.greater_than_f32s(open, zero), value, zero);
    *ones = simd.add_f32s(*ones, value);
    *twos = multiply_add(simd, value, centered, *twos);
    value
}

/// Runs `$body` with `$finish` bound to what does `$then`, so that its loops are compiled for each case.
macro_rules! with_finish {
    ($then:expr, $finish:ident => $body:expr) => {
        match $then {
            $crate::fast::write::Then::Nothing => {
                let $finish = $crate::fast::write::Nothing;
                $body
            }
            $crate::fast::write::Then::Squares => {
                let $finish = $crate::fast::write::Squares;
                $body
            }
            $crate::fast::write::Then::Mask { mask: $crate::fast::norm::Mask::Output(out), z, mean } => {
                let $finish = (out, z, mean);
                $body
            }
            $crate::fast::write::Then::Mask { mask: $crate::fast::norm::Mask::Normalized(affine), z, mean } => {
                let $finish = (affine, z, mean);
                $body
            }
        }
    };
}
pub(crate) use with_finish;

impl<'a> Target<'a> {
    /// # Panics
    /// Where a map that `then` reads is not as long as `map`.
    pub(crate) fn new(map: &'a mut [f32], update: Update, then: Then<'a>) -> Self {
        if let Then::Mask { mask, z, .. } = then {
            assert_eq!(z.len(), map.len());
            if let Mask::Output(out) = mask {
                assert_eq!(out.len(), map.len());
            }
        }
        Self { start: map.as_mut_ptr(), len: map.len(), map: PhantomData, update, then }
    }

    /// Whether [`Target::put`] sums.
    #[inline(always)]
    pub(crate) fn sums(&self) -> bool {
        !matches!(self.then, Then::Nothing)
    }

    /// Takes one vector, which goes to index `at`, and adds to its channels' sums.
    ///
    /// # Safety
    /// `finish` must be of this target's `then`, whose maps are as long as the target. Nothing else may use these numbers of the
    /// target. (That they lie inside is checked.)
    #[inline(always)]
    #[allow(unsafe_code)] // tiles and panels of several tasks interleave in the target
    pub(crate) unsafe fn put<S: Simd, F: Finish<S>>(
        &self,
        simd: S,
        at: usize,
        (finish, constants): (F, F::Constants),
        value: S::f32s,
        sums: &mut [S::f32s; 2],
    ) {
        let (lanes, len) = (S::F32_LANES, self.len);
        assert!(lanes <= len && at <= len - lanes, "{lanes} numbers from {at} on of {len}");
        // SAFETY: inside the map, and the caller vouches that no other task uses these numbers.
        unsafe {
            let to = self.start.add(at);
            let value = match self.update {
                Update::Set => value,
                Update::Add => simd.add_f32s(value, load(simd, to)),
            };
            store(simd, to, finish.finish(simd, at, constants, value, sums));
        }
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
        let (whole, tile) = (columns / S::F32_LANES * S::F32_LANES, (tile, panel_width::<S>()));
        with_finish!(self.then, finish => {
            // SAFETY: the caller's contract.
            unsafe {
                self.put_columns(simd, finish, tile, (channel, 0..whole), &at, sums);
                self.put_columns(Scalar, finish, tile, (channel, whole..columns), &at, sums);
            }
        });
    }

    /// As [`Target::put_rows`], for some columns, in whole vectors, of rows of `width` numbers.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    #[allow(unsafe_code)] // as there
    unsafe fn put_columns<S: Simd, F: Finish<S>>(
        &self,
        simd: S,
        finish: F,
        (tile, width): (&[f32], usize),
        (channel, columns): (usize, Range<usize>),
        at: impl Fn(usize) -> usize,
        sums: &mut ChannelSums,
    ) {
        for offset in columns.step_by(S::F32_LANES) {
            let finish = (finish, finish.constants(simd, channel + offset));
            let mut own = [simd.splat_f32s(0.0); 2];
            for (row, values) in tile.chunks_exact(width).enumerate() {
                let value = vector(simd, values, offset);
                // SAFETY: the caller's contract.
                unsafe { self.put(simd, at(row) + offset, finish, value, &mut own) };
            }
            if self.sums() {
                sums.add_block(channel + offset, lanes_of::<S>(&own[0]), lanes_of::<S>(&own[1]));
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
        unsafe { target.put(Scalar, 4, (Nothing, ()), 1.0, &mut [0.0; 2]) };
    }
}
