//! Matrix products with packed right-hand sides, one panel of a few vectors at a time.
//!
//! A micro-kernel holds one tile of the result in registers ([`tile_shape`]). The left-hand side is read where it lies,
//! one number broadcast at a time, so any pair of strides will do; the depth is cut into blocks whose panel stays in the
//! first-level cache. No product is ever split by the number of threads: callers cut the work into pieces of fixed size.

use super::simd::{load, multiply_add, store};
use pulp::Simd;

/// Depth of a block. With AVX2, 128 rows of a panel are 16 KiB; with AVX-512, 256 rows are 32 KiB of a larger cache.
const fn depth_block<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 256 } else { 128 }
}

/// Rows and vectors of a tile of the result. Of 32 registers 24 hold it, of 16 registers 12.
///
/// On 16 registers, three rows lie at distances that an address holds by itself; with six, every turn computes addresses,
/// which costs a tenth where two threads share a core. Rows that lie side by side (`adjacent`) need none, and the more of
/// them are read at a time, the fewer cache lines are.
const fn tile_shape<S: Simd>(adjacent: bool) -> (usize, usize) {
    match (S::REGISTER_COUNT >= 32, adjacent) {
        (true, _) => (12, 2),
        (false, true) => (6, 2),
        (false, false) => (3, 4),
    }
}

/// Columns of a panel of packed weights: those of the widest tile.
pub(crate) const fn panel_width<S: Simd>() -> usize {
    tile_shape::<S>(false).1 * S::F32_LANES
}

/// Numbers from one row of `len` numbers to the next, or from one plane to the next: whole cache lines, an odd number of
/// them, so that what is read or written at the same time does not share cache sets.
pub(crate) fn apart(len: usize) -> usize {
    (len.div_ceil(16) | 1) * 16
}

/// Whether results take the place of what stands there or are added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Update {
    Set,
    Add,
}

/// Where a matrix lies in `values`: element `(i, j)` of segment `s` is at `s * segment + i * row + j * column`. The
/// segments' columns follow each other: with several, the matrix's depth is their number times the depth of one.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) row: usize,
    pub(crate) column: usize,
    pub(crate) segment: usize,
    pub(crate) segments: usize,
}

impl<'a> Strided<'a> {
    /// A matrix of one segment.
    #[inline(always)]
    pub(crate) fn new(values: &'a [f32], row: usize, column: usize) -> Self {
        Self { values, row, column, segment: 0, segments: 1 }
    }
}

/// One past the last number of `rows` rows of `len` numbers, `stride` apart; too large rather than wrong where that
/// overflows.
#[inline(always)]
fn extent(rows: usize, stride: usize, len: usize) -> usize {
    if rows == 0 { 0 } else { (rows - 1).saturating_mul(stride).saturating_add(len) }
}

/// `c = a b`, or `c += a b`, for one panel: `a` is `(rows, depth)` or several segments of that, `b` is `(depth, panel)`
/// with rows `b_row` apart, one after the other for all segments, `c` is `(rows, panel)`.
///
/// # Panics
/// Where a matrix is not that large.
#[inline(always)]
pub(crate) fn multiply_panel<S: Simd>(
    simd: S,
    (rows, depth): (usize, usize),
    a: Strided<'_>,
    (b, b_row): (&[f32], usize),
    c: &mut [f32],
    update: Update,
) {
    let width = panel_width::<S>();
    if depth > 0 {
        let of_segment = extent(rows, a.row, extent(depth, a.column, 1));
        assert!(extent(a.segments, a.segment, of_segment) <= a.values.len());
        assert!(extent(a.segments.saturating_mul(depth), b_row, width) <= b.len());
    }
    assert!(extent(rows, width, width) <= c.len());
    let (tallest, vectors) = tile_shape::<S>(a.row == 1);
    // Tiles of nearly equal height: a tile of one or two rows would wait for its own sums.
    let tiles = rows.div_ceil(tallest);
    let mut done = 0;
    while done < depth || (depth == 0 && done == 0) {
        let block = if a.segments == 1 { depth_block::<S>().min(depth - done) } else { depth };
        let update = if done > 0 { Update::Add } else { update };
        for column in (0..width).step_by(vectors * S::F32_LANES) {
            for tile in 0..tiles {
                let (first, end) = (rows * tile / tiles, rows * (tile + 1) / tiles);
                #[allow(unsafe_code)] // the innermost loop of everything: no bounds checks
                // SAFETY: parts of the rows, of the depth and of the columns, which were checked above.
                unsafe {
                    let start = a.values.as_ptr().wrapping_add(first * a.row + done * a.column);
                    let b = (b.as_ptr().wrapping_add(done * b_row + column), b_row);
                    let c = c.as_mut_ptr().add(first * width + column);
                    tile_of_rows(simd, (end - first, vectors), (start, block), &a, b, c, update);
                }
            }
        }
        done += block;
        if depth == 0 {
            break;
        }
    }
}

/// One tile from `start` on, a place in `a`.
///
/// # Safety
/// The tile must lie within `a`, the rows of `b` and of `c`, which are `b_row` and a panel apart.
#[inline(always)]
#[allow(unsafe_code)] // see `multiply_panel`
unsafe fn tile_of_rows<S: Simd>(
    simd: S,
    (rows, vectors): (usize, usize),
    a_block: (*const f32, usize),
    a: &Strided<'_>,
    b: (*const f32, usize),
    c: *mut f32,
    update: Update,
) {
    macro_rules! of_height {
        ($vectors:literal: $($height:literal)*) => {
            match rows {
                // SAFETY: the caller's contract.
                $($height => unsafe { tile::<S, $vectors, $height>(simd, a_block, a, b, c, update) },)*
                _ => unreachable!("a tile has 1 to 12 rows"),
            }
        };
    }
    match (S::REGISTER_COUNT >= 32, vectors) {
        (true, _) => of_height!(2: 1 2 3 4 5 6 7 8 9 10 11 12),
        (false, 2) => of_height!(2: 1 2 3 4 5 6),
        (false, _) => of_height!(4: 1 2 3),
    }
}

/// # Safety
/// As [`tile_of_rows`].
#[inline(always)]
#[allow(unsafe_code)] // see `multiply_panel`
unsafe fn tile<S: Simd, const VECTORS: usize, const ROWS: usize>(
    simd: S,
    (start, depth): (*const f32, usize),
    a: &Strided<'_>,
    (b, b_row): (*const f32, usize),
    c: *mut f32,
    update: Update,
) {
    let zero = simd.splat_f32s(0.0);
    let mut sums = [[zero; VECTORS]; ROWS];
    let mut b_at = b;
    for segment in 0..a.segments {
        let mut a_at = start.wrapping_add(segment * a.segment);
        for _ in 0..depth {
            // SAFETY: the caller's contract; the pointers move one column of `a` and one row of `b` a turn, and are
            // moved with `wrapping_add` because they end behind the matrices.
            unsafe {
                let (mut factors, mut vectors) = ([zero; ROWS], [zero; VECTORS]);
                // What there is less of waits in registers, what there is more of comes one by one: the other way
                // round registers do not suffice, and three rows by four vectors take twice as long.
                if ROWS < VECTORS {
                    for row in 0..ROWS {
                        factors[row] = simd.splat_f32s(*a_at.add(row * a.row));
                    }
                    for vector in 0..VECTORS {
                        vectors[vector] = load(simd, b_at.add(vector * S::F32_LANES));
                        for row in 0..ROWS {
                            sums[row][vector] = multiply_add(simd, factors[row], vectors[vector], sums[row][vector]);
                        }
                    }
                } else {
                    for vector in 0..VECTORS {
                        vectors[vector] = load(simd, b_at.add(vector * S::F32_LANES));
                    }
                    for row in 0..ROWS {
                        factors[row] = simd.splat_f32s(*a_at.add(row * a.row));
                        for vector in 0..VECTORS {
                            sums[row][vector] = multiply_add(simd, factors[row], vectors[vector], sums[row][vector]);
                        }
                    }
                }
            }
            a_at = a_at.wrapping_add(a.column);
            b_at = b_at.wrapping_add(b_row);
        }
    }
    for (row, sums) in sums.into_iter().enumerate() {
        for (vector, sum) in sums.into_iter().enumerate() {
            // SAFETY: the caller's contract.
            unsafe {
                let at = c.add(row * panel_width::<S>() + vector * S::F32_LANES);
                store(simd, at, if update == Update::Add { simd.add_f32s(load(simd, at), sum) } else { sum });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::{InstructionSet, vectorized, with_instructions};
    use super::*;

    #[test]
    fn equals_the_definition() {
        for set in InstructionSet::available() {
            with_instructions!(set, simd => check(simd));
        }
        fn check<S: Simd>(simd: S) {
            let width = panel_width::<S>();
            for (rows, depth) in [(1, 1), (5, 0), (6, 3), (7, 256), (13, 300), (25, 17)] {
                for (row, column) in [(depth, 1), (1, rows)] {
                    let a: Vec<f32> = (0..rows * depth).map(|i| (i as f32 * 0.7).sin()).collect();
                    let b: Vec<f32> = (0..depth * width).map(|i| (i as f32 * 1.3).cos()).collect();
                    let mut c = vec![1.0; rows * width];
                    let strided = Strided::new(&a, row, column);
                    vectorized!(simd, {
                        multiply_panel(simd, (rows, depth), strided, (&b, width), &mut c, Update::Add);
                    });
                    for i in 0..rows {
                        for j in 0..width {
                            let product = |p: usize| f64::from(a[i * row + p * column] * b[p * width + j]);
                            let expected = 1.0 + (0..depth).map(product).sum::<f64>();
                            assert!((f64::from(c[i * width + j]) - expected).abs() < 1e-4);
                        }
                    }
                }
            }
        }
    }

    /// Of each matrix, one number too few.
    #[test]
    fn matrices_that_are_too_small_are_refused() {
        let width = panel_width::<pulp::Scalar128b>();
        let product = |a: usize, b: usize, c: usize| {
            let (a, b, mut c) = (vec![0.0; a], vec![0.0; b], vec![0.0; c]);
            let strided = Strided { values: &a, row: 1, column: 4, segment: 20, segments: 2 };
            multiply_panel(pulp::Scalar128b, (3, 5), strided, (&b, width), &mut c, Update::Set);
        };
        let (a, b, c) = (20 + 4 * 4 + 3, 10 * width, 3 * width);
        product(a, b, c);
        for (a, b, c) in [(a - 1, b, c), (a, b - 1, c), (a, b, c - 1)] {
            assert!(std::panic::catch_unwind(|| product(a, b, c)).is_err());
        }
    }
}
