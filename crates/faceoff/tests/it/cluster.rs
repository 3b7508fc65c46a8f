//! The script for Slurm and the manifest for Kubernetes. A real Slurm is tried by `scripts/slurm.sh`; here its commands are made up.

use crate::{benchmark, complaint, faceoff, stdout, succeed, two_heads};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn cluster(scheduler: &str, experiment: &Path, out: &Path) -> Command {
    let mut command = faceoff();
    command.args(["cluster", scheduler]).arg(experiment).arg("--out").arg(out);
    command
}

/// A command of the shell in `folder` that notes how it was called, and says `says`.
#[cfg(unix)]
fn made_up(folder: &Path, name: &str, says: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    let log = folder.join(format!("{name}.log"));
    std::fs::write(
        &path,
        format!("#!/bin/sh\nprintf '%s|' \"$@\" >>'{0}'\necho >>'{0}'\necho {says}\n", log.display()),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(unix)]
#[test]
fn the_script_submits_three_jobs_each_after_the_one_before() {
    let (folder, experiment, out) = two_heads("submitted");
    made_up(folder.path(), "sbatch", "'7;here'");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let out = out.join("a folder's");
    let options = ["--gpus", "a100:1", "--partition", "gpu", "--time", "1:00:00", "--max-parallel", "3", "--cpus", "2"];
    let mut command = cluster("slurm", &experiment, &out);
    command
        .args(options)
        .args(["--sbatch=--qos=low", "--submit", "--", "--seeds", "0-4", "--epochs", "1"])
        .env("PATH", path);
    let said = stdout(&succeed(&mut command));
    assert!(said.contains("10 runs in 10 tasks, 2 threads each"), "{said}");
    assert!(said.contains("submitted: images 7, runs 7_[0-9], report 7"), "{said}");
    let calls = std::fs::read_to_string(folder.path().join("sbatch.log")).unwrap();
    let [images, runs, report] = calls.lines().collect::<Vec<_>>()[..] else { panic!("{calls}") };
    for call in [images, runs, report] {
        assert!(call.contains("|--partition=gpu|--qos=low|--cpus-per-task=2|--mem=4G|"), "{call}");
        assert!(call.contains("a folder's/submitted/logs/"), "{call}");
    }
    for option in [
        "--array=0-9%3",
        "--gres=gpu:a100:1",
        "--time=1:00:00",
        "--requeue",
        "--signal=B:TERM@120",
        "--dependency=afterok:7",
    ] {
        assert!(runs.contains(&format!("|{option}|")), "{option}: {runs}");
    }
    assert!(images.ends_with("slurm.sh|images|") && !images.contains("gres"), "{images}");
    assert!(report.contains("|--dependency=afterany:7|") && report.ends_with("slurm.sh|report|"), "{report}");
}

/// What Slurm does before a time limit: it sends TERM to the script, which hands it on and goes back into the queue.
#[cfg(unix)]
#[test]
fn a_task_that_gets_term_goes_back_into_the_queue_and_then_goes_on() {
    let (folder, experiment, out) = two_heads("requeued");
    made_up(folder.path(), "scontrol", "");
    succeed(cluster("slurm", &experiment, &out).args(["--cpus", "1", "--", "--device", "cpu", "--epochs", "16"]));
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let mut task = Command::new("bash");
    task.arg(out.join("requeued/slurm.sh")).arg("runs").env("PATH", path);
    task.envs([("SLURM_ARRAY_TASK_ID", "1"), ("SLURM_JOB_ID", "12")]);
    let mut child = task.spawn().unwrap();
    let checkpoint = out.join("requeued/runs/AdaCos-seed0/checkpoint.safetensors");
    let started = Instant::now();
    while !checkpoint.exists() {
        assert!(started.elapsed() < Duration::from_secs(300) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    succeed(Command::new("kill").args(["-TERM", &child.id().to_string()]));
    assert_eq!(child.wait().unwrap().code(), Some(75));
    let calls = || std::fs::read_to_string(folder.path().join("scontrol.log")).unwrap();
    assert_eq!(calls(), "requeue|12|\n");
    succeed(&mut task);
    assert_eq!(calls().lines().count(), 1);
    assert!(out.join("requeued/runs/AdaCos-seed0/manifest.json").is_file());
    assert!(!out.join("requeued/runs/Classification-seed0").exists(), "it is another task's");
}

#[test]
fn a_manifest_has_a_job_for_each_step() {
    let (_folder, experiment, out) = two_heads("Mani_fest");
    let mut command = cluster("kubernetes", &experiment, &out);
    command.args(["--image", "faceoff:1", "--claim", "work", "--gpus", "1", "--tasks", "2", "--max-parallel", "1"]);
    let said = stdout(&succeed(command.args(["--", "--seeds", "0-2"])));
    assert!(said.contains("6 runs in 2 indexes") && said.contains("-l step=runs"), "{said}");
    let text = std::fs::read_to_string(out.join("Mani_fest/kubernetes.yaml")).unwrap();
    let jobs: Vec<&str> = text.split("\n---\n").skip(1).collect();
    assert_eq!(jobs.len(), 3, "{text}");
    for (job, name) in jobs.iter().zip(["faceoff-mani-fest-images", "faceoff-mani-fest", "faceoff-mani-fest-report"]) {
        assert!(job.contains(&format!("  name: {name}\n")), "{job}");
    }
    assert!(jobs[0].contains("\"--prepare\"]") && !jobs[0].contains("nvidia.com/gpu"), "{}", jobs[0]);
    assert!(
        jobs[1].contains("\"--seeds\",\"0-2\",\"--threads\",\"4\",\"--shard\",\"$(JOB_COMPLETION_INDEX)/2\"]"),
        "{}",
        jobs[1]
    );
    assert!(
        jobs[1].contains("completions: 2\n  parallelism: 1\n") && jobs[1].contains("nvidia.com/gpu: 1}"),
        "{}",
        jobs[1]
    );
}

#[test]
fn what_no_task_could_do_is_refused_before_anything_is_submitted() {
    let (_folder, experiment, out) = two_heads("refused");
    let said = |options: &[&str]| complaint(cluster("slurm", &experiment, &out).arg("--").args(options));
    assert!(said(&["--shard", "0/2"]).contains("--shard cannot stand behind `--`"));
    assert!(said(&["--epoch", "2"]).contains("unexpected argument '--epoch'"));
    assert!(said(&["--heads", "None"]).contains("None"));
    // What is for the runs alone stands in the way of no other step.
    let file = out.join("refused/slurm.sh");
    succeed(cluster("slurm", &experiment, &out).args(["--", "--force", "--export", "parquet", "--jobs", "2"]));
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    assert!(!out.exists());
    // One task can be given by hand what the script would give it.
    succeed(benchmark(&experiment, &out).args(["--shard", "1/2", "--epochs", "1"]));
}
