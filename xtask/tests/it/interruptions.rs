//! A benchmark that is killed or stopped at any moment goes on and ends with the same bytes as one that never was.

use crate::{assert_same_outcomes, benchmark, stderr, succeed, two_heads};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Moments of the kill test, spread evenly over a benchmark: a few here, more by `FACEOFF_KILL_MOMENTS=50`.
fn kill_moments() -> u32 {
    std::env::var("FACEOFF_KILL_MOMENTS")
        .map_or(3, |value| value.parse().expect("FACEOFF_KILL_MOMENTS is a number"))
}

#[test]
fn a_killed_benchmark_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = two_heads(folder.path(), "killed");
    let whole = folder.path().join("whole");
    // Once for the made-up images, so that the second time is the benchmark's own.
    succeed(&mut benchmark(&experiment, &folder.path().join("warm")));
    let started = Instant::now();
    succeed(&mut benchmark(&experiment, &whole));
    let length = started.elapsed();

    let moments = kill_moments();
    let mut killed = 0;
    for moment in 0..moments {
        let out = folder.path().join(format!("killed-{moment}"));
        let mut child =
            benchmark(&experiment, &out).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(length * (2 * moment + 1) / (2 * moments));
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        succeed(&mut benchmark(&experiment, &out));
        assert_same_outcomes(&whole, &out);
        std::fs::remove_dir_all(&out).unwrap();
    }
    assert!(killed > 0, "every benchmark was over before it could be killed");
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_cleanly_and_the_benchmark_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let experiment = two_heads(folder.path(), "stopped");
    let (whole, out) = (folder.path().join("whole"), folder.path().join("out"));
    succeed(&mut benchmark(&experiment, &whole));

    let child = benchmark(&experiment, &out).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let checkpoint = out.join("stopped/runs/Classification-seed0/checkpoint.safetensors");
    let started = Instant::now();
    while !checkpoint.exists() {
        assert!(started.elapsed() < Duration::from_secs(300), "no checkpoint within five minutes");
        std::thread::sleep(Duration::from_millis(2));
    }
    let id = child.id().to_string();
    succeed(std::process::Command::new("kill").args(["-INT", &id]));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("run the same command to go on"), "{}", stderr(&output));

    let resumed = succeed(&mut benchmark(&experiment, &out));
    assert!(stderr(&resumed).contains("goes on after epoch 1"), "{}", stderr(&resumed));
    assert_same_outcomes(&whole, &out);
}
