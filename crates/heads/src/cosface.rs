//! CosFace: a difference of cosines subtracted from the labelled class.
//!
//! ```text
//! logit_y = s (cos(theta_y) - m)
//! logit_j = s cos(theta_j)
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | theta_j | angle between embedding and weight of class j | radians |
//! | m | margin, a difference of cosines, in \[0, 1\] | 1 |
//! | s | scale, > 0 | 1 |
//!
//! Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", arXiv:1801.09414, equation 4. Follows
//! Catalyst's `CosFace`.

use crate::cosine::blend;
use crate::parameters::one_hot;
use crate::{Head, HeadInfo, Result};
use candle_core::{Tensor, Var};

pub(crate) const INFO: HeadInfo = HeadInfo {
    name: "CosFace",
    summary: "A constant is subtracted from the cosine of the labelled class.",
    formula: "label: s (cos(theta_y) - m); others: s cos(theta_j)",
    parameters: "scale = 64.0, margin_cosine = 0.35",
    paper: "Wang et al., arXiv:1801.09414",
};

pub(crate) struct CosFace {
    /// `(classes, dim)`
    weight: Var,
    scale: f64,
    margin_cosine: f64,
}

impl CosFace {
    pub(crate) fn new(weight: Tensor, scale: f64, margin_cosine: f64) -> Result<Self> {
        Ok(Self { weight: Var::from_tensor(&weight)?, scale, margin_cosine })
    }
}

impl Head for CosFace {
    fn weight(&self) -> &Var {
        &self.weight
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let cosines = self.scores(embeddings)?;
        let mask = one_hot(labels, embeddings, self.weight.dim(0)?)?;
        Ok((blend(&mask, &(&cosines - self.margin_cosine)?, &cosines)? * self.scale)?)
    }

    fn effective_scale(&self) -> f64 {
        self.scale
    }
}
