//! What a hostile network may send to a DHT node: nothing panics, every cap holds, and what comes
//! unasked changes no table.
//!
//! `DHT_FUZZ=1000000000 cargo test --release -p dunlin-core --test dht_fuzz` throws that many.

#![allow(
    clippy::disallowed_methods,
    reason = "two nodes at once: the packets are many"
)]

mod dht_world;

use std::net::SocketAddr;
use std::time::Duration;

use dht_world::{World, public_ip};
use dunlin_core::dht::{Announce, Dht, DhtConfig, Goal};
use dunlin_core::wire::krpc::{self, Item, MAX_DATAGRAM, QueryOut, ReplyOut, Want};
use dunlin_core::{InfoHash, Machine, NodeId};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// Packets without a wish of the caller's: two kinds of node share them.
const PACKETS: u64 = 1_000_000;
/// What means something in bencode.
const MEANING: &[u8; 16] = b"0123456789:ilde-";

fn packets() -> u64 {
    let wish = std::env::var("DHT_FUZZ").ok();
    wish.map_or(PACKETS, |n| n.parse().expect("a number of packets"))
}

struct Fuzz {
    world: World,
    rng: ChaCha8Rng,
    /// Sound messages of every kind.
    corpus: Vec<Vec<u8>>,
    /// The last queries of the node's: whom, and their transaction ids.
    asked: Vec<(SocketAddr, Vec<u8>)>,
    answers: u64,
}

impl Fuzz {
    fn new(seed: u64, config: DhtConfig) -> Self {
        let mut world = World::new(config, 12, 10);
        world.settle(60);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let corpus = corpus(&mut world, &mut rng);
        Self {
            world,
            rng,
            corpus,
            asked: Vec::new(),
            answers: 0,
        }
    }

    fn below(&mut self, n: usize) -> usize {
        self.rng.next_u32() as usize % n.max(1)
    }

    /// Anybody: a node of the table, a stranger, or an address that nobody has.
    fn sender(&mut self) -> SocketAddr {
        let any = self.rng.next_u32();
        match self.below(8) {
            0..=2 => {
                let n = self.below(self.world.nodes.len());
                self.world.nodes[n].addr
            }
            3 if !self.asked.is_empty() => {
                let n = self.below(self.asked.len());
                self.asked[n].0
            }
            4 => SocketAddr::from((any.to_be_bytes(), any as u16)),
            5 => SocketAddr::from(([any as u16 & 0x2fff, 2, 3, 4, 5, 6, 7, 8], any as u16)),
            _ => SocketAddr::from((public_ip(any & 0xffff), 6881)),
        }
    }

    /// A message, maybe damaged; of the replies, some have the transaction id of a query.
    fn packet(&mut self, data: &mut Vec<u8>) {
        data.clear();
        if self.below(64) == 0 {
            let len = self.below(200);
            data.resize(len, 0);
            self.rng.fill_bytes(data);
            return;
        }
        let n = self.below(self.corpus.len());
        data.extend(&self.corpus[n]);
        if self.below(2) == 0 && !self.asked.is_empty() {
            let n = self.below(self.asked.len());
            let tid = &self.asked[n].1;
            // Sound messages have `1:t2:aa`.
            if let Some(at) = data.windows(7).position(|w| w == b"1:t2:aa") {
                let with = [format!("1:t{}:", tid.len()).as_bytes(), tid].concat();
                data.splice(at..at + 7, with);
            }
        }
        for _ in 0..self.below(4) {
            let (at, other, how) = (
                self.below(data.len()),
                self.below(data.len()),
                self.below(6),
            );
            let byte = self.rng.next_u32() as u8;
            match how {
                0 => data[at] = byte,
                1 => data[at] = MEANING[usize::from(byte % 16)],
                2 => data.insert(at, MEANING[usize::from(byte % 16)]),
                3 => _ = data.remove(at),
                4 if byte < 64 => data.truncate(at),
                5 => {
                    let part = data[at.min(other)..at.max(other)].to_vec();
                    data.splice(other..other, part);
                }
                _ => {}
            }
            if data.is_empty() {
                return;
            }
        }
        data.truncate(MAX_DATAGRAM + 8);
    }

    fn run(&mut self, packets: u64) {
        let (mut data, mut buf) = (Vec::new(), [0; MAX_DATAGRAM]);
        for n in 0..packets {
            self.packet(&mut data);
            let from = self.sender();
            self.world.arrive(from, &data);
            let pause = if n % 4096 == 0 { 60_000_000 } else { 1_000 };
            let pause = u64::from(self.rng.next_u32()) % pause;
            self.world.now += Duration::from_micros(pause);
            while let Some(transmit) = self.world.with(|dht, cx| dht.poll_transmit(cx, &mut buf)) {
                assert!(transmit.len <= 700 && transmit.dst.port() != 0);
                self.sent(transmit.dst, &buf[..transmit.len]);
            }
            if n % 16 == 0 {
                self.owner(n);
            }
        }
    }

    fn sent(&mut self, to: SocketAddr, data: &[u8]) {
        let message = krpc::parse(data).expect("what we send is sound");
        if !matches!(message.body, krpc::Body::Query(..)) {
            self.answers += 1;
            return;
        }
        // Now and then somebody answers as they should.
        if self.below(3) == 0 {
            return self.world.answer(to, data);
        }
        if self.asked.len() >= 32 {
            self.asked.remove(0);
        }
        self.asked.push((to, message.tid.to_vec()));
    }

    /// What the node's owner does, and looks at.
    fn owner(&mut self, n: u64) {
        let mut target = NodeId([0; 20]);
        self.rng.fill_bytes(&mut target.0);
        let world = &mut self.world;
        if world.dht.poll_timeout().is_some_and(|at| at <= world.now) {
            world.with(Dht::handle_timeout);
        }
        while world.dht.poll_event().is_some() {}
        let goal = match n / 16 % 512 {
            1 => Goal::Nodes(target),
            2 => Goal::Peers {
                hash: InfoHash(target.0),
                announce: Some(Announce {
                    ports: dunlin_core::net::Ports::both(6881),
                    implied: false,
                    seed: false,
                }),
                scrape: n.is_multiple_of(3),
            },
            3 => Goal::Immutable(target),
            4 => Goal::Mutable {
                key: [7; 32],
                salt: Vec::new(),
            },
            5 => Goal::PutImmutable(b"12:Hello World!".to_vec()),
            6 => {
                let stats = world.dht.stats();
                let config = world.dht.config();
                let sides = u32::from(config.ipv4) + u32::from(config.ipv6);
                assert!(stats.buckets <= sides * u32::from(config.max_buckets));
                assert!(stats.nodes <= stats.buckets * 8);
                assert!(stats.pending <= u32::from(config.max_queries));
                assert!(stats.torrents <= config.max_hashes && stats.peers <= config.max_peers);
                assert!(stats.items <= config.max_items);
                assert!(stats.lookups <= u32::from(config.max_lookups) + 2 * sides);
                return;
            }
            7 if n % 65_536 < 512 => {
                world.with(Dht::stop);
                return world.with(|dht, cx| dht.start(cx, 6881));
            }
            // Stores have something to lose.
            8.. if n.is_multiple_of(80) => {
                let from = SocketAddr::from((public_ip(n as u32), 6881));
                if n.is_multiple_of(3) {
                    world.announce(&target, from);
                } else {
                    world.put(b"12:Hello World!", from);
                }
                return;
            }
            _ => return,
        };
        _ = world.with(|dht, cx| dht.search(cx, goal));
    }
}

/// Sound messages of every kind, all with transaction id `aa`.
fn corpus(world: &mut World, rng: &mut ChaCha8Rng) -> Vec<Vec<u8>> {
    let mut corpus = Vec::new();
    let mut buf = [0; MAX_DATAGRAM];
    let (us, stranger) = (NodeId([0xa5; 20]), SocketAddr::from((public_ip(77), 6881)));
    for round in 0..8 {
        let (mut id, mut target) = (NodeId([0; 20]), NodeId([0; 20]));
        rng.fill_bytes(&mut id.0);
        rng.fill_bytes(&mut target.0);
        if round % 4 == 0 {
            target = NodeId([5; 20]);
        }
        let want = (round % 2 == 0).then_some(Want { v4: true, v6: true });
        let get_peers = QueryOut::GetPeers {
            info_hash: target,
            want,
            scrape: round % 3 == 0,
            noseed: round % 3 == 1,
        };
        let token = world.token(stranger, &id, &get_peers).expect("a token");
        let item = Item {
            v: Some(b"d1:ai7e1:bl3:abcee"),
            ..Item::default()
        };
        let signed = Item {
            k: Some(&[3; 32]),
            sig: Some(&[4; 64]),
            seq: Some(5),
            cas: Some(4),
            salt: Some(b"salt"),
            ..item
        };
        let queries = [
            QueryOut::Ping,
            QueryOut::FindNode { target, want },
            get_peers,
            QueryOut::AnnouncePeer {
                info_hash: target,
                token: &token,
                port: 7,
                implied_port: round % 2 == 0,
                seed: true,
            },
            QueryOut::Get {
                target,
                seq: Some(3),
                want,
            },
            QueryOut::Put {
                target,
                token: &token,
                item,
            },
            QueryOut::Put {
                target,
                token: &token,
                item: signed,
            },
            QueryOut::SampleInfohashes { target, want },
        ];
        for query in &queries {
            let len = krpc::query(&mut buf, b"aa", &id, false, query).expect("room");
            corpus.push(buf[..len].to_vec());
        }
        let mut nodes = [0; 8 * 38];
        rng.fill_bytes(&mut nodes);
        let out = ReplyOut {
            nodes: Some(&nodes[..208]),
            nodes6: (round % 2 == 1).then_some(&nodes[..]),
            token: &token,
            values: &nodes[..36],
            value_len: if round % 2 == 0 { 6 } else { 18 },
            item: if round < 4 { Item::default() } else { signed },
            samples: Some(&nodes[..60]),
            num: Some(9),
            interval: Some(60),
            ..ReplyOut::default()
        };
        for out in [ReplyOut::default(), out] {
            let len = krpc::reply(&mut buf, b"aa", &id, &stranger, &out).expect("room");
            corpus.push(buf[..len].to_vec());
            let known = world.nodes[round].id;
            let len = krpc::reply(&mut buf, b"aa", &known, &stranger, &out).expect("room");
            corpus.push(buf[..len].to_vec());
        }
        // A reflection of the node's own.
        let len = krpc::query(&mut buf, b"aa", &us, false, &QueryOut::Ping).expect("room");
        corpus.push(buf[..len].to_vec());
        let len = krpc::error(&mut buf, b"aa", 203, "No.", 100).expect("room");
        corpus.push(buf[..len].to_vec());
    }
    corpus
}

#[test]
fn fuzzed_packets_are_survived() {
    let packets = packets();
    let both = DhtConfig {
        ipv6: true,
        source_rate: None,
        ..DhtConfig::default()
    };
    let workers = [DhtConfig::tiny(), both]
        .into_iter()
        .zip(1u64..)
        .map(|(config, seed)| {
            std::thread::spawn(move || {
                let mut fuzz = Fuzz::new(seed, config);
                fuzz.run(packets / 2);
                (fuzz.answers, fuzz.world.dht.stats())
            })
        });
    for worker in workers.collect::<Vec<_>>() {
        let (answers, stats) = worker.join().expect("no panic");
        println!("{} packets, {answers} answers, {stats:?}", packets / 2);
        // Enough was sound for the node to be at work all the time.
        assert!(answers > packets / 100, "{answers}");
        assert!(stats.peers > 0 && stats.items > 0);
    }
}

/// Row 1 of the attacks: what comes under a false address evicts nobody and lets nobody in.
#[test]
fn spoofed_packets_change_no_table() {
    let mut world = World::new(DhtConfig::default(), 16, 10);
    world.settle(120);
    // Of the close nodes, those that are in the table: others could rightly join.
    let known: Vec<_> = world.dht.nodes().collect();
    world.nodes.retain(|node| known.contains(node));
    let table = |world: &World| {
        let mut nodes: Vec<_> = world.dht.nodes().map(|n| (n.id.0, n.addr)).collect();
        nodes.sort_unstable();
        nodes
    };
    let before = table(&world);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut buf = [0; MAX_DATAGRAM];
    let packets = packets().min(PACKETS);
    for n in 0..packets {
        let any = rng.next_u32();
        let known = world.nodes[any as usize % world.nodes.len()];
        let mut id = NodeId([0; 20]);
        rng.fill_bytes(&mut id.0);
        let stranger = SocketAddr::from((public_ip(any), 6881));
        // A stranger, a known address with another id, a known id elsewhere.
        let (id, from) = match n % 4 {
            0 => (id, stranger),
            1 => (id, known.addr),
            2 => (known.id, stranger),
            _ => (known.id, SocketAddr::new(known.addr.ip(), 6882)),
        };
        let len = if n % 5 == 0 {
            let tid = any.to_be_bytes();
            let to = SocketAddr::from(([198, 51, 100, 7], 6881));
            krpc::reply(&mut buf, &tid, &id, &to, &ReplyOut::default())
        } else {
            krpc::query(&mut buf, b"aa", &id, false, &QueryOut::Ping)
        };
        world.arrive(from, &buf[..len.expect("room")]);
        // The nodes that are queried did not send this, and its sender does not exist: the honest nodes
        // answer, the others do not.
        if n % 64 == 0 {
            world.step(Duration::from_micros(640));
        }
    }
    let (after, stats) = (table(&world), world.dht.stats());
    println!("{packets} packets, {stats:?}");
    assert!(
        after == before,
        "{} nodes, then {}",
        before.len(),
        after.len()
    );
    assert!(stats.queries_received >= packets / 5 * 4);
}
