//! `cargo xtask data`, and opening an experiment's images.

use crate::{DataArgs, DataCommand, SourceArgs};
use anyhow::{Result, bail};
use faceoff_data::{Images, Source, broken_images, fetch};
use faceoff_runs::{DataConfig, DatasetName};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Mutex;

/// Runs `cargo xtask data fetch|verify`.
pub(crate) fn run(command: &DataCommand) -> Result<ExitCode> {
    let (DataCommand::Fetch(args) | DataCommand::Verify(args)) = command;
    let folder = match &args.source.data {
        Some(folder) => folder.clone(),
        None => {
            let (folder, md5) = with_progress(|report| fetch(dataset(args), &source(&args.source), report))?;
            println!("{} (archive md5 {md5})", folder.display());
            folder
        }
    };
    // The list of files is checked by both; decoding takes longer and finds what the list does not tell.
    if matches!(command, DataCommand::Verify(_)) {
        let (broken, count) = with_progress(|report| broken_images(&folder, report))?;
        for error in &broken {
            eprintln!("{error}");
        }
        if !broken.is_empty() {
            bail!("{} of {count} images in {} are broken", broken.len(), folder.display());
        }
        println!("{count} images in {} are whole", folder.display());
    } else {
        let (train, val) = faceoff_data::count_images(&folder)?;
        println!("{train} training and {val} validation images, as the data set's list has them");
    }
    Ok(ExitCode::SUCCESS)
}

/// The images of `config`, from wherever the user says.
pub(crate) fn open(config: &DataConfig, args: &SourceArgs) -> Result<Images> {
    let images = with_progress(|report| Images::open(config, &source(args), report))?;
    if let (Some(archive), Some(md5)) = (&args.archive, &images.record().archive_md5) {
        eprintln!("{}: md5 {md5}", archive.display());
    }
    Ok(images)
}

/// Whether the images could not be had because no download was possible.
pub(crate) fn is_unavailable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<faceoff_data::Error>().is_some_and(faceoff_data::Error::is_unavailable)
}

fn dataset(args: &DataArgs) -> DatasetName {
    if args.dataset == DatasetName::Imagewoof320.as_str() {
        DatasetName::Imagewoof320
    } else {
        DatasetName::Imagewoof160
    }
}

fn source(args: &SourceArgs) -> Source {
    let SourceArgs { data: data_dir, archive, cache: cache_dir, mirror } = args.clone();
    Source { data_dir, archive, cache_dir, mirror }
}

/// Shows how far a long job is: a bar on a terminal, one line a phase elsewhere.
fn with_progress<T>(job: impl FnOnce(faceoff_data::Report) -> faceoff_data::Result<T>) -> Result<T> {
    let terminal = std::io::stderr().is_terminal();
    let bar = Mutex::new((String::new(), ProgressBar::hidden()));
    let report = |phase: &str, done: u64, total: u64| {
        let mut bar = bar.lock().expect("nothing panics while it reports");
        if bar.0 != phase {
            bar.1.finish_and_clear();
            bar.0 = phase.to_string();
            if terminal {
                let bytes = phase == "download";
                let template = match (bytes, total) {
                    (true, _) => "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}",
                    (false, 0) => "{prefix} {spinner} {pos}",
                    (false, _) => "{prefix} {wide_bar} {pos}/{len}",
                };
                let style = ProgressStyle::with_template(template).expect("the template is valid");
                bar.1 = ProgressBar::new(total).with_style(style).with_prefix(phase.to_string());
            } else {
                eprintln!("{phase} ...");
            }
        }
        bar.1.set_position(done);
    };
    let result = job(&report);
    bar.lock().expect("nothing panics while it reports").1.finish_and_clear();
    Ok(result?)
}
