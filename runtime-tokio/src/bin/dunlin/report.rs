//! How a running command shows itself: bars on a terminal, lines elsewhere, or JSON.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use dunlin_tokio::{InfoHash, Level, Notice, State, Stats, TorrentId, TorrentStatus};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::{args::View, json, schema, screen::Screen, units};

/// How often a line about a torrent may come where there are no bars, unless its state changes:
/// often enough to see that it works, and later rarely enough for a log.
const LINE_PERIOD: Duration = Duration::from_secs(5);
const LATER_LINE_PERIOD: Duration = Duration::from_secs(60);
/// When `later` begins.
const LATER: Duration = Duration::from_secs(60);
/// The same warning is not repeated within this time.
const REPEAT_PERIOD: Duration = Duration::from_secs(600);
/// Warnings remembered for that; beyond them the oldest are forgotten.
const MAX_REMEMBERED: usize = 64;

/// Prints an error.
pub(crate) fn complain(message: &str) {
    // Without standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "dunlin: {}", printable(message));
}

/// Prints a line for people as it is.
pub(crate) fn verbatim(line: &str) {
    let _ = writeln!(io::stderr(), "{}", printable(line));
}

/// Prints a line of data.
pub(crate) fn say(line: &str) {
    print_line(&printable(line));
}

/// Standard output took something no longer, and a reader that had enough is not the reason.
static UNWRITTEN: AtomicBool = AtomicBool::new(false);

/// Writes a line to standard output. Whoever reads may stop reading; the work goes on. Any other
/// error is said once.
fn print_line(line: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
        && !UNWRITTEN.swap(true, Ordering::Relaxed)
    {
        complain(&format!("standard output: {error}"));
    }
}

/// Whether all that was to be printed could be printed.
pub(crate) fn is_printed() -> bool {
    !UNWRITTEN.load(Ordering::Relaxed)
}

/// Whether a program reads standard output.
static JSON: AtomicBool = AtomicBool::new(false);
/// `error` objects so far.
static ERRORS: AtomicUsize = AtomicUsize::new(0);
/// The `summary` is printed.
static ENDED: AtomicBool = AtomicBool::new(false);

/// From here on objects are printed for what goes wrong.
pub(crate) fn speak_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// How many `error` objects were printed.
pub(crate) fn errors() -> usize {
    ERRORS.load(Ordering::Relaxed)
}

/// The last object, unless the command printed one of its own.
pub(crate) fn end(exit: u8, after: Duration) {
    if JSON.load(Ordering::Relaxed) && !ENDED.load(Ordering::Relaxed) {
        say_json(&json::summary(exit, after));
    }
}

/// Something was not done: said to people, and to programs.
pub(crate) fn fail(what: &str, message: &str) {
    complain(message);
    if JSON.load(Ordering::Relaxed) {
        say_json(&json::error(what, message));
    }
}

/// Something is odd, and done all the same.
pub(crate) fn remark(message: &str) {
    complain(message);
    if JSON.load(Ordering::Relaxed) {
        say_json(&json::warning(message));
    }
}

/// Prints a JSON value, in which nothing may be lost: what could steer a terminal is escaped.
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

/// Names and messages come from strangers: what would steer the terminal is shown, not done.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    match text.contains(is_hostile) {
        false => text.into(),
        true => text.replace(is_hostile, "\u{fffd}").into(),
    }
}

/// Whether a character does something to a terminal other than to appear in its place: control
/// characters, and those that reverse the writing, so that `exe.txt` looks like `txt.exe`.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}' | '\u{2029}'
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The face of a running command.
pub(crate) struct Report {
    style: Style,
    view: View,
    started: Instant,
    /// Warnings that were printed, and when.
    said: VecDeque<(Instant, String)>,
}

enum Style {
    Screen(RefCell<Screen>),
    Lines(BTreeMap<TorrentId, (TorrentStatus, Instant)>),
    Json(BTreeMap<TorrentId, TorrentStatus>),
    Quiet,
}

impl Report {
    /// A report that fits `view` and the terminal, if there is one.
    pub(crate) fn new(view: View) -> Self {
        let style = if view.json {
            Style::Json(BTreeMap::new())
        } else if view.quiet {
            Style::Quiet
        } else if io::stderr().is_terminal() {
            Style::Screen(RefCell::new(Screen::new()))
        } else {
            Style::Lines(BTreeMap::new())
        };
        Self {
            style,
            view,
            started: Instant::now(),
            said: VecDeque::new(),
        }
    }

    /// Whether a person reads it, not a program.
    pub(crate) const fn is_for_people(&self) -> bool {
        !matches!(self.style, Style::Json(_))
    }

    /// Since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn json(value: &Value) {
        say_json(value);
    }

    /// Prints without tearing the lines of the screen.
    fn tell(&self, line: &str) {
        self.beside_screen(|| complain(line));
    }

    fn beside_screen(&self, say: impl FnOnce()) {
        match &self.style {
            Style::Screen(screen) => screen.borrow_mut().suspend(say),
            _ => say(),
        }
    }

    /// Shows what has changed, where that is not done line by line.
    pub(crate) fn draw(&self) {
        if let Style::Screen(screen) = &self.style {
            screen.borrow_mut().draw(false);
        }
    }

    /// Something was not done.
    pub(crate) fn error(&self, what: &str, message: &str) {
        self.beside_screen(|| fail(what, message));
    }

    /// Something is odd, and done all the same.
    pub(crate) fn warn(&self, message: &str) {
        self.beside_screen(|| remark(message));
    }

    /// The disk failed a torrent and is waited for, or works again.
    pub(crate) fn disk(&self, s: &TorrentStatus, waiting: bool, message: &str) {
        if waiting || !self.view.quiet {
            self.tell(message);
        }
        if matches!(self.style, Style::Json(_)) {
            Self::json(&json::disk(s, waiting, message));
        }
    }

    /// Something worth knowing.
    pub(crate) fn info(&self, message: &str) {
        if !self.view.quiet && self.is_for_people() {
            self.tell(message);
        }
    }

    /// What the driver did.
    pub(crate) fn stats(&self, s: &Stats) {
        self.tell(&format!(
            "driver: {} wakeups, {} of them idle; {} reads of {}, {} writes of {}; {} datagrams \
             in, {} out; {} disk jobs",
            s.turns,
            s.idle_turns,
            s.reads,
            units::size(s.read_bytes),
            s.writes,
            units::size(s.written_bytes),
            s.datagrams_in,
            s.datagrams_out,
            s.disk_ops,
        ));
    }

    /// Whether this warning is news.
    fn is_news(&mut self, line: &str) -> bool {
        self.said.retain(|(at, _)| at.elapsed() < REPEAT_PERIOD);
        if self.said.iter().any(|(_, said)| said == line) {
            return false;
        }
        if self.said.len() >= MAX_REMEMBERED {
            self.said.pop_front();
        }
        self.said.push_back((Instant::now(), line.into()));
        true
    }

    /// The engine said something.
    pub(crate) fn notice(&mut self, notice: &Notice, torrent: Option<&TorrentStatus>) {
        let least = match self.view.verbose {
            0 => Level::Warning,
            _ => Level::Detail,
        };
        if notice.level < least {
            return;
        }
        if matches!(self.style, Style::Json(_)) {
            let hash: Option<InfoHash> = torrent.map(|s| s.info_hash);
            Self::json(&json::notice(notice, hash));
            return;
        }
        let mut line = String::new();
        if let Some(s) = torrent {
            line.push_str(&s.name);
            line.push_str(": ");
        }
        if let Some(peer) = notice.peer {
            line.push_str(&format!("{peer}: "));
        }
        line.push_str(&notice.what.to_string());
        // What ends a torrent is said, once, with the torrent.
        let ends = notice.level == Level::Error && torrent.is_some();
        if notice.level < Level::Warning || !ends && self.is_news(&line) {
            self.tell(&line);
        }
    }

    /// A torrent, now; `settled` says that nothing is left to do.
    pub(crate) fn progress(&mut self, s: &TorrentStatus, settled: bool) {
        match &mut self.style {
            Style::Quiet => {}
            Style::Json(last) => {
                if last.get(&s.id) != Some(s) {
                    Self::json(&json::progress(s));
                    last.insert(s.id, s.clone());
                }
            }
            // That it is complete is said already.
            Style::Lines(_) if settled => {}
            Style::Lines(last) => {
                let period = match self.started.elapsed() < LATER {
                    true => LINE_PERIOD,
                    false => LATER_LINE_PERIOD,
                };
                let state = |s: &TorrentStatus| json::state(&s.state);
                let due = last.get(&s.id).is_none_or(|(old, at)| {
                    state(old) != state(s) || at.elapsed() >= period && is_news(old, s)
                });
                if due {
                    last.insert(s.id, (s.clone(), Instant::now()));
                    say(&line(s));
                }
            }
            Style::Screen(screen) => screen.get_mut().set(s, settled),
        }
    }

    /// A torrent has all that is wanted.
    pub(crate) fn complete(&self, s: &TorrentStatus, path: &str, after: Duration) {
        if matches!(self.style, Style::Json(_)) {
            Self::json(&json::complete(s, path, after));
        } else if !self.view.quiet {
            let size = units::size(s.wanted_done);
            let text = match s.downloaded {
                0 => format!("{path}: complete, {size}, all of it was here"),
                _ => format!("{path}: complete, {size} in {}", units::time(after)),
            };
            self.beside_screen(|| say(&text));
        }
    }

    /// The end.
    pub(crate) fn summary(&self, exit: u8, torrents: &[&TorrentStatus]) {
        match &self.style {
            Style::Json(_) => {
                Self::json(&json::summary_of(exit, self.elapsed(), torrents));
            }
            Style::Quiet => {}
            Style::Screen(screen) => screen.borrow_mut().clear(),
            Style::Lines(_) => {}
        }
        if !matches!(self.style, Style::Json(_) | Style::Quiet) && !torrents.is_empty() {
            let sum = |f: fn(&TorrentStatus) -> u64| torrents.iter().map(|s| f(s)).sum::<u64>();
            say(&format!(
                "downloaded {}, uploaded {}, wasted {}, in {}",
                units::size(sum(|s| s.downloaded)),
                units::size(sum(|s| s.uploaded)),
                units::size(sum(|s| s.wasted)),
                units::time(self.elapsed()),
            ));
        }
    }
}

/// Whether a line would say anything that the one before did not.
fn is_news(old: &TorrentStatus, new: &TorrentStatus) -> bool {
    match new.state {
        State::Seeding => old.uploaded != new.uploaded || old.peers != new.peers,
        State::Paused => false,
        _ => true,
    }
}

/// One torrent in one line.
pub(crate) fn line(s: &TorrentStatus) -> String {
    let name = &s.name;
    let peers = units::count(s.peers.into(), "peer");
    match &s.state {
        State::Metadata => format!("{name}: asking {peers} for the metadata, {} known", s.known),
        State::Opening => format!("{name}: opening"),
        State::Checking { done, total } => {
            let done = units::percent((*done).into(), (*total).into());
            format!("{name}: checking what is here, {done}")
        }
        State::Downloading => {
            let mut text = format!(
                "{name}: {} of {}, {} down, {} up, {peers}",
                units::percent(s.wanted_done, s.wanted),
                units::size(s.wanted),
                units::rate(s.rate_down),
                units::rate(s.rate_up),
            );
            if let Some(seconds) = s
                .wanted
                .saturating_sub(s.wanted_done)
                .checked_div(s.rate_down)
            {
                text.push_str(&format!(
                    ", {} left",
                    units::time(Duration::from_secs(seconds))
                ));
            }
            text
        }
        State::Seeding => format!("{name}: sharing, {} up, {peers}", units::rate(s.rate_up)),
        State::Paused => format!("{name}: at rest"),
        State::Failed(error) => format!("{name}: {error}"),
        _ => format!("{name}: stopping"),
    }
}

/// How far hashing has come: a bar on a terminal, nothing elsewhere.
pub(crate) struct Meter(Option<ProgressBar>);

impl Meter {
    /// A meter for `total` bytes.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        let style = ProgressStyle::with_template(
            "{msg} {bar:20.cyan/blue} {percent:>3}% of {binary_total_bytes}, {binary_bytes_per_sec}",
        );
        let target = ProgressDrawTarget::stderr_with_hz(5);
        let bar = ProgressBar::with_draw_target(Some(total), target)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_message(what);
        Self(Some(bar))
    }

    /// So much more is done.
    pub(crate) fn add(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
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
