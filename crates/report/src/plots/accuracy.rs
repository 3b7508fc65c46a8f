//! Accuracies of the variants side by side, with 95 % intervals.

use super::{
    Axis, Canvas, Drawn, HEAD_PX, INK, MUTED, Name, Picture, SMALL_PX, TEXT_PX, Text, color, draw_axes, line,
    percent_tick, picture, px, rectangle, stroke,
};
use crate::error::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

/// An accuracy with what is known of its uncertainty.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    pub(crate) mean: f64,
    /// 95 % interval.
    pub(crate) interval: Option<(f64, f64)>,
    /// The seeds' own values.
    pub(crate) seeds: Vec<f64>,
}

/// One variant: a bar for each series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BarRow {
    pub(crate) name: String,
    pub(crate) bars: Vec<Option<Bar>>,
}

const PLOT_WIDTH_PX: f64 = 420.0;
const BAR_PX: f64 = 15.0;
const GAP_PX: f64 = 14.0;

/// Horizontal bars of the shares of a `measure`, grouped by variant. `series` names the bars of a group.
pub(crate) fn bars(name: Name, measure: &str, caption: &str, series: &[&str], rows: &[BarRow]) -> Result<Picture> {
    let name_text = Text::new(TEXT_PX, INK, HPos::Right, VPos::Center);
    let names_px = name_text.widest(rows.iter().map(|row| row.name.as_str()), 60.0, 260.0) + 16.0;
    let group_px = series.len() as f64 * BAR_PX + GAP_PX;
    let (top, bottom, right) = (44.0, 76.0, 70.0);
    let plot_height = rows.len() as f64 * group_px;
    let size = (names_px + PLOT_WIDTH_PX + right, top + plot_height + bottom);

    let told = |row: &BarRow| {
        let bars = row
            .bars
            .iter()
            .map(|bar| bar.as_ref().map_or("not measured".into(), |bar| format!("{:.1} %", 100.0 * bar.mean)));
        format!("{} {}", row.name, bars.collect::<Vec<_>>().join(" and "))
    };
    let content = format!("{}: {}", series.join(" and "), rows.iter().map(told).collect::<Vec<_>>().join(", "));
    picture(name, size, content, |canvas| {
        let ends = |bar: &Bar| bar.interval.map_or(bar.mean, |interval| interval.1.max(bar.mean));
        let top_value = rows.iter().flat_map(|row| row.bars.iter().flatten()).map(ends).fold(0.0, f64::max);
        let x_max = ((top_value * 10.0 + 0.2).ceil() / 10.0).clamp(0.1, 1.0);
        let mut chart = ChartBuilder::on(canvas)
            .margin_top(px(top))
            .margin_right(px(right))
            .margin_bottom(px(bottom - 44.0))
            .margin_left(px(names_px))
            .x_label_area_size(px(44.0))
            .build_cartesian_2d(0.0..x_max, 0.0..plot_height)?;
        draw_axes(&mut chart, &Axis::new(measure, 0.0..x_max, 6, percent_tick), None)?;

        for (index, row) in rows.iter().enumerate() {
            let group_top = index as f64 * group_px + GAP_PX / 2.0;
            let middle = top + group_top + series.len() as f64 * BAR_PX / 2.0;
            let name = name_text.fit(&row.name, names_px - 16.0);
            name_text.draw(canvas, &name, (names_px - 10.0, middle))?;
            for (s, bar) in row.bars.iter().enumerate() {
                let y = top + group_top + s as f64 * BAR_PX;
                let note = Text::new(SMALL_PX, MUTED, HPos::Left, VPos::Center);
                match bar {
                    Some(bar) => draw_bar(canvas, bar, s, x_max, names_px, y)?,
                    None => note.draw(canvas, "not measured", (names_px + 6.0, y + BAR_PX / 2.0))?,
                }
            }
        }
        legend(canvas, series, names_px)?;
        Text::new(SMALL_PX, MUTED, HPos::Left, VPos::Bottom).draw(canvas, caption, (12.0, size.1 - 8.0))
    })
}

fn draw_bar(canvas: &Canvas<'_>, bar: &Bar, series: usize, x_max: f64, left: f64, y: f64) -> Drawn {
    let x = |value: f64| left + PLOT_WIDTH_PX * (value / x_max).clamp(0.0, 1.0);
    let middle = y + BAR_PX / 2.0;
    rectangle(canvas, (left, y + 1.0), (x(bar.mean) - left, BAR_PX - 2.0), fill_of(series).filled())?;
    for &seed in bar.seeds.iter().filter(|_| bar.seeds.len() > 1) {
        canvas.draw(&Circle::new((px(x(seed)), px(middle)), px(1.6), INK.mix(0.55).filled()))?;
    }
    let mut end = x(bar.mean);
    if let Some((low, high)) = bar.interval {
        let (low, high) = (x(low), x(high));
        end = end.max(high);
        stroke(canvas, &[(low, middle), (high, middle)], None, line(INK, 1.3))?;
        for end in [low, high] {
            stroke(canvas, &[(end, middle - 3.5), (end, middle + 3.5)], None, line(INK, 1.3))?;
        }
    }
    let percent = format!("{:.1} %", 100.0 * bar.mean);
    Text::new(SMALL_PX, INK, HPos::Left, VPos::Center).draw(canvas, &percent, (end + 6.0, middle))
}

fn fill_of(series: usize) -> RGBColor {
    // Blue and amber: apart in hue and in brightness.
    color([5, 1, 2, 3][series % 4])
}

fn legend(canvas: &Canvas<'_>, series: &[&str], left: f64) -> Drawn {
    let text = Text::new(HEAD_PX - 1.0, INK, HPos::Left, VPos::Center);
    let mut x = left;
    for (index, name) in series.iter().enumerate() {
        rectangle(canvas, (x, 16.0), (14.0, 12.0), fill_of(index).filled())?;
        text.draw(canvas, name, (x + 20.0, 22.0))?;
        x += 20.0 + text.width(name) + 24.0;
    }
    Ok(())
}
