//! All runs of an experiment, on their way to whole folders.

use crate::{Error, Event, EventFn, ImageSets, Result, describe_machine, embed, run_work};
use faceoff_kernels::Arithmetic;
use faceoff_runs::{
    Compute, Difference, Experiment, Failure, Manifest, RunFolder, RunSpec, RunState, SCHEMA, Speed,
    SplitName,
};
use faceoff_training::{TrainingEnd, train};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// The runs of an experiment, with all that training them takes.
pub struct Job<'a> {
    /// What is trained.
    pub experiment: &'a Experiment,
    /// On what.
    pub images: &'a ImageSets,
    /// By what the encoder is computed.
    pub arithmetic: &'a Arithmetic,
    /// Commit of the sources of this program, for the manifest.
    pub commit: &'a str,
    /// The report folder; locked by whoever starts the job.
    pub folder: &'a Path,
}

/// Which runs of a job are not whole.
pub struct OpenRuns {
    /// Those to train.
    pub to_do: Vec<RunSpec>,
    /// How many runs the job has, whole or not.
    pub total: usize,
    /// Those that failed before and would again.
    pub failed: Vec<(RunSpec, Failure)>,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    /// All runs are whole, but for `failed` ones that diverged.
    Done {
        /// How many.
        failed: usize,
    },
    /// `stop` was raised; `done` runs were finished before.
    Stopped {
        /// How many.
        done: usize,
    },
}

/// Device and kernels of `arithmetic`, as the specifications of runs name them.
pub fn compute(arithmetic: &Arithmetic) -> Compute {
    Compute { device: arithmetic.device_name().into(), kernels: arithmetic.kernels_name().into() }
}

/// How a run ended.
enum RunEnd {
    Whole,
    Diverged,
    Stopped,
}

impl Job<'_> {
    /// The runs that are not whole yet.
    ///
    /// `force` clears away those that were made with another configuration or have failed, so that they are trained again.
    ///
    /// # Errors
    /// [`Error::OtherRuns`] where there are such runs and `force` is not given; files that cannot be read.
    pub fn open_runs(&self, force: bool) -> Result<OpenRuns> {
        let specs = RunSpec::of(self.experiment, &compute(self.arithmetic));
        let mut open = OpenRuns { to_do: Vec::new(), total: specs.len(), failed: Vec::new() };
        let mut others = Vec::new();
        for spec in specs {
            let run = RunFolder::new(self.folder, &spec);
            match run.state(&spec, self.images.of(&spec).record())? {
                RunState::Whole(_) => {}
                RunState::Open => open.to_do.push(spec),
                RunState::Failed(_) | RunState::Other(_) if force => {
                    run.clear()?;
                    open.to_do.push(spec);
                }
                RunState::Failed(failure) => open.failed.push((spec, failure)),
                RunState::Other(differences) => {
                    others.push(format!("{}: {}", run.path().display(), Difference::list(&differences)));
                }
            }
        }
        if others.is_empty() { Ok(open) } else { Err(Error::OtherRuns { runs: others }) }
    }

    /// Trains and embeds `runs`, one after the other. `stop` ends the job after the step at hand.
    ///
    /// # Errors
    /// Whatever ends a run but its divergence.
    pub fn complete(&self, runs: &[RunSpec], stop: &AtomicBool, on_event: EventFn) -> Result<JobEnd> {
        let work = runs.iter().map(|spec| {
            let data = self.images.of(spec).record();
            run_work(spec.training.epochs, data.train_images, data.val_images)
        });
        on_event(Event::Runs { count: runs.len(), work: work.sum() });
        let mut failed = 0;
        for (done, spec) in runs.iter().enumerate() {
            let images = self.images.of(spec).record().train_images;
            on_event(Event::Run { number: done + 1, spec, images });
            match self.complete_run(spec, stop, on_event)? {
                RunEnd::Whole => {}
                RunEnd::Diverged => failed += 1,
                RunEnd::Stopped => return Ok(JobEnd::Stopped { done }),
            }
        }
        on_event(Event::Finished);
        Ok(JobEnd::Done { failed })
    }

    /// One run, from its specification to a whole folder.
    fn complete_run(&self, spec: &RunSpec, stop: &AtomicBool, on_event: EventFn) -> Result<RunEnd> {
        let (folder, images) = (RunFolder::new(self.folder, spec), self.images.of(spec));
        let mut on_training = |event| on_event(Event::Training(event));
        let end = train(spec, &folder, images, self.arithmetic, stop, &mut on_training)
            .map_err(|error| Error::Training { run: spec.folder_name(), source: Box::new(error) })?;
        let (model, timing) = match end {
            TrainingEnd::Done(model, timing) => (model, timing),
            TrainingEnd::Stopped => return Ok(RunEnd::Stopped),
            TrainingEnd::Diverged(failure) => {
                on_event(Event::Diverged(&failure));
                return Ok(RunEnd::Diverged);
            }
        };

        let started = Instant::now();
        for split in SplitName::ALL {
            let total = images.items(split).len();
            let embeddings = embed(&model, images, split, spec.training.batch_size, stop, &mut |done| {
                on_event(Event::Embedded { split, done, total });
            })?;
            let Some(embeddings) = embeddings else { return Ok(RunEnd::Stopped) };
            folder.write_embeddings(split, &embeddings)?;
        }
        folder.finish(&Manifest {
            schema: SCHEMA,
            experiment: self.experiment.name.clone(),
            spec: spec.clone(),
            spec_hash: spec.hash(),
            data: images.record().clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            commit: self.commit.into(),
            machine: describe_machine(),
            speed: Speed {
                images_per_second: timing.images_per_second(),
                data_wait_share: timing.wait_share(),
            },
            seconds: [
                ("train".into(), timing.train_seconds),
                ("wait for data".into(), timing.wait_seconds),
                ("checkpoints".into(), timing.checkpoint_seconds),
                ("embed".into(), started.elapsed().as_secs_f64()),
            ]
            .into(),
            files: Default::default(),
        })?;
        Ok(RunEnd::Whole)
    }
}
