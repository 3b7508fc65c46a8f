//! The one-cycle schedule with cosine slopes: learning rate and beta1 of every step.
//!
//! Smith and Topin, "Super-Convergence", arXiv:1708.07120, in the form of PyTorch's `OneCycleLR` with its default two
//! phases, which follows fastai: the rate climbs from peak / start_divisor to the peak, then falls to
//! start / end_divisor; beta1 moves the other way.

use faceoff_kernels::AdamWStep;
use faceoff_runs::TrainingConfig;
use std::f64::consts::PI;

/// The schedule of one training.
#[derive(Debug, Clone)]
pub struct Schedule<'a> {
    recipe: &'a TrainingConfig,
    steps: usize,
}

impl<'a> Schedule<'a> {
    /// A schedule over `steps` steps in all.
    pub fn new(recipe: &'a TrainingConfig, steps: usize) -> Self {
        Self { recipe, steps }
    }

    /// The optimiser's parameters at `step`, which counts from 0.
    pub fn at(&self, step: usize) -> AdamWStep {
        let recipe = self.recipe;
        let start = recipe.peak_learning_rate / recipe.start_divisor;
        let end = start / recipe.end_divisor;
        // PyTorch's boundaries: the first phase ends at fraction * steps - 1, the second at steps - 1.
        let peak_at = recipe.warmup_fraction * self.steps as f64 - 1.0;
        let last = self.steps as f64 - 1.0;
        let step_f64 = step as f64;
        let (learning_rate, beta1) = if step_f64 <= peak_at {
            // With a warm-up of one step, that step is the peak.
            let progress = if peak_at > 0.0 { step_f64 / peak_at } else { 1.0 };
            (cosine(start, recipe.peak_learning_rate, progress), cosine(recipe.beta1_high, recipe.beta1_low, progress))
        } else {
            let progress = if last > peak_at { (step_f64 - peak_at) / (last - peak_at) } else { 1.0 };
            (cosine(recipe.peak_learning_rate, end, progress), cosine(recipe.beta1_low, recipe.beta1_high, progress))
        };
        AdamWStep {
            learning_rate,
            beta1,
            beta2: recipe.beta2,
            epsilon: recipe.epsilon,
            weight_decay: recipe.weight_decay,
            step: step as u64 + 1,
        }
    }
}

/// From `start` to `end` along half a cosine; `progress` in [0, 1].
fn cosine(start: f64, end: f64, progress: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + (PI * progress).cos())
}
