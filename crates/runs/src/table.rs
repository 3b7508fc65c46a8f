//! Tables that people or other programs wrote: CSV with a header or Parquet, the columns found by their names.
//!
//! CSV: commas, semicolons or tabs between the columns, a byte-order mark in front or none; other columns are ignored.

use crate::parquet::{is_parquet, read_parquet};
use crate::{Error, Result};
use std::path::Path;

/// A line of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRow {
    /// Where it stands in the file: in CSV the header is line 1, in Parquet the first row.
    pub line: u64,
    /// The cells of the columns asked for, without blanks around them; empty where there is no such column.
    pub cells: Vec<String>,
}

/// Reads the columns `needed` and `optional` of the table at `path`, whatever the case of their names. A single column needs no name where
/// a single one is needed. Cells behind the last column must be empty. A file is Parquet if it begins so.
///
/// # Errors
/// [`Error::File`] for a table without the columns that are needed, or that is none, for a line with more cells than the first, and for
/// Parquet that cannot be read.
pub fn read_table(path: &Path, needed: &[&str], optional: &[&str]) -> Result<Vec<TableRow>> {
    if is_parquet(path) {
        return read_parquet(path, needed, optional);
    }
    let wrong = |problem: String| Error::file(path, problem);
    let unreadable = |error: csv::Error| wrong(format!("{error}; it must be CSV in UTF-8"));
    let mut tables = Vec::new();
    for delimiter in [b',', b';', b'\t'] {
        let mut reader =
            csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_path(path).map_err(unreadable)?;
        let titles = reader.headers().map_err(unreadable)?.iter().map(|title| title.trim().to_lowercase());
        let titles: Vec<String> = titles.collect();
        tables.push((reader, titles));
    }
    // Spreadsheets separate columns as the country has it: what gives all columns is right.
    let whole = |(_, titles): &(_, Vec<String>)| needed.iter().all(|name| titles.iter().any(|title| title == name));
    let alone = needed.len() == 1 && tables.iter().all(|(_, titles)| titles.len() == 1);
    let place = tables.iter().position(whole);
    if place.is_none() && !alone {
        let quoted = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let first = tables[0].1.join(",").escape_debug().to_string();
        let perhaps = if optional.is_empty() { String::new() } else { format!(", and perhaps {}", quoted(optional)) };
        let rule = format!(
            "the first line names the columns {}{perhaps}, with commas, semicolons or tabs between",
            quoted(needed)
        );
        let missing: Vec<&str> =
            needed.iter().copied().filter(|name| !tables[0].1.iter().any(|title| title == name)).collect();
        return Err(wrong(format!("it has no column {}: its first line is `{first}`; {rule}", quoted(&missing))));
    }
    // A single column without a title would lose its first cell in silence.
    if place.is_none() && tables[0].1[0].parse::<f64>().is_ok() {
        return Err(wrong(format!("its first line is `{}`; write `{}` above it", tables[0].1[0], needed[0])));
    }
    let (mut reader, titles) = tables.swap_remove(place.unwrap_or(0));
    let column = |name: &&str| titles.iter().position(|title| title == name);
    let columns: Vec<Option<usize>> = match place {
        Some(_) => needed.iter().chain(optional).map(column).collect(),
        None => std::iter::once(Some(0)).chain(optional.iter().map(|_| None)).collect(),
    };
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(unreadable)?;
        let line = record.position().map_or(0, |position| position.line());
        // Whoever wrote `Poodle, toy` meant one cell.
        if let Some(more) = record.iter().skip(titles.len()).find(|cell| !cell.trim().is_empty()) {
            let (found, rule) = (record.len(), "put a cell that holds the separator in double quotes");
            let more = more.trim().escape_debug();
            return Err(wrong(format!(
                "line {line} has {found} cells, but the first line has {}: `{more}` is too many; {rule}",
                titles.len()
            )));
        }
        let cell = |column: &Option<usize>| column.and_then(|at| record.get(at)).unwrap_or_default().trim().to_string();
        rows.push(TableRow { line, cells: columns.iter().map(cell).collect() });
    }
    Ok(rows)
}
