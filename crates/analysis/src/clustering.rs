//! Clustering: do the groups that stand out without labels agree with the classes, and how far apart do the classes lie?

use std::collections::BTreeMap;

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use ndarray::{Array2, ArrayView2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use statrs::function::gamma::ln_gamma;

use crate::error::{Error, Result, check_count, check_lengths};
use crate::products::{check_embeddings, check_unit_rows, class_sums, classes_of, contiguous, dot, greatest, norm};

/// Starts of [`kmeans`], of which the best is kept.
pub const RESTARTS: u64 = 10;
/// Where one start of [`kmeans`] ends at the latest.
pub const MAX_ITERATIONS: usize = 300;

/// Points in clusters.
#[derive(Debug, Clone, PartialEq)]
pub struct KMeans {
    /// The cluster of each point.
    pub assignments: Vec<u32>,
    /// (clusters, D) means of the clusters' points.
    pub centers: Array2<f32>,
    /// Sum of squared distances of points to their centers.
    pub inertia: f64,
}

/// k-means of unit rows (N, D) by squared Euclidean distance: Lloyd's iteration from k-means++ starts (Arthur and
/// Vassilvitskii, SODA 2007) until no point changes its cluster, the best of [`RESTARTS`] by inertia. Start r draws from
/// stream r of ChaCha8 seeded by `seed`.
///
/// A cluster that loses all its points moves to the point farthest from its center. Fewer different points than clusters
/// leave clusters empty.
///
/// # Errors
/// Clusters of 0 or more than points.
pub fn kmeans(embeddings: ArrayView2<'_, f32>, clusters: usize, seed: u64) -> Result<KMeans> {
    check_unit_rows(embeddings)?;
    check_count("the number of clusters", clusters, 1..=embeddings.nrows(), "pass at most the number of points")?;
    let rows = contiguous(embeddings);
    let dims = embeddings.ncols();
    let starts: Vec<KMeans> = (0..RESTARTS)
        .into_par_iter()
        .map(|restart| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(restart);
            lloyd(&rows, dims, plus_plus(&rows, dims, clusters, &mut rng))
        })
        .collect();
    let best = starts.into_iter().reduce(|best, next| if next.inertia < best.inertia { next } else { best });
    Ok(best.expect("at least one start"))
}

/// Rows of points, each drawn with a chance proportional to the squared distance from those before.
fn plus_plus(rows: &[f32], dims: usize, clusters: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let points = rows.len() / dims;
    let mut chosen = rng.random_range(0..points);
    let mut centers = Vec::with_capacity(clusters * dims);
    let mut nearest = vec![f64::INFINITY; points];
    loop {
        let center = &rows[chosen * dims..][..dims];
        centers.extend_from_slice(center);
        if centers.len() == clusters * dims {
            return centers;
        }
        let center: Vec<f64> = center.iter().map(|&v| f64::from(v)).collect();
        for (row, nearest) in rows.chunks_exact(dims).zip(&mut nearest) {
            *nearest = nearest.min((2.0 - 2.0 * dot(row, &center)).max(0.0));
        }
        let mut left = rng.random_range(0.0..1.0) * nearest.iter().sum::<f64>();
        let drawn = nearest.iter().position(|&weight| {
            left -= weight;
            left < 0.0
        });
        chosen = drawn.or_else(|| nearest.iter().rposition(|&weight| weight > 0.0)).unwrap_or(0);
    }
}

fn lloyd(rows: &[f32], dims: usize, mut centers: Vec<f32>) -> KMeans {
    let (points, clusters) = (rows.len() / dims, centers.len() / dims);
    let mut assignments = vec![usize::MAX; points];
    let mut products = vec![0.0_f32; points * clusters];
    for _ in 0..MAX_ITERATIONS {
        matmul(
            MatMut::from_row_major_slice_mut(&mut products, points, clusters),
            Accum::Replace,
            MatRef::from_row_major_slice(rows, points, dims),
            MatRef::from_row_major_slice(&centers, clusters, dims).transpose(),
            1.0,
            Par::Seq,
        );
        // Nearest by x c - |c|^2 / 2, as |x| is the same for all centers.
        let halves: Vec<f32> = centers.chunks_exact(dims).map(|center| (0.5 * norm(center).powi(2)) as f32).collect();
        let mut changed = false;
        let mut closeness = vec![0.0_f32; points];
        for (point, products) in products.chunks_exact(clusters).enumerate() {
            let (cluster, closest) = greatest(products.iter().zip(&halves).map(|(product, half)| product - half));
            changed |= assignments[point] != cluster;
            assignments[point] = cluster;
            closeness[point] = closest as f32;
        }
        if !changed {
            break;
        }
        fill_empty_clusters(&mut assignments, &mut closeness, clusters);
        let (sums, counts) = class_sums(rows, dims, &assignments, clusters, |_| 1.0);
        for ((center, sum), count) in centers.chunks_exact_mut(dims).zip(sums).zip(counts).filter(|(_, n)| *n > 0) {
            center.iter_mut().zip(sum).for_each(|(center, sum)| *center = (sum / count as f64) as f32);
        }
    }
    let inertia = rows
        .chunks_exact(dims)
        .zip(&assignments)
        .map(|(row, &cluster)| {
            let center = &centers[cluster * dims..][..dims];
            row.iter().zip(center).map(|(&x, &c)| f64::from(x - c).powi(2)).sum::<f64>()
        })
        .sum();
    let centers = Array2::from_shape_vec((clusters, dims), centers).expect("clusters x D");
    KMeans { assignments: assignments.into_iter().map(|cluster| cluster as u32).collect(), centers, inertia }
}

/// Hands the point farthest from its center to each cluster without a point.
fn fill_empty_clusters(assignments: &mut [usize], closeness: &mut [f32], clusters: usize) {
    let mut counts = vec![0_usize; clusters];
    assignments.iter().for_each(|&cluster| counts[cluster] += 1);
    for empty in 0..clusters {
        if counts[empty] > 0 {
            continue;
        }
        let farthest = (0..assignments.len())
            .filter(|&point| counts[assignments[point]] > 1)
            .min_by(|&a, &b| closeness[a].total_cmp(&closeness[b]));
        if let Some(point) = farthest {
            counts[assignments[point]] -= 1;
            counts[empty] = 1;
            assignments[point] = empty;
            closeness[point] = f32::INFINITY;
        }
    }
}

/// Mutual information of two labellings over the mean of their entropies, in [0, 1]:
/// NMI = I(U, V) / ((H(U) + H(V)) / 2), as scikit-learn's `normalized_mutual_info_score`.
///
/// 1 if both have one class only, 0 if one has.
pub fn normalized_mutual_information(labels: &[u32], clusters: &[u32]) -> Result<f64> {
    let table = Contingency::new(labels, clusters)?;
    if table.is_one_by_one() {
        return Ok(1.0);
    }
    let information = table.mutual_information();
    // Independent labellings give rounding instead of 0.
    Ok(if information <= f64::EPSILON { 0.0 } else { information / table.mean_entropy() })
}

/// Mutual information above what chance gives labellings of these class sizes, over the most it could be:
/// AMI = (I - E\[I\]) / ((H(U) + H(V)) / 2 - E\[I\]) (Vinh et al., JMLR 11, 2010), as scikit-learn's
/// `adjusted_mutual_info_score`.
///
/// 1 for equal partitions, about 0 for chance, below 0 for worse. 1 if both have one class only, 0 if one has.
pub fn adjusted_mutual_information(labels: &[u32], clusters: &[u32]) -> Result<f64> {
    let table = Contingency::new(labels, clusters)?;
    if table.is_one_by_one() {
        return Ok(1.0);
    }
    if table.row_sums.len() == 1 || table.column_sums.len() == 1 {
        return Ok(0.0);
    }
    let expected = table.expected_mutual_information();
    // Where chance cannot differ from perfection, 0 / 0 means perfection.
    let away_from_zero = |x: f64| if x < 0.0 { x.min(-f64::EPSILON) } else { x.max(f64::EPSILON) };
    Ok(away_from_zero(table.mutual_information() - expected) / away_from_zero(table.mean_entropy() - expected))
}

/// How many points two labellings give to each pair of classes.
struct Contingency {
    points: f64,
    /// (row, column, count) of the cells that are not 0.
    cells: Vec<(usize, usize, usize)>,
    row_sums: Vec<usize>,
    column_sums: Vec<usize>,
}

impl Contingency {
    fn new(labels: &[u32], clusters: &[u32]) -> Result<Self> {
        check_lengths("labels", labels.len(), "clusters", clusters.len())?;
        let ((rows, row_of), (columns, column_of)) = (classes_of(labels), classes_of(clusters));
        let mut cells = BTreeMap::new();
        let (mut row_sums, mut column_sums) = (vec![0; rows.len()], vec![0; columns.len()]);
        for (row, column) in row_of.into_iter().zip(column_of) {
            *cells.entry((row, column)).or_insert(0) += 1;
            row_sums[row] += 1;
            column_sums[column] += 1;
        }
        let cells = cells.into_iter().map(|((row, column), count)| (row, column, count)).collect();
        Ok(Self { points: labels.len() as f64, cells, row_sums, column_sums })
    }

    fn is_one_by_one(&self) -> bool {
        self.row_sums.len() == 1 && self.column_sums.len() == 1
    }

    fn mutual_information(&self) -> f64 {
        let terms = self.cells.iter().map(|&(row, column, count)| {
            let expected = self.row_sums[row] as f64 * self.column_sums[column] as f64 / self.points;
            count as f64 / self.points * (count as f64 / expected).ln()
        });
        terms.sum::<f64>().max(0.0)
    }

    fn mean_entropy(&self) -> f64 {
        let entropy = |sums: &[usize]| -> f64 {
            sums.iter().map(|&sum| sum as f64 / self.points).map(|share| -share * share.ln()).sum()
        };
        0.5 * (entropy(&self.row_sums) + entropy(&self.column_sums))
    }

    /// Over all tables with these sums, hypergeometrically.
    fn expected_mutual_information(&self) -> f64 {
        let points = self.points as usize;
        let ln_factorials: Vec<f64> = (0..=points).map(|i| ln_gamma(i as f64 + 1.0)).collect();
        let f = |n: usize| ln_factorials[n];
        let mut sum = 0.0;
        for &a in &self.row_sums {
            for &b in &self.column_sums {
                let fixed = f(a) + f(b) + f(points - a) + f(points - b) - f(points);
                for n in (a + b).saturating_sub(points).max(1)..=a.min(b) {
                    let ln_chance = fixed - f(n) - f(a - n) - f(b - n) - f(points + n - a - b);
                    let share = n as f64 / self.points;
                    sum += share * (share * self.points * self.points / (a as f64 * b as f64)).ln() * ln_chance.exp();
                }
            }
        }
        sum
    }
}

/// Silhouette of each point, in [-1, 1]: how much nearer it lies to its own class than to the next, by cosine distance 1 - cos
/// (Rousseeuw 1987): s = (b - a) / max(a, b), with a the mean distance of a point to the others of its class and b the smallest
/// mean distance to another class. As scikit-learn's `silhouette_samples(metric="cosine")`.
///
/// Exact in O(N classes D): the mean cosine to a class is the cosine to the sum of its unit rows over their number. 0 for
/// the only member of a class and where a and b are both 0 (to 1e-12).
///
/// # Errors
/// One class only, or no class with two members.
pub fn silhouette(embeddings: ArrayView2<'_, f32>, labels: &[u32]) -> Result<Vec<f64>> {
    check_embeddings(embeddings, labels)?;
    let (classes, places) = classes_of(labels);
    if classes.len() < 2 || classes.len() == labels.len() {
        let (classes, points) = (classes.len(), labels.len());
        let rule = "two classes or more are needed, one of them with two members; there are";
        let remedy = "pass a split with several images a class";
        return Err(Error::undefined("the silhouette", format!("{rule} {classes} classes of {points} points"), remedy));
    }
    let (rows, dims) = (contiguous(embeddings), embeddings.ncols());
    let (sums, counts) = class_sums(&rows, dims, &places, classes.len(), norm);
    let per_point = rows
        .par_chunks_exact(dims)
        .zip(&places)
        .map(|(row, &own)| {
            if counts[own] == 1 {
                return 0.0;
            }
            let norm = norm(row);
            let total_cosine = |class: usize| dot(row, &sums[class]) / norm;
            let others = (counts[own] - 1) as f64;
            let a = ((others - (total_cosine(own) - 1.0)) / others).max(0.0);
            let b = (0..counts.len())
                .filter(|&class| class != own)
                .map(|class| (1.0 - total_cosine(class) / counts[class] as f64).max(0.0))
                .fold(f64::INFINITY, f64::min);
            let largest = a.max(b);
            if largest < 1e-12 { 0.0 } else { (b - a) / largest }
        })
        .collect();
    Ok(per_point)
}
