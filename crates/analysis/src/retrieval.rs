//! Retrieval: how well the nearest points share a query's class.
//!
//! Every query ranks the whole index by falling cosine, in f64 as [`crate::neighbors`] does; equal cosines stand in the order of their
//! index rows. Only a query whose class the index holds (apart from the query itself) is counted; the others are left out, as in
//! pytorch-metric-learning's `AccuracyCalculator` ([`with_classmate`]). With R the number of items of the query's class in the index (minus itself), and `hit(i)` = 1 if the
//! item at rank i has the query's class:
//!
//! | measure | of one query; the mean over queries is reported |
//! |---|---|
//! | precision@1 | hit(1) |
//! | recall@k | 1 if any of hit(1) .. hit(k), else 0 (the field's "recall at k", a hit rate; Jégou et al., PAMI 2011) |
//! | R-precision | (hit(1) + .. + hit(R)) / R |
//! | MAP@R | (1/R) sum over i <= R of hit(i) (hit(1) + .. + hit(i)) / i |
//! | reciprocal rank | 1 / (the smallest i with hit(i) = 1), over the whole ranking |
//!
//! R-precision and MAP@R: Musgrave et al., "A Metric Learning Reality Check", arXiv:2003.08505.
//!
//! ```
//! use faceoff_analysis::retrieval::retrieval_leave_one_out;
//!
//! let points = ndarray::array![[1.0_f32, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0]];
//! let found = retrieval_leave_one_out(points.view(), &[0, 0, 1, 1])?;
//! // The two in the middle are nearest to each other, and of different classes.
//! assert_eq!(found.recall_at, [0.5, 1.0, 1.0, 1.0]);
//! # Ok::<(), faceoff_analysis::Error>(())
//! ```

use std::collections::BTreeMap;

use ndarray::ArrayView2;
use rayon::prelude::*;

use crate::centered::Centered;
use crate::error::{Error, Result, check_count, check_finite, check_lengths, check_positive};
use crate::neighbors::{Neighbors, poll};
use crate::products::{LEFT_BLOCK, RIGHT_BLOCK, check_embeddings, contiguous};
use crate::search::{exact_key, from_rank_key, rank_key};

/// The k of [`Retrieval::recall_at`].
pub const RECALL_AT: [usize; 4] = [1, 2, 4, 8];

/// Means over the queries, all in [0, 1]; definitions at the head of this module.
#[derive(Debug, Clone, PartialEq)]
pub struct Retrieval {
    /// Queries counted.
    pub queries: usize,
    /// Queries without an item of their class in the index, not counted.
    pub left_out: usize,
    /// Fraction of queries with a hit among the first 1, 2, 4 and 8 items ([`RECALL_AT`]); the first is precision@1.
    pub recall_at: [f64; 4],
    /// Mean R-precision.
    pub r_precision: f64,
    /// Mean average precision at R.
    pub map_at_r: f64,
    /// Mean reciprocal rank of the first hit.
    pub mean_reciprocal_rank: f64,
}

/// Retrieval of `queries` (Q, D) from `index` (N, D), rows of unit length.
///
/// # Errors
/// No query with an item of its class.
pub fn retrieval(
    index: ArrayView2<'_, f32>,
    index_labels: &[u32],
    queries: ArrayView2<'_, f32>,
    query_labels: &[u32],
) -> Result<Retrieval> {
    check_embeddings(index, index_labels)?;
    check_embeddings(queries, query_labels)?;
    check_lengths("a row of the index", index.ncols(), "a row of the queries", queries.ncols())?;
    rank_all(index, index_labels, queries, query_labels, false)
}

/// Retrieval of each row of `points` (N, D) from all other rows: leave-one-out.
/// Fails as [`retrieval`] does.
pub fn retrieval_leave_one_out(points: ArrayView2<'_, f32>, labels: &[u32]) -> Result<Retrieval> {
    check_embeddings(points, labels)?;
    rank_all(points, labels, points, labels, true)
}

/// What one query contributes: recall at each of [`RECALL_AT`], R-precision, average precision at R, reciprocal rank.
type Ranking = [f64; 7];

fn rank_all(
    index: ArrayView2<'_, f32>,
    index_labels: &[u32],
    queries: ArrayView2<'_, f32>,
    query_labels: &[u32],
    leave_one_out: bool,
) -> Result<Retrieval> {
    let dims = index.ncols();
    let (rows, queries) = (contiguous(index), contiguous(queries));
    let width = index_labels.len().next_multiple_of(RIGHT_BLOCK);
    let index = Centered::new(&rows, dims);
    let rankings: Vec<Option<Ranking>> = queries
        .par_chunks(LEFT_BLOCK * dims)
        .enumerate()
        .flat_map_iter(|(block, queries)| {
            let first = block * LEFT_BLOCK;
            let mut cosines = vec![0.0_f32; queries.len() / dims * width];
            let margins = index.multiply(queries, |first_point, products| {
                let rows = cosines.chunks_exact_mut(width).zip(products.chunks_exact(RIGHT_BLOCK));
                rows.for_each(|(all, row)| all[first_point..][..RIGHT_BLOCK].copy_from_slice(row));
            });
            let rank = |(query, (row, margin)): (usize, (&[f32], f64))| {
                let own = leave_one_out.then_some(first + query);
                let wide = Vec::from_iter(row.iter().map(|&x| f64::from(x)));
                let exact = |point: usize| exact_key(index.exact(point, &wide), point);
                let label = query_labels[first + query];
                rank(&cosines[query * width..], margin, exact, index_labels, label, own)
            };
            queries.chunks_exact(dims).zip(margins).enumerate().map(rank).collect::<Vec<_>>()
        })
        .collect();
    mean_of(&rankings)
}

/// The means over the queries that count.
fn mean_of(rankings: &[Option<Ranking>]) -> Result<Retrieval> {
    let queries = rankings.iter().flatten().count();
    if queries == 0 {
        let rule = "at least one query needs another point of its class in the index";
        return Err(Error::undefined("retrieval", rule, "pass index and queries that share classes"));
    }
    let mean = |at: usize| rankings.iter().flatten().map(|ranking| ranking[at]).sum::<f64>() / queries as f64;
    Ok(Retrieval {
        queries,
        left_out: rankings.len() - queries,
        recall_at: [0, 1, 2, 3].map(mean),
        r_precision: mean(4),
        map_at_r: mean(5),
        mean_reciprocal_rank: mean(6),
    })
}

/// `None` for a query without an item of its class. `cosines` lie within `margin` of the true ones, less a number that all share;
/// `exact` gives a key that grows with a point's rank.
fn rank(
    cosines: &[f32],
    margin: f64,
    exact: impl Fn(usize) -> u128,
    index_labels: &[u32],
    label: u32,
    own: Option<usize>,
) -> Option<Ranking> {
    // Of two cosines that lie farther apart than this, the greater is truly greater.
    let apart = 2.0 * margin;
    let mut keys = Vec::with_capacity(index_labels.len());
    let others = (0..index_labels.len()).filter(|&point| own != Some(point));
    keys.extend(others.map(|point| rank_key(cosines[point], point)));
    let cosine = |key: u64| f64::from(from_rank_key(key).0);
    let point = |key: u64| from_rank_key(key).1 as usize;
    let is_hit = |key: u64| index_labels[point(key)] == label;
    let lowest = |cosine: f64| rank_key(((cosine - apart) as f32).next_down(), u32::MAX as usize);
    let same_class = keys.iter().filter(|&&key| is_hit(key)).count();
    let (_, &mut last, _) = keys.select_nth_unstable(same_class.checked_sub(1)?);
    // All that can be among the first R, in order as far as it matters where hits and misses stand.
    let last = lowest(cosine(last));
    let mut top = Vec::from_iter(keys.iter().copied().filter(|&key| key <= last));
    top.sort_unstable();
    for close in top.chunk_by_mut(|&a, &b| cosine(a) - cosine(b) <= apart) {
        let hits = close.iter().filter(|&&key| is_hit(key)).count();
        if hits > 0 && hits < close.len() {
            close.sort_by_cached_key(|&key| exact(point(key)));
        }
    }
    let mut hits = 0;
    let mut precisions = 0.0;
    let mut first_hit = None;
    for (position, &key) in top[..same_class].iter().enumerate() {
        if is_hit(key) {
            hits += 1;
            precisions += f64::from(hits) / (position + 1) as f64;
            first_hit.get_or_insert(position + 1);
        }
    }
    let first_hit = first_hit.unwrap_or_else(|| {
        let nearest = keys.iter().copied().filter(|&key| is_hit(key)).min().map_or(f64::NAN, cosine);
        let close = || keys.iter().copied().filter(|&key| (cosine(key) - nearest).abs() <= apart);
        let first = close().filter(|&key| is_hit(key)).map(|key| exact(point(key))).min().unwrap_or(u128::MAX);
        let surely = keys.iter().filter(|&&key| cosine(key) - nearest > apart).count();
        1 + surely + close().filter(|&key| !is_hit(key) && exact(point(key)) < first).count()
    });
    let [r1, r2, r4, r8] = RECALL_AT.map(|k| f64::from(u8::from(first_hit <= k)));
    let size = same_class as f64;
    Some([r1, r2, r4, r8, f64::from(hits) / size, precisions / size, 1.0 / first_hit as f64])
}

/// The queries, rising, whose class the index holds: the others cannot be answered, and no measure by neighbours, class means or a
/// probe counts them. Without labels of an index, each query is compared with all others.
pub fn with_classmate(index_labels: Option<&[u32]>, query_labels: &[u32]) -> Vec<usize> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    index_labels.unwrap_or(query_labels).iter().for_each(|&label| *counts.entry(label).or_default() += 1);
    let least = if index_labels.is_some() { 1 } else { 2 };
    let has = |query: &usize| counts.get(&query_labels[*query]).is_some_and(|&count| count >= least);
    (0..query_labels.len()).filter(has).collect()
}

/// How the neighbours of a query are counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Vote {
    /// Each neighbour counts one.
    Majority,
    /// A neighbour with cosine c counts exp(c / temperature), as in instance discrimination (Wu et al., arXiv:1805.01978,
    /// temperature 0.07).
    Softmax {
        /// Above zero; the smaller, the more the nearest neighbours decide.
        temperature: f64,
    },
}

/// KNN accuracy for k = 1, 2, .. K, the number of neighbours found: element k - 1 is the fraction of queries whose k nearest
/// neighbours vote for the query's own class. Ties go to the class of the nearest neighbour among the tied.
///
/// # Errors
/// No neighbours, one without a label, a temperature that is not above zero.
pub fn knn_accuracy_curve(
    neighbors: &Neighbors,
    index_labels: &[u32],
    query_labels: &[u32],
    vote: Vote,
) -> Result<Vec<f64>> {
    let (queries, depth) = neighbors.indices.dim();
    check_lengths("neighbours", queries, "query labels", query_labels.len())?;
    check_count("the number of neighbours", depth, 1..=usize::MAX, "search for some")?;
    if let Vote::Softmax { temperature } = vote {
        check_positive("temperature", temperature, "0.07 is customary")?;
    }
    check_finite("similarities", neighbors.similarities.view())?;
    let similarities = neighbors.similarities.mapv(f64::from);
    let mut right = vec![0_usize; depth];
    let weight = |at: [usize; 2]| match vote {
        Vote::Majority => 1.0,
        // Relative to the nearest, so that no weight overflows.
        Vote::Softmax { temperature } => ((similarities[at] - similarities[[at[0], 0]]) / temperature).exp(),
    };
    poll(neighbors, index_labels, depth, weight, |query, rank, class| {
        right[rank] += usize::from(class == query_labels[query]);
    })?;
    Ok(right.into_iter().map(|count| count as f64 / queries as f64).collect())
}
