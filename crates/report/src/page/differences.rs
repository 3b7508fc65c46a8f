//! Paired differences of all variants, a table for each metric.

use askama::Template;
use faceoff_analysis::statistics::ALPHA;
use faceoff_evaluation::comparisons::Pair;
use faceoff_evaluation::{Evaluation, MetricId};

#[derive(Template)]
#[template(path = "differences.html")]
pub(super) struct Differences<'a> {
    outcome: &'a Evaluation,
    tables: Vec<(MetricId, Vec<&'a Pair>)>,
}

/// Whether two variants differ at the level of all tests.
fn differ(pair: &Pair) -> bool {
    pair.p_holm.is_some_and(|p| p < ALPHA)
}

fn number_that_differ(pairs: &[&Pair]) -> usize {
    pairs.iter().filter(|pair| differ(pair)).count()
}

impl<'a> Differences<'a> {
    pub(super) fn of(outcome: &'a Evaluation) -> Self {
        let pairs = |metric| outcome.comparisons.pairs.iter().filter(move |pair| pair.metric == metric);
        let tables = outcome.compared().map(|metric| (metric, pairs(metric).collect::<Vec<_>>()));
        Self { outcome, tables: tables.filter(|(_, pairs)| !pairs.is_empty()).collect() }
    }
}
