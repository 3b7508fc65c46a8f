//! The errors of this crate: each carries the value, the rule and the remedy.

/// What can go wrong between a specification and a whole run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The embedding of an image holds NaN or infinity.
    #[error("the embedding of {0} is not finite; the training has diverged: lower its learning rate")]
    NotFinite(String),
    /// Folders hold runs of another specification, or on other images: folder and differences of each.
    #[error(
        "there are runs of another configuration (wanted, not found):\n  {}\nuse --force to replace them, or --out to keep both",
        .0.join("\n  ")
    )]
    OtherRuns(Vec<String>),
    /// A search has nothing to choose from for a head.
    #[error("every trial of {0} diverged; lower tuning.peak_learning_rate")]
    AllDiverged(String),
    /// The training of a run failed.
    #[error("run {0}")]
    Training(String, #[source] Box<faceoff_training::Error>),
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
