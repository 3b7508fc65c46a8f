//! All runs of an experiment, on their way to whole folders.
//!
//! Any number of processes and machines may do so in one report folder: each run has a lock, and each process takes runs that nobody
//! holds, in the experiment's order. What the others hold it waits for; the lock of one that died is free, and its run goes on.

use crate::embed::{MOST_SCORES, embed, keeps_scores};
use crate::machine::describe_process;
use crate::{Error, Event, EventFn, ImageSets, Result, describe_machine, run_work};
use chrono::{DateTime, Utc};
use faceoff_kernels::Arithmetic;
use faceoff_runs::{
    Compute, Difference, Embeddings, Experiment, Failure, FolderLock, Manifest, RunFolder, RunSpec, RunState, SCHEMA,
    Speed, SplitName,
};
use faceoff_training::{EncoderPlan, TrainingEnd, train};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How often runs that others hold are asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How often a raised flag is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long `force` waits for a run that it has to clear away, while another process looks at it or clears it.
const PATIENCE: Duration = Duration::from_secs(5);

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
    /// The report folder.
    pub folder: &'a Path,
    /// The part of the runs that is this process's; all of them without.
    pub shard: Option<Shard>,
}

/// One of several parts of the runs, each of which another process has: every `count`-th run from the `index`-th on, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 0.
    pub index: usize,
    /// How many parts.
    pub count: usize,
}

/// How a run ended.
enum RunEnd {
    Whole,
    Diverged,
    Stopped,
}

/// What is to be done about a run.
enum Claim {
    /// Train it; nobody else may as long as the lock lives.
    Ours(FolderLock),
    /// Ask again later: another process holds it.
    Held,
    /// Nothing.
    Ended,
    /// Nothing, but say so at the end: it failed before.
    Failed,
    /// Nothing, but say so at the end: its files are damaged.
    Damaged,
    /// Nothing at all may be done: it is another run.
    Other(String),
}

impl Job<'_> {
    /// Trains and embeds every run that is not whole yet, beside other processes that do the same: how many are damaged or failed, or `None`
    /// where `stop` was raised, which ends the job after the step at hand. A run whose head cannot work on the images is left out.
    ///
    /// `force` clears away those that were made with another configuration, are damaged or have failed, and trains them again.
    ///
    /// # Errors
    /// [`Error::OtherRuns`] where there are runs of another configuration and `force` is not given; what ends a run and would end
    /// the others too, like a full disk.
    pub fn complete(&self, force: bool, stop: &AtomicBool, on_event: EventFn) -> Result<Option<usize>> {
        let (device, kernels) = (self.arithmetic.device_name().into(), self.arithmetic.kernels_name().into());
        let specs = RunSpec::of(self.experiment, &Compute { device, kernels });
        let ours = |index: usize| self.shard.is_none_or(|Shard { index: own, count }| index % count == own);
        let specs: Vec<&RunSpec> =
            specs.iter().enumerate().filter(|(index, _)| ours(*index)).map(|(_, spec)| spec).collect();
        let me = describe_process();
        let (mut left, mut failed) = self.runs_left(&specs, &me, force, on_event)?;
        left.iter().try_for_each(|spec| self.check_scores(spec))?;
        let work = |spec: &RunSpec| {
            let data = self.images.of(spec).record();
            run_work(spec, data.train_images, data.val_images)
        };
        on_event(Event::Runs(left.len(), specs.len(), left.iter().map(|spec| work(spec)).sum()));
        let (mut done, mut waited_for) = (0, Vec::new());
        while !left.is_empty() {
            let mut held = Vec::new();
            let mut at = 0;
            while let Some(&spec) = left.get(at) {
                let _lock = match self.claim(spec, &me, false, on_event)? {
                    Claim::Ours(lock) => lock,
                    Claim::Held => {
                        held.push((spec, FolderLock::holder(&RunFolder::new(self.folder, spec))));
                        at += 1;
                        continue;
                    }
                    ended => {
                        if let Claim::Other(other) = &ended {
                            // Begun by others meanwhile, and left: the runs of this process go on.
                            on_event(Event::Damaged(spec, other));
                        }
                        match ended {
                            Claim::Damaged | Claim::Other(_) => (failed, done) = (failed + 1, done + 1),
                            Claim::Failed => {
                                failed += 1;
                                on_event(Event::Elsewhere(spec, work(spec)));
                            }
                            _ => on_event(Event::Elsewhere(spec, work(spec))),
                        }
                        left.remove(at);
                        continue;
                    }
                };
                on_event(Event::Run(done + 1, spec));
                match self.complete_run(spec, stop, on_event) {
                    Ok(RunEnd::Whole) => on_event(Event::Whole(spec)),
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
                done += 1;
                left.remove(at);
                // Hours later the runs before it may be free.
                (at, held) = (0, Vec::new());
            }
            if held.is_empty() {
                continue;
            }
            if waited_for != held {
                on_event(Event::Waiting(&held));
                waited_for = held;
            }
            let began = Instant::now();
            while began.elapsed() < ASK_EVERY {
                if stop.load(Ordering::Relaxed) {
                    on_event(Event::End(done));
                    return Ok(None);
                }
                std::thread::sleep(LOOK_EVERY);
            }
        }
        on_event(Event::End(done));
        Ok(Some(failed))
    }

    /// The runs that are to be trained, here or elsewhere, and how many are damaged or failed before.
    fn runs_left<'a>(
        &self,
        specs: &[&'a RunSpec],
        me: &str,
        force: bool,
        on_event: EventFn,
    ) -> Result<(Vec<&'a RunSpec>, usize)> {
        let (mut left, mut others, mut failed) = (Vec::new(), Vec::new(), 0);
        for &spec in specs {
            let began = Instant::now();
            let claim = loop {
                let claim = self.claim(spec, me, force, on_event)?;
                // Others may hold for a moment what they look at, or clear away by the same `force`; that is no reason to refuse it.
                if !(force && matches!(claim, Claim::Held) && began.elapsed() < PATIENCE && self.is_in_the_way(spec)) {
                    break claim;
                }
                std::thread::sleep(LOOK_EVERY);
            };
            match claim {
                // Left alone until its turn comes.
                Claim::Ours(_) => left.push(spec),
                Claim::Held => {
                    let run = RunFolder::new(self.folder, spec);
                    let mut differences = run.begun_as().map(|begun| spec.differences(&begun)).unwrap_or_default();
                    differences.retain(|difference| !difference.is_compute());
                    if differences.is_empty() {
                        left.push(spec);
                    } else {
                        others.push(other(&run, &differences));
                    }
                }
                Claim::Ended => {}
                Claim::Failed | Claim::Damaged => failed += 1,
                Claim::Other(other) => others.push(other),
            }
        }
        if others.is_empty() { Ok((left, failed)) } else { Err(Error::OtherRuns(others)) }
    }

    /// That the scores of the validation images, from which measures are made, can be kept; those of training images may be left out.
    fn check_scores(&self, spec: &RunSpec) -> Result<()> {
        let images = self.images.of(spec);
        let classes = images.classes().max(images.record().classes.len());
        let seen = images.evaluates_unseen_classes().then_some(SplitName::SeenVal);
        for split in [SplitName::Val].into_iter().chain(seen) {
            let images = images.items(split).len();
            if !keeps_scores(images, classes) {
                return Err(Error::TooManyScores { split: split.as_str(), images, classes, most: MOST_SCORES });
            }
        }
        Ok(())
    }

    /// Whether a run that another process holds is one that `force` clears away, as far as can be seen without its lock.
    fn is_in_the_way(&self, spec: &RunSpec) -> bool {
        match RunFolder::new(self.folder, spec).state(spec, self.images.of(spec).record()) {
            Ok(RunState::Open | RunState::Whole(_)) => false,
            Ok(RunState::Other(differences)) => differences.iter().any(|difference| !difference.is_compute()),
            // Files that vanish while they are read are being cleared.
            Ok(RunState::Failed(_) | RunState::Damaged(_)) | Err(_) => true,
        }
    }

    /// Takes the lock of a run and looks what is to be done about it; with `force` what stands in the way is cleared away.
    fn claim(&self, spec: &RunSpec, me: &str, force: bool, on_event: EventFn) -> Result<Claim> {
        let (run, data) = (RunFolder::new(self.folder, spec), self.images.of(spec).record());
        // What is whole stays as it is, and nobody waits for those who measure it.
        if run.is_whole() && matches!(run.state(spec, data), Ok(RunState::Whole(_))) {
            return Ok(Claim::Ended);
        }
        let Some(lock) = FolderLock::of_run(&run, me)? else { return Ok(Claim::Held) };
        Ok(match run.state(spec, data)? {
            RunState::Whole(_) => Claim::Ended,
            RunState::Damaged(problem) if !force => {
                on_event(Event::Damaged(spec, &problem));
                Claim::Damaged
            }
            RunState::Other(differences) if !force => Claim::Other(other(&run, &differences)),
            RunState::Failed(failure) if !force && failure.epoch > 0 => {
                on_event(Event::FailedBefore(spec, &failure));
                Claim::Failed
            }
            state => {
                let unfit = self.unfit(spec)?;
                if let (Some(failure), RunState::Failed(noted)) = (&unfit, &state)
                    && noted.message == failure.message
                {
                    on_event(Event::Unfit(spec, noted));
                    return Ok(Claim::Ended);
                }
                if state != RunState::Open {
                    run.clear()?;
                }
                match unfit {
                    Some(failure) => {
                        run.begin(spec)?;
                        run.fail(&failure)?;
                        on_event(Event::Unfit(spec, &failure));
                        Claim::Ended
                    }
                    None => Claim::Ours(lock),
                }
            }
        })
    }

    /// Why the head of a run cannot work on its images, if it cannot.
    fn unfit(&self, spec: &RunSpec) -> Result<Option<Failure>> {
        let RunSpec { training, variant, .. } = spec;
        let encoder = EncoderPlan::of(training).map_err(|error| Error::Run(spec.folder_name(), Box::new(error)))?;
        let (dim, classes, kind) = (encoder.dim(), self.images.of(spec).classes(), variant.head.kind());
        let share = training.class_sampling.unwrap_or(1.0);
        let fits = faceoff_heads::check(&variant.head, dim, classes, training.head_init, share)
            .and_then(|()| faceoff_heads::check_smoothing(&variant.head, training.label_smoothing));
        Ok(fits.err().map(|error| Failure {
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
        let mut data = images.record().clone();
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
                if embeddings.scores.is_empty() && !embeddings.is_empty() {
                    data.notes.push(format!(
                        "Scores and logits of the {} images of {} by {} classes are too many to be kept ({MOST_SCORES} numbers at most): \
                         what needs them is not measured.",
                        embeddings.len(),
                        split.as_str(),
                        embeddings.classes
                    ));
                }
                folder.write_embeddings(split, &embeddings)?;
                // Of the training images the others need no more than the embeddings.
                train.get_or_insert(Embeddings { scores: Vec::new(), logits: None, ..embeddings });
            }
        }
        folder.finish(&Manifest {
            schema: SCHEMA,
            experiment: self.experiment.name.clone(),
            spec: spec.clone(),
            spec_hash: spec.hash(),
            data,
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
            finished: Some(DateTime::<Utc>::from(SystemTime::now()).format("%Y-%m-%dT%H:%M:%SZ").to_string()),
            files: Default::default(),
            blake3: String::new(),
        })?;
        Ok(RunEnd::Whole)
    }
}

/// A run of another specification, for [`Error::OtherRuns`].
fn other(run: &RunFolder, differences: &[Difference]) -> String {
    format!("{}: {}", run.path().display(), Difference::list(differences))
}
