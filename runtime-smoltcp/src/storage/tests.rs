use alloc::{sync::Arc, vec, vec::Vec};

use dunlin_core::metainfo::{Builder, Info};
use dunlin_core::op::{HashJob, ReadJob, WriteJob};
use dunlin_core::{
    BLOCK_LEN, Block, BlockPool, Hasher, Instant, Op, OpErrorKind, OpId, Outcome, TorrentId,
};
use quickcheck::quickcheck;

use super::{DiskJob, DiskOp, NoDisk, RamDisk, Storage};

const T: TorrentId = TorrentId(3);
const ID: OpId = OpId(77);

/// Two files of these lengths in one torrent, with pieces of 32 KiB.
fn info(first: u64, second: u64) -> Arc<Info> {
    let mut builder = Builder::folder("both");
    builder.add(vec!["a".into()], first);
    builder.add(vec!["b".into()], second);
    builder.piece_len = Some(32 << 10);
    let pieces = (first + second).div_ceil(32 << 10) as usize;
    let draft = builder.draft().unwrap();
    draft.finish(&vec![[0; 20]; pieces]).unwrap().info
}

fn blocks(pool: &mut BlockPool, fill: u8, len: u32) -> Vec<Block> {
    let count = (len as usize).div_ceil(BLOCK_LEN);
    let mut blocks: Vec<Block> = (0..count).map(|_| pool.take().unwrap()).collect();
    blocks.iter_mut().for_each(|b| b.fill(fill));
    blocks
}

/// Submits one job, and returns its outcome, which must be the only one.
fn run(disk: &mut impl Storage, job: DiskJob) -> Outcome {
    let now = Instant::from_micros(5);
    let op = DiskOp {
        id: ID,
        torrent: T,
        job,
    };
    disk.submit(now, op);
    assert!(disk.poll_timeout().is_some_and(|at| at <= now));
    let (answered, outcome) = disk.poll(now).unwrap();
    assert_eq!(answered, ID);
    assert!(disk.poll(now).is_none() && disk.poll_timeout().is_none());
    outcome
}

fn write(disk: &mut RamDisk, pool: &mut BlockPool, at: u64, len: u32, fill: u8) -> Outcome {
    let blocks = blocks(pool, fill, len);
    let hasher = Some(Hasher::sha1());
    run(
        disk,
        DiskJob::Write(WriteJob::new(ID, T, at, len, blocks, hasher)),
    )
}

fn kind(outcome: &Outcome) -> Option<OpErrorKind> {
    match outcome {
        Outcome::Failed { error, .. } => Some(error.kind),
        _ => None,
    }
}

fn shown(outcome: Outcome) -> Vec<bool> {
    match outcome {
        Outcome::Opened(files) | Outcome::Flushed(files) => {
            files.iter().map(Option::is_some).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_written_is_read_and_hashed() {
    let info = info(40_000, 10_000);
    let mut pool = BlockPool::new(8);
    let mut disk = RamDisk::new(50_000);
    assert_eq!(
        shown(run(&mut disk, DiskJob::Open { info: info.clone() })),
        [false; 2]
    );
    let written = write(&mut disk, &mut pool, 20_000, 20_000, 9);
    let Outcome::Written { blocks, hasher } = written else {
        panic!("{written:?}");
    };
    let sum = dunlin_core::hash::sha1(&[9; 20_000]);
    assert_eq!(hasher.unwrap().finish(), sum);
    let job = ReadJob::new(ID, T, 19_999, 20_000, blocks);
    let Outcome::Read(blocks) = run(&mut disk, DiskJob::Read(job)) else {
        panic!("not read");
    };
    assert_eq!((blocks[0][0], blocks[0][1], blocks[1][3615]), (0, 9, 9));
    let job = HashJob::new(ID, T, 20_000, 20_000, Hasher::sha1());
    let Outcome::Hashed(hasher) = run(&mut disk, DiskJob::Hash(job)) else {
        panic!("not hashed");
    };
    assert_eq!(hasher.finish(), sum);
    assert_eq!(
        (disk.used(), disk.content(info.info_hash()).unwrap()[39_999]),
        (50_000, 9)
    );
}

#[test]
fn an_unwanted_file_shows_when_it_is_wanted_and_was_touched() {
    let info = info(40_000, 10_000);
    let mut pool = BlockPool::new(8);
    let mut disk = RamDisk::new(50_000);
    run(&mut disk, DiskJob::Open { info });
    let wanted = vec![true, false];
    run(&mut disk, DiskJob::Select { wanted });
    write(&mut disk, &mut pool, 32_768, 17_000, 1);
    let flush = || DiskJob::Flush { durable: true };
    assert_eq!(shown(run(&mut disk, flush())), [true, false]);
    let wanted = vec![false, true];
    run(&mut disk, DiskJob::Select { wanted });
    assert_eq!(shown(run(&mut disk, flush())), [true, true]);
}

#[test]
fn times_of_files_only_go_up() {
    let info = info(40_000, 10_000);
    let mut pool = BlockPool::new(8);
    let mut disk = RamDisk::new(50_000);
    run(&mut disk, DiskJob::Open { info });
    let mut last = 0;
    for _ in 0..3 {
        write(&mut disk, &mut pool, 0, 10, 1);
        let Outcome::Flushed(files) = run(&mut disk, DiskJob::Flush { durable: false }) else {
            panic!("not flushed");
        };
        let now = files[0].unwrap().mtime_ns;
        assert!(now > last && files[1].is_none());
        last = now;
        pool = BlockPool::new(8);
    }
}

#[test]
fn content_and_record_outlive_the_engine_and_deletion_ends_both() {
    let info = info(40_000, 10_000);
    let hash = info.info_hash();
    let mut pool = BlockPool::new(8);
    let mut disk = RamDisk::new(50_000);
    let record = |n: u8| DiskJob::Save { record: vec![n] };
    // A magnet link saves before its files are known.
    run(&mut disk, record(1));
    assert_eq!(
        (disk.record_of(T), disk.record(hash)),
        (Some(&[1][..]), None)
    );
    run(&mut disk, DiskJob::Open { info: info.clone() });
    assert_eq!(disk.record(hash), Some(&[1][..]));
    run(&mut disk, record(2));
    write(&mut disk, &mut pool, 0, 10, 1);
    disk.reopen();
    assert_eq!(disk.record(hash), Some(&[2][..]));
    assert_eq!(shown(run(&mut disk, DiskJob::Open { info })), [true, false]);
    run(&mut disk, DiskJob::Release { delete: true });
    assert_eq!(
        (disk.used(), disk.content(hash), disk.record(hash)),
        (0, None, None)
    );
}

#[test]
fn every_failure_sends_the_blocks_home() {
    let info = info(40_000, 10_000);
    let mut pool = BlockPool::new(100);
    let mut small = RamDisk::new(49_999);
    let mut none = NoDisk::default();
    let mut closed = RamDisk::new(50_000);
    run(&mut small, DiskJob::Open { info: info.clone() });
    let mut home = |disk: &mut dyn FnMut(DiskJob) -> Outcome, at, len, why| {
        let blocks = blocks(&mut pool, 0, 20_000);
        let count = blocks.len();
        let write = WriteJob::new(ID, T, at, len, blocks, None);
        let outcome = disk(DiskJob::Write(write));
        assert_eq!(kind(&outcome), Some(why));
        let Outcome::Failed { blocks, .. } = outcome else {
            unreachable!();
        };
        assert_eq!(blocks.len(), count);
        let outcome = disk(DiskJob::Read(ReadJob::new(ID, T, at, len, blocks)));
        assert!(matches!(outcome, Outcome::Failed { blocks, .. } if blocks.len() == count));
    };
    home(
        &mut |job| run(&mut small, job),
        0,
        20_000,
        OpErrorKind::NoSpace,
    );
    home(
        &mut |job| run(&mut small, job),
        30_001,
        20_000,
        OpErrorKind::Io,
    );
    home(&mut |job| run(&mut small, job), 0, 40_000, OpErrorKind::Io);
    home(
        &mut |job| run(&mut closed, job),
        0,
        20_000,
        OpErrorKind::NotFound,
    );
    home(
        &mut |job| run(&mut none, job),
        0,
        20_000,
        OpErrorKind::Unsupported,
    );
}

#[test]
fn other_ops_are_handed_back() {
    let op = Op::Cancel { op: OpId(1) };
    assert!(matches!(DiskOp::take(op), Err(Op::Cancel { op: OpId(1) })));
}

quickcheck! {
    /// Every range gets an answer, and no panic.
    fn ranges_out_of_bounds_are_answered(at: u64, len: u32, hash: u64) -> bool {
        let mut disk = RamDisk::new(1 << 20);
        let info = info(40_000, 10_000);
        disk.put(&info, vec![0; 50_000]).unwrap();
        run(&mut disk, DiskJob::Open { info });
        let fits = |len: u64| at.checked_add(len).is_some_and(|end| end <= 50_000);
        let read = ReadJob::new(ID, T, at, len, Vec::new());
        let read = run(&mut disk, DiskJob::Read(read));
        let hashed = HashJob::new(ID, T, at, hash, Hasher::sha1());
        let hashed = run(&mut disk, DiskJob::Hash(hashed));
        kind(&read).is_none() == (len == 0 && fits(0)) && kind(&hashed).is_none() == fits(hash)
    }
}
