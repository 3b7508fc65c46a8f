//! Progress on stderr, from the events of a job: bars on a terminal, plain lines elsewhere.

use faceoff_pipeline::{EMBEDDING_WORK, Event, image_work};
use faceoff_runs::{EpochRecord, Failure, RunSpec, TrainingConfig};
use faceoff_training::{Event as TrainingEvent, Timing};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often plain lines speak of an epoch under way.
const LINE_EVERY: Duration = Duration::from_secs(60);
/// The bar of images seen, below a line that says of what and how it goes: both fit into 80 columns.
const IMAGES_BAR: &str = "{prefix}  {wide_msg}\n{wide_bar:.cyan} {per_sec}";

/// What is shown of a job. It hears events from any thread.
pub(crate) struct Progress(Mutex<Shown>);

/// Work is counted in training images of `data.image_size_px`.
struct Shown {
    terminal: bool,
    bar: ProgressBar,
    runs: usize,
    work_left: f64,
    work_done: f64,
    seconds: f64,
    since: Instant,
    last_line: Instant,
    trained: Timing,
    // Of the run at hand.
    title: String,
    /// Its recipe, and `data.image_size_px`.
    recipe: Option<(TrainingConfig, usize)>,
    epochs: usize,
    batch: usize,
    steps_per_epoch: usize,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Shown {
            terminal: std::io::stderr().is_terminal(),
            bar: ProgressBar::hidden(),
            runs: 0,
            work_left: 0.0,
            work_done: 0.0,
            seconds: 0.0,
            since: Instant::now(),
            last_line: Instant::now(),
            trained: Timing::default(),
            title: String::new(),
            recipe: None,
            epochs: 0,
            batch: 0,
            steps_per_epoch: 0,
        }))
    }

    /// Shows an event.
    pub(crate) fn on_event(&self, event: Event) {
        self.0.lock().expect("nothing panics while it shows progress").on_event(event);
    }
}

impl Shown {
    fn on_event(&mut self, event: Event) {
        match event {
            Event::Images(phase, done, total) => self.images(phase, done, total),
            Event::ImagesEnd => {
                self.bar.finish_and_clear();
                self.bar = ProgressBar::hidden();
            }
            Event::FailedBefore(spec, Failure { epoch, message, .. }) => self.line(&format!(
                "{} failed before at epoch {epoch} and would again ({message}); change the experiment, or use --force to see it",
                spec.folder_name()
            )),
            Event::Unfit(spec, failure) => self.line(&format!("{} is left out: {}", spec.folder_name(), failure.message)),
            Event::Damaged(spec, problem) => self.line(&format!(
                "{} is left alone, and the others go on: {problem}",
                spec.folder_name()
            )),
            Event::Runs(to_do, _, work) => (self.runs, self.work_left, self.since) = (to_do, work, Instant::now()),
            Event::Run(number, spec) => {
                self.title = format!("[{number}/{}] {} seed {}", self.runs, spec.variant.name, spec.seed);
                self.recipe = Some((spec.training.clone(), spec.data.image_size_px));
                (self.epochs, self.batch) = (spec.training.epochs, spec.training.batch_size);
            }
            // Its measures are said by whoever makes them.
            Event::Whole(_) => {}
            Event::Elsewhere(spec, work) => {
                self.runs -= 1;
                self.work_left = (self.work_left - work).max(0.0);
                self.line(&format!("{} was ended by another process", spec.folder_name()));
            }
            Event::Waiting(held) => {
                let of = |(spec, holder): &(&RunSpec, String)| match holder.as_str() {
                    "" => spec.folder_name(),
                    holder => format!("{} ({holder})", spec.folder_name()),
                };
                let runs = held.iter().map(of).collect::<Vec<_>>().join(", ");
                self.line(&format!("waiting for runs that other processes hold, to take over what one of them leaves: {runs}"));
            }
            Event::Training(TrainingEvent::Start { epochs_done, steps_per_epoch }) => {
                self.start(epochs_done, steps_per_epoch);
            }
            Event::Training(TrainingEvent::Step { epoch, step, loss, learning_rate }) => {
                self.step(epoch, step, loss, learning_rate);
            }
            Event::Training(TrainingEvent::Epoch { record, timing }) => self.epoch(record, &timing),
            Event::Diverged(spec, Failure { epoch, step, learning_rate, message, .. }) => self.line(&format!(
                "{} FAILED at epoch {epoch}, step {step}, learning rate {learning_rate:.2e}: {message}",
                spec.folder_name()
            )),
            Event::Broken(spec, error) => {
                self.bar.finish_and_clear();
                let error = crate::with_causes(&anyhow::Error::msg(error.to_string()));
                self.line(&format!("{} FAILED: {error}", spec.folder_name()));
            }
            Event::Embedded(split, done, total) => self.embedded(split.as_str(), done, total),
            Event::End(done) => self.end(done),
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
        if self.bar.prefix() != phase {
            self.bar.finish_and_clear();
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

    fn start(&mut self, epochs_done: usize, steps_per_epoch: usize) {
        // The run before was measured meanwhile, as every one will be: that is part of the time that each takes.
        self.work(0.0);
        self.last_line = Instant::now();
        self.steps_per_epoch = steps_per_epoch;
        self.work_left -= (0..epochs_done * steps_per_epoch).map(|step| self.work_of(step)).sum::<f64>();
        if epochs_done > 0 {
            self.line(&format!("{}: goes on after epoch {epochs_done} of {}", self.title, self.epochs));
        }
    }

    fn step(&mut self, epoch: usize, step: usize, loss: f64, learning_rate: f64) {
        if step == 1 {
            let title = format!("{} epoch {epoch}/{}", self.title, self.epochs);
            self.start_bar(IMAGES_BAR, title, (self.steps_per_epoch * self.batch) as u64);
        }
        self.work(self.work_of((epoch - 1) * self.steps_per_epoch + step - 1));
        self.bar.set_position((step * self.batch) as u64);
        let text = format!("loss {loss:.3}  lr {learning_rate:.1e}  {}", self.time_left());
        self.bar.set_message(text.clone());
        if !self.terminal && self.last_line.elapsed() > LINE_EVERY {
            self.last_line = Instant::now();
            let share = 100 * step / self.steps_per_epoch;
            eprintln!("{}: epoch {epoch}/{} at {share} %  {text}", self.title, self.epochs);
        }
    }

    fn epoch(&mut self, record: &EpochRecord, timing: &Timing) {
        self.last_line = Instant::now();
        self.trained.add(timing);
        self.bar.finish_and_clear();
        let EpochRecord { epoch, train_loss, train_accuracy, learning_rate, .. } = record;
        let accuracy = train_accuracy.map(|share| format!("  accuracy {:.1} %", 100.0 * share)).unwrap_or_default();
        let learnt = format!("loss {train_loss:.3}{accuracy}  lr {learning_rate:.1e}");
        let (speed, waited) = (timing.images_per_second(), 100.0 * timing.wait_share());
        let time = format!("{speed:.0} images/s  waited for data {waited:.1} %  {}", self.time_left());
        eprintln!("{}: epoch {epoch}/{}  {learnt}  {time}", self.title, self.epochs);
    }

    fn embedded(&mut self, split: &str, done: usize, total: usize) {
        if done <= self.batch {
            self.start_bar(IMAGES_BAR, format!("{} embed {split}", self.title), total as u64);
        }
        self.work(EMBEDDING_WORK * (done as u64).saturating_sub(self.bar.position()) as f64);
        self.bar.set_position(done as u64);
        self.bar.set_message(self.time_left());
        if done == total {
            self.bar.finish_and_clear();
        }
    }

    /// How fast this session trained, or where it stopped.
    fn end(&self, done: usize) {
        if done < self.runs {
            self.line(&format!("stopped: {done} of {} runs done; run the same command to go on", self.runs));
        } else if self.trained.images > 0 {
            self.line(&format!(
                "trained at {:.0} images/s; {:.1} % of that time was spent waiting for data",
                self.trained.images_per_second(),
                100.0 * self.trained.wait_share()
            ));
        }
    }

    fn start_bar(&mut self, template: &str, title: String, length: u64) {
        let target = if self.terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let per_second = |state: &ProgressState, out: &mut dyn Write| {
            let _ = write!(out, "{:.0} images/s", state.per_sec());
        };
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        let style = style.with_key("per_sec", per_second);
        self.bar = ProgressBar::with_draw_target(Some(length), target).with_style(style).with_prefix(title);
    }

    /// The work of a step, which counts from 0.
    fn work_of(&self, step: usize) -> f64 {
        let steps = self.epochs * self.steps_per_epoch;
        let image =
            |(recipe, full_px): &(TrainingConfig, usize)| image_work(recipe.side_px(step, steps, *full_px), *full_px);
        self.batch as f64 * self.recipe.as_ref().map_or(1.0, image)
    }

    fn work(&mut self, images: f64) {
        let now = Instant::now();
        self.seconds += now.duration_since(self.since).as_secs_f64();
        self.since = now;
        self.work_done += images;
        self.work_left = (self.work_left - images).max(0.0);
    }

    fn time_left(&self) -> String {
        let seconds = self.seconds / self.work_done.max(1.0) * self.work_left;
        format!("{} left", HumanDuration(Duration::from_secs_f64(seconds)))
    }
}
