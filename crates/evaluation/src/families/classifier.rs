//! The head as a classifier of the validation images.

use super::{Family, Findings, Headline, Result, Subject, matrices_are_kept, rows};
use faceoff_analysis::accuracy;

rows! { METRICS in "Classifier":
    DNN_ACCURACY "dnn_accuracy" "DNN accuracy" Percent Higher
        "Share of the validation images whose class has the head's highest score, labels withheld; a loss of pairs scores nothing, and is taken by the nearest class mean of the training embeddings by the labels trained on, which is nearest-centre accuracy unless these are noisy." "count";
    DNN_MACRO_ACCURACY "dnn_macro_accuracy" "DNN macro accuracy" Percent Higher
        "DNN accuracy within each class, averaged over the classes, so that a small class counts as much as a large one." "count";
    LABELS_GIVEN "dnn_accuracy_labels_given" "DNN accuracy, labels given" Percent Neither
        "Share of the validation images whose class has the highest training logit, true labels given: a margin handicaps its own class; DNN accuracy again for a head without logits."
        "validation loop of Catalyst";
}

/// DNN accuracy with its interval over images, macro accuracy, Catalyst's reading, and the confusion matrix.
pub const FAMILY: Family = Family {
    name: "accuracy of the classifier",
    version: 3,
    metrics: METRICS,
    headline: |_| {
        vec![
            (DNN_ACCURACY.id(), Headline::Compared),
            (DNN_MACRO_ACCURACY.id(), Headline::Result),
            (LABELS_GIVEN.id(), Headline::Result),
        ]
    },
    measure,
};

fn measure(subject: &Subject<'_>, found: &mut Findings) -> Result<()> {
    let Some(splits) = subject.classifier else { return Ok(()) };
    let val = &splits.val;
    let predicted = splits.predictions(val)?;
    found.add(DNN_ACCURACY.id(), accuracy::accuracy(&predicted, &val.labels)?);
    found.add(DNN_MACRO_ACCURACY.id(), accuracy::macro_accuracy(&predicted, &val.labels, subject.classes)?);
    let given = if splits.scored_by_means { &predicted } else { &val.predictions_labels_given };
    found.add(LABELS_GIVEN.id(), accuracy::accuracy(given, &val.labels)?);
    if matrices_are_kept(subject.classes, "confusion", found) {
        let confusion = accuracy::confusion_matrix(&predicted, &val.labels, subject.classes)?;
        found.shapes.confusion = confusion.rows().into_iter().map(|row| row.to_vec()).collect();
    }
    found.resample(DNN_ACCURACY.id(), &predicted, &val.labels, subject)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::{calibration, geometry, health, settings_of_quick};
    use crate::look::Look;
    use crate::measured::Splits;
    use faceoff_runs::{Embeddings, HeadConfig};

    /// A split of two classes at these angles; all scores tie, as cosines in f32 may.
    fn split(angles: &[(f64, u32)]) -> Embeddings {
        let labels = Vec::from_iter(angles.iter().map(|&(_, label)| label));
        let n = angles.len();
        Embeddings {
            ids: (0..n).map(|image| image.to_string()).collect(),
            labels_trained: labels.clone(),
            labels,
            dim: 2,
            classes: 2,
            unit: angles.iter().flat_map(|(angle, _)| [angle.cos() as f32, angle.sin() as f32]).collect(),
            norms: vec![1.0; n],
            scores: vec![0.5; 2 * n],
            logits: None,
            predictions_labels_given: vec![0; n],
            effective_scale: 1.0,
            class_vectors: None,
        }
    }

    #[test]
    fn the_accuracy_of_a_loss_of_pairs_is_that_of_the_nearest_centre() {
        let train = split(&[(0.0, 0), (1.0, 1)]);
        // The last two lie next to the middle between both classes.
        let val = split(&[(0.1, 0), (0.9, 1), (0.5 + 1e-6, 1), (0.5 - 1e-6, 1)]);
        let splits = Splits {
            train,
            val,
            head: HeadConfig::new("Triplet"),
            weights: None,
            scored_by_means: true,
            held_out: false,
            seen: None,
        };
        let settings = settings_of_quick();
        let mut found = Findings::default();
        let subject = splits.subject(2, true, 0, &settings);
        for family in [FAMILY, geometry::FAMILY, health::FAMILY, calibration::FAMILY] {
            (family.measure)(&subject, &mut found).unwrap();
        }
        for metric in [&DNN_ACCURACY, &LABELS_GIVEN, &geometry::NEAREST_CENTER_ACCURACY] {
            assert_eq!(found.value(metric.id()), Some(0.75), "{}", metric.id);
        }
        assert_eq!(found.value(health::NEVER_PREDICTED.id()), Some(0.0));
        // Cosines with class means are no confidences.
        assert_eq!(found.value(calibration::CALIBRATION_ERROR.id()), None);
        assert!(found.shapes.reliability.is_empty() && Look::of_splits(&splits, &subject).unwrap().said.is_none());
    }

    #[test]
    fn training_scores_that_were_not_kept_are_missed_only_where_the_head_scores() {
        for scored_by_means in [true, false] {
            let mut train = split(&[(0.0, 0), (1.0, 1)]);
            train.scores.clear();
            let (val, head) = (split(&[(0.1, 0), (0.9, 1)]), HeadConfig::new("Triplet"));
            let splits = Splits { train, val, head, weights: None, scored_by_means, held_out: false, seen: None };
            let (settings, mut found) = (settings_of_quick(), Findings::default());
            (geometry::CLASSIFIER_COLLAPSE.measure)(&splits.subject(2, true, 0, &settings), &mut found).unwrap();
            assert_eq!(found.value(geometry::NC4_DISAGREEMENT.id()), scored_by_means.then_some(0.0));
            assert_eq!(found.notes.iter().any(|note| note.contains("too many to be kept")), !scored_by_means);
            assert_eq!(splits.predictions(&splits.train).is_ok(), scored_by_means);
        }
    }
}
