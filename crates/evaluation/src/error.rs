//! The errors of this crate: each carries the path or run, the rule and the remedy.

use std::path::PathBuf;

/// The result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why runs could not be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to report.
    #[error("{folder} holds no whole run to report{left_out}; make runs with the command `benchmark {experiment}`")]
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
    /// A file could not be read.
    #[error("cannot {action} {path}: {source}{}", faceoff_runs::remedy(source))]
    Io {
        /// The attempted action, an infinitive.
        action: &'static str,
        /// What it was attempted on.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// What was measured of a run without embeddings cannot be used.
    #[error("{problem}, and the embeddings of {run} are not there to measure it again; copy the run once more")]
    Measured {
        /// The run's folder name.
        run: String,
        /// The file and what is wrong with it.
        problem: String,
    },
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
    /// The measured values could not be put into a table.
    #[error("the table of values could not be made: {source}")]
    Table {
        /// What the table library says.
        source: polars::error::PolarsError,
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
