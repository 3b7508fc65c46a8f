//! Whether two images show one class: ROC curves, and the angles behind them.

use super::{Section, curves_of, first_runs, name_of, points, range_of, range_sentence};
use crate::error::Result;
use crate::plots::curves::{Curve, Frame, Panel};
use crate::plots::{Axis, curves, percent_tick};
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::families::verification::VERIFICATION_AUC;
use faceoff_evaluation::measured::PairCurves;

/// The lowest false accept rate shown, as a power of ten.
const LOWEST: f64 = -4.0;

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let text = "Do two validation images show the same class? All pairs, by the cosine of their embeddings; first seed of each variant. The ROC curve says how many pairs of one \
        class are accepted at a given share of accepted pairs of two. The angles behind it stand in the small panels: the less the two curves overlap, the better; each has the axis that its angles need.";
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
        let rates = || Axis::new("false accept rate (logarithmic)", LOWEST..0.0, 5, power_tick).telling(rate);
        let y = Axis::new("true accept rate", 0.0..1.0, 11, percent_tick);
        let alt =
            "ROC curves: true accept rate over false accept rate of pairs of validation images, for every variant";
        let picture = curves::chart(name_of(group, "roc", alt), &Frame::new(rates(), y, false), &curves)?;
        section.pictures.push(picture.concluding(range_of(outcome, group, VERIFICATION_AUC.id())));
        if curves.len() > 1 {
            let alt = "ROC curves less the mean of all variants: how many more pairs of one class each accepts";
            let differences = from_mean(curves);
            let range = super::padded(super::heights(&differences), -1.0, 1.0);
            let y = Axis::new("true accept rate less the mean, points", range, 9, points_tick);
            let name = name_of(group, "roc_differences", alt);
            let farthest = |curve: &Curve| {
                curve.points.iter().map(|point| point.1).reduce(|a, b| if b.abs() > a.abs() { b } else { a })
            };
            let farthest = differences.iter().filter_map(|curve| Some((curve.name.as_str(), farthest(curve)?)));
            let what = "Where they are farthest from the mean, heads differ from it by";
            let said = range_sentence(outcome, group, what, farthest, points);
            section.pictures.push(curves::chart(name, &Frame::new(rates(), y, false), &differences)?.concluding(said));
        }

        let panel = |&(variant, found): &(usize, &PairCurves)| angles(outcome.name(variant), found);
        let panels: Vec<_> = found.iter().map(panel).collect();
        let alt = "Small multiples: distributions of the angles within and between classes, one panel for each variant";
        let legend = [("pairs of one class", 0), ("pairs of two classes", 1)];
        let nearer =
            found.iter().filter(|(_, found)| mean_of(&found.intra_class) < mean_of(&found.inter_class)).count();
        let said = format!("Pairs of one class have the smaller mean angle under {nearer} of {} heads.", found.len());
        let picture = curves::panels(name_of(group, "angles", alt), &panels, &legend)?;
        section.pictures.push(picture.concluding(Some(said)));
    }
    Ok(section)
}

/// The distributions of angles of one variant, as far as nearly all pairs reach: a cone of ten degrees and half a sphere need different
/// axes.
fn angles(name: &str, found: &PairCurves) -> Panel<'static> {
    let curves = vec![
        Curve::new("one class", 0, distribution(&found.intra_class)),
        Curve::new("two classes", 1, distribution(&found.inter_class)),
    ];
    let ends = [&found.intra_class, &found.inter_class].map(|angles| most(angles));
    let reach = ((ends[0].max(ends[1]) as f64 / 5.0).ceil() * 5.0).min(180.0);
    let curves: Vec<Curve> = curves.into_iter().map(|curve| within(curve, reach)).collect();
    let highest = super::heights(&curves).fold(0.0, f64::max);
    let x = Axis::new("angle between two images", 0.0..reach, 5, |degrees| format!("{degrees:.0}\u{b0}"));
    let y = Axis::new("pairs a degree", 0.0..highest * 1.06, 5, percent_tick);
    Panel { title: name.into(), frame: Frame::new(x, y, false), curves }
}

/// Curves less their mean, at common places a tenth of a power of ten apart.
fn from_mean(curves: Vec<Curve>) -> Vec<Curve> {
    let places: Vec<f64> = (0..=40).map(|step| LOWEST + f64::from(step) / 10.0).collect();
    let heights = |curve: &Curve| places.iter().map(|&place| height_at(&curve.points, place)).collect::<Vec<f64>>();
    let all: Vec<Vec<f64>> = curves.iter().map(heights).collect();
    let mean = |at: usize| all.iter().map(|heights| heights[at]).sum::<f64>() / all.len() as f64;
    let mut found = curves;
    for (curve, heights) in found.iter_mut().zip(&all) {
        curve.points = places.iter().enumerate().map(|(at, &place)| (place, heights[at] - mean(at))).collect();
    }
    found
}

/// The height of a line through points that rise along both axes; that of the nearest end outside of it.
fn height_at(points: &[(f64, f64)], place: f64) -> f64 {
    let after = points.partition_point(|point| point.0 < place);
    match (after.checked_sub(1).map(|before| points[before]), points.get(after)) {
        (Some((x0, y0)), Some(&(x1, y1))) => y0 + (y1 - y0) * (place - x0) / (x1 - x0).max(1e-12),
        (Some((_, end)), None) => end,
        (None, first) => first.map_or(0.0, |first| first.1),
    }
}

fn points_tick(share: &f64) -> String {
    let points = 100.0 * share;
    if points.abs() < 0.05 { "0".into() } else { format!("{points:+.1}") }
}

/// The mean of whole degrees.
fn mean_of(angles: &[u64]) -> f64 {
    let sum = angles.iter().enumerate().map(|(degree, &pairs)| degree as f64 * pairs as f64).sum::<f64>();
    sum / angles.iter().sum::<u64>().max(1) as f64
}

/// The degrees that hold all but a thousandth of the pairs.
fn most(angles: &[u64]) -> usize {
    let (all, mut seen) = (angles.iter().sum::<u64>(), 0);
    let enough = |&pairs: &u64| {
        seen += pairs;
        seen as f64 >= 0.999 * all as f64
    };
    angles.iter().position(enough).map_or(1, |last| last + 1)
}

fn within(mut curve: Curve, reach: f64) -> Curve {
    curve.points.retain(|point| point.0 <= reach);
    curve
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

/// Whole powers of ten as percent; nothing between them.
fn power_tick(exponent: &f64) -> String {
    if (exponent - exponent.round()).abs() > 1e-9 { String::new() } else { rate(exponent) }
}

/// Ten to the power of `exponent` as percent, of two digits.
fn rate(exponent: &f64) -> String {
    let percent = 10_f64.powf(exponent + 2.0);
    let last_digit = 10_f64.powf((exponent + 2.0 + 1e-9).floor() - 1.0);
    format!("{} %", ((percent / last_digit).round() * last_digit * 1e6).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_told_between_ticks_too() {
        assert_eq!([-4.0, -2.0, 0.0].map(|exponent| power_tick(&exponent)), ["0.01 %", "1 %", "100 %"]);
        assert_eq!(power_tick(&-2.5), "");
        assert_eq!([-3.7, -2.5, -0.1, 0.0].map(|exponent| rate(&exponent)), ["0.02 %", "0.32 %", "79 %", "100 %"]);
    }
}
