//! `heads`: the heads with formula, parameters and paper.

use crate::Program;
use anyhow::Result;
use clap::Args;
use faceoff_heads::HEADS;
use std::process::ExitCode;

/// What to print of the heads.
#[derive(Args)]
pub struct HeadsArgs {
    /// Their names alone, one a line.
    #[arg(long)]
    names: bool,
}

pub(crate) fn run(program: &Program, args: &HeadsArgs) -> Result<ExitCode> {
    for head in HEADS {
        if args.names { println!("{}", head.name) } else { println!("{head}\n") }
    }
    if !args.names {
        let shown = program.command("experiment show quick");
        println!(
            "An experiment names a head in a block [[heads]] with `kind` and its parameters; for one, see: {shown}"
        );
    }
    Ok(ExitCode::SUCCESS)
}
