//! Triplet: an image shall be nearer to those of its class than to the others, by a margin.
//!
//! ```text
//! loss = mean over all triplets (a, p, n) for which it is above 0 of  |u_a - u_p| - |u_a - u_n| + m
//!        a, p of one class, n of another
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | u_a | embedding brought to unit length | 1 |
//! | m | margin, a difference of distances between unit vectors, in \[0, 2\] | 1 |
//!
//! Schroff et al., "FaceNet: A Unified Embedding for Face Recognition and Clustering", arXiv:1503.03832, equation 2, with plain
//! instead of squared distances and with all triplets of the batch instead of mined ones, as pytorch-metric-learning has it. Time
//! and memory grow with the third power of the batch. No class weights: nothing is scored, and batches need several images of a
//! class.

use crate::cosine::unit;
use crate::pairs::{Pairs, mean_above_zero};
use crate::{Definition, Head, Initialiser, Loss, Result, parameters};
use candle_core::Tensor;

/// Floor of a squared distance before the root, whose gradient is infinite at 0.
const SMALLEST_SQUARE: f64 = 1e-12;

parameters!(Parameters { margin_distance: DistanceMargin = 0.2 });

pub(crate) struct Triplet {
    dim: usize,
    classes: usize,
    parameters: Parameters,
}

impl Definition for Triplet {
    const NAME: &'static str = "Triplet";
    const SUMMARY: &'static str =
        "An image shall be nearer to those of its class than to the others; triplets instead of class weights.";
    const FORMULA: &'static str =
        "no logits; loss mean of |u_a - u_p| - |u_a - u_n| + m over the triplets of a batch for which it is above 0";
    const PAPER: &'static str = "Schroff et al., arXiv:1503.03832";
    const ANGLES: &'static str = "Asks images of one class to be nearer than those of others by m, as distances between unit vectors, and leaves triplets alone that are.";
    const FAILS: &'static str = "All embeddings in one place give a loss of m and hardly a direction to leave by; late in training few triplets are left, and noise decides. It needs the sampler.";
    const CHOOSE: &'static str = "As SupCon, where a margin in distance is what is used later.";
    /// A loss of pairs.
    const SOFTMAX: bool = false;
    type Parameters = Parameters;

    fn new(parameters: Parameters, &Initialiser { dim, classes, .. }: &Initialiser) -> Result<Self> {
        Ok(Self { dim, classes, parameters })
    }
}

impl Head for Triplet {
    fn loss(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<Loss> {
        let Pairs { same, different } = Pairs::new(embeddings, labels, self.dim, self.classes)?;
        let unit = unit(embeddings)?;
        let squares = ((unit.matmul(&unit.t()?)? * -2.0)? + 2.0)?;
        let distances = squares.maximum(&(squares.ones_like()? * SMALLEST_SQUARE)?)?.sqrt()?;
        // (anchor, positive, negative)
        let differences = distances.unsqueeze(2)?.broadcast_sub(&distances.unsqueeze(1)?)?;
        let triplets = same.unsqueeze(2)?.broadcast_mul(&different.unsqueeze(1)?)?;
        let costs = ((differences + self.parameters.margin_distance.get())?.relu()? * triplets)?;
        Ok(mean_above_zero(&costs)?.into())
    }
}
