//! Beyond the protocol: ranks, verification, geometry, calibration.

use super::{Outcome, Section};
use crate::error::Result;
use crate::metrics::Measured;
use crate::metrics::definitions::definition;
use crate::plots::curves::{Curve, Frame, Panel};
use crate::plots::matrix::{Matrix, Sides};
use crate::plots::ranks::Ranking;
use crate::plots::{self, Axes, curves, matrix, percent_tick, plain_tick};
use faceoff_analysis::statistics;
use faceoff_analysis::verification::Angles;

/// First runs of the variants: those whose shapes are kept.
fn first_runs<'a>(outcome: &Outcome<'a>) -> impl Iterator<Item = &'a Measured> {
    let measured = outcome.measured;
    outcome.variants().filter_map(move |variant| measured.iter().find(|run| run.variant == variant))
}

pub(super) fn ranks(outcome: &Outcome<'_>) -> Result<Section> {
    let mut pictures = Vec::new();
    for ranks in &outcome.comparisons.ranks {
        let Some(critical_difference) = ranks.test.critical_difference else { continue };
        let names: Vec<String> = ranks.variants.iter().map(|&variant| outcome.name(variant).into()).collect();
        let title = definition(&ranks.metric).title;
        let groups = statistics::indistinguishable_groups(&ranks.test.average_ranks, critical_difference);
        let p = match ranks.test.p {
            Some(p) => format!("Friedman\u{2019}s test: p = {p:.2e}."),
            None => String::new(),
        };
        let caption = format!("{title}: mean ranks over {} seeds, 1 is best. {p}", ranks.seeds);
        let condition =
            if ranks.condition.is_empty() { String::new() } else { format!("_{}", ranks.condition) };
        let file = format!("ranks_{}{condition}.svg", ranks.metric);
        let alt = format!("Critical-difference diagram: mean ranks of the variants by {title}");
        let ranking = Ranking {
            names: &names,
            average_ranks: &ranks.test.average_ranks,
            critical_difference,
            groups: &groups,
            caption: &caption,
        };
        pictures.push(plots::ranks::ranks(&file, &alt, &ranking)?);
    }
    Ok(Section {
        id: "ranks",
        title: "Ranks over seeds",
        short: "Ranks",
        text: "Mean rank of each variant over the seeds that all of them have. Variants under one thick bar differ by less than Nemenyi\u{2019}s critical \
               difference at 5 %: these seeds do not tell them apart."
            .into(),
        pictures,
        details: Vec::new(),
    })
}

/// Powers of ten as percent.
fn power_tick(exponent: &f64) -> String {
    if (exponent - exponent.round()).abs() > 1e-9 {
        return String::new();
    }
    let percent = 10_f64.powi(exponent.round() as i32 + 2);
    format!("{} %", (percent * 1e6).round() / 1e6)
}

fn degrees_tick(degrees: &f64) -> String {
    format!("{degrees:.0}\u{b0}")
}

pub(super) fn verification(outcome: &Outcome<'_>) -> Result<Section> {
    /// The lowest false accept rate shown, as a power of ten.
    const LOWEST: f64 = -4.0;
    let (mut curves_of_all, mut panels) = (Vec::new(), Vec::new());
    for run in first_runs(outcome) {
        let Some(found) = &run.shapes.verification else { continue };
        let name = outcome.name(run.variant);
        let points = found.roc.iter().filter(|(far, _)| *far >= 10_f64.powf(LOWEST) * 0.999);
        curves_of_all.push(Curve {
            name: name.into(),
            style: run.variant,
            points: points.map(|&(far, tar)| (far.log10().max(LOWEST), tar)).collect(),
        });
        let highest = [&found.intra_class, &found.inter_class].map(most).into_iter().fold(0.0, f64::max);
        panels.push(Panel {
            title: name.into(),
            frame: Frame {
                axes: Axes {
                    x: "angle between two images",
                    y: "pairs a degree",
                    x_ticks: 5,
                    y_ticks: 5,
                    format_x: degrees_tick,
                    format_y: percent_tick,
                },
                x_range: 0.0..reach(outcome),
                y_range: 0.0..highest * 1.06,
                marks: false,
                reference: None,
            },
            curves: vec![
                Curve { name: "one class".into(), style: 0, points: distribution(&found.intra_class) },
                Curve { name: "two classes".into(), style: 1, points: distribution(&found.inter_class) },
            ],
        });
    }
    let mut pictures = Vec::new();
    if !panels.is_empty() {
        let frame = Frame {
            axes: Axes {
                x: "false accept rate (logarithmic)",
                y: "true accept rate",
                x_ticks: 5,
                y_ticks: 11,
                format_x: power_tick,
                format_y: percent_tick,
            },
            x_range: LOWEST..0.0,
            y_range: 0.0..1.0,
            marks: false,
            reference: None,
        };
        let alt = "ROC curves: true accept rate over false accept rate of pairs of validation images, for every variant";
        pictures.push(curves::chart("roc.svg", alt, &frame, &curves_of_all)?);
        let alt = "Small multiples: distributions of the angles within and between classes, one panel for each variant";
        let legend = [("pairs of one class", 0), ("pairs of two classes", 1)];
        pictures.push(curves::panels("angles.svg", alt, &panels, &legend)?);
    }
    Ok(Section {
        id: "verification",
        title: "Verification",
        short: "Verification",
        text: "Do two validation images show the same class? All pairs, by the cosine of their embeddings; first seed of each variant. Left: how many pairs \
               of one class are accepted at a given share of accepted pairs of two. Below: the angles behind it; the less the two curves overlap, the \
               better."
            .into(),
        pictures,
        details: Vec::new(),
    })
}

/// (middle of the degree, share of the pairs) of all bins up to the last that any variant uses.
fn distribution(angles: &Angles) -> Vec<(f64, f64)> {
    let total = angles.histogram.iter().sum::<u64>().max(1) as f64;
    let used = last_used(angles);
    let bins = angles.histogram.iter().take(used).enumerate();
    bins.map(|(degree, &pairs)| (degree as f64 + 0.5, pairs as f64 / total)).collect()
}

fn last_used(angles: &Angles) -> usize {
    angles.histogram.iter().rposition(|&pairs| pairs > 0).map_or(1, |last| last + 1)
}

fn most(angles: &Angles) -> f64 {
    distribution(angles).iter().map(|point| point.1).fold(0.0, f64::max)
}

/// The greatest angle of all variants, to the next 30 degrees: all panels have one axis.
fn reach(outcome: &Outcome<'_>) -> f64 {
    let greatest = first_runs(outcome)
        .filter_map(|run| run.shapes.verification.as_ref())
        .map(|found| last_used(&found.intra_class).max(last_used(&found.inter_class)))
        .max();
    (greatest.unwrap_or(180) as f64 / 30.0).ceil() * 30.0
}

pub(super) fn geometry(outcome: &Outcome<'_>) -> Result<Section> {
    let count = outcome.classes.len();
    let (mut matrices, mut details) = (Vec::new(), Vec::new());
    let sides = Sides { names: outcome.classes, rows: "class", columns: "class" };
    for run in first_runs(outcome) {
        let Some(centers) = &run.shapes.centers else { continue };
        let mut shades = vec![0.0; count * count];
        let mut texts = vec![String::new(); count * count];
        for ((i, j), &angle) in centers.degrees.indexed_iter().filter(|((i, j), _)| i != j) {
            let at = centers.classes[i] as usize * count + centers.classes[j] as usize;
            // Near centres are what matters: the darker, the nearer; right angles and more are white.
            shades[at] = (1.0 - angle / 90.0).clamp(0.0, 1.0);
            texts[at] = format!("{angle:.0}");
        }
        let matrix = Matrix { title: outcome.name(run.variant).into(), shades, texts };
        let alt = format!("Angles between the class centres of {}, in degrees", matrix.title);
        let file = format!("centers_{}.svg", matrix.title);
        details.push(matrix::matrix(&file, &alt, &sides, 38.0, &matrix)?);
        matrices.push(matrix);
    }
    let mut pictures = Vec::new();
    if !matrices.is_empty() {
        let alt = "Angles between class centres in degrees, one matrix for each variant";
        pictures.push(matrix::sheet("centers_all.svg", alt, &sides, 26.0, &matrices)?);
    }
    Ok(Section {
        id: "geometry",
        title: "Angles between class centres",
        short: "Geometry",
        text: "Degrees between the mean directions of the classes of the validation images; first seed of each variant. Dark: near centres, hence classes that are \
               easily taken for each other. Right angles and more are white."
            .into(),
        pictures,
        details,
    })
}

pub(super) fn calibration(outcome: &Outcome<'_>) -> Result<Section> {
    let mut panels = Vec::new();
    for run in first_runs(outcome) {
        let Some(found) = &run.shapes.calibration else { continue };
        let bins = found.bins.iter().filter(|bin| bin.count > 0);
        panels.push(Panel {
            title: outcome.name(run.variant).into(),
            frame: Frame {
                axes: Axes {
                    x: "confidence",
                    y: "accuracy",
                    x_ticks: 5,
                    y_ticks: 5,
                    format_x: plain_tick,
                    format_y: plain_tick,
                },
                x_range: 0.0..1.0,
                y_range: 0.0..1.0,
                marks: true,
                reference: Some([(0.0, 0.0), (1.0, 1.0)]),
            },
            curves: vec![Curve {
                name: "accuracy".into(),
                style: 0,
                points: bins.map(|bin| (bin.confidence, bin.accuracy)).collect(),
            }],
        });
    }
    let mut pictures = Vec::new();
    if !panels.is_empty() {
        let alt = "Reliability diagrams: accuracy over confidence in 15 bins, one panel for each variant";
        pictures.push(curves::panels("calibration.svg", alt, &panels, &[])?);
    }
    Ok(Section {
        id: "calibration",
        title: "Calibration",
        short: "Calibration",
        text: "Is a prediction of 80 % confidence right in 80 % of cases? Validation images in 15 bins by the highest probability, softmax of the scores times the \
               head\u{2019}s scale; first seed of each variant. Below the dashed diagonal the head is too sure, above it not sure enough. Scales differ from \
               head to head, and so does confidence: this is no measure of the embeddings."
            .into(),
        pictures,
        details: Vec::new(),
    })
}
