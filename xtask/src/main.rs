//! Faceoff's commands. One file a command; this one holds the command line and nothing else.

mod bench;
mod benchmark;
mod data;
mod heads;
mod machine;
mod progress;
mod report;
mod results;
mod tune;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use faceoff_runs::{Experiment, Overrides};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Which classification head teaches an encoder the best embeddings? Faceoff trains seven heads on the same encoder,
/// data and seeds, and compares what they learnt.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train all heads of an experiment, embed both splits, write the report.
    ///
    /// A benchmark that was stopped or killed goes on where the last finished epoch ended: run the same command again.
    /// Runs that are whole are never trained twice.
    Benchmark(BenchmarkArgs),
    /// Make the report of an experiment again from its runs, without training; or one of embeddings from elsewhere.
    Report(ReportArgs),
    /// Find peak learning rate, scale and margin of each head with the same budget, without a look at the validation images.
    ///
    /// Trials are trained on nine tenths of the training images and scored on the tenth held back; the best of each head are
    /// written as a new experiment, trials included. The budget stands in the experiment's `[tuning]`. Stopped or killed,
    /// it goes on where it was: run the same command again.
    Tune(TuneArgs),
    /// Fetch or verify the images.
    #[command(subcommand)]
    Data(DataCommand),
    /// List the heads with formula, parameters and paper.
    Heads,
    /// How fast the parts are on this machine.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

#[derive(Args)]
pub(crate) struct BenchmarkArgs {
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

/// What to train, on what, where to.
#[derive(Args)]
pub(crate) struct TrainingArgs {
    /// Name of a file in experiments/, without `.toml`; or the path of any experiment file.
    #[arg(default_value = "quick")]
    experiment: String,
    /// Only these heads, by name or kind, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    heads: Option<Vec<String>>,
    /// Epochs instead of the experiment's.
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Side of the images that the encoder sees, instead of the experiment's.
    #[arg(long, value_name = "PX")]
    image_size: Option<usize>,
    /// Where to train. `auto` takes CUDA, Metal, CPU in that order, as far as this build has them.
    #[arg(long, value_enum, default_value = "auto")]
    device: DeviceChoice,
    #[command(flatten)]
    source: SourceArgs,
    /// Threads for everything; all processors unless stated.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Folder of the report folders.
    #[arg(long, value_name = "DIR", default_value_os_t = reports_folder())]
    out: PathBuf,
}

/// Where the images come from.
#[derive(Args, Clone)]
pub(crate) struct SourceArgs {
    /// Folder with `train/<class>/` and `val/<class>/`, instead of the cache or the download.
    #[arg(long, value_name = "DIR", conflicts_with = "archive")]
    data: Option<PathBuf>,
    /// Archive of the data set (.tgz), instead of the cache or the download.
    #[arg(long, value_name = "FILE")]
    archive: Option<PathBuf>,
    /// Folder for what is fetched, extracted and decoded.
    #[arg(long, value_name = "DIR", default_value_os_t = workspace().join("data"))]
    cache: PathBuf,
    /// Address of a folder with the archives, instead of fast.ai's. The published md5 stays binding.
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

#[derive(Args)]
pub(crate) struct TuneArgs {
    #[command(flatten)]
    training: TrainingArgs,
    /// Trials of each head instead of the experiment's.
    #[arg(long, value_name = "N")]
    trials: Option<usize>,
    /// The experiment file to write.
    #[arg(long, value_name = "FILE", default_value_os_t = workspace().join("experiments/tuned.toml"))]
    file: PathBuf,
    /// Overwrite the file, and replace trials of another configuration.
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
pub(crate) struct ReportArgs {
    /// Name of a file in experiments/, without `.toml`; or the path of any experiment file. With --embeddings, only its
    /// `[analysis]` counts.
    #[arg(default_value = "quick")]
    experiment: String,
    /// Embeddings from elsewhere: an NPY matrix (rows, numbers) of f32 or f64. Without --train-embeddings every row is
    /// compared with all others.
    #[arg(long, value_name = "NPY", requires = "labels")]
    embeddings: Option<PathBuf>,
    /// Their labels: a CSV with a column `label` and one row for each of theirs.
    #[arg(long, value_name = "CSV", requires = "embeddings")]
    labels: Option<PathBuf>,
    /// Embeddings to compare with, as the training images are elsewhere.
    #[arg(long, value_name = "NPY", requires_all = ["embeddings", "train_labels"])]
    train_embeddings: Option<PathBuf>,
    /// Their labels.
    #[arg(long, value_name = "CSV", requires = "train_embeddings")]
    train_labels: Option<PathBuf>,
    /// Folder of the report folders.
    #[arg(long, value_name = "DIR", default_value_os_t = reports_folder())]
    out: PathBuf,
}

#[derive(Subcommand)]
pub(crate) enum DataCommand {
    /// Bring the images into the cache folder data/: download, check the md5, extract, check the list of files.
    Fetch(DataArgs),
    /// Decode every image and name the broken ones.
    Verify(DataArgs),
}

#[derive(Args)]
pub(crate) struct DataArgs {
    /// Which data set.
    #[arg(default_value = "imagewoof2-160", value_parser = ["imagewoof2-160", "imagewoof2-320"])]
    dataset: String,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceChoice {
    /// The fastest that this build and machine have.
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Metal,
}

/// The folder of the workspace, wherever in it the command was called.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// The experiment of that name in experiments/, or of the file at that path.
pub(crate) fn load_experiment(name_or_path: &str) -> Result<Experiment> {
    let path = Path::new(name_or_path);
    Ok(match (path.parent(), path.file_stem(), path.extension()) {
        (Some(folder), Some(stem), Some(extension)) if extension == "toml" => {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            Experiment::load(folder, &stem.to_string_lossy())?
        }
        _ => Experiment::load(&workspace().join("experiments"), name_or_path)?,
    })
}

impl TrainingArgs {
    /// The experiment with what the command line says instead.
    fn experiment(&self, seeds: Option<Vec<u64>>) -> Result<Experiment> {
        let overrides = Overrides {
            heads: self.heads.clone(),
            seeds,
            epochs: self.epochs,
            image_size_px: self.image_size,
        };
        Ok(load_experiment(&self.experiment)?.with_overrides(&overrides)?)
    }
}

fn reports_folder() -> PathBuf {
    workspace().join("reports")
}

fn run() -> Result<ExitCode> {
    let CommandLine { command } = CommandLine::parse();
    match command {
        Command::Benchmark(args) => benchmark::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Data(command) => data::run(&command),
        Command::Heads => heads::run(),
        Command::Bench(command) => bench::run(&command),
    }
}

/// An error with its causes, those left out that its message already tells.
pub(crate) fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |message, cause| {
        if message.is_empty() {
            cause
        } else if message.contains(&cause) {
            message
        } else {
            format!("{message}: {cause}")
        }
    })
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}
