//! `cargo xtask reference`: the pages of docs/ that are written from tables in the code, and what pages say of the committed runs.

use crate::reproduction::{PAGES, PICTURE, Reproduction};
use anyhow::{Context, Result, bail};
use clap::Args;
use faceoff::Program;
use faceoff_evaluation::Registry;
use faceoff_heads::{HEADS, HeadInfo, ParameterInfo};
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
    let heads: String = HEADS.iter().map(head_section).collect();
    let heads = format!("{HEADS_INTRODUCTION}{heads}");
    let mut pages = vec![("docs/heads.md", heads), ("docs/metrics.md", Registry::standard().reference())];
    let reproduction = Reproduction::read(program)?;
    pages.push((PICTURE, reproduction.picture()?));
    for page in PAGES {
        let path = program.path(page);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        pages.push((page, reproduction.fill(&text).with_context(|| path.display().to_string())?));
    }
    for (page, text) in pages {
        let path = program.path(page);
        if !args.check {
            write_atomically(&path, |file| file.write_all(text.as_bytes()))?;
        } else if !std::fs::read_to_string(&path).is_ok_and(|written| written == text) {
            bail!(
                "{} is not what the code and the committed runs say; write it again with: cargo xtask reference",
                path.display()
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What stands above the heads.
const HEADS_INTRODUCTION: &str = "# Heads

Every head: what it does to the angles, where it fails, when to choose it. Written by `cargo xtask reference` from the table in `crates/heads`; do not edit. On the
command line: `cargo xtask heads`.

theta_j is the angle between an embedding and the weight of class j, y the label, s the scale, m the margin. A *margin* asks the labelled class for more than to win,
so that room stays between classes; a *scale* decides how far ahead it must be until an image stops to pull. Of ten classes, a
lead of 0.1 in the cosine is a probability of 0.98 with s = 64; with s = sqrt(2) ln(C - 1) = 3.1, `scale = \"auto\"`, a lead of 1 is one of 0.71. Losses of heads are never comparable; accuracies of embeddings are.

Choosing: start with Classification and NormFace. A margin is worth its price where classes are to be told apart that training never saw, and where training is
long; whether it acted at all, look at the angles in the report. SupCon and Triplet have no class weights: their batches need `sampler`, and their DNN accuracy is
that of the nearest class mean of the training embeddings (cosine).
";

/// A head's part of the page.
fn head_section(head: &HeadInfo) -> String {
    let HeadInfo { name, summary, formula, paper, angles, fails, choose, parameters, .. } = head;
    let mut text = format!(
        "\n## {name}\n\n{summary}\n\n```text\n{formula}\n```\n\n- **Angles**: {angles}\n- **Fails**: {fails}\n- **Choose it**: {choose}\n\
         - **Paper**: {paper}\n"
    );
    if !parameters.is_empty() {
        text += "\n| parameter | symbol | what | must be |\n|---|---|---|---|\n";
        for ParameterInfo { name, symbol, meaning, rule, default, .. } in *parameters {
            text += &format!("| `{name} = {}` | {symbol} | {meaning} | {rule} |\n", default());
        }
    }
    text
}
