//! Metrics over seeds.

use crate::measured::Measured;
use crate::registry::MetricId;
use faceoff_analysis::statistics::{self, Summary};

/// A metric of a variant over its seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSummary {
    /// Index of the variant in the selection.
    pub variant: usize,
    /// The metric.
    pub metric: MetricId,
    /// By seed.
    pub values: Vec<f64>,
    /// Mean, scatter and interval.
    pub summary: Summary,
}

/// Every metric of every variant over its seeds, in the order of the runs' values.
pub(crate) fn summarise(measured: &[Measured], variants: usize) -> Vec<MetricSummary> {
    let mut summaries = Vec::new();
    for variant in 0..variants {
        let runs: Vec<_> = measured.iter().filter(|run| run.variant == variant).collect();
        let mut metrics: Vec<MetricId> = Vec::new();
        for &(metric, _) in runs.iter().flat_map(|run| &run.found.values) {
            if !metrics.contains(&metric) {
                metrics.push(metric);
            }
        }
        for metric in metrics {
            let values: Vec<f64> = runs.iter().filter_map(|run| run.value(metric)).collect();
            // Infinite values (a negative log-likelihood of a zero probability) have no mean.
            if let Ok(summary) = statistics::summary(&values) {
                summaries.push(MetricSummary { variant, metric, values, summary });
            }
        }
    }
    summaries
}
