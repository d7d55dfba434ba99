//! One DHT node among made-up ones that answer at once: fills its table the honest way, by
//! replies, so that tests and benchmarks meet a node as it is after a while.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crc::{CRC_32_ISCSI, Crc};
use dunlin_core::dht::{Contact, Dht, DhtConfig, item};
use dunlin_core::wire::krpc::{
    self, Args, Body, COMPACT_V4, Item, MAX_DATAGRAM, QueryOut, ReplyOut,
};
use dunlin_core::{Cx, Ecn, Instant, Machine, NodeId, RecvMeta, SocketId};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

static CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// Round trip of every made-up node.
const RTT: Duration = Duration::from_millis(30);

/// The node and its surroundings.
pub struct World {
    pub dht: Box<Dht>,
    /// Called before and after the node works: what it allocates in between is its own.
    pub hook: fn(bool),
    pub rng: ChaCha8Rng,
    pub now: Instant,
    /// By id.
    pub nodes: Vec<Contact>,
    /// Of the queries that the node sends, those that nobody answers.
    pub deaf: bool,
}

/// What arrives from `from`.
pub fn meta(from: SocketAddr) -> RecvMeta {
    RecvMeta {
        socket: SocketId::for_addr(&from),
        from,
        local: None,
        ecn: Ecn::NotEct,
    }
}

impl World {
    /// A node whose table has not met anybody, and for each number of bits up to `depth` that an
    /// id can share with its own, `each` nodes at addresses that suit their ids (BEP 42), one in
    /// a /24.
    pub fn new(config: DhtConfig, depth: u32, each: usize) -> Self {
        Self::hooked(config, depth, each, |_| {})
    }

    /// The same, with a hook.
    pub fn hooked(config: DhtConfig, depth: u32, each: usize, hook: fn(bool)) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(42);
        let now = Instant::from_micros(1_000_000);
        let own = NodeId([0xa5; 20]);
        let config = DhtConfig {
            id: Some(own),
            ..config
        };
        hook(true);
        let dht = Box::new(Dht::new(&mut Cx { now, rng: &mut rng }, config));
        hook(false);
        let nodes = surroundings(own, depth, each);
        Self {
            dht,
            hook,
            rng,
            now,
            nodes,
            deaf: false,
        }
    }

    /// Lets the node do something.
    pub fn with<R>(&mut self, act: impl FnOnce(&mut Dht, &mut Cx<'_>) -> R) -> R {
        let cx = &mut Cx {
            now: self.now,
            rng: &mut self.rng,
        };
        (self.hook)(true);
        let result = act(&mut self.dht, cx);
        (self.hook)(false);
        result
    }

    /// Starts the node and lets it meet the others, until its table has `wanted` nodes.
    ///
    /// # Panics
    /// If it does not get there in ten virtual minutes.
    pub fn settle(&mut self, wanted: u32) {
        self.with(|dht, cx| dht.start(cx, 6881));
        let some = (self.nodes.len() / 8).max(1);
        let first: Vec<_> = self.nodes.iter().step_by(some).map(|n| n.addr).collect();
        for addr in first {
            self.with(|dht, cx| dht.add_contact(cx, addr));
        }
        for _ in 0..600_000 {
            if self.dht.stats().nodes >= wanted {
                break;
            }
            self.step(Duration::from_millis(1));
            self.introduce();
        }
        let nodes = self.dht.stats().nodes;
        assert!(
            nodes >= wanted,
            "{nodes} of {wanted} nodes after {:?}",
            self.now
        );
        // Whatever is under way comes to its end.
        for _ in 0..200 {
            self.step(Duration::from_millis(100));
        }
    }

    /// A node that the table may not have heard of asks something, now and then.
    fn introduce(&mut self) {
        let who = self.nodes[self.rng.next_u32() as usize % self.nodes.len()];
        let mut buf = [0; MAX_DATAGRAM];
        let len = krpc::query(&mut buf, b"xx", &who.id, false, &QueryOut::Ping);
        self.arrive(who.addr, &buf[..len.expect("room")]);
    }

    /// A datagram arrives.
    pub fn arrive(&mut self, from: SocketAddr, data: &[u8]) {
        self.with(|dht, cx| dht.handle_datagram(cx, &meta(from), data));
    }

    /// What the node sends now.
    pub fn sent(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut buf = [0; MAX_DATAGRAM];
        let mut sent = Vec::new();
        while let Some(transmit) = self.with(|dht, cx| dht.poll_transmit(cx, &mut buf)) {
            sent.push((transmit.dst, buf[..transmit.len].to_vec()));
        }
        sent
    }

    /// Time passes; what the node asks meanwhile is answered.
    pub fn step(&mut self, by: Duration) {
        self.now += by;
        if self.dht.poll_timeout().is_some_and(|at| at <= self.now) {
            self.with(Dht::handle_timeout);
        }
        let asked = self.sent();
        while self.with(|dht, _| dht.poll_event().is_some()) {}
        if asked.is_empty() || self.deaf {
            return;
        }
        self.now += RTT;
        for (to, query) in asked {
            self.answer(to, &query);
        }
    }

    /// The way of every peer: a token is fetched, then used. Whether the node took it.
    pub fn announce(&mut self, hash: &NodeId, from: SocketAddr) -> bool {
        let id = NodeId([7; 20]);
        let ask = QueryOut::GetPeers {
            info_hash: *hash,
            want: None,
            scrape: false,
            noseed: false,
        };
        let Some(token) = self.token(from, &id, &ask) else {
            return false;
        };
        let announce = QueryOut::AnnouncePeer {
            info_hash: *hash,
            token: &token,
            port: 6881,
            implied_port: false,
            seed: false,
        };
        self.exchange(from, &id, &announce).is_some()
    }

    /// The same for an immutable item.
    pub fn put(&mut self, value: &[u8], from: SocketAddr) -> bool {
        let id = NodeId([7; 20]);
        let get = QueryOut::Get {
            target: item::immutable_target(value),
            seq: None,
            want: None,
        };
        let Some(token) = self.token(from, &id, &get) else {
            return false;
        };
        let item = Item {
            v: Some(value),
            ..Item::default()
        };
        let put = QueryOut::Put {
            target: item::immutable_target(value),
            token: &token,
            item,
        };
        self.exchange(from, &id, &put).is_some()
    }

    /// The token in the answer to a query.
    pub fn token(
        &mut self,
        from: SocketAddr,
        id: &NodeId,
        query: &QueryOut<'_>,
    ) -> Option<Vec<u8>> {
        let answer = self.exchange(from, id, query)?;
        match krpc::parse(&answer).ok()?.body {
            Body::Reply(reply) => reply.token.map(<[u8]>::to_vec),
            _ => None,
        }
    }

    /// Asks the node, as a read-only one does, and returns its answer.
    pub fn exchange(
        &mut self,
        from: SocketAddr,
        id: &NodeId,
        query: &QueryOut<'_>,
    ) -> Option<Vec<u8>> {
        let mut buf = [0; MAX_DATAGRAM];
        let len = krpc::query(&mut buf, b"aa", id, true, query)?;
        self.now += Duration::from_micros(100);
        self.arrive(from, &buf[..len]);
        let answer = self.sent().into_iter().find(|(to, _)| *to == from);
        answer.map(|(_, data)| data)
    }

    /// A node of these surroundings answers a query, if it is one.
    pub fn answer(&mut self, who: SocketAddr, query: &[u8]) {
        let Some(who) = self.nodes.iter().find(|node| node.addr == who) else {
            return;
        };
        let Ok(message) = krpc::parse(query) else {
            return;
        };
        let Body::Query(_, args) = message.body else {
            return;
        };
        let Args {
            target, info_hash, ..
        } = args;
        let nodes = target.or(info_hash).map(|target| self.near(&target));
        let out = ReplyOut {
            nodes: nodes.as_deref(),
            token: b"tokentok",
            ..ReplyOut::default()
        };
        let mut buf = [0; MAX_DATAGRAM];
        let us = SocketAddr::from(([198, 51, 100, 7], 6881));
        let len = krpc::reply(&mut buf, message.tid, &who.id, &us, &out).expect("room");
        let (from, mut data) = (who.addr, buf[..len].to_vec());
        // Nobody tells it an address: then its id stays what it is.
        if data.starts_with(b"d2:ip6:") {
            data.drain(1..13);
        }
        self.arrive(from, &data);
    }

    /// The eight nodes closest to `target`.
    fn near(&self, target: &NodeId) -> Vec<u8> {
        let mut nodes: Vec<&Contact> = self.nodes.iter().collect();
        nodes.select_nth_unstable_by_key(8, |node| node.id.distance(target));
        let mut out = Vec::with_capacity(8 * COMPACT_V4);
        for node in &nodes[..8] {
            let SocketAddr::V4(addr) = node.addr else {
                continue;
            };
            out.extend(node.id.0);
            out.extend(addr.ip().octets());
            out.extend(addr.port().to_be_bytes());
        }
        out
    }
}

/// A public address in a /24 of its own, by number.
pub fn public_ip(n: u32) -> Ipv4Addr {
    // An odd factor visits every /24 once; the first octet stays within ordinary unicast.
    let [_, a, b, c] = (n.wrapping_mul(0x9e_3779) & 0xff_ffff).to_be_bytes();
    Ipv4Addr::new(11 + a % 80, a, b, c | 1)
}

fn surroundings(own: NodeId, depth: u32, each: usize) -> Vec<Contact> {
    let depth = depth as usize;
    let mut counts = vec![0; depth + 1];
    let mut nodes = Vec::new();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let leading = u32::from_be_bytes([own.0[0], own.0[1], own.0[2], 0]) & 0xffff_f800;
    let mut tried = 0u32;
    while counts.iter().any(|count| *count < each) {
        tried += 1;
        // Eight ids for an address, as BEP 42 has it.
        let r = tried as u8 & 7;
        let octets = (tried >> 3).wrapping_mul(0x9e37_79b1).to_be_bytes();
        let ip = Ipv4Addr::new(11 + octets[0] % 80, octets[1], octets[2], octets[3] | 1);
        let mut masked = (u32::from(ip) & 0x030f_3fff).to_be_bytes();
        masked[0] |= r << 5;
        let bits = CRC32C.checksum(&masked) & 0xffff_f800;
        let shared = (bits ^ leading).leading_zeros().min(21) as usize;
        // 21 bits follow from the address; beyond those an id may be anything.
        let shared = match shared {
            21 => (21..=depth).find(|at| counts[*at] < each).unwrap_or(depth),
            shared => shared,
        };
        if shared > depth || counts[shared] >= each {
            continue;
        }
        let mut id = [0; 20];
        rng.fill_bytes(&mut id);
        for at in 21..shared {
            copy_bit(&own.0, &mut id, at);
        }
        copy_bit(&own.0, &mut id, shared);
        id[shared / 8] ^= 0x80 >> (shared % 8);
        let kept = id[2] & 7;
        [id[0], id[1], id[2], _] = bits.to_be_bytes();
        id[2] |= kept;
        id[19] = id[19] & !7 | r;
        let addr = SocketAddr::from((ip, 6881));
        let subnet = |addr: &SocketAddr| match addr {
            SocketAddr::V4(addr) => addr.ip().octets()[..3].to_vec(),
            SocketAddr::V6(_) => Vec::new(),
        };
        if nodes
            .iter()
            .any(|n: &Contact| subnet(&n.addr) == subnet(&addr))
        {
            continue;
        }
        counts[shared] += 1;
        nodes.push(Contact {
            id: NodeId(id),
            addr,
        });
    }
    nodes.sort_by_key(|node| node.id.0);
    nodes
}

fn copy_bit(from: &[u8; 20], to: &mut [u8; 20], at: usize) {
    let bit = 0x80 >> (at % 8);
    to[at / 8] = to[at / 8] & !bit | from[at / 8] & bit;
}
