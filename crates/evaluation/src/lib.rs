//! What is measured on runs, and what the numbers say of heads.
//!
//! ```text
//! <folder>/runs/<variant>-seed<k>/     whole runs                        runs
//!     -> which of them count                                             selection
//!     -> numbers and shapes of each run                                  families, measured, registry
//!     -> numbers over seeds                                              summaries
//!     -> variants that stand side by side                                groups
//!     -> heads against heads, the article's statements                   comparisons, statements
//!     -> Evaluation, which a report shows
//! ```
//!
//! A metric is a row of a family; [`families`] has one file a family. Nothing here writes a table or draws a picture.

pub mod comparisons;
mod error;
mod external;
pub mod families;
pub mod groups;
pub mod measured;
mod registry;
pub mod selection;
pub mod statements;
pub mod summaries;

pub use error::{Error, Result};
pub use external::{External, LabelledFiles};
pub use registry::{Direction, Family, Headline, Metric, MetricId, Registry, Unit};

use comparisons::Comparisons;
use faceoff_runs::{AnalysisConfig, Experiment, Trial};
use families::{neighbors, variance};
use groups::Group;
use measured::{Measured, Splits, ValImages};
use ndarray::Array2;
use selection::Selection;
use std::path::Path;
use summaries::MetricSummary;

/// All that a report shows.
#[derive(Debug)]
pub struct Evaluation {
    /// Variants and runs.
    pub selection: Selection,
    /// By variant, then seed.
    pub measured: Vec<Measured>,
    /// Over seeds.
    pub summaries: Vec<MetricSummary>,
    /// The variants that stand side by side.
    pub groups: Vec<Group>,
    /// Heads against heads.
    pub comparisons: Comparisons,
    /// The measured metrics that stand out, in the order of the results.
    pub headline: Vec<(MetricId, Headline)>,
    /// The numbers that decided the results.
    pub settings: AnalysisConfig,
    /// What tuning tried.
    pub trials: Vec<Trial>,
    /// Neighbourhood sizes measured, rising.
    pub neighbors: Vec<usize>,
    /// Numbers of components measured, rising.
    pub components: Vec<usize>,
    /// What a reader has to know: runs left out, failed or missing, what could not be measured.
    pub notes: Vec<String>,
}

/// Measures the whole runs below `folder` and compares them. `say` hears what is being done.
///
/// # Errors
/// No whole run; runs of one variant that saw different images; files that cannot be read.
pub fn evaluate(
    folder: &Path,
    experiment: &Experiment,
    registry: &Registry,
    say: &dyn Fn(&str),
) -> Result<Evaluation> {
    let settings = &experiment.analysis;
    let selection = selection::select(folder, experiment)?;
    let mut measured: Vec<Measured> = Vec::new();
    let mut images: Vec<Option<ValImages>> = vec![None; selection.variants.len()];
    for (index, run) in selection.runs.iter().enumerate() {
        say(&format!("measuring {} ({} of {})", run.name, index + 1, selection.runs.len()));
        let splits = Splits::read(&run.folder)?;
        let of_run = splits.val_images();
        if *images[run.variant].get_or_insert_with(|| of_run.clone()) != of_run {
            let first = selection.of_variant(run.variant).next().expect("this run at least");
            return Err(Error::ImagesDiffer {
                first: first.name.clone(),
                second: run.name.clone(),
                split: "val",
            });
        }
        let found = measured::measure_run(run, &splits, registry, settings);
        let (name, variant, seed) = (run.name.clone(), run.variant, run.seed());
        measured.push(Measured { run: name, variant, seed, found, maps: None });
    }
    let groups = groups::groups(&selection, &measured, neighbors::headline(settings));
    let shown: Vec<usize> = groups.iter().flat_map(|group| group.variants.iter().copied()).collect();
    for (index, &variant) in shown.iter().enumerate() {
        let first = selection.runs.iter().zip(&mut measured).find(|(run, _)| run.variant == variant);
        let (run, measured) = first.expect("a variant has runs");
        say(&format!("mapping {} ({} of {})", run.name, index + 1, shown.len()));
        measured.maps = Some(measured::lay_out_run(run, settings)?);
    }
    let headline = headline(&measured, registry, settings);
    let compared: Vec<MetricId> = compared(&headline).collect();
    let comparisons = comparisons::compare(&selection, &measured, &groups, &compared, settings);
    let evaluation = Evaluation::new(selection, measured, groups, comparisons, headline, settings);
    Ok(Evaluation { trials: experiment.trials.clone(), ..evaluation })
}

/// The metrics that stand out and were measured on some run.
fn headline(
    measured: &[Measured],
    registry: &Registry,
    settings: &AnalysisConfig,
) -> Vec<(MetricId, Headline)> {
    let all = registry.families().iter().flat_map(|family| (family.headline)(settings));
    all.filter(|&(metric, _)| measured.iter().any(|run| run.value(metric).is_some())).collect()
}

fn compared(headline: &[(MetricId, Headline)]) -> impl Iterator<Item = MetricId> {
    headline.iter().filter(|(_, rank)| *rank == Headline::Compared).map(|&(metric, _)| metric)
}

impl Evaluation {
    fn new(
        selection: Selection,
        measured: Vec<Measured>,
        groups: Vec<Group>,
        comparisons: Comparisons,
        headline: Vec<(MetricId, Headline)>,
        settings: &AnalysisConfig,
    ) -> Self {
        let mut notes = selection.notes.clone();
        notes.extend(measured.iter().flat_map(Measured::notes));
        notes.extend(comparisons.notes.iter().cloned());
        Self {
            summaries: summaries::summarise(&measured, selection.variants.len()),
            neighbors: neighbors::sizes(settings),
            components: variance::counts(settings),
            settings: settings.clone(),
            trials: Vec::new(),
            selection,
            measured,
            groups,
            comparisons,
            headline,
            notes,
        }
    }

    /// The metrics that heads are compared by.
    pub fn compared(&self) -> impl Iterator<Item = MetricId> {
        compared(&self.headline)
    }

    /// The variants with pictures of their own.
    pub fn shown(&self) -> impl Iterator<Item = usize> {
        self.groups.iter().flat_map(|group| group.variants.iter().copied())
    }

    /// The name of a variant.
    pub fn name(&self, variant: usize) -> &str {
        &self.selection.variants[variant].name
    }

    /// A metric of a variant over its seeds; `None` where it was not measured.
    pub fn summary(&self, variant: usize, metric: MetricId) -> Option<&MetricSummary> {
        self.summaries.iter().find(|row| row.variant == variant && row.metric == metric)
    }

    /// The measured runs of a variant, by seed.
    pub fn runs(&self, variant: usize) -> impl Iterator<Item = &Measured> {
        self.measured.iter().filter(move |run| run.variant == variant)
    }

    /// The 95 % interval of a mean over seeds, or with one seed that of an accuracy over images.
    pub fn interval(&self, variant: usize, metric: MetricId) -> Option<(f64, f64)> {
        let over_images = || self.runs(variant).next()?.found.interval(metric);
        let interval = self.summary(variant, metric)?.summary.interval.or_else(over_images)?;
        Some((interval.low.max(0.0), interval.high.min(1.0)))
    }

    /// The confusion matrix of a variant, all seeds together.
    pub fn confusion(&self, variant: usize) -> Option<Array2<u64>> {
        let of_run = |run: &Measured| {
            let rows = &run.found.shapes.confusion;
            Array2::from_shape_vec((rows.len(), rows.len()), rows.concat()).ok()
        };
        self.runs(variant).filter_map(of_run).filter(|counts| !counts.is_empty()).reduce(|sum, of| sum + of)
    }
}
