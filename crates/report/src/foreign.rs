//! Reports of embeddings from elsewhere: an NPY matrix and a CSV of labels instead of runs.

use crate::comparisons::Comparisons;
use crate::error::{Error, Result};
use crate::metrics::{self, Measured, Points, ValImages};
use crate::page;
use crate::pictures::{self, Outcome};
use crate::runs::{Selection, Variant};
use crate::{Summary, csv_names, groups, rows, sizes, tables, write_files};
use faceoff_runs::{AnalysisConfig, FolderLock};
use ndarray::{Array2, Axis};
use ndarray_npy::{ReadNpyError, ReadNpyExt};
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

/// What the files hold.
struct Labelled {
    unit: Array2<f32>,
    ids: Vec<String>,
    names: Vec<String>,
}

/// Measures `queries`, against `index` if there is one and else each against all others, and writes the report into `folder`,
/// whose lock it takes once the files are read: files that are refused leave no folder behind.
///
/// # Errors
/// Files that cannot be read; NaN or infinity; a row of zeros; shapes or numbers of rows that do not fit together; a folder
/// that another process writes into.
pub fn write_embeddings_report(
    folder: &Path,
    name: &str,
    queries: &LabelledFiles,
    index: Option<&LabelledFiles>,
    analysis: &AnalysisConfig,
    say: &dyn Fn(&str),
) -> Result<Summary> {
    say(&format!("reading {}", queries.embeddings.display()));
    let val = Labelled::read(queries)?;
    let train = index.map(Labelled::read).transpose()?;
    if let (Some(train), Some(files)) = (&train, index)
        && train.unit.ncols() != val.unit.ncols()
    {
        return Err(Error::Embeddings {
            path: files.embeddings.clone(),
            problem: format!(
                "its rows have {} numbers, those of {} have {}; take both from one encoder",
                train.unit.ncols(),
                queries.embeddings.display(),
                val.unit.ncols()
            ),
        });
    }
    let classes = class_names(train.iter().flat_map(|train| &train.names).chain(&val.names));
    let labels = |names: &[String]| -> Vec<u32> {
        let place = |name| classes.iter().position(|class| class == name).expect("collected from these");
        names.iter().map(|name| place(name) as u32).collect()
    };
    let val_labels = labels(&val.names);
    let train_labels = train.as_ref().map(|train| labels(&train.names));

    let _lock = FolderLock::take(folder)?;
    say(&format!("measuring {} embeddings", val.unit.nrows()));
    let mut measured = Measured::new(name, 0, 0);
    let query_points = Points { unit: val.unit.view(), labels: &val_labels };
    let index_points = train
        .as_ref()
        .zip(train_labels.as_ref())
        .map(|(train, labels)| Points { unit: train.unit.view(), labels });
    metrics::measure_points(&mut measured, index_points, query_points, classes.len(), analysis);
    say("mapping");
    metrics::lay_out(&mut measured, val.unit.view(), analysis);

    let selection = Selection {
        variants: vec![Variant {
            name: name.into(),
            base: name.into(),
            head: "none".into(),
            config: None,
            condition: String::new(),
            noise_percent: 0,
            unseen: false,
            classes: classes.clone(),
        }],
        runs: Vec::new(),
        failed: Vec::new(),
        notes: Vec::new(),
    };
    let notes = measured.notes.clone();
    let measured = [measured];
    let groups = groups::groups(&selection, &measured);
    let summaries = tables::summarise(&measured, 1);
    let [neighbors, components] = sizes(analysis);
    let outcome = Outcome {
        selection: &selection,
        measured: &measured,
        summaries: &summaries,
        comparisons: &Comparisons::default(),
        groups: &groups,
        trials: &[],
        val_images: &[ValImages { ids: val.ids.clone(), labels: val_labels.clone() }],
        neighbors: &neighbors,
        components: &components,
    };
    say("drawing");
    let sections = pictures::sections(&outcome)?;
    let mut files = vec![
        ("metrics.csv".to_string(), tables::metrics(&selection, &measured)?),
        ("explained_variance.csv".into(), tables::explained_variance(&selection, &measured, &components)?),
        ("bootstrap.csv".into(), tables::bootstrap(&selection, &measured)?),
        (
            "pca.csv".into(),
            tables::map(&selection, "pca.csv", &["pc1", "pc2", "pc3"], &pictures::pca_maps(&outcome))?,
        ),
        (
            "tsne.csv".into(),
            tables::map(&selection, "tsne.csv", &["x", "y"], &pictures::tsne_maps(&outcome))?,
        ),
    ];
    for picture in sections.iter().flat_map(|section| section.pictures.iter().chain(&section.details)) {
        files.push((format!("plots/{}", picture.file), picture.svg.clone().into_bytes()));
    }
    let mut facts = vec![
        ("Embeddings", format!("{} x {}", val.unit.nrows(), val.unit.ncols())),
        ("Classes", classes.len().to_string()),
    ];
    let method = match &train {
        Some(train) => {
            facts.push(("Index", format!("{} x {}", train.unit.nrows(), train.unit.ncols())));
            "Where the definitions say training images, the index is meant (--train-embeddings); where they say validation images, the evaluated embeddings \
             (--embeddings). All rows were brought to unit length; similarity is the cosine. No classifier is known, so nothing is said of one. One set of embeddings \
             is one training (n = 1): intervals are over images alone."
        }
        None => {
            "There is one set of embeddings, so every point is compared with all others: where the definitions say training images, all other points are meant for \
             neighbours, and the whole set for explained variance and neural collapse. All rows were brought to unit length; similarity is the cosine. No classifier is \
             known, so nothing is said of one, and a linear probe would need a second set (--train-embeddings). One set of embeddings is one training (n = 1): intervals \
             are over images alone."
        }
    };
    let page = page::foreign(name, &facts, method, &outcome, &sections, &notes, &csv_names(&files));
    files.push(("index.html".into(), page.into_bytes()));
    write_files(folder, &files, say)?;
    Ok(Summary {
        rows: rows(&selection, &measured, &summaries),
        notes,
        page: folder.join("index.html"),
        metrics: folder.join("metrics.csv"),
    })
}

impl Labelled {
    fn read(files: &LabelledFiles) -> Result<Self> {
        let mut embeddings = read_npy(&files.embeddings)?;
        let broken = |problem: String| Error::Embeddings { path: files.embeddings.clone(), problem };
        if embeddings.nrows() < 2 || embeddings.ncols() == 0 {
            return Err(broken(format!(
                "it is {} x {}; at least two rows of at least one number are needed",
                embeddings.nrows(),
                embeddings.ncols()
            )));
        }
        for (row, mut point) in embeddings.axis_iter_mut(Axis(0)).enumerate() {
            if let Some((column, value)) = point.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                return Err(broken(format!(
                    "row {row}, column {column} is {value}; every number must be finite"
                )));
            }
            let norm = point.iter().map(|value| value * value).sum::<f64>().sqrt();
            if !(norm > 0.0 && norm.is_finite()) {
                return Err(broken(format!(
                    "row {row} has the length {norm} and so no direction; leave it out"
                )));
            }
            point.mapv_inplace(|value| value / norm);
        }
        let (ids, names) = read_labels(&files.labels)?;
        if names.len() != embeddings.nrows() {
            return Err(Error::Embeddings {
                path: files.labels.clone(),
                problem: format!(
                    "it has {} labels, but {} has {} rows; there must be one label for each row, in the same order",
                    names.len(),
                    files.embeddings.display(),
                    embeddings.nrows()
                ),
            });
        }
        Ok(Self { unit: embeddings.mapv(|value| value as f32), ids, names })
    }
}

/// A matrix of f32 or f64, in either memory order.
fn read_npy(path: &Path) -> Result<Array2<f64>> {
    let open = || {
        File::open(path).map_err(|error| Error::Embeddings {
            path: path.to_path_buf(),
            problem: format!("it cannot be opened: {error}"),
        })
    };
    let problem = |error: ReadNpyError| Error::Embeddings {
        path: path.to_path_buf(),
        problem: format!("it is no NPY matrix (rows, numbers) of f32 or f64: {error}"),
    };
    match Array2::<f32>::read_npy(open()?) {
        Ok(matrix) => Ok(matrix.mapv(f64::from)),
        Err(ReadNpyError::WrongDescriptor(_)) => Array2::<f64>::read_npy(open()?).map_err(problem),
        Err(error) => Err(problem(error)),
    }
}

/// Ids (the row's number without a column `id`) and class names.
fn read_labels(path: &Path) -> Result<(Vec<String>, Vec<String>)> {
    let broken = |problem: String| Error::Embeddings { path: path.to_path_buf(), problem };
    let mut reader = csv::Reader::from_path(path).map_err(|error| broken(error.to_string()))?;
    let header = reader.headers().map_err(|error| broken(error.to_string()))?.clone();
    let column = |name: &str| header.iter().position(|title| title.trim() == name);
    let label = match column("label") {
        Some(column) => column,
        None if header.len() == 1 => 0,
        None => {
            let found = header.iter().collect::<Vec<_>>().join(", ");
            return Err(broken(format!(
                "it has no column `label`, only {found}; name one so in the first line"
            )));
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
    let mut classes: Vec<String> = names.cloned().collect();
    classes.sort();
    classes.dedup();
    if classes.iter().all(|class| class.parse::<u64>().is_ok()) {
        classes.sort_by_key(|class| class.parse::<u64>().unwrap_or(u64::MAX));
    }
    classes
}
