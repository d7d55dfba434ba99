//! What was written to one torrent's files, and what the next flush has to make durable.

use std::{collections::BTreeSet, path::PathBuf};

use dunlin_core::{Bitfield, op::FileStat};

use super::handles::PARTS;

/// What a flush has to see to.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Files with [`flag::DIRTY`](super::files::flag::DIRTY); [`PARTS`] is the parts file.
    pub(super) dirty: Vec<u32>,
    /// Files that were there at the opening, until the first flush: an earlier process, or an
    /// earlier opening by this one, may have written to them and not flushed.
    pub(super) inherited: Vec<u32>,
    /// Folders that got new names.
    pub(super) folders: BTreeSet<PathBuf>,
    /// As of the opening or the last flush.
    pub(super) stats: Vec<Option<FileStat>>,
    /// The same of the parts file.
    pub(super) parts: Option<FileStat>,
    /// Pieces written to since the last flush that succeeded.
    pub(super) touched: Bitfield,
    /// A flush failed: the system may have forgotten what was written to those pieces.
    pub(super) suspect: bool,
    /// The files that are this torrent's: made by it, or taken over by a claim.
    pub(super) owned: Vec<Option<Owned>>,
    /// The files are claimed for writing.
    pub(super) writing: bool,
    /// Empty files were made.
    pub(super) empty_made: bool,
    /// Links were made.
    pub(super) links_made: bool,
}

impl Ledger {
    pub(super) fn new(pieces: u32) -> Self {
        Self {
            dirty: Vec::new(),
            inherited: Vec::new(),
            folders: BTreeSet::new(),
            stats: Vec::new(),
            owned: Vec::new(),
            writing: false,
            parts: None,
            touched: Bitfield::new(pieces),
            suspect: false,
            empty_made: false,
            links_made: false,
        }
    }

    /// What an outcome says of the files.
    pub(super) fn report(&self) -> Vec<Option<FileStat>> {
        let parts = self.parts.map(Some);
        self.stats.iter().copied().chain(parts).collect()
    }

    /// Notes how a file is now; [`PARTS`] is the parts file.
    pub(super) fn note(&mut self, file: u32, stat: Option<FileStat>) {
        if file == PARTS {
            self.parts = stat;
        } else if let Some(known) = self.stats.get_mut(file as usize) {
            *known = stat;
        }
    }

    /// A flush begins: returns the pieces that are durable if it succeeds.
    pub(super) fn begin_flush(&mut self) -> Bitfield {
        let none = Bitfield::new(self.touched.len());
        std::mem::replace(&mut self.touched, none)
    }

    /// A flush failed for these pieces.
    pub(super) fn flush_failed(&mut self, touched: &Bitfield) {
        touched.iter().for_each(|piece| {
            self.touched.set(piece);
        });
        self.suspect = true;
    }
}

/// A file that is this torrent's, by its number as far as there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owned(pub(super) Option<u64>);

impl Owned {
    /// Whether `found` may be this file.
    pub(super) fn is(self, found: &FileStat) -> bool {
        self.0.is_none() || found.id.is_none() || self.0 == found.id
    }
}
