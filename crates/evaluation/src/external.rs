//! External embeddings: an NPY matrix and a CSV of labels instead of runs.

use crate::error::{Error, Result};
use crate::families::neighbors;
use crate::look::Look;
use crate::measured::{self, Measured, Points, Subject, ValImages};
use crate::registry::Registry;
use crate::selection::{Origin, Selection, Variant};
use crate::{Evaluation, groups};
use faceoff_runs::AnalysisConfig;
use ndarray::{Array2, Axis};
use ndarray_npy::{ReadNpyError, ReadNpyExt};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Embeddings and their labels on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledFiles {
    /// NPY, (N, D), f32 or f64, of any length: they are brought to unit length here.
    pub embeddings: PathBuf,
    /// CSV with a header and N rows: a column `label` (or a single column) of class names or numbers, and perhaps a
    /// column `id`.
    pub labels: PathBuf,
}

/// External embeddings that can be measured.
pub struct External {
    name: String,
    queries: Labelled,
    index: Option<Labelled>,
}

impl External {
    /// Reads `queries`, and `index` if there is one.
    ///
    /// # Errors
    /// Files that cannot be read; NaN or infinity; a row of zeros; shapes or numbers of rows that do not fit together.
    pub fn read(name: &str, queries: &LabelledFiles, index: Option<&LabelledFiles>) -> Result<Self> {
        let read = Labelled::read(queries)?;
        let train = index.map(Labelled::read).transpose()?;
        if let (Some(train), Some(files)) = (&train, index)
            && train.unit.ncols() != read.unit.ncols()
        {
            let (own, others) = (train.unit.ncols(), read.unit.ncols());
            let other = queries.embeddings.display();
            let rule =
                format!("its rows have {own} numbers, those of {other} have {others}; take both from one encoder");
            return Err(Error::embeddings(&files.embeddings, rule));
        }
        Ok(Self { name: name.into(), queries: read, index: train })
    }

    /// Measures the queries, against the index if there is one and else each against all others.
    pub fn evaluate(&self, settings: &AnalysisConfig, registry: &Registry, say: &dyn Fn(&str)) -> Result<Evaluation> {
        let Self { name, queries, index } = self;
        let classes = class_names(index.iter().flat_map(|index| &index.names).chain(&queries.names));
        let labels = |names: &[String]| -> Vec<u32> {
            let place = |name| classes.iter().position(|class| class == name).expect("collected from these");
            names.iter().map(|name| place(name) as u32).collect()
        };
        let query_labels = labels(&queries.names);
        let index_labels = index.as_ref().map(|index| labels(&index.names)).unwrap_or_default();
        let notes = same_numbers(&classes);
        notes.iter().for_each(|note| say(&format!("warning: {note}")));
        say(&format!("measuring {} embeddings", queries.unit.nrows()));
        let subject = Subject {
            index: index.as_ref().map(|index| Points { unit: index.unit.view(), labels: &index_labels }),
            queries: Points { unit: queries.unit.view(), labels: &query_labels },
            classifier: None,
            held_out: None,
            classes: classes.len(),
            seed: 0,
            settings,
        };
        let found = measured::measure(&subject, registry);
        say("mapping");
        let images = ValImages { ids: queries.ids.clone(), labels: query_labels.clone() };
        let maps = Some(measured::lay_out(queries.unit.view(), images, settings));
        let head = "none".into();
        let index_images =
            index.as_ref().map(|index| ValImages { ids: index.ids.clone(), labels: index_labels.clone() });
        let look = Look::of(&subject, index_images).ok();
        let variant = Variant { name: name.clone(), base: name.clone(), head, classes, ..Variant::default() };
        let index = index.as_ref().map(|index| index.unit.dim());
        let selection = Selection {
            origin: Origin::External { queries: queries.unit.dim(), index },
            variants: vec![variant],
            runs: Vec::new(),
            failed: Vec::new(),
            notes,
        };
        let measured = vec![Measured { run: name.clone(), variant: 0, seed: 0, found, maps, look }];
        let groups = groups::groups(&selection, &measured, neighbors::headline(settings));
        Evaluation::new(selection, measured, groups, registry, settings)
    }
}

/// What the files hold.
struct Labelled {
    unit: Array2<f32>,
    ids: Vec<String>,
    names: Vec<String>,
}

impl Labelled {
    fn read(files: &LabelledFiles) -> Result<Self> {
        let mut embeddings = read_npy(&files.embeddings)?;
        let broken = |problem: String| Error::embeddings(&files.embeddings, problem);
        let (rows, columns) = embeddings.dim();
        if rows < 2 || columns == 0 {
            let rule = "at least two rows of at least one number are needed";
            return Err(broken(format!("it is {rows} x {columns}; {rule}")));
        }
        for (row, mut point) in embeddings.axis_iter_mut(Axis(0)).enumerate() {
            if let Some((column, value)) = point.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                return Err(broken(format!("row {row}, column {column} is {value}; every number must be finite")));
            }
            let norm = point.iter().map(|value| value * value).sum::<f64>().sqrt();
            if !(norm > 0.0 && norm.is_finite()) {
                return Err(broken(format!("row {row} has the length {norm} and so no direction; leave it out")));
            }
            point.mapv_inplace(|value| value / norm);
        }
        let (ids, names) = read_labels(&files.labels)?;
        if names.len() != rows {
            let problem = format!("it has {} labels, but {} has {rows} rows", names.len(), files.embeddings.display());
            let rule = "there must be one label for each row, in the same order";
            return Err(Error::embeddings(&files.labels, format!("{problem}; {rule}")));
        }
        Ok(Self { unit: embeddings.mapv(|value| value as f32), ids, names })
    }
}

/// A matrix of f32 or f64, in either memory order.
fn read_npy(path: &Path) -> Result<Array2<f64>> {
    let broken = |problem: String| Error::embeddings(path, problem);
    let open = || File::open(path).map_err(|error| broken(format!("it cannot be opened: {error}")));
    let problem = |error| broken(format!("it is no NPY matrix (rows, numbers) of f32 or f64: {error}"));
    match Array2::<f32>::read_npy(open()?) {
        Ok(matrix) => Ok(matrix.mapv(f64::from)),
        Err(ReadNpyError::WrongDescriptor(_)) => Array2::<f64>::read_npy(open()?).map_err(problem),
        Err(error) => Err(problem(error)),
    }
}

/// Ids (the row's number without a column `id`) and class names.
fn read_labels(path: &Path) -> Result<(Vec<String>, Vec<String>)> {
    let broken = |problem: String| Error::embeddings(path, problem);
    let open = |delimiter: u8| {
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_path(path)?;
        let header = reader.headers()?.clone();
        Ok((reader, header))
    };
    // Spreadsheets separate columns as the country has it: what gives a column `label` is right.
    let tables = [b',', b';', b'\t'].map(open).into_iter().collect::<std::result::Result<Vec<_>, csv::Error>>();
    let mut tables = tables.map_err(|error| broken(error.to_string()))?;
    let has_label = |(_, header): &(_, csv::StringRecord)| header.iter().any(|title| title.trim() == "label");
    let place = tables.iter().position(has_label).unwrap_or(0);
    let one_column = tables.iter().all(|(_, header)| header.len() == 1);
    let (mut reader, header) = tables.swap_remove(place);
    let column = |name: &str| header.iter().position(|title| title.trim() == name);
    let label = match column("label") {
        Some(column) => column,
        None if one_column => 0,
        None => {
            let found = header.iter().collect::<Vec<_>>().join(",").escape_debug().to_string();
            let rule = "name one so in the first line; commas, semicolons or tabs separate columns";
            return Err(broken(format!("it has no column `label`: its first line is `{found}`; {rule}")));
        }
    };
    let id = column("id");
    let (mut ids, mut names) = (Vec::new(), Vec::new());
    for (row, record) in reader.records().enumerate() {
        let record = record.map_err(|error| broken(error.to_string()))?;
        let name = record.get(label).unwrap_or_default().trim();
        if name.is_empty() {
            return Err(broken(format!("the label of row {row} is empty; every row needs one")));
        }
        names.push(name.to_string());
        ids.push(id.and_then(|id| record.get(id)).map_or(row.to_string(), String::from));
    }
    // A single column without a title would lose its first label in silence.
    if header.len() == 1 && column("label").is_none() && header[0].trim().parse::<f64>().is_ok() {
        return Err(broken(format!("its first line is `{}`; write `label` above it", &header[0])));
    }
    Ok((ids, names))
}

/// Each class once: by number if all are numbers, else by name.
fn class_names<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut classes = Vec::from_iter(names.cloned().collect::<BTreeSet<_>>());
    if classes.iter().all(|class| class.parse::<u64>().is_ok()) {
        classes.sort_by_key(|class| class.parse::<u64>().unwrap_or(u64::MAX));
    }
    classes
}

/// Says which classes are one number written in several ways, such as 1 and 01.
fn same_numbers(classes: &[String]) -> Vec<String> {
    let mut of_number: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for class in classes {
        if let Ok(number) = class.parse() {
            of_number.entry(number).or_default().push(class);
        }
    }
    let several = of_number.into_values().filter(|names| names.len() > 1);
    let note = |names: Vec<&str>| {
        let names = names.join("` and `");
        format!(
            "The labels `{names}` are one number and still classes of their own: write them alike if they are one class."
        )
    };
    several.map(note).collect()
}
