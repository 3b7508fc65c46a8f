//! A command that is killed or stopped at any moment goes on and ends with the same bytes as one that never was.

use crate::{assert_same_outcomes, benchmark, files_below, outcomes, report, stderr, succeed, tune, two_heads};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs `command` of a folder to the end, then, in fresh folders, kills it at moments spread evenly over the time that it
/// took (a few, more by `FACEOFF_KILL_MOMENTS=50`), and runs it again: the outcomes must be the same. `prepare` is done in every
/// folder before.
pub(crate) fn survives_kills(folder: &Path, prepare: impl Fn(&Path), command: impl Fn(&Path) -> Command) {
    let whole = folder.join("whole");
    prepare(&whole);
    let started = Instant::now();
    succeed(&mut command(&whole));
    let length = started.elapsed();
    assert!(!outcomes(&whole).is_empty());

    let moments = std::env::var("FACEOFF_KILL_MOMENTS").map_or(3, |moments| moments.parse().expect("it is a number"));
    let mut killed = 0;
    for moment in 0..moments {
        let out = folder.join(format!("killed-{moment}"));
        prepare(&out);
        let mut child = command(&out).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(length * (2 * moment + 1) / (2 * moments));
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        succeed(&mut command(&out));
        assert_same_outcomes(&whole, &out);
        std::fs::remove_dir_all(&out).unwrap();
    }
    assert!(killed > 0, "every command was over before it could be killed");
}

#[test]
fn a_killed_benchmark_ends_with_the_same_bytes() {
    let (folder, experiment, _) = two_heads("killed");
    // Once for the made-up images, so that the time taken is the benchmark's own.
    succeed(&mut benchmark(&experiment, &folder.path().join("warm")));
    survives_kills(folder.path(), |_| {}, |out| benchmark(&experiment, out));
}

#[test]
fn a_killed_report_ends_with_the_same_bytes() {
    let (folder, experiment, _) = two_heads("again");
    let runs = folder.path().join("runs");
    succeed(benchmark(&experiment, &runs).args(["--epochs", "1"]));
    let prepare = |out: &Path| {
        for (name, bytes) in files_below(&runs.join("again/runs")) {
            let path = out.join("again/runs").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    };
    survives_kills(folder.path(), prepare, |out| report(&experiment, out));
}

#[test]
fn a_killed_search_ends_with_the_same_experiment() {
    let (folder, experiment, _) = two_heads("searched");
    survives_kills(folder.path(), |_| {}, |out| tune(&experiment, out));
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_cleanly_and_the_benchmark_goes_on() {
    let (folder, experiment, out) = two_heads("stopped");
    let whole = folder.path().join("whole");
    succeed(&mut benchmark(&experiment, &whole));

    let child = benchmark(&experiment, &out).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let checkpoint = out.join("stopped/runs/Classification-seed0/checkpoint.safetensors");
    let started = Instant::now();
    while !checkpoint.exists() {
        assert!(started.elapsed() < Duration::from_secs(300), "no checkpoint within five minutes");
        std::thread::sleep(Duration::from_millis(2));
    }
    let id = child.id().to_string();
    succeed(Command::new("kill").args(["-INT", &id]));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("run the same command to go on"), "{}", stderr(&output));

    let resumed = succeed(&mut benchmark(&experiment, &out));
    assert!(stderr(&resumed).contains("goes on after epoch 1"), "{}", stderr(&resumed));
    assert_same_outcomes(&whole, &out);
}

/// `nohup` starts programs so: the terminal may close.
#[cfg(target_os = "linux")]
#[test]
fn a_hangup_that_was_ignored_from_the_start_stays_ignored() {
    let (_folder, experiment, out) = two_heads("nohup");
    let inner = benchmark(&experiment, &out);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(inner.get_program()).args(inner.get_args());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !out.join("nohup/runs").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(5));
    }
    succeed(Command::new("kill").args(["-HUP", &child.id().to_string()]));
    assert!(child.wait().unwrap().success());
    assert!(out.join("nohup/index.html").is_file());
}
