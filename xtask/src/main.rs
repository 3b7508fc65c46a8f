//! Developers' commands, and Faceoff's own commands on the folders of the workspace, whichever subfolder one stands in.

mod bench;
mod fuzz;
mod reference;
mod reproduction;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use faceoff::{Program, RootOption};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = faceoff::ABOUT, version, max_term_width = 100)]
struct CommandLine {
    #[command(flatten)]
    root: RootOption,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Product(Box<faceoff::Command>),
    /// How fast the parts are on this machine.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Try damaged and made-up inputs on everything that reads files.
    Fuzz(fuzz::FuzzArgs),
    /// Write docs/heads.md and docs/metrics.md from the tables in the code, and what README.md and docs/article.md say of the committed runs.
    Reference(reference::ReferenceArgs),
}

fn run() -> Result<ExitCode> {
    let CommandLine { root, command } = CommandLine::parse();
    let root = root.root.map_or_else(workspace, Ok)?;
    let program = Program { name: "cargo xtask", root };
    match command {
        Command::Product(command) => command.run(&program),
        Command::Bench(command) => bench::run(&program, &command),
        Command::Fuzz(args) => fuzz::run(&program, &args),
        Command::Reference(args) => reference::run(&program, &args),
    }
}

/// The workspace around the current folder.
fn workspace() -> Result<PathBuf> {
    let current = std::env::current_dir().context("the current folder cannot be found")?;
    let found = current.ancestors().find(|folder| folder.join("xtask/Cargo.toml").is_file());
    let lost = || format!("{} is no folder of the workspace; go there, or pass it with --root DIR", current.display());
    Ok(found.with_context(lost)?.to_path_buf())
}

fn main() -> ExitCode {
    faceoff::end(run())
}
