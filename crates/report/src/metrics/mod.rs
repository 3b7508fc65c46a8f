//! What is measured on one run.

pub(crate) mod definitions;

use crate::error::{Error, Result};
use crate::runs::Run;
use faceoff_analysis::neighbors::Neighbors;
use faceoff_analysis::tsne::TsneConfig;
use faceoff_analysis::{accuracy, neighbors, pca, tsne};
use faceoff_runs::{AnalysisConfig, Embeddings, Engine, SplitName};
use ndarray::{Array2, ArrayView2};

/// The neighbourhood size of the headline, always measured.
pub(crate) const KNN: usize = 5;
/// The numbers of components of the headline, always measured.
pub(crate) const COMPONENTS: [usize; 2] = [16, 128];

/// Everything measured on one run.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
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
    /// What could not be measured, and why.
    pub(crate) notes: Vec<String>,
}

impl Measured {
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

/// Measures one run. With `maps`, also lays out its validation images in two and three dimensions.
pub(crate) fn measure(run: &Run, splits: &Splits, config: &AnalysisConfig, maps: bool) -> Result<Measured> {
    let classes = run.manifest.data.classes.len();
    let mut measured = Measured {
        variant: run.variant,
        seed: run.seed(),
        values: Vec::new(),
        confusion: None,
        variance_ratios: Vec::new(),
        maps: None,
        notes: Vec::new(),
    };
    let fail = |source| Error::Analysis { run: run.name.clone(), source };
    let Splits { train, val } = splits;
    let mut add = |name: String, value: f64| measured.values.push((name, value));

    let mut confusion = None;
    // The scores say nothing of classes that training never saw.
    if val.classes == classes && run.manifest.spec.data.held_out_classes.is_empty() {
        let predicted = accuracy::predictions(scores(val));
        add("dnn_accuracy".into(), accuracy::accuracy(&predicted, &val.labels).map_err(fail)?);
        add("dnn_macro_accuracy".into(), accuracy::macro_accuracy(&predicted, &val.labels, classes).map_err(fail)?);
        let given = &val.predictions_labels_given;
        add("dnn_accuracy_labels_given".into(), accuracy::accuracy(given, &val.labels).map_err(fail)?);
        confusion = Some(accuracy::confusion_matrix(&predicted, &val.labels, classes).map_err(fail)?);
    }

    let mut sizes = config.knn_neighbors.clone();
    sizes.push(KNN);
    sizes.sort_unstable();
    sizes.dedup();
    sizes.retain(|&k| k <= train.len());
    if let Some(&most) = sizes.last() {
        let found = search(config.engine, unit(train), unit(val), most).map_err(fail)?;
        for k in sizes {
            let predicted = neighbors::knn_predictions(&found, &train.labels, k).map_err(fail)?;
            add(knn_metric(k), accuracy::accuracy(&predicted, &val.labels).map_err(fail)?);
            if k == KNN {
                let value = accuracy::macro_accuracy(&predicted, &val.labels, classes).map_err(fail)?;
                add("knn_macro_accuracy_k5".into(), value);
            }
        }
    }

    let mut kept = config.pca_components.clone();
    kept.extend(COMPONENTS);
    kept.sort_unstable();
    kept.dedup();
    // More components than points or dimensions hold nothing more.
    let most = kept[kept.len() - 1].min(train.len()).min(train.dim);
    match fit_pca(config.engine, unit(train), most) {
        Ok(fitted) => {
            measured.variance_ratios = fitted.explained_variance_ratio;
            for count in kept {
                let share = measured.variance_ratios.iter().take(count).sum::<f64>();
                add(variance_metric(count), share);
            }
        }
        Err(error) => measured.notes.push(format!("{}: no explained variance: {error}.", run.name)),
    }
    measured.confusion = confusion;
    if maps {
        measured.maps = Some(lay_out(run, val, config, &mut measured.notes));
    }
    Ok(measured)
}

fn lay_out(run: &Run, val: &Embeddings, config: &AnalysisConfig, notes: &mut Vec<String>) -> Maps {
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

fn fit_pca(engine: Engine, data: ArrayView2<'_, f32>, components: usize) -> faceoff_analysis::Result<pca::Pca> {
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
