//! What is printed: a terminal or pipe that is gone or full never stops the work.

use std::fmt::Arguments;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something could not be printed.
static CUT: AtomicBool = AtomicBool::new(false);

pub(crate) fn is_cut() -> bool {
    CUT.load(Ordering::Relaxed)
}

pub(crate) fn out(text: Arguments) {
    note(std::io::stdout().write_all(shown(text).as_bytes()));
}

pub(crate) fn err(text: Arguments) {
    note(std::io::stderr().write_all(shown(text).as_bytes()));
}

/// Names of files and classes may hold what moves a cursor, changes colours or turns the direction of writing: shown as what it is.
fn shown(text: Arguments) -> String {
    let moves = |c: char| {
        c.is_control() && !"\n\t".contains(c) || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::new();
    for c in text.to_string().chars() {
        if moves(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

fn note(written: std::io::Result<()>) {
    if written.is_err() {
        CUT.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_steer_the_terminal() {
        let name = "a\u{1b}[31m\u{202e}gpj.\u{e9}\t\n";
        assert_eq!(shown(format_args!("{name}")), "a\\u{1b}[31m\\u{202e}gpj.\u{e9}\t\n");
    }
}
