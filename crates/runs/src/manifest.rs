//! `manifest.json`: where a run came from. Its presence means that the run is whole.

use crate::RunSpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the run contract.
pub const SCHEMA: u32 = 1;

/// Provenance of a whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the run contract, [`SCHEMA`].
    pub schema: u32,
    /// The experiment's name.
    pub experiment: String,
    /// What was trained, after all overrides.
    pub spec: RunSpec,
    /// [`RunSpec::hash`].
    pub spec_hash: String,
    /// The images.
    pub data: DataRecord,
    /// Version of Faceoff.
    pub version: String,
    /// Commit of the sources, or `unknown`; `-dirty` where they were changed.
    pub commit: String,
    /// Device and kernels of training, e.g. `cpu (avx2)`.
    pub device: String,
    /// The machine.
    pub machine: Machine,
    /// How fast it trained.
    pub speed: Speed,
    /// Wall-clock seconds of each phase, all sessions of a resumed run together.
    pub seconds: BTreeMap<String, f64>,
}

/// How fast a run trained, over all its epochs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    /// Training images a second.
    pub images_per_second: f64,
    /// Share of the training time spent waiting for images, in [0, 1].
    pub data_wait_share: f64,
}

/// The images a run saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecord {
    /// The data set's name.
    pub name: String,
    /// Changes whenever an image, its name or its label changes.
    pub fingerprint: String,
    /// md5 of the archive, where there was one.
    pub archive_md5: Option<String>,
    /// Names of the classes by label.
    pub classes: Vec<String>,
    /// Images of the training split.
    pub train_images: usize,
    /// Images of the validation split.
    pub val_images: usize,
}

/// The machine a run was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Logical processors.
    pub processors: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Operating system.
    pub system: String,
    /// Threads used.
    pub threads: usize,
}

/// `failure.json`: why a run stopped for good. The same seed would stop at the same place again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// [`RunSpec::hash`].
    pub spec_hash: String,
    /// Kind of the head.
    pub head: String,
    /// Epoch, counts from 1.
    pub epoch: usize,
    /// Step since the start, counts from 1.
    pub step: usize,
    /// Learning rate of that step.
    pub learning_rate: f64,
    /// What happened.
    pub message: String,
}
