//! What holds for every function of embeddings: input without a proper answer gives an error that fits or a finite value, never a
//! panic; threads and layout change nothing.

use faceoff_analysis::probe::LinearProbe;
use faceoff_analysis::tsne::{TsneConfig, embed, embed_linfa};
use faceoff_analysis::{Error, Result, clustering, geometry, neighbors, pairs, pca, retrieval, verification};
use ndarray::{Array2, ArrayView2, array, s};

use crate::golden::{made_up, with_threads};

type Points<'a> = ArrayView2<'a, f32>;
type Measure = (&'static str, fn(Points<'_>, &[u32]) -> Result<Vec<f64>>);

fn values<T: Into<f64>>(matrix: impl IntoIterator<Item = T>) -> Vec<f64> {
    matrix.into_iter().map(Into::into).collect()
}

fn near(found: neighbors::Neighbors) -> Vec<f64> {
    [values(found.indices), values(found.similarities)].concat()
}

fn ranked(found: retrieval::Retrieval) -> Vec<f64> {
    [&found.recall_at[..], &[found.r_precision, found.map_at_r, found.mean_reciprocal_rank]].concat()
}

/// One direction a class.
fn directions(x: Points<'_>, y: &[u32]) -> Array2<f32> {
    let classes = y.iter().max().map_or(1, |&label| label as usize + 1);
    Array2::from_shape_fn((classes, x.ncols()), |(i, j)| if i == j { 1.0 } else { 0.0 })
}

const MAP: TsneConfig = TsneConfig { perplexity: 1.0, iterations: 20, seed: 0 };

#[rustfmt::skip]
const MEASURES: [Measure; 22] = [
    ("nearest", |x, _| neighbors::nearest(x, x, 1).map(near)),
    ("nearest_excluding_self", |x, _| neighbors::nearest_excluding_self(x, 1).map(near)),
    ("nearest_linfa", |x, _| neighbors::nearest_linfa(x, x, 1).map(near)),
    ("pca::fit", |x, _| pca::fit(x, 1).and_then(|found| Ok([values(found.transform(x)?), values(found.components), found.explained_variance_ratio].concat()))),
    ("pca::fit_linfa", |x, _| Ok(pca::fit_linfa(x, 1)?.explained_variance_ratio)),
    ("tsne::embed", |x, _| embed(x, &MAP).map(|map| [values(map.coordinates), vec![map.kl_divergence]].concat())),
    ("tsne::embed_linfa", |x, _| embed_linfa(x, &MAP).map(|map| values(map.coordinates))),
    ("retrieval", |x, y| retrieval::retrieval(x, y, x, y).map(ranked)),
    ("retrieval_leave_one_out", |x, y| retrieval::retrieval_leave_one_out(x, y).map(ranked)),
    ("verification", |x, y| verification::verification(x, y).map(|found| vec![found.auc, found.eer, found.intra_class.sd_degrees, found.inter_class.sd_degrees])),
    ("hardest", |x, y| pairs::hardest(x, y, 4).map(|found| found.concat().iter().map(|pair| pair.degrees).collect())),
    ("kmeans", |x, _| clustering::kmeans(x, 2, 0).map(|found| [values(found.assignments), vec![found.inertia]].concat())),
    ("silhouette", clustering::silhouette),
    ("center_angles", |x, y| geometry::center_angles(x, y).map(|found| found.degrees.concat())),
    ("smallest_center_angle", |x, y| Ok(vec![geometry::smallest_center_angle(x, y)?])),
    ("nearest_center_predictions", |x, y| geometry::nearest_center_predictions(x, y, x).map(values)),
    ("alignment", |x, y| Ok(vec![geometry::alignment(x, y)?])),
    ("uniformity", |x, _| Ok(vec![geometry::uniformity(x)?])),
    ("neural_collapse", |x, y| geometry::neural_collapse(x, y).map(|found| vec![found.within_over_between, found.equinorm, found.equiangularity, found.maximal_angle])),
    ("self_duality", |x, y| Ok(vec![geometry::self_duality(directions(x, y).view(), x, y)?])),
    ("nearest_mean_disagreement", |x, y| Ok(vec![geometry::nearest_mean_disagreement(x, y, y)?])),
    ("LinearProbe", |x, y| LinearProbe::fit(x, y)?.evaluate(x, y).map(|score| vec![score.accuracy, score.log_loss])),
];

#[test]
fn degenerate_embeddings_give_an_error_or_a_finite_value() {
    let circle = Array2::from_shape_fn((8, 2), |(i, j)| if i % 2 == j { 1.0_f32 } else { 0.0 });
    let equal = Array2::from_shape_fn((8, 2), |(_, j)| [0.6_f32, 0.8][j]);
    let halves: Vec<u32> = (0..8).map(|i| i / 4).collect();
    for (what, points, labels) in [
        ("one point", array![[0.6, 0.8]], vec![0]),
        ("one class", circle.clone(), vec![0; 8]),
        ("all equal", equal.clone(), halves.clone()),
        ("all equal and one class", equal, vec![0; 8]),
        ("two points of two classes", array![[1.0, 0.0], [0.0, 1.0]], vec![0, 1]),
    ] {
        for (name, measure) in MEASURES {
            match measure(points.view(), &labels) {
                Ok(found) => {
                    assert!(found.iter().all(|value| value.is_finite()), "{name}, {what}: {found:?}");
                }
                Err(error) => assert!(!error.to_string().is_empty(), "{name}, {what}"),
            }
        }
    }
    for (name, measure) in MEASURES {
        let empty = measure(Array2::zeros((0, 2)).view(), &[]);
        assert!(matches!(empty, Err(Error::Empty(_))), "{name}, no points: {empty:?}");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut points = circle.clone();
            points[[5, 1]] = bad;
            let found = measure(points.view(), &halves);
            let at = matches!(found, Err(Error::NotFinite(_, 5, 1, _)));
            assert!(at, "{name}, {bad}: {found:?}");
        }
    }
}

#[test]
fn what_reads_labels_refuses_too_few_and_a_row_without_length() {
    let (points, labels) = made_up(40, 6, 3, 0.5, 3);
    let mut without_length = points.clone();
    without_length.row_mut(7).fill(0.0);
    for (name, measure) in MEASURES.into_iter().filter(|(name, _)| *name != "tsne::embed_linfa") {
        let right = measure(points.view(), &labels);
        match measure(points.view(), &labels[..39]) {
            Err(Error::LengthMismatch(..)) => {
                let found = measure(without_length.view(), &labels);
                assert!(matches!(found, Err(Error::OutOfRange { value: 0.0, .. })), "{name}: {found:?}");
            }
            found => assert_eq!(found, right, "{name}"),
        }
    }
}

#[test]
fn threads_and_layout_change_nothing() {
    // More points than one block or task of any step holds.
    let (points, labels) = made_up(1_000, 24, 6, 1.0, 8);
    let turned = points.t().as_standard_layout().into_owned();
    let mut wide = Array2::zeros((1_000, 48));
    wide.slice_mut(s![.., ..;2]).assign(&points);
    // linfa draws random numbers, and sums in the order of the layout.
    for (name, measure) in MEASURES.into_iter().filter(|(name, _)| !name.contains("linfa")) {
        let [one, three] = with_threads(|| measure(points.view(), &labels).unwrap());
        assert_eq!(one, three, "{name}");
        for layout in [turned.t(), wide.slice(s![.., ..;2])] {
            assert_eq!(one, measure(layout, &labels).unwrap(), "{name}");
        }
    }
}
