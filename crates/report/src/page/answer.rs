//! The answer in words, on top of the page.

use askama::Template;
use faceoff_evaluation::answer::Answer;

#[derive(Template)]
#[template(path = "answer.html")]
pub(super) struct Answers<'a> {
    pub(super) answers: &'a [Answer],
}

impl Answers<'_> {
    /// A sentence before, in and behind the command that it names, if it does.
    fn around_command<'s>(&self, answer: &'s Answer, sentence: &'s str) -> Option<(&'s str, &'s str, &'s str)> {
        let command = answer.command.as_deref()?;
        sentence.split_once(command).map(|(before, after)| (before, command, after))
    }
}
