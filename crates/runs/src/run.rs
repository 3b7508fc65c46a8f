//! A run and its folder: one variant trained with one seed.

use crate::{
    DataConfig, DataRecord, Embeddings, EpochRecord, Error, Experiment, Failure, HeadVariant, Manifest,
    Result, SCHEMA, SplitName, TrainingConfig, read_history, write_atomically, write_history,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// All that decides the outcome of one training: nothing else may.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// The images.
    pub data: DataConfig,
    /// The recipe. Its `seeds` holds only this run's seed.
    pub training: TrainingConfig,
    /// The head. Under a condition, the condition's name is appended to the variant's. A learning rate of its own
    /// stands in the recipe.
    pub variant: HeadVariant,
    /// Name of the condition; empty without.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub condition: String,
    /// The seed.
    pub seed: u64,
}

impl RunSpec {
    /// The runs of an experiment: every seed of every variant under every condition, seed by seed.
    ///
    /// All heads see one seed before the next begins, so that an interrupted benchmark compares like with like.
    pub fn of(experiment: &Experiment) -> Vec<Self> {
        let mut specs = Vec::new();
        for &seed in &experiment.training.seeds {
            for (condition, variant) in
                experiment.each_condition().flat_map(|c| experiment.heads.iter().map(move |head| (c, head)))
            {
                let mut data = experiment.data_under(condition);
                // Where the images come from in need is no part of what is trained.
                data.synthetic_fallback = false;
                if data.dataset != crate::DatasetName::Synthetic {
                    data.synthetic = None;
                }
                let mut training = TrainingConfig { seeds: vec![seed], ..experiment.training.clone() };
                let mut variant = variant.clone();
                if let Some(rate) = variant.peak_learning_rate.take() {
                    training.peak_learning_rate = rate;
                }
                let condition = condition.map(|condition| condition.name.clone()).unwrap_or_default();
                if !condition.is_empty() {
                    variant.name = format!("{}-{condition}", variant.name);
                }
                specs.push(Self { data, training, variant, condition, seed });
            }
        }
        specs
    }

    /// SHA-256 of the specification, in hexadecimal.
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).expect("plain data is always valid JSON");
        hex::encode(Sha256::digest(json))
    }

    /// `<variant>-seed<k>`: the name of the run's folder.
    pub fn folder_name(&self) -> String {
        format!("{}-seed{}", self.variant.name, self.seed)
    }

    /// The keys in which two specifications differ, as `key: this, not that`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        fn walk(path: &str, a: &serde_json::Value, b: &serde_json::Value, out: &mut Vec<String>) {
            if let (serde_json::Value::Object(x), serde_json::Value::Object(y)) = (a, b) {
                let mut keys: Vec<_> = x.keys().chain(y.keys().filter(|key| !x.contains_key(*key))).collect();
                keys.sort();
                for key in keys {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    let null = serde_json::Value::Null;
                    walk(&path, x.get(key).unwrap_or(&null), y.get(key).unwrap_or(&null), out);
                }
            } else if a != b {
                out.push(format!("{path}: {a}, not {b}"));
            }
        }
        let json = |spec: &Self| serde_json::to_value(spec).expect("plain data is always valid JSON");
        let mut differences = Vec::new();
        walk("", &json(self), &json(other), &mut differences);
        differences
    }
}

/// What a run's folder holds, seen from a specification and the data at hand.
#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    /// Nothing, or a training that can go on from its checkpoint.
    Open,
    /// This very run, whole.
    Whole(Box<Manifest>),
    /// This very run stopped for good.
    Failed(Failure),
    /// Another run under the same name; the text says in what it differs.
    Other(String),
}

/// The folder of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// The folder of `spec` below a report folder. Nothing is created.
    pub fn new(report_folder: &Path, spec: &RunSpec) -> Self {
        Self { path: report_folder.join("runs").join(spec.folder_name()) }
    }

    /// The run at a path. Nothing is read.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The encoder's weights with torchvision's names.
    pub fn encoder_path(&self) -> PathBuf {
        self.path.join("encoder.safetensors")
    }

    /// The head's weights and state.
    pub fn head_path(&self) -> PathBuf {
        self.path.join("head.safetensors")
    }

    /// The state of an unfinished training; removed when the run is whole.
    pub fn checkpoint_path(&self) -> PathBuf {
        self.path.join("checkpoint.safetensors")
    }

    fn history_path(&self) -> PathBuf {
        self.path.join("history.csv")
    }

    fn manifest_path(&self) -> PathBuf {
        self.path.join("manifest.json")
    }

    fn failure_path(&self) -> PathBuf {
        self.path.join("failure.json")
    }

    fn spec_path(&self) -> PathBuf {
        self.path.join("spec.json")
    }

    /// What stands here, compared with `spec` and the data at hand.
    pub fn state(&self, spec: &RunSpec, data: &DataRecord) -> Result<RunState> {
        if self.manifest_path().exists() {
            let manifest = self.manifest()?;
            let mut differences = spec.differences(&manifest.spec);
            if data.fingerprint != manifest.data.fingerprint {
                differences.push(format!(
                    "data fingerprint: {}, not {}",
                    data.fingerprint, manifest.data.fingerprint
                ));
            }
            return Ok(if differences.is_empty() {
                RunState::Whole(Box::new(manifest))
            } else {
                RunState::Other(differences.join("; "))
            });
        }
        if self.spec_path().exists() {
            let begun: RunSpec = read_json(&self.spec_path())?;
            let differences = spec.differences(&begun);
            if !differences.is_empty() {
                return Ok(RunState::Other(differences.join("; ")));
            }
        }
        if self.failure_path().exists() {
            let failure: Failure = read_json(&self.failure_path())?;
            return Ok(RunState::Failed(failure));
        }
        Ok(RunState::Open)
    }

    /// Makes the folder and notes what is trained in it, so that a half-done run is never continued as another.
    pub fn begin(&self, spec: &RunSpec) -> Result<()> {
        write_json(&self.spec_path(), spec)
    }

    /// Removes the folder with everything in it.
    pub fn clear(&self) -> Result<()> {
        // The manifest goes first: a removal that is interrupted must not leave a run that looks whole.
        match std::fs::remove_file(self.manifest_path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", self.manifest_path())(error));
            }
            _ => {}
        }
        match std::fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Writes the history.
    pub fn write_history(&self, spec: &RunSpec, records: &[EpochRecord]) -> Result<()> {
        write_history(&self.history_path(), spec, records)
    }

    /// Reads the history.
    pub fn history(&self) -> Result<Vec<EpochRecord>> {
        read_history(&self.history_path())
    }

    /// Writes the embeddings of a split.
    pub fn write_embeddings(&self, split: SplitName, embeddings: &Embeddings) -> Result<()> {
        embeddings.write(&self.path, split)
    }

    /// Reads the embeddings of a split.
    pub fn embeddings(&self, split: SplitName) -> Result<Embeddings> {
        Embeddings::read(&self.path, split)
    }

    /// Reads the manifest and checks its schema.
    pub fn manifest(&self) -> Result<Manifest> {
        let path = self.manifest_path();
        // The schema is looked at first: another version may have other fields.
        let value: serde_json::Value = read_json(&path)?;
        if value.get("schema") != Some(&SCHEMA.into()) {
            return Err(Error::damaged(&path, format!("its schema is not {SCHEMA}")));
        }
        let manifest: Manifest =
            serde_json::from_value(value).map_err(|error| Error::damaged(&path, error))?;
        if manifest.spec_hash != manifest.spec.hash() {
            return Err(Error::damaged(&path, "its hash does not fit its specification"));
        }
        Ok(manifest)
    }

    /// Declares the run whole: writes the manifest, then drops the checkpoint.
    pub fn finish(&self, manifest: &Manifest) -> Result<()> {
        write_json(&self.manifest_path(), manifest)?;
        remove_if_there(&self.checkpoint_path())
    }

    /// Notes that the run stopped for good; its last good checkpoint stays.
    pub fn fail(&self, failure: &Failure) -> Result<()> {
        write_json(&self.failure_path(), failure)
    }

    /// The failure noted here, if any.
    pub fn failure(&self) -> Result<Option<Failure>> {
        let path = self.failure_path();
        if path.exists() { read_json(&path).map(Some) } else { Ok(None) }
    }
}

/// The folders below `<report_folder>/runs`, sorted by name; whether each is whole is for the caller to ask.
pub fn list_runs(report_folder: &Path) -> Result<Vec<RunFolder>> {
    let folder = report_folder.join("runs");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut runs = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
        let path = entry.map_err(Error::io("list", &folder))?.path();
        if path.is_dir() {
            runs.push(RunFolder { path });
        }
    }
    runs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(runs)
}

impl RunFolder {
    /// Whether the manifest is there.
    pub fn is_whole(&self) -> bool {
        self.manifest_path().exists()
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write_atomically(path, |file| {
        serde_json::to_writer_pretty(&mut *file, value)?;
        file.write_all(b"\n")
    })
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    serde_json::from_str(&text).map_err(|error| Error::damaged(path, error))
}
