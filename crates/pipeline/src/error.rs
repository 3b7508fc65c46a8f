//! The errors of this crate: each carries the value, the rule and the remedy.

/// What can go wrong between a specification and a whole run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An embedding holds NaN or infinity.
    #[error("the embedding of {id} is not finite; the training has diverged: lower its learning rate")]
    NotFinite {
        /// The image.
        id: String,
    },
    /// Folders hold runs of another specification, or on other images.
    #[error(
        "there are runs of another configuration (wanted, not found):\n  {}\nuse --force to replace them, or --out to keep both",
        .runs.join("\n  ")
    )]
    OtherRuns {
        /// Folder and differences of each.
        runs: Vec<String>,
    },
    /// A search has nothing to choose from.
    #[error("every trial of {head} diverged; lower tuning.peak_learning_rate")]
    AllDiverged {
        /// The variant.
        head: String,
    },
    /// A training failed.
    #[error("run {run}")]
    Training {
        /// The run's name.
        run: String,
        /// Why.
        source: Box<faceoff_training::Error>,
    },
    /// The images.
    #[error(transparent)]
    Data(#[from] faceoff_data::Error),
    /// The head.
    #[error(transparent)]
    Heads(#[from] faceoff_heads::Error),
    /// The encoder.
    #[error(transparent)]
    Kernels(#[from] faceoff_kernels::Error),
    /// Files of runs and experiments.
    #[error(transparent)]
    Runs(#[from] faceoff_runs::Error),
    /// Tensors.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}
