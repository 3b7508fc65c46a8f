//! Principal component analysis: the directions of the greatest variance, and how much of the *total* variance each explains.
//!
//! Centered data X (N x D) -> eigenpairs of X'X / (N - 1), in f64 throughout: in f32 the rounding of the first variance would
//! drown the last ones. Where N < D the smaller X X' is decomposed instead. Work is cut into fixed pieces, so the result does not
//! depend on the number of threads. Pearson (1901), doi:10.1080/14786440109462720.
//!
//! ```
//! // Points on a line through space: one component holds all the variance.
//! let points = ndarray::array![[0.0_f32, 0.0], [3.0, 4.0], [6.0, 8.0]];
//! let fitted = faceoff_analysis::pca::fit(points.view(), 2)?;
//! assert!((fitted.explained_variance_ratio[0] - 1.0).abs() < 1e-12);
//! assert!((fitted.components[[0, 1]] - 0.8).abs() < 1e-12);
//! # Ok::<(), faceoff_analysis::Error>(())
//! ```

use faer::{
    Accum, Mat, MatMut, MatRef, Par, Side,
    linalg::matmul::{
        matmul,
        triangular::{self, BlockStructure},
    },
};
use linfa::{DatasetBase, traits::Fit};
use ndarray::{Array1, Array2, ArrayView2, CowArray, Ix2};
use rayon::prelude::*;

use crate::{
    error::{Error, Result, check_count, check_lengths, check_matrix},
    products::{clear_wide_registers, rows_times},
};

/// Pieces of the rows whose covariances are summed apart, then added in order.
const PIECES: usize = 8;
/// Rows that are centered and multiplied at once.
const ROW_BLOCK: usize = 128;

/// A fitted basis of `k` components in `D` dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// (D) mean of the data.
    pub mean: Array1<f64>,
    /// (k, D) orthonormal rows, greatest variance first; the entry of greatest magnitude of each row is positive.
    pub components: Array2<f64>,
    /// Variance along each component, with divisor N - 1.
    pub explained_variance: Vec<f64>,
    /// Variance along each component over the total variance of the data, kept or not.
    pub explained_variance_ratio: Vec<f64>,
    /// Sum of the variances of all D dimensions.
    pub total_variance: f64,
}

/// Fits `components` principal components to `data` (N, D).
///
/// A component without variance (fewer independent points than components) gets variance 0 and some direction orthogonal to the
/// others.
///
/// # Errors
/// Fewer than two points, `components` outside 1 to min(N, D), points that are all equal.
pub fn fit(data: ArrayView2<'_, f32>, components: usize) -> Result<Pca> {
    let centered = Centered::new(data, components)?;
    let (points, dims) = data.dim();
    let side = dims.min(points);
    let scatter = if dims <= points { centered.scatter() } else { centered.gram() };
    let failed = |error| Error::Library("faer's eigen-decomposition", format!("{error:?}"));
    let eigen = scatter.self_adjoint_eigen(Side::Lower).map_err(failed)?;

    // Eigenvalues come in rising order.
    let variances = (0..components).map(|k| eigen.S()[side - 1 - k].max(0.0) / (points - 1) as f64).collect();
    let leading = Mat::from_fn(side, components, |i, k| eigen.U()[(i, side - 1 - k)]);
    let basis = if dims <= points {
        leading
    } else {
        // X'u is the component times its singular value; the orthogonal factor has unit length even where that is 0.
        let mut directions = Mat::zeros(dims, components);
        let rows = centered.all();
        let rows = matrix(&rows, dims);
        matmul(directions.as_mut(), Accum::Replace, rows.transpose(), leading.as_ref(), 1.0, Par::Seq);
        directions.qr().compute_thin_Q()
    };
    clear_wide_registers();
    let basis = Array2::from_shape_fn((components, dims), |(k, d)| basis[(d, k)]);
    Ok(centered.into_pca(basis, variances))
}

/// As [`fit`], by linfa-reduction's iterative decomposition (right to two or three digits), with variances of its singular values over N - 1 and ratios against
/// the total variance (its own divide by components - 1 and by the sum over the kept components). Components without variance
/// may be missing from the result.
///
/// # Errors
/// As [`fit`]; or the decomposition does not converge.
pub fn fit_linfa(data: ArrayView2<'_, f32>, components: usize) -> Result<Pca> {
    let centered = Centered::new(data, components)?;
    let fitted = linfa_reduction::Pca::params(components)
        .fit(&DatasetBase::from(data.mapv(f64::from)))
        .map_err(|error| Error::Library("linfa-reduction", error.to_string()))?;
    let variances = fitted.singular_values().iter().map(|s| s * s / (data.nrows() - 1) as f64).collect();
    Ok(centered.into_pca(fitted.components().clone(), variances))
}

impl Pca {
    /// Coordinates (points, k) of `data` (points, D) along the components.
    pub fn transform(&self, data: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        check_matrix("the data", data)?;
        check_lengths("a row of the data", data.ncols(), "a component", self.components.ncols())?;
        let components = self.components.as_standard_layout();
        let (kept, dims) = components.dim();
        let basis = MatRef::from_row_major_slice(components.as_slice().expect("standard layout"), kept, dims);
        let mut coordinates = Array2::<f32>::zeros((data.nrows(), kept));
        coordinates.as_slice_mut().expect("standard layout").par_chunks_mut(ROW_BLOCK * kept).enumerate().for_each(
            |(block, out)| {
                let rows = out.len() / kept;
                let centered: Vec<f64> = (block * ROW_BLOCK..block * ROW_BLOCK + rows)
                    .flat_map(|row| data.row(row).into_iter().zip(&self.mean).map(|(&x, m)| f64::from(x) - m))
                    .collect();
                let product = rows_times(&centered, basis.transpose());
                out.iter_mut().zip(product).for_each(|(out, value)| *out = value as f32);
            },
        );
        Ok(coordinates)
    }
}

/// Distance of centered rows in memory: an odd multiple of a cache line, since the rows of a product that lie a power of two apart
/// would evict each other.
fn stride(dims: usize) -> usize {
    dims.next_multiple_of(16) + 8
}

/// A view of centered rows.
fn matrix(values: &[f64], dims: usize) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice_with_stride(values, values.len() / stride(dims), dims, stride(dims))
}

/// Checked data and what is subtracted from it. Rows are taken relative to the first one, so that equal rows leave exact zeros.
struct Centered<'a> {
    data: CowArray<'a, f32, Ix2>,
    /// Mean of (row - first row).
    offset: Vec<f64>,
    total_variance: f64,
}

impl<'a> Centered<'a> {
    fn new(data: ArrayView2<'a, f32>, components: usize) -> Result<Self> {
        check_matrix("the data", data)?;
        let (points, dims) = data.dim();
        check_count("the number of points", points, 2..=usize::MAX, "a variance needs more points")?;
        let remedy = "there are no more components than points, nor than dimensions";
        check_count("the number of components", components, 1..=points.min(dims), remedy)?;
        let data = if data.is_standard_layout() { data.into() } else { data.as_standard_layout().into_owned().into() };
        let mut centered = Self { data, offset: vec![0.0; dims], total_variance: 0.0 };
        centered.offset = centered.column_sums(|x| x).into_iter().map(|sum| sum / points as f64).collect();
        centered.total_variance = centered.column_sums(|x| x * x).into_iter().sum::<f64>() / (points - 1) as f64;
        if centered.total_variance == 0.0 {
            let rule = format!("all {points} points are equal, so there is no variance to explain");
            return Err(Error::undefined("a principal component", rule, "look for a collapsed encoder"));
        }
        Ok(centered)
    }

    fn rows(&self) -> &[f32] {
        self.data.as_slice().expect("standard layout")
    }

    /// Replaces `out` by the centered values of whole rows, `stride` apart: less the first row and the offset.
    fn center(&self, rows: &[f32], out: &mut Vec<f64>) {
        out.clear();
        for row in rows.chunks_exact(self.offset.len()) {
            let values = row.iter().zip(self.rows()).zip(&self.offset);
            out.extend(values.map(|((&x, &first), offset)| f64::from(x) - f64::from(first) - offset));
            out.resize(out.len().next_multiple_of(stride(self.offset.len())), 0.0);
        }
    }

    /// Folds the centered rows, block by block, into one accumulator for each piece.
    fn fold<A: Send>(&self, start: impl Fn() -> A + Sync, step: impl Fn(&mut A, &[f64]) + Sync) -> Vec<A> {
        let dims = self.offset.len();
        let piece = self.data.nrows().div_ceil(PIECES);
        self.rows()
            .par_chunks(piece * dims)
            .map(|rows| {
                let mut block = Vec::with_capacity(ROW_BLOCK * stride(dims));
                let mut accumulator = start();
                for rows in rows.chunks(ROW_BLOCK * dims) {
                    self.center(rows, &mut block);
                    step(&mut accumulator, &block);
                    clear_wide_registers();
                }
                accumulator
            })
            .collect()
    }

    fn column_sums(&self, term: impl Fn(f64) -> f64 + Sync) -> Vec<f64> {
        let dims = self.offset.len();
        let add = |sums: &mut Vec<f64>, values: &[f64]| {
            for row in values.chunks_exact(stride(dims)) {
                sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += term(x));
            }
        };
        let mut total = vec![0.0; dims];
        for piece in self.fold(|| vec![0.0; dims], add) {
            total.iter_mut().zip(piece).for_each(|(sum, part)| *sum += part);
        }
        total
    }

    /// The lower triangle of X'X (D, D).
    fn scatter(&self) -> Mat<f64> {
        let dims = self.offset.len();
        let add = |sum: &mut Mat<f64>, values: &[f64]| {
            let rows = matrix(values, dims);
            add_lower(sum.as_mut(), rows.transpose(), rows);
        };
        self.fold(|| Mat::zeros(dims, dims), add).into_iter().reduce(|a, b| a + b).expect("at least one piece")
    }

    /// X (N, D).
    fn all(&self) -> Vec<f64> {
        let mut values = Vec::new();
        self.center(self.rows(), &mut values);
        values
    }

    /// The lower triangle of XX' (N, N).
    fn gram(&self) -> Mat<f64> {
        let values = self.all();
        let (points, dims) = self.data.dim();
        let rows = matrix(&values, dims);
        let mut gram = Mat::zeros(points, points);
        add_lower(gram.as_mut(), rows, rows.transpose());
        clear_wide_registers();
        gram
    }

    /// Completes a basis (k, D) with the variances along it.
    fn into_pca(self, mut components: Array2<f64>, explained_variance: Vec<f64>) -> Pca {
        for mut row in components.rows_mut() {
            let largest = row.iter().fold(0.0_f64, |best, &x| if x.abs() > best.abs() { x } else { best });
            if largest < 0.0 {
                row.mapv_inplace(|x| -x);
            }
        }
        let total_variance = self.total_variance;
        Pca {
            mean: self.rows().iter().zip(&self.offset).map(|(&first, offset)| f64::from(first) + offset).collect(),
            components,
            explained_variance_ratio: explained_variance.iter().map(|v| v / total_variance).collect(),
            explained_variance,
            total_variance,
        }
    }
}

fn add_lower(sum: MatMut<'_, f64>, left: MatRef<'_, f64>, right: MatRef<'_, f64>) {
    use BlockStructure::{Rectangular, TriangularLower};
    triangular::matmul(sum, TriangularLower, Accum::Add, left, Rectangular, right, Rectangular, 1.0, Par::Seq);
}
