//! Flushes many files with one call for each file system instead of one call for each file.
//!
//! A flush of one file waits for the device, so tens of thousands of small files take minutes. A flush of
//! the whole file system waits once, but also for what other programs wrote; so it is used for many files
//! only.
//!
//! A write may fail long after it was made. The system reports that once to each descriptor that was open
//! at the time, at its next flush. So a file system is opened before the first write to one of its files,
//! and stays open until everything written to them is durable.
//!
//! Where flushing the file system guarantees less than flushing each file, files are flushed one by one:
//! see [`Root::file_system`](crate::platform::Root::file_system).

use std::{
    fs::File,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use crate::platform::{self, FileSystem};

/// With fewer files than this, each is flushed by itself.
pub(super) const MANY: usize = 64;
/// The most file systems tracked for one torrent; files on others are flushed one by one.
const MAX_SYSTEMS: usize = 4;

/// The file system of this file has not been looked up.
const UNKNOWN: u8 = 0;
/// The file system of this file is not flushed as a whole.
const NONE: u8 = u8::MAX;

/// The file systems that one torrent writes to.
#[derive(Debug)]
pub(super) struct Systems {
    /// For each file the index of its file system in `open`, counted from 1; empty for torrents with few
    /// files.
    of: Vec<AtomicU8>,
    open: Mutex<Vec<Arc<FileSystem>>>,
}

/// The files that are flushed with one file system.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) system: Arc<FileSystem>,
    pub(super) files: Vec<u32>,
}

impl Systems {
    /// For a torrent of this many files.
    pub(super) fn new(files: usize, many: usize) -> Self {
        let files = if files < many { 0 } else { files };
        Self {
            of: (0..files).map(|_| AtomicU8::new(UNKNOWN)).collect(),
            open: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<FileSystem>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called before a write to `file`, open as `at`: its file system, which `system` opens by its folder.
    /// The result is kept until the file is marked as written to.
    pub(super) fn hold(
        &self,
        file: u32,
        at: &File,
        system: impl FnOnce() -> io::Result<Option<FileSystem>>,
    ) -> Option<Arc<FileSystem>> {
        let of = self.of.get(file as usize)?;
        let mut open = self.lock();
        match of.load(Ordering::Acquire) {
            UNKNOWN => {}
            known => return open.get(usize::from(known) - 1).cloned(),
        }
        let number = find(&mut open, at, system);
        let known = number.map_or(NONE, |n| n as u8 + 1);
        of.store(known, Ordering::Release);
        number.map(|n| Arc::clone(&open[n]))
    }

    /// Splits `files` into the file systems that hold at least `many` of them, and the rest.
    pub(super) fn group(&self, files: &[u32], many: usize) -> (Vec<Group>, Vec<u32>) {
        let open = self.lock();
        let group = |system: &Arc<FileSystem>| Group {
            system: Arc::clone(system),
            files: Vec::new(),
        };
        let mut groups: Vec<_> = open.iter().map(group).collect();
        let mut rest = Vec::new();
        for &file in files {
            let of = self.of.get(file as usize);
            let of = of.map_or(UNKNOWN, |of| of.load(Ordering::Acquire));
            match groups.get_mut(usize::from(of).wrapping_sub(1)) {
                Some(group) => group.files.push(file),
                None => rest.push(file),
            }
        }
        let few = groups.extract_if(.., |group| group.files.len() < many);
        rest.extend(few.flat_map(|group| group.files));
        (groups, rest)
    }

    /// Called after a flush: closes the file systems unless somebody writes or something is left to be
    /// flushed.
    pub(super) fn close(&self, is_clean: impl FnOnce() -> bool) {
        let mut open = self.lock();
        // A writer holds a reference until it has marked the file, and from then on the file is not clean.
        let unused = open.iter().all(|system| Arc::strong_count(system) == 1);
        if !open.is_empty() && unused && is_clean() {
            self.of
                .iter()
                .for_each(|of| of.store(UNKNOWN, Ordering::Release));
            open.clear();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}

/// The index of the file system of `at` in `open`; `system` opens it if necessary.
fn find(
    open: &mut Vec<Arc<FileSystem>>,
    at: &File,
    system: impl FnOnce() -> io::Result<Option<FileSystem>>,
) -> Option<usize> {
    let device = platform::device(&at.metadata().ok()?)?;
    let known = open.iter().position(|system| system.device() == device);
    if known.is_some() || open.len() >= MAX_SYSTEMS {
        return known;
    }
    // The file itself may be a mount point.
    let system = system().ok()?.filter(|found| found.device() == device)?;
    open.push(Arc::new(system));
    Some(open.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Root;

    #[test]
    fn a_file_system_stays_open_while_somebody_writes_or_something_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("f")).unwrap();
        let system = || Root::open(dir.path())?.file_system("".as_ref());
        if system().unwrap().is_none() {
            return; // this one is not flushed as a whole
        }
        let systems = Systems::new(MANY, MANY);
        let held = systems.hold(0, &file, system);
        assert!(held.is_some());
        systems.close(|| true);
        assert_eq!(systems.len(), 1);
        drop(held);
        systems.close(|| false);
        assert_eq!(systems.len(), 1);
        systems.close(|| true);
        assert_eq!(systems.len(), 0);
        // A file does not keep the index of a file system that was closed.
        assert_eq!(systems.group(&[0], 1).1, [0]);
    }

    #[test]
    fn few_files_open_no_file_system() {
        let file = tempfile::tempfile().unwrap();
        let systems = Systems::new(MANY - 1, MANY);
        let held = systems.hold(0, &file, || panic!("it is opened"));
        assert!(held.is_none());
    }

    #[test]
    fn a_file_on_another_file_system_than_its_folder_is_in_no_group() {
        let file = tempfile::tempfile().unwrap();
        let systems = Systems::new(MANY, MANY);
        for _ in 0..2 {
            let proc = || Root::open("/proc".as_ref())?.file_system("".as_ref());
            assert!(systems.hold(0, &file, proc).is_none());
        }
        assert_eq!(systems.group(&[0], 1).1, [0]);
    }
}
