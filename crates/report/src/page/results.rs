//! The headline table, and how far the accuracies scatter.

use crate::Extras;
use crate::plots::extent;
use askama::Template;
use faceoff_analysis::statistics::Interval;
use faceoff_evaluation::answer::chosen_metric;
use faceoff_evaluation::health::Finding;
use faceoff_evaluation::tables::MetricSummary;
use faceoff_evaluation::{Evaluation, Headline, MetricId};
use faceoff_runs::HeadConfig;

/// With more variants than this, the table of the scatter is folded.
const MOST_UNFOLDED: usize = 11;
/// Width of a drawing of seeds, in its own units.
const SPARK_WIDTH: f64 = 100.0;

#[derive(Template)]
#[template(path = "results.html")]
pub(super) struct Results<'a> {
    outcome: &'a Evaluation,
    /// The one that rows are sorted by comes first.
    metrics: Vec<MetricId>,
    /// By condition.
    groups: Vec<(&'a str, Vec<Row<'a>>)>,
    /// The values that the drawings of seeds span.
    span: Option<(f64, f64)>,
    /// Whether every variant has one seed.
    lone_seed: bool,
    scatter_open: bool,
    scatter: Vec<&'a MetricSummary>,
}

/// A variant in the table.
struct Row<'a> {
    variant: usize,
    name: &'a str,
    /// The kind of the head, where the name does not say it.
    kind: Option<&'a str>,
    seeds: usize,
    cells: Vec<Cell>,
    /// Among those that tests cannot tell from the best.
    best: bool,
    /// `s 64, m 0.35`.
    setting: String,
    /// Every parameter, as an experiment has it.
    parameters: Vec<String>,
    formula: Option<&'a str>,
    findings: Vec<&'a Finding>,
    spark: Option<Spark>,
}

/// A metric of a variant.
struct Cell {
    /// The mean with all its digits, for sorting; empty where it was not measured.
    value: String,
    mean: String,
    /// What is known of its uncertainty.
    interval: Option<String>,
}

impl Cell {
    fn of(outcome: &Evaluation, variant: usize, metric: MetricId) -> Self {
        let Some(row) = outcome.summary(variant, metric) else {
            return Self { value: String::new(), mean: "\u{2013}".into(), interval: None };
        };
        let over_seeds = row.summary.interval.map(|found| format!("± {}", metric.format(found.half_width())));
        let over_images = || outcome.interval(variant, metric);
        let interval = over_seeds.or_else(|| {
            let (low, high) = over_images()?;
            Some(format!("{}\u{2013}{}", metric.format(low), metric.format(high)))
        });
        Self { value: row.summary.mean.to_string(), mean: metric.format(row.summary.mean), interval }
    }
}

/// Where the seeds of a variant lie, along a common scale of 0 to [`SPARK_WIDTH`].
struct Spark {
    seeds: Vec<f64>,
    mean: f64,
    /// From where, and how far.
    interval: Option<(f64, f64)>,
}

impl<'a> Results<'a> {
    pub(super) fn of(outcome: &'a Evaluation, extras: &'a Extras<'_>) -> Self {
        let variants = &outcome.selection.variants;
        // Unseen classes have no classifier; where there is one, retrieval stands in the table of all numbers.
        let unseen = variants.iter().any(|variant| variant.unseen);
        let wanted = |rank| unseen || rank != Headline::ResultIfUnseen;
        let compared = |variant| outcome.compared().filter_map(move |metric| outcome.summary(variant, metric));
        let chosen = chosen_metric(outcome);
        let mut metrics: Vec<MetricId> = outcome.headline.iter().filter(|row| wanted(row.1)).map(|row| row.0).collect();
        metrics.sort_by_key(|&metric| Some(metric) != chosen);
        let span = chosen.and_then(|metric| span(outcome, metric));
        let mut groups: Vec<(&str, Vec<Row<'_>>)> = Vec::new();
        for (index, variant) in variants.iter().enumerate() {
            let row = Row::of(outcome, index, &metrics, chosen.zip(span), extras);
            match groups.iter_mut().find(|group| group.0 == variant.condition) {
                Some((_, rows)) => rows.push(row),
                None => groups.push((&variant.condition, vec![row])),
            }
        }
        if let Some(metric) = chosen {
            let mean = |row: &Row<'_>| outcome.summary(row.variant, metric).map_or(f64::MIN, |row| row.summary.mean);
            groups.iter_mut().for_each(|(_, rows)| rows.sort_by(|a, b| mean(b).total_cmp(&mean(a))));
        }
        Self {
            outcome,
            metrics,
            groups,
            span,
            lone_seed: (0..variants.len()).all(|variant| outcome.runs(variant).count() == 1),
            scatter_open: outcome.shown().count() <= MOST_UNFOLDED,
            scatter: outcome.shown().flat_map(compared).collect(),
        }
    }

    /// The metric that rows are sorted by.
    fn is_chosen(&self, metric: &MetricId) -> bool {
        self.metrics.first() == Some(metric) && chosen_metric(self.outcome).is_some()
    }

    /// The interval of an accuracy over images: the mean of those of all seeds.
    fn over_images(&self, row: &MetricSummary) -> Option<(f64, f64)> {
        let runs = self.outcome.runs(row.variant);
        let found: Vec<_> = runs.filter_map(|run| run.found.interval(row.metric)).collect();
        let mean = |end: fn(&Interval) -> f64| found.iter().map(end).sum::<f64>() / found.len() as f64;
        (!found.is_empty()).then(|| (mean(|found| found.low), mean(|found| found.high)))
    }
}

/// The lowest and the highest value or end of an interval of all variants.
fn span(outcome: &Evaluation, metric: MetricId) -> Option<(f64, f64)> {
    let rows = outcome.summaries.iter().filter(|row| row.metric == metric);
    let ends = |row: &MetricSummary| {
        let (low, high) = outcome.interval(row.variant, metric).unzip();
        row.values.iter().copied().chain(low).chain(high).collect::<Vec<_>>()
    };
    let (low, high) = extent(rows.flat_map(ends));
    (low < high).then_some((low, high))
}

impl<'a> Row<'a> {
    fn of(
        outcome: &'a Evaluation,
        variant: usize,
        metrics: &[MetricId],
        drawn: Option<(MetricId, (f64, f64))>,
        extras: &'a Extras<'_>,
    ) -> Self {
        let of = &outcome.selection.variants[variant];
        let spark = drawn.and_then(|(metric, (low, high))| {
            let row = outcome.summary(variant, metric)?;
            let place = |value: f64| SPARK_WIDTH * (value - low) / (high - low);
            Some(Spark {
                seeds: row.values.iter().map(|&value| place(value)).collect(),
                mean: place(row.summary.mean),
                interval: outcome.interval(variant, metric).map(|(low, high)| (place(low), place(high) - place(low))),
            })
        });
        Self {
            variant,
            name: &of.name,
            kind: (of.name != of.head && of.config.is_some()).then_some(of.head.as_str()),
            seeds: outcome.runs(variant).count(),
            cells: metrics.iter().map(|&metric| Cell::of(outcome, variant, metric)).collect(),
            best: outcome.answers.iter().any(|answer| answer.is_among_best(variant)),
            setting: of.config.as_ref().map(setting).unwrap_or_default(),
            parameters: of.config.as_ref().map(parameters).unwrap_or_default(),
            formula: extras.formula(&of.head),
            findings: outcome.health.iter().filter(|finding| finding.variant == of.name).collect(),
            spark,
        }
    }
}

fn parameters(head: &HeadConfig) -> Vec<String> {
    head.parameters().map(|(name, value)| format!("{name} = {value}")).collect()
}

/// Scale s, margin m and number K of weights a class, as far as the head has them.
fn setting(head: &HeadConfig) -> String {
    let number = |name: &str| head.parameters().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
    let scale = head.scale().map(|scale| format!("s {scale}"));
    let margin = head.margin().map(|margin| format!("m {}", margin.value()));
    let weights = number("sub_centers").map(|count| format!("K {count}"));
    scale.into_iter().chain(margin).chain(weights).collect::<Vec<_>>().join(", ")
}
