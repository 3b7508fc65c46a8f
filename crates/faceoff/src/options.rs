//! Options that several commands share.

use crate::Program;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use faceoff_data::{EmbeddingFiles, ImageSource, Origin, file_name_of, is_published, profile, unseen_classes};
use faceoff_pipeline::Shard;
use faceoff_runs::{Error, Experiment, Overrides, Precision, parse_integers};
use faceoff_training::{EncoderPlan, read_pretrained};
use std::path::{Path, PathBuf};

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
    /// Kernels of the encoder: avx512, avx2, neon, portable, cuda or candle, in bf16 amx, avx512bf16 or emulated; the fastest of machine
    /// and device unless stated.
    #[arg(long, env = KERNELS_VARIABLE, hide_env_values = true, value_name = "NAME")]
    pub(crate) kernels: Option<String>,
    /// Arithmetic of matrix products, f32, tf32 (own CUDA kernels alone) or bf16 (own CUDA kernels, and CPUs, fast with AMX), instead of the
    /// experiment's; in the environment 0 or 1.
    #[arg(long, env = "FACEOFF_CUDA_TF32", hide_env_values = true, value_name = "NAME", value_parser = precision)]
    precision: Option<Precision>,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    own: OwnArgs,
    /// Threads for everything; all processors unless stated.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    #[command(flatten)]
    pub(crate) out: OutArgs,
}

impl TrainingArgs {
    /// The experiment with what the command line says instead, and the checksum of the weights that its encoder starts from.
    pub(crate) fn experiment(&self, program: &Program, seeds: Option<Vec<u64>>) -> Result<Experiment> {
        let mut experiment = self.chosen(program, seeds)?;
        let recipe = &mut experiment.training;
        if let (Some(path), EncoderPlan::ResNet(architecture)) = (&recipe.encoder_init, EncoderPlan::of(recipe)?) {
            let path = Path::new(path);
            let found = read_pretrained(path, &architecture, recipe.encoder_init_blake3.as_deref())?;
            if !found.left_out.is_empty() {
                eprintln!(
                    "encoder: {} of {} are left out: the head takes their place",
                    found.left_out.join(", "),
                    path.display()
                );
            }
            recipe.encoder_init_blake3 = Some(found.blake3);
        }
        Ok(experiment)
    }

    fn chosen(&self, program: &Program, seeds: Option<Vec<u64>>) -> Result<Experiment> {
        let overrides = Overrides {
            heads: self.heads.clone(),
            seeds,
            epochs: self.epochs,
            image_size_px: self.image_size,
            precision: self.precision,
        };
        let experiment = self.out.experiment(program, &self.experiment);
        let experiment = program.experiment(&experiment)?.with_overrides(&overrides)?;
        if self.own.embeddings.is_some() || experiment.data.is_embeddings() {
            return self.on_embeddings(experiment);
        }
        let profile = profile(&experiment.data.dataset)?;
        let by_folder = match (&profile.origin, &self.source.data) {
            (Origin::Archive { .. }, Some(folder)) => !is_published(folder, profile),
            _ => experiment.data.own.is_some(),
        };
        let takes_own = matches!(profile.origin, Origin::Archive { .. } | Origin::Folder);
        if !by_folder && !(takes_own && self.own.asked() && (self.source.data.is_some() || self.own.labels.is_some())) {
            self.own.refuse(&experiment)?;
            self.source.check(&experiment)?;
            return Ok(experiment);
        }
        let mut experiment = if let Some(own) = &experiment.data.own {
            self.own.refuse_name(&own.name, &experiment)?;
            experiment
        } else {
            let title = self.own.title(&self.source)?;
            experiment.on_own_images(&title, &file_name_of(&title))?
        };
        let unseen = unseen_classes(&self.source(program))?;
        if !unseen.is_empty() {
            experiment.data.held_out_classes = unseen;
        }
        Ok(experiment)
    }

    /// The experiment on embeddings of another model: as they take the encoder's place, or as it stands beside their report.
    fn on_embeddings(&self, experiment: Experiment) -> Result<Experiment> {
        let Some(files) = self.own.embedding_files() else {
            bail!(
                "experiment `{}` is on embeddings of another model: pass them again with --embeddings FILE.npy and --labels FILE.csv",
                experiment.name
            );
        };
        if self.image_size.is_some() {
            bail!("--image-size would have no effect: embeddings of another model have no pixels; leave it out");
        }
        if let Some(own) = experiment.data.own.as_ref().filter(|_| experiment.data.is_embeddings()) {
            self.own.refuse_name(&own.name, &experiment)?;
            return Ok(experiment);
        }
        let title = self.own.title(&self.source)?;
        Ok(experiment.on_own_embeddings(&title, &file_name_of(&title), files.width()?)?)
    }

    /// Where the images come from, for the crate that opens them.
    pub(crate) fn source(&self, program: &Program) -> ImageSource {
        let OwnArgs { labels, skip_unreadable, .. } = &self.own;
        let (labels, embeddings) = (labels.clone(), self.own.embedding_files());
        ImageSource { labels, embeddings, skip_unreadable: *skip_unreadable, ..self.source.source(program) }
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

/// One part of the runs of several, as `I/N`.
#[derive(Clone, Copy)]
pub(crate) struct ShardOption(Shard);

impl std::str::FromStr for ShardOption {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match numbers {
            Some((index, count)) if index < count => Ok(Self(Shard { index, count })),
            _ => Err("it must be I/N, parts counted from 0: 0/4, 1/4, 2/4 and 3/4 are all runs".into()),
        }
    }
}

/// The variables by which Slurm tells a task of an array which one it is, and of how many.
const ARRAY_TASK: [&str; 2] = ["SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"];

/// The part of the runs that is this process's: as asked for, or as Slurm says of a task of an array, which is said.
pub(crate) fn shard(asked: Option<ShardOption>) -> Result<Option<Shard>> {
    if let Some(ShardOption(shard)) = asked {
        return Ok(Some(shard));
    }
    let [Ok(index), Ok(count)] = ARRAY_TASK.map(std::env::var) else { return Ok(None) };
    let [of_index, of_count] = ARRAY_TASK;
    let Ok(ShardOption(shard)) = format!("{index}/{count}").parse() else {
        bail!(
            "{of_index} is {index} and {of_count} is {count}, but a shard is one of so many parts counted from 0; number the array so \
             (--array=0-9 for ten), or pass --shard I/N"
        );
    };
    eprintln!("shard {index}/{count}, as {of_index} and {of_count} say");
    Ok(Some(shard))
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
    /// The experiment of a name: where there is none of it, but a report on images of one's own, the file that lies beside that.
    pub(crate) fn experiment(&self, program: &Program, name: &str) -> String {
        let own = self.report_folder(program, name).join(format!("{name}.toml"));
        if !program.has_experiment(name) && own.is_file() { own.to_string_lossy().into_owned() } else { name.into() }
    }

    /// The folder of the report folders.
    pub(crate) fn folder(&self, program: &Program) -> PathBuf {
        self.out.clone().unwrap_or_else(|| program.path("reports"))
    }

    /// The folder of the report `name`.
    pub(crate) fn report_folder(&self, program: &Program, name: &str) -> PathBuf {
        self.folder(program).join(name)
    }
}

/// Refuses a report in the cache folder itself: each has a lock, and who holds the one would wait for the other without end.
pub(crate) fn check_apart(folder: &Path, cache: &Path) -> Result<()> {
    let known = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path));
    if known(folder)? == known(cache)? {
        bail!("{} cannot be both the report's folder and --cache; choose another for one of them", folder.display());
    }
    Ok(())
}

/// Images of one's own, in the place of an experiment's.
#[derive(Args)]
struct OwnArgs {
    /// Table of images of your own: CSV or Parquet with columns `path`, `label`, and perhaps `split` (train, val) and `group`. Paths start at
    /// --data, or at the table's folder. With --embeddings a line for each row, its column `label` and perhaps `id`, `split`, `group`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["archive", "mirror"])]
    labels: Option<PathBuf>,
    /// Embeddings of another model in the place of images: an NPY matrix (rows, numbers) of f16, f32 or f64. They stay as they are; the
    /// experiment's [projection] of them is trained in the encoder's place.
    #[arg(
        long,
        value_name = "NPY",
        requires = "labels",
        conflicts_with_all = ["data", "archive", "mirror", "skip_unreadable"]
    )]
    embeddings: Option<PathBuf>,
    /// Embeddings of the validation images; without them a share of the others is split off, or what their labels call `val`.
    #[arg(long, value_name = "NPY", requires_all = ["embeddings", "val_labels"])]
    val_embeddings: Option<PathBuf>,
    /// Their labels.
    #[arg(long, value_name = "FILE", requires = "val_embeddings")]
    val_labels: Option<PathBuf>,
    /// Name of your images, after which the report is called [default: that of the folder of --data, of --embeddings, or of the table].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Leave out images of your own that cannot be read, list them in unreadable.csv, and go on.
    #[arg(long)]
    skip_unreadable: bool,
}

impl OwnArgs {
    fn asked(&self) -> bool {
        self.labels.is_some() || self.name.is_some() || self.skip_unreadable
    }

    /// The files of embeddings, where there are any.
    fn embedding_files(&self) -> Option<EmbeddingFiles> {
        let val = self.val_embeddings.clone().zip(self.val_labels.clone()).map(<[PathBuf; 2]>::from);
        Some(EmbeddingFiles { train: self.embeddings.clone()?, val })
    }

    /// Refuses another name than that which an experiment on images of one's own has already.
    fn refuse_name(&self, known: &str, experiment: &Experiment) -> Result<()> {
        if let Some(name) = self.name.as_deref().map(str::trim).filter(|name| *name != known) {
            bail!(
                "--name {name} would have no effect: the images of `{}` are called {known} by its data.own.name; leave it out, or take the \
                 experiment without [data.own]",
                experiment.name
            );
        }
        Ok(())
    }

    /// Refuses what would have no effect.
    fn refuse(&self, experiment: &Experiment) -> Result<()> {
        let given = [
            ("--labels", self.labels.is_some()),
            ("--name", self.name.is_some()),
            ("--skip-unreadable", self.skip_unreadable),
        ];
        if let Some((option, _)) = given.into_iter().find(|(_, given)| *given) {
            bail!(
                "{option} would have no effect: it is about images of your own, which --data DIR or --labels FILE name, in an experiment \
                 on a published data set such as `quick`; `{}` uses data.dataset = \"{}\"",
                experiment.name,
                experiment.data.dataset
            );
        }
        Ok(())
    }

    /// What the images are called: as the user says, or as their folder or table is.
    fn title(&self, source: &SourceArgs) -> Result<String> {
        if let Some(name) = &self.name {
            return Ok(name.trim().into());
        }
        let path = source
            .data
            .as_ref()
            .or(self.embeddings.as_ref())
            .or(self.labels.as_ref())
            .expect("one of them makes images one's own");
        // `.` and `..` are names of folders only after a look at them.
        let path =
            path.canonicalize().with_context(|| format!("{}: there is no such folder or table", path.display()))?;
        let name = if source.data.is_some() { path.file_name() } else { path.file_stem() };
        Ok(name.map_or_else(|| "images".into(), |name| name.to_string_lossy().into_owned()))
    }
}

/// Where the images come from.
#[derive(Args)]
pub(crate) struct SourceArgs {
    /// Folder of images, instead of the cache or the download: `train/<class>/` and `val/<class>/`, or just `<class>/`.
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
            Origin::Embeddings => (&[][..], "embeddings, which --embeddings names"),
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
            mirror: self.mirror.clone(),
            ..ImageSource::cached(self.cache.clone().unwrap_or_else(|| program.path("data")))
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
