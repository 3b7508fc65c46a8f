//! The linear probe: scikit-learn's minimum, and corners.

use faceoff_analysis::Error;
use faceoff_analysis::probe::LinearProbe;
use ndarray::{Array2, array, s};

use crate::golden::{assert_near, assert_rows_near, labels, load, made_up, matrix};

#[test]
fn agrees_with_scikit_learn() {
    let golden = load();
    let expected = &golden.values["probe"];
    let probe = LinearProbe::fit(golden.points.view(), &golden.labels).unwrap();
    assert_rows_near(&probe.weights, &expected["weights"], "weights");
    let queries = matrix(&expected["queries"]);
    let probabilities = probe.probabilities(queries.view()).unwrap();
    assert_rows_near(&probabilities, &expected["probabilities"], "probabilities");
    let score = probe.evaluate(queries.view(), &labels(&expected["query_labels"])).unwrap();
    assert_near(score.accuracy, &expected["accuracy"], "accuracy");
    assert_near(score.log_loss, &expected["log_loss"], "log loss");
    assert!(probe.intercepts.iter().sum::<f64>().abs() < 1e-9);
}

/// At the minimum of f the gradient is 0; it is convex, so nowhere else.
#[test]
fn the_gradient_vanishes_over_several_blocks() {
    let (points, classes) = made_up(600, 10, 3, 1.2, 4);
    let fitted = LinearProbe::fit(points.view(), &classes).unwrap();
    let mut residuals = fitted.probabilities(points.view()).unwrap();
    for (point, &class) in classes.iter().enumerate() {
        residuals[[point, class as usize]] -= 1.0;
    }
    let gradient = residuals.t().dot(&points.mapv(f64::from)) + &fitted.weights;
    assert!(gradient.iter().all(|g| g.abs() < 1e-3), "{gradient}");
    let intercepts = residuals.sum_axis(ndarray::Axis(0));
    assert!(intercepts.iter().all(|g| g.abs() < 1e-3), "{intercepts}");
}

#[test]
fn unseen_and_renamed_classes() {
    let points = array![[1.0_f32, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]];
    let probe = LinearProbe::fit(points.view(), &[8, 3, 8, 3]).unwrap();
    assert_eq!(probe.classes, [3, 8]);
    assert_eq!(probe.evaluate(points.view(), &[8, 3, 8, 3]).unwrap().accuracy, 1.0);
    let unseen = probe.evaluate(points.view(), &[8, 3, 8, 5]).unwrap();
    let known = probe.evaluate(points.slice(s![..3, ..]), &[8, 3, 8]).unwrap();
    assert_eq!((unseen.points, unseen.left_out, known.left_out), (3, 1, 0));
    assert_eq!((unseen.accuracy, unseen.log_loss), (1.0, known.log_loss));
    assert!(matches!(probe.evaluate(points.view(), &[1; 4]), Err(Error::Undefined(..))));
    // A probability too small for f64 still has a loss.
    let far = LinearProbe { weights: array![[0.0, 0.0], [2000.0, 0.0]], intercepts: vec![0.0; 2], ..probe };
    assert_eq!(far.evaluate(points.slice(s![..1, ..]), &[3]).unwrap().log_loss, 2000.0);
}

#[test]
fn equal_points_give_the_shares_of_classes() {
    let equal = Array2::from_shape_fn((4, 2), |(_, j)| if j == 0 { 0.6_f32 } else { 0.8 });
    let probe = LinearProbe::fit(equal.view(), &[0, 0, 0, 1]).unwrap();
    let probabilities = probe.probabilities(equal.view()).unwrap();
    assert!((probabilities[[0, 0]] - 0.75).abs() < 1e-4, "{probabilities}");
}

#[test]
fn refuses_bad_input() {
    let points = array![[1.0_f32, 0.0], [0.0, 1.0]];
    assert!(matches!(LinearProbe::fit(points.view(), &[0, 0]), Err(Error::Undefined(..))));
    let probe = LinearProbe::fit(points.view(), &[0, 1]).unwrap();
    assert!(matches!(probe.probabilities(points.slice(s![.., ..1])), Err(Error::LengthMismatch(..))));
    assert!(matches!(probe.evaluate(points.view(), &[0]), Err(Error::LengthMismatch(..))));
}
