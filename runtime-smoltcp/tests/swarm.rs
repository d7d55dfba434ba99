//! Drivers exchange a torrent over a faulty link.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::time::Duration;

use common::{Link, World, addr, torrent};
use dunlin_core::Config;
use dunlin_core::engine::{AddTorrent, Command, Source, State};
use dunlin_smoltcp::{Hardware, NetConfig};

const LIMIT: Duration = Duration::from_secs(300);

/// Runs a seed and a leecher. Returns the world when the leecher is complete.
fn pair(seed: u64, ethernet: bool, v6: bool, link: Link, len: usize) -> World {
    let (info, data) = torrent(len, 64 << 10);
    let mut world = World::new(seed);
    world.link = link;
    let a = world.plain(ethernet);
    let b = world.plain(ethernet);
    world.seed(a, &info, &data);
    let id = world.leech(b, &info, &[addr(a, v6)]);
    let done = world.run_until(LIMIT, |w| w.has(b, id, &info, &data));
    let stats = world.nodes[b].driver.stats();
    assert!(done, "{stats:?}");
    world
}

const BAD: Link = Link {
    delay: Duration::from_millis(10),
    jitter: Duration::from_millis(4),
    loss: 20,
    twice: 20,
    corrupt: 20,
};

#[test]
fn a_torrent_comes_over_bit_exact_on_every_medium_and_family() {
    for ethernet in [false, true] {
        for v6 in [false, true] {
            let mut world = pair(1, ethernet, v6, Link::default(), 1_000_003);
            world.audit();
        }
    }
}

#[test]
fn a_torrent_comes_over_a_link_that_loses_and_reorders() {
    for (seed, ethernet, v6) in [(1, false, false), (2, true, true), (3, true, false)] {
        let mut world = pair(seed, ethernet, v6, BAD, 1_000_003);
        world.audit();
    }
}

#[test]
fn four_drivers_share_what_one_has() {
    let (info, data) = torrent(2_000_000, 64 << 10);
    for (seed, ethernet, link) in [(1, false, Link::default()), (2, true, BAD)] {
        let mut world = World::new(seed);
        world.link = link;
        let nodes: Vec<usize> = (0..4).map(|_| world.plain(ethernet)).collect();
        world.seed(nodes[0], &info, &data);
        let ids: Vec<_> = nodes[1..]
            .iter()
            // Half of them know the seed by its IPv6 address, and PEX tells the others.
            .map(|n| (*n, world.leech(*n, &info, &[addr(0, n % 2 == 1)])))
            .collect();
        let done = world.run_until(LIMIT, |w| {
            ids.iter().all(|(n, id)| w.has(*n, *id, &info, &data))
        });
        assert!(done);
        world.audit();
    }
}

#[test]
fn the_tiny_configuration_both_seeds_and_fetches() {
    // One piece fits into the three blocks.
    let (info, data) = torrent(200_000, 32 << 10);
    for tiny_seeds in [false, true] {
        let mut world = World::new(5);
        for tiny in [tiny_seeds, !tiny_seeds] {
            let n = world.nodes.len();
            let mut config = if tiny {
                Config::tiny()
            } else {
                Config::default()
            };
            let mut net = World::net(n, true, &config);
            if tiny {
                let addresses = net.addresses.clone();
                net = NetConfig {
                    addresses,
                    ..NetConfig::tiny(net.hardware)
                };
                // One UDP socket serves both families.
                config.pex = false;
            }
            world.node(net, config);
        }
        world.seed(0, &info, &data);
        let id = world.leech(1, &info, &[addr(0, false)]);
        let done = world.run_until(LIMIT, |w| w.has(1, id, &info, &data));
        assert!(done, "{:?}", world.nodes[1].driver.stats());
        world.audit();
    }
}

#[test]
fn a_slow_disk_slows_the_download_and_loses_nothing() {
    let (info, data) = torrent(3_000_000, 64 << 10);
    let mut world = World::new(6);
    let (a, b) = (world.plain(false), world.plain(false));
    world.seed(a, &info, &data);
    world.nodes[b].driver.storage_mut().delay = Duration::from_millis(150);
    let id = world.leech(b, &info, &[addr(a, false)]);
    assert!(world.run_until(LIMIT, |w| w.has(b, id, &info, &data)));
    let most = world.nodes[b].driver.storage().most;
    assert!(
        most > 1 && most <= Config::default().max_jobs as usize,
        "{most} jobs at once"
    );
    world.audit();
}

#[test]
fn a_full_memory_disk_is_said_and_its_blocks_come_home() {
    let (info, data) = torrent(1_000_000, 64 << 10);
    let mut world = World::new(7);
    let (a, b) = (world.plain(false), world.plain(false));
    world.seed(a, &info, &data);
    world.nodes[b].driver.storage_mut().inner = dunlin_smoltcp::RamDisk::new(500_000);
    let id = world.leech(b, &info, &[addr(a, false)]);
    let failed = world.run_until(LIMIT, |w| {
        let status = w.nodes[b]
            .driver
            .engine()
            .torrent(id)
            .map(|t| t.status(w.now));
        status.is_some_and(|t| matches!(t.state, State::Failed(_)))
    });
    assert!(failed);
    world.audit();
}

#[test]
fn a_restart_goes_on_with_what_the_disk_has() {
    let (info, data) = torrent(2_000_000, 64 << 10);
    let mut world = World::new(8);
    let (a, b) = (world.plain(false), world.plain(false));
    world.seed(a, &info, &data);
    let id = world.leech(b, &info, &[addr(a, false)]);
    let half = world.run_until(LIMIT, |w| {
        let status = w.nodes[b]
            .driver
            .engine()
            .torrent(id)
            .map(|t| t.status(w.now));
        status.is_some_and(|t| t.pieces_done * 2 > t.pieces)
    });
    assert!(half);
    world.nodes[b]
        .driver
        .engine_mut()
        .command(world.now, Command::Shutdown)
        .unwrap();
    world.run(Duration::from_secs(10));
    let (net, old) = (world.nodes[b].net.clone(), world.nodes.remove(b));
    let disk = old.driver.into_storage().reopened();
    let record = disk.inner.record(info.info_hash()).map(<[u8]>::to_vec);
    let record = record.expect("shutting down saves a record");
    let c = world.node(net, Config::default());
    *world.nodes[c].driver.storage_mut() = disk;
    let add = AddTorrent {
        peers: vec![addr(a, false)],
        resume: Some(record),
        ..AddTorrent::new(Source::Info(info.clone()))
    };
    let engine = world.nodes[c].driver.engine_mut();
    let id = engine.add(world.now, add).unwrap();
    assert!(world.run_until(LIMIT, |w| w.has(c, id, &info, &data)));
    let fetched = world.nodes[c].driver.stats().read_bytes;
    assert!(fetched < data.len() as u64 * 6 / 10, "{fetched} bytes anew");
    world.audit();
}

#[test]
fn the_same_seed_gives_the_same_frames() {
    let run = |seed| {
        let world = pair(seed, true, false, BAD, 600_000);
        (world.trace, world.frames, world.now)
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11).0, run(12).0);
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    use dunlin_smoltcp::{Driver, NoDisk, SetupError};
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
    let config = Config::default();
    let good = World::net(0, true, &config);
    let cases = [
        (
            NetConfig {
                hardware: Hardware::Ip,
                ..good.clone()
            },
            SetupError::Medium,
        ),
        (
            NetConfig {
                hardware: Hardware::Ethernet([1; 6]),
                ..good.clone()
            },
            SetupError::Hardware,
        ),
        (
            NetConfig {
                tcp_rx: 0,
                ..good.clone()
            },
            SetupError::Size,
        ),
        (
            NetConfig {
                timeout: good.keep_alive,
                ..good.clone()
            },
            SetupError::Size,
        ),
        (
            good.clone().address("224.0.0.1".parse().unwrap(), 4),
            SetupError::Address("224.0.0.1".parse().unwrap()),
        ),
        (
            NetConfig {
                dns: vec!["10.0.0.1".parse().unwrap(); 5],
                ..good.clone()
            },
            SetupError::TooMany,
        ),
    ];
    for (net, why) in cases {
        let mut wire = common::Wire::new(&good);
        let rng = Box::new(ChaCha8Rng::seed_from_u64(1));
        let now = dunlin_core::Instant::ORIGIN;
        let driver = Driver::new(now, &mut wire, &net, config.clone(), NoDisk::default(), rng);
        assert_eq!(driver.err(), Some(why));
    }
}

/// A network card with room for few packets, which does not report when it has room again.
#[test]
fn a_device_that_is_often_full_slows_and_loses_nothing() {
    let (info, data) = torrent(1_000_000, 64 << 10);
    for ethernet in [false, true] {
        let mut world = World::new(10);
        let (a, b) = (world.plain(ethernet), world.plain(ethernet));
        world.nodes[a].wire.room = 2;
        world.nodes[b].wire.room = 1;
        world.seed(a, &info, &data);
        let id = world.leech(b, &info, &[addr(a, ethernet)]);
        assert!(world.run_until(LIMIT, |w| w.has(b, id, &info, &data)));
        world.audit();
    }
}

/// Law 4, seen from outside: an idle driver sleeps.
#[test]
fn drivers_at_rest_sleep() {
    for ethernet in [false, true] {
        let mut world = pair(9, ethernet, ethernet, Link::default(), 300_000);
        world.run(Duration::from_secs(60));
        let before: Vec<u64> = world.nodes.iter().map(|n| n.polls).collect();
        world.run(Duration::from_secs(600));
        for (node, before) in world.nodes.iter().zip(before) {
            let polls = node.polls - before;
            // The engine has a few timers and probes a minute.
            assert!(
                polls < 200,
                "{polls} polls in ten minutes: {:?}",
                node.driver
            );
        }
    }
}
