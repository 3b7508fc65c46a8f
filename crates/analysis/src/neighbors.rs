//! Exact nearest neighbours by inner product, and the vote of the nearest.
//!
//! The similarity of two points is the inner product of their rows: the cosine, where rows have unit length. The search is
//! exhaustive: similarities are computed block by block as f32 matrix products and the best k are kept on the way, so the memory
//! does not grow with (queries x index). Blocks are fixed, so values and order are the same for any number of threads.

use linfa_nn::{BallTree, NearestNeighbour, distance::L2Dist};
use ndarray::{Array2, ArrayView2, Axis};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::{
    error::{Error, Result, check_lengths, check_matrix},
    products::{LEFT_BLOCK, Panels, RIGHT_BLOCK, contiguous},
};

/// Candidates beyond 2k that are gathered between two selections.
const SLACK: usize = 16;

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
/// Empty input, NaN or infinity, different dimensions, `k` of 0 or above the number of points.
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

fn check_pair(
    index: ArrayView2<'_, f32>,
    queries: ArrayView2<'_, f32>,
    k: usize,
    available: usize,
) -> Result<()> {
    check_magnitude("the index", index)?;
    check_magnitude("the queries", queries)?;
    check_lengths("a row of the index", index.ncols(), "a row of the queries", queries.ncols())?;
    if k == 0 || k > available {
        return Err(Error::NeighborCount { k, available });
    }
    Ok(())
}

/// Fails unless all values are finite and no inner product can overflow.
fn check_magnitude(what: &'static str, data: ArrayView2<'_, f32>) -> Result<()> {
    let largest = check_matrix(what, data)?;
    let limit = (f32::MAX / data.ncols() as f32).sqrt();
    if largest < limit {
        return Ok(());
    }
    Err(Error::OutOfRange {
        name: "the greatest magnitude of an embedding's values",
        value: f64::from(largest),
        rule: format!("below {limit:e} no inner product overflows"),
        remedy: "scale the rows to unit length",
    })
}

/// The `k` nearest other rows of each row of `points` (N, D) in Euclidean distance, and the squared distances in f64, both (N, k).
pub(crate) fn nearest_by_distance(
    points: ArrayView2<'_, f32>,
    k: usize,
) -> Result<(Array2<u32>, Array2<f64>)> {
    // |x - y|^2 = |x|^2 - 2 (x'y - |y|^2 / 2): the order of the brackets. Centred, little of it is lost to rounding.
    let mean = points.mapv(f64::from).mean_axis(Axis(0)).ok_or(Error::Empty { what: "the points" })?;
    let mut centred = points.to_owned();
    centred
        .rows_mut()
        .into_iter()
        .for_each(|mut row| row.zip_mut_with(&mean, |x, m| *x = (f64::from(*x) - m) as f32));
    check_pair(centred.view(), centred.view(), k, points.nrows().saturating_sub(1))?;
    let bias: Vec<f32> = centred.rows().into_iter().map(|row| -0.5 * row.dot(&row)).collect();
    let found = search(centred.view(), centred.view(), k, Some(0), Some(&bias)).indices;
    let points = points.as_standard_layout();
    let mut distances = Array2::<f64>::zeros(found.dim());
    distances.as_slice_mut().expect("standard layout").par_chunks_mut(k).enumerate().for_each(
        |(row, out)| {
            for (out, &other) in out.iter_mut().zip(found.row(row)) {
                *out = squared_distance(
                    points.row(row).to_slice().expect("standard layout"),
                    points.row(other as usize).to_slice().expect("standard layout"),
                );
            }
        },
    );
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

/// `own`: the row of the index that is query 0 itself, where queries must not find themselves. `bias` is added to the products of
/// each row of the index.
fn search(
    index: ArrayView2<'_, f32>,
    queries: ArrayView2<'_, f32>,
    k: usize,
    own: Option<usize>,
    bias: Option<&[f32]>,
) -> Neighbors {
    let (points, dims) = index.dim();
    let panels = Panels::new(&contiguous(index), dims);
    let mut indices = Array2::<u32>::zeros((queries.nrows(), k));
    let mut similarities = Array2::<f32>::zeros((queries.nrows(), k));
    contiguous(queries)
        .par_chunks(LEFT_BLOCK * dims)
        .zip(indices.as_slice_mut().expect("standard layout").par_chunks_mut(LEFT_BLOCK * k))
        .zip(similarities.as_slice_mut().expect("standard layout").par_chunks_mut(LEFT_BLOCK * k))
        .enumerate()
        .for_each(|(block, ((queries, indices), similarities))| {
            let first_query = block * LEFT_BLOCK;
            let mut best = (0..queries.len() / dims).map(|_| Best::new(k)).collect::<Vec<_>>();
            panels.multiply(queries, 0, |first, products| {
                let own = own.map(|own| own + first_query);
                pulp::Arch::new().dispatch(Offer { best: &mut best, products, first, points, own, bias });
            });
            for (query, best) in best.into_iter().enumerate() {
                for (rank, (similarity, point)) in best.sorted().enumerate() {
                    indices[query * k + rank] = point;
                    similarities[query * k + rank] = similarity;
                }
            }
        });
    Neighbors { indices, similarities }
}

/// The place of a point in a ranking, as a number that grows with it: falling similarity, then rising index.
pub(crate) fn rank_key(similarity: f32, point: usize) -> u64 {
    // The sum makes a -0 the +0 that it equals.
    let bits = (similarity + 0.0).to_bits();
    let rising = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(!rising) << 32 | point as u64
}

/// What [`rank_key`] was made of.
fn from_rank_key(key: u64) -> (f32, u32) {
    let rising = !((key >> 32) as u32);
    let bits = if rising >> 31 == 1 { rising & !(1 << 31) } else { !rising };
    (f32::from_bits(bits), key as u32)
}

/// The best k seen so far of one query.
struct Best {
    k: usize,
    /// What a newcomer must exceed. Equal similarity does not enter: points come in the order of their indices.
    threshold: f32,
    candidates: Vec<u64>,
}

impl Best {
    fn new(k: usize) -> Self {
        Self { k, threshold: f32::NEG_INFINITY, candidates: Vec::with_capacity(2 * k + SLACK) }
    }

    fn add(&mut self, similarity: f32, point: usize) {
        self.candidates.push(rank_key(similarity, point));
        if self.candidates.len() == 2 * self.k + SLACK {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        if self.candidates.len() > self.k {
            self.candidates.select_nth_unstable(self.k - 1);
            self.candidates.truncate(self.k);
            self.threshold = from_rank_key(self.candidates[self.k - 1]).0;
        }
    }

    fn sorted(mut self) -> impl Iterator<Item = (f32, u32)> {
        self.shrink();
        self.candidates.sort_unstable();
        self.candidates.into_iter().map(from_rank_key)
    }
}

/// Offers each query its products with a block of the index.
struct Offer<'a> {
    best: &'a mut [Best],
    /// A row of [`RIGHT_BLOCK`] for each query.
    products: &'a mut [f32],
    /// The first point of the block.
    first: usize,
    /// All points of the index.
    points: usize,
    /// The point that is query 0 itself.
    own: Option<usize>,
    bias: Option<&'a [f32]>,
}

impl WithSimd for Offer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = RIGHT_BLOCK.min(self.points - self.first);
        let rows = self.products.as_chunks_mut::<RIGHT_BLOCK>().0;
        for (query, (best, row)) in self.best.iter_mut().zip(rows).enumerate() {
            if let Some(bias) = self.bias {
                row.iter_mut().zip(&bias[self.first..]).for_each(|(product, bias)| *product += bias);
            }
            if let Some(own) = self.own
                && (self.first..self.first + width).contains(&(own + query))
            {
                row[own + query - self.first] = f32::NEG_INFINITY;
            }
            row[width..].fill(f32::NEG_INFINITY);
            for (place, values) in S::as_simd_f32s(row).0.iter().enumerate() {
                let exceeds = simd.less_than_f32s(simd.splat_f32s(best.threshold), *values);
                // pulp counts a mask of bits from the wrong end, so the answer says only whether there is one.
                if simd.first_true_m32s(exceeds) == S::F32_LANES {
                    continue;
                }
                for lane in place * S::F32_LANES..(place + 1) * S::F32_LANES {
                    if row[lane] > best.threshold {
                        best.add(row[lane], self.first + lane);
                    }
                }
            }
        }
    }
}

/// As [`nearest`], found by linfa's ball tree: for rows of unit length, where the Euclidean order is that of the inner product.
///
/// Of several points that tie for the last place, the tree's choice is kept.
///
/// # Errors
/// As [`nearest`].
pub fn nearest_linfa(
    index: ArrayView2<'_, f32>,
    queries: ArrayView2<'_, f32>,
    k: usize,
) -> Result<Neighbors> {
    check_pair(index, queries, k, index.nrows())?;
    let failed = |reason: String| Error::Library { library: "linfa-nn", reason };
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
    if k == 0 || k > neighbors.indices.ncols() {
        return Err(Error::NeighborCount { k, available: neighbors.indices.ncols() });
    }
    let mut votes: Vec<(u32, usize)> = Vec::with_capacity(k);
    neighbors
        .indices
        .rows()
        .into_iter()
        .map(|row| {
            votes.clear();
            for &point in row.iter().take(k) {
                let label = *index_labels.get(point as usize).ok_or(Error::LengthMismatch {
                    left: "the index of the neighbours",
                    left_len: point as usize + 1,
                    right: "the index labels",
                    right_len: index_labels.len(),
                })?;
                match votes.iter_mut().find(|(class, _)| *class == label) {
                    Some((_, count)) => *count += 1,
                    None => votes.push((label, 1)),
                }
            }
            // Classes stand in the order of their nearest neighbour, and only a greater count replaces an earlier class.
            Ok(votes.iter().fold((0, 0), |best, &vote| if vote.1 > best.1 { vote } else { best }).0)
        })
        .collect()
}
