//! Upper bounds of inner products from a few coordinates, for searches that need the full products of few pairs only.
//!
//! With P the projection on a subspace, x'y = (Px)'(Py) + (x - Px)'(y - Py) <= (Px)'(Py) + |x - Px| |y - Py| (Cauchy-Schwarz). So a
//! row is described by its coordinates in the subspace and the length of what lies outside, and the inner product of two
//! descriptions is the bound. Embeddings of a trained encoder lie near a subspace of few dimensions, so the bound is tight; any
//! subspace gives a true one.
//!
//! The subspace is that of a randomised range finder with one power step (Halko, Martinsson & Tropp, arXiv:0909.4061), started from
//! rows of the data instead of random numbers.

use faer::{Accum, Mat, MatRef, Par, linalg::matmul::matmul};
use rayon::prelude::*;

use crate::products::{clear_wide_registers, rows_times};

/// Numbers that describe a row: its coordinates, the length of what lies outside the subspace, and what is added for rounding.
pub(crate) const WIDTH: usize = 64;
const COORDINATES: usize = WIDTH - 2;
/// Rows of the data that the subspace is fitted to.
const SAMPLE: usize = 1024;
/// Rows that are described at once.
const ROW_BLOCK: usize = 128;

/// An orthonormal basis of a subspace of the rows' space.
pub(crate) struct Bounds {
    dims: usize,
    /// (dims, [`COORDINATES`]).
    basis: Mat<f64>,
    /// Square root of what the bound of two rows of unit length is raised by.
    margin: f64,
}

impl Bounds {
    /// A basis for bounds between rows like these, (rows, `dims`) with more than [`WIDTH`] dimensions.
    pub(crate) fn fit(rows: &[f32], dims: usize) -> Self {
        let count = rows.len() / dims;
        let evenly = |wanted: usize| {
            let places = (0..wanted).map(move |i| i * count / wanted * dims);
            Vec::from_iter(places.flat_map(|at| &rows[at..][..dims]).map(|&x| f64::from(x)))
        };
        // Fewer rows than coordinates repeat themselves; the decomposition supplies directions for what is missing.
        let (sample, start) = (evenly(SAMPLE.min(count)), evenly(COORDINATES));
        let start = MatRef::from_row_major_slice(&start, COORDINATES, dims);
        let scores = rows_times(&sample, start.transpose());
        let rows_of = |values, columns| MatRef::from_row_major_slice(values, SAMPLE.min(count), columns);
        let mut range = Mat::zeros(dims, COORDINATES);
        let (sample, scores) = (rows_of(&sample, dims), rows_of(&scores, COORDINATES));
        matmul(range.as_mut(), Accum::Replace, sample.transpose(), scores, 1.0, Par::Seq);
        let basis = range.qr().compute_thin_Q();
        clear_wide_registers();
        Self { dims, basis, margin: rounding(WIDTH).sqrt() }
    }

    /// Descriptions of rows, [`WIDTH`] numbers each. The inner product of two, in f32 and in any order of summation, is at least
    /// the exact one of their rows; less [`Outside::twice`], it is at most that.
    pub(crate) fn describe(&self, rows: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; rows.len() / self.dims * WIDTH];
        out.par_chunks_mut(ROW_BLOCK * WIDTH).zip(rows.par_chunks(ROW_BLOCK * self.dims)).for_each(|(out, rows)| {
            let wide: Vec<f64> = rows.iter().map(|&x| f64::from(x)).collect();
            let coordinates = rows_times(&wide, self.basis.as_ref());
            let square = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>();
            for ((out, inside), row) in
                out.chunks_exact_mut(WIDTH).zip(coordinates.chunks_exact(COORDINATES)).zip(wide.chunks_exact(self.dims))
            {
                let norm = square(row);
                out.iter_mut().zip(inside).for_each(|(out, &x)| *out = x as f32);
                out[COORDINATES] = (norm - square(inside)).max(0.0).sqrt() as f32;
                out[COORDINATES + 1] = (self.margin * norm.sqrt()) as f32;
            }
        });
        out
    }
}

/// Bound of the error of an inner product of so many terms in f32, in any order of summation, relative to the product of the norms
/// (Higham, "Accuracy and Stability of Numerical Algorithms", 3.1). EPSILON is twice the unit roundoff: as much again is left for
/// what happens to the product before it is compared, and for the roundings of descriptions.
pub(crate) fn rounding(terms: usize) -> f64 {
    (terms + 16) as f64 * f64::from(f32::EPSILON)
}

/// What the subspace does not hold of a row: the last two numbers of its description.
#[derive(Clone, Copy)]
pub(crate) struct Outside {
    length: f32,
    margin: f32,
}

impl Outside {
    pub(crate) fn of(description: &[f32]) -> Self {
        Self { length: description[COORDINATES], margin: description[COORDINATES + 1] }
    }

    /// Twice the part of two rows' bound that the subspace does not hold: from the upper to the lower bound.
    #[inline(always)]
    pub(crate) fn twice(self, other: Self) -> f32 {
        2.0 * (self.length * other.length + self.margin * other.margin)
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Points near a subspace of `latent` dimensions, with noise outside.
    fn points(count: usize, dims: usize, latent: usize, noise: f32, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut numbers = |count: usize| Vec::from_iter((0..count).map(|_| rng.random_range(-1.0_f32..1.0)));
        let (directions, scores, outside) = (numbers(latent * dims), numbers(count * latent), numbers(count * dims));
        let value = |i: usize, d: usize| {
            let inside: f32 = (0..latent).map(|l| scores[i * latent + l] * directions[l * dims + d]).sum();
            inside + noise * outside[i * dims + d]
        };
        (0..count * dims).map(|at| value(at / dims, at % dims)).collect()
    }

    #[test]
    fn products_lie_between_their_bounds() {
        for (count, dims, latent, noise) in
            [(300, 130, 5, 0.0), (300, 200, 70, 0.1), (200, 512, 1, 1.0), (20, 129, 3, 0.01), (1, 128, 2, 0.0)]
        {
            for scale in [1.0, 1e-6, 1e9] {
                let rows: Vec<f32> = points(count, dims, latent, noise, 3).iter().map(|x| scale * x).collect();
                let bounds = Bounds::fit(&rows[..rows.len().div_ceil(2 * dims) * dims], dims);
                let described = bounds.describe(&rows);
                let outside = Vec::from_iter(described.chunks_exact(WIDTH).map(Outside::of));
                let mut width = 0.0_f32;
                for i in 0..count {
                    for j in 0..count {
                        let pairs = rows[i * dims..][..dims].iter().zip(&rows[j * dims..]);
                        let product: f64 = pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                        let pairs = described[i * WIDTH..][..WIDTH].iter().zip(&described[j * WIDTH..]);
                        let upper: f32 = pairs.map(|(a, b)| a * b).sum();
                        let lower = upper - outside[i].twice(outside[j]);
                        let between = f64::from(lower) <= product && product <= f64::from(upper);
                        assert!(between, "{lower} {product} {upper}");
                        width = width.max((upper - lower) / (scale * scale * dims as f32));
                    }
                }
                // Tight where the subspace holds all rows: what is left is the margin for rounding.
                assert!(noise > 0.0 || width < 1e-4, "{width}");
            }
        }
    }
}
