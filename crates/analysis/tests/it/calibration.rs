//! Calibration: scikit-learn's values, and its corners.

use faceoff_analysis::Error;
use faceoff_analysis::calibration::{ReliabilityBin, calibration};
use ndarray::{Array2, array};

use crate::golden::{assert_all_near, assert_near, labels, load, matrix};

#[test]
fn agrees_with_scikit_learn() {
    let golden = load();
    let expected = &golden.values["calibration"];
    let scale = expected["scale"].as_f64().unwrap();
    let found = calibration(matrix(&expected["scores"]).view(), &labels(&expected["labels"]), scale, 15).unwrap();
    assert_near(found.ece, &expected["ece"], "ECE");
    assert_near(found.nll, &expected["nll"], "NLL");
    assert_near(found.brier, &expected["brier"], "Brier");
    let filled: Vec<_> = found.bins.iter().filter(|bin| bin.count > 0).collect();
    let of_bins = |value: fn(&ReliabilityBin) -> f64| filled.iter().map(|bin| value(bin)).collect::<Vec<_>>();
    assert_all_near(&of_bins(|bin| bin.count as f64), &expected["counts"], "counts");
    assert_all_near(&of_bins(|bin| bin.accuracy), &expected["accuracy"], "accuracy");
    assert_all_near(&of_bins(|bin| bin.confidence), &expected["confidence"], "confidence");
}

#[test]
fn extremes_are_defined() {
    // Sure and right, then sure and wrong, with logits far beyond exp's range.
    let scores = array![[1.0_f32, -1.0], [1.0, -1.0]];
    let right = calibration(scores.view(), &[0, 0], 1e4, 15).unwrap();
    assert_eq!((right.ece, right.nll, right.brier), (0.0, 0.0, 0.0));
    assert_eq!(right.bins[14].count, 2);
    let wrong = calibration(scores.view(), &[1, 1], 1e4, 15).unwrap();
    assert_eq!((wrong.ece, wrong.nll, wrong.brier), (1.0, 2e4, 2.0));
    // Equal scores: the first class is predicted at 1 / C, the upper edge of its bin.
    let flat = calibration(Array2::zeros((4, 3)).view(), &[0, 0, 1, 2], 64.0, 15).unwrap();
    assert_eq!(flat.bins[4].count, 4);
    assert!((flat.ece - (0.5 - 1.0 / 3.0)).abs() < 1e-15);
    assert!((flat.nll - 3.0_f64.ln()).abs() < 1e-15);
    // One class is certain.
    assert_eq!(calibration(Array2::zeros((2, 1)).view(), &[0, 0], 1.0, 15).unwrap().ece, 0.0);
}

#[test]
fn refuses_bad_input() {
    let scores = array![[1.0_f32, 0.0]];
    assert!(matches!(calibration(scores.view(), &[2], 1.0, 15), Err(Error::OutOfRange { name: "a label", .. })));
    assert!(matches!(calibration(scores.view(), &[], 1.0, 15), Err(Error::LengthMismatch(..))));
    assert!(matches!(calibration(Array2::zeros((0, 2)).view(), &[], 1.0, 15), Err(Error::Empty(_))));
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(calibration(scores.view(), &[0], scale, 15), Err(Error::OutOfRange { .. })));
    }
    assert!(matches!(calibration(scores.view(), &[0], 1.0, 0), Err(Error::OutOfRange { .. })));
    let nan = array![[f32::NAN, 0.0]];
    assert!(matches!(calibration(nan.view(), &[0], 1.0, 15), Err(Error::NotFinite(..))));
}
