//! The addresses a torrent knows, and which to try next.
//!
//! The table is bounded. Each source has its part of it, so that no source can crowd out a more
//! trusted one, and each IP address and each peer that tells of others has a bound of its own.
//! A full table gives up its worst entry for a new one: the one that failed most, or, among
//! those never tried, one that a salted hash picks. What stays is then a sample of all that was
//! ever told, which nobody can steer by telling more.

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
use crate::{Cx, Instant};
use bans::Bans;
use idle::{Idle, Rank};
pub(crate) use limits::Limits;
use limits::{CLASSES, Class};
pub(crate) use origin::Origin;

/// Wait after the first failed attempt; doubled on each further one.
const RETRY: Duration = Duration::from_secs(30);
/// The same for an address that a person named: most likely its program is just starting.
const RETRY_MANUAL: Duration = Duration::from_secs(3);
/// Longest wait between attempts.
const MAX_RETRY: Duration = Duration::from_secs(1800);
/// Failures in a row after which an address is forgotten.
const MAX_FAILURES: u8 = 8;
/// Failures in a row after which another port of the same IP address may take the place. One
/// may be a busy peer; two are a minute and a half without an answer.
const REPLACEABLE: u8 = 2;
/// Wait before an address that worked is tried again.
const RECONNECT: Duration = Duration::from_secs(10);
/// Most IP addresses with bans that are remembered.
const MAX_BANNED: usize = 1024;
/// Most entries looked at for one that a certain peer told of.
const MAX_LOOKED_AT: usize = 64;

/// One address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) source: PeerSource,
    teller: Option<Prefix>,
    /// Connected, or being tried.
    pub(crate) busy: bool,
    /// Encryption failed last time, so plaintext comes first now, or the reverse.
    pub(crate) other_encryption: bool,
    /// The last attempt ended with [`Released::TryAgain`].
    pub(crate) again: bool,
    /// Has everything; useless once we do too.
    pub(crate) seed: bool,
    /// A connection to it was of use.
    worked: bool,
    failures: u8,
    /// When it may be tried; only idle addresses are in the order.
    due: Instant,
}

impl Known {
    const fn class(&self) -> Class {
        Class::of(self.source)
    }
}

/// All addresses of one torrent.
#[derive(Debug)]
pub(crate) struct PeerList {
    known: BTreeMap<SocketAddr, Known>,
    /// Those that are not busy, by class.
    idle: [Idle; CLASSES],
    /// Entries per class.
    counts: [usize; CLASSES],
    /// Entries per prefix.
    prefixes: Counts<Prefix>,
    /// Entries per prefix of the peer that told of them.
    tellers: Counts<Prefix>,
    bans: Bans,
    limits: Limits,
    /// Scatters attempts, so that two who turn each other away do not do so in step for ever;
    /// and decides which of two untried addresses is kept.
    salt: u32,
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
        }
    }

    // ---- learning ----

    /// Learns an address. Returns whether it was news.
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
        // A little scatter, so that a swarm does not knock on one door in the same order.
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
            // It is the IP address that waits: to name its ports one by one gains nothing.
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
        self.rest(addr);
        true
    }

    /// A known address is named by `source`, too: the more trusted source counts.
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
        self.wake(addr);
        self.forget_teller(teller);
        self.counts[old.index()] -= 1;
        self.counts[new.index()] += 1;
        if let Some(known) = self.known.get_mut(&addr) {
            (known.source, known.teller) = (source, None);
        }
        if !busy {
            self.rest(addr);
        }
    }

    /// Makes room for one more port of an IP address, if need be in place of one that does not
    /// answer, which is returned.
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

    /// Whether one more address may be learned from peers at `teller`, if need be in place of
    /// one of theirs that failed.
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

    /// Whether one more address of a class may be learned, if need be in place of a worse one.
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
        // The source with the most gives one up.
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

    /// Addresses that peers did not name.
    fn others(&self) -> usize {
        self.known.len() - self.counts[Class::Gossip.index()]
    }

    fn rank(&self, addr: SocketAddr, known: &Known) -> Rank {
        Rank {
            failures: known.failures,
            untried: !known.worked,
            // What a person named first is kept; among strangers a draw decides.
            draw: match known.source {
                PeerSource::Manual => 0,
                _ => Prefix::of(addr.ip()).scramble(self.salt),
            },
        }
    }

    // ---- the order ----

    /// Puts an address among the idle ones.
    fn rest(&mut self, addr: SocketAddr) {
        if let Some(known) = self.known.get(&addr) {
            let rank = self.rank(addr, known);
            self.idle[known.class().index()].insert(addr, known.due, rank);
        }
    }

    /// Takes an address out of the idle ones.
    fn wake(&mut self, addr: SocketAddr) {
        if let Some(known) = self.known.get(&addr) {
            let rank = self.rank(addr, known);
            self.idle[known.class().index()].remove(addr, known.due, rank);
        }
    }

    /// Forgets an address; returns whether it was known.
    fn remove(&mut self, addr: SocketAddr) -> bool {
        self.wake(addr);
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

    /// Forgets the idle addresses that came from there.
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

    /// Takes the next address that may be tried now, of the most trusted source that has one; it
    /// counts as busy from here on.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(SocketAddr, Known)> {
        let due = self.idle.iter().filter_map(Idle::first);
        let addr = due.filter(|(due, _)| *due <= now).map(|(_, addr)| addr);
        let addr = addr.into_iter().next()?;
        self.occupy(addr);
        Some((addr, *self.known.get(&addr)?))
    }

    /// Marks an address as connected without having been taken (they came to us).
    pub(crate) fn occupy(&mut self, addr: SocketAddr) {
        self.wake(addr);
        if let Some(known) = self.known.get_mut(&addr) {
            known.busy = true;
        }
    }

    /// The connection to `addr` ended, or was never made.
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
            self.rest(addr);
        }
    }

    /// Makes every idle address due at once (the application asked, or the torrent woke up).
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

    // ---- what is known of an address ----

    /// Remembers that a peer has everything.
    pub(crate) fn mark_seed(&mut self, addr: SocketAddr) {
        if let Some(known) = self.known.get_mut(&addr) {
            known.seed = true;
        }
    }

    /// Whether an address is refused.
    pub(crate) fn is_banned(&self, addr: SocketAddr) -> bool {
        self.bans.refuses(addr)
    }

    /// Whether all of an IP address is refused.
    pub(crate) fn is_ip_banned(&self, ip: IpAddr) -> bool {
        self.bans.refuses_all_of(ip)
    }

    /// Counts a bad piece from `addr`, which is refused from now on, with its whole IP address
    /// after some. Returns whether it was not refused before. The caller closes connections.
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

    /// How many idle addresses are known.
    pub(crate) fn available(&self) -> usize {
        self.idle.iter().map(Idle::len).sum()
    }

    /// How many addresses are known.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Addresses worth keeping in a resume record: those that worked first.
    pub(crate) fn best(&self, most: usize) -> Vec<SocketAddr> {
        let mut good: Vec<_> = self.known.iter().collect();
        good.sort_by_key(|(_, k)| (!k.busy, k.failures));
        good.into_iter().take(most).map(|(a, _)| *a).collect()
    }
}

/// How a connection to a known address ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Released {
    /// Handshakes had been through.
    Worked,
    /// We gave an encrypted handshake up whose secret some peers fail on. Another handshake has another secret.
    TryAgain,
    /// It broke during the handshake: the other kind of encryption may work.
    TryOtherEncryption,
    /// No connection.
    Failed,
    /// It was not tried: there are enough connections with its IP address.
    Crowded,
    /// We had to let it go, for reasons of our own.
    Resting,
    /// Nothing to gain from each other.
    Useless,
    /// It broke the protocol or sent bad data.
    Banned,
}

/// IPv4 addresses in IPv6 clothing are the IPv4 ones.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Whether an address can be a peer at all.
fn is_plausible(addr: SocketAddr) -> bool {
    let ip = addr.ip();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}
