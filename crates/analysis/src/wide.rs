//! Clean registers behind matrix products.

use std::hint::black_box;

use pulp::{Simd, WithSimd};

/// Clears the upper halves of the wide registers, which faer's matrix products leave in use: until then, every scalar
/// floating-point instruction of this thread waits for them, and code such as `exp` runs several times as slow.
///
/// The compiler clears them at the end of any function that used them itself.
pub(crate) fn clear_wide_registers() {
    let mut values = [1.0_f32; 64];
    pulp::Arch::new().dispatch(Use(black_box(&mut values)));
    black_box(values);
}

struct Use<'a>(&'a mut [f32; 64]);

impl WithSimd for Use<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.0.iter_mut().for_each(|value| *value += 1.0);
    }
}
