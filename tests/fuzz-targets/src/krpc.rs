//! The DHT's datagrams: the parser, and a node that gets them.

use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::Unstructured;
use dunlin_core::dht::{Announce, Dht, DhtConfig, Goal};
use dunlin_core::wire::krpc::{self, Body, MAX_DATAGRAM};
use dunlin_core::{Cx, Ecn, InfoHash, Instant, Machine, NodeId, RecvMeta, SocketId};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// Parses `data` as one datagram, then cuts it into datagrams for a node.
pub fn run(data: &[u8]) {
    walk(data);
    node(data);
}

fn walk(data: &[u8]) {
    let Ok(message) = krpc::parse(data) else {
        return;
    };
    assert!(data.len() <= MAX_DATAGRAM && message.tid.len() <= krpc::MAX_TID);
    if let Body::Reply(reply) = message.body {
        assert!(reply.peers().count() <= MAX_DATAGRAM / 8);
        assert!(reply.nodes.len().is_multiple_of(krpc::COMPACT_V4));
        assert!(reply.nodes6.len().is_multiple_of(krpc::COMPACT_V6));
    }
}

struct Node {
    dht: Dht,
    rng: ChaCha8Rng,
    now: Instant,
    /// The server it asked last, and the transaction id of that query.
    asked: Vec<(SocketAddr, Vec<u8>)>,
}

fn node(data: &[u8]) {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let now = Instant::from_micros(1_000_000);
    let mut cx = Cx { now, rng: &mut rng };
    let config = DhtConfig {
        local: true,
        ..DhtConfig::tiny()
    };
    let mut dht = Dht::new(&mut cx, config);
    dht.start(&mut cx, 6881);
    for n in 1..4 {
        dht.add_contact(&mut cx, address(n));
    }
    let hash = InfoHash([5; 20]);
    let announce = Some(Announce {
        ports: dunlin_core::net::Ports::both(6881),
        implied: false,
        seed: false,
    });
    let _ = dht.search(
        &mut cx,
        Goal::Peers {
            hash,
            announce,
            scrape: false,
        },
    );
    let mut node = Node {
        dht,
        rng,
        now,
        asked: Vec::new(),
    };
    let mut u = Unstructured::new(data);
    while !u.is_empty() {
        node.step(&mut u);
    }
}

impl Node {
    fn step(&mut self, u: &mut Unstructured<'_>) {
        self.send();
        let how: u8 = u.arbitrary().unwrap_or(0);
        match how % 4 {
            0 => {
                self.now += Duration::from_millis(u64::from(how) * 97);
                let mut cx = Cx {
                    now: self.now,
                    rng: &mut self.rng,
                };
                self.dht.handle_timeout(&mut cx);
                let next = self.dht.poll_timeout();
                assert!(
                    next.is_none_or(|at| at > self.now) || self.dht.has_transmit(),
                    "it spins"
                );
            }
            // `d`, what a dictionary needs in front, the bytes, `e`.
            1 => {
                let body = take(u);
                let (to, tid) = self
                    .asked
                    .last()
                    .cloned()
                    .unwrap_or((address(how), vec![1]));
                let head = format!("d1:t{}:", tid.len());
                let id = b"2:id20:abcdefghij0123456789";
                let reply = [head.as_bytes(), &tid, b"1:y1:r1:rd", id, &body, b"ee"].concat();
                self.receive(to, &reply);
            }
            2 => {
                let body = take(u);
                let query = [
                    b"d1:t2:aa1:y1:q1:ad2:id20:abcdefghij0123456789",
                    &body[..],
                    b"e",
                ]
                .concat();
                self.receive(address(how / 4), &query);
            }
            _ => {
                let body = take(u);
                self.receive(address(how / 4), &body);
            }
        }
        while self.dht.poll_event().is_some() {}
    }

    fn receive(&mut self, from: SocketAddr, data: &[u8]) {
        let meta = RecvMeta {
            socket: SocketId::V4,
            from,
            local: None,
            ecn: Ecn::NotEct,
        };
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.rng,
        };
        let _ = self.dht.handle_datagram(&mut cx, &meta, data);
    }

    /// What it sends is sound, short and bounded in number.
    fn send(&mut self) {
        let mut buf = [0; MAX_DATAGRAM];
        for sent in 0.. {
            let mut cx = Cx {
                now: self.now,
                rng: &mut self.rng,
            };
            let Some(t) = self.dht.poll_transmit(&mut cx, &mut buf) else {
                break;
            };
            assert!(sent < 1_000, "it sends without an end");
            assert!(t.dst.port() != 0);
            let message = krpc::parse(&buf[..t.len]).expect("what we send is sound");
            if matches!(message.body, Body::Query(..)) {
                self.asked.push((t.dst, message.tid.to_vec()));
            }
        }
        let old = self.asked.len().saturating_sub(8);
        self.asked.drain(..old);
        let nodes = self.dht.nodes().take(1_000).collect::<Vec<_>>();
        assert!(nodes.len() <= 2 * 160 * 8);
        assert!(
            nodes
                .iter()
                .all(|n| n.id != NodeId([0; 20]) || n.addr.port() != 0)
        );
    }
}

fn take(u: &mut Unstructured<'_>) -> Vec<u8> {
    let len = usize::from(u.arbitrary::<u8>().unwrap_or(0)).min(u.len());
    u.bytes(len).unwrap_or_default().to_vec()
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, n], 6881))
}
