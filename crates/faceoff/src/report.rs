//! `report`: the report of an experiment again, from its runs; or that of external embeddings.

use crate::options::{OutArgs, SourceArgs, check_apart};
use crate::session::lock_report;
use crate::thumbnails::{Images, ThumbnailsChoice};
use crate::{Program, compare, results, with_causes};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use faceoff_data::ImageSource;
use faceoff_evaluation::{LabelledFiles, Registry};
use faceoff_report::{Export, Extras, Thumbnails, write_embeddings_report, write_report};
use faceoff_runs::{Experiment, write_atomically};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// In the report's folder: the file of embeddings that it is of.
const SOURCE: &str = ".faceoff-source";

/// What to report on.
#[derive(Args)]
pub struct ReportArgs {
    /// Name of a file in experiments/, without `.toml`; or the path of any experiment file. With --embeddings, only its
    /// `[analysis]` counts.
    #[arg(default_value = "quick")]
    experiment: String,
    /// External embeddings: an NPY matrix (rows, numbers) of f16, f32 or f64. Without --train-embeddings every row is
    /// compared with all others.
    #[arg(
        long,
        value_name = "NPY",
        requires = "labels",
        conflicts_with_all = ["export", "thumbnails", "data", "archive", "mirror", "skip_unreadable"]
    )]
    embeddings: Option<PathBuf>,
    /// Of external embeddings their labels: a CSV with a column `label` and one row for each of theirs. Without --embeddings the table of
    /// images of your own that the benchmark was given.
    #[arg(long, value_name = "CSV", conflicts_with_all = ["archive", "mirror"])]
    labels: Option<PathBuf>,
    /// Go on without the images of your own that cannot be read, as the benchmark did.
    #[arg(long)]
    skip_unreadable: bool,
    /// Embeddings to compare with, as the training images are elsewhere.
    #[arg(long, value_name = "NPY", requires_all = ["embeddings", "train_labels"])]
    train_embeddings: Option<PathBuf>,
    /// Their labels.
    #[arg(long, value_name = "CSV", requires = "train_embeddings")]
    train_labels: Option<PathBuf>,
    /// Two report folders side by side, in the terminal: what differs in their specifications, and their accuracies.
    #[arg(
        long,
        num_args = 2,
        value_names = ["A", "B"],
        conflicts_with_all = ["embeddings", "thumbnails", "open", "export", "labels", "skip_unreadable", "data", "archive", "mirror", "cache", "out"]
    )]
    compare: Option<Vec<PathBuf>>,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    shown: ShownArgs,
    #[command(flatten)]
    out: OutArgs,
}

/// What the page shows.
#[derive(Args)]
pub(crate) struct ShownArgs {
    /// Images in the page.
    #[arg(long, value_enum, default_value = "auto")]
    thumbnails: ThumbnailsChoice,
    /// Files for other programs, several with commas: `projector` for TensorBoard's, `tensorboard` for its curves, `parquet` for
    /// embedding-atlas or any data frame.
    #[arg(long, value_enum, value_delimiter = ',')]
    export: Vec<ExportChoice>,
    /// Open the page in the browser when it is written.
    #[arg(long)]
    open: bool,
}

/// Whom files are written for.
#[derive(Clone, Copy, ValueEnum)]
enum ExportChoice {
    /// TensorBoard's projector, with pictures where thumbnails are at hand.
    Projector,
    /// A row for each validation image under each head.
    #[value(alias = "atlas")]
    Parquet,
    /// The training curves of every run as event files, which `tensorboard --logdir tensorboard` shows.
    Tensorboard,
}

impl ShownArgs {
    /// Whether a report that another process made does not do.
    pub(crate) fn asks_for_more(&self) -> bool {
        self.open || !self.export.is_empty()
    }

    /// Opens the page where that was asked for.
    fn open(&self, page: &Path) {
        if self.open {
            open_page(page);
        }
    }
}

/// Opens a page in the browser; where it cannot be opened its path stands on the screen anyway.
pub(crate) fn open_page(page: &Path) {
    let (opener, first) = match std::env::consts::OS {
        "macos" => ("open", &[][..]),
        "windows" => ("cmd", &["/C", "start", ""][..]),
        _ => ("xdg-open", &[][..]),
    };
    if let Err(error) = Command::new(opener).args(first).arg(page).spawn() {
        eprintln!("warning: {opener} could not open the page: {error}");
    }
}

pub(crate) fn run(program: &Program, args: &ReportArgs) -> Result<ExitCode> {
    if let Some([a, b]) = args.compare.as_deref() {
        compare::print([a, b])?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(queries) = files(&args.embeddings, &args.labels) {
        return external(program, args, &queries);
    }
    let (experiment, folder) = find(program, &args.experiment, &args.out)?;
    let given = [("--labels", args.labels.is_some()), ("--skip-unreadable", args.skip_unreadable)];
    if experiment.data.own.is_none()
        && let Some((option, _)) = given.into_iter().find(|(_, given)| *given)
    {
        let (name, dataset) = (&experiment.name, &experiment.data.dataset);
        bail!(
            "{option} would have no effect: `{name}` is on data.dataset = \"{dataset}\", not on images of your own; leave it out"
        );
    }
    let source = ImageSource {
        labels: args.labels.clone(),
        skip_unreadable: args.skip_unreadable,
        ..args.source.source(program)
    };
    check_apart(&folder, &source.cache_dir)?;
    let _lock = lock_report(&folder)?;
    write(program, &folder, &experiment, &args.shown, source)?;
    Ok(ExitCode::SUCCESS)
}

/// The experiment of a name, and its report folder, which exists.
pub(crate) fn find(program: &Program, name: &str, out: &OutArgs) -> Result<(Experiment, PathBuf)> {
    // The fallback of an experiment has a report folder of its own, but no file.
    let experiment = match name.strip_suffix("-synthetic") {
        Some(base) if !program.has_experiment(name) => program.experiment(base)?.on_synthetic(),
        _ => program.experiment(&out.experiment(program, name))?,
    };
    let folder = out.report_folder(program, &experiment.name);
    if !folder.is_dir() {
        let fallback = out.report_folder(program, &format!("{}-synthetic", experiment.name));
        let mut remedy = program.command(&format!("benchmark {name}"));
        if fallback.is_dir() {
            let command = program.command(&format!("report {name}-synthetic"));
            remedy += &format!(", or report those on synthetic images: {command}");
        }
        bail!("{} does not exist; make runs with: {remedy}", folder.display());
    }
    Ok((experiment, folder))
}

/// Embeddings and their labels; the options require each other.
fn files(embeddings: &Option<PathBuf>, labels: &Option<PathBuf>) -> Option<LabelledFiles> {
    Some(LabelledFiles { embeddings: embeddings.clone()?, labels: labels.clone()? })
}

/// The report of external embeddings, in a folder named after their file.
fn external(program: &Program, args: &ReportArgs, queries: &LabelledFiles) -> Result<ExitCode> {
    let index = files(&args.train_embeddings, &args.train_labels);
    let analysis = program.experiment(&args.experiment)?.analysis;
    let stem = queries.embeddings.file_stem().unwrap_or_default().to_string_lossy();
    let name = format!("embeddings-{stem}");
    let folder = args.out.report_folder(program, &name);
    let source = queries.embeddings.canonicalize().unwrap_or_else(|_| queries.embeddings.clone());
    let source = source.display().to_string();
    let noted = folder.join(SOURCE);
    if let Ok(other) = std::fs::read_to_string(&noted)
        && other != source
    {
        bail!(
            "{} holds the report of {other}, a file of the same name; take another folder with --out, or remove that report",
            folder.display()
        );
    }
    let registry = Registry::standard();
    let summary = write_embeddings_report(&folder, &name, queries, index.as_ref(), &analysis, &registry, &say)?;
    write_atomically(&noted, |file| file.write_all(source.as_bytes()))?;
    results::print(program, &summary);
    args.shown.open(&summary.page);
    Ok(ExitCode::SUCCESS)
}

/// Writes the report of `experiment` into `folder`, and prints the results. Thumbnails come from `source`.
pub(crate) fn write(
    program: &Program,
    folder: &Path,
    experiment: &Experiment,
    shown: &ShownArgs,
    source: ImageSource,
) -> Result<()> {
    let formulas = faceoff_heads::HEADS.iter().map(|head| (head.name, head.formula)).collect();
    let images = Images::find(shown.thumbnails, folder, experiment, source);
    // A report is worth having without its images.
    let images = images.unwrap_or_else(|error| Err(Some(format!("No thumbnails: {}.", with_causes(&error)))));
    let (thumbnails, no_thumbnails) = match &images {
        Ok(images) => (Some(images as &dyn Thumbnails), None),
        Err(why) => (None, why.clone()),
    };
    let exports = shown.export.iter().map(|choice| match choice {
        ExportChoice::Projector => Export::Projector,
        ExportChoice::Parquet => Export::Parquet,
        ExportChoice::Tensorboard => Export::Tensorboard,
    });
    let exports = exports.collect();
    let extras = Extras { formulas, thumbnails, no_thumbnails, exports };
    let summary = write_report(folder, experiment, &Registry::standard(), &extras, &say)?;
    results::print(program, &summary);
    shown.open(&summary.page);
    Ok(())
}

/// Shows what a report is at.
fn say(line: &str) {
    eprintln!("report: {line}");
}
