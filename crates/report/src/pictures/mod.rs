//! From measurements to the pictures of a report.

mod conditions;
mod deep;
mod maps;
mod protocol;

use crate::error::Result;
use crate::plots::curves::Curve;
use crate::plots::{PALETTE, Picture};
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::groups::Group;

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

/// How the lines of a variant look: the colour says the head, alike under all conditions, and the dash its variant.
fn style(outcome: &Evaluation, variant: usize) -> usize {
    let all = &outcome.selection.variants;
    let Some(group) = outcome.groups.iter().find(|group| group.variants.contains(&variant)) else {
        return 0;
    };
    let before = || group.variants.iter().take_while(|&&other| other != variant);
    let twins = before().filter(|&&other| all[other].head == all[variant].head).count();
    let heads = distinct(group.variants.iter().map(|&other| &all[other].head));
    let colour = heads.iter().position(|&head| *head == all[variant].head).unwrap_or(0);
    colour + PALETTE.len() * twins
}

/// Every section of the page that has something to show.
pub(crate) fn sections(outcome: &Evaluation) -> Result<Vec<Section>> {
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

/// What of `items` is there, each once, in the order of its first place.
pub(crate) fn distinct<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for item in items {
        if !found.contains(&item) {
            found.push(item);
        }
    }
    found
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
fn curves_of(outcome: &Evaluation, group: &Group, points: impl Fn(usize) -> Vec<(f64, f64)>) -> Vec<Curve> {
    let curve = |&variant: &usize| {
        let points = points(variant);
        let name = outcome.name(variant);
        (!points.is_empty()).then(|| Curve::new(name, style(outcome, variant), points))
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
