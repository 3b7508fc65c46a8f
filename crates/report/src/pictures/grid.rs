//! Maps of the accuracies of a head over its scales and margins.

use super::{Section, distinct};
use crate::error::Result;
use crate::plots::matrix::{Matrix, Sides, sheet};
use faceoff_evaluation::selection::Variant;
use faceoff_evaluation::{Evaluation, MetricId};

const CELL_PX: f64 = 52.0;

/// Scale and margin of a variant that has both.
fn setting(variant: &Variant) -> Option<(f64, f64)> {
    let head = variant.config.as_ref()?;
    Some((head.scale()?, head.margin()?.value()))
}

/// The variants of heads that have most combinations of at least two scales and two margins; empty without such a head.
pub(crate) fn grid_variants(outcome: &Evaluation) -> Vec<usize> {
    let variants = &outcome.selection.variants;
    let is_grid = |variant: &Variant| {
        let twin = |twin: &&Variant| twin.family() == variant.family() && twin.condition == variant.condition;
        let settings: Vec<(f64, f64)> = variants.iter().filter(twin).filter_map(setting).collect();
        let scales = distinct(settings.iter().map(|setting| setting.0)).len();
        let margins = distinct(settings.iter().map(|setting| setting.1)).len();
        // Scattered settings make no map.
        scales > 1 && margins > 1 && 2 * settings.len() >= scales * margins
    };
    let fits = |&index: &usize| setting(&variants[index]).is_some() && is_grid(&variants[index]);
    (0..variants.len()).filter(fits).collect()
}

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let text = "Accuracy of every combination of scale s and margin m, means over seeds; the highest of a map is framed. Each map has shades of its own, from its lowest to its \
        highest value. The maps are read on the validation images, so a choice made from them is exploratory: the command tune chooses on a part of the training images. \
        Everywhere else in this report a head stands with its combination of the highest KNN accuracy.";
    let mut section = Section::new("grid", "Scale against margin", "Scale and margin", text);
    let variants = &outcome.selection.variants;
    let all = grid_variants(outcome);
    let of = |&variant: &usize| (variants[variant].family(), variants[variant].condition.as_str());
    for (family, condition) in distinct(all.iter().map(of)) {
        let cells: Vec<(usize, (f64, f64))> = all
            .iter()
            .filter(|&variant| of(variant) == (family.clone(), condition))
            .filter_map(|&variant| Some((variant, setting(&variants[variant])?)))
            .collect();
        let rising = |value: fn(&(usize, (f64, f64))) -> f64| {
            let mut values = distinct(cells.iter().map(value));
            values.sort_by(f64::total_cmp);
            values
        };
        let (scales, margins) = (rising(|cell| cell.1.0), rising(|cell| cell.1.1));
        let texts = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>();
        let Some((first, _)) = cells.first() else { continue };
        // A head stands in several maps where a choice by name makes it several.
        let config = variants[*first].config.as_ref();
        let alone = all.iter().all(|&other| variants[other].head != variants[*first].head || of(&other).0 == family);
        let choices = config.into_iter().flat_map(|config| config.choices()).filter(|_| !alone);
        let head = choices.fold(variants[*first].head.clone(), |name, choice| format!("{name}-{choice}"));
        let unit = cells.first().and_then(|cell| Some(variants[cell.0].config.as_ref()?.margin()?.unit()));
        let sides = Sides {
            row_names: &texts(&margins),
            column_names: &texts(&scales),
            rows: &format!("{head}: margin m, {}", unit.unwrap_or_default()),
            columns: "scale s",
        };
        let value = |metric: MetricId, margin: f64, scale: f64| {
            let (variant, _) = cells.iter().find(|cell| cell.1 == (scale, margin))?;
            Some(outcome.summary(*variant, metric)?.summary.mean)
        };
        let map = |metric: MetricId| {
            let of_margin = |&margin: &f64| scales.iter().map(move |&scale| (margin, scale));
            let places = margins.iter().flat_map(of_margin);
            let values: Vec<_> = places.map(|(margin, scale)| value(metric, margin, scale)).collect();
            let known = || values.iter().flatten().copied();
            let (low, high) = (known().reduce(f64::min)?, known().reduce(f64::max)?);
            let shade = |value: &Option<f64>| value.map_or(0.0, |v| (v - low) / (high - low).max(1e-9));
            let text = |value: &Option<f64>| value.map_or("\u{2013}".into(), |value| metric.format(value));
            Some(Matrix {
                title: format!("{}{}", metric.title(), metric.unit_suffix()),
                shades: values.iter().map(shade).collect(),
                texts: values.iter().map(text).collect(),
                best: values.iter().position(|&value| value == Some(high)),
            })
        };
        let best = |metric: MetricId| {
            let of = |cell: &(usize, (f64, f64))| Some((cell.1, outcome.summary(cell.0, metric)?.summary.mean));
            let known = cells.iter().filter_map(of);
            let ((scale, margin), mean) = known.reduce(|a, b| if b.1 > a.1 { b } else { a })?;
            let (title, unit, value) = (metric.title(), metric.unit_suffix(), metric.format(mean));
            Some(format!("{title}{unit}: {value} at s = {scale}, m = {margin}, the highest of {}.", cells.len()))
        };
        let said: Vec<String> = outcome.compared().filter_map(best).collect();
        let said = (!said.is_empty()).then(|| format!("{} Nothing is tested here.", said.join(" ")));
        let maps: Vec<Matrix> = outcome.compared().filter_map(map).collect();
        if maps.is_empty() {
            continue;
        }
        let suffix = if condition.is_empty() { String::new() } else { format!("_{condition}") };
        let alt = format!("Heat maps: DNN and KNN accuracy of {head} by scale and margin");
        let name = (format!("scale_margin_{head}{suffix}.svg"), alt);
        section.pictures.push(sheet(name, &sides, CELL_PX, &maps)?.concluding(said));
    }
    Ok(section)
}
