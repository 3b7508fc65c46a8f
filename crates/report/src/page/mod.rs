//! `index.html`: one page that shows the whole report. It needs no network and no fonts of its own; without scripts it still shows every
//! picture and every number.
//!
//! A section of the page is a struct that gathers what it shows, in a file of its own unless it is short, a template of the same name
//! below `templates/` that says how it is written, and a line in [`page`] or [`external`]. Templates escape every value; no HTML is
//! written in Rust.

mod answer;
mod differences;
mod explorer;
mod external;
mod health;
mod method;
mod numbers;
mod provenance;
mod results;
mod sub_centers;

pub(crate) use external::external;

use crate::Extras;
use crate::error::Result;
use crate::pictures::{self, distinct};
use crate::plots::Picture;
use askama::Template;
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::answer::PROGRAM;
use faceoff_evaluation::comparisons::Judged;
use faceoff_evaluation::families::classifier::LABELS_GIVEN;
use faceoff_runs::{Experiment, Manifest, RunSpec, thousands};
use std::collections::BTreeSet;
use std::fmt::Display;

/// The frame around all sections.
#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    name: &'a str,
    kicker: &'a str,
    lead: &'a str,
    synthetic: bool,
    /// Keys and values below the title.
    facts: Vec<(&'static str, String)>,
    sections: Vec<Section<'a>>,
    version: &'a str,
    /// What makes this page.
    command: String,
    /// Names of the CSV files.
    tables: &'a [&'a str],
}

const STYLE: &str = include_str!("../../assets/page.css");
const SCRIPT: &str = include_str!("../../assets/page.js");

/// A heading, what it is called in the list of contents, and a template with what stands below it.
struct Section<'a> {
    id: &'a str,
    short: &'a str,
    title: &'a str,
    body: Box<dyn Display + 'a>,
}

impl<'a> Section<'a> {
    fn new(id: &'a str, short: &'a str, title: &'a str, body: impl Template + 'a) -> Self {
        Self { id, short, title, body: Box::new(body) }
    }

    /// Pictures, with those of `tables` that hold their numbers.
    fn figures(section: &'a pictures::Section, tables: &[&'a str]) -> Self {
        let of_section: &[&str] = match section.id {
            "noise" => &["label_noise.csv"],
            "grid" => &["scale_margin.csv"],
            "tuning" => &["trials.csv"],
            "accuracy" | "unseen" => &["summary.csv", "bootstrap.csv"],
            "ranks" => &["ranks.csv"],
            "variance" => &["explained_variance.csv"],
            "training" => &["history.csv"],
            "angles" => &["angles.csv", "history.csv"],
            "tsne" => &["tsne.csv"],
            "pca" => &["pca.csv"],
            _ => &["metrics.csv"],
        };
        let is_of_section = |table: &&str| {
            let confusion = section.id == "confusion" && table.starts_with("confusion/");
            confusion || of_section.contains(table)
        };
        let csv = tables.iter().copied().filter(is_of_section).collect();
        Self::new(section.id, section.short, section.title, Figures { section, csv })
    }
}

/// Pictures with what is to be seen in them.
#[derive(Template)]
#[template(path = "figures.html")]
struct Figures<'a> {
    section: &'a pictures::Section,
    csv: Vec<&'a str>,
}

impl<'a> Figures<'a> {
    /// The tables with the numbers of a picture: its own where it has one.
    fn csv_of(&self, figure: &Picture) -> Vec<&'a str> {
        let own: Vec<&str> = self.csv.iter().copied().filter(|table| figure.table.as_deref() == Some(table)).collect();
        if own.is_empty() { self.csv.clone() } else { own }
    }
}

#[derive(Template, Default)]
#[template(path = "notes.html")]
struct Notes<'a> {
    notes: &'a [String],
    of_data: &'a [String],
    /// Whether there are variants with one seed alone.
    lone_seed: bool,
    labels_given: bool,
    /// Whether there are losses to compare.
    trained: bool,
}

/// The article's statements with their verdicts; the rules stand in the section on method.
#[derive(Template)]
#[template(path = "statements.html")]
struct Statements<'a> {
    judged: &'a [Judged],
}

/// The page of an experiment. `manifest` is that of any of its runs, `tables` are the names of the CSV files.
pub(crate) fn page(
    experiment: &Experiment,
    manifest: &Manifest,
    outcome: &Evaluation,
    extras: &Extras<'_>,
    figures: &[pictures::Section],
    tables: &[&str],
) -> Result<String> {
    let one_seed = |variant| outcome.selection.of_variant(variant).count() == 1;
    let notes = Notes {
        notes: &outcome.notes,
        of_data: &manifest.data.notes,
        lone_seed: (0..outcome.selection.variants.len()).any(one_seed),
        labels_given: outcome.summaries.iter().any(|row| row.metric == LABELS_GIVEN.id()),
        trained: true,
    };
    let statements = Statements { judged: &outcome.comparisons.judgements };
    let differences = differences::Differences::of(outcome);
    let mut sections = Vec::new();
    if !outcome.answers.is_empty() {
        let answer = answer::Answers { answers: &outcome.answers };
        sections.push(Section::new("answer", "Answer", "The answer", answer));
    }
    sections.extend([
        Section::new("results", "Results", "Results", results::Results::of(outcome, extras)),
        Section::new("health", "Health", "Health of the heads", health::Health::of(outcome)),
    ]);
    sections.extend(look(outcome, extras));
    sections.extend([
        Section::new("statements", "Statements", "The article\u{2019}s statements", statements),
        Section::new("notes", "Notes", "Notes", notes),
    ]);
    sections.extend(figures.iter().map(|section| Section::figures(section, tables)));
    let spread = sub_centers::SubCenters::of(outcome);
    sections
        .extend(spread.map(|spread| Section::new("sub-centers", "Sub-centres", "Sub-centres and outliers", spread)));
    sections.extend([
        Section::new("differences", "Differences", "Differences between variants", differences),
        Section::new("numbers", "All numbers", "All numbers", numbers::Numbers::of(outcome)),
        Section::new("method", "Method", "Method", method::Method::of(experiment, manifest, outcome)),
        Section::new("provenance", "Provenance", "Provenance", provenance::Provenance::of(outcome)),
    ]);
    let page = Page {
        name: &experiment.name,
        kicker: &manifest.data.name,
        lead: &experiment.description,
        synthetic: manifest.data.synthetic,
        facts: facts(manifest, outcome),
        sections,
        version: &manifest.version,
        command: format!("{PROGRAM} report {}", experiment.name),
        tables,
    };
    Ok(page.render()?)
}

/// The explorer, where there is something to look at.
fn look(outcome: &Evaluation, extras: &Extras<'_>) -> Option<Section<'static>> {
    let explorer = explorer::Explorer::of(outcome, extras)?;
    Some(Section::new("look", "Look", "Look at images", explorer))
}

/// The side of the images that the encoder saw, or how many numbers of another model were projected to how many.
fn size(spec: &RunSpec) -> (&'static str, String) {
    let rows = spec.training.projection.and_then(|projection| Some((projection.inputs?, projection.outputs)));
    match rows {
        Some((inputs, outputs)) => ("Numbers", format!("{inputs}, projected to {outputs}")),
        None => ("Size", format!("{} px", spec.data.image_size_px)),
    }
}

fn facts(manifest: &Manifest, outcome: &Evaluation) -> Vec<(&'static str, String)> {
    let runs = &outcome.selection.runs;
    let seeds: BTreeSet<u64> = runs.iter().map(|run| run.seed()).collect();
    let each = |text: fn(&Manifest) -> String| distinct(runs.iter().map(|run| text(&run.manifest))).join("; ");
    let images = |manifest: &Manifest| {
        let data = &manifest.data;
        let [train, val] = [data.train_images, data.val_images].map(thousands);
        format!("{train} train, {val} validation")
    };
    let mut facts = vec![
        ("Data set", manifest.data.name.clone()),
        ("Images", each(images)),
        ("Classes", each(|manifest| thousands(manifest.data.classes.len()))),
        size(&manifest.spec),
        ("Epochs", each(|manifest| manifest.spec.training.epochs.to_string())),
        ("Variants", outcome.selection.variants.len().to_string()),
        (
            if seeds.len() == 1 { "Seed (n = 1)" } else { "Seeds" },
            seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
        ),
    ];
    let conditions = each(|manifest| manifest.spec.condition.clone());
    facts.extend((!conditions.is_empty()).then_some(("Conditions", conditions)));
    facts
}
