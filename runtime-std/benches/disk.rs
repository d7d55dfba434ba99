//! What the disk costs beside a bare loop: `cargo bench -p dunlin-std --bench disk`.
//!
//! Writes and hashes, then checks, one file in a temporary folder (`TMPDIR`; a memory file
//! system shows the program and not the device). `DISK_MIB` sets its size, 1024 by default.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::{
    fs::File,
    io::{IoSlice, Write},
    ops::ControlFlow,
    path::Path,
    sync::{Arc, mpsc::channel},
    time::{Duration, Instant},
};

use dunlin_core::{
    BLOCK_LEN, Block, BlockPool, Hasher, Op, OpId, Outcome, TorrentId,
    metainfo::Info,
    op::{HashJob, WriteJob},
};
use dunlin_std::{
    disk::{Disk, DiskConfig, Placement},
    tree::hash_pieces,
};

const PIECE: usize = 1 << 20;
/// Bytes handed over at once: one block, and sixteen.
const RUNS: [usize; 2] = [BLOCK_LEN, 16 * BLOCK_LEN];

/// Processor time of this process so far.
fn cpu() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

fn report(what: &str, mib: usize, start: Instant, before: Duration) {
    let (wall, cpu) = (
        start.elapsed().as_secs_f64(),
        (cpu() - before).as_secs_f64(),
    );
    let gib = mib as f64 / 1024.0;
    println!(
        "{what:<34} wall {:6.3} s/GiB   cpu {:6.3} s/GiB",
        wall / gib,
        cpu / gib
    );
}

fn blocks(pool: &mut BlockPool, byte: u8, run: usize) -> Vec<Block> {
    (0..run / BLOCK_LEN)
        .map(|_| {
            let mut block = pool.take().unwrap();
            block.fill(byte); // as the socket would
            block
        })
        .collect()
}

/// The floor: fill, hash and write in one thread.
fn bare(dir: &Path, mib: usize, size: usize) {
    let file = File::create(dir.join("bare")).unwrap();
    let mut pool = BlockPool::new(64);
    let (start, before) = (Instant::now(), cpu());
    let mut hasher = Hasher::sha1();
    for run in 0..mib * (1 << 20) / size {
        let blocks = blocks(&mut pool, run as u8, size);
        blocks.iter().for_each(|b| hasher.update(b));
        let slices: Vec<_> = blocks.iter().map(|b| IoSlice::new(b)).collect();
        let n = rustix::io::pwritev(&file, &slices, (run * size) as u64).unwrap();
        assert_eq!(n, size);
        if run % (PIECE / size) == PIECE / size - 1 {
            std::hint::black_box(std::mem::replace(&mut hasher, Hasher::sha1()).finish());
        }
        pool.give_all(blocks);
    }
    report(&format!("bare, {} KiB", size >> 10), mib, start, before);
    std::fs::remove_file(dir.join("bare")).unwrap();
}

/// The same through the disk, `width` pieces side by side.
fn disk(dir: &Path, mib: usize, size: usize, threads: usize, width: usize) {
    let (tx, rx) = channel();
    let notify = Arc::new(move || tx.send(()).unwrap_or_default());
    let config = DiskConfig {
        threads,
        ..DiskConfig::default()
    };
    let disk = Disk::new(config, notify).unwrap();
    let info = Arc::new(info(mib));
    let torrent = TorrentId(0);
    disk.place(
        torrent,
        Placement {
            dir: dir.into(),
            ..Placement::default()
        },
    );
    let open = Op::Open {
        op: OpId(0),
        torrent,
        info: Arc::clone(&info),
    };
    assert!(disk.submit(open).is_none());
    let mut out = Vec::new();
    let wait = |out: &mut Vec<_>| {
        while out.is_empty() {
            rx.recv().unwrap();
            disk.drain(out);
        }
    };
    wait(&mut out);
    out.clear();

    let mut pool = BlockPool::new(4096);
    let (start, before) = (Instant::now(), cpu());
    let mut next_piece = 0;
    // The id of an op is its offset.
    let write = |at: u64, hasher: Hasher, pool: &mut BlockPool| {
        let blocks = blocks(pool, at as u8, size);
        let job = WriteJob::new(OpId(at), torrent, at, size as u32, blocks, Some(hasher));
        assert!(disk.submit(Op::Write(job)).is_none());
    };
    let mut running = 0;
    while running < width && next_piece < mib as u64 {
        write(next_piece * PIECE as u64, Hasher::sha1(), &mut pool);
        (running, next_piece) = (running + 1, next_piece + 1);
    }
    while running > 0 {
        wait(&mut out);
        for (OpId(at), outcome) in out.drain(..) {
            let Outcome::Written { blocks, hasher } = outcome else {
                panic!("{outcome:?}");
            };
            pool.give_all(blocks);
            let (at, hasher) = (at + size as u64, hasher.unwrap());
            if !at.is_multiple_of(PIECE as u64) {
                write(at, hasher, &mut pool);
                continue;
            }
            std::hint::black_box(hasher.finish());
            if next_piece < mib as u64 {
                write(next_piece * PIECE as u64, Hasher::sha1(), &mut pool);
                next_piece += 1;
            } else {
                running -= 1;
            }
        }
    }
    report(
        &format!(
            "disk, {} KiB, {threads} threads, {width} pieces",
            size >> 10
        ),
        mib,
        start,
        before,
    );

    let (start, before) = (Instant::now(), cpu());
    let hash = |piece: u64| {
        let (id, at) = (OpId(piece), piece * PIECE as u64);
        let job = HashJob::new(id, torrent, at, PIECE as u64, Hasher::sha1());
        assert!(disk.submit(Op::Hash(job)).is_none());
    };
    let (mut next, mut checked) = (0, 0);
    while next < 2 * threads as u64 {
        hash(next);
        next += 1;
    }
    while checked < mib {
        wait(&mut out);
        for (_, outcome) in out.drain(..) {
            assert!(matches!(outcome, Outcome::Hashed(_)), "{outcome:?}");
            checked += 1;
            if next < mib as u64 {
                hash(next);
                next += 1;
            }
        }
    }
    report(&format!("check: {threads} threads"), mib, start, before);
    let release = Op::Release {
        op: OpId(0),
        torrent,
        delete: true,
    };
    assert!(disk.submit(release).is_none());
    wait(&mut out);
}

/// The whole file by [`hash_pieces`], as `dunlin check` does it.
fn check(dir: &Path, mib: usize) {
    let path = dir.join("whole");
    let mut file = File::create(&path).unwrap();
    let chunk: Vec<u8> = (0..1 << 20).map(|i| (i * 7) as u8).collect();
    (0..mib).for_each(|_| file.write_all(&chunk).unwrap());
    let info = info(mib);
    for threads in [Some(1), None] {
        let (start, before) = (Instant::now(), cpu());
        hash_pieces(
            info.layout(),
            std::slice::from_ref(&path),
            threads,
            |_, hash| {
                std::hint::black_box(hash.unwrap());
                ControlFlow::Continue(())
            },
        );
        report(
            &format!("hash_pieces, threads {threads:?}"),
            mib,
            start,
            before,
        );
    }
    std::fs::remove_file(path).unwrap();
}

/// A torrent of one file; its hashes are not looked at here.
fn info(mib: usize) -> Info {
    let (len, pieces) = (mib << 20, mib * 20);
    let mut raw = format!("d6:lengthi{len}e4:name5:bench12:piece lengthi{PIECE}e6:pieces{pieces}:");
    raw.extend(std::iter::repeat_n('\0', pieces));
    raw.push('e');
    Info::from_raw(raw.into_bytes()).unwrap()
}

fn main() {
    let mib = std::env::var("DISK_MIB").map_or(1024, |s| s.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), mib);
    for size in RUNS.into_iter().cycle().take(2 * RUNS.len()) {
        bare(dir.path(), mib, size);
        for (threads, width) in [(1, 1), (2, 8), (4, 32)] {
            disk(dir.path(), mib, size, threads, width);
        }
    }
}
