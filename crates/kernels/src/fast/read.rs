//! What convolutions read: maps, with the batch norms around them applied on the way.

use super::conv::Map;
use super::norm::{Affine, Backward, relu};
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
            Self::Gradient(g, z, way) => {
                assert_eq!((g.len(), z.len()), (len, len));
                assert_eq!((way.k1.len(), way.k2.len(), way.k3.len()), (channels, channels, channels));
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
            Self::Gradient(g, z, way) => {
                let (k1, k2, k3) = (&way.k1[..channels], &way.k2[..channels], &way.k3[..channels]);
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

/// Reads a [`Source`] one vector at a time.
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

/// See [`Source::Plain`].
#[derive(Clone, Copy)]
pub(crate) struct PlainReader<'a>(pub(crate) &'a [f32]);
/// See [`Source::Relu`].
#[derive(Clone, Copy)]
pub(crate) struct ReluReader<'a>(pub(crate) &'a [f32], pub(crate) &'a Affine);
/// See [`Source::Gradient`].
#[derive(Clone, Copy)]
pub(crate) struct GradientReader<'a>(pub(crate) &'a [f32], pub(crate) &'a [f32], pub(crate) &'a Backward);

#[allow(unsafe_code)] // implements an unsafe method
impl<S: Simd> Reader<S> for PlainReader<'_> {
    type Constants = ();

    #[inline(always)]
    fn constants(self, _: S, _: usize) {}

    #[inline(always)]
    unsafe fn read(self, simd: S, at: usize, (): ()) -> S::f32s {
        // SAFETY: the caller's contract.
        unsafe { load(simd, self.0.as_ptr().add(at)) }
    }
}

#[allow(unsafe_code)] // implements an unsafe method
impl<S: Simd> Reader<S> for ReluReader<'_> {
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
impl<S: Simd> Reader<S> for GradientReader<'_> {
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
            $crate::fast::read::Source::Plain(x) => {
                let $reader = $crate::fast::read::PlainReader(x);
                $body
            }
            $crate::fast::read::Source::Relu(z, affine) => {
                let $reader = $crate::fast::read::ReluReader(z, affine);
                $body
            }
            $crate::fast::read::Source::Gradient(g, z, way) => {
                let $reader = $crate::fast::read::GradientReader(g, z, way);
                $body
            }
        }
    };
}
pub(crate) use with_reader;
