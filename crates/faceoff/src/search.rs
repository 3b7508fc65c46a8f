//! `search`: which images of a file that `embed` wrote look most like this one?

use crate::export::check_free;
use crate::report::open_page;
use crate::results::plain_table;
use crate::trained::{Embedder, RunArg, Trained};
use crate::{Program, machine};
use anyhow::{Context, Result, anyhow, bail};
use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use faceoff_data::eval_views;
use faceoff_evaluation::measured::Findings;
use faceoff_evaluation::{Registry, recorded};
use faceoff_export::{About, Index, Neighbor, nearest};
use faceoff_runs::write_atomically;
use jpeg_encoder::{ColorType, Encoder};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Side of a thumbnail on the page, for screens with two pixels a point.
const THUMBNAIL_PX: usize = 256;
const QUALITY: u8 = 80;
/// A page with more thumbnails is not looked at.
const MOST: u64 = 1000;

/// What to look for, and among what.
#[derive(Args)]
pub struct SearchArgs {
    #[command(flatten)]
    run: RunArg,
    /// Embeddings that `embed` made with the same run: X.parquet, or X.npy with what lies beside it.
    index: PathBuf,
    /// The image to look for.
    image: PathBuf,
    /// Neighbours to show.
    #[arg(short, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST))]
    k: u64,
    /// Cosine below which a neighbour is none, instead of the one that the run recommends.
    #[arg(long, value_name = "COSINE", allow_negative_numbers = true)]
    threshold: Option<f64>,
    /// Write a page with thumbnails.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Open the page in the browser.
    #[arg(long, requires = "html")]
    open: bool,
    /// Write over a page that is there.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    compute: machine::ComputeArgs,
}

pub(crate) fn run(program: &Program, args: &SearchArgs) -> Result<ExitCode> {
    machine::use_threads(args.compute.threads)?;
    if let Some(page) = &args.html {
        check_free(page, args.force)?;
    }
    let trained = args.run.open(program)?;
    let threshold = Threshold::find(program, args.threshold, &trained)?;
    let embedder = Embedder::new(program, &trained, &args.compute)?;
    let index = Index::open(&args.index)?;
    check_same(&args.index, index.about(), &embedder.about())?;

    let path = args.image.to_string_lossy().into_owned();
    let view = embedder.views(&[&args.image]).remove(0);
    let view = view.map_err(|why| anyhow!("{path} cannot be read: {why}; pass an image"))?;
    let (query, _) = embedder.embed(view, std::slice::from_ref(&path))?;
    let (found, total) = nearest(&index, &query, args.k as usize)?;
    if found.is_empty() {
        bail!("{} holds no embeddings", args.index.display());
    }

    let is_near = |neighbor: &Neighbor| threshold.value.is_none_or(|threshold| neighbor.cosine >= threshold);
    let itself = args.image.canonicalize().ok();
    let note = |neighbor: &Neighbor| {
        let is_itself =
            itself.is_some() && file_of(neighbor, &args.index).and_then(|file| file.canonicalize().ok()) == itself;
        match (is_near(neighbor), is_itself) {
            (false, _) => "below the threshold",
            (true, true) => "the image itself",
            (true, false) => "",
        }
    };
    let mut table = plain_table(&["", "cosine", "image"]);
    for (place, neighbor) in found.iter().enumerate() {
        let name = format!("{}  {}", neighbor.path, note(neighbor));
        table.add_row([(place + 1).to_string(), format!("{:.4}", neighbor.cosine), name.trim_end().to_string()]);
    }
    for column in [0, 2] {
        let alignment = if column == 0 { comfy_table::CellAlignment::Right } else { comfy_table::CellAlignment::Left };
        table.column_mut(column).expect("the table has three columns").set_cell_alignment(alignment);
    }
    println!("{path} among {total} images of {}\n\n{}\n", args.index.display(), table.trim_fmt());
    let answer = match (threshold.value, found.iter().filter(|neighbor| is_near(neighbor)).count()) {
        (None, _) => None,
        (Some(_), 0) => Some("None of these: the nearest lies below the threshold.".to_string()),
        (Some(_), near) => Some(format!("{near} of {} at or above the threshold.", found.len())),
    };
    answer.iter().for_each(|answer| println!("{answer}"));
    println!("{}", threshold.said);

    if let Some(page) = &args.html {
        let picture = |image: Option<PathBuf>| {
            image.map_or(Err("it is not where it was".to_string()), |image| thumbnail(&image, &trained))
        };
        let shown = found.iter().enumerate().map(|(place, neighbor)| Shown {
            place: place + 1,
            cosine: format!("{:.4}", neighbor.cosine),
            path: neighbor.path.clone(),
            picture: picture(file_of(neighbor, &args.index)),
            note: note(neighbor),
            near: is_near(neighbor),
        });
        let text = Page {
            query: path,
            picture: picture(Some(args.image.clone())),
            index: args.index.display().to_string(),
            total,
            run: trained.name(),
            experiment: trained.manifest.experiment.clone(),
            size: index.about().image_size_px,
            answer,
            none: found.iter().all(|neighbor| !is_near(neighbor)),
            said: threshold.said,
            neighbors: shown.collect(),
            side: THUMBNAIL_PX / 2,
        };
        let text = text.render().context("the page cannot be written")?;
        write_atomically(page, |file| file.write_all(text.as_bytes()))?;
        println!("\nopen {}", page.display());
        if args.open {
            open_page(page);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses embeddings of another encoder: their cosines with this one's mean nothing.
fn check_same(path: &Path, found: &About, own: &About) -> Result<()> {
    let (at, remedy) = (path.display(), "make it again with `embed` and this run, or name the run that made it");
    if found.weights_blake3 != own.weights_blake3 {
        bail!(
            "{at} was made by another run: {} of experiment {} with weights of BLAKE3 {}, not {} of {} with {}; {remedy}",
            found.run,
            found.experiment,
            found.weights_blake3,
            own.run,
            own.experiment,
            own.weights_blake3
        );
    }
    if (found.dim, found.image_size_px, found.shorter_side_px) != (own.dim, own.image_size_px, own.shorter_side_px) {
        bail!(
            "{at} holds {} numbers an image of {} px out of {}, but {} gives {} of {} px out of {}; {remedy}",
            found.dim,
            found.image_size_px,
            found.shorter_side_px,
            own.run,
            own.dim,
            own.image_size_px,
            own.shorter_side_px
        );
    }
    Ok(())
}

/// From which cosine on a neighbour counts, and what is to be said of it.
struct Threshold {
    value: Option<f64>,
    said: String,
}

impl Threshold {
    fn find(program: &Program, given: Option<f64>, trained: &Trained) -> Result<Self> {
        if let Some(threshold) = given {
            if !(-1.0..=1.0).contains(&threshold) {
                bail!("--threshold is {threshold}, but a cosine lies between -1 and 1");
            }
            return Ok(Self {
                value: Some(threshold),
                said: format!("The threshold is {threshold}, as --threshold says."),
            });
        }
        let run = trained.name();
        let without = |why: String| Self {
            value: None,
            said: format!(
                "No threshold, so neighbours stand here however far they are: {why}. --threshold COSINE sets one."
            ),
        };
        if trained.classes().is_some() {
            let unseen = program.command("benchmark unseen-breeds");
            return Ok(without(format!(
                "{run} saw every class in training, so nothing was measured on images of others. A run with held-out classes recommends one ({unseen})"
            )));
        }
        let (_, found) = recorded(&trained.folder, &Registry::standard())?;
        let found = match found {
            Ok(found) => recommended(&found)?.ok_or("it has too few images for one".to_string()),
            Err(why) => Err(why),
        };
        Ok(match found {
            Ok((threshold, [accept, reject])) => Self {
                value: Some(threshold),
                said: format!(
                    "The threshold is {threshold:.4}, which {run} recommends for images of classes that training never saw (open_set_threshold, \
                     chosen on a random half of the validation images by their cosine with the nearest of {} training images). On the other half, \
                     {:.1} % of the images of unseen classes reach it, and {:.1} % of the others do not. Among other images than those, or more \
                     or fewer of them, other shares are to be expected.",
                    trained.manifest.data.train_images,
                    100.0 * accept,
                    100.0 * reject
                ),
            },
            Err(why) => without(format!("of {run}, {why}; `report` measures runs anew")),
        })
    }
}

/// The threshold that a run recommends, with its false accept and false reject on held-out images.
pub(crate) fn recommended(found: &Findings) -> Result<Option<(f64, [f64; 2])>> {
    let registry = Registry::standard();
    let value = |name: &str| Ok::<_, anyhow::Error>(found.value(registry.parse(name)?));
    let threshold = value("open_set_threshold")?;
    let errors = value("open_set_false_accept")?.zip(value("open_set_false_reject")?);
    Ok(threshold.zip(errors.map(|(accept, reject)| [accept, reject])))
}

/// Where a neighbour's file is: where `embed` found it, seen from here, or from the folder of the embeddings.
fn file_of(neighbor: &Neighbor, index: &Path) -> Option<PathBuf> {
    let beside = index.parent().unwrap_or(Path::new("")).join(&neighbor.path);
    [PathBuf::from(&neighbor.path), beside].into_iter().find(|path| path.is_file())
}

/// An image as the encoder sees it, larger, as a JPEG in a data URI; or why there is none.
fn thumbnail(path: &Path, trained: &Trained) -> std::result::Result<String, String> {
    let view = eval_views(&[path], THUMBNAIL_PX, &trained.manifest.spec.data.augmentation).remove(0)?;
    let (side, mut file) = (THUMBNAIL_PX as u16, Vec::new());
    let encoded = Encoder::new(&mut file, QUALITY).encode(&view, side, side, ColorType::Rgb);
    encoded.map_err(|error| error.to_string())?;
    Ok(format!("data:image/jpeg;base64,{}", STANDARD.encode(file)))
}

/// A neighbour on the page.
struct Shown {
    place: usize,
    cosine: String,
    path: String,
    picture: std::result::Result<String, String>,
    note: &'static str,
    near: bool,
}

#[derive(Template)]
#[template(path = "search.html")]
struct Page {
    query: String,
    picture: std::result::Result<String, String>,
    index: String,
    total: usize,
    run: String,
    experiment: String,
    size: usize,
    answer: Option<String>,
    none: bool,
    said: String,
    neighbors: Vec<Shown>,
    side: usize,
}
