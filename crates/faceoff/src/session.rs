//! What `benchmark` and `tune` share: Ctrl-C, images opened, runs trained, all of it shown.

use crate::progress::Progress;
use anyhow::{Context, Result};
use faceoff_data::ImageSource;
use faceoff_pipeline::{ImageSets, Job, JobEnd, OpenRuns};
use faceoff_runs::Experiment;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// A session of training.
///
/// While runs are trained the first Ctrl-C ends the session after the step at hand, and a second one at once. Before and
/// after, when images are prepared and the report is written, it ends at once: every file is written whole or not at all,
/// and what is half-done is cleared away by the next command.
pub(crate) struct Session {
    progress: Progress,
    stop: Arc<AtomicBool>,
    training: Arc<AtomicBool>,
}

impl Session {
    /// Begins to hear Ctrl-C.
    pub(crate) fn start() -> Result<Self> {
        let session = Self { progress: Progress::new(), stop: Arc::default(), training: Arc::default() };
        let (stop, training) = (session.stop.clone(), session.training.clone());
        ctrlc::set_handler(move || {
            if !training.load(Ordering::Relaxed) || stop.swap(true, Ordering::Relaxed) {
                eprintln!("stopped; run the same command to go on");
                std::process::exit(INTERRUPTED.into());
            }
            eprintln!(
                "stopping after this step; the last finished epoch is kept (Ctrl-C again to stop at once)"
            );
        })
        .context("Ctrl-C cannot be caught")?;
        Ok(session)
    }

    /// The images of an experiment.
    pub(crate) fn open_images(
        &self,
        experiment: &Experiment,
        source: &ImageSource,
    ) -> faceoff_pipeline::Result<ImageSets> {
        let images = ImageSets::open(experiment, source, &|event| self.progress.on_event(event));
        self.progress.clear();
        let images = images?;
        for md5 in images.records().filter_map(|record| record.archive_md5.as_ref()) {
            if let Some(archive) = &source.archive {
                eprintln!("{}: md5 {md5}", archive.display());
            }
        }
        Ok(images)
    }

    /// Trains and embeds every run that is not whole yet, and says how many failed; `None` where Ctrl-C ended it.
    pub(crate) fn complete(&self, job: &Job, force: bool) -> Result<Option<usize>> {
        let OpenRuns { to_do, total, failed } = job.open_runs(force)?;
        for (spec, failure) in failed {
            eprintln!(
                "{} failed before at epoch {} and would again ({}); change the experiment, or use --force to see it",
                spec.folder_name(),
                failure.epoch,
                failure.message
            );
        }
        let name = &job.experiment.name;
        for set in job.images.records() {
            eprintln!("{name}: {} ({} + {} images)", set.name, set.train_images, set.val_images);
        }
        eprintln!(
            "{name}: {} px on {}, {} threads; {} of {total} runs to do",
            job.experiment.data.image_size_px,
            job.arithmetic,
            rayon::current_num_threads(),
            to_do.len(),
        );
        self.training.store(true, Ordering::Relaxed);
        let end = job.complete(&to_do, &self.stop, &|event| self.progress.on_event(event))?;
        self.training.store(false, Ordering::Relaxed);
        Ok(match end {
            JobEnd::Done { failed } => Some(failed),
            JobEnd::Stopped { done } => {
                eprintln!("stopped: {done} of {} runs done; run the same command to go on", to_do.len());
                None
            }
        })
    }
}

/// The exit status of a command that Ctrl-C ended.
pub(crate) fn interrupted() -> ExitCode {
    ExitCode::from(INTERRUPTED)
}
