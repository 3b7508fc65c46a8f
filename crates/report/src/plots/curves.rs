//! Line charts: one with a legend, or small multiples with an axis each.

use super::svg::UNITS_PER_PX;
use super::{
    Axis, COLORS, Canvas, Drawn, HEAD_PX, INK, MUTED, Name, Picture, SMALL_PX, TEXT_PX, Text, color, draw_axes, grid,
    line, mark, picture, px, rectangle, rgb, stroke,
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
    /// Grey bars behind the curves: the middle of each, and its height.
    pub(crate) bars: Vec<(f64, f64)>,
    /// Their width.
    pub(crate) bar: f64,
}

impl<'a> Frame<'a> {
    /// A frame without a reference line.
    pub(crate) fn new(x: Axis<'a>, y: Axis<'a>, marks: bool) -> Self {
        Self { x, y, marks, reference: None, bars: Vec::new(), bar: 0.0 }
    }
}

const MARK_PX: f64 = 3.2;
const CHART_PX: (f64, f64) = (416.0, 330.0);

/// With more lines than this their names stand in a legend.
const MOST_LABELLED: usize = 10;
/// The distance of two names, and how far at most a name stands from the end of its line.
const LABEL_PX: (f64, f64) = (15.0, 40.0);
/// Bars behind curves; seen on white and on dark paper.
const BARS: RGBColor = rgb(0x87909a);

/// One chart. The names stand at the ends of few lines, if these are apart, else in a legend at the right.
pub(crate) fn chart(name: Name, frame: &Frame<'_>, curves: &[Curve]) -> Result<Picture> {
    let text = Text::new(TEXT_PX, INK, HPos::Left, VPos::Center);
    let legend = text.widest(curves.iter().map(|curve| curve.name.as_str()), 0.0, 280.0);
    let left = CHART_PX.0 + 24.0;
    let height = CHART_PX.1.max(40.0 + 22.0 * curves.len() as f64);
    picture(name, (left + 44.0 + legend + 16.0, height), told(frame, curves), |canvas| {
        let (plot, _) = canvas.split_horizontally(px(CHART_PX.0 + 8.0));
        let ends = draw_chart(&plot, frame, curves)?;
        if let Some(places) = label_places(&ends, height) {
            for ((curve, &end), y) in curves.iter().zip(&ends).zip(places) {
                stroke(
                    canvas,
                    &[(end.0 + 4.0, end.1), (left + 4.0, y), (left + 14.0, y)],
                    None,
                    line(color(curve.style), 1.0),
                )?;
                text.draw(canvas, &text.fit(&curve.name, legend + 1.0), (left + 20.0, y))?;
            }
            return Ok(());
        }
        for (index, curve) in curves.iter().enumerate() {
            let y = 24.0 + 22.0 * index as f64;
            sample(canvas, curve.style, (left, left + 34.0), y)?;
            text.draw(canvas, &text.fit(&curve.name, legend + 1.0), (left + 44.0, y))?;
        }
        Ok(())
    })
}

/// Heights of the names at the ends of lines, in their order, as near to the ends as their distance allows; `None` where there are too
/// many of them, or where lines end so near to one place that names would not tell them apart.
fn label_places(ends: &[(f64, f64)], height: f64) -> Option<Vec<f64>> {
    if ends.len() > MOST_LABELLED {
        return None;
    }
    let mut order: Vec<usize> = (0..ends.len()).collect();
    order.sort_by(|&a, &b| ends[a].1.total_cmp(&ends[b].1));
    // Less what the names before need, heights only have to rise: neighbours that do not are pooled (isotonic regression).
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (place, &line) in order.iter().enumerate() {
        pools.push((ends[line].1 - LABEL_PX.0 * place as f64, 1));
        while let [.., (before, count), (last, more)] = pools[..]
            && before > last
        {
            let all = count + more;
            pools.truncate(pools.len() - 2);
            pools.push(((before * count as f64 + last * more as f64) / all as f64, all));
        }
    }
    let fitted = pools.iter().flat_map(|&(height, count)| std::iter::repeat_n(height, count));
    let room = height - 12.0 - LABEL_PX.0 * (ends.len() as f64 - 1.0);
    let mut places = vec![0.0; ends.len()];
    for (place, (&line, fitted)) in order.iter().zip(fitted).enumerate() {
        places[line] = fitted.clamp(12.0, room.max(12.0)) + LABEL_PX.0 * place as f64;
    }
    let near = ends.iter().zip(&places).all(|(end, place)| (end.1 - place).abs() <= LABEL_PX.1);
    near.then_some(places)
}

/// Where each curve begins and ends, or its peak where it has one: the value that is farthest from 0.
fn told(frame: &Frame<'_>, curves: &[Curve]) -> String {
    let one = |curve: &Curve| {
        let (Some(first), Some(last)) = (curve.points.first(), curve.points.last()) else {
            return format!("{}: nothing", curve.name);
        };
        let peak = curve.points.iter().copied().reduce(|a, b| if b.1.abs() > a.1.abs() { b } else { a });
        let peak = peak.unwrap_or(*first);
        let y = |value: f64| frame.y.tell(value);
        let what = match () {
            () if peak.1.abs() > 2.0 * first.1.abs().max(last.1.abs()) => {
                let has_signs = curve.points.iter().any(|point| point.1 < 0.0);
                let peaks = if has_signs { "farthest from 0" } else { "highest" };
                format!("{peaks} at {}: {}", frame.x.tell(peak.0), y(peak.1))
            }
            () if curve.points.len() == 1 => y(first.1),
            () => format!("from {} to {}", y(first.1), y(last.1)),
        };
        format!("{} {what}", curve.name)
    };
    curves.iter().map(one).collect::<Vec<_>>().join(", ")
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
    let content = panels.iter().map(|panel| format!("{}: {}", panel.title, told(&panel.frame, &panel.curves)));
    let content = content.collect::<Vec<_>>().join("; ");
    picture(name, size, content, |canvas| {
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

/// Draws axes and curves; where each curve ends, in pixels of the whole picture.
fn draw_chart(
    area: &Canvas<'_>,
    frame: &Frame<'_>,
    curves: &[Curve],
) -> std::result::Result<Vec<(f64, f64)>, Box<dyn std::error::Error + Send + Sync>> {
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
    for &(middle, height) in &frame.bars {
        let [low, high] =
            [(middle - frame.bar / 2.0, 0.0), (middle + frame.bar / 2.0, height)].map(|point| place(&point));
        rectangle(&screen, (low.0, high.1), (high.0 - low.0, low.1 - high.1), BARS.filled())?;
    }
    if let Some(ends) = frame.reference {
        stroke(&screen, &ends.map(|point| place(&point)), Some((3.0, 3.0)), line(MUTED, 1.0))?;
    }
    for curve in curves {
        for (&(x, _), &(low, high)) in curve.points.iter().zip(&curve.intervals) {
            let clamp = |y: f64| y.clamp(frame.y.range.start, frame.y.range.end);
            let ends = [(x, clamp(low)), (x, clamp(high))].map(|point| place(&point));
            stroke(&screen, &ends, None, line(color(curve.style), 1.0))?;
        }
        let points: Vec<_> = curve.points.iter().map(place).collect();
        stroke(&screen, &points, dash(curve.style), line(color(curve.style), 1.8))?;
        for &at in points.iter().filter(|_| frame.marks) {
            mark(&screen, curve.style, MARK_PX, at, color(curve.style).filled())?;
        }
    }
    Ok(curves.iter().map(|curve| curve.points.last().map_or((0.0, 0.0), place)).collect())
}

/// A piece of a curve for the legend.
fn sample(canvas: &Canvas<'_>, style: usize, (from, to): (f64, f64), y: f64) -> Drawn {
    stroke(canvas, &[(from, y), (to, y)], dash(style), line(color(style), 2.2))?;
    mark(canvas, style, MARK_PX, ((from + to) / 2.0, y), color(style).filled())
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
    fn peaks_between_ticks_and_below_0_are_told() {
        let tick = |value: &f64| if value.fract() == 0.0 { format!("{value}") } else { String::new() };
        let x = Axis::new("x", -4.0..0.0, 5, tick).telling(|value| format!("10^{value}"));
        let frame = Frame::new(x, Axis::new("y", -1.0..1.0, 5, plain_tick), false);
        let signed = Curve::new("A", 0, vec![(-4.0, 0.1), (-2.5, -0.7), (-1.0, 0.3), (0.0, 0.0)]);
        let hill = Curve::new("B", 0, vec![(-4.0, 0.1), (-1.5, 0.7), (0.0, 0.2)]);
        assert_eq!(told(&frame, &[signed, hill]), "A farthest from 0 at 10^-2.5: -0.7, B highest at 10^-1.5: 0.7");
    }

    #[test]
    fn endless_axes_have_few_ticks() {
        let axis = |end: f64| Axis::new("x", 1.0..end, usize::MAX, plain_tick);
        let curves = [Curve::new("long", 0, vec![(1.0, 1.0), (1e18, 1e300)])];
        let picture = chart(Default::default(), &Frame::new(axis(1e18), axis(1e300), true), &curves);
        assert!(picture.unwrap().svg.matches("<text").count() < 100);
    }
}
