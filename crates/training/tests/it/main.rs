//! Tests of training.

mod schedule;
mod training;

use faceoff_runs::{Experiment, TrainingConfig};
use std::path::Path;

fn smoke() -> Experiment {
    Experiment::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments"), "smoke").unwrap()
}

fn recipe() -> TrainingConfig {
    smoke().training
}
