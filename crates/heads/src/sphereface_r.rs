//! SphereFaceR: the angle to the labelled class multiplied.
//!
//! ```text
//! psi(theta) = (-1)^k cos(m theta) - 2 k,  k = floor(m theta / pi): falls from 1 at 0 without a break
//! logit_y    = s psi(theta_y)
//! logit_j    = s cos(theta_j)
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | theta_j | angle between embedding and weight of class j | radians |
//! | m | factor of the angle, >= 1 | 1 |
//! | s | scale, > 0 | 1 |
//!
//! Liu et al., "SphereFace Revived: Unifying Hyperspherical Face Recognition", arXiv:2109.05565: SphereFace-R with hard feature
//! normalisation, multiplicative margin of their first kind, and characteristic gradient detachment: psi decides the loss, but its
//! gradient is that of s cos(theta_y). Weights are kept on the sphere: each step of training first brings them to unit length,
//! and their gradient does not pass through that. Follows the authors' code, OpenSphere; cosines are held 1e-5 away from -1
//! and 1 before the angle is taken.

use crate::cosine::{blend, held, unit};
use crate::tensors::{check_embeddings, column, label_mask, scores_and_labels};
use crate::{ClassHead, Definition, Initialiser, Result, parameters};
use candle_core::{D, DType, Tensor, Var};
use std::f64::consts::PI;

/// How far cosines are held from -1 and 1.
const EPSILON: f64 = 1e-5;

parameters!(Parameters { scale: Scale = 30.0, margin_factor: AngleFactor = 1.5 });

pub(crate) struct SphereFaceR {
    /// `(classes, dim)`
    weight: Var,
    parameters: Parameters,
}

impl SphereFaceR {
    /// Logits with the value of psi at the label and the gradient of `cosines`.
    fn logits(&self, cosines: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let m = self.parameters.margin_factor.get();
        let plain = held(&cosines.detach(), 1.0 - EPSILON)?;
        let labelled = (&plain * mask)?.to_dtype(DType::F64)?.sum(D::Minus1)?.to_vec1::<f64>()?;
        let psi = labelled.iter().map(|cosine| {
            let angle = m * cosine.acos();
            let k = (angle / PI).floor();
            let sign = if k % 2.0 == 0.0 { 1.0 } else { -1.0 };
            sign * angle.cos() - 2.0 * k
        });
        let target = column(psi, &plain)?.broadcast_as(plain.shape())?;
        let shift = (blend(mask, &target, &plain)? - cosines.detach())?;
        Ok(((cosines + shift)? * self.effective_scale())?)
    }
}

impl Definition for SphereFaceR {
    const NAME: &'static str = "SphereFaceR";
    const SUMMARY: &'static str =
        "The angle to the labelled class is multiplied; its gradient is that of the plain cosine.";
    const FORMULA: &'static str =
        "label: s ((-1)^k cos(m theta_y) - 2 k), k = floor(m theta_y / pi); others: s cos(theta_j)";
    const PAPER: &'static str = "Liu et al., arXiv:2109.05565";
    const ANGLES: &'static str =
        "Asks for m times the own class's angle where others are asked for theirs once: the gap grows with the angle.";
    const FAILS: &'static str = "At a right angle the label already stands s cos(m pi / 2) below the others, so it starts as slowly as CosFace; the gradient is that of plain cosines, so the margin decides how strongly an image pulls, not where to.";
    const CHOOSE: &'static str = "A margin is wanted that is strict far away and mild near the weight.";
    type Parameters = Parameters;

    fn new(parameters: Parameters, start: &Initialiser) -> Result<Self> {
        Ok(Self { weight: start.weight()?, parameters })
    }
}

impl ClassHead for SphereFaceR {
    fn weight(&self) -> &Var {
        &self.weight
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (cosines, mask) = scores_and_labels(self, embeddings, labels)?;
        self.logits(&cosines, &mask)
    }

    fn train_logits(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        check_embeddings(embeddings, self.weight.dim(1)?)?;
        self.weight.set(&unit(&self.weight)?.detach())?;
        let cosines = unit(embeddings)?.matmul(&self.weight.t()?)?;
        let mask = label_mask(labels, &cosines)?;
        self.logits(&cosines, &mask)
    }

    fn effective_scale(&self) -> f64 {
        self.parameters.scale.get()
    }
}
