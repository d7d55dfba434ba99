//! Which nodes enter the table, which stay, and which leave.

use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use super::bucket::Bucket;
#[cfg(test)]
use super::candidates::Candidate;
use super::candidates::Candidates;
use super::entry::{
    Entry, State, Tick, endpoint, head, id, ip, is_secure, pack, rtt_byte, seconds, subnet, unpack,
};
use super::schedule::{FRESH, Upkeep};
use super::{Added, K, Limits, MAX_BUCKETS};
use crate::dht::Contact;
use crate::{Instant, NodeId};

/// From this depth on a bucket splits only if most nodes of its near half have BEP 42 ids. Our choice: an honest
/// network this deep has 4·2²⁴ = 67 million nodes, several times as many as exist.
const DEEP: usize = 24;
/// Words of the filter of addresses. Our choice: of 200 nodes, one query in six has a false alarm, which
/// costs a search.
const IPS: usize = 16;
/// A query from a node that may be dead makes us ping it, at most once in this many
/// seconds, because the query may be forged.
const REPING: u32 = 60;

/// A table of nodes of `S` bytes.
#[derive(Clone, Debug)]
pub(super) struct Table<const S: usize> {
    own: NodeId,
    pub(super) limits: Limits,
    /// Bucket i has the nodes that share exactly i bits with us, the last one all that share more.
    pub(super) buckets: Vec<Bucket<S>>,
    pub(super) candidates: Candidates<S>,
    pub(super) upkeep: Upkeep,
    /// A Bloom filter of the addresses in the table: most packets come from others.
    ips: [u64; IPS],
}

/// Where a node could go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    Free,
    /// Free once the own bucket is split.
    Split,
    /// In place of this one.
    Instead(usize),
    Full,
    /// The bucket has a node of its subnet already.
    Barred,
}

/// Where the filter remembers the address of a node.
fn filter_bit<const S: usize>(node: &[u8; S]) -> (usize, u64) {
    let ip = ip(node);
    let mixed = ((ip >> 64) as u64 ^ ip as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
    (mixed as usize / 64 % IPS, 1 << (mixed % 64))
}

impl<const S: usize> Table<S> {
    pub(super) fn new(own: NodeId, mut limits: Limits) -> Self {
        limits.max_buckets = limits.max_buckets.clamp(1, MAX_BUCKETS);
        Self {
            own,
            limits,
            buckets: vec![Bucket::new()],
            candidates: Candidates::new(limits.max_replacements),
            upkeep: Upkeep::new(),
            ips: [0; IPS],
        }
    }

    pub(super) const fn own(&self) -> &NodeId {
        &self.own
    }

    pub(super) fn len(&self) -> u32 {
        self.buckets.iter().map(|b| b.len() as u32).sum()
    }

    pub(super) fn ready(&self) -> u32 {
        self.buckets.iter().map(|b| b.ready() as u32).sum()
    }

    pub(super) fn nodes(
        &self,
        now: Instant,
    ) -> impl Iterator<Item = (Contact, Duration, bool)> + '_ {
        let now = seconds(now);
        let entries = self.buckets.iter().flat_map(Bucket::entries);
        entries.filter(|e| !e.state.is_bad()).map(move |e| {
            let unheard = now.saturating_sub(e.heard);
            let good = e.state.is_ready() && unheard < FRESH;
            (unpack(&e.node), Duration::from_secs(unheard.into()), good)
        })
    }

    /// The bucket of an id.
    fn index(&self, id: &NodeId) -> usize {
        let shared = (head(&self.own) ^ head(id)).leading_zeros() as usize;
        shared.min(self.buckets.len().saturating_sub(1))
    }

    fn is_nobody(&self, id: &NodeId) -> bool {
        *id == self.own || id.0 == [0; 20]
    }

    /// See [`Routes::replied`](super::Routes::replied).
    pub(super) fn replied(
        &mut self,
        now: Instant,
        id: &NodeId,
        addr: SocketAddr,
        rtt: Duration,
    ) -> Added {
        let Some(node) = pack::<S>(id, addr) else {
            return Added::Refused;
        };
        self.alive(now);
        if self.is_nobody(id) {
            return Added::Refused;
        }
        let (now_s, rtt) = (seconds(now), rtt_byte(rtt));
        let b = self.index(id);
        if let Some((i, mut entry)) = self.find(b, id) {
            if entry.node == node {
                let old = if entry.state.has(State::VERIFIED) {
                    entry.rtt
                } else {
                    rtt
                };
                entry.rtt = ((u16::from(old) * 3 + u16::from(rtt)) / 4) as u8;
                entry.heard = now_s;
                entry.state = entry.state.answered();
                self.buckets[b].set(i, &entry);
                return Added::Known;
            }
            // The same id at another endpoint: the node may have moved, but then the old endpoint is silent.
            if !entry.state.is_worse() {
                return Added::Refused;
            }
            self.buckets[b].remove(i);
        }
        self.candidates.forget(&node);
        let holder = self.holder(&node);
        if let Some((b, i, old)) = holder.filter(|h| self.is_at(h.0, h.1, &node)) {
            // A node that learns its address takes an id that follows from it (BEP 42).
            let improved = !old.has(State::SECURE) && is_secure(&node);
            self.evict(b, i, now_s);
            if old.has(State::VERIFIED) && !improved {
                self.doubt(b, now);
                return Added::IdChanged;
            }
        }
        if !self.limits.local
            && let Some((b, i, old)) = self.holder(&node)
        {
            if !old.is_worse() {
                return Added::Refused;
            }
            self.evict(b, i, now_s);
        }
        let state = State::default().answered();
        let secure = self.limits.local || is_secure(&node);
        let entry = Entry {
            node,
            heard: now_s,
            asked: Tick::at(now_s),
            rtt,
            state: if secure {
                state.with(State::SECURE)
            } else {
                state
            },
        };
        let added = self.place(&entry, now_s);
        if matches!(added, Added::New | Added::Replaced) {
            self.changed(now);
        }
        added
    }

    /// The node with the address of `node`, or in a private network with its endpoint: bucket, place and state.
    pub(super) fn holder(&self, node: &[u8; S]) -> Option<(usize, usize, State)> {
        let (word, bit) = filter_bit(node);
        if self.ips.get(word)? & bit == 0 {
            return None;
        }
        let ip_of = ip(node);
        let local = self.limits.local;
        let (b, i) =
            self.search(|n| ip(n) == ip_of && (!local || endpoint(n) == endpoint(node)))?;
        Some((b, i, *self.buckets.get(b)?.states().get(i)?))
    }

    /// Whether the node there has the same port as `node`, too.
    pub(super) fn is_at(&self, b: usize, i: usize, node: &[u8; S]) -> bool {
        let there = self.buckets.get(b).and_then(|bucket| bucket.nodes().get(i));
        there.is_some_and(|n| endpoint(n) == endpoint(node))
    }

    /// Adds an address to the filter; [`Table::sift`] forgets those of nodes that have left.
    fn note(&mut self, node: &[u8; S]) {
        let (word, bit) = filter_bit(node);
        if let Some(word) = self.ips.get_mut(word) {
            *word |= bit;
        }
    }

    /// Builds the filter again.
    pub(super) fn sift(&mut self) {
        let mut ips = [0; IPS];
        for node in self.buckets.iter().flat_map(Bucket::nodes) {
            let (word, bit) = filter_bit(node);
            ips[word] |= bit;
        }
        self.ips = ips;
    }

    /// Puts a living node where there is a place for it.
    fn place(&mut self, entry: &Entry<S>, now_s: u32) -> Added {
        let node_id = id(&entry.node);
        let b = self.index(&node_id);
        let seat = self.seat(b, &entry.node, true);
        if !matches!(seat, Seat::Full | Seat::Barred) {
            self.note(&entry.node);
        }
        match seat {
            Seat::Free => {
                self.buckets[b].push(entry);
                self.buckets[b].tries = self.buckets[b].tries.saturating_sub(1);
                Added::New
            }
            Seat::Split => {
                self.split();
                let far = b;
                let b = self.index(&node_id);
                self.buckets[b].push(entry);
                self.fill(far, now_s);
                Added::New
            }
            Seat::Instead(i) => {
                let old = self.buckets[b].get(i);
                self.buckets[b].set(i, entry);
                if let Some(old) = old.filter(|e| e.state.is_ready()) {
                    self.offer(&old, now_s);
                }
                Added::Replaced
            }
            Seat::Full if self.offer(entry, now_s) => Added::Candidate,
            Seat::Full | Seat::Barred => Added::Refused,
        }
    }

    fn offer(&mut self, entry: &Entry<S>, now_s: u32) -> bool {
        self.candidates
            .offer(entry, head(&self.own), now_s, self.limits.local)
    }

    /// See [`Routes::queried`](super::Routes::queried).
    pub(super) fn queried(&mut self, now: Instant, id: &NodeId, addr: SocketAddr) -> bool {
        let Some(node) = pack::<S>(id, addr) else {
            return false;
        };
        let b = self.index(id);
        let Some(bucket) = self.buckets.get_mut(b) else {
            return false;
        };
        if let Some(i) = bucket.find(id) {
            if bucket.nodes().get(i) != Some(&node) {
                return false;
            }
            let now_s = seconds(now);
            let Some(state) = bucket.states().get(i).copied() else {
                return false;
            };
            if state.has(State::VERIFIED) {
                bucket.hear(i, now_s);
            }
            return !state.is_ready() && self.asks(b, i, now_s);
        }
        match self.holder(&node) {
            // The same node under another id, or a forgery: a ping of the node tells which.
            Some((b, i, _)) => self.is_at(b, i, &node) && self.asks(b, i, seconds(now)),
            None => self.has_seat(b, id, &node),
        }
    }

    /// Whether a node may be asked because of a query; if so, that is remembered.
    fn asks(&mut self, b: usize, i: usize, now_s: u32) -> bool {
        let entry = self.buckets.get(b).and_then(|bucket| bucket.get(i));
        let Some(mut entry) = entry.filter(|e| e.asked.age(now_s) >= REPING) else {
            return false;
        };
        entry.asked = Tick::at(now_s);
        self.buckets[b].set(i, &entry);
        true
    }

    /// See [`Routes::wants`](super::Routes::wants).
    pub(super) fn wants(&self, id: &NodeId, addr: SocketAddr) -> bool {
        let b = self.index(id);
        pack::<S>(id, addr).is_some_and(|node| {
            self.find(b, id).is_none()
                && self.has_seat(b, id, &node)
                && self.holder(&node).is_none()
        })
    }

    fn has_seat(&self, b: usize, id: &NodeId, node: &[u8; S]) -> bool {
        !self.is_nobody(id) && !matches!(self.seat(b, node, true), Seat::Full | Seat::Barred)
    }

    /// See [`Routes::restore`](super::Routes::restore).
    pub(super) fn restore(&mut self, now: Instant, contact: &Contact, age: Duration) {
        let Some(node) = pack::<S>(&contact.id, contact.addr) else {
            return;
        };
        let b = self.index(&contact.id);
        if self.is_nobody(&contact.id)
            || self.find(b, &contact.id).is_some()
            || self.holder(&node).is_some()
        {
            return;
        }
        let now_s = seconds(now);
        let age = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        let secure = self.limits.local || is_secure(&node);
        let entry = Entry {
            node,
            heard: now_s.saturating_sub(age),
            asked: Tick::never(now_s),
            rtt: u8::MAX,
            state: if secure {
                State::SECURE
            } else {
                State::default()
            },
        };
        if self.keep(&entry) {
            self.candidates.forget(&node);
            self.wake(now);
        }
    }

    /// Adds a node if there is room; returns whether there was.
    fn keep(&mut self, entry: &Entry<S>) -> bool {
        let node_id = id(&entry.node);
        match self.seat(self.index(&node_id), &entry.node, false) {
            Seat::Free => {}
            Seat::Split => self.split(),
            Seat::Instead(_) | Seat::Full | Seat::Barred => return false,
        }
        let b = self.index(&node_id);
        self.buckets[b].push(entry);
        self.note(&entry.node);
        true
    }

    /// Where a node could go in its bucket; other nodes make room only for one that `lives`.
    fn seat(&self, b: usize, node: &[u8; S], lives: bool) -> Seat {
        let Some(bucket) = self.buckets.get(b) else {
            return Seat::Full;
        };
        let net = subnet(node);
        if !self.limits.local
            && let Some(i) = bucket.nodes().iter().position(|n| subnet(n) == net)
        {
            let worse = bucket.states().get(i).is_some_and(|s| s.is_worse());
            return if lives && worse {
                Seat::Instead(i)
            } else {
                Seat::Barred
            };
        }
        if !bucket.is_full() {
            return Seat::Free;
        }
        if self.can_split(b, &id(node)) {
            return Seat::Split;
        }
        let best = |s: &State| s.is_ready() && s.has(State::SECURE);
        if !lives || bucket.states().iter().all(best) {
            return Seat::Full;
        }
        if let Some(i) = bucket.worst() {
            return Seat::Instead(i);
        }
        // A node that chose its id gives way to one whose id follows from its address (BEP 42).
        if let Some(i) = bucket.loosest()
            && is_secure(node)
        {
            return Seat::Instead(i);
        }
        Seat::Full
    }

    /// Whether the full bucket `b` splits for a node with this id. Both halves must get a node; otherwise
    /// ids that were made up to share our first bits could grow the table without limit.
    fn can_split(&self, b: usize, new: &NodeId) -> bool {
        let buckets = self.buckets.len();
        if b + 1 != buckets || buckets >= usize::from(self.limits.max_buckets) {
            return false;
        }
        let own = head(&self.own);
        let is_near = |id: &NodeId| (own ^ head(id)).leading_zeros() as usize >= buckets;
        let (mut near, mut far, mut secure) = (0u32, 0u32, 0u32);
        for e in self.buckets[b].entries() {
            if is_near(&id(&e.node)) {
                near += 1;
                secure += u32::from(e.state.has(State::SECURE));
            } else {
                far += 1;
            }
        }
        if is_near(new) {
            near += 1;
        } else {
            far += 1;
        }
        near > 0 && far > 0 && (buckets < DEEP || secure * 2 > near)
    }

    /// Splits the own bucket.
    fn split(&mut self) {
        let (own, depth) = (head(&self.own), self.buckets.len());
        let Some(last) = self.buckets.last_mut() else {
            return;
        };
        // Both halves begin with few nodes, so they are refreshed at once.
        let (mut far, mut near) = (Bucket::new(), Bucket::new());
        for e in last.entries() {
            if (own ^ head(&id(&e.node))).leading_zeros() as usize >= depth {
                near.push(&e);
            } else {
                far.push(&e);
            }
        }
        *last = far;
        self.buckets.reserve_exact(1);
        self.buckets.push(near);
    }

    /// See [`Routes::set_own`](super::Routes::set_own).
    pub(super) fn set_own(&mut self, now: Instant, own: NodeId) {
        let mut entries: Vec<_> = self.buckets.iter().flat_map(Bucket::entries).collect();
        // Where there is not enough room, the nodes that are most likely to live stay.
        entries.sort_by_key(|e| (!e.state.is_ready(), u32::MAX - e.heard));
        self.own = own;
        self.candidates.forget_id(&own);
        self.buckets.clear();
        self.buckets.push(Bucket::new());
        for entry in entries.iter().filter(|e| id(&e.node) != own) {
            if !self.keep(entry) && entry.state.is_ready() {
                self.offer(entry, seconds(now));
            }
        }
        for b in 0..self.buckets.len() {
            self.fill(b, seconds(now));
        }
        self.recount();
        self.wake(now);
    }

    pub(super) fn find(&self, b: usize, id: &NodeId) -> Option<(usize, Entry<S>)> {
        let bucket = self.buckets.get(b)?;
        let i = bucket.find(id)?;
        Some((i, bucket.get(i)?))
    }

    /// The first node of the whole table that matches; too slow to call for every packet.
    fn search(&self, is: impl Fn(&[u8; S]) -> bool) -> Option<(usize, usize)> {
        let mut buckets = self.buckets.iter().enumerate();
        buckets.find_map(|(b, bucket)| Some((b, bucket.nodes().iter().position(&is)?)))
    }

    /// Removes a node; a candidate takes its place.
    pub(super) fn evict(&mut self, b: usize, i: usize, now_s: u32) {
        if let Some(bucket) = self.buckets.get_mut(b) {
            bucket.remove(i);
            self.fill(b, now_s);
        }
    }

    /// Gives free places of a bucket, and those of nodes that are worse, to candidates.
    pub(super) fn fill(&mut self, b: usize, now_s: u32) {
        for _ in 0..K {
            let best = self
                .candidates
                .iter()
                .filter(|(_, c)| self.index(&id(&c.node)) == b)
                .filter_map(|(i, c)| Some((i, c.rank(now_s, self.vacancy(b, &c.node)?))))
                .min_by_key(|(_, rank)| *rank);
            let Some(candidate) = best.and_then(|(i, _)| self.candidates.remove(i)) else {
                return;
            };
            let entry = candidate.entry();
            self.note(&entry.node);
            match self.seat(b, &entry.node, true) {
                Seat::Free => self.buckets[b].push(&entry),
                Seat::Instead(i) => self.buckets[b].set(i, &entry),
                Seat::Split | Seat::Full | Seat::Barred => return,
            }
        }
    }

    /// Whether there is a place for a candidate in bucket `b`; if so, whether its id lies in an
    /// eighth of the bucket where no other is.
    fn vacancy(&self, b: usize, node: &[u8; S]) -> Option<bool> {
        let bucket = self.buckets.get(b)?;
        let places = match self.seat(b, node, true) {
            Seat::Free => true,
            Seat::Instead(i) => bucket.states().get(i).is_some_and(|s| s.is_worse()),
            Seat::Split | Seat::Full | Seat::Barred => false,
        };
        if !places || self.holder(node).is_some() {
            return None;
        }
        let eighth = |n: &[u8; S]| (head(&id(n)) << (b + 1).min(63)) >> 61;
        let mut mates = bucket.nodes().iter().zip(bucket.states());
        Some(!mates.any(|(n, s)| !s.is_worse() && eighth(n) == eighth(node)))
    }

    /// Panics if an invariant of the table is broken.
    #[cfg(test)]
    pub(super) fn audit(&self) {
        assert!(self.buckets.len() <= usize::from(self.limits.max_buckets));
        let mut all: Vec<[u8; S]> = Vec::new();
        for (b, bucket) in self.buckets.iter().enumerate() {
            assert!(bucket.len() <= K);
            for (i, e) in bucket.entries().enumerate() {
                assert_eq!(self.index(&id(&e.node)), b, "in its bucket");
                assert_eq!(e.state.is_ready(), i < bucket.ready(), "ready ones first");
                assert!(!self.is_nobody(&id(&e.node)));
            }
            if !self.limits.local {
                let mut nets: Vec<_> = bucket.nodes().iter().map(subnet).collect();
                nets.sort_unstable();
                assert!(nets.windows(2).all(|w| w[0] != w[1]), "one of a subnet");
            }
            all.extend(bucket.nodes());
        }
        assert!(self.candidates.iter().count() <= usize::from(self.limits.max_replacements));
        let nobody = |(_, c): (_, &Candidate<S>)| self.is_nobody(&id(&c.node));
        assert!(!self.candidates.iter().any(nobody));
        let unique = |mut keys: Vec<&[u8]>, what: &str| {
            keys.sort_unstable();
            assert!(keys.windows(2).all(|w| w[0] != w[1]), "{what} are unique");
        };
        // A candidate is not in the table, either.
        let everybody = || {
            all.iter()
                .chain(self.candidates.iter().map(|(_, c)| &c.node))
        };
        unique(everybody().map(|n| &n[..20]).collect(), "ids");
        unique(everybody().map(endpoint).collect(), "endpoints");
        if !self.limits.local {
            unique(all.iter().map(|n| &n[20..S - 2]).collect(), "addresses");
        }
        for node in &all {
            assert_ne!(self.holder(node), None, "the filter knows all");
        }
        let suspects = self.buckets.iter().flat_map(Bucket::states);
        let suspects = suspects.filter(|s| s.has(State::SUSPECT)).count();
        assert_eq!(suspects > 0, self.upkeep.has_suspects());
    }
}
