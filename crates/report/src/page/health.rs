//! What ails heads, on top of the page.

use askama::Template;
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::health::{Finding, Verdict};

#[derive(Template)]
#[template(path = "health.html")]
pub(super) struct Health<'a> {
    findings: &'a [Finding],
    /// The verdicts found, the gravest first.
    verdicts: Vec<Verdict>,
    /// Variants without a verdict.
    healthy: Vec<&'a str>,
}

impl<'a> Health<'a> {
    pub(super) fn of(outcome: &'a Evaluation) -> Self {
        let findings = &outcome.health;
        let found = |verdict: &Verdict| findings.iter().any(|finding| finding.verdict == *verdict);
        let names = outcome.selection.variants.iter().map(|variant| variant.name.as_str());
        Self {
            findings,
            verdicts: Verdict::ALL.into_iter().filter(found).collect(),
            healthy: names.filter(|name| findings.iter().all(|finding| finding.variant != *name)).collect(),
        }
    }

    fn with(&self, verdict: &Verdict) -> Vec<&'a Finding> {
        self.findings.iter().filter(|finding| finding.verdict == *verdict).collect()
    }
}
