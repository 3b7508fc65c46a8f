//! Accuracies of the variants side by side, and over the number of neighbours.

use super::{Section, bar, caution, curves_of, heights, integer_tick, padded, points, range, range_of, rises, under};
use crate::error::Result;
use crate::plots::accuracy::BarRow;
use crate::plots::curves::Frame;
use crate::plots::{Axis, accuracy, curves, percent_tick};
use faceoff_evaluation::families::classifier::DNN_ACCURACY;
use faceoff_evaluation::families::neighbors::{KNN_ACCURACY, KNN_WEIGHTED_ACCURACY};
use faceoff_evaluation::{Evaluation, MetricId};

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let classified = outcome.summaries.iter().any(|row| row.metric == DNN_ACCURACY.id());
    let classifier = if classified { "DNN accuracy is the classifier\u{2019}s own. " } else { "" };
    let text = format!(
        "{classifier}KNN accuracy is that of the nearest training images in the space of embeddings, which is what a head is for where classes change. The training \
         images are the index, with their true labels; the validation images are the queries. Weighted, a neighbour counts exp(cosine / {}) instead of one.",
        outcome.settings.vote_temperature
    );
    let mut section = Section::new("accuracy", "Accuracy", "Accuracy", text);
    let seeds = |one: bool| outcome.shown().any(|variant| (outcome.runs(variant).count() == 1) == one);
    let caption = match (seeds(true), seeds(false)) {
        (true, false) => "Lines: 95 % bootstrap intervals over images; n = 1 seed, no interval over seeds.",
        (false, true) => "Lines: 95 % intervals of the mean over seeds (Student\u{2019}s t). Dots: the seeds.",
        _ => "Lines: 95 % intervals over seeds (dots; Student\u{2019}s t), or over images where n = 1 (bootstrap).",
    };
    for group in &outcome.groups {
        // Where no classifier knows the classes, no place is kept for it.
        let known = |&metric: &MetricId| group.variants.iter().any(|&v| outcome.summary(v, metric).is_some());
        let series: Vec<MetricId> = outcome.compared().filter(known).collect();
        if series.is_empty() {
            continue;
        }
        let row = |&variant: &usize| BarRow {
            name: outcome.name(variant).into(),
            bars: series.iter().map(|&metric| bar(outcome, variant, metric)).collect(),
        };
        let rows: Vec<_> = group.variants.iter().map(row).collect();
        let titles: Vec<String> = series.iter().map(|metric| metric.title()).collect();
        let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
        let alt = format!("Bar chart: {} of every variant{}, with 95 % intervals", titles.join(" and "), under(group));
        let name = (format!("accuracy{}.svg", group.suffix()), alt);
        let measure = "accuracy on the validation images";
        let said: Vec<String> = series.iter().filter_map(|&metric| range_of(outcome, group, metric)).collect();
        let picture = accuracy::bars(name, measure, caption, &titles, &rows)?;
        section.pictures.push(picture.concluding(Some(said.join(" "))));
    }
    let sizes = &outcome.neighbors;
    let (Some(&most), true) = (sizes.last(), sizes.len() > 1) else { return Ok(section) };
    for group in &outcome.groups {
        for (file, what, metric) in [
            ("knn_over_k", "KNN accuracy", &KNN_ACCURACY),
            ("knn_weighted_over_k", "KNN accuracy, weighted", &KNN_WEIGHTED_ACCURACY),
        ] {
            let curves = curves_of(outcome, group, |variant| {
                let mean = |&k: &usize| Some((k as f64, outcome.summary(variant, metric.with(k))?.summary.mean));
                sizes.iter().filter_map(mean).collect()
            });
            let x = Axis::new("neighbours k", 0.0..most as f64, 10, integer_tick);
            let y = Axis::new(what, padded(heights(&curves), 0.0, 1.0), 8, percent_tick);
            let alt = format!("Line chart: {what} of every variant{} over the number of neighbours", under(group));
            let name = (format!("{file}{}.svg", group.suffix()), alt);
            let chart = curves::chart(name, &Frame::new(x, y, sizes.len() <= 12), &curves)?;
            let rise = range(rises(&curves), points);
            let caution = caution(outcome, [group]);
            let from = sizes[0];
            let said =
                rise.map(|rise| format!("From {from} to {most} neighbours each head changes by {rise}; {caution}."));
            section.pictures.push(chart.concluding(said));
        }
    }
    Ok(section)
}
