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
    note(std::io::stdout().write_fmt(text));
}

pub(crate) fn err(text: Arguments) {
    note(std::io::stderr().write_fmt(text));
}

fn note(written: std::io::Result<()>) {
    if written.is_err() {
        CUT.store(true, Ordering::Relaxed);
    }
}
