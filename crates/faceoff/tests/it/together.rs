//! Several processes on one report folder: each run is trained once, a dead process's runs are taken over, one report is written.

use crate::{
    TWO_HEADS, assert_same_outcomes, benchmark, complaint, experiment, stderr, stdout, succeed, two_heads, with_heads,
};
use faceoff_runs::{Failure, FolderLock, RunFolder};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A benchmark that was started; what it says goes into a file.
struct Started(Child, PathBuf);

fn start(command: &mut Command, log: PathBuf) -> Started {
    let file = std::fs::File::create(&log).unwrap();
    Started(command.stdout(Stdio::null()).stderr(file).spawn().unwrap(), log)
}

impl Started {
    fn said(&self) -> String {
        std::fs::read_to_string(&self.1).unwrap()
    }

    /// Waits until the benchmark has said something.
    fn until_it_says(&mut self, what: &str) {
        self.until(what, |started| started.said().contains(what));
    }

    fn until(&mut self, what: &str, happened: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !happened(self) {
            assert!(started.elapsed() < Duration::from_secs(300), "no `{what}` within five minutes: {}", self.said());
            assert!(self.0.try_wait().unwrap().is_none(), "it ended before `{what}`: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn succeeds(&mut self) {
        assert!(self.0.wait().unwrap().success(), "{}", self.said());
    }
}

fn epochs_of(run: &str, said: &str) -> usize {
    said.lines().filter(|line| line.contains(&format!("] {run} seed 0: epoch")) && line.contains("images/s")).count()
}

#[test]
fn two_processes_share_the_runs_and_write_what_one_would() {
    let (folder, experiment, out) = two_heads("shared");
    let whole = folder.path().join("whole");
    succeed(&mut benchmark(&experiment, &whole));
    let mut both = ["first", "second"].map(|name| start(&mut benchmark(&experiment, &out), folder.path().join(name)));
    both.iter_mut().for_each(Started::succeeds);
    assert_same_outcomes(&whole, &out);
    let said = both.map(|started| started.said());
    for run in ["Classification", "AdaCos"] {
        let trained = said.iter().map(|said| epochs_of(run, said)).sum::<usize>();
        assert_eq!(trained, 2, "the two epochs of {run} were trained once: {said:#?}");
    }
    assert!(out.join("shared/index.html").is_file());
}

#[test]
fn the_run_of_a_killed_process_is_waited_for_and_taken_over() {
    let (folder, experiment, out) = two_heads("orphaned");
    let command = |out: &Path| {
        let mut command = benchmark(&experiment, out);
        command.args(["--heads", "Classification", "--epochs", "16"]);
        command
    };
    let whole = folder.path().join("whole");
    succeed(&mut command(&whole));
    let mut first = start(&mut command(&out), folder.path().join("first"));
    let checkpoint = out.join("orphaned/runs/Classification-seed0/checkpoint.safetensors");
    first.until("a checkpoint", |_| checkpoint.exists());
    let mut second = start(&mut command(&out), folder.path().join("second"));
    let holder = format!(
        "waiting for runs that other processes hold, to take over what one of them leaves: Classification-seed0 (process {} on ",
        first.0.id()
    );
    second.until_it_says(&holder);
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    second.succeeds();
    assert!(second.said().contains("goes on after epoch"), "{}", second.said());
    assert_same_outcomes(&whole, &out);
}

/// A run that another process looks at for a moment is replaced by `--force` all the same, be it another's or a failed one.
#[test]
fn force_waits_for_who_looks_at_what_it_replaces() {
    let (folder, experiment, out) = two_heads("looked-at");
    let one_epoch = || {
        let mut command = benchmark(&experiment, &out);
        command.args(["--epochs", "1"]);
        command
    };
    succeed(&mut one_epoch());
    let runs =
        ["Classification", "AdaCos"].map(|head| RunFolder::at(&out.join(format!("looked-at/runs/{head}-seed0"))));
    let held = || runs.each_ref().map(|run| FolderLock::of_run(run, "a look").unwrap().expect("nobody holds it"));
    // Of another configuration. They are let go well before `--force` loses its patience.
    let locks = held();
    let mut forced = start(benchmark(&experiment, &out).arg("--force"), folder.path().join("forced"));
    std::thread::sleep(Duration::from_secs(3));
    drop(locks);
    forced.succeeds();
    assert!(runs.iter().all(|run| run.manifest().unwrap().spec.training.epochs == 2), "{}", forced.said());

    // One has failed: without `--force` that is said again, also by the exit status.
    let spec = runs[0].manifest().unwrap().spec;
    let (spec_hash, head, message) = (spec.hash(), "Classification".into(), "the loss is NaN".into());
    std::fs::remove_file(runs[0].path().join("manifest.json")).unwrap();
    runs[0].fail(&Failure { spec_hash, head, epoch: 1, step: 2, learning_rate: 0.1, message }).unwrap();
    let said = complaint(&mut benchmark(&experiment, &out));
    assert!(said.contains("Classification-seed0 failed before at epoch 1"), "{said}");
    assert!(said.contains("1 runs are damaged or failed"), "{said}");
    let locks = held();
    let mut forced = start(benchmark(&experiment, &out).arg("--force"), folder.path().join("again"));
    std::thread::sleep(Duration::from_secs(3));
    drop(locks);
    forced.succeeds();
    assert!(runs[0].is_whole() && runs[0].failure().unwrap().is_none(), "{}", forced.said());
}

/// A head that takes no share of the classes is left out before anything is trained; it is noted once and said each time.
#[test]
fn a_head_that_takes_no_share_of_the_classes_is_left_out() {
    let (_folder, experiment, out) = experiment("shares", |text| {
        with_heads(&text, TWO_HEADS).replace("[training]\n", "[training]\nclass_sampling = 0.5\n")
    });
    let command = || {
        let mut command = benchmark(&experiment, &out);
        command.args(["--epochs", "1"]);
        command
    };
    let left_out = "AdaCos-seed0 is left out: training.class_sampling is 0.5, but the loss of AdaCos";
    let said = stderr(&succeed(&mut command()));
    assert!(said.contains(left_out) && said.contains("1 of 2 runs to do"), "{said}");
    let failure = out.join("shares/runs/AdaCos-seed0/failure.json");
    let noted = std::fs::metadata(&failure).unwrap().modified().unwrap();
    let said = stderr(&succeed(&mut command()));
    assert!(said.contains(left_out) && said.contains("0 of 2 runs to do"), "{said}");
    assert_eq!(std::fs::metadata(&failure).unwrap().modified().unwrap(), noted);
}

#[test]
fn the_last_shard_makes_the_report() {
    let (folder, experiment, out) = two_heads("sharded");
    let whole = folder.path().join("whole");
    succeed(&mut benchmark(&experiment, &whole));
    let first = succeed(benchmark(&experiment, &out).args(["--shard", "1/2"]));
    let said = stderr(&first);
    assert!(said.contains("1 of 1 runs to do") && said.contains("this shard is done"), "{said}");
    assert!(said.contains("measuring AdaCos-seed0"), "{said}");
    assert!(out.join("sharded/runs/AdaCos-seed0/measured.json").is_file());
    assert!(!out.join("sharded/runs/Classification-seed0").exists() && !out.join("sharded/index.html").exists());

    let of_array = [("SLURM_ARRAY_TASK_ID", "0"), ("SLURM_ARRAY_TASK_COUNT", "2")];
    let last = succeed(benchmark(&experiment, &out).envs(of_array));
    let said = stderr(&last);
    assert!(said.contains("shard 0/2, as SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT say"), "{said}");
    assert_same_outcomes(&whole, &out);
    // Who has nothing to do is asked for the report, which a page that is gone needs.
    std::fs::remove_file(out.join("sharded/index.html")).unwrap();
    let again = succeed(benchmark(&experiment, &out).envs(of_array));
    assert!(!stdout(&again).contains("by another process"), "{}", stdout(&again));
    assert!(out.join("sharded/index.html").exists());
    // The same with the options of the runs, and without anything to train with.
    std::fs::remove_file(out.join("sharded/index.html")).unwrap();
    succeed(benchmark(&experiment, &out).args(["--report", "--kernels", "cuda"]));
    assert_same_outcomes(&whole, &out);
}

#[test]
fn shards_that_are_none_are_refused() {
    let (_folder, experiment, out) = two_heads("none");
    for shard in ["2/2", "1", "0/0", "-1/2", "a/b"] {
        let message = complaint(benchmark(&experiment, &out).arg(format!("--shard={shard}")));
        assert!(message.contains("0/4, 1/4, 2/4 and 3/4 are all runs"), "{shard}: {message}");
    }
    let of_array = [("SLURM_ARRAY_TASK_ID", "5"), ("SLURM_ARRAY_TASK_COUNT", "2")];
    let message = complaint(benchmark(&experiment, &out).envs(of_array));
    assert!(message.contains("SLURM_ARRAY_TASK_ID is 5") && message.contains("--array=0-9"), "{message}");
    assert!(!out.exists());
}

#[test]
fn images_can_be_prepared_before_anything_is_trained() {
    let (folder, experiment, out) = two_heads("prepared");
    let cache = folder.path().join("cache");
    // Where images are prepared there need not be what trains.
    let output = succeed(benchmark(&experiment, &out).args(["--prepare", "--kernels", "cuda", "--cache"]).arg(&cache));
    assert!(stdout(&output).contains("the images of `prepared` are ready"), "{}", stdout(&output));
    assert!(cache.join("decoded").is_dir() && !out.join("prepared/runs").exists());
    let output =
        succeed(benchmark(&experiment, &out).args(["--heads", "AdaCos", "--epochs", "1", "--cache"]).arg(&cache));
    assert!(!stderr(&output).contains("decode"), "{}", stderr(&output));
}

/// What a scheduler sends before the time is up, or when it needs the machine: the exit status says that it is worth to start again.
#[cfg(unix)]
#[test]
fn sigterm_keeps_the_last_epoch_and_says_go_on_later() {
    let (folder, experiment, out) = two_heads("preempted");
    let mut started = start(benchmark(&experiment, &out).args(["--epochs", "16"]), folder.path().join("log"));
    let checkpoint = out.join("preempted/runs/Classification-seed0/checkpoint.safetensors");
    started.until("a checkpoint", |_| checkpoint.exists());
    succeed(Command::new("kill").args(["-TERM", &started.0.id().to_string()]));
    assert_eq!(started.0.wait().unwrap().code(), Some(75), "{}", started.said());
    let output = succeed(benchmark(&experiment, &out).args(["--epochs", "16"]));
    assert!(stderr(&output).contains("goes on after epoch"), "{}", stderr(&output));
}

#[test]
fn jobs_share_the_runs_and_one_report_is_made_of_them() {
    let (folder, experiment, out) = two_heads("jobs");
    let whole = folder.path().join("whole");
    succeed(&mut benchmark(&experiment, &whole));
    let output = succeed(benchmark(&experiment, &out).args(["--jobs", "2", "--threads=2"]));
    assert_same_outcomes(&whole, &out);
    let said = stderr(&output);
    assert!(said.contains("2 processes, 1 thread each"), "{said}");
    // What they do is not done by the process that started them.
    assert!(said.lines().filter(|line| line.contains(": epoch")).all(|line| line.starts_with("[job ")), "{said}");
    for run in ["Classification", "AdaCos"] {
        assert_eq!(epochs_of(run, &said), 2, "{said}");
    }
    assert!(stdout(&output).contains("jobs/index.html"), "{}", stdout(&output));
}

/// However the process that was started ends: nothing goes on unseen.
#[cfg(unix)]
#[test]
fn jobs_end_with_the_process_that_started_them() {
    let (folder, experiment, out) = two_heads("ended");
    let command = || {
        let mut command = benchmark(&experiment, &out);
        command.args(["--epochs", "16", "--jobs", "2", "--threads", "2"]);
        command
    };
    let checkpoint = out.join("ended/runs/Classification-seed0/checkpoint.safetensors");
    let mut stopped = start(&mut command(), folder.path().join("stopped"));
    stopped.until("a checkpoint", |_| checkpoint.exists());
    succeed(Command::new("kill").args(["-TERM", &stopped.0.id().to_string()]));
    assert_eq!(stopped.0.wait().unwrap().code(), Some(75), "{}", stopped.said());
    let mut killed = start(&mut command(), folder.path().join("killed"));
    killed.until_it_says("goes on after epoch");
    killed.0.kill().unwrap();
    killed.0.wait().unwrap();
    // The workers hold their runs no longer than a step and a look.
    let output = succeed(&mut command());
    assert!(stderr(&output).contains("goes on after epoch"), "{}", stderr(&output));
}
