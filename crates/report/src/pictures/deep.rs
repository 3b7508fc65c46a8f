//! Beyond the protocol: ranks, verification, geometry, calibration.

use super::{Section, curves_of, under};
use crate::error::Result;
use crate::plots::curves::{Curve, Frame, Panel};
use crate::plots::matrix::{Matrix, Sides};
use crate::plots::ranks::Ranking;
use crate::plots::{self, Axes, curves, matrix, percent_tick};
use faceoff_analysis::statistics;
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::groups::Group;
use faceoff_evaluation::measured::{Measured, PairCurves};

/// First runs of a group's variants: those whose shapes are kept.
fn first_runs<'a>(outcome: &'a Evaluation, group: &'a Group) -> impl Iterator<Item = &'a Measured> {
    let measured = &outcome.measured;
    group.variants.iter().filter_map(move |&variant| measured.iter().find(|run| run.variant == variant))
}

pub(super) fn ranks(outcome: &Evaluation) -> Result<Section> {
    let mut pictures = Vec::new();
    for ranks in &outcome.comparisons.ranks {
        let Some(critical_difference) = ranks.test.critical_difference else { continue };
        let names: Vec<String> = ranks.variants.iter().map(|&variant| outcome.name(variant).into()).collect();
        let title = ranks.metric.title();
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

/// The lowest false accept rate shown, as a power of ten.
const LOWEST: f64 = -4.0;

pub(super) fn verification(outcome: &Evaluation) -> Result<Section> {
    let mut pictures = Vec::new();
    for group in &outcome.groups {
        let found: Vec<(usize, &PairCurves)> = first_runs(outcome, group)
            .filter_map(|run| Some((run.variant, run.found.shapes.verification.as_ref()?)))
            .collect();
        if found.is_empty() {
            continue;
        }
        let curves = curves_of(outcome, group, |variant| {
            let Some((_, found)) = found.iter().find(|(other, _)| *other == variant) else {
                return Vec::new();
            };
            let points = found.roc.iter().filter(|(far, _)| *far >= 10_f64.powf(LOWEST) * 0.999);
            points.map(|&(far, tar)| (far.log10().max(LOWEST), tar)).collect()
        });
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
        let alt = format!(
            "ROC curves: true accept rate over false accept rate of pairs of validation images, for every variant{}",
            under(group)
        );
        pictures.push(curves::chart(&format!("roc{}.svg", group.suffix()), &alt, &frame, &curves)?);

        let reach = reach(found.iter().map(|(_, found)| *found));
        let panels: Vec<_> =
            found.iter().map(|&(variant, found)| angles(outcome.name(variant), found, reach)).collect();
        let alt = format!(
            "Small multiples: distributions of the angles within and between classes, one panel for each variant{}",
            under(group)
        );
        let legend = [("pairs of one class", 0), ("pairs of two classes", 1)];
        pictures.push(curves::panels(&format!("angles{}.svg", group.suffix()), &alt, &panels, &legend)?);
    }
    Ok(Section {
        id: "verification",
        title: "Verification",
        short: "Verification",
        text: "Do two validation images show the same class? All pairs, by the cosine of their embeddings; first seed of each variant. The ROC curve says how many \
               pairs of one class are accepted at a given share of accepted pairs of two. The angles behind it stand in the small panels: the less the two \
               curves overlap, the better."
            .into(),
        pictures,
        details: Vec::new(),
    })
}

/// The distributions of angles of one variant.
fn angles(name: &str, found: &PairCurves, reach: f64) -> Panel<'static> {
    let highest =
        [&found.intra_class, &found.inter_class].map(|angles| most(angles)).into_iter().fold(0.0, f64::max);
    Panel {
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
            x_range: 0.0..reach,
            y_range: 0.0..highest * 1.06,
            marks: false,
            reference: None,
        },
        curves: vec![
            Curve::new("one class", 0, distribution(&found.intra_class)),
            Curve::new("two classes", 1, distribution(&found.inter_class)),
        ],
    }
}

/// (middle of the degree, share of the pairs) of all bins up to the last that any variant uses.
fn distribution(angles: &[u64]) -> Vec<(f64, f64)> {
    let total = angles.iter().sum::<u64>().max(1) as f64;
    let used = last_used(angles);
    let bins = angles.iter().take(used).enumerate();
    bins.map(|(degree, &pairs)| (degree as f64 + 0.5, pairs as f64 / total)).collect()
}

fn last_used(angles: &[u64]) -> usize {
    angles.iter().rposition(|&pairs| pairs > 0).map_or(1, |last| last + 1)
}

fn most(angles: &[u64]) -> f64 {
    distribution(angles).iter().map(|point| point.1).fold(0.0, f64::max)
}

/// The greatest angle of all variants, to the next 30 degrees: all panels have one axis.
fn reach<'a>(all: impl Iterator<Item = &'a PairCurves>) -> f64 {
    let greatest = all.map(|found| last_used(&found.intra_class).max(last_used(&found.inter_class))).max();
    (greatest.unwrap_or(180) as f64 / 30.0).ceil() * 30.0
}

pub(super) fn geometry(outcome: &Evaluation) -> Result<Section> {
    let (mut pictures, mut details) = (Vec::new(), Vec::new());
    for group in &outcome.groups {
        let names = group.classes(&outcome.selection);
        let count = names.len();
        let sides = Sides { row_names: names, column_names: names, rows: "class", columns: "class" };
        let mut matrices = Vec::new();
        for run in first_runs(outcome, group) {
            let Some(centers) = &run.found.shapes.centers else { continue };
            let mut shades = vec![0.0; count * count];
            let mut texts = vec![String::new(); count * count];
            let angles = centers.classes.iter().zip(&centers.degrees);
            let angles =
                angles.flat_map(|(&i, row)| centers.classes.iter().zip(row).map(move |(&j, a)| (i, j, a)));
            for (i, j, angle) in angles.filter(|(i, j, _)| i != j) {
                let at = i as usize * count + j as usize;
                // Near centres are what matters: the darker, the nearer; right angles and more are white.
                shades[at] = (1.0 - angle / 90.0).clamp(0.0, 1.0);
                texts[at] = format!("{angle:.0}");
            }
            let matrix = Matrix { title: outcome.name(run.variant).into(), shades, texts, best: None };
            let alt = format!("Angles between the class centres of {}, in degrees", matrix.title);
            let file = format!("centers_{}.svg", matrix.title);
            details.push(matrix::matrix(&file, &alt, &sides, 38.0, &matrix)?);
            matrices.push(matrix);
        }
        if !matrices.is_empty() {
            let alt = format!(
                "Angles between class centres in degrees, one matrix for each variant{}",
                under(group)
            );
            let file = format!("centers_all{}.svg", group.suffix());
            pictures.push(matrix::sheet(&file, &alt, &sides, sides.small_cell_px(), &matrices)?);
        }
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

pub(super) fn calibration(outcome: &Evaluation) -> Result<Section> {
    let mut pictures = Vec::new();
    for group in &outcome.groups {
        let mut panels = Vec::new();
        for run in first_runs(outcome, group) {
            let bins = &run.found.shapes.reliability;
            if bins.is_empty() {
                continue;
            }
            panels.push(Panel {
                title: outcome.name(run.variant).into(),
                frame: Frame {
                    axes: Axes {
                        x: "confidence",
                        y: "accuracy",
                        x_ticks: 5,
                        y_ticks: 5,
                        format_x: percent_tick,
                        format_y: percent_tick,
                    },
                    x_range: 0.0..1.0,
                    y_range: 0.0..1.0,
                    marks: true,
                    reference: Some([(0.0, 0.0), (1.0, 1.0)]),
                },
                curves: vec![Curve::new(
                    "accuracy",
                    0,
                    bins.iter().map(|bin| (bin.confidence, bin.accuracy)).collect(),
                )],
            });
        }
        if !panels.is_empty() {
            let alt = format!(
                "Reliability diagrams: accuracy over confidence in 15 bins, one panel for each variant{}",
                under(group)
            );
            pictures.push(curves::panels(&format!("calibration{}.svg", group.suffix()), &alt, &panels, &[])?);
        }
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
