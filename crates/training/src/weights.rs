//! Named tensors on disk: safetensors files, written whole or not at all.

use crate::{Error, Result};
use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use faceoff_kernels::State;
use faceoff_runs::write_atomically;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::HashMap;
use std::path::Path;

/// The one metadata key of a file: with two, safetensors would write them in random order.
const METADATA_KEY: &str = "faceoff";

/// Writes `state`, with `metadata` where given.
pub fn save(path: &Path, state: &State, metadata: Option<String>) -> Result<()> {
    let stored = state.iter().map(|(_, tensor)| values(tensor)).collect::<Result<Vec<_>>>()?;
    let tensors = state.iter().zip(&stored).map(|((name, tensor), (dtype, bytes))| {
        let view = TensorView::new(*dtype, tensor.dims().to_vec(), bytes);
        Ok((name, view.map_err(|error| unusable(path, error))?))
    });
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let metadata = metadata.map(|text| HashMap::from([(METADATA_KEY.to_string(), text)]));
    let bytes = safetensors::serialize(tensors, metadata).map_err(|error| unusable(path, error))?;
    Ok(write_atomically(path, |file| file.write_all(&bytes))?)
}

/// Reads a file: its tensors on the CPU, sorted by name, and its metadata.
pub fn load(path: &Path) -> Result<(State, Option<String>)> {
    let bytes = std::fs::read(path).map_err(|error| unusable(path, error))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| unusable(path, error))?;
    let metadata = header.metadata().as_ref().and_then(|map| map.get(METADATA_KEY).cloned());
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| unusable(path, error))?;
    let mut state = tensors
        .iter()
        .map(|(name, view)| Ok((name.to_string(), view.load(&Device::Cpu)?)))
        .collect::<Result<State>>()?;
    state.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((state, metadata))
}

pub(crate) fn unusable(path: &Path, problem: impl ToString) -> Error {
    Error::Weights { path: path.to_path_buf(), problem: problem.to_string() }
}

/// A tensor's type and bytes, in the order of its dimensions. (Candle's own view of a tensor panics where these cannot be
/// copied from a GPU.)
fn values(tensor: &Tensor) -> Result<(Dtype, Vec<u8>)> {
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F32 => (Dtype::F32, flat.to_vec1::<f32>()?.iter().flat_map(|x| x.to_le_bytes()).collect()),
        DType::F64 => (Dtype::F64, flat.to_vec1::<f64>()?.iter().flat_map(|x| x.to_le_bytes()).collect()),
        DType::I64 => (Dtype::I64, flat.to_vec1::<i64>()?.iter().flat_map(|x| x.to_le_bytes()).collect()),
        other => {
            let expected = DType::F32;
            return Err(
                candle_core::Error::UnexpectedDType { msg: "saving a state", expected, got: other }.into()
            );
        }
    })
}
