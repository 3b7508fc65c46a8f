//! `benchmark`: check everything, then train every run, embed, and write the report.

use crate::options::TrainingArgs;
use crate::session::Session;
use crate::{Program, report, use_threads, with_causes};
use anyhow::Result;
use clap::Args;
use faceoff_data::{Dataset, profile};
use faceoff_pipeline::{Error, run_work};
use faceoff_runs::{Compute, Experiment, FolderLock, RunFolder, RunSpec};
use faceoff_training::{StepSeconds, initial_encoder, made_up_batch, time_steps};
use std::process::ExitCode;

/// Weights and embeddings of one run on Imagewoof, and its share of the report.
const DISK_MIB_PER_RUN: u64 = 75;
/// The checkpoint of the run at hand, and its successor while that is written.
const DISK_MIB_OF_CHECKPOINTS: u64 = 260;

/// What to compare, and how.
#[derive(Args)]
pub struct BenchmarkArgs {
    #[command(flatten)]
    training: TrainingArgs,
    /// Seeds instead of the experiment's, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "SEED,...")]
    seeds: Option<Vec<u64>>,
    /// Train again, and replace, what was made with another configuration or other images, or has failed.
    #[arg(long)]
    force: bool,
    /// Only say what would be done: runs, estimated hours, disk.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(program: &Program, args: &BenchmarkArgs) -> Result<ExitCode> {
    use_threads(args.training.threads)?;
    let mut experiment = args.training.experiment(program, args.seeds.clone())?;
    let session = Session::new(program, &args.training, &experiment)?;
    if args.dry_run {
        return dry_run(program, &experiment, args, &session);
    }
    session.hear_ctrl_c()?;
    let images = match session.open_images(&experiment) {
        Err(Error::Data(error)) if experiment.data.synthetic_fallback && error.is_unavailable() => {
            eprintln!("warning: {}", with_causes(&error.into()));
            experiment = experiment.on_synthetic();
            let name = &experiment.name;
            eprintln!(
                "warning: going on with SYNTHETIC images as experiment `{name}`: its numbers say nothing about real images"
            );
            session.open_images(&experiment)?
        }
        other => other?,
    };
    let folder = args.training.out.report_folder(program, &experiment.name);
    let _lock = FolderLock::take(&folder)?;
    let failed = match session.complete(&experiment, &images, &folder, args.force)? {
        Ok(failed) => failed,
        Err(interrupted) => return Ok(interrupted),
    };
    report::write(&folder, &experiment)?;
    if failed > 0 {
        eprintln!("{failed} runs failed; the report names them");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what would be done. The speed comes from a few real steps on made-up pixels.
fn dry_run(program: &Program, experiment: &Experiment, args: &BenchmarkArgs, session: &Session) -> Result<ExitCode> {
    let profile = profile(&experiment.data.dataset)?;
    let [train_images, val_images] = match (profile.images, &experiment.data.synthetic) {
        (Some(images), _) => images,
        (None, Some(synthetic)) if experiment.data.is_synthetic() => [synthetic.train_images, synthetic.val_images],
        _ => {
            let source = args.training.source.source(program);
            let images = Dataset::open(&experiment.data, &source, &|_, _, _| {})?;
            [images.record().train_images, images.record().val_images]
        }
    };
    let limit = experiment.data.images_per_split.unwrap_or(usize::MAX);
    let work = run_work(experiment.training.epochs, train_images.min(limit), val_images.min(limit));
    let specs = RunSpec::of(experiment, &Compute::unknown());
    let batch = made_up_batch(experiment.training.batch_size, experiment.data.image_size_px)?;
    let architecture = faceoff_kernels::architecture(&experiment.training.encoder)?;
    let initial = initial_encoder(architecture, 0)?;
    let mut encoder = faceoff_kernels::encoder(architecture, &initial, &session.arithmetic)?;
    let fastest = time_steps(encoder.as_mut(), &batch, 2)?.iter().map(StepSeconds::step).fold(f64::MAX, f64::min);
    let per_second = batch.count() as f64 / fastest;
    let hours = work * specs.len() as f64 / per_second / 3600.0;

    println!("experiment  {}: {}", experiment.name, experiment.description);
    println!("device      {}, {} threads", session.arithmetic, rayon::current_num_threads());
    let (heads, conditions) = (experiment.heads.len(), experiment.conditions.len().max(1));
    let seeds = experiment.training.seeds.len();
    println!("runs        {} ({heads} heads x {conditions} conditions x {seeds} seeds)", specs.len());
    let folder = args.training.out.report_folder(program, &experiment.name);
    for spec in &specs {
        println!("            {}", RunFolder::new(&folder, spec).path().display());
    }
    let minutes = 60.0 * hours;
    let rate = format!("{per_second:.0} training images/s, the report not counted");
    println!("time        about {hours:.2} hours ({minutes:.0} minutes) at {rate}");
    let results = specs.len() as u64 * DISK_MIB_PER_RUN + DISK_MIB_OF_CHECKPOINTS;
    let images = match profile.disk_mib {
        0 => String::new(),
        mib => format!(", {mib} MiB of images in data/"),
    };
    println!("disk        about {results} MiB of results{images}");
    println!("nothing was done");
    Ok(ExitCode::SUCCESS)
}
