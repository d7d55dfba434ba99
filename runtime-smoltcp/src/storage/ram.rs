//! A disk in memory, and a disk that does not exist.

use alloc::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    vec::Vec,
};

use dunlin_core::metainfo::{FileKind, Info};
use dunlin_core::op::{FileStat, HashJob, ReadJob, WriteJob};
use dunlin_core::{BLOCK_LEN, InfoHash, Instant, OpError, OpErrorKind, OpId, Outcome, TorrentId};

use super::{DiskJob, DiskOp, Storage};

/// A disk in memory: one range of bytes for each torrent, with a limit of the total size. Ops are
/// done at once.
///
/// Content is stored by info-hash and outlives the engine: [`RamDisk::reopen`] prepares it for the
/// next one.
#[derive(Debug, Default)]
pub struct RamDisk {
    capacity: u64,
    used: u64,
    open: BTreeMap<TorrentId, (InfoHash, Arc<Info>)>,
    stores: BTreeMap<InfoHash, Store>,
    /// The records of torrents whose files are not known yet.
    unopened: BTreeMap<TorrentId, Vec<u8>>,
    done: VecDeque<(OpId, Outcome)>,
    /// The time of the last change of a file, in nanoseconds. Each change gets a later one.
    mtime: i64,
}

/// The data of one torrent.
#[derive(Debug, Default)]
struct Store {
    /// The whole byte space of the torrent, or empty.
    data: Vec<u8>,
    files: Vec<File>,
    record: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct File {
    wanted: bool,
    /// Bytes of the file were written.
    touched: bool,
    /// The file exists. A piece that is shared with a wanted file does not create an unwanted one.
    exists: bool,
    mtime: i64,
}

impl RamDisk {
    /// Creates an empty disk of `capacity` bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self {
            capacity,
            ..Self::default()
        }
    }

    /// Puts the content of a torrent on the disk, with all files complete.
    ///
    /// # Errors
    /// The bytes, when they do not match `info` or there is no room for them.
    pub fn put(&mut self, info: &Info, data: Vec<u8>) -> Result<(), Vec<u8>> {
        let len = data.len() as u64;
        self.remove(info.info_hash());
        if len != info.total_len() || self.used + len > self.capacity {
            return Err(data);
        }
        self.used += len;
        self.mtime += 1;
        let file = File {
            wanted: true,
            touched: true,
            exists: true,
            mtime: self.mtime,
        };
        let store = Store {
            data,
            files: info.files().iter().map(|_| file).collect(),
            record: None,
        };
        self.stores.insert(info.info_hash(), store);
        Ok(())
    }

    /// The bytes of a torrent, in which those never written are zero. `None` when nothing was
    /// written.
    #[must_use]
    pub fn content(&self, torrent: InfoHash) -> Option<&[u8]> {
        let store = self.stores.get(&torrent)?;
        (!store.data.is_empty()).then_some(&store.data[..])
    }

    /// The bytes of a torrent, for faults and tests that change them without the engine's
    /// knowledge. The times of files do not change.
    pub fn content_mut(&mut self, torrent: InfoHash) -> Option<&mut [u8]> {
        let store = self.stores.get_mut(&torrent)?;
        (!store.data.is_empty()).then_some(&mut store.data[..])
    }

    /// The record that the engine saved last for a torrent, for
    /// [`AddTorrent::resume`](dunlin_core::engine::AddTorrent::resume).
    #[must_use]
    pub fn record(&self, torrent: InfoHash) -> Option<&[u8]> {
        self.stores.get(&torrent)?.record.as_deref()
    }

    /// The record of a torrent by the engine's id, while that engine lives. Also finds records that
    /// were saved before the files were known.
    #[must_use]
    pub fn record_of(&self, torrent: TorrentId) -> Option<&[u8]> {
        match self.open.get(&torrent) {
            Some((hash, _)) => self.record(*hash),
            None => self.unopened.get(&torrent).map(Vec::as_slice),
        }
    }

    /// The bytes in use.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// Prepares the disk for the next engine: closes all torrents, and drops the ops of the
    /// previous engine. Content and records stay.
    pub fn reopen(&mut self) {
        self.open.clear();
        self.unopened.clear();
        self.done.clear();
    }

    fn remove(&mut self, hash: InfoHash) {
        if let Some(store) = self.stores.remove(&hash) {
            self.used -= store.data.len() as u64;
        }
    }

    /// Carries out an op at once, for storages that add a latency of their own.
    pub fn apply(&mut self, now: Instant, mut op: DiskOp) -> Outcome {
        let torrent = op.torrent;
        if let DiskJob::Open { info } = op.job {
            return self.open(torrent, info);
        }
        if let DiskJob::Save { record } = op.job {
            self.save(torrent, record);
            return Outcome::Done;
        }
        let Some((hash, info)) = self.open.get(&torrent).cloned() else {
            // Nothing is open, so there is nothing to release.
            if matches!(op.job, DiskJob::Release { .. }) {
                self.unopened.remove(&torrent);
                return Outcome::Done;
            }
            return op.fail(OpErrorKind::NotFound, "the torrent is not open");
        };
        if !in_range(&mut op.job, info.total_len()) {
            return op.fail(OpErrorKind::Io, "outside the torrent");
        }
        if let DiskJob::Write(_) = op.job
            && !self.reserve(hash, info.total_len())
        {
            return op.fail(OpErrorKind::NoSpace, "the memory disk is full");
        }
        match op.job {
            DiskJob::Read(job) => self.read(hash, job),
            DiskJob::Write(job) => {
                self.mtime = self.mtime.saturating_add(1).max(nanoseconds(now));
                self.write(hash, &info, job)
            }
            DiskJob::Hash(job) => self.hash(hash, job),
            // A store belongs to one torrent, so everything in it was written for that torrent.
            DiskJob::Claim { .. } | DiskJob::Confirm | DiskJob::Flush { .. } => {
                Outcome::Flushed(self.stat(hash, &info))
            }
            DiskJob::Select { wanted } => {
                self.select(hash, &wanted);
                Outcome::Done
            }
            DiskJob::Release { delete } => {
                self.open.remove(&torrent);
                if delete {
                    self.remove(hash);
                }
                Outcome::Done
            }
            // These jobs were handled above.
            DiskJob::Open { .. } | DiskJob::Save { .. } => Outcome::Done,
        }
    }

    fn open(&mut self, torrent: TorrentId, info: Arc<Info>) -> Outcome {
        let hash = info.info_hash();
        let store = self.stores.entry(hash).or_default();
        if store.files.len() != info.files().len() {
            let file = File {
                wanted: true,
                ..File::default()
            };
            store.files = info.files().iter().map(|_| file).collect();
        }
        if let Some(record) = self.unopened.remove(&torrent) {
            store.record = Some(record);
        }
        let stat = self.stat(hash, &info);
        self.open.insert(torrent, (hash, info));
        Outcome::Opened(stat)
    }

    fn save(&mut self, torrent: TorrentId, record: Vec<u8>) {
        let store = self
            .open
            .get(&torrent)
            .and_then(|(hash, _)| self.stores.get_mut(hash));
        match store {
            Some(store) => store.record = Some(record),
            None => {
                self.unopened.insert(torrent, record);
            }
        }
    }

    /// Makes room for all bytes of a torrent at once.
    fn reserve(&mut self, hash: InfoHash, len: u64) -> bool {
        let Some(store) = self.stores.get_mut(&hash) else {
            return false;
        };
        if !store.data.is_empty() {
            return true;
        }
        let Ok(bytes) = usize::try_from(len) else {
            return false;
        };
        if self.used.saturating_add(len) > self.capacity
            || store.data.try_reserve_exact(bytes).is_err()
        {
            return false;
        }
        store.data.resize(bytes, 0);
        self.used += len;
        true
    }

    fn stat(&self, hash: InfoHash, info: &Info) -> Vec<Option<FileStat>> {
        let Some(store) = self.stores.get(&hash) else {
            return Vec::new();
        };
        let files = store.files.iter().zip(info.files());
        let stat = |(file, named): (&File, &dunlin_core::metainfo::File)| {
            file.exists.then_some(FileStat {
                len: named.len,
                mtime_ns: file.mtime,
                // A store belongs to one torrent, so nothing else can be in its place.
                id: None,
            })
        };
        files.map(stat).collect()
    }

    fn select(&mut self, hash: InfoHash, wanted: &[bool]) {
        if let Some(store) = self.stores.get_mut(&hash) {
            for (file, wanted) in store.files.iter_mut().zip(wanted) {
                file.wanted = *wanted;
                file.exists |= file.wanted && file.touched;
            }
        }
    }

    /// The bytes of a range that was checked. Shorter where nothing was written.
    fn range(&self, hash: InfoHash, at: u64, len: u64) -> &[u8] {
        let (Ok(at), Ok(len)) = (usize::try_from(at), usize::try_from(len)) else {
            return &[];
        };
        let data = self.stores.get(&hash).map(|s| s.data.as_slice());
        data.and_then(|d| d.get(at..at + len)).unwrap_or(&[])
    }

    fn read(&self, hash: InfoHash, mut job: ReadJob) -> Outcome {
        let data = self.range(hash, job.at, job.len.into());
        if data.len() < job.len as usize {
            return job.fail(missing());
        }
        for (part, chunk) in job.parts().zip(data.chunks(BLOCK_LEN)) {
            part.copy_from_slice(chunk);
        }
        job.done()
    }

    fn write(&mut self, hash: InfoHash, info: &Info, mut job: WriteJob) -> Outcome {
        let mtime = self.mtime;
        let (at, len) = (job.at, job.len);
        if let Some(store) = self.stores.get_mut(&hash) {
            let start = usize::try_from(at).unwrap_or(usize::MAX);
            let range = start..start.saturating_add(len as usize);
            if let Some(to) = store.data.get_mut(range) {
                for (to, part) in to.chunks_mut(BLOCK_LEN).zip(job.parts()) {
                    to.copy_from_slice(part);
                }
                job.feed();
            }
            for extent in info.extents(at, u64::from(len)) {
                // Padding belongs to no file.
                let regular = info.files()[extent.file].kind == FileKind::Regular;
                if let Some(file) = store.files.get_mut(extent.file).filter(|_| regular) {
                    file.touched = true;
                    file.exists |= file.wanted;
                    file.mtime = mtime;
                }
            }
            // Empty files are created with the first bytes of any file.
            for (file, named) in store.files.iter_mut().zip(info.files()) {
                if named.len == 0 && file.wanted && !file.exists {
                    file.exists = true;
                    file.mtime = mtime;
                }
            }
        }
        job.done()
    }

    fn hash(&self, hash: InfoHash, mut job: HashJob) -> Outcome {
        let data = self.range(hash, job.at, job.len);
        if (data.len() as u64) < job.len {
            return job.fail(missing());
        }
        job.hasher().update(data);
        job.done()
    }
}

fn missing() -> OpError {
    OpError {
        kind: OpErrorKind::NotFound,
        detail: "nothing was written".into(),
    }
}

fn in_range(job: &mut DiskJob, total: u64) -> bool {
    let (at, len, blocks) = match job {
        DiskJob::Read(job) => (job.at, job.len.into(), job.blocks().len()),
        DiskJob::Write(job) => (job.at, job.len.into(), job.blocks().len()),
        DiskJob::Hash(job) => (job.at, job.len, usize::MAX),
        _ => return true,
    };
    let held = (blocks as u64).saturating_mul(BLOCK_LEN as u64);
    held >= len && at.checked_add(len).is_some_and(|end| end <= total)
}

fn nanoseconds(at: Instant) -> i64 {
    i64::try_from(at.as_micros().saturating_mul(1000)).unwrap_or(i64::MAX)
}

impl Storage for RamDisk {
    fn submit(&mut self, now: Instant, op: DiskOp) {
        let id = op.id;
        let outcome = self.apply(now, op);
        self.done.push_back((id, outcome));
    }

    fn poll(&mut self, _now: Instant) -> Option<(OpId, Outcome)> {
        self.done.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        (!self.done.is_empty()).then_some(Instant::ORIGIN)
    }
}

/// No disk: every op that needs one fails as unsupported.
#[derive(Debug, Default)]
pub struct NoDisk {
    done: VecDeque<(OpId, Outcome)>,
}

impl Storage for NoDisk {
    fn submit(&mut self, _now: Instant, op: DiskOp) {
        let id = op.id;
        let outcome = match op.job {
            DiskJob::Release { .. } | DiskJob::Save { .. } => Outcome::Done,
            _ => op.fail(OpErrorKind::Unsupported, "this machine has no disk"),
        };
        self.done.push_back((id, outcome));
    }

    fn poll(&mut self, _now: Instant) -> Option<(OpId, Outcome)> {
        self.done.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        (!self.done.is_empty()).then_some(Instant::ORIGIN)
    }
}
