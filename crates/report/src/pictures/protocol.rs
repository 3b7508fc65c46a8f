//! What the protocol asks for: accuracies, explained variance, training curves, confusion.

use super::{Outcome, Section, integer_tick, padded};
use crate::error::Result;
use crate::metrics::{KNN, Measured, knn_metric};
use crate::plots::accuracy::{Bar, BarRow};
use crate::plots::curves::{Curve, Frame, Panel};
use crate::plots::matrix::{Matrix, Sides};
use crate::plots::{Axes, accuracy, curves, matrix, percent_tick, plain_tick};

pub(super) fn accuracies(outcome: &Outcome<'_>) -> Result<Section> {
    let bar = |variant: usize, metric: &str| {
        let row = outcome.summary(variant, metric)?;
        let interval = match row.summary.interval {
            Some(interval) => (interval.low.max(0.0), interval.high.min(1.0)),
            None => wilson(row.summary.mean, outcome.val_images[variant].labels.len()),
        };
        Some(Bar { mean: row.summary.mean, interval: Some(interval), seeds: row.values.clone() })
    };
    let knn = knn_metric(KNN);
    let rows: Vec<_> = outcome
        .variants()
        .map(|variant| BarRow {
            name: outcome.name(variant).into(),
            bars: vec![bar(variant, "dnn_accuracy"), bar(variant, &knn)],
        })
        .collect();
    let seeds = |one: bool| {
        outcome.variants().any(|variant| (outcome.selection.of_variant(variant).count() == 1) == one)
    };
    let caption = match (seeds(true), seeds(false)) {
        (true, false) => {
            "Lines: 95 % binomial intervals over images (Wilson); one seed, no spread between seeds."
        }
        (false, true) => {
            "Lines: 95 % intervals of the mean over seeds (Student\u{2019}s t). Dots: the seeds."
        }
        _ => "Lines: 95 % intervals over seeds (dots; Student\u{2019}s t), or binomial over images (Wilson).",
    };
    let mut pictures = vec![accuracy::bars(
        "accuracy.svg",
        "Bar chart: DNN and KNN accuracy of every variant, with 95 % intervals",
        caption,
        &["DNN accuracy", "KNN accuracy, k = 5"],
        &rows,
    )?];

    if outcome.neighbors.len() > 1 {
        let curves: Vec<_> = outcome
            .variants()
            .map(|variant| Curve {
                name: outcome.name(variant).into(),
                style: variant,
                points: outcome
                    .neighbors
                    .iter()
                    .filter_map(|&k| Some((k as f64, outcome.summary(variant, &knn_metric(k))?.summary.mean)))
                    .collect(),
            })
            .collect();
        let frame = Frame {
            axes: Axes {
                x: "neighbours k",
                y: "KNN accuracy",
                x_ticks: 10,
                y_ticks: 8,
                format_x: integer_tick,
                format_y: percent_tick,
            },
            x_range: 0.0..outcome.neighbors.iter().copied().max().unwrap_or(1) as f64,
            y_range: padded(&curves, 0.0, 1.0),
            marks: true,
            reference: None,
        };
        let alt = "Line chart: KNN accuracy of every variant over the number of neighbours";
        pictures.push(curves::chart("knn_over_k.svg", alt, &frame, &curves)?);
    }
    Ok(Section {
        id: "accuracy",
        title: "Accuracy",
        short: "Accuracy",
        text: "DNN accuracy is the classifier\u{2019}s own; KNN accuracy is that of the nearest training images in the space of embeddings, \
               which is what a head is for where classes change. The training images are the index, with their true labels; the validation \
               images are the queries."
            .into(),
        pictures,
        details: Vec::new(),
    })
}

/// 95 % interval of a share of `n` (Wilson 1927).
fn wilson(share: f64, n: usize) -> (f64, f64) {
    let (n, z) = (n as f64, 1.959_963_984_540_054);
    let middle = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    (middle - half, middle + half)
}

pub(super) fn variance(outcome: &Outcome<'_>) -> Result<Section> {
    let mut pictures = Vec::new();
    for count in outcome.components.iter().copied().filter(|&count| count > 1) {
        let mut curves = Vec::new();
        for variant in outcome.variants() {
            // Mean over seeds at each component; a run with fewer components has explained all it can.
            let runs: Vec<_> = outcome.runs(variant).filter(|run| !run.variance_ratios.is_empty()).collect();
            let longest = runs.iter().map(|run| run.variance_ratios.len()).max().unwrap_or(0).min(count);
            let mut sum = 0.0;
            let points: Vec<_> = (0..longest)
                .map(|index| {
                    let ratio = |run: &&Measured| run.variance_ratios.get(index).copied().unwrap_or(0.0);
                    sum += runs.iter().map(ratio).sum::<f64>() / runs.len() as f64;
                    ((index + 1) as f64, sum)
                })
                .collect();
            if !points.is_empty() {
                curves.push(Curve { name: outcome.name(variant).into(), style: variant, points });
            }
        }
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
            "Line chart: share of the variance that the first components hold, up to {count}, for every variant"
        );
        pictures.push(curves::chart(&format!("explained_variance_{count}.svg"), &alt, &frame, &curves)?);
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

pub(super) fn training(outcome: &Outcome<'_>) -> Result<Section> {
    let epochs = outcome
        .selection
        .runs
        .iter()
        .flat_map(|run| &run.history)
        .map(|record| record.epoch)
        .max()
        .unwrap_or(0);
    let mut pictures = Vec::new();
    if epochs > 0 {
        let x_range = if epochs == 1 { 0.5..1.5 } else { 1.0..epochs as f64 };
        let mut panels = Vec::new();
        let mut accuracies = Vec::new();
        for variant in outcome.variants() {
            let runs: Vec<_> = outcome.selection.of_variant(variant).collect();
            let losses: Vec<_> = runs
                .iter()
                .map(|run| Curve {
                    name: run.name.clone(),
                    style: variant % 10,
                    points: run
                        .history
                        .iter()
                        .map(|record| (record.epoch as f64, record.train_loss))
                        .collect(),
                })
                .collect();
            let highest =
                losses.iter().flat_map(|curve| &curve.points).map(|point| point.1).fold(0.0, f64::max);
            panels.push(Panel {
                title: outcome.name(variant).into(),
                frame: Frame {
                    axes: Axes {
                        x: "epoch",
                        y: "loss (own scale)",
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
                curves: losses,
            });
            let mean = |epoch: usize| {
                let at: Vec<_> = runs
                    .iter()
                    .filter_map(|run| run.history.iter().find(|record| record.epoch == epoch))
                    .map(|record| record.train_accuracy)
                    .collect();
                (!at.is_empty()).then(|| (epoch as f64, at.iter().sum::<f64>() / at.len() as f64))
            };
            accuracies.push(Curve {
                name: outcome.name(variant).into(),
                style: variant,
                points: (1..=epochs).filter_map(mean).collect(),
            });
        }
        let frame = Frame {
            axes: Axes {
                x: "epoch",
                y: "accuracy in training",
                x_ticks: epochs.min(11),
                y_ticks: 8,
                format_x: integer_tick,
                format_y: percent_tick,
            },
            x_range,
            y_range: padded(&accuracies, 0.0, 1.0),
            marks: epochs <= 20,
            reference: None,
        };
        let alt = "Line chart: accuracy on the augmented training images over the epochs, for every variant";
        pictures.push(curves::chart("train_accuracy.svg", alt, &frame, &accuracies)?);
        let alt =
            "Small multiples: training loss over the epochs, one panel with its own axis for each variant";
        pictures.push(curves::panels("train_loss.svg", alt, &panels, &[])?);
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

pub(super) fn confusion(outcome: &Outcome<'_>) -> Result<Section> {
    let sides = Sides { names: outcome.classes, rows: "true class", columns: "predicted class" };
    let (mut shares, mut details) = (Vec::new(), Vec::new());
    for variant in outcome.variants() {
        let Some(counts) = outcome.confusion(variant) else { continue };
        let totals: Vec<u64> = counts.rows().into_iter().map(|row| row.sum()).collect();
        let share = |((truth, _), &count): ((usize, usize), &u64)| count as f64 / totals[truth].max(1) as f64;
        let shades: Vec<f64> = counts.indexed_iter().map(share).collect();
        let name = outcome.name(variant);
        let of = |texts| Matrix { title: name.into(), shades: shades.clone(), texts };
        let blank_zero = |text: String| if text == "0" { String::new() } else { text };
        shares.push(of(shades.iter().map(|share| blank_zero(format!("{:.0}", 100.0 * share))).collect()));
        let alt =
            format!("Confusion matrix of {name}: number of validation images by true and predicted class");
        let file = format!("confusion_{name}.svg");
        let texts = counts.iter().map(|count| blank_zero(count.to_string())).collect();
        details.push(matrix::matrix(&file, &alt, &sides, 38.0, &of(texts))?);
    }
    let mut pictures = Vec::new();
    if !shares.is_empty() {
        let alt = "Confusion matrices of all variants: percent of each true class by predicted class";
        pictures.push(matrix::sheet("confusion_all.svg", alt, &sides, 26.0, &shares)?);
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
