//! Batches made on background threads, in order, a few ahead of who takes them.

use crate::augment::Viewer;
use crate::cache::Store;
use crate::rows::Rows;
use crate::{Error, Item, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use faceoff_runs::AugmentationConfig;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Batches that a worker makes ahead.
const AHEAD: usize = 2;
/// More workers than this do not help: they share one memory.
const MOST_WORKERS: usize = 8;

/// Images and their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `(n, side, side, 3)`, RGB; empty where rows stand for the images.
    pub pixels: Vec<u8>,
    /// Side of the images; 0 where rows stand for them.
    pub side_px: usize,
    /// `(n, numbers)`, the rows that stand for the images; empty where there are images.
    pub rows: Vec<f32>,
    /// Class of each image: the labels trained on in training, the true ones in evaluation.
    pub labels: Vec<u32>,
}

/// What is made of the images.
#[derive(Debug, Clone, Copy)]
pub(crate) enum View {
    Train { seed: u64, epoch: usize },
    Eval,
}

/// What batches are made of.
pub(crate) enum Contents {
    Images(Store),
    Rows(Rows),
}

/// All that a worker needs.
pub(crate) struct Job {
    pub(crate) contents: Arc<Contents>,
    /// In the order of the batches.
    pub(crate) items: Vec<Item>,
    pub(crate) batch_size: usize,
    pub(crate) view: View,
    /// Side of the images, by batch.
    pub(crate) sides_px: Vec<usize>,
    pub(crate) augmentation: AugmentationConfig,
}

/// The batches of one pass over a split. Dropping it ends its threads.
pub struct Loader {
    /// Worker w makes batches w, w + W, w + 2 W, ...: so they come in order without any sorting.
    workers: Vec<Receiver<Result<Batch>>>,
    next: usize,
    batches: usize,
    waited: Duration,
}

impl Loader {
    pub(crate) fn start(job: Job) -> Result<Self> {
        let batches = job.sides_px.len();
        let count = rayon::current_num_threads().clamp(1, MOST_WORKERS).min(batches.max(1));
        let job = Arc::new(job);
        let mut workers = Vec::with_capacity(count);
        for worker in 0..count {
            let (sender, receiver) = bounded(AHEAD);
            let job = job.clone();
            std::thread::Builder::new()
                .name(format!("images {worker}"))
                .spawn(move || work(&job, worker, count, batches, &sender))
                .map_err(Error::io("start a thread for", "the images"))?;
            workers.push(receiver);
        }
        Ok(Self { workers, next: 0, batches, waited: Duration::ZERO })
    }

    /// Seconds that the taker has waited for batches so far.
    pub fn wait_seconds(&self) -> f64 {
        self.waited.as_secs_f64()
    }
}

impl Iterator for Loader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.batches {
            return None;
        }
        let started = Instant::now();
        let batch = self.workers[self.next % self.workers.len()].recv().expect("a worker makes all its batches");
        self.waited += started.elapsed();
        self.next = if batch.is_ok() { self.next + 1 } else { self.batches };
        Some(batch)
    }
}

fn work(job: &Job, worker: usize, workers: usize, batches: usize, sender: &Sender<Result<Batch>>) {
    let mut viewer = Viewer::new(0, &job.augmentation);
    let mut buffer = Vec::new();
    for batch in (worker..batches).step_by(workers) {
        // Nobody takes batches any more once the loader is dropped.
        if sender.send(make(job, batch, &mut viewer, &mut buffer)).is_err() {
            return;
        }
    }
}

fn make(job: &Job, batch: usize, viewer: &mut Viewer, buffer: &mut Vec<u8>) -> Result<Batch> {
    let end = job.items.len().min((batch + 1) * job.batch_size);
    let items = &job.items[batch * job.batch_size..end];
    let (mut pixels, mut rows, mut side_px) = (Vec::new(), Vec::new(), 0);
    match &*job.contents {
        Contents::Images(store) => {
            side_px = job.sides_px[batch];
            viewer.size_px = side_px;
            let bytes = side_px * side_px * 3;
            pixels.resize(items.len() * bytes, 0);
            for (item, out) in items.iter().zip(pixels.chunks_exact_mut(bytes)) {
                store.with(item.stored, buffer, |image| match job.view {
                    View::Train { seed, epoch } => viewer.train(image, (seed, epoch, &item.id), out),
                    View::Eval => viewer.eval(image, out),
                })?;
            }
        }
        Contents::Rows(stored) => items.iter().try_for_each(|item| stored.read(item.stored, buffer, &mut rows))?,
    }
    Ok(Batch { pixels, side_px, rows, labels: items.iter().map(|item| item.label).collect() })
}
