//! Matrices as heat maps with the numbers in the cells.

use super::{
    Canvas, Drawn, GRID, HEAD_PX, INK, MUTED, Name, Picture, SMALL_PX, TEXT_PX, Text, grid, line, picture, rectangle,
    rgb,
};
use crate::error::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

/// A matrix of named rows and columns.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    pub(crate) title: String,
    /// Shade of each cell in [0, 1], row by row.
    pub(crate) shades: Vec<f64>,
    /// Text of each cell.
    pub(crate) texts: Vec<String>,
    /// The cell with a frame around it.
    pub(crate) best: Option<usize>,
}

/// What rows and columns are.
pub(crate) struct Sides<'a> {
    pub(crate) row_names: &'a [String],
    pub(crate) column_names: &'a [String],
    pub(crate) rows: &'a str,
    pub(crate) columns: &'a str,
}

impl Sides<'_> {
    /// Cells of a sheet: few classes leave room for the titles above.
    pub(crate) fn small_cell_px(&self) -> f64 {
        (230.0 / self.column_names.len().max(1) as f64).clamp(26.0, 46.0)
    }

    /// Whether the names of the columns fit upright below their cells.
    fn upright(&self, cell: f64) -> bool {
        self.column_names.iter().all(|name| NAME.width(name) <= cell - 4.0)
    }
}

const NAME: Text = Text { size: SMALL_PX, color: INK, h: HPos::Right, v: VPos::Center, bold: false };
const SIDE: Text = Text { size: TEXT_PX, color: MUTED, h: HPos::Center, v: VPos::Center, bold: false };
const NAME_LIMIT_PX: f64 = 170.0;
/// In light cells: as good as [`INK`], but it stays dark on dark paper, as the cells stay light.
const CELL_INK: RGBColor = rgb(0x1f2329);
/// Stands out from the darkest blue and from white, by 3 to 1 at least.
const FRAME: RGBColor = rgb(0xd96c00);

/// Cells of a page with one matrix.
pub(crate) const LARGE_CELL_PX: f64 = 38.0;

/// All matrices on one page, with cells of `cell_px`; names stand once at the left and once at the foot of each column of panels.
pub(crate) fn sheet(name: Name, sides: &Sides<'_>, cell_px: f64, matrices: &[Matrix]) -> Result<Picture> {
    let (columns, rows) = match sides.column_names.len() {
        0..=12 => grid(matrices.len()),
        _ => (matrices.len().clamp(1, 2), matrices.len().div_ceil(2)),
    };
    let longest = |names: &[String]| NAME.widest(names.iter().map(String::as_str), 0.0, NAME_LIMIT_PX) + 10.0;
    let names_px = longest(sides.row_names);
    let feet_px = if sides.upright(cell_px) { 24.0 } else { longest(sides.column_names) };
    let side = (cell_px * sides.column_names.len() as f64, cell_px * sides.row_names.len() as f64);
    let (left, top, pad) = (names_px + 26.0, 34.0, 26.0);
    let panel = (side.0 + pad, side.1 + 34.0);
    let size = (left + panel.0 * columns as f64, panel.1 * rows as f64 + feet_px + 32.0);

    let content = matrices.iter().filter_map(|matrix| told(sides, matrix)).collect::<Vec<_>>().join("; ");
    picture(name, size, content, |canvas| {
        for (index, matrix) in matrices.iter().enumerate() {
            let (column, row) = (index % columns, index / columns);
            let (x, y) = (left + panel.0 * column as f64, top + panel.1 * row as f64);
            let title = Text::new(HEAD_PX, INK, HPos::Left, VPos::Center).bold();
            title.draw(canvas, &title.fit(&matrix.title, side.0), (x, y - 14.0))?;
            cells(canvas, matrix, side, cell_px, (x, y))?;
            if column == 0 {
                row_names(canvas, sides, cell_px, names_px, (x, y))?;
            }
            // The lowest panel of each column of panels carries the names below.
            if index + columns >= matrices.len() {
                column_names(canvas, sides, cell_px, feet_px, (x, y + side.1))?;
            }
        }
        Ok(())
    })
}

/// The framed cell, else the darkest, off the diagonal where rows and columns are the same.
fn told(sides: &Sides<'_>, matrix: &Matrix) -> Option<String> {
    let columns = sides.column_names.len();
    let square = sides.row_names == sides.column_names;
    let candidates = (0..matrix.shades.len()).filter(|cell| !square || cell / columns != cell % columns);
    let darkest = || candidates.rev().max_by(|&a, &b| matrix.shades[a].total_cmp(&matrix.shades[b]));
    let cell = matrix.best.or_else(darkest)?;
    let (row, column) = (&sides.row_names[cell / columns], &sides.column_names[cell % columns]);
    let outside = if square { "darkest outside the diagonal" } else { "darkest" };
    Some(format!(
        "{}: {outside} at {} {row}, {} {column}: {}",
        matrix.title,
        sides.rows,
        sides.columns,
        if matrix.texts[cell].is_empty() { "0" } else { &matrix.texts[cell] }
    ))
}

fn cells(canvas: &Canvas<'_>, matrix: &Matrix, side: (f64, f64), cell: f64, (x, y): (f64, f64)) -> Drawn {
    let columns = (side.0 / cell).round() as usize;
    let corner = |index: usize| (x + cell * (index % columns) as f64, y + cell * (index / columns) as f64);
    for (index, (&shade, text)) in matrix.shades.iter().zip(&matrix.texts).enumerate() {
        let (left, top) = corner(index);
        let fill = shade_color(shade);
        rectangle(canvas, (left, top), (cell, cell), fill.filled())?;
        let ink = if luminance(fill) > 0.3 { CELL_INK } else { WHITE };
        let style = Text::new(SMALL_PX, ink, HPos::Center, VPos::Center);
        style.draw(canvas, text, (left + cell / 2.0, top + cell / 2.0))?;
    }
    rectangle(canvas, (x, y), side, line(GRID, 1.0))?;
    if let Some((left, top)) = matrix.best.map(corner) {
        rectangle(canvas, (left + 1.5, top + 1.5), (cell - 3.0, cell - 3.0), line(FRAME, 3.0))?;
    }
    Ok(())
}

fn row_names(canvas: &Canvas<'_>, sides: &Sides<'_>, cell: f64, names_px: f64, (x, y): (f64, f64)) -> Drawn {
    for (row, name) in sides.row_names.iter().enumerate() {
        let at = (x - 6.0, y + cell * (row as f64 + 0.5));
        NAME.draw(canvas, &NAME.fit(name, NAME_LIMIT_PX), at)?;
    }
    let middle = y + cell * sides.row_names.len() as f64 / 2.0;
    SIDE.draw_upwards(canvas, sides.rows, (x - names_px - 14.0, middle))
}

fn column_names(canvas: &Canvas<'_>, sides: &Sides<'_>, cell: f64, feet_px: f64, (x, y): (f64, f64)) -> Drawn {
    for (column, name) in sides.column_names.iter().enumerate() {
        let middle = x + cell * (column as f64 + 0.5);
        if sides.upright(cell) {
            Text { h: HPos::Center, ..NAME }.draw(canvas, name, (middle, y + 14.0))?;
        } else {
            NAME.draw_upwards(canvas, &NAME.fit(name, NAME_LIMIT_PX), (middle, y + 6.0))?;
        }
    }
    let middle = x + cell * sides.column_names.len() as f64 / 2.0;
    SIDE.draw(canvas, sides.columns, (middle, y + feet_px + 12.0))
}

/// White to dark blue, even in lightness.
fn shade_color(shade: f64) -> RGBColor {
    const STOPS: [u32; 5] = [0xffffff, 0xcddef0, 0x7dabd9, 0x336eb2, 0x0c306e];
    let position = shade.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let low = (position as usize).min(STOPS.len() - 2);
    let t = position - low as f64;
    let mix = |a: u8, b: u8| (f64::from(a) + t * (f64::from(b) - f64::from(a))).round() as u8;
    let (a, b) = (rgb(STOPS[low]), rgb(STOPS[low + 1]));
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

/// Relative luminance as WCAG defines it.
fn luminance(RGBColor(r, g, b): RGBColor) -> f64 {
    let linear = |c: u8| {
        let c = f64::from(c) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
}
