//! The disk: a few threads that answer the disk ops of the engine.
//!
//! ```text
//!  submit ──▶ lane of its torrent ──▶ ready ──▶ a thread ──▶ done ──▶ drain
//!                  (waits behind Open, Select, Release;
//!                   Flush and those three wait for all before them)
//! ```
//!
//! Reads, writes and hashes of a torrent run side by side in no order: the engine never has
//! two ops out for the same range. One short lock guards the queues; none is held during I/O.
//!
//! A file is written as one run of blocks by one vectored call, and hashed in the same job,
//! while its bytes are in the processor's cache. Files are made when their first byte is
//! written, with the folders they need. Pieces that an unwanted file shares with a wanted one
//! are kept in a parts file instead (see `parts` and `selection`).

mod access;
mod claiming;
mod claims;
mod common;
mod errors;
mod extras;
mod files;
mod flush;
mod handles;
mod jobs;
mod ledger;
mod parts;
mod queue;
mod selection;
mod systems;
mod transfer;
mod work;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, PoisonError},
    thread::{self, JoinHandle},
};

use dunlin_core::{Op, OpId, Outcome, TorrentId, metainfo::Info};

use crate::{
    paths::{self, Names},
    platform,
};
pub(crate) use errors::error as io_error;
use queue::Shared;
pub(crate) use transfer::{read_exact, write_all};
use work::Work;

/// How much of the machine the disk may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// Threads, at least 1. They bound how many system calls wait for the device at once.
    pub threads: usize,
    /// Files kept open at most; lowered to a quarter of what the process may have open.
    pub open_files: usize,
}

/// Default of [`DiskConfig::open_files`]: below a quarter of the usual limit of 1024, so that
/// sockets have room.
const OPEN_FILES: usize = 256;

impl Default for DiskConfig {
    /// As many threads as processors, from 2 to 4: hashing is what keeps them busy, and two
    /// let one wait for the device while the other works.
    fn default() -> Self {
        Self {
            threads: thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4)),
            open_files: OPEN_FILES,
        }
    }
}

/// When files take up their space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// As they are written.
    #[default]
    Sparse,
    /// All of it when the first byte of a file is written.
    Full,
}

/// Where and how a torrent is kept.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// The folder that the torrent's file or folder goes into.
    pub dir: PathBuf,
    /// When files take up their space.
    pub allocation: Allocation,
    /// Whose rules file names keep.
    pub names: Names,
    /// Name of the torrent's own folder or only file, in place of the torrent's suggestion.
    pub root: Option<String>,
    /// Files that go elsewhere below `dir`: file index to relative path.
    pub renames: BTreeMap<usize, PathBuf>,
}

impl Placement {
    /// Paths of the files of a torrent, below `dir`. A rename that would put two files in one
    /// place, or a file in place of a folder, is not followed.
    #[must_use]
    pub fn paths(&self, info: &Info) -> Vec<PathBuf> {
        let mut paths = paths::layout(info, self.root.as_deref(), self.names);
        for (&index, to) in &self.renames {
            let parts: Vec<_> = to.iter().map(|p| p.to_string_lossy()).collect();
            let safe = paths::safe_paths([parts.as_slice()], self.names);
            let (Some(to), true) = (safe.into_iter().next(), index < paths.len()) else {
                continue;
            };
            let others = paths.iter().enumerate().filter(|(i, _)| *i != index);
            if !others.into_iter().any(|(_, p)| self.names.clash(p, &to)) {
                paths[index] = to;
            }
        }
        paths
    }
}

/// The disk threads. Dropping it finishes what was submitted.
#[derive(Debug)]
pub struct Disk {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Disk {
    /// Starts the threads. `notify` is called from them when outcomes wait where none waited
    /// before; it must not block.
    pub fn new(config: DiskConfig, notify: Arc<dyn Fn() + Send + Sync>) -> io::Result<Self> {
        let limit = platform::open_file_limit()
            .map_or(usize::MAX, |n| usize::try_from(n / 4).unwrap_or(usize::MAX));
        let shared = Arc::new(Shared::new(config.open_files.min(limit), notify));
        let mut disk = Self {
            shared,
            threads: Vec::new(),
        };
        for _ in 0..config.threads.max(1) {
            let shared = Arc::clone(&disk.shared);
            let thread = thread::Builder::new().name("disk".into());
            disk.threads.push(thread.spawn(move || shared.work())?);
        }
        Ok(disk)
    }

    /// Says where a torrent goes. To be called before its `Op::Open` is submitted.
    pub fn place(&self, torrent: TorrentId, placement: Placement) {
        self.shared.place(torrent, placement);
    }

    /// Takes a disk op (or a cancel, which still belongs to others too); gives back an op that
    /// is none. Never blocks. The outcome comes out of [`Disk::drain`], also after a cancel.
    #[must_use = "an op that is not for the disk comes back"]
    pub fn submit(&self, op: Op) -> Option<Op> {
        match op {
            Op::Open { .. }
            | Op::Read { .. }
            | Op::Write { .. }
            | Op::Hash { .. }
            | Op::Claim { .. }
            | Op::Confirm { .. }
            | Op::Flush { .. }
            | Op::Select { .. }
            | Op::Release { .. } => {
                self.shared.submit(Work::Op(op));
                None
            }
            Op::Cancel { op: id } => {
                self.shared.cancel(id);
                Some(op)
            }
            other => Some(other),
        }
    }

    /// Does an `Op::Read` on the spot if its bytes are in memory already, so that no thread has
    /// to be woken and the bytes stay in this core's cache; never waits for the device. Any op
    /// it cannot do at once comes back, for [`Disk::submit`].
    ///
    /// # Errors
    /// The op, untouched but for the content of its blocks.
    pub fn read_cached(&self, op: Op) -> Result<(OpId, Outcome), Op> {
        match op {
            Op::Read { .. } => self.shared.read_cached(op),
            other => Err(other),
        }
    }

    /// Files have no numbers from now on, as on FAT: what a test copies elsewhere is the same.
    #[cfg(test)]
    pub(crate) fn without_ids(&self) {
        let no_ids = &self.shared.common.faults.no_ids;
        no_ids.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// So many files are flushed with their file system.
    #[cfg(test)]
    pub(crate) fn many_are(&self, files: usize) {
        let many = &self.shared.common.many;
        many.store(files, std::sync::atomic::Ordering::Relaxed);
    }

    /// Runs something that blocks for a short while, such as saving a record, as `op`.
    pub fn run(&self, op: OpId, task: impl FnOnce() -> Outcome + Send + 'static) {
        self.shared.submit(Work::Task(op, Some(Box::new(task))));
    }

    /// Moves the outcomes that wait into `out`.
    pub fn drain(&self, out: &mut Vec<(OpId, Outcome)>) {
        out.append(&mut self.shared.lock().done);
    }

    /// What a person should know and no outcome says, such as a link that was left out.
    #[must_use]
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(
            &mut *self
                .shared
                .common
                .notes
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Files open now.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.shared.common.handles.len()
    }

    /// Finishes writes and flushes, answers everything else as cancelled, and waits for the
    /// threads. Returns the outcomes that were not drained.
    #[must_use]
    pub fn shutdown(mut self) -> Vec<(OpId, Outcome)> {
        self.stop();
        std::mem::take(&mut self.shared.lock().done)
    }

    fn stop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // A job's panic is caught where it happens; nothing is lost with the handle.
            let _ = thread.join();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.stop();
    }
}
