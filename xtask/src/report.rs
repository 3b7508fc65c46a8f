//! `cargo xtask report`: the report of an experiment again, from its runs; or that of embeddings from elsewhere.

use crate::{ReportArgs, load_experiment, results, workspace};
use anyhow::{Result, bail};
use faceoff_report::{LabelledFiles, write_embeddings_report};
use faceoff_runs::{Experiment, FolderLock};
use std::process::ExitCode;

/// Writes the report and prints the results.
pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode> {
    if let (Some(embeddings), Some(labels)) = (&args.embeddings, &args.labels) {
        return foreign(args, &LabelledFiles { embeddings: embeddings.clone(), labels: labels.clone() });
    }
    // The fallback of an experiment has a report folder of its own, but no file.
    let experiment = match args.experiment.strip_suffix("-synthetic") {
        Some(base) if !workspace().join(format!("experiments/{}.toml", args.experiment)).exists() => {
            load_experiment(base)?.on_synthetic()
        }
        _ => load_experiment(&args.experiment)?,
    };
    let folder = args.out.join(&experiment.name);
    if !folder.is_dir() {
        let name = &args.experiment;
        let fallback = args.out.join(format!("{}-synthetic", experiment.name)).is_dir();
        let hint = if fallback {
            format!(", or report those on synthetic images: cargo xtask report {name}-synthetic")
        } else {
            String::new()
        };
        bail!("{} does not exist; make runs with: cargo xtask benchmark {name}{hint}", folder.display());
    }
    let _lock = FolderLock::take(&folder)?;
    write(&folder, &experiment)?;
    Ok(ExitCode::SUCCESS)
}

/// The report of embeddings from elsewhere, in a folder named after their file.
fn foreign(args: &ReportArgs, queries: &LabelledFiles) -> Result<ExitCode> {
    let index = match (&args.train_embeddings, &args.train_labels) {
        (Some(embeddings), Some(labels)) => {
            Some(LabelledFiles { embeddings: embeddings.clone(), labels: labels.clone() })
        }
        _ => None,
    };
    let analysis = load_experiment(&args.experiment)?.analysis;
    let stem = queries.embeddings.file_stem().unwrap_or_default().to_string_lossy();
    let name = format!("embeddings-{stem}");
    let folder = args.out.join(&name);
    let say = |line: &str| eprintln!("report: {line}");
    let summary = write_embeddings_report(&folder, &name, queries, index.as_ref(), &analysis, &say)?;
    results::print(&summary);
    Ok(ExitCode::SUCCESS)
}

/// Writes the report of `experiment` into `folder`, and prints the results.
pub(crate) fn write(folder: &std::path::Path, experiment: &Experiment) -> Result<()> {
    let summary = faceoff_report::write_report(folder, experiment, &|line| eprintln!("report: {line}"))?;
    results::print(&summary);
    Ok(())
}
