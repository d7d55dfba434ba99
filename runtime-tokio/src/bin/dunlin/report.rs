//! The reports of a running command: bars on a terminal, lines elsewhere, or JSON objects.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use dunlin_tokio::{InfoHash, Level, Notice, State, Stats, TorrentId, TorrentStatus};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::{
    args::View,
    json,
    output::{complain, errors, fail, remark, say, say_json},
    screen::Screen,
    status::line,
    units,
};

/// The shortest time between two lines about a torrent whose state does not change, where there are no
/// bars: often enough at first to see that it works, and then rarely enough for a log.
const LINE_PERIOD: Duration = Duration::from_secs(5);
const LATER_LINE_PERIOD: Duration = Duration::from_secs(60);
/// The time after which [`LATER_LINE_PERIOD`] applies.
const LATER: Duration = Duration::from_secs(60);
/// The time within which the same warning is not repeated.
const REPEAT_PERIOD: Duration = Duration::from_secs(600);
/// The most warnings remembered for that; the oldest are forgotten.
const MAX_REMEMBERED: usize = 64;

/// The reports of one command.
pub(crate) struct Report {
    style: Style,
    view: View,
    started: Instant,
    /// Warnings that were printed, and the times.
    said: VecDeque<(Instant, String)>,
}

enum Style {
    Screen(RefCell<Screen>),
    Lines(BTreeMap<TorrentId, (TorrentStatus, Instant)>),
    Json(BTreeMap<TorrentId, TorrentStatus>),
    Quiet,
}

impl Report {
    /// Chooses the style by `view` and by whether standard error is a terminal.
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

    /// Whether people read it, not a program.
    pub(crate) const fn is_for_people(&self) -> bool {
        !matches!(self.style, Style::Json(_))
    }

    /// The time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn json(value: &Value) {
        say_json(value);
    }

    /// Prints a message without breaking the lines of the screen.
    fn tell(&self, line: &str) {
        self.beside_screen(|| complain(line));
    }

    fn beside_screen(&self, say: impl FnOnce()) {
        match &self.style {
            Style::Screen(screen) => screen.borrow_mut().suspend(say),
            _ => say(),
        }
    }

    /// Redraws the screen, if there is one.
    pub(crate) fn draw(&self) {
        if let Style::Screen(screen) = &self.style {
            screen.borrow_mut().draw(false);
        }
    }

    /// Reports that something was not done.
    pub(crate) fn error(&self, what: &str, message: &str) {
        self.beside_screen(|| fail(what, message));
    }

    /// Reports a problem that did not prevent anything.
    pub(crate) fn warn(&self, message: &str) {
        self.beside_screen(|| remark(message));
    }

    /// Reports that the disk failed and the torrent waits for it, or that the disk works again.
    pub(crate) fn disk(&self, s: &TorrentStatus, waiting: bool, message: &str) {
        if waiting || !self.view.quiet {
            self.tell(message);
        }
        if matches!(self.style, Style::Json(_)) {
            Self::json(&json::disk(s, waiting, message));
        }
    }

    /// Reports something worth knowing.
    pub(crate) fn info(&self, message: &str) {
        if !self.view.quiet && self.is_for_people() {
            self.tell(message);
        }
    }

    /// Prints the counters of the driver.
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

    /// Whether this warning was not printed recently.
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

    /// Reports a notice of the engine.
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
        // The error that ends a torrent is reported once, with the torrent.
        let ends = notice.level == Level::Error && torrent.is_some();
        if notice.level < Level::Warning || !ends && self.is_news(&line) {
            self.tell(&line);
        }
    }

    /// Reports the state of a torrent; `settled` means that nothing is left to do.
    pub(crate) fn progress(&mut self, s: &TorrentStatus, settled: bool) {
        match &mut self.style {
            Style::Quiet => {}
            Style::Json(last) => {
                if last.get(&s.id) != Some(s) {
                    Self::json(&json::progress(s));
                    last.insert(s.id, s.clone());
                }
            }
            // Its completion was reported already.
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

    /// Reports that a torrent has everything that is wanted.
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

    /// Reports the end of the command.
    pub(crate) fn summary(&self, exit: u8, torrents: &[&TorrentStatus]) {
        match &self.style {
            Style::Json(_) => {
                Self::json(&json::summary_of(exit, self.elapsed(), errors(), torrents));
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

/// Whether a new line would differ from the last one.
fn is_news(old: &TorrentStatus, new: &TorrentStatus) -> bool {
    match new.state {
        State::Seeding => old.uploaded != new.uploaded || old.peers != new.peers,
        State::Paused => false,
        _ => true,
    }
}

/// The progress of hashing: a bar on a terminal, nothing elsewhere.
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

    /// Adds bytes that are done.
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
