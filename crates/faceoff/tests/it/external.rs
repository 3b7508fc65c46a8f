//! External embeddings, through the command line.

use crate::{complaint, faceoff, stdout, succeed};
use ndarray::Array2;
use ndarray_npy::write_npy;
use std::path::Path;
use std::process::Command;

/// The report of `<folder>/<name>.npy` and its labels, written below `<folder>/out`.
fn report(folder: &Path, name: &str) -> Command {
    let mut command = faceoff();
    command.args(["report", "--out"]).arg(folder.join("out"));
    command.arg("--embeddings").arg(folder.join(format!("{name}.npy")));
    command.arg("--labels").arg(folder.join(format!("{name}.csv")));
    command
}

/// Forty points around two directions, and their labels.
fn write_points(folder: &Path, name: &str) {
    let points = Array2::from_shape_fn((40, 5), |(row, column)| {
        ((row * 7 + column * 3) % 11) as f64 + if row % 2 == column % 2 { 12.0 } else { 0.0 }
    });
    write_npy(folder.join(format!("{name}.npy")), &points).unwrap();
    let labels: String = (0..40).map(|row| format!("class-{}\n", row % 2)).collect();
    std::fs::write(folder.join(format!("{name}.csv")), format!("label\n{labels}")).unwrap();
}

#[test]
fn external_embeddings_get_a_report() {
    let folder = tempfile::tempdir().unwrap();
    write_points(folder.path(), "points");
    write_points(folder.path(), "index");
    let table = stdout(&succeed(&mut report(folder.path(), "points")));
    let page = folder.path().join("out/embeddings-points/index.html");
    assert!(table.contains("embeddings-points") && table.contains("index.html"), "{table}");
    assert!(std::fs::read_to_string(&page).unwrap().contains("n = 1"));
    let bars = std::fs::read_to_string(page.with_file_name("plots").join("accuracy.svg")).unwrap();
    assert!(bars.contains("bootstrap intervals over images; n = 1 seed"), "{bars}");
    let metrics = || std::fs::read_to_string(folder.path().join("out/embeddings-points/metrics.csv")).unwrap();
    assert!(!metrics().contains("linear_probe_accuracy"));

    let mut with_index = report(folder.path(), "points");
    with_index.arg("--train-embeddings").arg(folder.path().join("index.npy"));
    let message = complaint(&mut with_index);
    assert!(message.contains("--train-labels"), "{message}");
    succeed(with_index.arg("--train-labels").arg(folder.path().join("index.csv")));
    assert!(metrics().contains("linear_probe_accuracy"));
}

/// The report's folder is named after the file, and two files may have one name.
#[test]
fn a_report_of_another_file_of_the_same_name_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    write_points(folder.path(), "points");
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    write_points(&other, "points");
    succeed(&mut report(folder.path(), "points"));
    succeed(&mut report(folder.path(), "points"));
    let mut of_other = faceoff();
    of_other.args(["report", "--out"]).arg(folder.path().join("out"));
    of_other.arg("--embeddings").arg(other.join("points.npy")).arg("--labels").arg(other.join("points.csv"));
    let message = complaint(&mut of_other);
    assert!(message.contains("a file of the same name") && message.contains("--out"), "{message}");
}
