//! The pixels that the encoder saw of a run's validation images, as raw bytes `(n, size, size, 3)`:
//! `cargo run --release -p faceoff-data --example views -- RUN DIR FILE`, where RUN is a run's folder, DIR the data set's,
//! FILE the output. `scripts/check_torchvision.py` feeds them to PyTorch.

use faceoff_data::{Dataset, ImageSource};
use faceoff_runs::{RunFolder, SplitName};
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [run, folder, file] = arguments.as_slice() else {
        return Err("three arguments are needed: RUN DIR FILE".into());
    };
    let manifest = RunFolder::at(run).manifest()?;
    let mut config = manifest.spec.data;
    config.dataset = "folder".into();
    let cache = tempfile::tempdir()?;
    let source = ImageSource { data_dir: Some(folder.clone()), ..ImageSource::cached(cache.path().to_path_buf()) };
    let images = Dataset::open(&config, &source, &|_, _, _| {})?;
    if images.record().fingerprint != manifest.data.fingerprint {
        return Err(format!("{} does not hold the images of the run", folder.display()).into());
    }
    let mut out = std::fs::File::create(file)?;
    for batch in images.eval_batches(SplitName::Val, manifest.spec.training.batch_size)? {
        out.write_all(&batch?.pixels)?;
    }
    Ok(())
}
