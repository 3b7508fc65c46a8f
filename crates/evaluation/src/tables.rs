//! The measured values as tables: one row a value, joined with what its run is a run of, and grouped over seeds.

use crate::error::{Error, Result};
use crate::measured::Measured;
use crate::registry::MetricId;
use crate::selection::{Selection, Variant};
use faceoff_analysis::statistics::{self, Summary};
use polars::prelude::{
    Column, DataFrame, DataFrameJoinOps, GroupsIndicator, JoinArgs, JoinType, MaintainOrderJoin, NamedFrom,
    PolarsResult, Series,
};

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

struct Value<'a> {
    run: &'a Measured,
    metric: MetricId,
    value: f64,
}

/// Every value with its run and what that is a run of: `run`, `metric`, `value`, `variant`, `head`, `condition`, `seed`, `scale`,
/// `margin`, `margin_unit`, `noise_percent`; and every metric of every variant over its seeds, in the order of the values.
pub(crate) fn tables(selection: &Selection, measured: &[Measured]) -> Result<(DataFrame, Vec<MetricSummary>)> {
    let value = |run, &(metric, value)| Value { run, metric, value };
    let rows: Vec<Value<'_>> =
        measured.iter().flat_map(|run| run.found.values.iter().map(move |of| value(run, of))).collect();
    let frame = joined(&rows, selection, measured).map_err(|source| Error::Table { source })?;
    let groups = frame.group_by_stable(["variant", "metric"]).map_err(|source| Error::Table { source })?;
    let mut summaries = Vec::new();
    for group in groups.get_groups().iter() {
        let of_group: Vec<&Value<'_>> = match group {
            GroupsIndicator::Idx((_, all)) => all.iter().map(|&row| &rows[row as usize]).collect(),
            GroupsIndicator::Slice([first, length]) => rows[first as usize..][..length as usize].iter().collect(),
        };
        let Value { run, metric, .. } = of_group[0];
        let values: Vec<f64> = of_group.iter().map(|row| row.value).collect();
        // Infinite values (a negative log-likelihood of a zero probability) have no mean.
        if let Ok(summary) = statistics::summary(&values) {
            summaries.push(MetricSummary { variant: run.variant, metric: *metric, values, summary });
        }
    }
    Ok((frame, summaries))
}

fn joined(rows: &[Value<'_>], selection: &Selection, measured: &[Measured]) -> PolarsResult<DataFrame> {
    let values = Columns::of(rows)
        .with("run", |row| row.run.run.clone())
        .with("metric", |row| row.metric.to_string())
        .with("value", |row| row.value)
        .frame()?;
    let variant = |run: &Measured| -> &Variant { &selection.variants[run.variant] };
    let margin = |run: &Measured| variant(run).config.as_ref().and_then(|head| head.margin());
    let runs = Columns::of(measured)
        .with("run", |run| run.run.clone())
        .with("variant", |run| variant(run).name.clone())
        .with("head", |run| variant(run).head.clone())
        .with("condition", |run| variant(run).condition.clone())
        .with("seed", |run| run.seed)
        .with("scale", |run| variant(run).config.as_ref().and_then(|head| head.scale()))
        .with("margin", |run| margin(run).map(|margin| margin.value()))
        .with("margin_unit", |run| margin(run).map(|margin| margin.unit()))
        .with("noise_percent", |run| variant(run).noise_percent)
        .frame()?;
    let mut order = JoinArgs::new(JoinType::Left);
    order.maintain_order = MaintainOrderJoin::Left;
    values.join(&runs, ["run"], ["run"], order, None)
}
