//! Embeddings of any images in a file: written as they are made, read back a part at a time, and only if they are what was written.
//!
//! ```text
//! X.parquet        columns path (text), norm (f32), embedding (list of f32, of unit length); uncompressed
//!                  key `faceoff`: About as JSON; key `faceoff.blake3`: checksum of the file, with zeros in its own place
//! X.npy            the embeddings alone, (rows, dim) f32
//! X.paths.csv      beside it: path, norm
//! X.about.json     beside it: About, and the checksums of both
//! ```
//!
//! A norm is the length of an embedding before it was brought to unit length: the product of both is what the encoder gave.

use faceoff_runs::{FileRecord, NpyMatrix, read_column, read_exact_at, write_atomically, write_file_atomically};
use polars_arrow::array::{Array, ListArray, PrimitiveArray, Utf8Array, Utf8ViewArray};
use polars_arrow::datatypes::{ArrowDataType, ArrowSchema, Field};
use polars_arrow::offset::Offsets;
use polars_arrow::record_batch::RecordBatchT;
use polars_parquet::read::{ColumnChunkMetadata, FileMetadata, read_metadata};
use polars_parquet::write::{
    CompressionOptions, Encoding, FileWriter, KeyValue, StatisticsOptions, Version, WriteOptions, row_group_iter,
    schema_to_metadata_key,
};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of the files.
const SCHEMA: u32 = 1;
/// Rows that are written and read at once.
const GROUP: usize = 4096;
/// Key of [`About`] in a Parquet file.
const ABOUT: &str = "faceoff";
/// Key of the checksum in a Parquet file.
const SEAL: &str = "faceoff.blake3";
/// In the place of the checksum, 64 hexadecimal digits, when that is worked out.
const UNSEALED: [u8; 64] = [b'0'; 64];
/// A longer footer is none.
const LONGEST_FOOTER: u64 = 1 << 28;

/// What made embeddings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Version of the files.
    pub schema: u32,
    /// The run's experiment.
    pub experiment: String,
    /// The run, `<variant>-seed<k>`.
    pub run: String,
    /// BLAKE3 of the encoder's weights.
    pub weights_blake3: String,
    /// Side of the images that the encoder saw, in pixels.
    pub image_size_px: usize,
    /// Pixels of the shorter side to which images were brought before their centre was cut out.
    pub shorter_side_px: u32,
    /// Numbers of an embedding.
    pub dim: usize,
    /// What computed them, e.g. `cpu (avx2)`: another gives the same up to rounding.
    pub arithmetic: String,
    /// Version of Faceoff.
    pub version: String,
}

impl About {
    /// Version of the files that this crate writes.
    pub const SCHEMA: u32 = SCHEMA;
}

/// `X.about.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beside {
    about: About,
    /// Of the matrix.
    embeddings: FileRecord,
    /// Of the table.
    paths: FileRecord,
    /// BLAKE3 of all the above.
    blake3: String,
}

impl Beside {
    /// BLAKE3 of the content, the field `blake3` left out.
    fn digest(&self) -> String {
        let json = serde_json::to_vec(&(&self.about, &self.embeddings, &self.paths));
        blake3::hash(&json.expect("plain data is always valid JSON")).to_hex().to_string()
    }
}

/// Why embeddings cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A name that says neither form.
    #[error("{0} must end in .parquet or .npy")]
    Name(PathBuf),
    /// A file that is not what was written.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// The disk.
    #[error(transparent)]
    Runs(#[from] faceoff_runs::Error),
}

type Result<T> = std::result::Result<T, IndexError>;

fn wrong(path: &Path, problem: impl ToString) -> IndexError {
    IndexError::File { path: path.into(), problem: problem.to_string() }
}

const AGAIN: &str = "make it again with `embed`";

/// How embeddings stand on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Parquet,
    Npy,
}

impl Form {
    fn of(path: &Path) -> Result<Self> {
        let ends = |ending: &str| path.extension().is_some_and(|other| other.eq_ignore_ascii_case(ending));
        match (ends("parquet"), ends("npy")) {
            (true, _) => Ok(Self::Parquet),
            (_, true) => Ok(Self::Npy),
            _ => Err(IndexError::Name(path.into())),
        }
    }
}

/// The files that embeddings at `path` consist of, which itself is the first.
///
/// # Errors
/// A name that ends in neither `.parquet` nor `.npy`.
pub fn index_files(path: &Path) -> Result<Vec<PathBuf>> {
    Ok(match Form::of(path)? {
        Form::Parquet => vec![path.into()],
        Form::Npy => vec![path.into(), path.with_extension("paths.csv"), path.with_extension("about.json")],
    })
}

/// Takes embeddings as they are made.
pub trait Sink {
    /// Some more: paths, embeddings (paths, dim) and norms.
    ///
    /// # Errors
    /// Those of the disk.
    fn add(&mut self, paths: &[String], unit: &[f32], norms: &[f32]) -> std::io::Result<()>;
}

/// Writes what `fill` hands over, whole or not at all; on any error of `fill` nothing stays.
///
/// # Errors
/// That of `fill`; those of the disk; another name than one of [`index_files`].
pub fn write_index(path: &Path, about: &About, fill: impl FnOnce(&mut dyn Sink) -> std::io::Result<()>) -> Result<()> {
    match Form::of(path)? {
        Form::Parquet => Ok(write_file_atomically(path, |file| write_parquet(file, about, fill))?),
        Form::Npy => write_npy(path, about, fill),
    }
}

/// Writes and hashes.
struct Hashing<'a> {
    file: BufWriter<&'a mut File>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<'a> Hashing<'a> {
    fn new(file: &'a mut File) -> Self {
        Self { file: BufWriter::with_capacity(1 << 20, file), hasher: blake3::Hasher::new(), bytes: 0 }
    }
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn fields() -> [Field; 3] {
    let field = |name: &str, dtype| Field::new(name.into(), dtype, false);
    let number = Box::new(field("element", ArrowDataType::Float32));
    [
        field("path", ArrowDataType::LargeUtf8),
        field("norm", ArrowDataType::Float32),
        field("embedding", ArrowDataType::List(number)),
    ]
}

/// Rows that wait until they fill a group.
struct Groups<'a> {
    writer: FileWriter<Hashing<'a>>,
    dim: usize,
    paths: Vec<String>,
    unit: Vec<f32>,
    norms: Vec<f32>,
}

impl Groups<'_> {
    fn flush(&mut self, rows: usize) -> std::io::Result<()> {
        let rest = self.paths.split_off(rows);
        let paths = Utf8Array::<i64>::from_slice(std::mem::replace(&mut self.paths, rest));
        let rest = self.norms.split_off(rows);
        let norms = PrimitiveArray::from_vec(std::mem::replace(&mut self.norms, rest));
        let rest = self.unit.split_off(rows * self.dim);
        let numbers = PrimitiveArray::from_vec(std::mem::replace(&mut self.unit, rest));
        let offsets = Offsets::<i32>::try_from_lengths(std::iter::repeat_n(self.dim, rows)).map_err(said)?;
        let [.., list] = fields();
        let lists = ListArray::<i32>::new(list.dtype, offsets.into(), numbers.boxed(), None);
        let columns: Vec<Box<dyn Array>> = vec![paths.boxed(), norms.boxed(), lists.boxed()];
        let schema = Arc::new(self.writer.schema().clone());
        let encodings = vec![vec![Encoding::Plain]; columns.len()];
        let types = self.writer.parquet_schema().fields().to_vec();
        let group =
            row_group_iter(RecordBatchT::new(rows, schema, columns), encodings.into(), types, self.writer.options());
        self.writer.write(rows as u64, group).map_err(said)
    }
}

impl Sink for Groups<'_> {
    fn add(&mut self, paths: &[String], unit: &[f32], norms: &[f32]) -> std::io::Result<()> {
        self.paths.extend_from_slice(paths);
        self.unit.extend_from_slice(unit);
        self.norms.extend_from_slice(norms);
        while self.paths.len() >= GROUP {
            self.flush(GROUP)?;
        }
        Ok(())
    }
}

/// What the library says, as an answer of the system.
fn said(error: impl std::fmt::Display) -> std::io::Error {
    std::io::Error::other(error.to_string())
}

fn write_parquet(
    file: &mut File,
    about: &About,
    fill: impl FnOnce(&mut dyn Sink) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let schema = ArrowSchema::from_iter(fields());
    let options = WriteOptions {
        statistics: StatisticsOptions::empty(),
        version: Version::V1,
        compression: CompressionOptions::Uncompressed,
        data_page_size: None,
    };
    let entry = |key: &str, value: String| KeyValue { key: key.into(), value: Some(value) };
    let entries = vec![
        schema_to_metadata_key(&schema),
        entry(ABOUT, serde_json::to_string(about)?),
        entry(SEAL, String::from_utf8_lossy(&UNSEALED).into()),
    ];
    let writer = FileWriter::try_new(Hashing::new(file), schema, options).map_err(said)?;
    let mut groups = Groups { writer, dim: about.dim, paths: Vec::new(), unit: Vec::new(), norms: Vec::new() };
    fill(&mut groups)?;
    if !groups.paths.is_empty() {
        groups.flush(groups.paths.len())?;
    }
    groups.writer.end(Some(entries)).map_err(said)?;
    let Hashing { mut file, hasher, bytes } = groups.writer.into_inner();
    file.flush()?;
    let file = file.into_inner().map_err(|error| error.into_error())?;
    let digest = hasher.finalize().to_hex();
    let place = seal_in(bytes, |offset, buffer| read_exact_at(file, buffer, offset))?;
    let place = place.ok_or_else(|| said("the checksum's place is not found in what was just written"))?;
    file.seek(SeekFrom::Start(place))?;
    file.write_all(digest.as_bytes())
}

/// Where the checksum stands in a Parquet file of so many bytes; `None` where there is none.
fn seal_in(bytes: u64, mut read: impl FnMut(u64, &mut [u8]) -> std::io::Result<()>) -> std::io::Result<Option<u64>> {
    let Some(end) = bytes.checked_sub(8) else { return Ok(None) };
    let mut last = [0; 8];
    read(end, &mut last)?;
    let length = u64::from(u32::from_le_bytes([last[0], last[1], last[2], last[3]]));
    let Some(start) = end.checked_sub(length).filter(|_| &last[4..] == b"PAR1" && length <= LONGEST_FOOTER) else {
        return Ok(None);
    };
    let mut footer = vec![0; length as usize];
    read(start, &mut footer)?;
    // Thrift's compact form of an entry: the key, then a text of 64 bytes.
    let key = [SEAL.as_bytes(), &[0x18, UNSEALED.len() as u8]].concat();
    let place = footer.windows(key.len()).position(|window| window == key).map(|place| place + key.len());
    Ok(place.filter(|place| place + UNSEALED.len() <= footer.len()).map(|place| start + place as u64))
}

/// The matrix as it is written.
struct Matrix<'a> {
    file: BufWriter<&'a mut File>,
    table: csv::Writer<Vec<u8>>,
    rows: usize,
}

/// Bytes of an NPY file before its numbers.
const NPY_HEADER: usize = 128;

/// The header of a matrix of f32.
fn npy_header(rows: usize, dim: usize) -> [u8; NPY_HEADER] {
    let mut header = [b' '; NPY_HEADER];
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    header[..8].copy_from_slice(b"\x93NUMPY\x01\x00");
    header[8..10].copy_from_slice(&(NPY_HEADER as u16 - 10).to_le_bytes());
    // Two numbers of twenty digits leave room.
    header[10..10 + text.len()].copy_from_slice(text.as_bytes());
    header[NPY_HEADER - 1] = b'\n';
    header
}

impl Sink for Matrix<'_> {
    fn add(&mut self, paths: &[String], unit: &[f32], norms: &[f32]) -> std::io::Result<()> {
        self.rows += paths.len();
        paths.iter().zip(norms).try_for_each(|row| self.table.serialize(row))?;
        unit.iter().try_for_each(|value| self.file.write_all(&value.to_le_bytes()))
    }
}

fn write_npy(path: &Path, about: &About, fill: impl FnOnce(&mut dyn Sink) -> std::io::Result<()>) -> Result<()> {
    let files = index_files(path)?;
    let mut written = Vec::new();
    write_file_atomically(path, |file| {
        file.write_all(&npy_header(0, about.dim))?;
        let rows = {
            let mut table = csv::Writer::from_writer(Vec::new());
            table.write_record(["path", "norm"])?;
            let mut matrix = Matrix { file: BufWriter::with_capacity(1 << 20, &mut *file), table, rows: 0 };
            fill(&mut matrix)?;
            matrix.file.flush()?;
            written = matrix.table.into_inner().map_err(|error| error.into_error())?;
            matrix.rows
        };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&npy_header(rows, about.dim))
    })?;
    write_atomically(&files[1], |file| file.write_all(&written))?;
    let [embeddings, paths] = [FileRecord::of(&files[0])?, FileRecord::of(&files[1])?];
    let mut beside = Beside { about: about.clone(), embeddings, paths, blake3: String::new() };
    beside.blake3 = beside.digest();
    // It comes last: it says that the others are whole.
    let text = serde_json::to_vec_pretty(&beside).expect("plain data is always valid JSON");
    Ok(write_atomically(&files[2], |file| file.write_all(&text))?)
}

/// Writes the list of images that could not be read, and why.
///
/// # Errors
/// Those of the disk.
pub fn write_unreadable(path: &Path, unreadable: &[(String, String)]) -> Result<()> {
    Ok(write_atomically(path, |file| {
        let mut table = csv::Writer::from_writer(file);
        table.write_record(["path", "problem"])?;
        unreadable.iter().try_for_each(|row| table.serialize(row))?;
        table.flush()
    })?)
}

/// Embeddings on disk, checked.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    about: About,
    stored: Stored,
}

#[derive(Debug)]
enum Stored {
    Parquet(File, Box<FileMetadata>),
    Npy,
}

impl Index {
    /// Opens the embeddings at `path`, all of which are read once.
    ///
    /// # Errors
    /// A file that `embed` did not write, of another version, or that is not what was written.
    pub fn open(path: &Path) -> Result<Self> {
        let (about, stored) = match Form::of(path)? {
            Form::Parquet => open_parquet(path)?,
            Form::Npy => (open_npy(path)?, Stored::Npy),
        };
        if about.schema != SCHEMA {
            return Err(wrong(
                path,
                format!("it is of version {}, this program reads {SCHEMA}; {AGAIN}", about.schema),
            ));
        }
        Ok(Self { path: path.into(), about, stored })
    }

    /// What made them.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Hands over all of them a part at a time: paths, and embeddings (paths, dim).
    ///
    /// # Errors
    /// Those of the disk.
    pub fn each(&self, take: &mut dyn FnMut(Vec<String>, &[f32])) -> Result<()> {
        match &self.stored {
            Stored::Parquet(file, metadata) => self.each_of_parquet(file, metadata, take),
            Stored::Npy => self.each_of_npy(take),
        }
    }

    fn each_of_parquet(
        &self,
        file: &File,
        metadata: &FileMetadata,
        take: &mut dyn FnMut(Vec<String>, &[f32]),
    ) -> Result<()> {
        let unreadable =
            |problem: &dyn std::fmt::Display| wrong(&self.path, format!("it cannot be read: {problem}; {AGAIN}"));
        for group in &metadata.row_groups {
            let [path, _, embedding] = group.parquet_columns() else {
                return Err(unreadable(&"it has not three columns"));
            };
            let read = |chunk: &ColumnChunkMetadata, field: Field| {
                read_column(file, chunk, field).map_err(|error| unreadable(&error))
            };
            let [text, _, list] = fields();
            let texts = read(path, Field { dtype: ArrowDataType::Utf8View, ..text })?;
            let lists = read(embedding, list)?;
            let mut paths = Vec::new();
            for texts in &texts {
                let texts = texts
                    .as_any()
                    .downcast_ref::<Utf8ViewArray>()
                    .ok_or_else(|| unreadable(&"its paths are no text"))?;
                paths.extend(texts.values_iter().map(ToString::to_string));
            }
            let mut numbers: Vec<f32> = Vec::with_capacity(paths.len() * self.about.dim);
            for lists in &lists {
                let lists = lists.as_any().downcast_ref::<ListArray<i32>>();
                let values = lists.and_then(|lists| lists.values().as_any().downcast_ref::<PrimitiveArray<f32>>());
                numbers.extend_from_slice(
                    values.ok_or_else(|| unreadable(&"its embeddings are no lists of f32"))?.values(),
                );
            }
            self.check(paths.len(), numbers.len())?;
            take(paths, &numbers);
        }
        Ok(())
    }

    fn each_of_npy(&self, take: &mut dyn FnMut(Vec<String>, &[f32])) -> Result<()> {
        let table = self.path.with_extension("paths.csv");
        let matrix = NpyMatrix::open(&self.path)?;
        let bad = |problem: &dyn std::fmt::Display| wrong(&table, format!("it cannot be read: {problem}; {AGAIN}"));
        let mut rows = csv::Reader::from_path(&table).map_err(|error| bad(&error))?.into_deserialize::<(String, f32)>();
        if matrix.columns() != self.about.dim {
            self.check(matrix.rows(), matrix.rows() * matrix.columns())?;
        }
        let mut bytes = Vec::new();
        for start in (0..matrix.rows()).step_by(GROUP) {
            let end = matrix.rows().min(start + GROUP);
            let paths = rows.by_ref().take(end - start).map(|row| Ok(row.map_err(|error| bad(&error))?.0));
            let paths = paths.collect::<Result<Vec<String>>>()?;
            bytes.clear();
            matrix.read_rows(start..end, &mut bytes)?;
            let numbers: Vec<f32> = matrix.numbers(&bytes).map(|number| number as f32).collect();
            self.check(paths.len(), numbers.len())?;
            take(paths, &numbers);
        }
        match rows.next() {
            Some(_) => Err(bad(&format!("it has more rows than the matrix, which has {}", matrix.rows()))),
            None => Ok(()),
        }
    }

    fn check(&self, paths: usize, numbers: usize) -> Result<()> {
        let dim = self.about.dim;
        if numbers == paths * dim {
            return Ok(());
        }
        Err(wrong(&self.path, format!("it has {numbers} numbers for {paths} paths, which is not {dim} each; {AGAIN}")))
    }
}

fn open_parquet(path: &Path) -> Result<(About, Stored)> {
    let io = |source| faceoff_runs::Error::Io { action: "read", path: path.into(), source };
    let mut file = File::open(path).map_err(io)?;
    let foreign = || {
        let rule = "a neighbour is looked for in a file that `embed` wrote, as it wrote it";
        wrong(
            path,
            format!(
                "it is not one of `embed`, or was cut short or written over: it has no checksum of its own; {rule}"
            ),
        )
    };
    let bytes = file.metadata().map_err(io)?.len();
    let place =
        seal_in(bytes, |offset, buffer| read_exact_at(&file, buffer, offset)).map_err(io)?.ok_or_else(foreign)?;
    let mut expected = UNSEALED;
    read_exact_at(&file, &mut expected, place).map_err(io)?;
    let expected = String::from_utf8_lossy(&expected).into_owned();
    let mut hasher = blake3::Hasher::new();
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    hasher.update_reader((&file).take(place)).map_err(io)?;
    hasher.update(&UNSEALED);
    let rest = place + UNSEALED.len() as u64;
    file.seek(SeekFrom::Start(rest)).map_err(io)?;
    hasher.update_reader(&file).map_err(io)?;
    let found = hasher.finalize().to_hex();
    if found.as_str() != expected {
        let problem =
            format!("it is damaged or was changed: expected content with BLAKE3 {expected}, found {found}; {AGAIN}");
        return Err(wrong(path, problem));
    }
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    let metadata =
        read_metadata(&mut file).map_err(|error| wrong(path, format!("it cannot be read: {error}; {AGAIN}")))?;
    let entries = metadata.key_value_metadata().iter().flatten();
    let about = entries.filter(|entry| entry.key == ABOUT).find_map(|entry| entry.value.as_deref());
    let about = serde_json::from_str(about.ok_or_else(foreign)?).map_err(|error| {
        wrong(path, format!("what it is of cannot be read, perhaps since another version wrote it ({error}); {AGAIN}"))
    })?;
    Ok((about, Stored::Parquet(file, Box::new(metadata))))
}

fn open_npy(path: &Path) -> Result<About> {
    let files = index_files(path)?;
    let beside = &files[2];
    let text = std::fs::read(beside).map_err(|error| {
        let rule = format!(
            "a matrix is searched with {} and {} beside it, as `embed` wrote them",
            files[1].display(),
            beside.display()
        );
        wrong(beside, format!("it cannot be read: {error}; {rule}"))
    })?;
    let stored: Beside = serde_json::from_slice(&text).map_err(|error| {
        wrong(beside, format!("it cannot be read, perhaps since another version wrote it ({error}); {AGAIN}"))
    })?;
    let changed = |file: &Path, expected: String, found: String| {
        wrong(file, format!("it is damaged or was changed: expected {expected}, found {found}; {AGAIN}"))
    };
    if stored.digest() != stored.blake3 {
        return Err(changed(beside, format!("content with BLAKE3 {}", stored.blake3), stored.digest()));
    }
    for (file, expected) in files.iter().zip([&stored.embeddings, &stored.paths]) {
        let found = FileRecord::of(file)?;
        if found != *expected {
            return Err(changed(file, expected.to_string(), found.to_string()));
        }
    }
    Ok(stored.about)
}

/// An image that lies near another one.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbor {
    /// Its path, as `embed` found it.
    pub path: String,
    /// Cosine of the angle between the two, from products in f64.
    pub cosine: f64,
}

/// The `count` images nearest to `query`, of unit length, the nearest first; of equally near ones those that come first. And how many
/// there are in all.
///
/// # Errors
/// As [`Index::each`].
///
/// # Panics
/// Where `query` is not as wide as the embeddings.
pub fn nearest(index: &Index, query: &[f32], count: usize) -> Result<(Vec<Neighbor>, usize)> {
    let dim = index.about.dim;
    assert_eq!(query.len(), dim, "as many numbers as embeddings have");
    let (mut best, mut all): (Vec<Neighbor>, usize) = (Vec::new(), 0);
    index.each(&mut |paths, numbers| {
        all += paths.len();
        for (path, row) in paths.into_iter().zip(numbers.chunks_exact(dim)) {
            let cosine: f64 = row.iter().zip(query).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            if best.len() < count || best.last().is_some_and(|last| cosine > last.cosine) {
                let place = best.partition_point(|other| other.cosine >= cosine);
                best.insert(place, Neighbor { path, cosine });
                best.truncate(count);
            }
        }
    })?;
    Ok((best, all))
}
