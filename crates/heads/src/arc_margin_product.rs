//! ArcMarginProduct: plain cosines.
//!
//! ```text
//! logit_j = cos(theta_j)
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | theta_j | angle between embedding and weight of class j | radians |
//!
//! Follows Catalyst's `ArcMarginProduct`, which in spite of its name has neither scale nor margin: cosines between -1 and 1
//! leave the cross-entropy of C classes a floor of ln(1 + (C - 1) e^-2) at best. The normalised product comes from
//! Wang et al., "NormFace", arXiv:1704.06369, who show that a scale is needed.

use crate::parameters::one_hot;
use crate::{Head, HeadInfo, Result};
use candle_core::{Tensor, Var};

pub(crate) const INFO: HeadInfo = HeadInfo {
    name: "ArcMarginProduct",
    summary: "Plain cosines, with neither scale nor margin.",
    formula: "cos(theta_j)",
    parameters: "none",
    paper: "Catalyst 22.4; Wang et al. (NormFace), arXiv:1704.06369",
};

pub(crate) struct ArcMarginProduct {
    /// `(classes, dim)`
    weight: Var,
}

impl ArcMarginProduct {
    pub(crate) fn new(weight: Tensor) -> Result<Self> {
        Ok(Self { weight: Var::from_tensor(&weight)? })
    }
}

impl Head for ArcMarginProduct {
    fn weight(&self) -> &Var {
        &self.weight
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        // The labels change nothing here, but wrong ones are an error in every head.
        one_hot(labels, embeddings, self.weight.dim(0)?)?;
        self.scores(embeddings)
    }

    fn effective_scale(&self) -> f64 {
        1.0
    }
}
