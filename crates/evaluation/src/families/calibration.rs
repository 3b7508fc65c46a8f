//! Is the head as sure as it is right? Probabilities are the softmax of the scores times the head's effective scale.

use super::{Family, Findings, Result, Splits, Subject, rows};
use faceoff_analysis::calibration;

rows! { METRICS in "Calibration":
    CALIBRATION_ERROR "calibration_error" "Expected calibration error" Percent Lower
        "Mean distance between confidence and accuracy over bins of equal width of the confidence; probabilities are the softmax of the scores times the head's scale; heads without scores have none."
        "arXiv:1706.04599";
    NEGATIVE_LOG_LIKELIHOOD "negative_log_likelihood" "Negative log-likelihood" Number Lower
        "Mean of -ln of the probability that the head gives to the true class, in nats." "mean";
    BRIER_SCORE "brier_score" "Brier score" Number Lower
        "Mean squared distance between the head's probabilities and the true class, 0 to 2." "Brier 1950";
}

/// Calibration on the validation images.
pub const FAMILY: Family =
    Family { name: "calibration", version: 2, metrics: METRICS, headline: |_| Vec::new(), measure };

fn measure(subject: &Subject<'_>, found: &mut Findings) -> Result<()> {
    let Some(splits @ Splits { val, .. }) = subject.classifier else { return Ok(()) };
    // Cosines with class means, which a loss of pairs has stored, are no confidence of the head.
    let Some(scores) = splits.scores(val) else { return Ok(()) };
    let (scale, bins) = (f64::from(val.effective_scale), subject.settings.calibration_bins);
    let measured = calibration::calibration(scores, &val.labels, scale, bins)?;
    found.add(CALIBRATION_ERROR.id(), measured.ece);
    found.add(NEGATIVE_LOG_LIKELIHOOD.id(), measured.nll);
    found.add(BRIER_SCORE.id(), measured.brier);
    found.shapes.reliability = measured.bins.into_iter().filter(|bin| bin.count > 0).collect();
    Ok(())
}
