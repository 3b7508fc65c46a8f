//! Pictures from plain numbers: no files, no runs, no measuring here.
//!
//! Sizes are pixels; [`px`] turns them into the backend's tenths. Text is at least [`SMALL_PX`] high.

pub(crate) mod accuracy;
pub(crate) mod curves;
pub(crate) mod matrix;
pub(crate) mod ranks;
pub(crate) mod scatter;
pub(crate) mod svg;

use crate::error::{Error, Result};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, FontTransform, register_font};
use std::ops::Range;
use std::sync::OnceLock;
use svg::{FONT_FAMILY, FONT_HEIGHT_EM, Svg, UNITS_PER_PX};

/// Smallest text.
pub(crate) const SMALL_PX: f64 = 11.0;
/// Ordinary text.
pub(crate) const TEXT_PX: f64 = 12.0;
/// Headings inside a picture.
pub(crate) const HEAD_PX: f64 = 14.0;

pub(crate) const INK: RGBColor = rgb(0x1f2328);
pub(crate) const MUTED: RGBColor = rgb(0x59636e);
pub(crate) const GRID: RGBColor = rgb(0xe3e6ea);

/// Ten colours that differ by at least 10 OKLab units (of 100) pairwise, also as seen without red or green cones, and stand out from white
/// by 3 to 1 at least.
const PALETTE: [u32; COLORS] =
    [0x2249b0, 0x8d4f00, 0x66a31b, 0xf6248c, 0x570578, 0x398bff, 0x793e52, 0x288467, 0xd04bcc, 0x333f04];
/// The same on dark paper, in the same order.
const DARK_PALETTE: [u32; COLORS] =
    [0x5b87ff, 0xede457, 0xa6c922, 0xff7c88, 0x985bc0, 0xa0ebff, 0xb66c91, 0x45bbbc, 0xec9cff, 0x88983b];
/// So many classes or variants have a colour of their own.
pub(crate) const COLORS: usize = 10;

/// The colour of the class or variant at `index`.
pub(crate) fn color(index: usize) -> RGBColor {
    rgb(PALETTE[index % COLORS])
}

/// The colours on light and on dark paper, as CSS has them.
pub(crate) fn hex_colors() -> [Vec<String>; 2] {
    [PALETTE, DARK_PALETTE].map(|palette| palette.iter().map(|hex| format!("#{hex:06x}")).collect())
}

const fn rgb(hex: u32) -> RGBColor {
    RGBColor((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

/// A finished picture.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    /// File name below `plots/`.
    pub(crate) file: String,
    /// What kind of picture of what it is.
    pub(crate) caption: String,
    /// What is to be seen in it, for people who cannot.
    pub(crate) content: String,
    /// What follows from its numbers, a sentence.
    pub(crate) conclusion: Option<String>,
    /// The table that holds its numbers and no others, where there is one.
    pub(crate) table: Option<String>,
    pub(crate) svg: String,
    /// Width and height in pixels.
    pub(crate) size: (f64, f64),
}

impl Picture {
    /// The same with what follows from its numbers.
    pub(crate) fn concluding(self, conclusion: Option<String>) -> Self {
        Self { conclusion, ..self }
    }

    /// The same with the table of its numbers.
    pub(crate) fn of_table(self, table: String) -> Self {
        Self { table: Some(table), ..self }
    }
}

/// A picture's file name below `plots/`, and its caption.
pub(crate) type Name = (String, String);

pub(crate) type Canvas<'a> = DrawingArea<Svg<'a>, Shift>;
pub(crate) type Chart<'a, 'b> = ChartContext<'a, Svg<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
pub(crate) type Drawn = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Pixels in backend units.
pub(crate) fn px(pixels: f64) -> i32 {
    (pixels * f64::from(UNITS_PER_PX)).round() as i32
}

/// A line `width` pixels wide.
pub(crate) fn line(color: RGBColor, width: f64) -> ShapeStyle {
    color.stroke_width(px(width) as u32)
}

/// Draws a picture of `size` pixels; `content` tells what is to be seen.
pub(crate) fn picture(
    (file, caption): Name,
    (width, height): (f64, f64),
    content: String,
    draw: impl FnOnce(&Canvas<'_>) -> Drawn,
) -> Result<Picture> {
    let failed = |reason: String| Error::Picture { picture: file.clone(), reason };
    if !font_is_loaded() {
        return Err(failed("the bundled font cannot be read".into()));
    }
    let size = (px(width) as u32, px(height) as u32);
    let mut body = String::new();
    let canvas = Svg::new(&mut body, size).into_drawing_area();
    draw(&canvas).map_err(|error| failed(error.to_string()))?;
    canvas.present().map_err(|error| failed(error.to_string()))?;
    drop(canvas);
    let svg = svg::document(&body, size, &caption);
    Ok(Picture { file, caption, content, conclusion: None, table: None, svg, size: (width, height) })
}

/// Loads the bundled font at the first call. plotters measures text with it; what a reader sees has the same widths or about the same.
fn font_is_loaded() -> bool {
    static LOADED: OnceLock<bool> = OnceLock::new();
    *LOADED.get_or_init(|| {
        let bytes = include_bytes!("../../assets/Arimo-Regular.ttf");
        register_font(FONT_FAMILY, FontStyle::Normal, bytes).is_ok()
    })
}

/// How a text looks and where its anchor is.
#[derive(Clone, Copy)]
pub(crate) struct Text {
    pub(crate) size: f64,
    pub(crate) color: RGBColor,
    pub(crate) h: HPos,
    pub(crate) v: VPos,
    pub(crate) bold: bool,
}

impl Text {
    pub(crate) fn new(size: f64, color: RGBColor, h: HPos, v: VPos) -> Self {
        Self { size, color, h, v, bold: false }
    }

    pub(crate) fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    pub(crate) fn style(self) -> TextStyle<'static> {
        let style = if self.bold { FontStyle::Bold } else { FontStyle::Normal };
        let height = self.size * FONT_HEIGHT_EM * f64::from(UNITS_PER_PX);
        TextStyle {
            font: FontDesc::new(FontFamily::Name(FONT_FAMILY), height, style),
            color: self.color.to_backend_color(),
            pos: Pos::new(self.h, self.v),
        }
    }

    /// Draws `text` with its anchor at `at`, in pixels of `canvas`.
    pub(crate) fn draw(self, canvas: &Canvas<'_>, text: &str, at: (f64, f64)) -> Drawn {
        Ok(canvas.draw(&plotters::element::Text::new(text.to_string(), (px(at.0), px(at.1)), self.style()))?)
    }

    /// The same from below upwards.
    pub(crate) fn draw_upwards(self, canvas: &Canvas<'_>, text: &str, at: (f64, f64)) -> Drawn {
        let style = self.style().transform(FontTransform::Rotate270);
        Ok(canvas.draw(&plotters::element::Text::new(text.to_string(), (px(at.0), px(at.1)), style))?)
    }

    /// Room for `text` in pixels: its width in the bundled font, and an eighth more, since a reader's machine may have only wider fonts.
    pub(crate) fn width(self, text: &str) -> f64 {
        font_is_loaded();
        let width = self.style().font.box_size(text).map_or(0.0, |(width, _)| f64::from(width));
        1.125 * width / f64::from(UNITS_PER_PX)
    }

    /// Room for the widest of `texts`, at least `least` and at most `most` pixels.
    pub(crate) fn widest<'a>(self, texts: impl IntoIterator<Item = &'a str>, least: f64, most: f64) -> f64 {
        texts.into_iter().map(|text| self.width(text)).fold(least, f64::max).min(most)
    }

    /// `text` cut to `width` pixels, with an ellipsis in its middle where something is cut: names often differ in their ends.
    pub(crate) fn fit(self, text: &str, width: f64) -> String {
        if self.width(text) <= width {
            return text.to_string();
        }
        let letters: Vec<char> = text.chars().collect();
        let cut = |kept: usize| {
            let head: String = letters[..kept.div_ceil(2)].iter().collect();
            let tail: String = letters[letters.len() - kept / 2..].iter().collect();
            format!("{}\u{2026}{}", head.trim_end(), tail.trim_start())
        };
        // Halved rather than counted down: a name may have thousands of letters.
        let (mut fits, mut cut_off) = (0, letters.len());
        while cut_off - fits > 1 {
            let middle = fits.midpoint(cut_off);
            *(if self.width(&cut(middle)) <= width { &mut fits } else { &mut cut_off }) = middle;
        }
        cut(fits)
    }
}

/// Straight lines from point to point, in strokes and gaps of the lengths of `dash` if there are any.
pub(crate) fn stroke(canvas: &Canvas<'_>, points: &[(f64, f64)], dash: Option<(f64, f64)>, style: ShapeStyle) -> Drawn {
    let points: Vec<_> = points.iter().map(|&(x, y)| (px(x), px(y))).collect();
    Ok(match dash {
        None => canvas.draw(&PathElement::new(points, style)),
        Some((on, off)) => canvas.draw(&DashedPathElement::new(points, px(on), px(off), style)),
    }?)
}

/// A rectangle with its upper left corner at `(x, y)`.
pub(crate) fn rectangle(
    canvas: &Canvas<'_>,
    (x, y): (f64, f64),
    (width, height): (f64, f64),
    style: impl Into<ShapeStyle>,
) -> Drawn {
    Ok(canvas.draw(&Rectangle::new([(px(x), px(y)), (px(x + width), px(y + height))], style))?)
}

/// A small filled shape at a place. Neighbouring kinds differ in shape, and so do those that have one colour of the palette.
pub(crate) fn mark(canvas: &Canvas<'_>, kind: usize, radius: f64, (x, y): (f64, f64), fill: ShapeStyle) -> Drawn {
    let corners: &[(f64, f64)] = match (kind + kind / COLORS) % 6 {
        0 => return Ok(canvas.draw(&Circle::new((px(x), px(y)), px(radius), fill))?),
        1 => &[(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)],
        2 => &[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
        3 => &[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)],
        4 => &[(0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)],
        _ => &[
            (-0.4, -1.2),
            (0.4, -1.2),
            (0.4, -0.4),
            (1.2, -0.4),
            (1.2, 0.4),
            (0.4, 0.4),
            (0.4, 1.2),
            (-0.4, 1.2),
            (-0.4, 0.4),
            (-1.2, 0.4),
            (-1.2, -0.4),
            (-0.4, -0.4),
        ],
    };
    // Rounded apart from the place, so that all marks of a kind are the same shape.
    let corner = |&(dx, dy): &(f64, f64)| (px(x) + px(dx * radius), px(y) + px(dy * radius));
    Ok(canvas.draw(&Polygon::new(corners.iter().map(corner).collect::<Vec<_>>(), fill))?)
}

/// What an axis says and spans.
pub(crate) struct Axis<'a> {
    what: &'a str,
    range: Range<f64>,
    ticks: usize,
    format: fn(&f64) -> String,
    /// The same for any place between ticks.
    told: fn(&f64) -> String,
}

/// More ticks than this are never drawn.
const MOST_TICKS: usize = 24;

impl<'a> Axis<'a> {
    /// A value in words, with three decimals at most (of a share: one of its percent).
    pub(crate) fn tell(&self, value: f64) -> String {
        (self.told)(&((1e3 * value).round() / 1e3))
    }

    /// An axis of about `ticks` ticks, written by `format`, which leaves those empty that have no label.
    pub(crate) fn new(what: &'a str, range: Range<f64>, ticks: usize, format: fn(&f64) -> String) -> Self {
        Self { what, range, ticks: ticks.clamp(1, MOST_TICKS), format, told: format }
    }

    /// The same with places in words written by `told`: for a `format` that leaves most of them empty.
    pub(crate) fn telling(self, told: fn(&f64) -> String) -> Self {
        Self { told, ..self }
    }
}

/// Draws the axes as all charts have them: a light grid, ticks outside, descriptions in full words. Without `y`, no ticks at the left.
pub(crate) fn draw_axes(chart: &mut Chart<'_, '_>, x: &Axis<'_>, y: Option<&Axis<'_>>) -> Drawn {
    let mut mesh = chart.configure_mesh();
    mesh.x_labels(x.ticks)
        .x_max_light_lines(1)
        .y_max_light_lines(1)
        .light_line_style(line(GRID, 0.0))
        .bold_line_style(line(GRID, 1.0))
        .axis_style(line(MUTED, 1.0))
        .label_style(Text::new(SMALL_PX, MUTED, HPos::Center, VPos::Center).style())
        .axis_desc_style(Text::new(TEXT_PX, INK, HPos::Center, VPos::Center).style())
        .x_label_formatter(&x.format)
        .x_desc(x.what)
        .set_all_tick_mark_size(px(4.0));
    match y {
        Some(y) => mesh.y_labels(y.ticks).y_label_formatter(&y.format).y_desc(y.what),
        None => mesh.disable_y_mesh().y_labels(0),
    };
    Ok(mesh.draw()?)
}

/// `0.5` as `50 %`.
pub(crate) fn percent_tick(value: &f64) -> String {
    format!("{} %", round(value * 100.0))
}

/// A number with as many digits as it needs, at most four decimals.
pub(crate) fn plain_tick(value: &f64) -> String {
    round(*value)
}

fn round(value: f64) -> String {
    let rounded = (value * 1e4).round() / 1e4;
    // No "-0".
    format!("{}", if rounded == 0.0 { 0.0 } else { rounded })
}

/// The lowest and highest of `values`; infinite where there are none.
pub(crate) fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
}

/// Columns and rows for `n` panels on a page: at most four columns.
pub(crate) fn grid(n: usize) -> (usize, usize) {
    let columns = match n {
        0..=3 => n.max(1),
        4 => 2,
        5 | 6 => 3,
        _ => 4,
    };
    (columns, n.div_ceil(columns))
}
