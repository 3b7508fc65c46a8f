//! Paired differences of all variants, a table for each metric.

use crate::tables::effect_of;
use askama::Template;
use faceoff_analysis::statistics::ALPHA;
use faceoff_evaluation::choice::Choice;
use faceoff_evaluation::comparisons::Pair;
use faceoff_evaluation::effects::Effect;
use faceoff_evaluation::{Evaluation, MetricId};

#[derive(Template)]
#[template(path = "differences.html")]
pub(super) struct Differences<'a> {
    outcome: &'a Evaluation,
    /// By metric and condition, the most likely best first.
    choices: Vec<(MetricId, Vec<&'a Choice>)>,
    /// What conditions change, by metric.
    effects: Vec<(MetricId, Vec<&'a Effect>)>,
    tables: Vec<(MetricId, Vec<&'a Pair>)>,
}

/// Whether two variants differ at the level of all tests.
fn differ(pair: &Pair) -> bool {
    pair.p_holm.is_some_and(|p| p < ALPHA)
}

/// `None` where nothing can be tested.
fn number_that_differ(pairs: &[&Pair]) -> Option<usize> {
    let tested = pairs.iter().any(|pair| pair.p_holm.is_some());
    tested.then(|| pairs.iter().filter(|pair| differ(pair)).count())
}

/// The most seeds that a pair shares, in words.
fn seeds(pairs: &[&Pair]) -> String {
    match pairs.iter().map(|pair| pair.test.paired.difference.n).max() {
        Some(1) => "one seed".into(),
        count => format!("{} seeds", count.unwrap_or(0)),
    }
}

/// The condition that all of these stand under.
fn condition<'a>(outcome: &'a Evaluation, choices: &[&Choice]) -> &'a str {
    choices.first().map_or("", |choice| &outcome.selection.variants[choice.variant].condition)
}

impl<'a> Differences<'a> {
    pub(super) fn of(outcome: &'a Evaluation) -> Self {
        let pairs = |metric| outcome.comparisons.pairs.iter().filter(move |pair| pair.metric == metric);
        let tables = outcome.compared().map(|metric| (metric, pairs(metric).collect::<Vec<_>>()));
        let choices = outcome.compared().flat_map(|metric| {
            outcome.groups.iter().map(move |group| {
                let of_group = |choice: &&Choice| choice.metric == metric && group.variants.contains(&choice.variant);
                let mut choices: Vec<&Choice> = outcome.comparisons.choices.iter().filter(of_group).collect();
                choices
                    .sort_by(|a, b| b.probability_best.total_cmp(&a.probability_best).then(b.mean.total_cmp(&a.mean)));
                (metric, choices)
            })
        });
        let choices = choices.filter(|(_, choices)| !choices.is_empty()).collect();
        let effects = |metric| outcome.comparisons.effects.iter().filter(move |effect| effect.metric == metric);
        let effects = outcome.compared().map(|metric| (metric, effects(metric).collect::<Vec<_>>()));
        let effects = effects.filter(|(_, effects)| !effects.is_empty()).collect();
        Self { outcome, choices, effects, tables: tables.filter(|(_, pairs)| !pairs.is_empty()).collect() }
    }
}
