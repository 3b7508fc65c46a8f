//! Experiment files, from their text to the heads that they state.

use super::{Files, Outcome, Target, clear, mutate, write};
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use faceoff::Program;
use faceoff_runs::{Compute, Experiment, RunSpec};
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};

/// Width of the embeddings and number of classes of the heads that are built.
const SHAPE: (usize, usize) = (6, 4);
/// Heads of an experiment that are built.
const MOST_HEADS: usize = 20;

struct Experiments {
    seeds: Vec<Files>,
    folder: PathBuf,
}

/// The experiments of the workspace, as they are and with nothing left to resolve.
pub(super) fn open(program: &Program, folder: &Path) -> Result<Box<dyn Target>> {
    let from = program.path("experiments");
    let mut seeds = Vec::new();
    for name in Experiment::names(&from)? {
        let path = from.join(format!("{name}.toml"));
        for text in [std::fs::read_to_string(&path)?, Experiment::load(&from, &name)?.to_toml()] {
            seeds.push(Files::from([(format!("{name}.toml"), text.into_bytes())]));
        }
    }
    Ok(Box::new(Experiments { seeds, folder: folder.join("experiments") }))
}

impl Target for Experiments {
    fn input(&self, random: &mut ChaCha8Rng) -> Files {
        let mut files = self.seeds.choose(random).expect("there are experiments").clone();
        let other =
            &self.seeds.choose(random).expect("there are experiments").values().next().expect("it is one file")[..];
        for _ in 0..rand::Rng::random_range(random, 1..=4) {
            files.values_mut().for_each(|text| *text = mutate::bytes(std::mem::take(text), other, random));
        }
        files
    }

    fn read(&mut self, input: &Files) -> Outcome {
        clear(&self.folder);
        write(&self.folder, input).expect("the input can be written");
        let name = input.keys().next().expect("it is one file");
        let program = Program { name: "fuzz", root: self.folder.clone() };
        let Ok(experiment) = program.experiment(&self.folder.join(name).display().to_string()) else {
            return Outcome::Refused;
        };
        // What is run is shown and recorded as text.
        let text = experiment.to_toml();
        match Experiment::parse(&text, Path::new(name)) {
            Ok(again) if again.to_toml() == text => {}
            Ok(again) => return Outcome::Silent(format!("it reads back as {}", again.to_toml())),
            Err(error) => return Outcome::Silent(format!("it cannot be read back: {error}")),
        }
        if let Some(spec) = RunSpec::of(&experiment, &Compute::unknown()).last() {
            spec.hash();
        }
        for variant in experiment.heads.iter().take(MOST_HEADS) {
            let ((dim, classes), init) = (SHAPE, experiment.training.head_init);
            let Ok(mut head) = faceoff_heads::build(&variant.head, dim, classes, init, 0, &Device::Cpu, DType::F32)
            else {
                continue;
            };
            let values: Vec<f32> = (0..8 * dim).map(|index| (index as f32).sin()).collect();
            let labels: Vec<u32> = (0..8).map(|index| index % classes as u32).collect();
            let tensors = Tensor::from_vec(values, (8, dim), &Device::Cpu)
                .and_then(|values| Ok((values, Tensor::from_vec(labels, 8, &Device::Cpu)?)));
            let (embeddings, labels) = tensors.expect("the shapes fit");
            // Whether a loss is finite depends on the settings; that there is one does not.
            if let Err(error) = head.loss(&embeddings, &labels) {
                return Outcome::Silent(format!("{} is built and has no loss: {error}", variant.name));
            }
        }
        Outcome::Accepted
    }
}
