//! The errors of this crate: each carries the path or run, the rule and the remedy.

use std::path::PathBuf;

/// The result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why runs could not be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to report.
    #[error(
        "{folder} holds no whole run to report{left_out}; make runs with: cargo xtask benchmark {experiment}"
    )]
    NoWholeRuns {
        /// Where runs were looked for.
        folder: PathBuf,
        /// What stands there instead, as ` (...)`, or nothing.
        left_out: String,
        /// The experiment.
        experiment: String,
    },
    /// A run's files could not be read.
    #[error(transparent)]
    Runs(#[from] faceoff_runs::Error),
    /// Two runs of one configuration saw different images.
    #[error(
        "runs {first} and {second} do not hold the same {split} images in the same order, although their data fingerprints agree; \
         remove one of the two folders and run the benchmark again"
    )]
    ImagesDiffer {
        /// One run's folder name.
        first: String,
        /// The other's.
        second: String,
        /// The split.
        split: &'static str,
    },
    /// External embeddings or labels do not do.
    #[error("{path}: {problem}")]
    Embeddings {
        /// The file.
        path: PathBuf,
        /// What is wrong, the rule and the remedy.
        problem: String,
    },
    /// No family has such a metric.
    #[error("no metric `{name}`; there are: {known}")]
    UnknownMetric {
        /// The name asked for.
        name: String,
        /// The ids of all rows.
        known: String,
    },
}
