//! How the program was started: its name, its folders, and the experiments that it knows.

use anyhow::{Context, Result};
use faceoff_runs::{Error, Experiment, ExperimentFile};
use faceoff_training::EncoderPlan;
use std::path::{Path, PathBuf};

/// Commit of the sources that this program was built from, `-dirty` where they were changed, or `unknown`.
pub const COMMIT: &str = env!("FACEOFF_COMMIT");

/// Name and text of the experiments that are built in, so that the program needs no folder beside it.
const BUILT_IN: [(&str, &str); 11] = [
    ("heads-all", include_str!("../../../experiments/heads-all.toml")),
    ("imagewoof", include_str!("../../../experiments/imagewoof.toml")),
    ("label-noise", include_str!("../../../experiments/label-noise.toml")),
    ("parity", include_str!("../../../experiments/parity.toml")),
    ("quick", include_str!("../../../experiments/quick.toml")),
    ("recipe", include_str!("../../../experiments/recipe.toml")),
    ("reproduction", include_str!("../../../experiments/reproduction.toml")),
    ("reproduction-tuned", include_str!("../../../experiments/reproduction-tuned.toml")),
    ("scale-margin", include_str!("../../../experiments/scale-margin.toml")),
    ("smoke", include_str!("../../../experiments/smoke.toml")),
    ("unseen-breeds", include_str!("../../../experiments/unseen-breeds.toml")),
];

/// How the program was started.
#[derive(Debug, Clone)]
pub struct Program {
    /// What a user types before a command: `faceoff` or `cargo xtask`.
    pub name: &'static str,
    /// The folder of `experiments/`, `reports/` and `data/`; empty for the current folder.
    pub root: PathBuf,
}

/// Where an experiment comes from.
enum Origin {
    File(PathBuf),
    BuiltIn(&'static str),
}

impl Program {
    /// A folder or file below the root.
    pub fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// The experiment of a name, from `experiments/` or else as built in; or that of the file at a path that ends in
    /// `.toml`. Says on stderr which one it is.
    ///
    /// # Errors
    /// An unknown name, a file that cannot be read, an experiment that is not valid.
    pub fn experiment(&self, name_or_path: &str) -> Result<Experiment> {
        Ok(self.experiment_file(name_or_path)?.experiment)
    }

    /// The same with the places that its values come from.
    pub(crate) fn experiment_file(&self, name_or_path: &str) -> Result<ExperimentFile> {
        let path = Path::new(name_or_path);
        let mut file = match self.origin(name_or_path) {
            Some(Origin::File(path)) => {
                eprintln!("experiment: {}", path.display());
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                ExperimentFile::load(folder.unwrap_or(Path::new(".")), &name, &BUILT_IN)?
            }
            Some(Origin::BuiltIn(text)) => {
                eprintln!("experiment: {name_or_path}, as built into the program");
                ExperimentFile::parse(text, path, &BUILT_IN)?
            }
            None => {
                let known = self.experiment_names()?.join(", ");
                let path = self.path("experiments").join(format!("{name_or_path}.toml"));
                return Err(Error::UnknownExperiment { name: name_or_path.into(), path, known }.into());
            }
        };
        let name = file.experiment.name.clone();
        let context = || format!("experiment `{name}`");
        EncoderPlan::of(&file.experiment.training).with_context(context)?;
        file.experiment = faceoff_heads::resolve_experiment(file.experiment).with_context(context)?;
        Ok(file)
    }

    /// Whether there is an experiment of that name.
    pub(crate) fn has_experiment(&self, name: &str) -> bool {
        self.origin(name).is_some()
    }

    /// The names of the experiments in `experiments/` and of those built in, sorted.
    pub(crate) fn experiment_names(&self) -> Result<Vec<String>> {
        let folder = self.path("experiments");
        let mut names = if folder.is_dir() { Experiment::names(&folder)? } else { Vec::new() };
        names.extend(BUILT_IN.iter().map(|(name, _)| (*name).to_string()));
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn origin(&self, name_or_path: &str) -> Option<Origin> {
        let path = Path::new(name_or_path);
        if path.extension().is_some_and(|extension| extension == "toml") {
            return Some(Origin::File(path.to_path_buf()));
        }
        let file = self.path("experiments").join(format!("{name_or_path}.toml"));
        if file.is_file() {
            return Some(Origin::File(file));
        }
        BUILT_IN.iter().find(|(name, _)| *name == name_or_path).map(|(_, text)| Origin::BuiltIn(text))
    }

    /// A command as the user would type it.
    pub(crate) fn command(&self, words: &str) -> String {
        format!("{} {words}", self.name)
    }

    /// How a user gets a program with `feature` built in, and gives it a command.
    pub(crate) fn command_with_feature(&self, feature: &str, words: &str) -> String {
        match self.name {
            "faceoff" => {
                format!("cargo install --path crates/faceoff --features {feature} && faceoff {words}")
            }
            name => format!("{name}-{feature} {words}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_experiment_of_the_workspace_is_built_in() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        let built_in = BUILT_IN.map(|(name, _)| name.to_string());
        assert_eq!(Experiment::names(&folder).unwrap(), built_in);
    }
}
