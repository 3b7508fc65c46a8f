//! `runs`: finished runs, beside their report: exported, and checked for damage.

use crate::options::OutArgs;
use crate::{Program, report};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use faceoff_evaluation::{Registry, export, verify_measured};
use faceoff_runs::{Contents, Error, FolderLock, RunFolder, list_folder, list_runs};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What to do with them.
#[derive(Subcommand)]
pub enum RunsCommand {
    /// Write the small part of every whole run into DIR/<experiment>: what a report needs, some 40 KB a run, without weights and
    /// embeddings.
    ///
    /// `report <experiment> --out DIR` makes the report of it, with every number. Of a run with maps these go too, with what its head says
    /// of each validation image and the nearest training images, if all that takes no more than 110 KB.
    Export(ExportArgs),
    /// Check every file of every run: checksums, numbers, and that the files of a run fit each other. One line a run.
    Verify(VerifyArgs),
}

/// What to export, where to.
#[derive(Args)]
pub struct ExportArgs {
    /// The folder to write into.
    dir: PathBuf,
    /// Name of a file in experiments/, without `.toml`; or the path of any experiment file.
    #[arg(default_value = "quick")]
    experiment: String,
    /// With the coordinates of t-SNE and PCA maps to three decimals instead of eleven bits, whatever they take.
    #[arg(long)]
    maps: bool,
    #[command(flatten)]
    out: OutArgs,
}

/// What to check.
#[derive(Args)]
pub struct VerifyArgs {
    /// A report folder, one that holds report folders, or a run's [default: reports/ in the root folder]
    folder: Option<PathBuf>,
}

/// Does what the command says.
pub(crate) fn run(program: &Program, command: &RunsCommand) -> Result<ExitCode> {
    match command {
        RunsCommand::Export(args) => export_runs(program, args),
        RunsCommand::Verify(VerifyArgs { folder }) => verify(folder.as_deref().unwrap_or(&program.path("reports"))),
    }
}

fn export_runs(program: &Program, args: &ExportArgs) -> Result<ExitCode> {
    let ExportArgs { dir, experiment, maps, out } = args;
    let (experiment, folder) = report::find(program, experiment, out)?;
    let to = dir.join(&experiment.name);
    let say = |line: &str| eprintln!("export: {line}");
    // Where nobody can write there is nobody to wait for.
    let _lock = match FolderLock::take(&folder, &say) {
        Err(Error::Io { source, .. })
            if matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
        {
            None
        }
        lock => Some(lock?),
    };
    let _lock_of_target = FolderLock::take(&to, &say)?;
    let (runs, bytes) = export(&folder, &experiment, &Registry::standard(), &to, *maps, &say)?;
    // The experiment of a report on images of one's own stands nowhere else.
    let own = format!("{}.toml", experiment.name);
    if experiment.data.own.is_some() && folder.join(&own).is_file() {
        std::fs::copy(folder.join(&own), to.join(&own)).with_context(|| format!("{own} cannot be copied"))?;
    }
    println!("{runs} runs, {:.0} KB, in {}", bytes as f64 / 1e3, to.display());
    Ok(ExitCode::SUCCESS)
}

fn verify(folder: &Path) -> Result<ExitCode> {
    let mut runs = list_runs(folder)?;
    for below in list_folder(folder)?.iter().filter(|below| below.is_dir()) {
        runs.extend(list_runs(below)?);
    }
    let itself = RunFolder::at(folder);
    if runs.is_empty() && itself.is_begun() {
        runs.push(itself);
    }
    if runs.is_empty() {
        bail!("{} holds no run; pass a report folder, or the folder of a run", folder.display());
    }
    let mut damaged = 0;
    for run in &runs {
        let word = |error: &faceoff_runs::Error| match error {
            faceoff_runs::Error::OtherSchema { .. } => "NOT CHECKED",
            _ => "DAMAGED",
        };
        let found = run.verify().map_err(|error| format!("{}: {error}", word(&error)));
        let measured = || verify_measured(run).map_err(|problem| format!("DAMAGED: {problem}"));
        let found = found.and_then(|contents| measured().map(|()| contents));
        let found = match found {
            Ok(Contents::Whole(files, bytes)) => format!("whole: {files} files, {:.1} MB", bytes as f64 / 1e6),
            Ok(Contents::Exported) => "whole, exported without weights and embeddings".into(),
            Ok(Contents::Failed(failure)) => format!("failed: {}", failure.message),
            Ok(Contents::Unfinished(true)) => "unfinished; its checkpoint is whole".into(),
            Ok(Contents::Unfinished(false)) => "unfinished, without a checkpoint".into(),
            Err(problem) => {
                damaged += 1;
                problem
            }
        };
        let is_unsealed = run.manifest().is_ok_and(|manifest| manifest.blake3.is_empty());
        let word = if is_unsealed { "; its manifest, of an earlier version, has no checksum of itself" } else { "" };
        println!("{}  {found}{word}", run.path().display());
    }
    if damaged > 0 {
        bail!("{damaged} of {} runs are damaged or could not be checked", runs.len());
    }
    Ok(ExitCode::SUCCESS)
}
