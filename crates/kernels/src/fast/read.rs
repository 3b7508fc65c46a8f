//! What convolutions read: maps, with the batch norms around them applied on the way.

use super::norm::{Affine, Backward, relu};
use super::shape::Map;
use super::simd::{load, multiply_add, relu_vector, vector};
use pulp::Simd;

/// A map in NHWC, as values or as what turns other maps into it while they are read.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// The values themselves.
    Plain(&'a [f32]),
    /// `relu(z * scale + shift)`.
    Relu(&'a [f32], &'a Affine),
    /// The gradient of a batch norm's input: `k1 g + k2 z + k3`.
    Gradient(&'a [f32], &'a [f32], &'a Backward),
}

impl<'a> Source<'a> {
    /// Panics unless every buffer covers `map` with `channels` channels, which readers rely on.
    pub(crate) fn check(&self, map: Map, channels: usize) {
        let len = map.pixels() * channels;
        match self {
            Self::Plain(x) => assert_eq!(x.len(), len),
            Self::Relu(z, affine) => {
                assert_eq!((z.len(), affine.scale.len(), affine.shift.len()), (len, channels, channels));
            }
            Self::Gradient(g, z, backward) => {
                assert_eq!((g.len(), z.len()), (len, len));
                assert_eq!((backward.k1.len(), backward.k2.len(), backward.k3.len()), (channels, channels, channels));
            }
        }
    }

    /// Reads whole pixels, from number `start` on, into `to`.
    #[inline(always)]
    pub(crate) fn copy(&self, start: usize, channels: usize, to: &mut [f32]) {
        let len = to.len();
        let part = |x: &'a [f32]| &x[start..][..len];
        match *self {
            Self::Plain(x) => to.copy_from_slice(part(x)),
            Self::Relu(z, affine) => {
                let (scale, shift) = (&affine.scale[..channels], &affine.shift[..channels]);
                for (to, z) in to.chunks_exact_mut(channels).zip(part(z).chunks_exact(channels)) {
                    for c in 0..channels {
                        to[c] = relu(z[c] * scale[c] + shift[c]);
                    }
                }
            }
            Self::Gradient(g, z, backward) => {
                let (k1, k2, k3) = (&backward.k1[..channels], &backward.k2[..channels], &backward.k3[..channels]);
                let (g, z) = (part(g).chunks_exact(channels), part(z).chunks_exact(channels));
                for ((to, g), z) in to.chunks_exact_mut(channels).zip(g).zip(z) {
                    for c in 0..channels {
                        to[c] = k1[c] * g[c] + (k2[c] * z[c] + k3[c]);
                    }
                }
            }
        }
    }
}

/// The parts of a [`Source`], read one vector at a time.
pub(crate) trait Reader<S: Simd>: Copy + Sync {
    /// What belongs to the channels of a vector, the same for all pixels.
    type Constants: Copy;

    /// The constants of the channels from `channel` on.
    fn constants(self, simd: S, channel: usize) -> Self::Constants;

    /// The vector at `at`, an index into the map's numbers.
    ///
    /// # Safety
    /// A whole vector must lie within the map that [`Source::check`] was asked about.
    #[allow(unsafe_code)] // no bounds checks in the innermost loops
    unsafe fn read(self, simd: S, at: usize, constants: Self::Constants) -> S::f32s;
}

#[allow(unsafe_code)] // implements an unsafe method
impl<S: Simd> Reader<S> for &[f32] {
    type Constants = ();

    #[inline(always)]
    fn constants(self, _: S, _: usize) {}

    #[inline(always)]
    unsafe fn read(self, simd: S, at: usize, (): ()) -> S::f32s {
        // SAFETY: the caller's contract.
        unsafe { load(simd, self.as_ptr().add(at)) }
    }
}

#[allow(unsafe_code)] // implements an unsafe method
impl<S: Simd> Reader<S> for (&[f32], &Affine) {
    type Constants = [S::f32s; 2];

    #[inline(always)]
    fn constants(self, simd: S, channel: usize) -> Self::Constants {
        [&self.1.scale, &self.1.shift].map(|values| vector(simd, values, channel))
    }

    #[inline(always)]
    unsafe fn read(self, simd: S, at: usize, [scale, shift]: Self::Constants) -> S::f32s {
        // SAFETY: the caller's contract.
        let z = unsafe { load(simd, self.0.as_ptr().add(at)) };
        relu_vector(simd, multiply_add(simd, z, scale, shift))
    }
}

#[allow(unsafe_code)] // implements an unsafe method
impl<S: Simd> Reader<S> for (&[f32], &[f32], &Backward) {
    type Constants = [S::f32s; 3];

    #[inline(always)]
    fn constants(self, simd: S, channel: usize) -> Self::Constants {
        [&self.2.k1, &self.2.k2, &self.2.k3].map(|values| vector(simd, values, channel))
    }

    #[inline(always)]
    unsafe fn read(self, simd: S, at: usize, [k1, k2, k3]: Self::Constants) -> S::f32s {
        // SAFETY: the caller's contract.
        let (g, z) = unsafe { (load(simd, self.0.as_ptr().add(at)), load(simd, self.1.as_ptr().add(at))) };
        multiply_add(simd, k1, g, multiply_add(simd, k2, z, k3))
    }
}

/// Runs `$body` with `$reader` bound to the reader of `$source`, compiled for each kind.
macro_rules! with_reader {
    ($source:expr, $reader:ident => $body:expr) => {
        match $source {
            $crate::fast::read::Source::Plain($reader) => $body,
            $crate::fast::read::Source::Relu(z, affine) => {
                let $reader = (z, affine);
                $body
            }
            $crate::fast::read::Source::Gradient(g, z, backward) => {
                let $reader = (g, z, backward);
                $body
            }
        }
    };
}
pub(crate) use with_reader;
