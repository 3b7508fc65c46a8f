//! ArcFace: an angle added to the labelled class.
//!
//! ```text
//! logit_y = s cos(theta_y + m)   where theta_y <= pi - m
//!         = s cos(theta_y)       beyond, where the sum would pass pi
//! logit_j = s cos(theta_j)
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | theta_j | angle between embedding and weight of class j | radians |
//! | m | margin, in \[0, pi/2\] | radians |
//! | s | scale, > 0 | 1 |
//! | eps | cosines are held in \[-1 + eps, 1 - eps\] | 1 |
//!
//! Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", arXiv:1801.07698, equation 3. Follows
//! Catalyst's `ArcFace`, which leaves the label without margin beyond pi - m; the paper's code subtracts m sin(m) there.

use crate::cosine::arcface_logits;
use crate::parameters::one_hot;
use crate::{Head, HeadInfo, Result};
use candle_core::{Tensor, Var};

pub(crate) const INFO: HeadInfo = HeadInfo {
    name: "ArcFace",
    summary: "An angle is added to the labelled class.",
    formula: "label: s cos(theta_y + m), without m where theta_y > pi - m; others: s cos(theta_j)",
    parameters: "scale = 64.0, margin_radians = 0.5, epsilon = 1e-6",
    paper: "Deng et al., arXiv:1801.07698",
};

pub(crate) struct ArcFace {
    /// `(classes, dim)`
    weight: Var,
    scale: f64,
    margin_radians: f64,
    epsilon: f64,
}

impl ArcFace {
    pub(crate) fn new(weight: Tensor, scale: f64, margin_radians: f64, epsilon: f64) -> Result<Self> {
        Ok(Self { weight: Var::from_tensor(&weight)?, scale, margin_radians, epsilon })
    }
}

impl Head for ArcFace {
    fn weight(&self) -> &Var {
        &self.weight
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let cosines = self.scores(embeddings)?;
        let mask = one_hot(labels, embeddings, self.weight.dim(0)?)?;
        arcface_logits(&cosines, &mask, self.scale, self.margin_radians, self.epsilon)
    }

    fn effective_scale(&self) -> f64 {
        self.scale
    }
}
