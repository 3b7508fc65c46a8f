//! `tune`: the same budget of trials for every head, on the training images alone.

use crate::options::TrainingArgs;
use crate::results::{percent, plain_table};
use crate::session::{Completed, Session};
use crate::{Program, use_threads};
use anyhow::{Error, Result, anyhow, bail};
use clap::Args;
use faceoff_evaluation::Registry;
use faceoff_evaluation::families::{classifier, neighbors};
use faceoff_evaluation::measured::{Splits, measure};
use faceoff_pipeline::{Score, Search};
use faceoff_runs::{AnalysisConfig, Compute, Experiment, RunFolder, RunSpec, TuningConfig, write_atomically};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What to tune, and how long.
#[derive(Args)]
pub struct TuneArgs {
    #[command(flatten)]
    training: TrainingArgs,
    /// Trials of each head instead of the experiment's.
    #[arg(long, value_name = "N")]
    trials: Option<usize>,
    /// The experiment file to write [default: experiments/tuned.toml in the root folder]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Overwrite the file, and replace trials of another configuration.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(program: &Program, args: &TuneArgs) -> Result<ExitCode> {
    use_threads(args.training.threads)?;
    let mut experiment = args.training.experiment(program, None)?;
    let Some(mut tuning) = experiment.tuning.clone() else {
        bail!(
            "experiment `{}` has no [tuning] table, so there is no budget; copy that which this shows: {}",
            experiment.name,
            program.command("experiment show quick")
        );
    };
    tuning.trials = args.trials.unwrap_or(tuning.trials);
    experiment.tuning = Some(tuning.clone());
    experiment.validate()?;
    if !experiment.conditions.is_empty() {
        bail!("experiment `{}` has conditions; settings are tuned for one: remove its [[conditions]]", experiment.name);
    }
    let file = args.file.clone().unwrap_or_else(|| program.path("experiments/tuned.toml"));
    let name = match (file.file_stem(), file.extension()) {
        (Some(stem), Some(extension)) if extension == "toml" => stem.to_string_lossy().into_owned(),
        _ => bail!("--file is {}, but an experiment file ends in .toml", file.display()),
    };
    let (from, heads) = (experiment.name.clone(), experiment.heads.len());
    let mut search = Search::new(experiment, &tuning);
    let folder = args.training.out.report_folder(program, &search.experiment.name);
    // Said before hours are spent. A search that is done costs nothing, and writes what it wrote before.
    let specs = RunSpec::of(&search.experiment, &Compute::unknown());
    let done = || specs.iter().all(|spec| RunFolder::new(&folder, spec).is_whole());
    if file.exists() && !args.force && !done() {
        return Err(exists(&file));
    }

    let session = Session::new(program, &args.training, &search.experiment)?;
    session.hear_ctrl_c(false)?;
    let mut images = session.open_images(&search.experiment)?;
    let trials = search.experiment.heads.len();
    search.experiment = session.adapted(search.experiment, &mut images)?;
    if search.experiment.heads.len() < trials {
        bail!("heads that these images do not allow cannot be tuned; name the others with --heads");
    }
    eprintln!(
        "tune: {} trials for each of {heads} heads, trained on nine tenths of the training images and scored on the tenth held back",
        tuning.trials,
    );
    if let Completed::Stopped(status) =
        session.complete(&search.experiment, &images, &folder, args.force, None, false)?
    {
        return Ok(status);
    }

    let mut analysis = search.experiment.analysis.clone();
    analysis.knn_neighbors = vec![analysis.headline_neighbors];
    let scored = specs.iter().map(|spec| score(spec, &RunFolder::new(&folder, spec), &analysis));
    let scores = scored.collect::<Result<Vec<_>>>()?;
    let tuned = search.choose(name, &scores)?;
    let text = text(&tuned, &program.command(&format!("tune {from}")), &tuning);
    if !std::fs::read_to_string(&file).is_ok_and(|written| written == text) {
        if file.exists() && !args.force {
            return Err(exists(&file));
        }
        write_atomically(&file, |file| file.write_all(text.as_bytes()))?;
    }
    print(&tuned);
    println!("\nthe best of each head stand in {}", file.display());
    let known = program.path("experiments").join(format!("{}.toml", tuned.name));
    let experiment = if file == known { tuned.name } else { file.display().to_string() };
    println!("run it with: {}", program.command(&format!("benchmark {experiment}")));
    Ok(ExitCode::SUCCESS)
}

fn exists(file: &Path) -> Error {
    anyhow!("{} exists; use --force to overwrite it, or --file for another", file.display())
}

/// The accuracies of a trial on the tenth held back; none where the training diverged.
fn score(spec: &RunSpec, run: &RunFolder, analysis: &AnalysisConfig) -> Result<Score> {
    if !run.is_whole() {
        return Ok(Score::default());
    }
    let manifest = run.intact_manifest()?;
    let classes = manifest.data.classes.len();
    let splits = Splits::read(run, &manifest)?;
    let classifies = spec.data.held_out_classes.is_empty();
    let subject = splits.subject(classes, classifies, spec.seed, analysis);
    let found = measure(&subject, &Registry::of(&[classifier::FAMILY, neighbors::FAMILY]));
    let knn_accuracy = found.value(neighbors::headline(analysis));
    if knn_accuracy.is_none() {
        bail!("{} could not be scored: {}", run.path().display(), found.notes.join(" "));
    }
    Ok(Score { knn_accuracy, dnn_accuracy: found.value(classifier::DNN_ACCURACY.id()) })
}

/// The file of the tuned experiment.
fn text(tuned: &Experiment, command: &str, tuning: &TuningConfig) -> String {
    let text = tuned.to_toml();
    format!(
        "# Written by `{command}`: the best of {} trials of each head, the same budget for all. [[trials]] at the end has them.\n\
         # Every trial was trained on nine tenths of the training images and scored by KNN accuracy (k = {}) on the tenth held back\n\
         # (seed {}); no validation image was seen. Maps of scale and margin that are read on the validation images, as in\n\
         # scale-margin.toml, are exploratory: images that chose a setting cannot confirm it.\n{text}",
        tuning.trials, tuned.analysis.headline_neighbors, tuning.seed
    )
}

/// The chosen settings, on stdout.
fn print(tuned: &Experiment) {
    let mut table =
        plain_table(&["variant", "peak learning rate", "scale", "margin", "KNN k=5 %", "DNN %", "trials", "diverged"]);
    let number = |value: Option<f64>| value.map_or("-".to_string(), |value| value.to_string());
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
    println!("{table}");
    println!("accuracies are those of the tenth held back from training, not of the validation images");
}
