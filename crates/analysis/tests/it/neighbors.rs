//! Neighbours: against a search written out, linfa's indices, other thread counts, and in corners.

use std::cmp::Ordering;

use faceoff_analysis::{
    Error,
    neighbors::{Neighbors, knn_predictions, nearest, nearest_excluding_self, nearest_linfa},
};
use ndarray::{Array2, ArrayView2, s};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::golden::{unit, with_threads};

fn unit_points(count: usize, dims: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    unit(Array2::from_shape_simple_fn((count, dims), || rng.random_range(-1.0_f32..1.0)))
}

/// Small whole numbers: products are exact in f32, and ties and duplicates are many.
fn whole_points(count: usize, dims: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((count, dims), || rng.random_range(-2_i8..=2) as f32)
}

/// The definition: all products, sorted.
fn written_out(index: ArrayView2<f32>, queries: ArrayView2<f32>, k: usize, excluding_self: bool) -> Neighbors {
    let mut found =
        Neighbors { indices: Array2::zeros((queries.nrows(), k)), similarities: Array2::zeros((queries.nrows(), k)) };
    for (row, query) in queries.rows().into_iter().enumerate() {
        let product = |at: usize| index.row(at).iter().zip(query).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let others = (0..index.nrows()).filter(|&at| !(excluding_self && at == row));
        let mut all: Vec<(f32, u32)> = others.map(|at| (product(at) as f32, at as u32)).collect();
        all.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1)));
        for (rank, (similarity, at)) in all.into_iter().take(k).enumerate() {
            found.indices[[row, rank]] = at;
            found.similarities[[row, rank]] = similarity;
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn equal_to_the_definition_with_ties(
        points in 2_usize..700, queries in 1_usize..300, dims in 1_usize..24, k in 1_usize..40, seed in any::<u64>(),
    ) {
        let index = whole_points(points, dims, seed);
        let queries = whole_points(queries, dims, seed ^ 1);
        let k = k.min(points);
        prop_assert_eq!(
            nearest(index.view(), queries.view(), k).unwrap(),
            written_out(index.view(), queries.view(), k, false)
        );
        let k = k.min(points - 1);
        prop_assert_eq!(
            nearest_excluding_self(index.view(), k).unwrap(),
            written_out(index.view(), index.view(), k, true)
        );
    }
}

#[test]
fn equal_points_are_equally_similar_wherever_they_stand() {
    // 512 dimensions and 387 points: the copies stand in full blocks and in the last, incomplete one.
    let mut index = unit_points(387, 512, 3);
    let copy = index.row(5).to_owned();
    let copies = [0, 5, 143, 144, 200, 287, 288, 385, 386];
    for at in copies {
        index.row_mut(at).assign(&copy);
    }
    let all = nearest(index.view(), unit_points(3, 512, 4).view(), 387).unwrap();
    for (indices, similarities) in all.indices.rows().into_iter().zip(all.similarities.rows()) {
        let first = indices.iter().position(|&at| at == 0).unwrap();
        assert!(indices.iter().skip(first).zip(copies).all(|(&at, copy)| at as usize == copy), "{indices}");
        assert!(similarities.iter().skip(first).take(9).all(|&x| x == similarities[first]), "{similarities}");
    }
}

#[test]
fn equal_to_the_ball_tree_of_linfa() {
    let index = unit_points(900, 48, 5);
    let queries = unit_points(70, 48, 6);
    let k = 12;
    let found = nearest(index.view(), queries.view(), k).unwrap();
    let by_linfa = nearest_linfa(index.view(), queries.view(), k).unwrap();
    assert_eq!(by_linfa.indices, found.indices);
    let furthest = (&by_linfa.similarities - &found.similarities).fold(0.0_f32, |most, d| most.max(d.abs()));
    assert!(furthest < 1e-6, "{furthest}");
}

#[test]
fn points_that_lie_close_together_are_searched_exactly() {
    // Many enough, and close enough to three directions, that only some products are taken in full.
    let directions = unit_points(3, 160, 11);
    let points = unit(unit_points(1_600, 3, 12).dot(&directions) + 0.02 * unit_points(1_600, 160, 13));
    let [found, three] = with_threads(|| nearest_excluding_self(points.view(), 12).unwrap());
    assert_eq!(found, three);
    let wide = points.mapv(f64::from);
    let mut all = wide.dot(&wide.t());
    all.diag_mut().fill(f64::NEG_INFINITY);
    for (row, mut all) in all.rows_mut().into_iter().enumerate() {
        let (indices, similarities) = (found.indices.row(row), found.similarities.row(row));
        let mut last = f64::INFINITY;
        for (&at, &similarity) in indices.iter().zip(similarities) {
            let exact = std::mem::replace(&mut all[at as usize], f64::NEG_INFINITY);
            assert!(exact < last + 1e-14 && exact as f32 == similarity, "query {row}");
            last = exact;
        }
        assert!(all.iter().all(|&cosine| cosine < last + 1e-14), "query {row}");
    }
}

proptest! {
    #[test]
    fn a_vote_is_as_written_out(row in prop::collection::vec(0_u32..30, 1..12), labels in prop::collection::vec(0_u32..4, 30)) {
        // The majority wins, and ties go to the nearest of the tied.
        let k = row.len();
        let classes: Vec<u32> = row.iter().map(|&at| labels[at as usize]).collect();
        let count = |class: u32| classes.iter().filter(|&&c| c == class).count();
        let most = classes.iter().map(|&c| count(c)).max().unwrap();
        let expected = *classes.iter().find(|&&c| count(c) == most).unwrap();
        let indices = Array2::from_shape_vec((1, k), row).unwrap();
        let neighbors = Neighbors { similarities: Array2::zeros((1, k)), indices };
        prop_assert_eq!(knn_predictions(&neighbors, &labels, k).unwrap(), [expected]);
    }
}

#[test]
fn bad_input_is_named() {
    let points = unit_points(4, 3, 1);
    let none = Array2::<f32>::zeros((0, 3));
    assert_eq!(nearest(points.view(), none.view(), 1), Err(Error::Empty("the queries")));
    let too_many = |k: usize, most: usize| {
        let rule = format!("it must be from 1 to {most}");
        Error::out_of_range("the number of neighbours", k as f64, rule, "lower k or pass more points")
    };
    for k in [0, 5] {
        assert_eq!(nearest(points.view(), points.view(), k), Err(too_many(k, 4)));
        assert_eq!(nearest_linfa(points.view(), points.view(), k), Err(too_many(k, 4)));
    }
    assert_eq!(nearest_excluding_self(points.view(), 4), Err(too_many(4, 3)));
    assert_eq!(nearest_excluding_self(points.slice(s![..1, ..]), 1), Err(too_many(1, 0)));
    let narrow = nearest(points.view(), points.slice(s![.., ..2]), 1);
    assert_eq!(narrow, Err(Error::LengthMismatch("a row of the index", 3, "a row of the queries", 2)));
    let huge = points.mapv(|x| x * 1e25);
    assert!(matches!(nearest(huge.view(), points.view(), 1), Err(Error::OutOfRange { .. })));
    let mut broken = points.clone();
    broken[[2, 1]] = f32::NAN;
    let refused = nearest(points.view(), broken.view(), 1);
    assert!(matches!(refused, Err(Error::NotFinite("the queries", 2, 1, _))), "{refused:?}");

    let found = nearest(points.view(), points.view(), 2).unwrap();
    for k in [0, 3] {
        assert_eq!(knn_predictions(&found, &[0; 4], k), Err(too_many(k, 2)));
    }
    assert!(matches!(knn_predictions(&found, &[0; 2], 2), Err(Error::LengthMismatch(..))));
}
