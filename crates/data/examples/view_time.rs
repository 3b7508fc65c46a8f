//! Processor time of a view, by image size: `cargo run --release -p faceoff-data --example view_time -- DIR`, where DIR
//! is a data set's folder (`train/`, `val/`). One thread; Linux counts its processor time, so a busy machine does not
//! spoil the numbers.

use faceoff_data::{Dataset, ImageSource};
use faceoff_runs::{Experiment, SplitName};
use std::path::{Path, PathBuf};

fn main() {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).expect("the data set's folder");
    let cache_dir = std::env::temp_dir().join("faceoff-view-time");
    let source = ImageSource { data_dir: Some(folder), archive: None, cache_dir, mirror: None };
    let experiments = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
    let quick = Experiment::load(&experiments, "quick").expect("the experiment is valid");
    // One worker makes all batches.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread can be had");
    pool.install(|| {
        for image_size_px in [64, 128] {
            let mut config = quick.data.clone();
            (config.dataset, config.image_size_px) = ("folder".into(), image_size_px);
            let images = Dataset::open(&config, &source, &|_, _, _| {}).expect("the images open");
            let mut training: Vec<f64> = (0..5)
                .map(|epoch| {
                    let before = processor_seconds();
                    let count: usize = images
                        .train_epoch(0, epoch, 64)
                        .expect("the loader starts")
                        .map(|batch| batch.expect("the images are whole").labels.len())
                        .sum();
                    1e6 * (processor_seconds() - before) / count as f64
                })
                .collect();
            training.sort_by(f64::total_cmp);
            let before = processor_seconds();
            let evaluated: usize = images
                .eval_batches(SplitName::Val, 64)
                .expect("the loader starts")
                .map(|batch| batch.expect("the images are whole").labels.len())
                .sum();
            println!(
                "{image_size_px} px: training {:.1} us an image, evaluation {:.1} us",
                training[2],
                1e6 * (processor_seconds() - before) / evaluated as f64
            );
        }
    });
}

/// Processor time of this process, in user and system mode.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("the name ends").1.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}
