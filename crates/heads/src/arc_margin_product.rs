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

use crate::cosine::cosines;
use crate::parameters::{check_embeddings, one_hot, restore, saved, take};
use crate::{Head, HeadInfo, Result, State};
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
    fn scores(&self, embeddings: &Tensor) -> Result<Tensor> {
        check_embeddings(embeddings, self.weight.dim(1)?)?;
        cosines(embeddings, &self.weight)
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        // The labels change nothing here, but wrong ones are an error in every head.
        one_hot(labels, embeddings, self.weight.dim(0)?)?;
        self.scores(embeddings)
    }

    fn variables(&self) -> Vec<(String, Var)> {
        vec![("weight".into(), self.weight.clone())]
    }

    fn tensors(&self) -> Result<State> {
        Ok(vec![saved("weight", &self.weight)?])
    }

    fn load(&mut self, state: &State) -> Result<()> {
        let [weight] = take(state, ["weight"])?;
        restore("weight", &self.weight, weight)
    }

    fn effective_scale(&self) -> f64 {
        1.0
    }
}
