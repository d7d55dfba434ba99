//! A torrent under way, and what is said of it.

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

/// What a command wants of its torrents.
pub(super) struct Task {
    pub(super) goal: Goal,
    pub(super) existing: Existing,
    pub(super) placement: Placement,
}

/// When to stop.
#[derive(Clone, Copy)]
pub(super) struct Goal {
    /// Uploaded per size; `None` as the configuration says, or without end.
    pub(super) ratio: Option<f64>,
    /// How long a torrent is shared at most; `None` as the configuration says, or without end.
    pub(super) time: Option<Duration>,
    pub(super) deadline: Option<Instant>,
    /// Not all is expected to be here.
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

/// What keeps a torrent from going on.
enum Trouble {
    None,
    /// An error that may pass, of which a person was told.
    Waiting(OpError),
    /// An error that does not, of which a person was told.
    Failed,
    /// Nothing can come of it, whatever its state says: a person was told why.
    Refused,
}

/// A torrent under way.
pub(super) struct Running {
    torrent: Torrent,
    pub(super) last: TorrentStatus,
    choice: Choice,
    /// The selection has been looked at.
    chosen: bool,
    /// A person knows that `seed` has to fetch something.
    warned: bool,
    completed: bool,
    /// When it has been shared for long enough.
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

    /// Whether it was completed, and nothing went wrong after that.
    pub(super) const fn succeeded(&self) -> bool {
        self.completed && !self.has_failed()
    }

    const fn has_failed(&self) -> bool {
        matches!(self.trouble, Trouble::Failed | Trouble::Refused)
    }

    /// When sharing ends by the clock.
    pub(super) fn end(&self) -> Option<Instant> {
        let waiting = matches!(self.trouble, Trouble::Waiting(_));
        self.shared.filter(|_| complete(&self.last) || waiting)
    }

    /// Why it is not settled although there is no time left.
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

    /// Looks at it and says what is new; returns whether anything is.
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

    /// Says what is odd about the selection, as soon as it has been applied.
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
            // While its files are looked at again nobody knows yet.
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

    /// Says, once, what there is of a torrent that has all that is wanted.
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

    /// The folder that it is saved in: an earlier session may have put it elsewhere.
    fn folder(&self, usual: &Placement) -> PathBuf {
        self.torrent.dir().unwrap_or_else(|_| usual.dir.clone())
    }
}

/// Where the file or folder of a torrent saved in `dir` is, under the name that it got on this
/// disk.
fn path(placement: &Placement, dir: &Path, info: &Info) -> PathBuf {
    let paths = placement.paths(info);
    let root = paths.first().and_then(|path| path.iter().next());
    root.map_or_else(|| dir.into(), |root| dir.join(root))
}
