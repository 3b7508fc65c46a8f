//! Progress on stderr: bars on a terminal, plain lines elsewhere.

use faceoff_runs::{EpochRecord, RunSpec};
use faceoff_training::Timing;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Embedding an image costs about a third of training on it: forward alone, not forward and backward.
const EMBED_SHARE: f64 = 1.0 / 3.0;
/// How often plain lines speak of an epoch under way.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// Progress of a whole benchmark. Work is counted in training images.
pub(crate) struct Progress {
    bar: ProgressBar,
    terminal: bool,
    runs: usize,
    work_left: f64,
    work_done: f64,
    seconds: f64,
    trained: Timing,
    run: RunProgress,
}

/// The run at hand.
struct RunProgress {
    title: String,
    epochs: usize,
    batch: usize,
    steps_per_epoch: usize,
    since: Instant,
    last_line: Instant,
}

/// What a run costs, in training images.
pub(crate) fn run_work(epochs: usize, train_images: usize, val_images: usize) -> f64 {
    (epochs * train_images) as f64 + EMBED_SHARE * (train_images + val_images) as f64
}

impl Progress {
    /// Over `runs` runs that together cost `work` training images.
    pub(crate) fn new(runs: usize, work: f64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let now = Instant::now();
        let run = RunProgress {
            title: String::new(),
            epochs: 0,
            batch: 0,
            steps_per_epoch: 0,
            since: now,
            last_line: now,
        };
        Self {
            bar,
            terminal,
            runs,
            work_left: work,
            work_done: 0.0,
            seconds: 0.0,
            trained: Timing::default(),
            run,
        }
    }

    /// Says a line that stays.
    pub(crate) fn say(&self, line: &str) {
        if self.terminal {
            self.bar.suspend(|| eprintln!("{line}"));
        } else {
            eprintln!("{line}");
        }
    }

    /// A run begins; `number` counts from 1.
    pub(crate) fn run(&mut self, number: usize, spec: &RunSpec, train_images: usize, epochs_done: usize) {
        let now = Instant::now();
        self.run = RunProgress {
            title: format!("[{number}/{}] {} seed {}", self.runs, spec.variant.name, spec.seed),
            epochs: spec.training.epochs,
            batch: spec.training.batch_size,
            steps_per_epoch: train_images / spec.training.batch_size,
            since: now,
            last_line: now,
        };
        self.work_left -= (epochs_done * train_images) as f64;
        if epochs_done > 0 {
            self.say(&format!(
                "{}: goes on after epoch {epochs_done} of {}",
                self.run.title, self.run.epochs
            ));
        }
    }

    /// A training step is done; counts start from 1.
    pub(crate) fn step(&mut self, epoch: usize, step: usize, loss: f64, learning_rate: f64) {
        if step == 1 {
            self.start_bar(
                &format!("epoch {epoch}/{}", self.run.epochs),
                self.run.steps_per_epoch * self.run.batch,
            );
        }
        self.work(self.run.batch as f64);
        let images = step * self.run.batch;
        self.bar.set_position(images as u64);
        let text = format!("loss {loss:.3}  lr {learning_rate:.1e}  {}", self.time_left());
        self.bar.set_message(text.clone());
        if !self.terminal && self.run.last_line.elapsed() > LINE_EVERY {
            self.run.last_line = Instant::now();
            let share = 100 * step / self.run.steps_per_epoch;
            eprintln!("{}: epoch {epoch}/{} at {share} %  {text}", self.run.title, self.run.epochs);
        }
    }

    /// An epoch is done.
    pub(crate) fn epoch(&mut self, record: &EpochRecord, timing: &Timing) {
        self.run.last_line = Instant::now();
        self.trained.add(timing);
        let line = format!(
            "{}: epoch {}/{}  loss {:.3}  accuracy {:.1} %  lr {:.1e}  {:.0} images/s  waited for data {:.1} %  {}",
            self.run.title,
            record.epoch,
            self.run.epochs,
            record.train_loss,
            100.0 * record.train_accuracy,
            record.learning_rate,
            timing.images_per_second(),
            100.0 * timing.wait_share(),
            self.time_left()
        );
        self.finish_bar(&line);
    }

    /// All runs are done: how fast this session trained.
    pub(crate) fn end(&self) {
        if self.trained.images > 0 {
            self.say(&format!(
                "trained at {:.0} images/s; {:.1} % of that time was spent waiting for data",
                self.trained.images_per_second(),
                100.0 * self.trained.wait_share()
            ));
        }
    }

    /// `done` of `of` images of a split are embedded.
    pub(crate) fn embed(&mut self, split: &str, done: usize, of: usize, batch: usize) {
        if done <= batch {
            self.start_bar(&format!("embed {split}"), of);
        }
        self.work(EMBED_SHARE * (done as u64 - self.bar.position().min(done as u64)) as f64);
        self.bar.set_position(done as u64);
        self.bar.set_message(self.time_left());
        if done == of {
            self.bar.finish_and_clear();
        }
    }

    fn start_bar(&mut self, what: &str, images: usize) {
        let target = if self.terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        self.bar = ProgressBar::with_draw_target(Some(images as u64), target);
        let style = ProgressStyle::with_template("{prefix} {wide_bar:.cyan} {per_sec}  {msg}")
            .expect("the template is valid")
            .with_key("per_sec", |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = write!(out, "{:.0} images/s", state.per_sec());
            });
        self.bar.set_style(style);
        self.bar.set_prefix(format!("{} {what}", self.run.title));
    }

    fn finish_bar(&mut self, line: &str) {
        self.bar.finish_and_clear();
        eprintln!("{line}");
    }

    fn work(&mut self, images: f64) {
        let now = Instant::now();
        self.seconds += now.duration_since(self.run.since).as_secs_f64();
        self.run.since = now;
        self.work_done += images;
        self.work_left = (self.work_left - images).max(0.0);
    }

    fn time_left(&self) -> String {
        let seconds = self.seconds / self.work_done.max(1.0) * self.work_left;
        format!("{} left", HumanDuration(Duration::from_secs_f64(seconds)))
    }
}
