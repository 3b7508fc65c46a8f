//! `cargo xtask heads`: the heads with formula, parameters and paper.

use anyhow::Result;
use std::process::ExitCode;

/// Prints the catalogue.
pub(crate) fn run() -> Result<ExitCode> {
    for head in faceoff_heads::catalogue() {
        println!("{}", head.name);
        println!("  {}", head.summary);
        println!("  logits      {}", head.formula);
        println!("  parameters  {}", head.parameters);
        println!("  paper       {}\n", head.paper);
    }
    println!(
        "An experiment names a head in a block [[heads]] with `kind` and its parameters; see experiments/quick.toml."
    );
    Ok(ExitCode::SUCCESS)
}
