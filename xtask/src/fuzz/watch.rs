//! Watches the process that tries inputs, and counts. Where it ends, or does not, that is the outcome of the input at hand: its files are
//! written, and a new process goes on behind it.

use super::{Kind, MOST_SECONDS, MOST_WAITING, processor_seconds, worker, write};
use crate::bench::kib_of;
use anyhow::{Context, Result, bail};
use faceoff::Program;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How often memory and time are looked at.
const TICK: Duration = Duration::from_millis(20);
/// Addresses that the process may have, in KiB: what asks for more at once is told that there is none.
const MOST_ADDRESSES_KIB: u64 = 6 << 20;
/// After so many faults the rest is likely the same.
const MOST_FINDINGS: u64 = 20;

/// What came of a target.
#[derive(Default)]
pub(super) struct Watched {
    inputs: u64,
    refused: u64,
    accepted: u64,
    told: u64,
    silent: u64,
    panics: u64,
    hangs: u64,
    memory: u64,
    worst_kib: u64,
    worst_millis: u64,
    /// Number of the input that took longest.
    slowest: u64,
}

impl Watched {
    pub(super) fn findings(&self) -> u64 {
        self.silent + self.panics + self.hangs + self.memory
    }

    /// The line of a kind in the table.
    pub(super) fn line(&self, kind: &Kind) -> String {
        let Self { inputs, refused, accepted, told, silent, panics, hangs, memory, worst_kib, worst_millis, slowest } =
            self;
        let (mib, seconds) = (worst_kib / 1024, *worst_millis as f64 / 1e3);
        format!(
            "{:<11} {inputs:>8} {refused:>8} {accepted:>8} {told:>8} {silent:>8} {panics:>8} {hangs:>8} {memory:>7} {mib:>4} of {:>4} MiB {seconds:>8.2} (input {slowest})",
            kind.name, kind.most_mib
        )
    }
}

/// A process at work.
struct Worker {
    child: Child,
    lines: Receiver<String>,
    /// What it says besides, and where its files are; removed with this value.
    folder: TempDir,
}

impl Worker {
    fn start(program: &Program, kind: &Kind, seed: u64, from: u64, time: Duration) -> Result<Self> {
        // In memory, where the system has such a place: a disk would set the pace.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.context("there is no place for a temporary folder")?;
        let exe = std::env::current_exe().context("this program does not find itself")?;
        let numbers = [seed, from, time.as_secs().max(1)].map(|number| number.to_string());
        let [seed, from, seconds] = &numbers;
        let limited = format!("ulimit -v {MOST_ADDRESSES_KIB}; exec \"$0\" \"$@\"");
        let mut child = Command::new("sh")
            .args(["-c", &limited])
            .arg(exe)
            .arg("--root")
            .arg(std::path::absolute(&program.root)?)
            .args(["fuzz", kind.name, "--seed", seed, "--from", from, "--seconds", seconds])
            .env("TMPDIR", folder.path())
            .env("RAYON_NUM_THREADS", "2")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("stderr"))?)
            .spawn()
            .context("the process that tries inputs cannot be started")?;
        let (to, lines) = channel();
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
        Ok(Self { child, lines, folder })
    }

    /// Memory that it has now, in KiB, as Linux says it.
    fn kib(&self) -> u64 {
        kib_of(&self.child.id().to_string(), "VmRSS").unwrap_or(0)
    }

    fn seconds(&self) -> f64 {
        processor_seconds(&self.child.id().to_string())
    }

    /// The end of what it said on stderr.
    fn said(&self) -> String {
        let said = std::fs::read(self.folder.path().join("stderr")).unwrap_or_default();
        let said = String::from_utf8_lossy(&said[said.len().saturating_sub(2000)..]).into_owned();
        said.lines().rev().filter(|line| !line.starts_with("note: ")).take(3).collect::<Vec<_>>().join(" / ")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It is over, or has to be; an error says that it was.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries inputs of `kind` for a time; the files of those that are faults go below `out`.
pub(super) fn watch(program: &Program, kind: &'static Kind, seed: u64, time: Duration, out: &Path) -> Result<Watched> {
    let mut watched = Watched::default();
    let end = Instant::now() + time;
    let mut from = 0;
    'workers: while Instant::now() < end && watched.findings() < MOST_FINDINGS {
        let mut worker = Worker::start(program, kind, seed, from, end - Instant::now())?;
        // The input that is being tried, and the processor time taken by then.
        let mut at_hand: Option<(u64, f64)> = None;
        let mut heard = Instant::now();
        loop {
            let line = match worker.lines.recv_timeout(TICK) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    let waits = heard.elapsed() > MOST_WAITING;
                    let Some((number, before)) = at_hand else {
                        if waits {
                            bail!("its process tries no input, but does not end either: {}", worker.said());
                        }
                        continue;
                    };
                    let (kib, seconds) = (worker.kib(), worker.seconds() - before);
                    let hangs = seconds > MOST_SECONDS || waits;
                    if kib > 1024 * kind.most_mib || hangs {
                        watched.inputs += 1;
                        watched.worst_kib = watched.worst_kib.max(kib);
                        *(if hangs { &mut watched.hangs } else { &mut watched.memory }) += 1;
                        let what = if hangs {
                            format!("no end after {seconds:.0} s of processor time")
                        } else {
                            format!("{} MiB", kib / 1024)
                        };
                        found(program, kind, seed, number, out, &what)?;
                        from = number + 1;
                        continue 'workers;
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = worker.child.wait().context("the process that tries inputs is lost")?;
                    let Some((number, _)) = at_hand else {
                        anyhow::ensure!(status.success(), "it ended with {status}: {}", worker.said());
                        break 'workers;
                    };
                    watched.inputs += 1;
                    watched.panics += 1;
                    found(program, kind, seed, number, out, &format!("{status}: {}", worker.said()))?;
                    from = number + 1;
                    continue 'workers;
                }
            };
            heard = Instant::now();
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            if words[0] == "try" {
                at_hand = Some((number(1), worker.seconds()));
                continue;
            }
            at_hand = None;
            let (kib, millis) = (number(3), number(4));
            watched.inputs += 1;
            watched.worst_kib = watched.worst_kib.max(kib);
            if millis > watched.worst_millis {
                (watched.worst_millis, watched.slowest) = (millis, number(1));
            }
            let (counter, ended_well) = match words[2] {
                "refused" => (&mut watched.refused, true),
                "accepted" => (&mut watched.accepted, true),
                "told" => (&mut watched.told, true),
                "silent" => (&mut watched.silent, false),
                _ => (&mut watched.panics, false),
            };
            *counter += 1;
            let problem = (!ended_well).then(|| worker.said());
            let too_much = (kib > 1024 * kind.most_mib).then(|| format!("{} MiB", kib / 1024));
            watched.memory += u64::from(too_much.is_some());
            if let Some(problem) = problem.or(too_much) {
                found(program, kind, seed, number(1), out, &problem)?;
            }
            if watched.findings() >= MOST_FINDINGS {
                break 'workers;
            }
        }
    }
    Ok(watched)
}

/// Writes the files of an input that is a fault, and says where they are and how to see it again.
fn found(program: &Program, kind: &Kind, seed: u64, number: u64, out: &Path, problem: &str) -> Result<PathBuf> {
    let folder = out.join(format!("{}-{seed}-{number}", kind.name));
    write(&folder, &worker::input(program, kind, seed, number)?)?;
    println!("{} {number}: {problem}", kind.name);
    println!("  files in {}; again: cargo xtask fuzz {} --seed {seed} --input {number}", folder.display(), kind.name);
    Ok(folder)
}
