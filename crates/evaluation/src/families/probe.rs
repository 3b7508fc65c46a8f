//! A linear classifier of the embeddings: fitted on the training images with their true labels, scored on the validation images.

use super::{Family, Findings, Result, Subject, rows};
use faceoff_analysis::probe::LinearProbe;

rows! { METRICS in "Linear probe":
    LINEAR_PROBE_ACCURACY "linear_probe_accuracy" "Linear probe accuracy" Percent Higher
        "Accuracy on the validation images with a classmate in training of a logistic regression fitted to the unit training embeddings (L2 penalty, C = 1)." "arXiv:1610.01644";
    LINEAR_PROBE_LOG_LOSS "linear_probe_log_loss" "Linear probe log loss" Number Lower
        "Mean over the same images of -ln of the probability that the probe gives to the true class, in nats." "mean";
}

/// Accuracy and log loss of the probe; nothing without an index to fit it on.
pub const FAMILY: Family =
    Family { name: "linear probe", version: 2, metrics: METRICS, headline: |_| Vec::new(), measure };

fn measure(subject: &Subject<'_>, found: &mut Findings) -> Result<()> {
    let Some(train) = subject.index else { return Ok(()) };
    let probe = LinearProbe::fit(train.unit, train.labels)?;
    let score = probe.evaluate(subject.queries.unit, subject.queries.labels)?;
    found.add(LINEAR_PROBE_ACCURACY.id(), score.accuracy);
    found.add(LINEAR_PROBE_LOG_LOSS.id(), score.log_loss);
    Ok(())
}
