//! How fast an encoder trains and embeds: real steps on made-up pixels. And what it costs to watch the health of a head.

use crate::classes::SampledClasses;
use crate::train::step_of;
use crate::{Model, Result, health};
use candle_core::{DType, Device, Tensor, Var};
use faceoff_heads::Loss;
use faceoff_kernels::{AdamWStep, Arithmetic, Encoder, ImageBatch, Inputs, RowBatch};
use faceoff_runs::{HeadConfig, HeadInit, RunSpec};
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
pub fn time_steps(encoder: &mut dyn Encoder, images: &Inputs, steps: usize) -> Result<Vec<StepSeconds>> {
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
pub fn made_up_batch(count: usize, size_px: usize) -> Result<Inputs> {
    let pixels = (0..count * size_px * size_px * 3).map(|index| (index * 31 + index / 97) as u8).collect();
    Ok(ImageBatch::new(pixels, count, size_px)?.into())
}

/// Seconds of each of `steps` whole steps of `spec`'s training, encoder, head and all, on one batch of made-up rows of `classes` classes,
/// after one for warming up.
///
/// # Errors
/// A head that cannot work on so many classes; an encoder that takes no rows.
pub fn time_training(spec: &RunSpec, classes: usize, arithmetic: &Arithmetic, steps: usize) -> Result<Vec<f64>> {
    let mut model = Model::new(spec, classes, arithmetic)?;
    let mut figures = health::Epoch::new(&spec.variant.head);
    let count = spec.training.batch_size;
    let width = spec.training.projection.and_then(|projection| projection.inputs).unwrap_or(1);
    let rows = (0..count * width).map(|index| (index * 31 + index / 97) as f32 % 7.0 - 3.0).collect();
    let inputs = RowBatch::new(rows, count)?.into();
    // Two images of each class, so that a loss of pairs has some.
    let labels: Vec<u32> = (0..count).map(|image| (image / 2 % classes) as u32).collect();
    let (dim, device) = (model.encoder.dim(), arithmetic.device());
    let mut sampled = SampledClasses::of(spec, model.head.as_ref(), dim, classes, device)?;
    let (learning_rate, beta1, beta2, epsilon) = (1e-4, 0.9, 0.999, 1e-8);
    let mut times = Vec::with_capacity(steps);
    for step in 1..=steps as u64 + 1 {
        let started = Instant::now();
        let step = AdamWStep { learning_rate, beta1, beta2, epsilon, weight_decay: 0.0, step };
        step_of(&mut model, sampled.as_mut(), &inputs, &labels, &step, &mut figures)?;
        times.push(started.elapsed().as_secs_f64());
    }
    Ok(times.split_off(1))
}

/// Seconds that the figures of a head's health add to a step on the CPU, `steps` times, for made-up embeddings (`batch`, `dim`) of `classes`
/// classes.
pub fn time_health(head: &HeadConfig, [batch, dim, classes]: [usize; 3], steps: usize) -> Result<Vec<f64>> {
    let device = &Device::Cpu;
    let mut figures = health::Epoch::new(head);
    let mut head = faceoff_heads::build(head, dim, classes, HeadInit::Uniform, 0, device, DType::F32)?;
    let numbers = (0..batch * dim).map(|index| (index * 31 + index / 97) as f32 % 7.0 - 3.0).collect();
    let embeddings = Var::from_tensor(&Tensor::from_vec::<_, f32>(numbers, (batch, dim), device)?)?;
    let labels = Tensor::from_iter((0..batch).map(|image| (image % classes) as u32), device)?;
    let scores = head.scores(&embeddings)?;
    let Loss { value, logits, .. } = head.loss(&embeddings, &labels)?;
    let gradients = value.backward()?;
    let gradient = gradients.get(&embeddings).expect("the loss depends on the embeddings");
    let mut once = || {
        let started = Instant::now();
        figures.note(head.as_ref(), &embeddings, scores.clone(), logits.clone(), gradient, &labels)?;
        figures.settle()?;
        Ok(started.elapsed().as_secs_f64())
    };
    once()?;
    (0..steps).map(|_| once()).collect()
}
