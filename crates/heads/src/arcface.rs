//! ArcFace: an angle added to the labelled class.
//!
//! ```text
//! logit_y = s cos(theta_y + m)            where theta_y <= pi - m
//!         = s cos(theta_y)                beyond, where the sum would pass pi, with beyond_pi = "catalyst"
//!         = s (cos(theta_y) - m sin(m))   beyond with beyond_pi = "linear"
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
//! Catalyst's `ArcFace`. Its rule beyond pi - m, no margin, lets training end there: a label opposite to its weight costs nothing
//! extra, and ArcFace becomes NormFace. The rule "linear" is that of the paper's authors: the label's logit keeps falling
//! towards pi, with a small step of s (cos(m) + m sin(m) - 1) at pi - m.

use crate::cosine::arcface_logits;
use crate::tensors::scores_and_labels;
use crate::{ClassHead, Definition, Initialiser, Result, parameters};
use candle_core::{Tensor, Var};

parameters!(Parameters {
    scale: Scale = 64.0,
    margin_radians: Radians = 0.5,
    beyond_pi: BeyondPi = "catalyst",
    epsilon: Epsilon = 1e-6
});

pub(crate) struct ArcFace {
    /// `(classes, dim)`
    weight: Var,
    parameters: Parameters,
}

impl Definition for ArcFace {
    const NAME: &'static str = "ArcFace";
    const SUMMARY: &'static str = "An angle is added to the labelled class.";
    const FORMULA: &'static str =
        "label: s cos(theta_y + m), where theta_y > pi - m as beyond_pi says; others: s cos(theta_j)";
    const PAPER: &'static str = "Deng et al., arXiv:1801.07698";
    const ANGLES: &'static str = "Asks the own class's angle to lead by m, the same at every angle.";
    const FAILS: &'static str = "With beyond_pi = \"catalyst\" the margin ends at pi - m, and training may end there: in 20 of 20 runs on Imagewoof 72 to 99 % of the training images did, opposite to all weights, and the head was NormFace by another name. With \"linear\" it starts as slowly as CosFace.";
    const CHOOSE: &'static str = "As CosFace; with \"linear\", unless Catalyst's results are to be met again.";
    type Parameters = Parameters;

    fn new(parameters: Parameters, start: &Initialiser) -> Result<Self> {
        Ok(Self { weight: start.weight()?, parameters })
    }
}

impl ClassHead for ArcFace {
    fn weight(&self) -> &Var {
        &self.weight
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (cosines, mask) = scores_and_labels(self, embeddings, labels)?;
        let Parameters { scale, margin_radians, beyond_pi, epsilon } = self.parameters;
        arcface_logits(&cosines, &mask, scale, margin_radians, beyond_pi, epsilon)
    }

    fn effective_scale(&self) -> f64 {
        self.parameters.scale.get()
    }
}
