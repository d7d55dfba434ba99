//! What was written to the files of one torrent, and what the next flush has to make durable.

use std::{collections::BTreeSet, path::PathBuf};

use dunlin_core::{Bitfield, op::FileStat};

use super::handles::PARTS;

/// The state that flushes work with.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Files with [`flag::DIRTY`](super::files::flag::DIRTY); [`PARTS`] is the parts file.
    pub(super) dirty: Vec<u32>,
    /// Files that existed when the torrent was opened, until the first flush: an earlier process, or an
    /// earlier opening by this one, may have written to them without a flush.
    pub(super) inherited: Vec<u32>,
    /// Folders in which names were created.
    pub(super) folders: BTreeSet<PathBuf>,
    /// The state of each file at the opening or the last flush.
    pub(super) stats: Vec<Option<FileStat>>,
    /// The state of the parts file.
    pub(super) parts: Option<FileStat>,
    /// Pieces written to since the last flush that succeeded.
    pub(super) touched: Bitfield,
    /// A flush failed, so the system may have lost what was written to those pieces.
    pub(super) suspect: bool,
    /// The files that belong to this torrent: created by it, or taken over by a claim.
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

    /// The states of all files, in the form that outcomes have.
    pub(super) fn report(&self) -> Vec<Option<FileStat>> {
        let parts = self.parts.map(Some);
        self.stats.iter().copied().chain(parts).collect()
    }

    /// Records the state of a file; [`PARTS`] is the parts file.
    pub(super) fn note(&mut self, file: u32, stat: Option<FileStat>) {
        if file == PARTS {
            self.parts = stat;
        } else if let Some(known) = self.stats.get_mut(file as usize) {
            *known = stat;
        }
    }

    /// Begins a flush. Returns the pieces that are durable if it succeeds.
    pub(super) fn begin_flush(&mut self) -> Bitfield {
        let none = Bitfield::new(self.touched.len());
        std::mem::replace(&mut self.touched, none)
    }

    /// Puts the pieces of a failed flush back.
    pub(super) fn flush_failed(&mut self, touched: &Bitfield) {
        touched.iter().for_each(|piece| {
            self.touched.set(piece);
        });
        self.suspect = true;
    }
}

/// A file that belongs to this torrent, with its number where the file system has numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owned(pub(super) Option<u64>);

impl Owned {
    /// Whether `found` can be this file.
    pub(super) fn is(self, found: &FileStat) -> bool {
        self.0.is_none() || found.id.is_none() || self.0 == found.id
    }
}
