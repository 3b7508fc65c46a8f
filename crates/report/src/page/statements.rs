//! The article's statements with their verdicts; the rules stand in the section on method.

use askama::Template;
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::comparisons::Judged;

#[derive(Template)]
#[template(path = "statements.html")]
pub(super) struct Statements<'a> {
    judged: &'a [Judged],
}

impl<'a> Statements<'a> {
    pub(super) fn of(outcome: &'a Evaluation) -> Self {
        Self { judged: &outcome.comparisons.judgements }
    }
}
