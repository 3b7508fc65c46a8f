//! Inner products of all rows of one matrix with all rows of another, block by block, for measures over pairs of points.

use std::borrow::Cow;

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use ndarray::ArrayView2;

use crate::error::{Error, Result, check_lengths, check_matrix};

/// How far from 1 the norm of an embedding may lie.
const NORM_TOLERANCE: f64 = 1e-3;

/// Rows of the left block of a product.
pub(crate) const LEFT_BLOCK: usize = 128;
/// Rows of the right block of a product.
pub(crate) const RIGHT_BLOCK: usize = 1024;

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
            return Err(Error::OutOfRange {
                name: "the norm of an embedding",
                value: norm,
                rule: format!("it must be 1 within {NORM_TOLERANCE}"),
                remedy: "divide each row by its norm, and look for a collapsed encoder where it is 0",
            });
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

/// `products[i][j]` = left row `first_left + i` times right row `first_right + j`, as a (LEFT_BLOCK, RIGHT_BLOCK) block; rows
/// behind the last count as zero.
///
/// Every product has the same shape, hence the same kernel and order of summation: equal points have bitwise equal products
/// wherever they stand.
pub(crate) fn block_products(
    left: &[f32],
    first_left: usize,
    right: &[f32],
    first_right: usize,
    dims: usize,
    products: &mut [f32],
) {
    let left = padded(left, first_left, LEFT_BLOCK, dims);
    let right = padded(right, first_right, RIGHT_BLOCK, dims);
    matmul(
        MatMut::from_row_major_slice_mut(products, LEFT_BLOCK, RIGHT_BLOCK),
        Accum::Replace,
        MatRef::from_row_major_slice(&left, LEFT_BLOCK, dims),
        MatRef::from_row_major_slice(&right, RIGHT_BLOCK, dims).transpose(),
        1.0,
        Par::Seq,
    );
    // A -0 becomes the +0 that it equals. That this pass runs with wide registers matters more: its end clears their upper
    // halves, which the matrix product leaves in use, and with which scalar code behind it, such as `exp`, runs ten times
    // as slow.
    pulp::Arch::new().dispatch(|| products.iter_mut().for_each(|product| *product += 0.0));
}

fn padded(rows: &[f32], first: usize, count: usize, dims: usize) -> Cow<'_, [f32]> {
    let end = (first + count) * dims;
    if end <= rows.len() {
        return rows[first * dims..end].into();
    }
    let mut block = rows[first * dims..].to_vec();
    block.resize(count * dims, 0.0);
    block.into()
}

/// Calls `visit(i, j, product)` for all pairs i < j whose i lies in the left block that starts at `first_left`.
pub(crate) fn visit_pairs(
    rows: &[f32],
    first_left: usize,
    dims: usize,
    mut visit: impl FnMut(usize, usize, f32),
) {
    let count = rows.len() / dims;
    let mut products = vec![0.0_f32; LEFT_BLOCK * RIGHT_BLOCK];
    let aligned = first_left / RIGHT_BLOCK * RIGHT_BLOCK;
    for first_right in (aligned..count).step_by(RIGHT_BLOCK) {
        block_products(rows, first_left, rows, first_right, dims, &mut products);
        let end = (first_right + RIGHT_BLOCK).min(count);
        for i in first_left..(first_left + LEFT_BLOCK).min(count) {
            let row = &products[(i - first_left) * RIGHT_BLOCK..];
            for j in first_right.max(i + 1)..end {
                visit(i, j, row[j - first_right]);
            }
        }
    }
}

/// Inner product in f64, in an order of summation that does not change.
pub(crate) fn dot(row: &[f32], weights: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0_f64; LANES];
    let (rows, weight_chunks) = (row.chunks_exact(LANES), weights.chunks_exact(LANES));
    let rest: f64 =
        rows.remainder().iter().zip(weight_chunks.remainder()).map(|(x, w)| f64::from(*x) * w).sum();
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

/// Sum of the rows of each class, each row divided by its norm, (classes, D) row by row; and the number of rows of each class.
///
/// Divided in f64, so that a point's cosine with itself is 1 to all digits.
pub(crate) fn class_sums(
    rows: &[f32],
    dims: usize,
    places: &[usize],
    classes: usize,
) -> (Vec<Vec<f64>>, Vec<usize>) {
    let mut sums = vec![vec![0.0; dims]; classes];
    let mut counts = vec![0; classes];
    for (row, &class) in rows.chunks_exact(dims).zip(places) {
        let scale = 1.0 / norm(row);
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
