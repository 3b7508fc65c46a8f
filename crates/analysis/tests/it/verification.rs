//! Verification: scikit-learn's values, and the definitions over all pairs.

use faceoff_analysis::Error;
use faceoff_analysis::verification::{FAR, Verification, verification};
use ndarray::{Array2, ArrayView2, array, s};
use serde_json::Value;

use crate::golden::{assert_near, crowded, load, made_up};

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

/// AUC, EER and TAR at [`FAR`] of all pairs by their definitions: a full sort of the cosines in f64, without bins.
fn by_sorting(points: ArrayView2<f32>, labels: &[u32]) -> (f64, f64, [f64; 4]) {
    let mut pairs: Vec<(f64, bool)> = Vec::new();
    for i in 0..labels.len() {
        for j in i + 1..labels.len() {
            let cosine: f64 = points.row(i).iter().zip(points.row(j)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            pairs.push((cosine, labels[i] == labels[j]));
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let p = pairs.iter().filter(|pair| pair.1).count() as f64;
    let m = pairs.len() as f64 - p;
    let (mut auc, mut eer, mut tar_at) = (0.0, None, [0.0; 4]);
    let mut accepted = [0.0, 0.0];
    for tied in pairs.chunk_by(|a, b| a.0 == b.0) {
        let before = accepted;
        tied.iter().for_each(|&(_, same)| accepted[usize::from(!same)] += 1.0);
        auc += (accepted[1] - before[1]) * (before[0] + accepted[0]) / 2.0 / p / m;
        for (best, limit) in tar_at.iter_mut().zip(FAR) {
            if accepted[1] / m <= limit {
                *best = accepted[0] / p;
            }
        }
        let excess = |[positive, negative]: [f64; 2]| positive / p + negative / m - 1.0;
        if eer.is_none() && excess(accepted) >= 0.0 {
            let share = -excess(before) / (excess(accepted) - excess(before));
            eer = Some((before[1] + share * (accepted[1] - before[1])) / m);
        }
    }
    (auc, eer.unwrap(), tar_at)
}

#[test]
fn agrees_with_a_full_sort_however_cosines_crowd() {
    let sets = [made_up(700, 12, 4, 1.0, 3), made_up(500, 64, 5, 0.03, 3)];
    let crowds = [(4, 0.1), (4, 1e-3), (2, 1e-4)].map(|(classes, scatter)| crowded(500, 64, classes, scatter, 8));
    for (set, (points, labels)) in sets.into_iter().chain(crowds).enumerate() {
        let found = verification(points.view(), &labels).unwrap();
        let (auc, eer, tar_at) = by_sorting(points.view(), &labels);
        // Rounding in f32 may swap pairs of the AUC beside those of one bin.
        assert!((found.auc - auc).abs() <= found.auc_error_bound + 1e-5, "{set}: {} {auc}", found.auc);
        assert!((found.eer - eer).abs() < 1e-12, "{set}: {} {eer}", found.eer);
        assert_eq!(found.tar_at_far, tar_at.map(Some), "{set}");
    }
}

#[test]
fn every_point_of_the_picture_lies_on_the_curve() {
    let (points, labels) = made_up(700, 12, 4, 1.0, 3);
    let found = verification(points.view(), &labels).unwrap();
    assert!(found.auc_error_bound < 1e-6, "{}", found.auc_error_bound);
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
