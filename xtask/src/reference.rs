//! `cargo xtask reference`: the pages of docs/ that are written from tables in the code.

use anyhow::{Result, bail};
use clap::Args;
use faceoff::Program;
use faceoff_evaluation::Registry;
use faceoff_heads::HEADS;
use faceoff_runs::write_atomically;
use std::process::ExitCode;

/// What to do with the pages.
#[derive(Args)]
pub(crate) struct ReferenceArgs {
    /// Write nothing, and fail where a page is not what the code says.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(program: &Program, args: &ReferenceArgs) -> Result<ExitCode> {
    let heads: String = HEADS.iter().map(|head| format!("\n```text\n{head}\n```\n")).collect();
    let heads = format!(
        "# Heads\n\nEvery head with formula, parameters and paper. Written by `cargo xtask reference` from the table in \
         `crates/heads`; do not edit.\n{heads}"
    );
    for (page, text) in [("docs/heads.md", heads), ("docs/metrics.md", Registry::standard().reference())] {
        let path = program.path(page);
        if !args.check {
            write_atomically(&path, |file| file.write_all(text.as_bytes()))?;
        } else if !std::fs::read_to_string(&path).is_ok_and(|written| written == text) {
            bail!("{} is not what the code says; write it again with: cargo xtask reference", path.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}
