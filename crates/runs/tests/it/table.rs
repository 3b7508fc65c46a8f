//! Tables of other programs: separators, titles, and what is no table.

use faceoff_runs::read_table;

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
