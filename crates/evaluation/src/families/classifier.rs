//! The head as a classifier of the validation images.

use super::{Family, Findings, Headline, Result, Splits, Subject, rows};
use faceoff_analysis::accuracy;

rows! { METRICS in "Classifier":
    DNN_ACCURACY "dnn_accuracy" "DNN accuracy" Percent Higher
        "Share of the validation images whose class has the head's highest score, labels withheld; a loss of pairs scores nothing, and instead of scores it has cosines with the class means of the training embeddings." "count";
    DNN_MACRO_ACCURACY "dnn_macro_accuracy" "DNN macro accuracy" Percent Higher
        "DNN accuracy within each class, averaged over the classes, so that a small class counts as much as a large one." "count";
    LABELS_GIVEN "dnn_accuracy_labels_given" "DNN accuracy, labels given" Percent Neither
        "Share of the validation images whose class has the highest training logit, true labels given: a margin handicaps its own class; DNN accuracy again for a head without logits."
        "validation loop of Catalyst";
}

/// DNN accuracy with its interval over images, macro accuracy, Catalyst's reading, and the confusion matrix.
pub const FAMILY: Family = Family {
    name: "accuracy of the classifier",
    version: 2,
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
    let Some(Splits { val, .. }) = subject.classifier else { return Ok(()) };
    let predicted = accuracy::predictions(val.scores());
    found.add(DNN_ACCURACY.id(), accuracy::accuracy(&predicted, &val.labels)?);
    found.add(DNN_MACRO_ACCURACY.id(), accuracy::macro_accuracy(&predicted, &val.labels, subject.classes)?);
    found.add(LABELS_GIVEN.id(), accuracy::accuracy(&val.predictions_labels_given, &val.labels)?);
    let confusion = accuracy::confusion_matrix(&predicted, &val.labels, subject.classes)?;
    found.shapes.confusion = confusion.rows().into_iter().map(|row| row.to_vec()).collect();
    found.resample(DNN_ACCURACY.id(), &predicted, &val.labels, subject)
}
