//! Stored runs that are damaged: found, named, left alone, and trained again on request; the others do not suffer.

use crate::{
    benchmark, complaint, experiment, faceoff, files_below, report, stderr, stdout, succeed, two_heads, with_heads,
};
use std::path::Path;
use std::process::Output;

fn verify(folder: &Path) -> Output {
    faceoff().args(["runs", "verify"]).arg(folder).output().unwrap()
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_run_is_named_and_left_alone_and_trained_again_on_request() {
    let (_folder, experiment, out) = two_heads("damaged");
    let folder = out.join("damaged");
    let one_epoch = |command: &mut std::process::Command| command.args(["--epochs", "1"]).output().unwrap();
    succeed(benchmark(&experiment, &out).args(["--epochs", "1"]));
    let good = files_below(&folder.join("runs/AdaCos-seed0"));
    let output = verify(&out);
    let lines = stdout(&output);
    assert!(
        output.status.success() && lines.lines().count() == 2 && lines.matches("  whole: 8 files").count() == 2,
        "{lines}"
    );

    // In a whole run; the other one is lost, and comes back by the same command.
    flip(&folder.join("runs/AdaCos-seed0/embeddings-val.safetensors"));
    std::fs::remove_dir_all(folder.join("runs/Classification-seed0")).unwrap();
    let damaged = files_below(&folder.join("runs/AdaCos-seed0"));
    let output = one_epoch(&mut benchmark(&experiment, &out));
    let message = stderr(&output);
    assert!(!output.status.success() && !message.contains("panicked"), "{message}");
    for part in [
        "AdaCos-seed0 is left alone",
        "embeddings-val.safetensors",
        "expected",
        "found",
        "--force",
        "1 of 2 runs to do",
    ] {
        assert!(message.contains(part), "{message} lacks {part}");
    }
    let without_records = |files: Vec<(std::path::PathBuf, Vec<u8>)>| {
        files.into_iter().filter(|(name, _)| !name.starts_with("measured.json")).collect::<Vec<_>>()
    };
    assert!(without_records(files_below(&folder.join("runs/AdaCos-seed0"))) == without_records(damaged));
    let metrics = std::fs::read_to_string(folder.join("metrics.csv")).unwrap();
    assert!(metrics.contains("Classification,") && !metrics.contains("AdaCos,"), "{metrics}");
    let page = std::fs::read_to_string(folder.join("index.html")).unwrap();
    assert!(page.contains("AdaCos-seed0 is left out") && page.contains("embeddings-val.safetensors"));
    let output = verify(&folder);
    let lines = stdout(&output);
    assert!(!output.status.success() && stderr(&output).contains("1 of 2 runs are damaged or"), "{lines}");
    assert!(lines.contains("AdaCos-seed0  DAMAGED: ") && lines.contains("Classification-seed0  whole"), "{lines}");

    succeed(benchmark(&experiment, &out).args(["--epochs", "1", "--force"]));
    assert!(verify(&folder.join("runs/AdaCos-seed0")).status.success());
    let is_outcome = |name: &Path| name.extension().is_some_and(|extension| extension != "json");
    for ((name, before), (_, after)) in good.iter().zip(files_below(&folder.join("runs/AdaCos-seed0"))) {
        assert!(*before == after || !is_outcome(name), "{}", name.display());
    }

    // What nothing but `verify` reads; a specification that is missing; no run at all.
    flip(&folder.join("runs/AdaCos-seed0/encoder.safetensors"));
    assert!(!verify(&folder).status.success());
    std::fs::remove_file(folder.join("runs/AdaCos-seed0/spec.json")).unwrap();
    let message = stderr(&succeed(&mut report(&experiment, &out)));
    let page = std::fs::read_to_string(folder.join("index.html")).unwrap();
    assert!(page.contains("spec.json is damaged or was changed") && page.contains("no such file"), "{message}");
    assert!(stderr(&verify(&folder.join("plots"))).contains("holds no run"));
}

#[test]
fn a_damaged_checkpoint_is_not_trained_on() {
    let (_folder, experiment, out) = two_heads("checkpoint");
    let run = out.join("checkpoint/runs/Classification-seed0");
    let mut first = benchmark(&experiment, &out).stderr(std::process::Stdio::null()).spawn().unwrap();
    while !run.join("checkpoint.safetensors").exists() {
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(first.try_wait().unwrap().is_none(), "the benchmark ended without a checkpoint");
    }
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(stdout(&verify(&out)).contains("unfinished; its checkpoint is whole"));
    flip(&run.join("checkpoint.safetensors"));
    assert!(stdout(&verify(&out)).contains("Classification-seed0  DAMAGED: "));
    let message = complaint(&mut benchmark(&experiment, &out));
    assert!(message.contains("checkpoint.safetensors is damaged or was changed: expected content"), "{message}");
    assert!(out.join("checkpoint/runs/AdaCos-seed0/manifest.json").exists(), "{message}");
    let output = succeed(benchmark(&experiment, &out).arg("--force"));
    assert!(!stderr(&output).contains("goes on after"), "{}", stderr(&output));
    assert!(verify(&out).status.success());
}

/// AdaCos needs three classes: said before anything is trained, and the other heads go on.
#[test]
fn a_head_that_cannot_work_on_the_images_is_left_out() {
    let (folder, experiment, out) = experiment("two", |text| {
        let heads = "[[heads]]\nkind = \"AdaCos\"\nepsilon = 1e-6\n\n[[heads]]\nkind = \"Classification\"\n";
        with_heads(&text, heads)
            .replace("dataset = \"synthetic\"", "dataset = \"folder\"")
            .replace("epochs = 2", "epochs = 1")
            .replace("batch_size = 16", "batch_size = 4")
    });
    let [images, cache] = ["images", "cache"].map(|name| folder.path().join(name));
    succeed(benchmark(&two_heads("any").1, &folder.path().join("any")).args(["--epochs", "1", "--cache"]).arg(&cache));
    let mut cached = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path());
    let synthetic = cached.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("synthetic-"));
    for (name, bytes) in files_below(&synthetic.unwrap()) {
        if ["stripes-0", "stripes-5"].iter().any(|class| name.to_string_lossy().contains(class)) {
            let path = images.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    for _ in 0..2 {
        let output = succeed(benchmark(&experiment, &out).arg("--data").arg(&images));
        let message = stderr(&output);
        let said = message.find("AdaCos-seed0 is left out: ").expect(&message);
        assert!(message.contains("at least 3") && !message.contains("AdaCos seed 0 epoch"), "{message}");
        assert!(message.find("Classification seed 0").is_none_or(|trained| said < trained), "{message}");
        let page = std::fs::read_to_string(out.join("two/index.html")).unwrap();
        assert!(page.contains("AdaCos-seed0 was not trained: ") && page.contains("at least 3"));
    }
}
