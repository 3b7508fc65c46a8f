//! Reports of made-up runs, from the folder to the files.

mod choice;
mod external;
mod made_up;
mod measured;
mod pages;
mod protocols;
mod tables;

use faceoff_evaluation::Registry;
use faceoff_report::ReportSummary;
use faceoff_runs::Experiment;
use std::path::Path;

/// An experiment with two heads; `seeds` as given.
fn experiment(seeds: &[u64]) -> Experiment {
    experiment_with(seeds, "")
}

/// The same with `more` at the end of the file.
fn experiment_with(seeds: &[u64], more: &str) -> Experiment {
    let seeds: Vec<_> = seeds.iter().map(u64::to_string).collect();
    let text = format!(
        r#"
        name = "made-up"
        description = "Made up <by> \"tests\" & nothing else."
        [data]
        dataset = "imagewoof2-160"
        image_size_px = 64
        label_noise_percent = 0
        synthetic_fallback = false
        [data.augmentation]
        crop_scale = [0.35, 1.0]
        crop_aspect = [0.75, 1.3333333333333333]
        flip_probability = 0.5
        eval_resize_factor = 1.14
        [training]
        seeds = [{}]
        epochs = 3
        batch_size = 16
        encoder = "resnet18"
        precision = "f32"
        head_init = "uniform"
        peak_learning_rate = 3e-3
        warmup_fraction = 0.25
        start_divisor = 25.0
        end_divisor = 1e4
        beta1_high = 0.95
        beta1_low = 0.85
        beta2 = 0.999
        epsilon = 1e-8
        weight_decay = 0.05
        [analysis]
        engine = "fast"
        knn_neighbors = [1, 3]
        pca_components = [16, 128]
        headline_neighbors = 5
        headline_components = [16, 128]
        vote_temperature = 0.07
        bootstrap_resamples = 2000
        calibration_bins = 15
        kmeans_seed = 0
        tsne_perplexity = 10.0
        tsne_iterations = 100
        tsne_seed = 0
        [[heads]]
        kind = "Classification"
        [[heads]]
        name = "cosface-s64"
        kind = "CosFace"
        scale = 64.0
        margin_cosine = 0.35
        {more}
        "#,
        seeds.join(", ")
    );
    Experiment::parse(&text, Path::new("made-up.toml")).unwrap()
}

/// Ten classes with names that have to be escaped.
fn made_up() -> made_up::MadeUp {
    made_up::MadeUp {
        classes: (0..10).map(|class| format!("a <breed> & \"its\" kin {class}")).collect(),
        images: [120, 80],
        dim: 24,
    }
}

fn report(folder: &Path, experiment: &Experiment) -> faceoff_report::Result<ReportSummary> {
    faceoff_report::write_report(folder, experiment, &Registry::standard(), &|_| {})
}
