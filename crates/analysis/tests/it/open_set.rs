//! Open-set recognition and thresholds: values of scikit-learn and of definitions written out in `scripts/golden_open_set.py`.

use faceoff_analysis::Error;
use faceoff_analysis::open_set::{
    OpenSet, Recommended, equal_error_threshold, open_set, recommended_threshold, threshold_inconsistency,
};
use faceoff_analysis::verification::verification;
use ndarray::{ArrayView2, array, s};
use serde_json::Value;

use crate::golden::{labels, made_up, matrix, numbers, with_threads};

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/open_set.json")).unwrap()
}

fn opis(points: ArrayView2<f32>, labels: &[u32]) -> f64 {
    threshold_inconsistency(points, labels, &verification(points, labels).unwrap()).unwrap()
}

#[track_caller]
fn assert_exact(found: f64, expected: &Value, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= 1e-12, "{what}: {found}, golden value {expected}");
}

#[test]
fn agrees_with_scikit_learn_and_openood() {
    for (name, case) in golden()["cases"].as_object().unwrap() {
        let (known, unknown) = (numbers(&case["known"]), numbers(&case["unknown"]));
        let right: Vec<bool> = case["right"].as_array().unwrap().iter().map(|right| right.as_bool().unwrap()).collect();
        let OpenSet { auroc, fpr_at_95_tpr, oscr } = open_set(&known, &right, &unknown).unwrap();
        assert_exact(auroc, &case["auroc"], &format!("{name}: AUROC"));
        assert_exact(fpr_at_95_tpr, &case["fpr_at_95_tpr"], &format!("{name}: FPR"));
        assert_exact(oscr, &case["oscr"], &format!("{name}: OSCR"));
        let Recommended { threshold, false_accept, false_reject } = equal_error_threshold(&known, &unknown).unwrap();
        assert_exact(threshold, &case["threshold"], &format!("{name}: threshold"));
        assert_exact(false_accept, &case["false_accept"], &format!("{name}: false accept"));
        assert_exact(false_reject, &case["false_reject"], &format!("{name}: false reject"));
    }
}

#[test]
fn a_threshold_is_tested_on_points_that_did_not_choose_it() {
    let known: Vec<f64> = (0..1000).map(|at| 0.4 + f64::from(at) / 1000.0).collect();
    let unknown: Vec<f64> = (0..500).map(|at| f64::from(at) / 500.0).collect();
    // Known scores are even in [0.4, 1.4], unknown ones in [0, 1]: both errors are 0.3 at 0.7.
    let found = recommended_threshold(&known, &unknown, 1).unwrap();
    assert!((found.threshold - 0.7).abs() < 0.05, "{found:?}");
    assert!((found.false_accept - 0.3).abs() < 0.08 && (found.false_reject - 0.3).abs() < 0.08, "{found:?}");
    assert_ne!(found, recommended_threshold(&known, &unknown, 2).unwrap());
    // Of two points each, one chooses: where they are apart, the other agrees.
    let apart = recommended_threshold(&[0.9, 0.8], &[0.1, 0.2], 0).unwrap();
    assert!(apart.threshold > 0.2 && apart.false_accept == 0.0, "{apart:?}");
    assert!(matches!(recommended_threshold(&[0.9], &[0.1, 0.2], 0), Err(Error::Undefined(..))));
}

#[test]
fn opis_agrees_with_its_definition() {
    let golden = golden();
    let (points, labels) = (matrix(&golden["points"]), labels(&golden["labels"]));
    let found = opis(points.view(), &labels);
    assert_exact(found, &golden["opis"], "OPIS");
}

#[test]
fn a_threshold_serves_classes_alike_or_not() {
    // Two classes that mirror one another, in two planes of their own: no threshold tells them apart.
    let ring = |at: usize| (at as f32 * 0.1).sin_cos();
    let mirrored = ndarray::Array2::from_shape_fn((40, 4), |(row, column)| {
        let (sin, cos) = ring(row / 2);
        match (row % 2, column) {
            (0, 0) | (1, 2) => cos,
            (0, 1) | (1, 3) => sin,
            _ => 0.0,
        }
    });
    let labels: Vec<u32> = (0..40).map(|row| row % 2).collect();
    assert!(opis(mirrored.view(), &labels) < 1e-12);
    let (points, labels) = made_up(400, 16, 4, 0.9, 2);
    let [one, three] = with_threads(|| opis(points.view(), &labels));
    assert_eq!(one, three);
    assert!(one > 1e-6, "{one}");
}

#[test]
fn refuses_what_has_no_answer() {
    assert!(matches!(open_set(&[0.5], &[true], &[]), Err(Error::Empty(_))));
    assert!(matches!(open_set(&[0.5], &[], &[0.1]), Err(Error::LengthMismatch(..))));
    assert!(matches!(open_set(&[f64::NAN], &[true], &[0.1]), Err(Error::NotFinite(..))));
    let few = array![[1.0_f32, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]];
    let known = verification(few.view(), &[0, 0, 1, 1]).unwrap();
    assert!(matches!(threshold_inconsistency(few.view(), &[0, 0, 1, 1], &known), Err(Error::Undefined(..))));
    assert!(matches!(threshold_inconsistency(few.slice(s![..2, ..]), &[0, 1], &known), Err(Error::Undefined(..))));
}
