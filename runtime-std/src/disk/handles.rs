//! Open files. A file is opened when it is first needed; when there are too many, the least recently used
//! one is closed. A handle in use stays valid after it has left this table.
//!
//! ```text
//!            get            least recently used, when there are too many
//!   closed ───────▶ open ──────────────────────────────────────────▶ closed
//!      ▲             │ ▲ get            removed while in use            ▲
//!      │             │ └─────────────────── leaving ◀─── open           │
//!      │             │ close                   │ last use is over       │
//!      └── closing ◀─┘                         └────────────────────────┘
//! ```
//!
//! A file that is open for writing is locked, so it must not be opened a second time meanwhile. A file that
//! is leaving is taken back; a file that is closing is opened again after its last use.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
};

use dunlin_core::TorrentId;

/// A torrent and the number of a file in it.
type Key = (TorrentId, u32);

/// The file number that stands for the parts file of a torrent.
pub(super) const PARTS: u32 = u32::MAX;

/// An open file.
#[derive(Debug)]
pub(super) struct Handle {
    /// The open file.
    pub(super) file: File,
    /// Opened for writing too.
    pub(super) writable: bool,
    /// Declared after `file`: fields are dropped in this order, so the file is closed first.
    _writer: Option<Writer>,
}

#[derive(Debug)]
struct Entry {
    handle: Arc<Handle>,
    used: u64,
}

#[derive(Debug, Default)]
struct Table {
    open: BTreeMap<Key, Entry>,
    /// Handles that were removed while in use.
    leaving: BTreeMap<Key, Weak<Handle>>,
    /// Files that are open for writing, also by handles that have left the table, or are being opened.
    writers: BTreeSet<Key>,
    clock: u64,
}

impl Table {
    /// The handle of `key`, if it is open, and writable if `write` is set.
    fn find(&mut self, key: Key, write: bool) -> Option<Arc<Handle>> {
        self.clock += 1;
        let entry = self.open.get_mut(&key)?;
        if write && !entry.handle.writable {
            return None;
        }
        entry.used = self.clock;
        Some(Arc::clone(&entry.handle))
    }

    /// Adds an open file. The handles it returns have left the table, and are to be dropped without holding
    /// the lock: closing a file may wait for the network.
    fn admit(&mut self, key: Key, handle: Arc<Handle>, cap: usize) -> [Option<Entry>; 2] {
        let used = self.clock;
        let replaced = self.open.insert(key, Entry { handle, used });
        // A scan, but only after a file was opened, which costs more.
        let oldest = (self.open.len() > cap)
            .then(|| self.open.iter().min_by_key(|(_, e)| e.used))
            .flatten()
            .map(|(key, _)| *key);
        let evicted = oldest.and_then(|key| Some((key, self.open.remove(&key)?)));
        self.leaving.retain(|_, handle| handle.strong_count() > 0);
        let evicted = evicted.map(|(key, entry)| {
            // Somebody else still uses it.
            if Arc::strong_count(&entry.handle) > 1 {
                self.leaving.insert(key, Arc::downgrade(&entry.handle));
            }
            entry
        });
        [replaced, evicted]
    }
}

#[derive(Debug, Default)]
struct Shared {
    table: Mutex<Table>,
    /// Signalled whenever a file was opened or closed.
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that is open for writing, for as long as this exists.
#[derive(Debug)]
struct Writer {
    key: Key,
    shared: Weak<Shared>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The table was dropped with all its files.
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        shared.lock().writers.remove(&self.key);
        shared.changed.notify_all();
    }
}

/// The open files, at most `cap`.
#[derive(Debug)]
pub(super) struct Handles {
    shared: Arc<Shared>,
    cap: usize,
}

impl Handles {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            shared: Arc::default(),
            cap: cap.max(1),
        }
    }

    /// The handle of `key`, writable if `write` is set; `open` opens the file if necessary. Waits for the
    /// last use of a file that is closing, so a caller that uses the file already must not ask for it.
    pub(super) fn get(
        &self,
        key: Key,
        write: bool,
        open: impl FnOnce() -> io::Result<File>,
    ) -> io::Result<Arc<Handle>> {
        let mut table = self.shared.lock();
        let writer = loop {
            table = match self.find(table, key, write) {
                Ok(handle) => return Ok(handle),
                Err(table) => table,
            };
            if !write {
                break None;
            }
            if table.writers.insert(key) {
                break Some(Writer {
                    key,
                    shared: Arc::downgrade(&self.shared),
                });
            }
            let changed = self.shared.changed.wait(table);
            table = changed.unwrap_or_else(PoisonError::into_inner);
        };
        drop(table);
        let handle = Arc::new(Handle {
            file: open()?,
            writable: write,
            _writer: writer,
        });
        let left = self.shared.lock().admit(key, Arc::clone(&handle), self.cap);
        self.shared.changed.notify_all();
        drop(left);
        Ok(handle)
    }

    /// The handle of `key` if the file is open, and writable if `write` is set.
    pub(super) fn cached(&self, key: Key, write: bool) -> Option<Arc<Handle>> {
        self.find(self.shared.lock(), key, write).ok()
    }

    /// The handle of `key`, or the lock on the table if it is not open.
    fn find<'a>(
        &'a self,
        mut table: MutexGuard<'a, Table>,
        key: Key,
        write: bool,
    ) -> Result<Arc<Handle>, MutexGuard<'a, Table>> {
        if let Some(handle) = table.find(key, write) {
            return Ok(handle);
        }
        let leaving = table.leaving.remove(&key).and_then(|l| l.upgrade());
        let Some(handle) = leaving.filter(|handle| handle.writable || !write) else {
            return Err(table);
        };
        let left = table.admit(key, Arc::clone(&handle), self.cap);
        drop(table);
        drop(left);
        Ok(handle)
    }

    /// Closes one file, so that its next use opens it again.
    pub(super) fn close(&self, key: Key) {
        let mut table = self.shared.lock();
        table.leaving.remove(&key);
        let entry = table.open.remove(&key);
        drop(table);
        drop(entry);
    }

    /// Closes all files of a torrent.
    pub(super) fn close_all(&self, torrent: TorrentId) {
        let files = (torrent, 0)..=(torrent, PARTS);
        let mut closing = Vec::new();
        {
            let mut table = self.shared.lock();
            table.leaving.retain(|key, _| !files.contains(key));
            while let Some((&key, _)) = table.open.range(files.clone()).next() {
                closing.extend(table.open.remove(&key));
            }
        }
        drop(closing);
    }

    /// The number of open files.
    pub(super) fn len(&self) -> usize {
        self.shared.lock().open.len()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, thread, time::Duration};

    use super::*;

    const ONE: Key = (TorrentId(1), 0);
    const TWO: Key = (TorrentId(1), 1);

    /// Opens a file, and fails if it is open already.
    fn open(dir: &tempfile::TempDir) -> io::Result<File> {
        let file = File::create(dir.path().join("file"))?;
        file.try_lock()?;
        Ok(file)
    }

    fn other() -> io::Result<File> {
        tempfile::tempfile()
    }

    #[test]
    fn a_file_that_was_pushed_out_while_it_is_used_is_not_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let handles = Handles::new(1);
        let used = handles.get(ONE, true, || open(&dir)).unwrap();
        handles.get(TWO, true, other).unwrap();
        assert!(handles.len() == 1);
        let again = handles.get(ONE, true, || panic!("it is open")).unwrap();
        assert!(Arc::ptr_eq(&used, &again));
        // After its last use it is closed like any other file.
        handles.get(TWO, true, other).unwrap();
        drop((used, again));
        handles.get(ONE, true, || open(&dir)).unwrap();
    }

    #[test]
    fn a_file_that_is_closed_is_opened_anew_when_its_last_use_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let handles = Handles::new(4);
        let used = handles.get(ONE, true, || open(&dir)).unwrap();
        handles.close(ONE);
        assert!(handles.cached(ONE, true).is_none());
        let (opened, opens) = channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let handle = handles.get(ONE, true, || open(&dir));
                opened.send(handle.map(|_| ())).unwrap();
            });
            // Other files do not wait.
            handles.get(TWO, true, other).unwrap();
            assert!(opens.recv_timeout(Duration::from_millis(20)).is_err());
            drop(used);
            opens.recv().unwrap().unwrap();
        });
    }

    #[test]
    fn two_that_want_one_file_open_it_once() {
        let dir = tempfile::tempdir().unwrap();
        let handles = Handles::new(4);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| handles.get(ONE, true, || open(&dir)).unwrap());
            }
        });
    }

    #[test]
    fn who_could_not_open_a_file_lets_the_next_try() {
        let handles = Handles::new(4);
        let failed = handles.get(ONE, true, || Err(io::Error::other("no")));
        assert!(failed.is_err());
        handles.get(ONE, true, other).unwrap();
    }
}
