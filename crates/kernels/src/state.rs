//! Named tensors on their way in and out of an encoder: which ones there must be, and that they fit.

use crate::{Error, Result, State, resnet};
use candle_core::{DType, Tensor};
use std::collections::HashMap;

/// The running statistics of every batch norm, beside the trained tensors of [`resnet::parameters`].
const BUFFERS: [&str; 2] = ["running_mean", "running_var"];

/// A state by name, after checking that it holds exactly the tensors of a ResNet-18 in their shapes.
pub(crate) fn checked(state: &State) -> Result<HashMap<String, Tensor>> {
    let mut expected = resnet::parameters();
    for layer in resnet::layers() {
        for buffer in BUFFERS {
            expected.push((format!("{}.{buffer}", layer.norm), vec![layer.out_channels]));
        }
        expected.push((format!("{}.num_batches_tracked", layer.norm), vec![]));
    }
    matched(state, &expected)
}

/// The first and second moments of every trained tensor, by name, checked likewise.
pub(crate) fn checked_moments(
    state: &State,
    parameters: &[(String, Vec<usize>)],
) -> Result<HashMap<String, Tensor>> {
    let expected: Vec<_> = parameters
        .iter()
        .flat_map(|(name, shape)| ["m", "v"].map(|moment| (format!("{name}.{moment}"), shape.clone())))
        .collect();
    matched(state, &expected)
}

fn matched(state: &State, expected: &[(String, Vec<usize>)]) -> Result<HashMap<String, Tensor>> {
    let mut found: HashMap<String, Tensor> = state.iter().cloned().collect();
    let mut result = HashMap::with_capacity(expected.len());
    for (name, shape) in expected {
        let problem = |problem: String| Error::State { name: name.clone(), problem };
        let tensor = found.remove(name).ok_or_else(|| problem("it is missing".into()))?;
        if tensor.dims() != shape {
            return Err(problem(format!("its shape is {:?}, not {shape:?}", tensor.dims())));
        }
        let counter = name.ends_with("num_batches_tracked");
        if counter != (tensor.dtype() == DType::I64) {
            return Err(problem(format!("its type is {:?}", tensor.dtype())));
        }
        result.insert(name.clone(), tensor);
    }
    match found.into_keys().min() {
        Some(name) => Err(Error::State { name, problem: "it is unknown".into() }),
        None => Ok(result),
    }
}
