//! Which classes are taken for which.

use super::{Section, too_many_classes, under};
use crate::error::Result;
use crate::plots::matrix::{LARGE_CELL_PX, Matrix, Sides, sheet};
use faceoff_evaluation::Evaluation;

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let text = "By the head\u{2019}s highest score on the validation images, labels withheld; all seeds together. The sheet shows percent of each true class (rows add up to 100), \
        the large pictures show numbers of images. Empty cells are 0.";
    let mut section = Section::new("confusion", "Confusion", "Confusion", text);
    let blank_zero = |text: String| if text == "0" { String::new() } else { text };
    for group in &outcome.groups {
        let names = group.classes(&outcome.selection);
        let known: Vec<_> =
            group.variants.iter().filter_map(|&v| Some((outcome.name(v), outcome.confusion(v)?))).collect();
        if known.is_empty() {
            continue;
        }
        if let Some(note) = too_many_classes(group, names, "All counts stand in the tables below confusion/.") {
            section.notes.push(note);
            continue;
        }
        let sides = Sides { row_names: names, column_names: names, rows: "true class", columns: "predicted class" };
        let mut shares = Vec::new();
        for (name, counts) in known {
            let share = |(row, &count): (u64, &u64)| count as f64 / row.max(1) as f64;
            let cells = counts.rows().into_iter().flat_map(|row| row.into_iter().map(move |count| (row.sum(), count)));
            let shades: Vec<f64> = cells.map(share).collect();
            let texts = counts.iter().map(|count| blank_zero(count.to_string())).collect();
            let numbers = Matrix { title: name.into(), shades, texts, best: None };
            let percent = |share: &f64| blank_zero(format!("{:.0}", 100.0 * share));
            shares.push(Matrix { texts: numbers.shades.iter().map(percent).collect(), ..numbers.clone() });
            let alt = format!("Confusion matrix of {name}: number of validation images by true and predicted class");
            section.details.push(sheet((format!("confusion_{name}.svg"), alt), &sides, LARGE_CELL_PX, &[numbers])?);
        }
        let all = format!("Confusion matrices of all variants{}", under(group));
        let alt = format!("{all}: percent of each true class by predicted class");
        let name = (format!("confusion_all{}.svg", group.suffix()), alt);
        section.pictures.push(sheet(name, &sides, sides.small_cell_px(), &shares)?);
    }
    Ok(section)
}
