//! `embed`: embeddings of any images by the encoder of a trained run.

use crate::export::check_free;
use crate::session::{counted, on_stop, threads};
use crate::trained::{Embedder, RunArg};
use crate::{Program, machine};
use anyhow::{Context, Result, bail};
use clap::Args;
use faceoff_data::AnyImages;
use faceoff_export::{Sink, index_files, write_index, write_unreadable};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

/// Images that are decoded and embedded at once.
const BATCH: usize = 64;
/// Images that cannot be read, of which so many are named.
const NAMED: usize = 5;

/// What to embed, and where it goes.
#[derive(Args)]
pub struct EmbedArgs {
    #[command(flatten)]
    run: RunArg,
    /// Images, and folders of them: every image at any depth, by the rules of `benchmark --data`.
    #[arg(value_name = "PATHS", required_unless_present = "list")]
    paths: Vec<PathBuf>,
    /// File that names images or folders too, a path a line, starting where those on the command line do; `-` is the standard input.
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// File to write: X.parquet with columns path, norm, embedding; or X.npy, with X.paths.csv and X.about.json beside it. Embeddings are of
    /// unit length; times its norm each is what the encoder gave.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Leave out images that cannot be read, list them in X.unreadable.csv, and go on.
    #[arg(long)]
    skip_unreadable: bool,
    /// Write over files that are there.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    compute: machine::ComputeArgs,
}

pub(crate) fn run(program: &Program, args: &EmbedArgs) -> Result<ExitCode> {
    machine::use_threads(args.compute.threads)?;
    for file in index_files(&args.out)?.iter().chain([&list_of_unreadable(&args.out)]) {
        check_free(file, args.force)?;
    }
    let trained = args.run.open(program)?;
    let embedder = Embedder::new(program, &trained, &args.compute)?;
    let images = find(args)?;
    let about = embedder.about();
    let total = images.paths().len();
    eprintln!(
        "embed: {total} images at {} px by {} on {}, {}",
        about.image_size_px,
        about.run,
        about.arithmetic,
        threads()
    );

    let stopped = Arc::new(AtomicU8::new(0));
    let heard = stopped.clone();
    on_stop(move |status| {
        if heard.swap(status, Ordering::Relaxed) != 0 {
            std::process::exit(status.into());
        }
    })
    .context("Ctrl-C cannot be caught")?;

    let started = Instant::now();
    let bar = ProgressBar::new(total as u64);
    bar.set_style(ProgressStyle::with_template("{wide_bar:.cyan} {pos}/{len}  {per_sec}  {eta}").expect("it is valid"));
    let mut unreadable = Vec::new();
    let mut failed = None;
    let written = write_index(&args.out, &about, |sink| {
        let mut job = Job { embedder: &embedder, skip: args.skip_unreadable, unreadable: &mut unreadable, sink };
        for paths in images.paths().chunks(BATCH) {
            let done =
                if stopped.load(Ordering::Relaxed) == 0 { job.embed(paths) } else { Err(anyhow::anyhow!("stopped")) };
            if let Err(error) = done {
                // An answer of the disk stays what it is.
                return Err(error.downcast::<std::io::Error>().unwrap_or_else(|error| {
                    failed = Some(error);
                    std::io::Error::other("it was not finished")
                }));
            }
            bar.inc(paths.len() as u64);
        }
        if job.unreadable.len() == total {
            let first = job.unreadable.first().map_or_else(String::new, |(path, why)| format!("{path} ({why})"));
            failed = Some(anyhow::anyhow!("none of {total} images can be read, e.g. {first}"));
            return Err(std::io::Error::other("there is nothing to write"));
        }
        Ok(())
    });
    bar.finish_and_clear();
    let status = stopped.load(Ordering::Relaxed);
    if status != 0 && written.is_err() {
        eprintln!("stopped; nothing was written to {}", args.out.display());
        return Ok(ExitCode::from(status));
    }
    if let Some(error) = failed {
        return Err(error);
    }
    written?;
    note_unreadable(&args.out, &unreadable)?;
    let (count, seconds) = (total - unreadable.len(), started.elapsed().as_secs_f64());
    println!(
        "{count} images in {}: {} numbers each, of unit length; {seconds:.1} s, {:.0} images a second",
        args.out.display(),
        about.dim,
        count as f64 / seconds
    );
    Ok(ExitCode::SUCCESS)
}

/// All images that were named; what was passed over is said.
fn find(args: &EmbedArgs) -> Result<AnyImages> {
    let mut images = AnyImages::default();
    for path in &args.paths {
        images.add(path)?;
    }
    if let Some(list) = &args.list {
        let reader: Box<dyn Read> = match list.as_os_str() == "-" {
            true => Box::new(std::io::stdin()),
            false => Box::new(std::fs::File::open(list).with_context(|| format!("{} cannot be read", list.display()))?),
        };
        for (number, line) in BufReader::new(reader).lines().enumerate() {
            let line = line.with_context(|| format!("line {} of {} cannot be read", number + 1, list.display()))?;
            // As Windows and spreadsheets leave them.
            let path = line.trim_end_matches('\r').trim_start_matches('\u{feff}');
            if !path.is_empty() {
                images.add(Path::new(path)).with_context(|| format!("line {} of {}", number + 1, list.display()))?;
            }
        }
    }
    if let Some(passed_over) = images.passed_over() {
        eprintln!("embed: {passed_over}");
    }
    if images.twice() > 0 {
        eprintln!("embed: {} named twice, and embedded once", counted(images.twice(), "image"));
    }
    if images.paths().is_empty() {
        bail!("there is no image in what was named; JPEG, PNG, WebP, GIF, BMP and TIFF are read");
    }
    Ok(images)
}

/// What goes on for each batch.
struct Job<'a> {
    embedder: &'a Embedder<'a>,
    skip: bool,
    unreadable: &'a mut Vec<(String, String)>,
    sink: &'a mut dyn Sink,
}

impl Job<'_> {
    fn embed(&mut self, paths: &[String]) -> Result<()> {
        let (mut read, mut pixels, mut broken) = (Vec::new(), Vec::new(), Vec::new());
        for (path, view) in paths.iter().zip(self.embedder.views(paths)) {
            match view {
                Ok(view) => {
                    read.push(path.clone());
                    pixels.extend(view);
                }
                Err(why) => broken.push((path.clone(), why)),
            }
        }
        if !broken.is_empty() && !self.skip {
            let more = if broken.len() > NAMED { format!(" and {} more", broken.len() - NAMED) } else { String::new() };
            let named =
                broken.iter().take(NAMED).map(|(path, why)| format!("{path} ({why})")).collect::<Vec<_>>().join(", ");
            bail!(
                "{} of the batch at hand cannot be read: {named}{more}; replace or remove such files, or leave them out with --skip-unreadable",
                counted(broken.len(), "image")
            );
        }
        self.unreadable.extend(broken);
        if read.is_empty() {
            return Ok(());
        }
        let (unit, norms) = self.embedder.embed(pixels, &read)?;
        Ok(self.sink.add(&read, &unit, &norms)?)
    }
}

fn list_of_unreadable(out: &Path) -> PathBuf {
    out.with_extension("unreadable.csv")
}

/// Lists what could not be read beside the embeddings; a list of an earlier time, which --force gives up, goes.
fn note_unreadable(out: &Path, unreadable: &[(String, String)]) -> Result<()> {
    let list = list_of_unreadable(out);
    if unreadable.is_empty() {
        if list.exists() {
            std::fs::remove_file(&list).with_context(|| format!("cannot remove {}", list.display()))?;
        }
        return Ok(());
    }
    write_unreadable(&list, unreadable)?;
    eprintln!("embed: {} cannot be read and left out: {}", counted(unreadable.len(), "image"), list.display());
    Ok(())
}
