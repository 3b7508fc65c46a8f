//! Whether two images show one class: ROC curves, and the angles behind them.

use super::{Section, curves_of, first_runs, name_of};
use crate::error::Result;
use crate::plots::curves::{Curve, Frame, Panel};
use crate::plots::{Axis, curves, percent_tick};
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::measured::PairCurves;

/// The lowest false accept rate shown, as a power of ten.
const LOWEST: f64 = -4.0;

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let text = "Do two validation images show the same class? All pairs, by the cosine of their embeddings; first seed of each variant. The ROC curve says how many pairs of one \
        class are accepted at a given share of accepted pairs of two. The angles behind it stand in the small panels: the less the two curves overlap, the better.";
    let mut section = Section::new("verification", "Verification", "Verification", text);
    for group in &outcome.groups {
        let found: Vec<(usize, &PairCurves)> = first_runs(outcome, group)
            .filter_map(|run| Some((run.variant, run.found.shapes.verification.as_ref()?)))
            .collect();
        if found.is_empty() {
            continue;
        }
        let curves = curves_of(outcome, group, |variant| {
            let known = found.iter().filter(|(other, _)| *other == variant).flat_map(|(_, found)| &found.roc);
            let shown = known.filter(|(far, _)| *far >= 10_f64.powf(LOWEST) * 0.999);
            shown.map(|&(far, tar)| (far.log10().max(LOWEST), tar)).collect()
        });
        let x = Axis::new("false accept rate (logarithmic)", LOWEST..0.0, 5, power_tick);
        let y = Axis::new("true accept rate", 0.0..1.0, 11, percent_tick);
        let alt =
            "ROC curves: true accept rate over false accept rate of pairs of validation images, for every variant";
        section.pictures.push(curves::chart(name_of(group, "roc", alt), &Frame::new(x, y, false), &curves)?);

        // The greatest angle of all variants, to the next 30 degrees: all panels have one axis.
        let ends = found.iter().flat_map(|(_, found)| [used(&found.intra_class), used(&found.inter_class)]);
        let reach = (ends.map(<[u64]>::len).max().unwrap_or(180) as f64 / 30.0).ceil() * 30.0;
        let panel = |&(variant, found): &(usize, &PairCurves)| angles(outcome.name(variant), found, reach);
        let panels: Vec<_> = found.iter().map(panel).collect();
        let alt = "Small multiples: distributions of the angles within and between classes, one panel for each variant";
        let legend = [("pairs of one class", 0), ("pairs of two classes", 1)];
        section.pictures.push(curves::panels(name_of(group, "angles", alt), &panels, &legend)?);
    }
    Ok(section)
}

/// The distributions of angles of one variant.
fn angles(name: &str, found: &PairCurves, reach: f64) -> Panel<'static> {
    let curves = vec![
        Curve::new("one class", 0, distribution(&found.intra_class)),
        Curve::new("two classes", 1, distribution(&found.inter_class)),
    ];
    let highest = super::heights(&curves).fold(0.0, f64::max);
    let x = Axis::new("angle between two images", 0.0..reach, 5, |degrees| format!("{degrees:.0}\u{b0}"));
    let y = Axis::new("pairs a degree", 0.0..highest * 1.06, 5, percent_tick);
    Panel { title: name.into(), frame: Frame::new(x, y, false), curves }
}

/// The degrees up to the last that holds pairs.
fn used(angles: &[u64]) -> &[u64] {
    &angles[..angles.iter().rposition(|&pairs| pairs > 0).map_or(1, |last| last + 1)]
}

/// (middle of the degree, share of the pairs).
fn distribution(angles: &[u64]) -> Vec<(f64, f64)> {
    let total = angles.iter().sum::<u64>().max(1) as f64;
    let bins = used(angles).iter().enumerate();
    bins.map(|(degree, &pairs)| (degree as f64 + 0.5, pairs as f64 / total)).collect()
}

/// Powers of ten as percent.
fn power_tick(exponent: &f64) -> String {
    if (exponent - exponent.round()).abs() > 1e-9 {
        return String::new();
    }
    let percent = 10_f64.powi(exponent.round() as i32 + 2);
    format!("{} %", (percent * 1e6).round() / 1e6)
}
