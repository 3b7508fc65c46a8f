//! A run and its folder: one variant trained with one seed.

use crate::check::FILES;
use crate::experiment::variant_name;
use crate::files::remove;
use crate::manifest::{MANIFEST, UNSEALED};
use crate::{
    DataConfig, DataRecord, Error, Experiment, Failure, FileRecord, HeadVariant, Manifest, Result, SCHEMA, TensorFile,
    TrainingConfig, list_folder, write_atomically,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// What computes a training: two of these agree to rounding only, so no training goes from one to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compute {
    /// `cpu`, `cuda` or `metal`.
    pub device: String,
    /// Name of the kernels on it, e.g. `avx2`.
    pub kernels: String,
}

impl Compute {
    /// No machine in particular: for what does not depend on it, such as the names and images of an experiment's runs.
    pub fn unknown() -> Self {
        Self { device: "unknown".into(), kernels: "unknown".into() }
    }
}

/// E.g. `cpu (avx2)`.
impl fmt::Display for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.device, self.kernels)
    }
}

/// All that decides the outcome of one training: nothing else may.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// The images.
    pub data: DataConfig,
    /// The recipe. Its `seeds` holds only this run's seed.
    pub training: TrainingConfig,
    /// The head. Under a condition its name is `<variant>-<condition>`. Where the experiment gives the variant its own
    /// learning rate or sampler, these stand in `training`, and none stands here.
    pub variant: HeadVariant,
    /// Name of the condition; empty without.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub condition: String,
    /// The seed.
    pub seed: u64,
    /// What computes it.
    pub compute: Compute,
}

/// A key in which two specifications differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The key's full name, e.g. `training.epochs`.
    pub key: String,
    /// Its value in the one; `null` where it has none.
    pub this: Value,
    /// Its value in the other.
    pub that: Value,
}

impl Difference {
    /// Whether it is about what computed, not about what was computed.
    pub fn is_compute(&self) -> bool {
        self.key.starts_with("compute.")
    }

    /// All of them, separated by semicolons.
    pub fn list(differences: &[Self]) -> String {
        differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

/// `key: this, not that`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, not {}", self.key, self.this, self.that)
    }
}

impl RunSpec {
    /// The runs of an experiment on `compute`: every seed of every variant under every condition, seed by seed.
    ///
    /// All heads see one seed before the next begins, so that an interrupted benchmark compares like with like.
    pub fn of(experiment: &Experiment, compute: &Compute) -> Vec<Self> {
        let mut specs = Vec::new();
        for &seed in &experiment.training.seeds {
            for (condition, variant) in
                experiment.each_condition().flat_map(|c| experiment.heads.iter().map(move |head| (c, head)))
            {
                let mut data = experiment.data_under(condition);
                // Where the images come from in need is no part of what is trained.
                data.synthetic_fallback = false;
                if !data.is_synthetic() {
                    data.synthetic = None;
                }
                let mut training = TrainingConfig { seeds: vec![seed], ..experiment.training_under(condition) };
                let mut variant = variant.clone();
                if let Some(rate) = variant.peak_learning_rate.take() {
                    training.peak_learning_rate = rate;
                }
                training.sampler = variant.sampler.take().or(training.sampler);
                variant.name = variant_name(&variant.name, condition);
                let condition = condition.map(|condition| condition.name.clone()).unwrap_or_default();
                specs.push(Self { data, training, variant, condition, seed, compute: compute.clone() });
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

    /// The keys in which two specifications differ.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        fn walk(key: &str, this: &Value, that: &Value, out: &mut Vec<Difference>) {
            if let (Value::Object(x), Value::Object(y)) = (this, that) {
                let mut names: Vec<_> = x.keys().chain(y.keys().filter(|name| !x.contains_key(*name))).collect();
                names.sort();
                for name in names {
                    let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                    walk(&key, x.get(name).unwrap_or(&Value::Null), y.get(name).unwrap_or(&Value::Null), out);
                }
            } else if this != that {
                out.push(Difference { key: key.into(), this: this.clone(), that: that.clone() });
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
    /// This run or another, but not as it was written: file, what was expected and what was found.
    Damaged(String),
    /// Another run under the same name: the keys in which what is wanted (this) differs from what stands there (that).
    Other(Vec<Difference>),
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

    /// Whether a specification is noted here.
    pub fn is_begun(&self) -> bool {
        self.file("spec.json").exists() || self.is_whole()
    }

    /// Whether the manifest is there.
    pub fn is_whole(&self) -> bool {
        self.file(MANIFEST).exists()
    }

    /// The encoder's weights with torchvision's names.
    pub fn encoder_path(&self) -> PathBuf {
        self.file("encoder.safetensors")
    }

    /// The head's weights and state.
    pub fn head_path(&self) -> PathBuf {
        self.file("head.safetensors")
    }

    /// The state of an unfinished training; removed when the run is whole.
    pub fn checkpoint_path(&self) -> PathBuf {
        self.file("checkpoint.safetensors")
    }

    /// The lock of the run, and what stands beside it: the run's name with an ending, outside of its folder, which may be cleared.
    pub(crate) fn lock_path(&self, ending: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.parent().unwrap_or(Path::new("")).with_file_name(".locks").join(format!("{name}{ending}"))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What stands here, compared with `spec` and the data at hand.
    ///
    /// A run that has ended is a result, whatever computed it. One that has not goes on only where it was begun: on the same
    /// device with the same kernels.
    ///
    /// # Errors
    /// Files that cannot be read; what is wrong in them is a state.
    pub fn state(&self, spec: &RunSpec, data: &DataRecord) -> Result<RunState> {
        match self.undamaged_state(spec, data) {
            Err(error) if error.is_damage() => Ok(RunState::Damaged(error.to_string())),
            other => other,
        }
    }

    fn undamaged_state(&self, spec: &RunSpec, data: &DataRecord) -> Result<RunState> {
        if self.is_whole() {
            let manifest = self.intact_manifest()?;
            let mut differences = spec.differences(&manifest.spec);
            differences.retain(|difference| !difference.is_compute());
            if data.fingerprint != manifest.data.fingerprint {
                let [this, that] = [data, &manifest.data].map(|data| data.fingerprint.as_str().into());
                differences.push(Difference { key: "data fingerprint".into(), this, that });
            }
            return Ok(match differences.is_empty() {
                true => RunState::Whole(Box::new(manifest)),
                false => RunState::Other(differences),
            });
        }
        let failure = self.failure()?;
        if let Some(begun) = self.spec()? {
            let mut differences = spec.differences(&begun);
            differences.retain(|difference| failure.is_none() || !difference.is_compute());
            if !differences.is_empty() {
                return Ok(RunState::Other(differences));
            }
        }
        if failure.is_none() && self.checkpoint_path().exists() {
            TensorFile::read(&self.checkpoint_path())?.metadata()?;
        }
        Ok(failure.map_or(RunState::Open, RunState::Failed))
    }

    /// What is trained here, if that can be read at this moment: for a look at a run that another process holds.
    pub fn begun_as(&self) -> Option<RunSpec> {
        self.spec().ok().flatten()
    }

    /// What is trained here, if it was noted.
    pub(crate) fn spec(&self) -> Result<Option<RunSpec>> {
        let path = self.file("spec.json");
        path.exists().then(|| read_json(&path)).transpose()
    }

    /// Makes the folder and notes what is trained in it, so that a half-done run is never continued as another.
    pub fn begin(&self, spec: &RunSpec) -> Result<()> {
        write_json(&self.file("spec.json"), spec)
    }

    /// Removes the folder with everything in it.
    pub fn clear(&self) -> Result<()> {
        // The manifest goes first: a removal that is interrupted must not leave a run that looks whole.
        remove(&self.file(MANIFEST))?;
        remove(&self.path)
    }

    /// Reads the manifest, and checks its schema and that its content is what was written.
    pub fn manifest(&self) -> Result<Manifest> {
        let path = self.file(MANIFEST);
        // The schema is looked at first: another version may have other fields.
        let value: Value = read_json(&path)?;
        let schema = value.get("schema").unwrap_or(&Value::Null);
        if *schema != SCHEMA && *schema != UNSEALED {
            return Err(Error::OtherSchema { path, found: schema.to_string() });
        }
        let manifest: Manifest = serde_json::from_value(value).map_err(|error| Error::damaged(&path, error))?;
        if (manifest.schema, manifest.blake3.is_empty()) != (UNSEALED, true) && manifest.blake3 != manifest.digest() {
            return Err(Error::changed(&path, format!("content with BLAKE3 {}", manifest.blake3), manifest.digest()));
        }
        if manifest.spec_hash != manifest.spec.hash() {
            return Err(Error::damaged(&path, "its hash does not fit its specification"));
        }
        Ok(manifest)
    }

    /// Declares the run whole: writes the manifest with the checksums of all other files, then drops the checkpoint.
    pub fn finish(&self, manifest: &Manifest) -> Result<()> {
        let mut manifest = Manifest { files: self.files()?, blake3: String::new(), ..manifest.clone() };
        manifest.blake3 = manifest.digest();
        write_json(&self.file(MANIFEST), &manifest)?;
        remove(&self.checkpoint_path())
    }

    /// Length and checksum of the files that a whole run consists of, as far as they are there.
    fn files(&self) -> Result<BTreeMap<String, FileRecord>> {
        let names = FILES.into_iter().filter(|name| self.file(name).exists());
        names.map(|name| Ok((name.to_string(), FileRecord::of(&self.file(name))?))).collect()
    }

    /// Notes that the run stopped for good; its last good checkpoint stays.
    pub fn fail(&self, failure: &Failure) -> Result<()> {
        write_json(&self.file("failure.json"), failure)
    }

    /// The failure noted here, if any.
    pub fn failure(&self) -> Result<Option<Failure>> {
        let path = self.file("failure.json");
        path.exists().then(|| read_json(&path)).transpose()
    }
}

/// Changes whenever one of these runs ends anew; `None` where one has neither been made whole nor stopped for good.
pub fn digest_of_ended(runs: impl IntoIterator<Item = RunFolder>) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    for run in runs {
        let end = [MANIFEST, "failure.json"].into_iter().find_map(|name| std::fs::read(run.file(name)).ok())?;
        hasher.update(blake3::hash(&end).as_bytes());
    }
    Some(hasher.finalize().to_hex().to_string())
}

/// The folders below `<report_folder>/runs`, sorted by name; whether each is whole is for the caller to ask.
pub fn list_runs(report_folder: &Path) -> Result<Vec<RunFolder>> {
    let folder = report_folder.join("runs");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let paths = list_folder(&folder)?.into_iter().filter(|path| path.is_dir());
    Ok(paths.map(|path| RunFolder { path }).collect())
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write_atomically(path, |file| {
        serde_json::to_writer_pretty(&mut *file, value)?;
        file.write_all(b"\n")
    })
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::damaged(path, error))
}
