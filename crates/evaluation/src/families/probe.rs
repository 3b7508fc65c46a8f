//! A linear classifier of the embeddings: fitted on the training images with their true labels, scored on the validation images.

use super::{Family, Findings, Result, Subject, rows};
use faceoff_analysis::probe::LinearProbe;
use faceoff_runs::thousands;
use std::collections::BTreeSet;

/// Images times numbers of an embedding times classes that a probe is fitted to at most: some minutes of one processor.
const MOST_PRODUCTS: usize = 1 << 33;

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
    let ((images, numbers), classes) = (train.unit.dim(), train.labels.iter().collect::<BTreeSet<_>>().len());
    if images.saturating_mul(numbers).saturating_mul(classes) > MOST_PRODUCTS {
        found.notes.push(format!(
            "no linear probe: {} images of {numbers} numbers in {} classes would take it too long; it is fitted where the product of \
             the three is at most {}.",
            thousands(images),
            thousands(classes),
            thousands(MOST_PRODUCTS)
        ));
        return Ok(());
    }
    let probe = LinearProbe::fit(train.unit, train.labels)?;
    let score = probe.evaluate(subject.queries.unit, subject.queries.labels)?;
    found.add(LINEAR_PROBE_ACCURACY.id(), score.accuracy);
    found.add(LINEAR_PROBE_LOG_LOSS.id(), score.log_loss);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::settings_of_quick;
    use super::*;
    use crate::measured::{Points, measure_family};
    use ndarray::Array2;

    #[test]
    fn a_probe_of_too_many_images_numbers_and_classes_is_left_out_and_said() {
        // One image more often than the limit allows for so many numbers, each in a class of its own.
        let (images, numbers) = (4_096, 513);
        let (row, labels) = (Array2::<f32>::ones((1, numbers)), Vec::from_iter(0..images as u32));
        let points = Points { unit: row.broadcast((images, numbers)).unwrap(), labels: &labels };
        let settings = settings_of_quick();
        let subject = Subject {
            index: Some(points),
            queries: points,
            classifier: None,
            held_out: None,
            classes: images,
            seed: 0,
            settings: &settings,
        };
        let found = measure_family(&subject, &FAMILY);
        assert!(found.values.is_empty());
        let said = "no linear probe: 4,096 images of 513 numbers in 4,096 classes would take it too long";
        assert!(found.notes[0].starts_with(said), "{:?}", found.notes);
    }
}
