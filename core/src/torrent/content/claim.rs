//! The ownership of files: they are claimed before the first write, confirmed before a torrent is reported complete, and opened
//! again when one of them is missing.
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
//! The rule: what the engine did not write belongs to the user. A file that exists is used if its record says that it
//! belongs to this torrent, or if it holds nothing that could be lost: every piece that covers it passes its check or is all
//! zeros, as in incomplete downloads of other programs. Any other file makes the torrent fail, with the file's name, before
//! the first byte is written (an application may choose otherwise, see [`Existing`](crate::torrent::Existing)). The torrent
//! stays failed until the application resumes it: unlike a full disk, this does not pass by itself.

use alloc::{boxed::Box, format, string::String, vec::Vec};

use super::checking::{WHOLE, restore_partial};
use super::selection::prioritise;
use super::{Access, Content, Known, Look, Open, Store};
use crate::metainfo::{FileKind, Info};
use crate::op::{Claim, FileStat, Whose};
use crate::torrent::Torrent;
use crate::torrent::io::Io;
use crate::torrent::outbox::event::{Changes, Level, What};
use crate::torrent::outbox::ops::{DiskJob, Purpose};
use crate::torrent::{Existing, FilePriority};
use crate::{Bitfield, Op, OpError, OpErrorKind, Outcome};

/// How many lost files are named one by one. A torrent may have a million.
const MAX_NAMED: usize = 8;

impl Torrent {
    /// Claims the files, to read or to write as the torrent needs.
    pub(crate) fn claim(&mut self, io: &mut Io<'_>) {
        let Content::Known(Known { info, store, .. }) = &self.content else {
            return;
        };
        let picker = match store {
            Store::Claiming(picker) => picker,
            Store::Open(open) => &open.picker,
            _ => return,
        };
        let claim = match self.files.existing {
            Existing::ReadOnly => Claim::Read,
            _ if picker.is_done() && !self.needs_mending(info) => Claim::Read,
            Existing::Adopt => Claim::Write,
            Existing::Overwrite => Claim::Overwrite,
        };
        let have = picker.have().clone();
        let whose = self.whose(info, &have);
        let own = |whose: &Whose| matches!(whose, Whose::Checked | Whose::Recorded);
        self.files.own = whose.iter().map(own).collect();
        if let Some((_, open)) = self.content.open_mut() {
            open.access = Access::Asked;
        }
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

    /// Handles the outcome of a claim.
    pub(crate) fn claimed(&mut self, io: &mut Io<'_>, claim: Claim, outcome: Outcome) {
        let access = match claim {
            Claim::Read => Access::Read,
            Claim::Write | Claim::Overwrite => Access::Write,
        };
        let granted = matches!(outcome, Outcome::Flushed(_) | Outcome::Done);
        // The permission to overwrite applies to one claim.
        if granted && self.files.existing == Existing::Overwrite {
            self.files.existing = Existing::Adopt;
        }
        let store = match self.content.store_mut() {
            Some(store @ Store::Claiming(_)) if self.standing.is_up() => store,
            Some(Store::Open(open)) if open.access == Access::Asked => {
                open.access = if granted { access } else { Access::Refused };
                match outcome {
                    Outcome::Flushed(files) => self.files.stats = files,
                    Outcome::Done => {}
                    Outcome::Failed { error, .. } => return self.disk_failed(io, error),
                    other => return io.take_home(other),
                }
                if self.is_ready() {
                    match self.is_done() {
                        true => self.confirm(io, None),
                        false => self.refill_all(io),
                    }
                }
                return;
            }
            _ => return io.take_home(outcome),
        };
        match outcome {
            Outcome::Flushed(files) => self.files.stats = files,
            Outcome::Done => {}
            Outcome::Failed { error, .. } => return self.disk_failed(io, error),
            other => return io.take_home(other),
        }
        if let Store::Claiming(picker) = core::mem::replace(store, Store::Closed) {
            self.ready(io, Open::new(*picker, access));
        }
    }

    /// More is wanted than when the files were last claimed or confirmed.
    pub(crate) fn claim_more(&mut self, io: &mut Io<'_>) {
        let Some((info, open)) = self.content.open().filter(|_| self.standing.is_up()) else {
            return;
        };
        let mend = self.files.existing != Existing::ReadOnly && self.needs_mending(info);
        let done = open.picker.is_done();
        match open.access {
            Access::Read if !done || mend => self.claim(io),
            // An empty file has no pieces: it is created when the files are confirmed.
            Access::Write if done && mend => self.confirm(io, None),
            _ => {}
        }
    }

    /// Confirms the files by their paths, once at a time: every wanted piece is verified, or an error occurred with a file.
    pub(crate) fn confirm(&mut self, io: &mut Io<'_>, trouble: Option<OpError>) {
        let Some((_, open)) = self.content.open_mut().filter(|_| self.standing.is_up()) else {
            return;
        };
        if let Look::Out(earlier) = &mut open.look {
            if trouble.is_some() {
                *earlier = trouble;
            }
            return;
        }
        let done = open.picker.is_done() && trouble.is_none();
        open.look = Look::Out(trouble);
        io.out
            .ops
            .job(Purpose::Disk(self.id, DiskJob::Confirm), |op| Op::Confirm {
                op,
                torrent: self.id,
                done,
            });
    }

    pub(crate) fn confirmed(&mut self, io: &mut Io<'_>, outcome: Outcome) {
        let up = self.standing.is_up();
        let Some((_, open)) = self.content.open_mut() else {
            return io.take_home(outcome);
        };
        let trouble = match core::mem::replace(&mut open.look, Look::No) {
            Look::Out(trouble) => trouble,
            Look::No => None,
        };
        if !up {
            return io.take_home(outcome);
        }
        let (files, looked) = match outcome {
            Outcome::Flushed(files) => (files, true),
            // The platform has no files to confirm.
            Outcome::Done => (self.files.stats.clone(), false),
            Outcome::Failed { error, .. } => return self.disk_failed(io, error),
            other => return io.take_home(other),
        };
        let have = open.picker.have().clone();
        let done = open.picker.is_done();
        let readable = open.unreadable.is_empty();
        let read_only = self.files.existing == Existing::ReadOnly;
        let lost = match looked {
            true => self.lost(&files, &have, done && trouble.is_none() && !read_only),
            false => Vec::new(),
        };
        let trouble = match trouble {
            // The files are as they should be, so it is an error of the disk.
            Some(error) if lost.is_empty() && readable => return self.disk_failed(io, error),
            trouble => trouble,
        };
        let changed = read_only && self.files.stats != files;
        if lost.is_empty() && readable && !changed {
            self.files.stats = files;
            if done && !self.paused && !read_only {
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

    /// Reports the files that were changed by others, and opens all files again.
    pub(crate) fn lose(&mut self, io: &mut Io<'_>, files: Vec<Option<FileStat>>, lost: &[usize]) {
        let messages = self.name_lost(&files, lost);
        if self.has_access(Access::Write) {
            // Our own writes since the last flush do not make the other files doubtful.
            self.files.stats = files;
        }
        for &file in lost {
            if let Some(stat) = self.files.stats.get_mut(file) {
                *stat = None;
            }
        }
        for message in messages {
            io.out
                .notice(Some(self.id), None, Level::Warning, What::Disk { message });
        }
        self.reopen(io, "its files are looked at again");
    }

    /// Whether the files are open and claimed for this.
    pub(crate) fn has_access(&self, access: Access) -> bool {
        let open = self.content.open();
        open.is_some_and(|(_, open)| open.access == access)
    }

    /// A read or write failed. If the error says that a file was changed, the files are confirmed; otherwise the torrent fails.
    pub(crate) fn disk_trouble(&mut self, io: &mut Io<'_>, error: OpError) {
        let vanished = matches!(error.kind, OpErrorKind::NotFound | OpErrorKind::Truncated);
        if vanished && self.is_ready() && !self.has_access(Access::Refused) {
            self.confirm(io, Some(error));
        } else {
            self.disk_failed(io, error);
        }
    }

    /// A verified piece could not be read. It is not served until it has been checked.
    pub(crate) fn unreadable(&mut self, io: &mut Io<'_>, piece: u32, error: OpError) {
        let Some((_, open)) = self.content.open_mut().filter(|_| self.standing.is_up()) else {
            return;
        };
        if !open.unreadable.contains(&piece) {
            open.unreadable.push(piece);
        }
        self.confirm(io, Some(error));
    }

    /// A torrent that may not write and is incomplete checks whether its files were completed by others.
    pub(crate) fn watch_files(&mut self, io: &mut Io<'_>) {
        let waits =
            self.files.existing == Existing::ReadOnly && self.is_exchanging() && !self.is_seed();
        if waits {
            self.confirm(io, None);
        }
    }

    /// The files are claimed: starts to exchange pieces.
    fn ready(&mut self, io: &mut Io<'_>, mut open: Open) {
        let Content::Known(known) = &mut self.content else {
            return;
        };
        let info = &known.info;
        open.picker
            .set_sequential(self.wanted.sequential.then_some(WHOLE));
        self.wanted.deadlines.apply(&mut open.picker);
        if let Some(record) = self.resume.take() {
            open.assemblies = restore_partial(io.now, &mut open.picker, info, record);
        }
        self.standing.recovered();
        // The priorities may have been changed meanwhile.
        let read_only = self.files.existing == Existing::ReadOnly;
        open.wanted = prioritise(&mut open.picker, info, &self.wanted.priorities, read_only);
        // Files that were written to are confirmed before the torrent is reported complete.
        let have = open.picker.have();
        let done = open.picker.is_done() && open.access != Access::Write;
        open.finished = done && (!read_only || have.is_full());
        // Some pieces may never have been flushed, whoever wrote them.
        self.durability.holds(have.count());
        let finished = open.finished;
        known.store = Store::Open(Box::new(open));
        self.files.before.writing = false;
        self.durability.unsaved = true;
        self.change(io, Changes::STATE | Changes::PROGRESS);
        if finished {
            self.change(io, Changes::FINISHED);
        }
        self.start(io);
        self.meet_peers(io);
        self.claim_more(io);
    }
}

impl Torrent {
    /// Who owns each file, given that the pieces `have` passed their check.
    fn whose(&self, info: &Info, have: &Bitfield) -> Vec<Whose> {
        let present = self.present(info, &self.files.stats);
        // Where files have no file numbers, the files of an interrupted process are recognised by what it had flushed.
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
            let Some(found) = self.files.get(i) else {
                return Whose::Unknown;
            };
            if self.files.vouched.get(i) == Some(&true) || went_on(i, found) {
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

    /// Whether a file is wanted.
    fn wants(&self, file: usize) -> bool {
        self.wanted.priorities.get(file) != Some(&FilePriority::Skip)
    }

    /// Whether every piece may be verified although a file is not as it should be: too long, or empty and missing.
    fn needs_mending(&self, info: &Info) -> bool {
        let mut files = info.files().iter().enumerate();
        files.any(|(i, file)| {
            let regular = file.kind == FileKind::Regular && self.wants(i);
            regular
                && match self.files.get(i) {
                    Some(found) => found.len > file.len,
                    None => file.len == 0,
                }
        })
    }

    /// The files that are not as this torrent left them. With `whole`, every wanted file has to exist with its full length;
    /// otherwise, the parts that the pieces `have` cover have to exist.
    pub(crate) fn lost(
        &self,
        files: &[Option<FileStat>],
        have: &Bitfield,
        whole: bool,
    ) -> Vec<usize> {
        let Some(info) = self.content.info() else {
            return Vec::new();
        };
        let mut lost = Vec::new();
        for (i, file) in info.files().iter().enumerate() {
            if file.kind != FileKind::Regular || file.len == 0 {
                continue;
            }
            let before = self.files.get(i);
            // The bytes of a skipped file may be in the parts file.
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

    /// The files that belong to this torrent, for its record.
    pub(crate) fn own_files(&self) -> Vec<Option<FileStat>> {
        let count = self.content.info().map_or(0, |info| info.files().len());
        let files = self.files.stats.iter().copied().enumerate();
        // A torrent that has claimed its files to write owns all of them.
        let all = self.has_access(Access::Write);
        let own = |i: usize| all || i >= count || self.files.own.get(i) == Some(&true);
        files.map(|(i, stat)| stat.filter(|_| own(i))).collect()
    }

    /// Messages for the user about files that were changed or removed.
    fn name_lost(&self, files: &[Option<FileStat>], lost: &[usize]) -> Vec<String> {
        let Some(info) = self.content.info() else {
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
