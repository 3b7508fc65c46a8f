//! The headline table, and how far the accuracies scatter.

use askama::Template;
use faceoff_analysis::statistics::Interval;
use faceoff_evaluation::tables::MetricSummary;
use faceoff_evaluation::{Direction, Evaluation, Headline, MetricId, Unit};

/// With more variants than this, the table of the scatter is folded.
const MOST_UNFOLDED: usize = 11;

#[derive(Template)]
#[template(path = "results.html")]
pub(super) struct Results<'a> {
    outcome: &'a Evaluation,
    metrics: Vec<MetricId>,
    variants: Vec<usize>,
    scatter_open: bool,
    scatter: Vec<&'a MetricSummary>,
}

impl<'a> Results<'a> {
    pub(super) fn of(outcome: &'a Evaluation) -> Self {
        let variants = &outcome.selection.variants;
        // Unseen classes have no classifier; where there is one, retrieval stands in the table of all numbers.
        let unseen = variants.iter().any(|variant| variant.unseen);
        let wanted = |rank| unseen || rank != Headline::ResultIfUnseen;
        let compared = |variant| outcome.compared().filter_map(move |metric| outcome.summary(variant, metric));
        Self {
            outcome,
            metrics: outcome.headline.iter().filter(|row| wanted(row.1)).map(|row| row.0).collect(),
            variants: (0..variants.len()).collect(),
            scatter_open: outcome.shown().count() <= MOST_UNFOLDED,
            scatter: outcome.shown().flat_map(compared).collect(),
        }
    }

    /// Whether a variant is the first under its condition.
    fn begins_condition(&self, variant: &usize) -> bool {
        let condition = |variant: usize| self.outcome.selection.variants[variant].condition.as_str();
        condition(*variant) != variant.checked_sub(1).map_or("", condition)
    }

    /// Whether no rival under the same condition has a higher mean, as written.
    fn is_best(&self, variant: &usize, metric: &MetricId) -> bool {
        let variants = &self.outcome.selection.variants;
        let mean = |variant: usize| Some(self.outcome.summary(variant, *metric)?.summary.mean);
        let rival = |&other: &usize| variants[other].condition == variants[*variant].condition;
        let rivals: Vec<usize> = (0..variants.len()).filter(rival).collect();
        let highest = rivals.iter().filter_map(|&other| mean(other)).max_by(f64::total_cmp);
        let written = |mean: f64| metric.format(mean);
        let row = metric.metric();
        let compares = row.unit == Unit::Percent && row.direction == Direction::Higher && rivals.len() > 1;
        compares && mean(*variant).map(written) == highest.map(written)
    }

    /// The interval of an accuracy over images: the mean of those of all seeds.
    fn over_images(&self, row: &MetricSummary) -> Option<(f64, f64)> {
        let runs = self.outcome.runs(row.variant);
        let found: Vec<_> = runs.filter_map(|run| run.found.interval(row.metric)).collect();
        let mean = |end: fn(&Interval) -> f64| found.iter().map(end).sum::<f64>() / found.len() as f64;
        (!found.is_empty()).then(|| (mean(|found| found.low), mean(|found| found.high)))
    }
}
