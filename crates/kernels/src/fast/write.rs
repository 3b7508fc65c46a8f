//! What convolutions write: a map, with what comes next done to each number while it is at hand.

use super::arena::Shared;
use super::norm::Affine;

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

    /// Takes `values`, which belong to the channels from `channel` on and go to index `at`; adds to the sums of these
    /// channels.
    ///
    /// # Safety
    /// Nothing else may use these numbers of the target.
    #[inline(always)]
    #[allow(unsafe_code)] // tiles and panels of several tasks interleave in the target
    pub(crate) unsafe fn put(
        &self,
        at: usize,
        channel: usize,
        values: &[f32],
        ones: &mut [f32],
        twos: &mut [f32],
    ) {
        let len = values.len();
        // SAFETY: the caller's contract.
        let y = unsafe { self.y.part(at, len) };
        let (ones, twos) = (&mut ones[..len], &mut twos[..len]);
        let value = |y: &[f32], c: usize| if self.add { values[c] + y[c] } else { values[c] };
        match self.then {
            Then::Nothing => {
                for c in 0..len {
                    y[c] = value(y, c);
                }
            }
            Then::Squares => {
                for c in 0..len {
                    let value = value(y, c);
                    y[c] = value;
                    ones[c] += value;
                    twos[c] += value * value;
                }
            }
            Then::Mask { mask, z, mean } => {
                let (z, mean) = (&z[at..][..len], &mean[channel..][..len]);
                match mask {
                    Mask::Output(out) => {
                        let out = &out[at..][..len];
                        for c in 0..len {
                            let value = if out[c] > 0.0 { value(y, c) } else { 0.0 };
                            y[c] = value;
                            ones[c] += value;
                            twos[c] += value * (z[c] - mean[c]);
                        }
                    }
                    Mask::Normalized(affine) => {
                        let (scale, shift) =
                            (&affine.scale[channel..][..len], &affine.shift[channel..][..len]);
                        for c in 0..len {
                            let open = z[c] * scale[c] + shift[c] > 0.0;
                            let value = if open { value(y, c) } else { 0.0 };
                            y[c] = value;
                            ones[c] += value;
                            twos[c] += value * (z[c] - mean[c]);
                        }
                    }
                }
            }
        }
    }
}
