//! A log-log picture of how a cost grows with size, for benches: the only picture that is not made from runs.

use crate::error::Result;
use crate::plots::curves::{Curve, Frame, chart};
use crate::plots::{Axis, extent};
use faceoff_runs::thousands;
use std::ops::Range;

/// A named cost at several sizes, all above 0.
#[derive(Debug, Clone, PartialEq)]
pub struct GrowthCurve {
    /// What the legend says.
    pub name: String,
    /// (size, cost).
    pub points: Vec<(f64, f64)>,
}

/// SVG of costs over sizes, both axes logarithmic. `alt` tells what it shows to people who cannot see it; `x` and `y` name the
/// axes with their units.
///
/// # Errors
/// The picture cannot be drawn.
pub fn growth_picture(alt: &str, x: &str, y: &str, curves: &[GrowthCurve]) -> Result<String> {
    let logarithmic = |(style, curve): (usize, &GrowthCurve)| {
        Curve::new(&curve.name, style, curve.points.iter().map(|&(x, y)| (x.log10(), y.log10())).collect())
    };
    let curves: Vec<Curve> = curves.iter().enumerate().map(logarithmic).collect();
    // Whole powers of ten around all values.
    let range = |value: fn(&(f64, f64)) -> f64| {
        let values = curves.iter().flat_map(|curve| &curve.points).map(value);
        let (low, high) = extent(values.filter(|v| v.is_finite()));
        if low <= high { low.floor()..high.ceil().max(low.floor() + 1.0) } else { 0.0..1.0 }
    };
    let axis = |what, range: Range<f64>| {
        let ticks = (range.end - range.start) as usize + 1;
        Axis::new(what, range, ticks, power_of_ten)
    };
    let frame = Frame::new(axis(x, range(|point| point.0)), axis(y, range(|point| point.1)), true);
    Ok(chart(("growth.svg".into(), alt.into()), &frame, &curves)?.svg)
}

/// `3` as `1,000`; nothing between whole powers.
fn power_of_ten(exponent: &f64) -> String {
    let whole = exponent.round();
    if (exponent - whole).abs() > 1e-6 {
        return String::new();
    }
    if whole < 0.0 {
        return format!("{:.*}", -whole as usize, 10_f64.powf(whole));
    }
    thousands(10_usize.saturating_pow(whole as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_span_whole_powers_of_ten() {
        let curve = GrowthCurve { name: "search: n^2".into(), points: vec![(1e3, 0.02), (3e4, 18.0)] };
        let svg = growth_picture("Time over size", "embeddings", "seconds", &[curve]).unwrap();
        for text in ["Time over size", "embeddings", "seconds", "search: n^2", "1,000", "100,000", "0.01", "100"] {
            assert!(svg.contains(&format!(">{text}<")), "{text} is missing");
        }
        let empty = growth_picture("Nothing", "x", "y", &[]).unwrap();
        assert!(empty.starts_with("<svg"));
    }

    #[test]
    fn powers_of_ten_are_written_out() {
        let texts = [-2.0, 0.0, 2.0, 3.0, 6.0, 0.5].map(|exponent| power_of_ten(&exponent));
        assert_eq!(texts, ["0.01", "1", "100", "1,000", "1,000,000", ""]);
    }
}
