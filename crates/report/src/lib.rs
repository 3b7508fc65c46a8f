//! Tables, SVG pictures and the page of an experiment, made from the whole runs in its folder.
//!
//! ```text
//! <folder>/runs/<variant>-seed<k>/     whole runs                        runs
//!     -> numbers of each run                                             metrics
//!     -> heads against heads over seeds                                  comparisons
//!     -> tables                                                          tables
//!     -> pictures                                                        pictures (what), plots (how)
//!     -> index.html, which shows all of it                               page
//! ```
//!
//! The same runs give the same bytes, for any number of threads. Everything is computed first and then written, file by file, each of them whole
//! or not at all; the page comes last.

mod comparisons;
mod error;
mod growth;
mod metrics;
mod page;
mod pictures;
mod plots;
mod runs;
mod tables;

pub use error::{Error, Result};
pub use growth::{GrowthCurve, growth_picture};

use faceoff_runs::{Experiment, write_atomically};
use metrics::{Measured, Splits, ValImages};
use pictures::Outcome;
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
            return Err(Error::ImagesDiffer {
                first: first.name.clone(),
                second: run.name.clone(),
                split: "val",
            });
        }
        measured.push(metrics::measure(run, &splits, &experiment.analysis, first));
    }
    let summaries = tables::summarise(&measured, selection.variants.len());

    let mut notes = selection.notes.clone();
    notes.extend(measured.iter().flat_map(|run| run.notes.iter().cloned()));

    let classes = &selection.manifest().data.classes;
    let comparisons = comparisons::compare(&selection, &measured, classes.len());
    notes.extend(comparisons.notes.iter().cloned());
    let mut neighbors = experiment.analysis.knn_neighbors.clone();
    neighbors.push(metrics::KNN);
    let mut components = experiment.analysis.pca_components.clone();
    components.extend(metrics::COMPONENTS);
    for sizes in [&mut neighbors, &mut components] {
        sizes.sort_unstable();
        sizes.dedup();
    }
    let outcome = Outcome {
        selection: &selection,
        measured: &measured,
        summaries: &summaries,
        comparisons: &comparisons,
        val_images: &val_images,
        classes,
        neighbors: &neighbors,
        components: &components,
    };
    say("drawing");
    let sections = pictures::sections(&outcome)?;
    let mut files = tables(&outcome)?;
    for picture in sections.iter().flat_map(|section| section.pictures.iter().chain(&section.details)) {
        files.push((format!("plots/{}", picture.file), picture.svg.clone().into_bytes()));
    }
    // The page comes last: what it shows is there by then.
    files.push(("index.html".into(), page::page(experiment, &outcome, &sections, &notes).into_bytes()));
    say(&format!("writing {} files", files.len()));
    for (name, bytes) in &files {
        write_atomically(&folder.join(name), |file| file.write_all(bytes))?;
    }
    remove_stale(folder, &files)?;

    Ok(Summary {
        rows: rows(&selection, &summaries),
        notes,
        page: folder.join("index.html"),
        metrics: folder.join("metrics.csv"),
    })
}

/// The CSV files with their names.
fn tables(outcome: &Outcome<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    let Outcome { selection, measured, classes, .. } = *outcome;
    let mut files = vec![
        ("metrics.csv".to_string(), tables::metrics(selection, measured)?),
        ("summary.csv".to_string(), tables::summary(selection, outcome.summaries)?),
        (
            "explained_variance.csv".to_string(),
            tables::explained_variance(selection, measured, outcome.components)?,
        ),
        ("comparisons.csv".to_string(), tables::comparisons(selection, &outcome.comparisons.pairs)?),
        ("ranks.csv".to_string(), tables::ranks(selection, &outcome.comparisons.ranks)?),
        ("statements.csv".to_string(), tables::statements(selection, &outcome.comparisons.judgements)?),
        ("history.csv".to_string(), tables::history(selection)?),
        (
            "pca.csv".to_string(),
            tables::map(selection, "pca.csv", &["pc1", "pc2", "pc3"], &pictures::pca_maps(outcome), classes)?,
        ),
        (
            "tsne.csv".to_string(),
            tables::map(selection, "tsne.csv", &["x", "y"], &pictures::tsne_maps(outcome), classes)?,
        ),
    ];
    for (index, variant) in selection.variants.iter().enumerate() {
        if let Some(counts) = outcome.confusion(index) {
            let file = format!("confusion/{}.csv", variant.name);
            let bytes = tables::confusion(selection, &file, index, &counts, classes)?;
            files.push((file, bytes));
        }
    }
    Ok(files)
}

/// Removes pictures and tables of an earlier report that this one no longer has.
fn remove_stale(folder: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    for (sub, extension) in [("plots", "svg"), ("confusion", "csv")] {
        let sub_folder = folder.join(sub);
        if !sub_folder.exists() {
            continue;
        }
        let listing = std::fs::read_dir(&sub_folder).map_err(|source| Error::Io {
            action: "list",
            path: sub_folder.clone(),
            source,
        })?;
        for entry in listing {
            let path = entry
                .map_err(|source| Error::Io { action: "list", path: sub_folder.clone(), source })?
                .path();
            let name = format!("{sub}/{}", path.file_name().unwrap_or_default().to_string_lossy());
            if path.extension().is_some_and(|found| found == extension)
                && !files.iter().any(|file| file.0 == name)
            {
                std::fs::remove_file(&path).map_err(|source| Error::Io { action: "remove", path, source })?;
            }
        }
    }
    Ok(())
}

fn rows(selection: &runs::Selection, summaries: &[MetricSummary]) -> Vec<SummaryRow> {
    let row = |(index, variant): (usize, &faceoff_runs::HeadVariant)| {
        let mean = |metric: &str| {
            summaries
                .iter()
                .find(|row| row.variant == index && row.metric == metric)
                .map(|row| row.summary.mean)
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
