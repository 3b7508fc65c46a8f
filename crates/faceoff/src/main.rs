//! The program `faceoff`.

use clap::Parser;
use faceoff::{Command, Program, RootOption};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "faceoff", about = faceoff::ABOUT, version, max_term_width = 100)]
struct CommandLine {
    #[command(flatten)]
    root: RootOption,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let CommandLine { root, command } = CommandLine::parse();
    let program = Program { name: "faceoff", root: root.root.unwrap_or_default() };
    faceoff::end(command.run(&program))
}
