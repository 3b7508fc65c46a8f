//! Sets full of ties: points with equal cosines in several classes, copies with different labels, all points equal.

use faceoff_analysis::clustering::silhouette;
use faceoff_analysis::geometry::{alignment, effective_rank, neural_collapse, uniformity};
use faceoff_analysis::neighbors::nearest;
use faceoff_analysis::retrieval::{Vote, knn_accuracy_curve, retrieval, retrieval_leave_one_out};
use faceoff_analysis::verification::verification;
use faceoff_analysis::{Error, pca};
use serde_json::Value;

use crate::golden::{assert_all_near, assert_near, labels, load, matrix, mean};
use crate::retrieval::assert_golden;
use crate::{geometry, verification::assert_golden as assert_golden_pairs};

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

    assert_golden_pairs(&verification(points, &classes).unwrap(), &expected["verification"]);
    let geometry = &expected["geometry"];
    assert_near(mean(&silhouette(points, &classes).unwrap()), &expected["silhouette"], "silhouette");
    assert_near(alignment(points, &classes).unwrap(), &geometry["alignment"], "alignment");
    assert_near(uniformity(points).unwrap(), &geometry["uniformity"], "uniformity");
    expected.clone()
}

#[test]
fn ties_between_classes_agree_with_other_libraries() {
    let expected = check("ties");
    let (points, classes) = (matrix(&expected["points"]), labels(&expected["labels"]));
    geometry::assert_golden(&points, &classes, &expected["geometry"]);
    let fitted = pca::fit(points.view(), points.ncols()).unwrap();
    assert_all_near(&fitted.explained_variance_ratio, &expected["explained_variance_ratio"], "ratio");
    let rank = &expected["geometry"]["effective_rank"];
    assert_near(effective_rank(&fitted.explained_variance).unwrap(), rank, "rank");
}

#[test]
fn equal_points_agree_with_other_libraries_where_these_have_a_value() {
    let expected = check("constant");
    let (points, classes) = (matrix(&expected["points"]), labels(&expected["labels"]));
    assert!(matches!(pca::fit(points.view(), 1), Err(Error::Undefined(..))));
    assert!(matches!(neural_collapse(points.view(), &classes), Err(Error::Undefined(..))));
}
