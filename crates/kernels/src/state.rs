//! Named tensors on their way in and out of an encoder: which ones there must be, and that they fit.

use crate::resnet::{Architecture, Role, TensorPlan};
use crate::{Error, Result, State};
use candle_core::{DType, Tensor};
use std::collections::HashMap;

/// A state by name, after checking that it holds exactly the tensors of `architecture` in their shapes.
pub(crate) fn checked(architecture: &Architecture, state: &State) -> Result<HashMap<String, Tensor>> {
    matched(state, &architecture.tensors(), || format!("a {} with torchvision's", architecture.name))
}

/// The first and second moments of every trained tensor, by name, checked likewise.
pub(crate) fn checked_moments(state: &State, parameters: &[(String, Vec<usize>)]) -> Result<HashMap<String, Tensor>> {
    let moments = parameters.iter().flat_map(|(name, shape)| {
        ["m", "v"].map(|moment| TensorPlan {
            name: format!("{name}.{moment}"),
            shape: shape.clone(),
            role: Role::Kernels,
        })
    });
    matched(state, &moments.collect::<Vec<_>>(), || "the moments of the trained tensors under their".into())
}

fn matched(state: &State, expected: &[TensorPlan], what: impl Fn() -> String) -> Result<HashMap<String, Tensor>> {
    let mut found: HashMap<String, Tensor> = state.iter().cloned().collect();
    let wrong = |name: &str, problem| Error::State { name: name.into(), problem, expected: what() };
    let mut result = HashMap::with_capacity(expected.len());
    for TensorPlan { name, shape, role } in expected {
        let tensor = found.remove(name).ok_or_else(|| wrong(name, "it is missing".into()))?;
        if tensor.dims() != shape {
            return Err(wrong(name, format!("its shape is {:?}, not {shape:?}", tensor.dims())));
        }
        if (*role == Role::Batches) != (tensor.dtype() == DType::I64) {
            return Err(wrong(name, format!("its type is {:?}", tensor.dtype())));
        }
        result.insert(name.clone(), tensor);
    }
    match found.into_keys().min() {
        Some(name) => Err(wrong(&name, "it is unknown".into())),
        None => Ok(result),
    }
}
