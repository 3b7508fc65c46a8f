//! Accuracy against the share of wrong training labels.

use super::{Section, bases, caution, distinct, padded, points, range, rises};
use crate::error::Result;
use crate::plots::curves::{Curve, Frame};
use crate::plots::{Axis, curves, percent_tick};
use faceoff_evaluation::Evaluation;

/// The variants whose training labels were noisy, and those they are compared with; empty without noise.
pub(crate) fn noise_variants(outcome: &Evaluation) -> Vec<usize> {
    let variants = &outcome.selection.variants;
    let levels = distinct(variants.iter().map(|variant| variant.noise_percent));
    if levels.len() < 2 { Vec::new() } else { (0..variants.len()).collect() }
}

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let text = "A share of the training labels is wrong, from the data set\u{2019}s own columns; every accuracy is against the true labels, and the index of KNN has its true \
        labels too. Means over seeds; upright lines are 95 % intervals over seeds where there are at least two (Student\u{2019}s t), else over images (bootstrap). \
        Points of one noise level stand a little apart so that they can be told from each other.";
    let mut section = Section::new("noise", "Accuracy against label noise", "Label noise", text);
    let all = noise_variants(outcome);
    let bases = bases(outcome);
    let noise = |variant: usize| f64::from(outcome.selection.variants[variant].noise_percent);
    let highest = all.iter().map(|&variant| noise(variant)).fold(0.0, f64::max);
    for metric in outcome.compared() {
        let line = |(place, base): (usize, &&str)| {
            let offset = 0.35 * (place as f64 - (bases.len() as f64 - 1.0) / 2.0);
            let mut rows: Vec<((f64, f64), (f64, f64))> = Vec::new();
            for &variant in all.iter().filter(|&&v| outcome.selection.variants[v].base == **base) {
                let Some(row) = outcome.summary(variant, metric) else { continue };
                let mean = row.summary.mean;
                let interval = outcome.interval(variant, metric).unwrap_or((mean, mean));
                rows.push(((noise(variant) + offset, mean), interval));
            }
            rows.sort_by(|a, b| a.0.0.total_cmp(&b.0.0));
            let (places, intervals) = rows.into_iter().unzip();
            let curve = Curve { intervals, ..Curve::new(base, place, places) };
            (curve.points.len() > 1).then_some(curve)
        };
        let lines: Vec<Curve> = bases.iter().enumerate().filter_map(line).collect();
        if lines.is_empty() {
            continue;
        }
        let title = metric.title();
        let ends = lines.iter().flat_map(|line| &line.intervals).flat_map(|&(low, high)| [low, high]);
        let x = Axis::new("wrong training labels", -2.0..highest + 2.0, 6, |value| format!("{value} %"));
        let y = Axis::new(&title, padded(ends, 0.0, 1.0), 8, percent_tick);
        let alt = format!("Line chart: {title} over the share of wrong training labels, a line for each head");
        let name = (format!("noise_{metric}.svg"), alt);
        let change = range(rises(&lines), points);
        let caution = caution(outcome, &outcome.groups);
        let said = change
            .map(|change| format!("From the least to the most wrong labels each head changes by {change}; {caution}."));
        section.pictures.push(curves::chart(name, &Frame::new(x, y, true), &lines)?.concluding(said));
    }
    Ok(section)
}
