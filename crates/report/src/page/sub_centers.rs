//! Heads with several weights a class: how images spread over them, and the images farthest from the dominant one.

use askama::Template;
use faceoff_evaluation::families::sub_centers::FAMILY;
use faceoff_evaluation::measured::Outlier;
use faceoff_evaluation::{Evaluation, MetricId};

/// So many of the farthest images stand on the page.
const SHOWN: usize = 10;

#[derive(Template)]
#[template(path = "sub_centers.html")]
pub(super) struct SubCenters<'a> {
    outcome: &'a Evaluation,
    metrics: Vec<MetricId>,
    variants: Vec<usize>,
}

impl<'a> SubCenters<'a> {
    /// `None` without such a head.
    pub(super) fn of(outcome: &'a Evaluation) -> Option<Self> {
        let known = |variant: usize, metric| outcome.summary(variant, metric).is_some();
        let metrics = || FAMILY.metrics.iter().map(|metric| metric.id());
        let all = 0..outcome.selection.variants.len();
        let variants: Vec<usize> = all.filter(|&variant| metrics().any(|metric| known(variant, metric))).collect();
        let measured = |metric: &MetricId| variants.iter().any(|&variant| known(variant, *metric));
        let metrics: Vec<MetricId> = metrics().filter(measured).collect();
        (!variants.is_empty()).then_some(Self { outcome, metrics, variants })
    }

    /// The farthest images of a variant's first seed.
    fn farthest(&self, variant: &usize) -> &'a [Outlier] {
        let shapes = self.outcome.runs(*variant).next().and_then(|run| run.found.shapes.sub_centers.as_ref());
        let all = shapes.map_or(&[][..], |shapes| &shapes.farthest);
        &all[..all.len().min(SHOWN)]
    }

    fn class(&self, variant: &usize, label: &u32) -> &'a str {
        self.outcome.selection.variants[*variant].classes.get(*label as usize).map_or("?", String::as_str)
    }
}
