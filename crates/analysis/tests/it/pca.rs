//! Principal components: scikit-learn's numbers, linfa's, the definition, and corners.

use faceoff_analysis::{Error, pca};
use ndarray::{Array2, Axis, s};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::golden::{matrix, numbers};

fn made_up(points: usize, dims: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_fn((points, dims), |(_, d)| 3.0 + rng.random_range(-1.0_f32..1.0) / (1 + d) as f32)
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], relative: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= relative * expected.abs(), "{what}[{i}]: {found} instead of {expected}");
    }
}

#[test]
fn equal_to_scikit_learn() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../golden/pca.json")).unwrap();
    assert_eq!(cases.len(), 4);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let points = matrix(&case["points"]);
        let fitted = pca::fit(points.view(), case["components"].as_u64().unwrap() as usize).unwrap();
        assert_close(fitted.mean.as_slice().unwrap(), &numbers(&case["mean"]), 1e-12, name);
        assert_close(&fitted.explained_variance, &numbers(&case["explained_variance"]), 1e-9, name);
        assert_close(&fitted.explained_variance_ratio, &numbers(&case["explained_variance_ratio"]), 1e-9, name);
        assert_close(&[fitted.total_variance], &[case["total_variance"].as_f64().unwrap()], 1e-12, name);
        for (row, axis) in case["axes"].as_array().unwrap().iter().enumerate() {
            for (found, expected) in fitted.components.row(row).iter().zip(numbers(axis)) {
                assert!((found - expected).abs() < 1e-7, "{name}: component {row}: {found} instead of {expected}");
            }
        }
        let moved = fitted.transform(points.view()).unwrap();
        for (found, expected) in moved.iter().zip(&matrix(&case["transformed"])) {
            assert!((found - expected).abs() < 1e-6, "{name}: {found} instead of {expected}");
        }
    }
}

#[test]
fn equal_to_linfa_once_its_variances_are_corrected() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let points = Array2::from_shape_fn((120, 9), |(_, d)| rng.random_range(-1.0_f32..1.0) / 2.0_f32.powi(d as i32));
    let ours = pca::fit(points.view(), 4).unwrap();
    let theirs = pca::fit_linfa(points.view(), 4).unwrap();
    assert_close(&theirs.explained_variance, &ours.explained_variance, 1e-2, "variance");
    assert_close(&theirs.explained_variance_ratio, &ours.explained_variance_ratio, 1e-2, "ratio");
    assert_close(&[theirs.total_variance], &[ours.total_variance], 1e-12, "total");
    let furthest = (&ours.components - &theirs.components).fold(0.0_f64, |most, d| most.max(d.abs()));
    assert!(furthest < 0.1, "{furthest}");
    assert!(ours.explained_variance_ratio.iter().sum::<f64>() < 0.999, "ratios are against the total");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_basis_is_orthonormal_ordered_and_complete(points in 2_usize..90, dims in 1_usize..60, seed in any::<u64>()) {
        let data = made_up(points, dims, seed);
        let all = points.min(dims);
        let fitted = pca::fit(data.view(), all).unwrap();
        let products = fitted.components.dot(&fitted.components.t());
        let identity = Array2::<f64>::eye(all);
        prop_assert!((&products - &identity).iter().all(|d| d.abs() < 1e-9), "not orthonormal: {products}");
        prop_assert!(fitted.explained_variance.windows(2).all(|pair| pair[0] >= pair[1]));
        let sum: f64 = fitted.explained_variance.iter().sum();
        prop_assert!((sum - fitted.total_variance).abs() < 1e-9 * fitted.total_variance);

        // The definition of the total.
        let wide = data.mapv(f64::from);
        let total = wide.var_axis(Axis(0), 1.0).sum();
        prop_assert!((total - fitted.total_variance).abs() < 1e-9 * total);

        // Coordinates are centered, have the variances and keep all distances from the mean.
        let moved = fitted.transform(data.view()).unwrap().mapv(f64::from);
        let variances = moved.var_axis(Axis(0), 1.0);
        for (found, expected) in variances.iter().zip(&fitted.explained_variance) {
            prop_assert!((found - expected).abs() < 1e-5 * total, "{found} instead of {expected}");
        }
        prop_assert!(moved.mean_axis(Axis(0)).unwrap().iter().all(|m| m.abs() < 1e-6));

        // The entry of the greatest magnitude is positive.
        for row in fitted.components.rows() {
            let largest = row.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
            prop_assert!(largest > 0.0);
        }
        let some = all.div_ceil(2);
        let fewer = pca::fit(data.view(), some).unwrap();
        prop_assert_eq!(&fewer.explained_variance[..], &fitted.explained_variance[..some]);
    }
}

#[test]
fn components_beyond_the_rank_have_no_variance_and_stay_orthogonal() {
    // Two distinct points among 6: rank 1, in both decompositions.
    for dims in [3, 20] {
        let points = Array2::from_shape_fn((6, dims), |(i, d)| ((i % 2) * (d + 1)) as f32);
        let fitted = pca::fit(points.view(), 3).unwrap();
        assert!((fitted.explained_variance_ratio[0] - 1.0).abs() < 1e-12);
        assert!(fitted.explained_variance_ratio[1..].iter().all(|ratio| *ratio < 1e-12));
        let products = fitted.components.dot(&fitted.components.t());
        assert!((&products - &Array2::<f64>::eye(3)).iter().all(|d| d.abs() < 1e-9), "{products}");
    }
}

#[test]
fn bad_input_is_named() {
    let points = made_up(10, 4, 4);
    for fit in [pca::fit, pca::fit_linfa] {
        for components in [0, 5] {
            let refused = fit(points.view(), components).unwrap_err().to_string();
            assert!(refused.contains(&format!("is {components}: it must be from 1 to 4; ")), "{refused}");
        }
        let single = fit(points.slice(s![..1, ..]), 1);
        assert!(matches!(single, Err(Error::OutOfRange { name: "the number of points", .. })), "{single:?}");
        // 0.1 is not a binary fraction: its mean is rounded, and still nothing is left after centring.
        let constant = fit(Array2::from_elem((7, 3), 0.1_f32).view(), 1);
        assert!(matches!(constant, Err(Error::Undefined(..))), "{constant:?}");
    }
    let fitted = pca::fit(points.view(), 2).unwrap();
    assert!(matches!(fitted.transform(points.slice(s![.., ..3])), Err(Error::LengthMismatch(..))));
}
