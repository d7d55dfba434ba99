//! Tests of the disk on real files in a temporary folder.

mod bench;
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
    BLOCK_LEN, Bitfield, Block, BlockPool, Hasher, Op, OpError, OpErrorKind, OpId, Outcome,
    TorrentId,
    hash::sha1,
    metainfo::{FileKind, Info},
    op::{Claim, FileStat, HashJob, ReadJob, Whose, WriteJob},
};
use tempfile::TempDir;

pub(super) use self::bench::Faults;
use self::bench::{Bench, T, content, info};
use super::*;

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
        let write = |op| Op::Write(WriteJob::new(op, T, at, 16_384, blocks, None));
        ids.push(b.submit(write));
        if i % 10 == 0 {
            ids.push(b.submit(|op| Op::Flush {
                op,
                torrent: T,
                durable: true,
            }));
        }
        let hash = |op| Op::Hash(HashJob::new(op, T, at, 16_384, Hasher::sha1()));
        let hash = b.submit(hash);
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
        let at = i * 16_384;
        b.submit(|op| Op::Write(WriteJob::new(op, T, at, 16_384, blocks, None)));
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
