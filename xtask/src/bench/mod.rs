//! `cargo xtask bench`: how fast the parts are on this machine, one file a part.

mod analysis;
mod growth;
mod kernels;
mod statistics;

use anyhow::Result;
use clap::Subcommand;
use faceoff::{Program, plain_table};
use faceoff_runs::write_atomically;
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;

/// What is timed.
#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// The analyses of embeddings: neighbours, components, maps and the rest.
    Analysis(analysis::AnalysisArgs),
    /// Whole benchmarks of more and more classes, embeddings and images.
    Growth(growth::GrowthArgs),
    /// The encoder on the CPU: a training step, its parts and its operators.
    Kernels(kernels::KernelsArgs),
    /// The rules for the article's statements, on simulated runs whose true differences are known.
    Statistics(statistics::StatisticsArgs),
}

pub(crate) fn run(program: &Program, command: &BenchCommand) -> Result<ExitCode> {
    match command {
        BenchCommand::Analysis(args) => analysis::run(program, args),
        BenchCommand::Growth(args) => growth::run(program, args),
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

/// The slope of the line through the last three points on logarithmic axes; `None` with less than two.
fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let last = &points[points.len().saturating_sub(3)..];
    let count = last.len() as f64;
    let mean = |value: fn(&(f64, f64)) -> f64| last.iter().map(|point| value(point).ln()).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = last.iter().map(|point| (point.0.ln() - x) * (point.1.ln() - y)).sum();
    let variance: f64 = last.iter().map(|point| (point.0.ln() - x).powi(2)).sum();
    (variance > 0.0).then(|| covariance / variance)
}

fn print_table<const N: usize>(header: &[&str; N], rows: &[[String; N]]) {
    let mut table = plain_table(header);
    table.add_rows(rows);
    println!("{table}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_is_that_of_the_last_three_sizes() {
        let square: Vec<(f64, f64)> = [10.0, 30.0, 90.0].map(|n: f64| (n, 7.0 * n * n)).to_vec();
        assert!((exponent(&square).unwrap() - 2.0).abs() < 1e-12);
        let late = [vec![(1.0, 1e6)], square].concat();
        assert!((exponent(&late).unwrap() - 2.0).abs() < 1e-12);
        assert_eq!(exponent(&[(1.0, 1.0)]), None);
    }
}
