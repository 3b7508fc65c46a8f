//! SubCenterArcFace: ArcFace with several centres a class, of which the nearest counts.
//!
//! ```text
//! c_j = max over k of cos(theta_jk), then ArcFace's logits
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | theta_jk | angle between embedding and centre k of class j | radians |
//! | K | centres of each class, >= 1 | 1 |
//! | m, s, eps | as in ArcFace | |
//!
//! Deng et al., "Sub-center ArcFace: Boosting Face Recognition by Large-scale Noisy Web Faces", ECCV 2020, equation 3.
//! Follows Catalyst's `SubCenterArcFace`. Of equally near centres the first gets the gradient, as in PyTorch; Candle's own
//! maximum would give it to all of them.

use crate::cosine::{arcface_logits, cosines};
use crate::parameters::{check_embeddings, one_hot};
use crate::{Head, HeadInfo, Result};
use candle_core::{Tensor, Var};

pub(crate) const INFO: HeadInfo = HeadInfo {
    name: "SubCenterArcFace",
    summary: "ArcFace with K centres a class, of which the nearest counts; made for noisy labels.",
    formula: "cos(theta_j) = max over k of cos(theta_jk), then ArcFace",
    parameters: "scale = 64.0, margin_radians = 0.5, epsilon = 1e-6, sub_centers = 3",
    paper: "Deng et al., ECCV 2020",
};

pub(crate) struct SubCenterArcFace {
    /// `(sub_centers, classes, dim)`
    weight: Var,
    scale: f64,
    margin_radians: f64,
    epsilon: f64,
}

impl SubCenterArcFace {
    pub(crate) fn new(weight: Tensor, scale: f64, margin_radians: f64, epsilon: f64) -> Result<Self> {
        Ok(Self { weight: Var::from_tensor(&weight)?, scale, margin_radians, epsilon })
    }
}

impl Head for SubCenterArcFace {
    fn weight(&self) -> &Var {
        &self.weight
    }

    fn scores(&self, embeddings: &Tensor) -> Result<Tensor> {
        let (sub_centers, classes, dim) = self.weight.dims3()?;
        check_embeddings(embeddings, dim)?;
        let all = cosines(embeddings, &self.weight.reshape((sub_centers * classes, dim))?)?;
        let mut nearest = all.narrow(1, 0, classes)?;
        for center in 1..sub_centers {
            let other = all.narrow(1, center * classes, classes)?;
            nearest = other.gt(&nearest)?.where_cond(&other, &nearest)?;
        }
        Ok(nearest)
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let cosines = self.scores(embeddings)?;
        let mask = one_hot(labels, embeddings, self.weight.dim(1)?)?;
        arcface_logits(&cosines, &mask, self.scale, self.margin_radians, self.epsilon)
    }

    fn effective_scale(&self) -> f64 {
        self.scale
    }

    fn class_vectors(&self) -> Result<Option<Tensor>> {
        Ok(None)
    }
}
