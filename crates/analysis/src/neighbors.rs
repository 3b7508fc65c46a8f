//! Exact nearest neighbours by inner product, and the vote of the nearest.
//!
//! The similarity of two points is the inner product of their rows: the cosine, where rows have unit length. The search is exact,
//! and its memory does not grow with (queries x index). Blocks of work are fixed, so values and order are the same for any number of
//! threads.
//!
//! ```
//! use faceoff_analysis::neighbors::nearest_excluding_self;
//!
//! let points = ndarray::array![[1.0_f32, 0.0], [0.8, 0.6], [0.0, 1.0]];
//! let found = nearest_excluding_self(points.view(), 2)?;
//! assert_eq!(found.indices, ndarray::array![[1, 2], [0, 2], [1, 0]]);
//! # Ok::<(), faceoff_analysis::Error>(())
//! ```

use linfa_nn::{BallTree, NearestNeighbour, distance::L2Dist};
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use crate::{
    error::{Error, Result, check_count, check_lengths, check_matrix},
    products::greatest,
    search::{from_rank_key, rank_key, search},
};

/// The k nearest index points of each query, nearest first; equal similarities stand in the order of their indices.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbors {
    /// (queries, k) rows of the index.
    pub indices: Array2<u32>,
    /// (queries, k) inner products, falling along a row.
    pub similarities: Array2<f32>,
}

/// The `k` nearest rows of `index` (points, D) for each row of `queries` (queries, D).
///
/// # Errors
/// `k` of 0 or above the number of points.
pub fn nearest(index: ArrayView2<'_, f32>, queries: ArrayView2<'_, f32>, k: usize) -> Result<Neighbors> {
    check_pair(index, queries, k, index.nrows())?;
    Ok(search(index, queries, k, None, None))
}

/// The `k` nearest other rows of each row of `points` (N, D): leave-one-out.
///
/// # Errors
/// As [`nearest`], with at most N - 1 neighbours.
pub fn nearest_excluding_self(points: ArrayView2<'_, f32>, k: usize) -> Result<Neighbors> {
    check_pair(points, points, k, points.nrows().saturating_sub(1))?;
    Ok(search(points, points, k, Some(0), None))
}

fn check_pair(index: ArrayView2<'_, f32>, queries: ArrayView2<'_, f32>, k: usize, available: usize) -> Result<()> {
    check_magnitude("the index", index)?;
    check_magnitude("the queries", queries)?;
    check_lengths("a row of the index", index.ncols(), "a row of the queries", queries.ncols())?;
    check_neighbors(k, available)
}

fn check_neighbors(k: usize, available: usize) -> Result<()> {
    check_count("the number of neighbours", k, 1..=available, "lower k or pass more points")
}

/// Fails unless all values are finite and no inner product, nor a bound of one, can overflow.
fn check_magnitude(what: &'static str, data: ArrayView2<'_, f32>) -> Result<()> {
    let largest = check_matrix(what, data)?;
    let limit = (f32::MAX / 2.0 / data.ncols() as f32).sqrt();
    if largest < limit {
        return Ok(());
    }
    let name = "the greatest magnitude of an embedding's values";
    let rule = format!("below {limit:e} no inner product overflows");
    Err(Error::out_of_range(name, f64::from(largest), rule, "scale the rows to unit length"))
}

/// The `k` nearest other rows of each row of `points` (N, D) in Euclidean distance, and the squared distances in f64, both (N, k).
pub(crate) fn nearest_by_distance(points: ArrayView2<'_, f32>, k: usize) -> Result<(Array2<u32>, Array2<f64>)> {
    // |x - y|^2 = |x|^2 - 2 (x'y - |y|^2 / 2): the order of the brackets. Centered, little of it is lost to rounding.
    let mean = points.mapv(f64::from).mean_axis(Axis(0)).ok_or(Error::Empty("the points"))?;
    let mut centered = points.to_owned();
    centered.rows_mut().into_iter().for_each(|mut row| row.zip_mut_with(&mean, |x, m| *x = (f64::from(*x) - m) as f32));
    check_pair(centered.view(), centered.view(), k, points.nrows().saturating_sub(1))?;
    let bias: Vec<f32> = centered.rows().into_iter().map(|row| -0.5 * row.dot(&row)).collect();
    let found = search(centered.view(), centered.view(), k, Some(0), Some(&bias)).indices;
    let points = points.as_standard_layout();
    let row_of = |at: usize| points.row(at).to_slice().expect("standard layout");
    let mut distances = Array2::<f64>::zeros(found.dim());
    distances.as_slice_mut().expect("standard layout").par_chunks_mut(k).enumerate().for_each(|(row, out)| {
        for (out, &other) in out.iter_mut().zip(found.row(row)) {
            *out = squared_distance(row_of(row), row_of(other as usize));
        }
    });
    Ok((found, distances))
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0_f64; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            let difference = f64::from(a[lane]) - f64::from(b[lane]);
            sums[lane] += difference * difference;
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += (f64::from(*a) - f64::from(*b)).powi(2);
    }
    sums.iter().sum()
}

/// As [`nearest`], found by linfa's ball tree: for rows of unit length, where the Euclidean order is that of the inner product.
///
/// Of several points that tie for the last place, the tree's choice is kept. Fails as [`nearest`] does.
pub fn nearest_linfa(index: ArrayView2<'_, f32>, queries: ArrayView2<'_, f32>, k: usize) -> Result<Neighbors> {
    check_pair(index, queries, k, index.nrows())?;
    let failed = |reason: String| Error::Library("linfa-nn", reason);
    let tree = BallTree::new().from_batch(&index, L2Dist).map_err(|e| failed(e.to_string()))?;
    let mut indices = Array2::zeros((queries.nrows(), k));
    let mut similarities = Array2::zeros((queries.nrows(), k));
    for (row, query) in queries.rows().into_iter().enumerate() {
        let found = tree.k_nearest(query, k).map_err(|e| failed(e.to_string()))?;
        let mut found: Vec<_> = found.iter().map(|(point, at)| rank_key(point.dot(&query), *at)).collect();
        found.sort_unstable();
        for (rank, (similarity, point)) in found.into_iter().map(from_rank_key).enumerate() {
            indices[[row, rank]] = point;
            similarities[[row, rank]] = similarity;
        }
    }
    Ok(Neighbors { indices, similarities })
}

/// The class that most of the first `k` neighbours have; ties go to the class of the nearest neighbour among the tied.
///
/// # Errors
/// `k` of 0 or above the neighbours found; a neighbour without a label.
pub fn knn_predictions(neighbors: &Neighbors, index_labels: &[u32], k: usize) -> Result<Vec<u32>> {
    check_neighbors(k, neighbors.indices.ncols())?;
    let mut predicted = vec![0; neighbors.indices.nrows()];
    poll(neighbors, index_labels, k, |_| 1.0, |query, _, class| predicted[query] = class)?;
    Ok(predicted)
}

/// Lets the first `k` neighbours of each query vote, nearest first, each with the `weight` of its place, and calls
/// `lead(query, rank, class)` with the class that leads after each. Ties go to the class of the nearest neighbour among the tied.
pub(crate) fn poll(
    neighbors: &Neighbors,
    index_labels: &[u32],
    k: usize,
    weight: impl Fn([usize; 2]) -> f64,
    mut lead: impl FnMut(usize, usize, u32),
) -> Result<()> {
    let mut votes: Vec<(u32, f64)> = Vec::with_capacity(k);
    for (query, row) in neighbors.indices.rows().into_iter().enumerate() {
        votes.clear();
        for (rank, &point) in row.iter().take(k).enumerate() {
            let (point, labels) = (point as usize, index_labels.len());
            let missing = Error::LengthMismatch("the index of the neighbours", point + 1, "the index labels", labels);
            let label = *index_labels.get(point).ok_or(missing)?;
            match votes.iter_mut().find(|(class, _)| *class == label) {
                Some((_, sum)) => *sum += weight([query, rank]),
                None => votes.push((label, weight([query, rank]))),
            }
            // Classes stand in the order of their nearest neighbour.
            lead(query, rank, votes[greatest(votes.iter().map(|vote| vote.1)).0].0);
        }
    }
    Ok(())
}
