//! What a user may get wrong: each answer states the value, the rule and the remedy, and nothing is lost.

use crate::{benchmark, complaint, experiment, faceoff, report, stdout, succeed, two_heads};
use std::path::Path;
use std::process::Command;

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

/// Each has a lock, and a benchmark would wait for its own without end.
#[test]
fn one_folder_is_not_report_and_cache() {
    let (_folder, path, out) = two_heads("same");
    let message = complaint(benchmark(&path, &out).arg("--cache").arg(out.join("same")));
    assert!(message.contains("cannot be both the report's folder and --cache"), "{message}");
    assert!(!out.exists());
}

#[test]
fn options_without_effect_are_refused() {
    let (folder, path, out) = two_heads("effect");
    for (option, value) in [("--data", "/nonexistent"), ("--archive", "x.tgz"), ("--mirror", "http://nowhere")] {
        let message = complaint(benchmark(&path, &out).args([option, value]));
        assert!(message.contains(&format!("{option} would have no effect")), "{message}");
    }
    let message = complaint(
        benchmark(Path::new("quick"), &out).args(["--mirror", "http://nowhere", "--data"]).arg(folder.path()),
    );
    assert!(message.contains("cannot be used with"), "{message}");
    assert!(!out.exists());
}

#[test]
fn lists_are_read_as_people_write_them_and_misspelt_names_find_their_like() {
    let (_folder, path, out) = two_heads("lists");
    for seeds in ["0-2", "0..3", "0..=2", "2,0,1"] {
        let mut dry = benchmark(&path, &out);
        dry.args(["--dry-run", "--heads", "Classification, adacos", "--seeds", seeds]);
        let text = stdout(&succeed(&mut dry));
        assert!(
            text.contains("runs        6 (2 heads x 1 condition x 3 seeds)") && text.contains("of the report"),
            "{text}"
        );
    }
    for (name, nearest) in [("Clasification", "Classification"), ("AdaCso", "AdaCos")] {
        let message = complaint(benchmark(&path, &out).args(["--heads", name]));
        assert!(message.contains(&format!("did you mean `{nearest}`")), "{message}");
    }
    assert!(complaint(&mut benchmark(Path::new("qiuck"), &out)).contains("did you mean `quick`"));
    for seeds in ["3-1", "a", ""] {
        assert!(complaint(benchmark(&path, &out).args(["--seeds", seeds])).contains("--seeds"));
    }
}

#[test]
fn a_dry_run_looks_at_the_images_that_are_given() {
    let (folder, _, out) = two_heads("dry");
    for option in ["--data", "--archive"] {
        let mut dry = benchmark(Path::new("quick"), &out);
        let message = complaint(dry.args(["--dry-run", option]).arg(folder.path().join("nowhere")));
        assert!(message.contains("nowhere"), "{message}");
    }
}

#[test]
fn numbers_that_would_never_end_are_refused_with_the_reason() {
    for (from, to, said) in [
        ("tsne_iterations = 1000", "tsne_iterations = 18446744073709551615", "1 ..= 100000"),
        ("crop_scale = [0.35, 1.0]", "crop_scale = [1e-300, 1.0]", "0.001 <= low"),
        ("batch_size = 16", "batch_size = 1000000000", "1 ..= 65536"),
        ("seeds = [0]", "seeds = \"0..99999\"", "at most 10000"),
    ] {
        let (_folder, path, out) = experiment("endless", |text| {
            assert!(text.contains(from), "{text}");
            text.replace(from, to)
        });
        let message = complaint(&mut benchmark(&path, &out));
        assert!(message.contains(said), "{message}");
    }
    let message = complaint(faceoff().args(["benchmark", "smoke", "--threads", "1000"]));
    assert!(message.contains("--threads is 1000") && message.contains("processors"), "{message}");
    let message = complaint(faceoff().arg("heads").env("RAYON_NUM_THREADS", "100000"));
    assert!(message.contains("RAYON_NUM_THREADS is 100000"), "{message}");
}

/// What cannot be printed is no reason to stop: the exit status says that it was cut.
#[cfg(target_os = "linux")]
#[test]
fn a_full_or_closed_output_does_not_stop_the_work() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (_folder, path, out) = two_heads("cut");
    let status = benchmark(&path, &out).args(["--epochs", "1"]).stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(74));
    assert!(out.join("cut/index.html").is_file());
    assert_eq!(faceoff().arg("heads").stdout(full()).status().unwrap().code(), Some(74));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(faceoff().arg("heads").stdout(writer).status().unwrap().code(), Some(74));
}

#[cfg(target_os = "linux")]
#[test]
fn too_little_memory_is_said_before_the_work() {
    let (_folder, path, out) = two_heads("memory");
    let inner = benchmark(&path, &out);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 600000; exec \"$0\" \"$@\""]).arg(inner.get_program()).args(inner.get_args());
    let message = complaint(&mut command);
    assert!(message.contains("leaves this program 585 MiB") && message.contains("at least 1024"), "{message}");
    assert!(!out.exists());
}
