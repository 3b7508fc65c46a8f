//! Retrieval and votes: values of pytorch-metric-learning, definitions written out, corners.

use faceoff_analysis::Error;
use faceoff_analysis::neighbors::{Neighbors, nearest, nearest_excluding_self};
use faceoff_analysis::retrieval::{
    Retrieval, Vote, knn_accuracy_curve, retrieval, retrieval_leave_one_out, with_classmate,
};
use ndarray::{ArrayView2, Axis, array, s};
use serde_json::Value;

use crate::golden::{assert_all_near, assert_near, crowded, load, made_up};

#[track_caller]
pub(crate) fn assert_golden(found: &Retrieval, expected: &Value) {
    assert_eq!(found.queries as u64, expected["queries"].as_u64().unwrap());
    assert_eq!(found.left_out as u64, expected["left_out"].as_u64().unwrap());
    assert_all_near(&found.recall_at, &expected["recall_at"], "recall@k");
    assert_near(found.r_precision, &expected["r_precision"], "R-precision");
    assert_near(found.map_at_r, &expected["map_at_r"], "MAP@R");
    assert_near(found.mean_reciprocal_rank, &expected["mean_reciprocal_rank"], "MRR");
}

#[test]
fn agrees_with_accuracy_calculator() {
    let golden = load();
    let one_set = retrieval_leave_one_out(golden.points.view(), &golden.labels).unwrap();
    assert_golden(&one_set, &golden.values["retrieval_leave_one_out"]);
    let (points, queries) = (golden.points.view(), golden.queries.view());
    let two_sets = retrieval(points, &golden.labels, queries, &golden.query_labels).unwrap();
    assert_golden(&two_sets, &golden.values["retrieval"]);
}

#[test]
fn knn_curve_agrees_with_scikit_learn() {
    let golden = load();
    let expected = &golden.values["knn"];
    let neighbors = nearest(golden.points.view(), golden.queries.view(), 20).unwrap();
    let curve = |vote| knn_accuracy_curve(&neighbors, &golden.labels, &golden.query_labels, vote).unwrap();
    assert_all_near(&curve(Vote::Majority), &expected["majority"], "majority");
    let temperature = expected["temperature"].as_f64().unwrap();
    assert_all_near(&curve(Vote::Softmax { temperature }), &expected["softmax"], "softmax");
}

/// The definitions word by word, on a full sort by the cosines as `round` gives them, which are above 0.
fn naive(points: ArrayView2<f32>, labels: &[u32], round: fn(f64) -> f64) -> [f64; 4] {
    let (mut counted, mut sums) = (0.0, [0.0; 4]);
    for i in 0..labels.len() {
        let mut others: Vec<usize> = (0..labels.len()).filter(|&j| j != i).collect();
        let cosine =
            |j: usize| points.row(i).iter().zip(points.row(j)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        others.sort_by_cached_key(|&j| std::cmp::Reverse(round(cosine(j)).to_bits()));
        let hits: Vec<bool> = others.iter().map(|&j| labels[j] == labels[i]).collect();
        let r = hits.iter().filter(|&&hit| hit).count();
        if r == 0 {
            continue;
        }
        counted += 1.0;
        let precision_at = |k: usize| hits[..k].iter().filter(|&&hit| hit).count() as f64 / k as f64;
        sums[0] += precision_at(1);
        sums[1] += precision_at(r);
        sums[2] += (1..=r).filter(|&k| hits[k - 1]).map(precision_at).sum::<f64>() / r as f64;
        sums[3] += 1.0 / (1 + hits.iter().position(|&hit| hit).unwrap()) as f64;
    }
    sums.map(|sum| sum / counted)
}

fn values(found: &Retrieval) -> [f64; 4] {
    [found.recall_at[0], found.r_precision, found.map_at_r, found.mean_reciprocal_rank]
}

#[test]
fn near_ties_are_ranked_as_neighbours_are() {
    for (classes, scatter) in [(7, 1e-3), (7, 3e-2), (150, 1e-4), (40, 0.0)] {
        let (points, labels) = crowded(500, 64, classes, scatter, 5);
        let own = retrieval_leave_one_out(points.view(), &labels).unwrap();
        let expected = naive(points.view(), &labels, |cosine| cosine);
        for (found, expected) in values(&own).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{classes} classes, scatter {scatter}: {found} {expected}");
        }
        let in_f32 = naive(points.view(), &labels, |cosine| f64::from(cosine as f32));
        assert!(scatter == 0.0 || scatter > 1e-2 || in_f32 != expected, "the case must be hard: {scatter}");

        // One quantity, one value: the nearest neighbour decides precision at 1, and KNN accuracy with k = 1 likewise.
        let knn = |near: Neighbors, index_labels: &[u32], counted: &[usize], query_labels: &[u32]| {
            let near = Neighbors {
                indices: near.indices.select(Axis(0), counted),
                similarities: near.similarities.select(Axis(0), counted),
            };
            let query_labels = Vec::from_iter(counted.iter().map(|&query| query_labels[query]));
            knn_accuracy_curve(&near, index_labels, &query_labels, Vote::Majority).unwrap()[0]
        };
        let counted = with_classmate(None, &labels);
        assert_eq!((counted.len(), 500 - counted.len()), (own.queries, own.left_out));
        let near = nearest_excluding_self(points.view(), 1).unwrap();
        assert_eq!(knn(near, &labels, &counted, &labels), own.recall_at[0]);
        let (index, queries) = points.view().split_at(Axis(0), 300);
        let (index_labels, query_labels) = labels.split_at(300);
        let found = retrieval(index, index_labels, queries, query_labels).unwrap();
        let counted = with_classmate(Some(index_labels), query_labels);
        assert_eq!((counted.len(), 200 - counted.len()), (found.queries, found.left_out));
        assert!(classes < 100 || found.left_out > 0, "some have no classmate");
        assert_eq!(knn(nearest(index, queries, 1).unwrap(), index_labels, &counted, query_labels), found.recall_at[0]);
    }
}

#[test]
fn agrees_with_the_definitions_over_several_blocks() {
    // More than one block of queries and of points, neither a multiple; many queries without a hit within R.
    let (points, labels) = made_up(700, 6, 200, 0.9, 1);
    let found = retrieval_leave_one_out(points.view(), &labels).unwrap();
    let expected = naive(points.view(), &labels, |cosine| 1.0 + cosine);
    for (found, expected) in values(&found).iter().zip(expected) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }
    assert!(expected[3] < 0.9, "the case must be hard to test ranks: {}", expected[3]);
}

#[test]
fn ties_stand_in_the_order_of_the_index() {
    let same = array![[1.0_f32, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]];
    // Rank 1 is row 0 of class 7, ranks 2 and 3 are hits: R = 2.
    let found = retrieval(same.slice(s![..3, ..]), &[7, 1, 1], same.slice(s![..1, ..]), &[1]).unwrap();
    assert_eq!(found.recall_at, [0.0, 1.0, 1.0, 1.0]);
    assert_eq!(found.r_precision, 0.5);
    assert_eq!(found.map_at_r, 0.25);
    assert_eq!(found.mean_reciprocal_rank, 0.5);
    // A cosine of -0 ties with +0.
    let index = array![[0.0_f32, 1.0], [0.0, -1.0]];
    let query = array![[-1.0_f32, 0.0]];
    assert_eq!(retrieval(index.view(), &[3, 4], query.view(), &[4]).unwrap().mean_reciprocal_rank, 0.5);
    // One class is always right; all-equal points leave the order of rows.
    assert_eq!(retrieval_leave_one_out(same.view(), &[0; 4]).unwrap().map_at_r, 1.0);
}

#[test]
fn refuses_what_has_no_ranking() {
    let two = array![[1.0_f32, 0.0], [0.0, 1.0]];
    assert!(matches!(retrieval_leave_one_out(two.view(), &[0, 1]), Err(Error::Undefined(..))));
    assert!(matches!(retrieval_leave_one_out(two.slice(s![..1, ..]), &[0]), Err(Error::Undefined(..))));
    let long = array![[1.0_f32, 0.0], [0.0, 1.1]];
    assert!(matches!(retrieval_leave_one_out(long.view(), &[0, 0]), Err(Error::OutOfRange { .. })));
    let flat = array![[1.0_f32], [1.0]];
    assert!(matches!(retrieval(two.view(), &[0, 0], flat.view(), &[0, 0]), Err(Error::LengthMismatch(..))));
}

#[test]
fn knn_ties_go_to_the_nearest_of_the_tied() {
    let neighbors = Neighbors { indices: array![[0, 1, 2, 3, 4]], similarities: array![[0.9, 0.8, 0.7, 0.6, 0.5]] };
    let labels = [4, 2, 2, 4, 1];
    let right = |label, vote| knn_accuracy_curve(&neighbors, &labels, &[label], vote).unwrap();
    // Votes: 4 | 4:2 tie | 2 | tie | tie.
    assert_eq!(right(4, Vote::Majority), [1.0, 1.0, 0.0, 1.0, 1.0]);
    // A cold temperature follows the nearest, a hot one the majority.
    assert_eq!(right(4, Vote::Softmax { temperature: 0.01 }), [1.0; 5]);
    assert_eq!(right(2, Vote::Softmax { temperature: 10.0 }), [0.0, 0.0, 1.0, 0.0, 0.0]);
    for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let found = knn_accuracy_curve(&neighbors, &labels, &[4], Vote::Softmax { temperature });
        assert!(matches!(found, Err(Error::OutOfRange { .. })));
    }
    let unlabelled = knn_accuracy_curve(&neighbors, &labels[..4], &[4], Vote::Majority);
    assert!(matches!(unlabelled, Err(Error::LengthMismatch(..))));
}
