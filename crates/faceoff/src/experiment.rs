//! `experiment`: which experiments there are, and what one says.

use crate::Program;
use anyhow::Result;
use clap::Subcommand;
use std::process::ExitCode;

/// What to do with experiments.
#[derive(Subcommand)]
pub enum ExperimentCommand {
    /// Name the experiments in experiments/ and those built into the program.
    List,
    /// Print an experiment as it is run: every value stands there, lists of settings are written out, and what comes from an
    /// experiment that it extends says so.
    Show {
        /// Name of a file in experiments/, without `.toml`; or the path of any experiment file.
        #[arg(default_value = "quick")]
        experiment: String,
    },
}

pub(crate) fn run(program: &Program, command: &ExperimentCommand) -> Result<ExitCode> {
    match command {
        ExperimentCommand::List => program.experiment_names()?.iter().for_each(|name| println!("{name}")),
        ExperimentCommand::Show { experiment } => print!("{}", program.experiment_file(experiment)?.show()),
    }
    Ok(ExitCode::SUCCESS)
}
