//! t-SNE: openTSNE's divergence, the definition of its cost, other thread counts, and corners.

use faceoff_analysis::Error;
use faceoff_analysis::tsne::{Tsne, TsneConfig, embed, embed_linfa};
use ndarray::{Array2, Axis, s};
use serde_json::Value;

use crate::golden::{labels, matrix, mean, numbers, with_threads};

const SHORT: TsneConfig = TsneConfig { perplexity: 5.0, iterations: 60, seed: 1 };

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/tsne.json")).unwrap()
}

fn points() -> Array2<f32> {
    matrix(&golden()["points"])
}

/// KL(P || Q) from its definition: all distances, P over the `3 * perplexity` nearest by bisection, Z over all pairs.
fn written_out(points: &Array2<f32>, map: &Array2<f64>, perplexity: f64) -> f64 {
    let count = points.nrows();
    let squared = |data: &Array2<f64>, i: usize, j: usize| (&data.row(i) - &data.row(j)).mapv(|d| d * d).sum();
    let wide = points.mapv(f64::from);
    let mut joint = Array2::<f64>::zeros((count, count));
    for i in 0..count {
        let mut others: Vec<(f64, usize)> = (0..count).filter(|&j| j != i).map(|j| (squared(&wide, i, j), j)).collect();
        others.sort_by(|a, b| a.partial_cmp(b).unwrap());
        others.truncate((3.0 * perplexity) as usize);
        let row = |beta: f64| -> Vec<f64> {
            let weights: Vec<f64> = others.iter().map(|(d, _)| (-beta * (d - others[0].0)).exp()).collect();
            let sum: f64 = weights.iter().sum();
            weights.iter().map(|w| w / sum).collect()
        };
        let entropy = |beta: f64| -row(beta).iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>();
        let (mut low, mut high) = (0.0, 1e6);
        for _ in 0..200 {
            let middle = (low + high) / 2.0;
            if entropy(middle) > perplexity.ln() { low = middle } else { high = middle }
        }
        for (p, (_, j)) in row(low).iter().zip(&others) {
            joint[[i, *j]] += p / (2 * count) as f64;
            joint[[*j, i]] += p / (2 * count) as f64;
        }
    }
    let affinity = |i, j| 1.0 / (1.0 + squared(map, i, j));
    let pairs = || (0..count).flat_map(|i| (0..count).filter(move |&j| j != i).map(move |j| (i, j)));
    let normalizer: f64 = pairs().map(|(i, j)| affinity(i, j)).sum();
    pairs()
        .filter(|&(i, j)| joint[[i, j]] > 0.0)
        .map(|(i, j)| joint[[i, j]] * (joint[[i, j]] * normalizer / affinity(i, j)).ln())
        .sum()
}

#[test]
fn its_divergence_is_the_definition_and_no_higher_than_that_of_opentsne() {
    let golden = golden();
    let points = points();
    let perplexity = golden["perplexity"].as_f64().unwrap();
    let iterations = golden["iterations"].as_u64().unwrap() as usize;
    let theirs = numbers(&golden["divergences"]);
    let ours: Vec<f64> = (0..3)
        .map(|seed| {
            let fitted = embed(points.view(), &TsneConfig { perplexity, iterations, seed }).unwrap();
            let expected = written_out(&points, &fitted.coordinates, perplexity);
            assert!((fitted.kl_divergence - expected).abs() < 1e-4, "{} instead of {expected}", fitted.kl_divergence);
            fitted.kl_divergence
        })
        .collect();
    // A run differs from the next by about 1 %.
    assert!(mean(&ours) <= 1.01 * mean(&theirs), "{ours:?}, openTSNE {theirs:?}");
}

#[test]
fn separate_groups_stay_separate() {
    let golden = golden();
    let labels = labels(&golden["labels"]);
    let fitted = embed(points().view(), &TsneConfig { perplexity: 15.0, iterations: 400, seed: 0 }).unwrap();
    let count = labels.len();
    let right = (0..count)
        .filter(|&i| {
            let distance = |j: &usize| (&fitted.coordinates.row(i) - &fitted.coordinates.row(*j)).mapv(|d| d * d).sum();
            let closest = (0..count).filter(|&j| j != i).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap();
            labels[closest] == labels[i]
        })
        .count();
    assert!(right as f64 > 0.97 * count as f64, "{right} of {count}");
    assert!(fitted.coordinates.mean_axis(Axis(0)).unwrap().iter().all(|mean| mean.abs() < 1e-9), "not centered");
}

#[test]
fn repeatable_for_any_number_of_threads_and_moved_by_the_seed() {
    let points = points();
    let [one, three] = with_threads(|| embed(points.view(), &SHORT).unwrap());
    assert_eq!(one, three);
    let other = embed(points.view(), &TsneConfig { seed: 2, ..SHORT }).unwrap();
    assert_ne!(other.coordinates, one.coordinates);
    assert!(one.coordinates.iter().all(|x| x.is_finite()));
}

#[test]
fn few_points_lines_and_copies_have_maps() {
    let points = points();
    let few = TsneConfig { perplexity: 1.0, iterations: 100, seed: 0 };
    finite(&embed(points.slice(s![..4, ..]), &few).unwrap());
    let line = Array2::from_shape_fn((60, 1), |(i, _)| i as f32);
    let fitted = embed(line.view(), &TsneConfig { iterations: 300, ..SHORT }).unwrap();
    finite(&fitted);
    assert!(fitted.coordinates.column(1).std(0.0) > 1e-3, "never left the line");
    // More copies of a point than the perplexity: no bandwidth reaches it.
    let copies = Array2::from_shape_fn((60, 3), |(i, d)| (i / 20 * (d + 1)) as f32);
    finite(&embed(copies.view(), &SHORT).unwrap());
    // Far from the origin, where products in f32 hide small differences.
    let far = points.slice(s![..100, ..]).mapv(|x| x + 1000.0);
    let fitted = embed(far.view(), &TsneConfig { iterations: 300, ..SHORT }).unwrap();
    let exact = written_out(&far, &fitted.coordinates, SHORT.perplexity);
    assert!((fitted.kl_divergence - exact).abs() < 1e-3, "{} instead of {exact}", fitted.kl_divergence);
}

#[track_caller]
fn finite(fitted: &Tsne) {
    assert!(fitted.coordinates.iter().all(|x| x.is_finite()));
    assert!(fitted.kl_divergence.is_finite());
}

#[test]
fn linfa_can_be_chosen() {
    let points = points();
    let fitted = embed_linfa(points.view(), &TsneConfig { perplexity: 15.0, iterations: 300, seed: 0 }).unwrap();
    assert_eq!(fitted.coordinates.dim(), (300, 2));
    finite(&fitted);
    let expected = written_out(&points, &fitted.coordinates, 15.0);
    assert!((fitted.kl_divergence - expected).abs() < 1e-3, "{} instead of {expected}", fitted.kl_divergence);
}

#[test]
fn bad_input_is_named() {
    let points = points();
    for embed in [embed, embed_linfa] {
        for perplexity in [0.0, -1.0, 0.5, 5.1, f64::NAN, f64::INFINITY] {
            let refused = embed(points.slice(s![..16, ..]), &TsneConfig { perplexity, ..SHORT });
            let refused = refused.unwrap_err().to_string();
            let rule =
                format!("perplexity is {perplexity}: it must be from 1 to 5.0, a third of the other points of 16");
            assert!(refused.contains(&rule), "{refused}");
        }
        assert!(matches!(embed(points.slice(s![..1, ..]), &SHORT), Err(Error::OutOfRange { .. })));
        let none = embed(points.view(), &TsneConfig { iterations: 0, ..SHORT });
        assert!(matches!(none, Err(Error::OutOfRange { name: "the number of iterations", .. })), "{none:?}");
        let constant = embed(Array2::from_elem((30, 3), 0.1_f32).view(), &SHORT);
        assert!(matches!(constant, Err(Error::Undefined(..))), "{constant:?}");
    }
    assert!(matches!(embed_linfa(points.slice(s![.., ..1]), &SHORT), Err(Error::OutOfRange { .. })));
}
