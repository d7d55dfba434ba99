//! A synthetic wide-area DHT in one host, which owns every address of a [`Space`] and answers as
//! the node there would, after that node's own round trip.
//!
//! Nodes have full tables of the whole key space with k = 8. A node that is asked for a target
//! returns eight random nodes of the branch that is one bit closer than itself, always the same
//! ones, or the closest nodes where that branch is small. Dead nodes are silent, but are returned
//! all the same. Sybils return the Sybils closest to the target and nobody else. The eight closest
//! live nodes have peers for every target.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use dunlin_core::{
    Instant, NodeId as Key,
    wire::krpc::{self, Args, Body, Method, QueryOut, ReplyOut},
};
use rand_core::Rng;
use rustc_hash::FxBuildHasher;

use super::{
    draw::lognormal,
    space::{Space, below},
};
use crate::{
    host::{Host, HostCx},
    packet::{Packet, Proto},
    rng::SimRng,
};

/// The nodes in a reply, and the nodes that store the peers of an info-hash (K of BEP 5).
pub const K: usize = 8;
/// The peers that a node returns.
const PEERS: u8 = 3;
/// The shortest round trip.
const LEAST_RTT: Duration = Duration::from_millis(5);

/// The configuration of a synthetic DHT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntheticConfig {
    /// The number of nodes.
    pub nodes: u32,
    /// The number of dead nodes in a million.
    pub dead_ppm: u32,
    /// The number of lost packets in a million, in each direction.
    pub loss_ppm: u32,
    /// The number of Sybils in a million nodes. None of them is dead.
    pub sybil_ppm: u32,
    /// The number of nodes in a million whose ids are derived from their address (BEP 42).
    pub secure_ppm: u32,
    /// The median of the nodes' round trips.
    pub rtt: Duration,
    /// The deviation of their logarithm, in thousandths.
    pub rtt_sigma_milli: u32,
}

impl Default for SyntheticConfig {
    fn default() -> Self {
        Self {
            nodes: 60_000,
            dead_ppm: 500_000,
            loss_ppm: 0,
            sybil_ppm: 0,
            secure_ppm: 1_000_000,
            rtt: Duration::from_millis(90),
            rtt_sigma_milli: 600,
        }
    }
}

/// The kind of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It answers.
    Live,
    /// It does not answer.
    Dead,
    /// It returns only other Sybils.
    Sybil,
}

/// The search for one target, as observed by the synthetic nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Track {
    /// The closest nodes that answer, closest first, with the times at which their replies arrived.
    pub closest: Vec<(u32, Option<Instant>)>,
    /// Queries for the target.
    pub queries: u32,
    /// Queries for the target to dead nodes.
    pub dead: u32,
    /// Announces with a valid token.
    pub announced: u32,
    /// Announces with an invalid token.
    pub refused: u32,
}

/// A reply that is on its way.
struct Delayed {
    at: Instant,
    number: u64,
    packet: Packet,
    /// When it arrives, this place among the closest nodes of this target was reached.
    reaches: Option<(u32, u8)>,
}

/// The host of a synthetic DHT.
pub struct SyntheticDht {
    config: SyntheticConfig,
    seed: u64,
    space: Space,
    kinds: Vec<Kind>,
    rtts: Vec<u32>,
    sybils: Space,
    late: BinaryHeap<Reverse<Delayed>>,
    number: u64,
    tracks: Vec<Track>,
    by_target: HashMap<[u8; 20], u32, FxBuildHasher>,
    query_next: Option<Queries>,
    queries: u64,
    replies: u64,
    strays: u64,
}

/// The queries that the synthetic nodes send themselves.
struct Queries {
    victim: SocketAddr,
    every: Duration,
    next: Instant,
    turn: u32,
}

impl SyntheticDht {
    /// Creates a synthetic DHT from a seed.
    #[must_use]
    pub fn new(seed: u64, config: SyntheticConfig) -> Self {
        Self::with_sybils(seed, config, &[])
    }

    /// Creates a synthetic DHT with additional Sybils.
    #[must_use]
    pub fn with_sybils(seed: u64, config: SyntheticConfig, sybils: &[(Key, Ipv4Addr)]) -> Self {
        let space = Space::random(seed, config.nodes, config.secure_ppm);
        let mut nodes: Vec<_> = (0..space.len() as u32)
            .map(|n| (*space.key(n), *space.addr(n).ip()))
            .collect();
        nodes.extend(sybils);
        let mut synthetic = Self::of(seed, Space::of(nodes), config);
        for (_, addr) in sybils {
            if let Some(n) = synthetic.space.at(*addr) {
                synthetic.kinds[n as usize] = Kind::Sybil;
            }
        }
        synthetic.link_sybils();
        synthetic
    }

    /// Creates a synthetic DHT of Sybils only, with these ids and addresses.
    #[must_use]
    pub fn of_sybils(seed: u64, nodes: Vec<(Key, Ipv4Addr)>) -> Self {
        let config = SyntheticConfig {
            sybil_ppm: 1_000_000,
            dead_ppm: 0,
            ..SyntheticConfig::default()
        };
        Self::of(seed, Space::of(nodes), config)
    }

    fn of(seed: u64, space: Space, config: SyntheticConfig) -> Self {
        let mut dice = SimRng::part(seed, 2);
        let mut kinds = Vec::with_capacity(space.len());
        let mut rtts = Vec::with_capacity(space.len());
        for _ in 0..space.len() {
            let lot = below(&mut dice, 1_000_000);
            let live = below(&mut dice, 1_000_000) >= config.dead_ppm;
            kinds.push(match (lot < config.sybil_ppm, live) {
                (true, _) => Kind::Sybil,
                (_, true) => Kind::Live,
                (_, false) => Kind::Dead,
            });
            let rtt = lognormal(&mut dice, config.rtt, config.rtt_sigma_milli).max(LEAST_RTT);
            rtts.push(u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX));
        }
        let mut synthetic = Self {
            sybils: Space::default(),
            config,
            seed,
            space,
            kinds,
            rtts,
            late: BinaryHeap::new(),
            number: 0,
            tracks: Vec::new(),
            by_target: HashMap::default(),
            query_next: None,
            queries: 0,
            replies: 0,
            strays: 0,
        };
        synthetic.link_sybils();
        synthetic
    }

    /// Makes the Sybils known to each other.
    fn link_sybils(&mut self) {
        let all = 0..self.space.len() as u32;
        let sybils = all.filter(|n| self.kind(*n) == Kind::Sybil);
        let sybils = sybils.map(|n| (*self.space.key(n), *self.space.addr(n).ip()));
        self.sybils = Space::of(sybils.collect());
    }

    /// Makes the nodes, except the dead ones, query `victim` for nodes near a random id, one node
    /// after another at an interval of `every`.
    #[must_use]
    pub const fn querying(mut self, victim: SocketAddr, every: Duration) -> Self {
        self.query_next = Some(Queries {
            victim,
            every,
            next: Instant::ORIGIN,
            turn: 0,
        });
        self
    }

    /// The addresses that the host needs.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let all = 0..self.space.len() as u32;
        all.map(|n| IpAddr::V4(*self.space.addr(n).ip())).collect()
    }

    /// The nodes.
    #[must_use]
    pub const fn space(&self) -> &Space {
        &self.space
    }

    /// The kind of node `n`.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn kind(&self, n: u32) -> Kind {
        self.kinds[n as usize]
    }

    /// `count` live nodes, spread over the key space.
    #[must_use]
    pub fn contacts(&self, count: usize) -> Vec<SocketAddr> {
        let live: Vec<u32> = (0..self.space.len() as u32)
            .filter(|n| self.kind(*n) == Kind::Live)
            .collect();
        let step = (live.len() / count.max(1)).max(1);
        let some = live.iter().step_by(step).take(count);
        some.map(|n| self.space.addr(*n).into()).collect()
    }

    /// Observes the queries for a target from now on, and gives its closest honest nodes peers.
    /// Returns the number for [`SyntheticDht::track`].
    pub fn watch(&mut self, target: &Key) -> usize {
        let closest = (self.space).closest(target, K, |n| self.kind(n) != Kind::Dead);
        self.watched(target, closest)
    }

    /// Observes a target like [`SyntheticDht::watch`], counting honest nodes only, as if the others had
    /// joined later.
    pub fn watch_honest(&mut self, target: &Key) -> usize {
        let closest = (self.space).closest(target, K, |n| self.kind(n) == Kind::Live);
        self.watched(target, closest)
    }

    fn watched(&mut self, target: &Key, closest: Vec<u32>) -> usize {
        let number = self.tracks.len();
        self.tracks.push(Track {
            closest: closest.into_iter().map(|n| (n, None)).collect(),
            ..Track::default()
        });
        self.by_target.insert(target.0, number as u32);
        number
    }

    /// The observations of a target.
    #[must_use]
    pub fn track(&self, number: usize) -> Option<&Track> {
        self.tracks.get(number)
    }

    /// The number of queries received, for any target.
    #[must_use]
    pub const fn queries(&self) -> u64 {
        self.queries
    }

    /// The number of replies received.
    #[must_use]
    pub const fn replies(&self) -> u64 {
        self.replies
    }

    /// The number of datagrams that were neither queries nor replies.
    #[must_use]
    pub const fn strays(&self) -> u64 {
        self.strays
    }

    /// The nodes that node `me` returns for `target`.
    fn told(&self, me: u32, target: &Key) -> Vec<u32> {
        let shared = self.space.key(me).common_prefix(target);
        let branch = self.space.branch(target, shared + 1);
        if branch.len() <= K {
            return self.space.closest(target, K, |_| true);
        }
        // The table of a node has the same nodes of a branch every time.
        let mut dice = SimRng::part(self.seed ^ u64::from(me), u64::from(shared) + 10);
        let mut told = Vec::with_capacity(K);
        while told.len() < K {
            let n = branch.start + below(&mut dice, branch.len() as u32);
            if !told.contains(&n) {
                told.push(n);
            }
        }
        told.sort_unstable_by_key(|n| self.space.key(*n).distance(target));
        told
    }

    /// The token of node `me` for an address.
    fn token(&self, me: u32, of: IpAddr) -> [u8; 8] {
        let of = match of {
            IpAddr::V4(v4) => u64::from(u32::from(v4)),
            IpAddr::V6(_) => 0,
        };
        let mut dice = SimRng::part(self.seed ^ 3, (u64::from(me) << 32) ^ of);
        dice.next_u64().to_be_bytes()
    }

    fn lost(&self, cx: &mut HostCx<'_>) -> bool {
        self.config.loss_ppm > 0 && below(cx.rng, 1_000_000) < self.config.loss_ppm
    }

    fn query(
        &mut self,
        cx: &mut HostCx<'_>,
        me: u32,
        from: SocketAddr,
        query: &[u8],
    ) -> Option<()> {
        let Ok(message) = krpc::parse(query) else {
            self.strays += 1;
            return None;
        };
        let Body::Query(method, args) = message.body else {
            self.replies += 1;
            return None;
        };
        self.queries += 1;
        let target = args.target.or(args.info_hash);
        let track = target.and_then(|t| self.by_target.get(&t.0)).copied();
        let kind = self.kind(me);
        let asks = method != Method::AnnouncePeer;
        if let Some(track) = track.and_then(|t| self.tracks.get_mut(t as usize))
            && asks
        {
            track.queries += 1;
            track.dead += u32::from(kind == Kind::Dead);
        }
        if kind == Kind::Dead || self.lost(cx) {
            return None;
        }
        let place = track.and_then(|t| {
            let closest = &self.tracks[t as usize].closest;
            let place = closest.iter().position(|(n, _)| *n == me)?;
            Some((t, place as u8))
        });
        let mut buf = [0; 1_400];
        let len = match method {
            Method::AnnouncePeer => self.announce(&mut buf, me, from, message.tid, &args, track)?,
            _ => {
                let values = place.is_some() && kind == Kind::Live;
                self.reply(&mut buf, me, from, message.tid, method, target, values)?
            }
        };
        if self.lost(cx) {
            return None;
        }
        // The delay of each packet differs by up to 5 %.
        let rtt = u64::from(self.rtts[me as usize]);
        let jitter = rtt * u64::from(below(cx.rng, 101)) / 1_000;
        let at = cx.now + Duration::from_micros(rtt * 95 / 100 + jitter);
        let src = self.space.addr(me).into();
        let buffer = cx.spare.pop().unwrap_or_default();
        self.number += 1;
        self.late.push(Reverse(Delayed {
            at,
            number: self.number,
            packet: Packet::udp_in(buffer, src, from, &buf[..len]),
            reaches: place.filter(|_| asks),
        }));
        Some(())
    }

    /// Sends the next query to the victim if it is time.
    fn query_next(&mut self, cx: &mut HostCx<'_>) -> Option<()> {
        let query_next = self.query_next.as_mut().filter(|k| k.next <= cx.now)?;
        query_next.next = cx.now + query_next.every;
        let count = self.kinds.len() as u32;
        let mut turns = (0..count).map(|n| (query_next.turn + n) % count);
        let me = turns.find(|n| self.kinds[*n as usize] != Kind::Dead)?;
        query_next.turn = (me + 1) % count;
        let mut target = Key([0; 20]);
        cx.rng.fill_bytes(&mut target.0);
        let mut buf = [0; 200];
        let tid = cx.rng.next_u32().to_be_bytes();
        let query = QueryOut::FindNode { target, want: None };
        let len = krpc::query(&mut buf, &tid, self.space.key(me), false, &query)?;
        cx.send_udp(self.space.addr(me).into(), query_next.victim, &buf[..len]);
        Some(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one reply")]
    fn reply(
        &self,
        buf: &mut [u8],
        me: u32,
        from: SocketAddr,
        tid: &[u8],
        method: Method,
        target: Option<Key>,
        values: bool,
    ) -> Option<usize> {
        let mut nodes = Vec::new();
        if let Some(target) = target {
            if self.kind(me) == Kind::Sybil {
                for n in self.sybils.closest(&target, K, |_| true) {
                    self.sybils.write(n, &mut nodes);
                }
            } else {
                for n in self.told(me, &target) {
                    self.space.write(n, &mut nodes);
                }
            }
        }
        let token = self.token(me, from.ip());
        let peers: Vec<u8> = (1..=PEERS)
            .flat_map(|n| [45, 33, 7, n, 0x1a, 0xe1])
            .collect();
        let mut reply = ReplyOut {
            nodes: target.is_some().then_some(&nodes[..]),
            ..ReplyOut::default()
        };
        if matches!(method, Method::GetPeers | Method::Get) {
            reply.token = &token;
        }
        if method == Method::GetPeers && values {
            (reply.values, reply.value_len) = (&peers, 6);
        }
        krpc::reply(buf, tid, self.space.key(me), &from, &reply)
    }

    fn announce(
        &mut self,
        buf: &mut [u8],
        me: u32,
        from: SocketAddr,
        tid: &[u8],
        args: &Args<'_>,
        track: Option<u32>,
    ) -> Option<usize> {
        let right = args.token == Some(&self.token(me, from.ip()));
        if let Some(track) = track.and_then(|t| self.tracks.get_mut(t as usize)) {
            track.announced += u32::from(right);
            track.refused += u32::from(!right);
        }
        if right {
            krpc::reply(buf, tid, self.space.key(me), &from, &ReplyOut::default())
        } else {
            krpc::error(buf, tid, 203, "Bad token", krpc::MAX_DATAGRAM)
        }
    }
}

impl Host for SyntheticDht {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        let flow = *packet.flow();
        if let (Proto::Udp, IpAddr::V4(to)) = (flow.proto, flow.dst.ip())
            && let Some(me) = self.space.at(to)
            && flow.dst.port() == super::space::PORT
        {
            self.query(cx, me, flow.src, packet.payload());
        }
        cx.recycle(packet);
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        while self.late.peek().is_some_and(|late| late.0.at <= cx.now) {
            let Some(Reverse(late)) = self.late.pop() else {
                return;
            };
            if let Some((track, place)) = late.reaches
                && let Some(track) = self.tracks.get_mut(track as usize)
                && let Some((_, reached)) = track.closest.get_mut(usize::from(place))
            {
                reached.get_or_insert(cx.now);
            }
            cx.send(late.packet);
        }
        self.query_next(cx);
    }

    fn next_wake(&self) -> Option<Instant> {
        let late = self.late.peek().map(|late| late.0.at);
        let query_next = self.query_next.as_ref().map(|query_next| query_next.next);
        [late, query_next].into_iter().flatten().min()
    }
}

impl PartialEq for Delayed {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Delayed {}

impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Delayed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[cfg(test)]
mod tests;
