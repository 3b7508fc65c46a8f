//! `cargo xtask benchmark`: check everything, then train every run, embed, and write the report.

use crate::progress::{Progress, run_work};
use crate::{BenchmarkArgs, SourceArgs, data, machine, report, told};
use anyhow::{Context, Result, bail};
use candle_core::Device;
use faceoff_data::Images;
use faceoff_runs::{
    DataConfig, DataRecord, DatasetName, Experiment, FolderLock, Manifest, RunFolder, RunSpec, RunState,
    SCHEMA, Speed, SplitName,
};
use faceoff_training::{Event, Outcome, StepSeconds, initial_encoder, made_up_batch, time_steps, train};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What a shell reports of a program that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;
/// Weights and embeddings of one run on Imagewoof, and its share of the report.
const DISK_MIB_PER_RUN: u64 = 75;
/// The checkpoint of the run at hand, and its successor while that is written.
const DISK_MIB_OF_CHECKPOINTS: u64 = 260;
/// Imagewoof at 160 px: its archive, its files, and its images decoded.
const DISK_MIB_OF_IMAGES: u64 = 1_600;

/// Runs the benchmark.
pub(crate) fn run(args: &BenchmarkArgs) -> Result<ExitCode> {
    machine::use_threads(args.training.threads)?;
    let mut experiment = args.training.experiment(args.seeds.clone())?;
    let device = machine::device(args.training.device)?;
    let kernels = faceoff_kernels::describe(&device)?;
    if args.dry_run {
        return dry_run(&experiment, args, &device, &kernels);
    }
    let stop = Stop::on_ctrl_c()?;

    let images = match ImageSets::open(&experiment, &args.training.source) {
        Err(error) if experiment.data.synthetic_fallback && data::is_unavailable(&error) => {
            eprintln!("warning: {}", told(&error));
            experiment = experiment.on_synthetic();
            eprintln!(
                "warning: going on with SYNTHETIC images as experiment `{}`: its numbers say nothing about dogs",
                experiment.name
            );
            ImageSets::open(&experiment, &args.training.source)?
        }
        other => other?,
    };
    let folder = args.training.out.join(&experiment.name);
    let _lock = FolderLock::take(&folder)?;
    let job = Job { experiment: &experiment, images: &images, device: &device, kernels: &kernels };
    let Trained::Done { failed } = job.complete(&folder, args.force, &stop)? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    report::write(&folder, &experiment)?;
    if failed > 0 {
        eprintln!("{failed} runs failed; the report names them");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// All runs of an experiment, on their way to whole folders.
pub(crate) struct Job<'a> {
    pub(crate) experiment: &'a Experiment,
    pub(crate) images: &'a ImageSets,
    pub(crate) device: &'a Device,
    pub(crate) kernels: &'a str,
}

/// How a job ended.
pub(crate) enum Trained {
    /// All runs are whole, but for those that failed for good.
    Done { failed: usize },
    /// Ctrl-C.
    Stopped,
}

impl Job<'_> {
    /// Trains and embeds every run that is not whole yet; `folder` is locked by the caller.
    pub(crate) fn complete(&self, folder: &Path, force: bool, stop: &Stop) -> Result<Trained> {
        let Self { experiment, images, device, kernels } = *self;
        let specs = RunSpec::of(experiment);
        let open = open_runs(&specs, folder, images, force)?;
        for set in images.records() {
            eprintln!("{}: {} ({} + {} images)", experiment.name, set.name, set.train_images, set.val_images);
        }
        eprintln!(
            "{}: {} px on {kernels}, {} threads; {} of {} runs to do",
            experiment.name,
            experiment.data.image_size_px,
            rayon::current_num_threads(),
            open.len(),
            specs.len()
        );

        let work = open.iter().map(|spec| {
            let data = images.of(spec).record();
            run_work(spec.training.epochs, data.train_images, data.val_images)
        });
        let mut progress = Progress::new(open.len(), work.sum());
        stop.start_of_training();
        let mut failed = 0;
        for (index, spec) in open.iter().enumerate() {
            let run = Run { experiment, spec, images: images.of(spec), device, kernels };
            match run.complete(&RunFolder::new(folder, spec), index + 1, &stop.raised, &mut progress)? {
                Ending::Whole => {}
                Ending::Failed => failed += 1,
                Ending::Stopped => {
                    eprintln!("stopped: {index} of {} runs done; run the same command to go on", open.len());
                    return Ok(Trained::Stopped);
                }
            }
        }
        progress.end();
        stop.end_of_training();
        Ok(Trained::Done { failed })
    }
}

/// The images of an experiment: one set for each `[data]` that its conditions make.
pub(crate) struct ImageSets(Vec<(DataConfig, Images)>);

impl ImageSets {
    pub(crate) fn open(experiment: &Experiment, source: &SourceArgs) -> Result<Self> {
        let mut sets: Vec<(DataConfig, Images)> = Vec::new();
        for spec in RunSpec::of(experiment) {
            if sets.iter().all(|(data, _)| *data != spec.data) {
                let images = data::open(&spec.data, source)?;
                sets.push((spec.data, images));
            }
        }
        Ok(Self(sets))
    }

    fn of(&self, spec: &RunSpec) -> &Images {
        let (_, images) =
            self.0.iter().find(|(data, _)| *data == spec.data).expect("every run's images were opened");
        images
    }

    fn records(&self) -> impl Iterator<Item = &DataRecord> {
        self.0.iter().map(|(_, images)| images.record())
    }
}

/// The runs that are not whole yet. Refuses to touch what was made with another configuration, unless forced.
fn open_runs(specs: &[RunSpec], folder: &Path, images: &ImageSets, force: bool) -> Result<Vec<RunSpec>> {
    let mut open = Vec::new();
    let mut refused = Vec::new();
    for spec in specs {
        let run = RunFolder::new(folder, spec);
        match run.state(spec, images.of(spec).record())? {
            RunState::Whole(_) => {}
            RunState::Open => open.push(spec.clone()),
            RunState::Failed(_) | RunState::Other(_) if force => {
                run.clear()?;
                open.push(spec.clone());
            }
            RunState::Failed(failure) => eprintln!(
                "{} failed before at epoch {} and would again ({}); change the experiment, or use --force to see it",
                spec.folder_name(),
                failure.epoch,
                failure.message
            ),
            RunState::Other(differences) => refused.push(format!("{}: {differences}", run.path().display())),
        }
    }
    if !refused.is_empty() {
        bail!(
            "there are runs of another configuration (wanted, not found):\n  {}\nuse --force to replace them, or --out to keep both",
            refused.join("\n  ")
        );
    }
    Ok(open)
}

/// One run on its way from a specification to a whole folder.
struct Run<'a> {
    experiment: &'a Experiment,
    spec: &'a RunSpec,
    images: &'a Images,
    device: &'a Device,
    kernels: &'a str,
}

enum Ending {
    Whole,
    Failed,
    Stopped,
}

impl Run<'_> {
    fn complete(
        &self,
        folder: &RunFolder,
        number: usize,
        stop: &AtomicBool,
        progress: &mut Progress,
    ) -> Result<Ending> {
        let data = self.images.record();
        let outcome = train(self.spec, folder, self.images, self.device, stop, &mut |event| match event {
            Event::Start { epochs_done, .. } => {
                progress.run(number, self.spec, data.train_images, epochs_done)
            }
            Event::Step { epoch, step, loss, learning_rate } => {
                progress.step(epoch, step, loss, learning_rate)
            }
            Event::Epoch { record, timing } => progress.epoch(&record, &timing),
        })
        .with_context(|| format!("run {}", self.spec.folder_name()))?;
        let (model, timing) = match outcome {
            Outcome::Done(model, timing) => (model, timing),
            Outcome::Stopped => return Ok(Ending::Stopped),
            Outcome::Diverged(failure) => {
                progress.say(&format!(
                    "{} FAILED at epoch {}, step {}, learning rate {:.2e}: {}",
                    self.spec.folder_name(),
                    failure.epoch,
                    failure.step,
                    failure.learning_rate,
                    failure.message
                ));
                return Ok(Ending::Failed);
            }
        };

        let started = Instant::now();
        let batch = self.spec.training.batch_size;
        for split in SplitName::ALL {
            let count = self.images.items(split).len();
            let embeddings =
                faceoff_embedding::embed(&model, self.images, split, batch, stop, &mut |done| {
                    progress.embed(split.as_str(), done, count, batch);
                })?;
            let Some(embeddings) = embeddings else { return Ok(Ending::Stopped) };
            folder.write_embeddings(split, &embeddings)?;
        }
        folder.finish(&Manifest {
            schema: SCHEMA,
            experiment: self.experiment.name.clone(),
            spec: self.spec.clone(),
            spec_hash: self.spec.hash(),
            data: data.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            commit: machine::commit(),
            device: self.kernels.into(),
            machine: machine::describe(),
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
        })?;
        Ok(Ending::Whole)
    }
}

/// Ctrl-C. While heads are trained the first one ends the benchmark after the step at hand, and a second one at once.
/// Before and after, when images are prepared and the report is written, it ends at once: every file is written whole or
/// not at all, and what is half-done is cleared away by the next command.
pub(crate) struct Stop {
    raised: Arc<AtomicBool>,
    training: Arc<AtomicBool>,
}

impl Stop {
    pub(crate) fn on_ctrl_c() -> Result<Self> {
        let stop = Self { raised: Arc::default(), training: Arc::default() };
        let (raised, training) = (stop.raised.clone(), stop.training.clone());
        ctrlc::set_handler(move || {
            if !training.load(Ordering::Relaxed) || raised.swap(true, Ordering::Relaxed) {
                eprintln!("stopped; run the same command to go on");
                std::process::exit(INTERRUPTED.into());
            }
            eprintln!(
                "stopping after this step; the last finished epoch is kept (Ctrl-C again to stop at once)"
            );
        })
        .context("Ctrl-C cannot be caught")?;
        Ok(stop)
    }

    fn start_of_training(&self) {
        self.training.store(true, Ordering::Relaxed);
    }

    fn end_of_training(&self) {
        self.training.store(false, Ordering::Relaxed);
    }
}

/// Says what would be done. The speed comes from a few real steps on made-up pixels.
fn dry_run(
    experiment: &Experiment,
    args: &BenchmarkArgs,
    device: &Device,
    kernels: &str,
) -> Result<ExitCode> {
    let (train_images, val_images) = match (experiment.data.dataset, &experiment.data.synthetic) {
        (DatasetName::Imagewoof160 | DatasetName::Imagewoof320, _) => (9_025, 3_929),
        (DatasetName::Synthetic, Some(synthetic)) => (synthetic.train_images, synthetic.val_images),
        _ => {
            let images = data::open(&experiment.data, &args.training.source)?;
            (images.record().train_images, images.record().val_images)
        }
    };
    let limit = experiment.data.images_per_split.unwrap_or(usize::MAX);
    let work = run_work(experiment.training.epochs, train_images.min(limit), val_images.min(limit));
    let specs = RunSpec::of(experiment);
    let batch = made_up_batch(experiment.training.batch_size, experiment.data.image_size_px)?;
    let mut encoder = faceoff_kernels::encoder(&initial_encoder(0)?, device)?;
    let fastest =
        time_steps(encoder.as_mut(), &batch, 2)?.iter().map(StepSeconds::step).fold(f64::MAX, f64::min);
    let per_second = batch.count() as f64 / fastest;
    let hours = work * specs.len() as f64 / per_second / 3600.0;

    println!("experiment  {}: {}", experiment.name, experiment.description);
    println!("device      {kernels}, {} threads", rayon::current_num_threads());
    println!(
        "runs        {} ({} heads x {} conditions x {} seeds)",
        specs.len(),
        experiment.heads.len(),
        experiment.conditions.len().max(1),
        experiment.training.seeds.len()
    );
    for spec in &specs {
        println!(
            "            {}",
            RunFolder::new(&args.training.out.join(&experiment.name), spec).path().display()
        );
    }
    let minutes = 60.0 * hours;
    println!(
        "time        about {hours:.2} hours ({minutes:.0} minutes) at {per_second:.0} training images/s, the report not counted"
    );
    let images = match experiment.data.dataset {
        DatasetName::Imagewoof160 => format!(", {DISK_MIB_OF_IMAGES} MiB of images in data/"),
        // Twice the side.
        DatasetName::Imagewoof320 => format!(", {} MiB of images in data/", 4 * DISK_MIB_OF_IMAGES),
        _ => String::new(),
    };
    println!(
        "disk        about {} MiB of results{images}",
        specs.len() as u64 * DISK_MIB_PER_RUN + DISK_MIB_OF_CHECKPOINTS
    );
    println!("nothing was done");
    Ok(ExitCode::SUCCESS)
}
