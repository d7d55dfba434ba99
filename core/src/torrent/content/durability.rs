//! Which parts of a torrent's files are on the medium: flushing files and saving the resume record.
//!
//! ```text
//!             unsaved                           flushed                  saved
//!   settled ───────────▶ flush, if files changed ───────▶ save the record ─────▶ settled
//!                                │ failed
//!                                ▼
//!               the torrent fails; its files are opened again, and what was written
//!               since the last successful flush is hashed before it is trusted
//! ```
//!
//! What changes while a flush or a save is in flight belongs to the next record: a record never claims more than the flush
//! before it covered.

use alloc::vec::Vec;

use super::assembly::Assembly;
use super::open::Open;
use super::resume::Record;
use crate::torrent::outbox::ops::{DiskJob, Ops, Purpose};
use crate::{Bitfield, Op, TorrentId};

/// How much of a torrent's files and record has reached the medium.
#[derive(Debug)]
pub(crate) struct Durability {
    /// The pieces that were flushed after they were verified.
    durable: Bitfield,
    written: Written,
    /// A flush failed. A later one that succeeds proves nothing about earlier writes, as systems drop pages that they could not
    /// write. Until the affected pieces are hashed again, none of them becomes durable and none is recorded.
    lost: bool,
    saving: Saving,
    /// Whether something changed since the last record.
    pub(crate) unsaved: bool,
}

/// Whether the written bytes are on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// Files were written to since the last flush was requested.
    Unflushed,
    /// Files were not written to, and it is not known whether everything is on the medium.
    Flushing,
    /// Everything is on the medium, including blocks of partial pieces.
    Synced,
}

/// The steps of saving the next record.
#[derive(Debug, PartialEq, Eq)]
enum Saving {
    Idle,
    /// A save failed: the next attempt waits for its timer.
    Postponed,
    /// A flush is in flight; the pieces that were verified when it was requested. `None` if the flush leaves the bytes in the
    /// page cache.
    Flushing(Option<Bitfield>),
    /// The record is being saved.
    Record,
}

impl Durability {
    /// The state in which nothing is known to be on the medium.
    pub(crate) fn new() -> Self {
        Self {
            durable: Bitfield::new(0),
            written: Written::Flushing,
            lost: false,
            saving: Saving::Idle,
            unsaved: false,
        }
    }

    /// The files were opened, and these pieces are known to have been flushed.
    pub(crate) fn opened(&mut self, durable: Bitfield) {
        if self.saving == Saving::Postponed {
            self.saving = Saving::Idle;
        }
        (self.durable, self.written, self.lost) = (durable, Written::Flushing, false);
    }

    /// Files were written to.
    pub(crate) const fn files_changed(&mut self) {
        self.written = Written::Unflushed;
    }

    /// The files hold `pieces` verified pieces. If some of them were never flushed, a flush is due, even if an earlier process wrote them.
    pub(crate) fn holds(&mut self, pieces: u32) {
        if pieces > self.durable.count() {
            self.written = Written::Unflushed;
        }
    }

    /// Whether files were written to since the last flush was requested.
    pub(crate) fn is_unflushed(&self) -> bool {
        self.written == Written::Unflushed
    }

    /// Whether everything is on the medium.
    fn is_synced(&self) -> bool {
        self.written == Written::Synced
    }

    /// Whether a flush failed and the written bytes have not been hashed again.
    pub(crate) const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether a save may begin now.
    fn is_free(&self) -> bool {
        self.saving == Saving::Idle && !self.lost
    }

    /// Whether something is to be saved, and the save may begin now.
    pub(crate) fn is_due(&self) -> bool {
        self.unsaved && self.is_free()
    }

    /// The pieces that become durable if the flush in flight succeeds.
    pub(crate) const fn flushing(&self) -> Option<&Bitfield> {
        match &self.saving {
            Saving::Flushing(have) => have.as_ref(),
            _ => None,
        }
    }

    /// Flushes the files. `have` are the verified pieces, which are durable once it succeeds. Without them, the flush does not
    /// wait for the medium, see [`Op::Flush`].
    pub(crate) fn flush(&mut self, ops: &mut Ops, torrent: TorrentId, have: Option<Bitfield>) {
        let durable = have.is_some();
        self.saving = Saving::Flushing(have);
        self.written = Written::Flushing;
        ops.job(Purpose::Disk(torrent, DiskJob::Flush), |op| Op::Flush {
            op,
            torrent,
            durable,
        });
    }

    /// A flush succeeded. `have` are the pieces that are verified now.
    pub(crate) fn flushed(&mut self, have: Option<&Bitfield>) {
        let Some(mut durable) = self.end_flush().filter(|_| !self.lost) else {
            return;
        };
        // A piece may have been withdrawn since then.
        let gone = |piece: &u32| have.is_none_or(|have| !have.get(*piece));
        let withdrawn: Vec<u32> = durable.iter().filter(gone).collect();
        for piece in withdrawn {
            durable.clear(piece);
        }
        self.durable = durable;
        if self.written == Written::Flushing {
            self.written = Written::Synced;
        }
    }

    pub(crate) fn flush_failed(&mut self) {
        self.lost |= self.end_flush().is_some();
        self.files_changed();
    }

    /// A flush succeeded, but the files are not the ones that were flushed.
    pub(crate) fn flush_in_vain(&mut self) {
        self.end_flush();
        self.files_changed();
    }

    fn end_flush(&mut self) -> Option<Bitfield> {
        match core::mem::replace(&mut self.saving, Saving::Idle) {
            Saving::Flushing(have) => have,
            other => {
                self.saving = other;
                None
            }
        }
    }

    /// Saves a record. `open` says whether it describes files that are open.
    pub(crate) fn save(&mut self, ops: &mut Ops, torrent: TorrentId, record: &Record, open: bool) {
        self.saving = Saving::Record;
        // Unflushed pieces have to be saved again after their flush.
        self.unsaved = self.is_unflushed() && open;
        let record = record.encode();
        ops.job(Purpose::Disk(torrent, DiskJob::Save), |op| Op::Save {
            op,
            torrent,
            record,
        });
    }

    /// Enters into a record which pieces of the open files are verified, and which of them are on the medium. `at_rest` says
    /// that nothing will be written after it.
    pub(crate) fn describe(&self, open: &Open, at_rest: bool, record: &mut Record) {
        let idle = |a: &Assembly| !a.has_waiting() && !a.is_busy();
        // Nothing was written since the files were last examined.
        let flushed = !self.is_unflushed() && !self.lost;
        record.clean = at_rest && flushed && open.assemblies.values().all(idle);
        record.synced = self.is_synced();
        record.durable = self.durable.as_wire().to_vec();
        record.have = match self.lost {
            false => open.picker.have().as_wire().to_vec(),
            true => record.durable.clone(),
        };
        let partial = open.assemblies.iter();
        record.partial = partial
            .filter(|(_, a)| a.written().count() > 0)
            .map(|(piece, a)| (*piece, a.written().as_wire().to_vec()))
            .collect();
    }

    /// Handles the outcome of saving the record.
    pub(crate) fn saved(&mut self, failed: bool) {
        self.saving = match failed {
            true => Saving::Postponed,
            false => Saving::Idle,
        };
    }

    /// A failed save may be retried.
    pub(crate) fn retry(&mut self) {
        if self.saving == Saving::Postponed {
            self.saving = Saving::Idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Builder;
    use crate::torrent::content::open::Access;
    use crate::torrent::picker::Picker;
    use crate::{Config, InfoHash};

    const ID: TorrentId = TorrentId(1);

    fn some(pieces: &[u32]) -> Bitfield {
        let mut some = Bitfield::new(8);
        for piece in pieces {
            some.set(*piece);
        }
        some
    }

    #[test]
    fn what_is_written_during_a_flush_waits_for_the_next() {
        let (mut files, mut ops) = (Durability::new(), Ops::new(&Config::default()));
        files.files_changed();
        files.flush(&mut ops, ID, Some(some(&[1])));
        assert!(!files.is_unflushed() && !files.is_free());
        files.files_changed();
        files.flushed(Some(&some(&[1, 2])));
        assert!(files.is_unflushed() && !files.is_synced());
        assert_eq!(&files.durable, &some(&[1]));
        files.flush(&mut ops, ID, Some(some(&[1, 2])));
        // The first piece is not trusted any more.
        files.flushed(Some(&some(&[2])));
        assert!(files.is_synced());
        assert_eq!(&files.durable, &some(&[2]));
    }

    #[test]
    fn after_a_failed_flush_nothing_becomes_durable_before_the_files_are_opened_anew() {
        let (mut files, mut ops) = (Durability::new(), Ops::new(&Config::default()));
        files.flush(&mut ops, ID, Some(some(&[1])));
        files.flush_failed();
        assert!(files.is_lost() && files.is_unflushed() && !files.is_free());
        files.flush(&mut ops, ID, Some(some(&[1])));
        files.flushed(Some(&some(&[1])));
        assert_eq!(files.durable.count(), 0);
        files.opened(some(&[3]));
        assert!(!files.is_lost() && files.is_free() && !files.is_synced());
        assert_eq!(&files.durable, &some(&[3]));
    }

    #[test]
    fn a_flush_that_leaves_the_bytes_in_memory_proves_and_loses_nothing() {
        let (mut files, mut ops) = (Durability::new(), Ops::new(&Config::default()));
        files.files_changed();
        files.flush(&mut ops, ID, None);
        files.flushed(Some(&some(&[1])));
        assert!(!files.is_synced() && files.durable.count() == 0);
        files.flush(&mut ops, ID, None);
        files.flush_failed();
        assert!(!files.is_lost() && files.is_unflushed());
    }

    #[test]
    fn a_save_that_failed_waits_until_it_is_due() {
        let (mut files, mut ops) = (Durability::new(), Ops::new(&Config::default()));
        files.save(&mut ops, ID, &Record::unchecked(InfoHash([1; 20])), true);
        files.saved(true);
        assert!(!files.is_free());
        files.retry();
        assert!(files.is_free());
    }
    #[test]
    fn a_record_never_claims_more_than_the_medium_holds_after_a_failed_flush() {
        let mut builder = Builder::file("eight", 8 << 14);
        builder.piece_len = Some(1 << 14);
        let info = builder.draft().unwrap().finish(&[[1; 20]; 8]).unwrap().info;
        let open = Open::new(Picker::new(&info, some(&[1, 2])), Access::Write);
        let (mut files, mut ops) = (Durability::new(), Ops::new(&Config::default()));
        let describe = |files: &Durability, at_rest| {
            let mut record = Record::unchecked(InfoHash([1; 20]));
            files.describe(&open, at_rest, &mut record);
            let listed = |bytes: &[u8]| Bitfield::from_wire(bytes, 8).unwrap();
            let (have, durable) = (listed(&record.have), listed(&record.durable));
            (have, durable, record.clean, record.synced)
        };
        files.opened(some(&[1]));
        let both = some(&[1, 2]);
        let one = some(&[1]);
        let described = describe(&files, true);
        assert_eq!(described, (both.clone(), one.clone(), true, false));
        assert!(!describe(&files, false).2, "more will be written");
        files.files_changed();
        assert!(!describe(&files, true).2, "the files were written to");
        files.flush(&mut ops, ID, Some(both.clone()));
        let mut lost = Durability::new();
        lost.opened(some(&[1]));
        lost.flush(&mut ops, ID, Some(both.clone()));
        lost.flush_failed();
        assert_eq!(describe(&lost, true), (one.clone(), one, false, false));
        files.flushed(Some(&both));
        let described = describe(&files, true);
        assert_eq!(described, (both.clone(), both, true, true));
    }
}
