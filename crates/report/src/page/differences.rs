//! Paired differences of all variants, a table for each metric.

use askama::Template;
use faceoff_analysis::statistics::ALPHA;
use faceoff_evaluation::comparisons::Pair;
use faceoff_evaluation::{Evaluation, MetricId};

#[derive(Template)]
#[template(path = "differences.html")]
pub(super) struct Differences<'a> {
    outcome: &'a Evaluation,
    tables: Vec<Table<'a>>,
}

struct Table<'a> {
    metric: MetricId,
    pairs: Vec<&'a Pair>,
}

impl Table<'_> {
    fn significant(&self) -> usize {
        self.pairs.iter().filter(|pair| differs(pair)).count()
    }
}

fn differs(pair: &Pair) -> bool {
    pair.p_holm.is_some_and(|p| p < ALPHA)
}

impl<'a> Differences<'a> {
    pub(super) fn of(outcome: &'a Evaluation) -> Self {
        let pairs = |metric| outcome.comparisons.pairs.iter().filter(move |pair| pair.metric == metric);
        let tables = outcome.compared().map(|metric| Table { metric, pairs: pairs(metric).collect() });
        Self { outcome, tables: tables.filter(|table| !table.pairs.is_empty()).collect() }
    }
}
