//! Sets full of ties: points with equal cosines in several classes, copies with different labels, all points equal.

use faceoff_analysis::clustering::silhouette;
use faceoff_analysis::geometry::{
    alignment, center_angles, components_for_variance, effective_rank, nearest_mean_disagreement, neural_collapse,
    self_duality, uniformity,
};
use faceoff_analysis::neighbors::nearest;
use faceoff_analysis::retrieval::{Vote, knn_accuracy_curve, retrieval, retrieval_leave_one_out};
use faceoff_analysis::verification::verification;
use faceoff_analysis::{Error, pca};
use serde_json::Value;

use crate::golden::{assert_all_near, assert_near, labels, load, matrix, numbers};
use crate::retrieval::assert_golden;

/// What holds for any set, those of equal points included.
fn check(name: &str) -> Value {
    let expected = &load().values[name];
    let (points, classes) = (matrix(&expected["points"]), labels(&expected["labels"]));
    let (queries, query_classes) = (matrix(&expected["queries"]), labels(&expected["query_labels"]));
    let (points, queries) = (points.view(), queries.view());
    assert_golden(&retrieval_leave_one_out(points, &classes).unwrap(), &expected["retrieval_leave_one_out"]);
    assert_golden(&retrieval(points, &classes, queries, &query_classes).unwrap(), &expected["retrieval"]);
    let neighbors = nearest(points, queries, points.nrows()).unwrap();
    let majority = knn_accuracy_curve(&neighbors, &classes, &query_classes, Vote::Majority).unwrap();
    assert_all_near(&majority, &expected["knn"], "majority");

    let found = verification(points, &classes).unwrap();
    let pairs = &expected["verification"];
    assert_eq!(found.positive_pairs, pairs["positive_pairs"].as_u64().unwrap());
    assert_eq!(found.negative_pairs, pairs["negative_pairs"].as_u64().unwrap());
    assert_near(found.auc, &pairs["auc"], "AUC");
    assert_near(found.eer, &pairs["eer"], "EER");
    for (tar, expected) in found.tar_at_far.iter().zip(pairs["tar_at_far"].as_array().unwrap()) {
        match tar {
            Some(tar) => assert_near(*tar, expected, "TAR"),
            None => assert!(expected.is_null()),
        }
    }
    let geometry = &expected["geometry"];
    assert_near(silhouette(points, &classes).unwrap().mean, &expected["silhouette"], "silhouette");
    assert_near(alignment(points, &classes).unwrap(), &geometry["alignment"], "alignment");
    assert_near(uniformity(points).unwrap(), &geometry["uniformity"], "uniformity");
    expected.clone()
}

#[test]
fn ties_between_classes_agree_with_other_libraries() {
    let expected = check("ties");
    let (points, classes) = (matrix(&expected["points"]), labels(&expected["labels"]));
    let geometry = &expected["geometry"];
    let angles = center_angles(points.view(), &classes).unwrap();
    for (row, expected) in angles.degrees.rows().into_iter().zip(geometry["center_angles"].as_array().unwrap()) {
        assert_all_near(&row.to_vec(), expected, "center angles");
    }
    let collapse = neural_collapse(points.view(), &classes).unwrap();
    assert_near(collapse.within_over_between, &geometry["nc1"], "NC1");
    assert_near(collapse.equinorm, &geometry["equinorm"], "equinorm");
    assert_near(collapse.equiangularity, &geometry["equiangularity"], "equiangularity");
    assert_near(collapse.maximal_angle, &geometry["maximal_angle"], "maximal angle");
    let weights = matrix(&geometry["weights"]);
    let duality = self_duality(weights.view(), points.view(), &classes).unwrap();
    assert_near(duality, &geometry["self_duality"], "self-duality");
    let nearest = labels(&geometry["nearest_mean"]);
    assert_eq!(nearest_mean_disagreement(points.view(), &classes, &nearest).unwrap(), 0.0);
    let fitted = pca::fit(points.view(), points.ncols()).unwrap();
    assert_all_near(&fitted.explained_variance_ratio, &expected["explained_variance_ratio"], "ratio");
    let eigenvalues = numbers(&geometry["eigenvalues"]);
    assert_near(effective_rank(&fitted.explained_variance).unwrap(), &geometry["effective_rank"], "rank");
    assert_eq!(
        components_for_variance(&eigenvalues, 0.95).unwrap() as u64,
        geometry["components_95"].as_u64().unwrap()
    );
}

#[test]
fn equal_points_agree_with_other_libraries_where_these_have_a_value() {
    let expected = check("constant");
    let (points, classes) = (matrix(&expected["points"]), labels(&expected["labels"]));
    assert!(matches!(pca::fit(points.view(), 1), Err(Error::Undefined { .. })));
    assert!(matches!(neural_collapse(points.view(), &classes), Err(Error::Undefined { .. })));
}
