//! Tables of other programs: separators, titles, and what is no table.

use faceoff_runs::read_table;
use std::path::Path;

fn read(text: &str, needed: &[&str]) -> Result<Vec<Vec<String>>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.csv");
    std::fs::write(&path, text).unwrap();
    let rows = read_table(&path, needed, &["id"]).map_err(|error| error.to_string())?;
    Ok(rows.into_iter().map(|row| row.cells).collect())
}

#[test]
fn columns_are_found_by_name_whatever_separates_them() {
    let expected = [["owl".to_string(), "a".into()], ["emu".into(), String::new()]];
    for text in ["id,LABEL\na, owl \n,emu\n", "\u{feff}label;x;id\nowl;1;a\nemu;2\n", "id\tlabel\na\towl\n\temu\n"] {
        assert_eq!(read(text, &["label"]).unwrap(), expected, "{text}");
    }
    assert_eq!(read("whatever\nowl\n", &["label"]).unwrap(), [["owl".to_string(), String::new()]]);
}

#[test]
fn a_table_without_the_columns_needed_is_an_error_that_names_them() {
    let message = read("a,b\n1,2\n", &["path", "label"]).unwrap_err();
    assert!(message.contains("it has no column `path`, `label`: its first line is `a,b`"), "{message}");
    let message = read("7\n8\n", &["label"]).unwrap_err();
    assert!(message.contains("its first line is `7`; write `label` above it"), "{message}");
}

#[test]
fn a_cell_too_many_is_an_error_that_names_its_line() {
    for text in ["id,label\na,owl\nb,Poodle, toy\n", "label;id\nowl;a\nPoodle;b; toy \n"] {
        let message = read(text, &["label"]).unwrap_err();
        let said = "line 3 has 3 cells, but the first line has 2: `toy` is too many; put a cell that holds the separator in double quotes";
        assert!(message.ends_with(said), "{message}");
    }
    assert!(read("breed\nPoodle, toy\n", &["label"]).unwrap_err().contains("line 2 has 2 cells"));
    // Quoted it is one cell, and spreadsheets leave empty cells at the end.
    let expected = [["Poodle, toy".to_string(), "b".into()]];
    assert_eq!(read("id,label\nb,\"Poodle, toy\",, \n", &["label"]).unwrap(), expected);
}

/// Written by pyarrow 26: `ID` (text), `label` (dictionary of texts), `group` (i64), `weight` (f64), `tags` (lists), in two row groups.
const SNAPPY: &[u8] = include_bytes!("../tables/snappy.parquet");
/// A column `label` compressed by zstd.
const ZSTD: &[u8] = include_bytes!("../tables/zstd.parquet");

fn parquet(bytes: &[u8], needed: &[&str]) -> Result<Vec<Vec<String>>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.parquet");
    std::fs::write(&path, bytes).unwrap();
    let rows = read_table(Path::new(&path), needed, &["group", "split", "id"]).map_err(|error| error.to_string())?;
    assert!(rows.iter().map(|row| row.line).eq(1..=rows.len() as u64));
    Ok(rows.into_iter().map(|row| row.cells).collect())
}

#[test]
fn columns_of_parquet_are_found_by_name_and_become_text() {
    let expected =
        [["owl", "7", "", "a"], ["emu", "", "", ""], ["owl", "-3", "", "c"], ["Poodle, toy", "7", "", "\u{fc}"]];
    assert_eq!(parquet(SNAPPY, &["label"]).unwrap(), expected);
}

#[test]
fn parquet_that_cannot_be_used_is_refused_with_the_remedy() {
    let message = parquet(SNAPPY, &["path"]).unwrap_err();
    assert!(message.contains("it has no column `path`, but `ID`, `label`, `group`, `weight`, `tags`"), "{message}");
    for (column, holds) in [("weight", "Float64"), ("tags", "nested values")] {
        let message = parquet(SNAPPY, &[column]).unwrap_err();
        assert!(message.contains(&format!("its column `{column}` holds {holds}")), "{message}");
        assert!(message.contains("texts or whole numbers can be used"), "{message}");
    }
    let message = parquet(ZSTD, &["label"]).unwrap_err();
    assert!(message.contains("zstd") && message.contains("compression=\"snappy\""), "{message}");
}

#[test]
fn damaged_parquet_is_an_error_or_reads_as_before() {
    for end in (4..SNAPPY.len()).step_by(7) {
        assert!(parquet(&SNAPPY[..end], &["label"]).is_err(), "cut at {end}");
    }
    let footer = SNAPPY.len() - 8;
    for at in (4..footer).step_by(11) {
        let mut bytes = SNAPPY.to_vec();
        bytes[at] ^= 0x55;
        if let Ok(rows) = parquet(&bytes, &["label"]) {
            assert!(rows.len() == 4 || rows.len() == 3 || rows.is_empty(), "byte {at}: {rows:?}");
        }
    }
}
