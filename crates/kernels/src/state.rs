//! Named tensors on their way in and out of an encoder: which ones there must be, and that they fit.

use crate::resnet::{Architecture, Role, TensorPlan};
use crate::{Error, Result, State};
use candle_core::{DType, Tensor};
use std::collections::HashMap;

/// A state by name, after checking that it holds exactly the tensors of `architecture` in their shapes.
pub(crate) fn checked(architecture: &Architecture, state: &State) -> Result<HashMap<String, Tensor>> {
    let what = || format!("a {} with torchvision's", architecture.name);
    let planned = architecture.tensors();
    let found = matched(state, planned.iter().map(|plan| (plan.name.clone(), plan.shape.clone())), what)?;
    for TensorPlan { name, role, .. } in planned {
        let dtype = found[&name].dtype();
        if (role == Role::Batches) != (dtype == DType::I64) {
            return Err(Error::State { name, problem: format!("its type is {dtype:?}"), expected: what() });
        }
    }
    Ok(found)
}

/// The first and second moments of every trained tensor, by name, checked likewise.
pub(crate) fn checked_moments(state: &State, parameters: &[(String, Vec<usize>)]) -> Result<HashMap<String, Tensor>> {
    let moments = parameters
        .iter()
        .flat_map(|(name, shape)| ["m", "v"].map(|moment| (format!("{name}.{moment}"), shape.clone())));
    matched(state, moments, || "the moments of the trained tensors under their".into())
}

/// A state by name, after checking that it holds exactly the tensors of these names and shapes; `what` says whose they are.
pub(crate) fn matched(
    state: &State,
    expected: impl IntoIterator<Item = (String, Vec<usize>)>,
    what: impl Fn() -> String,
) -> Result<HashMap<String, Tensor>> {
    let mut found: HashMap<String, Tensor> = state.iter().cloned().collect();
    let wrong = |name: &str, problem| Error::State { name: name.into(), problem, expected: what() };
    let mut result = HashMap::new();
    for (name, shape) in expected {
        let tensor = found.remove(&name).ok_or_else(|| wrong(&name, "it is missing".into()))?;
        if tensor.dims() != shape {
            return Err(wrong(&name, format!("its shape is {:?}, not {shape:?}", tensor.dims())));
        }
        result.insert(name, tensor);
    }
    match found.into_keys().min() {
        Some(name) => Err(wrong(&name, "it is unknown".into())),
        None => Ok(result),
    }
}
