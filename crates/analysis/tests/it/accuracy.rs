//! Accuracy: by hand, by definition, and its corners.

use faceoff_analysis::{
    Error,
    accuracy::{accuracy, confusion_matrix, macro_accuracy, predictions},
};
use ndarray::{Array2, arr2};
use proptest::prelude::*;

#[test]
fn the_first_of_equal_scores_wins_and_nan_never() {
    let scores = arr2(&[[0.1, 0.7, 0.2], [0.5, 0.5, 0.1], [-3.0, -2.0, -2.0]]);
    assert_eq!(predictions(scores.view()), [1, 0, 1]);
    let scores = arr2(&[[f32::NAN, 0.0, 1.0], [2.0, f32::NAN, 1.0], [f32::NAN; 3]]);
    assert_eq!(predictions(scores.view()), [2, 0, 0]);
}

#[test]
fn scores_in_columns_give_the_same() {
    let scores = arr2(&[[0.1, 0.9], [0.8, 0.2], [0.3, 0.4]]);
    let columns = Array2::from_shape_vec((2, 3), vec![0.1, 0.8, 0.3, 0.9, 0.2, 0.4]).unwrap();
    assert_eq!(predictions(columns.t()), predictions(scores.view()));
}

#[test]
fn by_hand() {
    let labels = [0, 0, 0, 0, 1, 1, 2];
    let found = [0, 0, 0, 1, 1, 2, 0];
    assert_eq!(accuracy(&found, &labels).unwrap(), 4.0 / 7.0);
    // Recalls 3/4, 1/2 and 0; class 3 has no labels.
    assert!((macro_accuracy(&found, &labels, 4).unwrap() - (0.75 + 0.5) / 3.0).abs() < 1e-15);
    let expected = arr2(&[[3_u64, 1, 0], [0, 1, 1], [1, 0, 0]]);
    assert_eq!(confusion_matrix(&found, &labels, 3).unwrap(), expected);
}

#[test]
fn bad_input_is_named() {
    assert_eq!(accuracy(&[], &[]), Err(Error::Empty("predictions")));
    let unequal = Error::LengthMismatch("predictions", 1, "labels", 2);
    assert_eq!(accuracy(&[1], &[1, 2]), Err(unequal.clone()));
    assert_eq!(confusion_matrix(&[1], &[1, 2], 3), Err(unequal));
    for (found, labels) in [([0, 1], [0, 3]), ([0, 3], [0, 1])] {
        let unknown = macro_accuracy(&found, &labels, 3).unwrap_err().to_string();
        assert!(unknown.starts_with("a label is 3: at position 1 it must be below 3, "), "{unknown}");
    }
}

proptest! {
    #[test]
    fn accuracies_are_those_of_the_confusion_matrix(pairs in prop::collection::vec((0_u32..5, 0_u32..5), 1..200)) {
        let (found, labels): (Vec<u32>, Vec<u32>) = pairs.into_iter().unzip();
        let matrix = confusion_matrix(&found, &labels, 5).unwrap();
        prop_assert_eq!(matrix.sum() as usize, labels.len());
        let right: u64 = matrix.diag().sum();
        prop_assert_eq!(accuracy(&found, &labels).unwrap(), right as f64 / labels.len() as f64);
        prop_assert_eq!(macro_accuracy(&labels, &labels, 5).unwrap(), 1.0);
        let macro_value = macro_accuracy(&found, &labels, 5).unwrap();
        prop_assert!((0.0..=1.0).contains(&macro_value));
    }
}
