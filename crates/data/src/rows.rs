//! Embeddings of another model in the place of images: rows of NPY matrices, and a table of their labels.
//!
//! ```text
//! --embeddings FILE.npy --labels FILE.csv                    split as its column `split` says, or a seeded share
//! ... --val-embeddings FILE.npy --val-labels FILE.csv        as they are
//! ```
//!
//! Opening reads every row once, for its checksum and to see that it can be trained on. After that a batch reads its own rows from the
//! file and no others, so that a matrix may be larger than memory; each is compared with its checksum.

use crate::dataset::Arranged;
use crate::folder::Listing;
use crate::own::{Divided, Found, Image, Preview, csv_of, divide, fingerprint_of};
use crate::source::ImageSource;
use crate::table::{Side, has_val, side_of};
use crate::{Error, ProgressFn, Result};
use faceoff_runs::{BLOCK_BYTES, DataConfig, LabelledRow, NpyMatrix, SplitName};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The files of embeddings of another model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingFiles {
    /// NPY, (rows, numbers), of f16, f32 or f64. Their labels are [`ImageSource::labels`].
    pub train: PathBuf,
    /// Those of the validation images, and the table of their labels; without them a share of the others is split off.
    pub val: Option<[PathBuf; 2]>,
}

impl EmbeddingFiles {
    /// Numbers of a row, and a reason to believe that it is a matrix.
    ///
    /// # Errors
    /// Files that are none, or whose rows differ in length.
    pub fn width(&self) -> Result<usize> {
        Ok(self.matrices()?[0].columns())
    }

    /// The matrices, opened, that of the training images first.
    fn matrices(&self) -> Result<Vec<NpyMatrix>> {
        let paths = std::iter::once(&self.train).chain(self.val.iter().map(|[embeddings, _]| embeddings));
        let matrices = paths.map(|path| NpyMatrix::open(path)).collect::<std::result::Result<Vec<_>, _>>()?;
        for matrix in &matrices {
            let (columns, wrong) = (matrix.columns(), |why| Error::table(matrix.path(), why));
            if matrix.is_by_columns() {
                let rule = "its columns lie together (Fortran order), so that no row can be read alone; write it again with numpy.ascontiguousarray";
                return Err(wrong(rule.into()));
            }
            let first = &matrices[0];
            if columns != first.columns() {
                let (others, other) = (first.columns(), first.path().display());
                let rule = "take both from one model";
                return Err(wrong(format!("its rows have {columns} numbers, those of {other} have {others}; {rule}")));
            }
        }
        Ok(matrices)
    }
}

/// Rows on the disk, those of the training file first.
pub(crate) struct Rows {
    matrices: Vec<NpyMatrix>,
    checksums: Vec<u64>,
}

impl Rows {
    /// Reads every row once: the rows, and a digest of all of them.
    fn open(matrices: Vec<NpyMatrix>, progress: ProgressFn) -> Result<(Self, String)> {
        let total: usize = matrices.iter().map(NpyMatrix::rows).sum();
        let (mut checksums, mut all) = (Vec::with_capacity(total), Sha256::new());
        let mut bytes = Vec::new();
        for matrix in &matrices {
            let most = (BLOCK_BYTES / matrix.row_bytes()).max(1);
            let mut first = 0;
            while first < matrix.rows() {
                let rows = first..matrix.rows().min(first + most);
                bytes.clear();
                matrix.read_rows(rows.clone(), &mut bytes)?;
                let digest = |(place, row): (usize, &[u8])| -> Result<[u8; 32]> {
                    matrix.length_of(first + place, matrix.numbers(row))?;
                    Ok(*blake3::hash(row).as_bytes())
                };
                let stored = bytes.par_chunks_exact(matrix.row_bytes());
                let digests: Vec<Result<[u8; 32]>> = stored.enumerate().map(digest).collect();
                for digest in digests {
                    let digest = digest?;
                    all.update(digest);
                    checksums.push(first_bytes(&digest));
                }
                first = rows.end;
                progress("check embeddings", checksums.len() as u64, total as u64);
            }
        }
        Ok((Self { matrices, checksums }, hex::encode(all.finalize())))
    }

    /// Appends the numbers of a row to `out`. `buffer` is room for its bytes that is used again.
    pub(crate) fn read(&self, stored: usize, buffer: &mut Vec<u8>, out: &mut Vec<f32>) -> Result<()> {
        let (matrix, row) = match stored.checked_sub(self.matrices[0].rows()) {
            None => (&self.matrices[0], stored),
            Some(row) => (&self.matrices[1], row),
        };
        buffer.clear();
        matrix.read_rows(row..row + 1, buffer)?;
        if first_bytes(blake3::hash(buffer).as_bytes()) != self.checksums[stored] {
            let rule = "it changed while it was in use; run the same command again with a file that stays as it is";
            return Err(Error::table(matrix.path(), format!("row {row} is not what it was: {rule}")));
        }
        out.extend(matrix.numbers(buffer).map(|value| value as f32));
        Ok(())
    }
}

fn first_bytes(digest: &[u8; 32]) -> u64 {
    u64::from_le_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
}

/// Embeddings, open.
pub(crate) struct Opened {
    pub(crate) listing: Listing,
    pub(crate) rows: Rows,
    pub(crate) fingerprint: String,
    pub(crate) remarks: Vec<String>,
    /// What a row is, for the record.
    pub(crate) note: String,
    pub(crate) split: Option<String>,
}

/// Opens and divides the embeddings of `source`.
pub(crate) fn open(config: &DataConfig, source: &ImageSource, progress: ProgressFn) -> Result<Opened> {
    let files = files(source)?;
    let (matrices, found) = find(files, source)?;
    let images = found.images.clone();
    // Given back as labels it has to have a line for every row, also for those that are left out.
    let table = |divided: &[Image]| table_of(&images, divided);
    let Divided { listing, mut remarks, split } = divide(&wrong(source), found, config, &table)?;
    let width = matrices[0].columns();
    let (rows, digest) = Rows::open(matrices, progress)?;
    let twins = twins(&rows, &listing);
    if twins > 0 {
        remarks.push(format!(
            "{twins} validation rows are training rows too, number for number: what is measured on them is too good."
        ));
    }
    let name = files.train.file_name().unwrap_or_default().to_string_lossy();
    let note = format!(
        "Each image is a row of {name}, {width} numbers that another model made of it and that stay as they are: what is trained is a projection \
         of them. Nothing is augmented: every epoch sees the same rows."
    );
    // The same id may be another row's.
    let mut places = Sha256::new_with_prefix(&digest);
    listing.images.iter().flatten().for_each(|file| places.update((file.stored as u64).to_le_bytes()));
    let fingerprint = fingerprint_of(&hex::encode(places.finalize()), &listing);
    Ok(Opened { listing, rows, fingerprint, remarks, note, split })
}

/// What a benchmark on embeddings would find; no row is read.
pub(crate) fn preview(config: &DataConfig, source: &ImageSource) -> Result<Preview> {
    let (_, found) = find(files(source)?, source)?;
    let mut remarks: Vec<String> = found.passed_over.sentence().into_iter().collect();
    let divided = divide(&wrong(source), found, config, &|_| String::new())?;
    remarks.extend(divided.remarks);
    Ok(Preview { sizes: Arranged::of(config, divided.listing)?.sizes(), remarks, decoded_bytes: None })
}

fn files(source: &ImageSource) -> Result<&EmbeddingFiles> {
    let rule = "pass them with --embeddings FILE.npy and --labels FILE.csv";
    source.embeddings.as_ref().ok_or_else(|| Error::setting("data.dataset", faceoff_runs::EMBEDDINGS, rule))
}

fn labels(source: &ImageSource) -> Result<&Path> {
    let rule = "pass the labels of the embeddings with --labels FILE.csv";
    source.labels.as_deref().ok_or_else(|| Error::setting("data.dataset", faceoff_runs::EMBEDDINGS, rule))
}

/// What is wrong with the labels as a whole.
fn wrong(source: &ImageSource) -> impl Fn(String) -> Error {
    let table = source.labels.clone().unwrap_or_default();
    move |problem| Error::table(&table, problem)
}

/// The matrices, and an image for each of their rows.
fn find(files: &EmbeddingFiles, source: &ImageSource) -> Result<(Vec<NpyMatrix>, Found)> {
    let matrices = files.matrices()?;
    let mut found = Found::default();
    let tables = std::iter::once(labels(source)?).chain(files.val.iter().map(|[_, labels]| labels.as_path()));
    let (both, mut first) = (files.val.is_some(), 0);
    for ((matrix, table), side) in matrices.iter().zip(tables).zip(SplitName::ALL) {
        labelled(matrix, table, both.then_some(side), first, &mut found)?;
        first += matrix.rows();
    }
    Ok((matrices, found))
}

/// Adds an image for each row of `matrix`, as `table` says; `only` is the side that all of them have, `first` the place of the first row
/// among all.
fn labelled(matrix: &NpyMatrix, table: &Path, only: Option<SplitName>, first: usize, found: &mut Found) -> Result<()> {
    let wrong = |problem: String| Error::table(table, problem);
    let rows = matrix.labels(table)?;
    let has_val = has_val(rows.iter().map(|row| row.split.as_str()));
    let mut by_chance = None;
    for (row, LabelledRow { line, id, label: class, split, group }) in rows.into_iter().enumerate() {
        let split = match (side_of(&split, has_val), only) {
            (Side::Chance, only) => {
                by_chance.get_or_insert(line);
                only
            }
            (Side::Of(side), None) => Some(side),
            (Side::Of(side), Some(only)) if side == only => Some(side),
            (Side::Of(_), Some(only)) => {
                let rule = format!("all rows of {} are {} images here", matrix.path().display(), only.as_str());
                return Err(wrong(format!("line {line} has the split `{split}`, but {rule}; leave the column out")));
            }
            (Side::Unused, _) => {
                found.passed_over.add("rows of the split test", &id);
                continue;
            }
            (Side::Unknown, _) => {
                return Err(wrong(format!("line {line} has the split `{split}`; it must be `train` or `val`")));
            }
        };
        let group = (!group.is_empty()).then_some(group);
        found.images.push(Image { id, path: PathBuf::new(), class, split, group, stored: first + row });
    }
    if only.is_none()
        && let Some(line) = by_chance
        && found.images.iter().any(|image| image.split.is_some())
    {
        let rule = "fill the column, or empty it to have the rows split";
        return Err(wrong(format!("line {line} has no split, but others have; {rule}")));
    }
    found.divided = only.is_some() || by_chance.is_none();
    Ok(())
}

/// How many validation rows are training rows too.
fn twins(rows: &Rows, listing: &Listing) -> usize {
    let [train, val] = &listing.images;
    let train: HashSet<u64> = train.iter().map(|file| rows.checksums[file.stored]).collect();
    val.iter().filter(|file| train.contains(&rows.checksums[file.stored])).count()
}

/// A line for every row, as [`labelled`] reads it back; `test` for those that are left out.
fn table_of(images: &[Image], divided: &[Image]) -> String {
    let side_of: HashMap<usize, SplitName> =
        divided.iter().filter_map(|image| Some((image.stored, image.split?))).collect();
    let rows = images.iter().map(|Image { id, class, group, stored, .. }| {
        let side = side_of.get(stored).map_or("test", |side| side.as_str());
        [id.as_str(), class, side, group.as_deref().unwrap_or_default()]
    });
    csv_of([["id", "label", "split", "group"]].into_iter().chain(rows))
}
