//! A disk on a temporary folder, with faults on request.

use super::*;

/// Faults that tests inject between a job and its file.
#[derive(Debug, Default)]
pub(in super::super) struct Faults {
    pub(super) error: Mutex<Option<io::ErrorKind>>,
    /// For flushes only.
    pub(super) sync_error: Mutex<Option<io::ErrorKind>>,
    /// For flushes of folders only.
    pub(super) folder_error: Mutex<Option<io::ErrorKind>>,
    pub(super) panics: AtomicU32,
    /// Files have no file numbers, as on FAT.
    pub(in super::super) no_ids: AtomicBool,
}

impl Faults {
    pub(in super::super) fn sync_error_if_armed(&self) -> io::Result<()> {
        armed(&self.sync_error)
    }

    pub(in super::super) fn folder_error_if_armed(&self) -> io::Result<()> {
        armed(&self.folder_error)
    }

    pub(in super::super) fn error_if_armed(&self) -> io::Result<()> {
        armed(&self.error)
    }

    pub(in super::super) fn panic_if_armed(&self) {
        let armed = |n: u32| n.checked_sub(1);
        let was = self
            .panics
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, armed);
        assert!(was.is_err(), "a panic that a test asked for");
    }
}

fn armed(error: &Mutex<Option<io::ErrorKind>>) -> io::Result<()> {
    match *error.lock().unwrap() {
        Some(kind) => Err(kind.into()),
        None => Ok(()),
    }
}

pub(super) const T: TorrentId = TorrentId(3);

/// A torrent of `(path, length)` entries: `*` is padding, `path>target` a link. The disk does not look at
/// the hashes.
pub(super) fn info(piece_len: u32, files: &[(&str, u64)]) -> Arc<Info> {
    let text = |s: &str| format!("{}:{s}", s.len());
    let list = |path: &str| format!("l{}e", path.split('/').map(text).collect::<String>());
    let entry = |(path, len): &(&str, u64)| match path.split_once('>') {
        Some((path, target)) => format!(
            "d4:attr1:l6:lengthi0e4:path{}12:symlink path{}e",
            list(path),
            list(target)
        ),
        None if path.starts_with('*') => {
            format!("d4:attr1:p6:lengthi{len}e4:path{}e", list(".pad/0"))
        }
        None => format!("d6:lengthi{len}e4:path{}e", list(path)),
    };
    let entries: String = files.iter().map(entry).collect();
    let total: u64 = files.iter().map(|f| f.1).sum();
    let pieces = total.div_ceil(piece_len.into()) as usize * 20;
    let raw = format!(
        "d5:filesl{entries}e4:name1:t12:piece lengthi{piece_len}e6:pieces{pieces}:{}e",
        "\0".repeat(pieces)
    );
    Arc::new(Info::from_raw(raw.into_bytes()).unwrap())
}

/// A disk, a folder and a pool.
pub(super) struct Bench {
    pub(super) dir: TempDir,
    pub(super) disk: Disk,
    pub(super) wake: Receiver<()>,
    pub(super) pool: BlockPool,
    pub(super) next: u64,
    pub(super) info: Arc<Info>,
}

impl Bench {
    pub(super) fn new(info: Arc<Info>) -> Self {
        Self::with(info, DiskConfig::default(), Allocation::Sparse)
    }

    pub(super) fn with(info: Arc<Info>, config: DiskConfig, allocation: Allocation) -> Self {
        let (tx, wake) = channel();
        let notify = move || tx.send(()).unwrap_or_default();
        let mut bench = Self {
            dir: tempfile::tempdir().unwrap(),
            disk: Disk::new(config, Arc::new(notify)).unwrap(),
            wake,
            pool: BlockPool::new(4096),
            next: 0,
            info,
        };
        bench.open(allocation);
        bench
    }

    /// Opens the torrent and claims its files, all of which are its own.
    pub(super) fn open(&mut self, allocation: Allocation) -> Vec<Option<FileStat>> {
        self.try_open(allocation).unwrap()
    }

    pub(super) fn try_open(
        &mut self,
        allocation: Allocation,
    ) -> Result<Vec<Option<FileStat>>, OpErrorKind> {
        let stats = self.try_open_only(allocation)?;
        let recorded = |stat: &Option<_>| stat.map_or(Whose::Unknown, |_| Whose::Recorded);
        let whose = stats.iter().map(recorded).collect();
        let have = Bitfield::new(self.info.piece_count());
        let claimed = self.run(|op| Op::Claim {
            op,
            torrent: T,
            whose,
            have,
            claim: Claim::Write,
        });
        assert!(matches!(claimed, Outcome::Flushed(_)), "{claimed:?}");
        Ok(stats)
    }

    pub(super) fn open_only(&mut self, allocation: Allocation) -> Vec<Option<FileStat>> {
        self.try_open_only(allocation).unwrap()
    }

    pub(super) fn try_open_only(
        &mut self,
        allocation: Allocation,
    ) -> Result<Vec<Option<FileStat>>, OpErrorKind> {
        let placement = Placement {
            dir: self.dir.path().join("save"),
            allocation,
            ..Placement::default()
        };
        self.disk.place(T, placement);
        let info = Arc::clone(&self.info);
        let opened = self.run(|op| Op::Open {
            op,
            torrent: T,
            info,
        });
        match opened {
            Outcome::Opened(stats) => Ok(stats),
            Outcome::Failed { error, .. } => Err(error.kind),
            other => panic!("{other:?}"),
        }
    }

    /// Forgets the torrent and opens it again, as a restart does.
    pub(super) fn reopen(&mut self) -> Vec<Option<FileStat>> {
        self.release(false);
        self.open(Allocation::Sparse)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("save/t").join(name)
    }

    pub(super) fn parts(&self) -> PathBuf {
        let name = format!("save/.{}.parts", self.info.info_hash());
        self.dir.path().join(name)
    }

    pub(super) fn submit(&mut self, op: impl FnOnce(OpId) -> Op) -> OpId {
        self.next += 1;
        assert!(self.disk.submit(op(OpId(self.next))).is_none());
        OpId(self.next)
    }

    /// Waits for `n` outcomes.
    pub(super) fn wait(&self, n: usize) -> Vec<(OpId, Outcome)> {
        let mut out = Vec::new();
        while out.len() < n {
            self.wake.recv().unwrap();
            self.disk.drain(&mut out);
        }
        assert_eq!(out.len(), n);
        out
    }

    pub(super) fn run(&mut self, op: impl FnOnce(OpId) -> Op) -> Outcome {
        let id = self.submit(op);
        let (answered, outcome) = self.wait(1).remove(0);
        assert_eq!(answered, id);
        outcome
    }

    pub(super) fn blocks(&mut self, len: usize) -> Vec<Block> {
        let n = len.div_ceil(BLOCK_LEN);
        (0..n).map(|_| self.pool.take().unwrap()).collect()
    }

    pub(super) fn filled(&mut self, data: &[u8]) -> Vec<Block> {
        let mut blocks = self.blocks(data.len());
        for (block, bytes) in blocks.iter_mut().zip(data.chunks(BLOCK_LEN)) {
            block[..bytes.len()].copy_from_slice(bytes);
        }
        blocks
    }

    pub(super) fn write(&mut self, at: u64, data: &[u8]) -> Result<(), OpErrorKind> {
        let blocks = self.filled(data);
        let lent = blocks.len();
        let (len, hasher) = (data.len() as u32, Some(Hasher::sha1()));
        let outcome = self.run(|op| Op::Write(WriteJob::new(op, T, at, len, blocks, hasher)));
        match outcome {
            Outcome::Written { blocks, hasher } => {
                assert_eq!(blocks.len(), lent);
                assert_eq!(hasher.unwrap().finish(), sha1(data));
                self.pool.give_all(blocks);
                Ok(())
            }
            Outcome::Failed { error, blocks } => {
                assert_eq!(blocks.len(), lent, "blocks come home");
                assert!(error.detail.len() > 10, "{error}");
                self.pool.give_all(blocks);
                Err(error.kind)
            }
            other => panic!("{other:?}"),
        }
    }

    /// The result of a read that does not wait; `None` if the op is returned.
    pub(super) fn read_cached(&mut self, at: u64, len: usize) -> Option<Vec<u8>> {
        let blocks = self.blocks(len);
        let job = ReadJob::new(OpId(u64::MAX), T, at, len as u32, blocks);
        let (outcome, done) = match self.disk.read_cached(Op::Read(job)) {
            Ok((OpId(u64::MAX), outcome)) => (outcome, true),
            Err(Op::Read(job)) => (job.done(), false),
            other => panic!("{other:?}"),
        };
        let Outcome::Read(blocks) = outcome else {
            panic!("{outcome:?}");
        };
        let all: Vec<u8> = blocks.iter().flat_map(|b| b.iter().copied()).collect();
        self.pool.give_all(blocks);
        done.then(|| all[..len].to_vec())
    }

    pub(super) fn read(&mut self, at: u64, len: usize) -> Result<Vec<u8>, OpErrorKind> {
        let cached = self.read_cached(at, len);
        let result = self.read_by_thread(at, len);
        if let Some(cached) = cached {
            assert_eq!(result, Ok(cached), "a read on the spot differs");
        }
        result
    }

    pub(super) fn read_by_thread(&mut self, at: u64, len: usize) -> Result<Vec<u8>, OpErrorKind> {
        let blocks = self.blocks(len);
        let lent = blocks.len();
        let outcome = self.run(|op| Op::Read(ReadJob::new(op, T, at, len as u32, blocks)));
        let (result, blocks) = match outcome {
            Outcome::Read(blocks) => {
                let all: Vec<u8> = blocks.iter().flat_map(|b| b.iter().copied()).collect();
                (Ok(all[..len].to_vec()), blocks)
            }
            Outcome::Failed { error, blocks } => (Err(error.kind), blocks),
            other => panic!("{other:?}"),
        };
        assert_eq!(blocks.len(), lent);
        self.pool.give_all(blocks);
        result
    }

    pub(super) fn hash(&mut self, at: u64, len: u64) -> Result<[u8; 20], OpErrorKind> {
        match self.run(|op| Op::Hash(HashJob::new(op, T, at, len, Hasher::sha1()))) {
            Outcome::Hashed(hasher) => Ok(hasher.finish()),
            Outcome::Failed { error, .. } => Err(error.kind),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn flush(&mut self) -> Result<Vec<Option<FileStat>>, OpErrorKind> {
        match self.run(|op| Op::Flush {
            op,
            torrent: T,
            durable: true,
        }) {
            Outcome::Flushed(stats) => Ok(stats),
            Outcome::Failed { error, .. } => Err(error.kind),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn select(&mut self, wanted: &[bool]) {
        assert_eq!(self.try_select(wanted), Ok(()));
    }

    /// The error is the message for people.
    pub(super) fn try_select(&mut self, wanted: &[bool]) -> Result<(), String> {
        let wanted = wanted.to_vec();
        match self.run(|op| Op::Select {
            op,
            torrent: T,
            wanted,
        }) {
            Outcome::Done => Ok(()),
            Outcome::Failed { error, .. } => Err(error.detail),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn release(&mut self, delete: bool) {
        let outcome = self.run(|op| Op::Release {
            op,
            torrent: T,
            delete,
        });
        assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    }

    /// Writes all of the torrent, piece by piece, and returns its bytes.
    pub(super) fn fill(&mut self) -> Vec<u8> {
        let data = content(&self.info);
        for piece in 0..self.info.piece_count() {
            let at = self.info.piece_offset(piece);
            let end = at as usize + self.info.piece_size(piece) as usize;
            self.write(at, &data[at as usize..end]).unwrap();
        }
        data
    }
}

/// Bytes of a torrent: no two blocks alike, zeros in padding.
pub(super) fn content(info: &Info) -> Vec<u8> {
    let mut data: Vec<u8> = (0..info.total_len() as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 | 1)
        .collect();
    for file in info.files() {
        if file.kind == FileKind::Padding {
            data[file.offset as usize..(file.offset + file.len) as usize].fill(0);
        }
    }
    data
}
