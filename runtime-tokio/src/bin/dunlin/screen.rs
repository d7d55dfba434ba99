//! The lines of a running command on a terminal: one for each torrent as far as there is room, and a sum.
//! Every line fits the width of the terminal, whatever the names are: a line that wraps could not be
//! replaced by the next one.

use std::{collections::BTreeMap, time::Duration};

use console::{Term, measure_text_width, truncate_str};
use dunlin_tokio::{State, TorrentId, TorrentStatus};

use crate::{output::printable, status::line, units};

/// The shortest time between two drawings: events may come faster than people read.
const PERIOD: Duration = Duration::from_millis(100);
/// Rows left free for output that scrolls above.
const ROWS_FREE: usize = 3;
/// The most torrents shown, whatever the height of the terminal is.
const MAX_ROWS: usize = 20;
/// Columns of a bar, and the fewest columns that a name keeps beside one.
const BAR: usize = 10;
const MIN_NAME: usize = 16;
/// The size assumed if the terminal does not report one.
const SIZE: (u16, u16) = (24, 80);

/// The lines on the terminal.
pub(crate) struct Screen {
    term: Term,
    torrents: BTreeMap<TorrentId, Shown>,
    /// The number of torrents that reached their goal, and are not shown any more.
    done: usize,
    /// The widths of the lines that are on the terminal.
    drawn: Vec<usize>,
    last: Option<std::time::Instant>,
}

struct Shown {
    status: TorrentStatus,
    /// Nothing is left to do.
    settled: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self {
            term: Term::buffered_stderr(),
            torrents: BTreeMap::new(),
            done: 0,
            drawn: Vec::new(),
            last: None,
        }
    }

    /// Records the state of a torrent; `settled` means that nothing is left to do.
    pub(crate) fn set(&mut self, status: &TorrentStatus, settled: bool) {
        let shown = Shown {
            status: status.clone(),
            settled,
        };
        self.torrents.insert(status.id, shown);
        self.done = self.torrents.values().filter(|t| t.settled).count();
    }

    /// Draws the lines, unless that was done just before; `at_once` draws in any case.
    pub(crate) fn draw(&mut self, at_once: bool) {
        if !at_once && self.last.is_some_and(|last| last.elapsed() < PERIOD) {
            return;
        }
        self.last = Some(std::time::Instant::now());
        let (rows, columns) = self.term.size_checked().unwrap_or(SIZE);
        let lines = self.lines(rows.into(), columns.into());
        self.erase();
        for line in &lines {
            let _ = self.term.write_line(line);
        }
        let _ = self.term.flush();
        self.drawn = lines.iter().map(|line| measure_text_width(line)).collect();
    }

    /// Calls `say` with the lines removed.
    pub(crate) fn suspend(&mut self, say: impl FnOnce()) {
        self.erase();
        let _ = self.term.flush();
        say();
        self.draw(true);
    }

    /// Removes all lines from the terminal.
    pub(crate) fn clear(&mut self) {
        self.erase();
        let _ = self.term.flush();
    }

    fn erase(&mut self) {
        let (_, columns) = self.term.size_checked().unwrap_or(SIZE);
        let columns = usize::from(columns).max(1);
        // The terminal may have become narrower: then lines that fitted before take more rows.
        let rows = |width: &usize| width.div_ceil(columns).max(1);
        let rows = self.drawn.iter().map(rows).sum();
        let _ = self.term.clear_last_lines(rows);
        self.drawn.clear();
    }

    /// The lines for this number of rows and columns.
    fn lines(&self, rows: usize, columns: usize) -> Vec<String> {
        // The last column is left free: some terminals wrap when it is written.
        let columns = columns.saturating_sub(1).max(1);
        let mut open: Vec<&TorrentStatus> = self
            .torrents
            .values()
            .filter(|torrent| !torrent.settled)
            .map(|torrent| &torrent.status)
            .collect();
        let room = rows.saturating_sub(ROWS_FREE).clamp(1, MAX_ROWS);
        let hidden = open.len().saturating_sub(room);
        if hidden > 0 {
            // A stable sort: equal torrents keep their places.
            open.sort_by_key(|s| std::cmp::Reverse(activity(s)));
            open.truncate(room);
            open.sort_by_key(|s| s.id);
        }
        let mut lines: Vec<String> = open.iter().map(|s| torrent(s, columns)).collect();
        if self.torrents.len() > 1 {
            let sum = self.sum(hidden);
            lines.push(truncate_str(&sum, columns, "…").into_owned());
        }
        lines
    }

    /// The sum of all torrents in one line.
    fn sum(&self, hidden: usize) -> String {
        let all = || self.torrents.values().map(|torrent| &torrent.status);
        let add = |f: fn(&TorrentStatus) -> u64| all().map(f).sum::<u64>();
        let (down, up) = (add(|s| s.rate_down), add(|s| s.rate_up));
        let mut text = format!("{} of {} done", self.done, self.torrents.len());
        if hidden > 0 {
            text.push_str(&format!(", {hidden} not shown"));
        }
        text.push_str(&format!(
            "; {} down, {} up, {}",
            units::rate(down),
            units::rate(up),
            units::count(add(|s| s.peers.into()), "peer")
        ));
        let left = add(|s| s.wanted.saturating_sub(s.wanted_done));
        if let (true, Some(seconds)) = (left > 0, left.checked_div(down)) {
            let left = units::time(Duration::from_secs(seconds));
            text.push_str(&format!(", {left} left"));
        }
        text
    }
}

/// The order in which torrents are shown: those with traffic, those that could have some, those that wait.
fn activity(s: &TorrentStatus) -> (u8, u64) {
    let rate = s.rate_down.saturating_add(s.rate_up);
    let state = match s.state {
        State::Checking { .. } => 3,
        State::Downloading if s.rate_down > 0 => 3,
        State::Seeding if s.rate_up > 0 => 3,
        State::Metadata | State::Opening | State::Downloading => 2,
        State::Failed(_) => 2,
        _ => 1,
    };
    (state, rate)
}

/// One torrent in a line of at most `columns`; the name is shortened first.
fn torrent(s: &TorrentStatus, columns: usize) -> String {
    let (share, figures) = match &s.state {
        State::Downloading => (Some((s.wanted_done, s.wanted)), figures(s, columns)),
        State::Checking { done, total } => (
            Some(((*done).into(), (*total).into())),
            "checking what is here".into(),
        ),
        _ => {
            let whole = line(s);
            let figures = whole.strip_prefix(s.name.as_str()).unwrap_or(&whole);
            (None, figures.trim_start_matches(": ").to_owned())
        }
    };
    let figures = printable(&figures).into_owned();
    let mut front = String::new();
    if let Some((done, of)) = share {
        let percent = format!("{:>7} ", units::percent(done, of));
        let beside = measure_text_width(&percent) + measure_text_width(&figures) + 2;
        if columns >= BAR + 1 + beside + MIN_NAME {
            front = bar(done, of) + " ";
        }
        front.push_str(&percent);
    }
    let name = printable(&s.name);
    let fixed = measure_text_width(&front) + measure_text_width(&figures) + 2;
    let room = columns.saturating_sub(fixed).max(MIN_NAME);
    let name = truncate_str(&name, room, "…");
    let whole = format!("{front}{name}  {figures}");
    truncate_str(&whole, columns, "…").into_owned()
}

/// Rates, time left and, where there is room, peers.
fn figures(s: &TorrentStatus, columns: usize) -> String {
    let mut text = format!("{} down", units::rate(s.rate_down));
    if s.rate_up > 0 {
        text.push_str(&format!(", {} up", units::rate(s.rate_up)));
    }
    let left = s.wanted.saturating_sub(s.wanted_done);
    if let Some(seconds) = left.checked_div(s.rate_down) {
        let left = units::time(Duration::from_secs(seconds));
        text.push_str(&format!(", {left} left"));
    }
    const WIDE: usize = 100;
    if s.rate_down == 0 || columns >= WIDE {
        text.push_str(&format!(", {}", units::count(s.peers.into(), "peer")));
    }
    text
}

fn bar(done: u64, of: u64) -> String {
    let full = match of {
        0 => BAR,
        of => (u128::from(done.min(of)) * BAR as u128 / u128::from(of)) as usize,
    };
    format!("{}{}", "█".repeat(full), "░".repeat(BAR - full))
}

#[cfg(test)]
mod tests {
    use dunlin_tokio::InfoHash;

    use super::*;

    fn status(id: u32, name: &str, state: State) -> TorrentStatus {
        let mut status = TorrentStatus::new(TorrentId(id), InfoHash([0; 20]), name.into());
        status.state = state;
        status.has_metadata = true;
        (status.total, status.wanted) = (1 << 30, 1 << 30);
        (status.done, status.wanted_done) = (1 << 29, 1 << 29);
        (status.pieces, status.pieces_done) = (1024, 512);
        (status.rate_down, status.rate_up) = (4 << 20, 1 << 20);
        (status.peers, status.seeds, status.known) = (7, 3, 9);
        status
    }

    #[test]
    fn every_line_fits_whatever_the_name() {
        let long = "A.Really.Long.Release.Name.With.Many.Words.2024.1080p.x265-GROUP.mkv";
        for columns in [20, 40, 80, 81, 132, 200] {
            for name in [
                long,
                &"日本語".repeat(30),
                "🦀🦀🦀🦀",
                "a\u{300}b",
                "x",
                "\u{1b}[2J",
            ] {
                for state in [
                    State::Metadata,
                    State::Downloading,
                    State::Checking { done: 1, total: 3 },
                    State::Seeding,
                ] {
                    let mut screen = Screen::new();
                    screen.set(&status(1, name, state.clone()), false);
                    screen.set(&status(2, name, state), false);
                    for line in screen.lines(24, columns) {
                        assert!(measure_text_width(&line) < columns, "{columns}: {line}");
                        assert!(!line.contains('\u{1b}'));
                    }
                }
            }
        }
    }

    #[test]
    fn rates_and_time_left_are_there_at_eighty_columns() {
        let mut screen = Screen::new();
        let mut s = status(1, &"日本語の長い名前".repeat(9), State::Downloading);
        (s.rate_down, s.rate_up) = (1_072_588_389, 1_072_588_389);
        screen.set(&s, false);
        let lines = screen.lines(24, 80);
        assert_eq!(lines.len(), 1, "no sum of one");
        for part in [
            "50.0 %",
            "日本語",
            "1022.9 MiB/s down",
            "1022.9 MiB/s up",
            "left",
        ] {
            assert!(lines[0].contains(part), "{part}: {lines:?}");
        }
        (s.rate_down, s.rate_up) = (4 << 20, 0);
        screen.set(&s, false);
        let lines = screen.lines(24, 80);
        assert!(
            lines[0].starts_with("█████░░░░░  50.0 % 日本語"),
            "{lines:?}"
        );
        assert!(
            lines[0].ends_with("4.0 MiB/s down, 2m08s left"),
            "{lines:?}"
        );
    }

    #[test]
    fn with_more_torrents_than_rows_the_active_ones_and_a_sum_are_shown() {
        let mut screen = Screen::new();
        for id in 0..100 {
            let mut s = status(id, &format!("torrent-{id}"), State::Downloading);
            (s.rate_down, s.rate_up) = (0, 0);
            if id % 10 == 7 {
                s.rate_down = 1 << 20;
            }
            screen.set(&s, id < 5);
        }
        let lines = screen.lines(14, 80);
        assert_eq!(lines.len(), 12, "{lines:?}");
        for id in (7..100).step_by(10) {
            assert!(
                lines.iter().any(|l| l.contains(&format!("torrent-{id} "))),
                "{id}: {lines:?}"
            );
        }
        let sum = lines.last().unwrap();
        assert!(
            sum.starts_with("5 of 100 done, 84 not shown; 10.0 MiB/s down, 0 B/s up, 700 peers"),
            "{sum}"
        );
    }

    #[test]
    fn what_is_done_leaves_the_screen_and_is_counted() {
        let mut screen = Screen::new();
        let s = status(1, "x", State::Seeding);
        screen.set(&s, true);
        assert_eq!(screen.lines(24, 80), [""; 0]);
        screen.set(&status(2, "y", State::Downloading), false);
        let lines = screen.lines(24, 80);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].starts_with("1 of 2 done;"), "{lines:?}");
    }
}
