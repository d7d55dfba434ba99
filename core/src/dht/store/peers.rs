//! Peers that announced themselves (BEP 5), for nodes that ask for them.

use alloc::boxed::Box;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use super::keyed::Keyed;
use super::pack::Pack;
use crate::wire::krpc::{BLOOM_LEN, bloom};
use crate::{Cx, Instant, NodeId};

/// How long an announced peer is kept (S23); the announcer comes back after half of that.
pub const PEER_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// Info-hashes of a sample: with the other keys they fill a reply of 560 bytes.
pub const SAMPLES: usize = 20;
/// How long a sample stays the same (BEP 51 allows six hours). Our choice: half a peer's lifetime, so that
/// an indexer sees most of the info-hashes that come and go.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// Info-hashes that one call of [`PeerStore::expire`] looks at.
const EXPIRE_BATCH: usize = 64;
/// Pause between batches.
const EXPIRE_PAUSE: Duration = Duration::from_millis(10);

/// Seconds of a tick of a peer's age: its 7 bits are 34 minutes.
const AGE_TICK: u64 = 16;
/// Ticks of age to a tick of the wheel, whose 32 are 34 minutes.
const WHEEL_TICK: u32 = 4;
/// A peer that is older than this many ticks is expired.
const LIFETIME_TICKS: u32 = PEER_LIFETIME.as_secs().div_ceil(AGE_TICK) as u32;
/// The bit of a peer's mark that says it is a seed (BEP 33). The other bits are its tick.
const SEED: u8 = 0x80;
/// The bits of a mark that are a tick.
const TICK: u8 = 0x7f;

const V4: usize = 6;
const V6: usize = 18;

/// The limits of a [`PeerStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLimits {
    /// The most info-hashes.
    pub max_hashes: u32,
    /// The most peers in all.
    pub max_peers: u32,
    /// The most peers of one info-hash.
    pub max_per_hash: u32,
}

/// The peers of one info-hash.
#[derive(Clone, Debug)]
struct Swarm {
    /// The tick of the last announce: marks are counted back from it.
    newest: u32,
    v4: Pack<V4>,
    v6: Option<Box<Pack<V6>>>,
}

/// Peers by info-hash. A v4 peer takes seven bytes, an info-hash about ninety.
#[derive(Clone, Debug)]
pub struct PeerStore {
    swarms: Keyed<Swarm>,
    limits: PeerLimits,
    peers: u32,
    peers_max: u32,
    /// When the next batch may be looked at.
    resume: Instant,
    sample: heapless::Vec<NodeId, SAMPLES>,
    sampled: Option<Instant>,
}

impl PeerStore {
    /// Empty; `key` is drawn from the node's randomness.
    #[must_use]
    pub const fn new(key: (u64, u64), limits: PeerLimits) -> Self {
        let tick = Duration::from_secs(AGE_TICK * WHEEL_TICK as u64);
        Self {
            swarms: Keyed::new(key, tick),
            limits,
            peers: 0,
            peers_max: 0,
            resume: Instant::ORIGIN,
            sample: heapless::Vec::new(),
            sampled: None,
        }
    }

    /// Sets our id: the info-hashes that are farthest from it are evicted when the store is full.
    pub fn set_own(&mut self, id: NodeId) {
        self.swarms.set_own(id);
    }

    /// Keeps the peer at `addr`, in place of an earlier one of that IP address (S27). `false` if it
    /// has no port, or if the store is full of what is closer to us.
    pub fn announce(&mut self, now: Instant, hash: &NodeId, addr: SocketAddr, seed: bool) -> bool {
        if addr.port() == 0 || self.limits.max_peers == 0 || self.limits.max_per_hash == 0 {
            return false;
        }
        let Some(mut slot) = self.enter(now, hash) else {
            return false;
        };
        let swarm = self.swarms.value(slot);
        let before = swarm.len();
        swarm.advance(age_tick(now));
        swarm.forget(addr.ip());
        if swarm.len() >= self.limits.max_per_hash as usize {
            swarm.drop_oldest(addr.is_ipv6());
        }
        self.peers -= (before - swarm.len()) as u32;
        if self.peers >= self.limits.max_peers {
            self.make_room(hash, addr.is_ipv6());
            // Making room may have moved the slot, or evicted it.
            match self.swarms.find(hash) {
                Some(moved) => slot = moved,
                None => return false,
            }
        }
        let swarm = self.swarms.value(slot);
        let mark = (swarm.newest as u8 & TICK) | if seed { SEED } else { 0 };
        let added = match addr {
            SocketAddr::V4(addr) => swarm.v4.push(&compact4(*addr.ip(), addr.port()), mark),
            SocketAddr::V6(addr) => {
                let v6 = swarm.v6.get_or_insert_default();
                v6.push(&compact6(*addr.ip(), addr.port()), mark)
            }
        };
        self.peers += u32::from(added);
        self.peers_max = self.peers_max.max(self.peers);
        self.swarms.touch(slot);
        added
    }

    /// The slot of `hash`, made if need be.
    fn enter(&mut self, now: Instant, hash: &NodeId) -> Option<u32> {
        if let Some(slot) = self.swarms.find(hash) {
            return Some(slot);
        }
        let full = self.swarms.len() >= self.limits.max_hashes as usize;
        if full || self.peers >= self.limits.max_peers {
            let victim = self.swarms.farthest()?;
            if !self.swarms.is_farther(hash, victim) {
                return None;
            }
            if full {
                self.remove(victim);
            }
        }
        let swarm = Swarm {
            newest: age_tick(now),
            v4: Pack::default(),
            v6: None,
        };
        let deadline = swarm.newest.saturating_add(LIFETIME_TICKS);
        Some(self.swarms.insert(now, *hash, wheel(deadline), swarm))
    }

    /// Drops a peer of the farthest info-hash; of `hash`, if none is farther.
    fn make_room(&mut self, hash: &NodeId, for_v6: bool) {
        // An info-hash that was just entered has no peers.
        let own = self.swarms.find(hash);
        let victim = self
            .swarms
            .farthest()
            .filter(|v| self.swarms.is_farther(hash, *v));
        let Some(victim) = victim.or(own) else {
            return;
        };
        let swarm = self.swarms.value(victim);
        let dropped = swarm.drop_oldest(for_v6);
        let empty = swarm.len() == 0;
        self.peers -= u32::from(dropped);
        // A victim is never kept empty; `hash` itself is about to get a peer, if it gave one.
        if empty && (Some(victim) != own || !dropped) {
            self.remove(victim);
        }
    }

    fn remove(&mut self, slot: u32) {
        let swarm = self.swarms.remove(slot);
        self.peers -= swarm.len() as u32;
    }

    /// Packs peers of a family as they are sent: 6 bytes each, 18 if `v6`; seeds are left out if
    /// `noseed` (BEP 33). If `out` has no room for all, a random block of those there (S27).
    /// Returns the bytes used.
    pub fn values(
        &self,
        cx: &mut Cx<'_>,
        hash: &NodeId,
        v6: bool,
        noseed: bool,
        out: &mut [u8],
    ) -> usize {
        let Some(slot) = self.swarms.find(hash) else {
            return 0;
        };
        let swarm = &self.swarms.slot(slot).value;
        match (v6, &swarm.v6) {
            (false, _) => block(cx, &swarm.v4, noseed, out),
            (true, Some(v6)) => block(cx, v6, noseed, out),
            (true, None) => 0,
        }
    }

    /// Adds the peers of an info-hash to two bloom filters (BEP 33); `false` if there are none.
    #[must_use]
    pub fn scrape(
        &self,
        hash: &NodeId,
        seeds: &mut [u8; BLOOM_LEN],
        leeches: &mut [u8; BLOOM_LEN],
    ) -> bool {
        let Some(slot) = self.swarms.find(hash) else {
            return false;
        };
        let Swarm { v4, v6, .. } = &self.swarms.slot(slot).value;
        let mut add = |ip: IpAddr, mark: &u8| {
            let seed = mark & SEED != 0;
            bloom::insert(if seed { seeds } else { leeches }, ip);
        };
        let (addrs, _) = v4.addrs().as_chunks::<V4>();
        for (&[a, b, c, d, ..], mark) in addrs.iter().zip(v4.marks()) {
            add([a, b, c, d].into(), mark);
        }
        if let Some(v6) = v6 {
            let (addrs, _) = v6.addrs().as_chunks::<V6>();
            for (addr, mark) in addrs.iter().zip(v6.marks()) {
                if let Some(ip) = addr.first_chunk::<16>() {
                    add((*ip).into(), mark);
                }
            }
        }
        true
    }

    /// The peers that are kept for an info-hash.
    #[must_use]
    pub fn count(&self, hash: &NodeId) -> usize {
        let slot = self.swarms.find(hash);
        slot.map_or(0, |slot| self.swarms.slot(slot).value.len())
    }

    /// Packs at most 20 info-hashes, 20 bytes each; the same ones until [`PeerStore::sample_interval`]
    /// is over, unless all fit (BEP 51). Returns the bytes used, and how many info-hashes there are.
    pub fn sample(&mut self, cx: &mut Cx<'_>, out: &mut [u8]) -> (usize, u64) {
        let len = self.swarms.len();
        let stale = |at: Instant| cx.now >= at + SAMPLE_INTERVAL;
        if len <= SAMPLES || self.sampled.is_none_or(stale) {
            self.draw(cx);
            // All info-hashes fit, so the sample is not kept.
            self.sampled = (len > SAMPLES).then_some(cx.now);
        }
        let (rooms, _) = out.as_chunks_mut::<20>();
        let told = rooms.len().min(self.sample.len());
        for (room, id) in rooms.iter_mut().zip(&self.sample) {
            *room = id.0;
        }
        (told * 20, len as u64)
    }

    /// Draws distinct slots (Floyd's algorithm).
    fn draw(&mut self, cx: &mut Cx<'_>) {
        let len = self.swarms.len() as u32;
        let mut slots = heapless::Vec::<u32, SAMPLES>::new();
        for last in len.saturating_sub(SAMPLES as u32)..len {
            let any = cx.below(last + 1);
            let slot = if slots.contains(&any) { last } else { any };
            let _ = slots.push(slot);
        }
        self.sample = slots
            .iter()
            .map(|slot| self.swarms.slot(*slot).id)
            .collect();
    }

    /// How long a sample stays the same.
    #[must_use]
    pub const fn sample_interval() -> Duration {
        SAMPLE_INTERVAL
    }

    /// Drops peers of more than 30 minutes and info-hashes without any; a part of them, if many are
    /// due.
    pub fn expire(&mut self, now: Instant) {
        if now < self.resume {
            return;
        }
        for _ in 0..EXPIRE_BATCH {
            let Some(slot) = self.swarms.pop_due(now) else {
                return;
            };
            let swarm = self.swarms.value(slot);
            let before = swarm.len();
            swarm.drop_expired(age_tick(now));
            self.peers -= (before - swarm.len()) as u32;
            match swarm.oldest() {
                None => self.remove(slot),
                Some(oldest) => self.swarms.put_off(slot, wheel(oldest + LIFETIME_TICKS)),
            }
        }
        self.resume = now + EXPIRE_PAUSE;
    }

    /// When [`PeerStore::expire`] has something to do.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        Some(self.swarms.next_due()?.max(self.resume))
    }

    /// How many peers are stored.
    #[must_use]
    pub const fn peers(&self) -> u32 {
        self.peers
    }

    /// The most peers that were stored at one time.
    #[must_use]
    pub const fn peers_max(&self) -> u32 {
        self.peers_max
    }

    /// How many info-hashes are stored.
    #[must_use]
    pub const fn hashes(&self) -> u32 {
        self.swarms.len() as u32
    }
}

impl Swarm {
    fn len(&self) -> usize {
        self.v4.len() + self.v6.as_ref().map_or(0, |v6| v6.len())
    }

    /// Ticks since the last announce that a mark is old.
    fn behind(newest: u32, mark: u8) -> u32 {
        u32::from((newest as u8).wrapping_sub(mark) & TICK)
    }

    /// Advances the time and drops expired peers, so that 7 bits are enough for the age of the others.
    fn advance(&mut self, tick: u32) {
        let tick = tick.max(self.newest);
        self.drop_expired(tick);
        self.newest = tick;
    }

    fn drop_expired(&mut self, tick: u32) {
        let (newest, since) = (self.newest, tick.saturating_sub(self.newest));
        let expired = |mark: &u8| Self::behind(newest, *mark) + since > LIFETIME_TICKS;
        // Oldest first, so those to drop are in front.
        let gone = self.v4.marks().iter().take_while(|m| expired(m)).count();
        if gone > 0 {
            self.v4.remove(0, gone);
            self.v4.shrink();
        }
        let Some(v6) = &mut self.v6 else {
            return;
        };
        let gone = v6.marks().iter().take_while(|m| expired(m)).count();
        if gone > 0 {
            v6.remove(0, gone);
            v6.shrink();
        }
        if v6.len() == 0 {
            self.v6 = None;
        }
    }

    /// The tick of the oldest peer.
    fn oldest(&self) -> Option<u32> {
        let v6 = self.v6.as_ref().and_then(|v6| v6.marks().first());
        let marks = self.v4.marks().first().into_iter().chain(v6);
        let oldest = marks.map(|mark| Self::behind(self.newest, *mark)).max()?;
        Some(self.newest.saturating_sub(oldest))
    }

    fn forget(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                if let Some(at) = self.v4.find(&compact4(ip, 0)) {
                    self.v4.remove(at, 1);
                }
            }
            IpAddr::V6(ip) => {
                if let Some(v6) = &mut self.v6
                    && let Some(at) = v6.find(&compact6(ip, 0))
                {
                    v6.remove(at, 1);
                }
            }
        }
    }

    /// Drops the oldest peer of the family that has more, so that neither crowds out the other;
    /// if they have the same, of the one that is about to get one more.
    fn drop_oldest(&mut self, for_v6: bool) -> bool {
        match &mut self.v6 {
            Some(v6) if v6.len() + usize::from(for_v6) > self.v4.len() => v6.remove(0, 1),
            _ if self.v4.len() > 0 => self.v4.remove(0, 1),
            _ => return false,
        }
        true
    }
}

/// See [`PeerStore::values`].
fn block<const A: usize>(cx: &mut Cx<'_>, pack: &Pack<A>, noseed: bool, out: &mut [u8]) -> usize {
    let (addrs, len) = (pack.addrs(), pack.len());
    let room = out.len() / A;
    let start = if room < len {
        cx.below(len as u32) as usize
    } else {
        0
    };
    let (front, back) = addrs.split_at(start * A);
    if !noseed {
        let count = len.min(room) * A;
        let first = back.len().min(count);
        out[..first].copy_from_slice(&back[..first]);
        out[first..count].copy_from_slice(&front[..count - first]);
        return count;
    }
    let (marks_front, marks_back) = pack.marks().split_at(start);
    let peers = back.chunks_exact(A).zip(marks_back);
    let peers = peers.chain(front.chunks_exact(A).zip(marks_front));
    let leeches = peers.filter(|(_, mark)| *mark & SEED == 0);
    let rooms = out.chunks_exact_mut(A).zip(leeches);
    rooms
        .map(|(room, (addr, _))| room.copy_from_slice(addr))
        .count()
        * A
}

/// The tick of a peer announced at `now`.
fn age_tick(now: Instant) -> u32 {
    u32::try_from(now.as_micros() / (AGE_TICK * 1_000_000)).unwrap_or(u32::MAX)
}

/// The first tick of the wheel at which what expires after `tick` is expired.
const fn wheel(tick: u32) -> u32 {
    tick / WHEEL_TICK + 1
}

fn compact4(ip: Ipv4Addr, port: u16) -> [u8; V4] {
    let ([a, b, c, d], [e, f]) = (ip.octets(), port.to_be_bytes());
    [a, b, c, d, e, f]
}

fn compact6(ip: Ipv6Addr, port: u16) -> [u8; V6] {
    let mut compact = [0; V6];
    compact[..16].copy_from_slice(&ip.octets());
    compact[16..].copy_from_slice(&port.to_be_bytes());
    compact
}

#[cfg(test)]
mod tests;
