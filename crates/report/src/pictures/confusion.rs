//! Which classes are taken for which.

use super::{Section, too_many_classes, under};
use crate::error::Result;
use crate::plots::matrix::{LARGE_CELL_PX, Matrix, Sides, sheet};
use faceoff_evaluation::Evaluation;
use ndarray::{Array2, Axis};
use std::collections::BTreeSet;

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let text = "By the head\u{2019}s highest score on the validation images, labels withheld; all seeds together. The sheet shows percent of each true class, \
        rounded, so that a row may add up to 99 or 101; the large pictures show numbers of images. A cell without a number has no image; 0 is less than half a percent.";
    let mut section = Section::new("confusion", "Confusion", "Confusion", text);
    let blank_zero = |text: String| if text == "0" { String::new() } else { text };
    for group in &outcome.groups {
        let names = group.classes(&outcome.selection);
        let known: Vec<_> =
            group.variants.iter().filter_map(|&v| Some((outcome.name(v), outcome.confusion(v)?))).collect();
        if known.is_empty() {
            continue;
        }
        let all_heads = known[1..].iter().fold(known[0].1.clone(), |sum, (_, counts)| sum + counts);
        let shown = match too_many_classes(group, names, "All counts above 0 stand in the tables below confusion/.") {
            None => (0..names.len()).collect(),
            Some(note) => {
                let shown = most_confused(&all_heads);
                if shown.is_empty() {
                    section.notes.push(note);
                    continue;
                }
                section.notes.push(format!(
                    "{note} Shown are {} of them: those of the pairs that all heads together confuse most often. The rest of a row lies in \
                     other classes.",
                    shown.len()
                ));
                shown
            }
        };
        let all_names = names;
        let names: Vec<String> = shown.iter().map(|&class| names[class].clone()).collect();
        let sides = Sides { row_names: &names, column_names: &names, rows: "true class", columns: "predicted class" };
        let mut shares = Vec::new();
        let said = most_often(&all_heads, all_names).map(|most| format!("All heads together: {most}"));
        for (name, counts) in known {
            let most = most_often(&counts, all_names);
            let rows: Vec<u64> = shown.iter().map(|&row| counts.row(row).sum().max(1)).collect();
            let counts = counts.select(Axis(0), &shown).select(Axis(1), &shown);
            let share = |((row, _), &count): ((usize, usize), &u64)| count as f64 / rows[row] as f64;
            let shades: Vec<f64> = counts.indexed_iter().map(share).collect();
            let texts = counts.iter().map(|count| blank_zero(count.to_string())).collect();
            let numbers = Matrix { title: name.into(), shades, texts, best: None };
            let percent = |share: &f64| if *share > 0.0 { format!("{:.0}", 100.0 * share) } else { String::new() };
            shares.push(Matrix { texts: numbers.shades.iter().map(percent).collect(), ..numbers.clone() });
            let alt = format!("Confusion matrix of {name}: number of validation images by true and predicted class");
            let picture = sheet((format!("confusion_{name}.svg"), alt), &sides, LARGE_CELL_PX, &[numbers])?;
            section.details.push(picture.concluding(most).of_table(format!("confusion/{name}.csv")));
        }
        let all = format!("Confusion matrices of all variants{}", under(group));
        let alt = format!("{all}: percent of each true class by predicted class");
        let name = (format!("confusion_all{}.svg", group.suffix()), alt);
        section.pictures.push(sheet(name, &sides, sides.small_cell_px(), &shares)?.concluding(said));
    }
    Ok(section)
}

/// Which class is most often taken for which other, by its share of the images of the class.
fn most_often(counts: &Array2<u64>, names: &[String]) -> Option<String> {
    let images = counts.sum_axis(Axis(1));
    let share = |&((row, column), &count): &((usize, usize), &u64)| {
        (row != column && count > 0).then(|| count as f64 / images[row] as f64)
    };
    let shares = counts.indexed_iter().filter_map(|cell| Some((cell, share(&cell)?)));
    let (((row, column), _), share) = shares.reduce(|a, b| if b.1 > a.1 { b } else { a })?;
    let share = 100.0 * share;
    Some(format!("{} is taken for {} most often, in {share:.0} % of its images.", names[row], names[column]))
}

/// So many of many classes are drawn.
const MOST_SHOWN: usize = 20;

/// The classes of the pairs that are confused most often; none where nothing is confused.
fn most_confused(counts: &Array2<u64>) -> Vec<usize> {
    let mut pairs: Vec<(u64, (usize, usize))> = counts
        .indexed_iter()
        .filter(|((row, column), count)| row != column && **count > 0)
        .map(|(pair, &count)| (count, pair))
        .collect();
    pairs.sort_by_key(|&(count, pair)| (std::cmp::Reverse(count), pair));
    let mut shown = BTreeSet::new();
    for (_, (row, column)) in pairs {
        let with: BTreeSet<usize> = shown.iter().copied().chain([row, column]).collect();
        if with.len() <= MOST_SHOWN {
            shown = with;
        }
    }
    shown.into_iter().collect()
}
