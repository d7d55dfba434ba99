//! One node under test, and a made-up world around it that answers as the tests want.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dunlin_core::dht::{Dht, DhtConfig, DhtEvent, secure_id};
use dunlin_core::wire::krpc::{self, Body, Message, Method, QueryOut, Reply, ReplyOut};
use dunlin_core::{Cx, Ecn, Handled, Instant, Machine, NodeId, RecvMeta, SocketId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// One way.
const DELAY: Duration = Duration::from_millis(10);

/// A datagram: from or to, and what.
pub(crate) type Packet = (SocketAddr, Vec<u8>);

/// A node under test.
pub(crate) struct Bench {
    pub(crate) now: Instant,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) dht: Dht,
    /// Nodes that live, and answer.
    pub(crate) world: BTreeMap<SocketAddr, NodeId>,
    /// What they say is the address of the node under test.
    pub(crate) external: SocketAddr,
    /// Nodes that are named in every reply, besides honest ones.
    pub(crate) poison: Vec<(NodeId, SocketAddr)>,
    /// Peers that are named in every reply to `get_peers`.
    pub(crate) values: Vec<SocketAddr>,
    /// What went to nobody of the world.
    pub(crate) strays: Vec<Packet>,
    pub(crate) events: Vec<DhtEvent>,
    /// Queries that the world answered.
    pub(crate) answered: usize,
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The `n`-th of many public addresses, each in a network of its own, in 60 /16s.
pub(crate) fn public(n: u32) -> SocketAddr {
    let [_, a, b, c] = n.to_be_bytes();
    SocketAddr::from(([20 + c % 60, b, c.wrapping_mul(7) ^ a, 5], 6881))
}

pub(crate) fn id(n: u8) -> NodeId {
    NodeId([n; 20])
}

impl Bench {
    pub(crate) fn new(config: DhtConfig) -> Self {
        let now = Instant::from_micros(1_000_000);
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut cx = Cx { now, rng: &mut rng };
        let mut dht = Dht::new(&mut cx, config);
        dht.start(&mut cx, 6881);
        let mut bench = Self {
            now,
            rng,
            dht,
            world: BTreeMap::new(),
            external: addr("203.0.113.9:6881"),
            poison: Vec::new(),
            values: Vec::new(),
            strays: Vec::new(),
            events: Vec::new(),
            answered: 0,
        };
        bench.run(Duration::from_millis(1));
        bench
    }

    /// A node that knows a world of `count` nodes well.
    pub(crate) fn settled(config: DhtConfig, count: u32) -> Self {
        let mut bench = Self::new(config);
        bench.populate(count);
        bench
    }

    /// Adds `count` nodes to the world, each with a sound id, and lets the node meet them.
    pub(crate) fn populate(&mut self, count: u32) {
        for n in 0..count {
            let id = self.sound_id(public(n).ip());
            self.world.insert(public(n), id);
        }
        let first = *self.world.keys().next().unwrap();
        self.with(|dht, cx| dht.add_contact(cx, first));
        self.run(Duration::from_secs(60));
        assert!(self.nodes().len() >= 32.min(count as usize / 2));
        self.strays.clear();
    }

    pub(crate) fn sound_id(&mut self, ip: IpAddr) -> NodeId {
        let (now, rng) = (self.now, &mut self.rng);
        secure_id::secure(&mut Cx { now, rng }, ip)
    }

    pub(crate) fn random_id(&mut self) -> NodeId {
        let mut id = NodeId([0; 20]);
        self.rng.fill_bytes(&mut id.0);
        id
    }

    /// The table, to be compared.
    pub(crate) fn nodes(&self) -> BTreeMap<SocketAddr, NodeId> {
        self.dht.nodes().map(|c| (c.addr, c.id)).collect()
    }

    pub(crate) fn with<R>(&mut self, act: impl FnOnce(&mut Dht, &mut Cx<'_>) -> R) -> R {
        let (now, rng) = (self.now, &mut self.rng);
        act(&mut self.dht, &mut Cx { now, rng })
    }

    /// Hands the node a datagram, and nothing else.
    pub(crate) fn give(&mut self, from: SocketAddr, data: &[u8]) -> Handled {
        let meta = RecvMeta {
            socket: SocketId::for_addr(&from),
            from,
            local: None,
            ecn: Ecn::NotEct,
        };
        self.with(|dht, cx| dht.handle_datagram(cx, &meta, data))
    }

    /// What the node sends now.
    pub(crate) fn sends(&mut self) -> Vec<Packet> {
        let mut sent = Vec::new();
        let mut buf = [0; 1500];
        while let Some(t) = self.with(|dht, cx| dht.poll_transmit(cx, &mut buf)) {
            sent.push((t.dst, buf[..t.len].to_vec()));
        }
        sent
    }

    /// What the node answers `from`, other than queries of its own.
    pub(crate) fn ask(&mut self, from: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
        self.give(from, data);
        let mut answer = None;
        for (to, data) in self.sends() {
            let is_query = matches!(parse(&data).body, Body::Query(..));
            if to == from && !is_query {
                assert!(answer.is_none(), "one answer for one query");
                answer = Some(data);
            } else {
                self.strays.push((to, data));
            }
        }
        answer
    }

    /// The world goes on for a while: nodes answer, timers fire.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut flying: VecDeque<(Instant, Packet)> = VecDeque::new();
        loop {
            self.with(Machine::handle_timeout);
            for (to, data) in self.sends() {
                match self.world_answers(to, &data) {
                    Some(reply) => flying.push_back((self.now + DELAY, (to, reply))),
                    None => self.strays.push((to, data)),
                }
            }
            self.events
                .extend(core::iter::from_fn(|| self.dht.poll_event()));
            let timer = self.dht.poll_timeout();
            assert!(timer.is_none_or(|at| at > self.now), "law 3");
            let arrival = flying.front().map(|(at, _)| *at);
            let next = timer.into_iter().chain(arrival).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                break;
            };
            self.now = next;
            while flying.front().is_some_and(|(at, _)| *at <= next) {
                if let Some((_, (from, data))) = flying.pop_front() {
                    self.give(from, &data);
                }
            }
        }
        self.now = end;
    }

    /// What the node at `to` answers, if there is one and that was a query.
    fn world_answers(&mut self, to: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
        let id = *self.world.get(&to)?;
        let message = parse(data);
        let Body::Query(method, args) = message.body else {
            return None;
        };
        let target = args.target.or(args.info_hash);
        let mut nodes = Vec::new();
        if let Some(target) = target {
            let mut known = self.known_to(to, &id);
            known.sort_by_key(|(id, _)| id.distance(&target));
            nodes = self
                .poison
                .iter()
                .copied()
                .chain(known.into_iter().take(8))
                .collect();
        }
        let nodes: Vec<u8> = nodes
            .iter()
            .flat_map(|(id, addr)| compact(id, addr))
            .collect();
        let get_peers = method == Method::GetPeers;
        let values: Vec<u8> = self.values.iter().flat_map(endpoint).collect();
        let out = ReplyOut {
            nodes: target.is_some().then_some(&nodes[..]),
            token: if get_peers { b"token" } else { b"" },
            values: if get_peers { &values } else { &[] },
            value_len: 6,
            ..ReplyOut::default()
        };
        self.answered += 1;
        Some(reply(message.tid, &id, &self.external, &out))
    }

    /// Has the node ping `to`; the query that it sends there.
    pub(crate) fn pinged(&mut self, to: SocketAddr) -> Vec<u8> {
        self.with(|dht, cx| dht.ping(cx, to).unwrap());
        let sent = self.sends();
        let mut to_it = sent.into_iter().filter(|(dst, _)| *dst == to);
        to_it.next_back().expect("a ping").1
    }

    /// What a node of the world has in its table: eight of each distance.
    fn known_to(&self, addr: SocketAddr, id: &NodeId) -> Vec<(NodeId, SocketAddr)> {
        let mut full = [0; 161];
        let after = self.world.range(addr..);
        let others = after.chain(&self.world).take(self.world.len()).skip(1);
        let others = others.filter(|(_, other)| {
            let bucket = &mut full[id.common_prefix(other) as usize];
            *bucket += 1;
            *bucket <= 8
        });
        others.map(|(addr, id)| (*id, *addr)).collect()
    }

    /// Asks for a token, as a node with this address and id would.
    pub(crate) fn token(&mut self, from: SocketAddr, id: &NodeId, hash: &NodeId) -> Vec<u8> {
        let answer = self.ask(from, &get_peers(id, hash)).unwrap();
        reply_of(&answer).token.unwrap().to_vec()
    }
}

/// `d…e` of these pairs, in this order.
pub(crate) fn dict(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let pairs = pairs
        .iter()
        .flat_map(|(key, value)| [string(key.as_bytes()), value.clone()]);
    [b"d".to_vec(), pairs.flatten().collect(), b"e".to_vec()].concat()
}

pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    [format!("{}:", bytes.len()).as_bytes(), bytes].concat()
}

pub(crate) fn int(n: i64) -> Vec<u8> {
    format!("i{n}e").into_bytes()
}

/// Any query, sound or not.
pub(crate) fn raw(method: &str, args: &[(&str, Vec<u8>)]) -> Vec<u8> {
    dict(&[
        ("a", dict(args)),
        ("q", string(method.as_bytes())),
        ("t", string(b"aa")),
        ("y", string(b"q")),
    ])
}

pub(crate) fn query(id: &NodeId, what: &QueryOut<'_>) -> Vec<u8> {
    let mut buf = [0; 1500];
    let len = krpc::query(&mut buf, b"aa", id, false, what).unwrap();
    buf[..len].to_vec()
}

pub(crate) fn ping(id: &NodeId) -> Vec<u8> {
    raw("ping", &[("id", string(&id.0))])
}

pub(crate) fn find_node(id: &NodeId, target: &NodeId) -> Vec<u8> {
    raw(
        "find_node",
        &[("id", string(&id.0)), ("target", string(&target.0))],
    )
}

pub(crate) fn get_peers(id: &NodeId, hash: &NodeId) -> Vec<u8> {
    raw(
        "get_peers",
        &[("id", string(&id.0)), ("info_hash", string(&hash.0))],
    )
}

pub(crate) fn announce(id: &NodeId, hash: &NodeId, port: i64, token: &[u8]) -> Vec<u8> {
    raw(
        "announce_peer",
        &[
            ("id", string(&id.0)),
            ("info_hash", string(&hash.0)),
            ("port", int(port)),
            ("token", string(token)),
        ],
    )
}

pub(crate) fn reply(tid: &[u8], id: &NodeId, to: &SocketAddr, what: &ReplyOut<'_>) -> Vec<u8> {
    let mut buf = [0; 1500];
    let len = krpc::reply(&mut buf, tid, id, to, what).unwrap();
    buf[..len].to_vec()
}

pub(crate) fn parse(data: &[u8]) -> Message<'_> {
    krpc::parse(data).expect("what a node sends is sound")
}

pub(crate) fn reply_of(data: &[u8]) -> Reply<'_> {
    match parse(data).body {
        Body::Reply(reply) => reply,
        other => panic!("no reply: {other:?}"),
    }
}

/// The code of an error.
pub(crate) fn error_of(data: &[u8]) -> i64 {
    match parse(data).body {
        Body::Error(code, _) => code,
        other => panic!("no error: {other:?}"),
    }
}

/// An IPv4 address and port as they are sent.
pub(crate) fn endpoint(addr: &SocketAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = addr.ip() else {
        panic!("of IPv4 only");
    };
    [&ip.octets()[..], &addr.port().to_be_bytes()].concat()
}

pub(crate) fn compact(id: &NodeId, addr: &SocketAddr) -> Vec<u8> {
    [&id.0[..], &endpoint(addr)].concat()
}
