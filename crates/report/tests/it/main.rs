//! Reports of made-up runs, from the folder to the files.

mod answer;
#[cfg(unix)]
mod browser;
mod choice;
mod export;
mod external;
mod images;
mod made_up;
mod measured;
mod mutations;
mod pages;
mod protocols;
mod tables;
mod vendored;

use faceoff_evaluation::Registry;
use faceoff_report::{Extras, ReportSummary};
use faceoff_runs::Experiment;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An experiment with two heads; `seeds` as given.
fn experiment(seeds: &[u64]) -> Experiment {
    experiment_with(seeds, "")
}

/// The same with `more` at the end of the file.
fn experiment_with(seeds: &[u64], more: &str) -> Experiment {
    let text = format!(
        r#"
        extends = "quick"
        name = "made-up"
        description = "Made up <by> \"tests\" & nothing else."
        [training]
        seeds = {seeds:?}
        epochs = 3
        [analysis]
        knn_neighbors = [1, 3]
        tsne_perplexity = 10.0
        tsne_iterations = 100
        [[heads]]
        kind = "Classification"
        [[heads]]
        name = "cosface-s64"
        kind = "CosFace"
        scale = 64.0
        margin_cosine = 0.35
        {more}
        "#
    );
    Experiment::parse(&text, Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/made-up.toml"))).unwrap()
}

/// Ten classes with names that have to be escaped.
fn made_up() -> made_up::MadeUp {
    made_up::MadeUp { classes: (0..10).map(|class| format!("a <breed> & \"its\" kin {class}")).collect() }
}

fn report(folder: &Path, experiment: &Experiment) -> faceoff_report::Result<ReportSummary> {
    faceoff_report::write_report(folder, experiment, &Registry::standard(), &Extras::default(), &|_| {})
}

/// A folder with runs and their report.
struct Reported {
    folder: tempfile::TempDir,
    summary: ReportSummary,
}

impl Reported {
    /// The report of made-up runs of `experiment`.
    fn of(experiment: &Experiment) -> Self {
        Self::written(experiment, |folder| made_up().write(folder, experiment))
    }

    /// The report of the runs that `write` writes.
    fn written(experiment: &Experiment, write: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        let summary = report(folder.path(), experiment).unwrap();
        Self { folder, summary }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    /// Rows of a CSV file without quoted fields, header first.
    fn rows(&self, file: &str) -> Vec<Vec<String>> {
        self.text(file).lines().map(|line| line.split(',').map(String::from).collect()).collect()
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        pages::files(self.folder.path())
    }

    fn pictures(&self) -> Vec<(String, Vec<u8>)> {
        self.files().into_iter().filter(|(name, _)| name.ends_with(".svg")).collect()
    }
}
