//! What a user may get wrong: each answer states the value, the rule and the remedy, and nothing is lost.

use crate::{benchmark, complaint, experiment, faceoff, report, two_heads};
use std::path::Path;

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let (_folder, path, out) = experiment("key", |text| text.replace("batch_size", "batch_sice"));
    let message = complaint(&mut benchmark(&path, &out));
    assert!(message.contains("batch_sice") && message.contains("key.toml"), "{message}");
    assert!(!out.exists());
}

#[test]
fn unknown_names_are_answered_with_the_known_ones() {
    let (_folder, path, out) = two_heads("names");
    let message = complaint(benchmark(&path, &out).args(["--heads", "SphereFace"]));
    assert!(message.contains("SphereFace") && message.contains("Classification, AdaCos"), "{message}");
    let message = complaint(&mut benchmark(Path::new("imagenet"), &out));
    assert!(message.contains("imagenet") && message.contains("quick"), "{message}");
    assert!(!out.exists());
}

#[test]
fn a_device_that_the_build_lacks_is_answered_with_its_command() {
    let (_folder, path, out) = two_heads("device");
    let mut command = faceoff();
    command.args(["benchmark", "--device", "metal", "--out"]).arg(&out).arg(&path);
    assert!(complaint(&mut command).contains("--features metal && faceoff benchmark --device metal"));
}

#[test]
fn a_report_without_runs_says_how_to_make_them() {
    let (folder, path, _) = two_heads("nothing");
    let message = complaint(&mut report(&path, folder.path()));
    assert!(message.contains("with: faceoff benchmark") && !message.contains("synthetic"), "{message}");
    std::fs::create_dir(folder.path().join("nothing-synthetic")).unwrap();
    let message = complaint(&mut report(&path, folder.path()));
    assert!(message.contains("-synthetic"), "{message}");
}

#[test]
fn missing_images_are_named() {
    let real = |text: String| text.replace("dataset = \"synthetic\"", "dataset = \"imagewoof2-160\"");
    let (folder, path, out) = experiment("images", real);
    let message = complaint(benchmark(&path, &out).arg("--data").arg(folder.path().join("nowhere")));
    assert!(message.contains("nowhere"), "{message}");
    let archive = folder.path().join("half.tgz");
    std::fs::write(&archive, b"no archive").unwrap();
    let message = complaint(benchmark(&path, &out).arg("--archive").arg(&archive));
    assert!(message.contains("half.tgz"), "{message}");
}

/// Two benchmarks in one folder would mix their files: the second gives up at once.
#[test]
fn a_folder_has_one_benchmark_at_a_time() {
    let (_folder, path, out) = two_heads("locked");
    let mut first = benchmark(&path, &out).stderr(std::process::Stdio::null()).spawn().unwrap();
    while !out.join("locked/runs").exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(first.try_wait().unwrap().is_none(), "the first benchmark ended early");
    }
    let message = complaint(&mut benchmark(&path, &out));
    assert!(message.contains("locked"), "{message}");
    assert!(first.wait().unwrap().success());
}
