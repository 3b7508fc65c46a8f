//! Every function of embeddings on input without a proper answer: an error that fits or a finite value, never a panic.

use faceoff_analysis::probe::LinearProbe;
use faceoff_analysis::tsne::{TsneConfig, embed, embed_linfa};
use faceoff_analysis::{Error, Result, clustering, geometry, neighbors, pca, retrieval, verification};
use ndarray::{Array2, ArrayView2, array};

type Points<'a> = ArrayView2<'a, f32>;
type Measure = (&'static str, fn(Points<'_>, &[u32]) -> Result<Vec<f64>>);

fn values(matrix: impl IntoIterator<Item = f32>) -> Vec<f64> {
    matrix.into_iter().map(f64::from).collect()
}

const MAP: TsneConfig = TsneConfig { perplexity: 1.0, iterations: 20, seed: 0 };

#[rustfmt::skip]
const MEASURES: [Measure; 20] = [
    ("nearest", |x, _| Ok(values(neighbors::nearest(x, x, 1)?.similarities))),
    ("nearest_excluding_self", |x, _| Ok(values(neighbors::nearest_excluding_self(x, 1)?.similarities))),
    ("nearest_linfa", |x, _| Ok(values(neighbors::nearest_linfa(x, x, 1)?.similarities))),
    ("pca::fit", |x, _| Ok(pca::fit(x, 1)?.explained_variance_ratio)),
    ("pca::fit_linfa", |x, _| Ok(pca::fit_linfa(x, 1)?.explained_variance_ratio)),
    ("tsne::embed", |x, _| embed(x, &MAP).map(|map| [map.coordinates.into_iter().collect(), vec![map.kl_divergence]].concat())),
    ("tsne::embed_linfa", |x, _| embed_linfa(x, &MAP).map(|map| map.coordinates.into_iter().collect())),
    ("retrieval", |x, y| retrieval::retrieval(x, y, x, y).map(|found| vec![found.map_at_r, found.mean_reciprocal_rank])),
    ("retrieval_leave_one_out", |x, y| retrieval::retrieval_leave_one_out(x, y).map(|found| vec![found.map_at_r, found.r_precision])),
    ("verification", |x, y| verification::verification(x, y).map(|found| vec![found.auc, found.eer, found.intra_class.sd_degrees])),
    ("kmeans", |x, _| clustering::kmeans(x, 1, 0).map(|found| vec![found.inertia])),
    ("silhouette", |x, y| clustering::silhouette(x, y).map(|found| found.per_point)),
    ("center_angles", |x, y| geometry::center_angles(x, y).map(|found| found.degrees.into_iter().collect())),
    ("nearest_center_predictions", |x, y| geometry::nearest_center_predictions(x, y, x).map(|found| vec![found.len() as f64])),
    ("alignment", |x, y| Ok(vec![geometry::alignment(x, y)?])),
    ("uniformity", |x, _| Ok(vec![geometry::uniformity(x)?])),
    ("neural_collapse", |x, y| geometry::neural_collapse(x, y).map(|found| vec![found.within_over_between, found.equinorm, found.equiangularity, found.maximal_angle])),
    ("self_duality", |x, y| Ok(vec![geometry::self_duality(array![[1.0, 0.0], [0.0, 1.0]].view(), x, y)?])),
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
        assert!(matches!(empty, Err(Error::Empty { .. })), "{name}, no points: {empty:?}");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut points = circle.clone();
            points[[5, 1]] = bad;
            let found = measure(points.view(), &halves);
            let at = matches!(found, Err(Error::NotFinite { row: 5, column: 1, .. }));
            assert!(at, "{name}, {bad}: {found:?}");
        }
    }
}
