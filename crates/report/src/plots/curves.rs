//! Line charts: one with a legend, or small multiples with an axis each.

use super::svg::UNITS_PER_PX;
use super::{
    Axis, COLORS, Canvas, Drawn, HEAD_PX, INK, MUTED, Name, Picture, SMALL_PX, TEXT_PX, Text, color, draw_axes, grid,
    line, mark, picture, px, rgb, stroke,
};
use crate::error::Result;
use plotters::coord::ranged1d::{BoldPoints, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

/// A named curve; lines of equal `style` look alike.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// Decides colour, dash and marker.
    pub(crate) style: usize,
    /// Lowest and highest value at each point, where there are any: a thin upright line.
    pub(crate) intervals: Vec<(f64, f64)>,
}

impl Curve {
    /// A curve without intervals.
    pub(crate) fn new(name: &str, style: usize, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, style, intervals: Vec::new() }
    }
}

/// The axes of a chart and what stands on them beside the curves.
pub(crate) struct Frame<'a> {
    x: Axis<'a>,
    y: Axis<'a>,
    /// Points are marked where there are few of them.
    marks: bool,
    /// A dashed grey line below the curves, such as the diagonal of chance.
    pub(crate) reference: Option<[(f64, f64); 2]>,
}

impl<'a> Frame<'a> {
    /// A frame without a reference line.
    pub(crate) fn new(x: Axis<'a>, y: Axis<'a>, marks: bool) -> Self {
        Self { x, y, marks, reference: None }
    }
}

const MARK_PX: f64 = 3.2;
const CHART_PX: (f64, f64) = (416.0, 330.0);

/// One chart with a legend at its right.
pub(crate) fn chart(name: Name, frame: &Frame<'_>, curves: &[Curve]) -> Result<Picture> {
    let text = Text::new(TEXT_PX, INK, HPos::Left, VPos::Center);
    let legend = text.widest(curves.iter().map(|curve| curve.name.as_str()), 0.0, 280.0);
    let left = CHART_PX.0 + 24.0;
    let height = CHART_PX.1.max(40.0 + 22.0 * curves.len() as f64);
    picture(name, (left + 44.0 + legend + 16.0, height), |canvas| {
        let (plot, _) = canvas.split_horizontally(px(CHART_PX.0 + 8.0));
        draw_chart(&plot, frame, curves)?;
        for (index, curve) in curves.iter().enumerate() {
            let y = 24.0 + 22.0 * index as f64;
            sample(canvas, curve.style, (left, left + 34.0), y)?;
            text.draw(canvas, &text.fit(&curve.name, legend + 1.0), (left + 44.0, y))?;
        }
        Ok(())
    })
}

/// A panel of [`panels`].
pub(crate) struct Panel<'a> {
    pub(crate) title: String,
    pub(crate) frame: Frame<'a>,
    pub(crate) curves: Vec<Curve>,
}

/// Small multiples: every panel has axes of its own. `legend` names the styles that all panels share.
pub(crate) fn panels(name: Name, panels: &[Panel<'_>], legend: &[(&str, usize)]) -> Result<Picture> {
    const PANEL_PX: (f64, f64) = (270.0, 220.0);
    let (columns, rows) = grid(panels.len());
    let legend_px = if legend.is_empty() { 0.0 } else { 30.0 };
    let text = Text::new(TEXT_PX, INK, HPos::Left, VPos::Center);
    let legend_width = legend.iter().map(|(name, _)| 70.0 + text.width(name)).sum::<f64>();
    let size =
        ((PANEL_PX.0 * columns as f64 + 8.0).max(legend_width + 12.0), PANEL_PX.1 * rows as f64 + 8.0 + legend_px);
    picture(name, size, |canvas| {
        for (index, panel) in panels.iter().enumerate() {
            let (column, row) = (index % columns, index / columns);
            let (x, y) = (4.0 + column as f64 * PANEL_PX.0, 4.0 + row as f64 * PANEL_PX.1);
            let area = canvas.clone().shrink((px(x), px(y)), (px(PANEL_PX.0), px(PANEL_PX.1)));
            let title = Text::new(HEAD_PX - 1.0, INK, HPos::Left, VPos::Center).bold();
            title.draw(&area, &title.fit(&panel.title, PANEL_PX.0 - 24.0), (12.0, 14.0))?;
            let (_, plot) = area.split_vertically(px(24.0));
            draw_chart(&plot, &panel.frame, &panel.curves)?;
        }
        let mut x = 16.0;
        for (name, style) in legend {
            let y = size.1 - 18.0;
            sample(canvas, *style, (x, x + 30.0), y)?;
            text.draw(canvas, name, (x + 38.0, y))?;
            x += 70.0 + text.width(name);
        }
        Ok(())
    })
}

fn draw_chart(area: &Canvas<'_>, frame: &Frame<'_>, curves: &[Curve]) -> Drawn {
    let tick = Text::new(SMALL_PX, INK, HPos::Left, VPos::Center);
    let ticks = RangedCoordf64::from(frame.y.range.clone()).key_points(BoldPoints(frame.y.ticks));
    let widest = ticks.iter().map(|value| tick.width(&(frame.y.format)(value))).fold(20.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin_top(px(10.0))
        .margin_right(px(14.0))
        .margin_bottom(px(4.0))
        .margin_left(px(6.0))
        .x_label_area_size(px(40.0))
        .y_label_area_size(px(widest + 30.0))
        .build_cartesian_2d(frame.x.range.clone(), frame.y.range.clone())?;
    draw_axes(&mut chart, &frame.x, Some(&frame.y))?;
    let screen = area.use_screen_coord();
    let place = |point: &(f64, f64)| {
        let (x, y) = chart.plotting_area().map_coordinate(point);
        (f64::from(x) / f64::from(UNITS_PER_PX), f64::from(y) / f64::from(UNITS_PER_PX))
    };
    if let Some(ends) = frame.reference {
        stroke(&screen, &ends.map(|point| place(&point)), Some((3.0, 3.0)), line(MUTED, 1.0))?;
    }
    for curve in curves {
        for (&(x, _), &(low, high)) in curve.points.iter().zip(&curve.intervals) {
            let clamp = |y: f64| y.clamp(frame.y.range.start, frame.y.range.end);
            let ends = [(x, clamp(low)), (x, clamp(high))].map(|point| place(&point));
            stroke(&screen, &ends, None, line(line_color(curve.style), 1.0))?;
        }
        let points: Vec<_> = curve.points.iter().map(place).collect();
        stroke(&screen, &points, dash(curve.style), line(line_color(curve.style), 1.8))?;
        for &at in points.iter().filter(|_| frame.marks) {
            mark(&screen, curve.style, MARK_PX, at, line_color(curve.style).filled())?;
        }
    }
    Ok(())
}

/// A piece of a curve for the legend.
fn sample(canvas: &Canvas<'_>, style: usize, (from, to): (f64, f64), y: f64) -> Drawn {
    stroke(canvas, &[(from, y), (to, y)], dash(style), line(line_color(style), 2.2))?;
    mark(canvas, style, MARK_PX, ((from + to) / 2.0, y), line_color(style).filled())
}

/// The palette, with its light colours darkened: a line is thinner than a dot.
fn line_color(style: usize) -> RGBColor {
    match style % COLORS {
        1 => rgb(0xd1940c),
        3 => rgb(0xe85d72),
        5 => rgb(0x3d90ee),
        index => color(index),
    }
}

/// Solid, then dashed, then dotted: one turn of the palette each.
fn dash(style: usize) -> Option<(f64, f64)> {
    match style / COLORS {
        0 => None,
        1 => Some((6.0, 3.0)),
        _ => Some((2.0, 3.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plots::plain_tick;

    #[test]
    fn endless_axes_have_few_ticks() {
        let axis = |end: f64| Axis::new("x", 1.0..end, usize::MAX, plain_tick);
        let curves = [Curve::new("long", 0, vec![(1.0, 1.0), (1e18, 1e300)])];
        let picture = chart(Default::default(), &Frame::new(axis(1e18), axis(1e300), true), &curves);
        assert!(picture.unwrap().svg.matches("<text").count() < 100);
    }
}
