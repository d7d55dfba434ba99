//! Tests of the disk on real files in a temporary folder.

mod claims;
mod failures;
mod flushes;
mod model;
mod selection;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::{Receiver, channel},
    },
};

use dunlin_core::{
    BLOCK_LEN, Bitfield, Block, BlockPool, Hasher, Op, OpErrorKind, OpId, Outcome, TorrentId,
    hash::sha1,
    metainfo::{FileKind, Info},
    op::{Claim, FileStat, OpError, Whose},
};
use tempfile::TempDir;

use super::*;

/// Faults that tests inject between a job and its file.
#[derive(Debug, Default)]
pub(super) struct Faults {
    error: Mutex<Option<io::ErrorKind>>,
    /// For flushes only.
    sync_error: Mutex<Option<io::ErrorKind>>,
    /// For flushes of folders only.
    folder_error: Mutex<Option<io::ErrorKind>>,
    panics: AtomicU32,
    /// Files have no file numbers, as on FAT.
    pub(super) no_ids: AtomicBool,
}

impl Faults {
    pub(super) fn sync_error_if_armed(&self) -> io::Result<()> {
        armed(&self.sync_error)
    }

    pub(super) fn folder_error_if_armed(&self) -> io::Result<()> {
        armed(&self.folder_error)
    }

    pub(super) fn error_if_armed(&self) -> io::Result<()> {
        armed(&self.error)
    }

    pub(super) fn panic_if_armed(&self) {
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

const T: TorrentId = TorrentId(3);

/// A torrent of `(path, length)` entries: `*` is padding, `path>target` a link. The disk does not look at
/// the hashes.
fn info(piece_len: u32, files: &[(&str, u64)]) -> Arc<Info> {
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
struct Bench {
    dir: TempDir,
    disk: Disk,
    wake: Receiver<()>,
    pool: BlockPool,
    next: u64,
    info: Arc<Info>,
}

impl Bench {
    fn new(info: Arc<Info>) -> Self {
        Self::with(info, DiskConfig::default(), Allocation::Sparse)
    }

    fn with(info: Arc<Info>, config: DiskConfig, allocation: Allocation) -> Self {
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
    fn open(&mut self, allocation: Allocation) -> Vec<Option<FileStat>> {
        self.try_open(allocation).unwrap()
    }

    fn try_open(&mut self, allocation: Allocation) -> Result<Vec<Option<FileStat>>, OpErrorKind> {
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

    fn open_only(&mut self, allocation: Allocation) -> Vec<Option<FileStat>> {
        self.try_open_only(allocation).unwrap()
    }

    fn try_open_only(
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
    fn reopen(&mut self) -> Vec<Option<FileStat>> {
        self.release(false);
        self.open(Allocation::Sparse)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("save/t").join(name)
    }

    fn parts(&self) -> PathBuf {
        let name = format!("save/.{}.parts", self.info.info_hash());
        self.dir.path().join(name)
    }

    fn submit(&mut self, op: impl FnOnce(OpId) -> Op) -> OpId {
        self.next += 1;
        assert!(self.disk.submit(op(OpId(self.next))).is_none());
        OpId(self.next)
    }

    /// Waits for `n` outcomes.
    fn wait(&self, n: usize) -> Vec<(OpId, Outcome)> {
        let mut out = Vec::new();
        while out.len() < n {
            self.wake.recv().unwrap();
            self.disk.drain(&mut out);
        }
        assert_eq!(out.len(), n);
        out
    }

    fn run(&mut self, op: impl FnOnce(OpId) -> Op) -> Outcome {
        let id = self.submit(op);
        let (answered, outcome) = self.wait(1).remove(0);
        assert_eq!(answered, id);
        outcome
    }

    fn blocks(&mut self, len: usize) -> Vec<Block> {
        let n = len.div_ceil(BLOCK_LEN);
        (0..n).map(|_| self.pool.take().unwrap()).collect()
    }

    fn filled(&mut self, data: &[u8]) -> Vec<Block> {
        let mut blocks = self.blocks(data.len());
        for (block, bytes) in blocks.iter_mut().zip(data.chunks(BLOCK_LEN)) {
            block[..bytes.len()].copy_from_slice(bytes);
        }
        blocks
    }

    fn write(&mut self, at: u64, data: &[u8]) -> Result<(), OpErrorKind> {
        let blocks = self.filled(data);
        let lent = blocks.len();
        let outcome = self.run(|op| Op::Write {
            op,
            torrent: T,
            at,
            len: data.len() as u32,
            blocks,
            hasher: Some(Hasher::sha1()),
        });
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
    fn read_cached(&mut self, at: u64, len: usize) -> Option<Vec<u8>> {
        let blocks = self.blocks(len);
        let op = Op::Read {
            op: OpId(u64::MAX),
            torrent: T,
            at,
            len: len as u32,
            blocks,
        };
        let (blocks, done) = match self.disk.read_cached(op) {
            Ok((OpId(u64::MAX), Outcome::Read(blocks))) => (blocks, true),
            Err(Op::Read { blocks, .. }) => (blocks, false),
            other => panic!("{other:?}"),
        };
        let all: Vec<u8> = blocks.iter().flat_map(|b| b.iter().copied()).collect();
        self.pool.give_all(blocks);
        done.then(|| all[..len].to_vec())
    }

    fn read(&mut self, at: u64, len: usize) -> Result<Vec<u8>, OpErrorKind> {
        let cached = self.read_cached(at, len);
        let result = self.read_by_thread(at, len);
        if let Some(cached) = cached {
            assert_eq!(result, Ok(cached), "a read on the spot differs");
        }
        result
    }

    fn read_by_thread(&mut self, at: u64, len: usize) -> Result<Vec<u8>, OpErrorKind> {
        let blocks = self.blocks(len);
        let lent = blocks.len();
        let outcome = self.run(|op| Op::Read {
            op,
            torrent: T,
            at,
            len: len as u32,
            blocks,
        });
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

    fn hash(&mut self, at: u64, len: u64) -> Result<[u8; 20], OpErrorKind> {
        match self.run(|op| Op::Hash {
            op,
            torrent: T,
            at,
            len,
            hasher: Hasher::sha1(),
        }) {
            Outcome::Hashed(hasher) => Ok(hasher.finish()),
            Outcome::Failed { error, .. } => Err(error.kind),
            other => panic!("{other:?}"),
        }
    }

    fn flush(&mut self) -> Result<Vec<Option<FileStat>>, OpErrorKind> {
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

    fn select(&mut self, wanted: &[bool]) {
        assert_eq!(self.try_select(wanted), Ok(()));
    }

    /// The error is the message for people.
    fn try_select(&mut self, wanted: &[bool]) -> Result<(), String> {
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

    fn release(&mut self, delete: bool) {
        let outcome = self.run(|op| Op::Release {
            op,
            torrent: T,
            delete,
        });
        assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    }

    /// Writes all of the torrent, piece by piece, and returns its bytes.
    fn fill(&mut self) -> Vec<u8> {
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
fn content(info: &Info) -> Vec<u8> {
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

#[test]
fn pieces_across_files_round_trip_and_nothing_is_made_before_it_is_written() {
    let info = info(
        40_000,
        &[("a", 10_000), ("d/b", 25_000), ("e", 0), ("d/c", 100_001)],
    );
    let mut b = Bench::new(info);
    assert!(!b.dir.path().join("save").exists());
    assert_eq!(b.hash(0, 40_000), Err(OpErrorKind::NotFound));
    assert!(!b.path("e").exists());
    let data = b.fill();
    assert!(
        b.path("e").exists(),
        "an empty file comes with the first bytes of the others"
    );
    let stats = b.flush().unwrap();
    assert_eq!(fs::read(b.path("a")).unwrap(), data[..10_000]);
    assert_eq!(fs::read(b.path("d/b")).unwrap(), data[10_000..35_000]);
    assert_eq!(fs::read(b.path("d/c")).unwrap(), data[35_000..]);
    assert_eq!(fs::read(b.path("e")).unwrap(), b"");
    let lens: Vec<_> = stats.iter().map(|s| s.unwrap().len).collect();
    assert_eq!(lens, [10_000, 25_000, 0, 100_001]);
    assert_eq!(b.read(9_000, 27_000).unwrap(), data[9_000..36_000]);
    assert_eq!(b.hash(0, 120_000).unwrap(), sha1(&data[..120_000]));
    assert_eq!(b.reopen(), stats, "as the flush said");
    assert_eq!(b.pool.lent(), 0);
}

#[test]
fn padding_is_never_made_and_reads_as_zeros() {
    let info = info(32_768, &[("a", 20_000), ("*", 12_768), ("b", 5)]);
    let mut b = Bench::new(info);
    let data = b.fill();
    b.flush().unwrap();
    let names: Vec<_> = fs::read_dir(b.path("")).unwrap().collect();
    assert_eq!(names.len(), 2);
    assert_eq!(b.read(0, 32_768).unwrap(), data[..32_768]);
    assert_eq!(b.hash(0, 32_773).unwrap(), sha1(&data));
}

#[test]
fn a_file_that_ends_early_is_truncated_and_a_range_beyond_the_torrent_refused() {
    let mut b = Bench::new(info(16_384, &[("a", 50_000)]));
    b.fill();
    b.flush().unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(b.path("a"))
        .unwrap();
    file.set_len(20_000).unwrap();
    assert_eq!(b.read(16_384, 16_384), Err(OpErrorKind::Truncated));
    assert_eq!(b.hash(16_384, 16_384), Err(OpErrorKind::Truncated));
    assert!(b.read(0, 16_384).is_ok());
    assert_eq!(b.write(49_000, &[1; 2_000]), Err(OpErrorKind::Io));
    assert_eq!(b.read(u64::MAX, 10), Err(OpErrorKind::Io));
}

#[test]
fn handles_stay_below_their_cap() {
    let names: Vec<String> = (0..50).map(|i| format!("f{i}")).collect();
    let files: Vec<_> = names.iter().map(|n| (n.as_str(), 1_000)).collect();
    let config = DiskConfig {
        threads: 2,
        open_files: 4,
    };
    let mut b = Bench::with(info(16_384, &files), config, Allocation::Sparse);
    let data = b.fill();
    assert!(b.disk.open_files() <= 4);
    b.flush().unwrap();
    assert_eq!(b.hash(0, 50_000).unwrap(), sha1(&data));
    assert!(b.disk.open_files() <= 4);
    b.release(false);
    assert_eq!(b.disk.open_files(), 0);
}

#[test]
fn full_allocation_takes_the_space_at_once() {
    let info = info(16_384, &[("a", 100_000)]);
    let mut b = Bench::with(info, DiskConfig::default(), Allocation::Full);
    b.write(0, &[7; 16_384]).unwrap();
    let meta = fs::metadata(b.path("a")).unwrap();
    assert_eq!(meta.len(), 100_000);
    assert!(std::os::unix::fs::MetadataExt::blocks(&meta) * 512 >= 100_000);
}

#[test]
fn links_of_the_torrent_are_made_inside_it_and_only_there() {
    let files = [
        ("d/a", 100),
        ("e/l>d/a", 0),
        ("bad>../../x", 0),
        ("abs>etc/passwd", 0),
    ];
    let mut b = Bench::new(info(16_384, &files));
    b.fill();
    b.flush().unwrap();
    assert_eq!(fs::read_link(b.path("e/l")).unwrap(), Path::new("../d/a"));
    assert_eq!(fs::read(b.path("e/l")).unwrap().len(), 100);
    assert!(fs::symlink_metadata(b.path("bad")).is_err());
    assert_eq!(b.disk.take_notes().len(), 2);
    b.release(true);
    assert!(!b.path("").exists());
}

#[test]
fn deletion_takes_what_is_ours_and_leaves_the_rest() {
    let mut b = Bench::new(info(16_384, &[("d/a", 20_000), ("e/f/b", 100)]));
    b.fill();
    fs::write(b.path("d/mine"), b"keep").unwrap();
    b.release(true);
    assert!(!b.path("d/a").exists() && !b.path("e").exists());
    assert_eq!(fs::read(b.path("d/mine")).unwrap(), b"keep");
}

#[test]
fn law_1_every_op_is_answered_once_also_after_cancel_and_shutdown() {
    let config = DiskConfig {
        threads: 2,
        open_files: 8,
    };
    let mut b = Bench::with(
        info(16_384, &[("a", 1_600_000)]),
        config,
        Allocation::Sparse,
    );
    let data = vec![5; 16_384];
    let (mut ids, mut lent) = (Vec::new(), 0);
    for i in 0..90 {
        let at = i * 16_384;
        let blocks = b.filled(&data);
        lent += blocks.len();
        ids.push(b.submit(|op| Op::Write {
            op,
            torrent: T,
            at,
            len: 16_384,
            blocks,
            hasher: None,
        }));
        if i % 10 == 0 {
            ids.push(b.submit(|op| Op::Flush {
                op,
                torrent: T,
                durable: true,
            }));
        }
        let hash = b.submit(|op| Op::Hash {
            op,
            torrent: T,
            at,
            len: 16_384,
            hasher: Hasher::sha1(),
        });
        ids.push(hash);
        assert!(
            b.disk.submit(Op::Cancel { op: hash }).is_some(),
            "others may hold it"
        );
    }
    let mut out = Vec::new();
    b.disk.drain(&mut out);
    let Bench { disk, dir, .. } = b;
    out.extend(disk.shutdown());
    let mut answered: Vec<_> = out.iter().map(|(id, _)| *id).collect();
    answered.sort_unstable();
    assert_eq!(answered, ids);
    let home: usize = out
        .iter()
        .map(|(_, o)| match o {
            Outcome::Written { blocks, .. } => blocks.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(home, lent, "every write was done");
    assert_eq!(
        fs::metadata(dir.path().join("save/t/a")).unwrap().len(),
        90 * 16_384
    );
}

#[test]
fn a_flush_waits_for_the_writes_before_it() {
    let mut b = Bench::new(info(16_384, &[("a", 16_384 * 64)]));
    for i in 0..64 {
        let blocks = b.filled(&[i as u8; 16_384]);
        b.submit(|op| Op::Write {
            op,
            torrent: T,
            at: i * 16_384,
            len: 16_384,
            blocks,
            hasher: None,
        });
    }
    let flush = b.submit(|op| Op::Flush {
        op,
        torrent: T,
        durable: true,
    });
    let mut out = b.wait(65);
    let (last, outcome) = out.pop().unwrap();
    assert_eq!(last, flush);
    let Outcome::Flushed(stats) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(stats[0].unwrap().len, 16_384 * 64);
}

#[test]
fn tasks_run_and_ops_of_others_come_back() {
    let b = Bench::new(info(16_384, &[("a", 1)]));
    b.disk.run(OpId(900), || {
        Outcome::failed(OpErrorKind::Denied, "so it ran")
    });
    let (id, outcome) = b.wait(1).remove(0);
    assert!(id == OpId(900) && matches!(outcome, Outcome::Failed { .. }));
    let resolve = Op::Resolve {
        op: OpId(901),
        host: "localhost".into(),
    };
    assert!(matches!(b.disk.submit(resolve), Some(Op::Resolve { .. })));
}

#[test]
fn renames_are_followed_unless_they_clash_or_leave() {
    let info = info(16_384, &[("a", 10), ("d/b", 10), ("d/c", 10)]);
    let paths = |renames: &[(usize, &str)]| {
        let renames = renames.iter().map(|(i, p)| (*i, PathBuf::from(p)));
        let placement = Placement {
            renames: renames.collect(),
            ..Placement::default()
        };
        let paths = placement.paths(&info);
        paths
            .iter()
            .map(|p| p.to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(paths(&[(0, "x/y")]), ["x/y", "t/d/b", "t/d/c"]);
    assert_eq!(paths(&[(1, "../out")]), ["t/a", "__/out", "t/d/c"]);
    for clash in ["t/d/c", "t/d", "t", "t/a/sub"] {
        assert_eq!(
            paths(&[(1, clash), (9, "x")]),
            ["t/a", "t/d/b", "t/d/c"],
            "{clash}"
        );
    }
}
