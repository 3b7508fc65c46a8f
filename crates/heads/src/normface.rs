//! NormFace: scaled cosines without a margin.
//!
//! ```text
//! logit_j = s cos(theta_j)
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | theta_j | angle between embedding and weight of class j | radians |
//! | s | scale, > 0 | 1 |
//!
//! Wang et al., "NormFace: L2 Hypersphere Embedding for Face Verification", arXiv:1704.06369, equation 8. The control of every
//! head with a margin: CosFace and ArcFace with m = 0 are NormFace. Departs from the paper in that s is fixed; there it is
//! learnt.

use crate::tensors::scores_and_labels;
use crate::{ClassHead, Definition, Initialiser, Result, parameters};
use candle_core::{Tensor, Var};

parameters!(Parameters { scale: Scale = 20.0 });

pub(crate) struct NormFace {
    /// `(classes, dim)`
    weight: Var,
    parameters: Parameters,
}

impl Definition for NormFace {
    const NAME: &'static str = "NormFace";
    const SUMMARY: &'static str = "Scaled cosines without a margin: the control that every margin must beat.";
    const FORMULA: &'static str = "s cos(theta_j)";
    const PAPER: &'static str = "Wang et al., arXiv:1704.06369";
    const ANGLES: &'static str = "Widens the gap between the own class's cosine and the others' until it is several times 1 / s, and then stops.";
    const FAILS: &'static str = "A small s never lets an image be sure; a large one stops as soon as the own class leads by a hair, and leaves no room between classes.";
    const CHOOSE: &'static str =
        "As the control of a margin, and where a margin is too much: noisy labels, short trainings.";
    type Parameters = Parameters;

    fn new(parameters: Parameters, start: &Initialiser) -> Result<Self> {
        Ok(Self { weight: start.weight()?, parameters })
    }
}

impl ClassHead for NormFace {
    fn weight(&self) -> &Var {
        &self.weight
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (cosines, _) = scores_and_labels(self, embeddings, labels)?;
        Ok((cosines * self.effective_scale())?)
    }

    fn effective_scale(&self) -> f64 {
        self.parameters.scale.get()
    }
}
