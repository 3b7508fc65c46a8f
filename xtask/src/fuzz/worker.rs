//! The process that tries inputs: it says each number before it begins, and then how it ended.
//!
//! ```text
//! try 17
//! done 17 refused 71232 10                   number, outcome, peak memory in KiB, milliseconds of processor time
//! ```
//!
//! Outcomes are `refused`, `accepted`, `told`, `silent` and `panic`; the last two are explained on stderr.

use super::{Kind, MOST_SECONDS, Outcome, processor_seconds, write};
use crate::bench::{forget_peak_memory, peak_memory_mib};
use anyhow::{Context, Result};
use faceoff::Program;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Tries inputs from number `from` on.
pub(super) fn run(program: &Program, kind: &Kind, seed: u64, from: u64, time: Duration) -> Result<ExitCode> {
    let folder = tempfile::tempdir().context("there is no place for a temporary folder")?;
    let mut target = (kind.open)(program, folder.path())?;
    let mut out = std::io::stdout();
    let mut say = |line: String| out.write_all(line.as_bytes()).and_then(|()| out.flush());
    let started = Instant::now();
    for number in from.. {
        if started.elapsed() > time {
            break;
        }
        let input = target.input(&mut kind.random(seed, number));
        // Where nobody listens any more there is nothing left to do.
        if say(format!("try {number}\n")).is_err() {
            break;
        }
        forget_peak_memory();
        let began = processor_seconds("self");
        let outcome = match catch_unwind(AssertUnwindSafe(|| target.read(&input))) {
            Ok(Outcome::Refused) => "refused",
            Ok(Outcome::Accepted) => "accepted",
            Ok(Outcome::Told) => "told",
            Ok(Outcome::Silent(what)) => {
                eprintln!("silent: {what}");
                "silent"
            }
            Err(_) => "panic",
        };
        let (seconds, mib) = (processor_seconds("self") - began, peak_memory_mib().unwrap_or(0.0));
        if say(format!("done {number} {outcome} {} {}\n", (1024.0 * mib) as u64, (1e3 * seconds) as u64)).is_err() {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Tries one input in this process, and leaves its files.
pub(super) fn show(program: &Program, kind: &Kind, seed: u64, number: u64) -> Result<ExitCode> {
    let folder = tempfile::tempdir().context("there is no place for a temporary folder")?;
    let mut target = (kind.open)(program, folder.path())?;
    let input = target.input(&mut kind.random(seed, number));
    let files = tempfile::tempdir()?.keep();
    write(&files, &input)?;
    println!("{} {number} of seed {seed}: {} files in {}", kind.name, input.len(), files.display());
    forget_peak_memory();
    let began = processor_seconds("self");
    let outcome = target.read(&input);
    let word = match &outcome {
        Outcome::Refused => "refused",
        Outcome::Accepted => "accepted",
        Outcome::Told => "told",
        Outcome::Silent(what) => what,
    };
    let (seconds, mib) = (processor_seconds("self") - began, peak_memory_mib().unwrap_or(0.0));
    println!("{word}; {seconds:.2} of {MOST_SECONDS} s, {mib:.0} of {} MiB", kind.most_mib);
    Ok(if matches!(outcome, Outcome::Silent(_)) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The files of an input, without trying it.
pub(super) fn input(program: &Program, kind: &Kind, seed: u64, number: u64) -> Result<super::Files> {
    let folder = tempfile::tempdir().context("there is no place for a temporary folder")?;
    Ok((kind.open)(program, folder.path())?.input(&mut kind.random(seed, number)))
}
