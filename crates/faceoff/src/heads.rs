//! `heads`: the heads with formula, parameters and paper.

use crate::Program;
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

/// What to print of the heads.
#[derive(Args)]
pub struct HeadsArgs {
    /// Their names alone, one a line.
    #[arg(long)]
    names: bool,
}

/// Prints the catalogue.
pub(crate) fn run(program: &Program, args: &HeadsArgs) -> Result<ExitCode> {
    for head in faceoff_heads::catalogue() {
        println!("{}", head.name);
        if !args.names {
            println!("  {}", head.summary);
            println!("  logits      {}", head.formula);
            println!("  parameters  {}", head.parameters);
            println!("  paper       {}\n", head.paper);
        }
    }
    if !args.names {
        println!(
            "An experiment names a head in a block [[heads]] with `kind` and its parameters; for one, see: {}",
            program.command("experiment show quick")
        );
    }
    Ok(ExitCode::SUCCESS)
}
