//! Open files: opened when first needed, the one unused for longest closed when there are too
//! many. A handle in use stays valid after it was pushed out of here.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use dunlin_core::TorrentId;

/// Number of a file in its torrent.
type Key = (TorrentId, u32);

/// The parts file of a torrent, beside its numbered files.
pub(super) const PARTS: u32 = u32::MAX;

/// An open file.
#[derive(Debug)]
pub(super) struct Handle {
    /// The file.
    pub(super) file: File,
    /// Opened for writing too.
    pub(super) writable: bool,
}

#[derive(Debug)]
struct Entry {
    handle: Arc<Handle>,
    used: u64,
}

#[derive(Debug, Default)]
struct Table {
    open: BTreeMap<Key, Entry>,
    clock: u64,
}

/// At most `cap` open files.
#[derive(Debug)]
pub(super) struct Handles {
    table: Mutex<Table>,
    cap: usize,
}

impl Handles {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            table: Mutex::default(),
            cap: cap.max(1),
        }
    }

    /// The open file `key`, else what `open` opens, fit for writing if `write` is set.
    pub(super) fn get(
        &self,
        key: Key,
        write: bool,
        open: impl FnOnce() -> io::Result<File>,
    ) -> io::Result<Arc<Handle>> {
        if let Some(handle) = self.cached(key, write) {
            return Ok(handle);
        }
        let handle = Arc::new(Handle {
            file: open()?,
            writable: write,
        });
        // Closing may wait for a network file system: not under the lock.
        let pushed_out = self.insert(key, Arc::clone(&handle));
        drop(pushed_out);
        Ok(handle)
    }

    /// The open file `key`, if it is open and fit for writing if `write` is set.
    pub(super) fn cached(&self, key: Key, write: bool) -> Option<Arc<Handle>> {
        let mut table = self.lock();
        table.clock += 1;
        let now = table.clock;
        let entry = table.open.get_mut(&key)?;
        if write && !entry.handle.writable {
            return None;
        }
        entry.used = now;
        Some(Arc::clone(&entry.handle))
    }

    fn insert(&self, key: Key, handle: Arc<Handle>) -> [Option<Entry>; 2] {
        let mut table = self.lock();
        let used = table.clock;
        let replaced = table.open.insert(key, Entry { handle, used });
        // A scan, but only when a file was opened, which costs more.
        let oldest = (table.open.len() > self.cap)
            .then(|| table.open.iter().min_by_key(|(_, e)| e.used))
            .flatten()
            .map(|(key, _)| *key);
        let evicted = oldest.and_then(|key| table.open.remove(&key));
        [replaced, evicted]
    }

    /// Closes one file, so that the next use opens it anew.
    pub(super) fn close(&self, key: Key) {
        let entry = self.lock().open.remove(&key);
        drop(entry);
    }

    /// Closes all files of a torrent.
    pub(super) fn close_all(&self, torrent: TorrentId) {
        let mut closing = Vec::new();
        {
            let mut table = self.lock();
            while let Some((&key, _)) = table.open.range((torrent, 0)..=(torrent, PARTS)).next() {
                closing.extend(table.open.remove(&key));
            }
        }
        drop(closing);
    }

    /// How many files are open.
    pub(super) fn len(&self) -> usize {
        self.lock().open.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
