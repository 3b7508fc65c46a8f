//! `export`: a trained encoder for other programs, as ONNX, with its model card.

use crate::Program;
use crate::card::card;
use crate::trained::{RunArg, Trained};
use anyhow::{Context, Result, bail};
use clap::Args;
use faceoff_export::{Exported, SCORES, Scores, onnx};
use faceoff_kernels::resnet::{DEVIATION, MEAN};
use faceoff_runs::write_atomically;
use faceoff_training::EncoderPlan;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Name of a model card.
const CARD: &str = "MODEL_CARD.md";

/// What to write.
#[derive(Args)]
pub struct ExportArgs {
    #[command(flatten)]
    run: RunArg,
    /// Write the encoder as ONNX (opset 13): input `images`, float32 (N, 3, size, size), RGB in [0, 1]; output `embedding` of unit length,
    /// and `scores` of the classes where the head has one vector a class. Mean and deviation are inside.
    /// MODEL_CARD.md is written beside it.
    #[arg(long, value_name = "FILE", required_unless_present = "card")]
    onnx: Option<PathBuf>,
    /// Write the model card alone, or where to: Markdown in the shape of Hugging Face's, with data, recipe, results and limits.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = CARD)]
    card: Option<PathBuf>,
    /// Write over files that are there.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(program: &Program, args: &ExportArgs) -> Result<ExitCode> {
    let beside = args.onnx.as_ref().map(|onnx| onnx.with_file_name(CARD));
    let card_path = args.card.clone().or(beside).context("there is something to write")?;
    for path in args.onnx.iter().chain([&card_path]) {
        check_free(path, args.force)?;
    }
    let trained = args.run.open(program)?;
    let mut exported = None;
    if let Some(path) = &args.onnx {
        let scores = trained.scores()?;
        let bytes = encoder(&trained, scores.as_ref())?;
        write_atomically(path, |file| file.write_all(&bytes))?;
        println!("{}: {:.1} MB", path.display(), bytes.len() as f64 / 1e6);
        exported = Some((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), scores.is_some()));
    }
    let text = card(&trained, exported.as_ref().map(|(name, scores)| (name.as_str(), *scores)))?;
    write_atomically(&card_path, |file| file.write_all(text.as_bytes()))?;
    println!("{}", card_path.display());
    Ok(ExitCode::SUCCESS)
}

/// Refuses a file that is there, unless it may be written over.
pub(crate) fn check_free(path: &Path, force: bool) -> Result<()> {
    if path.is_dir() {
        bail!("{} is a folder; name a file", path.display());
    }
    if path.exists() && !force {
        bail!("{} is there already; name another file, or write over it with --force", path.display());
    }
    Ok(())
}

/// The encoder of a run as ONNX.
fn encoder(trained: &Trained, scores: Option<&Scores>) -> Result<Vec<u8>> {
    let manifest = &trained.manifest;
    let spec = &manifest.spec;
    let plan = EncoderPlan::of(&spec.training)?;
    let size = spec.data.image_size_px;
    let exported = match &plan {
        EncoderPlan::ResNet(architecture) => Exported::ResNet(architecture, size),
        EncoderPlan::Projection(projection) => Exported::Projection(projection),
    };
    if scores.is_none() {
        eprintln!(
            "export: without the output `{SCORES}`: {}",
            match trained.classes() {
                Some(_) => "the head's scores are no products with one vector a class",
                None => "classes were held out, and the run does not say what those trained on are called",
            }
        );
    }
    let list = |values: &[f32]| serde_json::to_string(values).expect("numbers are always valid JSON");
    let mut metadata = vec![
        ("faceoff.experiment", manifest.experiment.clone()),
        ("faceoff.run", trained.name()),
        ("faceoff.head", serde_json::to_string(&spec.variant.head)?),
        ("faceoff.weights_blake3", trained.checksum.clone()),
        ("faceoff.version", manifest.version.clone()),
        ("faceoff.commit", manifest.commit.clone()),
    ];
    if scores.is_some() {
        metadata.push(("faceoff.classes", serde_json::to_string(&manifest.data.classes)?));
    }
    if let EncoderPlan::ResNet(_) = plan {
        metadata.extend([
            ("faceoff.image_size_px", size.to_string()),
            ("faceoff.shorter_side_px", trained.shorter_side_px().to_string()),
            ("faceoff.mean", list(&MEAN)),
            ("faceoff.deviation", list(&DEVIATION)),
        ]);
    }
    let about =
        format!("{} of experiment {}, trained by Faceoff {}", trained.name(), manifest.experiment, manifest.version);
    Ok(onnx(exported, &trained.weights, scores, &about, &metadata)?)
}
