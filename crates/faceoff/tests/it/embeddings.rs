//! Frozen embeddings of another model through the whole program: a projection of them in the encoder's place.

use crate::interruptions::survives_kills;
use crate::{
    TWO_HEADS, assert_same_outcomes, complaint, experiment, faceoff, outcomes, stderr, stdout, succeed, with_heads,
};
use faceoff_runs::Experiment;
use ndarray::Array2;
use ndarray_npy::write_npy;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A folder with an experiment of two heads and a hidden layer, and 90 rows of six numbers around three directions with their labels.
fn own() -> (TempDir, PathBuf) {
    let (folder, path, _) = experiment("mine", |text| {
        with_heads(&text, TWO_HEADS)
            .replace("tsne_iterations = 1000", "tsne_iterations = 50")
            .replace("images_per_split = 64\n", "")
            .replace("outputs = 512", "outputs = 16")
            .replace("hidden = 0", "hidden = 8")
    });
    write_rows(folder.path());
    (folder, path)
}

fn write_rows(folder: &Path) {
    let number = |(row, column): (usize, usize)| {
        let noise = ((row * 31 + column * 17) % 23) as f32 / 23.0;
        noise + if row % 3 == column % 3 { 1.5 } else { 0.0 }
    };
    write_npy(folder.join("clip.npy"), &Array2::from_shape_fn((90, 6), number)).unwrap();
    let labels: String = (0..90).map(|row| format!("{}\n", ["cat", "dog", "owl"][row % 3])).collect();
    std::fs::write(folder.join("clip.csv"), format!("label\n{labels}")).unwrap();
}

fn benchmark(folder: &Path, experiment: &Path, out: &Path) -> Command {
    let mut command = faceoff();
    command.args(["benchmark", "--device", "cpu", "--out"]).arg(out).arg(experiment);
    command.arg("--embeddings").arg(folder.join("clip.npy")).arg("--labels").arg(folder.join("clip.csv"));
    command
}

#[test]
fn a_report_on_embeddings_is_named_after_them_and_says_what_was_trained() {
    let (folder, path) = own();
    let out = folder.path().join("out");
    let mut command = benchmark(folder.path(), &path, &out);
    let said = stdout(&succeed(command.arg("--dry-run")));
    for part in [
        "experiment  clip-mine: The heads of the experiment mine on a projection with a hidden layer of the frozen embeddings clip.",
        "rows        clip of 6 numbers: 72 to train and 18 to validate, 3 classes, the smallest of 24 training images",
        "runs        2 (2 heads x 1 condition x 1 seed)",
    ] {
        assert!(said.contains(part), "{said} lacks {part}");
    }
    assert!(!out.exists());

    let mut command = benchmark(folder.path(), &path, &out);
    let said = stderr(&succeed(&mut command));
    assert!(said.contains("18 of 90 images are validation images"), "{said}");
    let report = out.join("clip-mine");
    let read = |name: &str| std::fs::read_to_string(report.join(name)).unwrap();
    let page = read("index.html");
    for part in [
        "a row of clip.npy, 6 numbers",
        "Nothing is augmented",
        "a layer of 8 ReLU units, then a linear one; rows are brought to one length first",
        "72 train, 18 validation",
    ] {
        assert!(page.contains(part), "the page lacks {part}");
    }
    assert_eq!(read("split.csv").lines().count(), 91);
    // What lies close together in the file was told apart.
    let metrics = read("metrics.csv");
    let accuracies = metrics.lines().filter(|line| line.contains(",nearest_center_accuracy,"));
    assert!(
        accuracies.filter(|line| line.rsplit(',').next().unwrap().parse::<f64>().unwrap() > 0.6).count() == 2,
        "{metrics}"
    );

    assert!(stderr(&succeed(&mut command)).contains("0 of 2 runs to do"));
    // On one thread, in another folder: the same bytes.
    let alone = folder.path().join("alone");
    succeed(benchmark(folder.path(), &path, &alone).args(["--threads", "1"]));
    assert_same_outcomes(&report, &alone.join("clip-mine"));
    // The report again, by its name, without the files.
    std::fs::remove_file(report.join("index.html")).unwrap();
    succeed(faceoff().args(["report", "clip-mine", "--out"]).arg(&out));
    assert_eq!(read("index.html"), page);

    // Another file under the same name is refused, and under another one trained.
    let bytes = std::fs::read(folder.path().join("clip.npy")).unwrap();
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    std::fs::write(folder.path().join("clip.npy"), other).unwrap();
    assert!(complaint(&mut command).contains("fingerprint"));
    succeed(benchmark(folder.path(), &path, &out).args(["--name", "other", "--epochs", "1"]));
    assert!(out.join("other-mine/index.html").exists());
}

#[test]
fn a_killed_benchmark_on_embeddings_ends_with_the_same_bytes() {
    let (folder, path) = own();
    survives_kills(folder.path(), |_| {}, |out| benchmark(folder.path(), &path, out));
}

#[test]
fn every_head_trains_on_embeddings() {
    let folder = tempfile::tempdir().unwrap();
    write_rows(folder.path());
    let experiments = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments"));
    let mut all = Experiment::load(experiments, "heads-all").unwrap();
    (all.training.epochs, all.training.seeds) = (1, vec![0]);
    (all.analysis.tsne_iterations, all.analysis.bootstrap_resamples) = (5, 50);
    all.projection.as_mut().unwrap().outputs = 16;
    let path = folder.path().join("heads-all.toml");
    std::fs::write(&path, all.to_toml()).unwrap();
    let out = folder.path().join("out");
    succeed(&mut benchmark(folder.path(), &path, &out));
    let weights = outcomes(&out).into_iter().filter(|(path, _)| path.ends_with("encoder.safetensors")).count();
    assert_eq!(weights, all.heads.len());
}

/// The scores of 16,500 images for 16,500 classes take more than a gigabyte; known before anything is trained.
#[test]
fn more_validation_scores_than_can_be_kept_are_refused() {
    let (folder, path) = own();
    let rows = Array2::from_shape_fn((16_500, 2), |(row, column)| (row + column) as f32);
    write_npy(folder.path().join("clip.npy"), &rows).unwrap();
    let labels: String = (0..16_500).map(|row| format!("{row}\n")).collect();
    std::fs::write(folder.path().join("clip.csv"), format!("label\n{labels}")).unwrap();
    let mut command = benchmark(folder.path(), &path, &folder.path().join("out"));
    command.arg("--val-embeddings").arg(folder.path().join("clip.npy"));
    command.arg("--val-labels").arg(folder.path().join("clip.csv"));
    let message = complaint(&mut command);
    let expected = "the 16500 val images by 16500 classes make 272250000 scores, but at most 268435456 are kept";
    assert!(message.contains(expected) && !message.contains("epoch 1"), "{message}");
}

#[test]
fn options_that_would_have_no_effect_and_wrong_files_are_refused() {
    let (folder, path) = own();
    let out = folder.path().join("out");
    let refused = |words: &[&str], part: &str| {
        let message = complaint(benchmark(folder.path(), &path, &out).args(words));
        assert!(message.contains(part), "{message} lacks {part}");
    };
    refused(&["--image-size", "32"], "--image-size would have no effect");
    refused(&["--data", "."], "cannot be used with");
    refused(&["--val-embeddings", "x.npy"], "--val-labels");
    std::fs::write(folder.path().join("clip.csv"), "label\ncat\ndog\n").unwrap();
    refused(&[], "it has 2 labels, but");
    let mut without = faceoff();
    without.args(["benchmark", "--embeddings", "clip.npy", "--out"]).arg(&out);
    assert!(complaint(&mut without).contains("--labels"));
    assert!(!out.exists());
}

#[test]
fn with_thousands_of_classes_sampling_is_recommended_until_it_is_chosen() {
    const CLASSES: usize = 2_001;
    let (folder, path) = own();
    let rows =
        Array2::from_shape_fn((3 * CLASSES, 2), |(row, column)| if (row + column) % 2 == 0 { 0.6_f32 } else { 0.8 });
    write_npy(folder.path().join("clip.npy"), &rows).unwrap();
    let labels: String = (0..3 * CLASSES).map(|row| format!("{}\n", row % CLASSES)).collect();
    std::fs::write(folder.path().join("clip.csv"), format!("label\n{labels}")).unwrap();
    let dry_run = || {
        let mut command = benchmark(folder.path(), &path, &folder.path().join("out"));
        stderr(&succeed(command.arg("--dry-run")))
    };
    let hint = "hint: with 2001 classes most of a step goes to the class weights; class_sampling = 0.1";
    let said = dry_run();
    assert!(said.contains(hint), "{said}");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[training]\n", "[training]\nclass_sampling = 0.1\n")).unwrap();
    let said = dry_run();
    assert!(!said.contains("hint:"), "{said}");
}
