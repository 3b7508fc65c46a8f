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
//! The same runs give the same bytes, for any number of threads. Tables are written before the pictures are drawn, each file whole
//! or not at all; the page comes last.

mod align;
mod error;
mod export;
mod growth;
mod page;
mod parquet;
mod pictures;
mod plots;
mod sprites;
mod tables;
mod tensorboard;

pub use error::{Error, Result};
pub use export::Export;
pub use growth::{GrowthCurve, growth_picture};
pub use sprites::Thumbnails;

use faceoff_evaluation::answer::Answer;
use faceoff_evaluation::health::Finding;
use faceoff_evaluation::selection::Origin;
use faceoff_evaluation::{Evaluation, External, Headline, LabelledFiles, MetricId, Registry, evaluate};
use faceoff_runs::{AnalysisConfig, Experiment, FolderLock, write_atomically};
use pictures::Section;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// What a report says in short.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportSummary {
    /// The measured metrics of the rows' means.
    pub metrics: Vec<MetricId>,
    /// One row a variant, in the experiment's order.
    pub rows: Vec<SummaryRow>,
    /// What ails heads, by variant, the gravest first.
    pub health: Vec<Finding>,
    /// The answer in words, under each condition.
    pub answers: Vec<Answer>,
    /// What a reader has to know: runs left out, failed or missing, limits of the data.
    pub notes: Vec<String>,
    /// `index.html`; the tables lie beside it.
    pub page: PathBuf,
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
    /// What ails it, in short; empty for a healthy one.
    pub health: String,
}

/// What a report shows beyond what was measured.
#[derive(Default)]
pub struct Extras<'a> {
    /// Kinds of heads with their formulas.
    pub formulas: Vec<(&'a str, &'a str)>,
    /// The images of the runs, for thumbnails.
    pub thumbnails: Option<&'a dyn Thumbnails>,
    /// What is written beside the report for other programs.
    pub exports: Vec<Export>,
    /// Why there are no thumbnails, if that has to be said.
    pub no_thumbnails: Option<String>,
}

impl Extras<'_> {
    fn formula(&self, kind: &str) -> Option<&str> {
        self.formulas.iter().find(|(name, _)| *name == kind).map(|&(_, formula)| formula)
    }
}

/// Measures the whole runs below `folder` and writes the report of `experiment` there. `say` hears what is being done.
///
/// # Errors
/// No whole run; runs that cannot be measured; files that cannot be read or written.
pub fn write_report(
    folder: &Path,
    experiment: &Experiment,
    registry: &Registry,
    extras: &Extras<'_>,
    say: &dyn Fn(&str),
) -> Result<ReportSummary> {
    let evaluation = evaluate(folder, experiment, registry, say)?;
    let Origin::Runs(manifest) = &evaluation.selection.origin else {
        unreachable!("what is evaluated in a folder are runs")
    };
    let page =
        |sections: &[Section], tables: &[&str]| page::page(experiment, manifest, &evaluation, extras, sections, tables);
    write(folder, &evaluation, extras, page, say)
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
    let _lock = FolderLock::take(folder, say)?;
    let evaluation = external.evaluate(analysis, registry, say)?;
    let page =
        |sections: &[Section], tables: &[&str]| page::external(name, &evaluation, &Extras::default(), sections, tables);
    write(folder, &evaluation, &Extras::default(), page, say)
}

/// Draws, writes every file, and sums up. `page` gives `index.html` from the pictures and the names of the tables.
fn write(
    folder: &Path,
    evaluation: &Evaluation,
    extras: &Extras<'_>,
    page: impl Fn(&[Section], &[&str]) -> Result<String>,
    say: &dyn Fn(&str),
) -> Result<ReportSummary> {
    let mut files = tables::all(evaluation)?;
    let names: Vec<String> = files.iter().map(|(name, _)| name.clone()).collect();
    let before = std::fs::read_to_string(folder.join(FILES)).unwrap_or_default();
    let before: Vec<String> = before.lines().map(String::from).collect();
    let write_from = |first: usize, files: &[(String, Vec<u8>)]| -> Result<()> {
        say(&format!("writing {} files", files.len() - first));
        note_files(folder, before.iter().cloned().chain(files.iter().map(|(name, _)| name.clone())))?;
        files[first..]
            .iter()
            .try_for_each(|(name, bytes)| Ok(write_atomically(&folder.join(name), |file| file.write_all(bytes))?))
    };
    // Numbers first: drawing them takes longer, and may take more memory than there is.
    write_from(0, &files)?;
    say("drawing");
    let sections = pictures::sections(evaluation)?;
    let page = page(&sections, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
    for picture in sections.into_iter().flat_map(|section| section.pictures.into_iter().chain(section.details)) {
        files.push((format!("plots/{}", picture.file), picture.svg.into_bytes()));
    }
    for export in extras.exports.iter().copied().collect::<BTreeSet<_>>() {
        let exported = export::Exported::of(evaluation, export, extras)?;
        exported.notes.iter().for_each(|note| say(note));
        files.extend(exported.files);
    }
    // The page comes last: what it shows is there by then.
    files.push(("index.html".into(), page.into_bytes()));
    write_from(names.len(), &files)?;
    remove_stale(folder, &before, &files)?;
    note_files(folder, files.iter().map(|(name, _)| name.clone()))?;
    let shown = evaluation.headline.iter().filter(|(_, rank)| *rank <= Headline::Shown);
    let metrics: Vec<MetricId> = shown.map(|&(metric, _)| metric).collect();
    let row = |(index, variant): (usize, &faceoff_evaluation::selection::Variant)| SummaryRow {
        variant: variant.name.clone(),
        seeds: evaluation.runs(index).count(),
        health: evaluation.health_of(index),
        means: metrics.iter().map(|&metric| Some(evaluation.summary(index, metric)?.summary.mean)).collect(),
    };
    Ok(ReportSummary {
        rows: evaluation.selection.variants.iter().enumerate().map(row).collect(),
        metrics,
        health: evaluation.health.clone(),
        answers: evaluation.answers.clone(),
        notes: evaluation.notes.clone(),
        page: folder.join("index.html"),
    })
}

/// SVG of the accuracies of all variants with their intervals, for pages elsewhere; `None` where no accuracy was measured.
///
/// # Errors
/// The picture cannot be drawn.
pub fn accuracy_picture(evaluation: &Evaluation) -> Result<Option<String>> {
    Ok(pictures::accuracies(evaluation)?.map(|picture| picture.svg))
}

/// The list of the files that a report consists of, a name a line: what a later one no longer has is removed by it, and no file of the
/// user's own, whatever its name.
const FILES: &str = ".faceoff-files";

/// Notes the files of a report, those of the one before too until they are removed.
fn note_files(folder: &Path, names: impl Iterator<Item = String>) -> Result<()> {
    let text: String = names.map(|name| name + "\n").collect();
    Ok(write_atomically(&folder.join(FILES), |file| file.write_all(text.as_bytes()))?)
}

/// Removes pictures and tables of the earlier report that this one no longer has.
fn remove_stale(folder: &Path, before: &[String], files: &[(String, Vec<u8>)]) -> Result<()> {
    for name in before.iter().filter(|name| files.iter().all(|(kept, _)| kept != *name)) {
        let path = folder.join(name);
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if inside && path.is_file() {
            std::fs::remove_file(&path).map_err(|source| faceoff_runs::Error::Io {
                action: "remove",
                path: path.clone(),
                source,
            })?;
            // An empty folder would be all that is left of `projector/`; one with other files stays.
            if let Some(parent) = path.parent().filter(|parent| *parent != folder) {
                _ = std::fs::remove_dir(parent);
            }
        }
    }
    Ok(())
}
