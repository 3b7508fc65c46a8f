//! Matrix products in f64, and clean registers behind them.

use std::hint::black_box;

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use pulp::{Simd, WithSimd};

/// Rows, one after the other, times a matrix of as many rows as they have dimensions; on this thread alone.
pub(crate) fn rows_times(rows: &[f64], matrix: MatRef<'_, f64>) -> Vec<f64> {
    let (dims, columns) = matrix.shape();
    let count = rows.len() / dims;
    let mut out = vec![0.0; count * columns];
    matmul(
        MatMut::from_row_major_slice_mut(&mut out, count, columns),
        Accum::Replace,
        MatRef::from_row_major_slice(rows, count, dims),
        matrix,
        1.0,
        Par::Seq,
    );
    clear_wide_registers();
    out
}

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
