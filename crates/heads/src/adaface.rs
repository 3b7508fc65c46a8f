//! AdaFace: the margin follows the embedding's length, read as the quality of the image.
//!
//! ```text
//! z       = h (|x| - mu) / (sigma + eps), held in [-1, 1]; |x| is held in [0.001, 100] and gets no gradient here
//! logit_y = s (cos(theta_y - m z) - m - m z),  theta_y - m z held in [eps, pi - eps]
//! logit_j = s cos(theta_j)
//! in training, before use, with more than one image:
//!     mu    <- t_alpha mean of |x| + (1 - t_alpha) mu
//!     sigma <- t_alpha deviation of |x| + (1 - t_alpha) sigma
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | theta_j | angle between embedding and weight of class j | radians |
//! | x | embedding | 1 |
//! | mu, sigma | moving mean and deviation (n - 1 below the root) of \|x\|, the head's state; 20 and 100 at the start | 1 |
//! | m | margin, in \[0, 1\]: of the angle in the first place, a difference of cosines in the second | radians, 1 |
//! | h | how far the margin follows the length, > 0 | 1 |
//! | t_alpha | weight of the new batch in mu and sigma, in (0, 1\] | 1 |
//! | s | scale, > 0 | 1 |
//! | eps | cosines are held in \[-1 + eps, 1 - eps\], angles with margin in \[eps, pi - eps\] | 1, radians |
//!
//! Kim et al., "AdaFace: Quality Adaptive Margin for Face Recognition", arXiv:2204.00964, equations 7 to 9. z = -1, a short
//! embedding, gives ArcFace's margin m; z = 0 CosFace's; z = 1 a negative angle and twice CosFace's. Follows the authors' code,
//! with what their paper leaves to it: 20 and 100, 0.001 and 100, and t_alpha = 0.01. A batch of one image has no deviation and
//! leaves the state as it is; there it would become NaN.

use crate::cosine::{blend, held, sines};
use crate::tensors::{column, lengths, restore, restored_number, saved, saved_number, scores_and_labels, take};
use crate::{ClassHead, Definition, Initialiser, Result, State, parameters};
use candle_core::{D, Tensor, Var};
use std::f64::consts::PI;

/// Bounds of the lengths.
const LENGTHS: [f64; 2] = [1e-3, 100.0];
/// The moving mean and deviation at the start.
const FIRST: [f64; 2] = [20.0, 100.0];

parameters!(Parameters {
    scale: Scale = 64.0,
    margin_radians: AdaptiveMargin = 0.4,
    concentration: Concentration = 0.333,
    momentum: Momentum = 0.01,
    epsilon: Epsilon = 1e-3
});

pub(crate) struct AdaFace {
    /// `(classes, dim)`
    weight: Var,
    parameters: Parameters,
    norm_mean: f64,
    norm_std: f64,
}

impl AdaFace {
    fn logits(&self, cosines: &Tensor, mask: &Tensor, lengths: &[f64]) -> Result<Tensor> {
        let Parameters { margin_radians, concentration, epsilon, .. } = self.parameters;
        let (m, epsilon) = (margin_radians.get(), epsilon.get());
        let cosines = held(cosines, 1.0 - epsilon)?;
        let labelled = (&cosines * mask)?.sum_keepdim(D::Minus1)?;
        let standing = |&length: &f64| {
            (concentration.get() * (length - self.norm_mean) / (self.norm_std + epsilon)).clamp(-1.0, 1.0)
        };
        let standings: Vec<f64> = lengths.iter().map(standing).collect();
        let of_standing = |value: &dyn Fn(f64) -> f64| column(standings.iter().map(|&z| value(z)), &labelled);

        // cos(theta + g) by the addition theorem, g = -m z.
        let along = (&labelled * of_standing(&|z| (m * z).cos())?)?;
        let across = (sines(&labelled)? * of_standing(&|z| (-m * z).sin())?)?;
        let with_margin = (along - across)?;
        // theta + g leaves [eps, pi - eps] where cos(theta) passes these; there it has no gradient.
        let highest = of_standing(&|z| if epsilon + m * z > 0.0 { (epsilon + m * z).min(PI).cos() } else { 2.0 })?;
        let lowest = of_standing(&|z| if m * z < epsilon { (PI - epsilon + m * z).max(0.0).cos() } else { -2.0 })?;
        let dtype = labelled.dtype();
        let (above, below) = (labelled.gt(&highest)?.to_dtype(dtype)?, labelled.lt(&lowest)?.to_dtype(dtype)?);
        let inside = (1.0 - (&above + &below)?)?;
        let turned = ((with_margin * inside)? + ((above - below)? * epsilon.cos())?)?;

        let target = (turned - of_standing(&|z| m + m * z)?)?;
        Ok((blend(mask, &target.broadcast_as(cosines.shape())?, &cosines)? * self.effective_scale())?)
    }
}

fn held_lengths(embeddings: &Tensor) -> Result<Vec<f64>> {
    let [low, high] = LENGTHS;
    Ok(lengths(embeddings)?.into_iter().map(|length| length.clamp(low, high)).collect())
}

impl Definition for AdaFace {
    const NAME: &'static str = "AdaFace";
    const SUMMARY: &'static str =
        "A margin that follows the length of the embedding, read as the quality of the image.";
    const FORMULA: &'static str = "label: s (cos(theta_y - m z) - m - m z), z = h (|x| - mean |x|) / deviation |x|, held in [-1, 1]; others: s cos(theta_j)";
    const PAPER: &'static str = "Kim et al., arXiv:2204.00964";
    const ANGLES: &'static str = "Gives long embeddings a margin of the cosine and short ones a margin of the angle, by their standing in the moving mean and deviation of lengths.";
    const FAILS: &'static str = "Mean and deviation start at 20 and 100, those of large face networks, and follow a batch by a hundredth: for some hundred steps z is near 0, and AdaFace is CosFace with its m.";
    const CHOOSE: &'static str = "Images differ in quality, and the unreadable ones shall not decide.";
    type Parameters = Parameters;

    fn new(parameters: Parameters, start: &Initialiser) -> Result<Self> {
        let [norm_mean, norm_std] = FIRST;
        Ok(Self { weight: start.weight()?, parameters, norm_mean, norm_std })
    }
}

impl ClassHead for AdaFace {
    fn weight(&self) -> &Var {
        &self.weight
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (cosines, mask) = scores_and_labels(self, embeddings, labels)?;
        self.logits(&cosines, &mask, &held_lengths(embeddings)?)
    }

    fn train_logits(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (cosines, mask) = scores_and_labels(self, embeddings, labels)?;
        let lengths = held_lengths(embeddings)?;
        let count = lengths.len() as f64;
        if count > 1.0 {
            let mean = lengths.iter().sum::<f64>() / count;
            let squares = lengths.iter().map(|length| (length - mean).powi(2)).sum::<f64>();
            let new = self.parameters.momentum.get();
            self.norm_mean = new * mean + (1.0 - new) * self.norm_mean;
            self.norm_std = new * (squares / (count - 1.0)).sqrt() + (1.0 - new) * self.norm_std;
        }
        self.logits(&cosines, &mask, &lengths)
    }

    fn tensors(&self) -> Result<State> {
        let numbers = [saved_number("norm_mean", self.norm_mean)?, saved_number("norm_std", self.norm_std)?];
        Ok([saved("weight", &self.weight)?].into_iter().chain(numbers).collect())
    }

    fn load(&mut self, state: &State) -> Result<()> {
        let [weight, mean, std] = take(state, ["weight", "norm_mean", "norm_std"])?;
        self.norm_mean = restored_number("norm_mean", mean)?;
        self.norm_std = restored_number("norm_std", std)?;
        restore("weight", &self.weight, weight)
    }

    fn effective_scale(&self) -> f64 {
        self.parameters.scale.get()
    }
}
