//! k-means, agreement of labellings, silhouette: scikit-learn's values, and corners.

use std::collections::HashMap;

use faceoff_analysis::Error;
use faceoff_analysis::clustering::{adjusted_mutual_information, kmeans, normalized_mutual_information, silhouette};
use ndarray::{Array2, array, s};

use crate::golden::{assert_all_near, assert_near, labels, load, made_up, matrix, mean};

#[test]
fn information_agrees_with_scikit_learn() {
    let golden = load();
    for case in golden.values["clustering"]["information"].as_array().unwrap() {
        let (classes, clusters) = (labels(&case["labels"]), labels(&case["clusters"]));
        let name = case["name"].as_str().unwrap();
        for (a, b) in [(&classes, &clusters), (&clusters, &classes)] {
            assert_near(normalized_mutual_information(a, b).unwrap(), &case["nmi"], name);
            assert_near(adjusted_mutual_information(a, b).unwrap(), &case["ami"], name);
        }
    }
}

#[test]
fn silhouette_agrees_with_scikit_learn() {
    let golden = load();
    let found = silhouette(golden.points.view(), &golden.labels).unwrap();
    let expected = &golden.values["clustering"];
    assert_near(mean(&found), &expected["silhouette"], "mean");
    assert_all_near(&found, &expected["silhouette_samples"], "samples");
}

#[test]
fn kmeans_finds_scikit_learns_optimum() {
    let golden = load();
    let expected = &golden.values["clustering"];
    let clusters = expected["kmeans_clusters"].as_u64().unwrap() as usize;
    let found = kmeans(matrix(&expected["kmeans_points"]).view(), clusters, 0).unwrap();
    assert_near(found.inertia, &expected["kmeans_inertia"], "inertia");
    let nmi = normalized_mutual_information(&labels(&expected["kmeans_labels"]), &found.assignments).unwrap();
    assert_near(nmi, &expected["kmeans_nmi"], "NMI");
}

#[test]
fn kmeans_is_a_fixed_point_and_separates_what_is_apart() {
    let (points, classes) = made_up(400, 24, 6, 0.3, 5);
    let found = kmeans(points.view(), 6, 1).unwrap();
    assert!((normalized_mutual_information(&classes, &found.assignments).unwrap() - 1.0).abs() < 1e-12);
    let mut members: HashMap<u32, Vec<usize>> = HashMap::new();
    for (point, &cluster) in found.assignments.iter().enumerate() {
        members.entry(cluster).or_default().push(point);
    }
    for (cluster, members) in members {
        let mean = points.select(ndarray::Axis(0), &members).mean_axis(ndarray::Axis(0)).unwrap();
        let center = found.centers.row(cluster as usize);
        assert!((&mean - &center).iter().all(|d| d.abs() < 1e-5));
    }
}

#[test]
fn another_seed_finds_other_clusters_where_none_stand_out() {
    let (points, _) = made_up(300, 16, 5, 1.5, 2);
    assert_ne!(kmeans(points.view(), 5, 3).unwrap().assignments, kmeans(points.view(), 5, 4).unwrap().assignments);
}

#[test]
fn equal_points_are_defined() {
    let equal = Array2::from_shape_fn((9, 2), |(_, j)| if j == 0 { 0.6_f32 } else { 0.8 });
    let found = kmeans(equal.view(), 3, 0).unwrap();
    assert!(found.inertia < 1e-10 && found.centers.iter().all(|v| v.is_finite()));
    let labels = [0, 0, 0, 1, 1, 1, 2, 2, 2];
    assert_eq!(silhouette(equal.view(), &labels).unwrap(), [0.0; 9]);
    // As many clusters as points: each its own.
    let (points, _) = made_up(12, 8, 3, 1.0, 1);
    let mut own = kmeans(points.view(), 12, 0).unwrap();
    own.assignments.sort_unstable();
    assert_eq!(own.assignments, (0..12).collect::<Vec<u32>>());
    assert!(own.inertia < 1e-10);
    assert_eq!(kmeans(points.slice(s![..1, ..]), 1, 0).unwrap().assignments, [0]);
    // The silhouette of a lone member is 0.
    let points = array![[1.0_f32, 0.0], [1.0, 0.0], [0.0, 1.0]];
    assert_eq!(silhouette(points.view(), &[0, 0, 1]).unwrap(), [1.0, 1.0, 0.0]);
}

#[test]
fn refuses_bad_input() {
    let points = array![[1.0_f32, 0.0], [0.0, 1.0]];
    for clusters in [0, 3] {
        assert!(matches!(kmeans(points.view(), clusters, 0), Err(Error::OutOfRange { .. })));
    }
    for labels in [[0, 0], [0, 1]] {
        assert!(matches!(silhouette(points.view(), &labels), Err(Error::Undefined(..))));
    }
    assert!(matches!(normalized_mutual_information(&[], &[]), Err(Error::Empty(_))));
    assert!(matches!(adjusted_mutual_information(&[1], &[1, 2]), Err(Error::LengthMismatch(..))));
}
