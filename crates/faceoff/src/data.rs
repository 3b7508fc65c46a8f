//! `data`: fetching and verifying images.

use crate::Program;
use crate::options::SourceArgs;
use crate::progress::Progress;
use anyhow::{Result, bail};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use faceoff_data::{
    Error, Origin, PROFILES, broken_images, broken_own_images, count_images, fetch, is_published, profile,
};
use faceoff_pipeline::Event;
use std::path::Path;
use std::process::ExitCode;

/// What to do with the images.
#[derive(Subcommand)]
pub enum DataCommand {
    /// Bring the images into the cache folder data/: download, check the md5, extract, check the list of files.
    Fetch(DataArgs),
    /// Decode every image and name the broken ones.
    Verify(DataArgs),
}

/// Which images.
#[derive(Args)]
pub struct DataArgs {
    /// Which data set.
    #[arg(default_value = "imagewoof2-160", value_parser = published())]
    dataset: String,
    #[command(flatten)]
    source: SourceArgs,
}

pub(crate) fn run(program: &Program, command: &DataCommand) -> Result<ExitCode> {
    let (DataCommand::Fetch(args) | DataCommand::Verify(args)) = command;
    let profile = profile(&args.dataset)?;
    let progress = Progress::new();
    let on_images = |phase: &str, done, total| progress.on_event(Event::Images(phase, done, total));
    let folder = match &args.source.data {
        Some(folder) if matches!(command, DataCommand::Verify(_)) && !is_published(folder, profile) => {
            let verified = broken_own_images(&args.source.source(program), &on_images);
            progress.on_event(Event::ImagesEnd);
            let (broken, count, passed_over) = verified?;
            passed_over.iter().for_each(|sentence| eprintln!("{sentence}"));
            return verdict(&broken, count, folder);
        }
        Some(folder) => folder.clone(),
        None => {
            let fetched = fetch(profile, &args.source.source(program), &on_images);
            progress.on_event(Event::ImagesEnd);
            let (folder, md5) = fetched?;
            println!("{} (archive md5 {md5})", folder.display());
            folder
        }
    };
    // The list of files is checked by both; decoding takes longer and finds what the list does not say.
    let counts = count_images(&folder, profile)?;
    if let Some(passed_over) = &counts.passed_over {
        eprintln!("{passed_over}");
    }
    if matches!(command, DataCommand::Verify(_)) {
        let verified = broken_images(&folder, profile, &on_images);
        progress.on_event(Event::ImagesEnd);
        let (broken, count) = verified?;
        return verdict(&broken, count, &folder);
    }
    println!("{} training and {} validation images", counts.train, counts.val);
    Ok(ExitCode::SUCCESS)
}

/// Says which images are broken, each of them.
fn verdict(broken: &[Error], count: usize, folder: &Path) -> Result<ExitCode> {
    broken.iter().for_each(|error| eprintln!("{error}"));
    if !broken.is_empty() {
        bail!("{} of {count} images in {} are broken", broken.len(), folder.display());
    }
    println!("{count} images in {} are whole", folder.display());
    Ok(ExitCode::SUCCESS)
}

/// The data sets that can be fetched.
fn published() -> PossibleValuesParser {
    let archives = PROFILES.iter().filter(|profile| matches!(profile.origin, Origin::Archive { .. }));
    archives.map(|profile| profile.name).collect::<Vec<_>>().into()
}
