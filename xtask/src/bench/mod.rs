//! `cargo xtask bench`: how fast the parts are on this machine, one file a part.

mod analysis;

use anyhow::Result;
use clap::Subcommand;
use std::process::ExitCode;

/// What is timed.
#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// The analyses of embeddings: neighbours, components, maps and the rest.
    Analysis(analysis::AnalysisArgs),
}

/// Runs one of the benches.
pub(crate) fn run(command: &BenchCommand) -> Result<ExitCode> {
    match command {
        BenchCommand::Analysis(args) => analysis::run(args),
    }
}
