//! The eight laws of the contract between a driver and the engine, one test each.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod calls;
#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use calls::Step;
use common::commands::Commands;
use common::{World, add, torrent};
use dunlin_core::dht::DhtConfig;
use dunlin_core::engine::{Engine, Event, ReadBufs, Source};
use dunlin_core::{Caps, CloseReason, Config, DhtMode, Instant, Op, OpErrorKind, Outcome};
use quickcheck::{Gen, QuickCheck, TestResult};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const MINUTE: Duration = Duration::from_secs(60);

/// Stops a node in the middle of a transfer and counts what is still out.
#[test]
fn law_1_every_op_gets_one_outcome_and_blocks_come_home() {
    for seed in 0..8 {
        let (info, data) = torrent(3_000_000, 128 << 10);
        let mut w = World::new(seed);
        let (s, _) = w.seed(Config::default(), &info, &data);
        let own_port = Config {
            dht_port: Some(7000),
            ..with_dht()
        };
        let (l, id) = w.leech(own_port, &info, &[s]);
        w.nodes[l].disk_delay = Duration::from_millis(30);
        w.run(Duration::from_millis(60 + 40 * seed));
        match seed % 4 {
            0 => w.nodes[l].engine.shutdown(w.now),
            1 => assert!(w.nodes[l].engine.remove(w.now, id, true)),
            2 => assert!(w.nodes[l].engine.pause(w.now, id)),
            _ => w.nodes[l].disk_error = Some(OpErrorKind::Io),
        }
        if seed % 2 == 1 {
            w.nodes[l].engine.set_dht(w.now, DhtMode::Off);
        }
        w.nodes[s].engine.shutdown(w.now);
        w.run(MINUTE);
        for n in [s, l] {
            // The world asserts that no op is answered twice; here: none was forgotten.
            assert!(
                w.nodes[n].open_ops.is_empty(),
                "seed {seed}: {:?}",
                w.nodes[n].open_ops
            );
            assert_eq!(
                w.nodes[n].engine.status(w.now).blocks_lent,
                0,
                "seed {seed}, node {n}"
            );
            assert_eq!(w.nodes[n].engine.status(w.now).jobs, 0);
        }
    }
}

/// A DHT where private addresses count.
fn with_dht() -> Config {
    Config {
        dht: DhtMode::On,
        dht_config: DhtConfig {
            local: true,
            ..DhtConfig::default()
        },
        dht_routers: vec!["router.example:6881".parse().unwrap()],
        ..Config::default()
    }
}

fn engine(seed: u64, config: Config) -> Engine {
    let rng = Box::new(ChaCha8Rng::seed_from_u64(seed));
    Engine::new(Instant::from_micros(1), config, Caps::all(), rng)
}

#[test]
fn law_2_any_call_order_is_legal() {
    fn survives(seed: u64, steps: Vec<Step>) -> bool {
        let mut e = engine(seed, with_dht());
        calls::make(&mut e, Instant::from_micros(5), &steps);
        true
    }
    QuickCheck::new()
        .rng(Gen::new(300))
        .tests(300)
        .quickcheck(survives as fn(u64, Vec<Step>) -> bool);
}

#[test]
fn law_3_a_handled_timeout_never_spins() {
    fn no_spin(seed: u64, steps: Vec<Step>) -> TestResult {
        let mut e = engine(seed, with_dht());
        calls::make(&mut e, Instant::from_micros(5), &steps);
        for _ in 0..50 {
            let Some(at) = e.poll_timeout() else {
                return TestResult::passed();
            };
            e.handle_timeout(at);
            if e.poll_timeout().is_some_and(|next| next <= at) && !e.has_output() {
                return TestResult::error(format!("spins at {at:?} on {:?}", e.timeout_reason()));
            }
        }
        TestResult::passed()
    }
    QuickCheck::new()
        .rng(Gen::new(200))
        .tests(300)
        .quickcheck(no_spin as fn(u64, Vec<Step>) -> TestResult);
}

#[test]
fn law_3_who_waits_for_blocks_does_not_keep_the_driver_polling() {
    let (info, data) = common::torrent(4_000_000, 64 << 10);
    let mut w = World::new(3);
    // Uploads leave an eighth of the pool alone, so they wait while some blocks are free.
    let few = Config {
        max_blocks: 40,
        ..Config::default()
    };
    let (seed, _) = w.seed(few, &info, &data);
    w.nodes[seed].disk_delay = Duration::from_millis(50);
    for _ in 0..12 {
        w.leech(Config::default(), &info, &[seed]);
    }
    let (mut buf, mut waited) = ([0; 1500], false);
    for _ in 0..1_000 {
        w.run(Duration::from_millis(10));
        let now = w.now;
        let engine = &mut w.nodes[seed].engine;
        waited |= engine.waits_for_blocks();
        assert!(engine.poll_transmit(now, 1, &mut buf).is_none());
        assert!(!engine.has_output());
    }
    assert!(waited, "blocks were never short");
}

/// Counted, not timed: an idle engine with many torrents does not touch them.
#[test]
fn law_4_an_idle_engine_wakes_seldom_and_for_one_thing() {
    let mut e = engine(4, Config::default());
    let mut now = Instant::from_micros(10);
    for n in 0..200u8 {
        let mut hash = [0; 20];
        hash[0] = n;
        let source = Source::Hash {
            info_hash: dunlin_core::InfoHash(hash),
            name: None,
        };
        e.add(now, add(source)).unwrap();
    }
    while e.poll_op().is_some() || e.poll_event().is_some() {}
    let (start, mut wakes) = (now, 0);
    while let Some(at) = e.poll_timeout() {
        if at.saturating_since(start) > 60 * MINUTE {
            break;
        }
        now = at;
        e.handle_timeout(now);
        while e.poll_op().is_some() || e.poll_event().is_some() {}
        wakes += 1;
    }
    // 200 torrents without peers or trackers have a save timer each and nothing else to do.
    assert!(wakes <= 200 * 61, "{wakes} wake-ups in an hour");
}

#[test]
fn law_4_a_call_that_concerns_all_torrents_works_through_a_few_at_a_time() {
    let config = Config {
        max_jobs: 10_000,
        max_lookups: 10_000,
        listen: [std::net::SocketAddr::from(([0, 0, 0, 0], 0))]
            .into_iter()
            .collect(),
        ..Config::default()
    };
    let mut e = engine(4, config);
    let mut now = Instant::from_micros(10);
    for n in 0..1000_u32 {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        let source = Source::Hash {
            info_hash: dunlin_core::InfoHash(hash),
            name: None,
        };
        let trackers = vec![vec![format!("udp://tracker{n}.test:1")]];
        let torrent = dunlin_core::engine::AddTorrent {
            trackers,
            ..add(source)
        };
        e.add(now, torrent).unwrap();
    }
    let mut binds = Vec::new();
    while let Some(op) = e.poll_op() {
        if let Op::Bind { op, local, .. } = op {
            binds.push((op, local));
        }
    }
    // With the sockets bound, each torrent may ask its tracker.
    let asked = |e: &mut Engine| -> BTreeSet<String> {
        let ops = std::iter::from_fn(|| e.poll_op());
        ops.filter_map(|op| match op {
            Op::Resolve { host, .. } => Some(host),
            _ => None,
        })
        .collect()
    };
    let mut all = BTreeSet::new();
    for (op, local) in binds {
        e.handle_op(now, op, Outcome::Bound(local));
        let some = asked(&mut e);
        assert!(some.len() <= 100, "{} at once", some.len());
        all.extend(some);
    }
    let start = now;
    while let Some(at) = e.poll_timeout().filter(|_| all.len() < 1000) {
        now = at;
        e.handle_timeout(now);
        let some = asked(&mut e);
        assert!(some.len() <= 100, "{} at once", some.len());
        all.extend(some);
    }
    assert_eq!(all.len(), 1000);
    assert!(now.saturating_since(start) < Duration::from_secs(1));
}

#[test]
fn law_5_time_is_clamped_and_a_jump_is_survived() {
    let (info, data) = torrent(2_000_000, 64 << 10);
    let mut w = World::new(5);
    let slow = Config {
        limit_up: Some(200_000),
        ..Config::default()
    };
    let (s, _) = w.seed(slow, &info, &data);
    let (l, id) = w.leech(Config::default(), &info, &[s]);
    w.run(Duration::from_secs(2));
    // Backwards: nothing changes.
    let before = w.nodes[l].engine.poll_timeout();
    w.nodes[l].engine.handle_timeout(Instant::from_micros(1));
    assert_eq!(w.nodes[l].engine.poll_timeout(), before);
    // A night's sleep.
    w.now += Duration::from_secs(8 * 3600);
    for n in [s, l] {
        w.nodes[n].engine.handle_timeout(w.now);
    }
    assert!(
        w.run_until(60 * MINUTE, |w| w.has(l, id, &data)),
        "{:?}",
        w.nodes[l].engine.torrent(id).map(|t| t.status(w.now))
    );
}

#[test]
fn law_6_hostile_bytes_end_the_peer_at_most() {
    fn survives(seed: u64, chunks: Vec<Vec<u8>>) -> bool {
        let (info, _) = torrent(100_000, 32 << 10);
        let mut e = engine(seed, Config::default());
        let now = Instant::from_micros(10);
        e.add(now, add(Source::Info(info.clone()))).unwrap();
        while let Some(op) = e.poll_op() {
            if let Some(id) = op.id() {
                e.handle_op(now, id, Outcome::Opened(vec![None]));
            }
        }
        let Some(conn) = e.accept(now, "10.8.8.8:88".parse().unwrap()) else {
            return false;
        };
        // Half of the cases get past the handshake first.
        let mut hello = Vec::new();
        if seed.is_multiple_of(2) {
            hello.extend_from_slice(b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05");
            hello.extend_from_slice(&info.info_hash().0);
            hello.extend_from_slice(b"-XX0001-abcdefghijkl");
        }
        for chunk in std::iter::once(&hello).chain(&chunks) {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                let mut bufs = ReadBufs::new();
                e.read_bufs(now, conn, &mut bufs);
                let mut len = 0;
                for buf in &mut bufs {
                    let n = buf.len().min(rest.len());
                    buf[..n].copy_from_slice(&rest[..n]);
                    rest = &rest[n..];
                    len += n;
                }
                drop(bufs);
                if len == 0 {
                    break;
                }
                e.handle_read(now, conn, len);
            }
        }
        e.handle_closed(now, conn, CloseReason::Eof);
        e.status(now).blocks_lent == 0 && e.status(now).connections == 0
    }
    QuickCheck::new()
        .rng(Gen::new(120))
        .tests(1000)
        .quickcheck(survives as fn(u64, Vec<Vec<u8>>) -> bool);
}

#[test]
fn law_7_the_same_seed_gives_the_same_bytes() {
    let run = |seed| {
        let (info, data) = torrent(1_500_000, 64 << 10);
        let mut w = World::new(seed);
        let (s, _) = w.seed(Config::default(), &info, &data);
        let (a, ia) = w.leech(Config::default(), &info, &[s]);
        let (b, ib) = w.leech(Config::default(), &info, &[s, a]);
        assert!(w.run_until(MINUTE, |w| w.has(a, ia, &data) && w.has(b, ib, &data)));
        w.trace
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12), "the trace sees nothing");
}

#[test]
fn law_8_every_table_has_a_bound() {
    let config = Config {
        max_torrents: 3,
        max_connections: 5,
        max_known_peers: 20,
        max_jobs: 4,
        max_blocks: 6,
        max_notices: 10,
        ..Config::default()
    };
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let mut w = World::new(8);
    let (info, data) = torrent(1_000_000, 32 << 10);
    let (s, _) = w.seed(Config::default(), &info, &data);
    let (l, id) = w.leech(config, &info, &[s]);
    for _ in 0..500 {
        let n = rng.next_u32();
        let addr =
            std::net::SocketAddr::from(([10, 77, (n >> 8) as u8, n as u8], 1 + (n >> 16) as u16));
        w.nodes[l].engine.add_peers(w.now, id, &[addr]);
    }
    for n in 0..10 {
        let source = Source::Hash {
            info_hash: dunlin_core::InfoHash([n; 20]),
            name: None,
        };
        let _ = w.nodes[l].engine.add(w.now, add(source));
    }
    let mut most = (0, 0, 0);
    let done = w.run_until(20 * MINUTE, |w| {
        let s = w.nodes[l].engine.status(w.now);
        most = (
            most.0.max(s.connections),
            most.1.max(s.jobs),
            most.2.max(s.blocks_lent),
        );
        w.has(l, id, &data)
    });
    assert!(
        done,
        "{:?}",
        w.nodes[l].engine.torrent(id).map(|t| t.status(w.now))
    );
    let status = w.nodes[l].engine.status(w.now);
    assert_eq!(status.torrents, 3);
    assert!(most.0 <= 5 && most.1 <= 4 && most.2 <= 6, "{most:?}");
    assert!(w.nodes[l].most_jobs <= 4);
    assert!(w.nodes[l].engine.torrent(id).unwrap().status(w.now).known <= 20);
    // An application that fetches no events: notices make way and are counted.
    for _ in 0..50 {
        w.nodes[l].engine.pause(w.now, id);
        w.nodes[l].engine.resume(w.now, id);
    }
    let mut notices = 0;
    while let Some(event) = w.nodes[l].engine.poll_event() {
        notices += u32::from(matches!(event, Event::Notice(_)));
    }
    assert!(notices <= 10);
}
