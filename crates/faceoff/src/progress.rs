//! Progress on stderr, from the events of a job: bars on a terminal, plain lines elsewhere.

use faceoff_pipeline::{EMBEDDING_WORK, Event};
use faceoff_runs::EpochRecord;
use faceoff_training::{Event as TrainingEvent, Timing};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How often plain lines speak of an epoch under way.
const LINE_EVERY: Duration = Duration::from_secs(60);
/// The bar of images seen.
const IMAGES_BAR: &str = "{prefix} {wide_bar:.cyan} {per_sec}  {msg}";

/// What is shown of a job. It hears events from any thread.
pub(crate) struct Progress(Mutex<Shown>);

/// What is shown. Work is counted in training images.
struct Shown {
    terminal: bool,
    bar: ProgressBar,
    /// What the images are going through; empty when they are not being prepared.
    phase: String,
    runs: usize,
    work_left: f64,
    work_done: f64,
    seconds: f64,
    trained: Timing,
    run: RunShown,
}

/// The run at hand.
struct RunShown {
    name: String,
    title: String,
    epochs: usize,
    batch: usize,
    images: usize,
    steps_per_epoch: usize,
    since: Instant,
    last_line: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self(Mutex::new(Shown {
            terminal: std::io::stderr().is_terminal(),
            bar: ProgressBar::hidden(),
            phase: String::new(),
            runs: 0,
            work_left: 0.0,
            work_done: 0.0,
            seconds: 0.0,
            trained: Timing::default(),
            run: RunShown {
                name: String::new(),
                title: String::new(),
                epochs: 0,
                batch: 0,
                images: 0,
                steps_per_epoch: 0,
                since: now,
                last_line: now,
            },
        }))
    }

    /// Shows an event.
    pub(crate) fn on_event(&self, event: Event) {
        self.shown().on_event(event);
    }

    /// Removes the bar of images that were being prepared.
    pub(crate) fn clear(&self) {
        self.shown().end_of_images();
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().expect("nothing panics while it shows progress")
    }
}

impl Shown {
    fn on_event(&mut self, event: Event) {
        match event {
            Event::Images { phase, done, total } => self.images(phase, done, total),
            Event::ImagesReady(_) => self.end_of_images(),
            Event::Runs { count, work } => (self.runs, self.work_left) = (count, work),
            Event::Run { number, spec, images } => {
                self.run.name = spec.folder_name();
                self.run.title = format!("[{number}/{}] {} seed {}", self.runs, spec.variant.name, spec.seed);
                self.run.epochs = spec.training.epochs;
                self.run.batch = spec.training.batch_size;
                self.run.images = images;
            }
            Event::Training(TrainingEvent::Start { epochs_done, steps_per_epoch }) => {
                self.start(epochs_done, steps_per_epoch);
            }
            Event::Training(TrainingEvent::Step { epoch, step, loss, learning_rate }) => {
                self.step(epoch, step, loss, learning_rate);
            }
            Event::Training(TrainingEvent::Epoch { record, timing }) => self.epoch(&record, &timing),
            Event::Diverged(failure) => self.line(&format!(
                "{} FAILED at epoch {}, step {}, learning rate {:.2e}: {}",
                self.run.name, failure.epoch, failure.step, failure.learning_rate, failure.message
            )),
            Event::Embedded { split, done, total } => self.embedded(split.as_str(), done, total),
            Event::Finished => self.finished(),
        }
    }

    /// A line that stays.
    fn line(&self, line: &str) {
        if self.terminal {
            self.bar.suspend(|| eprintln!("{line}"));
        } else {
            eprintln!("{line}");
        }
    }

    fn images(&mut self, phase: &str, done: u64, total: u64) {
        if self.phase != phase {
            self.bar.finish_and_clear();
            self.phase = phase.to_string();
            if !self.terminal {
                eprintln!("{phase} ...");
            }
            let template = match (phase, total) {
                ("download", _) => "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}",
                (_, 0) => "{prefix} {spinner} {pos}",
                _ => "{prefix} {wide_bar} {pos}/{len}",
            };
            self.start_bar(template, phase.to_string(), total);
        }
        self.bar.set_position(done);
    }

    fn end_of_images(&mut self) {
        self.bar.finish_and_clear();
        self.phase.clear();
    }

    fn start(&mut self, epochs_done: usize, steps_per_epoch: usize) {
        self.run.steps_per_epoch = steps_per_epoch;
        self.run.since = Instant::now();
        self.run.last_line = self.run.since;
        self.work_left -= (epochs_done * self.run.images) as f64;
        if epochs_done > 0 {
            let RunShown { title, epochs, .. } = &self.run;
            self.line(&format!("{title}: goes on after epoch {epochs_done} of {epochs}"));
        }
    }

    fn step(&mut self, epoch: usize, step: usize, loss: f64, learning_rate: f64) {
        if step == 1 {
            let title = format!("{} epoch {epoch}/{}", self.run.title, self.run.epochs);
            self.start_bar(IMAGES_BAR, title, (self.run.steps_per_epoch * self.run.batch) as u64);
        }
        self.work(self.run.batch as f64);
        self.bar.set_position((step * self.run.batch) as u64);
        let text = format!("loss {loss:.3}  lr {learning_rate:.1e}  {}", self.time_left());
        self.bar.set_message(text.clone());
        if !self.terminal && self.run.last_line.elapsed() > LINE_EVERY {
            self.run.last_line = Instant::now();
            let share = 100 * step / self.run.steps_per_epoch;
            eprintln!("{}: epoch {epoch}/{} at {share} %  {text}", self.run.title, self.run.epochs);
        }
    }

    fn epoch(&mut self, record: &EpochRecord, timing: &Timing) {
        self.run.last_line = Instant::now();
        self.trained.add(timing);
        self.bar.finish_and_clear();
        eprintln!(
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
    }

    fn embedded(&mut self, split: &str, done: usize, total: usize) {
        if done <= self.run.batch {
            self.start_bar(IMAGES_BAR, format!("{} embed {split}", self.run.title), total as u64);
        }
        self.work(EMBEDDING_WORK * (done as u64).saturating_sub(self.bar.position()) as f64);
        self.bar.set_position(done as u64);
        self.bar.set_message(self.time_left());
        if done == total {
            self.bar.finish_and_clear();
        }
    }

    /// How fast this session trained.
    fn finished(&self) {
        if self.trained.images > 0 {
            self.line(&format!(
                "trained at {:.0} images/s; {:.1} % of that time was spent waiting for data",
                self.trained.images_per_second(),
                100.0 * self.trained.wait_share()
            ));
        }
    }

    fn start_bar(&mut self, template: &str, title: String, length: u64) {
        let target = if self.terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template(template).expect("the template is valid").with_key(
            "per_sec",
            |state: &ProgressState, out: &mut dyn Write| {
                let _ = write!(out, "{:.0} images/s", state.per_sec());
            },
        );
        self.bar = ProgressBar::with_draw_target(Some(length), target).with_style(style).with_prefix(title);
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
