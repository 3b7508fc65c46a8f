//! The named tensors of an encoder, a head or a checkpoint, on disk.

use crate::{Error, Result};
use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use faceoff_kernels::State;
use faceoff_runs::{Dtype, TensorFile, write_tensors};
use std::path::Path;

/// Writes `state`, with `metadata` where given.
pub fn save(path: &Path, state: &State, metadata: Option<String>) -> Result<()> {
    let stored = state.iter().map(|(name, tensor)| {
        let (dtype, bytes) = values(tensor)?;
        Ok((name.as_str(), dtype, tensor.dims().to_vec(), bytes))
    });
    Ok(write_tensors(path, &stored.collect::<Result<Vec<_>>>()?, metadata)?)
}

/// Reads a file: its tensors on the CPU, sorted by name, and its metadata.
pub fn load(path: &Path) -> Result<(State, Option<String>)> {
    let file = TensorFile::read(path)?;
    Ok((state_of(&file)?, file.metadata()?))
}

/// The tensors of a file that was read, on the CPU, sorted by name.
///
/// # Errors
/// What is no safetensors.
pub fn state_of(file: &TensorFile) -> Result<State> {
    let tensors = file.tensors()?;
    let mut state = tensors
        .iter()
        .map(|(name, view)| Ok((name.to_string(), view.load(&Device::Cpu)?)))
        .collect::<Result<State>>()?;
    state.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(state)
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
            return Err(candle_core::Error::UnexpectedDType { msg: "saving a state", expected, got: other }.into());
        }
    })
}
