//! What is measured on one run.

mod deep;
pub(crate) mod definitions;

use crate::runs::Run;
use faceoff_analysis::calibration::Calibration;
use faceoff_analysis::geometry::CenterAngles;
use faceoff_analysis::neighbors::Neighbors;
use faceoff_analysis::tsne::TsneConfig;
use faceoff_analysis::verification::Verification;
use faceoff_analysis::{accuracy, geometry, neighbors, pca, tsne};
use faceoff_runs::{AnalysisConfig, Embeddings, Engine, SplitName};
use ndarray::{Array2, ArrayView2};

/// The neighbourhood size of the headline, always measured.
pub(crate) const KNN: usize = 5;
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
    /// True class by predicted class, by the head's highest score on the validation images.
    pub(crate) confusion: Option<Array2<u64>>,
    /// Share of the training embeddings' variance along each component, greatest first.
    pub(crate) variance_ratios: Vec<f64>,
    /// Maps of the validation embeddings, of the variant's first seed only.
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

/// Measures one run. With `pictured`, keeps what pictures need beyond numbers.
///
/// What is not defined for a run is left out, and the notes say why; the rest of the report does not suffer.
pub(crate) fn measure(run: &Run, splits: &Splits, config: &AnalysisConfig, pictured: bool) -> Measured {
    let mut measured = Measured {
        run: run.name.clone(),
        variant: run.variant,
        seed: run.seed(),
        values: Vec::new(),
        confusion: None,
        variance_ratios: Vec::new(),
        maps: None,
        shapes: Shapes::default(),
        notes: Vec::new(),
    };
    let classes = run.manifest.data.classes.len();
    let Splits { train, val } = splits;
    // The scores say nothing of classes that training never saw.
    let classifies = val.classes == classes && run.manifest.spec.data.held_out_classes.is_empty();
    if classifies {
        measured.part("accuracy of the classifier", |m| classifier(m, val, classes));
    }
    measured.part("KNN accuracy", |m| nearest(m, splits, config, classes));
    measured.part("explained variance", |m| variance(m, train, config));
    measured.part("retrieval", |m| deep::retrieval(m, splits));
    measured.part("verification", |m| deep::verification(m, val));
    measured.part("clustering", |m| deep::clustering(m, val, config.tsne_seed));
    measured.part("geometry", |m| deep::geometry(m, splits));
    measured.part("linear probe", |m| deep::probe(m, splits));
    if classifies {
        measured.part("calibration", |m| deep::calibration(m, val));
    }
    if pictured {
        measured.maps = Some(lay_out(&mut measured.notes, run, val, config));
    } else {
        measured.shapes = Shapes::default();
    }
    measured
}

fn classifier(measured: &mut Measured, val: &Embeddings, classes: usize) -> faceoff_analysis::Result<()> {
    let predicted = accuracy::predictions(scores(val));
    measured.add("dnn_accuracy", accuracy::accuracy(&predicted, &val.labels)?);
    measured.add("dnn_macro_accuracy", accuracy::macro_accuracy(&predicted, &val.labels, classes)?);
    measured
        .add("dnn_accuracy_labels_given", accuracy::accuracy(&val.predictions_labels_given, &val.labels)?);
    measured.confusion = Some(accuracy::confusion_matrix(&predicted, &val.labels, classes)?);
    Ok(())
}

fn nearest(
    measured: &mut Measured,
    Splits { train, val }: &Splits,
    config: &AnalysisConfig,
    classes: usize,
) -> faceoff_analysis::Result<()> {
    let mut sizes = config.knn_neighbors.clone();
    sizes.push(KNN);
    sizes.sort_unstable();
    sizes.dedup();
    sizes.retain(|&k| k <= train.len());
    let most = sizes.last().copied().unwrap_or(KNN);
    let found = search(config.engine, unit(train), unit(val), most)?;
    for k in sizes {
        let predicted = neighbors::knn_predictions(&found, &train.labels, k)?;
        measured.add(knn_metric(k), accuracy::accuracy(&predicted, &val.labels)?);
        if k == KNN {
            let value = accuracy::macro_accuracy(&predicted, &val.labels, classes)?;
            measured.add("knn_macro_accuracy_k5", value);
        }
    }
    Ok(())
}

fn variance(
    measured: &mut Measured,
    train: &Embeddings,
    config: &AnalysisConfig,
) -> faceoff_analysis::Result<()> {
    let mut kept = config.pca_components.clone();
    kept.extend(COMPONENTS);
    kept.sort_unstable();
    kept.dedup();
    // More components than points or dimensions hold nothing more.
    let possible = train.len().min(train.dim);
    let whole = pca::fit(unit(train), possible)?;
    let most = kept[kept.len() - 1].min(possible);
    measured.variance_ratios = match config.engine {
        Engine::Fast => whole.explained_variance_ratio[..most].to_vec(),
        Engine::Linfa => pca::fit_linfa(unit(train), most)?.explained_variance_ratio,
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

fn lay_out(notes: &mut Vec<String>, run: &Run, val: &Embeddings, config: &AnalysisConfig) -> Maps {
    let data = unit(val);
    let mut maps = Maps { pca: None, pca_ratios: Vec::new(), tsne: None };
    let fitted = fit_pca(config.engine, data, 3.min(val.len()).min(val.dim));
    match fitted.and_then(|fitted| Ok((fitted.transform(data)?, fitted.explained_variance_ratio))) {
        Ok((coordinates, ratios)) => (maps.pca, maps.pca_ratios) = (Some(coordinates), ratios),
        Err(error) => notes.push(format!("{}: no PCA map: {error}.", run.name)),
    }
    let most = (val.len().saturating_sub(1)) as f64 / 3.0;
    let perplexity = config.tsne_perplexity.min(most);
    if perplexity < config.tsne_perplexity {
        let note = format!(
            "{}: t-SNE took perplexity {perplexity:.1} instead of {}: {} validation images allow no more.",
            run.name,
            config.tsne_perplexity,
            val.len()
        );
        notes.push(note);
    }
    let config_tsne = TsneConfig { perplexity, iterations: config.tsne_iterations, seed: config.tsne_seed };
    let embedded = match config.engine {
        Engine::Fast => tsne::embed(data, &config_tsne),
        Engine::Linfa => tsne::embed_linfa(data, &config_tsne),
    };
    match embedded {
        Ok(embedded) => maps.tsne = Some(embedded.coordinates),
        Err(error) => notes.push(format!("{}: no t-SNE map: {error}.", run.name)),
    }
    maps
}

fn search(
    engine: Engine,
    index: ArrayView2<'_, f32>,
    queries: ArrayView2<'_, f32>,
    k: usize,
) -> faceoff_analysis::Result<Neighbors> {
    match engine {
        Engine::Fast => neighbors::nearest(index, queries, k),
        Engine::Linfa => neighbors::nearest_linfa(index, queries, k),
    }
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

/// The name of the variance that `count` components hold.
pub(crate) fn variance_metric(count: usize) -> String {
    format!("explained_variance_{count}")
}

/// (N, D) unit embeddings.
fn unit(split: &Embeddings) -> ArrayView2<'_, f32> {
    // Embeddings::read has checked the lengths.
    ArrayView2::from_shape((split.len(), split.dim), &split.unit).expect("N x D values")
}

/// (N, C) scores.
fn scores(split: &Embeddings) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((split.len(), split.classes), &split.scores).expect("N x C values")
}
