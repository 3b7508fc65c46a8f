//! SoftTriple: several centres a class, weighted softly by how near they are.
//!
//! ```text
//! S_j     = sum over k of p_jk cos(theta_jk),  p_jk = softmax over k of cos(theta_jk) / gamma
//! logit_y = lambda (S_y - m)
//! logit_j = lambda S_j
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | theta_jk | angle between embedding and centre k of class j | radians |
//! | K | centres of each class, >= 1 | 1 |
//! | gamma | temperature of the weights of the centres, > 0; towards 0 the nearest counts alone, as in SubCenterArcFace | 1 |
//! | m | margin, a difference of cosines, in \[0, 1\] | 1 |
//! | lambda | scale, > 0 | 1 |
//!
//! Qian et al., "SoftTriple Loss: Deep Metric Learning Without Triplet Sampling", arXiv:1909.05235, equations 5 to 8. Without the
//! paper's regulariser, which merges centres of a class, as in pytorch-metric-learning.

use crate::cosine::cosines;
use crate::tensors::{check_embeddings, scores_and_labels};
use crate::{ClassHead, Definition, Initialiser, Result, parameters};
use candle_core::{Tensor, Var};
use candle_nn::ops::softmax;

parameters!(Parameters {
    scale: Scale as "la" = 20.0,
    margin_cosine: CosineMargin = 0.01,
    temperature: Temperature as "gamma" = 0.1,
    sub_centers: SubCenters = 10
});

pub(crate) struct SoftTriple {
    /// `(sub_centers, classes, dim)`
    weight: Var,
    parameters: Parameters,
}

impl Definition for SoftTriple {
    const NAME: &'static str = "SoftTriple";
    const SUMMARY: &'static str = "K centres a class, weighted softly by how near they are, and a margin of cosines.";
    const FORMULA: &'static str = "label: la (S_y - m); others: la S_j; S_j = sum over k of cos(theta_jk) softmax over k of cos(theta_jk) / gamma";
    const PAPER: &'static str = "Qian et al., arXiv:1909.05235";
    const ANGLES: &'static str =
        "As CosFace with a small margin, on a soft mean of the cosines with K centres of the class.";
    const FAILS: &'static str = "Without the paper's regulariser nothing merges superfluous centres; a small gamma makes it SubCenterArcFace's nearest centre, a large one a single centre.";
    const CHOOSE: &'static str = "Classes have several faces and labels are clean.";
    type Parameters = Parameters;

    fn new(parameters: Parameters, start: &Initialiser) -> Result<Self> {
        let sub_centers = parameters.sub_centers.get() as usize;
        let weight = start.weight_of(&[sub_centers, start.classes, start.dim])?;
        Ok(Self { weight, parameters })
    }
}

impl ClassHead for SoftTriple {
    fn weight(&self) -> &Var {
        &self.weight
    }

    fn scores(&self, embeddings: &Tensor) -> Result<Tensor> {
        let (sub_centers, classes, dim) = self.weight.dims3()?;
        check_embeddings(embeddings, dim)?;
        let all = cosines(embeddings, &self.weight.reshape((sub_centers * classes, dim))?)?;
        let all = all.reshape((all.dim(0)?, sub_centers, classes))?;
        let shares = softmax(&(&all / self.parameters.temperature.get())?, 1)?;
        Ok((shares * all)?.sum(1)?)
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (similarities, mask) = scores_and_labels(self, embeddings, labels)?;
        let with_margin = (similarities - (mask * self.parameters.margin_cosine.get())?)?;
        Ok((with_margin * self.effective_scale())?)
    }

    fn effective_scale(&self) -> f64 {
        self.parameters.scale.get()
    }

    fn class_vectors(&self) -> Result<Option<Tensor>> {
        Ok(None)
    }
}
