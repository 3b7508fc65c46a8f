//! Matrix products with packed right-hand sides, one panel of two vectors at a time.
//!
//! The tile of the result that a micro-kernel holds in registers is 6 rows (12 where there are 32 registers) by two
//! vectors. The left-hand side is read where it lies, one number broadcast at a time, so any pair of strides will do;
//! the depth is cut into blocks whose panel stays in the first-level cache. No product is ever split by the number of
//! threads: callers cut the work into pieces of fixed size.

use super::simd::{load, multiply_add, panel_width, store};
use pulp::Simd;

/// Depth of a block: 256 rows of a panel of 16 columns are 16 KiB.
const DEPTH_BLOCK: usize = 256;

/// Where a matrix lies: element `(i, j)` of segment `s` is at `start + s * segment + i * row + j * column`. The segments'
/// columns follow each other: with several, the matrix's depth is their number times the depth of one.
#[derive(Clone, Copy)]
pub(crate) struct Strided {
    pub(crate) start: *const f32,
    pub(crate) row: usize,
    pub(crate) column: usize,
    pub(crate) segment: usize,
    pub(crate) segments: usize,
}

impl Strided {
    /// A matrix of one segment.
    pub(crate) fn new(start: *const f32, row: usize, column: usize) -> Self {
        Self { start, row, column, segment: 0, segments: 1 }
    }
}

/// `c = a b`, or `c += a b` when `accumulate`, for one panel: `a` is `(rows, depth)` or several segments of that, `b` is
/// `(depth, panel)` with rows `b_row` apart, one after the other for all segments, `c` is `(rows, panel)` with rows
/// `c_row` apart.
///
/// # Safety
/// `a` must be readable, `b` too, and `c` writable and of its own, in the extents above.
#[inline(always)]
#[allow(unsafe_code)] // the innermost loop of everything: no bounds checks
pub(crate) unsafe fn multiply_panel<S: Simd>(
    simd: S,
    rows: usize,
    depth: usize,
    a: Strided,
    (b, b_row): (*const f32, usize),
    (c, c_row): (*mut f32, usize),
    accumulate: bool,
) {
    let tallest = if S::REGISTER_COUNT >= 32 { 12 } else { 6 };
    // Tiles of nearly equal height: a tile of one or two rows would wait for its own sums.
    let tiles = rows.div_ceil(tallest);
    let mut done = 0;
    while done < depth || (depth == 0 && done == 0) {
        let block = if a.segments == 1 { DEPTH_BLOCK.min(depth - done) } else { depth };
        let accumulate = accumulate || done > 0;
        for tile in 0..tiles {
            let (first, end) = (rows * tile / tiles, rows * (tile + 1) / tiles);
            // SAFETY: the caller's contract, for a part of the rows and of the depth.
            unsafe {
                let a = Strided { start: a.start.add(first * a.row + done * a.column), ..a };
                let b = (b.add(done * b_row), b_row);
                let c = (c.add(first * c_row), c_row);
                tile_of_rows(simd, end - first, block, a, b, c, accumulate);
            }
        }
        done += block;
        if depth == 0 {
            break;
        }
    }
}

/// # Safety
/// As [`multiply_panel`].
#[inline(always)]
#[allow(unsafe_code)] // see `multiply_panel`
unsafe fn tile_of_rows<S: Simd>(
    simd: S,
    rows: usize,
    depth: usize,
    a: Strided,
    b: (*const f32, usize),
    c: (*mut f32, usize),
    accumulate: bool,
) {
    macro_rules! of_height {
        ($($height:literal)*) => {
            match rows {
                // SAFETY: the caller's contract.
                $($height => unsafe { tile::<S, $height>(simd, depth, a, b, c, accumulate) },)*
                _ => unreachable!("a tile has 1 to 12 rows"),
            }
        };
    }
    if S::REGISTER_COUNT >= 32 { of_height!(1 2 3 4 5 6 7 8 9 10 11 12) } else { of_height!(1 2 3 4 5 6) }
}

/// # Safety
/// As [`multiply_panel`].
#[inline(always)]
#[allow(unsafe_code)] // see `multiply_panel`
unsafe fn tile<S: Simd, const ROWS: usize>(
    simd: S,
    depth: usize,
    a: Strided,
    (b, b_row): (*const f32, usize),
    (c, c_row): (*mut f32, usize),
    accumulate: bool,
) {
    let zero = simd.splat_f32s(0.0);
    let mut sums = [[zero; 2]; ROWS];
    let mut b_at = b;
    for segment in 0..a.segments {
        let mut a_at = a.start.wrapping_add(segment * a.segment);
        for _ in 0..depth {
            // SAFETY: the caller's contract; the pointers move one column of `a` and one row of `b` a turn, and are
            // moved with `wrapping_add` because they end behind the matrices.
            unsafe {
                let (left, right) = (load(simd, b_at), load(simd, b_at.add(S::F32_LANES)));
                for row in 0..ROWS {
                    let factor = simd.splat_f32s(*a_at.add(row * a.row));
                    sums[row][0] = multiply_add(simd, factor, left, sums[row][0]);
                    sums[row][1] = multiply_add(simd, factor, right, sums[row][1]);
                }
            }
            a_at = a_at.wrapping_add(a.column);
            b_at = b_at.wrapping_add(b_row);
        }
    }
    for row in 0..ROWS {
        for half in 0..2 {
            // SAFETY: the caller's contract.
            unsafe {
                let at = c.add(row * c_row + half * S::F32_LANES);
                let sum = sums[row][half];
                store(simd, at, if accumulate { simd.add_f32s(load(simd, at), sum) } else { sum });
            }
        }
    }
}

/// The number of panels that `columns` take.
pub(crate) fn panels<S: Simd>(columns: usize) -> usize {
    columns.div_ceil(panel_width::<S>())
}

#[cfg(test)]
mod tests {
    use super::super::simd::{InstructionSet, vectorize, with_instructions};
    use super::*;

    #[test]
    #[allow(unsafe_code)] // calls the kernel under test
    fn equals_the_definition() {
        for set in InstructionSet::available() {
            with_instructions!(set, simd => check(simd));
        }
        #[allow(unsafe_code)] // calls the kernel under test
        fn check<S: Simd>(simd: S) {
            let width = panel_width::<S>();
            for (rows, depth) in [(1, 1), (5, 0), (6, 3), (7, 256), (13, 300), (25, 17)] {
                for transposed in [false, true] {
                    let a: Vec<f32> = (0..rows * depth).map(|i| (i as f32 * 0.7).sin()).collect();
                    let b: Vec<f32> = (0..depth * width).map(|i| (i as f32 * 1.3).cos()).collect();
                    let mut c = vec![1.0; rows * width];
                    let (row, column) = if transposed { (1, rows) } else { (depth, 1) };
                    let strided = Strided::new(a.as_ptr(), row, column);
                    // SAFETY: the vectors have the extents that the contract asks for.
                    vectorize(
                        simd,
                        #[inline(always)]
                        || unsafe {
                            multiply_panel(
                                simd,
                                rows,
                                depth,
                                strided,
                                (b.as_ptr(), width),
                                (c.as_mut_ptr(), width),
                                true,
                            )
                        },
                    );
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
}
