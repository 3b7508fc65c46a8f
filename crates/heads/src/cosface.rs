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
use crate::tensors::scores_and_labels;
use crate::{ClassHead, Definition, Initialiser, Result, parameters};
use candle_core::{Tensor, Var};

parameters!(Parameters { scale: Scale = 64.0, margin_cosine: CosineMargin = 0.35 });

pub(crate) struct CosFace {
    /// `(classes, dim)`
    weight: Var,
    parameters: Parameters,
}

impl Definition for CosFace {
    const NAME: &'static str = "CosFace";
    const SUMMARY: &'static str = "A constant is subtracted from the cosine of the labelled class.";
    const FORMULA: &'static str = "label: s (cos(theta_y) - m); others: s cos(theta_j)";
    const PAPER: &'static str = "Wang et al., arXiv:1801.09414";
    const ANGLES: &'static str = "Asks the own class's cosine to lead by m, which is a wider gap in angle near the class's weight than at right angles to it.";
    const FAILS: &'static str = "With a large s the loss starts near s m + ln(C - 1), 24.6 for s = 64 and m = 0.35, and nearly all images pull with full force for many epochs: short trainings look bad by the scores. With noisy labels the margin works for the wrong class.";
    const CHOOSE: &'static str = "Unseen classes are to be told apart and there is time to train; steadier than an angular margin far from the weight.";
    type Parameters = Parameters;

    fn new(parameters: Parameters, start: &Initialiser) -> Result<Self> {
        Ok(Self { weight: start.weight()?, parameters })
    }
}

impl ClassHead for CosFace {
    fn weight(&self) -> &Var {
        &self.weight
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (cosines, mask) = scores_and_labels(self, embeddings, labels)?;
        let with_margin = (&cosines - self.parameters.margin_cosine.get())?;
        Ok((blend(&mask, &with_margin, &cosines)? * self.effective_scale())?)
    }

    fn effective_scale(&self) -> f64 {
        self.parameters.scale.get()
    }
}
