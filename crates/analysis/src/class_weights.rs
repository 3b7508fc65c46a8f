//! Where points lie to the weights of the classes, and what a margin does to the loss.
//!
//! | measure | definition |
//! |---|---|
//! | angle to a class | arccos of the greatest cosine between the point and the weights of the class |
//! | cross-entropy | -ln(softmax of the logits at the label), nats |
//! | shift d of a margin | the label's logit less scale times its score; 0 without a margin |
//! | loss of equal cosines | mean of ln(1 + (C - 1) exp(-d)): what is left of the loss if each point had one cosine with all C classes |

use ndarray::{Array1, ArrayView2, ArrayView3, Axis};

use crate::error::{Error, Result, check_labels, check_lengths, check_matrix};
use crate::products::check_embeddings;

/// Angles between points and the weights of the classes, in degrees.
#[derive(Debug, Clone, PartialEq)]
pub struct Angles {
    /// To the nearest weight of the point's class.
    pub own: Vec<f64>,
    /// To the nearest weight of any other class; 180 without one.
    pub other: Vec<f64>,
    /// Which weight of its class is nearest to a point, the first of equal ones.
    pub center: Vec<usize>,
}

/// Angles of unit points (N, D) to weights (K, C, D): K of each class, of any length above 0.
///
/// # Errors
/// Weights of another width, a label without weights, a weight of length 0.
pub fn angles(unit: ArrayView2<'_, f32>, labels: &[u32], weights: ArrayView3<'_, f32>) -> Result<Angles> {
    check_embeddings(unit, labels)?;
    let (centers, classes, dim) = weights.dim();
    check_lengths("the embeddings' dimensions", unit.ncols(), "the class weights'", dim)?;
    check_labels(labels, classes)?;
    let rows = weights.into_shape_with_order((centers * classes, dim));
    let rows =
        rows.map_err(|_| Error::undefined("an angle", "class weights are not in order", "pass them row by row"))?;
    check_matrix("the class weights", rows)?;
    let mut directions = rows.to_owned();
    for mut row in directions.rows_mut() {
        let length = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        if length == 0.0 {
            return Err(Error::undefined("an angle", "a class weight has length 0", "train the head"));
        }
        row.mapv_inplace(|x| (f64::from(x) / length) as f32);
    }
    let cosines = unit.dot(&directions.t());
    let degrees = |cosine: f32| f64::from(cosine).clamp(-1.0, 1.0).acos().to_degrees();
    let mut angles = Angles { own: Vec::new(), other: Vec::new(), center: Vec::new() };
    for (row, &label) in cosines.rows().into_iter().zip(labels) {
        let (mut own, mut other, mut center) = (f32::NEG_INFINITY, -1.0_f32, 0);
        for (index, &cosine) in row.iter().enumerate() {
            if index % classes != label as usize {
                other = other.max(cosine);
            } else if cosine > own {
                (own, center) = (cosine, index / classes);
            }
        }
        angles.own.push(degrees(own));
        angles.other.push(degrees(other));
        angles.center.push(center);
    }
    Ok(angles)
}

/// The cross-entropy of each point under softmax(`scale` * `logits`), logits (N, C).
pub fn cross_entropies(logits: ArrayView2<'_, f32>, labels: &[u32], scale: f64) -> Result<Vec<f64>> {
    check_lengths("logits", logits.nrows(), "labels", labels.len())?;
    check_matrix("logits", logits)?;
    check_labels(labels, logits.ncols())?;
    let cost = |(row, &label): (ndarray::ArrayView1<'_, f32>, &u32)| {
        let highest = row.iter().fold(f64::NEG_INFINITY, |highest, &x| highest.max(scale * f64::from(x)));
        let sum = row.iter().map(|&x| (scale * f64::from(x) - highest).exp()).sum::<f64>();
        sum.ln() + highest - scale * f64::from(row[label as usize])
    };
    Ok(logits.rows().into_iter().zip(labels).map(cost).collect())
}

/// By how much the margin shifts each point's logit of the label: that logit less `scale` times its score.
pub fn margin_shifts(
    logits: ArrayView2<'_, f32>,
    scores: ArrayView2<'_, f32>,
    labels: &[u32],
    scale: f64,
) -> Result<Vec<f64>> {
    check_lengths("logits", logits.nrows(), "labels", labels.len())?;
    check_lengths("logits", logits.nrows(), "scores", scores.nrows())?;
    check_labels(labels, logits.ncols().min(scores.ncols()))?;
    let shift = |(row, &label): (usize, &u32)| {
        let at = [row, label as usize];
        f64::from(logits[at]) - scale * f64::from(scores[at])
    };
    Ok(labels.iter().enumerate().map(shift).collect())
}

/// The mean loss that shifts of a margin leave to points with one cosine to all of so many classes.
pub fn loss_of_equal_cosines(shifts: &[f64], classes: usize) -> f64 {
    let others = (classes as f64 - 1.0).ln();
    // ln(1 + exp(x)) without overflow.
    let cost = |shift: &f64| {
        let x = others - shift;
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    };
    shifts.iter().map(cost).sum::<f64>() / shifts.len() as f64
}

/// The mean of unit rows, of any number of rows and of any length above 0 each brought to unit length first; its own length is 1
/// where all point one way, and 0 where they cancel out.
pub fn mean_direction(rows: ArrayView2<'_, f32>) -> Result<Array1<f64>> {
    check_matrix("the rows", rows)?;
    let mut sum = Array1::<f64>::zeros(rows.ncols());
    for row in rows.axis_iter(Axis(0)) {
        let length = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x) / length);
    }
    Ok(sum / rows.nrows() as f64)
}

/// The lower of the two middle values; NaN without values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
