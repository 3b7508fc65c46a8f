//! Whether confidences are what they say.

use super::{Section, first_runs, name_of, range_of};
use crate::error::Result;
use crate::plots::curves::{Curve, Frame, Panel};
use crate::plots::{Axis, curves, percent_tick};
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::families::calibration::CALIBRATION_ERROR;
use faceoff_evaluation::measured::Measured;

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let bins = outcome.settings.calibration_bins;
    let text = format!(
        "Is a prediction of 80 % confidence right in 80 % of cases? Validation images in {bins} bins by the highest probability, softmax of the scores times the \
         head\u{2019}s scale; first seed of each variant. Grey bars: the share of the images in each bin; a point of few images says little. Below the dashed diagonal the head is too sure, above it not sure enough. Scales differ from head to head, \
         and so does confidence: this is no measure of the embeddings."
    );
    let mut section = Section::new("calibration", "Calibration", "Calibration", text);
    let panel = |run: &Measured| {
        let found = run.found.shapes.reliability.iter();
        let curve = Curve::new("accuracy", 0, found.clone().map(|bin| (bin.confidence, bin.accuracy)).collect());
        let axis = |what| Axis::new(what, 0.0..1.0, 5, percent_tick);
        let mut frame = Frame::new(axis("confidence"), axis("accuracy"), true);
        frame.reference = Some([(0.0, 0.0), (1.0, 1.0)]);
        let images = found.clone().map(|bin| bin.count).sum::<usize>().max(1) as f64;
        frame.bars = found.map(|bin| (middle(bin.confidence, bins), bin.count as f64 / images)).collect();
        frame.bar = 0.7 / bins as f64;
        let title = outcome.name(run.variant).into();
        (!curve.points.is_empty()).then(|| Panel { title, frame, curves: vec![curve] })
    };
    for group in &outcome.groups {
        let panels: Vec<_> = first_runs(outcome, group).filter_map(panel).collect();
        if panels.is_empty() {
            continue;
        }
        let alt = format!(
            "Reliability diagrams: accuracy over confidence in {bins} bins, and the share of the images in each, one panel for each variant"
        );
        let picture = curves::panels(name_of(group, "calibration", &alt), &panels, &[])?;
        section.pictures.push(picture.concluding(range_of(outcome, group, CALIBRATION_ERROR.id())));
    }
    Ok(section)
}

/// The middle of the bin, of so many of equal width, that holds a confidence; bins hold their upper ends.
fn middle(confidence: f64, bins: usize) -> f64 {
    let bins = bins as f64;
    ((confidence * bins).ceil().clamp(1.0, bins) - 0.5) / bins
}

#[cfg(test)]
mod tests {
    use super::middle;

    #[test]
    fn bars_stand_in_the_middle_of_their_bins() {
        assert_eq!(
            [0.0, 0.1, 0.25, 0.26, 0.99, 1.0].map(|at| middle(at, 4)),
            [0.125, 0.125, 0.125, 0.375, 0.875, 0.875]
        );
    }
}
