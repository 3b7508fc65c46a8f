//! A plotters backend that writes small, sharp SVG: tenths of a pixel, neighbours of one style in one path, many neighbours of one
//! shape as markers (some ten bytes each), true font sizes.

use askama::filters::{Escaper, Html};
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

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

/// So many neighbours of one shape become markers.
const MANY: usize = 4;

/// Writes elements into a string; the frame around them is [`document`].
pub(crate) struct Svg<'a> {
    body: &'a mut String,
    size: (u32, u32),
    /// What is being gathered: the attributes, and each shape's start with the path from there.
    gathered: (String, Vec<(BackendCoord, String)>),
    /// Attributes and path of every marker defined so far; its place is its number.
    markers: Vec<(String, String)>,
}

impl<'a> Svg<'a> {
    /// A picture of `size` units.
    pub(crate) fn new(body: &'a mut String, size: (u32, u32)) -> Self {
        Self { body, size, gathered: Default::default(), markers: Vec::new() }
    }

    /// Adds a shape to those at hand, or begins anew where the style differs.
    fn add(&mut self, attributes: String, start: BackendCoord, path: String) {
        if self.gathered.0 != attributes {
            self.flush();
            self.gathered.0 = attributes;
        }
        self.gathered.1.push((start, path));
    }

    fn flush(&mut self) {
        let (attributes, shapes) = std::mem::take(&mut self.gathered);
        let Some((_, path)) = shapes.first() else { return };
        let alike = shapes.iter().all(|shape| shape.1 == *path);
        if shapes.len() < MANY || !alike {
            let path = |((x, y), path): &(BackendCoord, String)| format!("M{} {}{path}", number(*x), number(*y));
            let data: String = shapes.iter().map(path).collect();
            let _ = writeln!(self.body, "<path d=\"{data}\"{attributes}/>");
            return;
        }
        let known = self.markers.iter().position(|marker| (&marker.0, &marker.1) == (&attributes, path));
        let id = known.unwrap_or_else(|| {
            let id = self.markers.len();
            let _ = writeln!(
                self.body,
                "<marker id=\"m{id}\" markerUnits=\"userSpaceOnUse\" overflow=\"visible\"><path d=\"M0 0{path}\"{attributes}/></marker>"
            );
            self.markers.push((attributes, path.clone()));
            id
        });
        let places: Vec<String> = shapes.iter().map(|((x, y), _)| format!("{} {}", number(*x), number(*y))).collect();
        let _ = writeln!(
            self.body,
            "<path d=\"M{}\" fill=\"none\" marker-start=\"url(#m{id})\" marker-mid=\"url(#m{id})\" marker-end=\"url(#m{id})\"/>",
            places.join(" ")
        );
    }
}

/// A whole SVG file around `body`, with a title for people who cannot see it.
pub(crate) fn document(body: &str, (width, height): (u32, u32), title: &str) -> String {
    let (width, height) = (number(width as i32), number(height as i32));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"{FONT_FAMILY}\" role=\"img\">\n<title>{}</title>\n<style>{}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n",
        escape(title),
        on_dark_paper()
    )
}

/// The colours of a picture on a screen with dark paper. Attributes stay as they are, so that programs without style sheets draw it
/// as on white.
fn on_dark_paper() -> String {
    let rule = |(light, dark): (String, String)| {
        format!("[fill=\"{light}\"]{{fill:{dark}}}[stroke=\"{light}\"]{{stroke:{dark}}}")
    };
    let [light, dark] = super::hex_colors();
    let paper = [("#fff", "#14171c"), ("#1f2328", "#e6e9ee"), ("#59636e", "#9da7b3"), ("#e3e6ea", "#343b45")];
    let paper = paper.map(|(light, dark)| (light.to_string(), dark.to_string()));
    let rules: String = paper.into_iter().chain(light.into_iter().zip(dark)).map(rule).collect();
    format!("@media screen and (prefers-color-scheme:dark){{{rules}}}")
}

/// Text safe in XML, in elements and attributes. Characters that XML forbids become U+FFFD.
fn escape(text: &str) -> String {
    let allowed = |c: char| match c {
        '\t' | '\n' | '\r' => ' ',
        '\0'..' ' | '\u{FFFE}' | '\u{FFFF}' => '\u{FFFD}',
        c => c,
    };
    let mut out = String::new();
    let _ = Html.write_escaped_str(&mut out, &text.chars().map(allowed).collect::<String>());
    out
}

/// Units as pixels, without a needless `.0`.
fn number(units: i32) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let (whole, tenth) = (units.abs() / UNITS_PER_PX, units.abs() % UNITS_PER_PX);
    match (whole, tenth) {
        (_, 0) => format!("{sign}{whole}"),
        (0, _) => format!("{sign}.{tenth}"),
        _ => format!("{sign}{whole}.{tenth}"),
    }
}

fn hex((r, g, b): (u8, u8, u8)) -> String {
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

/// The first point, and the way from there to all others.
fn polyline(points: impl IntoIterator<Item = BackendCoord>) -> Option<(BackendCoord, String)> {
    let mut points = points.into_iter();
    let start = points.next()?;
    let (mut path, mut last) = (String::new(), start);
    for (x, y) in points {
        let _ = match (number(x - last.0).as_str(), number(y - last.1).as_str()) {
            ("0", "0") => Ok(()),
            (dx, "0") => write!(path, "h{dx}"),
            ("0", dy) => write!(path, "v{dy}"),
            (dx, dy) => write!(path, "l{dx} {dy}"),
        };
        last = (x, y);
    }
    Some((start, path))
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

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, points: I, style: &S) -> Drawn {
        if style.color().alpha > 0.0
            && style.stroke_width() > 0
            && let Some((start, path)) = polyline(points)
        {
            self.add(stroke(style), start, path);
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(&mut self, (x, y): BackendCoord, radius: u32, style: &S, filled: bool) -> Drawn {
        if style.color().alpha > 0.0 {
            let (r, d) = (number(radius as i32), number(2 * radius as i32));
            let path = format!("a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z");
            let attributes = if filled { fill(style.color()) } else { stroke(style) };
            self.add(attributes, (x - radius as i32, y), path);
        }
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, points: I, style: &S) -> Drawn {
        if style.color().alpha > 0.0
            && let Some((start, path)) = polyline(points)
        {
            self.add(fill(style.color()), start, path + "z");
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
        // Below the anchor, in em: the top is that of capitals, the bottom that of descenders.
        let baseline = match style.anchor().v_pos {
            VPos::Top => 0.74,
            VPos::Center => 0.36,
            VPos::Bottom => -0.22,
        };
        let weight = if matches!(style.style(), FontStyle::Bold) { " font-weight=\"bold\"" } else { "" };
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
        assert_eq!(escape("a<b>&\"c'\u{1}\n"), "a&#60;b&#62;&#38;&#34;c&#39;\u{FFFD} ");
    }

    #[test]
    fn many_neighbours_of_one_shape_become_markers() {
        let drawn = |mixed: bool| {
            let mut body = String::new();
            let mut svg = Svg::new(&mut body, (1000, 1000));
            let fill = plotters::style::RGBColor(1, 2, 3);
            for at in [10, 20, 30, 45] {
                svg.draw_circle((at, 50), 5, &fill, true).unwrap();
            }
            if mixed {
                svg.draw_rect((0, 0), (10, 20), &fill, true).unwrap();
            }
            svg.present().unwrap();
            body
        };
        assert_eq!(drawn(true).lines().count(), 1);
        assert!(!drawn(true).contains("<marker"));
        assert!(drawn(false).contains("<marker id=\"m0\"") && drawn(false).contains("d=\"M.5 5 1.5 5 2.5 5 4 5\""));
    }
}
