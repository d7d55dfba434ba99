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
use super::io::Io;
use super::ops::{DiskJob, Purpose};
use super::torrent::{Held, Phase, Torrent};
use super::{Existing, FilePriority};
use crate::metainfo::{FileKind, Info};
use crate::op::{Claim, FileStat, OpError, OpErrorKind, Whose};
use crate::{Bitfield, Op, Outcome};

/// Files named one by one when they are lost; a torrent may have a million.
const MAX_NAMED: usize = 8;

impl Torrent {
    /// Takes the files into use, as far as this torrent needs them now.
    pub(super) fn claim(&mut self, io: &mut Io<'_>) {
        let (Some(info), Some(picker)) = (&self.info, &self.picker) else {
            return;
        };
        let claim = match self.existing {
            Existing::ReadOnly => Claim::Read,
            _ if picker.is_done() && !self.needs_mending(info) => Claim::Read,
            Existing::Adopt => Claim::Write,
            Existing::Overwrite => Claim::Overwrite,
        };
        let have = picker.have().clone();
        let whose = self.whose(info, &have);
        let ours = whose.iter();
        self.ours = ours
            .map(|whose| matches!(whose, Whose::Checked | Whose::Recorded))
            .collect();
        self.claim = Held::Asked;
        io.out
            .ops
            .job(Purpose::Disk(self.id, DiskJob::Claim(claim)), |op| {
                Op::Claim {
                    op,
                    torrent: self.id,
                    whose,
                    have,
                    claim,
                }
            });
    }

    pub(super) fn claimed(&mut self, io: &mut Io<'_>, claim: Claim, outcome: Outcome) {
        if self.claim != Held::Asked {
            io.take_home(outcome);
            return;
        }
        self.claim = Held::No;
        match outcome {
            Outcome::Flushed(_) | Outcome::Done => {
                if let Outcome::Flushed(files) = outcome {
                    self.files = files;
                }
                self.claim = match claim {
                    Claim::Read => Held::Read,
                    Claim::Write | Claim::Overwrite => Held::Write,
                };
                // The permission to overwrite holds for one claim.
                if self.existing == Existing::Overwrite {
                    self.existing = Existing::Adopt;
                }
                match self.phase {
                    Phase::Claiming(_) => self.ready(io),
                    Phase::Ready if self.is_done() => self.confirm(io),
                    Phase::Ready => self.refill_all(io),
                    _ => {}
                }
            }
            Outcome::Failed { error, .. } => self.disk_failed(io, error),
            other => io.take_home(other),
        }
    }

    /// More is wanted than when the files were claimed, or looked at last.
    pub(super) fn claim_more(&mut self, io: &mut Io<'_>) {
        if !matches!(self.phase, Phase::Ready) {
            return;
        }
        let mend = self.existing != Existing::ReadOnly
            && self
                .info
                .as_ref()
                .is_some_and(|info| self.needs_mending(info));
        match self.claim {
            Held::Read if !self.is_done() || mend => self.claim(io),
            // Nothing is fetched for an empty file: it is made when the files are looked at.
            Held::Write if self.is_done() && mend => self.confirm(io),
            _ => {}
        }
    }

    /// Looks at the files by their paths, once: all that is wanted is verified, or something
    /// went wrong with one of them.
    pub(super) fn confirm(&mut self, io: &mut Io<'_>) {
        if !matches!(self.phase, Phase::Ready) || core::mem::replace(&mut self.confirming, true) {
            return;
        }
        let done = self.is_done() && self.trouble.is_none();
        io.out
            .ops
            .job(Purpose::Disk(self.id, DiskJob::Confirm), |op| Op::Confirm {
                op,
                torrent: self.id,
                done,
            });
    }

    pub(super) fn confirmed(&mut self, io: &mut Io<'_>, outcome: Outcome) {
        self.confirming = false;
        if !matches!(self.phase, Phase::Ready) {
            io.take_home(outcome);
            return;
        }
        let (files, looked) = match outcome {
            Outcome::Flushed(files) => (files, true),
            // A platform that has nothing to look at.
            Outcome::Done => (self.files.clone(), false),
            Outcome::Failed { error, .. } => {
                self.disk_failed(io, error);
                return;
            }
            other => {
                io.take_home(other);
                return;
            }
        };
        let have = match &self.picker {
            Some(picker) => picker.have().clone(),
            None => return,
        };
        let trouble = self.trouble.take();
        let whole = self.is_done() && trouble.is_none() && self.existing != Existing::ReadOnly;
        let lost = match looked {
            true => self.lost(&files, &have, whole),
            false => Vec::new(),
        };
        if let Some(error) = &trouble
            && lost.is_empty()
            && self.unreadable.is_empty()
        {
            // The files are as they should be: it is the disk.
            self.disk_failed(io, error.clone());
            return;
        }
        let changed = self.existing == Existing::ReadOnly && self.files != files;
        if lost.is_empty() && self.unreadable.is_empty() && !changed {
            self.files = files;
            if self.is_done() && !self.paused && self.existing != Existing::ReadOnly {
                self.finished(io);
            }
            return;
        }
        if let Some(error) = trouble.filter(|_| lost.is_empty()) {
            let message = format!("{}; it is checked again", error.detail);
            io.out
                .notice(Some(self.id), None, Level::Warning, What::Disk { message });
        }
        self.lose(io, files, &lost);
    }

    /// Says which files are not as they were left, and finds out what is still there.
    pub(super) fn lose(&mut self, io: &mut Io<'_>, files: Vec<Option<FileStat>>, lost: &[usize]) {
        let messages = self.name_lost(&files, lost);
        if self.claim == Held::Write {
            // Writes since the last flush do not make the other files doubtful.
            self.files = files;
        }
        for &file in lost {
            if let Some(stat) = self.files.get_mut(file) {
                *stat = None;
            }
        }
        for message in messages {
            io.out
                .notice(Some(self.id), None, Level::Warning, What::Disk { message });
        }
        self.reopen(io, "its files are looked at again");
    }

    /// A read or write met something that says that a file is not what it was.
    pub(super) fn disk_trouble(&mut self, io: &mut Io<'_>, error: OpError) {
        let vanished = matches!(error.kind, OpErrorKind::NotFound | OpErrorKind::Truncated);
        if vanished && matches!(self.phase, Phase::Ready) && self.claim != Held::No {
            self.trouble = Some(error);
            self.confirm(io);
        } else {
            self.disk_failed(io, error);
        }
    }

    /// A piece that we have could not be read: it is not served until it has been checked.
    pub(super) fn unreadable(&mut self, io: &mut Io<'_>, piece: u32, error: OpError) {
        if !matches!(self.phase, Phase::Ready) {
            return;
        }
        if !self.unreadable.contains(&piece) {
            self.unreadable.push(piece);
        }
        self.trouble = Some(error);
        self.confirm(io);
    }

    /// A torrent that may not write, and lacks something, sees whether it came.
    pub(super) fn watch_files(&mut self, io: &mut Io<'_>) {
        let waits = self.existing == Existing::ReadOnly && self.is_exchanging() && !self.is_seed();
        if waits {
            self.confirm(io);
        }
    }

    /// The files are claimed: peers and trackers come next.
    pub(super) fn ready(&mut self, io: &mut Io<'_>) {
        if let Phase::Claiming(picker) = core::mem::replace(&mut self.phase, Phase::Ready) {
            self.picker = picker.map(|picker| *picker);
        }
        if let Some(picker) = &mut self.picker {
            picker.set_sequential(self.sequential.then_some(WHOLE));
            self.deadlines.apply(picker);
        }
        if let (Some(picker), Some(info), Some(record)) =
            (&mut self.picker, &self.info, self.resume.take())
        {
            self.assemblies = restore_partial(io.now, picker, info, record);
        }
        self.failing = None;
        // They may have been changed meanwhile.
        self.apply_priorities();
        // What was written or mended is looked at before it is called complete.
        let done = self.is_done() && self.claim != Held::Write;
        self.finished = done && (self.existing != Existing::ReadOnly || self.is_seed());
        self.wrote = false;
        self.unsaved = true;
        // What is here without ever having been flushed, by whoever wrote it.
        let have = self.picker.as_ref().map_or(0, |p| p.have().count());
        self.durability.unflushed |= have > self.durability.durable.count();
        self.change(io, Changes::STATE | Changes::PROGRESS);
        if self.finished {
            self.change(io, Changes::FINISHED);
        }
        self.start(io);
        self.meet_peers(io);
        self.claim_more(io);
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
