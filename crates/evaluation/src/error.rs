//! The errors of this crate: each carries the path or run, the rule and the remedy.

use std::path::{Path, PathBuf};

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
    /// Files could not be read or written.
    #[error(transparent)]
    Runs(#[from] faceoff_runs::Error),
    /// The files of one run, by its folder's name, could not be read.
    #[error("{1}")]
    Run(String, #[source] faceoff_runs::Error),
    /// What was measured of a run without embeddings cannot be used: the run's folder name, the file and what is wrong with it.
    #[error("{1}, and the embeddings of {0} are not there to measure it again; copy the run once more")]
    Measured(String, String),
    /// Two runs of one configuration, by their folders' names, saw different images.
    #[error(
        "runs {0} and {1} do not hold the same val images in the same order, although their data fingerprints agree; \
         remove one of the two folders and run the benchmark again"
    )]
    ImagesDiffer(String, String),
    /// External embeddings or labels do not do: the file, and what is wrong, the rule and the remedy.
    #[error("{0}: {1}")]
    Embeddings(PathBuf, String),
    /// The measured values could not be put into a table.
    #[error("the table of values could not be made: {0}")]
    Table(#[from] polars::error::PolarsError),
    /// No family has a metric of this name; and the ids of all rows.
    #[error("no metric `{0}`; there are: {1}")]
    UnknownMetric(String, String),
}

impl Error {
    pub(crate) fn embeddings(path: &Path, problem: String) -> Self {
        Self::Embeddings(path.to_path_buf(), problem)
    }
}
