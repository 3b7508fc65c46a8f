//! Transformed tiles and kernels in memory: a plane for each place, and checked views of them.

use crate::fast::simd::{load, store};
use pulp::Simd;

/// `N` planes of `len` numbers, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Planes<'a, const N: usize> {
    values: &'a [f32],
    len: usize,
}

/// As [`Planes`], to be written.
pub(super) struct PlanesMut<'a, const N: usize> {
    values: &'a mut [f32],
    len: usize,
}

/// Where a vector begins of which the first number is `offset` of plane `place`. Panics unless it lies in that plane;
/// repeated for many places at one offset, half of the check is done once.
#[inline(always)]
fn start<S: Simd, const N: usize>(place: usize, offset: usize, len: usize) -> usize {
    assert!(S::F32_LANES <= len && offset <= len - S::F32_LANES);
    assert!(place < N);
    place * len + offset
}

impl<'a, const N: usize> Planes<'a, N> {
    /// The planes at the start of `values`.
    #[inline(always)]
    pub(super) fn new(values: &'a [f32], len: usize) -> Self {
        Self { values: &values[..N * len], len }
    }

    #[inline(always)]
    pub(super) fn plane(&self, place: usize) -> &'a [f32] {
        &self.values[place * self.len..][..self.len]
    }

    /// The vector of plane `place` from `offset` on.
    #[inline(always)]
    pub(super) fn load<S: Simd>(&self, simd: S, place: usize, offset: usize) -> S::f32s {
        let start = start::<S, N>(place, offset, self.len);
        #[allow(unsafe_code)] // 36 streams of loads
        // SAFETY: a vector within a plane, and the values hold `N` planes: both checked.
        unsafe {
            load(simd, self.values.as_ptr().add(start))
        }
    }
}

impl<'a, const N: usize> PlanesMut<'a, N> {
    /// The planes at the start of `values`.
    #[inline(always)]
    pub(super) fn new(values: &'a mut [f32], len: usize) -> Self {
        Self { values: &mut values[..N * len], len }
    }

    /// The same planes for a shorter time. A view that a function owns stays in registers; through a reference it would be
    /// read again, and checked again, after every store.
    #[inline(always)]
    pub(super) fn reborrow(&mut self) -> PlanesMut<'_, N> {
        PlanesMut { values: self.values, len: self.len }
    }

    #[inline(always)]
    pub(super) fn as_planes(&self) -> Planes<'_, N> {
        Planes { values: self.values, len: self.len }
    }

    #[inline(always)]
    pub(super) fn plane_mut(&mut self, place: usize) -> &mut [f32] {
        &mut self.values[place * self.len..][..self.len]
    }

    /// Puts a vector into plane `place` from `offset` on.
    #[inline(always)]
    pub(super) fn store<S: Simd>(&mut self, simd: S, place: usize, offset: usize, value: S::f32s) {
        let start = start::<S, N>(place, offset, self.len);
        #[allow(unsafe_code)] // 36 streams of stores
        // SAFETY: a vector within a plane, and the values hold `N` planes: both checked.
        unsafe {
            store(simd, self.values.as_mut_ptr().add(start), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::Scalar;

    #[test]
    fn places_outside_are_refused() {
        let mut values = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let planes = Planes::<2>::new(&values, 3);
        assert_eq!((planes.load(Scalar, 1, 2), planes.plane(1)), (5.0, &[3.0, 4.0, 5.0][..]));
        for (place, offset) in [(0, 3), (2, 0), (0, usize::MAX)] {
            assert!(std::panic::catch_unwind(|| planes.load(Scalar, place, offset)).is_err());
        }
        assert!(std::panic::catch_unwind(|| Planes::<3>::new(&values, 3)).is_err());
        PlanesMut::<2>::new(&mut values, 3).store(Scalar, 1, 0, 9.0);
        assert_eq!(values[3], 9.0);
    }
}
