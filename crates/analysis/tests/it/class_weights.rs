//! Angles to class weights, and the loss of a margin.

use faceoff_analysis::class_weights::{
    angles, cross_entropies, loss_of_equal_cosines, margin_shifts, mean_direction, median,
};
use ndarray::{Array2, Array3, array};

fn at(degrees: &[f32]) -> Array2<f32> {
    let place = |(row, column): (usize, usize)| {
        let radians = degrees[row].to_radians();
        if column == 0 { radians.cos() } else { radians.sin() }
    };
    Array2::from_shape_fn((degrees.len(), 2), place)
}

#[test]
fn of_several_weights_the_nearest_counts() {
    // Two weights of each of two classes, of length 3.
    let rows = at(&[0.0, 90.0, 50.0, 200.0]) * 3.0;
    let weights = Array3::from_shape_vec((2, 2, 2), rows.into_raw_vec_and_offset().0).unwrap();
    let found = angles(at(&[40.0, 80.0]).view(), &[0, 1], weights.view()).unwrap();
    let close = |found: &[f64], expected: [f64; 2]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3);
    assert!(close(&found.own, [10.0, 10.0]) && close(&found.other, [50.0, 30.0]), "{found:?}");
    assert_eq!(found.center, [1, 0]);
    assert!(angles(at(&[0.0]).view(), &[2], weights.view()).is_err());
    assert!(angles(at(&[0.0]).view(), &[0], (weights * 0.0).view()).is_err());
}

#[test]
fn losses_are_those_worked_out_by_hand() {
    let scores = array![[0.5_f32, 0.25], [0.0, 1.0]];
    let logits = array![[1.0_f32, 1.0], [0.0, 4.0]];
    let costs = cross_entropies(scores.view(), &[0, 0], 4.0).unwrap();
    assert!((costs[0] - (1.0 + (-1.0_f64).exp()).ln()).abs() < 1e-9);
    assert!((costs[1] - (1.0 + 4.0_f64.exp()).ln()).abs() < 1e-9);
    assert_eq!(margin_shifts(logits.view(), scores.view(), &[0, 1], 4.0).unwrap(), [-1.0, 0.0]);
    // Without a shift ln(C); with one of -22.4, as of CosFace with s = 64 and m = 0.35, that and ln(C - 1).
    assert!((loss_of_equal_cosines(&[0.0], 10) - 10.0_f64.ln()).abs() < 1e-12);
    assert!((loss_of_equal_cosines(&[-22.4], 10) - 22.4 - 9.0_f64.ln()).abs() < 1e-9);
    assert!((loss_of_equal_cosines(&[1e4, -1e4], 10) - (1e4 + 9.0_f64.ln()) / 2.0).abs() < 1e-9);
}

#[test]
fn a_mean_direction_is_as_long_as_points_agree() {
    let length = |degrees: &[f32]| mean_direction(at(degrees).view()).unwrap().mapv(|x| x * x).sum().sqrt();
    assert!((length(&[30.0, 30.0]) - 1.0).abs() < 1e-6);
    assert!((length(&[0.0, 90.0]) - 0.5_f64.sqrt()).abs() < 1e-6);
    assert!(length(&[0.0, 180.0]) < 1e-6);
    assert_eq!(median(&[3.0, 1.0, 2.0, 4.0]), 2.0);
    assert!(median(&[]).is_nan());
}
