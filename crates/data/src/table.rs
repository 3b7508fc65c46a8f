//! A table of images of one's own: where each lies, what it is, and perhaps on which side and of which group.
//!
//! Its columns are `path`, `label`, and perhaps `split` and `group`.

use crate::folder::id_of;
use crate::own::{Found, Image, TEST, TRAIN, VAL};
use crate::{Error, Result};
use faceoff_runs::{SplitName, TableRow, read_table};
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

/// What a cell of the column `split` says.
pub(crate) enum Side {
    /// Nothing: chance decides.
    Chance,
    /// A side.
    Of(SplitName),
    /// Where there are validation images, those called test are a third part, which nothing here uses.
    Unused,
    /// None of these.
    Unknown,
}

/// The side that a cell names; `has_val` where one of the column names validation images.
pub(crate) fn side_of(cell: &str, has_val: bool) -> Side {
    let is = |names: &[&str]| names.iter().any(|name| cell.eq_ignore_ascii_case(name));
    match cell {
        "" => Side::Chance,
        _ if is(&TRAIN) => Side::Of(SplitName::Train),
        _ if is(&VAL) || is(&TEST) && !has_val => Side::Of(SplitName::Val),
        _ if is(&TEST) => Side::Unused,
        _ => Side::Unknown,
    }
}

/// Whether a cell of the column `split` names validation images.
pub(crate) fn has_val<'a>(mut cells: impl Iterator<Item = &'a str>) -> bool {
    cells.any(|cell| VAL.iter().any(|name| cell.eq_ignore_ascii_case(name)))
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
    let has_val = has_val(rows.iter().map(|row| row.split.as_str()));
    let mut found = Found { divided: without.is_none(), ..Found::default() };
    let mut line_of: BTreeMap<String, u64> = BTreeMap::new();
    for row in &rows {
        let line = row.line;
        let split = match side_of(&row.split, has_val) {
            Side::Chance => None,
            Side::Of(side) => Some(side),
            Side::Unused => {
                found.passed_over.add("rows of the split test", &row.path);
                continue;
            }
            Side::Unknown => {
                return Err(wrong(format!("line {line} has the split `{}`; it must be `train` or `val`", row.split)));
            }
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
    let mut rows = Vec::new();
    let lines = read_table(path, &["path", "label"], &["split", "group"]).map_err(|error| match error {
        faceoff_runs::Error::File { path, problem } => Error::Table { path, problem },
        other => other.into(),
    })?;
    for TableRow { line, cells } in lines {
        let [path, label, split, group] = cells.try_into().expect("as many cells as columns");
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
