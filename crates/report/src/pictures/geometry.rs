//! Angles between class centres.

use super::{Section, first_runs, name_of, too_many_classes};
use crate::error::{Error, Result};
use crate::plots::extent;
use crate::plots::matrix::{LARGE_CELL_PX, Matrix, Sides, sheet};
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::measured::CenterAngles;

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let text = "Degrees between the mean directions of the classes of the validation images; first seed of each variant. Dark: near centres, hence classes that are easily taken \
        for each other. The shades of each matrix run from its widest angle, white, to its narrowest; the diagonal is empty.";
    let mut section = Section::new("geometry", "Angles between class centres", "Geometry", text);
    for group in &outcome.groups {
        let names = group.classes(&outcome.selection);
        let known: Vec<_> = first_runs(outcome, group)
            .filter_map(|run| Some((outcome.name(run.variant), run.found.shapes.centers.as_ref()?)))
            .collect();
        if known.is_empty() {
            continue;
        }
        let instead = "The smallest angle of each variant stands among all numbers.";
        if let Some(note) = too_many_classes(group, names, instead) {
            section.notes.push(note);
            continue;
        }
        let sides = Sides { row_names: names, column_names: names, rows: "class", columns: "class" };
        let mut matrices = Vec::new();
        let pairs: Vec<[u32; 2]> = known.iter().filter_map(|(_, centers)| Some(nearest(centers)?.0)).collect();
        let often = |pair: &[u32; 2]| pairs.iter().filter(|other| *other == pair).count();
        let most = pairs.iter().rev().max_by_key(|pair| often(pair));
        let said = most.map(|pair| {
            let [a, b] = pair.map(|label| names.get(label as usize).map_or("?", String::as_str));
            format!("The two nearest centres are {a} and {b} under {} of {} heads.", often(pair), known.len())
        });
        for (name, centers) in known {
            let file = format!("centers_{name}.svg");
            let matrix = matrix_of(name, centers, names.len()).map_err(|label| Error::Picture {
                picture: file.clone(),
                reason: format!(
                    "an image has the label {label}, but there are {} classes, counted from 0; remove the run and make it again",
                    names.len()
                ),
            })?;
            let alt = format!("Angles between the class centres of {name}, in degrees");
            let said = nearest(centers).map(|([a, b], degrees)| {
                format!("Nearest: {} and {}, {degrees:.1} degrees.", names[a as usize], names[b as usize])
            });
            let picture = sheet((file, alt), &sides, LARGE_CELL_PX, std::slice::from_ref(&matrix))?;
            section.details.push(picture.concluding(said));
            matrices.push(matrix);
        }
        let alt = "Angles between class centres in degrees, one matrix for each variant";
        let name = name_of(group, "centers_all", alt);
        section.pictures.push(sheet(name, &sides, sides.small_cell_px(), &matrices)?.concluding(said));
    }
    Ok(section)
}

/// The two classes with the nearest centres, and their angle.
fn nearest(centers: &CenterAngles) -> Option<([u32; 2], f64)> {
    let of_row = |(i, row): (usize, &Vec<f64>)| {
        let pairs = row.iter().take(i).enumerate().map(move |(j, &angle)| ((j, i), angle));
        pairs.collect::<Vec<_>>()
    };
    let pairs = centers.degrees.iter().enumerate().flat_map(of_row);
    let ((a, b), angle) = pairs.reduce(|a, b| if b.1 < a.1 { b } else { a })?;
    Some(([centers.classes[a], centers.classes[b]], angle))
}

/// The angles as a matrix of all `classes`; the error is a label that is none of them.
fn matrix_of(name: &str, centers: &CenterAngles, classes: usize) -> std::result::Result<Matrix, u32> {
    if let Some(&label) = centers.classes.iter().find(|&&label| label as usize >= classes) {
        return Err(label);
    }
    let between = || centers.degrees.iter().enumerate().flat_map(|(i, row)| row.iter().take(i).copied());
    let (narrowest, widest) = extent(between());
    let mut shades = vec![0.0; classes * classes];
    let mut texts = vec![String::new(); classes * classes];
    for (&i, row) in centers.classes.iter().zip(&centers.degrees) {
        for (&j, angle) in centers.classes.iter().zip(row).filter(|&(&j, _)| i != j) {
            let at = i as usize * classes + j as usize;
            // Near centres are what matters: the darker, the nearer.
            shades[at] = 0.85 * ((widest - angle) / (widest - narrowest).max(1e-9)).clamp(0.0, 1.0);
            texts[at] = format!("{angle:.0}");
        }
    }
    Ok(Matrix { title: name.into(), shades, texts, best: None })
}
