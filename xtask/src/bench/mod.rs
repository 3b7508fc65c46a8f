//! `cargo xtask bench`: how fast the parts are on this machine, one file a part.

mod analysis;
mod kernels;

use anyhow::Result;
use clap::Subcommand;
use std::process::ExitCode;

/// What is timed.
#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// The analyses of embeddings: neighbours, components, maps and the rest.
    Analysis(analysis::AnalysisArgs),
    /// The encoder on the CPU: a training step, its parts and its operators.
    Kernels(kernels::KernelsArgs),
}

/// Runs one of the benches.
pub(crate) fn run(command: &BenchCommand) -> Result<ExitCode> {
    match command {
        BenchCommand::Analysis(args) => analysis::run(args),
        BenchCommand::Kernels(args) => kernels::run(args),
    }
}
