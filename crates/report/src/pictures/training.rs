//! How training went: accuracies and losses over the epochs.

use super::{Section, curves_of, heights, integer_tick, name_of, padded, percent, range_sentence, style};
use crate::error::Result;
use crate::plots::curves::{Curve, Frame, Panel};
use crate::plots::{Axis, COLORS, curves, percent_tick, plain_tick};
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::selection::Run;
use std::collections::BTreeMap;
use std::ops::Range;

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let text = "Accuracy on the augmented training images while training went on, labels withheld (means over seeds), and the loss of every run. Losses are never to be compared \
        across heads: each head has another scale and another lowest value; therefore every panel has an axis of its own.";
    let mut section = Section::new("training", "Training", "Training", text);
    let records = outcome.selection.runs.iter().flat_map(|run| &run.history);
    let Some(epochs) = records.map(|record| record.epoch).max() else { return Ok(section) };
    let x_range = if epochs == 1 { 0.5..1.5 } else { 1.0..epochs as f64 };
    for group in &outcome.groups {
        let accuracies = curves_of(outcome, group, |variant| {
            let mut by_epoch: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
            for record in outcome.selection.of_variant(variant).flat_map(|run| &run.history) {
                by_epoch.entry(record.epoch).or_default().extend(record.train_accuracy);
            }
            let mean = |seeds: Vec<f64>| seeds.iter().sum::<f64>() / seeds.len() as f64;
            let known = by_epoch.into_iter().filter(|(_, seeds)| !seeds.is_empty());
            known.map(|(epoch, seeds)| (epoch as f64, mean(seeds))).collect()
        });
        if !accuracies.is_empty() {
            let x = Axis::new("epoch", x_range.clone(), epochs.min(11), integer_tick);
            let y = Axis::new("accuracy in training", padded(heights(&accuracies), 0.0, 1.0), 8, percent_tick);
            let alt = "Line chart: accuracy on the augmented training images over the epochs, for every variant";
            let name = name_of(group, "train_accuracy", alt);
            let ends = accuracies.iter().filter_map(|curve| Some((curve.name.as_str(), curve.points.last()?.1)));
            let said = range_sentence(outcome, group, "After the last epoch", ends, percent);
            section.pictures.push(curves::chart(name, &Frame::new(x, y, epochs <= 20), &accuracies)?.concluding(said));
        }

        let panels: Vec<_> = group.variants.iter().map(|&variant| losses(outcome, variant, epochs, &x_range)).collect();
        let alt = "Small multiples: training loss over the epochs, one panel with its own axis for each variant";
        let lowest = |curve: &&Curve| {
            let last = curve.points.last().map(|point| point.1);
            last.is_some_and(|last| curve.points.iter().all(|point| point.1 >= last))
        };
        let curves = || panels.iter().flat_map(|panel| &panel.curves);
        let (falling, all) = (curves().filter(lowest).count(), curves().count());
        let said = format!("The loss is lowest in the last epoch in {falling} of {all} runs.");
        let picture = curves::panels(name_of(group, "train_loss", alt), &panels, &[])?;
        section.pictures.push(picture.concluding((epochs > 1).then_some(said)));
    }
    Ok(section)
}

/// The losses of all runs of a variant, on an axis of their own.
fn losses(outcome: &Evaluation, variant: usize, epochs: usize, x_range: &Range<f64>) -> Panel<'static> {
    let of_run = |run: &Run| {
        let points = run.history.iter().map(|record| (record.epoch as f64, record.train_loss));
        Curve::new(&run.name, style(outcome, variant) % COLORS, points.collect())
    };
    let curves: Vec<_> = outcome.selection.of_variant(variant).map(of_run).collect();
    let highest = heights(&curves).fold(0.0, f64::max);
    let top = if highest > 0.0 { highest * 1.08 } else { 1.0 };
    let x = Axis::new("epoch", x_range.clone(), epochs.min(6), integer_tick);
    let y = Axis::new("loss, nats (own scale)", 0.0..top, 5, plain_tick);
    Panel { title: outcome.name(variant).into(), frame: Frame::new(x, y, epochs == 1), curves }
}
