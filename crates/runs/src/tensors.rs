//! Named arrays on disk: safetensors files, written whole or not at all; the same arrays give the same bytes.

use crate::{Error, Result, write_atomically};
use safetensors::tensor::{SafeTensors, TensorView};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub use safetensors::tensor::Dtype;

/// The one metadata key of a file: with two, safetensors would write them in random order.
const METADATA_KEY: &str = "faceoff";

/// An array to be written: its name, type, sizes, and its values row by row in little-endian bytes.
pub type StoredTensor<'a> = (&'a str, Dtype, Vec<usize>, Vec<u8>);

/// Writes arrays, with a text beside them where given.
pub fn write_tensors(path: &Path, tensors: &[StoredTensor<'_>], metadata: Option<String>) -> Result<()> {
    let views = tensors
        .iter()
        .map(|(name, dtype, sizes, bytes)| TensorView::new(*dtype, sizes.clone(), bytes).map(|view| (*name, view)));
    let metadata = metadata.map(|text| HashMap::from([(METADATA_KEY.to_string(), text)]));
    let bytes = views
        .collect::<std::result::Result<Vec<_>, _>>()
        .and_then(|views| safetensors::serialize(views, metadata))
        .map_err(|error| Error::damaged(path, format!("it could not be put together: {error}")))?;
    write_atomically(path, |file| file.write_all(&bytes))
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
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        Ok(Self { path: path.to_path_buf(), bytes })
    }

    /// The arrays.
    pub fn tensors(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.bytes).map_err(|error| Error::damaged(&self.path, error))
    }

    /// The text beside them.
    pub fn metadata(&self) -> Result<Option<String>> {
        let (_, header) = SafeTensors::read_metadata(&self.bytes).map_err(|error| Error::damaged(&self.path, error))?;
        Ok(header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY).cloned()))
    }
}
