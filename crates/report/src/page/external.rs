//! The page of external embeddings: the sections that need neither runs nor a classifier.

use super::{Notes, Page, Section, numbers};
use crate::Extras;
use crate::error::Result;
use crate::pictures;
use askama::Template;
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::answer::PROGRAM;
use faceoff_evaluation::selection::Origin;

#[derive(Template)]
#[template(path = "external_method.html")]
struct Method {
    /// Whether the index is a set of its own.
    index: bool,
}

pub(crate) fn external(
    name: &str,
    outcome: &Evaluation,
    extras: &Extras<'_>,
    figures: &[pictures::Section],
    tables: &[&str],
) -> Result<String> {
    let Origin::External { queries, index } = outcome.selection.origin else {
        unreachable!("external embeddings are no runs")
    };
    let size = |(rows, columns): (usize, usize)| format!("{rows} x {columns}");
    let classes = outcome.selection.variants.first().map_or(0, |variant| variant.classes.len());
    let mut facts = vec![("Embeddings", size(queries)), ("Classes", classes.to_string())];
    facts.extend(index.map(|index| ("Index", size(index))));
    let mut sections = vec![Section::new("numbers", "All numbers", "All numbers", numbers::Numbers::of(outcome))];
    if !outcome.notes.is_empty() {
        let notes = Notes { notes: &outcome.notes, ..Notes::default() };
        sections.push(Section::new("notes", "Notes", "Notes", notes));
    }
    sections.extend(super::look(outcome, extras));
    sections.extend(figures.iter().map(|section| Section::figures(section, tables)));
    sections.push(Section::new("method", "Method", "Method", Method { index: index.is_some() }));
    let page = Page {
        name,
        kicker: "External embeddings",
        lead: "Everything that needs no classifier.",
        synthetic: false,
        facts,
        sections,
        version: env!("CARGO_PKG_VERSION"),
        command: format!("{PROGRAM} report --embeddings"),
        tables,
    };
    Ok(page.render()?)
}
