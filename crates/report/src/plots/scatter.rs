//! Clouds of points in two and three dimensions, coloured and shaped by class.
//!
//! The points are drawn in rounds of a fixed shuffled order, so that no class lies on top of all others.

use super::{
    Canvas, Drawn, GRID, HEAD_PX, INK, MUTED, Name, Picture, SMALL_PX, TEXT_PX, Text, color, extent, grid, line, mark,
    picture, rectangle, rgb, stroke,
};
use crate::error::Result;
use faceoff_runs::thousands;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

/// The points of one run.
#[derive(Debug, Clone)]
pub(crate) struct Cloud {
    pub(crate) title: String,
    /// Coordinates; the third is 0 on maps of two dimensions.
    pub(crate) points: Vec<[f64; 3]>,
    /// Class of each point.
    pub(crate) labels: Vec<u32>,
    /// What the axes are.
    pub(crate) axes: [String; 3],
}

/// Rounds in which the points of all classes are drawn in turn.
const ROUNDS: usize = 8;
const LEGEND_NAME_PX: f64 = 180.0;
const LEGEND: Text = Text { size: TEXT_PX, color: INK, h: HPos::Left, v: VPos::Center, bold: false };

/// A legend names no more classes.
const MOST_NAMED: usize = 20;
const OTHERS: RGBColor = rgb(0xb9bfc7);

/// What classes look like: of many, those with most points have a colour and a shape of their own, and the others are grey.
struct Legend {
    /// Index of each class's colour and shape.
    looks: Vec<Option<usize>>,
    /// Look and name of each entry.
    entries: Vec<(Option<usize>, String)>,
}

impl Legend {
    fn of(classes: &[String], clouds: &[Cloud]) -> Self {
        let mut points = vec![0; classes.len()];
        clouds.iter().take(1).flat_map(|cloud| &cloud.labels).for_each(|&label| points[label as usize] += 1);
        let mut named: Vec<usize> = (0..classes.len()).collect();
        if classes.len() > MOST_NAMED {
            named.sort_by_key(|&class| std::cmp::Reverse(points[class]));
            named.truncate(MOST_NAMED);
            named.sort_unstable();
        }
        let looks = (0..classes.len()).map(|class| named.binary_search(&class).ok()).collect();
        let mut entries: Vec<_> =
            named.iter().enumerate().map(|(look, &class)| (Some(look), classes[class].clone())).collect();
        if named.len() < classes.len() {
            entries.push((None, format!("{} other classes", classes.len() - named.len())));
        }
        Self { looks, entries }
    }

    fn names_px(&self) -> f64 {
        LEGEND.widest(self.entries.iter().map(|(_, name)| name.as_str()), 40.0, LEGEND_NAME_PX)
    }

    fn draw(&self, canvas: &Canvas<'_>, entry: usize, (x, y): (f64, f64)) -> Drawn {
        let (look, name) = &self.entries[entry];
        LEGEND.draw(canvas, &LEGEND.fit(name, LEGEND_NAME_PX + 1.0), (x + 14.0, y))?;
        mark(canvas, look.unwrap_or(0), 4.5, (x + 4.0, y), shade(*look).filled())
    }
}

fn shade(look: Option<usize>) -> RGBColor {
    look.map_or(OTHERS, color)
}

/// One large picture of a cloud's first two coordinates, with the legend at its right.
pub(crate) fn cloud(name: Name, classes: &[String], cloud: &Cloud) -> Result<Picture> {
    const SIDE_PX: f64 = 520.0;
    let legend = Legend::of(classes, std::slice::from_ref(cloud));
    let legend_width = 30.0 + legend.names_px();
    let height = (SIDE_PX + 44.0).max(50.0 + 21.0 * legend.entries.len() as f64);
    let content = told(classes, std::slice::from_ref(cloud));
    picture(name, (SIDE_PX + 48.0 + legend_width + 12.0, height), content, |canvas| {
        flat_panel(canvas, cloud, &legend, (34.0, 30.0, SIDE_PX, SIDE_PX - 20.0), 3.0)?;
        for entry in 0..legend.entries.len() {
            legend.draw(canvas, entry, (SIDE_PX + 54.0, 40.0 + 21.0 * entry as f64))?;
        }
        Ok(())
    })
}

/// All clouds on one page; the classes are named once at the foot. `solid` draws three dimensions.
pub(crate) fn sheet(name: Name, classes: &[String], clouds: &[Cloud], solid: bool) -> Result<Picture> {
    const PANEL_PX: (f64, f64) = (300.0, 318.0);
    let (columns, rows) = grid(clouds.len());
    // A page of one or two panels is still wide enough for the legend.
    let width = (PANEL_PX.0 * columns as f64 + 16.0).max(640.0);
    let legend = Legend::of(classes, clouds);
    let entry_px = 34.0 + legend.names_px();
    let per_line = (((width - 24.0) / entry_px) as usize).max(1);
    let lines = legend.entries.len().div_ceil(per_line);
    let panels_height = PANEL_PX.1 * rows as f64;
    let content = told(classes, clouds);
    picture(name, (width, panels_height + 22.0 * lines as f64 + 26.0), content, |canvas| {
        for (index, cloud) in clouds.iter().enumerate() {
            let x = 8.0 + PANEL_PX.0 * (index % columns) as f64;
            let y = PANEL_PX.1 * (index / columns) as f64;
            let panel = (x + 20.0, y + 30.0, PANEL_PX.0 - 32.0, PANEL_PX.1 - 56.0);
            let draw = if solid { solid_panel } else { flat_panel };
            draw(canvas, cloud, &legend, panel, 1.9)?;
        }
        for entry in 0..legend.entries.len() {
            let (column, row) = ((entry % per_line) as f64, (entry / per_line) as f64);
            legend.draw(canvas, entry, (16.0 + entry_px * column, panels_height + 22.0 + 22.0 * row))?;
        }
        Ok(())
    })
}

/// How many points of how many classes lie on each map.
fn told(classes: &[String], clouds: &[Cloud]) -> String {
    let points = clouds.first().map_or(0, |cloud| cloud.points.len());
    let titles: Vec<&str> = clouds.iter().map(|cloud| cloud.title.as_str()).collect();
    format!("{} points of {} classes by {}", thousands(points), classes.len(), titles.join(", "))
}

type Rect = (f64, f64, f64, f64);

/// Two dimensions in a frame: equal units on both axes, no ticks, since neither t-SNE's nor a rotation's numbers mean anything by themselves.
fn flat_panel(canvas: &Canvas<'_>, cloud: &Cloud, legend: &Legend, rect: Rect, radius: f64) -> Drawn {
    let (x, y, width, height) = rect;
    frame(canvas, cloud, rect)?;
    rectangle(canvas, (x, y), (width, height), line(GRID, 1.0))?;
    let axis = Text::new(SMALL_PX, MUTED, HPos::Center, VPos::Center);
    axis.draw(canvas, &cloud.axes[0], (x + width / 2.0, y + height + 13.0))?;
    axis.draw_upwards(canvas, &cloud.axes[1], (x - 12.0, y + height / 2.0))?;
    let flat: Vec<_> = cloud.points.iter().map(|&[a, b, _]| (a, -b)).collect();
    points(canvas, cloud, legend, &into_rect(&flat, &flat, rect, 6.0), radius, None)
}

/// Three dimensions from a fixed viewpoint, in a box.
fn solid_panel(canvas: &Canvas<'_>, cloud: &Cloud, legend: &Legend, rect: Rect, radius: f64) -> Drawn {
    frame(canvas, cloud, rect)?;
    let bounds = [0, 1, 2].map(|axis| extent(cloud.points.iter().map(|point| point[axis])));
    let corner = |i: usize| [0, 1, 2].map(|axis| if i >> axis & 1 == 0 { bounds[axis].0 } else { bounds[axis].1 });
    let corners: Vec<_> = (0..8).map(|i| project(corner(i)).0).collect();
    let placed = into_rect(&corners, &corners, rect, 18.0);
    for (a, b) in [(0, 1), (1, 3), (3, 2), (2, 0), (4, 5), (5, 7), (7, 6), (6, 4), (0, 4), (1, 5), (2, 6), (3, 7)] {
        stroke(canvas, &[placed[a], placed[b]], None, line(GRID, 1.0))?;
    }
    let axis = Text::new(SMALL_PX, MUTED, HPos::Center, VPos::Center);
    let middle = |a: usize, b: usize| ((placed[a].0 + placed[b].0) / 2.0, (placed[a].1 + placed[b].1) / 2.0);
    let ((x0, y0), (x1, y1), (x2, y2)) = (middle(0, 1), middle(1, 3), middle(0, 4));
    axis.draw(canvas, &cloud.axes[0], (x0 - 8.0, y0 + 13.0))?;
    axis.draw(canvas, &cloud.axes[1], (x1 + 16.0, y1 + 13.0))?;
    axis.draw_upwards(canvas, &cloud.axes[2], (x2 - 10.0, y2))?;
    let projected: Vec<_> = cloud.points.iter().map(|&point| project(point)).collect();
    let flat: Vec<_> = projected.iter().map(|&(at, _)| at).collect();
    let depths: Vec<_> = projected.iter().map(|&(_, depth)| depth).collect();
    points(canvas, cloud, legend, &into_rect(&flat, &corners, rect, 18.0), radius, Some(&depths))
}

fn frame(canvas: &Canvas<'_>, cloud: &Cloud, (x, y, width, _): Rect) -> Drawn {
    let title = Text::new(HEAD_PX, INK, HPos::Left, VPos::Center).bold();
    title.draw(canvas, &title.fit(&cloud.title, width), (x, y - 14.0))
}

/// Where a point of space falls on the page (y downwards), and its distance from the eye.
fn project([x, y, z]: [f64; 3]) -> ((f64, f64), f64) {
    let (turn, tilt) = (0.6_f64, 0.42_f64);
    let (right, away) = (x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin());
    ((right, -(z * tilt.cos() + away * tilt.sin())), away * tilt.cos() - z * tilt.sin())
}

/// Moves points so that those of `by` fill the rectangle, with equal units on both axes.
fn into_rect(points: &[(f64, f64)], by: &[(f64, f64)], (x, y, width, height): Rect, pad: f64) -> Vec<(f64, f64)> {
    let bounds = |value: fn(&(f64, f64)) -> f64| extent(by.iter().map(value).filter(|v| v.is_finite()));
    let ((x_low, x_high), (y_low, y_high)) = (bounds(|p| p.0), bounds(|p| p.1));
    let span = |low: f64, high: f64| (high - low).max(1e-12);
    let scale = ((width - 2.0 * pad) / span(x_low, x_high)).min((height - 2.0 * pad) / span(y_low, y_high));
    let middle = ((x_low + x_high) / 2.0, (y_low + y_high) / 2.0);
    points
        .iter()
        .map(|&(px, py)| (x + width / 2.0 + (px - middle.0) * scale, y + height / 2.0 + (py - middle.1) * scale))
        .collect()
}

/// Shuffled, or far points first where depths are given.
fn points(
    canvas: &Canvas<'_>,
    cloud: &Cloud,
    legend: &Legend,
    places: &[(f64, f64)],
    radius: f64,
    depths: Option<&[f64]>,
) -> Drawn {
    let look = |index: usize| legend.looks[cloud.labels[index] as usize];
    let mut order: Vec<usize> = (0..places.len()).collect();
    match depths {
        Some(depths) => order.sort_by(|&a, &b| depths[b].total_cmp(&depths[a]).then(a.cmp(&b))),
        // A fixed shuffle: multiplication by an odd constant mixes the bits of the index.
        None => order.sort_by_key(|&index| (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
    }
    for round in order.chunks_mut(places.len().div_ceil(ROUNDS).max(1)) {
        // Points of one class stand together: the backend writes neighbours of one shape in few bytes.
        round.sort_by_key(|&index| look(index));
        for &index in round.iter() {
            let (place, look) = (places[index], look(index));
            if place.0.is_finite() && place.1.is_finite() {
                mark(canvas, look.unwrap_or(0), radius, place, shade(look).mix(0.78).filled())?;
            }
        }
    }
    Ok(())
}
