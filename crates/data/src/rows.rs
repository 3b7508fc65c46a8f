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
use crate::table::{Side, has_val, lines, side_of};
use crate::{Error, ProgressFn, Result};
use faceoff_runs::{DataConfig, NpyMatrix, SplitName, TableRow};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use unicode_normalization::UnicodeNormalization;

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
            let (rows, columns, wrong) = (matrix.rows(), matrix.columns(), |why| Error::table(matrix.path(), why));
            if rows < 2 || columns == 0 {
                let rule = "at least two rows of at least one number are needed";
                return Err(wrong(format!("it is {rows} x {columns}; {rule}")));
            }
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

/// Bytes that are read at once where all rows are.
const BLOCK_BYTES: usize = 1 << 23;

impl Rows {
    /// Reads every row once: the rows, and a digest of all of them.
    fn open(matrices: Vec<NpyMatrix>, progress: ProgressFn) -> Result<(Self, String)> {
        let total: usize = matrices.iter().map(NpyMatrix::rows).sum();
        let (mut checksums, mut all) = (Vec::with_capacity(total), Sha256::new());
        let mut bytes = Vec::new();
        for matrix in &matrices {
            let most = (BLOCK_BYTES / matrix.columns()).max(1);
            let mut first = 0;
            while first < matrix.rows() {
                let rows = first..matrix.rows().min(first + most);
                bytes.clear();
                matrix.read_rows(rows.clone(), &mut bytes)?;
                let width = bytes.len() / rows.len();
                let digest = |(place, row): (usize, &[u8])| {
                    check(matrix, first + place, row).map(|()| *blake3::hash(row).as_bytes())
                };
                let digests: Vec<Result<[u8; 32]>> = bytes.par_chunks_exact(width).enumerate().map(digest).collect();
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

/// That a row can be trained on: finite numbers, and a length that f32 can hold.
fn check(matrix: &NpyMatrix, row: usize, bytes: &[u8]) -> Result<()> {
    let wrong = |problem: String| Error::table(matrix.path(), problem);
    let mut squares = 0.0;
    for (column, value) in matrix.numbers(bytes).enumerate() {
        if !(value as f32).is_finite() {
            return Err(wrong(format!("row {row}, column {column} is {value}; every number must be finite in f32")));
        }
        squares += value * value;
    }
    if !(squares as f32).is_normal() {
        let rule = "such a row has no direction that can be told; leave it out, or scale all rows";
        return Err(wrong(format!("row {row} has the length {}; {rule}", squares.sqrt())));
    }
    Ok(())
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
    let Divided { listing, mut remarks, split } = divide(&wrong(source), found, config)?;
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
    let fingerprint = fingerprint_of(&digest, &listing);
    // Given back as labels it has to have a line for every row, also for those that were left out.
    let split = split.map(|_| table_of(&images, &listing));
    Ok(Opened { listing, rows, fingerprint, remarks, note, split })
}

/// What a benchmark on embeddings would find; no row is read.
pub(crate) fn preview(config: &DataConfig, source: &ImageSource) -> Result<Preview> {
    let (_, found) = find(files(source)?, source)?;
    let mut remarks: Vec<String> = found.passed_over.sentence().into_iter().collect();
    let divided = divide(&wrong(source), found, config)?;
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
    let rows = lines(table, &["label"], &["id", "path", "split", "group"])?;
    if rows.len() != matrix.rows() {
        let (count, other) = (matrix.rows(), matrix.path().display());
        let rule = "there must be one label for each row, in the same order";
        return Err(wrong(format!("it has {} labels, but {other} has {count} rows; {rule}", rows.len())));
    }
    let has_val = has_val(rows.iter().map(|row| row.cells[3].as_str()));
    let stem = matrix.path().file_stem().unwrap_or_default().to_string_lossy();
    let mut line_of: HashMap<String, u64> = HashMap::new();
    let mut by_chance = None;
    for (row, TableRow { line, cells }) in rows.into_iter().enumerate() {
        let [label, id, path, split, group] = cells.try_into().expect("as many cells as columns");
        if label.is_empty() {
            return Err(wrong(format!("line {line} has no label; every row of the embeddings needs one")));
        }
        let id = [id, path].into_iter().find(|id| !id.is_empty()).unwrap_or_else(|| format!("{stem}:{row}"));
        if let Some(before) = line_of.insert(id.clone(), line) {
            return Err(wrong(format!("line {line} names {id} again, after line {before}; ids must differ")));
        }
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
        let class = label.nfc().collect();
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
fn table_of(images: &[Image], listing: &Listing) -> String {
    let mut side_of = HashMap::new();
    for (side, files) in SplitName::ALL.iter().zip(&listing.images) {
        side_of.extend(files.iter().map(|file| (file.stored, side.as_str())));
    }
    let rows = images.iter().map(|Image { id, class, group, stored, .. }| {
        let side = side_of.get(stored).copied().unwrap_or("test");
        [id.as_str(), class, side, group.as_deref().unwrap_or_default()]
    });
    csv_of([["id", "label", "split", "group"]].into_iter().chain(rows))
}
