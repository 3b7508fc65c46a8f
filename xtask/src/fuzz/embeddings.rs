//! NPY matrices and CSV labels of `report --embeddings`, from the files to a report.

use super::{Files, Outcome, Target, clear, mutate, write};
use anyhow::Result;
use faceoff::Program;
use faceoff_evaluation::{LabelledFiles, Registry};
use faceoff_report::write_embeddings_report;
use faceoff_runs::{AnalysisConfig, Experiment};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};

struct Embeddings {
    matrices: Vec<Vec<u8>>,
    labels: Vec<Vec<u8>>,
    settings: AnalysisConfig,
    registry: Registry,
    folder: PathBuf,
}

/// Rows and columns of the matrices.
const SHAPE: [usize; 2] = [9, 4];

pub(super) fn open(program: &Program, folder: &Path) -> Result<Box<dyn Target>> {
    let values: Vec<f64> = (0..SHAPE[0] * SHAPE[1]).map(|index| ((index * index) as f64).sin()).collect();
    let singles: Vec<u8> = values.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect();
    let doubles: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
    let matrices = vec![npy(1, "<f4", false, &singles), npy(2, ">f8", true, &doubles), npy(3, "<f4", true, &singles)];
    let table = |separator: &str, titles: [&str; 2]| {
        let row = |index: usize| format!("image{index}{separator}{}", ["cat", "dog", "owl"][index % 3]);
        let rows = (0..SHAPE[0]).map(row).collect::<Vec<_>>().join("\n");
        format!("{}\n{rows}\n", titles.join(separator)).into_bytes()
    };
    let numbers: String = (0..SHAPE[0]).map(|index| format!("{}\n", index % 3)).collect();
    let labels = [",", ";", "\t"].map(|separator| table(separator, ["id", "label"])).into_iter();
    let labels = labels.chain([format!("label\n{numbers}").into_bytes(), numbers.into_bytes()]).collect();
    let mut settings = Experiment::load(&program.path("experiments"), "smoke")?.analysis;
    settings.bootstrap_resamples = 5;
    settings.tsne_iterations = 2;
    Ok(Box::new(Embeddings { matrices, labels, settings, registry: Registry::standard(), folder: folder.join("work") }))
}

/// A matrix of [`SHAPE`] as NumPy writes it.
fn npy(version: u8, dtype: &str, by_columns: bool, values: &[u8]) -> Vec<u8> {
    let order = if by_columns { "True" } else { "False" };
    let header = format!("{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': ({}, {}), }}", SHAPE[0], SHAPE[1]);
    let before = if version == 1 { 10 } else { 12 };
    let length = (before + header.len() + 1).next_multiple_of(64) - before;
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    bytes.extend(&(length as u32).to_le_bytes()[..before - 8]);
    bytes.extend(format!("{header:<width$}\n", width = length - 1).bytes());
    bytes.extend(values);
    bytes
}

impl Target for Embeddings {
    fn input(&self, random: &mut ChaCha8Rng) -> Files {
        let mut files = Files::new();
        for name in ["queries", "index"].into_iter().take(random.random_range(1..=2)) {
            for (ending, seeds) in [("npy", &self.matrices), ("csv", &self.labels)] {
                files.insert(format!("{name}.{ending}"), seeds.choose(random).expect("there are seeds").clone());
            }
        }
        let names: Vec<String> = files.keys().cloned().collect();
        for _ in 0..random.random_range(1..=3) {
            let name = names.choose(random).expect("there are files");
            let seeds = if name.ends_with("npy") { &self.matrices } else { &self.labels };
            let other = seeds.choose(random).expect("there are seeds");
            let changed = mutate::bytes(std::mem::take(files.get_mut(name).expect("it is one of them")), other, random);
            files.insert(name.clone(), changed);
        }
        files
    }

    fn read(&mut self, input: &Files) -> Outcome {
        clear(&self.folder);
        write(&self.folder, input).expect("the input can be written");
        let files = |name: &str| LabelledFiles {
            embeddings: self.folder.join(format!("{name}.npy")),
            labels: self.folder.join(format!("{name}.csv")),
        };
        let index = input.contains_key("index.npy").then(|| files("index"));
        let (out, say) = (self.folder.join("out"), |_: &str| {});
        let (settings, registry) = (&self.settings, &self.registry);
        match write_embeddings_report(&out, "x", &files("queries"), index.as_ref(), settings, registry, &say) {
            Ok(_) => Outcome::Accepted,
            Err(_) if out.exists() => Outcome::Silent("refused, but the report's folder is there".into()),
            Err(_) => Outcome::Refused,
        }
    }
}
