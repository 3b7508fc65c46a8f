//! What is measured on one run.

mod deep;
pub(crate) mod definitions;

use crate::runs::Run;
use faceoff_analysis::calibration::Calibration;
use faceoff_analysis::geometry::CenterAngles;
use faceoff_analysis::retrieval::Vote;
use faceoff_analysis::statistics::Interval;
use faceoff_analysis::tsne::TsneConfig;
use faceoff_analysis::verification::Verification;
use faceoff_analysis::{accuracy, geometry, neighbors, pca, retrieval, statistics, tsne};
use faceoff_runs::{AnalysisConfig, Embeddings, Engine, SplitName};
use ndarray::{Array2, ArrayView2};

/// The neighbourhood size of the headline, always measured.
pub(crate) const KNN: usize = 5;
/// The temperature of weighted votes, as is customary.
pub(crate) const TEMPERATURE: f64 = 0.07;
/// The numbers of components of the headline, always measured.
pub(crate) const COMPONENTS: [usize; 2] = [16, 128];

/// Everything measured on one run.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// The run's folder name.
    pub(crate) run: String,
    /// Index of the variant in the selection.
    pub(crate) variant: usize,
    pub(crate) seed: u64,
    /// Metric and value, in the order of the tables.
    pub(crate) values: Vec<(String, f64)>,
    /// 95 % bootstrap intervals over images, by metric.
    pub(crate) bootstrap: Vec<(String, Interval)>,
    /// True class by predicted class, by the head's highest score on the validation images.
    pub(crate) confusion: Option<Array2<u64>>,
    /// Share of the training embeddings' variance along each component, greatest first.
    pub(crate) variance_ratios: Vec<f64>,
    /// Maps of the validation embeddings, of the first seed of variants with pictures of their own.
    pub(crate) maps: Option<Maps>,
    /// Curves and matrices for pictures, of the variant's first seed only.
    pub(crate) shapes: Shapes,
    /// What could not be measured, and why.
    pub(crate) notes: Vec<String>,
}

/// What pictures show beyond numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shapes {
    pub(crate) verification: Option<Verification>,
    pub(crate) centers: Option<CenterAngles>,
    pub(crate) calibration: Option<Calibration>,
}

impl Measured {
    /// Nothing measured yet.
    pub(crate) fn new(run: &str, variant: usize, seed: u64) -> Self {
        Self {
            run: run.into(),
            variant,
            seed,
            values: Vec::new(),
            bootstrap: Vec::new(),
            confusion: None,
            variance_ratios: Vec::new(),
            maps: None,
            shapes: Shapes::default(),
            notes: Vec::new(),
        }
    }

    /// Interval of an accuracy over the images of this run.
    fn resample(&mut self, metric: &str, predicted: &[u32], labels: &[u32]) -> faceoff_analysis::Result<()> {
        let right: Vec<bool> = predicted.iter().zip(labels).map(|(a, b)| a == b).collect();
        self.bootstrap.push((metric.into(), statistics::bootstrap_accuracy(&right, 2000, self.seed)?));
        Ok(())
    }

    /// Measures one thing, or notes why it is not defined.
    fn part(&mut self, what: &str, measure: impl FnOnce(&mut Self) -> faceoff_analysis::Result<()>) {
        if let Err(error) = measure(self) {
            self.notes.push(format!("{}: no {what}: {error}.", self.run));
        }
    }

    fn add(&mut self, metric: impl Into<String>, value: f64) {
        self.values.push((metric.into(), value));
    }

    pub(crate) fn value(&self, metric: &str) -> Option<f64> {
        self.values.iter().find(|(name, _)| name == metric).map(|&(_, value)| value)
    }
}

/// Coordinates of the validation images.
#[derive(Debug, Clone)]
pub(crate) struct Maps {
    /// (images, up to 3) along the first components of the validation embeddings.
    pub(crate) pca: Option<Array2<f32>>,
    /// Share of the validation embeddings' variance along them.
    pub(crate) pca_ratios: Vec<f64>,
    /// (images, 2).
    pub(crate) tsne: Option<Array2<f64>>,
}

/// Ids and labels of the validation images: the same for every run of a report.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ValImages {
    pub(crate) ids: Vec<String>,
    pub(crate) labels: Vec<u32>,
}

/// Both splits of one run.
pub(crate) struct Splits {
    pub(crate) train: Embeddings,
    pub(crate) val: Embeddings,
}

impl Splits {
    pub(crate) fn read(run: &Run) -> faceoff_runs::Result<Self> {
        Ok(Self {
            train: run.folder.embeddings(SplitName::Train)?,
            val: run.folder.embeddings(SplitName::Val)?,
        })
    }

    pub(crate) fn val_images(&self) -> ValImages {
        ValImages { ids: self.val.ids.clone(), labels: self.val.labels.clone() }
    }
}

/// Embeddings with their labels, whatever they come from.
#[derive(Clone, Copy)]
pub(crate) struct Points<'a> {
    /// (N, D), unit length.
    pub(crate) unit: ArrayView2<'a, f32>,
    /// Classes, counted from 0.
    pub(crate) labels: &'a [u32],
}

impl<'a> Points<'a> {
    fn of(split: &'a Embeddings) -> Self {
        // Embeddings::read has checked the lengths.
        let unit = ArrayView2::from_shape((split.len(), split.dim), &split.unit).expect("N x D values");
        Self { unit, labels: &split.labels }
    }
}

/// Measures one run. `pictured` keeps the shapes that pictures need.
///
/// What is not defined for a run is left out, and the notes say why; the rest of the report does not suffer.
pub(crate) fn measure(run: &Run, splits: &Splits, config: &AnalysisConfig, pictured: bool) -> Measured {
    let mut measured = Measured::new(&run.name, run.variant, run.seed());
    let classes = run.manifest.data.classes.len();
    let Splits { train, val } = splits;
    // The scores say nothing of classes that training never saw.
    let classifies = val.classes == classes && run.manifest.spec.data.held_out_classes.is_empty();
    if classifies {
        measured.part("accuracy of the classifier", |m| classifier(m, val, classes));
    }
    measure_points(&mut measured, Some(Points::of(train)), Points::of(val), classes, config);
    if classifies {
        measured.part("neural collapse of the classifier", |m| deep::classifier_collapse(m, train));
        measured.part("calibration", |m| deep::calibration(m, val));
    }
    if !pictured {
        measured.shapes = Shapes::default();
    }
    measured
}

/// Measures everything that needs no classifier. Without an index, what would need one is left out or left to the
/// evaluated points themselves.
pub(crate) fn measure_points<'a>(
    measured: &mut Measured,
    index: Option<Points<'a>>,
    queries: Points<'a>,
    classes: usize,
    config: &AnalysisConfig,
) {
    measured.part("KNN accuracy", |m| nearest(m, index, queries, config, classes));
    measured.part("explained variance", |m| variance(m, index.unwrap_or(queries), config));
    if let Some(index) = index {
        measured.part("retrieval", |m| deep::retrieval(m, index, queries));
    }
    measured.part("retrieval, leave one out", |m| deep::retrieval_leave_one_out(m, queries));
    measured.part("verification", |m| deep::verification(m, queries));
    measured.part("clustering", |m| deep::clustering(m, queries, config.kmeans_seed));
    measured.part("geometry", |m| deep::geometry(m, index, queries));
    if let Some(index) = index {
        measured.part("linear probe", |m| deep::probe(m, index, queries));
    }
}

fn classifier(measured: &mut Measured, val: &Embeddings, classes: usize) -> faceoff_analysis::Result<()> {
    let scores = ArrayView2::from_shape((val.len(), val.classes), &val.scores).expect("N x C values");
    let predicted = accuracy::predictions(scores);
    measured.add("dnn_accuracy", accuracy::accuracy(&predicted, &val.labels)?);
    measured.add("dnn_macro_accuracy", accuracy::macro_accuracy(&predicted, &val.labels, classes)?);
    measured
        .add("dnn_accuracy_labels_given", accuracy::accuracy(&val.predictions_labels_given, &val.labels)?);
    measured.confusion = Some(accuracy::confusion_matrix(&predicted, &val.labels, classes)?);
    measured.resample("dnn_accuracy", &predicted, &val.labels)
}

/// Neighbours among the index, or among the other points where there is no index.
fn nearest(
    measured: &mut Measured,
    index: Option<Points<'_>>,
    queries: Points<'_>,
    config: &AnalysisConfig,
    classes: usize,
) -> faceoff_analysis::Result<()> {
    let available = index.map_or(queries.labels.len().saturating_sub(1), |index| index.labels.len());
    let mut sizes = config.knn_neighbors.clone();
    sizes.push(KNN);
    sizes.sort_unstable();
    sizes.dedup();
    sizes.retain(|&k| k <= available);
    let most = sizes.last().copied().unwrap_or(KNN);
    let (found, labels) = match (index, config.engine) {
        (None, _) => (neighbors::nearest_excluding_self(queries.unit, most)?, queries.labels),
        (Some(index), Engine::Fast) => (neighbors::nearest(index.unit, queries.unit, most)?, index.labels),
        (Some(index), Engine::Linfa) => {
            (neighbors::nearest_linfa(index.unit, queries.unit, most)?, index.labels)
        }
    };
    let curve = |vote| retrieval::knn_accuracy_curve(&found, labels, queries.labels, vote);
    let plain = curve(Vote::Majority)?;
    let weighted = curve(Vote::Softmax { temperature: TEMPERATURE })?;
    for &k in &sizes {
        measured.add(knn_metric(k), plain[k - 1]);
        if k == KNN {
            let predicted = neighbors::knn_predictions(&found, labels, k)?;
            let value = accuracy::macro_accuracy(&predicted, queries.labels, classes)?;
            measured.add("knn_macro_accuracy_k5", value);
            measured.resample(&knn_metric(k), &predicted, queries.labels)?;
        }
    }
    for k in sizes {
        measured.add(weighted_knn_metric(k), weighted[k - 1]);
    }
    Ok(())
}

fn variance(
    measured: &mut Measured,
    Points { unit, .. }: Points<'_>,
    config: &AnalysisConfig,
) -> faceoff_analysis::Result<()> {
    let mut kept = config.pca_components.clone();
    kept.extend(COMPONENTS);
    kept.sort_unstable();
    kept.dedup();
    // More components than points or dimensions hold nothing more.
    let possible = unit.nrows().min(unit.ncols());
    let whole = pca::fit(unit, possible)?;
    let most = kept[kept.len() - 1].min(possible);
    measured.variance_ratios = match config.engine {
        Engine::Fast => whole.explained_variance_ratio[..most].to_vec(),
        Engine::Linfa => pca::fit_linfa(unit, most)?.explained_variance_ratio,
    };
    for count in kept {
        let share = measured.variance_ratios.iter().take(count).sum::<f64>();
        measured.add(variance_metric(count), share);
    }
    measured.add("effective_rank", geometry::effective_rank(&whole.explained_variance)?);
    let needed = geometry::components_for_variance(&whole.explained_variance, 0.95)?;
    measured.add("components_for_95_percent", needed as f64);
    Ok(())
}

/// Lays out the validation embeddings of a run.
pub(crate) fn lay_out_run(measured: &mut Measured, val: &Embeddings, config: &AnalysisConfig) {
    lay_out(measured, Points::of(val).unit, config);
}

/// PCA and t-SNE coordinates.
pub(crate) fn lay_out(measured: &mut Measured, data: ArrayView2<'_, f32>, config: &AnalysisConfig) {
    let mut maps = Maps { pca: None, pca_ratios: Vec::new(), tsne: None };
    let (points, dim) = data.dim();
    measured.part("PCA map", |_| {
        let fitted = fit_pca(config.engine, data, 3.min(points).min(dim))?;
        maps.pca = Some(fitted.transform(data)?);
        maps.pca_ratios = fitted.explained_variance_ratio;
        Ok(())
    });
    let most = (points.saturating_sub(1)) as f64 / 3.0;
    let perplexity = config.tsne_perplexity.min(most);
    if perplexity < config.tsne_perplexity {
        measured.notes.push(format!(
            "{}: t-SNE took perplexity {perplexity:.1} instead of {}: {points} images allow no more.",
            measured.run, config.tsne_perplexity
        ));
    }
    let settings = TsneConfig { perplexity, iterations: config.tsne_iterations, seed: config.tsne_seed };
    measured.part("t-SNE map", |_| {
        let embedded = match config.engine {
            Engine::Fast => tsne::embed(data, &settings)?,
            Engine::Linfa => tsne::embed_linfa(data, &settings)?,
        };
        maps.tsne = Some(embedded.coordinates);
        Ok(())
    });
    measured.maps = Some(maps);
}

fn fit_pca(
    engine: Engine,
    data: ArrayView2<'_, f32>,
    components: usize,
) -> faceoff_analysis::Result<pca::Pca> {
    match engine {
        Engine::Fast => pca::fit(data, components),
        Engine::Linfa => pca::fit_linfa(data, components),
    }
}

/// The name of the KNN accuracy with `k` neighbours.
pub(crate) fn knn_metric(k: usize) -> String {
    format!("knn_accuracy_k{k}")
}

/// The name of the KNN accuracy with `k` neighbours that count by their similarity.
pub(crate) fn weighted_knn_metric(k: usize) -> String {
    format!("knn_weighted_accuracy_k{k}")
}

/// The name of the variance that `count` components hold.
pub(crate) fn variance_metric(count: usize) -> String {
    format!("explained_variance_{count}")
}
