//! Inner products of all rows of one matrix with all rows of another, block by block, for measures over pairs of points.

use std::borrow::Cow;
use std::hint::black_box;

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use ndarray::ArrayView2;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::error::{Error, Result, check_lengths, check_matrix};

/// How far from 1 the norm of an embedding may lie.
pub(crate) const NORM_TOLERANCE: f64 = 1e-3;

/// Rows of the left block of a product: some tiles, one parallel task.
pub(crate) const LEFT_BLOCK: usize = 120;
/// Rows of the right block of a product: some panels, few enough that the products stay in the nearest caches.
pub(crate) const RIGHT_BLOCK: usize = 128;
/// Dimensions of a piece of a panel: 16 KiB where a panel is widest.
const DEPTH: usize = 128;
/// Numbers of a cache line.
const LINE: usize = 16;

/// Fails unless the matrix is (N, D) with N labels, finite, and each row has unit length.
pub(crate) fn check_embeddings(embeddings: ArrayView2<'_, f32>, labels: &[u32]) -> Result<()> {
    check_lengths("embeddings", embeddings.nrows(), "labels", labels.len())?;
    check_unit_rows(embeddings)
}

/// Fails unless the matrix is finite and each row has unit length.
pub(crate) fn check_unit_rows(embeddings: ArrayView2<'_, f32>) -> Result<()> {
    check_matrix("embeddings", embeddings)?;
    for row in embeddings.rows() {
        let norm = f64::from(row.dot(&row)).sqrt();
        if !norm.is_finite() || (norm - 1.0).abs() > NORM_TOLERANCE {
            let rule = format!("it must be 1 within {NORM_TOLERANCE}");
            let remedy = "divide each row by its norm, and look for a collapsed encoder where it is 0";
            return Err(Error::out_of_range("the norm of an embedding", norm, rule, remedy));
        }
    }
    Ok(())
}

/// The rows of a matrix one after the other; copied only if they do not lie so already.
pub(crate) fn contiguous(data: ArrayView2<'_, f32>) -> Cow<'_, [f32]> {
    match data.to_slice() {
        Some(slice) => slice.into(),
        None => data.iter().copied().collect(),
    }
}

/// A matrix (rows, D) laid out for products with all its rows: panels of two vectors of rows, dimension by dimension.
pub(crate) struct Panels {
    dims: usize,
    rows: usize,
    values: Aligned,
}

impl Panels {
    /// Lays out `rows`, one after the other.
    pub(crate) fn new(rows: &[f32], dims: usize) -> Self {
        let count = rows.len() / dims;
        let width = TileShape::of_this_machine().columns;
        let mut values = Aligned::zeros(count.next_multiple_of(width) * dims);
        let panels = values.as_mut_slice().par_chunks_mut(width * dims).zip(rows.par_chunks(width * dims));
        panels.for_each(|(panel, rows)| interleave(rows, dims, width, panel));
        Self { dims, rows: count, values }
    }

    /// Takes `origin` off every row.
    pub(crate) fn move_to(&mut self, origin: &[f32]) {
        let width = TileShape::of_this_machine().columns;
        self.values.as_mut_slice().par_chunks_mut(width * self.dims).for_each(|panel| {
            for (values, origin) in panel.chunks_exact_mut(width).zip(origin) {
                values.iter_mut().for_each(|value| *value -= origin);
            }
        });
    }

    /// Inner products of `left` (up to [`LEFT_BLOCK`] rows) with the rows from `first` on, a multiple of [`RIGHT_BLOCK`]:
    /// calls `visit(row, products)` for each block of the rows from `row` on; products of one left row are [`RIGHT_BLOCK`]
    /// apart from those of the next, and what stands behind the last row means nothing.
    ///
    /// Every product is summed dimension by dimension with one accumulator, so that equal points have bitwise equal
    /// products wherever they stand.
    pub(crate) fn multiply(&self, left: &[f32], first: usize, mut visit: impl FnMut(usize, &mut [f32])) {
        let shape = TileShape::of_this_machine();
        let count = left.len() / self.dims;
        let mut tiles = Aligned::zeros(count.next_multiple_of(shape.rows) * self.dims);
        let tile = shape.rows * self.dims;
        for (tile, rows) in tiles.as_mut_slice().chunks_exact_mut(tile).zip(left.chunks(tile)) {
            interleave(rows, self.dims, shape.rows, tile);
        }
        let mut products = Aligned::zeros(LEFT_BLOCK * RIGHT_BLOCK);
        let values = self.values.as_slice();
        let blocks = values[(first * self.dims).min(values.len())..].chunks(RIGHT_BLOCK * self.dims);
        for (block, panels) in blocks.enumerate() {
            let (tiles, products_) = (tiles.as_slice(), products.as_mut_slice());
            pulp::Arch::new().dispatch(Multiply { dims: self.dims, tiles, panels, products: products_ });
            visit(first + block * RIGHT_BLOCK, products.as_mut_slice());
        }
    }
}

/// Numbers that begin with a cache line, so that no vector of them lies across two.
struct Aligned {
    values: Vec<f32>,
    start: usize,
}

impl Aligned {
    fn zeros(count: usize) -> Self {
        let values = vec![0.0; count + LINE];
        let start = values.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Self { values, start }
    }

    fn as_slice(&self) -> &[f32] {
        &self.values[self.start..][..self.values.len() - LINE]
    }

    fn as_mut_slice(&mut self) -> &mut [f32] {
        let count = self.values.len() - LINE;
        &mut self.values[self.start..][..count]
    }
}

/// `out[d][i]` = rows\[i\]\[d\], for `width` rows; zero where there is no row.
fn interleave(rows: &[f32], dims: usize, width: usize, out: &mut [f32]) {
    // A few dimensions at a time: whole lines of memory are read, and what is written stays near.
    const DIMS: usize = 16;
    for first in (0..dims).step_by(DIMS) {
        let end = (first + DIMS).min(dims);
        for (i, row) in rows.chunks_exact(dims).enumerate() {
            for (d, &value) in (first..end).zip(&row[first..end]) {
                out[d * width + i] = value;
            }
        }
    }
}

/// The products that are summed at once in registers: rows on the left, whose numbers are broadcast, by two vectors.
#[derive(Clone, Copy)]
struct TileShape {
    rows: usize,
    columns: usize,
}

impl TileShape {
    const fn of<S: Simd>() -> Self {
        Self { rows: if S::REGISTER_COUNT >= 32 { 12 } else { 6 }, columns: 2 * S::F32_LANES }
    }

    fn of_this_machine() -> Self {
        struct Ask;
        impl WithSimd for Ask {
            type Output = TileShape;

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> TileShape {
                TileShape::of::<S>()
            }
        }
        pulp::Arch::new().dispatch(Ask)
    }
}

/// The products of all rows of interleaved tiles with all rows of panels.
struct Multiply<'a> {
    dims: usize,
    tiles: &'a [f32],
    panels: &'a [f32],
    products: &'a mut [f32],
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 { self.tile_by_tile::<S, 12>(simd) } else { self.tile_by_tile::<S, 6>(simd) }
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn tile_by_tile<S: Simd, const ROWS: usize>(self, simd: S) {
        let columns = TileShape::of::<S>().columns;
        for (place, panel) in self.panels.chunks_exact(columns * self.dims).enumerate() {
            let panel = S::as_simd_f32s(panel).0.as_chunks::<2>().0;
            // A piece of a panel stays in the nearest cache while the tiles pass by.
            for (piece, panel) in panel.chunks(DEPTH).enumerate() {
                for (tile, left) in self.tiles.chunks_exact(ROWS * self.dims).enumerate() {
                    let start = tile * ROWS * RIGHT_BLOCK + place * columns;
                    let mut sums = [[simd.splat_f32s(0.0); 2]; ROWS];
                    if piece > 0 {
                        for row in 0..ROWS {
                            let from = &self.products[start + row * RIGHT_BLOCK..][..columns];
                            sums[row].copy_from_slice(S::as_simd_f32s(from).0);
                        }
                    }
                    let left = &left.as_chunks::<ROWS>().0[piece * DEPTH..];
                    for (left, right) in left.iter().zip(panel) {
                        for row in 0..ROWS {
                            let factor = simd.splat_f32s(left[row]);
                            sums[row][0] = multiply_add(simd, factor, right[0], sums[row][0]);
                            sums[row][1] = multiply_add(simd, factor, right[1], sums[row][1]);
                        }
                    }
                    for row in 0..ROWS {
                        let to = &mut self.products[start + row * RIGHT_BLOCK..][..columns];
                        S::as_mut_simd_f32s(to).0.copy_from_slice(&sums[row]);
                    }
                }
            }
        }
    }
}

/// `a * b + c`, fused where the instructions have it (elsewhere a fused product is a call into the C library).
#[inline(always)]
fn multiply_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if cfg!(target_arch = "aarch64") || S::F32_LANES > 4 {
        simd.mul_add_f32s(a, b, c)
    } else {
        simd.add_f32s(simd.mul_f32s(a, b), c)
    }
}

/// Calls `visit(i, j, product)` for all pairs i < j of rows whose i lies in block `block` of [`LEFT_BLOCK`] rows.
pub(crate) fn visit_pairs(rows: &[f32], panels: &Panels, block: usize, mut visit: impl FnMut(usize, usize, f32)) {
    let first = block * LEFT_BLOCK;
    let left = rows.chunks(LEFT_BLOCK * panels.dims).nth(block).unwrap_or(&[]);
    panels.multiply(left, first / RIGHT_BLOCK * RIGHT_BLOCK, |first_right, products| {
        let end = (first_right + RIGHT_BLOCK).min(panels.rows);
        for (i, row) in (first..first + left.len() / panels.dims).zip(products.chunks_exact(RIGHT_BLOCK)) {
            for j in first_right.max(i + 1)..end {
                visit(i, j, row[j - first_right]);
            }
        }
    });
}

/// The place of the greatest value and the value; the first of equal ones. A NaN never wins; without any number it is place 0.
#[inline(always)]
pub(crate) fn greatest<T: Into<f64>>(values: impl IntoIterator<Item = T>) -> (usize, f64) {
    let mut best = (0, f64::NEG_INFINITY);
    for (place, value) in values.into_iter().enumerate() {
        let value = value.into();
        if value > best.1 {
            best = (place, value);
        }
    }
    best
}

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

/// Inner product in f64, term by term.
pub(crate) fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Inner product in f64, in an order of summation that does not change.
#[inline(always)]
pub(crate) fn dot(row: &[f32], weights: &[f64]) -> f64 {
    const LANES: usize = 16;
    let mut sums = [0.0_f64; LANES];
    let (rows, weight_chunks) = (row.chunks_exact(LANES), weights.chunks_exact(LANES));
    let rest: f64 = rows.remainder().iter().zip(weight_chunks.remainder()).map(|(x, w)| f64::from(*x) * w).sum();
    for (xs, ws) in rows.zip(weight_chunks) {
        for lane in 0..LANES {
            sums[lane] += f64::from(xs[lane]) * ws[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// The classes that occur, rising, and each label's place among them.
pub(crate) fn classes_of(labels: &[u32]) -> (Vec<u32>, Vec<usize>) {
    let mut classes = labels.to_vec();
    classes.sort_unstable();
    classes.dedup();
    let places = labels.iter().map(|label| classes.partition_point(|class| class < label)).collect();
    (classes, places)
}

/// Sum of the rows of each class, each row divided by its `length`, (classes, D) row by row; and the number of rows of each class.
///
/// Divided in f64, so that by [`norm`] a point's cosine with itself is 1 to all digits.
pub(crate) fn class_sums(
    rows: &[f32],
    dims: usize,
    places: &[usize],
    classes: usize,
    length: fn(&[f32]) -> f64,
) -> (Vec<Vec<f64>>, Vec<usize>) {
    let mut sums = vec![vec![0.0; dims]; classes];
    let mut counts = vec![0; classes];
    for (row, &class) in rows.chunks_exact(dims).zip(places) {
        let scale = 1.0 / length(row);
        for (sum, &value) in sums[class].iter_mut().zip(row) {
            *sum += scale * f64::from(value);
        }
        counts[class] += 1;
    }
    (sums, counts)
}

/// Euclidean norm in f64.
pub(crate) fn norm(row: &[f32]) -> f64 {
    row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All products with the instructions of `S`.
    fn products<S: Simd>(simd: S, left: &[f32], right: &[f32], dims: usize) -> Vec<f32> {
        let shape = TileShape::of::<S>();
        let lay_out = |rows: &[f32], width: usize| {
            let mut out = Aligned::zeros((rows.len() / dims).next_multiple_of(width) * dims);
            let blocks = out.as_mut_slice().chunks_exact_mut(width * dims).zip(rows.chunks(width * dims));
            blocks.for_each(|(out, rows)| interleave(rows, dims, width, out));
            out
        };
        let (tiles, panels) = (lay_out(left, shape.rows), lay_out(right, shape.columns));
        let mut products = Aligned::zeros(LEFT_BLOCK * RIGHT_BLOCK);
        let (tiles, panels) = (tiles.as_slice(), panels.as_slice());
        simd.vectorize(Multiply { dims, tiles, panels, products: products.as_mut_slice() });
        let (rows, columns) = (left.len() / dims, right.len() / dims);
        (0..rows * columns).map(|at| products.as_slice()[at / columns * RIGHT_BLOCK + at % columns]).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_products() {
        for (rows, columns, dims) in [(1, 1, 1), (13, 33, 7), (120, 128, 128), (25, 100, 300), (7, 31, 257)] {
            let wave = |count: usize, speed: f32| (0..count).map(|i| (i as f32 * speed).sin()).collect();
            let (left, right): (Vec<f32>, Vec<f32>) = (wave(rows * dims, 0.7), wave(columns * dims, 1.3));
            let mut all = vec![products(pulp::Scalar128b, &left, &right, dims)];
            #[cfg(target_arch = "x86_64")]
            {
                all.extend(pulp::x86::V3::try_new().map(|simd| products(simd, &left, &right, dims)));
                all.extend(pulp::x86::V4::try_new().map(|simd| products(simd, &left, &right, dims)));
            }
            #[cfg(target_arch = "aarch64")]
            all.extend(pulp::aarch64::Neon::try_new().map(|simd| products(simd, &left, &right, dims)));
            for found in all {
                for (at, &product) in found.iter().enumerate() {
                    let pairs = left[at / columns * dims..].iter().zip(&right[at % columns * dims..]);
                    let expected: f64 = pairs.take(dims).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                    assert!((f64::from(product) - expected).abs() < 1e-4, "{product} {expected}");
                }
            }
        }
    }

    #[test]
    fn blocks_are_visited_in_order() {
        let (rows, dims) = (RIGHT_BLOCK + 5, 3);
        let values: Vec<f32> = (0..rows * dims).map(|i| i as f32).collect();
        let panels = Panels::new(&values, dims);
        let mut seen = Vec::new();
        panels.multiply(&values[..dims], RIGHT_BLOCK, |first, products| {
            seen.push(first);
            assert_eq!(products[0], values[first * dims + 1] + 2.0 * values[first * dims + 2]);
        });
        assert_eq!(seen, [RIGHT_BLOCK]);
        let mut pairs = 0;
        for block in 0..rows.div_ceil(LEFT_BLOCK) {
            visit_pairs(&values, &panels, block, |i, j, _| pairs += usize::from(i < j && j < rows));
        }
        assert_eq!(pairs, rows * (rows - 1) / 2);
    }
}
