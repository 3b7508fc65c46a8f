//! Critical-difference pictures: average ranks, with bars over those that do not differ (Demšar, JMLR 7, 2006, figure 1).

use super::{INK, MUTED, Name, Picture, SMALL_PX, TEXT_PX, Text, line, picture, stroke};
use crate::error::Result;
use plotters::style::text_anchor::{HPos, VPos};

const AXIS_PX: f64 = 280.0;
const ROW_PX: f64 = 22.0;

/// Best rank at the left; names of the better half at the left, of the others at the right. `groups` hold the places of variants
/// that do not differ, best first.
pub(crate) fn ranks(
    name: Name,
    variants: &[&str],
    average_ranks: &[f64],
    critical_difference: f64,
    groups: &[Vec<usize>],
    caption: &str,
) -> Result<Picture> {
    let text = Text::new(TEXT_PX, INK, HPos::Left, VPos::Center);
    let mut order: Vec<usize> = (0..variants.len()).collect();
    order.sort_by(|&a, &b| average_ranks[a].total_cmp(&average_ranks[b]));
    let label = |place: usize| format!("{} ({:.2})", variants[place], average_ranks[place]);
    let names_px = order.iter().map(|&place| text.width(&label(place))).fold(80.0, f64::max).min(260.0);
    let left = names_px + 24.0;
    let count = variants.len();
    let half = count.div_ceil(2);
    let bars_px = 10.0 * groups.len() as f64;
    let axis_y = 76.0;
    let first_row = axis_y + 24.0 + bars_px;
    let size = (2.0 * left + AXIS_PX, first_row + ROW_PX * half as f64 + 34.0);
    let x = |rank: f64| left + AXIS_PX * (rank - 1.0) / (count as f64 - 1.0).max(1.0);

    let content = order.iter().map(|&place| label(place)).collect::<Vec<_>>().join(", ");
    picture(name, size, content, |canvas| {
        let draw = |points: &[(f64, f64)], width: f64| stroke(canvas, points, None, line(INK, width));
        // The length of the critical difference, as a ruler above the axis.
        let end = (left + AXIS_PX * critical_difference / (count as f64 - 1.0).max(1.0)).min(size.0 - 12.0);
        draw(&[(left, 28.0), (left, 36.0)], 1.2)?;
        draw(&[(left, 32.0), (end, 32.0)], 1.2)?;
        draw(&[(end, 28.0), (end, 36.0)], 1.2)?;
        let ruler = Text::new(SMALL_PX, INK, HPos::Left, VPos::Bottom);
        ruler.draw(canvas, &format!("critical difference {critical_difference:.2}"), (left, 24.0))?;

        draw(&[(x(1.0), axis_y), (x(count as f64), axis_y)], 1.2)?;
        let tick = Text::new(SMALL_PX, MUTED, HPos::Center, VPos::Bottom);
        for rank in 1..=count {
            let at = x(rank as f64);
            draw(&[(at, axis_y - 5.0), (at, axis_y)], 1.0)?;
            tick.draw(canvas, &rank.to_string(), (at, axis_y - 8.0))?;
        }
        for (row, group) in groups.iter().enumerate() {
            let y = axis_y + 12.0 + 10.0 * row as f64;
            let ends = [group[0], group[group.len() - 1]].map(|place| x(average_ranks[place]));
            draw(&[(ends[0] - 3.0, y), (ends[1] + 3.0, y)], 4.0)?;
        }
        for (index, &place) in order.iter().enumerate() {
            let at = x(average_ranks[place]);
            let at_left = index < half;
            // The outermost rank of each side stands highest, so that no line crosses another.
            let row = if at_left { index } else { count - 1 - index };
            let y = first_row + ROW_PX * (row as f64 + 0.5);
            let (edge, h) = if at_left { (left - 8.0, HPos::Right) } else { (left + AXIS_PX + 8.0, HPos::Left) };
            draw(&[(at, axis_y), (at, y), (edge + if at_left { 4.0 } else { -4.0 }, y)], 1.0)?;
            let text = Text { h, ..text };
            text.draw(canvas, &text.fit(&label(place), names_px), (edge, y))?;
        }
        Text::new(SMALL_PX, MUTED, HPos::Left, VPos::Bottom).draw(canvas, caption, (12.0, size.1 - 8.0))
    })
}
