//! How heads fared: angles to the class weights over the epochs and at the end, and the probability at each angle.

use super::{Section, first_runs, heights, integer_tick, name_of, percent, range_of, range_sentence};
use crate::error::Result;
use crate::plots::curves::{Curve, Frame, Panel};
use crate::plots::{Axis, curves, percent_tick};
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::families::health::OWN_ANGLE;
use faceoff_evaluation::measured::{HealthShapes, Measured};
use faceoff_runs::EpochRecord;
use std::collections::BTreeMap;
use std::ops::Range;

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let text = "A head pulls each embedding towards the weight of its class. Over the epochs: the median angle of the augmented training images to their own class weight and to \
        the nearest other, means over seeds. At the end: the angles of the validation images to their own weight, first seed. The dashed line stands at pi - m, where m cannot \
        be added to an angle any more; what lies beyond it has left the margin unless the head has a rule for it. The last picture says what the head feels: the mean \
        probability of the label under its training logits at each angle. Where it is 1 at every angle, there is nothing left to learn; where it is 0, margin and scale \
        leave no hope.";
    let mut section = Section::new("angles", "Angles to the class weights", "Angles", text);
    for group in &outcome.groups {
        let panels: Vec<_> = group.variants.iter().filter_map(|&variant| over_epochs(outcome, variant)).collect();
        if !panels.is_empty() {
            let alt = "Small multiples: median angle to the own class weight and to the nearest other over the epochs, one panel for each variant";
            let legend = [("own class", 0), ("nearest other class", 1)];
            let end = |curve: &Curve| curve.points.last().map(|point| point.1);
            let nearer = |panel: &&Panel<'_>| end(&panel.curves[0]) < end(&panel.curves[1]);
            let said = format!(
                "After the last epoch the own weight is nearer than the nearest other under {} of {} heads.",
                panels.iter().filter(nearer).count(),
                panels.len()
            );
            let picture = curves::panels(name_of(group, "own_angle_epochs", alt), &panels, &legend)?;
            section.pictures.push(picture.concluding(Some(said)));
        }
        let found: Vec<_> = first_runs(outcome, group).filter_map(|run| Some((run, angles_of(run)?))).collect();
        if found.is_empty() {
            continue;
        }
        // All panels have the axis that the angles of all variants need.
        let range = degrees(found.iter().map(|(_, shapes)| *shapes));
        let panel = |&(run, shapes): &(&Measured, &HealthShapes)| at_the_end(outcome.name(run.variant), shapes, &range);
        let panels: Vec<_> = found.iter().map(panel).collect();
        let alt = "Small multiples: distribution of the angles of the validation images to their own class weight, one panel for each variant";
        let picture = curves::panels(name_of(group, "own_angle_end", alt), &panels, &[])?;
        section.pictures.push(picture.concluding(range_of(outcome, group, OWN_ANGLE.id())));

        let panel = |&(run, shapes): &(&Measured, &HealthShapes)| felt(outcome.name(run.variant), shapes, &range);
        let panels: Vec<_> = found.iter().filter(|(_, shapes)| !shapes.probabilities.is_empty()).map(panel).collect();
        if !panels.is_empty() {
            let alt = "Small multiples: mean probability of the label at each angle to its class weight, one panel for each variant";
            let mean = |(run, shapes): &(&Measured, &HealthShapes)| {
                let images = shapes.probabilities.iter().map(|bin| bin.1).sum::<u64>();
                let sum = shapes.probabilities.iter().map(|bin| bin.1 as f64 * bin.2).sum::<f64>();
                (images > 0).then(|| (outcome.name(run.variant), sum / images as f64))
            };
            let means = found.iter().filter_map(mean);
            let said = range_sentence(outcome, group, "Over all angles the mean probability is", means, percent);
            let picture = curves::panels(name_of(group, "probability_angle", alt), &panels, &[])?;
            section.pictures.push(picture.concluding(said));
        }
    }
    Ok(section)
}

fn angles_of(run: &Measured) -> Option<&HealthShapes> {
    run.found.shapes.health.as_ref().filter(|shapes| !shapes.own_angles.is_empty())
}

/// The angles that occur, to the next ten degrees, pi - m included.
fn degrees<'a>(found: impl Iterator<Item = &'a HealthShapes>) -> Range<f64> {
    let (mut low, mut high) = (180.0_f64, 0.0_f64);
    for shapes in found {
        let used = shapes.own_angles.iter().enumerate().filter(|(_, images)| **images > 0).map(|(bin, _)| bin as f64);
        for degree in used.chain(shapes.limit_degrees) {
            (low, high) = (low.min(degree), high.max(degree + 1.0));
        }
    }
    (low / 10.0).floor() * 10.0..((high / 10.0).ceil() * 10.0).min(180.0)
}

fn angle_axis(range: &Range<f64>) -> Axis<'static> {
    Axis::new("angle to the own class weight", range.clone(), 5, |degrees| format!("{degrees:.0}\u{b0}"))
}

/// A line across the whole height at pi - m.
fn limit(shapes: &HealthShapes, top: f64) -> Option<[(f64, f64); 2]> {
    shapes.limit_degrees.map(|degrees| [(degrees, 0.0), (degrees, top)])
}

/// Median angles over the epochs, means over seeds, with a line at pi - m.
fn over_epochs(outcome: &Evaluation, variant: usize) -> Option<Panel<'static>> {
    let line = |name: &str, style: usize, of: fn(&EpochRecord) -> Option<f64>| {
        let mut by_epoch: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for record in outcome.selection.of_variant(variant).flat_map(|run| &run.history) {
            by_epoch.entry(record.epoch).or_default().extend(of(record));
        }
        let mean = |seeds: &[f64]| seeds.iter().sum::<f64>() / seeds.len() as f64;
        let known = by_epoch.iter().filter(|(_, seeds)| !seeds.is_empty());
        Curve::new(name, style, known.map(|(&epoch, seeds)| (epoch as f64, mean(seeds))).collect())
    };
    let curves = vec![
        line("own class", 0, |record| record.own_angle_degrees),
        line("nearest other class", 1, |record| record.other_angle_degrees),
    ];
    let epochs = curves[0].points.last()?.0;
    let limit = outcome.runs(variant).find_map(|run| run.found.shapes.health.as_ref()?.limit_degrees);
    let (low, high) = crate::plots::extent(heights(&curves).chain(limit));
    let y = Axis::new("median angle", (low - 5.0).max(0.0)..(high + 5.0).min(180.0), 5, |d| format!("{d:.0}\u{b0}"));
    let x_range = if epochs > 1.0 { 1.0..epochs } else { 0.5..1.5 };
    let x = Axis::new("epoch", x_range.clone(), (epochs as usize).min(6), integer_tick);
    let mut frame = Frame::new(x, y, epochs <= 20.0);
    frame.reference = limit.map(|limit| [(x_range.start, limit), (x_range.end, limit)]);
    Some(Panel { title: outcome.name(variant).into(), frame, curves })
}

/// How the angles spread after training.
fn at_the_end(name: &str, shapes: &HealthShapes, range: &Range<f64>) -> Panel<'static> {
    let total = shapes.own_angles.iter().sum::<u64>().max(1) as f64;
    let bins = shapes.own_angles.iter().enumerate().map(|(bin, &images)| (bin as f64 + 0.5, images as f64 / total));
    let curve = Curve::new("angles", 0, bins.filter(|(degree, _)| range.contains(degree)).collect());
    let top = heights(std::slice::from_ref(&curve)).fold(0.0, f64::max) * 1.06;
    let y = Axis::new("images a degree", 0.0..top, 5, percent_tick);
    let mut frame = Frame::new(angle_axis(range), y, false);
    frame.reference = limit(shapes, top);
    Panel { title: name.into(), frame, curves: vec![curve] }
}

/// The probability of the label at each angle.
fn felt(name: &str, shapes: &HealthShapes, range: &Range<f64>) -> Panel<'static> {
    let points = shapes.probabilities.iter().map(|&(bin, _, probability)| (bin as f64 + 0.5, probability));
    let curve = Curve::new("probability", 0, points.collect());
    let marks = curve.points.len() <= 12;
    let top = (heights(std::slice::from_ref(&curve)).fold(0.0, f64::max) * 1.06).clamp(1e-3, 1.0);
    let mut frame =
        Frame::new(angle_axis(range), Axis::new("probability of the label", 0.0..top, 5, percent_tick), marks);
    frame.reference = limit(shapes, top);
    Panel { title: name.into(), frame, curves: vec![curve] }
}
