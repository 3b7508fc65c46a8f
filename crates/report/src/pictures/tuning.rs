//! What tuning tried.

use super::{Section, distinct, padded};
use crate::error::Result;
use crate::plots::curves::{Curve, Frame, Panel};
use crate::plots::{Axis, curves, percent_tick};
use faceoff_evaluation::Evaluation;

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let text = format!(
        "Every head had the same budget of trials: the experiment\u{2019}s own setting and the same points of peak learning rate, scale and margin. Each trial was trained \
         on nine tenths of the training images and scored on the tenth held back; no validation image was seen. The amber square is the setting chosen by KNN accuracy \
         (k = {}).",
        outcome.settings.headline_neighbors
    );
    let mut section = Section::new("tuning", "Tuning", "Tuning", text);
    // A curve of one point each: points of other scales and margins are not to be joined.
    let curve = |trial: &faceoff_runs::Trial| {
        let point = (trial.peak_learning_rate.log10(), trial.knn_accuracy?);
        Some((trial.head.clone(), Curve::new("", usize::from(trial.chosen), vec![point])))
    };
    let scored: Vec<(String, Curve)> = outcome.trials.iter().filter_map(curve).collect();
    if scored.is_empty() {
        return Ok(section);
    }
    let points = || scored.iter().map(|(_, curve)| curve.points[0]);
    let lowest = points().map(|point| point.0).fold(f64::INFINITY, f64::min) - 0.1;
    let highest = points().map(|point| point.0).fold(f64::NEG_INFINITY, f64::max) + 0.1;
    let accuracies = padded(points().map(|point| point.1), 0.0, 1.0);
    let panel = |head: &String| Panel {
        title: head.clone(),
        frame: Frame::new(
            Axis::new("peak learning rate (logarithmic)", lowest..highest, 6, |exponent| {
                format!("{:.1e}", 10_f64.powf(*exponent))
            }),
            Axis::new("KNN accuracy", accuracies.clone(), 5, percent_tick),
            true,
        ),
        curves: scored.iter().filter(|(of, _)| of == head).map(|(_, curve)| curve.clone()).collect(),
    };
    let panels: Vec<_> = distinct(scored.iter().map(|(head, _)| head)).into_iter().map(panel).collect();
    let alt =
        "Small multiples: KNN accuracy on the held-back tenth over the peak learning rate, one panel for each head";
    section.pictures.push(curves::panels("tuning.svg", alt, &panels, &[("tried", 0), ("chosen", 1)])?);
    Ok(section)
}
