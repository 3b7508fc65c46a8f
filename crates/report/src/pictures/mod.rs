//! From an evaluation to the pictures of a report. A section of pictures is one file here and one line in [`sections`].

mod accuracy;
mod calibration;
mod confusion;
mod geometry;
mod grid;
mod health;
mod maps;
mod noise;
mod ranks;
mod training;
mod tuning;
mod unseen;
mod variance;
mod verification;

use crate::error::Result;
use crate::plots::accuracy::Bar;
use crate::plots::curves::Curve;
use crate::plots::{COLORS, Name, Picture, extent};
use faceoff_evaluation::answer::{Place, standings};
use faceoff_evaluation::groups::Group;
use faceoff_evaluation::measured::Measured;
use faceoff_evaluation::tables::MetricSummary;
use faceoff_evaluation::{Evaluation, MetricId};
use faceoff_runs::thousands;
use std::ops::Range;

pub(crate) use grid::grid_variants;
pub(crate) use maps::{Map, mapped, pca_maps, tsne_maps};
pub(crate) use noise::noise_variants;

/// A part of the page: a heading, what to see in it, its pictures.
pub(crate) struct Section {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// The title in the list of contents.
    pub(crate) short: &'static str,
    pub(crate) text: String,
    /// What is not drawn, and where it stands instead.
    pub(crate) notes: Vec<String>,
    /// Shown at once.
    pub(crate) pictures: Vec<Picture>,
    /// Shown on demand: one a variant.
    pub(crate) details: Vec<Picture>,
}

impl Section {
    /// A section without pictures yet.
    fn new(id: &'static str, title: &'static str, short: &'static str, text: impl Into<String>) -> Self {
        let (notes, pictures, details) = Default::default();
        Self { id, title, short, text: text.into(), notes, pictures, details }
    }
}

/// Every section of the page that has something to show.
pub(crate) fn sections(outcome: &Evaluation) -> Result<Vec<Section>> {
    let all = [
        noise::section(outcome)?,
        unseen::section(outcome)?,
        grid::section(outcome)?,
        tuning::section(outcome)?,
        accuracy::section(outcome)?,
        ranks::section(outcome)?,
        variance::section(outcome)?,
        training::section(outcome)?,
        health::section(outcome)?,
        maps::tsne(outcome)?,
        maps::pca(outcome)?,
        confusion::section(outcome)?,
        verification::section(outcome)?,
        geometry::section(outcome)?,
        calibration::section(outcome)?,
    ];
    Ok(all.into_iter().filter(|section| !section.pictures.is_empty() || !section.notes.is_empty()).collect())
}

/// The accuracies of the variants of the first condition, side by side.
pub(crate) fn accuracies(outcome: &Evaluation) -> Result<Option<Picture>> {
    Ok(accuracy::section(outcome)?.pictures.into_iter().next())
}

/// What stands behind numbers of heads that were trained once each.
const ONE_TRAINING: &str = "one training each, so no difference between heads is claimed";

/// The same where some heads were trained once and others more often.
const FEW_SEEDS: &str = "too few seeds for a test";

/// What stands behind numbers of the heads of some groups that no test is about.
fn caution<'a>(outcome: &Evaluation, groups: impl IntoIterator<Item = &'a Group>) -> &'static str {
    let variants = groups.into_iter().flat_map(|group| &group.variants);
    let lone: Vec<bool> = variants.map(|&variant| outcome.runs(variant).count() == 1).collect();
    match lone.contains(&true) {
        true if lone.contains(&false) => FEW_SEEDS,
        true => ONE_TRAINING,
        false => "nothing is tested",
    }
}

/// From where to where the means of a metric range, and whether the two ends are told apart; with one seed each no difference is claimed.
fn range_of(outcome: &Evaluation, group: &Group, metric: MetricId) -> Option<String> {
    let mut rows: Vec<_> = group.variants.iter().filter_map(|&variant| outcome.summary(variant, metric)).collect();
    rows.sort_by(|a, b| b.summary.mean.total_cmp(&a.summary.mean));
    let value = |row: &MetricSummary| format!("{} ({})", metric.format(row.summary.mean), outcome.name(row.variant));
    let what = format!("{}{}{}", metric.title(), metric.unit_suffix(), under(group));
    let (highest, lowest) = match rows[..] {
        [] => return None,
        [only] => return Some(format!("{what}: {}.", value(only))),
        [highest, .., lowest] => (highest, lowest),
    };
    let tested = standings(outcome, group, metric).last().map(|last| last.place);
    let apart = match (tested, highest.summary.interval, lowest.summary.interval) {
        _ if rows.iter().all(|row| row.summary.n == 1) => ONE_TRAINING,
        _ if highest.summary.n == 1 || lowest.summary.n == 1 => FEW_SEEDS,
        (Some(Place::Behind), ..) => "a test tells the two apart (5 %, Holm)",
        (Some(Place::First | Place::Together), ..) => "no test tells the two apart (5 %, Holm)",
        (Some(Place::Ahead), ..) => "over the seeds that both have, a test finds the lower one ahead (5 %, Holm)",
        (Some(Place::Untested), ..) => FEW_SEEDS,
        (None, Some(high), Some(low)) if low.high < high.low => "the 95 % intervals of the two lie apart",
        (None, Some(_), Some(_)) => "the 95 % intervals of the two overlap",
        (None, ..) => "nothing is tested",
    };
    Some(format!("{what}: {} to {}; {apart}.", value(lowest), value(highest)))
}

/// From where to where named numbers range, each as `text` has it; `None` without any.
fn range<'a>(values: impl IntoIterator<Item = (&'a str, f64)>, text: impl Fn(f64) -> String) -> Option<String> {
    let mut values: Vec<(&str, f64)> = values.into_iter().collect();
    values.sort_by(|a, b| a.1.total_cmp(&b.1));
    let one = |&(name, value): &(&str, f64)| format!("{} ({name})", text(value));
    match &values[..] {
        [] => None,
        [only] => Some(one(only)),
        [low, .., high] => Some(format!("{} to {}", one(low), one(high))),
    }
}

/// The same as a sentence that begins with `what` and claims no difference of heads that were trained once.
fn range_sentence<'a>(
    outcome: &Evaluation,
    group: &Group,
    what: &str,
    values: impl IntoIterator<Item = (&'a str, f64)>,
    text: impl Fn(f64) -> String,
) -> Option<String> {
    Some(format!("{what}{} {}; {}.", under(group), range(values, text)?, caution(outcome, [group])))
}

/// How far each curve is higher at its end than where it begins.
fn rises(curves: &[Curve]) -> impl Iterator<Item = (&str, f64)> {
    curves.iter().filter_map(|curve| Some((curve.name.as_str(), curve.points.last()?.1 - curve.points.first()?.1)))
}

/// A share as points, with its sign.
fn points(share: f64) -> String {
    format!("{} points", faceoff_evaluation::points(share))
}

/// A share as percent.
fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
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
    colour + COLORS * twins
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

/// The range of values with a little room, within hard limits.
fn padded(values: impl Iterator<Item = f64>, lowest: f64, highest: f64) -> Range<f64> {
    let (low, high) = extent(values);
    if !low.is_finite() {
        return lowest..highest;
    }
    let pad = (0.08 * (high - low)).max(0.01);
    (low - pad).max(lowest)..(high + pad).min(highest)
}

/// The values of all points of all curves.
fn heights(curves: &[Curve]) -> impl Iterator<Item = f64> {
    curves.iter().flat_map(|curve| &curve.points).map(|point| point.1)
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

/// The mean of an accuracy of a variant with what is known of its uncertainty.
fn bar(outcome: &Evaluation, variant: usize, metric: MetricId) -> Option<Bar> {
    let row = outcome.summary(variant, metric)?;
    let interval = outcome.interval(variant, metric);
    Some(Bar { mean: row.summary.mean, interval, seeds: row.values.clone() })
}

/// First runs of a group's variants, which stand for them where means over seeds say nothing.
fn first_runs<'a>(outcome: &'a Evaluation, group: &'a Group) -> impl Iterator<Item = &'a Measured> {
    group.variants.iter().filter_map(|&variant| outcome.runs(variant).next())
}

/// Names of the shown variants without their conditions, in order.
fn bases(outcome: &Evaluation) -> Vec<&str> {
    let variants = &outcome.selection.variants;
    distinct(outcome.shown().map(|variant| variants[variant].base.as_str()))
}

/// What a picture of one group is called; the caption is about its variants.
fn name_of(group: &Group, file: &str, caption: &str) -> Name {
    (format!("{file}{}.svg", group.suffix()), format!("{caption}{}", under(group)))
}

/// ` under <condition>`, or nothing.
fn under(group: &Group) -> String {
    if group.condition.is_empty() { String::new() } else { format!(" under {}", group.condition) }
}

/// With more classes than this, the cells of a matrix are too small to be read.
const MOST_CLASSES: usize = 50;

/// Why a group has no matrices, if it has too many classes for them. `instead` says where the numbers stand.
fn too_many_classes(group: &Group, classes: &[String], instead: &str) -> Option<String> {
    let count = classes.len();
    let text =
        || format!("{} classes{}: too many for cells that can be read. {instead}", thousands(count), under(group));
    (count > MOST_CLASSES).then(text)
}

/// Whole numbers only.
fn integer_tick(value: &f64) -> String {
    if (value - value.round()).abs() < 1e-9 { format!("{}", value.round()) } else { String::new() }
}
