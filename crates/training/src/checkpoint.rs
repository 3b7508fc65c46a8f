//! The state of an unfinished training, written after every epoch, so that a benchmark killed at any moment goes on
//! where the last epoch ended and ends with the same weights, bit for bit.
//!
//! One safetensors file, replaced by rename: weights, moments and buffers as tensors, the rest as JSON in its header.
//! No state of a random generator is needed: everything random is a function of seed, epoch and image.

use crate::average::Average;
use crate::model::Model;
use crate::weights::{load, save, unusable};
use crate::{Result, Timing};
use faceoff_kernels::State;
use faceoff_runs::EpochRecord;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What a checkpoint knows besides tensors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Hash of the run's specification.
    pub spec_hash: String,
    /// Fingerprint of the images.
    pub data_fingerprint: String,
    /// Epochs done.
    pub history: Vec<EpochRecord>,
    /// Seconds so far.
    pub timing: Timing,
}

/// How the names of tensors begin, by what they are of.
pub const PARTS: [&str; 6] =
    ["encoder.", "encoder_optimizer.", "head.", "head_optimizer.", "encoder_average.", "head_average."];

/// Writes the checkpoint of `model` and the average of its weights, where there is one, after the epochs in `progress`.
pub(crate) fn write(path: &Path, model: &Model, average: Option<&Average>, progress: &Progress) -> Result<()> {
    let [encoder_average, head_average] = average.map(Average::states).unwrap_or_default();
    let states = [
        model.encoder.state()?,
        model.encoder.optimizer_state()?,
        model.head_state()?,
        model.head_optimizer.state()?,
        encoder_average,
        head_average,
    ];
    let mut all = State::new();
    for (part, state) in PARTS.iter().zip(states) {
        all.extend(state.into_iter().map(|(name, tensor)| (format!("{part}{name}"), tensor)));
    }
    let json = serde_json::to_string(progress).expect("plain data is always valid JSON");
    save(path, &all, Some(json))
}

/// Reads the checkpoint at `path`, if there is one, and checks that it belongs to this run and these images: its tensors by
/// part, as in `PARTS`, and the rest.
pub fn read(path: &Path, spec_hash: &str, data_fingerprint: &str) -> Result<Option<([State; PARTS.len()], Progress)>> {
    if !path.exists() {
        return Ok(None);
    }
    let (all, metadata) = load(path)?;
    let metadata = metadata.ok_or_else(|| unusable(path, "it has no training state in its header"))?;
    let progress: Progress = serde_json::from_str(&metadata).map_err(|error| unusable(path, error))?;
    if progress.spec_hash != spec_hash || progress.data_fingerprint != data_fingerprint {
        return Err(unusable(path, "it was made with another configuration or other images"));
    }
    EpochRecord::check(&progress.history).map_err(|problem| unusable(path, format!("of its history, {problem}")))?;
    let mut states = [const { State::new() }; PARTS.len()];
    for (name, tensor) in all {
        let part = PARTS.iter().zip(&mut states).find_map(|(part, state)| Some((state, name.strip_prefix(part)?)));
        let (state, rest) = part.ok_or_else(|| unusable(path, format!("unknown tensor `{name}`")))?;
        state.push((rest.to_string(), tensor));
    }
    Ok(Some((states, progress)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_reads_back_bit_for_bit() {
        // Values of all digits: those of JSON readers that round once too often differ in a few per cent of them.
        let value = |step: usize| (step as f64).sqrt().exp().ln_1p() / 3.0;
        let record = |step| EpochRecord {
            epoch: step,
            step,
            train_loss: value(step),
            train_accuracy: Some(value(step).fract()),
            learning_rate: 1e-5 * value(step),
            effective_scale: 64.0 * value(step),
            own_angle_degrees: Some(90.0 * value(step)),
            head_state: vec![("scale".into(), 64.0 * value(step))],
            ..EpochRecord::default()
        };
        let written = Progress { history: (1..1000).map(record).collect(), ..Progress::default() };
        let read: Progress = serde_json::from_str(&serde_json::to_string(&written).unwrap()).unwrap();
        assert!(read == written);
    }
}
