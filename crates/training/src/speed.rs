//! How fast this machine trains: a few real steps on made-up pixels.

use crate::{Result, initial_encoder};
use candle_core::Device;
use faceoff_kernels::{AdamWStep, Images};
use std::time::Instant;

/// Steps that are timed, after one that is not.
const STEPS: usize = 2;

/// Images per second of training the encoder on batches of `batch_size` images of `image_size_px`. Heads and the
/// pipeline of images cost little beside it.
pub fn images_per_second(image_size_px: usize, batch_size: usize, device: &Device) -> Result<f64> {
    let mut encoder = faceoff_kernels::encoder(&initial_encoder(0)?, device)?;
    let bytes = batch_size * image_size_px * image_size_px * 3;
    let images =
        Images::new((0..bytes).map(|index| (index * 31) as u8).collect(), batch_size, image_size_px)?;
    let mut started = Instant::now();
    for step in 0..=STEPS {
        let (embeddings, tape) = encoder.forward_train(&images)?;
        let gradients = encoder.backward(tape, &embeddings)?;
        let (beta1, beta2, epsilon, step_number) = (0.9, 0.999, 1e-8, step as u64 + 1);
        encoder.apply(
            gradients,
            &AdamWStep { learning_rate: 1e-4, beta1, beta2, epsilon, weight_decay: 0.0, step: step_number },
        )?;
        if step == 0 {
            encoder.optimizer_state()?;
            started = Instant::now();
        }
    }
    // A GPU answers before it is done; reading a result waits for it.
    encoder.optimizer_state()?;
    Ok((STEPS * batch_size) as f64 / started.elapsed().as_secs_f64())
}
