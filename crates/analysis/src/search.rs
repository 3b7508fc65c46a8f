//! The k greatest inner products of each query with the rows of an index, exact: ranked by products in f64.
//!
//! Products in f32 of blocks of rows say which pairs may be among the best, since what they miss has a bound: their rounding, and,
//! where rows are described by few numbers ([`crate::bounds`]), what these leave out. Lower bounds give a threshold that k products
//! certainly reach; whose upper bound falls short of it is out. Candidates are then looked at in f64 from the greatest upper bound
//! down, until none can enter any more. So neighbours depend neither on the way nor on the instructions by which they are found.

use std::borrow::Cow;

use ndarray::{Array2, ArrayView2};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::{
    bounds::{Bounds, Outside, WIDTH, rounding},
    neighbors::Neighbors,
    products::{LEFT_BLOCK, Panels, RIGHT_BLOCK, contiguous, dot, norm},
};

/// Candidates beyond 2k that are gathered between two selections.
const SLACK: usize = 16;
/// Pairs below which descriptions are not tried: fitting them costs about as much.
const MIN_PAIRS: usize = 1 << 21;
/// Descriptions pay where they leave at most this part of the index as candidates: a product by itself costs some times as much
/// as one of a block.
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
    let (rows, queries) = (contiguous(index), contiguous(queries));
    let index = Index { rows: &rows, points: index.nrows(), dims: index.ncols(), bias };
    let screen = Screen::by_descriptions(index, &queries, k).unwrap_or_else(|| Screen::in_full(index, &queries));
    screen.search(&queries, k, own)
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
    /// What the sum of a product and a bias may miss.
    fn rounding_of_bias(self) -> f32 {
        f32::EPSILON * self.bias.unwrap_or(&[]).iter().fold(0.0_f32, |most, bias| most.max(bias.abs()))
    }
}

/// Finds candidates by products in f32: of descriptions, or of whole rows.
struct Screen<'a> {
    index: Index<'a>,
    /// The points' descriptions or rows.
    panels: Panels,
    descriptions: Option<(Bounds, Vec<Outside>)>,
    /// What the products may miss besides that which lies outside the descriptions.
    margin: f32,
}

impl<'a> Screen<'a> {
    /// By products of descriptions, where a sample of the queries says that it is cheaper.
    fn by_descriptions(index: Index<'a>, queries: &[f32], k: usize) -> Option<Self> {
        let Index { points, dims, .. } = index;
        let count = queries.len() / dims;
        if points * count < MIN_PAIRS || dims < 2 * WIDTH {
            return None;
        }
        let screen = Self::described(index);
        let sampled = LEFT_BLOCK.min(count);
        let sample = (0..sampled).flat_map(|i| &queries[i * count / sampled * dims..][..dims]);
        let candidates = screen.candidates(&Vec::from_iter(sample.copied()), k, None);
        let left = candidates.into_iter().map(|candidates| candidates.within_reach().0.len()).sum::<usize>();
        (left as f64 <= MAX_CANDIDATES * (points * sampled) as f64).then_some(screen)
    }

    fn described(index: Index<'a>) -> Self {
        let bounds = Bounds::fit(index.rows, index.dims);
        let descriptions = bounds.describe(index.rows);
        let panels = Panels::new(&descriptions, WIDTH);
        let outside = descriptions.chunks_exact(WIDTH).map(Outside::of).collect();
        Self { index, panels, descriptions: Some((bounds, outside)), margin: index.rounding_of_bias() }
    }

    /// By products of whole rows.
    fn in_full(index: Index<'a>, queries: &[f32]) -> Self {
        let longest = |rows: &[f32]| rows.chunks_exact(index.dims).map(norm).fold(0.0, f64::max);
        let margin = rounding(index.dims) * longest(index.rows) * longest(queries);
        let panels = Panels::new(index.rows, index.dims);
        Self { index, panels, descriptions: None, margin: margin as f32 + index.rounding_of_bias() }
    }

    /// Searches fixed blocks of queries in parallel.
    fn search(&self, queries: &[f32], k: usize, own: Option<usize>) -> Neighbors {
        let dims = self.index.dims;
        let count = queries.len() / dims;
        let mut indices = Array2::<u32>::zeros((count, k));
        let mut similarities = Array2::<f32>::zeros((count, k));
        queries
            .par_chunks(LEFT_BLOCK * dims)
            .zip(indices.as_slice_mut().expect("standard layout").par_chunks_mut(LEFT_BLOCK * k))
            .zip(similarities.as_slice_mut().expect("standard layout").par_chunks_mut(LEFT_BLOCK * k))
            .enumerate()
            .for_each(|(block, ((queries, indices), similarities))| {
                let candidates = self.candidates(queries, k, own.map(|own| own + block * LEFT_BLOCK));
                let places = indices.chunks_exact_mut(k).zip(similarities.chunks_exact_mut(k));
                for ((candidates, query), (indices, similarities)) in
                    candidates.into_iter().zip(queries.chunks_exact(dims)).zip(places)
                {
                    let index = self.index;
                    let best = pulp::Arch::new().dispatch(Choose { index, query, k, candidates });
                    for ((similarity, point), (at, value)) in best.sorted().zip(indices.iter_mut().zip(similarities)) {
                        (*at, *value) = (point, similarity as f32);
                    }
                }
            });
        Neighbors { indices, similarities }
    }

    /// Candidates of up to [`LEFT_BLOCK`] queries.
    fn candidates(&self, queries: &[f32], k: usize, own: Option<usize>) -> Vec<Candidates<'_>> {
        let described: Cow<'_, [f32]> = match &self.descriptions {
            Some((bounds, _)) => bounds.describe(queries).into(),
            None => queries.into(),
        };
        let outside = |query: usize| {
            let (_, points) = self.descriptions.as_ref()?;
            Some((Outside::of(&described[query * WIDTH..][..WIDTH]), points.as_slice()))
        };
        let new = |query| Candidates {
            outside: outside(query),
            margin: self.margin,
            certain: Best::new(k),
            threshold: f32::NEG_INFINITY,
            keys: Vec::new(),
        };
        let mut candidates: Vec<_> = (0..queries.len() / self.index.dims).map(new).collect();
        self.panels.multiply(&described, 0, |first, products| {
            let candidates = &mut candidates;
            pulp::Arch::new().dispatch(Offer { candidates, products, first, index: self.index, own });
        });
        candidates
    }
}

/// Points that may be among the best k of one query.
struct Candidates<'a> {
    /// What lies outside the descriptions of the query and of the points.
    outside: Option<(Outside, &'a [Outside])>,
    margin: f32,
    /// The best k lower bounds.
    certain: Best,
    /// What a product must exceed to be a candidate's.
    threshold: f32,
    /// Rank keys of upper bounds.
    keys: Vec<u64>,
}

impl Candidates<'_> {
    #[inline(always)]
    fn take(&mut self, product: f32, point: usize) {
        let upper = product + self.margin;
        self.keys.push(rank_key(upper, point));
        let outside = self.outside.map_or(0.0, |(query, points)| query.twice(points[point]));
        let lower = f64::from(upper - 2.0 * self.margin - outside);
        if lower > self.certain.threshold {
            self.certain.take(lower, point);
            self.threshold = self.certain.threshold as f32 - self.margin;
        }
    }

    /// Those whose upper bound reaches the k-th best lower bound, in their rank; and that bound.
    fn within_reach(mut self) -> (Vec<u64>, f64) {
        self.certain.shrink();
        let threshold = self.certain.threshold;
        let last = rank_key(threshold as f32, u32::MAX as usize);
        self.keys.retain(|&key| key <= last);
        self.keys.sort_unstable();
        (self.keys, threshold)
    }
}

/// Takes the products of a query with its candidates in f64, as long as one may still enter.
struct Choose<'a> {
    index: Index<'a>,
    query: &'a [f32],
    k: usize,
    candidates: Candidates<'a>,
}

impl WithSimd for Choose<'_> {
    type Output = Best;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Best {
        let Self { index, query, k, candidates } = self;
        let query = Vec::from_iter(query.iter().map(|&x| f64::from(x)));
        let mut best = Best::new(k);
        let (keys, threshold) = candidates.within_reach();
        best.threshold = threshold;
        for key in keys {
            let (upper, point) = from_rank_key(key);
            if f64::from(upper) < best.threshold {
                break;
            }
            let point = point as usize;
            let product = dot(&index.rows[point * index.dims..][..index.dims], &query);
            let similarity = product + index.bias.map_or(0.0, |bias| f64::from(bias[point]));
            if similarity >= best.threshold {
                best.take(similarity, point);
            }
        }
        best
    }
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

/// [`rank_key`] of a similarity in f64.
#[inline(always)]
pub(crate) fn exact_key(similarity: f64, point: usize) -> u128 {
    let bits = (similarity + 0.0).to_bits();
    let rising = if bits >> 63 == 0 { bits | 1 << 63 } else { !bits };
    u128::from(!rising) << 32 | point as u128
}

/// The best k seen so far.
struct Best {
    k: usize,
    /// What k of them reach.
    threshold: f64,
    /// Their [`exact_key`]s.
    keys: Vec<u128>,
}

impl Best {
    fn new(k: usize) -> Self {
        Self { k, threshold: f64::NEG_INFINITY, keys: Vec::with_capacity(2 * k + SLACK) }
    }

    #[inline(always)]
    fn take(&mut self, similarity: f64, point: usize) {
        self.keys.push(exact_key(similarity, point));
        if self.keys.len() == 2 * self.k + SLACK {
            self.shrink();
        }
    }

    fn similarity(key: u128) -> f64 {
        let rising = !((key >> 32) as u64);
        f64::from_bits(if rising >> 63 == 1 { rising & !(1 << 63) } else { !rising })
    }

    fn shrink(&mut self) {
        if self.keys.len() >= self.k {
            self.keys.select_nth_unstable(self.k - 1);
            self.keys.truncate(self.k);
            self.threshold = Self::similarity(self.keys[self.k - 1]);
        }
    }

    fn sorted(mut self) -> impl Iterator<Item = (f64, u32)> {
        self.shrink();
        self.keys.sort_unstable();
        self.keys.into_iter().map(|key| (Self::similarity(key), key as u32))
    }
}

/// Offers each query its products with a block of the index.
struct Offer<'a, 'b> {
    candidates: &'a mut [Candidates<'b>],
    /// A row of [`RIGHT_BLOCK`] for each query.
    products: &'a mut [f32],
    /// The first point of the block.
    first: usize,
    index: Index<'a>,
    /// The point that is query 0 itself.
    own: Option<usize>,
}

impl WithSimd for Offer<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = RIGHT_BLOCK.min(self.index.points - self.first);
        let rows = self.products.as_chunks_mut::<RIGHT_BLOCK>().0;
        for (query, (candidates, row)) in self.candidates.iter_mut().zip(rows).enumerate() {
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
                let exceeds = simd.less_than_f32s(simd.splat_f32s(candidates.threshold), *values);
                // pulp counts a mask of bits from the wrong end, so the answer says only whether there is one.
                if simd.first_true_m32s(exceeds) == S::F32_LANES {
                    continue;
                }
                for lane in place * S::F32_LANES..(place + 1) * S::F32_LANES {
                    if row[lane] > candidates.threshold {
                        candidates.take(row[lane], self.first + lane);
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

    /// Small whole numbers around some centers, with copies.
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
    fn descriptions_leave_what_products_in_full_leave() {
        let dims = 131;
        for (points, centers, k) in [(900, 10, 20), (900, 900, 5), (257, 3, 257), (1, 1, 1)] {
            let (mut rows, mut queries) = (clusters(points, dims, centers, 1), clusters(150, dims, centers, 1));
            if points == 900 {
                // Products that are not exact in f32.
                rows.iter_mut().chain(&mut queries).for_each(|x| *x = (0.1 * *x).exp());
            }
            let bias = Vec::from_iter((0..points).map(|i| (i % 5) as f32 - 2.0));
            for bias in [None, Some(&bias[..])] {
                let index = Index { rows: &rows, points, dims, bias };
                for (queries, own) in [(&queries, None), (&rows, Some(0))] {
                    let k = k.min(points - usize::from(own.is_some()));
                    if k > 0 {
                        let described = Screen::described(index).search(queries, k, own);
                        let in_full = Screen::in_full(index, queries).search(queries, k, own);
                        assert_eq!(described, in_full, "{points} {centers} {k} {own:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn descriptions_are_taken_where_points_lie_close_together() {
        let dims = 131;
        let few = clusters(3_000, dims, 10, 1);
        let index = Index { rows: &few, points: 3_000, dims, bias: None };
        assert!(Screen::by_descriptions(index, &few, 20).is_some());
        assert!(Screen::by_descriptions(index, &few[..10 * dims], 20).is_none(), "few queries");
        assert!(Screen::by_descriptions(index, &few, 1_000).is_none(), "many neighbours");
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let many = Vec::from_iter((0..3_000 * dims).map(|_| rng.random_range(-1.0_f32..1.0)));
        let index = Index { rows: &many, ..index };
        assert!(Screen::by_descriptions(index, &many, 20).is_none(), "no subspace of few dimensions");
    }
}
