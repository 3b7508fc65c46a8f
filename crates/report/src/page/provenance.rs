//! Where the runs come from, how long they took, and which failed.

use askama::Template;
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::answer::{PROGRAM, command};
use faceoff_evaluation::selection::{Selection, Variant};
use faceoff_runs::{HeadConfig, Machine, Manifest};
use std::collections::BTreeSet;

#[derive(Template)]
#[template(path = "provenance.html")]
pub(super) struct Provenance<'a> {
    selection: &'a Selection,
    /// A key and every value that runs have.
    facts: Vec<(&'static str, BTreeSet<String>)>,
    phases: BTreeSet<&'a str>,
    /// What makes the runs and this page again.
    commands: [String; 2],
    /// Whom to cite.
    citation: String,
    /// The whole specification of one run, and the head of every variant.
    specification: String,
    heads: Vec<String>,
}

impl<'a> Provenance<'a> {
    pub(super) fn of(outcome: &'a Evaluation) -> Self {
        let runs = &outcome.selection.runs;
        let distinct = |value: fn(&Manifest) -> String| runs.iter().map(|run| value(&run.manifest)).collect();
        let manifest = &runs.first().expect("a report of runs has one").manifest;
        let seeds: BTreeSet<u64> = runs.iter().map(|run| run.seed()).collect();
        let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
        let Manifest { experiment, spec, version, commit, .. } = manifest;
        let seeds = seeds.join(",");
        // Of the runs, not of the report: so the same runs give the same page.
        let finished = runs.iter().filter_map(|run| run.manifest.finished.as_deref());
        let days: BTreeSet<String> = finished.map(|at| at.chars().take(10).collect()).collect();
        let mut dates = match (days.first(), days.last()) {
            (Some(first), Some(last)) if first != last => [format!("{first} to {last}")].into(),
            _ => days,
        };
        let undated = runs.iter().filter(|run| run.manifest.finished.is_none()).count();
        if undated > 0 {
            dates.insert(format!("not noted for {}", plural(undated, "run")));
        }
        let head = |variant: &Variant| {
            let parameters = variant.config.iter().flat_map(HeadConfig::parameters);
            let parameters = parameters.map(|(name, value)| format!(", {name} = {value}"));
            format!("{}: {}{}", variant.name, variant.head, parameters.collect::<String>())
        };
        Self {
            commands: [command(manifest, Some(&seeds), spec.training.epochs), format!("{PROGRAM} report {experiment}")],
            citation: format!(
                "The Faceoff authors. Faceoff: a comparison of classification heads by the embeddings that they teach. Version {version}, commit {commit}."
            ),
            specification: serde_json::to_string_pretty(spec).expect("plain data is always valid JSON"),
            heads: outcome.selection.variants.iter().map(head).collect(),
            selection: &outcome.selection,
            facts: vec![
                ("Date", dates),
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
    let (processors, threads) = (plural(*processors, "logical processor"), plural(*threads, "thread"));
    format!("{cpu}, {processors}, {gib:.1} GiB, {system}, {threads} used")
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
