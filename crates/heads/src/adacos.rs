//! AdaCos: cosines under a scale that follows the batch, without margin.
//!
//! ```text
//! logit_j = s cos(theta_j)
//! in training, before use:  s <- ln(B) / cos(min(pi/4, median of theta_y))
//!                           B = mean over the batch of sum over j != y of exp(s cos(theta_j)), with the s before
//! at the start:             s = sqrt(2) ln(C - 1)
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | theta_j | angle between embedding and weight of class j | radians |
//! | s | scale, the head's state | 1 |
//! | C | number of classes, >= 3 | 1 |
//! | eps | cosines are held in \[-1 + eps, 1 - eps\] before the angle is taken | 1 |
//!
//! Zhang et al., "AdaCos: Adaptively Scaling Cosine Logits for Effectively Learning Deep Face Representations",
//! arXiv:1905.00292, equations 12 and 15. Follows Catalyst's `AdaCos`, the lower of two middle angles as the median
//! included, and departs from it twice: s changes in training only (there at every call with labels), and fewer than three
//! classes are an error (s would start at 0 or below).

use crate::tensors::{restore, restored_number, saved, saved_number, scores_and_labels, take};
use crate::{ClassHead, Definition, Initialiser, Result, State, advised_scale, parameters};
use candle_core::{DType, Tensor, Var};
use std::f64::consts::FRAC_PI_4;

parameters!(Parameters { epsilon: Epsilon = 1e-6 });

pub(crate) struct AdaCos {
    /// `(classes, dim)`
    weight: Var,
    scale: f64,
    epsilon: f64,
}

impl AdaCos {
    /// The scale after a batch; in f64 on the CPU, since a few hundred numbers decide it.
    fn next_scale(&self, cosines: &Tensor, labels: &Tensor) -> Result<f64> {
        let rows = cosines.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let labels = labels.to_vec1::<u32>()?;
        let mut others = 0.0;
        let mut angles = Vec::with_capacity(rows.len());
        for (row, &label) in rows.iter().zip(&labels) {
            let label = label as usize;
            let negatives = row.iter().enumerate().filter(|&(class, _)| class != label);
            others += negatives.map(|(_, c)| (self.scale * c).exp()).sum::<f64>();
            angles.push(row[label].clamp(-1.0 + self.epsilon, 1.0 - self.epsilon).acos());
        }
        angles.sort_by(f64::total_cmp);
        let median = angles[(angles.len() - 1) / 2];
        Ok((others / rows.len() as f64).ln() / median.min(FRAC_PI_4).cos())
    }
}

impl Definition for AdaCos {
    const NAME: &'static str = "AdaCos";
    const SUMMARY: &'static str = "Cosines under a scale that follows the batch, without margin.";
    const FORMULA: &'static str =
        "s cos(theta_j); s <- ln(mean sum_{j != y} exp(s cos(theta_j))) / cos(min(pi/4, median theta_y))";
    const PAPER: &'static str = "Zhang et al., arXiv:1905.00292";
    const ANGLES: &'static str = "As NormFace, with an s that follows the batch: that at which an image at the median angle has a probability of one half.";
    const FAILS: &'static str = "With few classes s is small from the start, 3.1 for ten, and falls as angles shrink; a small batch makes the median jump.";
    const CHOOSE: &'static str = "A scale is not to be searched for.";
    /// B sums over all other classes.
    const SAMPLED: bool = false;
    type Parameters = Parameters;

    fn new(Parameters { epsilon }: Parameters, start: &Initialiser) -> Result<Self> {
        let scale = advised_scale(Self::NAME, start.classes)?;
        Ok(Self { weight: start.weight()?, scale, epsilon: epsilon.get() })
    }
}

impl ClassHead for AdaCos {
    fn weight(&self) -> &Var {
        &self.weight
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (cosines, _) = scores_and_labels(self, embeddings, labels)?;
        Ok((cosines * self.scale)?)
    }

    fn train_logits(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (cosines, _) = scores_and_labels(self, embeddings, labels)?;
        self.scale = self.next_scale(&cosines, labels)?;
        Ok((cosines * self.scale)?)
    }

    fn tensors(&self) -> Result<State> {
        Ok(vec![saved("weight", &self.weight)?, saved_number("scale", self.scale)?])
    }

    fn load(&mut self, state: &State) -> Result<()> {
        let [weight, scale] = take(state, ["weight", "scale"])?;
        self.scale = restored_number("scale", scale)?;
        restore("weight", &self.weight, weight)
    }

    fn effective_scale(&self) -> f64 {
        self.scale
    }
}
