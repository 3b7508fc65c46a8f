//! How much of the variance the first principal components hold.

use super::{Section, curves_of, integer_tick, name_of, range_of};
use crate::error::Result;
use crate::plots::curves::Frame;
use crate::plots::{Axis, curves, percent_tick};
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::families::variance::EXPLAINED_VARIANCE;

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let text = "Principal components of the unit training embeddings; shares are of the total variance of all dimensions, so a curve need not end at 100 %. A curve that is at \
        100 % after as many components as there are classes less one says that the embeddings have collapsed to one direction a class. Means over seeds.";
    let mut section = Section::new("variance", "Explained variance", "Variance", text);
    for group in &outcome.groups {
        for &count in outcome.components.iter().filter(|&&count| count > 1) {
            // Mean over seeds at each component; a run with fewer components has explained all it can.
            let curves = curves_of(outcome, group, |variant| {
                let runs = outcome.runs(variant).map(|run| &run.found.shapes.variance_ratios);
                let runs: Vec<_> = runs.filter(|ratios| !ratios.is_empty()).collect();
                let longest = runs.iter().map(|ratios| ratios.len()).max().unwrap_or(0).min(count);
                let mut sum = 0.0;
                let point = |index: usize| {
                    let ratios = runs.iter().map(|ratios| ratios.get(index).copied().unwrap_or(0.0));
                    sum += ratios.sum::<f64>() / runs.len() as f64;
                    ((index + 1) as f64, sum)
                };
                (0..longest).map(point).collect()
            });
            if curves.is_empty() {
                continue;
            }
            let x = Axis::new("principal components", 0.0..count as f64, 9, integer_tick);
            let y = Axis::new("explained variance, cumulative", 0.0..1.0, 11, percent_tick);
            let what = "share of the variance that the first components hold";
            let alt = format!("Line chart: {what}, up to {count}, for every variant");
            let name = name_of(group, &format!("explained_variance_{count}"), &alt);
            let said = range_of(outcome, group, EXPLAINED_VARIANCE.with(count));
            section.pictures.push(curves::chart(name, &Frame::new(x, y, count <= 20), &curves)?.concluding(said));
        }
    }
    Ok(section)
}
