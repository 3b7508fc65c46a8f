//! `cargo xtask bench analysis`: how long the analyses of one run's embeddings take, beside other libraries if asked, and how time
//! and memory grow with the number of embeddings.
//!
//! Growth is measured in a process of its own for each analysis and size, whose peak memory is then that of the analysis.

use super::{exponent, forget_peak_memory, median, peak_memory_mib, print_table, write_json};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use faceoff::{COMMIT, Program, use_threads};
use faceoff_analysis::{
    clustering, geometry, neighbors, pca,
    probe::LinearProbe,
    retrieval,
    tsne::{self, Tsne, TsneConfig},
    verification,
};
use faceoff_pipeline::describe_machine;
use faceoff_report::{GrowthCurve, growth_picture};
use faceoff_runs::{RunFolder, SplitName, write_atomically};
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::Instant;

/// What the made-up embeddings look like: the sizes of Imagewoof's splits and the width of ResNet-18.
const TRAIN: usize = 9_025;
const VAL: usize = 3_929;
const DIMS: usize = 512;
const CLASSES: u32 = 10;
/// Directions in which the made-up embeddings scatter.
const LATENT: usize = 16;

const NEIGHBORS: usize = 20;
const COMPONENTS: usize = 128;
const MAP: TsneConfig = TsneConfig { perplexity: 30.0, iterations: 1_000, seed: 0 };

const SIZES: [usize; 5] = [1_000, 3_000, 10_000, 30_000, 100_000];

/// What to time, on what.
#[derive(Args)]
pub(crate) struct AnalysisArgs {
    /// Also write the numbers to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Folder of a run (`reports/<experiment>/runs/<run>`) whose embeddings are taken; made-up ones otherwise.
    #[arg(long, value_name = "DIR")]
    embeddings: Option<PathBuf>,
    /// Also time faiss, scikit-learn and openTSNE, in turns, with this Python; scripts/peers_analysis.py says what it needs.
    #[arg(long, value_name = "PYTHON")]
    peers: Option<PathBuf>,
    /// How often neighbours, components and maps are timed; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeats: u16,
    /// The most embeddings whose analyses are timed; 0 measures no growth. 100,000 take several minutes.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    largest: usize,
    /// Folder of the pictures of growth [default: reports/bench/ in the root folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Threads for everything; all processors unless stated.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Measure one analysis on that many made-up embeddings: what the command runs in processes of their own.
    #[arg(long, hide = true, num_args = 2, value_names = ["ANALYSIS", "POINTS"])]
    one: Option<Vec<String>>,
}

/// Embeddings with their classes.
struct Split {
    rows: Array2<f32>,
    labels: Vec<u32>,
}

type Analysis = (&'static str, fn(&Split, &Split) -> faceoff_analysis::Result<()>);

/// Name and code of each analysis, from training and validation embeddings.
const ANALYSES: [Analysis; 11] = [
    (KNN, |train, val| neighbors::nearest(train.rows.view(), val.rows.view(), NEIGHBORS).map(drop)),
    (PCA, |train, _| pca::fit(train.rows.view(), COMPONENTS).map(drop)),
    (TSNE, |_, val| map(val).map(drop)),
    ("retrieval, leave one out", |_, val| retrieval::retrieval_leave_one_out(val.rows.view(), &val.labels).map(drop)),
    ("verification, all pairs", |_, val| verification::verification(val.rows.view(), &val.labels).map(drop)),
    ("uniformity, all pairs", |_, val| geometry::uniformity(val.rows.view()).map(drop)),
    ("k-means, 10 clusters", |_, val| clustering::kmeans(val.rows.view(), CLASSES as usize, 0).map(drop)),
    ("silhouette", |_, val| clustering::silhouette(val.rows.view(), &val.labels).map(drop)),
    ("centre angles and alignment", |_, val| {
        geometry::center_angles(val.rows.view(), &val.labels)?;
        geometry::alignment(val.rows.view(), &val.labels).map(drop)
    }),
    ("neural collapse", |train, _| geometry::neural_collapse(train.rows.view(), &train.labels).map(drop)),
    ("linear probe", |train, _| LinearProbe::fit(train.rows.view(), &train.labels).map(drop)),
];
const KNN: &str = "exact KNN, k = 20";
const PCA: &str = "PCA, 128 components";
const TSNE: &str = "t-SNE, 1,000 iterations";

fn map(val: &Split) -> faceoff_analysis::Result<Tsne> {
    tsne::embed(val.rows.view(), &MAP)
}

/// Times the analyses, prints tables, draws growth.
pub(crate) fn run(program: &Program, args: &AnalysisArgs) -> Result<ExitCode> {
    use_threads(args.threads)?;
    if let Some(one) = &args.one {
        println!("{}", measure_one(&one[0], one[1].parse().context("POINTS is no number")?)?);
        return Ok(ExitCode::SUCCESS);
    }
    let (train, val) = match &args.embeddings {
        Some(folder) => (read(folder, SplitName::Train)?, read(folder, SplitName::Val)?),
        None => (made_up(TRAIN, 1), made_up(VAL, 2)),
    };
    let mut report = json!({
        "machine": describe_machine(),
        "commit": COMMIT,
        "embeddings": args.embeddings,
        "train": train.rows.shape(),
        "val": val.rows.shape(),
    });
    println!("{:?} training and {:?} validation embeddings", train.rows.dim(), val.rows.dim());
    // What is measured is written at once: growth takes long.
    headline(program, args, &train, &val, &mut report)?;
    save(args, &report)?;
    others(&train, &val, &mut report)?;
    save(args, &report)?;
    if args.largest > 0 {
        growth(program, args, &mut report)?;
        save(args, &report)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Neighbours, components and maps, in turns with the peers.
fn headline(program: &Program, args: &AnalysisArgs, train: &Split, val: &Split, report: &mut Value) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let start = |python: &PathBuf| Peers::start(program, python, folder.path(), train, val);
    let mut peers = args.peers.as_ref().map(start).transpose()?;
    let mut rows = Vec::new();
    for (key, name) in [("knn", KNN), ("pca", PCA), ("tsne", TSNE)] {
        let mut own = Vec::new();
        let mut theirs: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let mut entry = json!({});
        for turn in 1..=args.repeats {
            eprintln!("bench: {name}, turn {turn} of {}", args.repeats);
            let began = Instant::now();
            let mut question = key.to_string();
            if key == "tsne" {
                let found = map(val)?;
                own.push(began.elapsed().as_secs_f64());
                entry["kl_divergence"] = found.kl_divergence.into();
                let path = folder.path().join("map.f64");
                std::fs::write(&path, Vec::from_iter(found.coordinates.iter().flat_map(|x| x.to_le_bytes())))?;
                question = format!("tsne {}", path.display());
            } else {
                analysis(name)?(train, val)?;
                own.push(began.elapsed().as_secs_f64());
            }
            let Some(peers) = &mut peers else { continue };
            let answer = peers.ask(&question)?;
            for (peer, seconds) in answer["seconds"].as_object().context("the peers gave no seconds")? {
                let seconds = seconds.as_f64().context("seconds are no number")?;
                theirs.entry(peer.clone()).or_default().push(seconds);
            }
            for (from, to) in [("divergence", "peer_kl_divergence"), ("own_divergence", "kl_divergence")] {
                if let Some(value) = answer.get(from) {
                    entry[to] = value.clone();
                }
            }
        }
        entry["seconds"] = median(&own).into();
        entry["all_seconds"] = own.clone().into();
        rows.push([name.to_string(), format!("{:.3}", median(&own)), String::new(), String::new()]);
        let mut compared = Map::new();
        for (peer, all) in theirs {
            let ratio = median(&own) / median(&all);
            rows.push([String::new(), format!("{:.3}", median(&all)), peer.clone(), format!("{ratio:.2}")]);
            compared.insert(peer, json!({ "seconds": median(&all), "all_seconds": all, "ratio_own_to_peer": ratio }));
        }
        if !compared.is_empty() {
            entry["peers"] = compared.into();
        }
        report[key] = entry;
    }
    print_table(&["analysis", "seconds", "peer", "own / peer"], &rows);
    print!("KL divergence of the map: {:.4}", report["tsne"]["kl_divergence"].as_f64().unwrap_or(f64::NAN));
    match report["tsne"]["peer_kl_divergence"].as_f64() {
        Some(theirs) => println!("; openTSNE's on the same affinities: {theirs:.4}"),
        None => println!(),
    }
    Ok(())
}

/// The rest of the analyses, once each.
fn others(train: &Split, val: &Split, report: &mut Value) -> Result<()> {
    let mut rows = Vec::new();
    let mut found = Map::new();
    for (name, run) in ANALYSES.iter().filter(|(name, _)| ![KNN, PCA, TSNE].contains(name)) {
        let began = Instant::now();
        run(train, val).with_context(|| format!("{name} failed"))?;
        let seconds = began.elapsed().as_secs_f64();
        rows.push([name.to_string(), format!("{seconds:.3}")]);
        found.insert(name.to_string(), json!({ "seconds": seconds }));
    }
    report["other_analyses"] = found.into();
    print_table(&["analysis", "seconds"], &rows);
    Ok(())
}

/// Time and memory of each analysis over sizes, with the exponents.
fn growth(program: &Program, args: &AnalysisArgs, report: &mut Value) -> Result<()> {
    let sizes: Vec<usize> = SIZES.into_iter().filter(|&size| size <= args.largest).collect();
    let mut measured = Vec::new();
    let (mut times, mut memories) = (Vec::new(), Vec::new());
    let mut rows = Vec::new();
    for (name, _) in ANALYSES {
        let (mut seconds, mut memory) = (Vec::new(), Vec::new());
        for &points in &sizes {
            eprintln!("bench: {name}, {points} embeddings");
            let one = one_in_its_own_process(program, name, points)?;
            seconds.push((points as f64, one["seconds"].as_f64().context("no seconds")?));
            // What the analysis needs beside the embeddings.
            if let Some(mib) = one["memory_mib"].as_f64() {
                memory.push((points as f64, mib.max(1.0)));
            }
            measured.push(one);
        }
        let cell = |points: &[(f64, f64)]| points.last().map_or("-".into(), |&(_, y)| format!("{y:.1}"));
        let power = |points: &[(f64, f64)]| exponent(points).map_or("-".into(), |e| format!("{e:.2}"));
        rows.push([name.to_string(), cell(&seconds), power(&seconds), cell(&memory), power(&memory)]);
        let curve = |points: Vec<(f64, f64)>| {
            let exponent = exponent(&points).map_or(String::new(), |e| format!(": n^{e:.1}"));
            GrowthCurve { name: format!("{name}{exponent}"), points }
        };
        times.push(curve(seconds));
        memories.push(curve(memory));
    }
    let largest = sizes.last().copied().unwrap_or(0);
    let (seconds, mib) = (format!("s at {largest}"), format!("MiB at {largest}"));
    print_table(&["analysis", &seconds, "exponent", &mib, "exponent"], &rows);
    for (what, y, curves) in [("Time", "seconds", &times), ("Memory", "MiB beside the embeddings", &memories)] {
        let alt = format!("{what} of each analysis over the number of embeddings");
        let picture = growth_picture(&alt, "embeddings of 512 dimensions", y, curves)?;
        let folder = args.out.clone().unwrap_or_else(|| program.path("reports/bench"));
        let path = folder.join(format!("analysis-{}.svg", what.to_lowercase()));
        write_atomically(&path, |out| out.write_all(picture.as_bytes()))?;
        println!("open {}", path.display());
    }
    report["growth"] = measured.into();
    Ok(())
}

/// Runs [`measure_one`] in a process of its own.
fn one_in_its_own_process(program: &Program, name: &str, points: usize) -> Result<Value> {
    let own = std::env::current_exe().context("the program does not find itself")?;
    let output = Command::new(own)
        .args(["bench", "analysis", "--one", name, &points.to_string(), "--root"])
        .arg(&program.root)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("{name} on {points} embeddings failed: {}", output.status);
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Time and memory of one analysis on made-up embeddings: the median of as many calls as fit into a second.
fn measure_one(name: &str, points: usize) -> Result<Value> {
    let run = analysis(name)?;
    let split = made_up(points, 1);
    forget_peak_memory();
    let before = peak_memory_mib();
    let (began, mut seconds) = (Instant::now(), Vec::new());
    while seconds.is_empty() || began.elapsed().as_secs_f64() < 1.0 {
        let began = Instant::now();
        run(&split, &split)?;
        seconds.push(began.elapsed().as_secs_f64());
    }
    let memory = peak_memory_mib().zip(before).map(|(peak, before)| peak - before);
    Ok(json!({ "analysis": name, "points": points, "seconds": median(&seconds), "memory_mib": memory }))
}

fn analysis(name: &str) -> Result<fn(&Split, &Split) -> faceoff_analysis::Result<()>> {
    let found = ANALYSES.iter().find(|(known, _)| *known == name);
    Ok(found.ok_or_else(|| anyhow!("there is no analysis `{name}`"))?.1)
}

/// scripts/peers_analysis.py at work: one line asks, one line answers.
struct Peers {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peers {
    fn start(program: &Program, python: &Path, folder: &Path, train: &Split, val: &Split) -> Result<Self> {
        let script = program.path("scripts/peers_analysis.py");
        let paths = ["train.f32", "val.f32"].map(|name| folder.join(name));
        for (path, split) in paths.iter().zip([train, val]) {
            std::fs::write(path, Vec::from_iter(split.rows.iter().flat_map(|x| x.to_le_bytes())))?;
        }
        let mut process = Command::new(python)
            .arg(script)
            .args(paths)
            .args([train.rows.ncols().to_string(), rayon::current_num_threads().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be started", python.display()))?;
        let questions = process.stdin.take().context("the peers take no questions")?;
        let answers = BufReader::new(process.stdout.take().context("the peers give no answers")?);
        Ok(Self { process, questions, answers })
    }

    fn ask(&mut self, question: &str) -> Result<Value> {
        let ended = "the peers ended; scripts/peers_analysis.py says what they need";
        writeln!(self.questions, "{question}").context(ended)?;
        self.questions.flush().context(ended)?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!(ended);
        }
        serde_json::from_str(&line).context("the peers' answer is no JSON")
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // It waits for a question that will not come.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read(folder: &Path, split: SplitName) -> Result<Split> {
    let run = RunFolder::at(folder);
    let split = run.embeddings(&run.manifest()?, split)?;
    let shape = (split.len(), split.dim);
    let rows = Array2::from_shape_vec(shape, split.unit).context("the embeddings are no matrix")?;
    Ok(Split { rows, labels: split.labels })
}

/// Unit embeddings that never fall below zero, around one point a class of a space of few dimensions, as after a short training.
fn made_up(points: usize, stream: u64) -> Split {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let uniform = |rng: &mut ChaCha8Rng, shape| Array2::from_shape_simple_fn(shape, || rng.random_range(-1.0_f32..1.0));
    let centers = uniform(&mut rng, (CLASSES as usize, LATENT));
    let directions = uniform(&mut rng, (LATENT, DIMS));
    rng.set_stream(stream);
    let labels: Vec<u32> = (0..points).map(|_| rng.random_range(0..CLASSES)).collect();
    let mut latent = uniform(&mut rng, (points, LATENT));
    latent.rows_mut().into_iter().zip(&labels).for_each(|(mut row, &label)| row += &centers.row(label as usize));
    let mut rows = latent.dot(&directions);
    rows.mapv_inplace(|value| value.max(0.0) + 0.1 * rng.random_range(0.0_f32..1.0));
    for mut row in rows.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    Split { rows, labels }
}

fn save(args: &AnalysisArgs, report: &Value) -> Result<()> {
    args.json.as_ref().map_or(Ok(()), |path| write_json(path, report))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_analysis_has_a_value_on_made_up_embeddings() {
        let split = made_up(150, 1);
        for (name, run) in ANALYSES {
            run(&split, &split).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}
