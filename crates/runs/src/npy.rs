//! Matrices that other programs wrote: NPY, of which any rows can be read without the others.

use crate::{Error, Result};
use half::f16;
use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A header that is longer is none: those of matrices have some hundred bytes.
const LONGEST_HEADER: u32 = 1 << 16;
/// Brackets within brackets that a header may have, twice what a table of records needs: its parser takes twice as long for each.
const DEEPEST_HEADER: usize = 8;

/// Bytes that are read at once where all of a matrix is.
pub const BLOCK_BYTES: usize = 1 << 23;

/// An open NPY matrix of f16, f32 or f64.
pub struct NpyMatrix {
    path: PathBuf,
    file: File,
    rows: usize,
    columns: usize,
    /// Whether columns lie together instead of rows.
    by_columns: bool,
    /// Where the numbers begin.
    start: u64,
    number: Number,
}

/// How a number is stored.
#[derive(Clone, Copy)]
struct Number {
    bytes: usize,
    big_endian: bool,
}

impl NpyMatrix {
    /// Opens the matrix at `path`, of which only the header is read.
    ///
    /// # Errors
    /// [`Error::File`] for what is no matrix of floating point, shorter or longer than its header says, or has fewer than two rows or no
    /// numbers.
    pub fn open(path: &Path) -> Result<Self> {
        let broken = |problem: String| Error::file(path, problem);
        let no_matrix = |why: String| broken(format!("it is no NPY matrix (rows, numbers) of f16, f32 or f64: {why}"));
        let file = File::open(path).map_err(|error| broken(format!("it cannot be opened: {error}")))?;
        let mut reader = BufReader::new(&file);
        let unreadable = |error: std::io::Error| no_matrix(error.to_string());
        let mut first = Vec::new();
        reader.by_ref().take(12).read_to_end(&mut first).map_err(unreadable)?;
        // Formats 2 and 3 may ask for gigabytes.
        let length = match first[..] {
            [.., 2 | 3, _, a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
            [.., _, _, a, b, _, _] => u16::from_le_bytes([a, b]).into(),
            _ => 0,
        };
        if length > LONGEST_HEADER {
            return Err(no_matrix("its header is too long".into()));
        }
        let mut header = Vec::new();
        reader.by_ref().take(length.into()).read_to_end(&mut header).map_err(unreadable)?;
        if depth(first.iter().skip(10).chain(&header)) > DEEPEST_HEADER {
            return Err(no_matrix("its header has too many brackets within brackets".into()));
        }
        reader.rewind().map_err(unreadable)?;
        let header = NpyHeader::from_reader(&mut reader).map_err(unreadable)?;
        let start = reader.stream_position().map_err(unreadable)?;
        let number = match header.dtype() {
            DType::Plain(dtype) if dtype.type_char() == TypeChar::Float && [2, 4, 8].contains(&dtype.size_field()) => {
                Number { bytes: dtype.size_field() as usize, big_endian: dtype.endianness() == Endianness::Big }
            }
            other => return Err(no_matrix(format!("its numbers are {}", other.descr()))),
        };
        let &[rows, columns] = header.shape() else {
            return Err(no_matrix(format!("its shape is {:?}", header.shape())));
        };
        let length = file.metadata().map_err(unreadable)?.len();
        let expected = rows.checked_mul(columns).and_then(|numbers| numbers.checked_mul(number.bytes as u64));
        let expected = expected.and_then(|bytes| bytes.checked_add(start));
        if expected != Some(length) {
            let rule = "it was cut short or is damaged; write it again";
            return Err(broken(format!("it has {length} bytes, which are not {rows} x {columns} numbers; {rule}")));
        }
        if rows < 2 || columns == 0 {
            return Err(broken(format!(
                "it is {rows} x {columns}; at least two rows of at least one number are needed"
            )));
        }
        let by_columns = header.order() == Order::Fortran;
        let (rows, columns) = (rows as usize, columns as usize);
        Ok(Self { path: path.into(), file, rows, columns, by_columns, start, number })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of a row as they are stored.
    pub fn row_bytes(&self) -> usize {
        self.columns * self.number.bytes
    }

    /// Whether columns lie together (Fortran order), so that rows cannot be read one by one.
    pub fn is_by_columns(&self) -> bool {
        self.by_columns
    }

    /// The bytes of some rows as they are stored, appended to `bytes`: the same for the same numbers of one type. Any thread may read at
    /// any time.
    ///
    /// # Errors
    /// Those of the disk, and a file that was cut off meanwhile.
    ///
    /// # Panics
    /// Where columns lie together, or there are no such rows.
    pub fn read_rows(&self, rows: Range<usize>, bytes: &mut Vec<u8>) -> Result<()> {
        assert!(!self.by_columns && rows.start <= rows.end && rows.end <= self.rows, "rows that can be read");
        self.read(rows.start * self.row_bytes(), rows.len() * self.row_bytes(), bytes)
    }

    /// The numbers of stored bytes; nothing is lost.
    pub fn numbers<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = f64> + 'a {
        let Number { bytes: width, big_endian } = self.number;
        bytes.chunks_exact(width).map(move |chunk| {
            let mut number = [0; 8];
            number[..width].copy_from_slice(chunk);
            if big_endian {
                number[..width].reverse();
            }
            let [a, b, c, d, ..] = number;
            match width {
                2 => f16::from_le_bytes([a, b]).to_f64(),
                4 => f64::from(f32::from_le_bytes([a, b, c, d])),
                _ => f64::from_le_bytes(number),
            }
        })
    }

    /// All numbers, row by row, in either memory order; read block by block.
    ///
    /// # Errors
    /// As [`NpyMatrix::read_rows`].
    pub fn read_all(&self) -> Result<Vec<f64>> {
        let count = self.rows * self.columns;
        let (mut all, mut bytes) = (vec![0.0; count], Vec::new());
        let most = BLOCK_BYTES / self.number.bytes;
        for first in (0..count).step_by(most) {
            bytes.clear();
            self.read(first * self.number.bytes, most.min(count - first) * self.number.bytes, &mut bytes)?;
            for (stored, value) in (first..).zip(self.numbers(&bytes)) {
                let by_columns = || stored % self.rows * self.columns + stored / self.rows;
                all[if self.by_columns { by_columns() } else { stored }] = value;
            }
        }
        Ok(all)
    }

    fn read(&self, offset: usize, count: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let before = bytes.len();
        bytes.resize(before + count, 0);
        let read = read_exact_at(&self.file, &mut bytes[before..], self.start + offset as u64);
        read.map_err(Error::io("read", &self.path))
    }
}

/// Fills `buffer` from a place in a file, whoever else reads it at the same time.
#[cfg(unix)]
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Fills `buffer` from a place in a file, whoever else reads it at the same time.
#[cfg(windows)]
pub fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => (buffer, offset) = (&mut buffer[count..], offset + count as u64),
        }
    }
    Ok(())
}

/// How many brackets are open at most.
fn depth<'a>(text: impl Iterator<Item = &'a u8>) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    for byte in text {
        match byte {
            b'[' | b'(' | b'{' => open += 1,
            b']' | b')' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}
