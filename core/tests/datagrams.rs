//! Who gets a datagram, and who sends the next one, when several machines share a socket.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::net::SocketAddr;

use common::add;
use dunlin_core::engine::{AddTorrent, Engine, Source};
use dunlin_core::{Caps, Config, DhtMode, Ecn, InfoHash, Instant, Op, Outcome, RecvMeta, SocketId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// An engine with a DHT, whose sockets send nothing unless they are asked to.
struct Host {
    e: Engine,
    now: Instant,
    /// Nodes that have asked something, and trackers that were added.
    nodes: u8,
    trackers: u8,
}

/// To whom a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Tracker,
    Node,
}

impl Host {
    fn new() -> Self {
        let mut config = Config {
            dht: DhtMode::On,
            ..Config::default()
        };
        config.dht_config.local = true;
        let main = ([0, 0, 0, 0], 6881).into();
        config.listen.push(main).unwrap();
        let now = Instant::from_micros(10);
        let rng = Box::new(ChaCha8Rng::seed_from_u64(1));
        let mut host = Self {
            e: Engine::new(now, config, Caps::all(), rng),
            now,
            nodes: 0,
            trackers: 0,
        };
        host.work();
        host
    }

    /// Does what is wanted, but for sending.
    fn work(&mut self) {
        while let Some(op) = self.e.poll_op() {
            let Some(id) = op.id() else { continue };
            let outcome = match op {
                Op::Bind { local, .. } => Outcome::Bound(local),
                Op::Resolve { .. } => Outcome::Resolved(vec![[10, 3, 0, 1].into()]),
                _ => Outcome::Done,
            };
            self.e.handle_op(self.now, id, outcome);
        }
        while self.e.poll_event().is_some() {}
    }

    /// A node of the DHT that we do not know wants an answer.
    fn asked_by_a_node(&mut self) {
        self.nodes += 1;
        let meta = RecvMeta {
            socket: SocketId::V4,
            from: ([10, 1, 0, self.nodes], 6881).into(),
            local: None,
            ecn: Ecn::NotEct,
        };
        let mut ping = *b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
        self.e.handle_udp(self.now, &meta, &mut ping);
    }

    /// A torrent is added, with a tracker of its own.
    fn added(&mut self) {
        self.trackers += 1;
        let source = Source::Hash {
            info_hash: InfoHash([self.trackers; 20]),
            name: None,
        };
        let tracker = format!("udp://10.2.0.{}:80/announce", self.trackers);
        let torrent = AddTorrent {
            trackers: vec![vec![tracker]],
            ..add(source)
        };
        self.e.add(self.now, torrent).unwrap();
        self.work();
    }

    fn send(&mut self) -> Option<To> {
        let mut buf = [0; 1500];
        let transmit = self.e.poll_transmit(self.now, 1, &mut buf)?;
        let SocketAddr::V4(to) = transmit.dst else {
            panic!("a stranger: {transmit:?}");
        };
        match to.ip().octets() {
            [10, 2, ..] => Some(To::Tracker),
            [10, 1 | 3, ..] => Some(To::Node),
            _ => panic!("a stranger: {transmit:?}"),
        }
    }
}

#[test]
fn a_busy_dht_does_not_starve_a_tracker() {
    let mut host = Host::new();
    for _ in 0..100 {
        host.asked_by_a_node();
    }
    for _ in 0..10 {
        assert_eq!(host.send(), Some(To::Node));
    }
    for _ in 0..5 {
        host.added();
        // The socket has room for two datagrams, then somebody asks again.
        let sent = [host.send(), host.send()];
        assert!(sent.contains(&Some(To::Tracker)), "{sent:?}");
        host.asked_by_a_node();
        host.asked_by_a_node();
    }
}

#[test]
fn busy_trackers_do_not_starve_the_dht() {
    let mut host = Host::new();
    while host.send().is_some() {}
    for _ in 0..100 {
        host.added();
    }
    for _ in 0..10 {
        host.send();
    }
    for _ in 0..5 {
        host.asked_by_a_node();
        let sent = [host.send(), host.send()];
        assert!(sent.contains(&Some(To::Node)), "{sent:?}");
        host.added();
        host.added();
    }
}

#[test]
fn who_is_alone_sends_without_a_pause() {
    let mut host = Host::new();
    while host.send().is_some() {}
    for _ in 0..20 {
        host.asked_by_a_node();
    }
    let sent: Vec<To> = std::iter::from_fn(|| host.send()).collect();
    // An answer to each, and a query whether it is there.
    assert_eq!(sent, [To::Node; 40]);
    assert!(!host.e.has_output());
}

#[test]
fn what_is_nobodys_is_counted() {
    let mut host = Host::new();
    let meta = RecvMeta {
        socket: SocketId::V4,
        from: ([10, 9, 0, 1], 9).into(),
        local: None,
        ecn: Ecn::NotEct,
    };
    let stray = |host: &Host| host.e.status(host.now).stray_datagrams;
    let utp = [0x41; 20];
    let answer = [[0; 16], [7; 16]].concat();
    for (n, data) in [&b""[..], &utp, &answer].into_iter().enumerate() {
        host.e.handle_udp(host.now, &meta, &mut data.to_vec());
        assert_eq!(stray(&host), n as u64 + 1);
    }
    host.asked_by_a_node();
    assert_eq!(stray(&host), 3);
}
