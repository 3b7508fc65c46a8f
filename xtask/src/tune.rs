//! `cargo xtask tune`: the same budget of trials for every head, on the training images alone.
//!
//! A trial is a run like any other, of a variant with settings of its own, on `[data]` with a tenth of the training images
//! in the place of the validation images. So it resumes, is locked and is recorded as runs are; only the choice is made here.

use crate::benchmark::{INTERRUPTED, ImageSets, Job, Stop, Trained};
use crate::{TuneArgs, machine, workspace};
use anyhow::{Context, Error, Result, anyhow, bail};
use comfy_table::{CellAlignment, Table, presets};
use faceoff_analysis::{accuracy, neighbors};
use faceoff_runs::{
    Experiment, FolderLock, HeadVariant, RunFolder, RunSpec, SplitName, Trial, TuningConfig, write_atomically,
};
use ndarray::ArrayView2;
use std::path::Path;
use std::process::ExitCode;

/// Neighbours of the KNN accuracy that chooses.
const NEIGHBORS: usize = 5;

/// Tunes and writes the new experiment.
pub(crate) fn run(args: &TuneArgs) -> Result<ExitCode> {
    machine::use_threads(args.training.threads)?;
    let mut experiment = args.training.experiment(None)?;
    let Some(mut tuning) = experiment.tuning.clone() else {
        bail!(
            "experiment `{}` has no [tuning] table, so there is no budget; copy that of experiments/quick.toml",
            experiment.name
        );
    };
    tuning.trials = args.trials.unwrap_or(tuning.trials);
    experiment.tuning = Some(tuning.clone());
    experiment.validate()?;
    if !experiment.conditions.is_empty() {
        bail!(
            "experiment `{}` has conditions; settings are tuned for one: remove its [[conditions]]",
            experiment.name
        );
    }
    let name = match (args.file.file_stem(), args.file.extension()) {
        (Some(stem), Some(extension)) if extension == "toml" => stem.to_string_lossy().into_owned(),
        _ => bail!("--file is {}, but an experiment file ends in .toml", args.file.display()),
    };
    let trials = trials(&experiment, &tuning);
    let searched = search(&experiment, &tuning, &trials);
    let folder = args.training.out.join(&searched.name);
    // Said before hours are spent. A search that is done costs nothing, and writes what it wrote before.
    let done = || RunSpec::of(&searched).iter().all(|spec| RunFolder::new(&folder, spec).is_whole());
    if args.file.exists() && !args.force && !done() {
        return Err(exists(&args.file));
    }

    let device = machine::device(args.training.device)?;
    let kernels = faceoff_kernels::describe(&device)?;
    let stop = Stop::on_ctrl_c()?;
    let images = ImageSets::open(&searched, &args.training.source)?;
    let _lock = FolderLock::take(&folder)?;
    eprintln!(
        "tune: {} trials for each of {} heads, trained on nine tenths of the training images and scored on the tenth held back",
        tuning.trials,
        experiment.heads.len()
    );
    let job = Job { experiment: &searched, images: &images, device: &device, kernels: &kernels };
    if let Trained::Stopped = job.complete(&folder, args.force, &stop)? {
        return Ok(ExitCode::from(INTERRUPTED));
    }

    let scored = score(trials, &searched, &folder)?;
    let tuned = choose(experiment.clone(), name, scored)?;
    let text = text(&tuned, &experiment.name, &tuning)?;
    if !std::fs::read_to_string(&args.file).is_ok_and(|there| there == text) {
        if args.file.exists() && !args.force {
            return Err(exists(&args.file));
        }
        write_atomically(&args.file, |file| file.write_all(text.as_bytes()))?;
    }
    print(&tuned);
    println!("\nthe best of each head stand in {}", args.file.display());
    let known = workspace().join("experiments").join(format!("{}.toml", tuned.name));
    let experiment = if args.file == known { tuned.name } else { args.file.display().to_string() };
    println!("run it with: cargo xtask benchmark {experiment}");
    Ok(ExitCode::SUCCESS)
}

fn exists(file: &Path) -> Error {
    anyhow!("{} exists; use --force to overwrite it, or --file for another", file.display())
}

/// Trials of every head in turn, so that an interrupted search has spent the same on each.
fn trials(experiment: &Experiment, tuning: &TuningConfig) -> Vec<(HeadVariant, Trial)> {
    let of_trial = |number: usize| {
        experiment.heads.iter().map(move |variant| {
            let mut tried = variant.clone();
            tried.name = format!("{}-trial{number}", variant.name);
            let own = variant.peak_learning_rate.unwrap_or(experiment.training.peak_learning_rate);
            tried.peak_learning_rate = Some(own);
            if number > 0 {
                let [rate, scale, margin] = point(number, tuning.seed);
                let margins = match variant.head.margin().map(|margin| margin.unit()) {
                    Some("cosine") => tuning.margin_cosine,
                    _ => tuning.margin_radians,
                };
                tried.peak_learning_rate = Some(between_logarithms(tuning.peak_learning_rate, rate));
                let margin = rounded(margins[0] + margin * (margins[1] - margins[0]));
                tried.head =
                    tried.head.with_scale_and_margin(between_logarithms(tuning.scale, scale), margin);
            }
            let trial = Trial {
                head: variant.name.clone(),
                peak_learning_rate: tried.peak_learning_rate.unwrap_or(own),
                scale: tried.head.scale(),
                margin: tried.head.margin().map(|margin| margin.value()),
                knn_accuracy: None,
                dnn_accuracy: None,
                chosen: false,
            };
            (tried, trial)
        })
    };
    (0..tuning.trials).flat_map(of_trial).collect()
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

/// The experiment whose runs are the trials. One seed: what differs between trials is their setting alone.
fn search(experiment: &Experiment, tuning: &TuningConfig, trials: &[(HeadVariant, Trial)]) -> Experiment {
    let mut searched = experiment.clone();
    searched.name = format!("tune-{}", experiment.name);
    searched.data.tuning_split_seed = Some(tuning.seed);
    searched.training.seeds.truncate(1);
    searched.heads = trials.iter().map(|(variant, _)| variant.clone()).collect();
    searched
}

/// The accuracies of every trial on the tenth held back; none where the training diverged.
fn score(trials: Vec<(HeadVariant, Trial)>, searched: &Experiment, folder: &Path) -> Result<Vec<Trial>> {
    let specs = RunSpec::of(searched);
    let mut scored = Vec::new();
    for ((_, mut trial), spec) in trials.into_iter().zip(&specs) {
        let run = RunFolder::new(folder, spec);
        if run.is_whole() {
            let (train, val) = (run.embeddings(SplitName::Train)?, run.embeddings(SplitName::Val)?);
            let index = ArrayView2::from_shape((train.len(), train.dim), &train.unit)?;
            let queries = ArrayView2::from_shape((val.len(), val.dim), &val.unit)?;
            let k = NEIGHBORS.min(train.len());
            let found = neighbors::nearest(index, queries, k)?;
            let predicted = neighbors::knn_predictions(&found, &train.labels, k)?;
            trial.knn_accuracy = Some(accuracy::accuracy(&predicted, &val.labels)?);
            if spec.data.held_out_classes.is_empty() {
                let scores = ArrayView2::from_shape((val.len(), val.classes), &val.scores)?;
                let predicted = accuracy::predictions(scores);
                trial.dnn_accuracy = Some(accuracy::accuracy(&predicted, &val.labels)?);
            }
        }
        scored.push(trial);
    }
    Ok(scored)
}

/// The experiment with the best trial of each head: by KNN accuracy, then DNN accuracy, then the earlier.
fn choose(mut experiment: Experiment, name: String, mut trials: Vec<Trial>) -> Result<Experiment> {
    for variant in &mut experiment.heads {
        let mut best: Option<usize> = None;
        for (index, trial) in trials.iter().enumerate().filter(|(_, trial)| trial.head == variant.name) {
            let score = |index: usize| (trials[index].knn_accuracy, trials[index].dnn_accuracy);
            if trial.knn_accuracy.is_some() && best.is_none_or(|best| score(index) > score(best)) {
                best = Some(index);
            }
        }
        let Some(best) = best else {
            bail!("every trial of {} diverged; lower tuning.peak_learning_rate", variant.name);
        };
        let trial = &mut trials[best];
        trial.chosen = true;
        variant.peak_learning_rate = Some(trial.peak_learning_rate);
        if let (Some(scale), Some(margin)) = (trial.scale, trial.margin) {
            variant.head = variant.head.clone().with_scale_and_margin(scale, margin);
        }
    }
    experiment.description = format!(
        "{} Peak learning rate, scale and margin of each head tuned with the same budget.",
        experiment.description
    );
    experiment.name = name;
    // Those of one head stand together in the file.
    let order = |trial: &Trial| experiment.heads.iter().position(|variant| variant.name == trial.head);
    trials.sort_by_key(order);
    experiment.trials = trials;
    experiment.validate()?;
    Ok(experiment)
}

/// The file of the tuned experiment.
fn text(tuned: &Experiment, from: &str, tuning: &TuningConfig) -> Result<String> {
    let text = toml::to_string(tuned).context("the tuned experiment cannot be written as TOML")?;
    Ok(format!(
        "# Written by `cargo xtask tune {from}`: the best of {} trials of each head, the same budget for all. [[trials]] at the end has them.\n\
         # Every trial was trained on nine tenths of the training images and scored by KNN accuracy (k = {NEIGHBORS}) on the tenth held back\n\
         # (seed {}); no validation image was seen. Maps of scale and margin that are read on the validation images, as in\n\
         # scale-margin.toml, are exploratory: images that chose a setting cannot confirm it.\n{text}",
        tuning.trials, tuning.seed
    ))
}

/// The chosen settings, on stdout.
fn print(tuned: &Experiment) {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "variant",
        "peak learning rate",
        "scale",
        "margin",
        "KNN k=5 %",
        "DNN %",
        "trials",
        "diverged",
    ]);
    let number = |value: Option<f64>| value.map_or("-".to_string(), |value| value.to_string());
    let percent = |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{:.1}", 100.0 * value));
    for trial in tuned.trials.iter().filter(|trial| trial.chosen) {
        let of_head = || tuned.trials.iter().filter(|other| other.head == trial.head);
        table.add_row([
            trial.head.clone(),
            format!("{:e}", trial.peak_learning_rate),
            number(trial.scale),
            number(trial.margin),
            percent(trial.knn_accuracy),
            percent(trial.dnn_accuracy),
            of_head().count().to_string(),
            of_head().filter(|other| other.knn_accuracy.is_none()).count().to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    println!("accuracies are those of the tenth held back from training, not of the validation images");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_fill_the_ranges_and_are_the_same_for_every_head() {
        let lowest = |axis: usize| (1..=8).map(|n| point(n, 0)[axis]).fold(1.0, f64::min);
        let highest = |axis: usize| (1..=8).map(|n| point(n, 0)[axis]).fold(0.0, f64::max);
        for axis in 0..3 {
            assert!(lowest(axis) < 0.25 && highest(axis) > 0.75, "{axis}");
        }
        assert_ne!(point(1, 0), point(1, 1));
        let experiment = crate::load_experiment("smoke").unwrap();
        let tuning = TuningConfig { trials: 3, ..experiment.tuning.clone().unwrap() };
        let trials = trials(&experiment, &tuning);
        assert_eq!(trials.len(), 3 * experiment.heads.len());
        for of_trial in trials.chunks(experiment.heads.len()) {
            assert!(of_trial.iter().all(|(_, t)| t.peak_learning_rate == of_trial[0].1.peak_learning_rate));
            assert_eq!(of_trial[2].1.scale, of_trial[3].1.scale);
        }
        assert_eq!(trials[2].0.head, experiment.heads[2].head);
    }

    #[test]
    fn the_best_trial_of_each_head_is_chosen() {
        let mut experiment = crate::load_experiment("smoke").unwrap();
        experiment.heads.truncate(3);
        let tuning = TuningConfig { trials: 3, ..experiment.tuning.clone().unwrap() };
        let mut tried: Vec<Trial> =
            trials(&experiment, &tuning).into_iter().map(|(_, trial)| trial).collect();
        let scores =
            [(0.5, 0.4), (0.5, 0.4), (0.3, 0.9), (0.5, 0.6), (0.5, 0.4), (0.0, 0.0), (0.4, 0.9), (0.6, 0.1)];
        for (trial, (knn, dnn)) in tried.iter_mut().zip(scores) {
            (trial.knn_accuracy, trial.dnn_accuracy) = (Some(knn), Some(dnn));
        }
        let last = tried[8].clone();
        let tuned = choose(experiment.clone(), "tuned".into(), tried.clone()).unwrap();
        // Ties go to the higher DNN accuracy, then to the earlier; a trial without a score is never chosen.
        let chosen: Vec<_> =
            tuned.trials.iter().filter(|trial| trial.chosen).map(|t| t.knn_accuracy).collect();
        assert_eq!(chosen, [Some(0.5), Some(0.6), Some(0.3)]);
        assert_eq!(tuned.heads[0].peak_learning_rate, Some(tried[3].peak_learning_rate));
        assert_eq!(tuned.heads[2].head, experiment.heads[2].head);
        assert_ne!(last.scale, tried[2].scale);
        tried.iter_mut().for_each(|trial| trial.knn_accuracy = None);
        assert!(choose(experiment, "tuned".into(), tried).unwrap_err().to_string().contains("diverged"));
    }
}
