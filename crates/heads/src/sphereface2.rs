//! SphereFace2: for each class a decision of its own, is the image of it or not.
//!
//! ```text
//! g(c)    = 2 ((c + 1) / 2)^t - 1
//! logit_y = r (g(cos(theta_y)) - m) + b
//! logit_j = r (g(cos(theta_j)) + m) + b
//! loss    = lw C / r  mean over images and classes of
//!           alpha ln(1 + exp(-logit_y))  at the label,  (1 - alpha) ln(1 + exp(logit_j))  elsewhere
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | theta_j | angle between embedding and weight of class j | radians |
//! | r | scale, > 0 | 1 |
//! | b | bias of all classes, learnt | 1 |
//! | m | margin, a difference of cosines, in \[0, 1\] | 1 |
//! | t | exponent that spreads the similarities, >= 1 | 1 |
//! | alpha | share of the label's decision in the loss, in (0, 1) | 1 |
//! | lw | factor of the loss, > 0 | 1 |
//! | C | number of classes | 1 |
//!
//! Wen et al., "SphereFace2: Binary Classification is All You Need for Deep Face Recognition", ICLR 2022, equations 5 to 7,
//! with the margin of type C. Follows the authors' code, OpenSphere: g and m decide the loss, but the gradient is that of
//! r cos(theta) + b (characteristic gradient detachment), and weights are kept on the sphere as in SphereFaceR. There is no
//! softmax: b starts where the loss of embeddings at right angles to all weights is smallest, at
//! ln(2 z) - a_j - ln(1 - z + sqrt((1 - z)^2 + 4 z exp(a_y - a_j))), z = alpha / ((1 - alpha) (C - 1)), with a_y and a_j the
//! logits without b at cosine 0.

use crate::cosine::unit;
use crate::tensors::{check_embeddings, label_mask, restore, saved, scores_and_labels, take};
use crate::{ClassHead, Definition, Initialiser, Loss, Result, State, parameters};
use candle_core::{Tensor, Var};

parameters!(Parameters {
    scale: Scale as "r" = 40.0,
    margin_cosine: CosineMargin = 0.4,
    exponent: Exponent = 3.0,
    label_share: LabelShare = 0.7,
    loss_factor: LossFactor = 50.0
});

pub(crate) struct SphereFace2 {
    /// `(classes, dim)`
    weight: Var,
    /// `(1,)`
    bias: Var,
    parameters: Parameters,
}

impl SphereFace2 {
    /// Logits with the value of g and m and the gradient of `cosines`.
    fn logits(&self, cosines: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let Parameters { scale, margin_cosine, exponent, .. } = self.parameters;
        let plain = cosines.detach();
        // Rounding may leave a cosine below -1, whose power is NaN.
        let spread = ((((&plain + 1.0)? / 2.0)?.relu()?.powf(exponent.get())? * 2.0)? - 1.0)?;
        // -1 at the label, 1 elsewhere.
        let sides = (1.0 - (mask * 2.0)?)?;
        let shift = ((spread + (sides * margin_cosine.get())?)? - plain)?;
        Ok(((cosines + shift)? * scale.get())?.broadcast_add(&self.bias)?)
    }
}

impl Definition for SphereFace2 {
    const NAME: &'static str = "SphereFace2";
    const SUMMARY: &'static str =
        "A binary decision for each class instead of a softmax over them, with one learnt bias.";
    const FORMULA: &'static str = "label: r (g(cos(theta_y)) - m) + b; others: r (g(cos(theta_j)) + m) + b; g(c) = 2 ((c + 1) / 2)^t - 1; binary cross-entropy";
    const PAPER: &'static str = "Wen et al., ICLR 2022";
    const ANGLES: &'static str = "Moves the own class's cosine above a threshold that all classes share, and the others' below it, each class for itself.";
    const FAILS: &'static str = "Scores are no distribution over classes, so a softmax of them is not calibrated; and with few classes alpha, r and t, made for thousands, want a search.";
    const CHOOSE: &'static str =
        "The question is whether two images are of one class, at one threshold for all classes.";
    /// The loss sums over all classes, and b balances them with the label.
    const SAMPLED: bool = false;
    /// Binary decisions.
    const SOFTMAX: bool = false;
    type Parameters = Parameters;

    fn new(parameters: Parameters, start: &Initialiser) -> Result<Self> {
        let Parameters { scale, margin_cosine, exponent, label_share, .. } = parameters;
        let (r, m, alpha) = (scale.get(), margin_cosine.get(), label_share.get());
        let others = (start.classes - 1) as f64;
        let z = alpha / ((1.0 - alpha) * others);
        let spread = 2.0 * 0.5f64.powf(exponent.get()) - 1.0;
        let [label, other] = [r * (spread - m), r * (spread + m)];
        let root = ((1.0 - z).powi(2) + 4.0 * z * (label - other).exp()).sqrt();
        let bias = (2.0 * z).ln() - other - (1.0 - z + root).ln();
        Ok(Self { weight: start.weight()?, bias: start.constant(&[bias])?, parameters })
    }
}

impl ClassHead for SphereFace2 {
    fn weight(&self) -> &Var {
        &self.weight
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (cosines, mask) = scores_and_labels(self, embeddings, labels)?;
        self.logits(&cosines, &mask)
    }

    fn loss(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<Loss> {
        check_embeddings(embeddings, self.weight.dim(1)?)?;
        self.weight.set(&unit(&self.weight)?.detach())?;
        let cosines = unit(embeddings)?.matmul(&self.weight.t()?)?;
        let mask = label_mask(labels, &cosines)?;
        let logits = self.logits(&cosines, &mask)?;
        let Parameters { scale, label_share, loss_factor, .. } = self.parameters;
        let wrong = (&logits * (1.0 - (&mask * 2.0)?)?)?;
        // ln(1 + exp(wrong)) without overflow.
        let costs = (wrong.relu()? + (wrong.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
        let alpha = label_share.get();
        let shares = ((&mask * (2.0 * alpha - 1.0))? + (1.0 - alpha))?;
        let factor = loss_factor.get() * mask.dim(1)? as f64 / scale.get();
        Ok(Loss::new((((costs * shares)?.mean_all()?) * factor)?, &logits))
    }

    fn variables(&self) -> Vec<(String, Var)> {
        vec![("weight".into(), self.weight.clone()), ("bias".into(), self.bias.clone())]
    }

    fn tensors(&self) -> Result<State> {
        Ok(vec![saved("weight", &self.weight)?, saved("bias", &self.bias)?])
    }

    fn load(&mut self, state: &State) -> Result<()> {
        let [weight, bias] = take(state, ["weight", "bias"])?;
        restore("weight", &self.weight, weight)?;
        restore("bias", &self.bias, bias)
    }

    fn effective_scale(&self) -> f64 {
        self.parameters.scale.get()
    }
}
