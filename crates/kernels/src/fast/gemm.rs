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
/// which costs a tenth where two threads share a core. Rows side by side need none, and the more of them are read at a
/// time, the fewer cache lines are.
const fn tile_shape<S: Simd>(rows_side_by_side: bool) -> (usize, usize) {
    match (S::REGISTER_COUNT >= 32, rows_side_by_side) {
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
    let (tallest, vectors) = tile_shape::<S>(a.row == 1);
    // Tiles of nearly equal height: a tile of one or two rows would wait for its own sums.
    let tiles = rows.div_ceil(tallest);
    let mut done = 0;
    while done < depth || (depth == 0 && done == 0) {
        let block = if a.segments == 1 { depth_block::<S>().min(depth - done) } else { depth };
        let accumulate = accumulate || done > 0;
        for column in (0..panel_width::<S>()).step_by(vectors * S::F32_LANES) {
            for tile in 0..tiles {
                let (first, end) = (rows * tile / tiles, rows * (tile + 1) / tiles);
                // SAFETY: the caller's contract, for a part of the rows, of the depth and of the columns.
                unsafe {
                    let a = Strided { start: a.start.add(first * a.row + done * a.column), ..a };
                    let b = (b.add(done * b_row + column), b_row);
                    let c = (c.add(first * c_row + column), c_row);
                    tile_of_rows(simd, (end - first, vectors), block, a, b, c, accumulate);
                }
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
    (rows, vectors): (usize, usize),
    depth: usize,
    a: Strided,
    b: (*const f32, usize),
    c: (*mut f32, usize),
    accumulate: bool,
) {
    macro_rules! of_height {
        ($vectors:literal: $($height:literal)*) => {
            match rows {
                // SAFETY: the caller's contract.
                $($height => unsafe { tile::<S, $vectors, $height>(simd, depth, a, b, c, accumulate) },)*
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
/// As [`multiply_panel`].
#[inline(always)]
#[allow(unsafe_code)] // see `multiply_panel`
unsafe fn tile<S: Simd, const VECTORS: usize, const ROWS: usize>(
    simd: S,
    depth: usize,
    a: Strided,
    (b, b_row): (*const f32, usize),
    (c, c_row): (*mut f32, usize),
    accumulate: bool,
) {
    let zero = simd.splat_f32s(0.0);
    let mut sums = [[zero; VECTORS]; ROWS];
    let mut b_at = b;
    for segment in 0..a.segments {
        let mut a_at = a.start.wrapping_add(segment * a.segment);
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
                            sums[row][vector] =
                                multiply_add(simd, factors[row], vectors[vector], sums[row][vector]);
                        }
                    }
                } else {
                    for vector in 0..VECTORS {
                        vectors[vector] = load(simd, b_at.add(vector * S::F32_LANES));
                    }
                    for row in 0..ROWS {
                        factors[row] = simd.splat_f32s(*a_at.add(row * a.row));
                        for vector in 0..VECTORS {
                            sums[row][vector] =
                                multiply_add(simd, factors[row], vectors[vector], sums[row][vector]);
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
                let at = c.add(row * c_row + vector * S::F32_LANES);
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
