//! The errors of this crate: each carries the value or path, the rule and the remedy.

use std::io::ErrorKind;
use std::path::PathBuf;

/// What can go wrong with files that describe or hold runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {path}: {source}{}", remedy(source))]
    Io {
        /// The attempted action, an infinitive.
        action: &'static str,
        /// What it was attempted on.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A matrix or table of another program cannot be used.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// An experiment file is not valid TOML or has a wrong, missing or unknown key.
    #[error("{path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line and what is wrong there.
        message: String,
    },
    /// A value breaks a rule of the experiment.
    #[error("`{key}` is {value}, but {rule}")]
    Value {
        /// The key's full name.
        key: String,
        /// The value found.
        value: String,
        /// The rule, and the remedy where it does not follow from it.
        rule: String,
    },
    /// No such experiment.
    #[error("no experiment `{name}`: {path} does not exist; there are: {known}{}", did_you_mean(name, known.split(", ")))]
    UnknownExperiment {
        /// The name asked for.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
        /// The names that exist.
        known: String,
    },
    /// A head asked for is not part of the experiment.
    #[error("no head `{name}` in experiment `{experiment}`; it has: {known}{}", did_you_mean(name, known.split(", ")))]
    UnknownHead {
        /// The name asked for.
        name: String,
        /// The experiment.
        experiment: String,
        /// Its variants.
        known: String,
    },
    /// A file of a run is damaged or of another version.
    #[error(
        "{path} is damaged or of another version: {problem}; bring {folder} back from a copy, or train the run again with \
         `benchmark --force`"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The run's folder.
        folder: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file is not what was written.
    #[error(
        "{path} is damaged or was changed: expected {expected}, found {found}; bring it back from a copy, or train the run \
         again with `benchmark --force`"
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Length and checksum when it was written, or the checksum alone.
        expected: String,
        /// The same as it is now.
        found: String,
    },
    /// A manifest of another version of the run contract.
    #[error(
        "{path} is of version {found} of the run contract, this program reads versions {} and {}; train the run again with \
         `benchmark --force`, or make its report with the version of Faceoff that trained it",
        crate::manifest::UNSEALED,
        crate::SCHEMA
    )]
    OtherSchema {
        /// The manifest.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// A file system without locks.
    #[error(
        "cannot lock {path}: {source}; the file system of this folder gives no locks (flock), without which two processes may train one run: \
         mount it with them (NFS 4, or NFS 3 with lockd; Lustre with -o flock), or choose a folder elsewhere with --out or --cache"
    )]
    NoLocks {
        /// The lock file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Another process works on the folder.
    #[error("{folder} is in use by another report or export; wait for it to end, or choose another folder with --out")]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
}

/// What a user can do about an answer of the system, to stand behind it in a message; empty where nothing is known.
pub fn remedy(answer: &std::io::Error) -> &'static str {
    match answer.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "; free some space, then run the same command again"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "; check who may read and write there, or choose another folder"
        }
        ErrorKind::NotFound => "; check the path",
        _ => "",
    }
}

/// `; did you mean ...?` with the known name that is nearest to an unknown one, to stand behind a message; empty where none is
/// near: where more than half of its letters would have to change.
pub fn did_you_mean<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let unknown = unknown.to_lowercase();
    let distance = |known: &str| (strsim::damerau_levenshtein(&unknown, &known.to_lowercase()), known.chars().count());
    let nearest = known.into_iter().map(|known| (distance(known), known)).min();
    match nearest {
        Some(((changes, letters), known)) if 2 * changes <= letters => format!("; did you mean `{known}`?"),
        _ => String::new(),
    }
}

impl Error {
    /// Whether it is about one run's files, so that other runs may go on.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Changed { .. } | Self::OtherSchema { .. })
    }

    /// An [`Error::Changed`].
    pub(crate) fn changed(path: &std::path::Path, expected: impl ToString, found: impl ToString) -> Self {
        Self::Changed { path: path.to_path_buf(), expected: expected.to_string(), found: found.to_string() }
    }

    /// An [`Error::Io`] for `map_err`.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// An [`Error::File`].
    pub(crate) fn file(path: &std::path::Path, problem: impl ToString) -> Self {
        Self::File { path: path.to_path_buf(), problem: problem.to_string() }
    }

    /// An [`Error::Value`].
    pub(crate) fn value(key: impl Into<String>, value: impl ToString, rule: impl Into<String>) -> Self {
        Self::Value { key: key.into(), value: value.to_string(), rule: rule.into() }
    }

    /// An [`Error::Damaged`] for a file inside a run's folder.
    pub(crate) fn damaged(path: &std::path::Path, problem: impl ToString) -> Self {
        let folder = path.parent().unwrap_or(path).to_path_buf();
        Self::Damaged { path: path.to_path_buf(), folder, problem: problem.to_string() }
    }
}
