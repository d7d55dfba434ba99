//! The peer addresses that a torrent knows, and which of them to try next.
//!
//! The list is bounded. Each source has a quota, so that no source can crowd out a more trusted one, and each IP address and
//! each peer that tells of others has a quota, too. A full list drops its worst entry for a new one: the one that failed
//! most or, among those never tried, one chosen by a salted hash. The list is then a sample of all addresses that were ever
//! told, which a source cannot influence by telling more.

mod bans;
mod idle;
mod limits;
mod origin;
#[cfg(test)]
mod tests;

use alloc::{collections::BTreeMap, vec::Vec};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use super::counts::Counts;
use super::prefix::Prefix;
use super::status::PeerSource;
use crate::{Cx, EncryptionPolicy, Instant};
use bans::Bans;
use idle::{Idle, Rank};
pub(crate) use limits::Limits;
use limits::{CLASSES, Class};
pub(crate) use origin::Origin;

/// The wait after the first failed attempt. It doubles with each further one.
const RETRY: Duration = Duration::from_secs(30);
/// The same for an address that the application named: its program may just be starting.
const RETRY_MANUAL: Duration = Duration::from_secs(3);
/// The longest wait between attempts.
const MAX_RETRY: Duration = Duration::from_secs(1800);
/// An address is forgotten after this many failures in a row.
const MAX_FAILURES: u8 = 8;
/// After this many failures in a row, another port of the same IP address may replace an address. One failure may be a busy
/// peer; two are a minute and a half without an answer.
const REPLACEABLE: u8 = 2;
/// The wait before an address that worked is tried again.
const RECONNECT: Duration = Duration::from_secs(10);
/// The maximum number of prefixes with bans.
const MAX_BANNED: usize = 1024;
/// How many entries are examined at most to find one that a certain peer told of.
const MAX_LOOKED_AT: usize = 64;

/// An address of the peer list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) source: PeerSource,
    teller: Option<Prefix>,
    /// Whether it is connected, or being connected to.
    pub(crate) busy: bool,
    /// Whether the other kind of encryption is tried first, as the preferred one failed last time.
    other_encryption: bool,
    /// Whether the last attempt ended with [`Released::TryAgain`].
    pub(crate) again: bool,
    /// Whether it is a seed, which is useless once we are one.
    seed: bool,
    /// Whether a connection to it was useful.
    worked: bool,
    failures: u8,
    /// When it may be tried. Only idle addresses are ordered by it.
    due: Instant,
}

impl Known {
    const fn class(&self) -> Class {
        Class::of(self.source)
    }

    /// Whether the next attempt uses encryption.
    pub(crate) const fn encrypts(&self, policy: EncryptionPolicy) -> bool {
        match policy {
            EncryptionPolicy::Off => false,
            EncryptionPolicy::Allowed => self.other_encryption,
            EncryptionPolicy::Preferred => !self.other_encryption,
            EncryptionPolicy::Required => true,
        }
    }
}

/// The peer addresses of a torrent.
#[derive(Debug)]
pub(crate) struct PeerList {
    known: BTreeMap<SocketAddr, Known>,
    /// The addresses that are not busy, by class.
    idle: [Idle; CLASSES],
    /// The number of entries of each class.
    counts: [usize; CLASSES],
    /// The number of entries with each prefix.
    prefixes: Counts<Prefix>,
    /// The number of entries by the prefix of the peer that told of them.
    tellers: Counts<Prefix>,
    bans: Bans,
    limits: Limits,
    /// Randomises the times of attempts, so that two peers that reject each other do not stay in step, and decides which of
    /// two untried addresses is kept.
    salt: u32,
    /// Whether the torrent is in the queue of those that may connect.
    pub(crate) dialling: bool,
}

impl PeerList {
    pub(crate) fn new(limits: Limits, salt: u32) -> Self {
        Self {
            known: BTreeMap::new(),
            idle: Default::default(),
            counts: [0; CLASSES],
            prefixes: Counts::default(),
            tellers: Counts::default(),
            bans: Bans::new(limits.known.min(MAX_BANNED)),
            limits,
            salt,
            dialling: false,
        }
    }

    // ---- learning ----

    /// Learns an address. Returns whether it is new.
    pub(crate) fn learn(
        &mut self,
        cx: &mut Cx<'_>,
        addr: SocketAddr,
        origin: impl Into<Origin>,
    ) -> bool {
        let Origin { source, teller, .. } = origin.into();
        let addr = canonical(addr);
        if !is_plausible(addr) || !self.limits.has_family(addr) || self.bans.refuses(addr) {
            return false;
        }
        if self.known.contains_key(&addr) {
            self.trust(addr, source);
            return false;
        }
        // Randomised a little, so that the peers of a swarm do not connect in the same order.
        let due = match source {
            PeerSource::Manual | PeerSource::Incoming => cx.now,
            _ => cx.now + Duration::from_micros(u64::from(cx.below(1000))),
        };
        let mut known = Known {
            source,
            teller,
            busy: false,
            other_encryption: false,
            again: false,
            seed: false,
            worked: false,
            failures: 0,
            due,
        };
        let Some(replaced) = self.room_at(addr.ip(), source) else {
            return false;
        };
        if let Some(old) = replaced.filter(|old| old.class() == known.class()) {
            // The wait applies to the IP address, so that naming its ports one by one gains nothing.
            (known.failures, known.due) = (old.failures, old.due.max(due));
        }
        if !teller.is_none_or(|t| self.has_room_for(t))
            || !self.has_room_in(known.class(), self.rank(addr, &known))
        {
            return false;
        }
        self.counts[known.class().index()] += 1;
        self.prefixes.add(Prefix::of(addr.ip()), 1);
        if let Some(teller) = teller {
            self.tellers.add(teller, 1);
        }
        self.known.insert(addr, known);
        self.add_idle(addr);
        true
    }

    /// Learns addresses, as far as their source is trusted. `is_used` tells whether there is a connection to an address: it may
    /// have been dropped from a full list. Returns how many addresses were refused.
    pub(crate) fn learn_all(
        &mut self,
        cx: &mut Cx<'_>,
        addrs: impl IntoIterator<Item = SocketAddr>,
        origin: Origin,
        is_used: impl Fn(SocketAddr) -> bool,
    ) -> u64 {
        let mut refused = 0;
        for addr in addrs {
            let addr = canonical(addr);
            if !origin.may_name(addr.ip()) {
                refused += 1;
            } else if self.learn(cx, addr, origin) && is_used(addr) {
                self.occupy(addr);
            }
        }
        refused
    }

    /// A known address was named by `source`, too: the more trusted source is kept.
    fn trust(&mut self, addr: SocketAddr, source: PeerSource) {
        let Some(known) = self.known.get(&addr) else {
            return;
        };
        let (old, new) = (known.class(), Class::of(source));
        let room = old != Class::Gossip || self.others() < self.limits.most_others();
        if new >= old || !room {
            return;
        }
        let (busy, teller) = (known.busy, known.teller);
        self.remove_idle(addr);
        self.forget_teller(teller);
        self.counts[old.index()] -= 1;
        self.counts[new.index()] += 1;
        if let Some(known) = self.known.get_mut(&addr) {
            (known.source, known.teller) = (source, None);
        }
        if !busy {
            self.add_idle(addr);
        }
    }

    /// Makes room for one more port of an IP address. Returns the port that it replaces, one that does not answer, if
    /// necessary.
    fn room_at(&mut self, ip: IpAddr, source: PeerSource) -> Option<Option<Known>> {
        let prefix = Prefix::of(ip);
        let count = self.prefixes.of(&prefix) as usize;
        if count < self.limits.ports(source) {
            return Some(None);
        }
        let class = Class::of(source);
        let replaceable = |k: &Known| {
            let silent = k.class() == class && k.failures >= REPLACEABLE;
            !k.busy && (k.class() > class || silent)
        };
        let worst = self
            .known
            .range(prefix.addresses())
            .filter(|(_, known)| replaceable(known))
            .max_by_key(|(_, known)| (known.class(), known.failures))
            .map(|(addr, known)| (*addr, *known));
        let (addr, known) = worst?;
        self.remove(addr);
        Some(Some(known))
    }

    /// Whether one more address may be learned from peers at `teller`, if necessary in place of one of theirs that failed.
    fn has_room_for(&mut self, teller: Prefix) -> bool {
        let count = self.tellers.of(&teller) as usize;
        if count < self.limits.per_teller() {
            return true;
        }
        let worst = self.idle[Class::Gossip.index()]
            .worst()
            .take(MAX_LOOKED_AT)
            .filter_map(|addr| Some((addr, self.known.get(&addr)?)))
            .find(|(_, known)| known.failures > 0 && known.teller == Some(teller))
            .map(|(addr, _)| addr);
        worst.is_some_and(|addr| self.remove(addr))
    }

    /// Whether one more address of a class may be learned, if necessary in place of a worse one.
    fn has_room_in(&mut self, class: Class, rank: Rank) -> bool {
        let (all, others) = (self.known.len(), self.others());
        let gossip = self.counts[Class::Gossip.index()];
        if class == Class::Gossip {
            let room = all < self.limits.known && gossip < self.limits.most_gossip();
            return room || self.replaces(class, Some(rank));
        }
        if others < self.limits.most_others() {
            return all < self.limits.known || self.replaces(Class::Gossip, None);
        }
        // The source with the most entries loses one.
        let count = |c: Class| (self.counts[c.index()] + usize::from(c == class), c == class);
        let richest = [Class::Manual, Class::Tracker, Class::Dht]
            .into_iter()
            .max_by_key(|c| count(*c));
        let from_other = richest.filter(|c| *c != class);
        from_other.is_some_and(|c| self.replaces(c, None)) || self.replaces(class, Some(rank))
    }

    /// Removes the worst idle address of a class, if it is worse than `rank`.
    fn replaces(&mut self, class: Class, rank: Option<Rank>) -> bool {
        let worst = self.idle[class.index()].worst_rank();
        let worst = worst.filter(|(worst, _)| rank.is_none_or(|rank| *worst > rank));
        worst.is_some_and(|(_, addr)| self.remove(addr))
    }

    /// The number of addresses that peers did not name.
    fn others(&self) -> usize {
        self.known.len() - self.counts[Class::Gossip.index()]
    }

    fn rank(&self, addr: SocketAddr, known: &Known) -> Rank {
        Rank {
            failures: known.failures,
            untried: !known.worked,
            // The first address that an application named is kept; otherwise, a random number decides.
            draw: match known.source {
                PeerSource::Manual => 0,
                _ => Prefix::of(addr.ip()).scramble(self.salt),
            },
        }
    }

    // ---- the order ----

    /// Adds an address to the idle ones.
    fn add_idle(&mut self, addr: SocketAddr) {
        if let Some(known) = self.known.get(&addr) {
            let rank = self.rank(addr, known);
            self.idle[known.class().index()].insert(addr, known.due, rank);
        }
    }

    /// Removes an address from the idle ones.
    fn remove_idle(&mut self, addr: SocketAddr) {
        if let Some(known) = self.known.get(&addr) {
            let rank = self.rank(addr, known);
            self.idle[known.class().index()].remove(addr, known.due, rank);
        }
    }

    /// Forgets an address. Returns whether it was known.
    fn remove(&mut self, addr: SocketAddr) -> bool {
        self.remove_idle(addr);
        let Some(known) = self.known.remove(&addr) else {
            return false;
        };
        self.counts[known.class().index()] -= 1;
        self.prefixes.remove(&Prefix::of(addr.ip()), 1);
        self.forget_teller(known.teller);
        true
    }

    fn forget_teller(&mut self, teller: Option<Prefix>) {
        if let Some(teller) = teller {
            self.tellers.remove(&teller, 1);
        }
    }

    /// Forgets the idle addresses of a source.
    pub(crate) fn forget(&mut self, source: PeerSource) {
        let from = |(addr, known): (&SocketAddr, &Known)| {
            (!known.busy && known.source == source).then_some(*addr)
        };
        let gone: Vec<_> = self.known.iter().filter_map(from).collect();
        for addr in gone {
            self.remove(addr);
        }
    }

    /// When the next address may be tried.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let first = self.idle.iter().filter_map(Idle::first);
        first.map(|(due, _)| due).min()
    }

    /// Takes the next address to connect to. `seeding` tells whether seeds are useless, and `is_crowded` whether there are
    /// enough connections with an IP address. If the application names several peers at one address, it wants all of them.
    pub(crate) fn next(
        &mut self,
        now: Instant,
        seeding: bool,
        is_crowded: impl Fn(IpAddr) -> bool,
    ) -> Next {
        while let Some(due) = self.next_due() {
            if due > now {
                return Next::Wait(due);
            }
            let Some((addr, known)) = self.take_due(now) else {
                break;
            };
            if known.seed && seeding {
                self.released(now, addr, Released::Useless);
            } else if known.source != PeerSource::Manual && is_crowded(addr.ip()) {
                self.released(now, addr, Released::Crowded);
            } else {
                return Next::Connect(addr, known);
            }
        }
        Next::Nothing
    }

    /// Returns the next address that may be tried now, of the most trusted source that has one, and marks it as busy.
    fn take_due(&mut self, now: Instant) -> Option<(SocketAddr, Known)> {
        let due = self.idle.iter().filter_map(Idle::first);
        let addr = due.filter(|(due, _)| *due <= now).map(|(_, addr)| addr);
        let addr = addr.into_iter().next()?;
        self.occupy(addr);
        Some((addr, *self.known.get(&addr)?))
    }

    /// Marks an address as connected because the peer connected to us.
    pub(crate) fn occupy(&mut self, addr: SocketAddr) {
        self.remove_idle(addr);
        if let Some(known) = self.known.get_mut(&addr) {
            known.busy = true;
        }
    }

    /// The connection to `addr` ended, or was not established.
    pub(crate) fn released(&mut self, now: Instant, addr: SocketAddr, how: Released) {
        let Some(known) = self.known.get_mut(&addr).filter(|k| k.busy) else {
            return;
        };
        known.again = how == Released::TryAgain;
        let wait = match how {
            Released::TryAgain => Duration::ZERO,
            Released::Worked => {
                (known.failures, known.worked) = (0, true);
                RECONNECT
            }
            Released::TryOtherEncryption => {
                known.other_encryption = !known.other_encryption;
                Duration::ZERO
            }
            Released::Failed => {
                known.failures = known.failures.saturating_add(1);
                known.other_encryption = false;
                let factor = 1 << (known.failures - 1).min(10);
                let first = match known.source {
                    PeerSource::Manual => RETRY_MANUAL,
                    _ => RETRY,
                };
                let wait = first.saturating_mul(factor).min(MAX_RETRY);
                let turn = self.salt.rotate_left(u32::from(known.failures) * 5) % 256;
                wait + wait / 1024 * turn
            }
            Released::Crowded => RETRY,
            Released::Resting => RECONNECT,
            Released::Useless => MAX_RETRY,
            Released::Banned => {
                self.remove(addr);
                return;
            }
        };
        (known.busy, known.due) = (false, now + wait);
        if known.failures >= MAX_FAILURES && known.source != PeerSource::Manual {
            self.remove(addr);
        } else {
            self.add_idle(addr);
        }
    }

    /// Makes every idle address due at once: the application asked for it, or the torrent was resumed.
    pub(crate) fn hurry(&mut self, now: Instant) {
        for class in 0..CLASSES {
            for (due, addr) in self.idle[class].take_order() {
                let due = due.min(now);
                if let Some(known) = self.known.get_mut(&addr) {
                    known.due = due;
                }
                self.idle[class].put_order(due, addr);
            }
        }
    }

    // ---- the state of an address ----

    /// Remembers that a peer is a seed.
    pub(crate) fn mark_seed(&mut self, addr: SocketAddr) {
        if let Some(known) = self.known.get_mut(&addr) {
            known.seed = true;
        }
    }

    /// Whether an address is banned.
    pub(crate) fn is_banned(&self, addr: SocketAddr) -> bool {
        self.bans.refuses(addr)
    }

    /// Whether a whole IP address is banned.
    pub(crate) fn is_ip_banned(&self, ip: IpAddr) -> bool {
        self.bans.refuses_all_of(ip)
    }

    /// Bans `addr`, which sent a bad piece, and its whole IP address after bad pieces from several ports. Returns whether it
    /// was not banned before. The caller closes connections.
    pub(crate) fn ban(&mut self, addr: SocketAddr) -> bool {
        let news = self.bans.strike(addr);
        let refused = self.known.range(Prefix::of(addr.ip()).addresses());
        let gone: Vec<_> = refused
            .filter(|(addr, known)| !known.busy && self.bans.refuses(**addr))
            .map(|(addr, _)| *addr)
            .collect();
        for addr in gone {
            self.remove(addr);
        }
        news
    }

    /// All addresses.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &Known)> {
        self.known.iter().map(|(addr, known)| (*addr, known))
    }

    /// The number of idle addresses.
    pub(crate) fn available(&self) -> usize {
        self.idle.iter().map(Idle::len).sum()
    }

    /// The number of addresses.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// The addresses for a resume record, those that worked first.
    pub(crate) fn best(&self, most: usize) -> Vec<SocketAddr> {
        let mut good: Vec<_> = self.known.iter().collect();
        good.sort_by_key(|(_, k)| (!k.busy, k.failures));
        good.into_iter().take(most).map(|(a, _)| *a).collect()
    }
}

/// Which address is to be connected to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    /// This one. It is marked as busy.
    Connect(SocketAddr, Known),
    /// None before this time.
    Wait(Instant),
    /// There is none.
    Nothing,
}

/// How a connection to a known address ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Released {
    /// It had completed its handshakes.
    Worked,
    /// We gave up an encrypted handshake with a secret on which some peers fail. Another handshake has another secret.
    TryAgain,
    /// It was closed during the handshake: the other kind of encryption may work.
    TryOtherEncryption,
    /// It was not established.
    Failed,
    /// It was not opened, as there are enough connections with its IP address.
    Crowded,
    /// We closed it for reasons of our own.
    Resting,
    /// It was useless for both sides.
    Useless,
    /// It is banned, as it sent bad data.
    Banned,
}

/// Maps IPv4-mapped IPv6 addresses to IPv4.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Whether an address can belong to a peer.
fn is_plausible(addr: SocketAddr) -> bool {
    let ip = addr.ip();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}
