//! Whose files they are: claimed before the first write, looked at again before a torrent is
//! called complete, and looked at anew when one of them is gone.
//!
//! ```text
//!  Opening ──▶ Checking ──▶ Claiming ──▶ Ready ──all wanted is verified──▶ Confirm ──▶ finished
//!     ▲                        │           │                                  │
//!     │                      refused   a file is gone, another one,           │
//!     │                        ▼       shorter, or cannot be read             │
//!     │                     Failed         │                                  │
//!     └────────── reopen, with what is known as its record ◀──────────────────┘
//! ```
//!
//! The rule: what the engine did not write is the user's. A file that exists is taken for this
//! torrent's if its record vouches for it, or if nothing that it holds can be lost: the pieces that
//! cover it pass their check, and where they do not it holds zeros, as downloads of other programs
//! do. With anything else in the way the torrent is refused, by name, before the first byte is written
//! (see [`Existing`](super::Existing) for those who insist), and rests until the application
//! wakes it: unlike a full disk, this does not pass by itself.

use alloc::{format, string::String, vec::Vec};

use super::checking::{WHOLE, restore_partial};
use super::event::{Changes, Level, What};
use super::ops::Purpose;
use super::torrent::{Held, Phase, Torrent};
use super::{Engine, Existing, FilePriority};
use crate::metainfo::{FileKind, Info};
use crate::op::{Claim, FileStat, OpError, OpErrorKind, Whose};
use crate::{Bitfield, Op, Outcome, TorrentId};

/// Files named one by one when they are lost; a torrent may have a million.
const MAX_NAMED: usize = 8;

impl Engine {
    /// Takes the files into use, as far as this torrent needs them now.
    pub(super) fn claim(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let (Some(info), Some(picker)) = (&t.info, &t.picker) else {
            return;
        };
        let claim = match t.existing {
            Existing::ReadOnly => Claim::Read,
            _ if picker.is_done() && !t.needs_mending(info) => Claim::Read,
            Existing::Adopt => Claim::Write,
            Existing::Overwrite => Claim::Overwrite,
        };
        let have = picker.have().clone();
        let whose = t.whose(info, &have);
        let ours = whose.iter();
        t.ours = ours
            .map(|whose| matches!(whose, Whose::Checked | Whose::Recorded))
            .collect();
        t.claim = Held::Asked;
        self.out.ops.job(Purpose::Claim(id, claim), |op| Op::Claim {
            op,
            torrent: id,
            whose,
            have,
            claim,
        });
    }

    pub(super) fn claimed(&mut self, id: TorrentId, claim: Claim, outcome: Outcome) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        if t.claim != Held::Asked {
            self.take_home(outcome);
            return;
        }
        t.claim = Held::No;
        match outcome {
            Outcome::Flushed(_) | Outcome::Done => {
                if let Outcome::Flushed(files) = outcome {
                    t.files = files;
                }
                t.claim = match claim {
                    Claim::Read => Held::Read,
                    Claim::Write | Claim::Overwrite => Held::Write,
                };
                // The permission to overwrite holds for one claim.
                if t.existing == Existing::Overwrite {
                    t.existing = Existing::Adopt;
                }
                match t.phase {
                    Phase::Claiming(_) => self.ready(id),
                    Phase::Ready if t.is_done() => self.confirm(id),
                    Phase::Ready => self.refill_all(id),
                    _ => {}
                }
            }
            Outcome::Failed { error, .. } => self.disk_failed(id, error),
            other => self.take_home(other),
        }
    }

    /// More is wanted than when the files were claimed, or looked at last.
    pub(super) fn claim_more(&mut self, id: TorrentId) {
        let ready = |t: &&Torrent| matches!(t.phase, Phase::Ready);
        let Some(t) = self.torrents.get(&id).filter(ready) else {
            return;
        };
        let mend = t.existing != Existing::ReadOnly
            && t.info.as_ref().is_some_and(|info| t.needs_mending(info));
        match t.claim {
            Held::Read if !t.is_done() || mend => self.claim(id),
            // Nothing is fetched for an empty file: it is made when the files are looked at.
            Held::Write if t.is_done() && mend => self.confirm(id),
            _ => {}
        }
    }

    /// Looks at the files by their paths, once: all that is wanted is verified, or something
    /// went wrong with one of them.
    pub(super) fn confirm(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        if !matches!(t.phase, Phase::Ready) || core::mem::replace(&mut t.confirming, true) {
            return;
        }
        let done = t.is_done() && t.trouble.is_none();
        self.out.ops.job(Purpose::Confirm(id), |op| Op::Confirm {
            op,
            torrent: id,
            done,
        });
    }

    pub(super) fn confirmed(&mut self, id: TorrentId, outcome: Outcome) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        t.confirming = false;
        if !matches!(t.phase, Phase::Ready) {
            self.take_home(outcome);
            return;
        }
        let (files, looked) = match outcome {
            Outcome::Flushed(files) => (files, true),
            // A platform that has nothing to look at.
            Outcome::Done => (t.files.clone(), false),
            Outcome::Failed { error, .. } => {
                self.disk_failed(id, error);
                return;
            }
            other => {
                self.take_home(other);
                return;
            }
        };
        let have = match &t.picker {
            Some(picker) => picker.have().clone(),
            None => return,
        };
        let trouble = t.trouble.take();
        let whole = t.is_done() && trouble.is_none() && t.existing != Existing::ReadOnly;
        let lost = match looked {
            true => t.lost(&files, &have, whole),
            false => Vec::new(),
        };
        if let Some(error) = &trouble
            && lost.is_empty()
            && t.unreadable.is_empty()
        {
            // The files are as they should be: it is the disk.
            self.disk_failed(id, error.clone());
            return;
        }
        let changed = t.existing == Existing::ReadOnly && t.files != files;
        if lost.is_empty() && t.unreadable.is_empty() && !changed {
            t.files = files;
            if t.is_done() && !t.paused && t.existing != Existing::ReadOnly {
                self.finished(id);
            }
            return;
        }
        if let Some(error) = trouble.filter(|_| lost.is_empty()) {
            let message = format!("{}; it is checked again", error.detail);
            self.out
                .notice(Some(id), None, Level::Warning, What::Disk { message });
        }
        self.lose(id, files, &lost);
    }

    /// Says which files are not as they were left, and finds out what is still there.
    pub(super) fn lose(&mut self, id: TorrentId, files: Vec<Option<FileStat>>, lost: &[usize]) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let messages = t.name_lost(&files, lost);
        if t.claim == Held::Write {
            // Writes since the last flush do not make the other files doubtful.
            t.files = files;
        }
        for &file in lost {
            if let Some(stat) = t.files.get_mut(file) {
                *stat = None;
            }
        }
        for message in messages {
            self.out
                .notice(Some(id), None, Level::Warning, What::Disk { message });
        }
        self.reopen(id, "its files are looked at again");
    }

    /// A read or write met something that says that a file is not what it was.
    pub(super) fn disk_trouble(&mut self, id: TorrentId, error: OpError) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let vanished = matches!(error.kind, OpErrorKind::NotFound | OpErrorKind::Truncated);
        if vanished && matches!(t.phase, Phase::Ready) && t.claim != Held::No {
            t.trouble = Some(error);
            self.confirm(id);
        } else {
            self.disk_failed(id, error);
        }
    }

    /// A piece that we have could not be read: it is not served until it has been checked.
    pub(super) fn unreadable(&mut self, id: TorrentId, piece: u32, error: OpError) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        if !matches!(t.phase, Phase::Ready) {
            return;
        }
        if !t.unreadable.contains(&piece) {
            t.unreadable.push(piece);
        }
        t.trouble = Some(error);
        self.confirm(id);
    }

    /// A torrent that may not write, and lacks something, sees whether it came.
    pub(super) fn watch_files(&mut self, id: TorrentId) {
        let waits = self
            .torrents
            .get(&id)
            .is_some_and(|t| t.existing == Existing::ReadOnly && t.is_exchanging() && !t.is_seed());
        if waits {
            self.confirm(id);
        }
    }

    /// The files are claimed: peers and trackers come next.
    pub(super) fn ready(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        if let Phase::Claiming(picker) = core::mem::replace(&mut t.phase, Phase::Ready) {
            t.picker = picker.map(|picker| *picker);
        }
        if let Some(picker) = &mut t.picker {
            picker.set_sequential(t.sequential.then_some(WHOLE));
            t.deadlines.apply(picker);
        }
        if let (Some(picker), Some(info), Some(record)) = (&mut t.picker, &t.info, t.resume.take())
        {
            t.assemblies = restore_partial(self.now, picker, info, record);
        }
        t.failing = None;
        // They may have been changed meanwhile.
        self.apply_priorities(id);
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        // What was written or mended is looked at before it is called complete.
        let done = t.is_done() && t.claim != Held::Write;
        t.finished = done && (t.existing != Existing::ReadOnly || t.is_seed());
        t.wrote = false;
        t.unsaved = true;
        // What is here without ever having been flushed, by whoever wrote it.
        let have = t.picker.as_ref().map_or(0, |p| p.have().count());
        t.saving.unflushed |= have > t.saving.durable.count();
        self.change(id, Changes::STATE | Changes::PROGRESS);
        if self.torrents.get(&id).is_some_and(|t| t.finished) {
            self.change(id, Changes::FINISHED);
        }
        self.start(id);
        self.meet_peers(id);
        self.claim_more(id);
    }
}

impl Torrent {
    /// What is known of each file, when the pieces `have` passed their check.
    fn whose(&self, info: &Info, have: &Bitfield) -> Vec<Whose> {
        let present = self.present(info, &self.files);
        // Where files have no numbers, an interrupted process is known by what it had flushed.
        let interrupted = self.resume.as_ref().filter(|record| !record.clean);
        let flushed =
            interrupted.and_then(|record| Bitfield::from_wire(&record.durable, info.piece_count()));
        let went_on = |i: usize, found: FileStat| {
            let then = interrupted.and_then(|record| record.files.get(i).copied().flatten());
            let alike = then.is_some_and(|then| then.is_same_file(&found) && then.len <= found.len);
            let mut listed = info
                .pieces_of(i)
                .filter(|piece| flushed.as_ref().is_some_and(|f| f.get(*piece)))
                .peekable();
            alike && listed.peek().is_some() && listed.all(|piece| have.get(piece))
        };
        let whose = |i: usize| {
            let Some(found) = self.files.get(i).copied().flatten() else {
                return Whose::Unknown;
            };
            if self.vouched.get(i) == Some(&true) || went_on(i, found) {
                return Whose::Recorded;
            }
            let (mut passed, mut failed) = (false, false);
            for piece in info.pieces_of(i) {
                let had = have.get(piece);
                passed |= had;
                failed |= !had && present.get(piece);
            }
            match (passed, failed) {
                (false, _) => Whose::Unknown,
                (true, true) => Whose::Partly,
                (true, false) => Whose::Checked,
            }
        };
        (0..info.files().len()).map(whose).collect()
    }

    /// Whether a file is wanted at all.
    fn wants(&self, file: usize) -> bool {
        self.priorities.get(file) != Some(&FilePriority::Skip)
    }

    /// Whether all pieces may be here and a file is not as it should be: too long, or empty and
    /// missing.
    fn needs_mending(&self, info: &Info) -> bool {
        let mut files = info.files().iter().enumerate();
        files.any(|(i, file)| {
            let regular = file.kind == FileKind::Regular && self.wants(i);
            regular
                && match self.files.get(i).copied().flatten() {
                    Some(found) => found.len > file.len,
                    None => file.len == 0,
                }
        })
    }

    /// The files that are not as this torrent left them. `whole`: all that is wanted has to be
    /// there, with its length; else what the pieces `have` cover.
    pub(super) fn lost(
        &self,
        files: &[Option<FileStat>],
        have: &Bitfield,
        whole: bool,
    ) -> Vec<usize> {
        let Some(info) = &self.info else {
            return Vec::new();
        };
        let mut lost = Vec::new();
        for (i, file) in info.files().iter().enumerate() {
            if file.kind != FileKind::Regular || file.len == 0 {
                continue;
            }
            let before = self.files.get(i).copied().flatten();
            // A skipped file's bytes may be in the parts file.
            if !self.wants(i) && before.is_none() {
                continue;
            }
            let last = info.pieces_of(i).rev().find(|piece| have.get(*piece));
            let needed = last.map_or(0, |piece| {
                let end = info.piece_offset(piece) + u64::from(info.piece_size(piece));
                end.min(file.offset + file.len) - file.offset
            });
            let right = match files.get(i).copied().flatten() {
                None => needed == 0,
                Some(found) if whole && self.wants(i) => found.len == file.len,
                Some(found) => found.len >= needed,
            };
            if !right {
                lost.push(i);
            }
        }
        lost
    }

    /// The files that are this torrent's, for its record: it vouches for no other.
    pub(super) fn own_files(&self) -> Vec<Option<FileStat>> {
        let count = self.info.as_ref().map_or(0, |info| info.files().len());
        let files = self.files.iter().copied().enumerate();
        let ours = |i: usize| {
            // Whatever a torrent that may write finds is its own, or it would not have its claim.
            self.claim == Held::Write || i >= count || self.ours.get(i) == Some(&true)
        };
        files.map(|(i, stat)| stat.filter(|_| ours(i))).collect()
    }

    /// What became of lost files, for people.
    fn name_lost(&self, files: &[Option<FileStat>], lost: &[usize]) -> Vec<String> {
        let Some(info) = &self.info else {
            return Vec::new();
        };
        let mut messages = Vec::new();
        for &i in lost.iter().take(MAX_NAMED) {
            let Some(file) = info.files().get(i) else {
                continue;
            };
            let mut path = String::from(info.name());
            if info.multi_file() {
                for part in &file.path {
                    path.push('/');
                    path.push_str(part);
                }
            }
            let what = match files.get(i).copied().flatten() {
                None => "it was deleted, moved or replaced",
                Some(found) if found.len < file.len => "it was cut short",
                Some(_) => "it is longer than it should be",
            };
            messages.push(format!("{path}: {what} meanwhile; it is checked again"));
        }
        if lost.len() > MAX_NAMED {
            messages.push(format!("{} more files likewise", lost.len() - MAX_NAMED));
        }
        messages
    }
}
