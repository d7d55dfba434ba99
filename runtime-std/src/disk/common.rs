//! What the jobs of all torrents share.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize},
};

use super::{claims::Claims, handles::Handles, systems};

/// The most notes kept for [`super::Disk::take_notes`]; a hostile torrent could cause millions.
const MAX_NOTES: usize = 64;

/// What the jobs of all torrents share.
pub(super) struct Common {
    pub(super) handles: Handles,
    claims: Mutex<Claims>,
    pub(super) notes: Mutex<Vec<String>>,
    /// The platform cannot tell whether a read would wait for the device, so [`super::Disk::read_cached`]
    /// is not tried.
    pub(super) no_cached_reads: AtomicBool,
    /// A flush covers a whole file system if it holds at least this many of the files; tests set a smaller
    /// number.
    pub(super) many: AtomicUsize,
    #[cfg(test)]
    pub(super) faults: super::tests::Faults,
}

impl Common {
    pub(super) fn new(open_files: usize) -> Self {
        Self {
            handles: Handles::new(open_files),
            claims: Mutex::default(),
            notes: Mutex::default(),
            no_cached_reads: AtomicBool::new(false),
            many: AtomicUsize::new(systems::MANY),
            #[cfg(test)]
            faults: super::tests::Faults::default(),
        }
    }

    pub(super) fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, note: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < MAX_NOTES {
            notes.push(note);
        }
    }
}
