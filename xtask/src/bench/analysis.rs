//! `cargo xtask bench analysis`: how long the analyses of one run's embeddings take.

use crate::machine;
use anyhow::{Context, Result};
use clap::Args;
use faceoff_analysis::{
    neighbors, pca,
    tsne::{self, TsneConfig},
};
use faceoff_runs::{RunFolder, SplitName, write_atomically};
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// What the made-up embeddings look like: the sizes of Imagewoof's splits and the width of ResNet-18.
const TRAIN: usize = 9_025;
const VAL: usize = 3_929;
const DIMS: usize = 512;
const CLASSES: u32 = 10;

const NEIGHBORS: usize = 20;
const COMPONENTS: usize = 128;
const MAP: TsneConfig = TsneConfig { perplexity: 30.0, iterations: 1_000, seed: 0 };

/// What to time, on what.
#[derive(Args)]
pub(crate) struct AnalysisArgs {
    /// Also write the numbers to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Folder of a run (reports/<experiment>/runs/<run>) whose embeddings are taken; made-up ones otherwise.
    #[arg(long, value_name = "DIR")]
    embeddings: Option<PathBuf>,
    /// How often each is timed; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeats: u16,
    /// Threads for everything; all processors unless stated.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// Times the analyses, prints a table.
pub(crate) fn run(args: &AnalysisArgs) -> Result<ExitCode> {
    machine::use_threads(args.threads)?;
    let (train, val) = match &args.embeddings {
        Some(folder) => (read(folder, SplitName::Train)?, read(folder, SplitName::Val)?),
        None => (made_up(TRAIN, 1), made_up(VAL, 2)),
    };
    let mut divergence = f64::NAN;
    let knn = seconds(args.repeats, || neighbors::nearest(train.view(), val.view(), NEIGHBORS))?;
    let pca = seconds(args.repeats, || pca::fit(train.view(), COMPONENTS))?;
    let tsne = seconds(args.repeats, || {
        tsne::embed(val.view(), &MAP).inspect(|map| divergence = map.kl_divergence)
    })?;
    println!("{:?} training and {:?} validation embeddings", train.dim(), val.dim());
    for (name, times) in
        [("exact KNN, k = 20", &knn), ("PCA, 128 components", &pca), ("t-SNE, 1,000 iterations", &tsne)]
    {
        println!("{name:30} {:8.3} s", median(times));
    }
    println!("KL divergence of the map: {divergence:.4}");
    if let Some(path) = &args.json {
        let timed = |times: &[f64]| json!({ "seconds": median(times), "all_seconds": times });
        let mut tsne = timed(&tsne);
        tsne["kl_divergence"] = divergence.into();
        write_json(
            path,
            &json!({
                "machine": machine::describe(),
                "commit": machine::commit(),
                "peak_memory_mib": machine::peak_memory_mib(),
                "embeddings": args.embeddings,
                "train": train.shape(),
                "val": val.shape(),
                "knn": timed(&knn),
                "pca": timed(&pca),
                "tsne": tsne,
            }),
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The seconds of each call.
fn seconds<T>(repeats: u16, mut run: impl FnMut() -> faceoff_analysis::Result<T>) -> Result<Vec<f64>> {
    (0..repeats)
        .map(|_| {
            let began = Instant::now();
            run()?;
            Ok(began.elapsed().as_secs_f64())
        })
        .collect()
}

pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { 0.5 * (sorted[middle - 1] + sorted[middle]) }
}

fn read(folder: &Path, split: SplitName) -> Result<Array2<f32>> {
    let split = RunFolder::at(folder).embeddings(split)?;
    let shape = (split.len(), split.dim);
    Array2::from_shape_vec(shape, split.unit).context("the embeddings are no matrix")
}

/// Unit embeddings around one direction a class, which overlap about as much as after a short training.
fn made_up(points: usize, stream: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let centers = Array2::from_shape_simple_fn((CLASSES as usize, DIMS), || rng.random_range(0.0_f32..1.0));
    rng.set_stream(stream);
    let labels: Vec<u32> = (0..points).map(|_| rng.random_range(0..CLASSES)).collect();
    let mut embeddings = Array2::from_shape_fn((points, DIMS), |(i, j)| {
        centers[[labels[i] as usize, j]] * 0.3 + rng.random_range(0.0_f32..1.0)
    });
    for mut row in embeddings.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    embeddings
}

pub(super) fn write_json(path: &Path, value: &Value) -> Result<()> {
    Ok(write_atomically(path, |file| {
        serde_json::to_writer_pretty(&mut *file, value)?;
        file.write_all(b"\n")
    })?)
}
