//! `cargo xtask report`: the report of an experiment again, from its runs.

use crate::{ReportArgs, load_experiment, results, workspace};
use anyhow::{Result, bail};
use faceoff_runs::{Experiment, FolderLock};
use std::process::ExitCode;

/// Writes the report and prints the results.
pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode> {
    // The fallback of an experiment has a report folder of its own, but no file.
    let experiment = match args.experiment.strip_suffix("-synthetic") {
        Some(base) if !workspace().join(format!("experiments/{}.toml", args.experiment)).exists() => {
            load_experiment(base)?.on_synthetic()
        }
        _ => load_experiment(&args.experiment)?,
    };
    let folder = args.out.join(&experiment.name);
    if !folder.is_dir() {
        bail!(
            "{} does not exist; make runs with: cargo xtask benchmark {}",
            folder.display(),
            args.experiment
        );
    }
    let _lock = FolderLock::take(&folder)?;
    write(&folder, &experiment)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the report of `experiment` into `folder`, and prints the results.
pub(crate) fn write(folder: &std::path::Path, experiment: &Experiment) -> Result<()> {
    let summary = faceoff_report::write_report(folder, experiment, &|line| eprintln!("report: {line}"))?;
    results::print(&summary);
    Ok(())
}
