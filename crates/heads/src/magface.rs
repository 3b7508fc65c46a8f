//! MagFace: ArcFace with a margin that grows with the embedding's length, and a regulariser that rewards length.
//!
//! ```text
//! a       = |x| held in [l_a, u_a]
//! m(a)    = l_m + (u_m - l_m) (a - l_a) / (u_a - l_a)
//! logit_y = s cos(theta_y + m(a))   where cos(theta_y) > 0
//!         = s cos(theta_y)          beyond
//! logit_j = s cos(theta_j)
//! loss    = cross-entropy + lambda_g mean of (a / u_a^2 + 1 / a)
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | theta_j | angle between embedding and weight of class j | radians |
//! | x | embedding | 1 |
//! | l_a, u_a | lengths between which the margin grows, 0 < l_a < u_a; beyond, a length gets no gradient | 1 |
//! | l_m, u_m | margins at these lengths, in \[0, pi/2\] | radians |
//! | lambda_g | weight of the regulariser, >= 0 | 1 |
//! | s | scale, > 0 | 1 |
//!
//! Meng et al., "MagFace: A Universal Representation for Face Recognition and Quality Assessment", arXiv:2103.06627,
//! equations 3 and 4. Lengths have gradients, through the margin and the regulariser. Follows the authors' code, whose default
//! ("easy margin") leaves the label without margin from a right angle on; the paper says nothing of it.

use crate::cosine::{blend, clamped, held, sines};
use crate::tensors::{cross_entropy, scores_and_labels};
use crate::{ClassHead, Definition, Error, Initialiser, Loss, Result, parameters};
use candle_core::{D, Tensor, Var};

parameters!(Parameters {
    scale: Scale = 64.0,
    norm_low: NormLow = 10.0,
    norm_high: NormHigh = 110.0,
    margin_low_radians: Radians as "l_m" = 0.45,
    margin_high_radians: Radians as "u_m" = 0.8,
    regularizer_weight: RegularizerWeight = 20.0
});

pub(crate) struct MagFace {
    /// `(classes, dim)`
    weight: Var,
    parameters: Parameters,
}

impl MagFace {
    /// The lengths a, `(batch, 1)`.
    fn lengths(&self, embeddings: &Tensor) -> Result<Tensor> {
        let Parameters { norm_low, norm_high, .. } = self.parameters;
        let squares = embeddings.sqr()?.sum_keepdim(D::Minus1)?;
        // Held before the root, whose gradient at 0 is infinite.
        Ok(clamped(&squares, norm_low.get().powi(2), norm_high.get().powi(2))?.sqrt()?)
    }
}

impl Definition for MagFace {
    const NAME: &'static str = "MagFace";
    const SUMMARY: &'static str =
        "ArcFace with a margin that grows with the embedding's length, and a reward for length.";
    const FORMULA: &'static str = "label: s cos(theta_y + m(|x|)), without m where cos(theta_y) <= 0; others: s cos(theta_j); loss + lambda_g mean(|x| / u_a^2 + 1 / |x|)";
    const PAPER: &'static str = "Meng et al., arXiv:2103.06627";
    const ANGLES: &'static str = "As ArcFace with a margin that grows with the embedding's length, and rewards length: easy images become long ones.";
    const FAILS: &'static str = "From a right angle on there is no margin, so training may end there as with Catalyst's rule of ArcFace; and lengths outside [l_a, u_a] have no gradient, so these two must fit the encoder.";
    const CHOOSE: &'static str = "The length shall say how good an image is.";
    type Parameters = Parameters;

    fn new(parameters: Parameters, start: &Initialiser) -> Result<Self> {
        let (low, high) = (parameters.norm_low.get(), parameters.norm_high.get());
        if low >= high {
            let problem = format!("is {high:?}, but it must be above `norm_low`, {low:?}");
            return Err(Error::Parameter { kind: Self::NAME.into(), name: "norm_high".into(), problem });
        }
        Ok(Self { weight: start.weight()?, parameters })
    }
}

impl ClassHead for MagFace {
    fn weight(&self) -> &Var {
        &self.weight
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let (cosines, mask) = scores_and_labels(self, embeddings, labels)?;
        let Parameters { norm_low, norm_high, margin_low_radians, margin_high_radians, .. } = self.parameters;
        let (low, lowest) = (norm_low.get(), margin_low_radians.get());
        let slope = (margin_high_radians.get() - lowest) / (norm_high.get() - low);
        let margins = (((self.lengths(embeddings)? - low)? * slope)? + lowest)?;

        let cosines = held(&cosines, 1.0)?;
        let labelled = (&cosines * &mask)?.sum_keepdim(D::Minus1)?;
        let with_margin = ((&labelled * margins.cos()?)? - (sines(&labelled)? * margins.sin()?)?)?;
        let target = blend(&labelled.gt(0f64)?.to_dtype(labelled.dtype())?, &with_margin, &labelled)?;
        Ok((blend(&mask, &target.broadcast_as(cosines.shape())?, &cosines)? * self.effective_scale())?)
    }

    fn loss(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<Loss> {
        let logits = self.labelled_logits(embeddings, labels)?;
        let cross_entropy = cross_entropy(&logits, labels)?;
        let Parameters { norm_high, regularizer_weight, .. } = self.parameters;
        let lengths = self.lengths(embeddings)?;
        let costs = ((&lengths / norm_high.get().powi(2))? + lengths.recip()?)?;
        let regularizer = (costs.mean_all()? * regularizer_weight.get())?;
        let value = (&cross_entropy + &regularizer)?;
        let parts = vec![("cross_entropy", cross_entropy), ("regularizer", regularizer)];
        Ok(Loss { parts, ..Loss::new(value, &logits) })
    }

    fn effective_scale(&self) -> f64 {
        self.parameters.scale.get()
    }
}
