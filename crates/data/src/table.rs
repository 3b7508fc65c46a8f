//! A table of images of one's own: where each lies, what it is, and perhaps on which side and of which group.
//!
//! CSV with a header; commas, semicolons or tabs between the columns, a byte-order mark in front or none. The columns are found by their
//! names: `path`, `label`, and perhaps `split` and `group`; others are ignored.

use crate::folder::id_of;
use crate::own::{Found, Image, TEST, TRAIN, VAL};
use crate::{Error, Result};
use faceoff_runs::SplitName;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use unicode_normalization::UnicodeNormalization;

/// A line of the table, its cells without blanks around them.
struct Row {
    line: u64,
    path: String,
    label: String,
    split: String,
    group: String,
}

/// The images that the table at `path` lists, whose paths start at `folder`.
pub(crate) fn find(path: &Path, folder: &Path) -> Result<Found> {
    let wrong = |problem: String| Error::table(path, problem);
    let rows = read(path)?;
    // An absolute path may begin with the folder as it was typed, as the system has it, or with its links followed.
    let bases = [Ok(folder.to_path_buf()), std::path::absolute(folder), folder.canonicalize()];
    let bases: Vec<PathBuf> = bases.into_iter().flatten().collect();
    let without = rows.iter().find(|row| row.split.is_empty());
    if let (Some(without), Some(with)) = (without, rows.iter().find(|row| !row.split.is_empty())) {
        let rule = "fill the column, or empty it to have the images split";
        return Err(wrong(format!("line {} has no split, but line {} has; {rule}", without.line, with.line)));
    }
    // Where there are validation images, those called test are a third part, which nothing here uses.
    let is = |row: &Row, names: &[&str]| names.iter().any(|name| row.split.eq_ignore_ascii_case(name));
    let has_val = rows.iter().any(|row| is(row, &VAL));
    let mut found = Found { divided: without.is_none(), ..Found::default() };
    let mut line_of: BTreeMap<String, u64> = BTreeMap::new();
    for row in &rows {
        let line = row.line;
        let split = match row.split.as_str() {
            "" => None,
            _ if is(row, &TRAIN) => Some(SplitName::Train),
            _ if is(row, &VAL) || is(row, &TEST) && !has_val => Some(SplitName::Val),
            _ if is(row, &TEST) => {
                found.passed_over.add("rows of the split test", &row.path);
                continue;
            }
            other => return Err(wrong(format!("line {line} has the split `{other}`; it must be `train` or `val`"))),
        };
        let (path, is_there) = below(&row.path, folder, &bases).ok_or_else(|| {
            let rule = "pass a folder that holds all images with --data DIR";
            wrong(format!("line {line}: `{}` lies outside of {}; {rule}", row.path, folder.display()))
        })?;
        let id = id_of(&path);
        if let Some(before) = line_of.insert(id.clone(), line) {
            return Err(wrong(format!("line {line} names {id} again, after line {before}; an image has one label")));
        }
        if !is_there {
            found.missing.push((id, format!("no such file below {} (line {line})", folder.display())));
            continue;
        }
        let group = (!row.group.is_empty()).then(|| row.group.clone());
        found.images.push(Image { id, path, class: row.label.nfc().collect(), split, group, stored: 0 });
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<Row>> {
    let wrong = |problem: String| Error::table(path, problem);
    let unreadable = |error: csv::Error| wrong(format!("{error}; it must be CSV in UTF-8"));
    let mut tables = Vec::new();
    for delimiter in [b',', b';', b'\t'] {
        let mut reader =
            csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_path(path).map_err(unreadable)?;
        let titles = reader.headers().map_err(unreadable)?.iter().map(|title| title.trim().to_lowercase());
        let titles: Vec<String> = titles.collect();
        tables.push((reader, titles));
    }
    // Spreadsheets separate columns as the country has it: what gives both columns is right.
    let whole = |(_, titles): &(_, Vec<String>)| ["path", "label"].iter().all(|name| titles.iter().any(|t| t == name));
    let Some(place) = tables.iter().position(whole) else {
        let first = tables[0].1.join(",").escape_debug().to_string();
        let rule = "the first line names the columns `path` and `label`, and perhaps `split` and `group`, with commas, semicolons or tabs between";
        return Err(wrong(format!("its first line is `{first}`; {rule}")));
    };
    let (mut reader, titles) = tables.swap_remove(place);
    let columns = ["path", "label", "split", "group"].map(|name| titles.iter().position(|title| title == name));
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(unreadable)?;
        let line = record.position().map_or(0, |position| position.line());
        let cell = |column: Option<usize>| column.and_then(|at| record.get(at)).unwrap_or_default().trim().to_string();
        let [path, label, split, group] = columns.map(cell);
        if path.is_empty() || label.is_empty() {
            return Err(wrong(format!("line {line} has no {}", if path.is_empty() { "path" } else { "label" })));
        }
        rows.push(Row { line, path, label, split, group });
    }
    if rows.is_empty() { Err(wrong("it lists no image".into())) } else { Ok(rows) }
}

/// The path of a cell as seen from `folder`, which `bases` name too, and whether a file is there; `None` where it leads out of the folder.
/// It is written as this system has it: separators and Unicode's form may be those of another one.
fn below(cell: &str, folder: &Path, bases: &[PathBuf]) -> Option<(PathBuf, bool)> {
    use std::path::Component::{CurDir, Normal};
    let forms = [cell.to_string(), cell.replace('\\', "/")];
    let forms = forms.iter().flat_map(|form| [form.clone(), form.nfc().collect(), form.nfd().collect()]);
    let paths: Vec<PathBuf> = forms.map(PathBuf::from).collect();
    let there = paths.iter().find(|path| folder.join(path).is_file());
    let path = there.unwrap_or(&paths[0]);
    let path =
        if path.is_absolute() { bases.iter().find_map(|base| path.strip_prefix(base).ok())? } else { path.as_path() };
    if path.components().any(|part| !matches!(part, Normal(_) | CurDir)) {
        return None;
    }
    Some((path.components().filter(|part| matches!(part, Normal(_))).collect(), there.is_some()))
}
