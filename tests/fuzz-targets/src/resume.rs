//! Resume records: an engine is handed one, and a disk on which some files exist.

use dunlin_core::engine::{AddTorrent, Command, Engine, Source};
use dunlin_core::op::FileStat;
use dunlin_core::{Caps, Config, Instant, Op, Outcome};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::payload::torrents;

/// The boot that the committed records were written in.
pub const BOOT: [u8; 16] = [9; 16];
/// Ops that a torrent of five pieces needs to be checked and stopped, with ample room.
const MAX_OPS: u32 = 1_000;

/// The first byte says what the disk is like, the rest is the record.
pub fn run(data: &[u8]) {
    let Some((&how, record)) = data.split_first() else {
        return;
    };
    let now = Instant::from_micros(1_000_000);
    let rng = Box::new(ChaCha8Rng::seed_from_u64(4));
    let config = Config {
        boot: (how & 1 == 0).then_some(BOOT),
        ..Config::default()
    };
    let mut engine = Engine::new(now, config, Caps::all(), rng);
    let info = &torrents()[0];
    let source = if how & 2 == 0 {
        Source::Info(info.clone())
    } else {
        let info_hash = info.info_hash();
        Source::Hash {
            info_hash,
            name: None,
        }
    };
    let mut torrent = AddTorrent::new(source);
    torrent.resume = Some(record.to_vec());
    let id = engine.add(now, torrent).expect("there is room");
    let stat = |(n, len): (usize, u64)| {
        (how >> (2 + n) & 1 == 0).then_some(FileStat {
            len,
            mtime_ns: 5,
            id: (how & 0x80 == 0).then_some(len),
        })
    };
    let stats: Vec<_> = info
        .files()
        .iter()
        .map(|f| f.len)
        .enumerate()
        .map(stat)
        .collect();
    drive(&mut engine, now, &stats, how & 0x80 == 0);
    let status = engine.torrent(id).expect("it is there").status(now);
    assert!(status.pieces_done <= status.pieces && status.done <= status.total);
    engine
        .command(now, Command::SaveAll)
        .expect("it is always carried out");
    engine
        .command(now, Command::Shutdown)
        .expect("it is always carried out");
    drive(&mut engine, now, &stats, true);
    assert_eq!(engine.status(now).blocks_lent, 0);
}

/// Answers every op; `good` says whether what is read from the disk is as it should be.
fn drive(engine: &mut Engine, now: Instant, stats: &[Option<FileStat>], good: bool) {
    let mut ops = 0;
    while let Some(op) = engine.poll_op() {
        ops += 1;
        assert!(ops <= MAX_OPS, "it does not come to rest: {op:?}");
        let Some(id) = op.id() else {
            continue;
        };
        let outcome = match op {
            Op::Open { .. } => Outcome::Opened(stats.to_vec()),
            Op::Flush { .. } => Outcome::Flushed(stats.to_vec()),
            Op::Hash(mut job) => {
                let content = vec![u8::from(!good); job.len as usize];
                job.hasher().update(&content);
                job.done()
            }
            Op::Read(job) => job.done(),
            Op::Write(job) => job.done(),
            _ => Outcome::Done,
        };
        engine.handle_op(now, id, outcome);
    }
    engine.audit().expect("its books are right");
    while engine.poll_event().is_some() {}
}
