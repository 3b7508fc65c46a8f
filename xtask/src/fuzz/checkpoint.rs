//! Checkpoints: a training goes on from what was written, or says that it does not.

use super::{Files, Outcome, RESEALED, Target, clear, mutate};
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use faceoff::Program;
use faceoff_heads::{HEADS, build};
use faceoff_kernels::{AdamW, State};
use faceoff_runs::{Dtype, EpochRecord, HeadInit, StoredTensor, TensorFile, write_tensors};
use faceoff_training::{CHECKPOINT_PARTS, Progress, read_checkpoint, save_weights};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};

/// Width of the embeddings and number of classes.
const SHAPE: (usize, usize) = (4, 3);
const NAME: &str = "checkpoint.safetensors";

struct Checkpoints {
    /// Of heads with and without state.
    seeds: Vec<Vec<u8>>,
    folder: PathBuf,
}

pub(super) fn open(_: &Program, folder: &Path) -> Result<Box<dyn Target>> {
    let folder = folder.join("work");
    clear(&folder);
    let mut seeds = Vec::new();
    for head in HEADS {
        let (dim, classes) = SHAPE;
        let head = build(&head.defaults(), dim, classes, HeadInit::Uniform, 0, &Device::Cpu, DType::F32)?;
        let weight = Tensor::arange(0.0_f32, 6.0, &Device::Cpu)?.reshape((2, 3))?;
        let encoder: State = vec![
            ("conv.weight".into(), weight.clone()),
            ("bn.num_batches_tracked".into(), Tensor::new(7_i64, &Device::Cpu)?),
        ];
        let moments: State = vec![("conv.weight.m".into(), weight.clone()), ("conv.weight.v".into(), weight)];
        let average = encoder.clone();
        let optimizer = AdamW::new(head.variables())?.state()?;
        let states = [encoder, moments, head.tensors()?, optimizer, average, head.tensors()?];
        let record = |epoch: usize| EpochRecord {
            epoch,
            step: 5 * epoch,
            train_loss: 2.5 / epoch as f64,
            train_accuracy: Some(0.1 * epoch as f64),
            learning_rate: 1e-3,
            effective_scale: head.effective_scale(),
            ..EpochRecord::default()
        };
        let progress = Progress {
            spec_hash: "s".into(),
            data_fingerprint: "d".into(),
            history: (1..4).map(record).collect(),
            ..Progress::default()
        };
        seeds.push(written(&folder.join(NAME), &states, &progress)?);
    }
    Ok(Box::new(Checkpoints { seeds, folder }))
}

/// The bytes of a checkpoint.
fn written(path: &Path, states: &[State; CHECKPOINT_PARTS.len()], progress: &Progress) -> Result<Vec<u8>> {
    let named = CHECKPOINT_PARTS
        .iter()
        .zip(states)
        .flat_map(|(part, state)| state.iter().map(move |(name, tensor)| (format!("{part}{name}"), tensor.clone())));
    save_weights(path, &named.collect(), Some(serde_json::to_string(progress)?))?;
    Ok(std::fs::read(path)?)
}

impl Checkpoints {
    /// A checkpoint with the right checksum of tensors and text that were changed.
    fn resealed(&self, seed: &[u8], random: &mut ChaCha8Rng) -> Result<Vec<u8>> {
        let path = self.folder.join(NAME);
        std::fs::write(&path, seed)?;
        let file = TensorFile::read(&path)?;
        let mut text = file.metadata()?.unwrap_or_default();
        let views = file.tensors()?;
        let stored = views
            .iter()
            .map(|(name, view)| (name.to_string(), view.dtype(), view.shape().to_vec(), view.data().to_vec()));
        let mut stored: Vec<_> = stored.collect();
        // They come in any order.
        stored.sort_by(|a, b| a.0.cmp(&b.0));
        for _ in 0..random.random_range(1..=2) {
            let at = random.random_range(0..stored.len());
            let (name, dtype, shape, bytes) = &mut stored[at];
            match random.random_range(0..8) {
                0 => *name = mutate::text(name, random),
                1 => {
                    *dtype = *[Dtype::F32, Dtype::F64, Dtype::I64, Dtype::U8, Dtype::BF16, Dtype::I32]
                        .choose(random)
                        .expect("there are some")
                }
                2 => *shape = shape.iter().rev().copied().collect(),
                3 => *shape = vec![shape.iter().product()],
                4 => *bytes = mutate::bytes(std::mem::take(bytes), seed, random),
                _ => text = mutate::text(&text, random),
            }
            // Sizes and bytes of one tensor fit each other in every file that can be read at all.
            let width = dtype.bitsize() / 8;
            match shape.last_mut() {
                Some(last) if random.random() => *last = bytes.len() / width.max(1),
                _ => bytes.resize(shape.iter().product::<usize>() * width, 0),
            }
        }
        stored.sort_by(|a, b| a.0.cmp(&b.0));
        stored.dedup_by(|a, b| a.0 == b.0);
        let stored: Vec<StoredTensor> = stored
            .iter()
            .map(|(name, dtype, shape, bytes)| (name.as_str(), *dtype, shape.clone(), bytes.clone()))
            .collect();
        write_tensors(&path, &stored, Some(text))?;
        Ok(std::fs::read(&path)?)
    }
}

impl Target for Checkpoints {
    fn input(&self, random: &mut ChaCha8Rng) -> Files {
        let seed = self.seeds.choose(random).expect("there are heads");
        let other = self.seeds.choose(random).expect("there are heads");
        // What no file can be made of is an input of its own kind.
        let resealed = random.random_bool(0.5).then(|| self.resealed(seed, random).ok()).flatten();
        let Some(bytes) = resealed else {
            let times = random.random_range(1..=3);
            let bytes = (0..times).fold(seed.clone(), |bytes, _| mutate::bytes(bytes, other, random));
            return Files::from([(NAME.into(), bytes)]);
        };
        Files::from([(NAME.into(), bytes), (RESEALED.into(), Vec::new())])
    }

    fn read(&mut self, input: &Files) -> Outcome {
        let (path, bytes) = (self.folder.join(NAME), &input[NAME]);
        std::fs::write(&path, bytes).expect("the input can be written");
        let Ok(Some((states, progress))) = read_checkpoint(&path, "s", "d") else { return Outcome::Refused };
        // With the checksum of what was changed it is what was written, whatever stands in it.
        let again = || written(&self.folder.join("again"), &states, &progress).unwrap_or_default();
        if !input.contains_key(RESEALED) && !self.seeds.contains(&again()) {
            return Outcome::Silent("another state than was written".into());
        }
        let (dim, classes) = SHAPE;
        for info in HEADS {
            let head = build(&info.defaults(), dim, classes, HeadInit::Uniform, 0, &Device::Cpu, DType::F32);
            let mut head = head.expect("the defaults are valid");
            if head.load(&states[2]).is_ok() {
                let optimizer = AdamW::new(head.variables()).and_then(|mut optimizer| optimizer.load_state(&states[3]));
                if optimizer.is_ok() {
                    return Outcome::Accepted;
                }
            }
        }
        Outcome::Refused
    }
}
