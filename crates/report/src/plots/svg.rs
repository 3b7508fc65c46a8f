//! A plotters backend that writes small, sharp SVG: tenths of a pixel, neighbours of one style in one path, true font sizes.

use plotters::style::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontStyle,
    FontTransform,
};
use std::convert::Infallible;
use std::fmt::Write as _;

/// Backend units per pixel. plotters counts in whole units; a tenth of a pixel is finer than a screen.
pub(crate) const UNITS_PER_PX: i32 = 10;

/// The bundled font's height (ascent + descent) in em: plotters sizes fonts by height, SVG by em.
pub(crate) const FONT_HEIGHT_EM: f64 = 2288.0 / 2048.0;

/// Families in the order of preference; all but the last have the widths of the bundled font.
pub(crate) const FONT_FAMILY: &str = "Arimo, Arial, 'Liberation Sans', Helvetica, sans-serif";

/// Baseline below the anchor, in em, for text anchored at its top, middle and bottom (of capitals, descenders).
const BASELINE_EM: [f64; 3] = [0.74, 0.36, -0.22];

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

/// Writes elements into a string; the frame around them is [`document`].
pub(crate) struct Svg<'a> {
    body: &'a mut String,
    size: (u32, u32),
    /// The path being gathered: its attributes and its data.
    path: (String, String),
}

impl<'a> Svg<'a> {
    /// A picture of `size` units.
    pub(crate) fn new(body: &'a mut String, size: (u32, u32)) -> Self {
        Self { body, size, path: Default::default() }
    }

    /// Adds to the path at hand, or begins another where the style differs.
    fn add_path(&mut self, attributes: String, data: &str) {
        if self.path.0 != attributes {
            self.flush();
            self.path.0 = attributes;
        }
        self.path.1.push_str(data);
    }

    fn flush(&mut self) {
        let (attributes, data) = std::mem::take(&mut self.path);
        if !data.is_empty() {
            let _ = writeln!(self.body, "<path d=\"{data}\"{attributes}/>");
        }
    }
}

/// A whole SVG file around `body`, with a title for people who cannot see it.
pub(crate) fn document(body: &str, (width, height): (u32, u32), title: &str) -> String {
    let (width, height) = (number(width as i32), number(height as i32));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"{FONT_FAMILY}\" role=\"img\">\n<title>{}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n",
        escape(title)
    )
}

/// Text safe in XML, in elements and attributes. Characters that XML forbids become U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            c if c < ' ' || c == '\u{FFFE}' || c == '\u{FFFF}' => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

/// Units as pixels, without a needless `.0`.
pub(crate) fn number(units: i32) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let (whole, tenth) = (units.abs() / UNITS_PER_PX, units.abs() % UNITS_PER_PX);
    match (whole, tenth) {
        (_, 0) => format!("{sign}{whole}"),
        (0, _) => format!("{sign}.{tenth}"),
        _ => format!("{sign}{whole}.{tenth}"),
    }
}

pub(crate) fn hex((r, g, b): (u8, u8, u8)) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn fill(color: BackendColor) -> String {
    let opacity = opacity("fill-opacity", color);
    format!(" fill=\"{}\"{opacity}", hex(color.rgb))
}

fn stroke<S: BackendStyle>(style: &S) -> String {
    let (color, width) = (style.color(), style.stroke_width() as i32);
    format!(
        " fill=\"none\" stroke=\"{}\"{} stroke-width=\"{}\" stroke-linejoin=\"round\"",
        hex(color.rgb),
        opacity("stroke-opacity", color),
        number(width)
    )
}

fn opacity(name: &str, color: BackendColor) -> String {
    if color.alpha >= 1.0 { String::new() } else { format!(" {name}=\"{:.2}\"", color.alpha) }
}

fn push_polyline(data: &mut String, points: impl IntoIterator<Item = BackendCoord>) {
    let mut last: Option<BackendCoord> = None;
    for (x, y) in points {
        let _ = match last {
            None => write!(data, "M{} {}", number(x), number(y)),
            Some((px, py)) if (px, py) == (x, y) => Ok(()),
            Some((px, py)) if py == y => write!(data, "h{}", number(x - px)),
            Some((px, py)) if px == x => write!(data, "v{}", number(y - py)),
            Some((px, py)) => write!(data, "l{} {}", number(x - px), number(y - py)),
        };
        last = Some((x, y));
    }
}

impl DrawingBackend for Svg<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        self.flush();
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Drawn {
        self.draw_rect((x, y), (x + 1, y + 1), &color, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        (x0, y0): BackendCoord,
        (x1, y1): BackendCoord,
        style: &S,
        filled: bool,
    ) -> Drawn {
        if filled {
            self.fill_polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], style)
        } else {
            self.draw_path([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)], style)
        }
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        points: I,
        style: &S,
    ) -> Drawn {
        if style.color().alpha > 0.0 && style.stroke_width() > 0 {
            let mut data = String::new();
            push_polyline(&mut data, points);
            self.add_path(stroke(style), &data);
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        (x, y): BackendCoord,
        radius: u32,
        style: &S,
        filled: bool,
    ) -> Drawn {
        if style.color().alpha > 0.0 {
            let r = number(radius as i32);
            let d = number(2 * radius as i32);
            let data = format!(
                "M{} {}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z",
                number(x - radius as i32),
                number(y)
            );
            self.add_path(if filled { fill(style.color()) } else { stroke(style) }, &data);
        }
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        points: I,
        style: &S,
    ) -> Drawn {
        if style.color().alpha > 0.0 {
            let mut data = String::new();
            push_polyline(&mut data, points);
            data.push('z');
            self.add_path(fill(style.color()), &data);
        }
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Drawn {
        let color = style.color();
        if color.alpha == 0.0 || text.is_empty() {
            return Ok(());
        }
        self.flush();
        let anchor = match style.anchor().h_pos {
            HPos::Left => "",
            HPos::Center => " text-anchor=\"middle\"",
            HPos::Right => " text-anchor=\"end\"",
        };
        let em = style.size() / FONT_HEIGHT_EM;
        let baseline = match style.anchor().v_pos {
            VPos::Top => BASELINE_EM[0],
            VPos::Center => BASELINE_EM[1],
            VPos::Bottom => BASELINE_EM[2],
        };
        let weight = match style.style() {
            FontStyle::Bold => " font-weight=\"bold\"",
            _ => "",
        };
        let degrees = match style.transform() {
            FontTransform::None => 0,
            FontTransform::Rotate90 => 90,
            FontTransform::Rotate180 => 180,
            FontTransform::Rotate270 => -90,
        };
        let rotation = match degrees {
            0 => String::new(),
            _ => format!(" transform=\"rotate({degrees} {} {})\"", number(x), number(y)),
        };
        let _ = writeln!(
            self.body,
            "<text x=\"{}\" y=\"{}\" font-size=\"{}\"{anchor}{weight}{}{rotation}>{}</text>",
            number(x),
            number(y + (baseline * em).round() as i32),
            number(em.round() as i32),
            fill(color),
            escape(text)
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let short: Vec<_> = [0, 5, -5, 10, 123, -120].map(number).into();
        assert_eq!(short, ["0", ".5", "-.5", "1", "12.3", "-12"]);
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("a<b>&\"c'\u{1}\n"), "a&lt;b&gt;&amp;&quot;c&#39;\u{FFFD} ");
    }
}
