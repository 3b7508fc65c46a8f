//! The errors of this crate.

use std::path::PathBuf;

/// What can go wrong while training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The training split is smaller than a batch.
    #[error("{images} training images make no batch of {batch_size}; lower training.batch_size or add images")]
    TooFewImages {
        /// Images of the split.
        images: usize,
        /// Images a batch.
        batch_size: usize,
    },
    /// The average of the weights would stay at their start.
    #[error(
        "training.ema updates the average after every {every_steps}th step, but the training has {steps}; lower every_steps, or leave `ema` out"
    )]
    NoUpdate {
        /// Steps from one update to the next.
        every_steps: usize,
        /// Steps of the training.
        steps: usize,
    },
    /// The embedding of an image or its scores hold NaN or infinity.
    #[error("the embedding of {0} or its scores are not finite; the training has diverged: lower its learning rate")]
    NotFinite(String),
    /// A file of weights or a checkpoint cannot be used.
    #[error("{path} cannot be used: {problem}; train the run again with `benchmark --force`")]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Weights of another program do not fit the encoder.
    #[error(
        "{path} cannot start the encoder {encoder}: {problem}; it must be safetensors with torchvision's names and shapes of that encoder, \
         where fc.* is ignored"
    )]
    Pretrained {
        /// The file.
        path: PathBuf,
        /// The encoder's name.
        encoder: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The run's folder.
    #[error(transparent)]
    Runs(#[from] faceoff_runs::Error),
    /// The images.
    #[error(transparent)]
    Data(#[from] faceoff_data::Error),
    /// The head.
    #[error(transparent)]
    Heads(#[from] faceoff_heads::Error),
    /// The encoder.
    #[error(transparent)]
    Kernels(#[from] faceoff_kernels::Error),
    /// The loss.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}
