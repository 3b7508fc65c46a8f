//! All runs of an experiment, on their way to whole folders.

use crate::embed::embed;
use crate::{Error, Event, EventFn, ImageSets, Result, describe_machine, run_work};
use candle_core::{DType, Device};
use faceoff_kernels::Arithmetic;
use faceoff_runs::{
    Compute, Difference, Experiment, Failure, Manifest, RunFolder, RunSpec, RunState, SCHEMA, Speed, SplitName,
};
use faceoff_training::{EncoderPlan, TrainingEnd, train};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// The runs of an experiment, with all that training them takes.
pub struct Job<'a> {
    /// What is trained.
    pub experiment: &'a Experiment,
    /// On what.
    pub images: &'a ImageSets,
    /// What computes it.
    pub arithmetic: &'a Arithmetic,
    /// Commit of the sources of this program, for the manifest.
    pub commit: &'a str,
    /// The report folder; locked by whoever starts the job.
    pub folder: &'a Path,
}

/// How a run ended.
enum RunEnd {
    Whole,
    Diverged,
    Stopped,
}

impl Job<'_> {
    /// Trains and embeds every run that is not whole yet: how many are damaged or failed, or `None` where `stop` was raised,
    /// which ends the job after the step at hand. A run whose head cannot work on the images is left out.
    ///
    /// `force` clears away those that were made with another configuration, are damaged or have failed, and trains them again.
    ///
    /// # Errors
    /// [`Error::OtherRuns`] where there are runs of another configuration and `force` is not given; what ends a run and would end
    /// the others too, like a full disk.
    pub fn complete(&self, force: bool, stop: &AtomicBool, on_event: EventFn) -> Result<Option<usize>> {
        let (device, kernels) = (self.arithmetic.device_name().into(), self.arithmetic.kernels_name().into());
        let specs = RunSpec::of(self.experiment, &Compute { device, kernels });
        let (open, mut failed) = self.open_runs(&specs, force, on_event)?;
        let work = open.iter().map(|spec| {
            let data = self.images.of(spec).record();
            run_work(spec.training.epochs, data.train_images, data.val_images)
        });
        on_event(Event::Runs(open.len(), specs.len(), work.sum()));
        for (done, spec) in open.iter().enumerate() {
            on_event(Event::Run(done + 1, spec));
            match self.complete_run(spec, stop, on_event) {
                Ok(RunEnd::Whole) => {}
                Ok(RunEnd::Diverged) => failed += 1,
                Ok(RunEnd::Stopped) => {
                    on_event(Event::End(done));
                    return Ok(None);
                }
                Err(error) if error.is_of_one_run() => {
                    on_event(Event::Broken(spec, &error));
                    failed += 1;
                }
                Err(error) => {
                    on_event(Event::End(done));
                    return Err(error);
                }
            }
        }
        on_event(Event::End(open.len()));
        Ok(Some(failed))
    }

    /// The runs that are to be trained, and how many are damaged.
    fn open_runs<'a>(&self, specs: &'a [RunSpec], force: bool, on_event: EventFn) -> Result<(Vec<&'a RunSpec>, usize)> {
        let (mut open, mut others, mut damaged) = (Vec::new(), Vec::new(), 0);
        for spec in specs {
            let run = RunFolder::new(self.folder, spec);
            match run.state(spec, self.images.of(spec).record())? {
                RunState::Whole(_) => {}
                RunState::Damaged(problem) if !force => {
                    on_event(Event::Damaged(spec, &problem));
                    damaged += 1;
                }
                RunState::Other(differences) if !force => {
                    others.push(format!("{}: {}", run.path().display(), Difference::list(&differences)));
                }
                RunState::Failed(failure) if !force && failure.epoch > 0 => {
                    on_event(Event::FailedBefore(spec, &failure));
                }
                state => {
                    if state != RunState::Open {
                        run.clear()?;
                    }
                    match self.unfit(spec)? {
                        Some(failure) => {
                            run.begin(spec)?;
                            run.fail(&failure)?;
                            on_event(Event::Unfit(spec, &failure));
                        }
                        None => open.push(spec),
                    }
                }
            }
        }
        if others.is_empty() { Ok((open, damaged)) } else { Err(Error::OtherRuns(others)) }
    }

    /// Why the head of a run cannot work on its images, if it cannot.
    fn unfit(&self, spec: &RunSpec) -> Result<Option<Failure>> {
        let RunSpec { training, variant, seed, .. } = spec;
        let encoder = EncoderPlan::of(training).map_err(|error| Error::Run(spec.folder_name(), Box::new(error)))?;
        let (dim, classes, kind) = (encoder.dim(), self.images.of(spec).classes(), variant.head.kind());
        let head =
            faceoff_heads::build(&variant.head, dim, classes, training.head_init, *seed, &Device::Cpu, DType::F32);
        Ok(head.err().map(|error| Failure {
            spec_hash: spec.hash(),
            head: kind.into(),
            epoch: 0,
            step: 0,
            learning_rate: 0.0,
            message: error.to_string(),
        }))
    }

    /// One run, from its specification to a whole folder.
    fn complete_run(&self, spec: &RunSpec, stop: &AtomicBool, on_event: EventFn) -> Result<RunEnd> {
        let (folder, images) = (RunFolder::new(self.folder, spec), self.images.of(spec));
        let mut on_training = |event: faceoff_training::Event<'_>| on_event(Event::Training(event));
        let failed = |error| Error::Run(spec.folder_name(), Box::new(error));
        let end = train(spec, &folder, images, self.arithmetic, stop, &mut on_training).map_err(failed)?;
        let (model, timing) = match end {
            TrainingEnd::Done(model, timing) => (model, timing),
            TrainingEnd::Stopped => return Ok(RunEnd::Stopped),
            TrainingEnd::Diverged(failure) => {
                on_event(Event::Diverged(spec, &failure));
                return Ok(RunEnd::Diverged);
            }
        };

        let started = Instant::now();
        let seen = images.evaluates_unseen_classes().then_some(SplitName::SEEN);
        for pair in [SplitName::ALL].into_iter().chain(seen) {
            let mut train = None;
            for split in pair {
                let total = images.items(split).len();
                let mut on_image = |done| on_event(Event::Embedded(split, done, total));
                let batch_size = spec.training.batch_size;
                let embeddings = embed(&model, images, split, train.as_ref(), batch_size, stop, &mut on_image);
                let embeddings = embeddings.map_err(failed)?;
                let Some(embeddings) = embeddings else { return Ok(RunEnd::Stopped) };
                folder.write_embeddings(split, &embeddings)?;
                train.get_or_insert(embeddings);
            }
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
            speed: Speed { images_per_second: timing.images_per_second(), data_wait_share: timing.wait_share() },
            seconds: [
                ("train".into(), timing.train_seconds),
                ("wait for data".into(), timing.wait_seconds),
                ("checkpoints".into(), timing.checkpoint_seconds),
                ("embed".into(), started.elapsed().as_secs_f64()),
            ]
            .into(),
            files: Default::default(),
            blake3: String::new(),
        })?;
        Ok(RunEnd::Whole)
    }
}
