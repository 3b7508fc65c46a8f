//! Embeddings that other programs wrote, with their labels: which rows and which tables of labels can be used.

use crate::{Error, NpyMatrix, Result, TableRow, read_table};
use std::collections::HashMap;
use std::path::Path;
use unicode_normalization::UnicodeNormalization;

/// What a table says of a row of a matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledRow {
    /// The line of the table.
    pub line: u64,
    /// The column `id`, or else `path`; without both `FILE:ROW`, the matrix' name without its ending and the row's number from 0. No two
    /// rows have the same.
    pub id: String,
    /// The column `label`, in Unicode's form NFC: one name is one class, whoever typed it.
    pub label: String,
    /// The column `split`, empty where there is none.
    pub split: String,
    /// The column `group`, empty where there is none.
    pub group: String,
}

impl NpyMatrix {
    /// The labels of all rows: a table with a line for each of them, in the same order.
    ///
    /// # Errors
    /// [`Error::File`] for what [`read_table`] refuses, another number of lines than rows, a line without a label, and an id that comes
    /// again.
    pub fn labels(&self, table: &Path) -> Result<Vec<LabelledRow>> {
        let wrong = |problem: String| Error::file(table, problem);
        let lines = read_table(table, &["label"], &["id", "path", "split", "group"])?;
        if lines.len() != self.rows() {
            let (count, other) = (self.rows(), self.path().display());
            let rule = "there must be one label for each row, in the same order";
            return Err(wrong(format!("it has {} labels, but {other} has {count} rows; {rule}", lines.len())));
        }
        let stem = self.path().file_stem().unwrap_or_default().to_string_lossy();
        let mut line_of: HashMap<String, u64> = HashMap::new();
        let of_line = |(row, TableRow { line, cells }): (usize, TableRow)| {
            let [label, id, path, split, group] = cells.try_into().expect("as many cells as columns");
            if label.is_empty() {
                return Err(wrong(format!("line {line} has no label; every row of the embeddings needs one")));
            }
            let id = [id, path].into_iter().find(|id| !id.is_empty()).unwrap_or_else(|| format!("{stem}:{row}"));
            if let Some(before) = line_of.insert(id.clone(), line) {
                return Err(wrong(format!("line {line} names {id} again, after line {before}; ids must differ")));
            }
            Ok(LabelledRow { line, id, label: label.nfc().collect(), split, group })
        };
        lines.into_iter().enumerate().map(of_line).collect()
    }

    /// The length of a row, if it can be used: its numbers must be finite, and its length one that f32 can hold.
    ///
    /// # Errors
    /// [`Error::File`] that names the row.
    pub fn length_of(&self, row: usize, numbers: impl IntoIterator<Item = f64>) -> Result<f64> {
        let mut squares = 0.0;
        for (column, value) in numbers.into_iter().enumerate() {
            if !(value as f32).is_finite() {
                let rule = "every number must be finite in f32";
                return Err(Error::file(self.path(), format!("row {row}, column {column} is {value}; {rule}")));
            }
            squares += value * value;
        }
        let length = squares.sqrt();
        if !(squares as f32).is_normal() {
            let rule = "such a row has no direction that can be told; leave it out, or scale all rows";
            return Err(Error::file(self.path(), format!("row {row} has the length {length}; {rule}")));
        }
        Ok(length)
    }
}
