//! Named arrays on disk: safetensors files, written whole or not at all; the same arrays give the same bytes.

use crate::{Error, FileRecord, Result, write_atomically};
use safetensors::tensor::{SafeTensors, TensorView};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub use safetensors::tensor::Dtype;

/// The one metadata key of a file: with two, safetensors would write them in random order.
const METADATA_KEY: &str = "faceoff";

/// An array to be written: its name, type, sizes, and its values row by row in little-endian bytes.
pub type StoredTensor<'a> = (&'a str, Dtype, Vec<usize>, Vec<u8>);

/// Writes arrays, with a text beside them where given. Before the text stands a checksum of all, which is checked when the text is
/// read.
pub fn write_tensors(path: &Path, tensors: &[StoredTensor<'_>], metadata: Option<String>) -> Result<()> {
    let unfit = |error| Error::damaged(path, format!("it could not be put together: {error}"));
    let views = tensors
        .iter()
        .map(|(name, dtype, sizes, bytes)| TensorView::new(*dtype, sizes.clone(), bytes).map(|view| (*name, view)));
    let views = views.collect::<std::result::Result<Vec<_>, _>>().map_err(unfit)?;
    let metadata = metadata.map(|text| {
        let digest = digest(views.iter().map(|(name, view)| (*name, view)), &text);
        HashMap::from([(METADATA_KEY.to_string(), format!("{digest} {text}"))])
    });
    let bytes = safetensors::serialize(views, metadata).map_err(unfit)?;
    write_atomically(path, |file| file.write_all(&bytes))
}

/// BLAKE3 of arrays and text, whatever the arrays' order.
fn digest<'a, 'data: 'a>(tensors: impl Iterator<Item = (&'a str, &'a TensorView<'data>)>, text: &str) -> String {
    let mut tensors: Vec<_> = tensors.collect();
    tensors.sort_by_key(|(name, _)| *name);
    let mut hasher = blake3::Hasher::new();
    for (name, view) in tensors {
        hasher.update(format!("{name:?} {:?} {:?}\n", view.dtype(), view.shape()).as_bytes()).update(view.data());
    }
    hasher.update(text.as_bytes()).finalize().to_hex().to_string()
}

/// A file of arrays, read.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl TensorFile {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self::of_bytes(path, std::fs::read(path).map_err(Error::io("read", path))?))
    }

    /// What was read from `path`.
    pub(crate) fn of_bytes(path: &Path, bytes: Vec<u8>) -> Self {
        Self { path: path.to_path_buf(), bytes }
    }

    /// Length and checksum of what was read.
    pub fn record(&self) -> FileRecord {
        FileRecord::of_bytes(&self.bytes)
    }

    /// The arrays.
    pub fn tensors(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.bytes).map_err(|error| Error::damaged(&self.path, error))
    }

    /// The text beside them.
    ///
    /// # Errors
    /// [`Error::Changed`] where arrays and text are not what was written together.
    pub fn metadata(&self) -> Result<Option<String>> {
        let damaged = |problem: String| Error::damaged(&self.path, problem);
        let (_, header) = SafeTensors::read_metadata(&self.bytes).map_err(|error| damaged(error.to_string()))?;
        let Some(stored) = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY)) else {
            return Ok(None);
        };
        // An earlier version wrote JSON alone.
        let (expected, text) = stored
            .split_once(' ')
            .filter(|(digest, _)| !digest.starts_with('{'))
            .ok_or_else(|| damaged("an earlier version of Faceoff wrote it, without a checksum".into()))?;
        let tensors = self.tensors()?.tensors();
        let found = digest(tensors.iter().map(|(name, view)| (name.as_str(), view)), text);
        match found == expected {
            true => Ok(Some(text.to_string())),
            false => Err(Error::changed(&self.path, format!("content with BLAKE3 {expected}"), found)),
        }
    }
}
