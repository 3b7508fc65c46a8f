//! How the runs were made, measured and judged.

use crate::pictures::distinct;
use askama::Template;
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::groups::Group;
use faceoff_evaluation::statements::RULES;
use faceoff_runs::{
    AnalysisConfig, Averaging, DataConfig, Engine, Experiment, Flip, Manifest, RunSpec, TrainingConfig,
};

#[derive(Template)]
#[template(path = "method.html")]
pub(super) struct Method<'a> {
    spec: &'a RunSpec,
    analysis: &'a AnalysisConfig,
    rate: String,
    /// What is particular about the data and the recipe, by condition.
    conditions: Vec<(&'a str, &'a DataConfig, Vec<String>)>,
}

impl<'a> Method<'a> {
    pub(super) fn of(experiment: &'a Experiment, manifest: &'a Manifest, outcome: &'a Evaluation) -> Self {
        let condition = |group: &'a Group| {
            let run = outcome.selection.of_variant(*group.variants.first()?).next()?;
            let RunSpec { data, training, .. } = &run.manifest.spec;
            let recipe = recipe(training, data.augmentation.flip, manifest.spec.training.epochs);
            let plain = data.label_noise_percent == 0 && data.held_out_classes.is_empty() && recipe.is_empty();
            (!plain).then_some((group.condition.as_str(), data, recipe))
        };
        Self {
            spec: &manifest.spec,
            analysis: &experiment.analysis,
            rate: rate(outcome),
            conditions: outcome.groups.iter().filter_map(condition).collect(),
        }
    }
}

/// What is particular about a recipe, a sentence each; `epochs` are those that stand above.
fn recipe(training: &TrainingConfig, flip: Flip, epochs: usize) -> Vec<String> {
    let mut sentences = Vec::new();
    if training.epochs != epochs {
        sentences.push(format!("{} epochs instead.", training.epochs));
    }
    if !training.progressive_resizing.is_empty() {
        let stage = |(share, side_px): &(f64, usize)| format!("{side_px} px from {} % of the steps on", 100.0 * share);
        let stages: Vec<_> = training.progressive_resizing.iter().map(stage).collect();
        sentences.push(format!("Training images grow: {}.", stages.join(", ")));
    }
    if flip == Flip::Alternating {
        sentences.push("Flips alternate from epoch to epoch.".into());
    }
    if training.label_smoothing > 0.0 {
        sentences.push(format!("Labels are smoothed by {}.", training.label_smoothing));
    }
    if training.blur_pool {
        sentences.push("Maps are smoothed before they are halved (BlurPool).".into());
    }
    if let Some(Averaging { decay, every_steps }) = training.ema {
        let update = if every_steps == 1 { "step".into() } else { format!("{every_steps} steps") };
        sentences.push(format!("What embeds is a moving average of the weights (decay {decay} every {update})."));
    }
    sentences
}

/// The peak learning rate of all runs, or of each variant where they differ.
fn rate(outcome: &Evaluation) -> String {
    let runs = outcome.selection.runs.iter();
    let rates = distinct(runs.map(|run| (run.variant, run.manifest.spec.training.peak_learning_rate)));
    if rates.iter().all(|(_, rate)| *rate == rates[0].1) {
        return format!("peak learning rate {:e}", rates[0].1);
    }
    let each: Vec<_> = rates.iter().map(|&(variant, rate)| format!("{} {rate:.1e}", outcome.name(variant))).collect();
    format!("peak learning rate of each variant ({})", each.join(", "))
}
