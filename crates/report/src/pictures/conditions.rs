//! Pictures of the protocols: label noise, unseen classes, scale against margin, and the trials of tuning.

use super::{Section, distinct, padded};
use crate::error::Result;
use crate::plots::accuracy::{Bar, BarRow};
use crate::plots::curves::{Curve, Frame, Panel};
use crate::plots::matrix::{Matrix, Sides};
use crate::plots::{Axes, accuracy, curves, matrix, percent_tick};
use faceoff_evaluation::families::{retrieval, verification};
use faceoff_evaluation::selection::Variant;
use faceoff_evaluation::{Direction, Evaluation};
use faceoff_runs::{HeadConfig, Trial};

fn section(id: &'static str, title: &'static str, short: &'static str, text: impl Into<String>) -> Section {
    Section { id, title, short, text: text.into(), pictures: Vec::new(), details: Vec::new() }
}

/// Names of the shown variants without their conditions, in order.
fn bases(outcome: &Evaluation) -> Vec<&str> {
    let variants = &outcome.selection.variants;
    distinct(outcome.shown().map(|variant| variants[variant].base.as_str()))
}

/// The variants whose training labels were noisy, and those they are compared with; empty without noise.
pub(crate) fn noise_variants(outcome: &Evaluation) -> Vec<usize> {
    let variants = &outcome.selection.variants;
    let levels = distinct(variants.iter().map(|variant| variant.noise_percent));
    if levels.len() < 2 { Vec::new() } else { (0..variants.len()).collect() }
}

pub(super) fn noise(outcome: &Evaluation) -> Result<Section> {
    let mut section = section(
        "noise",
        "Accuracy against label noise",
        "Label noise",
        "A share of the training labels is wrong, from the data set\u{2019}s own columns; every accuracy is against the true labels, and the index of KNN has its true \
         labels too. Means over seeds; upright lines are 95 % intervals over seeds where there are at least two (Student\u{2019}s t), else over images (bootstrap). \
         Points of one noise level stand a little apart so that they can be told from each other.",
    );
    let all = noise_variants(outcome);
    let variants = &outcome.selection.variants;
    for metric in outcome.compared() {
        let title = metric.title();
        let bases = bases(outcome);
        let mut lines = Vec::new();
        for (place, base) in bases.iter().enumerate() {
            let apart = 0.35 * (place as f64 - (bases.len() as f64 - 1.0) / 2.0);
            let mut rows: Vec<(f64, f64, (f64, f64))> = Vec::new();
            for &variant in all.iter().filter(|&&variant| variants[variant].base == *base) {
                let Some(row) = outcome.summary(variant, metric) else { continue };
                let mean = row.summary.mean;
                let (low, high) = outcome.interval(variant, metric).unwrap_or((mean, mean));
                rows.push((f64::from(variants[variant].noise_percent) + apart, mean, (low, high)));
            }
            rows.sort_by(|a, b| a.0.total_cmp(&b.0));
            if rows.len() > 1 {
                let mut curve =
                    Curve::new(base, place, rows.iter().map(|&(noise, mean, _)| (noise, mean)).collect());
                curve.intervals = rows.iter().map(|row| row.2).collect();
                lines.push(curve);
            }
        }
        if lines.is_empty() {
            continue;
        }
        let highest = all.iter().map(|&variant| variants[variant].noise_percent).max().unwrap_or(0);
        let ends: Vec<Curve> = lines
            .iter()
            .map(|line| {
                let points = line.intervals.iter().flat_map(|&(low, high)| [(0.0, low), (0.0, high)]);
                Curve::new("", 0, points.collect())
            })
            .collect();
        let frame = Frame {
            axes: Axes {
                x: "wrong training labels",
                y: &title,
                x_ticks: 6,
                y_ticks: 8,
                format_x: |value| format!("{value} %"),
                format_y: percent_tick,
            },
            x_range: -2.0..f64::from(highest) + 2.0,
            y_range: padded(&ends, 0.0, 1.0),
            marks: true,
            reference: None,
        };
        let alt =
            format!("Line chart: {title} over the share of wrong training labels, a line for each head");
        section.pictures.push(curves::chart(&format!("noise_{metric}.svg"), &alt, &frame, &lines)?);
    }
    Ok(section)
}

pub(super) fn unseen(outcome: &Evaluation) -> Result<Section> {
    let mut section = section(
        "unseen",
        "Classes never seen in training",
        "Unseen classes",
        "The evaluated classes were held out from training; each condition holds out other classes. There is no classifier of them, so retrieval and verification speak: \
         every validation image against all others of the held-out classes. Lines are 95 % intervals over seeds where there are at least two (Student\u{2019}s t).",
    );
    let variants = &outcome.selection.variants;
    let conditions = distinct(
        outcome.shown().filter(|&v| variants[v].unseen).map(|variant| variants[variant].condition.as_str()),
    );
    if conditions.is_empty() {
        return Ok(section);
    }
    let shown = [
        retrieval::LOO_PRECISION_AT_1.id(),
        retrieval::LOO_MAP_AT_R.id(),
        verification::TAR_AT_FAR.with(2),
        verification::EQUAL_ERROR_RATE.id(),
    ];
    for metric in shown {
        let title = metric.title();
        let bar = |base: &str, condition: &str| {
            let variant =
                outcome.shown().find(|&v| variants[v].base == base && variants[v].condition == condition)?;
            let row = outcome.summary(variant, metric)?;
            let interval =
                row.summary.interval.map(|interval| (interval.low.max(0.0), interval.high.min(1.0)));
            Some(Bar { mean: row.summary.mean, interval, seeds: row.values.clone() })
        };
        let rows: Vec<_> = bases(outcome)
            .into_iter()
            .map(|base| BarRow {
                name: base.into(),
                bars: conditions.iter().map(|condition| bar(base, condition)).collect(),
            })
            .collect();
        if rows.iter().all(|row| row.bars.iter().all(Option::is_none)) {
            continue;
        }
        let lower = match metric.metric().direction {
            Direction::Lower => " Lower is better.",
            Direction::Higher | Direction::Neither => "",
        };
        section.pictures.push(accuracy::bars(
            &format!("unseen_{metric}.svg"),
            &format!("Bar chart: {title} of every head on classes never seen in training"),
            &format!("{title} on held-out classes"),
            &format!("Held out: see the conditions in Method.{lower}"),
            &conditions,
            &rows,
        )?);
    }
    Ok(section)
}

/// The variants of heads that have most combinations of at least two scales and two margins; empty without such a head.
pub(crate) fn grid_variants(outcome: &Evaluation) -> Vec<usize> {
    let variants = &outcome.selection.variants;
    let head =
        |variant: &Variant| variant.config.as_ref().and_then(|head| Some((head.scale()?, head.margin()?)));
    let is_grid = |variant: &Variant| {
        let twin = |twin: &&Variant| twin.head == variant.head && twin.condition == variant.condition;
        let twins = || variants.iter().filter(twin).filter_map(head);
        let scales = distinct(twins().map(|(scale, _)| scale)).len();
        let margins = distinct(twins().map(|(_, margin)| margin.value())).len();
        // Scattered settings make no map.
        scales > 1 && margins > 1 && 2 * twins().count() >= scales * margins
    };
    let fits = |&index: &usize| head(&variants[index]).is_some() && is_grid(&variants[index]);
    (0..variants.len()).filter(fits).collect()
}

pub(super) fn grid(outcome: &Evaluation) -> Result<Section> {
    let mut section = section(
        "grid",
        "Scale against margin",
        "Scale and margin",
        "Accuracy of every combination of scale s and margin m, means over seeds; the highest of a map is framed. Each map has shades of its own, from its lowest to its \
         highest value. The maps are read on the validation images, so a choice made from them is exploratory: cargo xtask tune chooses on a part of the training images. \
         Everywhere else in this report a head stands with its combination of the highest KNN accuracy.",
    );
    let variants = &outcome.selection.variants;
    let all = grid_variants(outcome);
    let heads = distinct(
        all.iter().map(|&variant| (variants[variant].head.as_str(), variants[variant].condition.as_str())),
    );
    for (head, condition) in heads {
        let cells: Vec<(usize, f64, f64, &str)> = all
            .iter()
            .copied()
            .filter(|&v| variants[v].head == head && variants[v].condition == condition)
            .filter_map(|variant| {
                let config: &HeadConfig = variants[variant].config.as_ref()?;
                let margin = config.margin()?;
                Some((variant, config.scale()?, margin.value(), margin.unit()))
            })
            .collect();
        let sorted = |value: fn(&(usize, f64, f64, &str)) -> f64| {
            let mut values = distinct(cells.iter().map(value));
            values.sort_by(f64::total_cmp);
            values
        };
        let (scales, margins) = (sorted(|cell| cell.1), sorted(|cell| cell.2));
        let texts = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>();
        let (row_names, column_names) = (texts(&margins), texts(&scales));
        let unit = cells.first().map_or("", |cell| cell.3);
        let mut maps = Vec::new();
        for metric in outcome.compared() {
            let mut values = vec![None; scales.len() * margins.len()];
            for &(variant, scale, margin, _) in &cells {
                let place = |all: &[f64], value: f64| all.iter().position(|&other| other == value);
                if let (Some(row), Some(column)) = (place(&margins, margin), place(&scales, scale)) {
                    values[row * scales.len() + column] =
                        outcome.summary(variant, metric).map(|row| row.summary.mean);
                }
            }
            let known = || values.iter().flatten().copied();
            let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(0.0, f64::max));
            if low.is_infinite() {
                continue;
            }
            let shade = |value: &Option<f64>| value.map_or(0.0, |v| (v - low) / (high - low).max(1e-9));
            maps.push(Matrix {
                title: format!("{}{}", metric.title(), metric.unit_suffix()),
                shades: values.iter().map(shade).collect(),
                texts: values
                    .iter()
                    .map(|value| value.map_or("\u{2013}".into(), |v| format!("{:.1}", 100.0 * v)))
                    .collect(),
                best: values.iter().position(|&value| value == Some(high)),
            });
        }
        let margin = match unit {
            "radians" => format!("{head}: margin m, radians"),
            _ => format!("{head}: margin m, cosine"),
        };
        let sides =
            Sides { row_names: &row_names, column_names: &column_names, rows: &margin, columns: "scale s" };
        let suffix = if condition.is_empty() { String::new() } else { format!("_{condition}") };
        let alt = format!("Heat maps: DNN and KNN accuracy of {head} by scale and margin");
        if !maps.is_empty() {
            section.pictures.push(matrix::sheet(
                &format!("scale_margin_{head}{suffix}.svg"),
                &alt,
                &sides,
                52.0,
                &maps,
            )?);
        }
    }
    Ok(section)
}

/// Powers of ten as numbers.
fn power_tick(exponent: &f64) -> String {
    format!("{:.1e}", 10_f64.powf(*exponent))
}

pub(super) fn trials(outcome: &Evaluation) -> Result<Section> {
    let mut section = section(
        "tuning",
        "Tuning",
        "Tuning",
        "Every head had the same budget of trials: the experiment\u{2019}s own setting and the same points of peak learning rate, scale and margin. Each trial was trained on nine \
         tenths of the training images and scored on the tenth held back; no validation image was seen. The amber square is the setting chosen by KNN accuracy (k = 5).",
    );
    let scored: Vec<(&Trial, f64)> =
        outcome.trials.iter().filter_map(|trial| Some((trial, trial.knn_accuracy?))).collect();
    if scored.is_empty() {
        return Ok(section);
    }
    let rates: Vec<f64> = scored.iter().map(|(trial, _)| trial.peak_learning_rate.log10()).collect();
    let lowest = rates.iter().copied().fold(f64::INFINITY, f64::min) - 0.1;
    let highest = rates.iter().copied().fold(f64::NEG_INFINITY, f64::max) + 0.1;
    let every: Vec<Curve> = vec![Curve::new("", 0, scored.iter().map(|&(_, knn)| (0.0, knn)).collect())];
    let y_range = padded(&every, 0.0, 1.0);
    let panels: Vec<_> = distinct(scored.iter().map(|(trial, _)| trial.head.as_str()))
        .into_iter()
        .map(|head| {
            // A curve of one point each: points of other scales and margins are not to be joined.
            let curves = scored.iter().filter(|(trial, _)| trial.head == head).map(|(trial, knn)| {
                let style = usize::from(trial.chosen);
                Curve::new("", style, vec![(trial.peak_learning_rate.log10(), *knn)])
            });
            Panel {
                title: head.into(),
                frame: Frame {
                    axes: Axes {
                        x: "peak learning rate (logarithmic)",
                        y: "KNN accuracy",
                        x_ticks: 6,
                        y_ticks: 5,
                        format_x: power_tick,
                        format_y: percent_tick,
                    },
                    x_range: lowest..highest,
                    y_range: y_range.clone(),
                    marks: true,
                    reference: None,
                },
                curves: curves.collect(),
            }
        })
        .collect();
    let alt = "Small multiples: KNN accuracy on the held-back tenth over the peak learning rate, one panel for each head";
    section.pictures.push(curves::panels("tuning.svg", alt, &panels, &[("tried", 0), ("chosen", 1)])?);
    Ok(section)
}
