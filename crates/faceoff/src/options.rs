//! Options that several commands share.

use crate::Program;
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use faceoff_data::{ImageSource, Origin, profile};
use faceoff_runs::{Error, Experiment, Overrides, Precision, parse_integers};
use std::path::PathBuf;

/// Environment variable that names kernels for every command.
pub const KERNELS_VARIABLE: &str = "FACEOFF_KERNELS";

/// The option that every command has.
#[derive(Args)]
pub struct RootOption {
    /// Folder of experiments/, reports/ and data/ [default: the current folder; for cargo xtask that of the workspace]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// What to train, on what, where to.
#[derive(Args)]
pub(crate) struct TrainingArgs {
    /// Name of a file in experiments/, without `.toml`; or the path of any experiment file.
    #[arg(default_value = "quick")]
    pub(crate) experiment: String,
    /// Only these heads, by name or kind, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME,...", value_parser = name)]
    heads: Option<Vec<String>>,
    /// Epochs instead of the experiment's.
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Side of the images that the encoder sees, instead of the experiment's.
    #[arg(long, value_name = "PX")]
    image_size: Option<usize>,
    /// Where to train. `auto` takes CUDA, Metal, CPU in that order, as far as this build has them.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Kernels of the encoder: avx512, avx2, neon, portable, cuda or candle; the fastest of machine and device unless stated.
    #[arg(long, env = KERNELS_VARIABLE, hide_env_values = true, value_name = "NAME")]
    pub(crate) kernels: Option<String>,
    /// Arithmetic of matrix products, f32 or tf32 (own CUDA kernels alone), instead of the experiment's; in the environment
    /// 0 or 1.
    #[arg(long, env = "FACEOFF_CUDA_TF32", hide_env_values = true, value_name = "NAME", value_parser = precision)]
    precision: Option<Precision>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Threads for everything; all processors unless stated.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    #[command(flatten)]
    pub(crate) out: OutArgs,
}

impl TrainingArgs {
    /// The experiment with what the command line says instead.
    pub(crate) fn experiment(&self, program: &Program, seeds: Option<Vec<u64>>) -> Result<Experiment> {
        let overrides = Overrides {
            heads: self.heads.clone(),
            seeds,
            epochs: self.epochs,
            image_size_px: self.image_size,
            precision: self.precision,
        };
        let experiment = program.experiment(&self.experiment)?.with_overrides(&overrides)?;
        self.source.check(&experiment)?;
        Ok(experiment)
    }
}

/// A name of a list; people put a space behind a comma.
fn name(text: &str) -> std::result::Result<String, &'static str> {
    let name = text.trim();
    if name.is_empty() { Err("a name is missing before or behind a comma") } else { Ok(name.into()) }
}

/// Seeds: numbers and ranges.
#[derive(Clone)]
pub(crate) struct Seeds(pub(crate) Vec<u64>);

impl std::str::FromStr for Seeds {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse_integers(text).map(Self)
    }
}

/// A precision by its name, or as the environment variable has it.
fn precision(text: &str) -> std::result::Result<Precision, Error> {
    match text {
        "0" => Ok(Precision::F32),
        "1" => Ok(Precision::Tf32),
        name => name.parse(),
    }
}

/// Where reports go.
#[derive(Args)]
pub(crate) struct OutArgs {
    /// Folder of the report folders [default: reports/ in the root folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl OutArgs {
    /// The folder of the report `name`.
    pub(crate) fn report_folder(&self, program: &Program, name: &str) -> PathBuf {
        self.out.clone().unwrap_or_else(|| program.path("reports")).join(name)
    }
}

/// Where the images come from.
#[derive(Args)]
pub(crate) struct SourceArgs {
    /// Folder with `train/<class>/` and `val/<class>/`, instead of the cache or the download.
    #[arg(long, value_name = "DIR", conflicts_with = "archive")]
    pub(crate) data: Option<PathBuf>,
    /// Archive of the data set (.tgz), instead of the cache or the download.
    #[arg(long, value_name = "FILE")]
    archive: Option<PathBuf>,
    /// Folder for what is fetched, extracted and decoded [default: data/ in the root folder]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Address of a folder with the archives, instead of fast.ai's. The published md5 stays binding.
    #[arg(long, value_name = "URL", conflicts_with_all = ["data", "archive"])]
    mirror: Option<String>,
}

impl SourceArgs {
    /// Refuses what would have no effect: who names images expects them to be used.
    fn check(&self, experiment: &Experiment) -> Result<()> {
        let given = [
            ("--data", self.data.is_some()),
            ("--archive", self.archive.is_some()),
            ("--mirror", self.mirror.is_some()),
        ];
        let profile = profile(&experiment.data.dataset)?;
        let (used, from) = match profile.origin {
            Origin::Archive { .. } => return Ok(()),
            Origin::Made => (&[][..], "made-up images"),
            Origin::Folder => (&["--data"][..], "the folder that --data names"),
            Origin::CandleDatasets { .. } => (&["--data"][..], "files of candle-datasets"),
        };
        if let Some((option, _)) = given.into_iter().find(|(option, given)| *given && !used.contains(option)) {
            bail!(
                "{option} would have no effect: experiment `{}` uses {from} (data.dataset = \"{}\"); leave it out, or take another experiment",
                experiment.name,
                profile.name
            );
        }
        Ok(())
    }

    /// The same for the crate that opens images.
    pub(crate) fn source(&self, program: &Program) -> ImageSource {
        ImageSource {
            data_dir: self.data.clone(),
            archive: self.archive.clone(),
            cache_dir: self.cache.clone().unwrap_or_else(|| program.path("data")),
            mirror: self.mirror.clone(),
        }
    }
}

/// Where to train.
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
