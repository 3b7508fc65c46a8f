//! Tables, SVG pictures and the page of an experiment, made from the whole runs in its folder.
//!
//! ```text
//! <folder>/runs/<variant>-seed<k>/     whole runs                        runs
//!     -> what is measured on them and what the numbers say             evaluation
//!     -> tables                                                          tables
//!     -> pictures                                                        pictures (what), plots (how)
//!     -> index.html, which shows all of it                               page
//! ```
//!
//! The same runs give the same bytes, for any number of threads. Everything is computed first and then written, file by file, each of them whole
//! or not at all; the page comes last.

mod error;
mod growth;
mod page;
mod parquet;
mod pictures;
mod plots;
mod tables;

pub use error::{Error, Result};
pub use growth::{GrowthCurve, growth_picture};

use faceoff_evaluation::selection::Origin;
use faceoff_evaluation::{Evaluation, External, Headline, LabelledFiles, MetricId, Registry, evaluate};
use faceoff_runs::{AnalysisConfig, Experiment, FolderLock, write_atomically};
use pictures::Section;
use std::path::{Path, PathBuf};

/// What a report says in short.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportSummary {
    /// The measured metrics of the rows' means.
    pub metrics: Vec<MetricId>,
    /// One row a variant, in the experiment's order.
    pub rows: Vec<SummaryRow>,
    /// What a reader has to know: runs left out, failed or missing, limits of the data.
    pub notes: Vec<String>,
    /// `index.html`.
    pub page: PathBuf,
    /// `metrics.csv`.
    pub table: PathBuf,
}

/// The headline numbers of a variant.
#[derive(Debug, Clone, PartialEq)]
pub struct SummaryRow {
    /// The variant.
    pub variant: String,
    /// Number of runs.
    pub seeds: usize,
    /// Means over the seeds of [`ReportSummary::metrics`]; `None` where a number was not measured.
    pub means: Vec<Option<f64>>,
}

/// Measures the whole runs below `folder` and writes the report of `experiment` there. `say` hears what is being done.
///
/// # Errors
/// No whole run; runs that cannot be measured; files that cannot be read or written.
pub fn write_report(
    folder: &Path,
    experiment: &Experiment,
    registry: &Registry,
    say: &dyn Fn(&str),
) -> Result<ReportSummary> {
    let evaluation = evaluate(folder, experiment, registry, say)?;
    let Origin::Runs(manifest) = &evaluation.selection.origin else {
        unreachable!("what is evaluated in a folder are runs")
    };
    let page = |sections: &[Section], tables: &[&str]| page::page(experiment, manifest, &evaluation, sections, tables);
    write(folder, &evaluation, page, say)
}

/// Measures external embeddings, `queries` against `index` if there is one and else each against all others, and writes the
/// report into `folder`, whose lock it takes once the files are read: files that are refused leave no folder behind.
///
/// # Errors
/// Files that cannot be read or do not fit together; a folder that another process writes into.
pub fn write_embeddings_report(
    folder: &Path,
    name: &str,
    queries: &LabelledFiles,
    index: Option<&LabelledFiles>,
    analysis: &AnalysisConfig,
    registry: &Registry,
    say: &dyn Fn(&str),
) -> Result<ReportSummary> {
    say(&format!("reading {}", queries.embeddings.display()));
    let external = External::read(name, queries, index)?;
    let _lock = FolderLock::take(folder)?;
    let evaluation = external.evaluate(analysis, registry, say)?;
    let page = |sections: &[Section], tables: &[&str]| page::external(name, &evaluation, sections, tables);
    write(folder, &evaluation, page, say)
}

/// Draws, writes every file, and sums up. `page` gives `index.html` from the pictures and the names of the tables.
fn write(
    folder: &Path,
    evaluation: &Evaluation,
    page: impl Fn(&[Section], &[&str]) -> Result<String>,
    say: &dyn Fn(&str),
) -> Result<ReportSummary> {
    say("drawing");
    let sections = pictures::sections(evaluation)?;
    let mut files = tables::all(evaluation)?;
    for picture in sections.iter().flat_map(|section| section.pictures.iter().chain(&section.details)) {
        files.push((format!("plots/{}", picture.file), picture.svg.clone().into_bytes()));
    }
    // The page comes last: what it shows is there by then.
    let page = page(&sections, &table_names(&files))?;
    files.push(("index.html".into(), page.into_bytes()));
    write_files(folder, &files, say)?;
    let shown = evaluation.headline.iter().filter(|(_, rank)| *rank <= Headline::Shown);
    let metrics: Vec<MetricId> = shown.map(|&(metric, _)| metric).collect();
    let row = |(index, variant): (usize, &faceoff_evaluation::selection::Variant)| SummaryRow {
        variant: variant.name.clone(),
        seeds: evaluation.runs(index).count(),
        means: metrics.iter().map(|&metric| Some(evaluation.summary(index, metric)?.summary.mean)).collect(),
    };
    Ok(ReportSummary {
        rows: evaluation.selection.variants.iter().enumerate().map(row).collect(),
        metrics,
        notes: evaluation.notes.clone(),
        page: folder.join("index.html"),
        table: folder.join("metrics.csv"),
    })
}

/// The names of the tables.
fn table_names(files: &[(String, Vec<u8>)]) -> Vec<&str> {
    files.iter().map(|file| file.0.as_str()).filter(|name| !name.ends_with(".svg")).collect()
}

/// Writes the files in their order, each of them whole or not at all, and removes those of an earlier report.
fn write_files(folder: &Path, files: &[(String, Vec<u8>)], say: &dyn Fn(&str)) -> Result<()> {
    say(&format!("writing {} files", files.len()));
    for (name, bytes) in files {
        write_atomically(&folder.join(name), |file| file.write_all(bytes))?;
    }
    remove_stale(folder, files)
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
            let path = entry.map_err(|source| Error::Io { action: "list", path: sub_folder.clone(), source })?.path();
            let name = format!("{sub}/{}", path.file_name().unwrap_or_default().to_string_lossy());
            if path.extension().is_some_and(|found| found == extension) && !files.iter().any(|file| file.0 == name) {
                std::fs::remove_file(&path).map_err(|source| Error::Io { action: "remove", path, source })?;
            }
        }
    }
    Ok(())
}
