//! A search for settings: the same budget of trials for every head, on the training images alone.
//!
//! A trial is a run like any other, of a variant with settings of its own, on `[data]` with a tenth of the training images
//! in the place of the validation images. So it resumes, is locked and is recorded as runs are; only the choice is made here.

use crate::{Error, Result};
use faceoff_runs::{Experiment, HeadConfig, HeadVariant, Trial, TuningConfig};

/// The accuracies of a trial on the tenth held back, as shares; none where the training diverged.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Score {
    /// Of nearest neighbours. This one chooses.
    pub knn_accuracy: Option<f64>,
    /// Of the head's scores; none where the held-back images are of classes that training never saw.
    pub dnn_accuracy: Option<f64>,
}

/// The trials of a search.
pub struct Search {
    /// The experiment whose heads are tuned.
    base: Experiment,
    /// One for each head of [`Search::experiment`], in its order.
    trials: Vec<Trial>,
    /// The experiment whose runs are the trials: `tune-<name>`.
    pub experiment: Experiment,
}

impl Search {
    /// The search for the heads of `base`. Trials of every head come in turn, so that an interrupted search has spent the
    /// same on each.
    pub fn new(base: Experiment, tuning: &TuningConfig) -> Self {
        let (heads, trials) = (0..tuning.trials)
            .flat_map(|number| base.heads.iter().map(move |variant| (number, variant)))
            .map(|(number, variant)| trial(&base, tuning, number, variant))
            .unzip();
        let mut experiment = Experiment { name: format!("tune-{}", base.name), heads, ..base.clone() };
        experiment.data.tuning_split_seed = Some(tuning.seed);
        // One seed: what differs between trials is their setting alone.
        experiment.training.seeds.truncate(1);
        Self { base, trials, experiment }
    }

    /// The experiment `name` with the best trial of each head: by KNN accuracy, then DNN accuracy, then the earlier.
    /// `scores` are those of the trials, in the order of the search's heads.
    ///
    /// # Errors
    /// [`Error::AllDiverged`]; an experiment that is not valid under that name.
    pub fn choose(self, name: String, scores: &[Score]) -> Result<Experiment> {
        let Self { base: mut tuned, mut trials, .. } = self;
        assert_eq!(trials.len(), scores.len(), "every trial has a score");
        for (trial, score) in trials.iter_mut().zip(scores) {
            (trial.knn_accuracy, trial.dnn_accuracy) = (score.knn_accuracy, score.dnn_accuracy);
        }
        for variant in &mut tuned.heads {
            let of_head = trials.iter_mut().filter(|trial| trial.head == variant.name && trial.knn_accuracy.is_some());
            let score = |trial: &Trial| (trial.knn_accuracy, trial.dnn_accuracy);
            let best = of_head.reduce(|best, trial| if score(trial) > score(best) { trial } else { best });
            let trial = best.ok_or_else(|| Error::AllDiverged(variant.name.clone()))?;
            trial.chosen = true;
            variant.peak_learning_rate = Some(trial.peak_learning_rate);
            variant.head = with_settings(&variant.head, trial.scale, trial.margin, trial.margin);
        }
        tuned.description = format!(
            "{} Peak learning rate, scale and margin of each head tuned with the same budget.",
            tuned.description
        );
        tuned.name = name;
        // Those of one head stand together in the file.
        trials.sort_by_key(|trial| tuned.heads.iter().position(|variant| variant.name == trial.head));
        tuned.trials = trials;
        tuned.validate()?;
        Ok(tuned)
    }
}

/// Trial `number` of `variant`. The first is the experiment's own setting.
fn trial(base: &Experiment, tuning: &TuningConfig, number: usize, variant: &HeadVariant) -> (HeadVariant, Trial) {
    let mut tried = variant.clone();
    tried.name = format!("{}-trial{number}", variant.name);
    let mut peak_learning_rate = variant.peak_learning_rate.unwrap_or(base.training.peak_learning_rate);
    if number > 0 {
        let [rate, scale, margin] = point(number, tuning.seed);
        let between = |[low, high]: [f64; 2]| Some(rounded(low + margin * (high - low)));
        peak_learning_rate = between_logarithms(tuning.peak_learning_rate, rate);
        tried.head = with_settings(
            &variant.head,
            Some(between_logarithms(tuning.scale, scale)),
            between(tuning.margin_radians),
            between(tuning.margin_cosine),
        );
    }
    tried.peak_learning_rate = Some(peak_learning_rate);
    let trial = Trial {
        head: variant.name.clone(),
        peak_learning_rate,
        scale: tried.head.scale(),
        margin: tried.head.margin().map(|margin| margin.value()),
        knn_accuracy: None,
        dnn_accuracy: None,
        chosen: false,
    };
    (tried, trial)
}

/// The head with another scale and margin, as far as it has them to set.
fn with_settings(
    head: &HeadConfig,
    scale: Option<f64>,
    margin_radians: Option<f64>,
    margin_cosine: Option<f64>,
) -> HeadConfig {
    let settings = [("scale", scale), ("margin_radians", margin_radians), ("margin_cosine", margin_cosine)];
    settings.into_iter().fold(head.clone(), |head, (name, value)| match value {
        Some(value) if head.get(name).is_some() => head.with(name, value),
        _ => head,
    })
}

/// Point `number` of an additive recurrence that fills the unit cube evenly however many points are taken (Roberts 2018: steps
/// of 1/g, 1/g^2, 1/g^3 with g^4 = g + 1). Seeds start at other places.
fn point(number: usize, seed: u64) -> [f64; 3] {
    const G: f64 = 1.220_744_084_605_759_5;
    let place = number as f64 + 1000.0 * (seed % 1_000_000) as f64;
    [1, 2, 3].map(|power| (0.5 + place * G.powi(-power)).fract())
}

fn between_logarithms([low, high]: [f64; 2], share: f64) -> f64 {
    rounded(low * (high / low).powf(share))
}

/// Three digits: no accuracy depends on more, and files stay legible.
fn rounded(value: f64) -> f64 {
    format!("{value:.2e}").parse().expect("a number as it was written")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// A search of three trials for the heads of the smoke experiment.
    fn search(heads: usize) -> Search {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        let mut experiment = Experiment::load(&folder, "smoke").unwrap();
        experiment.heads.truncate(heads);
        let tuning = TuningConfig { trials: 3, ..experiment.tuning.clone().unwrap() };
        Search::new(experiment, &tuning)
    }

    #[test]
    fn points_fill_the_ranges_and_are_the_same_for_every_head() {
        let lowest = |axis: usize| (1..=8).map(|n| point(n, 0)[axis]).fold(1.0, f64::min);
        let highest = |axis: usize| (1..=8).map(|n| point(n, 0)[axis]).fold(0.0, f64::max);
        for axis in 0..3 {
            assert!(lowest(axis) < 0.25 && highest(axis) > 0.75, "{axis}");
        }
        assert_ne!(point(1, 0), point(1, 1));
        let Search { base, trials, experiment } = search(usize::MAX);
        assert_eq!(trials.len(), 3 * base.heads.len());
        for of_trial in trials.chunks(base.heads.len()) {
            assert!(of_trial.iter().all(|t| t.peak_learning_rate == of_trial[0].peak_learning_rate));
            assert_eq!(of_trial[2].scale, of_trial[3].scale);
        }
        assert_eq!(experiment.heads[2].head, base.heads[2].head);
    }

    #[test]
    fn the_best_trial_of_each_head_is_chosen() {
        let scores = [(0.5, 0.4), (0.5, 0.4), (0.3, 0.9), (0.5, 0.6), (0.5, 0.4), (0.0, 0.0), (0.4, 0.9), (0.6, 0.1)];
        let mut scores = scores.map(|(knn, dnn)| Score { knn_accuracy: Some(knn), dnn_accuracy: Some(dnn) }).to_vec();
        scores.push(Score::default());
        let Search { base, trials: tried, .. } = search(3);
        let tuned = search(3).choose("tuned".into(), &scores).unwrap();
        // Ties go to the higher DNN accuracy, then to the earlier; a trial without a score is never chosen.
        let chosen: Vec<_> = tuned.trials.iter().filter(|trial| trial.chosen).map(|t| t.knn_accuracy).collect();
        assert_eq!(chosen, [Some(0.5), Some(0.6), Some(0.3)]);
        assert_eq!(tuned.heads[0].peak_learning_rate, Some(tried[3].peak_learning_rate));
        assert_eq!(tuned.heads[2].head, base.heads[2].head);
        assert_ne!(tried[8].scale, tried[2].scale);
        let error = search(3).choose("tuned".into(), &[Score::default(); 9]).unwrap_err();
        assert!(error.to_string().contains("diverged"), "{error}");
    }
}
