//! SupCon: images of one class draw each other in, all others of the batch push away.
//!
//! ```text
//! loss_i = mean over the others p of its class of  -ln(exp(u_i . u_p / T) / sum over k != i of exp(u_i . u_k / T))
//! loss   = mean of loss_i over the images for which it is above 0
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | u_i | embedding of image i brought to unit length | 1 |
//! | T | temperature, > 0 | 1 |
//!
//! Khosla et al., "Supervised Contrastive Learning", arXiv:2004.11362, equation 2, on the embeddings themselves: the paper's
//! projection network and its two views of each image are left out. An image without another of its class in the batch has no
//! loss, as in pytorch-metric-learning. No class weights: nothing is scored, and batches need several images of a class.

use crate::cosine::unit;
use crate::pairs::{Pairs, mean_above_zero};
use crate::{Definition, Head, Initialiser, Loss, Result, parameters};
use candle_core::Tensor;

parameters!(Parameters { temperature: Temperature = 0.1 });

pub(crate) struct SupCon {
    dim: usize,
    classes: usize,
    parameters: Parameters,
}

impl Definition for SupCon {
    const NAME: &'static str = "SupCon";
    const SUMMARY: &'static str =
        "Images of one class draw each other in, all others push away; pairs instead of class weights.";
    const FORMULA: &'static str = "no logits; loss mean of -ln(exp(cos(theta_ip) / T) / sum over k != i of exp(cos(theta_ik) / T)) over pairs i, p of one class";
    const PAPER: &'static str = "Khosla et al., arXiv:2004.11362";
    const ANGLES: &'static str =
        "Narrows the angles between images of one class and widens all others, with no weight in between.";
    const FAILS: &'static str = "An image without another of its class in the batch learns nothing: it needs the sampler. A low temperature is all about the hardest pair, a high one about none.";
    const CHOOSE: &'static str = "Unseen classes and neighbours matter, scores do not.";
    /// A loss of pairs.
    const SOFTMAX: bool = false;
    type Parameters = Parameters;

    fn new(parameters: Parameters, &Initialiser { dim, classes, .. }: &Initialiser) -> Result<Self> {
        Ok(Self { dim, classes, parameters })
    }
}

impl Head for SupCon {
    fn loss(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<Loss> {
        let Pairs { same, different } = Pairs::new(embeddings, labels, self.dim, self.classes)?;
        let unit = unit(embeddings)?;
        let similarities = (unit.matmul(&unit.t()?)? * self.effective_scale())?;
        let others = (&same + &different)?;
        // Shifted by the row's largest, so that nothing overflows and not all underflow; the shift cancels and needs no
        // gradient. The image itself is put below every other.
        let beyond = ((1.0 - &others)? * (4.0 * self.effective_scale()))?;
        let shift = (&similarities - beyond)?.max_keepdim(1)?.detach();
        let shifted = similarities.broadcast_sub(&shift)?;
        // Of a batch of one image there is no other; its loss is 0 all the same, and no logarithm of 0.
        let alone = (1.0 - others.max_keepdim(1)?)?;
        let sums = ((shifted.exp()? * &others)?.sum_keepdim(1)? + alone)?;
        let costs = shifted.neg()?.broadcast_add(&sums.log()?)?;
        let partners = same.sum(1)?;
        let means = ((costs * same)?.sum(1)? / partners.maximum(&partners.ones_like()?)?)?;
        Ok(mean_above_zero(&means)?.into())
    }

    fn effective_scale(&self) -> f64 {
        1.0 / self.parameters.temperature.get()
    }
}
