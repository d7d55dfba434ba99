//! The pool of TCP sockets under load, under attack, and when sockets are short.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use common::raw::Knocker;
use common::{Link, World, addr, torrent};
use dunlin_core::engine::{Event, What};
use dunlin_core::{Config, EncryptionPolicy};
use dunlin_smoltcp::NetConfig;

const LIMIT: Duration = Duration::from_secs(120);

fn v4(n: usize) -> Ipv4Addr {
    match World::ip(n, false) {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => unreachable!(),
    }
}

/// A node on bare IP whose network includes the addresses of the knockers.
fn wide(world: &mut World, change: impl FnOnce(&mut NetConfig, &mut Config)) -> usize {
    let mut config = Config::default();
    let n = world.nodes.len();
    let mut net = World::net(n, false, &config);
    net.addresses[0].1 = 16;
    change(&mut net, &mut config);
    world.node(net, config)
}

/// The reasons why streams of a node ended, as the engine reports them.
fn endings(world: &mut World, n: usize) -> Vec<String> {
    let driver = &mut world.nodes[n].driver;
    let events = std::iter::from_fn(|| driver.poll_event());
    let reason = |event| match event {
        Event::Notice(notice) => match notice.what {
            What::Disconnected { reason } => Some(reason),
            _ => None,
        },
        _ => None,
    };
    events.filter_map(reason).collect()
}

#[test]
fn thirty_that_knock_at_once_are_all_let_in() {
    let (info, data) = torrent(100_000, 64 << 10);
    let mut world = World::new(1);
    let a = wide(&mut world, |_, _| {});
    world.seed(a, &info, &data);
    let knocker = Knocker::new(v4(a), world.now, 30, 30, true);
    let resets = knocker.resets.clone();
    world.stations.push(Box::new(knocker));
    let all = world.run_until(Duration::from_secs(1), |w| {
        w.nodes[a].driver.stats().accepted == 30
    });
    let stats = world.nodes[a].driver.stats();
    assert!(all, "{stats:?}");
    assert_eq!((stats.sockets_used, resets.get()), (30, 0));
    assert_eq!(stats.sockets_listening, 2, "{stats:?}");
    world.audit();
}

#[test]
fn when_every_socket_is_in_use_newcomers_are_reset_and_the_next_free_one_listens() {
    let (info, data) = torrent(100_000, 64 << 10);
    let mut world = World::new(2);
    let a = wide(&mut world, |net, _| net.connections = 6);
    world.seed(a, &info, &data);
    let knocker = Knocker::new(v4(a), world.now, 20, 20, true);
    let resets = knocker.resets.clone();
    world.stations.push(Box::new(knocker));
    world.run(Duration::from_secs(1));
    let stats = world.nodes[a].driver.stats();
    // The oldest handshakes were dropped, so that one socket listens.
    assert_eq!(
        (stats.accepted, stats.sockets_listening),
        (7, 1),
        "{stats:?}"
    );
    // To the others it looks as if their SYN was lost, so they would send it again.
    assert_eq!(resets.get(), 0);
    for knocked in 0..2 {
        let knocker = Knocker::new(v4(a), world.now, 1, 1, true);
        world.stations.clear();
        world.stations.push(Box::new(Knocker {
            count: 100 + knocked,
            resets: resets.clone(),
            ..knocker
        }));
        world.run(Duration::from_secs(1));
        let stats = world.nodes[a].driver.stats();
        assert_eq!((stats.accepted, stats.sockets_listening), (8, 0));
    }
    assert_eq!(resets.get(), 1);
    // These connections never send anything, so the engine closes them, and a real peer then finds
    // a listener.
    let b = wide(&mut world, |_, _| {});
    let id = world.leech(b, &info, &[addr(a, false)]);
    assert!(world.run_until(LIMIT * 5, |w| w.has(b, id, &info, &data)));
    world.audit();
}

#[test]
fn a_flood_of_syns_does_not_keep_a_real_peer_out() {
    let (info, data) = torrent(600_000, 64 << 10);
    let mut world = World::new(3);
    let a = wide(&mut world, |net, _| {
        net.connections = 12;
        net.half_open = 8;
    });
    let b = wide(&mut world, |_, _| {});
    world.seed(a, &info, &data);
    // One SYN arrives each millisecond: the oldest of 8 is 8 ms old, and a handshake takes 4 ms.
    let mut flood = Knocker::new(v4(a), world.now, 20_000, 1, false);
    flood.every = Duration::from_millis(1);
    world.stations.push(Box::new(flood));
    world.run(Duration::from_millis(100));
    let id = world.leech(b, &info, &[addr(a, false)]);
    let done = world.run_until(Duration::from_secs(15), |w| w.has(b, id, &info, &data));
    let stats = world.nodes[a].driver.stats();
    assert!(done, "{stats:?}");
    assert!(
        stats.evicted > 100 && stats.sockets_half_open <= 8,
        "{stats:?}"
    );
    world.stations.clear();
    world.run(Duration::from_secs(30));
    let stats = world.nodes[a].driver.stats();
    assert_eq!(stats.sockets_half_open, 0, "{stats:?}");
    world.audit();
}

#[test]
fn attempts_to_connect_beyond_the_pool_are_answered_at_once() {
    let (info, data) = torrent(300_000, 64 << 10);
    let mut world = World::new(4);
    let a = wide(&mut world, |_, _| {});
    let b = wide(&mut world, |net, _| net.connections = 2);
    world.seed(a, &info, &data);
    // Nobody is at 10.0.2.x, so these attempts occupy both sockets until they time out.
    let mut peers: Vec<SocketAddr> = (1..8)
        .map(|i| SocketAddr::from(([10, 0, 2, i], 6881)))
        .collect();
    peers.push(addr(a, false));
    let id = world.leech(b, &info, &peers);
    assert!(world.run_until(LIMIT, |w| w.has(b, id, &info, &data)));
    let stats = world.nodes[b].driver.stats();
    assert!(stats.exhausted > 0, "{stats:?}");
    world.audit();
}

#[test]
fn a_closed_port_refuses_and_an_address_without_a_route_is_unreachable() {
    let (info, _) = torrent(100_000, 64 << 10);
    let mut world = World::new(5);
    let a = wide(&mut world, |_, _| {});
    let b = wide(&mut world, |_, _| {});
    let closed = SocketAddr::new(World::ip(a, false), 1);
    let nowhere = SocketAddr::from(([192, 0, 2, 1], 6881));
    world.leech(b, &info, &[closed, nowhere]);
    world.run(Duration::from_secs(5));
    let reasons = endings(&mut world, b);
    let says = |what: &str| reasons.iter().any(|r| r.contains(what));
    assert!(says("refused") && says("no route"), "{reasons:?}");
    world.audit();
}

/// Keep-alive probes notice that the other end has vanished.
#[test]
fn a_peer_that_vanishes_is_given_up() {
    let (info, data) = torrent(600_000, 64 << 10);
    let mut world = World::new(6);
    let a = wide(&mut world, |_, _| {});
    let b = wide(&mut world, |net, _| {
        net.keep_alive = Duration::from_secs(10);
        net.timeout = Duration::from_secs(25);
    });
    world.seed(a, &info, &data);
    let id = world.leech(b, &info, &[addr(a, false)]);
    assert!(world.run_until(LIMIT, |w| w.nodes[b].driver.stats().read_bytes > 10_000));
    world.link.loss = 1000;
    world.run(Duration::from_secs(40));
    let reasons = endings(&mut world, b);
    assert!(
        reasons.iter().any(|r| r.contains("no answer")),
        "{reasons:?}"
    );
    // The other end comes back.
    world.link.loss = 0;
    assert!(world.run_until(LIMIT * 3, |w| w.has(b, id, &info, &data)));
    world.audit();
}

/// RFC 9293 §3.5: both connect from the port on which they listen, and the SYNs cross.
#[test]
fn two_that_connect_at_the_same_time_get_one_connection() {
    for v6 in [false, true] {
        let (info, data) = torrent(300_000, 64 << 10);
        let mut world = World::new(7);
        world.link = Link {
            delay: Duration::from_millis(400),
            ..Link::default()
        };
        let mut nodes = Vec::new();
        for _ in 0..2 {
            nodes.push(wide(&mut world, |net, config| {
                net.connect_from_listen_port = true;
                // Both act as the initiator, a role that encryption gives to only one of them.
                config.encryption = EncryptionPolicy::Off;
            }));
        }
        let (a, b) = (nodes[0], nodes[1]);
        // Each has one half, so that both want something and both connect.
        for (n, half) in [(a, 0..data.len() / 2), (b, data.len() / 2..data.len())] {
            let mut part = vec![0; data.len()];
            part[half.clone()].copy_from_slice(&data[half]);
            let disk = world.nodes[n].driver.storage_mut();
            disk.inner.put(&info, part).unwrap();
        }
        let ids = [
            world.leech(a, &info, &[addr(b, v6)]),
            world.leech(b, &info, &[addr(a, v6)]),
        ];
        let open = world.run_until(Duration::from_secs(3), |w| {
            w.nodes.iter().all(|n| n.driver.stats().read_bytes > 0)
        });
        assert!(open);
        for n in [a, b] {
            let stats = world.nodes[n].driver.stats();
            assert_eq!((stats.accepted, stats.syns), (0, 0), "{stats:?}");
            assert_eq!(stats.sockets_used, 1, "{stats:?}");
        }
        // Neither has the piece in the middle; all other pieces are exchanged.
        let want = (data.len() as u32).div_ceil(64 << 10) - 1;
        let done = world.run_until(LIMIT, |w| {
            [a, b].iter().zip(ids).all(|(n, id)| {
                let status = w.nodes[*n]
                    .driver
                    .engine()
                    .torrent(id)
                    .map(|t| t.status(w.now));
                status.is_some_and(|t| t.pieces_done >= want)
            })
        });
        assert!(done);
        world.audit();
    }
}

/// SYNs that are duplicated or sent again belong to the connection that they began.
#[test]
fn repeated_syns_open_nothing_twice() {
    let (info, data) = torrent(100_000, 64 << 10);
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.link = Link {
            twice: 900,
            loss: 100,
            jitter: Duration::from_millis(3),
            ..Link::default()
        };
        let a = wide(&mut world, |net, _| net.reserve = 4);
        world.seed(a, &info, &data);
        let mut ids = Vec::new();
        for _ in 0..3 {
            let n = wide(&mut world, |_, config| config.pex = false);
            ids.push((n, world.leech(n, &info, &[addr(a, false)])));
        }
        let done = world.run_until(LIMIT, |w| {
            ids.iter().all(|(n, id)| w.has(*n, *id, &info, &data))
        });
        assert!(done, "seed {seed}");
        for (n, _) in &ids {
            let reasons = endings(&mut world, *n);
            assert!(!reasons.iter().any(|r| r.contains("reset")), "{reasons:?}");
        }
        world.audit();
    }
}

/// However slots are reused, the second copy of a SYN finds the socket that received the first.
#[test]
fn a_syn_that_arrives_twice_is_one_knock() {
    let (info, data) = torrent(100_000, 64 << 10);
    let mut world = World::new(9);
    world.link.twice = 1000;
    world.link.jitter = Duration::from_millis(3);
    let a = wide(&mut world, |net, _| {
        net.connections = 5;
        net.half_open = 4;
    });
    world.seed(a, &info, &data);
    let mut knocker = Knocker::new(v4(a), world.now, 200, 1, false);
    knocker.every = Duration::from_millis(50);
    let (synacks, resets) = (knocker.synacks.clone(), knocker.resets.clone());
    world.stations.push(Box::new(knocker));
    world.run(Duration::from_millis(200 * 50 + 500));
    let stats = world.nodes[a].driver.stats();
    assert_eq!((stats.syns, resets.get()), (200, 0), "{stats:?}");
    assert!(synacks.get() >= 400, "each answer comes twice, too");
    assert_eq!(stats.evicted, 196, "{stats:?}");
    world.audit();
}
