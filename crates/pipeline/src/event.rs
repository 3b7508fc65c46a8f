//! The one protocol of progress: what a job says while it works.

use crate::Error;
use faceoff_runs::{Failure, RunSpec, SplitName};

/// What embedding an image costs, in training images: forward alone, not forward and backward.
pub const EMBEDDING_WORK: f64 = 1.0 / 3.0;

/// What training on an image of `side_px` costs, in images of `full_px`, `data.image_size_px`: its share of their pixels.
pub fn image_work(side_px: usize, full_px: usize) -> f64 {
    (side_px as f64 / full_px as f64).powi(2)
}

/// What a run costs, in training images of `data.image_size_px`.
pub fn run_work(spec: &RunSpec, train_images: usize, val_images: usize) -> f64 {
    let full_px = spec.data.image_size_px;
    let sides = spec.training.sides_px(full_px);
    let image: f64 = sides.iter().map(|&(side_px, share)| share * image_work(side_px, full_px)).sum();
    (spec.training.epochs * train_images) as f64 * image + EMBEDDING_WORK * (train_images + val_images) as f64
}

/// Something that happened.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Images are fetched, made or decoded: what is being done in a word or two, how much is done, how much there is (0
    /// where unknown). `download` counts bytes.
    Images(&'a str, u64, u64),
    /// Images are at hand, or will not be.
    ImagesEnd,
    /// A run failed before and would again; it is left out.
    FailedBefore(&'a RunSpec, &'a Failure),
    /// A run's head cannot work on its images; it is left out.
    Unfit(&'a RunSpec, &'a Failure),
    /// The files of a run are not as they were written, or another process left a run of another configuration: what is wrong. They are left
    /// alone.
    Damaged(&'a RunSpec, &'a str),
    /// The first run is about to begin: runs to do, runs in all, what those to do cost in training images.
    Runs(usize, usize, f64),
    /// A run begins: its number among those to do, from 1.
    Run(usize, &'a RunSpec),
    /// The run at hand is whole; its lock is still held.
    Whole(&'a RunSpec),
    /// A run that was to do was ended by another process: what it would have cost in training images.
    Elsewhere(&'a RunSpec, f64),
    /// All runs that are left are held by other processes, which are waited for: each run with its holder.
    Waiting(&'a [(&'a RunSpec, String)]),
    /// The training of the run at hand.
    Training(faceoff_training::Event<'a>),
    /// The run at hand stopped for good.
    Diverged(&'a RunSpec, &'a Failure),
    /// The run at hand ended with an error of its own; the others go on.
    Broken(&'a RunSpec, &'a Error),
    /// Images of the run at hand were embedded: how many so far, how many there are.
    Embedded(SplitName, usize, usize),
    /// No run is at hand any more: how many were finished, or failed.
    End(usize),
}

/// Hears the events of a job, on whichever thread they happen.
pub type EventFn<'a> = &'a (dyn Fn(Event<'_>) + Sync);
