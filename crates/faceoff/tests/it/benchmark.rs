//! Whole benchmarks: results, repeatability, reuse of whole runs, a head that diverges.

use crate::{
    assert_same_outcomes, benchmark, complaint, experiment, faceoff, report, stderr, stdout, succeed, two_heads,
    with_heads,
};
use std::collections::BTreeSet;

#[test]
fn both_commands_make_the_same_report_on_any_number_of_threads() {
    let (folder, experiment, _) = two_heads("pair");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let first = succeed(benchmark(&experiment, &one).args(["--threads", "1"]));
    succeed(benchmark(&experiment, &two).args(["--threads", "2"]));
    assert_same_outcomes(&one, &two);

    for name in ["index.html", "summary.csv", "explained_variance.csv", "runs/AdaCos-seed0/manifest.json"] {
        assert!(one.join("pair").join(name).is_file(), "{name}");
    }
    let metrics = std::fs::read_to_string(one.join("pair/metrics.csv")).unwrap();
    assert!(metrics.starts_with("variant,head,seed,metric,value\n"), "{metrics}");
    let of_metric = |line: &&str| line.split(',').nth(3) == Some("dnn_accuracy");
    let variants = metrics.lines().filter(of_metric).map(|line| line.split(',').next().unwrap());
    assert!(variants.eq(["Classification", "AdaCos"]), "{metrics}");
    let table = stdout(&first);
    assert!(table.contains("Classification") && table.contains("index.html"), "{table}");

    let mut compare = faceoff();
    compare.args(["report", "--compare"]).arg(one.join("pair")).arg(two.join("pair"));
    let shown = stdout(&succeed(&mut compare));
    assert!(shown.contains("made by the same specification") && shown.contains("  0.0 "), "{shown}");

    // The report alone, from the runs.
    for entry in std::fs::read_dir(one.join("pair")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    succeed(&mut report(&experiment, &one));
    assert_same_outcomes(&one, &two);
}

/// Trained, embedded, measured and reported.
#[test]
fn every_head_that_there_is_goes_the_whole_way() {
    let experiments = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments"));
    let all = faceoff_runs::Experiment::load(experiments, "heads-all").unwrap().to_toml();
    // Batches of the smoke experiment have 16 images.
    let blocks =
        all[all.find("[[heads]]").unwrap()..].replace("classes = 8", "classes = 4").replace("images = 8", "images = 4");
    let (_folder, experiment, out) = experiment("every-head", |text| with_heads(&text, &blocks));
    succeed(benchmark(&experiment, &out).args(["--epochs", "1"]));
    let metrics = std::fs::read_to_string(out.join("every-head/metrics.csv")).unwrap();
    let reported: BTreeSet<&str> = metrics.lines().skip(1).filter_map(|line| line.split(',').nth(1)).collect();
    let names = stdout(&succeed(faceoff().args(["heads", "--names"])));
    assert_eq!(reported, names.lines().collect());
}

#[test]
fn whole_runs_are_kept_and_other_ones_refused() {
    let (_folder, experiment, out) = two_heads("kept");
    succeed(benchmark(&experiment, &out).args(["--heads", "AdaCos", "--epochs", "1"]));
    let weights = out.join("kept/runs/AdaCos-seed0/encoder.safetensors");
    let before = std::fs::read(&weights).unwrap();
    let written = std::fs::metadata(&weights).unwrap().modified().unwrap();

    let again = succeed(benchmark(&experiment, &out).args(["--heads", "AdaCos", "--epochs", "1"]));
    assert!(stderr(&again).contains("0 of 1 runs to do"), "{}", stderr(&again));
    assert_eq!(std::fs::metadata(&weights).unwrap().modified().unwrap(), written);

    let message = complaint(&mut benchmark(&experiment, &out));
    assert!(message.contains("training.epochs: 2, not 1") && message.contains("--force"), "{message}");
    assert_eq!(std::fs::read(&weights).unwrap(), before);

    succeed(benchmark(&experiment, &out).args(["--heads", "AdaCos", "--force"]));
    assert_ne!(std::fs::read(&weights).unwrap(), before);
}

#[test]
fn a_training_goes_on_with_the_kernels_that_began_it() {
    let (_folder, experiment, out) = two_heads("compute");
    let one_run = || {
        let mut command = benchmark(&experiment, &out);
        command.args(["--heads", "AdaCos", "--epochs", "1"]);
        command
    };
    succeed(one_run().args(["--kernels", "portable"]));
    // A whole run is a result, whatever computed it.
    let again = succeed(one_run().env("FACEOFF_KERNELS", "candle"));
    assert!(stderr(&again).contains("on cpu (candle), ") && stderr(&again).contains("0 of 1 runs to do"));
    std::fs::remove_file(out.join("compute/runs/AdaCos-seed0/manifest.json")).unwrap();
    let message = complaint(one_run().env("FACEOFF_KERNELS", "candle"));
    assert!(message.contains("compute.kernels: \"candle\", not \"portable\""), "{message}");
    let message = complaint(one_run().args(["--kernels", "mmx"]));
    assert!(message.contains("mmx") && message.contains("portable, candle"), "{message}");
    let message = complaint(one_run().env("FACEOFF_CUDA_TF32", "1"));
    assert!(message.contains("tf32") && message.contains("cpu"), "{message}");
}

/// A learning rate beyond all reason blows one training up; the benchmark says so, and reports what is whole.
#[test]
fn a_diverging_head_does_not_stop_the_others() {
    // Normalised heads survive absurd rates; the plain linear layer does not.
    let (_folder, experiment, out) = experiment("absurd", |text| {
        let heads = text.find("[[heads]]").unwrap();
        text[..heads].replace("peak_learning_rate = 0.003", "peak_learning_rate = 1e36")
            + "[[heads]]\nkind = \"Classification\"\n\n[[heads]]\nkind = \"ArcMarginProduct\"\n"
    });
    let message = complaint(&mut benchmark(&experiment, &out));
    assert!(message.contains("Classification-seed0 FAILED at epoch 1, step"), "{message}");
    assert!(message.contains("ArcMarginProduct"), "{message}");
    let failure = std::fs::read_to_string(out.join("absurd/runs/Classification-seed0/failure.json")).unwrap();
    assert!(failure.contains("\"learning_rate\""), "{failure}");
}

#[test]
fn a_dry_run_does_nothing() {
    let (_folder, experiment, out) = two_heads("dry");
    let text = stdout(&succeed(benchmark(&experiment, &out).arg("--dry-run")));
    assert!(text.contains("runs        2 (2 heads x 1 condition x 1 seed)") && text.contains("minutes"), "{text}");
    assert!(!out.exists());
}
