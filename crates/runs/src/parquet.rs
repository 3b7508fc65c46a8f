//! Columns of a Parquet file as text, as other programs wrote it: texts and whole numbers, plain or as a dictionary.

use crate::{Error, Result, TableRow, read_exact_at};
use polars_arrow::array::{Array, PrimitiveArray, Utf8ViewArray};
use polars_arrow::datatypes::{ArrowDataType, Field};
use polars_arrow::types::NativeType;
use polars_parquet::read::{
    BasicDecompressor, ColumnChunkMetadata, PageReader, column_iter_to_arrays, infer_schema, read_metadata,
};
use std::fs::File;
use std::io::{Cursor, Read};
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const REMEDY: &str = "write it again, uncompressed or with compression=\"snappy\", or as CSV";

/// Whether a file begins as Parquet does.
pub(crate) fn is_parquet(path: &Path) -> bool {
    let mut first = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut first)).is_ok() && &first == b"PAR1"
}

/// The rows of the columns `needed` and `optional`, whatever the case of their names; a row's number counts from 1.
///
/// # Errors
/// [`Error::File`] for what is no whole Parquet file, compressed otherwise than by Snappy, without a column that is needed, or with one that
/// holds something else than texts or whole numbers.
pub(crate) fn read_parquet(path: &Path, needed: &[&str], optional: &[&str]) -> Result<Vec<TableRow>> {
    // The reader panics at some damaged files.
    let read = catch_unwind(AssertUnwindSafe(|| columns(path, needed, optional)));
    let mut columns = read.unwrap_or_else(|_| Err(Error::file(path, format!("it is damaged; {REMEDY}"))))?;
    let rows = columns.iter().flatten().map(Vec::len).max().unwrap_or(0);
    let row = |row: usize| TableRow {
        line: row as u64 + 1,
        cells: columns.iter_mut().map(|all| all.as_mut().map_or_else(String::new, |all| take(&mut all[row]))).collect(),
    };
    Ok((0..rows).map(row).collect())
}

/// The cells of each column, all of one length; `None` where there is no such column.
fn columns(path: &Path, needed: &[&str], optional: &[&str]) -> Result<Vec<Option<Vec<String>>>> {
    let wrong = |problem: String| Error::file(path, problem);
    let unreadable = |error: &dyn std::fmt::Display| wrong(format!("it cannot be read: {error}; {REMEDY}"));
    let io = |source| Error::Io { action: "read", path: path.into(), source };
    let mut file = File::open(path).map_err(io)?;
    let metadata = read_metadata(&mut file).map_err(|error| unreadable(&error))?;
    let schema = infer_schema(&metadata).map_err(|error| unreadable(&error))?;
    let titled = |name: &str| schema.iter_values().find(|field| field.name.trim().to_lowercase() == name);
    if let Some(missing) = needed.iter().find(|name| titled(name).is_none()) {
        let found: Vec<String> = schema.iter_names().map(|name| format!("`{}`", name.escape_debug())).collect();
        return Err(wrong(format!("it has no column `{missing}`, but {}; rename one", found.join(", "))));
    }
    let cells_of = |field: &Field| {
        if let Some(kind) = other_kind(field) {
            let name = field.name.escape_debug();
            return Err(wrong(format!("its column `{name}` holds {kind}; texts or whole numbers can be used")));
        }
        let mut cells = Vec::new();
        for group in &metadata.row_groups {
            let is_it = |chunk: &&ColumnChunkMetadata| {
                let path = &chunk.descriptor().path_in_schema;
                path.len() == 1 && path[0] == field.name
            };
            let before = cells.len();
            let chunk = group.parquet_columns().iter().find(is_it).ok_or_else(|| unreadable(&"a column is missing"))?;
            for array in read_column(&file, chunk, read_as(field)).map_err(|error| unreadable(&error))? {
                texts(array.as_ref(), &mut cells);
            }
            if cells.len() - before != group.num_rows() {
                return Err(unreadable(&"rows are missing"));
            }
        }
        Ok(cells)
    };
    needed.iter().chain(optional).map(|name| titled(name).map(cells_of).transpose()).collect()
}

/// The part of a column that one row group holds, read as `field` says.
///
/// # Errors
/// A part beyond the file's end, pages that cannot be read, and a compressor that is not built in, all in words.
pub fn read_column(file: &File, chunk: &ColumnChunkMetadata, field: Field) -> std::io::Result<Vec<Box<dyn Array>>> {
    let range = chunk.byte_range();
    if range.start > range.end || range.end > file.metadata()?.len() {
        return Err(std::io::Error::other("it was cut short"));
    }
    let mut packed = vec![0; (range.end - range.start) as usize];
    read_exact_at(file, &mut packed, range.start)?;
    let pages = PageReader::new(Cursor::new(packed.into()), chunk, Vec::new(), usize::MAX);
    let kind = &chunk.descriptor().descriptor.primitive_type;
    let found = column_iter_to_arrays(vec![BasicDecompressor::new(pages, Vec::new())], vec![kind], field, None);
    found.map(|(arrays, _)| arrays).map_err(|error| std::io::Error::other(error.to_string()))
}

/// Texts come in one form, whatever the writer's; numbers as they are.
fn read_as(field: &Field) -> Field {
    let dtype = if is_whole(&field.dtype) { field.dtype.clone() } else { ArrowDataType::Utf8View };
    Field { dtype, ..field.clone() }
}

fn is_whole(dtype: &ArrowDataType) -> bool {
    use ArrowDataType::{Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    matches!(dtype, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64)
}

/// What a column holds that is neither text nor a whole number.
fn other_kind(field: &Field) -> Option<String> {
    use ArrowDataType::{Dictionary, LargeUtf8, Utf8, Utf8View};
    let held = if let Dictionary(_, values, _) = &field.dtype { values } else { &field.dtype };
    let of_use = matches!(held, Utf8 | LargeUtf8 | Utf8View) || is_whole(&field.dtype);
    (!of_use).then(|| if held.is_nested() { "nested values".into() } else { format!("{held:?}") })
}

/// The cells of an array without blanks around them, empty where there is none.
fn texts(array: &dyn Array, cells: &mut Vec<String>) {
    fn whole<T: NativeType + std::fmt::Display>(array: &dyn Array, cells: &mut Vec<String>) -> bool {
        let found = array.as_any().downcast_ref::<PrimitiveArray<T>>();
        found.is_some_and(|array| {
            cells.extend(array.iter().map(|value| value.map_or_else(String::new, ToString::to_string)));
            true
        })
    }
    if let Some(array) = array.as_any().downcast_ref::<Utf8ViewArray>() {
        cells.extend(array.iter().map(|text| text.unwrap_or_default().trim().to_string()));
        return;
    }
    let _ = whole::<i64>(array, cells)
        || whole::<i32>(array, cells)
        || whole::<i16>(array, cells)
        || whole::<i8>(array, cells)
        || whole::<u64>(array, cells)
        || whole::<u32>(array, cells)
        || whole::<u16>(array, cells)
        || whole::<u8>(array, cells);
}
