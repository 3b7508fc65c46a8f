//! How time and memory of neighbours, components and maps grow with the number of points, or how long one of them takes on
//! given data. Prints JSON; `scripts/peers_analysis.py` sets the latter beside other libraries.
//!
//! ```text
//! growth sizes [LARGEST]                         made-up unit embeddings, 512-d, from 1,000 to LARGEST (100,000) points
//! growth time MEASURE DIMS TRAIN.f32 VAL.f32 [MAP.f64]     MEASURE: knn, pca or tsne; raw little-endian rows
//! ```
//!
//! The number of threads is that of `RAYON_NUM_THREADS`.

use std::{env, error::Error, fs, time::Instant};

use faceoff_analysis::{
    neighbors::{nearest, nearest_excluding_self},
    pca,
    tsne::{TsneConfig, embed},
};
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

const DIMS: usize = 512;
const CLASSES: usize = 10;
const NEIGHBORS: usize = 20;
const COMPONENTS: usize = 128;
/// Iterations of the maps whose growth is measured: enough for a time per iteration.
const ITERATIONS: usize = 100;
const REFERENCE: TsneConfig = TsneConfig { perplexity: 30.0, iterations: 1_000, seed: 0 };

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let report = match words[..] {
        ["sizes"] => sizes(100_000)?,
        ["sizes", largest] => sizes(largest.parse()?)?,
        ["time", measure, dims, train, val] => time(measure, dims.parse()?, train, val, None)?,
        ["time", measure, dims, train, val, map] => time(measure, dims.parse()?, train, val, Some(map))?,
        _ => {
            return Err(
                "usage: growth sizes [LARGEST] | growth time MEASURE DIMS TRAIN.f32 VAL.f32 [MAP.f64]".into(),
            );
        }
    };
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

fn sizes(largest: usize) -> Result<Value, Box<dyn Error>> {
    let mut rows = Vec::new();
    let counts = [1_000, 3_000, 10_000, 30_000, 100_000];
    for points in counts.into_iter().filter(|&count| count <= largest) {
        let data = made_up(points);
        let mut measure = |name: &str,
                           run: &mut dyn FnMut() -> Result<Value, Box<dyn Error>>|
         -> Result<(), Box<dyn Error>> {
            let start = Instant::now();
            let detail = run()?;
            let row = json!({
                "points": points,
                "measure": name,
                "seconds": start.elapsed().as_secs_f64(),
                "peak_memory_mib": peak_memory_mib(),
                "detail": detail,
            });
            eprintln!("{row}");
            rows.push(row);
            Ok(())
        };
        measure("knn, leave one out, k = 20", &mut || {
            nearest_excluding_self(data.view(), NEIGHBORS)?;
            Ok(Value::Null)
        })?;
        measure("pca, 128 components", &mut || {
            pca::fit(data.view(), COMPONENTS)?;
            Ok(Value::Null)
        })?;
        measure("tsne, perplexity 30, 100 iterations", &mut || {
            let map = embed(data.view(), &TsneConfig { iterations: ITERATIONS, ..REFERENCE })?;
            Ok(json!({ "kl_divergence": map.kl_divergence }))
        })?;
    }
    Ok(json!({ "dimensions": DIMS, "rows": rows }))
}

/// Unit embeddings around one direction a class.
fn made_up(points: usize) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let centres = Array2::from_shape_simple_fn((CLASSES, DIMS), || rng.random_range(-1.0_f32..1.0));
    let mut data = Array2::from_shape_fn((points, DIMS), |(i, d)| {
        centres[[i % CLASSES, d]] + rng.random_range(-1.5_f32..1.5)
    });
    for mut row in data.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    data
}

fn time(
    measure: &str,
    dims: usize,
    train: &str,
    val: &str,
    map: Option<&str>,
) -> Result<Value, Box<dyn Error>> {
    let (train, val) = (read(train, dims)?, read(val, dims)?);
    let mut divergence = Value::Null;
    let mut run = || -> Result<f64, Box<dyn Error>> {
        let start = Instant::now();
        match measure {
            "knn" => drop(nearest(train.view(), val.view(), NEIGHBORS)?),
            "pca" => drop(pca::fit(train.view(), COMPONENTS)?),
            "tsne" => {
                let fitted = embed(val.view(), &REFERENCE)?;
                let seconds = start.elapsed().as_secs_f64();
                divergence = json!(fitted.kl_divergence);
                if let Some(path) = map {
                    fs::write(
                        path,
                        fitted.coordinates.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(),
                    )?;
                }
                return Ok(seconds);
            }
            _ => return Err(format!("{measure}: the measures are knn, pca and tsne").into()),
        }
        Ok(start.elapsed().as_secs_f64())
    };
    if measure != "tsne" {
        run()?;
    }
    Ok(
        json!({ "measure": measure, "seconds": run()?, "kl_divergence": divergence, "peak_memory_mib": peak_memory_mib() }),
    )
}

fn read(path: &str, dims: usize) -> Result<Array2<f32>, Box<dyn Error>> {
    let bytes = fs::read(path)?;
    let values: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok(Array2::from_shape_vec((values.len() / dims, dims), values)?)
}

/// The most memory that this process has had, where the system tells.
fn peak_memory_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? / 1024.0)
}
