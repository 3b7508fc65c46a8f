//! External embeddings: an NPY matrix and a CSV of labels instead of runs.

use crate::error::{Error, Result};
use crate::families::neighbors;
use crate::look::Look;
use crate::measured::{self, Measured, Points, Subject, ValImages};
use crate::registry::Registry;
use crate::selection::{Origin, Selection, Variant};
use crate::{Evaluation, groups};
use faceoff_runs::{AnalysisConfig, LabelledRow, NpyMatrix};
use ndarray::{Array2, Axis};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Embeddings and their labels on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledFiles {
    /// NPY, (N, D), f16, f32 or f64, of any length: they are brought to unit length here.
    pub embeddings: PathBuf,
    /// CSV with a header and N rows: a column `label` (or a single column) of class names or numbers, and perhaps a
    /// column `id`, see [`LabelledRow`].
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
    /// Files that cannot be read; NaN or infinity; a row of zeros; ids that come again; shapes or numbers of rows that do not fit together.
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
        let matrix = NpyMatrix::open(&files.embeddings)?;
        let (rows, columns) = (matrix.rows(), matrix.columns());
        let mut embeddings = Array2::from_shape_vec((rows, columns), matrix.read_all()?)
            .expect("a matrix has as many numbers as its shape says");
        for (row, mut point) in embeddings.axis_iter_mut(Axis(0)).enumerate() {
            let length = matrix.length_of(row, point.iter().copied())?;
            point.mapv_inplace(|value| value / length);
        }
        let labels = matrix.labels(&files.labels)?;
        let (ids, names) = labels.into_iter().map(|LabelledRow { id, label, .. }| (id, label)).unzip();
        Ok(Self { unit: embeddings.mapv(|value| value as f32), ids, names })
    }
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
