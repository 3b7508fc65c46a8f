//! The one protocol of progress: what a job says while it works.

use faceoff_runs::{DataRecord, Failure, RunSpec, SplitName};

/// What embedding an image costs, in training images: forward alone, not forward and backward.
pub const EMBEDDING_WORK: f64 = 1.0 / 3.0;

/// What a run costs, in training images.
pub fn run_work(epochs: usize, train_images: usize, val_images: usize) -> f64 {
    (epochs * train_images) as f64 + EMBEDDING_WORK * (train_images + val_images) as f64
}

/// Something that happened. All counts of runs, epochs and steps start from 1.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Images are fetched, made or decoded.
    Images {
        /// What is being done, in a word or two; `download` counts bytes.
        phase: &'a str,
        /// How much is done.
        done: u64,
        /// How much there is; 0 where unknown.
        total: u64,
    },
    /// The images of one `[data]` are at hand.
    ImagesReady(&'a DataRecord),
    /// The first run is about to begin.
    Runs {
        /// How many will be trained.
        count: usize,
        /// What they cost, in training images.
        work: f64,
    },
    /// A run begins.
    Run {
        /// Its number among those to do.
        number: usize,
        /// What is trained.
        spec: &'a RunSpec,
        /// On how many images.
        images: usize,
    },
    /// The training of the run at hand.
    Training(faceoff_training::Event),
    /// The run at hand stopped for good.
    Diverged(&'a Failure),
    /// Images of the run at hand were embedded.
    Embedded {
        /// Which ones.
        split: SplitName,
        /// How many so far.
        done: usize,
        /// How many there are.
        total: usize,
    },
    /// All runs are done.
    Finished,
}

/// Hears the events of a job, on whichever thread they happen.
pub type EventFn<'a> = &'a (dyn Fn(Event<'_>) + Sync);
