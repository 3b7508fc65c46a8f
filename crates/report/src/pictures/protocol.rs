//! What the protocol asks for: accuracies, explained variance, training curves, confusion.

use super::{Section, curves_of, integer_tick, padded, style, under};
use crate::error::Result;
use crate::plots::accuracy::{Bar, BarRow};
use crate::plots::curves::{Curve, Frame, Panel};
use crate::plots::matrix::{Matrix, Sides};
use crate::plots::{Axes, accuracy, curves, matrix, percent_tick, plain_tick};
use faceoff_evaluation::families::classifier::DNN_ACCURACY;
use faceoff_evaluation::families::neighbors::{KNN_ACCURACY, KNN_WEIGHTED_ACCURACY};
use faceoff_evaluation::measured::Measured;
use faceoff_evaluation::selection::Run;
use faceoff_evaluation::{Evaluation, MetricId};

pub(super) fn accuracies(outcome: &Evaluation) -> Result<Section> {
    let bar = |variant: usize, metric: MetricId| {
        let row = outcome.summary(variant, metric)?;
        let interval = outcome.interval(variant, metric);
        Some(Bar { mean: row.summary.mean, interval, seeds: row.values.clone() })
    };
    let seeds = |one: bool| {
        let count = |variant| outcome.measured.iter().filter(|run| run.variant == variant).count();
        outcome.shown().any(|variant| (count(variant) == 1) == one)
    };
    let caption = match (seeds(true), seeds(false)) {
        (true, false) => "Lines: 95 % bootstrap intervals over images; n = 1 seed, no interval over seeds.",
        (false, true) => {
            "Lines: 95 % intervals of the mean over seeds (Student\u{2019}s t). Dots: the seeds."
        }
        _ => {
            "Lines: 95 % intervals over seeds (dots; Student\u{2019}s t), or over images where n = 1 (bootstrap)."
        }
    };
    let mut pictures = Vec::new();
    for group in &outcome.groups {
        // Where no classifier knows the classes, no place is kept for it.
        let series: Vec<MetricId> = outcome
            .compared()
            .filter(|&metric| {
                group.variants.iter().any(|&variant| outcome.summary(variant, metric).is_some())
            })
            .collect();
        let rows: Vec<_> = group
            .variants
            .iter()
            .map(|&variant| BarRow {
                name: outcome.name(variant).into(),
                bars: series.iter().map(|&metric| bar(variant, metric)).collect(),
            })
            .collect();
        if series.is_empty() {
            continue;
        }
        let titles: Vec<String> = series.iter().map(|metric| metric.title()).collect();
        let names: Vec<&str> = titles.iter().map(String::as_str).collect();
        pictures.push(accuracy::bars(
            &format!("accuracy{}.svg", group.suffix()),
            &format!(
                "Bar chart: {} of every variant{}, with 95 % intervals",
                names.join(" and "),
                under(group)
            ),
            "accuracy on the validation images",
            caption,
            &names,
            &rows,
        )?);
    }
    for (group, weighted) in outcome.groups.iter().flat_map(|group| [(group, false), (group, true)]) {
        let (file, what, metric) = match weighted {
            false => ("knn_over_k", "KNN accuracy", &KNN_ACCURACY),
            true => ("knn_weighted_over_k", "KNN accuracy, weighted", &KNN_WEIGHTED_ACCURACY),
        };
        if outcome.neighbors.len() < 2 {
            continue;
        }
        let curves = curves_of(outcome, group, |variant| {
            let mean = |k| Some((k as f64, outcome.summary(variant, metric.with(k))?.summary.mean));
            outcome.neighbors.iter().filter_map(|&k| mean(k)).collect()
        });
        let frame = Frame {
            axes: Axes {
                x: "neighbours k",
                y: what,
                x_ticks: 10,
                y_ticks: 8,
                format_x: integer_tick,
                format_y: percent_tick,
            },
            x_range: 0.0..outcome.neighbors.iter().copied().max().unwrap_or(1) as f64,
            y_range: padded(&curves, 0.0, 1.0),
            marks: outcome.neighbors.len() <= 12,
            reference: None,
        };
        let alt =
            format!("Line chart: {what} of every variant{} over the number of neighbours", under(group));
        pictures.push(curves::chart(&format!("{file}{}.svg", group.suffix()), &alt, &frame, &curves)?);
    }
    let classified = outcome.summaries.iter().any(|row| row.metric == DNN_ACCURACY.id());
    let classifier = if classified { "DNN accuracy is the classifier\u{2019}s own. " } else { "" };
    Ok(Section {
        id: "accuracy",
        title: "Accuracy",
        short: "Accuracy",
        text: format!(
            "{classifier}KNN accuracy is that of the nearest training images in the space of embeddings, \
             which is what a head is for where classes change. The training images are the index, with their true labels; the validation \
             images are the queries. Weighted, a neighbour counts exp(cosine / {}) instead of one.",
            outcome.settings.vote_temperature
        ),
        pictures,
        details: Vec::new(),
    })
}

pub(super) fn variance(outcome: &Evaluation) -> Result<Section> {
    let mut pictures = Vec::new();
    let counts: Vec<usize> = outcome.components.iter().copied().filter(|&count| count > 1).collect();
    for (group, &count) in outcome.groups.iter().flat_map(|g| counts.iter().map(move |count| (g, count))) {
        let curves = curves_of(outcome, group, |variant| {
            // Mean over seeds at each component; a run with fewer components has explained all it can.
            let runs: Vec<_> =
                outcome.runs(variant).filter(|run| !run.found.shapes.variance_ratios.is_empty()).collect();
            let longest =
                runs.iter().map(|run| run.found.shapes.variance_ratios.len()).max().unwrap_or(0).min(count);
            let mut sum = 0.0;
            (0..longest)
                .map(|index| {
                    let ratio =
                        |run: &&Measured| run.found.shapes.variance_ratios.get(index).copied().unwrap_or(0.0);
                    sum += runs.iter().map(ratio).sum::<f64>() / runs.len() as f64;
                    ((index + 1) as f64, sum)
                })
                .collect()
        });
        if curves.is_empty() {
            continue;
        }
        let frame = Frame {
            axes: Axes {
                x: "principal components",
                y: "explained variance, cumulative",
                x_ticks: 9,
                y_ticks: 11,
                format_x: integer_tick,
                format_y: percent_tick,
            },
            x_range: 0.0..count as f64,
            y_range: 0.0..1.0,
            marks: count <= 20,
            reference: None,
        };
        let alt = format!(
            "Line chart: share of the variance that the first components hold, up to {count}, for every variant{}",
            under(group)
        );
        let file = format!("explained_variance_{count}{}.svg", group.suffix());
        pictures.push(curves::chart(&file, &alt, &frame, &curves)?);
    }
    Ok(Section {
        id: "variance",
        title: "Explained variance",
        short: "Variance",
        text: "Principal components of the unit training embeddings; shares are of the total variance of all dimensions, so a curve need not end \
               at 100 %. A curve that is at 100 % after as many components as there are classes less one says that the embeddings have collapsed \
               to one direction a class. Means over seeds."
            .into(),
        pictures,
        details: Vec::new(),
    })
}

pub(super) fn training(outcome: &Evaluation) -> Result<Section> {
    let epochs = outcome
        .selection
        .runs
        .iter()
        .flat_map(|run| &run.history)
        .map(|record| record.epoch)
        .max()
        .unwrap_or(0);
    let mut pictures = Vec::new();
    let x_range = if epochs == 1 { 0.5..1.5 } else { 1.0..epochs as f64 };
    for group in outcome.groups.iter().filter(|_| epochs > 0) {
        let accuracies = curves_of(outcome, group, |variant| {
            let mean = |epoch: usize| {
                let at: Vec<_> = outcome
                    .selection
                    .of_variant(variant)
                    .filter_map(|run| run.history.iter().find(|record| record.epoch == epoch))
                    .map(|record| record.train_accuracy)
                    .collect();
                (!at.is_empty()).then(|| (epoch as f64, at.iter().sum::<f64>() / at.len() as f64))
            };
            (1..=epochs).filter_map(mean).collect()
        });
        let frame = Frame {
            axes: Axes {
                x: "epoch",
                y: "accuracy in training",
                x_ticks: epochs.min(11),
                y_ticks: 8,
                format_x: integer_tick,
                format_y: percent_tick,
            },
            x_range: x_range.clone(),
            y_range: padded(&accuracies, 0.0, 1.0),
            marks: epochs <= 20,
            reference: None,
        };
        let alt = format!(
            "Line chart: accuracy on the augmented training images over the epochs, for every variant{}",
            under(group)
        );
        let file = format!("train_accuracy{}.svg", group.suffix());
        pictures.push(curves::chart(&file, &alt, &frame, &accuracies)?);

        let panels: Vec<_> =
            group.variants.iter().map(|&variant| losses(outcome, variant, epochs, &x_range)).collect();
        let alt = format!(
            "Small multiples: training loss over the epochs, one panel with its own axis for each variant{}",
            under(group)
        );
        pictures.push(curves::panels(&format!("train_loss{}.svg", group.suffix()), &alt, &panels, &[])?);
    }
    Ok(Section {
        id: "training",
        title: "Training",
        short: "Training",
        text: "Accuracy on the augmented training images while training went on, labels withheld (means over seeds), and the loss of every run. \
               Losses are never to be compared across heads: each head has another scale and another lowest value; therefore every panel has an \
               axis of its own."
            .into(),
        pictures,
        details: Vec::new(),
    })
}

/// The losses of all runs of a variant, on an axis of their own.
fn losses(
    outcome: &Evaluation,
    variant: usize,
    epochs: usize,
    x_range: &std::ops::Range<f64>,
) -> Panel<'static> {
    let of_run = |run: &Run| {
        let points = run.history.iter().map(|record| (record.epoch as f64, record.train_loss));
        Curve::new(&run.name, style(outcome, variant) % 10, points.collect())
    };
    let curves: Vec<_> = outcome.selection.of_variant(variant).map(of_run).collect();
    let highest = curves.iter().flat_map(|curve| &curve.points).map(|point| point.1).fold(0.0, f64::max);
    Panel {
        title: outcome.name(variant).into(),
        frame: Frame {
            axes: Axes {
                x: "epoch",
                y: "loss, nats (own scale)",
                x_ticks: epochs.min(6),
                y_ticks: 5,
                format_x: integer_tick,
                format_y: plain_tick,
            },
            x_range: x_range.clone(),
            y_range: 0.0..if highest > 0.0 { highest * 1.08 } else { 1.0 },
            marks: epochs == 1,
            reference: None,
        },
        curves,
    }
}

pub(super) fn confusion(outcome: &Evaluation) -> Result<Section> {
    let (mut pictures, mut details) = (Vec::new(), Vec::new());
    for group in &outcome.groups {
        let names = group.classes(&outcome.selection);
        let sides =
            Sides { row_names: names, column_names: names, rows: "true class", columns: "predicted class" };
        let mut shares = Vec::new();
        for &variant in &group.variants {
            let Some(counts) = outcome.confusion(variant) else { continue };
            let totals: Vec<u64> = counts.rows().into_iter().map(|row| row.sum()).collect();
            let share =
                |((truth, _), &count): ((usize, usize), &u64)| count as f64 / totals[truth].max(1) as f64;
            let shades: Vec<f64> = counts.indexed_iter().map(share).collect();
            let name = outcome.name(variant);
            let of = |texts| Matrix { title: name.into(), shades: shades.clone(), texts, best: None };
            let blank_zero = |text: String| if text == "0" { String::new() } else { text };
            shares.push(of(shades.iter().map(|share| blank_zero(format!("{:.0}", 100.0 * share))).collect()));
            let alt = format!(
                "Confusion matrix of {name}: number of validation images by true and predicted class"
            );
            let file = format!("confusion_{name}.svg");
            let texts = counts.iter().map(|count| blank_zero(count.to_string())).collect();
            details.push(matrix::matrix(&file, &alt, &sides, 38.0, &of(texts))?);
        }
        if !shares.is_empty() {
            let alt = format!(
                "Confusion matrices of all variants{}: percent of each true class by predicted class",
                under(group)
            );
            let file = format!("confusion_all{}.svg", group.suffix());
            pictures.push(matrix::sheet(&file, &alt, &sides, sides.small_cell_px(), &shares)?);
        }
    }
    Ok(Section {
        id: "confusion",
        title: "Confusion",
        short: "Confusion",
        text: "By the head\u{2019}s highest score on the validation images, labels withheld; all seeds together. The sheet shows percent of each true class \
               (rows add up to 100), the large pictures show numbers of images. Empty cells are 0."
            .into(),
        pictures,
        details,
    })
}
