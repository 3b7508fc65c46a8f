//! Inner products of unit rows in f32 with a proven bound of their error, for measures that ask for the order of products: what the
//! bound leaves open is settled by products in f64.
//!
//! With m any point, x'y = (x - m)'(y - m) + m'(x - m) + m'(y - m) + m'm. Where embeddings crowd around one direction, m is their mean:
//! the product in f32 is then as small as their scatter, and its rounding likewise; the other terms are numbers of one row, in f64.
//! Elsewhere m is 0.

use std::borrow::Cow;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::{
    bounds::rounding,
    products::{LEFT_BLOCK, Panels, RIGHT_BLOCK, dot, norm},
};

/// The mean of unit rows must hold this part of their mean square for m to be the mean.
const CROWDED: f64 = 0.5;

/// Rows of unit length, laid out for products.
pub(crate) struct Centered<'a> {
    rows: &'a [f32],
    dims: usize,
    panels: Panels,
    /// m; `None` for 0.
    origin: Option<Vec<f32>>,
    /// m'(y - m) of each row y.
    along: Vec<f64>,
    /// The same in f32.
    along_f32: Vec<f32>,
    /// The greatest of them in size.
    farthest_along: f32,
    /// m'm.
    square: f64,
    /// The greatest |y - m|.
    longest: f64,
}

impl<'a> Centered<'a> {
    /// Of rows one after the other.
    pub(crate) fn new(rows: &'a [f32], dims: usize) -> Self {
        let count = rows.len() / dims;
        let mut mean = vec![0.0_f64; dims];
        for row in rows.chunks_exact(dims) {
            mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let origin = Vec::from_iter(mean.iter().map(|&sum| (sum / count as f64) as f32));
        let origin = Some(origin).filter(|mean| norm(mean).powi(2) > CROWDED);
        let mut panels = Panels::new(rows, dims);
        if let Some(origin) = &origin {
            panels.move_to(origin);
        }
        let square = origin.as_ref().map_or(0.0, |origin| norm(origin).powi(2));
        let wide = origin.as_ref().map(|origin| Vec::from_iter(origin.iter().map(|&x| f64::from(x))));
        let of_row = |row: &[f32]| wide.as_ref().map_or(0.0, |origin| dot(row, origin) - square);
        let along: Vec<f64> = rows.par_chunks_exact(dims).map(of_row).collect();
        let along_f32 = Vec::from_iter(along.iter().map(|&along| along as f32));
        let farthest_along = along_f32.iter().fold(0.0_f32, |most, along| most.max(along.abs()));
        let mut centered = Self { rows, dims, panels, origin, along, along_f32, farthest_along, square, longest: 0.0 };
        let lengths = rows.par_chunks_exact(dims).map(|row| norm(&centered.moved(row)));
        centered.longest = lengths.reduce(|| 0.0, f64::max);
        centered
    }

    /// Rows less m.
    fn moved<'r>(&self, rows: &'r [f32]) -> Cow<'r, [f32]> {
        let Some(origin) = &self.origin else { return rows.into() };
        rows.chunks_exact(self.dims).flat_map(|row| row.iter().zip(origin).map(|(x, m)| x - m)).collect()
    }

    /// The inner product in f64 of a row with another one, as the search of neighbours has it.
    pub(crate) fn exact(&self, row: usize, other: &[f64]) -> f64 {
        pulp::Arch::new().dispatch(Exact(&self.rows[row * self.dims..][..self.dims], other))
    }

    /// How far products of a row, at this distance from m, can lie from those of [`Self::exact`]: rounding in f32, and in f64.
    fn margin(&self, distance: f64) -> f64 {
        rounding(self.dims) * distance * self.longest + 4.0 * self.dims as f64 * f64::EPSILON
    }

    /// The least and the greatest product that rows can have with each other, and the [`Self::margin`] of all of them.
    pub(crate) fn range(&self) -> (f64, f64, f64) {
        let extreme = |pick: fn(f64, f64) -> f64, start| self.along.iter().copied().fold(start, pick);
        let (least, most) = (extreme(f64::min, f64::INFINITY), extreme(f64::max, f64::NEG_INFINITY));
        let scatter = self.longest * self.longest;
        (self.square + 2.0 * least - scatter, self.square + 2.0 * most + scatter, self.margin(self.longest))
    }

    /// Up to [`LEFT_BLOCK`] queries: calls `visit(row, products)` as [`Panels::multiply`] does, the products less a number for each
    /// query. How far those of each query can lie from the ones in f64, less that number.
    pub(crate) fn multiply(&self, queries: &[f32], mut visit: impl FnMut(usize, &mut [f32])) -> Vec<f64> {
        let moved = self.moved(queries);
        self.panels.multiply(&moved, 0, |first, products| {
            if self.origin.is_some() {
                let along = &self.along_f32[first..];
                let rows = products.chunks_exact_mut(RIGHT_BLOCK);
                rows.for_each(|row| row.iter_mut().zip(along).for_each(|(product, along)| *product += along));
            }
            visit(first, products);
        });
        let of_sum = f64::from(f32::EPSILON * self.farthest_along);
        moved.chunks_exact(self.dims).map(|row| self.margin(norm(row)) + of_sum).collect()
    }

    /// Blocks of rows, for [`Self::visit_pairs`].
    pub(crate) fn blocks(&self) -> usize {
        self.along.len().div_ceil(LEFT_BLOCK)
    }

    /// [`Self::visit_pairs`] of all blocks, on all threads: in no order.
    pub(crate) fn for_pairs(&self, visit: impl Fn(usize, usize, f64) + Sync) {
        (0..self.blocks()).into_par_iter().for_each(|block| self.visit_pairs(block, &visit));
    }

    /// Calls `visit(i, j, product)` for all pairs i < j of rows whose i lies in block `block`; pairs of equal rows have equal products,
    /// whichever stands first.
    pub(crate) fn visit_pairs(&self, block: usize, mut visit: impl FnMut(usize, usize, f64)) {
        let first = block * LEFT_BLOCK;
        let left = self.rows.chunks(LEFT_BLOCK * self.dims).nth(block).unwrap_or(&[]);
        let left = self.moved(left);
        self.panels.multiply(&left, first / RIGHT_BLOCK * RIGHT_BLOCK, |first_right, products| {
            let end = (first_right + RIGHT_BLOCK).min(self.along.len());
            for (i, row) in (first..first + left.len() / self.dims).zip(products.chunks_exact(RIGHT_BLOCK)) {
                for j in first_right.max(i + 1)..end {
                    let along = self.along[i] + self.along[j] + self.square;
                    visit(i, j, f64::from(row[j - first_right]) + along);
                }
            }
        });
    }
}

/// [`dot`] with the instructions of this machine; its value is the same with all.
struct Exact<'a>(&'a [f32], &'a [f64]);

impl WithSimd for Exact<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        dot(self.0, self.1)
    }
}
