//! Verdicts on the health of heads: what a run's own numbers say against it, by rules that are written down here.
//!
//! [`Verdict::rule`] says each rule in words, [`RunHealth::has`] decides it, the constants below are its numbers. Verdicts say what to
//! make of a comparison, and change no number of it.

use crate::families::health::{BEYOND, MARGIN_ACTIVE, MEAN_DIRECTION, OWN_ANGLE, UNLEARNT_LOSS, WEIGHT_COSINE};
use crate::measured::Findings;
use faceoff_runs::{EpochRecord, Failure};
use std::fmt;

/// Share of the images whose loss a margin must change.
pub const LEAST_ACTIVE: f64 = 0.5;
/// Length of the mean direction from which embeddings are a cone: at 0.99, two images lie 11 degrees apart on the average.
pub const CONE: f64 = 0.99;
/// Share of the loss of equal cosines from which nothing was learnt.
pub const UNLEARNT: f64 = 0.9;
/// Share of its first value by which a loss must have moved.
pub const MOVED: f64 = 0.05;
/// Rise of the accuracy a step: half a point in 100 steps.
pub const RISING: f64 = 5e-5;
/// A loss that is so many times its lowest has diverged.
pub const RISEN: f64 = 2.0;

/// What ails a head, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The training blew up.
    Diverged,
    /// The head trains without its margin.
    MarginInactive,
    /// All embeddings point one way.
    Collapsed,
    /// Nothing was learnt.
    Saturated,
    /// A class is given up.
    NeverPredicted,
    /// Training ended too early.
    Undertrained,
}

impl Verdict {
    /// All of them, the gravest first.
    pub const ALL: [Self; 6] = [
        Self::Diverged,
        Self::MarginInactive,
        Self::Collapsed,
        Self::Saturated,
        Self::NeverPredicted,
        Self::Undertrained,
    ];

    /// The rule, with its number: what a run must show.
    pub fn rule(self) -> String {
        match self {
            Self::Diverged => format!(
                "the training failed for good, or the mean loss of its last epoch is more than {RISEN} times that of its lowest."
            ),
            Self::MarginInactive => format!(
                "the margin changes the logit of the label of less than {} % of the validation images (of the images of the last epoch \
                 in runs that did not store their logits).",
                100.0 * LEAST_ACTIVE
            ),
            Self::Collapsed => format!("the mean of the unit validation embeddings is at least {CONE} long."),
            Self::Saturated => format!(
                "after two epochs or more, the loss of the training images is at least {} % of what scale and margin alone explain (that of \
                 images with one cosine to all classes), and the mean loss of an epoch moved by less than {} % from the first to the last.",
                100.0 * UNLEARNT,
                100.0 * MOVED
            ),
            Self::NeverPredicted => "a class with validation images is the highest score of none.".into(),
            Self::Undertrained => format!(
                "after two epochs or more, the accuracy in training rose by more than {} points in 100 steps of the last.",
                1e4 * RISING
            ),
        }
    }

    /// What it means for the comparison, in one sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Diverged => "Its numbers are missing, or say nothing of the head.",
            Self::MarginInactive => {
                "It trains as scaled cosines without a margin do, so its place says nothing of the margin."
            }
            Self::Collapsed => {
                "Classes differ by small angles around one direction, so margins and scales act on what all images share, and \
                 accuracies hang on little."
            }
            Self::Saturated => "Its place is that of its scale and margin, not of its formula.",
            Self::NeverPredicted => "Its DNN accuracy has a ceiling, and its macro accuracy falls behind.",
            Self::Undertrained => "Its place may change with longer training.",
        }
    }

    /// What to try, in one sentence.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Diverged => "Lower the learning rate, the scale or the margin.",
            Self::MarginInactive => {
                "Set beyond_pi = \"linear\" where the head has it, which keeps a constant margin of m sin m there, lower the \
                 margin, and put NormFace beside it."
            }
            Self::Collapsed => "Train for more epochs, or lower the scale.",
            Self::Saturated => {
                "Lower the margin, raise a scale below sqrt(2) ln(C - 1), lower one far above it, or search with `tune`."
            }
            Self::NeverPredicted => "Train for more epochs, and look at the confusion matrix and the class's images.",
            Self::Undertrained => "Train for more epochs.",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Diverged => "diverged",
            Self::MarginInactive => "margin inactive",
            Self::Collapsed => "collapsed to a cone",
            Self::Saturated => "saturated",
            Self::NeverPredicted => "class never predicted",
            Self::Undertrained => "undertrained",
        })
    }
}

/// The numbers of one run that verdicts are made of; what it does not have decides nothing.
#[derive(Debug, Clone, Default)]
pub struct RunHealth {
    /// Name of the variant.
    pub variant: String,
    /// Seed of the run.
    pub seed: u64,
    /// Why it failed for good.
    pub failure: Option<String>,
    /// Mean training loss of each epoch.
    pub losses: Vec<f64>,
    /// Steps done and accuracy in training after each epoch.
    pub accuracies: Vec<(usize, f64)>,
    /// Share of the images whose margin changes their loss.
    pub margin_active: Option<f64>,
    /// Share of the images beyond pi - m.
    pub beyond: Option<f64>,
    /// Median angle to the own class weight, in degrees.
    pub own_angle: Option<f64>,
    /// Length of the mean direction.
    pub mean_direction: Option<f64>,
    /// Cosine of mean embedding and mean class weight.
    pub weight_cosine: Option<f64>,
    /// Loss over that of equal cosines.
    pub unlearnt: Option<f64>,
    /// Names of the classes that are never predicted.
    pub never_predicted: Vec<String>,
}

impl RunHealth {
    /// The numbers of a whole run; `classes` are the names of the evaluated classes.
    pub fn of(variant: &str, seed: u64, found: &Findings, history: &[EpochRecord], classes: &[String]) -> Self {
        let value = |metric: &'static crate::Metric| found.value(metric.id());
        let last = history.last();
        let confusion = &found.shapes.confusion;
        let never = |class: usize| {
            let shown = confusion.get(class).is_some_and(|row| row.iter().sum::<u64>() > 0);
            shown && confusion.iter().all(|row| row[class] == 0)
        };
        Self {
            variant: variant.into(),
            seed,
            failure: None,
            losses: history.iter().map(|record| record.train_loss).collect(),
            accuracies: history.iter().filter_map(|record| Some((record.step, record.train_accuracy?))).collect(),
            margin_active: value(&MARGIN_ACTIVE).or(last.and_then(|last| last.margin_active)),
            beyond: value(&BEYOND).or(last.and_then(|last| last.beyond_pi_minus_m)),
            own_angle: value(&OWN_ANGLE).or(last.and_then(|last| last.own_angle_degrees)),
            mean_direction: value(&MEAN_DIRECTION),
            weight_cosine: value(&WEIGHT_COSINE),
            unlearnt: value(&UNLEARNT_LOSS),
            never_predicted: classes
                .iter()
                .enumerate()
                .filter(|(class, _)| never(*class))
                .map(|c| c.1.clone())
                .collect(),
        }
    }

    /// A run that stopped for good, by the name of its folder.
    pub fn failed(folder: &str, failure: &Failure) -> Self {
        let (variant, seed) = folder.rsplit_once("-seed").unwrap_or((folder, ""));
        let Failure { epoch, step, message, .. } = failure;
        let failure = Some(format!("epoch {epoch}, step {step}: {message}"));
        Self { variant: variant.into(), seed: seed.parse().unwrap_or(0), failure, ..Self::default() }
    }

    /// Whether the rule of a verdict holds.
    pub fn has(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Diverged => {
                let lowest = self.losses.iter().copied().fold(f64::INFINITY, f64::min);
                self.failure.is_some() || self.losses.last().is_some_and(|&last| last > RISEN * lowest)
            }
            Verdict::MarginInactive => self.margin_active.is_some_and(|share| share < LEAST_ACTIVE),
            Verdict::Collapsed => self.mean_direction.is_some_and(|length| length >= CONE),
            Verdict::Saturated => {
                self.unlearnt.is_some_and(|ratio| ratio >= UNLEARNT) && self.moved().is_some_and(|share| share < MOVED)
            }
            Verdict::NeverPredicted => !self.never_predicted.is_empty(),
            Verdict::Undertrained => self.rise().is_some_and(|rise| rise > RISING),
        }
    }

    /// By which share of its first value the loss moved, from the first epoch to the last of two at least.
    fn moved(&self) -> Option<f64> {
        let [first, .., last] = self.losses[..] else { return None };
        Some((last / first - 1.0).abs())
    }

    /// The steps of the last epoch, of two at least, and by how much the accuracy rose in it.
    fn last_epoch(&self) -> Option<(usize, f64)> {
        let [.., (before, low), (after, high)] = self.accuracies[..] else { return None };
        Some((after.saturating_sub(before).max(1), high - low))
    }

    /// By how much the accuracy rose a step in the last epoch.
    fn rise(&self) -> Option<f64> {
        self.last_epoch().map(|(steps, rise)| rise / steps as f64)
    }
}

/// A verdict on a variant.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Name of the variant.
    pub variant: String,
    /// What ails it.
    pub verdict: Verdict,
    /// The seeds of the runs it was found in.
    pub seeds: Vec<u64>,
    /// How many runs the variant has, those that failed included.
    pub of: usize,
    /// What was seen, with the numbers of those runs: one sentence.
    pub seen: String,
}

impl Finding {
    /// The verdict, and in how many of several runs: `margin inactive (2 of 5)`.
    pub fn short(&self) -> String {
        match (self.seeds.len(), self.of) {
            (_, 1) => self.verdict.to_string(),
            (found, all) => format!("{} ({found} of {all})", self.verdict),
        }
    }
}

/// The verdicts on all variants, in the order of their first runs, the gravest first.
pub fn judge(runs: &[RunHealth]) -> Vec<Finding> {
    let mut variants: Vec<&str> = Vec::new();
    for run in runs {
        if !variants.contains(&run.variant.as_str()) {
            variants.push(&run.variant);
        }
    }
    let of_variant = |&variant: &&str| {
        let own: Vec<&RunHealth> = runs.iter().filter(|run| run.variant == variant).collect();
        let found = Verdict::ALL.into_iter().filter_map(move |verdict| {
            let ill: Vec<&RunHealth> = own.iter().copied().filter(|run| run.has(verdict)).collect();
            (!ill.is_empty()).then(|| Finding {
                variant: own[0].variant.clone(),
                verdict,
                seeds: ill.iter().map(|run| run.seed).collect(),
                of: own.len(),
                seen: seen(verdict, &ill),
            })
        });
        found.collect::<Vec<_>>()
    };
    variants.iter().flat_map(of_variant).collect()
}

/// What was seen in these runs.
fn seen(verdict: Verdict, runs: &[&RunHealth]) -> String {
    let percent = |value: f64| format!("{:.1} %", 100.0 * value);
    let number = |value: f64| format!("{value:.3}");
    let degrees = |value: f64| format!("{value:.0} degrees");
    // The lowest and the highest value of all runs, once where they read alike.
    let span = |value: &dyn Fn(&RunHealth) -> Option<f64>, write: &dyn Fn(f64) -> String| {
        let mut values: Vec<f64> = runs.iter().filter_map(|run| value(run)).collect();
        values.sort_unstable_by(f64::total_cmp);
        let (low, high) = (write(*values.first()?), write(*values.last()?));
        Some(if low == high { low } else { format!("{low} to {high}") })
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    match verdict {
        Verdict::Diverged => {
            let failed = runs.iter().find_map(|run| run.failure.as_ref());
            let risen = || {
                let last = or_dash(span(&|run| run.losses.last().copied(), &number));
                let lowest = or_dash(span(&|run| run.losses.iter().copied().reduce(f64::min), &number));
                format!("The loss of the last epoch is {last}, that of the lowest {lowest}.")
            };
            failed.map_or_else(risen, |failure| format!("A training failed at {}.", failure.trim_end_matches('.')))
        }
        Verdict::MarginInactive => {
            let active = or_dash(span(&|run| run.margin_active, &percent));
            let angle = or_dash(span(&|run| run.own_angle, &degrees));
            let beyond = span(&|run| run.beyond, &percent);
            let beyond = beyond.map(|share| format!(", and {share} lie beyond pi - m")).unwrap_or_default();
            format!(
                "The margin changes the loss of {active} of the images; their median angle to their own class weight is {angle}{beyond}."
            )
        }
        Verdict::Collapsed => {
            let length = or_dash(span(&|run| run.mean_direction, &number));
            let apart = or_dash(span(&|run| Some(run.mean_direction?.powi(2).min(1.0).acos().to_degrees()), &degrees));
            let cosine = span(&|run| run.weight_cosine, &number);
            let cosine = cosine.map(|cosine| format!(", and its cosine with the mean class weight {cosine}"));
            format!(
                "The mean of the unit embeddings is {length} long, so two images lie about {apart} apart{}.",
                cosine.unwrap_or_default()
            )
        }
        Verdict::Saturated => {
            let ratio = or_dash(span(&|run| run.unlearnt, &percent));
            let moved = or_dash(span(&RunHealth::moved, &percent));
            format!("The loss is {ratio} of what scale and margin alone explain, and moved by {moved} over the epochs.")
        }
        Verdict::NeverPredicted => {
            let mut names: Vec<&str> = runs.iter().flat_map(|run| &run.never_predicted).map(String::as_str).collect();
            names.sort_unstable();
            names.dedup();
            const NAMED: usize = 5;
            let more = if names.len() > NAMED { format!(" and {} more", names.len() - NAMED) } else { String::new() };
            names.truncate(NAMED);
            format!("No validation image is taken for {}{more}.", names.join(", "))
        }
        Verdict::Undertrained => {
            let points = |points: f64| format!("{points:.1} points");
            // What 100 steps would be of fewer is more points than an accuracy has.
            if runs.iter().filter_map(|run| run.last_epoch()).any(|(steps, _)| steps < 100) {
                let rise = or_dash(span(&|run| Some(100.0 * run.last_epoch()?.1), &points));
                let steps = or_dash(span(&|run| Some(run.last_epoch()?.0 as f64), &|steps| format!("{steps}")));
                let steps = if steps == "1" { "the one step".into() } else { format!("the {steps} steps") };
                return format!("The accuracy in training rose by {rise} in {steps} of the last epoch.");
            }
            let rise = or_dash(span(&|run| Some(1e4 * run.rise()?), &points));
            format!("The accuracy in training rose by {rise} in 100 steps of the last epoch.")
        }
    }
}
