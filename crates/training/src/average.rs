//! A moving average of a model's weights, which embeds in the place of the last ones (`training.ema`).
//!
//! Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992, in the exponential form:
//! `average = keep average + (1 - keep) weights` after every `every_steps`-th step, `keep = min(decay, (1 + t) / (10 + t))` at update t,
//! counted from 1, so that the weights of the start are soon forgotten (as `num_updates` does in TensorFlow's
//! `ExponentialMovingAverage`). Everything that a step changes gradually is averaged: weights of encoder and head, and the running statistics
//! of batch norms, which must go with the weights. Counts of batches and the numbers of a head's state (AdaCos's scale) are the model's own.
//!
//! The average is kept on the CPU in f32, under the names of files: a copy of the weights in memory beside the model, and one more while an update
//! is made. It changes nothing of what the model learns.

use crate::weights::unusable;
use crate::{Model, Result};
use candle_core::{DType, Tensor};
use faceoff_kernels::{Arithmetic, State};
use faceoff_runs::{Averaging, RunSpec};
use std::collections::BTreeMap;
use std::path::Path;

/// The average of encoder and head, each by name.
pub(crate) struct Average {
    settings: Averaging,
    parts: [BTreeMap<String, Tensor>; 2],
}

impl Average {
    /// That of a model that begins, where the recipe asks for one.
    pub(crate) fn of(model: &Model, settings: Option<Averaging>) -> Result<Option<Self>> {
        let new = |settings| Ok(Self { settings, parts: states(model)?.map(|state| state.into_iter().collect()) });
        settings.map(new).transpose()
    }

    /// That of a checkpoint at `path`, which must have what the model has.
    pub(crate) fn restored(
        model: &Model,
        settings: Option<Averaging>,
        parts: [State; 2],
        path: &Path,
    ) -> Result<Option<Self>> {
        let average = Self::of(model, settings)?;
        let expected = average.as_ref().map_or([vec![], vec![]], |average| average.parts.each_ref().map(shapes));
        let parts: [BTreeMap<String, Tensor>; 2] = parts.map(|part| part.into_iter().collect());
        if parts.each_ref().map(shapes) != expected {
            return Err(unusable(path, "its averaged weights are not those of this encoder and head"));
        }
        Ok(average.map(|average| Self { parts, ..average }))
    }

    /// Moves towards the model after so many steps, where it is time.
    pub(crate) fn follow(&mut self, model: &Model, steps: usize) -> Result<()> {
        let Averaging { decay, every_steps } = self.settings;
        if !steps.is_multiple_of(every_steps) {
            return Ok(());
        }
        let update = (steps / every_steps) as f64;
        let keep = decay.min((1.0 + update) / (10.0 + update));
        for (part, state) in self.parts.iter_mut().zip(states(model)?) {
            for (name, tensor) in state {
                let tensor = match part.get(&name) {
                    Some(average) if tensor.dtype() == DType::F32 => ((average * keep)? + (tensor * (1.0 - keep))?)?,
                    _ => tensor,
                };
                part.insert(name, tensor);
            }
        }
        Ok(())
    }

    /// Encoder and head, sorted by name.
    pub(crate) fn states(&self) -> [State; 2] {
        self.parts.clone().map(|part| part.into_iter().collect())
    }

    /// The model with the averaged weights.
    pub(crate) fn model(&self, spec: &RunSpec, classes: usize, arithmetic: &Arithmetic) -> Result<Model> {
        let [encoder, head] = self.states();
        let mut model = Model::with_encoder(&encoder, spec, classes, arithmetic)?;
        model.head.load(&head)?;
        Ok(model)
    }
}

/// Encoder and head.
fn states(model: &Model) -> Result<[State; 2]> {
    Ok([model.encoder.state()?, model.head_state()?])
}

fn shapes(part: &BTreeMap<String, Tensor>) -> Vec<(String, Vec<usize>, DType)> {
    part.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec(), tensor.dtype())).collect()
}
