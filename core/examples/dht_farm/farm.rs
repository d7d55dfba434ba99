//! A wide-area DHT without a network: what its nodes would answer, and when.
//!
//! Nodes have a fixed round trip, log-normal; full tables of k = 8 over the true key space, so
//! asked for a target they name eight fixed random nodes of the branch one bit closer than
//! themselves, or the true closest where that branch is small. Some are dead: silent, but named
//! all the same. Some are Sybils, who name the Sybils closest to the target and nobody else. The
//! eight closest live nodes have what is searched for.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use dunlin_core::dht::estimate::SizeEstimate;
use dunlin_core::dht::lookup::{Lookup, Params};
use dunlin_core::dht::rtt::Rtt;
use dunlin_core::dht::secure_id::secure;
use dunlin_core::dht::{Contact, guard::is_martian};
use dunlin_core::{Cx, Instant, NodeId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Nodes of a bucket and of a reply (BEP 5: K).
const K: usize = 8;
/// When a query is given up for good.
const TIMEOUT: u64 = 5_000_000;

/// What the network is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    pub(crate) nodes: usize,
    /// Share of silent nodes.
    pub(crate) dead: f64,
    /// Share of packets lost, each way.
    pub(crate) loss: f64,
    /// Share of nodes that are Sybils; none of them is dead.
    pub(crate) sybils: f64,
    /// Median round trip in milliseconds, and deviation of its logarithm.
    pub(crate) rtt: (f64, f64),
}

impl Default for Nature {
    fn default() -> Self {
        Self {
            nodes: 60_000,
            dead: 0.5,
            loss: 0.0,
            sybils: 0.0,
            rtt: (90.0, 0.6),
        }
    }
}

/// What the searching node is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Searcher {
    pub(crate) params: Params,
    /// Nodes of its own table that a search begins with.
    pub(crate) seeds: usize,
    /// Whether its table has live nodes only.
    pub(crate) warm: bool,
    /// Whether the buckets of its table that hold most of the network are larger, as libtorrent's.
    pub(crate) wide: bool,
    /// Whether it makes use of the size it has estimated.
    pub(crate) sized: bool,
}

impl Default for Searcher {
    fn default() -> Self {
        Self {
            params: Params::new(NodeId([0; 20]), false),
            seeds: 16,
            warm: true,
            wide: false,
            sized: true,
        }
    }
}

pub(crate) struct Farm {
    nature: Nature,
    /// In order of id.
    nodes: Vec<Node>,
    rng: ChaCha8Rng,
}

struct Node {
    id: [u8; 20],
    ip: u32,
    rtt: u32,
    dead: bool,
    sybil: bool,
}

/// The end of a query: when, which, of whom, and when it was sent if it is answered.
type Event = (u64, u8, u32, Option<u64>);

/// How one search went; times in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Score {
    pub(crate) values: Option<u64>,
    pub(crate) all_closest: Option<u64>,
    pub(crate) done: u64,
    /// Of the closest 8 that are alive, how many were asked.
    pub(crate) reached: u32,
    pub(crate) honest: u32,
    pub(crate) queries: u32,
    pub(crate) dead_queries: u32,
    pub(crate) stores: u32,
    pub(crate) suspicious: bool,
    pub(crate) in_flight: usize,
}

impl Farm {
    pub(crate) fn new(nature: Nature, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Each in a /24 of its own.
        let mut subnets = BTreeSet::new();
        while subnets.len() < nature.nodes {
            let subnet = rng.next_u32() >> 8;
            if !is_martian(
                &SocketAddr::new(Ipv4Addr::from_bits(subnet << 8).into(), 1),
                false,
            ) {
                subnets.insert(subnet);
            }
        }
        let mut nodes: Vec<Node> = subnets
            .into_iter()
            .map(|subnet| {
                let ip = subnet << 8 | rng.next_u32() & 0xff;
                let sybil = uniform(&mut rng) < nature.sybils;
                let dead = !sybil && uniform(&mut rng) < nature.dead;
                let (median, sigma) = nature.rtt;
                let normal = (-2.0 * uniform(&mut rng).ln()).sqrt()
                    * (std::f64::consts::TAU * uniform(&mut rng)).cos();
                let rtt = (median * 1e3 * (sigma * normal).exp()).max(5e3) as u32;
                Node {
                    id: secure_id(&mut rng, ip),
                    ip,
                    rtt,
                    dead,
                    sybil,
                }
            })
            .collect();
        nodes.sort_by_key(|n| n.id);
        Self { nature, nodes, rng }
    }

    fn contact(&self, node: u32) -> Contact {
        let node = &self.nodes[node as usize];
        Contact {
            id: NodeId(node.id),
            addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(node.ip)), 6881),
        }
    }

    /// The nodes that share `bits` bits with `target`.
    fn branch(&self, target: &[u8; 20], bits: u32) -> std::ops::Range<u32> {
        let (low, high) = bounds(target, bits);
        let from = self.nodes.partition_point(|n| n.id < low);
        let to = self.nodes.partition_point(|n| n.id <= high);
        from as u32..to as u32
    }

    /// The `n` nodes closest to a target of which `wanted` holds, closest first.
    fn closest(&self, target: &[u8; 20], n: usize, wanted: impl Fn(&Node) -> bool) -> Vec<u32> {
        for bits in (0..=24).rev() {
            let mut found: Vec<u32> = self
                .branch(target, bits)
                .filter(|&i| wanted(&self.nodes[i as usize]))
                .collect();
            if found.len() >= n || bits == 0 {
                found.sort_by_key(|&i| xor(&self.nodes[i as usize].id, target));
                found.truncate(n);
                return found;
            }
        }
        Vec::new()
    }

    /// The nodes that `me` names when asked for `target`.
    fn answer(&self, me: u32, target: &[u8; 20]) -> Vec<u32> {
        let node = &self.nodes[me as usize];
        if node.sybil {
            return self.closest(target, K, |n| n.sybil);
        }
        let shared = NodeId(node.id).common_prefix(&NodeId(*target));
        let branch = self.branch(target, shared + 1);
        if branch.len() <= K {
            return self.closest(target, K, |_| true);
        }
        // The same ones each time: they are its table.
        let mut rng = ChaCha8Rng::seed_from_u64(u64::from(me) << 8 | u64::from(shared));
        let len = branch.len() as u32;
        let mut named: Vec<u32> = (0..K)
            .map(|_| branch.start + rng.next_u32() % len)
            .collect();
        named.sort_by_key(|&i| xor(&self.nodes[i as usize].id, target));
        named
    }

    /// The table of a node.
    fn table(&mut self, own: &[u8; 20], searcher: &Searcher) -> Vec<u32> {
        let mut table = BTreeSet::new();
        for bits in 0..24 {
            let bucket: Vec<u32> = {
                let all = self.branch(own, bits);
                let below = self.branch(own, bits + 1);
                all.filter(|i| !below.contains(i))
                    .filter(|&i| !searcher.warm || !self.nodes[i as usize].dead)
                    .collect()
            };
            let size = if searcher.wide {
                K << 4u32.saturating_sub(bits)
            } else {
                K
            };
            if bucket.len() <= size {
                table.extend(bucket);
            } else {
                let len = bucket.len() as u32;
                let before = table.len();
                while table.len() < before + size {
                    table.insert(bucket[(self.rng.next_u32() % len) as usize]);
                }
            }
        }
        table.into_iter().collect()
    }

    /// Lets a node of many search one after the other; fewer nodes than searches, since a table
    /// serves for some.
    pub(crate) fn searches(&mut self, searcher: &Searcher, count: usize) -> Vec<Score> {
        const PER_TABLE: usize = 20;
        let (mut rtt, mut size) = (Rtt::new(), SizeEstimate::new());
        let mut own = [0; 20];
        let mut table = Vec::new();
        (0..count)
            .map(|i| {
                if i % PER_TABLE == 0 {
                    self.rng.fill_bytes(&mut own);
                    table = self.table(&own, searcher);
                }
                let mut target = [0; 20];
                self.rng.fill_bytes(&mut target);
                self.search(searcher, own, &table, target, &mut rtt, &mut size)
            })
            .collect()
    }

    fn search(
        &mut self,
        searcher: &Searcher,
        own: [u8; 20],
        table: &[u32],
        target: [u8; 20],
        rtt: &mut Rtt,
        size: &mut SizeEstimate,
    ) -> Score {
        let at = |t: u64| Instant::from_micros(1 + t);
        let mut params = searcher.params;
        params.own = NodeId(own);
        if searcher.sized {
            params.expected = size.expected_kth_distance(params.k.into());
        }
        let mut lookup = Lookup::new(at(0), NodeId(target), params);
        let mut seeds = table.to_vec();
        seeds.sort_by_key(|&i| xor(&self.nodes[i as usize].id, &target));
        for &seed in seeds.iter().take(searcher.seeds) {
            let contact = self.contact(seed);
            lookup.add(Some(contact.id), contact.addr);
        }
        let top = self.closest(&target, K, |n| !n.dead);
        let mut score = Score::default();
        let mut reached = 0u32;
        let mut events = BinaryHeap::<Reverse<Event>>::new();
        let mut now = 0;
        loop {
            while let Some(ask) = lookup.poll_query(at(now), rtt.stall()) {
                let index = self
                    .nodes
                    .binary_search_by_key(&ask.id.expect("all are known").0, |n| n.id)
                    .expect("nobody makes up nodes") as u32;
                let node = &self.nodes[index as usize];
                score.queries += 1;
                score.dead_queries += u32::from(node.dead);
                let lost = |rng: &mut ChaCha8Rng| uniform(rng) < self.nature.loss;
                if node.dead || lost(&mut self.rng) {
                    events.push(Reverse((now + TIMEOUT, ask.slot, index, None)));
                    continue;
                }
                let jitter = 950 + self.rng.next_u64() % 100;
                let due = now + u64::from(node.rtt) * jitter / 1_000;
                if let Some(i) = top.iter().position(|&t| t == index) {
                    reached |= 1 << i;
                    score.honest += u32::from(!node.sybil);
                    score.values = Some(score.values.map_or(due, |v| v.min(due)));
                    if reached.count_ones() as usize == top.len() {
                        score.all_closest = score.all_closest.or(Some(due));
                    }
                }
                if lost(&mut self.rng) {
                    events.push(Reverse((now + TIMEOUT, ask.slot, index, None)));
                } else {
                    events.push(Reverse((due, ask.slot, index, Some(now))));
                }
            }
            score.in_flight = score.in_flight.max(events.len());
            if lookup.is_done() {
                break;
            }
            let timer = lookup.poll_timeout().map(|t| t.as_micros() - 1);
            let event = events.peek().map(|Reverse(e)| e.0);
            match (timer, event) {
                (Some(timer), event) if event.is_none_or(|e| timer < e) => now = timer,
                (_, Some(_)) => {
                    let Some(Reverse((due, slot, node, sent))) = events.pop() else {
                        break;
                    };
                    now = due;
                    let Some(sent) = sent else {
                        lookup.failed(at(now), slot);
                        continue;
                    };
                    rtt.add(Duration::from_micros(due - sent));
                    let id = NodeId(self.nodes[node as usize].id);
                    let named = self.answer(node, &target);
                    let found = top.contains(&node);
                    let nodes = named.iter().map(|&i| self.contact(i));
                    lookup.replied(at(now), slot, id, nodes, Some(b"abcd"), found);
                }
                (_, None) => panic!("the search waits for nothing"),
            }
        }
        score.done = now;
        score.reached = reached.count_ones();
        score.stores = lookup.stores().count() as u32;
        score.suspicious = lookup.is_suspicious(size);
        let mut found = heapless::Vec::<Contact, K>::new();
        lookup.closest(&mut found);
        let ids: Vec<NodeId> = found.iter().map(|c| c.id).collect();
        if ids.len() == K && !score.suspicious {
            size.add(&NodeId(target), &ids);
        }
        score
    }
}

/// The time that so many of a thousand do not exceed, in milliseconds.
pub(crate) fn quantile(times: impl Iterator<Item = u64>, permille: usize) -> u64 {
    let mut times: Vec<u64> = times.collect();
    times.sort_unstable();
    let index = (times.len() * permille / 1_000).min(times.len().saturating_sub(1));
    times.get(index).map_or(u64::MAX, |t| t / 1_000)
}

/// The mean of a count, in thousandths.
pub(crate) fn mean_milli(counts: impl ExactSizeIterator<Item = u32>) -> u64 {
    let len = counts.len() as u64;
    counts.map(u64::from).sum::<u64>() * 1_000 / len.max(1)
}

fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (f64::from(rng.next_u32()) + 0.5) / 4_294_967_296.0
}

fn secure_id(rng: &mut ChaCha8Rng, ip: u32) -> [u8; 20] {
    let now = Instant::ORIGIN;
    secure(&mut Cx { now, rng }, Ipv4Addr::from_bits(ip).into()).0
}

fn xor(a: &[u8; 20], b: &[u8; 20]) -> [u8; 20] {
    NodeId(*a).distance(&NodeId(*b))
}

/// The lowest and the highest id that share `bits` bits with `target`.
fn bounds(target: &[u8; 20], bits: u32) -> ([u8; 20], [u8; 20]) {
    let (mut low, mut high) = (*target, *target);
    for (i, (l, h)) in (0u32..).zip(low.iter_mut().zip(&mut high)) {
        let kept = bits.saturating_sub(i * 8).min(8);
        let mask = 0xffu8.checked_shl(8 - kept).unwrap_or(0);
        *l &= mask;
        *h |= !mask;
    }
    (low, high)
}
