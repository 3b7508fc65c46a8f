//! `runs`: finished runs, beside their report.

use crate::options::OutArgs;
use crate::{Program, report};
use anyhow::Result;
use clap::{Args, Subcommand};
use faceoff_evaluation::{Registry, export};
use faceoff_runs::FolderLock;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to do with them.
#[derive(Subcommand)]
pub enum RunsCommand {
    /// Write the small part of every whole run into DIR/<experiment>: what a report needs, some 25 KB a run, without weights and
    /// embeddings.
    ///
    /// `report <experiment> --out DIR` makes the report of it, with every number, and with maps if their coordinates went too.
    Export(ExportArgs),
}

/// What to export, where to.
#[derive(Args)]
pub struct ExportArgs {
    /// The folder to write into.
    dir: PathBuf,
    /// Name of a file in experiments/, without `.toml`; or the path of any experiment file.
    #[arg(default_value = "quick")]
    experiment: String,
    /// With the coordinates of t-SNE and PCA maps, to three decimals.
    #[arg(long)]
    maps: bool,
    #[command(flatten)]
    out: OutArgs,
}

pub(crate) fn run(program: &Program, command: &RunsCommand) -> Result<ExitCode> {
    let RunsCommand::Export(ExportArgs { dir, experiment, maps, out }) = command;
    let (experiment, folder) = report::find(program, experiment, out)?;
    let to = dir.join(&experiment.name);
    let say = |line: &str| eprintln!("export: {line}");
    let _locks = [FolderLock::take(&folder, &say)?, FolderLock::take(&to, &say)?];
    let (runs, bytes) = export(&folder, &experiment, &Registry::standard(), &to, *maps, &say)?;
    println!("{runs} runs, {:.0} KB, in {}", bytes as f64 / 1e3, to.display());
    Ok(ExitCode::SUCCESS)
}
