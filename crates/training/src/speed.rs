//! How fast an encoder trains and embeds: real steps on made-up pixels.

use crate::Result;
use faceoff_kernels::{AdamWStep, Encoder, ImageBatch};
use std::time::Instant;

/// Seconds of one step, part by part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepSeconds {
    /// From pixels to embeddings, with statistics of the batch.
    pub forward: f64,
    /// From the gradient at the embeddings to those of all parameters.
    pub backward: f64,
    /// AdamW over all parameters.
    pub optimizer: f64,
    /// From pixels to embeddings with running statistics; no part of a step.
    pub embed: f64,
}

impl StepSeconds {
    /// The whole step. Heads and the pipeline of images cost little beside it.
    pub fn step(&self) -> f64 {
        self.forward + self.backward + self.optimizer
    }
}

/// Times `steps` steps of `encoder` on one batch, after one for warming up.
pub fn time_steps(encoder: &mut dyn Encoder, images: &ImageBatch, steps: usize) -> Result<Vec<StepSeconds>> {
    let mut times = Vec::with_capacity(steps);
    for number in 0..=steps {
        let mut last = Instant::now();
        let mut lap = || std::mem::replace(&mut last, Instant::now()).elapsed().as_secs_f64();
        let (embeddings, tape) = encoder.forward_train(images)?;
        let forward = lap();
        let gradients = encoder.backward(tape, &embeddings)?;
        let backward = lap();
        let (learning_rate, beta1, beta2, epsilon, step) = (1e-4, 0.9, 0.999, 1e-8, number as u64 + 1);
        encoder.apply(gradients, &AdamWStep { learning_rate, beta1, beta2, epsilon, weight_decay: 0.0, step })?;
        // A GPU answers before it is done; reading a result waits for it.
        if !embeddings.device().is_cpu() {
            encoder.optimizer_state()?;
        }
        let optimizer = lap();
        encoder.forward(images)?.sum_all()?.to_scalar::<f32>()?;
        let embed = lap();
        if number > 0 {
            times.push(StepSeconds { forward, backward, optimizer, embed });
        }
    }
    Ok(times)
}

/// A batch of made-up pixels.
pub fn made_up_batch(count: usize, size_px: usize) -> Result<ImageBatch> {
    let pixels = (0..count * size_px * size_px * 3).map(|index| (index * 31 + index / 97) as u8).collect();
    Ok(ImageBatch::new(pixels, count, size_px)?)
}
