//! `benchmark --jobs`: several processes of this program on one machine, which share the runs of a report folder by their locks.
//!
//! The process that was started prepares the images, starts the others, shows what they say, and makes the report. They end when their
//! standard input does: however it dies, nothing goes on unseen.

use crate::session::{Session, counted};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often it is looked whether they have ended, or are to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Lets `jobs` processes train, each with its part of the threads, until all have ended: how many of them failed. Where a signal came
/// they were told to stop.
///
/// # Errors
/// The program cannot start itself.
pub(crate) fn run(jobs: usize, session: &Session) -> Result<usize> {
    let threads = (rayon::current_num_threads() / jobs).max(1);
    let program = std::env::current_exe().context("the program does not find itself to start again for --jobs")?;
    eprintln!("{jobs} processes, {} each", counted(threads, "thread"));
    session.training.store(true, Ordering::Relaxed);
    let mut children = Vec::new();
    for job in 1..=jobs {
        let mut command = Command::new(&program);
        command.args(arguments()).args(["--worker", "--threads", &threads.to_string()]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.context("the program cannot start itself again for --jobs")?;
        let said = BufReader::new(child.stderr.take().expect("it is piped"));
        std::thread::spawn(move || said.lines().map_while(Result::ok).for_each(|line| eprintln!("[job {job}] {line}")));
        children.push(child);
    }
    let mut failed = 0;
    while !children.is_empty() {
        if session.stop.load(Ordering::Relaxed) {
            children.iter_mut().for_each(|child| drop(child.stdin.take()));
        }
        let mut going = Vec::new();
        for mut child in children {
            match ended(&mut child)? {
                None => going.push(child),
                Some(well) => failed += usize::from(!well),
            }
        }
        children = going;
        std::thread::sleep(LOOK_EVERY);
    }
    session.training.store(false, Ordering::Relaxed);
    Ok(failed)
}

/// Whether a process ended well, or was killed, which leaves its runs to this one; `None` where it goes on.
fn ended(child: &mut Child) -> Result<Option<bool>> {
    let status = child.try_wait().context("a process of --jobs cannot be waited for")?;
    Ok(status.map(|status| status.code() != Some(1)))
}

/// The arguments of this process without those that each of the others has of its own.
fn arguments() -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut all = std::env::args_os().skip(1);
    while let Some(argument) = all.next() {
        let text = argument.to_string_lossy();
        match ["--jobs", "--threads"].into_iter().find_map(|option| text.strip_prefix(option)) {
            Some("") => drop(all.next()),
            Some(value) if value.starts_with('=') => {}
            _ => kept.push(argument),
        }
    }
    kept
}
