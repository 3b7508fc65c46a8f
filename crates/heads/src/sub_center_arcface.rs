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
//! | m, s, eps, beyond_pi | as in ArcFace | |
//!
//! Deng et al., "Sub-center ArcFace: Boosting Face Recognition by Large-scale Noisy Web Faces", ECCV 2020, equation 3.
//! Follows Catalyst's `SubCenterArcFace`. Of equally near centres the first gets the gradient, as in PyTorch; Candle's own
//! maximum would give it to all of them. Catalyst's initialisation counts the weight `(K, dim, classes)` as a
//! convolution's: U(-b, b), b = sqrt(6 / (dim classes + K classes)).

use crate::cosine::{arcface_logits, cosines};
use crate::tensors::{check_embeddings, scores_and_labels};
use crate::{ClassHead, Definition, Draw, Initialiser, Result, parameters};
use candle_core::{Tensor, Var};

parameters!(Parameters {
    scale: Scale = 64.0,
    margin_radians: Radians = 0.5,
    beyond_pi: BeyondPi = "catalyst",
    epsilon: Epsilon = 1e-6,
    sub_centers: SubCenters = 3
});

pub(crate) struct SubCenterArcFace {
    /// `(sub_centers, classes, dim)`
    weight: Var,
    parameters: Parameters,
}

impl Definition for SubCenterArcFace {
    const NAME: &'static str = "SubCenterArcFace";
    const SUMMARY: &'static str = "ArcFace with K centres a class, of which the nearest counts; made for noisy labels.";
    const FORMULA: &'static str = "cos(theta_j) = max over k of cos(theta_jk), then ArcFace";
    const PAPER: &'static str = "Deng et al., ECCV 2020";
    const ANGLES: &'static str = "As ArcFace, towards the nearest of K centres: a class may lie in several places.";
    const FAILS: &'static str = "As ArcFace, its two rules included; and a clean class may fall apart into sub-centres, so that its images are no longer near each other.";
    const CHOOSE: &'static str =
        "Labels are noisy or classes have several faces: wrong images gather at a centre of their own.";
    type Parameters = Parameters;

    fn new(parameters: Parameters, start: &Initialiser) -> Result<Self> {
        let Initialiser { dim, classes, .. } = *start;
        let sub_centers = parameters.sub_centers.get() as usize;
        let catalyst = Draw::Uniform((6.0 / (classes * (dim + sub_centers)) as f64).sqrt());
        Ok(Self { weight: start.weight_as(&[sub_centers, classes, dim], catalyst)?, parameters })
    }
}

impl ClassHead for SubCenterArcFace {
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
        let (cosines, mask) = scores_and_labels(self, embeddings, labels)?;
        let Parameters { scale, margin_radians, beyond_pi, epsilon, .. } = self.parameters;
        arcface_logits(&cosines, &mask, scale, margin_radians, beyond_pi, epsilon)
    }

    fn effective_scale(&self) -> f64 {
        self.parameters.scale.get()
    }

    fn class_vectors(&self) -> Result<Option<Tensor>> {
        Ok(None)
    }
}
