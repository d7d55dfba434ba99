//! The files of a torrent: what is known of them, whose they are, and what may be done with them. They are claimed before the
//! first write, confirmed before the torrent is reported complete, and opened again when one of them is missing.
//!
//! The rule: what the engine did not write belongs to the user. A file that exists is used if its record says that it
//! belongs to this torrent, or if it holds nothing that could be lost: every piece that covers it passes its check or is all
//! zeros, as in incomplete downloads of other programs. Any other file makes the torrent fail, with the file's name, before
//! the first byte is written (an application may choose otherwise, see [`Existing`](crate::torrent::Existing)). The torrent
//! stays failed until the application resumes it: unlike a full disk, this does not pass by itself.

#[cfg(test)]
mod tests;

use alloc::{format, string::String, vec::Vec};

use super::resume::Record;
use super::wanted::Wanted;
use crate::metainfo::{FileKind, Info};
use crate::op::{Claim, FileStat, Whose};
use crate::torrent::outbox::ops::{DiskJob, Ops, Purpose};
use crate::torrent::picker::Picker;
use crate::torrent::request::{Check, Existing};
use crate::{Bitfield, Op, TorrentId};

/// How many lost files are named one by one. A torrent may have a million.
const MAX_NAMED: usize = 8;

/// The files, in the order of the metadata: what is known of them, and what may be done with them.
#[derive(Debug)]
pub(crate) struct Files {
    /// What may be done with files that exist.
    existing: Existing,
    /// Which pieces are hashed when they are opened.
    pub(crate) check: Check,
    /// What is remembered of them when they are opened again.
    pub(crate) before: Before,
    /// Their attributes when they were last examined. The parts file, which holds the bytes of skipped files, comes last.
    pub(crate) stats: Vec<Option<FileStat>>,
    /// The files that agreed with the record when they were opened.
    vouched: Vec<bool>,
    /// The files that belonged to the torrent when they were claimed.
    own: Vec<bool>,
}

/// What is remembered of files that are opened again.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// They were being written to, so this torrent made them what they are.
    pub(crate) writing: bool,
    /// The pieces to hash because they could not be read.
    pub(crate) doubted: Vec<u32>,
}

/// What the files are expected to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) info: &'a Info,
    pub(crate) wanted: &'a Wanted,
    /// The last resume record.
    pub(crate) record: Option<&'a Record>,
}

/// What is known of a torrent's pieces before any of them is hashed.
#[derive(Debug)]
pub(crate) struct Judged {
    /// The pieces that are trusted.
    pub(crate) have: Bitfield,
    /// The pieces to hash.
    pub(crate) doubted: Vec<u32>,
    /// The pieces in files that are unchanged since the record was saved, so that blocks of partial pieces are still there.
    pub(crate) steady: Bitfield,
}

impl Files {
    pub(crate) fn new(existing: Existing, check: Check) -> Self {
        Self {
            existing,
            check,
            before: Before::default(),
            stats: Vec::new(),
            vouched: Vec::new(),
            own: Vec::new(),
        }
    }

    /// A file that existed.
    pub(crate) fn get(&self, file: usize) -> Option<FileStat> {
        self.stats.get(file).copied().flatten()
    }

    /// Whether nothing may be written.
    pub(crate) fn is_read_only(&self) -> bool {
        self.existing == Existing::ReadOnly
    }

    // ---- opening ----

    /// They were opened: decides which pieces to trust and which to hash. `boot` is the driver's token of the present boot.
    pub(crate) fn opened(
        &mut self,
        expected: Expected<'_>,
        found: Vec<Option<FileStat>>,
        boot: Option<[u8; 16]>,
    ) -> Judged {
        self.vouched = self.vouched_for(expected, &found);
        let judged = self.judge(expected, &found, boot);
        self.stats = found;
        self.before.doubted.clear();
        judged
    }

    /// The files that are known to belong to this torrent, whatever they hold.
    fn vouched_for(&self, expected: Expected<'_>, found: &[Option<FileStat>]) -> Vec<bool> {
        let vouched = |i: usize| {
            let Some(found) = found.get(i).copied().flatten() else {
                return false;
            };
            let vouches = |then: FileStat, written_on: bool| {
                // The process was interrupted, and had written after that record.
                let same = then.id.is_some() && then.id == found.id;
                then.agrees(&found) || written_on && same && then.len <= found.len
            };
            let by_record = expected.record.is_some_and(|record| {
                let then = record.files.get(i).copied().flatten();
                then.is_some_and(|then| vouches(then, !record.clean))
            });
            let until_now = self.get(i).filter(|_| self.before.writing);
            by_record || until_now.is_some_and(|then| vouches(then, true))
        };
        (0..expected.info.files().len()).map(vouched).collect()
    }

    /// Decides which pieces to trust and which to hash. The record is trusted for files that have the same identity, length
    /// and modification time.
    fn judge(
        &self,
        expected: Expected<'_>,
        found: &[Option<FileStat>],
        boot: Option<[u8; 16]>,
    ) -> Judged {
        let info = expected.info;
        let pieces = info.piece_count();
        let present = present(info, expected.wanted, found);
        if self.check == Check::Nothing {
            return Judged {
                have: present,
                doubted: Vec::new(),
                steady: Bitfield::new(pieces),
            };
        }
        let record = expected.record.filter(|_| self.check == Check::Doubted);
        let changed = self.changed(Expected { record, ..expected }, found);
        let believed = record.and_then(|r| r.believed(boot, pieces));
        let clean = record.is_some_and(|r| r.clean);
        // Without a record, everything present is hashed. A clean record is complete: a piece that it does not list is missing.
        // Otherwise, pieces may have been written after it.
        let mut have = Bitfield::new(pieces);
        let mut doubted = Vec::new();
        for piece in 0..pieces {
            let listed = believed.as_ref().is_some_and(|b| b.get(piece));
            if !present.get(piece) {
                continue;
            }
            if listed && !changed.get(piece) {
                have.set(piece);
            } else if believed.is_none() || !clean || changed.get(piece) || listed {
                doubted.push(piece);
            } else if record.is_some_and(|r| r.boot.is_none() || r.boot != boot) && clean {
                // It was verified before a reboot, but not flushed.
                let was_there = record
                    .and_then(|r| Bitfield::from_wire(&r.have, pieces))
                    .is_some_and(|h| h.get(piece));
                if was_there {
                    doubted.push(piece);
                }
            }
        }
        let mut steady = Bitfield::new(pieces);
        if record.is_some_and(|r| r.keeps_partial(boot)) {
            for piece in (0..pieces).filter(|p| present.get(*p) && !changed.get(*p)) {
                steady.set(piece);
            }
        }
        Judged {
            have,
            doubted,
            steady,
        }
    }

    /// The pieces that could not be read, and those in files that are not as the record says, if there is one.
    fn changed(&self, expected: Expected<'_>, found: &[Option<FileStat>]) -> Bitfield {
        let Expected {
            info,
            wanted,
            record,
        } = expected;
        let mut changed = Bitfield::new(info.piece_count());
        for piece in &self.before.doubted {
            changed.set(*piece);
        }
        let Some(record) = record else {
            return changed;
        };
        let now = |file: usize| found.get(file).copied().flatten();
        let agrees = |file: usize| match (record.files.get(file).copied().flatten(), now(file)) {
            (Some(then), Some(now)) => then.agrees(&now),
            (then, now) => then.is_none() && now.is_none(),
        };
        // The bytes of a skipped file may be in the parts file, which is reported after the files.
        let apart = info.files().len();
        for (i, file) in info.files().iter().enumerate() {
            if file.kind != FileKind::Regular || file.len == 0 {
                continue;
            }
            let missing = now(i).map_or(0, |f| f.len) < file.len;
            if !agrees(i) || missing && !wanted.wants(i) && !agrees(apart) {
                info.pieces_of(i).for_each(|p| {
                    changed.set(p);
                });
            }
        }
        changed
    }

    // ---- claiming ----

    /// Claims them, to read or to write as the pieces to download require.
    pub(crate) fn claim(
        &mut self,
        ops: &mut Ops,
        torrent: TorrentId,
        expected: Expected<'_>,
        picker: &Picker,
    ) {
        let claim = match self.existing {
            Existing::ReadOnly => Claim::Read,
            _ if picker.is_done() && !self.need_mending(expected.info, expected.wanted) => {
                Claim::Read
            }
            Existing::Adopt => Claim::Write,
            Existing::Overwrite => Claim::Overwrite,
        };
        let have = picker.have().clone();
        let whose = self.whose(expected, &have);
        let own = |whose: &Whose| matches!(whose, Whose::Checked | Whose::Recorded);
        self.own = whose.iter().map(own).collect();
        ops.job(Purpose::Disk(torrent, DiskJob::Claim(claim)), |op| {
            Op::Claim {
                op,
                torrent,
                whose,
                have,
                claim,
            }
        });
    }

    /// A claim was granted. The permission to overwrite applies to one claim.
    pub(crate) fn granted(&mut self) {
        if self.existing == Existing::Overwrite {
            self.existing = Existing::Adopt;
        }
    }

    /// Who owns each file, given that the pieces `have` passed their check.
    fn whose(&self, expected: Expected<'_>, have: &Bitfield) -> Vec<Whose> {
        let info = expected.info;
        let present = present(info, expected.wanted, &self.stats);
        // Where files have no file numbers, the files of an interrupted process are recognised by what it had flushed.
        let interrupted = expected.record.filter(|record| !record.clean);
        let flushed = interrupted.and_then(|record| record.flushed(info.piece_count()));
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
            let Some(found) = self.get(i) else {
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

    /// Whether a wanted file has to be cut or created, and may be, although every piece may be verified: it is too long, or empty
    /// and missing.
    pub(crate) fn need_mending(&self, info: &Info, wanted: &Wanted) -> bool {
        let mut files = info.files().iter().enumerate();
        !self.is_read_only()
            && files.any(|(i, file)| {
                let regular = file.kind == FileKind::Regular && wanted.wants(i);
                regular
                    && match self.get(i) {
                        Some(found) => found.len > file.len,
                        None => file.len == 0,
                    }
            })
    }

    /// The files that belong to this torrent, for its record. A torrent that has claimed its files to write owns `all` of them.
    pub(crate) fn own(&self, info: &Info, all: bool) -> Vec<Option<FileStat>> {
        let count = info.files().len();
        let own = |i: usize| all || i >= count || self.own.get(i) == Some(&true);
        let files = self.stats.iter().copied().enumerate();
        files.map(|(i, stat)| stat.filter(|_| own(i))).collect()
    }

    // ---- files that others changed ----

    /// The files that are not as this torrent left them, if they are `now` like this. With `whole`, every wanted file has to
    /// exist with its full length; otherwise, the parts that the pieces `have` cover have to exist.
    pub(crate) fn lost(
        &self,
        info: &Info,
        wanted: &Wanted,
        now: &[Option<FileStat>],
        have: &Bitfield,
        whole: bool,
    ) -> Vec<usize> {
        let mut lost = Vec::new();
        for (i, file) in info.files().iter().enumerate() {
            if file.kind != FileKind::Regular || file.len == 0 {
                continue;
            }
            // The bytes of a skipped file may be in the parts file.
            if !wanted.wants(i) && self.get(i).is_none() {
                continue;
            }
            let last = info.pieces_of(i).rev().find(|piece| have.get(*piece));
            let needed = last.map_or(0, |piece| {
                let end = info.piece_offset(piece) + u64::from(info.piece_size(piece));
                end.min(file.offset + file.len) - file.offset
            });
            let right = match now.get(i).copied().flatten() {
                None => needed == 0,
                Some(found) if whole && wanted.wants(i) => found.len == file.len,
                Some(found) => found.len >= needed,
            };
            if !right {
                lost.push(i);
            }
        }
        lost
    }

    /// Forgets files that others changed or removed, so that they are hashed when they are opened again. Returns messages for
    /// the user about them. With `writing`, this torrent has claimed the files to write, and `now` replaces what was known of
    /// the others.
    pub(crate) fn lose(
        &mut self,
        info: &Info,
        now: Vec<Option<FileStat>>,
        lost: &[usize],
        writing: bool,
    ) -> Vec<String> {
        let messages = name_lost(info, &now, lost);
        if writing {
            // Our own writes since the last flush do not make the other files doubtful.
            self.stats = now;
        }
        for &file in lost {
            if let Some(stat) = self.stats.get_mut(file) {
                *stat = None;
            }
        }
        messages
    }
}

/// The pieces that can be checked because their files are long enough.
fn present(info: &Info, wanted: &Wanted, files: &[Option<FileStat>]) -> Bitfield {
    let mut present = Bitfield::full(info.piece_count());
    // The bytes of a skipped file may be in the parts file, which is reported after the files.
    let apart = files.get(info.files().len()).is_some_and(Option::is_some);
    for (i, file) in info.files().iter().enumerate() {
        if file.kind != FileKind::Regular || !wanted.wants(i) && apart {
            continue;
        }
        let found = files.get(i).copied().flatten().map_or(0, |f| f.len);
        if found < file.len {
            let first = ((file.offset + found) / u64::from(info.piece_len())) as u32;
            for piece in first..info.pieces_of(i).end {
                present.clear(piece);
            }
        }
    }
    present
}

/// Messages for the user about files that were changed or removed.
fn name_lost(info: &Info, now: &[Option<FileStat>], lost: &[usize]) -> Vec<String> {
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
        let what = match now.get(i).copied().flatten() {
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
