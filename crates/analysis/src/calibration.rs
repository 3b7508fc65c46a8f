//! Calibration: is a prediction of 80 % confidence right in 80 % of cases?
//!
//! Probabilities are softmax(scale * scores): for a head of cosines the scale s belongs to the logits, and the bare cosine
//! is never confident. The confidence of a point is its highest probability, its prediction the class of it (the first of
//! equal ones).
//!
//! | measure | definition |
//! |---|---|
//! | ECE | sum over bins of (points in the bin / N) * abs(accuracy - mean confidence), bins of equal width over [0, 1] (Guo et al., arXiv:1706.04599, eq. 3) |
//! | NLL | mean of -ln(probability of the label), nats |
//! | Brier | mean of sum over classes of (probability - \[class is the label\])^2, in [0, 2] |

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use crate::error::{Result, check_count, check_labels, check_lengths, check_matrix, check_positive};
use crate::products::greatest;

/// How far confidence and accuracy lie apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// Expected calibration error, in [0, 1].
    pub ece: f64,
    /// Negative log-likelihood in nats; infinite only if the label's probability is zero even in the logarithm.
    pub nll: f64,
    /// Brier score, in [0, 2].
    pub brier: f64,
    /// The reliability curve: of n bins, bin i holds confidences in (i / n, (i + 1) / n].
    pub bins: Vec<ReliabilityBin>,
}

/// The points of one range of confidence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReliabilityBin {
    /// Number of points.
    #[serde(rename = "images")]
    pub count: usize,
    /// Mean confidence; 0 in an empty bin.
    pub confidence: f64,
    /// Fraction of right predictions; 0 in an empty bin.
    pub accuracy: f64,
}

/// Calibration of softmax(`scale` * `scores`), scores (N, C) as inference gives them, `scale` the head's effective scale (1 for
/// heads without one), in so many `bins`; 15 are usual.
///
/// # Errors
/// A scale that is not above zero, no bin.
pub fn calibration(scores: ArrayView2<'_, f32>, labels: &[u32], scale: f64, bins: usize) -> Result<Calibration> {
    check_lengths("scores", scores.nrows(), "labels", labels.len())?;
    check_matrix("scores", scores)?;
    check_labels(labels, scores.ncols())?;
    check_positive("scale", scale, "pass the head's effective scale, 1 for a head without one")?;
    check_count("the number of bins", bins, 1..=usize::MAX, "15 are usual")?;
    let mut curve = vec![ReliabilityBin::default(); bins];
    let (mut nll, mut brier) = (0.0, 0.0);
    let mut probabilities = vec![0.0_f64; scores.ncols()];
    for (row, &label) in scores.rows().into_iter().zip(labels) {
        let label = label as usize;
        let (prediction, _) = greatest(row.iter().copied());
        // Relative to the highest logit, so that the sum lies in [1, C].
        let relative = |class: usize| scale * (f64::from(row[class]) - f64::from(row[prediction]));
        for (class, probability) in probabilities.iter_mut().enumerate() {
            *probability = relative(class).exp();
        }
        let sum: f64 = probabilities.iter().sum();
        probabilities.iter_mut().for_each(|probability| *probability /= sum);
        nll += sum.ln() - relative(label);
        let missed = |(class, p): (usize, &f64)| (p - f64::from(u8::from(class == label))).powi(2);
        brier += probabilities.iter().enumerate().map(missed).sum::<f64>();
        let confidence = probabilities[prediction];
        let bin = &mut curve[((confidence * bins as f64).ceil() as usize).clamp(1, bins) - 1];
        bin.count += 1;
        bin.confidence += confidence;
        bin.accuracy += f64::from(u8::from(prediction == label));
    }
    let points = labels.len() as f64;
    let mut ece = 0.0;
    for bin in curve.iter_mut().filter(|bin| bin.count > 0) {
        ece += (bin.accuracy - bin.confidence).abs() / points;
        bin.confidence /= bin.count as f64;
        bin.accuracy /= bin.count as f64;
    }
    Ok(Calibration { ece, nll: nll / points, brier: brier / points, bins: curve })
}
