//! A torrent of a running command, and what is reported about it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use dunlin_tokio::{
    State, Torrent, TorrentStatus,
    dunlin_core::{
        OpError,
        engine::{DISK_RETRY, Existing},
        metainfo::Info,
    },
    system::disk::Placement,
};
use tokio::time::Instant;

use super::{
    adding::Choice,
    trouble::{failure, passes},
};
use crate::{report::Report, units};

/// What a command does with its torrents.
pub(super) struct Task {
    pub(super) goal: Goal,
    pub(super) existing: Existing,
    pub(super) placement: Placement,
}

/// When a torrent is done.
#[derive(Clone, Copy)]
pub(super) struct Goal {
    /// The ratio of uploaded bytes to size; `None` as configured, or without end.
    pub(super) ratio: Option<f64>,
    /// How long a torrent is shared at most; `None` as configured, or without end.
    pub(super) time: Option<Duration>,
    pub(super) deadline: Option<Instant>,
    /// Whether files may be missing.
    pub(super) fetch: bool,
}

impl Goal {
    fn reached(self, s: &TorrentStatus) -> bool {
        complete(s)
            && (s.uploaded_ever as f64) >= self.ratio.unwrap_or(f64::INFINITY) * (s.wanted as f64)
    }
}

fn complete(s: &TorrentStatus) -> bool {
    s.state == State::Seeding
}

/// A reason why a torrent does not continue.
enum Trouble {
    None,
    /// An error that may pass; it was reported.
    Waiting(OpError),
    /// An error that does not pass by itself; it was reported.
    Failed,
    /// It cannot succeed, whatever its state is; the reason was reported.
    Refused,
}

/// A torrent of a running command.
pub(super) struct Running {
    torrent: Torrent,
    pub(super) last: TorrentStatus,
    choice: Choice,
    /// The result of the selection was looked at.
    chosen: bool,
    /// The user was told that `seed` has to download something.
    warned: bool,
    completed: bool,
    /// The time at which sharing ends, once it has begun.
    shared: Option<Instant>,
    trouble: Trouble,
}

impl Running {
    pub(super) fn new(torrent: Torrent, last: TorrentStatus, choice: Choice) -> Self {
        Self {
            torrent,
            last,
            choice,
            chosen: false,
            warned: false,
            completed: false,
            shared: None,
            trouble: Trouble::None,
        }
    }

    /// Whether nothing more is waited for.
    pub(super) fn settled(&self, goal: Goal) -> bool {
        let ended = || self.end().is_some_and(|end| end <= Instant::now());
        self.has_failed() || goal.reached(&self.last) || ended()
    }

    /// Whether it was completed, and no error followed.
    pub(super) const fn succeeded(&self) -> bool {
        self.completed && !self.has_failed()
    }

    const fn has_failed(&self) -> bool {
        matches!(self.trouble, Trouble::Failed | Trouble::Refused)
    }

    /// The time at which sharing ends.
    pub(super) fn end(&self) -> Option<Instant> {
        let waiting = matches!(self.trouble, Trouble::Waiting(_));
        self.shared.filter(|_| complete(&self.last) || waiting)
    }

    /// The reason why it is not settled when the time is up.
    pub(super) fn overdue(&self) -> String {
        let name = &self.last.name;
        let what = match self.completed {
            true => "complete, but not shared up to the ratio in time",
            false => "not complete in time",
        };
        match &self.trouble {
            Trouble::Waiting(error) => format!("{name}: {what}: {error}"),
            _ => format!("{name}: {what}"),
        }
    }

    /// Looks at the torrent and reports changes; returns whether there were any.
    pub(super) async fn refresh(&mut self, report: &mut Report, task: &Task) -> bool {
        let Ok(status) = self.torrent.status().await else {
            return false;
        };
        let moved = self.last != status;
        self.last = status;
        self.look_at_choice(report);
        if let State::Failed(error) = self.last.state.clone() {
            self.look_at_error(report, task, &error);
            return moved;
        }
        if matches!(self.trouble, Trouble::Refused) {
            return moved;
        }
        self.look_at_recovery(report);
        report.progress(&self.last, self.settled(task.goal));
        if complete(&self.last) {
            self.look_at_content(report, task).await;
        }
        moved
    }

    /// Reports problems of the selection as soon as it was applied.
    fn look_at_choice(&mut self, report: &Report) {
        let Some(picked) = self.choice.get().filter(|_| !self.chosen) else {
            return;
        };
        self.chosen = true;
        let name = &self.last.name;
        let unmatched = picked.unmatched.join(",");
        if picked.nothing {
            self.trouble = Trouble::Refused;
            let message = format!(
                "{name}: it has no file that fits --select {unmatched}; `dunlin show` lists them"
            );
            report.error(name, &message);
        } else if !picked.unmatched.is_empty() {
            let message = format!("{name}: no file fits --select {unmatched}");
            report.warn(&message);
        }
    }

    fn look_at_error(&mut self, report: &mut Report, task: &Task, error: &OpError) {
        let s = &self.last;
        report.progress(s, !passes(error));
        match &self.trouble {
            Trouble::Refused => {}
            Trouble::Failed if !passes(error) => {}
            Trouble::Waiting(told) if told == error => {}
            _ if passes(error) => {
                let every = DISK_RETRY.as_secs();
                let message = format!(
                    "{}: {error}; it is tried again every {every} s until it works (Ctrl-C ends \
                     this)",
                    s.name
                );
                report.disk(s, true, &message);
                self.trouble = Trouble::Waiting(error.clone());
            }
            _ => {
                report.error(&s.name, &failure(&s.name, error, task.existing));
                self.trouble = Trouble::Failed;
            }
        }
    }

    fn look_at_recovery(&mut self, report: &Report) {
        match self.trouble {
            // While its files are checked again, the result is not known.
            Trouble::Waiting(_)
                if matches!(self.last.state, State::Opening | State::Checking { .. }) => {}
            Trouble::Waiting(_) => {
                let message = format!("{}: the disk works again", self.last.name);
                report.disk(&self.last, false, &message);
                self.trouble = Trouble::None;
            }
            _ => self.trouble = Trouble::None,
        }
    }

    /// Reports once what exists of a torrent that has everything that is wanted.
    async fn look_at_content(&mut self, report: &Report, task: &Task) {
        let s = &self.last;
        let partial = !task.goal.fetch && s.pieces_done < s.pieces;
        if partial && s.done == 0 {
            self.trouble = Trouble::Refused;
            let message = format!(
                "{}: nothing of it is in {}, so there is nothing to share; name the folder that \
                 holds it with --dir, or fetch it with `dunlin get`",
                s.name,
                self.folder(&task.placement).display()
            );
            return report.error(&s.name, &message);
        }
        if partial && !self.warned {
            self.warned = true;
            self.shared = task.goal.time.map(|time| Instant::now() + time);
            let message = format!(
                "{}: {} of {} is in {}; that is shared, and `dunlin get` fetches the rest",
                s.name,
                units::size(s.done),
                units::size(s.total),
                self.folder(&task.placement).display()
            );
            report.warn(&message);
        }
        if !partial && !self.completed {
            self.completed = true;
            self.shared = task.goal.time.map(|time| Instant::now() + time);
            let info = self.torrent.info().await.ok().flatten();
            let dir = self.folder(&task.placement);
            let path = info.map_or_else(|| dir.clone(), |info| path(&task.placement, &dir, &info));
            let path = path.display().to_string();
            report.complete(&self.last, &path, report.elapsed());
        }
    }

    /// The folder in which it is saved, which an earlier session may have chosen.
    fn folder(&self, usual: &Placement) -> PathBuf {
        self.torrent.dir().unwrap_or_else(|_| usual.dir.clone())
    }
}

/// The path of the file or folder of a torrent saved in `dir`, by its name on this disk.
fn path(placement: &Placement, dir: &Path, info: &Info) -> PathBuf {
    let paths = placement.paths(info);
    let root = paths.first().and_then(|path| path.iter().next());
    root.map_or_else(|| dir.into(), |root| dir.join(root))
}
