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

/// The resources that the disk may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// The number of threads, at least 1: the most system calls that wait for the device at once.
    pub threads: usize,
    /// The most files kept open; lowered to a quarter of what the process may have open.
    pub open_files: usize,
}

/// Default of [`DiskConfig::open_files`]: below a quarter of the usual limit of 1024, so that enough is
/// left for sockets.
const OPEN_FILES: usize = 256;

impl Default for DiskConfig {
    /// As many threads as processors, from 2 to 4: hashing keeps them busy, and with two, one can wait for
    /// the device while the other works.
    fn default() -> Self {
        Self {
            threads: thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4)),
            open_files: OPEN_FILES,
        }
    }
}

/// When disk space is reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// As blocks are written.
    #[default]
    Sparse,
    /// The whole file, when its first byte is written.
    Full,
}

/// Where and how the files of a torrent are kept.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// The folder for the torrent's file or folder.
    pub dir: PathBuf,
    /// When disk space is reserved.
    pub allocation: Allocation,
    /// The rules that file names follow.
    pub names: Names,
    /// The name of the torrent's own folder or only file, in place of the one that the torrent suggests.
    pub root: Option<String>,
    /// Files with other paths below `dir`: file index to relative path.
    pub renames: BTreeMap<usize, PathBuf>,
}

impl Placement {
    /// The paths of all files of a torrent, relative to `dir`. A rename that would give two files one path,
    /// or put a file where a folder has to be, is ignored.
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

/// The disk threads. Dropping this finishes what was submitted.
#[derive(Debug)]
pub struct Disk {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Disk {
    /// Starts the threads. They call `notify` when an outcome is ready and none was before; it must not
    /// block.
    ///
    /// # Errors
    /// A thread could not be started.
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

    /// Sets where the files of a torrent are kept. Called before its `Op::Open` is submitted.
    pub fn place(&self, torrent: TorrentId, placement: Placement) {
        self.shared.place(torrent, placement);
    }

    /// Takes an op for the disk, or a cancel, which may concern others as well; returns any other op. Never
    /// blocks. Outcomes are fetched with [`Disk::drain`], also after a cancel.
    #[must_use = "an op that is not for the disk comes back"]
    pub fn submit(&self, op: Op) -> Option<Op> {
        match op {
            Op::Open { .. }
            | Op::Read(_)
            | Op::Write(_)
            | Op::Hash(_)
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

    /// Carries out an `Op::Read` at once if its bytes are in the page cache, which saves waking a thread
    /// and keeps the bytes in the cache of this core. Never waits for the device. Any op that cannot be
    /// carried out at once is returned, for [`Disk::submit`].
    ///
    /// # Errors
    /// The op, unchanged except for the content of its blocks.
    pub fn read_cached(&self, op: Op) -> Result<(OpId, Outcome), Op> {
        match op {
            Op::Read(_) => self.shared.read_cached(op),
            other => Err(other),
        }
    }

    /// Ignores file numbers from now on, as on FAT: a copy of a file then counts as the same file.
    #[cfg(test)]
    pub(crate) fn without_ids(&self) {
        let no_ids = &self.shared.common.faults.no_ids;
        no_ids.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Sets from how many files on a whole file system is flushed.
    #[cfg(test)]
    pub(crate) fn many_are(&self, files: usize) {
        let many = &self.shared.common.many;
        many.store(files, std::sync::atomic::Ordering::Relaxed);
    }

    /// Runs a task that blocks for a short while, such as saving a record; its result is the outcome of
    /// `op`.
    pub fn run(&self, op: OpId, task: impl FnOnce() -> Outcome + Send + 'static) {
        self.shared.submit(Work::Task(op, Some(Box::new(task))));
    }

    /// Moves the finished outcomes to the end of `out`.
    pub fn drain(&self, out: &mut Vec<(OpId, Outcome)>) {
        out.append(&mut self.shared.lock().done);
    }

    /// Takes messages for people that belong to no outcome, such as about a link that was left out.
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

    /// The number of open files.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.shared.common.handles.len()
    }

    /// Finishes writes and flushes, answers everything else with
    /// [`OpErrorKind::Cancelled`](dunlin_core::OpErrorKind::Cancelled), and waits for the threads. Returns
    /// the outcomes that were not drained.
    #[must_use]
    pub fn shutdown(mut self) -> Vec<(OpId, Outcome)> {
        self.stop();
        std::mem::take(&mut self.shared.lock().done)
    }

    fn stop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // A panic of a job is caught in the job, so nothing is lost here.
            let _ = thread.join();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.stop();
    }
}
