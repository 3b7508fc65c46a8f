//! Where the runs come from, how long they took, and which failed.

use askama::Template;
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::selection::Selection;
use faceoff_runs::{Machine, Manifest};
use std::collections::BTreeSet;

#[derive(Template)]
#[template(path = "provenance.html")]
pub(super) struct Provenance<'a> {
    selection: &'a Selection,
    /// A key and every value that runs have.
    facts: Vec<(&'static str, BTreeSet<String>)>,
    phases: BTreeSet<&'a str>,
}

impl<'a> Provenance<'a> {
    pub(super) fn of(outcome: &'a Evaluation) -> Self {
        let runs = &outcome.selection.runs;
        let distinct = |value: fn(&Manifest) -> String| runs.iter().map(|run| value(&run.manifest)).collect();
        Self {
            selection: &outcome.selection,
            facts: vec![
                ("Commit", distinct(|m| m.commit.clone())),
                ("Version", distinct(|m| m.version.clone())),
                ("Device", distinct(|m| m.spec.compute.to_string())),
                ("Precision", distinct(|m| m.spec.training.precision.as_str().into())),
                ("Machine", distinct(machine)),
                ("Data fingerprint", distinct(|m| m.data.fingerprint.clone())),
                ("Archive md5", distinct(|m| m.data.archive_md5.clone().unwrap_or("no archive".into()))),
            ],
            phases: runs.iter().flat_map(|run| run.manifest.seconds.keys().map(String::as_str)).collect(),
        }
    }
}

fn machine(manifest: &Manifest) -> String {
    let Machine { cpu, processors, memory_mib, system, threads } = &manifest.machine;
    let (cpu, gib) = (cpu.trim(), *memory_mib as f64 / 1024.0);
    format!("{cpu}, {processors} logical processors, {gib:.1} GiB, {system}, {threads} threads used")
}
