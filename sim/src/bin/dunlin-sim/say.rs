//! Output: data go to standard output, everything else to standard error.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Standard output could not be written, for another reason than that nobody reads it.
static LOST: AtomicBool = AtomicBool::new(false);

/// Returns `true` when data could not be written, so that the command must fail.
pub(crate) fn lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// Escapes control characters, because names may come from untrusted files.
fn printable(text: &str) -> Cow<'_, str> {
    let hostile = |c: char| {
        c.is_control() && c != '\n'
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}'
                | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    match text.contains(hostile) {
        false => text.into(),
        true => text.replace(hostile, "\u{fffd}").into(),
    }
}

/// Prints lines of data. Returns `false` when nobody reads them any more.
pub(crate) fn say(text: &str) -> bool {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{}", printable(text)).and_then(|()| out.flush());
    match written {
        Ok(()) => true,
        Err(error) => {
            // A reader that closed the pipe has what it wanted.
            if error.kind() != io::ErrorKind::BrokenPipe {
                LOST.store(true, Ordering::Relaxed);
                complain(&format!("standard output: {error}"));
            }
            false
        }
    }
}

/// Prints a message.
pub(crate) fn complain(message: &str) {
    // When standard error cannot be written there is nowhere left to report it.
    let _ = writeln!(io::stderr(), "dunlin-sim: {}", printable(message));
}

/// A progress bar on a terminal; nothing elsewhere.
pub(crate) struct Meter(Option<ProgressBar>);

impl Meter {
    pub(crate) fn new(what: &'static str, of: u64) -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        let style = ProgressStyle::with_template(
            "{prefix} {bar:30.cyan/blue} {pos}/{len}, {eta} left {wide_msg}",
        );
        let target = ProgressDrawTarget::stderr_with_hz(5);
        let bar = ProgressBar::with_draw_target(Some(of), target)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_prefix(what);
        Self(Some(bar))
    }

    /// Advances the bar by one.
    pub(crate) fn step(&self, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
            bar.set_message(message());
        }
    }

    /// Prints a line of data above the bar.
    pub(crate) fn say(&self, text: &str) -> bool {
        match &self.0 {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
