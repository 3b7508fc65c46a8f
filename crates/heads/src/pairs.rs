//! What losses of pairs share: checked batches, and which images are of one class.

use crate::Result;
use crate::tensors::{check_embeddings, checked_labels};
use candle_core::{Device, Tensor};

/// A batch by pairs of images, each matrix `(batch, batch)` of 0 and 1.
pub(crate) struct Pairs {
    /// 1 where two images are of one class; 0 for an image with itself.
    pub(crate) same: Tensor,
    /// 1 where they are of two.
    pub(crate) different: Tensor,
}

impl Pairs {
    /// Checks embeddings `(batch, dim)` and labels below `classes`.
    pub(crate) fn new(embeddings: &Tensor, labels: &Tensor, dim: usize, classes: usize) -> Result<Self> {
        check_embeddings(embeddings, dim)?;
        let batch = embeddings.dim(0)?;
        let labels = checked_labels(labels, batch, classes)?;
        let matrix = |holds: &dyn Fn(usize, usize) -> bool| -> Result<Tensor> {
            let values = (0..batch * batch).map(|at| f32::from(u8::from(holds(at / batch, at % batch)))).collect();
            let matrix = Tensor::from_vec(values, (batch, batch), &Device::Cpu)?.to_dtype(embeddings.dtype())?;
            Ok(matrix.to_device(embeddings.device())?)
        };
        Ok(Self {
            same: matrix(&|a, b| a != b && labels[a] == labels[b])?,
            different: matrix(&|a, b| labels[a] != labels[b])?,
        })
    }
}

/// Mean of those of `values` that are above 0; 0 where none is, with a gradient of 0.
pub(crate) fn mean_above_zero(values: &Tensor) -> Result<Tensor> {
    let above = values.gt(0f64)?.to_dtype(values.dtype())?;
    let count = above.sum_all()?;
    Ok((values * above)?.sum_all()?.div(&count.maximum(&count.ones_like()?)?)?)
}
