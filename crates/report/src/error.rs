//! The errors of this crate: each carries the path or run, the rule and the remedy.

use std::path::PathBuf;

/// The result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a report could not be written.
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
    /// A run's files could not be read, or the report's could not be written.
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
    /// A file of the report could not be removed or read.
    #[error("cannot {action} {path}: {source}; close programs that use it and make the report again")]
    Io {
        /// The attempted action, an infinitive.
        action: &'static str,
        /// What it was attempted on.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Embeddings or labels from elsewhere do not do.
    #[error("{path}: {problem}")]
    Embeddings {
        /// The file.
        path: PathBuf,
        /// What is wrong, the rule and the remedy.
        problem: String,
    },
    /// A table could not be put together.
    #[error("the table {table} could not be made: {source}")]
    Table {
        /// The table's file name.
        table: String,
        /// What the table library says.
        source: polars::error::PolarsError,
    },
    /// A picture could not be drawn.
    #[error("the picture {picture} could not be drawn: {reason}")]
    Picture {
        /// The picture's file name.
        picture: String,
        /// What the plotting library says.
        reason: String,
    },
}
