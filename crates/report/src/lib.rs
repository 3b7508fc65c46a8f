//! Tables, SVG pictures and the page of an experiment, made from the whole runs in its folder.
//!
//! ```text
//! <folder>/runs/<variant>-seed<k>/     whole runs                        runs
//!     -> numbers of each run                                             metrics
//!     -> tables over seeds                                               tables
//!     -> pictures                                                        pictures (what), plots (how)
//!     -> index.html, which shows all of it                               page
//! ```
//!
//! The same runs give the same bytes, for any number of threads. Everything is computed first and then written, file by file, each of them whole
//! or not at all; the page comes last.

mod error;
mod metrics;
mod plots;
mod runs;
mod tables;

pub use error::{Error, Result};

use faceoff_runs::{Experiment, write_atomically};
use metrics::{Measured, Splits, ValImages};
use std::path::{Path, PathBuf};
use tables::MetricSummary;

/// What a report says in short.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// One row a variant, in the experiment's order.
    pub rows: Vec<SummaryRow>,
    /// What a reader has to know: runs left out, failed or missing, limits of the data.
    pub notes: Vec<String>,
    /// `index.html`.
    pub page: PathBuf,
    /// `metrics.csv`.
    pub metrics: PathBuf,
}

/// The headline numbers of a variant, means over its seeds; `None` where a number was not measured.
#[derive(Debug, Clone, PartialEq)]
pub struct SummaryRow {
    /// The variant.
    pub variant: String,
    /// Number of runs.
    pub seeds: usize,
    /// Share of validation images whose class has the highest score, labels withheld.
    pub dnn_accuracy: Option<f64>,
    /// KNN accuracy with 5 neighbours.
    pub knn_accuracy: Option<f64>,
    /// Share of the variance of the training embeddings that 16 principal components hold.
    pub explained_variance_16: Option<f64>,
    /// The same for 128.
    pub explained_variance_128: Option<f64>,
}

/// Measures the whole runs below `folder` and writes the report of `experiment` there. `say` hears what is being done.
///
/// # Errors
/// No whole run; runs that cannot be measured; files that cannot be read or written.
pub fn write_report(folder: &Path, experiment: &Experiment, say: &dyn Fn(&str)) -> Result<Summary> {
    let selection = runs::select(folder, experiment)?;
    let mut measured: Vec<Measured> = Vec::new();
    let mut val_images: Vec<ValImages> = Vec::new();
    for (index, run) in selection.runs.iter().enumerate() {
        say(&format!("measuring {} ({} of {})", run.name, index + 1, selection.runs.len()));
        let splits = Splits::read(run)?;
        let images = splits.val_images();
        let first = val_images.len() == run.variant;
        if first {
            val_images.push(images);
        } else if val_images[run.variant] != images {
            let first = selection.of_variant(run.variant).next().expect("a variant has runs");
            return Err(Error::ImagesDiffer { first: first.name.clone(), second: run.name.clone(), split: "val" });
        }
        measured.push(metrics::measure(run, &splits, &experiment.analysis, first)?);
    }
    let summaries = tables::summarise(&measured, selection.variants.len());

    let mut notes = selection.notes.clone();
    notes.extend(measured.iter().flat_map(|run| run.notes.iter().cloned()));

    let files = vec![
        ("metrics.csv".to_string(), tables::metrics(&selection, &measured)?),
        ("summary.csv".to_string(), tables::summary(&selection, &summaries)?),
        ("history.csv".to_string(), tables::history(&selection)?),
        ("index.html".to_string(), format!("<!doctype html><title>{}</title>", experiment.name).into_bytes()),
    ];
    for (name, bytes) in &files {
        write_atomically(&folder.join(name), |file| file.write_all(bytes))?;
    }
    Ok(Summary {
        rows: rows(&selection, &summaries),
        notes,
        page: folder.join("index.html"),
        metrics: folder.join("metrics.csv"),
    })
}

fn rows(selection: &runs::Selection, summaries: &[MetricSummary]) -> Vec<SummaryRow> {
    let row = |(index, variant): (usize, &faceoff_runs::HeadVariant)| {
        let mean = |metric: &str| {
            summaries.iter().find(|row| row.variant == index && row.metric == metric).map(|row| row.summary.mean)
        };
        SummaryRow {
            variant: variant.name.clone(),
            seeds: selection.of_variant(index).count(),
            dnn_accuracy: mean("dnn_accuracy"),
            knn_accuracy: mean(&metrics::knn_metric(metrics::KNN)),
            explained_variance_16: mean(&metrics::variance_metric(metrics::COMPONENTS[0])),
            explained_variance_128: mean(&metrics::variance_metric(metrics::COMPONENTS[1])),
        }
    };
    selection.variants.iter().enumerate().map(row).collect()
}
