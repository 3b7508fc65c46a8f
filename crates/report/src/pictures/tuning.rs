//! What tuning tried.

use super::{Section, distinct, padded};
use crate::error::Result;
use crate::plots::curves::{Curve, Frame, Panel};
use crate::plots::{Axis, curves, extent, percent_tick};
use faceoff_evaluation::Evaluation;

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let text = format!(
        "Every head had the same budget of trials: the experiment\u{2019}s own setting and the same points of peak learning rate, scale and margin. Each trial was trained \
         on nine tenths of the training images and scored on the tenth held back; no validation image was seen. The brown square is the setting chosen by KNN accuracy \
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
    let (lowest, highest) = extent(points().map(|point| point.0));
    let accuracies = padded(points().map(|point| point.1), 0.0, 1.0);
    let power = |exponent: &f64| format!("{:.1e}", 10_f64.powf(*exponent));
    let panel = |head: &String| {
        let x = Axis::new("peak learning rate (logarithmic)", lowest - 0.1..highest + 0.1, 6, power);
        let y = Axis::new("KNN accuracy", accuracies.clone(), 5, percent_tick);
        let curves = scored.iter().filter(|(of, _)| of == head).map(|(_, curve)| curve.clone()).collect();
        Panel { title: head.clone(), frame: Frame::new(x, y, true), curves }
    };
    let panels: Vec<_> = distinct(scored.iter().map(|(head, _)| head)).into_iter().map(panel).collect();
    let alt =
        "Small multiples: KNN accuracy on the held-back tenth over the peak learning rate, one panel for each head";
    let name = ("tuning.svg".into(), alt.into());
    let chosen = outcome.trials.iter().filter(|trial| trial.chosen);
    let chosen: Vec<String> = chosen
        .map(|trial| format!("{} at a peak learning rate of {:.1e}", trial.head, trial.peak_learning_rate))
        .collect();
    let said = (!chosen.is_empty()).then(|| format!("Chosen: {}; nothing is tested here.", chosen.join(", ")));
    let picture = curves::panels(name, &panels, &[("tried", 0), ("chosen", 1)])?;
    section.pictures.push(picture.concluding(said));
    Ok(section)
}
