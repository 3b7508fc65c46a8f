//! Tests of training.

mod schedule;
mod training;

use faceoff_runs::{Compute, Experiment, RunSpec, Sampler, TrainingConfig};
use std::path::{Path, PathBuf};

fn experiments() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments")
}

fn smoke() -> Experiment {
    Experiment::load(&experiments(), "smoke").unwrap()
}

/// The run of a head of the experiment heads-all, with the images and the recipe of smoke.
fn run_of(name: &str) -> RunSpec {
    let mut experiment = smoke();
    experiment.heads = Experiment::load(&experiments(), "heads-all").unwrap().heads;
    experiment.heads.retain(|variant| variant.name == name);
    let mut spec = RunSpec::of(&experiment, &compute()).remove(0);
    if spec.training.sampler.is_some() {
        spec.training.sampler = Some(Sampler { classes: 4, images: 4 });
    }
    spec
}

fn compute() -> Compute {
    Compute { device: "cpu".into(), kernels: "any".into() }
}

fn recipe() -> TrainingConfig {
    smoke().training
}
