//! How the runs were made, measured and judged.

use crate::pictures::distinct;
use askama::Template;
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::groups::Group;
use faceoff_evaluation::statements::RULES;
use faceoff_runs::{AnalysisConfig, DataConfig, Engine, Experiment, Manifest, RunSpec};

#[derive(Template)]
#[template(path = "method.html")]
pub(super) struct Method<'a> {
    spec: &'a RunSpec,
    analysis: &'a AnalysisConfig,
    rate: String,
    /// What is particular about the data, by condition.
    conditions: Vec<(&'a str, &'a DataConfig)>,
}

impl<'a> Method<'a> {
    pub(super) fn of(experiment: &'a Experiment, manifest: &'a Manifest, outcome: &'a Evaluation) -> Self {
        let condition = |group: &'a Group| {
            let run = outcome.selection.of_variant(*group.variants.first()?).next()?;
            let data = &run.manifest.spec.data;
            let plain = data.label_noise_percent == 0 && data.held_out_classes.is_empty();
            (!plain).then_some((group.condition.as_str(), data))
        };
        Self {
            spec: &manifest.spec,
            analysis: &experiment.analysis,
            rate: rate(outcome),
            conditions: outcome.groups.iter().filter_map(condition).collect(),
        }
    }
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
