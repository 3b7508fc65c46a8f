//! Verification: scikit-learn's values, and the definitions over all pairs.

use faceoff_analysis::Error;
use faceoff_analysis::verification::{FAR, Verification, verification};
use ndarray::{Array2, array, s};
use serde_json::Value;

use crate::golden::{assert_near, load, made_up};

#[track_caller]
pub(crate) fn assert_golden(found: &Verification, expected: &Value) {
    for (angles, pairs) in [(&found.intra_class, "positive_pairs"), (&found.inter_class, "negative_pairs")] {
        assert_eq!(angles.histogram.iter().sum::<u64>(), expected[pairs].as_u64().unwrap(), "{pairs}");
    }
    assert_near(found.auc, &expected["auc"], "AUC");
    assert_near(found.eer, &expected["eer"], "EER");
    for ((found, expected), far) in found.tar_at_far.iter().zip(expected["tar_at_far"].as_array().unwrap()).zip(FAR) {
        match found {
            Some(tar) => assert_near(*tar, expected, &format!("TAR at FAR {far}")),
            None => assert!(expected.is_null(), "TAR at FAR {far}"),
        }
    }
}

#[test]
fn agrees_with_scikit_learn() {
    let golden = load();
    let expected = &golden.values["verification"];
    let found = verification(golden.points.view(), &golden.labels).unwrap();
    assert_golden(&found, expected);
    assert_eq!(found.auc_error_bound, 0.0, "no two kinds of pairs share a bin");
    for (found, expected) in [
        (found.intra_class.mean_degrees, &expected["intra_mean_degrees"]),
        (found.inter_class.mean_degrees, &expected["inter_mean_degrees"]),
        (found.inter_class.sd_degrees, &expected["inter_sd_degrees"]),
    ] {
        // Duplicated points have an angle of 0, which a bin takes for 0.06 degrees.
        assert!((found - expected.as_f64().unwrap()).abs() < 1e-3, "{found} {expected}");
    }
}

/// The definitions over all pairs in f64, without bins.
#[test]
fn agrees_with_the_definitions_over_several_blocks() {
    let (points, labels) = made_up(700, 12, 4, 1.0, 3);
    let found = verification(points.view(), &labels).unwrap();
    let mut pairs: Vec<(f64, bool)> = Vec::new();
    for i in 0..700 {
        for j in i + 1..700 {
            let cosine: f64 = points.row(i).iter().zip(points.row(j)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            pairs.push((cosine, labels[i] == labels[j]));
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let p = pairs.iter().filter(|pair| pair.1).count() as f64;
    let m = pairs.len() as f64 - p;
    let [positive, negative] = [&found.intra_class, &found.inter_class].map(|angles| angles.histogram.iter().sum());
    assert_eq!((positive, negative), (p as u64, m as u64));
    let (mut tar, mut far, mut auc, mut eer) = (0.0, 0.0, 0.0, 1.0_f64);
    let mut tar_at = [0.0; 4];
    for &(_, same) in &pairs {
        if same {
            tar += 1.0 / p;
        } else {
            far += 1.0 / m;
            auc += tar / m;
        }
        eer = eer.min(f64::max(far, 1.0 - tar));
        for (best, limit) in tar_at.iter_mut().zip(FAR) {
            if far <= limit {
                *best = tar;
            }
        }
    }
    // f32 products may swap pairs that lie within rounding of each other beside those of one bin.
    assert!((found.auc - auc).abs() <= found.auc_error_bound + 1e-7, "{} {auc}", found.auc);
    assert!(found.auc_error_bound < 1e-6, "{}", found.auc_error_bound);
    assert!((found.eer - eer).abs() < 1e-4, "{} {eer}", found.eer);
    for (found, expected) in found.tar_at_far.iter().zip(tar_at) {
        assert!((found.unwrap() - expected).abs() < 1e-4, "{found:?} {expected}");
    }
    // Every point of the picture lies on the curve.
    assert_eq!(found.roc.last(), Some(&(1.0, 1.0)));
    assert_eq!(found.roc[0].0, 0.0);
    assert!(found.roc.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
    let at_tenth = found.roc.iter().find(|point| (point.0 - 0.1).abs() < 1e-12).unwrap();
    assert!((at_tenth.1 - found.tar_at_far[0].unwrap()).abs() < 1e-4);
}

#[test]
fn perfect_reversed_and_equal_points() {
    let points = array![[1.0_f32, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]];
    let perfect = verification(points.view(), &[0, 0, 1, 1]).unwrap();
    assert_eq!((perfect.auc, perfect.eer, perfect.tar_at_far[0]), (1.0, 0.0, None));
    assert_eq!(perfect.intra_class.histogram[0], 2);
    assert_eq!(perfect.inter_class.histogram[179], 4);
    let crossed = verification(points.view(), &[0, 1, 0, 1]).unwrap();
    // Positive pairs: two of cosine -1; negative: two of 1, two of -1.
    assert_eq!((crossed.auc, crossed.auc_error_bound), (0.25, 0.25));
    let equal = Array2::from_shape_fn((40, 2), |(_, j)| if j == 0 { 0.6_f32 } else { 0.8 });
    let labels: Vec<u32> = (0..40).map(|i| i % 2).collect();
    let equal = verification(equal.view(), &labels).unwrap();
    assert_eq!((equal.auc, equal.eer), (0.5, 0.5));
    assert_eq!(equal.tar_at_far, [Some(0.0), Some(0.0), None, None]);
}

#[test]
fn refuses_what_has_no_pairs() {
    let points = array![[1.0_f32, 0.0], [0.0, 1.0], [0.0, -1.0]];
    for labels in [[0, 0, 0], [0, 1, 2]] {
        assert!(matches!(verification(points.view(), &labels), Err(Error::Undefined(..))));
    }
    assert!(matches!(verification(points.slice(s![..1, ..]), &[0]), Err(Error::Undefined(..))));
}
