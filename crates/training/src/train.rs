//! The training loop: one function, readable from top to bottom.

use crate::average::Average;
use crate::checkpoint::{self, Progress};
use crate::classes::SampledClasses;
use crate::health;
use crate::model::Model;
use crate::{Error, Result, Schedule, inputs};
use candle_core::{D, DType, Device, Tensor, Var};
use faceoff_data::Dataset;
use faceoff_heads::{Head, Loss};
use faceoff_kernels::{AdamW, AdamWStep, Arithmetic, Encoder, Inputs};
use faceoff_runs::{Averaging, EpochRecord, Failure, RunFolder, RunSpec};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Wall-clock seconds of an epoch, or of a whole training with all sessions of a resumed run together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// The epochs, checkpoints left out.
    pub train_seconds: f64,
    /// Of these, waiting for images.
    pub wait_seconds: f64,
    /// Writing checkpoints.
    pub checkpoint_seconds: f64,
    /// Images trained on.
    pub images: u64,
}

impl Timing {
    /// Adds the seconds and images of `other`.
    pub fn add(&mut self, other: &Self) {
        self.train_seconds += other.train_seconds;
        self.wait_seconds += other.wait_seconds;
        self.checkpoint_seconds += other.checkpoint_seconds;
        self.images += other.images;
    }

    /// Training images a second; 0 before the first epoch. Finite even where a clock stood still.
    pub fn images_per_second(&self) -> f64 {
        self.images as f64 / self.train_seconds.max(1e-9)
    }

    /// Share of the training time spent waiting for images, in [0, 1].
    pub fn wait_share(&self) -> f64 {
        self.wait_seconds / self.train_seconds.max(1e-9)
    }
}

/// What the loop says while it runs.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Training begins or goes on after `epochs_done` epochs.
    Start {
        /// Epochs that a checkpoint already holds.
        epochs_done: usize,
        /// Steps of an epoch.
        steps_per_epoch: usize,
    },
    /// A step is done.
    Step {
        /// Epoch, counts from 1.
        epoch: usize,
        /// Step within the epoch, counts from 1.
        step: usize,
        /// Loss of the batch.
        loss: f64,
        /// Learning rate of the step.
        learning_rate: f64,
    },
    /// An epoch is done and its checkpoint written.
    Epoch {
        /// What the history says of it.
        record: &'a EpochRecord,
        /// How long it took.
        timing: Timing,
    },
}

/// How a training ended.
pub enum TrainingEnd {
    /// All epochs are done; weights and history are written.
    Done(Box<Model>, Timing),
    /// `stop` was raised; the last epoch's checkpoint stays.
    Stopped,
    /// The loss became NaN or infinite; noted in the folder, the last good checkpoint stays.
    Diverged(Failure),
}

/// Trains one run in its folder, going on from its checkpoint where there is one.
///
/// Everything random is a function of the seed, so the outcome does not depend on interruptions. `stop` ends the
/// training after the step at hand.
pub fn train(
    spec: &RunSpec,
    folder: &RunFolder,
    images: &Dataset,
    arithmetic: &Arithmetic,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Event<'_>),
) -> Result<TrainingEnd> {
    let recipe = &spec.training;
    let (train_images, batch_size) = (images.record().train_images, recipe.batch_size);
    let steps_per_epoch = train_images / batch_size;
    if steps_per_epoch == 0 {
        return Err(Error::TooFewImages { images: train_images, batch_size });
    }
    let steps = recipe.epochs * steps_per_epoch;
    if let Some(Averaging { every_steps, .. }) = recipe.ema.filter(|ema| ema.every_steps > steps) {
        return Err(Error::NoUpdate { every_steps, steps });
    }
    let schedule = Schedule::new(recipe, steps);
    folder.begin(spec)?;
    let (mut model, mut average, mut state) = start(spec, folder, images, arithmetic)?;
    let (dim, classes) = (model.encoder.dim(), images.classes());
    let mut sampled = SampledClasses::of(spec, model.head.as_ref(), dim, classes, arithmetic.device())?;
    progress(Event::Start { epochs_done: state.history.len(), steps_per_epoch });

    for epoch in state.history.len()..recipe.epochs {
        let started = Instant::now();
        let side_px = |batch| recipe.side_px(epoch * steps_per_epoch + batch, steps, spec.data.image_size_px);
        let mut loader = images.train_epoch_of(spec.seed, epoch, recipe.batch_size, recipe.sampler, side_px)?;
        let (mut loss_sum, mut correct) = (0.0, Some(0));
        let mut health = health::Epoch::new(&spec.variant.head);
        let mut step = epoch * steps_per_epoch;
        while let Some(batch) = loader.next().transpose()? {
            let optimizer_step = schedule.at(step);
            let (batch, labels) = inputs(batch)?;
            let (loss, hits) = step_of(&mut model, sampled.as_mut(), &batch, &labels, &optimizer_step, &mut health)?;
            let AdamWStep { learning_rate, .. } = optimizer_step;
            step += 1;
            if !loss.is_finite() {
                let failure = Failure {
                    spec_hash: spec.hash(),
                    head: spec.variant.head.kind().into(),
                    epoch: epoch + 1,
                    step,
                    learning_rate,
                    message: format!("the loss is {loss}; lower the learning rate, the scale or the margin"),
                };
                folder.fail(&failure)?;
                return Ok(TrainingEnd::Diverged(failure));
            }
            if let Some(average) = &mut average {
                average.follow(&model, step)?;
            }
            loss_sum += loss;
            correct = correct.zip(hits).map(|(correct, hits)| correct + hits);
            progress(Event::Step { epoch: epoch + 1, step: step - epoch * steps_per_epoch, loss, learning_rate });
            if stop.load(Ordering::Relaxed) {
                return Ok(TrainingEnd::Stopped);
            }
        }
        if let Some(part) = &sampled {
            part.finish(model.head.as_mut())?;
        }
        let seen = steps_per_epoch * recipe.batch_size;
        let record = EpochRecord {
            epoch: epoch + 1,
            step,
            train_loss: loss_sum / steps_per_epoch as f64,
            train_accuracy: correct.map(|correct| correct as f64 / seen as f64),
            learning_rate: schedule.at(step - 1).learning_rate,
            effective_scale: model.head.effective_scale(),
            ..health.record(model.head.as_ref())?
        };
        let mut timing = Timing {
            train_seconds: started.elapsed().as_secs_f64(),
            wait_seconds: loader.wait_seconds(),
            checkpoint_seconds: 0.0,
            images: seen as u64,
        };
        state.history.push(record);
        state.timing.add(&timing);
        let started = Instant::now();
        checkpoint::write(&folder.checkpoint_path(), &model, average.as_ref(), &state)?;
        timing.checkpoint_seconds = started.elapsed().as_secs_f64();
        state.timing.checkpoint_seconds += timing.checkpoint_seconds;
        progress(Event::Epoch { record: state.history.last().expect("an epoch is done"), timing });
    }
    folder.write_history(spec, &state.history)?;
    if let Some(average) = average {
        model = average.model(spec, classes, arithmetic)?;
    }
    model.save(folder)?;
    Ok(TrainingEnd::Done(Box::new(model), state.timing))
}

/// The model and the average of its weights at the start of training, or as the checkpoint holds them.
fn start(
    spec: &RunSpec,
    folder: &RunFolder,
    images: &Dataset,
    arithmetic: &Arithmetic,
) -> Result<(Model, Option<Average>, Progress)> {
    let (spec_hash, data_fingerprint) = (spec.hash(), images.record().fingerprint.clone());
    let classes = images.classes();
    let (path, ema) = (folder.checkpoint_path(), spec.training.ema);
    match checkpoint::read(&path, &spec_hash, &data_fingerprint)? {
        Some(([encoder, encoder_optimizer, head, head_optimizer, encoder_average, head_average], progress)) => {
            let mut model = Model::with_encoder(&encoder, spec, classes, arithmetic)?;
            model.encoder.load_optimizer_state(&encoder_optimizer)?;
            model.head.load(&head)?;
            model.head_optimizer.load_state(&head_optimizer)?;
            let average = Average::restored(&model, ema, [encoder_average, head_average], &path)?;
            Ok((model, average, progress))
        }
        None => {
            let model = Model::new(spec, classes, arithmetic)?;
            let average = Average::of(&model, ema)?;
            Ok((model, average, Progress { spec_hash, data_fingerprint, ..Progress::default() }))
        }
    }
}

/// One step of a model, of all classes or of those sampled.
pub(crate) fn step_of(
    model: &mut Model,
    sampled: Option<&mut SampledClasses>,
    inputs: &Inputs,
    labels: &[u32],
    step: &AdamWStep,
    health: &mut health::Epoch,
) -> Result<(f64, Option<usize>)> {
    let Model { encoder, head, head_optimizer, label_smoothing } = model;
    let (encoder, smoothing) = (encoder.as_mut(), *label_smoothing);
    let tensor = |labels: &[u32]| Tensor::from_slice(labels, labels.len(), &Device::Cpu);
    let Some(part) = sampled else {
        let labels = (&tensor(labels)?, smoothing);
        return train_step(encoder, head.as_mut(), head_optimizer, inputs, labels, step, health);
    };
    let places = part.take(head_optimizer, labels, step.step)?;
    let (head, optimizer) = (part.head.as_mut(), &mut part.optimizer);
    let done = train_step(encoder, head, optimizer, inputs, (&tensor(&places)?, smoothing), step, health)?;
    part.give(head_optimizer)?;
    Ok(done)
}

/// One step: the batch's loss, and how many images had their class scored highest, labels withheld; `None` for a head that
/// scores no classes.
///
/// A loss that is not finite leaves the weights as they were. The labels lie on the CPU, where heads check them: a GPU
/// is waited for once a step, for the loss and the hits, and works on while the next step is prepared.
fn train_step(
    encoder: &mut dyn Encoder,
    head: &mut dyn Head,
    head_optimizer: &mut AdamW,
    images: &Inputs,
    (labels, smoothing): (&Tensor, f64),
    step: &AdamWStep,
    health: &mut health::Epoch,
) -> Result<(f64, Option<usize>)> {
    let (embeddings, tape) = encoder.forward_train(images)?;
    let targets = labels.to_device(embeddings.device())?;
    let scores = head.scores(&embeddings)?;
    let hits = |scores: &Tensor| scores.argmax(D::Minus1)?.eq(&targets)?.to_dtype(DType::F32)?.sum_all();
    let hits = scores.as_ref().map(hits).transpose()?;

    // The seam: the head's graph starts at the embeddings, and its gradient there goes back to the encoder.
    let embeddings = Var::from_tensor(&embeddings)?;
    let Loss { value: loss, logits, .. } = head.loss(&embeddings, labels)?.smoothed(labels, smoothing)?;
    let value = f64::from(loss.to_scalar::<f32>()?);
    if !value.is_finite() {
        return Ok((value, None));
    }
    let hits = hits.map(|hits| hits.to_scalar::<f32>()).transpose()?.map(|hits| hits as usize);
    health.settle()?;
    let gradients = loss.backward()?;
    let at_embeddings = gradients.get(&embeddings).expect("the loss depends on the embeddings");
    let logits = logits.map(|logits| logits.detach());
    health.note(head, &embeddings, scores, logits, at_embeddings, labels)?;
    let encoder_gradients = encoder.backward(tape, at_embeddings)?;
    encoder.apply(encoder_gradients, step)?;
    // The head's weights are never decayed: it would pull on the very lengths that the heads treat differently.
    head_optimizer.step(&gradients, &AdamWStep { weight_decay: 0.0, ..*step })?;
    Ok((value, hits))
}
