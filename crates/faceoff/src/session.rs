//! What `benchmark` and `tune` share: the device, Ctrl-C, images opened, runs trained, all of it shown.

use crate::options::{TrainingArgs, check_apart};
use crate::progress::Progress;
use crate::{COMMIT, Program, machine, with_causes};
use anyhow::{Context, Result};
use faceoff_data::{Dataset, ImageSource, Origin, profile};
use faceoff_evaluation::{Registry, measure_run};
use faceoff_kernels::Arithmetic;
use faceoff_pipeline::{Event, ImageSets, Job, Shard};
use faceoff_runs::{Experiment, FolderLock, ProjectionConfig, RunFolder, Sizes, TrainingConfig, warn_of_local_locks};
use faceoff_training::EncoderPlan;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
/// What a scheduler is told of a program that its SIGTERM ended: start it again. EX_TEMPFAIL of sysexits.h.
const GO_ON_LATER: u8 = 75;

/// Above so many classes a step takes several times as long with all of their weights as with a tenth (docs/own-data.md).
const MANY_CLASSES: usize = 2_000;

/// A session of training.
pub(crate) struct Session {
    pub(crate) arithmetic: Arithmetic,
    source: ImageSource,
    progress: Progress,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) training: Arc<AtomicBool>,
    /// The exit status where a signal ended the session.
    stopped: Arc<AtomicU8>,
}

/// How the runs of a job ended.
pub(crate) enum Completed {
    /// All are whole, or have failed.
    Ended {
        /// How many failed here, or are damaged.
        failed: usize,
        /// Whether other processes worked on them too.
        shared: bool,
        /// Whether there was anything to do.
        worked: bool,
    },
    /// A signal ended it: the exit status.
    Stopped(ExitCode),
}

impl Session {
    /// A session on the device, with the images that the command line asks for.
    pub(crate) fn new(program: &Program, args: &TrainingArgs, experiment: &Experiment) -> Result<Self> {
        Self::with(program, args, experiment, machine::arithmetic(program, args, experiment)?)
    }

    /// A session that trains nothing, so that no device is asked for.
    pub(crate) fn without_device(program: &Program, args: &TrainingArgs, experiment: &Experiment) -> Result<Self> {
        Self::with(program, args, experiment, machine::plain_arithmetic()?)
    }

    fn with(program: &Program, args: &TrainingArgs, experiment: &Experiment, arithmetic: Arithmetic) -> Result<Self> {
        check_apart(&args.out.report_folder(program, &experiment.name), &args.source(program).cache_dir)?;
        machine::check_memory()?;
        Ok(Self {
            arithmetic,
            source: args.source(program),
            progress: Progress::new(),
            stop: Arc::default(),
            training: Arc::default(),
            stopped: Arc::default(),
        })
    }

    /// Begins to hear Ctrl-C.
    ///
    /// While runs are trained the first one ends the session after the step at hand, and a second one at once. Before and
    /// after, when images are prepared and the report is written, it ends at once: every file is written whole or not at
    /// all, and what is half-done is cleared away by the next command. A `worker` also ends with its standard input: who started it is gone,
    /// or wants it to end.
    pub(crate) fn hear_ctrl_c(&self, worker: bool) -> Result<()> {
        let (stop, training, stopped) = (self.stop.clone(), self.training.clone(), self.stopped.clone());
        let heard = move |status: u8| {
            stopped.store(status, Ordering::Relaxed);
            if !training.load(Ordering::Relaxed) || stop.swap(true, Ordering::Relaxed) {
                eprintln!("stopped; run the same command to go on");
                std::process::exit(status.into());
            }
            eprintln!("stopping after this step; the last finished epoch is kept (again to stop at once)");
        };
        if worker {
            let (heard, stop) = (heard.clone(), self.stop.clone());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
                if !stop.load(Ordering::Relaxed) {
                    heard(GO_ON_LATER);
                }
            });
        }
        on_stop(heard).context("Ctrl-C cannot be caught")
    }

    /// The images of an experiment.
    pub(crate) fn open_images(&self, experiment: &Experiment) -> faceoff_pipeline::Result<ImageSets> {
        let images = ImageSets::open(experiment, &self.source, &|event| self.progress.on_event(event))?;
        for remark in images.remarks() {
            eprintln!("warning: {remark}");
        }
        let mut images = images;
        images.note(&notes_of_encoder(&experiment.training));
        for record in images.records() {
            let published = match profile(&record.name).map(|profile| &profile.origin) {
                Ok(Origin::Archive { md5, .. }) => *md5,
                _ => continue,
            };
            if let Some(md5) = record.archive_md5.as_ref().filter(|md5| *md5 != published) {
                let name = &record.name;
                eprintln!(
                    "warning: the images of {name} are those of an archive with md5 {md5}; the published one has {published}"
                );
            }
        }
        Ok(images)
    }

    /// An experiment on images of the user's own, made to fit them; what that changed is said, and noted in the records of the images.
    pub(crate) fn adapted(&self, experiment: Experiment, images: &mut ImageSets) -> Result<Experiment> {
        if experiment.data.own.is_none() {
            return Ok(experiment);
        }
        let (experiment, changed) = adapted(experiment, &images.sizes())?;
        images.note(&changed);
        if let Some(ProjectionConfig { hidden, outputs, normalize, .. }) = experiment.training.projection {
            let layers = if hidden == 0 {
                "linear".into()
            } else {
                format!("a layer of {hidden} ReLU units, then a linear one")
            };
            let rows = if normalize { "brought to one length first" } else { "taken as they are" };
            images.note(&[format!("The projection to {outputs} numbers is {layers}; rows are {rows}.")]);
        }
        Ok(experiment)
    }

    /// Trains and embeds every run below `folder` that is not whole yet, or those of a part of them; with `measured` each is measured for the
    /// report as soon as it is whole.
    pub(crate) fn complete(
        &self,
        experiment: &Experiment,
        images: &ImageSets,
        folder: &Path,
        force: bool,
        shard: Option<Shard>,
        measured: bool,
    ) -> Result<Completed> {
        let arithmetic = &self.arithmetic;
        let job = Job { experiment, images, arithmetic, commit: COMMIT, folder, shard };
        if let Some(warning) = warn_of_local_locks(folder) {
            eprintln!("warning: {warning}");
        }
        let (shared, worked) = (AtomicBool::new(false), AtomicBool::new(false));
        let on_event = |event: Event| {
            self.progress.on_event(event);
            match event {
                Event::Runs(to_do, total, _) => {
                    let name = &experiment.name;
                    for set in images.records() {
                        eprintln!("{name}: {} ({} + {} images)", set.name, set.train_images, set.val_images);
                    }
                    let (data, threads) = (&experiment.data, threads());
                    let what =
                        if data.is_embeddings() { "embeddings".into() } else { format!("{} px", data.image_size_px) };
                    eprintln!("{name}: {what} on {arithmetic}, {threads}; {to_do} of {total} runs to do");
                    self.training.store(true, Ordering::Relaxed);
                }
                Event::Whole(spec) if measured => {
                    let (run, name) = (RunFolder::new(folder, spec), spec.folder_name());
                    let say = || eprintln!("measuring {name}");
                    if let Err(error) = measure_run(&run, &experiment.analysis, &Registry::standard(), &say) {
                        // The report measures it again, and says what becomes of the run.
                        eprintln!("warning: {name} could not be measured: {}", with_causes(&error.into()));
                    }
                }
                Event::Run(..) => worked.store(true, Ordering::Relaxed),
                Event::Elsewhere(..) => shared.store(true, Ordering::Relaxed),
                Event::End(_) => self.training.store(false, Ordering::Relaxed),
                _ => {}
            }
        };
        Ok(match job.complete(force, &self.stop, &on_event)? {
            Some(failed) => Completed::Ended { failed, shared: shared.into_inner(), worked: worked.into_inner() },
            None => Completed::Stopped(ExitCode::from(self.stopped.load(Ordering::Relaxed))),
        })
    }
}

impl Session {
    /// The exit status where a signal came.
    pub(crate) fn stopped(&self) -> Option<ExitCode> {
        self.stop.load(Ordering::Relaxed).then(|| ExitCode::from(self.stopped.load(Ordering::Relaxed)))
    }
}

/// What a reader of results has to know of an encoder that does not start fresh, and of classes that a step does not see.
fn notes_of_encoder(recipe: &TrainingConfig) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(file) = &recipe.encoder_init {
        let name = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
        let pace = match (recipe.encoder_frozen, recipe.encoder_learning_rate_scale) {
            (true, _) => " and stays as it is: heads alone are trained".into(),
            (false, Some(factor)) => format!(" and learns at {factor} times the rate of the head"),
            (false, None) => String::new(),
        };
        notes.push(format!(
            "The encoder starts from {name}{pace}. What it was trained on may hold these validation images, as ImageNet holds those of Imagewoof: \
             then every number here is too good, and says little of images that it never saw."
        ));
    }
    if let Some(share) = recipe.class_sampling.filter(|&share| share < 1.0) {
        notes.push(format!(
            "A step of a head with class weights sees the classes of its batch and others up to {:.3} % of all (Partial FC): training loss, accuracy \
             and health are of these, everything measured after the training of all.",
            100.0 * share
        ));
    }
    notes
}

/// How many threads work.
pub(crate) fn threads() -> String {
    counted(rayon::current_num_threads(), "thread")
}

/// `1 seed`, `2 seeds`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// An experiment made to fit images of these sizes, and what that changed, which is said.
pub(crate) fn adapted(experiment: Experiment, sizes: &Sizes) -> Result<(Experiment, Vec<String>)> {
    let dim = EncoderPlan::of(&experiment.training)?.dim();
    let (experiment, changed) = experiment.adapted(sizes, dim)?;
    changed.iter().for_each(|sentence| eprintln!("warning: {sentence}"));
    if sizes.classes > MANY_CLASSES && experiment.training.class_sampling.is_none() {
        let classes = sizes.classes;
        eprintln!(
            "hint: with {classes} classes most of a step goes to the class weights; class_sampling = 0.1 in [training] lets a step see a tenth of them (Partial FC)"
        );
    }
    Ok((experiment, changed))
}

/// The sole right to write the report in a folder; where another process has it, says so and waits.
pub(crate) fn lock_report(folder: &Path) -> faceoff_runs::Result<FolderLock> {
    FolderLock::wait(folder, || eprintln!("waiting for another process to write the report in {}", folder.display()))
}

/// What stands in a report folder beside the report of images of the user's own: the experiment as it was run, the split where chance
/// made it, and what could not be read.
pub(crate) fn note_own_images(experiment: &Experiment, images: &ImageSets, folder: &Path) -> Result<()> {
    if experiment.data.own.is_none() {
        return Ok(());
    }
    let _lock = lock_report(folder)?;
    let write = |name: &str, text: &str| {
        faceoff_runs::write_atomically(&folder.join(name), |file| file.write_all(text.as_bytes()))
    };
    let text = experiment.to_toml();
    write(
        &format!("{}.toml", experiment.name),
        &format!("# What was trained here, with every number as it fits the images.\n{text}"),
    )?;
    if let Some(table) = images.sets().find_map(Dataset::split_table) {
        write("split.csv", table)?;
    }
    match images.sets().find_map(Dataset::unreadable_table) {
        Some(table) => write("unreadable.csv", &table)?,
        // What an earlier benchmark could not read is whole by now, or gone.
        None => {
            let stale = folder.join("unreadable.csv");
            if stale.exists() {
                std::fs::remove_file(&stale).with_context(|| format!("cannot remove {}", stale.display()))?;
            }
        }
    }
    Ok(())
}

/// Calls `heard` with the exit status for each signal that ends a program: Ctrl-C, a polite kill, a terminal that closes. The last is left
/// as it is where it was ignored when the program was started, as `nohup` does.
#[cfg(unix)]
pub(crate) fn on_stop(heard: impl Fn(u8) + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let signals = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|&signal| signal != SIGHUP || !is_ignored(signal));
    let mut signals = signal_hook::iterator::Signals::new(signals)?;
    let status = |signal| if signal == SIGTERM { GO_ON_LATER } else { INTERRUPTED };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || signals.forever().for_each(|signal| heard(status(signal))))
        .map(drop)
}

#[cfg(not(unix))]
pub(crate) fn on_stop(heard: impl Fn(u8) + Send + 'static) -> std::result::Result<(), ctrlc::Error> {
    ctrlc::set_handler(move || heard(INTERRUPTED))
}

/// Whether a signal is ignored, as Linux tells; elsewhere no.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
