//! What is measured on runs, and what the numbers say of heads.
//!
//! ```text
//! <folder>/runs/<variant>-seed<k>/     whole runs                        runs
//!     -> which of them count                                             selection
//!     -> numbers and shapes of each run, measured once                   families, registry, measured, store
//!     -> what can be looked at image by image                            look
//!     -> a table of all values, and numbers over seeds                   tables
//!     -> variants that stand side by side                                groups
//!     -> heads against heads, which to choose                            comparisons, choice
//!     -> conditions against the first one                                effects
//!     -> the article's statements, and how many seeds would settle them  statements, power
//!     -> what ails heads                                                 health
//!     -> Evaluation, which a report shows
//! ```
//!
//! A metric is a row of a family; [`families`] has one file a family. Nothing here writes a table or draws a picture.

pub mod answer;
pub mod choice;
pub mod comparisons;
pub mod effects;
mod error;
mod external;
pub mod families;
pub mod groups;
pub mod health;
pub mod look;
pub mod measured;
pub mod power;
mod registry;
mod sample;
pub mod selection;
pub mod statements;
mod store;
pub mod tables;

pub use error::{Error, Result};
pub use external::{External, LabelledFiles};
pub use registry::{Direction, Family, Headline, Metric, MetricId, Registry, Unit, points};
pub use store::verify_measured;

use answer::Answer;
use comparisons::{Comparisons, Pair};
use faceoff_runs::{AnalysisConfig, Experiment, RunFolder, Trial};
use families::{neighbors, variance};
use groups::Group;
use health::{Finding, RunHealth};
use measured::{Findings, Measured};
use ndarray::Array2;
use polars::prelude::DataFrame;
use selection::{Run, Selection, Variant};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::path::Path;
use store::Store;
use tables::MetricSummary;

/// All that a report shows.
#[derive(Debug)]
pub struct Evaluation {
    /// Variants and runs.
    pub selection: Selection,
    /// By variant, then seed.
    pub measured: Vec<Measured>,
    /// One row a value, with what its run is a run of.
    pub values: DataFrame,
    /// Over seeds.
    pub summaries: Vec<MetricSummary>,
    /// The variants that stand side by side.
    pub groups: Vec<Group>,
    /// What ails heads, by variant, the gravest first.
    pub health: Vec<Finding>,
    /// Heads against heads.
    pub comparisons: Comparisons,
    /// What that comes to in words, for each group with two variants or more.
    pub answers: Vec<Answer>,
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

/// Measures the whole runs below `folder` and compares them. `say` hears what is being done. A damaged run is left out, and the
/// notes say so.
///
/// # Errors
/// No whole run; runs of one variant that saw different images; files that cannot be read.
pub fn evaluate(folder: &Path, experiment: &Experiment, registry: &Registry, say: &dyn Fn(&str)) -> Result<Evaluation> {
    let mut damaged = BTreeMap::new();
    loop {
        // What was measured of the other runs by then need not be measured again.
        match evaluate_without(&damaged, folder, experiment, registry, say) {
            Err(Error::Run(run, error)) if error.is_damage() => damaged.insert(run, error.to_string()),
            Err(Error::Measured(run, problem)) => {
                let error = Error::Measured(run.clone(), problem);
                damaged.insert(run, error.to_string())
            }
            other => return other,
        };
    }
}

fn evaluate_without(
    damaged: &BTreeMap<String, String>,
    folder: &Path,
    experiment: &Experiment,
    registry: &Registry,
    say: &dyn Fn(&str),
) -> Result<Evaluation> {
    let settings = &experiment.analysis;
    let selection = selection::select(folder, experiment, damaged)?;
    let of = format!("of {}", selection.runs.len());
    let mut stores: Vec<Store<'_>> = Vec::new();
    let mut measured: Vec<Measured> = Vec::new();
    for (index, run) in selection.runs.iter().enumerate() {
        let mut store = Store::open(run, registry, settings)?;
        let twin = measured.iter().position(|other| other.variant == run.variant);
        if let Some(first) = twin.filter(|&first| stores[first].record.images != store.record.images) {
            return Err(Error::ImagesDiffer(selection.runs[first].name.clone(), run.name.clone()));
        }
        let found = store.findings(&|| say(&format!("measuring {} ({} {of})", run.name, index + 1)))?;
        let (name, variant, seed) = (run.name.clone(), run.variant, run.seed());
        measured.push(Measured { run: name, variant, seed, found, maps: None, look: None });
        stores.push(store);
    }
    let groups = groups::groups(&selection, &measured, neighbors::headline(settings));
    let shown: Vec<usize> = groups.iter().flat_map(|group| group.variants.iter().copied()).collect();
    for (index, &variant) in shown.iter().enumerate() {
        let first = measured.iter().position(|run| run.variant == variant).expect("a variant has runs");
        let name = &selection.runs[first].name;
        let mapping = || say(&format!("mapping {name} ({} of {})", index + 1, shown.len()));
        measured[first].maps = stores[first].maps(&mapping)?;
        let finding = || say(&format!("finding neighbours of {name} ({} of {})", index + 1, shown.len()));
        measured[first].look = stores[first].look(&finding)?;
    }
    let without = stores.iter().zip(&selection.runs).filter(|(store, _)| !store.measurable);
    let without: Vec<&str> = without.map(|(_, run)| run.name.as_str()).collect();
    let unmapped = shown.iter().filter_map(|variant| measured.iter().find(|run| run.variant == *variant));
    let unmapped: Vec<&str> = unmapped.filter(|run| run.maps.is_none()).map(|run| run.run.as_str()).collect();
    let lost = stores
        .iter()
        .zip(&measured)
        .filter(|(store, run)| store.has_look() && run.maps.is_some() && run.look.is_none());
    let lost: Vec<&str> = lost.map(|(_, run)| run.run.as_str()).collect();
    let notes = [
        (
            "Nothing of single images, since look.bin is missing, damaged or of another version, and there are no embeddings",
            lost,
        ),
        ("Without embeddings, so as they were measured before", without),
        ("No maps, since neither their coordinates nor embeddings are there", unmapped),
    ];
    let notes = notes.into_iter().filter(|(_, runs)| !runs.is_empty());
    let notes: Vec<_> = notes.map(|(what, runs)| format!("{what}: {}.", few(&runs))).collect();
    drop(stores);
    let mut evaluation = Evaluation::new(selection, measured, groups, registry, settings)?;
    evaluation.trials.clone_from(&experiment.trials);
    evaluation.notes.extend(notes);
    Ok(evaluation)
}

/// Measures a whole run as a report with these settings would, and keeps what was found in its folder, so that the report need not. Maps
/// are left to the report, which knows whose it shows.
///
/// # Errors
/// Files that are damaged, cannot be read or written.
pub fn measure_run(folder: &RunFolder, settings: &AnalysisConfig, registry: &Registry, say: &dyn Fn()) -> Result<()> {
    let run = Run::of(folder)?;
    Store::open(&run, registry, settings)?.findings(say).map(drop)
}

/// A whole run, and what was measured of it before by this version of the program, whatever the settings, or why nothing is to be had;
/// nothing is measured here.
///
/// # Errors
/// A run that is damaged or cannot be read.
pub fn recorded(folder: &RunFolder, registry: &Registry) -> Result<(Run, std::result::Result<Findings, String>)> {
    let run = Run::of(folder)?;
    let found = store::recorded(&run, registry);
    Ok((run, found))
}

/// Writes the small part of the whole runs below `folder` into `<to>/runs`: what a report without photographs needs. What was not
/// measured yet is measured first; with `maps`, coordinates that were laid out go too. The number of runs and their bytes.
///
/// # Errors
/// As [`evaluate`]; files that cannot be written.
pub fn export(
    folder: &Path,
    experiment: &Experiment,
    registry: &Registry,
    to: &Path,
    maps: bool,
    say: &dyn Fn(&str),
) -> Result<(usize, u64)> {
    let selection = selection::select(folder, experiment, &BTreeMap::new())?;
    let mut bytes = 0;
    for run in &selection.runs {
        let mut store = Store::open(run, registry, &experiment.analysis)?;
        store.findings(&|| say(&format!("measuring {}", run.name)))?;
        bytes += store.export(&RunFolder::new(to, &run.manifest.spec), maps)?;
    }
    Ok((selection.runs.len(), bytes))
}

/// `A`, `A and B`, `A, B and C`.
pub(crate) fn join<T: Borrow<str>>(items: impl IntoIterator<Item = T>) -> String {
    match &Vec::from_iter(items)[..] {
        [] => String::new(),
        [only] => only.borrow().into(),
        [others @ .., last] => format!("{} and {}", others.join(", "), last.borrow()),
    }
}

/// The names of runs, of many a few: `A, B, C and 7 more runs`.
pub(crate) fn few<T: Borrow<str>>(runs: &[T]) -> String {
    const NAMED: usize = 3;
    match runs.len() {
        0..=NAMED => runs.join(", "),
        more => format!("{} and {} more runs", runs[..NAMED].join(", "), more - NAMED),
    }
}

/// What could not be measured, each with the runs that it holds for.
fn notes_of_runs(measured: &[Measured]) -> Vec<String> {
    let mut by_note: Vec<(&str, Vec<&str>)> = Vec::new();
    for run in measured {
        for note in run.notes() {
            match by_note.iter_mut().find(|(known, _)| *known == note) {
                Some((_, runs)) => runs.push(&run.run),
                None => by_note.push((note, vec![&run.run])),
            }
        }
    }
    by_note.into_iter().map(|(note, runs)| format!("{}: {note}", few(&runs))).collect()
}

impl Evaluation {
    fn new(
        selection: Selection,
        measured: Vec<Measured>,
        groups: Vec<Group>,
        registry: &Registry,
        settings: &AnalysisConfig,
    ) -> Result<Self> {
        let is_measured = |&(metric, _): &_| measured.iter().any(|run| run.value(metric).is_some());
        let headline = registry.families().iter().flat_map(|family| (family.headline)(settings));
        let headline: Vec<(MetricId, Headline)> = headline.filter(is_measured).collect();
        let comparisons = comparisons::compare(&selection, &measured, &groups, &headline, settings);
        let mut notes = selection.notes.clone();
        notes.extend(notes_of_runs(&measured));
        notes.extend(comparisons.notes.iter().cloned());
        let (values, summaries) = tables::tables(&selection, &measured)?;
        let whole = selection.runs.iter().zip(&measured).map(|(run, measured)| {
            let Variant { name, classes, .. } = &selection.variants[run.variant];
            RunHealth::of(name, run.seed(), &measured.found, &run.history, classes)
        });
        let failed = selection.failed.iter().map(|run| RunHealth::failed(&run.name, &run.failure));
        let health = health::judge(&whole.chain(failed).collect::<Vec<_>>());
        let mut evaluation = Self {
            answers: Vec::new(),
            health,
            values,
            summaries,
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
        };
        evaluation.answers = answer::answers(&evaluation);
        Ok(evaluation)
    }

    /// The metrics that heads are compared by.
    pub fn compared(&self) -> impl Iterator<Item = MetricId> {
        self.headline.iter().filter(|(_, rank)| *rank == Headline::Compared).map(|&(metric, _)| metric)
    }

    /// The variants with pictures of their own.
    pub fn shown(&self) -> impl Iterator<Item = usize> {
        self.groups.iter().flat_map(|group| group.variants.iter().copied())
    }

    /// The name of a variant.
    pub fn name(&self, variant: usize) -> &str {
        &self.selection.variants[variant].name
    }

    /// What ails a variant, in short: `margin inactive, undertrained`; empty for a healthy one.
    pub fn health_of(&self, variant: usize) -> String {
        let of_variant = self.health.iter().filter(|finding| finding.variant == self.name(variant));
        of_variant.map(Finding::short).collect::<Vec<_>>().join(", ")
    }

    /// A metric of a variant over its seeds; `None` where it was not measured.
    pub fn summary(&self, variant: usize, metric: MetricId) -> Option<&MetricSummary> {
        self.summaries.iter().find(|row| row.variant == variant && row.metric == metric)
    }

    /// The measured runs of a variant, by seed.
    pub fn runs(&self, variant: usize) -> impl Iterator<Item = &Measured> {
        self.measured.iter().filter(move |run| run.variant == variant)
    }

    /// What was compared of two variants, whichever of them was subtracted.
    pub fn pair(&self, metric: MetricId, a: usize, b: usize) -> Option<&Pair> {
        let is_pair = |pair: &&Pair| pair.metric == metric && [(a, b), (b, a)].contains(&(pair.a, pair.b));
        self.comparisons.pairs.iter().find(is_pair)
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

#[cfg(test)]
mod tests {
    #[test]
    fn of_many_runs_three_are_named() {
        assert_eq!(super::few(&["A", "B", "C"]), "A, B, C");
        assert_eq!(super::few(&["A", "B", "C", "D", "E"]), "A, B, C and 2 more runs");
    }

    #[test]
    fn points_have_a_sign_but_where_they_are_zero() {
        assert_eq!([0.0125, -0.2, 0.0, -0.0004, 0.0004].map(super::points), ["+1.2", "-20.0", "0.0", "0.0", "0.0"]);
    }
}
