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
mod foreign;
mod groups;
mod growth;
mod metrics;
mod page;
mod pictures;
mod plots;
mod runs;
mod tables;

pub use error::{Error, Result};
pub use foreign::{LabelledFiles, write_embeddings_report};
pub use growth::{GrowthCurve, growth_picture};

use faceoff_runs::{AnalysisConfig, Experiment, SplitName, write_atomically};
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
    let groups = groups::groups(&selection, &measured);
    let shown: Vec<usize> = groups.iter().flat_map(|group| group.variants.iter().copied()).collect();
    for (index, &variant) in shown.iter().enumerate() {
        let run = selection.of_variant(variant).next().expect("a variant has runs");
        say(&format!("mapping {} ({} of {})", run.name, index + 1, shown.len()));
        let val = run.folder.embeddings(SplitName::Val)?;
        let measured = measured.iter_mut().find(|measured| measured.variant == variant);
        metrics::lay_out_run(measured.expect("every run is measured"), &val, &experiment.analysis);
    }
    let summaries = tables::summarise(&measured, selection.variants.len());
    let comparisons = comparisons::compare(&selection, &measured, &groups);

    let mut notes = selection.notes.clone();
    notes.extend(measured.iter().flat_map(|run| run.notes.iter().cloned()));
    notes.extend(comparisons.notes.iter().cloned());
    let [neighbors, components] = sizes(&experiment.analysis);
    let outcome = Outcome {
        selection: &selection,
        measured: &measured,
        summaries: &summaries,
        comparisons: &comparisons,
        groups: &groups,
        trials: &experiment.trials,
        val_images: &val_images,
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
    let page = page::page(experiment, &outcome, &sections, &notes, &csv_names(&files));
    files.push(("index.html".into(), page.into_bytes()));
    write_files(folder, &files, say)?;

    Ok(Summary {
        rows: rows(&selection, &measured, &summaries),
        notes,
        page: folder.join("index.html"),
        metrics: folder.join("metrics.csv"),
    })
}

/// The neighbourhood sizes and numbers of components measured, rising.
fn sizes(analysis: &AnalysisConfig) -> [Vec<usize>; 2] {
    let mut neighbors = analysis.knn_neighbors.clone();
    neighbors.push(metrics::KNN);
    let mut components = analysis.pca_components.clone();
    components.extend(metrics::COMPONENTS);
    for sizes in [&mut neighbors, &mut components] {
        sizes.sort_unstable();
        sizes.dedup();
    }
    [neighbors, components]
}

/// The names of the tables.
fn csv_names(files: &[(String, Vec<u8>)]) -> Vec<&str> {
    files.iter().map(|file| file.0.as_str()).filter(|name| name.ends_with(".csv")).collect()
}

/// Writes the files in their order, each of them whole or not at all, and removes those of an earlier report.
fn write_files(folder: &Path, files: &[(String, Vec<u8>)], say: &dyn Fn(&str)) -> Result<()> {
    say(&format!("writing {} files", files.len()));
    for (name, bytes) in files {
        write_atomically(&folder.join(name), |file| file.write_all(bytes))?;
    }
    remove_stale(folder, files)
}

/// The CSV files with their names.
fn tables(outcome: &Outcome<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    let Outcome { selection, measured, summaries, .. } = *outcome;
    let mut files = vec![
        ("metrics.csv".to_string(), tables::metrics(selection, measured)?),
        ("summary.csv".to_string(), tables::summary(selection, summaries)?),
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
            tables::map(selection, "pca.csv", &["pc1", "pc2", "pc3"], &pictures::pca_maps(outcome))?,
        ),
        (
            "tsne.csv".to_string(),
            tables::map(selection, "tsne.csv", &["x", "y"], &pictures::tsne_maps(outcome))?,
        ),
    ];
    files.push(("bootstrap.csv".into(), tables::bootstrap(selection, measured)?));
    let noisy = pictures::noise_variants(outcome);
    if !noisy.is_empty() {
        files.push(("label_noise.csv".into(), tables::label_noise(selection, &noisy, summaries)?));
    }
    let grid = pictures::grid_variants(outcome);
    if !grid.is_empty() {
        files.push(("scale_margin.csv".into(), tables::scale_margin(selection, &grid, summaries)?));
    }
    if !outcome.trials.is_empty() {
        files.push(("trials.csv".into(), tables::trials(outcome.trials)?));
    }
    for (index, variant) in selection.variants.iter().enumerate() {
        if let Some(counts) = outcome.confusion(index) {
            let file = format!("confusion/{}.csv", variant.name);
            let bytes = tables::confusion(selection, &file, index, &counts)?;
            files.push((file, bytes));
        }
    }
    Ok(files)
}

/// Removes pictures and tables of an earlier report that this one no longer has.
fn remove_stale(folder: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    for name in ["label_noise.csv", "scale_margin.csv", "trials.csv"] {
        let path = folder.join(name);
        if path.exists() && !files.iter().any(|file| file.0 == name) {
            std::fs::remove_file(&path).map_err(|source| Error::Io { action: "remove", path, source })?;
        }
    }
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

fn rows(selection: &runs::Selection, measured: &[Measured], summaries: &[MetricSummary]) -> Vec<SummaryRow> {
    let row = |(index, variant): (usize, &runs::Variant)| {
        let mean = |metric: &str| {
            summaries
                .iter()
                .find(|row| row.variant == index && row.metric == metric)
                .map(|row| row.summary.mean)
        };
        SummaryRow {
            variant: variant.name.clone(),
            seeds: measured.iter().filter(|run| run.variant == index).count(),
            dnn_accuracy: mean("dnn_accuracy"),
            knn_accuracy: mean(&metrics::knn_metric(metrics::KNN)),
            explained_variance_16: mean(&metrics::variance_metric(metrics::COMPONENTS[0])),
            explained_variance_128: mean(&metrics::variance_metric(metrics::COMPONENTS[1])),
        }
    };
    selection.variants.iter().enumerate().map(row).collect()
}
