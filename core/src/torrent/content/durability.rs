//! Which parts of a torrent's files are on the medium.

use alloc::vec::Vec;

use crate::Bitfield;

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

    /// The files hold `pieces` verified pieces. If some of them were never flushed, a flush is due, whoever wrote them.
    pub(crate) fn holds(&mut self, pieces: u32) {
        if pieces > self.durable.count() {
            self.written = Written::Unflushed;
        }
    }

    /// The pieces that were flushed after they were verified.
    pub(crate) const fn durable(&self) -> &Bitfield {
        &self.durable
    }

    /// Whether files were written to since the last flush was requested.
    pub(crate) fn is_unflushed(&self) -> bool {
        self.written == Written::Unflushed
    }

    /// Whether everything is on the medium.
    pub(crate) fn is_synced(&self) -> bool {
        self.written == Written::Synced
    }

    /// Whether a flush failed and the written bytes have not been hashed again.
    pub(crate) const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether a save may begin now.
    pub(crate) fn is_free(&self) -> bool {
        self.saving == Saving::Idle && !self.lost
    }

    /// The pieces that become durable if the flush in flight succeeds.
    pub(crate) const fn flushing(&self) -> Option<&Bitfield> {
        match &self.saving {
            Saving::Flushing(have) => have.as_ref(),
            _ => None,
        }
    }

    pub(crate) fn begin_flush(&mut self, have: Option<Bitfield>) {
        self.saving = Saving::Flushing(have);
        self.written = Written::Flushing;
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

    /// The record is passed to the driver.
    pub(crate) fn begin_save(&mut self) {
        self.saving = Saving::Record;
    }

    /// Handles the outcome of saving the record.
    pub(crate) fn saved(&mut self, failed: bool) {
        self.saving = match failed {
            true => Saving::Postponed,
            false => Saving::Idle,
        };
    }

    /// A failed save may be retried.
    pub(crate) fn is_due(&mut self) {
        if self.saving == Saving::Postponed {
            self.saving = Saving::Idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(pieces: &[u32]) -> Bitfield {
        let mut some = Bitfield::new(8);
        for piece in pieces {
            some.set(*piece);
        }
        some
    }

    #[test]
    fn what_is_written_during_a_flush_waits_for_the_next() {
        let mut files = Durability::new();
        files.files_changed();
        files.begin_flush(Some(some(&[1])));
        assert!(!files.is_unflushed() && !files.is_free());
        files.files_changed();
        files.flushed(Some(&some(&[1, 2])));
        assert!(files.is_unflushed() && !files.is_synced());
        assert_eq!(files.durable(), &some(&[1]));
        files.begin_flush(Some(some(&[1, 2])));
        // The first piece is not trusted any more.
        files.flushed(Some(&some(&[2])));
        assert!(files.is_synced());
        assert_eq!(files.durable(), &some(&[2]));
    }

    #[test]
    fn after_a_failed_flush_nothing_becomes_durable_before_the_files_are_opened_anew() {
        let mut files = Durability::new();
        files.begin_flush(Some(some(&[1])));
        files.flush_failed();
        assert!(files.is_lost() && files.is_unflushed() && !files.is_free());
        files.begin_flush(Some(some(&[1])));
        files.flushed(Some(&some(&[1])));
        assert_eq!(files.durable().count(), 0);
        files.opened(some(&[3]));
        assert!(!files.is_lost() && files.is_free() && !files.is_synced());
        assert_eq!(files.durable(), &some(&[3]));
    }

    #[test]
    fn a_flush_that_leaves_the_bytes_in_memory_proves_and_loses_nothing() {
        let mut files = Durability::new();
        files.files_changed();
        files.begin_flush(None);
        files.flushed(Some(&some(&[1])));
        assert!(!files.is_synced() && files.durable().count() == 0);
        files.begin_flush(None);
        files.flush_failed();
        assert!(!files.is_lost() && files.is_unflushed());
    }

    #[test]
    fn a_save_that_failed_waits_until_it_is_due() {
        let mut files = Durability::new();
        files.begin_save();
        files.saved(true);
        assert!(!files.is_free());
        files.is_due();
        assert!(files.is_free());
    }
}
