//! Class centers, alignment, uniformity, neural collapse, spectra: NumPy's values, definitions, corners.

use faceoff_analysis::Error;
use faceoff_analysis::geometry::*;
use ndarray::{Array2, array, s};
use serde_json::Value;

use crate::golden::{assert_all_near, assert_near, load, made_up, matrix, numbers};

#[track_caller]
pub(crate) fn assert_golden(points: &Array2<f32>, labels: &[u32], expected: &Value) {
    let points = points.view();
    let angles = center_angles(points, labels).unwrap();
    for (row, expected) in angles.degrees.iter().zip(expected["center_angles"].as_array().unwrap()) {
        assert_all_near(row, expected, "center angles");
    }
    let rows = angles.degrees.iter().enumerate();
    assert!(rows.clone().all(|(i, row)| row[i] == 0.0 && (0..i).all(|j| row[j] == angles.degrees[j][i])));
    let between = rows.flat_map(|(i, row)| &row[i + 1..]).copied().fold(180.0, f64::min);
    assert_eq!(smallest_center_angle(points, labels).unwrap(), between);
    let collapse = neural_collapse(points, labels).unwrap();
    let eigenvalues = numbers(&expected["eigenvalues"]);
    let weights = matrix(&expected["weights"]);
    for (found, what) in [
        (alignment(points, labels).unwrap(), "alignment"),
        (uniformity(points).unwrap(), "uniformity"),
        (collapse.within_over_between, "nc1"),
        (collapse.equinorm, "equinorm"),
        (collapse.equiangularity, "equiangularity"),
        (collapse.maximal_angle, "maximal_angle"),
        (self_duality(weights.view(), points, labels).unwrap(), "self_duality"),
        (effective_rank(&eigenvalues).unwrap(), "effective_rank"),
        (components_for_variance(&eigenvalues, 0.95).unwrap() as f64, "components_95"),
    ] {
        assert_near(found, &expected[what], what);
    }
    let nearest = crate::golden::labels(&expected["nearest_mean"]);
    assert_eq!(nearest_mean_disagreement(points, labels, &nearest).unwrap(), 0.0);
}

#[test]
fn agrees_with_numpy() {
    let golden = load();
    assert_golden(&golden.points, &golden.labels, &golden.values["geometry"]);
    assert_eq!(center_angles(golden.points.view(), &golden.labels).unwrap().classes, [0, 1, 2, 3, 4]);
}

#[test]
fn uniformity_agrees_with_its_definition_over_several_blocks() {
    let (points, _) = made_up(700, 12, 4, 1.0, 3);
    let (mut sum, mut pairs) = (0.0, 0.0);
    for i in 0..700 {
        for j in i + 1..700 {
            let squared: f64 = points.row(i).iter().zip(points.row(j)).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            sum += (-2.0 * squared).exp();
            pairs += 1.0;
        }
    }
    let expected = f64::ln(sum / pairs);
    let found = uniformity(points.view()).unwrap();
    assert!((found - expected).abs() < 1e-6, "{found} {expected}");
}

#[test]
fn a_simplex_is_full_collapse() {
    // Three directions at 120 degrees, every point on its class center.
    let corners = [[1.0, 0.0], [-0.5, 0.75_f32.sqrt()], [-0.5, -(0.75_f32.sqrt())]];
    let points = Array2::from_shape_fn((12, 2), |(i, j)| corners[i % 3][j]);
    let labels: Vec<u32> = (0..12).map(|i| i % 3).collect();
    let found = neural_collapse(points.view(), &labels).unwrap();
    for value in [found.within_over_between, found.equinorm, found.equiangularity, found.maximal_angle] {
        assert!(value.abs() < 1e-6, "{found:?}");
    }
    // Weights along the centered means, whatever their length.
    let weights = Array2::from_shape_fn((3, 2), |(i, j)| 7.0 * corners[i][j]);
    assert!(self_duality(weights.view(), points.view(), &labels).unwrap() < 1e-6);
    assert!((self_duality((-&weights).view(), points.view(), &labels).unwrap() - 2.0).abs() < 1e-6);
    assert_eq!(nearest_mean_disagreement(points.view(), &labels, &labels).unwrap(), 0.0);
    assert_eq!(nearest_mean_disagreement(points.view(), &labels, &[2; 12]).unwrap(), 2.0 / 3.0);
    let angles = center_angles(points.view(), &labels).unwrap();
    assert!((angles.degrees[0][2] - 120.0).abs() < 1e-4);
    assert!(alignment(points.view(), &labels).unwrap().abs() < 1e-12);
    assert_eq!(nearest_center_predictions(points.view(), &labels, points.view()).unwrap(), labels);
}

#[test]
fn nearest_centers_keep_the_labels_names() {
    let index = array![[1.0_f32, 0.0], [0.0, 1.0], [0.0, 1.0]];
    let queries = array![[0.6_f32, 0.8], [0.8, -0.6], [-1.0, 0.0]];
    assert_eq!(nearest_center_predictions(index.view(), &[9, 4, 4], queries.view()).unwrap(), [4, 9, 4]);
    // Equally near: the lower class.
    let even = array![[0.0_f32, -1.0]];
    let sides = array![[1.0_f32, 0.0], [-1.0, 0.0]];
    assert_eq!(nearest_center_predictions(sides.view(), &[7, 3], even.view()).unwrap(), [3]);
}

#[test]
fn spectra_at_the_edges() {
    assert!((effective_rank(&[2.0, 2.0, 2.0]).unwrap() - 3.0).abs() < 1e-12);
    assert_eq!(effective_rank(&[5.0, 0.0]).unwrap(), 1.0);
    // Rounding below zero counts as zero.
    assert_eq!(effective_rank(&[5.0, -1e-12]).unwrap(), 1.0);
    assert_eq!(components_for_variance(&[5.0, 0.0], 1.0).unwrap(), 1);
    assert_eq!(components_for_variance(&[0.5, 0.3, 0.2], 0.8).unwrap(), 2);
    assert_eq!(components_for_variance(&[0.5, 0.3, 0.2], 0.81).unwrap(), 3);
    assert!(matches!(effective_rank(&[]), Err(Error::Empty(_))));
    assert!(matches!(effective_rank(&[0.0, 0.0]), Err(Error::Undefined(..))));
    assert!(matches!(effective_rank(&[1.0, -0.5]), Err(Error::OutOfRange { .. })));
    assert!(matches!(effective_rank(&[1.0, f64::NAN]), Err(Error::NotFinite(_, 1, ..))));
    for share in [0.0, 1.5, f64::NAN] {
        assert!(matches!(components_for_variance(&[1.0], share), Err(Error::OutOfRange { .. })));
    }
}

#[test]
fn equal_points_and_single_classes() {
    let equal = Array2::from_shape_fn((6, 2), |(_, j)| if j == 0 { 0.6_f32 } else { 0.8 });
    let labels = [0, 0, 0, 1, 1, 1];
    assert!(uniformity(equal.view()).unwrap().abs() < 1e-6);
    assert!(alignment(equal.view(), &labels).unwrap().abs() < 1e-12);
    assert!(matches!(neural_collapse(equal.view(), &labels), Err(Error::Undefined(..))));
    assert!(matches!(neural_collapse(equal.view(), &[0; 6]), Err(Error::Undefined(..))));
    assert!(center_angles(equal.view(), &labels).unwrap().degrees[0][1] < 1e-5);
    let weights = array![[1.0_f32, 0.0], [0.0, 1.0]];
    assert!(matches!(self_duality(weights.view(), equal.view(), &labels), Err(Error::Undefined(..))));
    let apart = array![[1.0_f32, 0.0], [0.0, 1.0]];
    for (bad, labels) in [(array![[0.0_f32, 0.0], [0.0, 0.0]], [0, 1]), (weights.clone(), [0, 0])] {
        assert!(matches!(self_duality(bad.view(), apart.view(), &labels), Err(Error::Undefined(..))));
    }
    let unknown = self_duality(weights.view(), apart.view(), &[0, 2]);
    assert!(matches!(unknown, Err(Error::OutOfRange { name: "a label", .. })));
    let wide = array![[1.0_f32, 0.0, 0.0], [0.0, 1.0, 0.0]];
    assert!(matches!(self_duality(wide.view(), apart.view(), &[0, 1]), Err(Error::LengthMismatch(..))));
    // All means are equally near: the lower class.
    assert_eq!(nearest_mean_disagreement(equal.view(), &labels, &[0; 6]).unwrap(), 0.0);
    let short = nearest_mean_disagreement(equal.view(), &labels, &[0; 5]);
    assert!(matches!(short, Err(Error::LengthMismatch(..))));
    assert_eq!(center_angles(equal.view(), &[3; 6]).unwrap().degrees, [[0.0]]);
    let opposite = array![[1.0_f32, 0.0], [-1.0, 0.0]];
    assert!(matches!(center_angles(opposite.view(), &[0, 0]), Err(Error::Undefined(..))));
    assert!(matches!(alignment(opposite.view(), &[0, 1]), Err(Error::Undefined(..))));
    assert!(matches!(uniformity(opposite.slice(s![..1, ..])), Err(Error::Undefined(..))));
}
