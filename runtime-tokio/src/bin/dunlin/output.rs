//! The output of every command: data on standard output, messages on standard error, and objects for
//! programs.

use std::{
    borrow::Cow,
    io::{self, Write},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::Value;

use crate::{json, schema};

/// Prints a message to standard error.
pub(crate) fn complain(message: &str) {
    // If standard error is closed, there is nobody to tell.
    let _ = writeln!(io::stderr(), "dunlin: {}", printable(message));
}

/// Prints a line to standard error without a prefix.
pub(crate) fn verbatim(line: &str) {
    let _ = writeln!(io::stderr(), "{}", printable(line));
}

/// Prints a line of data.
pub(crate) fn say(line: &str) {
    print_line(&printable(line));
}

/// Writing to standard output failed, other than because the reader closed it.
static UNWRITTEN: AtomicBool = AtomicBool::new(false);

/// Writes a line to standard output. It is not an error if the reader closes its end early; any other error
/// is reported once.
fn print_line(line: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
        && !UNWRITTEN.swap(true, Ordering::Relaxed)
    {
        complain(&format!("standard output: {error}"));
    }
}

/// Whether everything could be written to standard output.
pub(crate) fn is_printed() -> bool {
    !UNWRITTEN.load(Ordering::Relaxed)
}

/// Whether objects are printed for programs.
static JSON: AtomicBool = AtomicBool::new(false);
/// The number of `error` objects printed so far.
static ERRORS: AtomicUsize = AtomicUsize::new(0);
/// The `summary` object was printed.
static ENDED: AtomicBool = AtomicBool::new(false);

/// Prints objects for programs from now on.
pub(crate) fn speak_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// The number of `error` objects printed so far.
pub(crate) fn errors() -> usize {
    ERRORS.load(Ordering::Relaxed)
}

/// Prints the last object, unless the command has printed its own.
pub(crate) fn end(exit: u8, after: Duration) {
    if JSON.load(Ordering::Relaxed) && !ENDED.load(Ordering::Relaxed) {
        say_json(&json::summary(exit, after, errors()));
    }
}

/// Reports that something was not done, to people and to programs.
pub(crate) fn fail(what: &str, message: &str) {
    complain(message);
    if JSON.load(Ordering::Relaxed) {
        say_json(&json::error(what, message));
    }
}

/// Reports a problem that did not prevent anything, to people and to programs.
pub(crate) fn remark(message: &str) {
    complain(message);
    if JSON.load(Ordering::Relaxed) {
        say_json(&json::warning(message));
    }
}

/// Prints an object. Characters that could control a terminal are escaped, so nothing is lost.
pub(crate) fn say_json(value: &Value) {
    debug_assert_eq!(schema::fault(value), None, "{value}");
    match value["type"].as_str() {
        Some("error") => drop(ERRORS.fetch_add(1, Ordering::Relaxed)),
        Some("summary") => ENDED.store(true, Ordering::Relaxed),
        _ => {}
    }
    let text = value.to_string();
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hostile(c) {
            // All of them are below U+10000.
            line.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            line.push(c);
        }
    }
    print_line(&line);
}

/// Replaces characters that could control a terminal: names and messages come from strangers.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    match text.contains(is_hostile) {
        false => text.into(),
        true => text.replace(is_hostile, "\u{fffd}").into(),
    }
}

/// Whether a character affects a terminal other than by appearing in its place: control characters, and
/// marks that reverse the direction of text, so that `exe.txt` looks like `txt.exe`.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}' | '\u{2029}'
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_shown_not_done() {
        assert_eq!(
            printable("a\u{1b}[2J\n\u{202e}b é 日本"),
            "a\u{fffd}[2J\u{fffd}\u{fffd}b é 日本"
        );
    }
}
