//! `manifest.json`: where a run came from. Its presence means that the run is whole.

use crate::{Error, Result, RunSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::Path;

/// Version of the run contract. 2: the specification says what computed, the manifest holds the checksums of all files.
/// 3: and one of its own content.
pub const SCHEMA: u32 = 3;
/// The version before, which is still read: nothing tells whether such a manifest was changed.
pub(crate) const UNSEALED: u32 = 2;
/// Name of the manifest.
pub(crate) const MANIFEST: &str = "manifest.json";

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
    /// The machine.
    pub machine: Machine,
    /// How fast it trained.
    pub speed: Speed,
    /// Wall-clock seconds of each phase, all sessions of a resumed run together.
    pub seconds: BTreeMap<String, f64>,
    /// When it became whole, by the machine's clock (UTC, RFC 3339); `None` in older manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<String>,
    /// Every other file of the run by name, as it was when the run became whole: filled in by [`crate::RunFolder::finish`].
    pub files: BTreeMap<String, FileRecord>,
    /// BLAKE3 of all the above, in hexadecimal: filled in by [`crate::RunFolder::finish`]; empty in manifests of version 2.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub blake3: String,
}

impl Manifest {
    /// BLAKE3 of the content, the field `blake3` left out.
    pub(crate) fn digest(&self) -> String {
        let content = Self { blake3: String::new(), ..self.clone() };
        let json = serde_json::to_vec(&content).expect("plain data is always valid JSON");
        blake3::hash(&json).to_hex().to_string()
    }
}

/// Length and checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Length.
    pub bytes: u64,
    /// BLAKE3 of the contents, in hexadecimal.
    pub blake3: String,
}

impl FileRecord {
    /// Length and checksum of the file at `path` as it is now.
    pub fn of(path: &Path) -> Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let file = File::open(path).map_err(Error::io("open", path))?;
        hasher.update_reader(file).map_err(Error::io("read", path))?;
        Ok(Self { bytes: hasher.count(), blake3: hasher.finalize().to_hex().to_string() })
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() }
    }
}

/// E.g. `12 bytes with BLAKE3 6437b3ac...`, the checksum whole.
impl fmt::Display for FileRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes with BLAKE3 {}", self.bytes, self.blake3)
    }
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
    /// The data set's name in experiment files.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// Whether the images are made up, so that results say nothing about real ones.
    pub synthetic: bool,
    /// What a reader of results has to know of the data set.
    pub notes: Vec<String>,
    /// Changes whenever an image, its name or its label changes.
    pub fingerprint: String,
    /// md5 of the archive, where there was one.
    pub archive_md5: Option<String>,
    /// The options of `benchmark` that named images or embeddings of one's own, without their values; none in older runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
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
    /// Epoch, counts from 1; 0 where the head cannot work on the images, so that nothing was trained.
    pub epoch: usize,
    /// Step since the start, counts from 1.
    pub step: usize,
    /// Learning rate of that step.
    pub learning_rate: f64,
    /// What happened.
    pub message: String,
}
