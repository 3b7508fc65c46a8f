//! The errors of this crate: each carries the value, the rule and the remedy.

/// What can go wrong between a specification and a whole run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Folders hold runs of another specification, or on other images: folder and differences of each.
    #[error(
        "there are runs of another configuration (wanted, not found):\n  {}\nuse --force to replace them, or --out to keep both",
        .0.join("\n  ")
    )]
    OtherRuns(Vec<String>),
    /// The scores of a validation split take too much memory.
    #[error(
        "the {images} {split} images by {classes} classes make {} scores, but at most {most} are kept, and measures need them all; \
         take fewer validation images (own_split.validation_share, data.images_per_split) or fewer classes",
        .images * .classes
    )]
    TooManyScores {
        /// The split's name.
        split: &'static str,
        /// Images of it.
        images: usize,
        /// Classes that each is scored for.
        classes: usize,
        /// Scores that can be kept.
        most: usize,
    },
    /// A search has nothing to choose from for a head.
    #[error("every trial of {0} diverged; lower tuning.peak_learning_rate")]
    AllDiverged(String),
    /// A run could not be trained or embedded.
    #[error("run {0}")]
    Run(String, #[source] Box<faceoff_training::Error>),
    /// The images.
    #[error(transparent)]
    Data(#[from] faceoff_data::Error),
    /// Files of runs and experiments.
    #[error(transparent)]
    Runs(#[from] faceoff_runs::Error),
}

impl Error {
    /// Whether it comes from the run itself, so that the others may do better.
    pub(crate) fn is_of_one_run(&self) -> bool {
        use faceoff_training::Error::{Heads, NotFinite, Runs, Weights};
        match self {
            Self::Run(_, error) => match error.as_ref() {
                Heads(_) | NotFinite(_) | Weights { .. } => true,
                Runs(error) => error.is_damage(),
                _ => false,
            },
            _ => false,
        }
    }
}
