//! `cargo xtask bench`: how fast the parts are on this machine, one file a part.

mod analysis;
mod kernels;
mod statistics;

use anyhow::Result;
use clap::Subcommand;
use faceoff::Program;
use faceoff_runs::write_atomically;
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;

/// What is timed.
#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// The analyses of embeddings: neighbours, components, maps and the rest.
    Analysis(analysis::AnalysisArgs),
    /// The encoder on the CPU: a training step, its parts and its operators.
    Kernels(kernels::KernelsArgs),
    /// The rules for the article's statements, on simulated runs whose true differences are known.
    Statistics(statistics::StatisticsArgs),
}

pub(crate) fn run(program: &Program, command: &BenchCommand) -> Result<ExitCode> {
    match command {
        BenchCommand::Analysis(args) => analysis::run(program, args),
        BenchCommand::Kernels(args) => kernels::run(program, args),
        BenchCommand::Statistics(args) => statistics::run(args),
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { 0.5 * (sorted[middle - 1] + sorted[middle]) }
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    Ok(write_atomically(path, |file| {
        serde_json::to_writer_pretty(&mut *file, value)?;
        file.write_all(b"\n")
    })?)
}

/// Makes [`peak_memory_mib`] count from now on, where the system can.
pub(crate) fn forget_peak_memory() {
    // Only Linux knows this file, and only Linux says the peak.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that this process has had, in MiB; `None` where the system does not say.
pub(crate) fn peak_memory_mib() -> Option<f64> {
    Some(kib_of("self", "VmHWM")? as f64 / 1024.0)
}

/// What a row of a process's status says, in KiB; `None` where the system does not say. `process` is its number, or `self`.
pub(crate) fn kib_of(process: &str, row: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(row)?.strip_prefix(':'))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}
