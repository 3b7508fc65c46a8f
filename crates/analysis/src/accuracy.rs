//! Accuracy of predicted classes: plain, macro-averaged, and the confusion matrix.

use ndarray::{Array2, ArrayView2};

use crate::error::{Result, check_labels, check_lengths};
use crate::products::greatest;

/// The class of the highest score of each row of `scores` (points, classes); the first of equal scores. A NaN never wins; a row
/// without any number gives class 0.
pub fn predictions(scores: ArrayView2<'_, f32>) -> Vec<u32> {
    scores.rows().into_iter().map(|row| greatest(row.iter().copied()).0 as u32).collect()
}

/// The fraction of predictions that equal their label.
pub fn accuracy(predictions: &[u32], labels: &[u32]) -> Result<f64> {
    check_lengths("predictions", predictions.len(), "labels", labels.len())?;
    let right = predictions.iter().zip(labels).filter(|(prediction, label)| prediction == label).count();
    Ok(right as f64 / labels.len() as f64)
}

/// The mean over classes of the accuracy within a class (balanced accuracy): every class counts alike, whatever its size. Classes
/// without a label are left out of the mean.
pub fn macro_accuracy(predictions: &[u32], labels: &[u32], classes: usize) -> Result<f64> {
    let matrix = confusion_matrix(predictions, labels, classes)?;
    let counts = (0..classes).map(|class| (matrix[[class, class]], matrix.row(class).sum()));
    let recalls = counts.filter(|(_, all)| *all > 0).map(|(right, all)| right as f64 / all as f64);
    let recalls: Vec<f64> = recalls.collect();
    Ok(recalls.iter().sum::<f64>() / recalls.len() as f64)
}

/// Counts (classes, classes): rows are true classes, columns predicted ones.
pub fn confusion_matrix(predictions: &[u32], labels: &[u32], classes: usize) -> Result<Array2<u64>> {
    check_lengths("predictions", predictions.len(), "labels", labels.len())?;
    check_labels(labels, classes)?;
    check_labels(predictions, classes)?;
    let mut matrix = Array2::zeros((classes, classes));
    for (&prediction, &label) in predictions.iter().zip(labels) {
        matrix[[label as usize, prediction as usize]] += 1;
    }
    Ok(matrix)
}
