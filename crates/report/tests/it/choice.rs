//! Which runs are reported, and what is said of the others.

use crate::pages::assert_page_is_whole;
use crate::{experiment, made_up, report};
use faceoff_evaluation::Error::NoWholeRuns;
use faceoff_report::{Error, ReportSummary};
use faceoff_runs::{Compute, Failure, Overrides, RunFolder, RunSpec};

fn assert_noted(summary: &ReportSummary, note: &str) {
    assert!(summary.notes.iter().any(|found| found.contains(note)), "{:#?} lack {note}", summary.notes);
}

/// Variants and their numbers of seeds.
fn rows(summary: &ReportSummary) -> Vec<(&str, usize)> {
    summary.rows.iter().map(|row| (row.variant.as_str(), row.seeds)).collect()
}

#[test]
fn nothing_to_report_is_an_error_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let error = report(folder.path(), &experiment(&[0])).unwrap_err();
    assert!(matches!(error, Error::Evaluation(NoWholeRuns { .. })));
    assert!(error.to_string().ends_with("make runs with the command `benchmark made-up`"), "{error}");

    let spec = &RunSpec::of(&experiment(&[0]), &made_up::compute())[0];
    RunFolder::new(folder.path(), spec).begin(spec).unwrap();
    let error = report(folder.path(), &experiment(&[0])).unwrap_err().to_string();
    assert!(error.contains("(Classification-seed0 is unfinished)"), "{error}");
    assert!(!folder.path().join("index.html").exists());
}

#[test]
fn failed_unfinished_and_missing_runs_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(&[0, 1]);
    let specs = RunSpec::of(&experiment, &made_up::compute());
    made_up().write_run(folder.path(), &specs[0], &made_up().data("x"));
    let failed = RunFolder::new(folder.path(), &specs[1]);
    failed.begin(&specs[1]).unwrap();
    let failure = Failure {
        spec_hash: specs[1].hash(),
        head: "CosFace".into(),
        epoch: 2,
        step: 17,
        learning_rate: 0.003,
        message: "the loss is <NaN>".into(),
    };
    failed.fail(&failure).unwrap();
    RunFolder::new(folder.path(), &specs[2]).begin(&specs[2]).unwrap();

    let summary = report(folder.path(), &experiment).unwrap();
    assert_eq!(summary.rows.len(), 1);
    let failed = "cosface-s64-seed0 failed for good at epoch 2, step 17, learning rate 3.00e-3: the loss is <NaN>.";
    assert_noted(&summary, failed);
    assert_noted(&summary, "Classification-seed1 is unfinished and left out");
    assert_noted(&summary, "1 of the experiment's 4 runs not there yet: cosface-s64-seed1.");
    assert!(assert_page_is_whole(folder.path()).contains("the loss is <NaN>"));
}

#[test]
fn overridden_runs_are_reported_by_the_plain_experiment() {
    let folder = tempfile::tempdir().unwrap();
    let overrides = Overrides { epochs: Some(1), heads: Some(vec!["CosFace".into()]), ..Default::default() };
    let short = experiment(&[0]).with_overrides(&overrides).unwrap();
    made_up().write(folder.path(), &short);
    let summary = report(folder.path(), &experiment(&[0])).unwrap();
    assert_eq!(rows(&summary), [("cosface-s64", 1)]);
    assert_noted(&summary, "training.epochs: 1, not 3");
}

#[test]
fn runs_of_different_settings_or_images_are_never_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(&[0, 1, 2]);
    let specs = RunSpec::of(&experiment, &made_up::compute());
    let data = made_up().data("x");
    // Two runs with another learning rate outnumber the one that agrees with the experiment.
    made_up().write_run(folder.path(), &specs[0], &data);
    for spec in &specs[1..3] {
        let mut other = spec.clone();
        other.training.peak_learning_rate = 0.5;
        made_up().write_run(folder.path(), &other, &data);
    }
    let mut images = data.clone();
    images.fingerprint = "f2".into();
    made_up().write_run(folder.path(), &specs[3], &images);
    let mut head = specs[5].clone();
    head.variant.head = head.variant.head.clone().with("scale", 32.0);
    made_up().write_run(folder.path(), &head, &data);

    let summary = report(folder.path(), &experiment).unwrap();
    assert_eq!(rows(&summary), [("Classification", 1)]);
    let mixed = "Classification-seed1 and cosface-s64-seed0 are left out, since runs of different settings are never mixed: \
                 training.peak_learning_rate: 0.5, not 0.003.";
    assert_noted(&summary, mixed);
    assert_noted(&summary, "cosface-s64-seed1 is left out");
    assert_noted(&summary, "other images");
    let other_head =
        "cosface-s64-seed2 is left out: its head is not that of the experiment (variant.scale: 32.0, not 64.0).";
    assert_noted(&summary, other_head);

    // Without the run that agrees, the largest group is reported.
    RunFolder::new(folder.path(), &specs[0]).clear().unwrap();
    RunFolder::new(folder.path(), &specs[3]).clear().unwrap();
    let summary = report(folder.path(), &experiment).unwrap();
    assert_eq!(rows(&summary), [("Classification", 1), ("cosface-s64", 1)]);
}

#[test]
fn runs_from_different_weights_under_one_name_are_never_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let mut experiment = experiment(&[0, 1, 2]);
    experiment.training.encoder_init = Some("weights.safetensors".into());
    let data = made_up().data("x");
    let specs = RunSpec::of(&experiment, &made_up::compute());
    for (spec, digit) in specs.iter().filter(|spec| spec.variant.name == "Classification").zip(["a", "b", "b"]) {
        let mut of_weights = spec.clone();
        of_weights.training.encoder_init_blake3 = Some(digit.repeat(64));
        made_up().write_run(folder.path(), &of_weights, &data);
    }
    let summary = report(folder.path(), &experiment).unwrap();
    assert_eq!(rows(&summary), [("Classification", 2)]);
    let left_out = "Classification-seed0 is left out, since runs of different settings are never mixed: the experiment's own settings; \
                    the encoder starts from other weights.";
    assert_noted(&summary, left_out);
}

#[test]
fn other_seeds_are_used_and_said() {
    let folder = tempfile::tempdir().unwrap();
    made_up().write(folder.path(), &experiment(&[0]));
    let other = Compute { device: "cuda".into(), ..made_up::compute() };
    for spec in RunSpec::of(&experiment(&[7]), &other) {
        made_up().write_run(folder.path(), &spec, &made_up().data("imagewoof2-160"));
    }
    let summary = report(folder.path(), &experiment(&[0])).unwrap();
    assert!(summary.rows.iter().all(|row| row.seeds == 2));
    let used = "Classification-seed7 and cosface-s64-seed7 are used, although the experiment does not list the seed.";
    assert_noted(&summary, used);
    let alike = "Not all runs were computed alike; they agree to rounding: cpu (avx2): Classification-seed0, cosface-s64-seed0; \
                 cuda (avx2): Classification-seed7, cosface-s64-seed7.";
    assert_noted(&summary, alike);
}

#[test]
fn damaged_runs_are_left_out_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = experiment(&[0]);
    made_up().write(folder.path(), &experiment);
    std::fs::write(folder.path().join("runs/Classification-seed0/manifest.json"), "{}").unwrap();
    let summary = report(folder.path(), &experiment).unwrap();
    assert_eq!(summary.rows.len(), 1);
    assert_noted(&summary, "Classification-seed0 is left out: ");
}
