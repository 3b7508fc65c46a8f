//! The measured values as tables: one row a value, with what its run is a run of, and grouped over seeds.

use crate::Result;
use crate::measured::Measured;
use crate::registry::MetricId;
use crate::selection::{Selection, Variant};
use faceoff_analysis::statistics::{self, Summary};
use faceoff_runs::{HeadConfig, Margin};
use polars::prelude::{Column, DataFrame, NamedFrom, PolarsResult, Series};

/// Columns of rows that are plain Rust values.
pub struct Columns<'a, R> {
    rows: &'a [R],
    columns: Vec<Column>,
}

impl<'a, R> Columns<'a, R> {
    /// No column yet.
    pub fn of(rows: &'a [R]) -> Self {
        Self { rows, columns: Vec::new() }
    }

    /// One more column, with the value of each row.
    pub fn with<T>(mut self, name: &str, value: impl Fn(&R) -> T) -> Self
    where
        Series: NamedFrom<Vec<T>, [T]>,
    {
        let values: Vec<T> = self.rows.iter().map(value).collect();
        self.columns.push(<Series as NamedFrom<Vec<T>, [T]>>::new(name.into(), values).into());
        self
    }

    /// The table.
    ///
    /// # Errors
    /// Two columns of one name.
    pub fn frame(self) -> PolarsResult<DataFrame> {
        DataFrame::new_infer_height(self.columns)
    }
}

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

/// Every value with its run and what that is a run of: `run`, `metric`, `value`, `variant`, `head`, `condition`, `seed`, `scale`,
/// `margin`, `margin_unit`, `noise_percent`; and every metric of every variant over its seeds, in the order of the values.
pub(crate) fn tables(selection: &Selection, measured: &[Measured]) -> Result<(DataFrame, Vec<MetricSummary>)> {
    let mut rows: Vec<(&Measured, MetricId, f64)> = Vec::new();
    for run in measured {
        rows.extend(run.found.values.iter().map(|&(metric, value)| (run, metric, value)));
    }
    let variant = |run: &Measured| -> &Variant { &selection.variants[run.variant] };
    let margin = |run: &Measured| variant(run).config.as_ref().and_then(HeadConfig::margin);
    let frame = Columns::of(&rows)
        .with("run", |(run, ..)| run.run.clone())
        .with("metric", |(_, metric, _)| metric.to_string())
        .with("value", |&(_, _, value)| value)
        .with("variant", |(run, ..)| variant(run).name.clone())
        .with("head", |(run, ..)| variant(run).head.clone())
        .with("condition", |(run, ..)| variant(run).condition.clone())
        .with("seed", |(run, ..)| run.seed)
        .with("scale", |(run, ..)| variant(run).config.as_ref().and_then(HeadConfig::scale))
        .with("margin", |(run, ..)| margin(run).map(Margin::value))
        .with("margin_unit", |(run, ..)| margin(run).map(Margin::unit))
        .with("noise_percent", |(run, ..)| variant(run).noise_percent)
        .frame()?;
    let mut over_seeds: Vec<(usize, MetricId, Vec<f64>)> = Vec::new();
    for &(run, metric, value) in &rows {
        // The runs of a variant stand together.
        let mut of_variant = over_seeds.iter_mut().rev().take_while(|row| row.0 == run.variant);
        match of_variant.find(|row| row.1 == metric) {
            Some((.., values)) => values.push(value),
            None => over_seeds.push((run.variant, metric, vec![value])),
        }
    }
    // Infinite values (a negative log-likelihood of a zero probability) have no mean.
    let summaries = over_seeds.into_iter().filter_map(|(variant, metric, values)| {
        let summary = statistics::summary(&values).ok()?;
        Some(MetricSummary { variant, metric, values, summary })
    });
    Ok((frame, summaries.collect()))
}
