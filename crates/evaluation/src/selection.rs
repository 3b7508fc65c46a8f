//! Which runs a report is made of.
//!
//! The whole runs in the folder decide, by these rules:
//!
//! 1. A run counts if it is whole and its head is, name and parameters, one of the experiment's.
//! 2. Runs of different images or training (anything but the seed) are never mixed: those that agree with the experiment are reported; if
//!    none does, the largest group that agrees with itself.
//! 3. Seeds that the experiment does not list are used.
//!
//! Whatever is left out, unfinished, failed or missing is named in the notes.

use crate::error::{Error, Result};
use crate::{few, join};
use faceoff_runs::{
    Compute, Difference, EpochRecord, Experiment, Failure, HeadConfig, Manifest, RunFolder, RunSpec, list_runs,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A whole run that is reported.
#[derive(Debug, Clone)]
pub struct Run {
    /// `<variant>-seed<k>`.
    pub name: String,
    /// Index into [`Selection::variants`].
    pub variant: usize,
    /// Where it stands.
    pub folder: RunFolder,
    /// Where it came from.
    pub manifest: Manifest,
    /// How its training went.
    pub history: Vec<EpochRecord>,
}

impl Run {
    /// A whole run by itself, the only one of its variant.
    pub(crate) fn of(folder: &RunFolder) -> Result<Self> {
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let read = || {
            let manifest = folder.intact_manifest()?;
            Ok((folder.history(&manifest)?, manifest))
        };
        let (history, manifest) = read().map_err(|error| Error::Run(name.clone(), error))?;
        Ok(Self { name, variant: 0, folder: folder.clone(), manifest, history })
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.manifest.spec.seed
    }
}

/// A run that stopped for good.
#[derive(Debug, Clone)]
pub struct FailedRun {
    /// The folder's name.
    pub name: String,
    /// Where and why.
    pub failure: Failure,
}

/// What a run is a run of, the seed aside.
#[derive(Debug, Clone, Default)]
pub struct Variant {
    /// Unique within the report.
    pub name: String,
    /// The name without its condition.
    pub base: String,
    /// Kind of the head.
    pub head: String,
    /// The head; `None` for external embeddings.
    pub config: Option<HeadConfig>,
    /// The condition; empty without.
    pub condition: String,
    /// Share of wrong training labels.
    pub noise_percent: u32,
    /// Whether the evaluated classes were never trained on.
    pub unseen: bool,
    /// Names of the evaluated classes by label.
    pub classes: Vec<String>,
}

impl Variant {
    /// The head apart from scale and margin; see [`HeadConfig::family`].
    pub fn family(&self) -> String {
        self.config.as_ref().map_or_else(|| self.head.clone(), HeadConfig::family)
    }

    fn of(spec: &RunSpec) -> Self {
        let RunSpec { variant, condition, data, .. } = spec;
        let base = match condition.as_str() {
            "" => &variant.name,
            condition => variant.name.strip_suffix(&format!("-{condition}")).unwrap_or(&variant.name),
        };
        Self {
            name: variant.name.clone(),
            base: base.to_string(),
            head: variant.head.kind().to_string(),
            config: Some(variant.head.clone()),
            condition: condition.clone(),
            noise_percent: data.label_noise_percent,
            unseen: !data.held_out_classes.is_empty(),
            classes: Vec::new(),
        }
    }
}

/// Where the embeddings come from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Runs of this program. The manifest is that of one of them: images and recipe are the same in all.
    Runs(Box<Manifest>),
    /// Files of someone else: rows and columns of the evaluated embeddings and of the index.
    External {
        /// The evaluated embeddings.
        queries: (usize, usize),
        /// Those that they are compared with.
        index: Option<(usize, usize)>,
    },
}

/// The runs of a report.
#[derive(Debug)]
pub struct Selection {
    /// Where the embeddings come from.
    pub origin: Origin,
    /// The variants that have runs, in the experiment's order.
    pub variants: Vec<Variant>,
    /// By variant, then seed.
    pub runs: Vec<Run>,
    /// Runs that stopped for good.
    pub failed: Vec<FailedRun>,
    /// What a reader has to know about the choice.
    pub notes: Vec<String>,
}

impl Selection {
    /// The runs of one variant, by seed.
    pub fn of_variant(&self, variant: usize) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.variant == variant)
    }
}

/// What whole runs agree in: their differences from the experiment, the checksums of their images and of the weights that their encoder
/// starts from, which an experiment may name without their checksum.
type Key = (Vec<String>, String, Option<String>);

/// All that stands in a report folder.
#[derive(Default)]
struct Found {
    /// Whole runs that agree in everything but variant and seed.
    groups: BTreeMap<Key, Vec<Run>>,
    /// Sentences.
    left_out: Vec<String>,
    unfinished: Vec<String>,
    failed: Vec<FailedRun>,
}

/// Chooses the runs below `folder`. Those that are known as `damaged`, by name and reason, are left out.
pub(crate) fn select(folder: &Path, experiment: &Experiment, damaged: &BTreeMap<String, String>) -> Result<Selection> {
    let wanted = RunSpec::of(experiment, &Compute::unknown());
    let mut found = Found::below(folder, &wanted, damaged)?;
    let rank = |(key, runs): &(&Key, &Vec<Run>)| (key.0.is_empty(), runs.len(), Reverse((*key).clone()));
    let chosen = found.groups.iter().max_by_key(rank).map(|(key, _)| key.clone());
    let Some((key, mut runs)) = chosen.and_then(|key| found.groups.remove_entry(&key)) else {
        return Err(found.nothing_whole(folder, experiment));
    };
    let origin = Origin::Runs(Box::new(runs.first().expect("a group has a run").manifest.clone()));
    let variants = present_variants(&mut runs, &wanted);
    let mut notes = found.notes(&key, &runs, experiment);
    notes.extend(note_of_missing(&runs, &wanted, folder));
    notes.extend(note_of_machines(&runs));
    notes.extend(note_of_unsealed(&runs));
    notes.extend(note_of_means(&runs, &variants));
    Ok(Selection { origin, variants, runs, failed: found.failed, notes })
}

impl Found {
    fn below(folder: &Path, wanted: &[RunSpec], damaged: &BTreeMap<String, String>) -> Result<Self> {
        let mut found = Self::default();
        for run_folder in list_runs(folder)? {
            let name = run_folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(reason) = damaged.get(&name) {
                found.left_out.push(format!("{name} is left out: {reason}"));
            } else if !run_folder.is_whole() {
                match run_folder.failure() {
                    Ok(Some(failure)) => found.failed.push(FailedRun { name, failure }),
                    Ok(None) => found.unfinished.push(name),
                    Err(error) => found.left_out.push(format!("{name} is left out: {error}")),
                }
            } else if let Err(reason) = found.add_whole(&name, run_folder, wanted) {
                found.left_out.push(format!("{name} is left out: {reason}"));
            }
        }
        Ok(found)
    }

    fn add_whole(&mut self, name: &str, folder: RunFolder, wanted: &[RunSpec]) -> std::result::Result<(), String> {
        let text = |error: faceoff_runs::Error| error.to_string();
        let manifest = folder.intact_manifest().map_err(text)?;
        let history = folder.history(&manifest).map_err(text)?;
        let (variant, differences) = fit(name, &manifest.spec, wanted)?;
        let init = manifest.spec.training.encoder_init_blake3.clone();
        let key = (differences, manifest.data.fingerprint.clone(), init);
        let run = Run { name: name.into(), variant, folder, manifest, history };
        self.groups.entry(key).or_default().push(run);
        Ok(())
    }

    fn nothing_whole(self, folder: &Path, experiment: &Experiment) -> Error {
        let Self { mut left_out, unfinished, failed, .. } = self;
        left_out.extend(unfinished.iter().map(|name| format!("{name} is unfinished")));
        left_out.extend(failed.iter().map(|run| format!("{} failed: {}", run.name, run.failure.message)));
        // Many runs tend to have one and the same reason.
        const NAMED: usize = 3;
        if left_out.len() > NAMED {
            let more = left_out.len() - NAMED;
            left_out.truncate(NAMED);
            left_out.push(format!("and {more} more"));
        }
        Error::NoWholeRuns {
            folder: folder.join("runs"),
            left_out: if left_out.is_empty() { String::new() } else { format!(" ({})", left_out.join("; ")) },
            experiment: experiment.name.clone(),
        }
    }

    /// What is said of the chosen group's settings, of what is left out, of the groups that were not chosen, of seeds that the
    /// experiment does not list, of unfinished and of failed runs.
    fn notes(&self, chosen: &Key, runs: &[Run], experiment: &Experiment) -> Vec<String> {
        let mut notes = Vec::new();
        if !chosen.0.is_empty() {
            let differences = chosen.0.join("; ");
            notes.push(format!("The runs were made with other settings than the experiment has now: {differences}."));
        }
        notes.extend(self.left_out.iter().map(|text| text.trim_end_matches('.').to_string() + "."));
        for ((differences, fingerprint, init), others) in &self.groups {
            let mut reasons = differences.clone();
            if differences.is_empty() {
                reasons.push("the experiment's own settings".into());
            }
            if *fingerprint != chosen.1 {
                reasons.push("other images".into());
            }
            if *init != chosen.2 {
                reasons.push("the encoder starts from other weights".into());
            }
            let (names, reasons) = (listed(others.iter().map(|run| run.name.as_str())), reasons.join("; "));
            notes.push(format!("{names} left out, since runs of different settings are never mixed: {reasons}."));
        }
        let extra: Vec<_> = runs.iter().filter(|run| !experiment.training.seeds.contains(&run.seed())).collect();
        if !extra.is_empty() {
            let names = listed(extra.iter().map(|run| run.name.as_str()));
            notes.push(format!("{names} used, although the experiment does not list the seed."));
        }
        if !self.unfinished.is_empty() {
            let names = listed(self.unfinished.iter().map(String::as_str));
            let remedy = format!("the command `benchmark {}` goes on with what the experiment lists", experiment.name);
            notes.push(format!("{names} unfinished and left out; {remedy}."));
        }
        notes.extend(self.failed.iter().map(|FailedRun { name, failure }| {
            let Failure { epoch, step, learning_rate, message, .. } = failure;
            let message = message.trim_end_matches('.');
            match epoch {
                0 => format!("{name} was not trained: {message}."),
                _ => format!(
                    "{name} failed for good at epoch {epoch}, step {step}, learning rate {learning_rate:.2e}: {message}."
                ),
            }
        }));
        notes
    }
}

fn note_of_missing(runs: &[Run], wanted: &[RunSpec], folder: &Path) -> Option<String> {
    let is_there = |name: &String| runs.iter().any(|run| run.name == *name) || folder.join("runs").join(name).exists();
    let missing: Vec<String> = wanted.iter().map(RunSpec::folder_name).filter(|name| !is_there(name)).collect();
    let (count, all) = (missing.len(), wanted.len());
    (count > 0).then(|| format!("{count} of the experiment's {all} runs not there yet: {}.", few(&missing)))
}

/// Devices and kernels agree to rounding only, so that a mix is named.
fn note_of_machines(runs: &[Run]) -> Option<String> {
    let mut by_compute: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for run in runs {
        by_compute.entry(run.manifest.spec.compute.to_string()).or_default().push(&run.name);
    }
    let each = by_compute.iter().map(|(compute, names)| format!("{compute}: {}", names.join(", ")));
    let each = each.collect::<Vec<_>>().join("; ");
    (by_compute.len() > 1).then(|| format!("Not all runs were computed alike; they agree to rounding: {each}."))
}

/// Manifests of an earlier version have no checksum of their own.
fn note_of_unsealed(runs: &[Run]) -> Option<String> {
    let names: Vec<_> = runs.iter().filter(|run| run.manifest.blake3.is_empty()).map(|run| run.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "The manifest of {} was written by an earlier version, without a checksum of itself: damage to it could go unnoticed. To \
             have one, train again with `benchmark --force`.",
            names.join(", ")
        )
    })
}

/// A head that scores no classes is measured by other scores, which is named.
fn note_of_means(runs: &[Run], variants: &[Variant]) -> Option<String> {
    let scores_none = |run: &Run| run.history.last().is_some_and(|last| last.train_accuracy.is_none());
    let without: BTreeSet<usize> = runs.iter().filter(|run| scores_none(run)).map(|run| run.variant).collect();
    let names = listed(without.iter().map(|&variant| variants[variant].name.as_str()));
    let means = "heads without class weights; where the others have scores, as in DNN accuracy, these are taken by the nearest class \
                 mean of the training embeddings, and have no confidences and so no calibration";
    (!without.is_empty()).then(|| format!("{names} trained by pairs, {means}."))
}

/// The variants that have runs, in the experiment's order, to which the runs' indices are set; the runs are sorted.
fn present_variants(runs: &mut [Run], wanted: &[RunSpec]) -> Vec<Variant> {
    let all = variants_of(wanted);
    let present: Vec<usize> = (0..all.len()).filter(|&variant| runs.iter().any(|run| run.variant == variant)).collect();
    for run in &mut *runs {
        run.variant = present.iter().position(|&variant| variant == run.variant).expect("it is present");
    }
    runs.sort_by_key(|run| (run.variant, run.seed()));
    let mut variants: Vec<Variant> = present.into_iter().map(|variant| Variant::of(all[variant])).collect();
    for run in runs.iter() {
        let variant = &mut variants[run.variant];
        variant.classes.clone_from(&run.manifest.data.classes);
        // The run knows how many classes it was trained on.
        if let Some((config, last)) = variant.config.take_if(|config| config.scale_is_auto()).zip(run.history.last()) {
            variant.config = Some(config.with("scale", last.effective_scale));
        }
    }
    variants
}

/// The variants of an experiment under all its conditions, each once.
fn variants_of(wanted: &[RunSpec]) -> Vec<&RunSpec> {
    wanted.iter().filter(|spec| spec.seed == wanted[0].seed).collect()
}

/// The variant that a run is of and its other differences from the experiment, or why it is of none.
fn fit(name: &str, spec: &RunSpec, wanted: &[RunSpec]) -> std::result::Result<(usize, Vec<String>), String> {
    if spec.folder_name() != name {
        return Err(format!("its manifest is that of {}", spec.folder_name()));
    }
    let index = variants_of(wanted)
        .iter()
        .position(|twin| twin.variant.name == spec.variant.name)
        .ok_or_else(|| format!("`{}` is none of the variants to report", spec.variant.name))?;
    let mut twin = wanted[index].clone();
    twin.seed = spec.seed;
    twin.training.seeds = vec![spec.seed];
    // An experiment may name a file of weights without its checksum; runs that differ in it are never mixed.
    if twin.training.encoder_init.is_some() && twin.training.encoder_init_blake3.is_none() {
        twin.training.encoder_init_blake3.clone_from(&spec.training.encoder_init_blake3);
    }
    let (of_variant, others): (Vec<_>, Vec<_>) = spec
        .differences(&twin)
        .into_iter()
        .filter(|difference| !difference.is_compute())
        .partition(|difference| difference.key.starts_with("variant.") || difference.key == "condition");
    if of_variant.is_empty() {
        Ok((index, others.iter().map(ToString::to_string).collect()))
    } else {
        Err(format!("its head is not that of the experiment ({})", Difference::list(&of_variant)))
    }
}

/// `a is`, `a and b are`, `a, b and c are`.
fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names = Vec::from_iter(names);
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", join(names))
}
