//! From measurements to the pictures of a report.

mod deep;
mod maps;
mod protocol;

use crate::comparisons::Comparisons;
use crate::error::Result;
use crate::metrics::{Measured, ValImages};
use crate::plots::Picture;
use crate::plots::curves::Curve;
use crate::runs::Selection;
use crate::tables::MetricSummary;
use ndarray::Array2;

pub(crate) use maps::{pca_maps, tsne_maps};

/// A part of the page: a heading, what to see in it, its pictures.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// The title in the list of contents.
    pub(crate) short: &'static str,
    pub(crate) text: String,
    /// Shown at once.
    pub(crate) pictures: Vec<Picture>,
    /// Shown on demand: one a variant.
    pub(crate) details: Vec<Picture>,
}

/// All that pictures are made of.
pub(crate) struct Outcome<'a> {
    pub(crate) selection: &'a Selection,
    pub(crate) measured: &'a [Measured],
    pub(crate) summaries: &'a [MetricSummary],
    pub(crate) comparisons: &'a Comparisons,
    /// Validation images of each variant.
    pub(crate) val_images: &'a [ValImages],
    pub(crate) classes: &'a [String],
    /// Neighbourhood sizes measured.
    pub(crate) neighbors: &'a [usize],
    /// Numbers of components kept.
    pub(crate) components: &'a [usize],
}

impl<'a> Outcome<'a> {
    /// Indices of the variants.
    pub(crate) fn variants(&self) -> std::ops::Range<usize> {
        0..self.selection.variants.len()
    }

    pub(crate) fn name(&self, variant: usize) -> &'a str {
        &self.selection.variants[variant].name
    }

    pub(crate) fn summary(&self, variant: usize, metric: &str) -> Option<&'a MetricSummary> {
        self.summaries.iter().find(|row| row.variant == variant && row.metric == metric)
    }

    fn runs(&self, variant: usize) -> impl Iterator<Item = &'a Measured> {
        self.measured.iter().filter(move |run| run.variant == variant)
    }

    /// The confusion matrix of a variant, all seeds together.
    pub(crate) fn confusion(&self, variant: usize) -> Option<Array2<u64>> {
        self.runs(variant).filter_map(|run| run.confusion.clone()).reduce(|sum, counts| sum + counts)
    }
}

/// Every section of the page that has something to show.
pub(crate) fn sections(outcome: &Outcome<'_>) -> Result<Vec<Section>> {
    let all = [
        protocol::accuracies(outcome)?,
        deep::ranks(outcome)?,
        protocol::variance(outcome)?,
        protocol::training(outcome)?,
        maps::tsne(outcome)?,
        maps::pca(outcome)?,
        protocol::confusion(outcome)?,
        deep::verification(outcome)?,
        deep::geometry(outcome)?,
        deep::calibration(outcome)?,
    ];
    Ok(all.into_iter().filter(|section| !section.pictures.is_empty()).collect())
}

/// The range of the curves' values with a little room, within hard limits.
fn padded(curves: &[Curve], lowest: f64, highest: f64) -> std::ops::Range<f64> {
    let values = curves.iter().flat_map(|curve| &curve.points).map(|point| point.1);
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if !low.is_finite() {
        return lowest..highest;
    }
    let pad = (0.08 * (high - low)).max(0.01);
    (low - pad).max(lowest)..(high + pad).min(highest)
}

/// Whole numbers only.
fn integer_tick(value: &f64) -> String {
    if (value - value.round()).abs() < 1e-9 { format!("{}", value.round()) } else { String::new() }
}
