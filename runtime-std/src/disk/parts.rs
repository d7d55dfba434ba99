//! The parts file: bytes of unwanted files that came along with pieces of wanted ones.
//!
//! `.<info-hash>.parts` lies beside the content and needs no index, since its layout follows
//! from the torrent: the pieces that hold bytes of two files or more, in order, one
//! `piece_len` each, then the whole torrent's byte space (almost always absent: only for
//! blocks that were under way when a file was deselected). It is sparse.
//!
//! A file that exists on the disk never has bytes here; a file gets here only while unwanted
//! and missing. When it becomes wanted it is put together under a temporary name and renamed
//! into place, so a crash leaves the one state or the other.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use dunlin_core::metainfo::{FileKind, Info};

/// The parts file of one torrent.
#[derive(Debug)]
pub(super) struct Parts {
    path: PathBuf,
    /// Pieces with bytes of at least two files, ascending.
    shared: Vec<u32>,
    dirty: AtomicBool,
    /// There was a parts file when the torrent was opened, and no selection was made since: the first to touch the
    /// files takes all of them as wanted.
    unsettled: AtomicBool,
    settling: Mutex<()>,
}

impl Parts {
    pub(super) fn new(info: &Info) -> Self {
        let mut shared = Vec::new();
        let mut last = None;
        let holds_data = |i: &usize| info.files()[*i].kind == FileKind::Regular;
        for file in (0..info.files().len()).filter(holds_data) {
            let pieces = info.pieces_of(file);
            if pieces.is_empty() {
                continue;
            }
            if last == Some(pieces.start) && shared.last() != last.as_ref() {
                shared.push(pieces.start);
            }
            last = Some(pieces.end - 1);
        }
        Self {
            path: format!(".{}.parts", info.info_hash()).into(),
            shared,
            dirty: AtomicBool::new(false),
            unsettled: AtomicBool::new(false),
            settling: Mutex::new(()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The offset in the parts file at which byte `at` of the torrent is kept.
    pub(super) fn offset(&self, info: &Info, at: u64) -> u64 {
        let piece_len = u64::from(info.piece_len());
        let slot = |n: usize| n as u64 * piece_len;
        match self.shared.binary_search(&((at / piece_len) as u32)) {
            Ok(n) => slot(n) + at % piece_len,
            Err(_) => slot(self.shared.len()) + at,
        }
    }

    /// There is a parts file of an earlier opening.
    pub(super) fn inherit(&self) {
        self.unsettled.store(true, Ordering::Release);
    }

    /// Whether there is a parts file of an earlier opening, and no selection was made since.
    pub(super) fn is_unsettled(&self) -> bool {
        self.unsettled.load(Ordering::Acquire)
    }

    /// A selection was made.
    pub(super) fn set_settled(&self) {
        self.unsettled.store(false, Ordering::Release);
    }

    /// Makes the first selection by `select` if none was made since an earlier opening left a parts file; one thread does,
    /// the others wait for it.
    pub(super) fn settle<E>(&self, select: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        if !self.is_unsettled() {
            return Ok(());
        }
        let _one_at_a_time = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        match self.is_unsettled() {
            true => select(),
            false => Ok(()),
        }
    }

    /// Marks it as written to; returns whether it was clean before.
    pub(super) fn soil(&self) -> bool {
        !self.dirty.swap(true, Ordering::AcqRel)
    }

    pub(super) fn clean(&self) {
        self.dirty.store(false, Ordering::Release);
    }
}
