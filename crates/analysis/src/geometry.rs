//! Geometry: how classes and points spread over the sphere.

use faer::{Mat, Side};
use ndarray::ArrayView2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, check_labels, check_lengths, check_matrix, check_values};
use crate::products::{
    LEFT_BLOCK, Panels, check_embeddings, check_unit_rows, class_sums, classes_of, contiguous, dot, greatest, inner,
    norm, visit_pairs,
};

/// Angles between class centers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CenterAngles {
    /// The classes that occur, rising.
    pub classes: Vec<u32>,
    /// Between the means of any two classes' embeddings, in their order; 0 on the diagonal.
    pub degrees: Vec<Vec<f64>>,
}

/// Angles between the means of the classes of unit rows (N, D).
///
/// # Errors
/// A class whose embeddings cancel out.
pub fn center_angles(embeddings: ArrayView2<'_, f32>, labels: &[u32]) -> Result<CenterAngles> {
    check_embeddings(embeddings, labels)?;
    let (classes, directions) = directions(embeddings, labels)?;
    let count = classes.len();
    let to_later = |i: usize| -> Vec<f64> { (i + 1..count).map(|j| angle(&directions[i], &directions[j])).collect() };
    let later: Vec<Vec<f64>> = (0..count).into_par_iter().map(to_later).collect();
    let degrees = |i: usize| {
        let earlier = (0..i).map(|j| later[j][i - j - 1]);
        earlier.chain([0.0]).chain(later[i].iter().copied()).collect()
    };
    let degrees = (0..count).map(degrees).collect();
    Ok(CenterAngles { classes, degrees })
}

/// The smallest of the angles of [`center_angles`] between two classes, in degrees, without room for all of them; 180 of one class.
///
/// # Errors
/// As [`center_angles`].
pub fn smallest_center_angle(embeddings: ArrayView2<'_, f32>, labels: &[u32]) -> Result<f64> {
    check_embeddings(embeddings, labels)?;
    let (_, directions) = directions(embeddings, labels)?;
    let to_later = |i: usize| {
        let degrees = directions[i + 1..].iter().map(|other| angle(&directions[i], other));
        degrees.fold(180.0, f64::min)
    };
    Ok((0..directions.len()).into_par_iter().map(to_later).reduce(|| 180.0, f64::min))
}

/// The angle between two directions, in degrees.
fn angle(a: &[f64], b: &[f64]) -> f64 {
    inner(a, b).clamp(-1.0, 1.0).acos().to_degrees()
}

/// The class of each query's nearest class center by cosine, centers being the mean directions of `index`; the lower class
/// of equally near ones. Its accuracy is that of the nearest-center classifier.
///
/// # Errors
/// As [`center_angles`].
pub fn nearest_center_predictions(
    index: ArrayView2<'_, f32>,
    index_labels: &[u32],
    queries: ArrayView2<'_, f32>,
) -> Result<Vec<u32>> {
    Ok(nearest_centers(index, index_labels, queries)?.into_iter().map(|(class, _)| class).collect())
}

/// [`nearest_center_predictions`] with the cosine of each query with its nearest center. Fails alike.
pub fn nearest_centers(
    index: ArrayView2<'_, f32>,
    index_labels: &[u32],
    queries: ArrayView2<'_, f32>,
) -> Result<Vec<(u32, f64)>> {
    check_embeddings(index, index_labels)?;
    check_unit_rows(queries)?;
    check_lengths("a row of the index", index.ncols(), "a row of the queries", queries.ncols())?;
    let (classes, directions) = directions(index, index_labels)?;
    let nearest = nearest_places(queries, &directions, &vec![0.0; classes.len()], |_| 1.0);
    Ok(nearest.into_iter().map(|(place, cosine)| (classes[place], cosine)).collect())
}

fn directions(embeddings: ArrayView2<'_, f32>, labels: &[u32]) -> Result<(Vec<u32>, Vec<Vec<f64>>)> {
    let (classes, mut means) = class_means(embeddings, labels);
    for (mean, class) in means.iter_mut().zip(&classes) {
        let norm = inner(mean, mean).sqrt();
        if norm < 1e-6 {
            let rule = format!("the embeddings of class {class} cancel out, their mean has length {norm:e}");
            return Err(Error::undefined("the direction of a class", rule, "leave the class out"));
        }
        mean.iter_mut().for_each(|v| *v /= norm);
    }
    Ok((classes, means))
}

fn class_means(embeddings: ArrayView2<'_, f32>, labels: &[u32]) -> (Vec<u32>, Vec<Vec<f64>>) {
    let (classes, places) = classes_of(labels);
    let (mut sums, counts) = class_sums(&contiguous(embeddings), embeddings.ncols(), &places, classes.len(), norm);
    for (sum, &count) in sums.iter_mut().zip(&counts) {
        sum.iter_mut().for_each(|v| *v /= count as f64);
    }
    (classes, sums)
}

/// The place of the center nearest to each row, the first with the greatest x c / `length`(x) - `halves`\[c\], and that number.
fn nearest_places(
    rows: ArrayView2<'_, f32>,
    centers: &[Vec<f64>],
    halves: &[f64],
    length: fn(&[f32]) -> f64,
) -> Vec<(usize, f64)> {
    contiguous(rows)
        .par_chunks_exact(rows.ncols())
        .map(|row| {
            let length = length(row);
            let nearness = |(center, half): (&Vec<f64>, &f64)| dot(row, center) / length - half;
            greatest(centers.iter().zip(halves).map(nearness))
        })
        .collect()
}

/// Alignment: mean of |x - y|^2 over all pairs of one class, in [0, 4]; lower is better. Wang and Isola, arXiv:2005.10242,
/// section 4.1, with alpha = 2.
///
/// Exact in O(N D): the squared distances of a class add up to n sum |x|^2 - |sum x|^2.
///
/// # Errors
/// No class with two members.
pub fn alignment(embeddings: ArrayView2<'_, f32>, labels: &[u32]) -> Result<f64> {
    check_embeddings(embeddings, labels)?;
    let (classes, places) = classes_of(labels);
    let (sums, counts) = class_sums(&contiguous(embeddings), embeddings.ncols(), &places, classes.len(), norm);
    let (mut squares, mut pairs) = (0.0, 0.0);
    for (sum, &count) in sums.iter().zip(&counts) {
        let count = count as f64;
        squares += (count * count - inner(sum, sum)).max(0.0);
        pairs += 0.5 * count * (count - 1.0);
    }
    if pairs == 0.0 {
        let remedy = "pass a split with several images a class";
        return Err(Error::undefined("alignment", "a class with two members is needed", remedy));
    }
    Ok(squares / pairs)
}

/// Uniformity: ln of the mean of exp(-2 |x - y|^2) over all pairs of points, in [-8, 0]; lower is better. Wang and Isola,
/// arXiv:2005.10242, section 4.1, with t = 2.
///
/// # Errors
/// One point only.
pub fn uniformity(embeddings: ArrayView2<'_, f32>) -> Result<f64> {
    check_unit_rows(embeddings)?;
    let points = embeddings.nrows();
    if points < 2 {
        return Err(Error::undefined("uniformity", "two points or more are needed", "pass the whole split"));
    }
    let rows = contiguous(embeddings);
    let panels = Panels::new(&rows, embeddings.ncols());
    // A sum for each block, added up in their order: the same for any number of threads.
    let sums: Vec<f64> = (0..points.div_ceil(LEFT_BLOCK))
        .into_par_iter()
        .map(|block| {
            let mut sum = 0.0;
            let add = |_, _, cosine: f32| sum += (-4.0 * (1.0 - f64::from(cosine.min(1.0)))).exp();
            visit_pairs(&rows, &panels, block, add);
            sum
        })
        .collect();
    let pairs = 0.5 * points as f64 * (points - 1) as f64;
    Ok((sums.iter().sum::<f64>() / pairs).ln())
}

/// How far classes have collapsed to the corners of a simplex. All four are 0 at full collapse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NeuralCollapse {
    /// NC1, variability within classes: tr(S_W pinv(S_B)) / C.
    pub within_over_between: f64,
    /// NC2, equal norms: standard deviation over mean of the norms of the centered class means.
    pub equinorm: f64,
    /// NC2, equal angles: standard deviation of the cosines between centered class means.
    pub equiangularity: f64,
    /// NC2, largest angles: mean of abs(cosine + 1 / (C - 1)) of centered class means.
    pub maximal_angle: f64,
}

/// Neural collapse of unit rows (N, D): Papyan, Han and Donoho, PNAS 117, 2020 (arXiv:2008.08186).
///
/// Every class weighs the same: with class means m_c, m = mean of m_c, S_B = (1/C) sum (m_c - m)(m_c - m)^T and
/// S_W = (1/C) sum over classes of the mean over the class of (x - m_c)(x - m_c)^T, which is Papyan's S_W where classes
/// have equal size. Eigenvalues of S_B below 1e-10 of the largest count as 0.
///
/// # Errors
/// One class only, or a class mean that is the mean of all.
pub fn neural_collapse(embeddings: ArrayView2<'_, f32>, labels: &[u32]) -> Result<NeuralCollapse> {
    check_embeddings(embeddings, labels)?;
    let (classes, means) = class_means(embeddings, labels);
    let count = classes.len();
    let remedy = "pass a split with several classes that differ";
    if count < 2 {
        return Err(Error::undefined("neural collapse", "two classes or more are needed", remedy));
    }
    let centered = centered(&means);
    let norms: Vec<f64> = centered.iter().map(|m| inner(m, m).sqrt()).collect();
    if let Some(place) = norms.iter().position(|&norm| norm < 1e-9) {
        let rule = format!("the mean of class {} is the mean of all classes", classes[place]);
        return Err(Error::undefined("neural collapse", rule, remedy));
    }
    let gram = Mat::from_fn(count, count, |i, j| inner(&centered[i], &centered[j]));
    let pairs = (0..count).flat_map(|i| (i + 1..count).map(move |j| (i, j)));
    let cosines: Vec<f64> = pairs.map(|(i, j)| gram[(i, j)] / norms[i] / norms[j]).collect();
    let ideal = -1.0 / (count as f64 - 1.0);
    let maximal_angle = cosines.iter().map(|cosine| (cosine - ideal).abs()).sum::<f64>() / cosines.len() as f64;
    let (mean_norm, sd_norm) = mean_and_sd(&norms);
    Ok(NeuralCollapse {
        within_over_between: within_over_between(embeddings, labels, &classes, &means, &centered, &gram)?,
        equinorm: sd_norm / mean_norm,
        equiangularity: mean_and_sd(&cosines).1,
        maximal_angle,
    })
}

/// The means less their mean.
fn centered(means: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mean_of = |d: usize| means.iter().map(|mean| mean[d]).sum::<f64>() / means.len() as f64;
    let center: Vec<f64> = (0..means[0].len()).map(mean_of).collect();
    means.iter().map(|mean| mean.iter().zip(&center).map(|(m, c)| m - c).collect()).collect()
}

/// With the eigenvectors v and eigenvalues l > 0 of M M^T / C, M the centered means as rows, S_B has the eigenvectors u =
/// M^T v / sqrt(C l) and the same eigenvalues, so tr(S_W pinv(S_B)) = sum over l of the mean over S_W's points of (u (x -
/// m_c))^2 / l: no D x D matrix.
fn within_over_between(
    embeddings: ArrayView2<'_, f32>,
    labels: &[u32],
    classes: &[u32],
    means: &[Vec<f64>],
    centered: &[Vec<f64>],
    gram: &Mat<f64>,
) -> Result<f64> {
    let count = classes.len();
    let failed = |error| Error::Library("faer", format!("eigenvalues of class means: {error:?}"));
    let eigen = gram.self_adjoint_eigen(Side::Lower).map_err(failed)?;
    let eigenvalue = |k: usize| eigen.S()[k] / count as f64;
    let largest = (0..count).map(eigenvalue).fold(0.0, f64::max);
    let kept: Vec<usize> = (0..count).filter(|&k| eigenvalue(k) > 1e-10 * largest).collect();
    let directions: Vec<Vec<f64>> = kept
        .iter()
        .map(|&k| {
            let scale = 1.0 / (count as f64 * eigenvalue(k)).sqrt();
            let mut direction = vec![0.0; means[0].len()];
            for (class, mean) in centered.iter().enumerate() {
                let weight = scale * eigen.U()[(class, k)];
                direction.iter_mut().zip(mean).for_each(|(d, m)| *d += weight * m);
            }
            direction
        })
        .collect();
    let (_, places) = classes_of(labels);
    let projected_means: Vec<Vec<f64>> =
        means.iter().map(|mean| directions.iter().map(|u| inner(u, mean)).collect()).collect();
    let rows = contiguous(embeddings);
    let per_point: Vec<f64> = rows
        .par_chunks_exact(embeddings.ncols())
        .zip(&places)
        .map(|(row, &class)| {
            let norm = norm(row);
            let terms = kept.iter().zip(&directions).zip(&projected_means[class]);
            terms.map(|((&k, u), mean)| (dot(row, u) / norm - mean).powi(2) / eigenvalue(k)).sum()
        })
        .collect();
    let (mut sums, mut counts) = (vec![0.0; count], vec![0.0; count]);
    for (value, &class) in per_point.iter().zip(&places) {
        sums[class] += value;
        counts[class] += 1.0;
    }
    let trace = sums.iter().zip(&counts).map(|(sum, n)| sum / n).sum::<f64>() / count as f64;
    Ok(trace / count as f64)
}

/// NC3, self-duality: |W / |W| - M / |M||, Frobenius norms, in \[0, 2\], 0 at full collapse. `weights` (classes, D): the head's
/// direction of each class, row c of class c (for a head of cosines, rows of unit length, since it uses no others). M: the
/// centered class means of [`neural_collapse`]. Classes without a point are left out. Papyan, Han and Donoho, PNAS 117, 2020
/// (arXiv:2008.08186), section "Quantification of convergence".
///
/// # Errors
/// As [`neural_collapse`]; weights that are all 0, a label without a row of them.
pub fn self_duality(weights: ArrayView2<'_, f32>, embeddings: ArrayView2<'_, f32>, labels: &[u32]) -> Result<f64> {
    check_embeddings(embeddings, labels)?;
    check_matrix("the weights", weights)?;
    check_lengths("a row of the weights", weights.ncols(), "a row of the embeddings", embeddings.ncols())?;
    check_labels(labels, weights.nrows())?;
    let (classes, means) = class_means(embeddings, labels);
    let centered = centered(&means);
    let means_norm = centered.iter().map(|mean| inner(mean, mean)).sum::<f64>().sqrt();
    let kept = || classes.iter().map(|&class| weights.row(class as usize));
    let weights_norm = kept().flatten().map(|&weight| f64::from(weight) * f64::from(weight)).sum::<f64>().sqrt();
    for (norm, what) in [(means_norm, "class means"), (weights_norm, "weights")] {
        if norm < 1e-9 {
            let rule = format!("the {what} do not differ from each other or from 0");
            let remedy = "pass a split with several classes that differ, and the weights of a trained head";
            return Err(Error::undefined("self-duality", rule, remedy));
        }
    }
    let squares = kept().zip(&centered).map(|(weights, mean)| {
        let pairs = weights.into_iter().zip(mean);
        pairs.map(|(&w, m)| (f64::from(w) / weights_norm - m / means_norm).powi(2)).sum::<f64>()
    });
    Ok(squares.sum::<f64>().sqrt())
}

/// NC4, collapse to the nearest class mean: the share of points for which the head's `predictions` (N) name another class than
/// that of the nearest class mean by Euclidean distance, in \[0, 1\], 0 at full collapse; the lower class of equally near ones.
/// Papyan, Han and Donoho, PNAS 117, 2020 (arXiv:2008.08186).
pub fn nearest_mean_disagreement(embeddings: ArrayView2<'_, f32>, labels: &[u32], predictions: &[u32]) -> Result<f64> {
    check_embeddings(embeddings, labels)?;
    check_lengths("predictions", predictions.len(), "labels", labels.len())?;
    let (classes, means) = class_means(embeddings, labels);
    let halves: Vec<f64> = means.iter().map(|mean| 0.5 * inner(mean, mean)).collect();
    let nearest = nearest_places(embeddings, &means, &halves, norm);
    let others = nearest.iter().zip(predictions).filter(|((place, _), prediction)| classes[*place] != **prediction);
    Ok(others.count() as f64 / labels.len() as f64)
}

/// Of a whole population: divided by n.
fn mean_and_sd(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
}

/// Effective rank, exp of the entropy of s_k / sum s, s the singular values of the centered embeddings (Roy and Vetterli,
/// EUSIPCO 2007): between 1 and the number of dimensions. `eigenvalues`: all variances of the principal components, in any
/// order; s is their root, up to a factor that cancels out.
///
/// # Errors
/// Values below 0 (beyond rounding), no variance at all.
pub fn effective_rank(eigenvalues: &[f64]) -> Result<f64> {
    let total = total_variance(eigenvalues)?;
    let singular: Vec<f64> = eigenvalues.iter().map(|v| (v.max(0.0) / total).sqrt()).collect();
    let sum: f64 = singular.iter().sum();
    let shares = singular.iter().map(|s| s / sum).filter(|&share| share > 0.0);
    Ok(shares.map(|share| -share * share.ln()).sum::<f64>().exp())
}

/// The smallest number of principal components that hold `share` of the variance. `eigenvalues`: all variances, falling.
///
/// # Errors
/// As [`effective_rank`]; a share outside (0, 1].
pub fn components_for_variance(eigenvalues: &[f64], share: f64) -> Result<usize> {
    if !(share > 0.0 && share <= 1.0) {
        let rule = "it must be above 0 and at most 1";
        return Err(Error::out_of_range("the share of variance", share, rule, "0.95 is customary"));
    }
    let total = total_variance(eigenvalues)?;
    let mut sum = 0.0;
    let last = eigenvalues.iter().position(|value| {
        sum += value.max(0.0);
        // Rounding must not ask for a component without variance.
        sum >= share * total * (1.0 - 1e-12)
    });
    Ok(last.map_or(eigenvalues.len(), |place| place + 1))
}

fn total_variance(eigenvalues: &[f64]) -> Result<f64> {
    check_values("eigenvalues", eigenvalues)?;
    let total: f64 = eigenvalues.iter().map(|v| v.max(0.0)).sum();
    let lowest = eigenvalues.iter().copied().fold(f64::INFINITY, f64::min);
    if lowest < -1e-6 * total || lowest < 0.0 && total == 0.0 {
        let remedy = "pass the eigenvalues of a covariance";
        return Err(Error::out_of_range("an eigenvalue", lowest, "a variance is at least 0", remedy));
    }
    if total == 0.0 {
        let rule = "all eigenvalues are 0: all embeddings are equal";
        return Err(Error::undefined("the spectrum of variance", rule, "look for a collapsed encoder"));
    }
    Ok(total)
}
