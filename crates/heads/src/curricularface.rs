//! CurricularFace: ArcFace's margin, and hard negatives that weigh more as training goes on.
//!
//! ```text
//! logit_y = s cos(theta_y + m)               where cos(theta_y) > cos(pi - m)
//!         = s (cos(theta_y) - m sin(pi - m)) beyond
//! logit_j = s cos(theta_j) (t + cos(theta_j))  where cos(theta_j) > cos(theta_y + m): a hard negative
//!         = s cos(theta_j)                     elsewhere
//! in training, before use:  t <- 0.01 mean of cos(theta_y) + 0.99 t
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | theta_j | angle between embedding and weight of class j | radians |
//! | m | margin, in \[0, pi/2\] | radians |
//! | s | scale, > 0 | 1 |
//! | t | weight of the negatives, the head's state; 0 at the start | 1 |
//!
//! Huang et al., "CurricularFace: Adaptive Curriculum Learning Loss for Deep Face Recognition", arXiv:2004.00288,
//! equations 5 to 7. Follows Catalyst's `CurricularFace`, which takes 0.01 and 0.99 as the authors' code does, and departs
//! from it in that t changes in training only (there at every call with labels).

use crate::cosine::{blend, cosines, held, with_angular_margin};
use crate::tensors::{check_embeddings, restore, restored_number, saved, saved_number, scores_and_labels, take};
use crate::{ClassHead, Definition, Draw, Initialiser, Result, State, parameters};
use candle_core::{D, DType, Tensor, Var};

/// Weight of the new batch in t.
const MOMENTUM: f64 = 0.01;
/// Deviation of the weights under Catalyst's initialisation.
const CATALYST_DEVIATION: f64 = 0.01;

parameters!(Parameters { scale: Scale = 64.0, margin_radians: Radians = 0.5 });

pub(crate) struct CurricularFace {
    /// `(classes, dim)`
    weight: Var,
    parameters: Parameters,
    /// t.
    curriculum: f64,
}

impl CurricularFace {
    fn logits(&self, cosines: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let m = self.parameters.margin_radians.get();
        let labelled = (cosines * mask)?.sum_keepdim(D::Minus1)?;
        let with_margin = with_angular_margin(&labelled, m)?;
        let within = labelled.gt(-m.cos())?.to_dtype(cosines.dtype())?;
        let target = blend(&within, &with_margin, &(&labelled - m * m.sin())?)?;

        let hard = cosines.broadcast_gt(&with_margin)?.to_dtype(cosines.dtype())?;
        let weighted = (cosines * (cosines + self.curriculum)?)?;
        let negatives = blend(&hard, &weighted, cosines)?;
        Ok((blend(mask, &target.broadcast_as(cosines.shape())?, &negatives)? * self.effective_scale())?)
    }
}

impl Definition for CurricularFace {
    const NAME: &'static str = "CurricularFace";
    const SUMMARY: &'static str = "ArcFace's margin, and hard negatives that weigh more as training goes on.";
    const FORMULA: &'static str = "label: s cos(theta_y + m); negatives nearer than that: s cos(theta_j) (t + cos(theta_j)); others: s cos(theta_j)";
    const PAPER: &'static str = "Huang et al., arXiv:2004.00288";
    const ANGLES: &'static str = "As ArcFace with a linear rule beyond pi - m; and pushes harder against classes nearer than the label, the more the further training is.";
    const FAILS: &'static str = "t follows the mean cosine with the own class: while embeddings lie opposite to their weights it is below 0, and hard negatives count less instead of more.";
    const CHOOSE: &'static str = "Long trainings in which a few classes stay confused.";
    type Parameters = Parameters;

    fn new(parameters: Parameters, start: &Initialiser) -> Result<Self> {
        let weight = start.weight_as(&[start.classes, start.dim], Draw::Normal(CATALYST_DEVIATION))?;
        Ok(Self { weight, parameters, curriculum: 0.0 })
    }
}

impl ClassHead for CurricularFace {
    fn weight(&self) -> &Var {
        &self.weight
    }

    fn scores(&self, embeddings: &Tensor) -> Result<Tensor> {
        check_embeddings(embeddings, self.weight.dim(1)?)?;
        held(&cosines(embeddings, &self.weight)?, 1.0)
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (cosines, mask) = scores_and_labels(self, embeddings, labels)?;
        self.logits(&cosines, &mask)
    }

    fn train_logits(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (cosines, mask) = scores_and_labels(self, embeddings, labels)?;
        let labelled = (&cosines * &mask)?.to_dtype(DType::F64)?.sum(D::Minus1)?.to_vec1::<f64>()?;
        let mean = labelled.iter().sum::<f64>() / labelled.len() as f64;
        self.curriculum = MOMENTUM * mean + (1.0 - MOMENTUM) * self.curriculum;
        self.logits(&cosines, &mask)
    }

    fn tensors(&self) -> Result<State> {
        Ok(vec![saved("weight", &self.weight)?, saved_number("curriculum", self.curriculum)?])
    }

    fn load(&mut self, state: &State) -> Result<()> {
        let [weight, curriculum] = take(state, ["weight", "curriculum"])?;
        self.curriculum = restored_number("curriculum", curriculum)?;
        restore("weight", &self.weight, weight)
    }

    fn effective_scale(&self) -> f64 {
        self.parameters.scale.get()
    }
}
