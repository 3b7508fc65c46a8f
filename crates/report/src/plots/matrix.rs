//! Matrices as heat maps with the numbers in the cells.

use super::{
    Canvas, Drawn, GRID, HEAD_PX, INK, MUTED, Picture, SMALL_PX, TEXT_PX, Text, grid, line, picture, px,
};
use crate::error::Result;
use plotters::prelude::*;
use plotters::style::FontTransform;
use plotters::style::text_anchor::{HPos, VPos};

/// A square matrix of named rows and columns.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    pub(crate) title: String,
    /// Shade of each cell in [0, 1], row by row.
    pub(crate) shades: Vec<f64>,
    /// Text of each cell.
    pub(crate) texts: Vec<String>,
}

/// What rows and columns are.
pub(crate) struct Sides<'a> {
    pub(crate) names: &'a [String],
    pub(crate) rows: &'a str,
    pub(crate) columns: &'a str,
}

const NAME_LIMIT_PX: f64 = 170.0;

/// One matrix a page, with cells of `cell_px`.
pub(crate) fn matrix(
    file: &str,
    alt: &str,
    sides: &Sides<'_>,
    cell_px: f64,
    matrix: &Matrix,
) -> Result<Picture> {
    sheet(file, alt, sides, cell_px, std::slice::from_ref(matrix))
}

/// All matrices on one page; names stand once at the left and once at the foot of each column of panels.
pub(crate) fn sheet(
    file: &str,
    alt: &str,
    sides: &Sides<'_>,
    cell_px: f64,
    matrices: &[Matrix],
) -> Result<Picture> {
    let classes = sides.names.len();
    let (columns, rows) = match classes {
        0..=12 => grid(matrices.len()),
        _ => (matrices.len().clamp(1, 2), matrices.len().div_ceil(2)),
    };
    let name = Text::new(SMALL_PX, INK, HPos::Right, VPos::Center);
    let names_px =
        sides.names.iter().map(|text| name.width(text)).fold(0.0, f64::max).min(NAME_LIMIT_PX) + 10.0;
    let side = cell_px * classes as f64;
    let (left, top, pad) = (names_px + 26.0, 34.0, 26.0);
    let panel = (side + pad, side + 34.0);
    let foot = names_px + 26.0;
    let size = (left + panel.0 * columns as f64, panel.1 * rows as f64 + foot + 6.0);

    picture(file, alt, size, |canvas| {
        for (index, matrix) in matrices.iter().enumerate() {
            let (column, row) = (index % columns, index / columns);
            let (x, y) = (left + panel.0 * column as f64, top + panel.1 * row as f64);
            let title = Text::new(HEAD_PX, INK, HPos::Left, VPos::Center).bold();
            title.draw(canvas, &title.fit(&matrix.title, side), (x, y - 14.0))?;
            cells(canvas, matrix, classes, cell_px, (x, y))?;
            if column == 0 {
                row_names(canvas, sides, cell_px, names_px, (x, y))?;
            }
            // The lowest panel of each column of panels carries the names below.
            if index + columns >= matrices.len() {
                column_names(canvas, sides, cell_px, names_px, (x, y + side))?;
            }
        }
        Ok(String::new())
    })
}

fn cells(canvas: &Canvas<'_>, matrix: &Matrix, classes: usize, cell: f64, (x, y): (f64, f64)) -> Drawn {
    for (index, (&shade, text)) in matrix.shades.iter().zip(&matrix.texts).enumerate() {
        let (row, column) = (index / classes, index % classes);
        let (left, top) = (x + cell * column as f64, y + cell * row as f64);
        let fill = shade_color(shade);
        canvas
            .draw(&Rectangle::new([(px(left), px(top)), (px(left + cell), px(top + cell))], fill.filled()))?;
        let ink = if luminance(fill) > 0.3 { INK } else { WHITE };
        let style = Text::new(SMALL_PX, ink, HPos::Center, VPos::Center);
        style.draw(canvas, text, (left + cell / 2.0, top + cell / 2.0))?;
    }
    let side = cell * classes as f64;
    canvas.draw(&Rectangle::new([(px(x), px(y)), (px(x + side), px(y + side))], line(GRID, 1.0)))?;
    Ok(())
}

fn row_names(canvas: &Canvas<'_>, sides: &Sides<'_>, cell: f64, names_px: f64, (x, y): (f64, f64)) -> Drawn {
    let text = Text::new(SMALL_PX, INK, HPos::Right, VPos::Center);
    for (row, name) in sides.names.iter().enumerate() {
        let at = (x - 6.0, y + cell * (row as f64 + 0.5));
        text.draw(canvas, &text.fit(name, NAME_LIMIT_PX), at)?;
    }
    let middle = y + cell * sides.names.len() as f64 / 2.0;
    let style =
        Text::new(TEXT_PX, MUTED, HPos::Center, VPos::Center).style().transform(FontTransform::Rotate270);
    canvas.draw(&plotters::element::Text::new(
        sides.rows.to_string(),
        (px(x - names_px - 14.0), px(middle)),
        style,
    ))?;
    Ok(())
}

fn column_names(
    canvas: &Canvas<'_>,
    sides: &Sides<'_>,
    cell: f64,
    names_px: f64,
    (x, y): (f64, f64),
) -> Drawn {
    let text = Text::new(SMALL_PX, INK, HPos::Right, VPos::Center);
    for (column, name) in sides.names.iter().enumerate() {
        let at = (px(x + cell * (column as f64 + 0.5)), px(y + 6.0));
        let style = text.style().transform(FontTransform::Rotate270);
        canvas.draw(&plotters::element::Text::new(text.fit(name, NAME_LIMIT_PX), at, style))?;
    }
    let middle = x + cell * sides.names.len() as f64 / 2.0;
    Text::new(TEXT_PX, MUTED, HPos::Center, VPos::Center).draw(
        canvas,
        sides.columns,
        (middle, y + names_px + 12.0),
    )
}

/// White to dark blue, even in lightness.
fn shade_color(shade: f64) -> RGBColor {
    const STOPS: [(f64, f64, f64); 5] = [
        (255.0, 255.0, 255.0),
        (205.0, 222.0, 240.0),
        (125.0, 171.0, 217.0),
        (51.0, 110.0, 178.0),
        (12.0, 48.0, 110.0),
    ];
    let position = shade.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let low = (position as usize).min(STOPS.len() - 2);
    let t = position - low as f64;
    let mix = |a: f64, b: f64| (a + t * (b - a)).round() as u8;
    let (a, b) = (STOPS[low], STOPS[low + 1]);
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
