//! The k greatest inner products of each query with the rows of an index, block by block, exact.
//!
//! Of two ways the cheaper one is taken, as a sample of the queries tells: all products in full; or bounds of all products
//! ([`crate::bounds`]) and the full products of those pairs only that may be among the best. Lower bounds give a threshold that k
//! products certainly reach; whose upper bound falls short of it is out. Candidates are then looked at from the greatest upper bound
//! down, until none can enter any more.

use ndarray::{Array2, ArrayView2};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::{
    bounds::{Bounds, Outside, WIDTH, outside},
    neighbors::Neighbors,
    products::{LEFT_BLOCK, Panels, RIGHT_BLOCK, contiguous, multiply_add},
};

/// Candidates beyond 2k that are gathered between two selections.
const SLACK: usize = 16;
/// Pairs below which bounds are not tried: fitting them costs about as much.
const MIN_PAIRS: usize = 1 << 21;
/// Bounds pay where they leave at most this part of the index as candidates: a product by itself costs some times as much as
/// one of a block.
const MAX_CANDIDATES: f64 = 1.0 / 8.0;

/// The `k` best rows of `index` (points, D) for each row of `queries` (queries, D).
///
/// `own`: the row of the index that is query 0 itself, where queries must not find themselves. `bias` is added to the products of
/// each row of the index.
pub(crate) fn search(
    index: ArrayView2<'_, f32>,
    queries: ArrayView2<'_, f32>,
    k: usize,
    own: Option<usize>,
    bias: Option<&[f32]>,
) -> Neighbors {
    let (points, dims) = index.dim();
    let (rows, queries) = (contiguous(index), contiguous(queries));
    let index = Index { rows: &rows, points, dims, bias };
    match Bounded::where_it_pays(index, &queries, k) {
        Some(bounded) => by_blocks(&queries, dims, k, own, |queries, own| bounded.best(queries, k, own)),
        None => {
            let panels = Panels::new(&rows, dims);
            by_blocks(&queries, dims, k, own, |queries, own| index.best(&panels, queries, k, own))
        }
    }
}

/// Searches fixed blocks of queries in parallel.
fn by_blocks(
    queries: &[f32],
    dims: usize,
    k: usize,
    own: Option<usize>,
    best: impl Fn(&[f32], Option<usize>) -> Vec<Best> + Sync,
) -> Neighbors {
    let count = queries.len() / dims;
    let mut indices = Array2::<u32>::zeros((count, k));
    let mut similarities = Array2::<f32>::zeros((count, k));
    queries
        .par_chunks(LEFT_BLOCK * dims)
        .zip(indices.as_slice_mut().expect("standard layout").par_chunks_mut(LEFT_BLOCK * k))
        .zip(similarities.as_slice_mut().expect("standard layout").par_chunks_mut(LEFT_BLOCK * k))
        .enumerate()
        .for_each(|(block, ((queries, indices), similarities))| {
            let found = best(queries, own.map(|own| own + block * LEFT_BLOCK));
            let places = indices.chunks_exact_mut(k).zip(similarities.chunks_exact_mut(k));
            for (best, (indices, similarities)) in found.into_iter().zip(places) {
                for ((similarity, point), (index, value)) in
                    best.sorted().zip(indices.iter_mut().zip(similarities))
                {
                    (*index, *value) = (point, similarity);
                }
            }
        });
    Neighbors { indices, similarities }
}

/// What is searched.
#[derive(Clone, Copy)]
struct Index<'a> {
    rows: &'a [f32],
    points: usize,
    dims: usize,
    bias: Option<&'a [f32]>,
}

impl Index<'_> {
    /// The best `k` of each of up to [`LEFT_BLOCK`] queries, from all products.
    fn best(self, panels: &Panels, queries: &[f32], k: usize, own: Option<usize>) -> Vec<Best> {
        let mut best = (0..queries.len() / self.dims).map(|_| Best::new(k)).collect::<Vec<_>>();
        offer_all(&mut best, panels, queries, self, own);
        best
    }
}

/// An index with bounds of its products.
struct Bounded<'a> {
    index: Index<'a>,
    bounds: Bounds,
    /// Descriptions of the points.
    panels: Panels,
    outside: Vec<Outside>,
}

impl<'a> Bounded<'a> {
    fn where_it_pays(index: Index<'a>, queries: &[f32], k: usize) -> Option<Self> {
        let Index { points, dims, .. } = index;
        let count = queries.len() / dims;
        if points * count < MIN_PAIRS || dims < 2 * WIDTH {
            return None;
        }
        let bounded = Self::new(index);
        let sampled = LEFT_BLOCK.min(count);
        let sample = (0..sampled).flat_map(|i| &queries[i * count / sampled * dims..][..dims]);
        let candidates = bounded.candidates(&Vec::from_iter(sample.copied()), k, None);
        let left = candidates.into_iter().map(|candidates| candidates.within_reach().0.len()).sum::<usize>();
        (left as f64 <= MAX_CANDIDATES * (points * sampled) as f64).then_some(bounded)
    }

    fn new(index: Index<'a>) -> Self {
        let bounds = Bounds::fit(index.rows, index.dims);
        let descriptions = bounds.describe(index.rows);
        let panels = Panels::new(&descriptions, WIDTH);
        Self { index, bounds, panels, outside: outside(&descriptions).collect() }
    }

    /// The best `k` of each of up to [`LEFT_BLOCK`] queries.
    fn best(&self, queries: &[f32], k: usize, own: Option<usize>) -> Vec<Best> {
        let candidates = self.candidates(queries, k, own).into_iter();
        let queries = queries.chunks_exact(self.index.dims);
        let arch = pulp::Arch::new();
        candidates
            .zip(queries)
            .map(|(candidates, query)| arch.dispatch(Choose { index: self.index, query, k, candidates }))
            .collect()
    }

    fn candidates(&self, queries: &[f32], k: usize, own: Option<usize>) -> Vec<Candidates<'_>> {
        let described = self.bounds.describe(queries);
        let mut candidates: Vec<_> = outside(&described)
            .map(|query| Candidates { query, points: &self.outside, certain: Best::new(k), keys: Vec::new() })
            .collect();
        offer_all(&mut candidates, &self.panels, &described, self.index, own);
        candidates
    }
}

/// Points that may be among the best k of one query.
struct Candidates<'a> {
    query: Outside,
    points: &'a [Outside],
    /// The best k lower bounds.
    certain: Best,
    /// Rank keys of upper bounds.
    keys: Vec<u64>,
}

impl Candidates<'_> {
    /// Those whose upper bound reaches the k-th best lower bound, in their rank; and that bound.
    fn within_reach(mut self) -> (Vec<u64>, f32) {
        self.certain.shrink();
        let threshold = self.certain.threshold;
        let last = rank_key(threshold, u32::MAX as usize);
        self.keys.retain(|&key| key <= last);
        self.keys.sort_unstable();
        (self.keys, threshold)
    }
}

/// Takes the full products of a query with its candidates, best first, as long as one may still enter.
struct Choose<'a> {
    index: Index<'a>,
    query: &'a [f32],
    k: usize,
    candidates: Candidates<'a>,
}

impl WithSimd for Choose<'_> {
    type Output = Best;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Best {
        let Self { index, query, k, candidates } = self;
        let mut best = Best::new(k);
        let (keys, threshold) = candidates.within_reach();
        best.threshold = threshold;
        for key in keys {
            let (upper, point) = from_rank_key(key);
            if upper < best.threshold {
                break;
            }
            let point = point as usize;
            let product = dot(simd, query, &index.rows[point * index.dims..][..index.dims]);
            let similarity = product + index.bias.map_or(0.0, |bias| bias[point]);
            // Candidates do not come in the order of their indices, so one that ties may enter.
            if similarity >= best.threshold {
                best.take(similarity, point);
            }
        }
        best
    }
}

/// Inner product with four vectors of sums: equal rows have bitwise equal products.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let ((a, a_odd), (b, b_odd)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [simd.splat_f32s(0.0); 4];
    for (a, b) in a.iter().zip(b) {
        for i in 0..4 {
            sums[i] = multiply_add(simd, a[i], b[i], sums[i]);
        }
    }
    for ((sum, &a), &b) in sums.iter_mut().zip(a_odd).zip(b_odd) {
        *sum = multiply_add(simd, a, b, *sum);
    }
    let [s0, s1, s2, s3] = sums;
    let sum = simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(s0, s1), simd.add_f32s(s2, s3)));
    sum + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// The place of a point in a ranking, as a number that grows with it: falling similarity, then rising index.
pub(crate) fn rank_key(similarity: f32, point: usize) -> u64 {
    // The sum makes a -0 the +0 that it equals.
    let bits = (similarity + 0.0).to_bits();
    let rising = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(!rising) << 32 | point as u64
}

/// What [`rank_key`] was made of.
pub(crate) fn from_rank_key(key: u64) -> (f32, u32) {
    let rising = !((key >> 32) as u32);
    let bits = if rising >> 31 == 1 { rising & !(1 << 31) } else { !rising };
    (f32::from_bits(bits), key as u32)
}

/// Takes products of one query that exceed a threshold of its own.
trait Taker {
    /// What a newcomer must exceed.
    fn threshold(&self) -> f32;
    fn take(&mut self, product: f32, point: usize);
}

/// The best k seen so far of one query.
struct Best {
    k: usize,
    /// Equal similarity does not exceed it: points come in the order of their indices.
    threshold: f32,
    keys: Vec<u64>,
}

impl Best {
    fn new(k: usize) -> Self {
        Self { k, threshold: f32::NEG_INFINITY, keys: Vec::with_capacity(2 * k + SLACK) }
    }

    fn shrink(&mut self) {
        if self.keys.len() >= self.k {
            self.keys.select_nth_unstable(self.k - 1);
            self.keys.truncate(self.k);
            self.threshold = from_rank_key(self.keys[self.k - 1]).0;
        }
    }

    fn sorted(mut self) -> impl Iterator<Item = (f32, u32)> {
        self.shrink();
        self.keys.sort_unstable();
        self.keys.into_iter().map(from_rank_key)
    }
}

impl Taker for Best {
    #[inline(always)]
    fn threshold(&self) -> f32 {
        self.threshold
    }

    #[inline(always)]
    fn take(&mut self, similarity: f32, point: usize) {
        self.keys.push(rank_key(similarity, point));
        if self.keys.len() == 2 * self.k + SLACK {
            self.shrink();
        }
    }
}

impl Taker for Candidates<'_> {
    #[inline(always)]
    fn threshold(&self) -> f32 {
        self.certain.threshold
    }

    #[inline(always)]
    fn take(&mut self, upper: f32, point: usize) {
        self.keys.push(rank_key(upper, point));
        let lower = upper - self.query.twice(self.points[point]);
        if lower > self.certain.threshold {
            self.certain.take(lower, point);
        }
    }
}

/// Offers each of a block of queries its products with all rows of the index, as `panels` and `queries` describe them.
fn offer_all<T: Taker>(
    takers: &mut [T],
    panels: &Panels,
    queries: &[f32],
    index: Index<'_>,
    own: Option<usize>,
) {
    panels.multiply(queries, 0, |first, products| {
        pulp::Arch::new().dispatch(Offer { takers, products, first, index, own });
    });
}

/// Offers each query its products with a block of the index.
struct Offer<'a, T> {
    takers: &'a mut [T],
    /// A row of [`RIGHT_BLOCK`] for each query.
    products: &'a mut [f32],
    /// The first point of the block.
    first: usize,
    index: Index<'a>,
    /// The point that is query 0 itself.
    own: Option<usize>,
}

impl<T: Taker> WithSimd for Offer<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = RIGHT_BLOCK.min(self.index.points - self.first);
        let rows = self.products.as_chunks_mut::<RIGHT_BLOCK>().0;
        for (query, (taker, row)) in self.takers.iter_mut().zip(rows).enumerate() {
            if let Some(bias) = self.index.bias {
                row.iter_mut().zip(&bias[self.first..]).for_each(|(product, bias)| *product += bias);
            }
            if let Some(own) = self.own
                && (self.first..self.first + width).contains(&(own + query))
            {
                row[own + query - self.first] = f32::NEG_INFINITY;
            }
            row[width..].fill(f32::NEG_INFINITY);
            for (place, values) in S::as_simd_f32s(row).0.iter().enumerate() {
                let exceeds = simd.less_than_f32s(simd.splat_f32s(taker.threshold()), *values);
                // pulp counts a mask of bits from the wrong end, so the answer says only whether there is one.
                if simd.first_true_m32s(exceeds) == S::F32_LANES {
                    continue;
                }
                for lane in place * S::F32_LANES..(place + 1) * S::F32_LANES {
                    if row[lane] > taker.threshold() {
                        taker.take(row[lane], self.first + lane);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Small whole numbers, whose products are exact in f32, around some centres, with copies.
    fn clusters(count: usize, dims: usize, centers: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let centers = Vec::from_iter((0..centers * dims).map(|_| f32::from(rng.random_range(-3_i8..=3))));
        let mut rows = Vec::with_capacity(count * dims);
        for _ in 0..count {
            let center = rng.random_range(0..centers.len() / dims) * dims;
            rows.extend_from_slice(&centers[center..][..dims]);
            for _ in 0..rng.random_range(0..8) {
                let place = rows.len() - 1 - rng.random_range(0..dims);
                rows[place] += 1.0;
            }
        }
        rows
    }

    #[test]
    fn bounds_leave_what_all_products_leave() {
        let dims = 131;
        for (points, centers, k) in [(900, 10, 20), (900, 900, 5), (257, 3, 257), (1, 1, 1)] {
            let (rows, queries) = (clusters(points, dims, centers, 1), clusters(150, dims, centers, 1));
            let bias = Vec::from_iter((0..points).map(|i| (i % 5) as f32 - 2.0));
            for bias in [None, Some(&bias[..])] {
                let index = Index { rows: &rows, points, dims, bias };
                let bounded = Bounded::new(index);
                let panels = Panels::new(&rows, dims);
                for (queries, own) in [(&queries, None), (&rows, Some(0))] {
                    let k = k.min(points - usize::from(own.is_some()));
                    if k == 0 {
                        continue;
                    }
                    let from_bounds =
                        by_blocks(queries, dims, k, own, |rows, own| bounded.best(rows, k, own));
                    let from_all =
                        by_blocks(queries, dims, k, own, |rows, own| index.best(&panels, rows, k, own));
                    assert_eq!(from_bounds, from_all, "{points} {centers} {k} {own:?}");
                }
            }
        }
    }

    #[test]
    fn bounds_are_taken_where_points_lie_close_together() {
        let dims = 131;
        let few = clusters(3_000, dims, 10, 1);
        let index = Index { rows: &few, points: 3_000, dims, bias: None };
        assert!(Bounded::where_it_pays(index, &few, 20).is_some());
        assert!(Bounded::where_it_pays(index, &few[..10 * dims], 20).is_none(), "few queries");
        assert!(Bounded::where_it_pays(index, &few, 1_000).is_none(), "many neighbours");
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let many = Vec::from_iter((0..3_000 * dims).map(|_| rng.random_range(-1.0_f32..1.0)));
        let index = Index { rows: &many, ..index };
        assert!(Bounded::where_it_pays(index, &many, 20).is_none(), "no subspace of few dimensions");
    }
}
