//! From measurements to the pictures of a report.

mod conditions;
mod deep;
mod maps;
mod protocol;

use crate::comparisons::Comparisons;
use crate::error::Result;
use crate::groups::Group;
use crate::metrics::{Measured, ValImages};
use crate::plots::curves::Curve;
use crate::plots::{PALETTE, Picture};
use crate::runs::Selection;
use crate::tables::MetricSummary;
use faceoff_runs::Trial;
use ndarray::Array2;

pub(crate) use conditions::{grid_variants, noise_variants};
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
    /// The variants that stand side by side.
    pub(crate) groups: &'a [Group],
    /// What tuning tried.
    pub(crate) trials: &'a [Trial],
    /// Validation images of each variant.
    pub(crate) val_images: &'a [ValImages],
    /// Neighbourhood sizes measured.
    pub(crate) neighbors: &'a [usize],
    /// Numbers of components kept.
    pub(crate) components: &'a [usize],
}

impl<'a> Outcome<'a> {
    /// The variants with pictures of their own.
    pub(crate) fn shown(&self) -> impl Iterator<Item = usize> {
        self.groups.iter().flat_map(|group| group.variants.iter().copied())
    }

    /// How the lines of a variant look: the colour says the head, alike under all conditions, and the dash its variant.
    fn style(&self, variant: usize) -> usize {
        let all = &self.selection.variants;
        let Some(group) = self.groups.iter().find(|group| group.variants.contains(&variant)) else {
            return 0;
        };
        let before = || group.variants.iter().take_while(|&&other| other != variant);
        let twins = before().filter(|&&other| all[other].head == all[variant].head).count();
        let mut heads: Vec<&str> = Vec::new();
        for &other in &group.variants {
            if !heads.contains(&all[other].head.as_str()) {
                heads.push(&all[other].head);
            }
        }
        let colour = heads.iter().position(|&head| *head == all[variant].head).unwrap_or(0);
        colour + PALETTE.len() * twins
    }

    fn classes(&self, group: &Group) -> &'a [String] {
        group.classes(self.selection)
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

    /// The 95 % interval of a mean over seeds, or with one seed that of an accuracy over images.
    fn interval(&self, variant: usize, metric: &str) -> Option<(f64, f64)> {
        let interval = self.summary(variant, metric)?.summary.interval.or_else(|| {
            let run = self.runs(variant).next()?;
            run.bootstrap.iter().find(|(name, _)| name == metric).map(|&(_, interval)| interval)
        })?;
        Some((interval.low.max(0.0), interval.high.min(1.0)))
    }

    /// The confusion matrix of a variant, all seeds together.
    pub(crate) fn confusion(&self, variant: usize) -> Option<Array2<u64>> {
        self.runs(variant).filter_map(|run| run.confusion.clone()).reduce(|sum, counts| sum + counts)
    }
}

/// Every section of the page that has something to show.
pub(crate) fn sections(outcome: &Outcome<'_>) -> Result<Vec<Section>> {
    let all = [
        conditions::noise(outcome)?,
        conditions::unseen(outcome)?,
        conditions::grid(outcome)?,
        conditions::trials(outcome)?,
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

/// A line for each variant of a group that has points.
fn curves_of<'a>(
    outcome: &Outcome<'a>,
    group: &Group,
    points: impl Fn(usize) -> Vec<(f64, f64)>,
) -> Vec<Curve> {
    let curve = |&variant: &usize| {
        let points = points(variant);
        let name = outcome.name(variant);
        (!points.is_empty()).then(|| Curve::new(name, outcome.style(variant), points))
    };
    group.variants.iter().filter_map(curve).collect()
}

/// ` under <condition>`, or nothing.
fn under(group: &Group) -> String {
    if group.condition.is_empty() { String::new() } else { format!(" under {}", group.condition) }
}

/// Whole numbers only.
fn integer_tick(value: &f64) -> String {
    if (value - value.round()).abs() < 1e-9 { format!("{}", value.round()) } else { String::new() }
}
