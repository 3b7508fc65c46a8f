//! The tensors of a head: checked, named, saved and restored.

use crate::{ClassHead, Error, Result, State};
use candle_core::{D, DType, Device, Tensor, Var};

/// Checks a batch against a head for embeddings of width `dim`.
pub(crate) fn check_embeddings(embeddings: &Tensor, dim: usize) -> Result<()> {
    match *embeddings.dims() {
        [batch, width] if batch > 0 && width == dim => Ok(()),
        _ => Err(Error::Shape {
            what: "the embeddings",
            found: embeddings.dims().to_vec(),
            expected: format!("(batch, {dim}) with at least one row"),
        }),
    }
}

/// The scores of a batch, and the mask of their shape that is 1 at each row's label.
pub(crate) fn scores_and_labels<H: ClassHead + ?Sized>(
    head: &H,
    embeddings: &Tensor,
    labels: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let scores = head.scores(embeddings)?;
    let mask = label_mask(labels, &scores)?;
    Ok((scores, mask))
}

/// The mask of the shape of `scores`, `(batch, classes)`, that is 1 at each row's label.
pub(crate) fn label_mask(labels: &Tensor, scores: &Tensor) -> Result<Tensor> {
    let (batch, classes) = scores.dims2()?;
    let values = checked_labels(labels, batch, classes)?;
    let mut mask = vec![0f32; batch * classes];
    for (row, &label) in values.iter().enumerate() {
        mask[row * classes + label as usize] = 1.0;
    }
    let mask = Tensor::from_vec(mask, (batch, classes), &Device::Cpu)?.to_dtype(scores.dtype())?;
    Ok(mask.to_device(scores.device())?)
}

/// The labels of a batch. Wrong ones are an error in every head, also where they change nothing.
pub(crate) fn checked_labels(labels: &Tensor, batch: usize, classes: usize) -> Result<Vec<u32>> {
    if labels.dims() != [batch] {
        let expected = format!("({batch},), one label for each embedding");
        return Err(Error::Shape { what: "the labels", found: labels.dims().to_vec(), expected });
    }
    let values = labels.to_vec1::<u32>()?;
    if let Some((row, &label)) = values.iter().enumerate().find(|&(_, &label)| label as usize >= classes) {
        return Err(Error::Label { label, row, classes });
    }
    Ok(values)
}

/// Mean cross-entropy of logits `(batch, classes)`, in nats.
pub(crate) fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    Ok(candle_nn::loss::cross_entropy(logits, &labels.to_device(logits.device())?)?)
}

/// One number a row, `(batch, 1)`, of the type and on the device of `like`.
pub(crate) fn column(values: impl IntoIterator<Item = f64>, like: &Tensor) -> Result<Tensor> {
    let values: Vec<f64> = values.into_iter().collect();
    let rows = values.len();
    Ok(Tensor::from_vec(values, (rows, 1), &Device::Cpu)?.to_dtype(like.dtype())?.to_device(like.device())?)
}

/// The lengths of the rows; no gradient.
pub(crate) fn lengths(rows: &Tensor) -> Result<Vec<f64>> {
    Ok(rows.detach().to_dtype(DType::F64)?.sqr()?.sum(D::Minus1)?.sqrt()?.to_vec1()?)
}

/// A copy of a variable that later steps do not change.
pub(crate) fn saved(name: &str, var: &Var) -> Result<(String, Tensor)> {
    Ok((name.into(), var.as_tensor().detach().to_device(&Device::Cpu)?.copy()?))
}

/// A number of a head's state, kept in f64 so that a resumed training goes on bit for bit.
pub(crate) fn saved_number(name: &str, value: f64) -> Result<(String, Tensor)> {
    Ok((name.into(), Tensor::new(&[value], &Device::Cpu)?))
}

/// The tensors `names` of `state`, which must hold nothing else.
pub(crate) fn take<'a, const N: usize>(state: &'a State, names: [&str; N]) -> Result<[&'a Tensor; N]> {
    if let Some((name, _)) = state.iter().find(|(name, _)| !names.contains(&name.as_str())) {
        return Err(Error::State { name: name.clone(), problem: "it is unknown".into() });
    }
    for name in names {
        if !state.iter().any(|(other, _)| other == name) {
            return Err(Error::State { name: name.into(), problem: "it is missing".into() });
        }
    }
    Ok(names.map(|name| &state.iter().find(|(other, _)| other == name).expect("checked above").1))
}

/// Restores a variable.
pub(crate) fn restore(name: &str, var: &Var, tensor: &Tensor) -> Result<()> {
    if tensor.dims() != var.dims() {
        let problem = format!("its shape is {:?}, not {:?}", tensor.dims(), var.dims());
        return Err(Error::State { name: name.into(), problem });
    }
    Ok(var.set(&tensor.to_dtype(var.dtype())?.to_device(var.device())?)?)
}

/// Restores a number.
pub(crate) fn restored_number(name: &str, tensor: &Tensor) -> Result<f64> {
    let values = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    match values[..] {
        [value] if value.is_finite() => Ok(value),
        _ => Err(Error::State { name: name.into(), problem: format!("it must be one finite number, not {values:?}") }),
    }
}
