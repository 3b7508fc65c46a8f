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
use faceoff_runs::{
    Compute, Difference, EpochRecord, Experiment, Failure, HeadConfig, Manifest, RunFolder, RunSpec,
    list_runs,
};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

/// A whole run that is reported.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// `<variant>-seed<k>`.
    pub(crate) name: String,
    /// Index into [`Selection::variants`].
    pub(crate) variant: usize,
    pub(crate) folder: RunFolder,
    pub(crate) manifest: Manifest,
    pub(crate) history: Vec<EpochRecord>,
}

impl Run {
    pub(crate) fn seed(&self) -> u64 {
        self.manifest.spec.seed
    }
}

/// A run that stopped for good.
#[derive(Debug, Clone)]
pub(crate) struct FailedRun {
    pub(crate) name: String,
    pub(crate) failure: Failure,
}

/// What a run is a run of, the seed aside.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) name: String,
    /// The name without its condition.
    pub(crate) base: String,
    /// Kind of the head.
    pub(crate) head: String,
    /// The head; `None` for embeddings from elsewhere.
    pub(crate) config: Option<HeadConfig>,
    /// The condition; empty without.
    pub(crate) condition: String,
    /// Share of wrong training labels.
    pub(crate) noise_percent: u32,
    /// Whether the evaluated classes were never trained on.
    pub(crate) unseen: bool,
    /// Names of the evaluated classes by label.
    pub(crate) classes: Vec<String>,
}

impl Variant {
    fn of(spec: &RunSpec) -> Self {
        let RunSpec { variant, condition, data, .. } = spec;
        let base = match condition.as_str() {
            "" => &variant.name,
            condition => variant.name.strip_suffix(&format!("-{condition}")).unwrap_or(&variant.name),
        };
        Self {
            name: variant.name.clone(),
            base: base.to_string(),
            head: variant.head.kind().into(),
            config: Some(variant.head.clone()),
            condition: condition.clone(),
            noise_percent: data.label_noise_percent,
            unseen: !data.held_out_classes.is_empty(),
            classes: Vec::new(),
        }
    }
}

/// The runs of a report.
#[derive(Debug)]
pub(crate) struct Selection {
    /// The variants that have runs, in the experiment's order.
    pub(crate) variants: Vec<Variant>,
    /// By variant, then seed.
    pub(crate) runs: Vec<Run>,
    pub(crate) failed: Vec<FailedRun>,
    /// What a reader has to know about the choice.
    pub(crate) notes: Vec<String>,
}

impl Selection {
    /// The runs of one variant, by seed.
    pub(crate) fn of_variant(&self, variant: usize) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.variant == variant)
    }

    /// Any manifest: images and recipe are the same in all.
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.runs[0].manifest
    }
}

/// Chooses the runs below `folder`.
pub(crate) fn select(folder: &Path, experiment: &Experiment) -> Result<Selection> {
    let mut left_out = Vec::new();
    let mut unfinished = Vec::new();
    let mut failed = Vec::new();
    let wanted = RunSpec::of(experiment, &Compute::unknown());
    // Runs that agree in everything but variant and seed, keyed by their differences from the experiment and by their images.
    let mut groups: BTreeMap<(Vec<String>, String), Vec<Run>> = BTreeMap::new();

    for run_folder in list_runs(folder)? {
        let name = run_folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !run_folder.is_whole() {
            match run_folder.failure() {
                Ok(Some(failure)) => failed.push(FailedRun { name, failure }),
                Ok(None) => unfinished.push(name),
                Err(error) => left_out.push(format!("{name} is left out: {error}")),
            }
            continue;
        }
        let (manifest, history) = match run_folder.manifest().and_then(|m| Ok((m, run_folder.history()?))) {
            Ok(read) => read,
            Err(error) => {
                left_out.push(format!("{name} is left out: {error}"));
                continue;
            }
        };
        match fit(&name, &manifest.spec, &wanted) {
            Ok((variant, differences)) => {
                let key = (differences, manifest.data.fingerprint.clone());
                let run = Run { name, variant, folder: run_folder, manifest, history };
                groups.entry(key).or_default().push(run);
            }
            Err(reason) => left_out.push(format!("{name} is left out: {reason}")),
        }
    }

    let chosen = groups
        .iter()
        .max_by_key(|(key, runs)| (key.0.is_empty(), runs.len(), Reverse((*key).clone())))
        .map(|(key, _)| key.clone());
    let Some((key, mut runs)) = chosen.and_then(|key| groups.remove_entry(&key)) else {
        left_out.extend(unfinished.iter().map(|name| format!("{name} is unfinished")));
        left_out.extend(failed.iter().map(|run| format!("{} failed: {}", run.name, run.failure.message)));
        // Many runs tend to have one and the same reason.
        const TOLD: usize = 3;
        if left_out.len() > TOLD {
            let more = left_out.len() - TOLD;
            left_out.truncate(TOLD);
            left_out.push(format!("and {more} more"));
        }
        return Err(Error::NoWholeRuns {
            folder: folder.join("runs"),
            left_out: if left_out.is_empty() { String::new() } else { format!(" ({})", left_out.join("; ")) },
            experiment: experiment.name.clone(),
        });
    };

    let mut notes = Vec::new();
    if !key.0.is_empty() {
        notes.push(format!(
            "The runs were made with other settings than the experiment has now: {}.",
            key.0.join("; ")
        ));
    }
    notes.extend(left_out.into_iter().map(|text| text.trim_end_matches('.').to_string() + "."));
    for ((differences, fingerprint), others) in &groups {
        let mut reasons = differences.clone();
        if differences.is_empty() {
            reasons.push("the experiment's own settings".into());
        }
        if *fingerprint != key.1 {
            reasons.push("other images".into());
        }
        notes.push(format!(
            "{} left out, since runs of different settings are never mixed: {}.",
            listed(others.iter().map(|run| run.name.as_str())),
            reasons.join("; ")
        ));
    }

    // Only variants that have runs are shown; their indices follow.
    let listed_variants = variants_of(&wanted);
    let present: Vec<usize> =
        (0..listed_variants.len()).filter(|&variant| runs.iter().any(|run| run.variant == variant)).collect();
    for run in &mut runs {
        run.variant = present.iter().position(|&variant| variant == run.variant).expect("it is present");
    }
    runs.sort_by_key(|run| (run.variant, run.seed()));
    let mut variants: Vec<Variant> =
        present.into_iter().map(|variant| Variant::of(listed_variants[variant])).collect();
    for run in &runs {
        variants[run.variant].classes.clone_from(&run.manifest.data.classes);
    }

    let extra: Vec<_> = runs
        .iter()
        .filter(|run| !experiment.training.seeds.contains(&run.seed()))
        .map(|run| run.name.as_str())
        .collect();
    if !extra.is_empty() {
        notes.push(format!("{} used, although the experiment does not list the seed.", listed(extra)));
    }
    if !unfinished.is_empty() {
        notes.push(format!(
            "{} unfinished and left out; `cargo xtask benchmark {}` goes on with what the experiment lists.",
            listed(unfinished.iter().map(String::as_str)),
            experiment.name
        ));
    }
    for FailedRun { name, failure } in &failed {
        notes.push(format!(
            "{name} failed for good at epoch {}, step {}, learning rate {:.2e}: {}.",
            failure.epoch,
            failure.step,
            failure.learning_rate,
            failure.message.trim_end_matches('.')
        ));
    }
    let missing: Vec<String> = wanted
        .iter()
        .map(RunSpec::folder_name)
        .filter(|name| {
            !runs.iter().any(|run| run.name == *name)
                && !unfinished.contains(name)
                && !failed.iter().any(|run| run.name == *name)
                && !folder.join("runs").join(name).exists()
        })
        .collect();
    if !missing.is_empty() {
        notes.push(format!(
            "{} of the experiment's {} runs not there yet: {}.",
            missing.len(),
            wanted.len(),
            missing.join(", ")
        ));
    }

    Ok(Selection { variants, runs, failed, notes })
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
    let names: Vec<_> = names.into_iter().collect();
    match names.split_last() {
        None => String::new(),
        Some((only, [])) => format!("{only} is"),
        Some((last, others)) => format!("{} and {last} are", others.join(", ")),
    }
}
