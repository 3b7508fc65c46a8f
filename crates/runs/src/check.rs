//! Whether a run still is what was measured: its files against the checksums of its manifest, and against one another.
//!
//! ```text
//! intact_manifest    what a benchmark or a report reads of a run, in some milliseconds
//! verify             everything: all contents, the numbers in them, and what the files say of each other
//! ```

use crate::manifest::MANIFEST;
use crate::{Error, Failure, FileRecord, Manifest, Result, RunFolder, SplitName, TensorFile};

/// The files of a whole run whose checksums the manifest lists. What is measured later has checksums of its own.
pub(crate) const FILES: [&str; 12] = [
    "spec.json",
    "history.csv",
    "encoder.safetensors",
    "head.safetensors",
    "images-train.csv",
    "images-val.csv",
    "embeddings-train.safetensors",
    "embeddings-val.safetensors",
    "images-seen-train.csv",
    "images-seen-val.csv",
    "embeddings-seen-train.safetensors",
    "embeddings-seen-val.safetensors",
];
/// Of these what an exported run has not: weights and embeddings, and the images that these are of.
const NOT_EXPORTED: &[&str] = FILES.split_at(2).1;
/// Most of a run's bytes, which neither a benchmark nor a report reads: of these only the length is looked at each time.
const WEIGHTS: &str = "encoder.safetensors";

/// What stands in the folder of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Contents {
    /// A whole run: how many files, and their bytes.
    Whole(usize, u64),
    /// A whole run without weights and embeddings, as `runs export` writes it.
    Exported,
    /// A run that stopped for good.
    Failed(Failure),
    /// A run that is not whole yet, and whether it has a checkpoint to go on from.
    Unfinished(bool),
}

impl RunFolder {
    /// The manifest of a whole run, if the run still is what it was when it became whole, as far as benchmarks and reports read
    /// it: all files are there with their length, and all contents but the encoder's weights are those that the manifest lists.
    ///
    /// # Errors
    /// [`Error::Changed`] with the file, what was expected and what was found; those of [`RunFolder::manifest`].
    pub fn intact_manifest(&self) -> Result<Manifest> {
        let manifest = self.manifest()?;
        for (name, expected) in self.files_of(&manifest) {
            match (name == WEIGHTS, std::fs::metadata(self.file(name))) {
                (true, Ok(metadata)) if metadata.len() == expected.bytes => {}
                _ => self.check_content(name, expected)?,
            }
        }
        Ok(manifest)
    }

    /// Checks all that can be checked: the contents of every file, the numbers in them, and that they fit each other.
    ///
    /// # Errors
    /// What is wrong, with the file.
    pub fn verify(&self) -> Result<Contents> {
        if !self.is_whole() {
            if let Some(failure) = self.failure()? {
                return Ok(Contents::Failed(failure));
            }
            self.spec()?;
            let checkpoint = self.checkpoint_path();
            if checkpoint.exists() {
                TensorFile::read(&checkpoint)?.metadata()?;
            }
            return Ok(Contents::Unfinished(checkpoint.exists()));
        }
        let manifest = self.manifest()?;
        let (mut files, mut bytes) = (0, 0);
        for (name, expected) in self.files_of(&manifest) {
            self.check_content(name, expected)?;
            (files, bytes) = (files + 1, bytes + expected.bytes);
            if name.ends_with(".safetensors") {
                TensorFile::read(&self.file(name))?.tensors()?;
            }
        }
        let spec = self.file("spec.json");
        if self.spec()?.as_ref() != Some(&manifest.spec) {
            return Err(Error::damaged(&spec, "it is not the specification that the manifest has"));
        }
        self.history(&manifest)?;
        if self.is_exported(&manifest) {
            return Ok(Contents::Exported);
        }
        let [train, val] = [self.embeddings(&manifest, SplitName::Train)?, self.embeddings(&manifest, SplitName::Val)?];
        if (train.dim, train.classes) != (val.dim, val.classes) {
            let problem = "its dimensions or classes are not those of the training images' embeddings";
            return Err(Error::damaged(&self.file("embeddings-val.safetensors"), problem));
        }
        self.seen_embeddings(&manifest)?;
        Ok(Contents::Whole(files, bytes))
    }

    /// Whether weights and embeddings are left out, all of them, as in an exported run.
    pub fn is_exported(&self, manifest: &Manifest) -> bool {
        let mut large = NOT_EXPORTED.iter().filter(|name| manifest.files.contains_key(**name)).peekable();
        large.peek().is_some() && large.all(|name| !self.file(name).exists())
    }

    /// The files that have to be there, with what the manifest says of them.
    fn files_of<'a>(&self, manifest: &'a Manifest) -> impl Iterator<Item = (&'static str, &'a FileRecord)> {
        let exported = self.is_exported(manifest);
        let names = FILES.into_iter().filter(move |name| !(exported && NOT_EXPORTED.contains(name)));
        names.filter_map(|name| Some((name, manifest.files.get(name)?)))
    }

    fn check_content(&self, name: &str, expected: &FileRecord) -> Result<()> {
        let path = self.file(name);
        let found = match FileRecord::of(&path) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => "no such file".into(),
            found => match found? {
                found if found == *expected => return Ok(()),
                found => found.to_string(),
            },
        };
        Err(Error::changed(&path, expected, found))
    }

    /// The bytes of a file of a whole run, if they are those that the manifest lists.
    pub(crate) fn read_listed(&self, manifest: &Manifest, name: &str) -> Result<Vec<u8>> {
        let path = self.file(name);
        let unlisted = || Error::damaged(&self.file(MANIFEST), format!("it lists no {name}"));
        let expected = manifest.files.get(name).ok_or_else(unlisted)?;
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let found = FileRecord::of_bytes(&bytes);
        if found == *expected { Ok(bytes) } else { Err(Error::changed(&path, expected, found)) }
    }
}
