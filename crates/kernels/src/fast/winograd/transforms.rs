//! The constant matrices of F(4x4, 3x3), applied to one column or row of vectors.

use super::{INPUTS, OUTPUTS};
use crate::fast::simd::multiply_add;
use pulp::Simd;

/// `B^T d`.
#[inline(always)]
pub(super) fn input<S: Simd>(simd: S, d: [S::f32s; INPUTS]) -> [S::f32s; INPUTS] {
    let [two, four, minus4, minus5] = [2.0, 4.0, -4.0, -5.0].map(|x| simd.splat_f32s(x));
    let a = multiply_add(simd, minus4, d[2], d[4]);
    let b = multiply_add(simd, minus4, d[1], d[3]);
    let c = simd.sub_f32s(d[4], d[2]);
    let e = simd.mul_f32s(two, simd.sub_f32s(d[3], d[1]));
    [
        multiply_add(simd, four, d[0], multiply_add(simd, minus5, d[2], d[4])),
        simd.add_f32s(a, b),
        simd.sub_f32s(a, b),
        simd.add_f32s(c, e),
        simd.sub_f32s(c, e),
        multiply_add(simd, four, d[1], multiply_add(simd, minus5, d[3], d[5])),
    ]
}

/// `A^T m`.
#[inline(always)]
pub(super) fn output<S: Simd>(simd: S, m: [S::f32s; INPUTS]) -> [S::f32s; OUTPUTS] {
    let [two, four, eight] = [2.0, 4.0, 8.0].map(|x| simd.splat_f32s(x));
    let (p, q) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (r, s) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(m[0], simd.add_f32s(p, r)),
        multiply_add(simd, two, s, q),
        multiply_add(simd, four, r, p),
        simd.add_f32s(m[5], multiply_add(simd, eight, s, q)),
    ]
}

/// `A y`.
#[inline(always)]
pub(super) fn output_gradient<S: Simd>(simd: S, y: [S::f32s; OUTPUTS]) -> [S::f32s; INPUTS] {
    let [two, four, eight] = [2.0, 4.0, 8.0].map(|x| simd.splat_f32s(x));
    let (even, odd) = (simd.add_f32s(y[0], y[2]), simd.add_f32s(y[1], y[3]));
    let even2 = multiply_add(simd, four, y[2], y[0]);
    let odd2 = multiply_add(simd, eight, y[3], simd.mul_f32s(two, y[1]));
    [
        y[0],
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        simd.add_f32s(even2, odd2),
        simd.sub_f32s(even2, odd2),
        y[3],
    ]
}

/// `G g`.
#[inline(always)]
pub(super) fn kernel<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; INPUTS] {
    let [quarter, sixth, minus6th, twelfth, twenty4th] =
        [1.0 / 4.0, 1.0 / 6.0, -1.0 / 6.0, 1.0 / 12.0, 1.0 / 24.0].map(|x| simd.splat_f32s(x));
    let outer = simd.mul_f32s(minus6th, simd.add_f32s(g[0], g[2]));
    let inner = simd.mul_f32s(sixth, g[1]);
    let outer2 = multiply_add(simd, twenty4th, g[0], simd.mul_f32s(sixth, g[2]));
    let inner2 = simd.mul_f32s(twelfth, g[1]);
    [
        simd.mul_f32s(quarter, g[0]),
        simd.sub_f32s(outer, inner),
        simd.add_f32s(outer, inner),
        simd.add_f32s(outer2, inner2),
        simd.sub_f32s(outer2, inner2),
        g[2],
    ]
}

/// `G^T u`.
#[inline(always)]
pub(super) fn kernel_gradient<S: Simd>(simd: S, u: [S::f32s; INPUTS]) -> [S::f32s; 3] {
    let [quarter, sixth, minus6th, twelfth, twenty4th] =
        [1.0 / 4.0, 1.0 / 6.0, -1.0 / 6.0, 1.0 / 12.0, 1.0 / 24.0].map(|x| simd.splat_f32s(x));
    let (p, q) = (simd.add_f32s(u[1], u[2]), simd.sub_f32s(u[1], u[2]));
    let (r, s) = (simd.add_f32s(u[3], u[4]), simd.sub_f32s(u[3], u[4]));
    let outer = simd.mul_f32s(minus6th, p);
    [
        multiply_add(simd, quarter, u[0], multiply_add(simd, twenty4th, r, outer)),
        multiply_add(simd, minus6th, q, simd.mul_f32s(twelfth, s)),
        simd.add_f32s(u[5], multiply_add(simd, sixth, r, outer)),
    ]
}

/// `f` of every column of a square, as rows of its results; `None` is a column of zeros, which `f` leaves zeros. Mark both
/// closures `#[inline(always)]`.
#[inline(always)]
pub(super) fn of_columns<S: Simd, const N: usize, const M: usize>(
    simd: S,
    column: impl Fn(usize) -> Option<[S::f32s; N]>,
    f: impl Fn([S::f32s; N]) -> [S::f32s; M],
) -> [[S::f32s; N]; M] {
    let mut rows = [[simd.splat_f32s(0.0); N]; M];
    for j in 0..N {
        let Some(column) = column(j) else { continue };
        let column = f(column);
        for i in 0..M {
            rows[i][j] = column[i];
        }
    }
    rows
}
