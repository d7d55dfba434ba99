use dunlin_core::{BLOCK_LEN, Hasher, metainfo::Builder};
use dunlin_smoltcp::storage::DiskJob;

use super::*;
use crate::rng::SimRng;

const PIECE: usize = 32 << 10;

fn torrent() -> (Arc<Info>, Arc<[u8]>) {
    let content: Arc<[u8]> = (0..5 * PIECE + 100).map(|i| (i / 7) as u8 | 1).collect();
    let hashes: Vec<[u8; 20]> = content.chunks(PIECE).map(dunlin_core::hash::sha1).collect();
    let mut builder = Builder::file("content", content.len() as u64);
    builder.piece_len = Some(PIECE as u32);
    (
        builder.draft().unwrap().finish(&hashes).unwrap().info,
        content,
    )
}

struct Bench {
    disk: SimDisk,
    info: Arc<Info>,
    content: Arc<[u8]>,
    now: Instant,
    next: u64,
}

const T: TorrentId = TorrentId(0);

impl Bench {
    fn new(config: DiskConfig, seed: u64) -> Self {
        let (info, content) = torrent();
        let mut disk = SimDisk::new(config, Box::new(SimRng::new(seed)));
        disk.expect(&info, content.clone());
        let now = Instant::ORIGIN;
        let mut bench = Self {
            disk,
            info,
            content,
            now,
            next: 0,
        };
        bench.open();
        bench
    }

    fn open(&mut self) {
        let info = self.info.clone();
        let opened = self.run(DiskJob::Open { info });
        assert!(matches!(opened, Outcome::Opened(files) if files.len() == 1));
    }

    fn run(&mut self, job: DiskJob) -> Outcome {
        self.next += 1;
        let id = OpId(self.next);
        let torrent = T;
        self.disk.submit(self.now, DiskOp { id, torrent, job });
        self.now = self.disk.poll_timeout().unwrap();
        let (got, outcome) = self.disk.poll(self.now).unwrap();
        assert_eq!(got, id);
        outcome
    }

    fn write(&mut self, at: usize, len: usize) -> Outcome {
        let mut pool = dunlin_core::BlockPool::new(64);
        let content = self.content.clone();
        let blocks = content[at..at + len]
            .chunks(BLOCK_LEN)
            .map(|part| {
                let mut block = pool.take().unwrap();
                block[..part.len()].copy_from_slice(part);
                block
            })
            .collect();
        let job = WriteJob::new(OpId(0), T, at as u64, len as u32, blocks, None);
        self.run(DiskJob::Write(job))
    }

    fn flush(&mut self) {
        let done = self.run(DiskJob::Flush { durable: true });
        assert!(matches!(done, Outcome::Flushed(_)));
    }

    /// Which pieces are correct.
    fn pieces(&mut self) -> Vec<bool> {
        (0..self.info.piece_count())
            .map(|piece| {
                let (at, len) = (self.info.piece_offset(piece), self.info.piece_size(piece));
                let job = HashJob::new(OpId(0), T, at, len.into(), Hasher::sha1());
                match self.run(DiskJob::Hash(job)) {
                    Outcome::Hashed(h) => Some(h.finish()) == self.info.piece_hash(piece),
                    _ => false,
                }
            })
            .collect()
    }
}

#[test]
fn what_was_written_is_read_and_costs_no_memory() {
    let mut bench = Bench::new(DiskConfig::ssd(), 1);
    let len = bench.content.len();
    assert!(!bench.disk.holds(&bench.info.clone()));
    for at in (0..len).step_by(PIECE) {
        let written = bench.write(at, PIECE.min(len - at));
        assert!(matches!(written, Outcome::Written { .. }));
    }
    assert_eq!(bench.pieces(), [true; 6]);
    assert!(bench.disk.holds(&bench.info.clone()));
    assert_eq!(bench.disk.own_bytes(), 0);
}

#[test]
fn a_job_takes_its_time_and_waits_for_the_one_before() {
    let mut bench = Bench::new(DiskConfig::hdd(), 1);
    let began = bench.now;
    for id in 1..=3 {
        let op = OpId(100 + id);
        bench.disk.submit(
            began,
            DiskOp {
                id: op,
                torrent: T,
                job: DiskJob::Flush { durable: true },
            },
        );
    }
    let mut last = began;
    for _ in 0..3 {
        let at = bench.disk.poll_timeout().unwrap();
        assert!(
            bench
                .disk
                .poll(Instant::from_micros(at.as_micros() - 1))
                .is_none()
        );
        assert!(bench.disk.poll(at).is_some());
        assert!(at >= last + Duration::from_millis(27));
        last = at;
    }
}

#[test]
fn a_full_disk_says_so_and_keeps_what_it_has() {
    let config = DiskConfig {
        capacity: PIECE as u64,
        ..DiskConfig::ssd()
    };
    let mut bench = Bench::new(config, 1);
    assert!(matches!(bench.write(0, PIECE), Outcome::Written { .. }));
    let refused = bench.write(PIECE, PIECE);
    let Outcome::Failed { error, blocks } = refused else {
        panic!("written to a full disk");
    };
    assert_eq!((error.kind, blocks.len()), (OpErrorKind::NoSpace, 2));
    // Data that the disk already holds may be written again.
    assert!(matches!(bench.write(0, PIECE), Outcome::Written { .. }));
    assert!(bench.pieces()[0]);
}

#[test]
fn a_power_cut_spares_what_was_flushed_and_harms_the_rest() {
    let mut harmed = 0;
    for seed in 0..50 {
        let mut bench = Bench::new(DiskConfig::ssd(), seed);
        let _ = bench.write(0, 2 * PIECE);
        bench.flush();
        let _ = bench.write(2 * PIECE, 2 * PIECE);
        bench.disk.power_cut();
        bench.open();
        let pieces = bench.pieces();
        assert!(
            pieces[0] && pieces[1],
            "flushed pieces are lost with seed {seed}"
        );
        assert!(!pieces[4]);
        harmed += usize::from(!pieces[2]);
    }
    assert!(
        harmed > 40,
        "unflushed pieces survived too often: {harmed} of 50 were harmed"
    );
}

#[test]
fn the_end_of_a_process_spares_everything() {
    let mut bench = Bench::new(DiskConfig::ssd(), 1);
    let _ = bench.write(0, PIECE);
    bench.disk.process_ended();
    bench.open();
    assert!(bench.pieces()[0]);
}

#[test]
fn a_failing_disk_fails_about_as_often_as_it_is_told() {
    let config = DiskConfig {
        errors_ppm: 250_000,
        ..DiskConfig::ssd()
    };
    let mut bench = Bench::new(config, 3);
    let failed = (0..400)
        .filter(|_| matches!(bench.write(0, PIECE), Outcome::Failed { .. }))
        .count();
    assert!((60..140).contains(&failed), "{failed} of 400");
    assert_eq!(bench.disk.stats().failures, failed as u64);
}

#[test]
fn a_flush_that_goes_on_beside_writes_does_not_cover_them() {
    let mut harmed = 0;
    for seed in 0..20 {
        let mut bench = Bench::new(DiskConfig::ssd(), seed);
        bench.disk.flush_beside();
        let _ = bench.write(0, 2 * PIECE);
        let id = OpId(1_000);
        let job = DiskJob::Flush { durable: true };
        let torrent = T;
        bench.disk.submit(bench.now, DiskOp { id, torrent, job });
        bench.now = bench.disk.poll_timeout().unwrap();
        assert!(bench.disk.poll(bench.now).is_none(), "it has only begun");
        // The write is answered first.
        let _ = bench.write(2 * PIECE, 2 * PIECE);
        bench.now = bench.disk.poll_timeout().unwrap();
        let flushed = bench.disk.poll(bench.now);
        assert!(matches!(flushed, Some((OpId(1_000), Outcome::Flushed(_)))));
        bench.disk.power_cut();
        bench.open();
        let pieces = bench.pieces();
        assert!(pieces[0] && pieces[1], "lost with seed {seed}");
        harmed += usize::from(!pieces[2]);
    }
    assert!(harmed > 15, "{harmed} of 20 were harmed");
}

#[test]
fn the_power_fails_at_the_job_that_was_named() {
    let mut bench = Bench::new(DiskConfig::ssd(), 1);
    bench.disk.fail_power_at(bench.disk.jobs_done() + 1);
    bench.flush();
    let (id, torrent) = (OpId(1_000), T);
    let job = DiskJob::Flush { durable: true };
    bench.disk.submit(bench.now, DiskOp { id, torrent, job });
    bench.now = bench.disk.poll_timeout().unwrap();
    assert!(bench.disk.poll(bench.now).is_none() && bench.disk.has_lost_power());
    bench.disk.power_cut();
    assert!(!bench.disk.has_lost_power() && bench.disk.power_cuts() == 1);
    bench.open();
}
