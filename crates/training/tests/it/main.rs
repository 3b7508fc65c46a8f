//! Tests of training.

mod schedule;
mod training;

use faceoff_runs::{Compute, Experiment, TrainingConfig};
use std::path::Path;

fn smoke() -> Experiment {
    Experiment::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments"), "smoke").unwrap()
}

fn compute() -> Compute {
    Compute { device: "cpu".into(), kernels: "any".into() }
}

fn recipe() -> TrainingConfig {
    smoke().training
}
