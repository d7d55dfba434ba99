//! The addresses a torrent knows, and which to try next.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use super::status::PeerSource;
use crate::{Cx, Instant};

/// Wait after the first failed attempt; doubled on each further one.
const RETRY: Duration = Duration::from_secs(30);
/// The same for an address that a person named: most likely its program is just starting.
const RETRY_MANUAL: Duration = Duration::from_secs(3);
/// Longest wait between attempts.
const MAX_RETRY: Duration = Duration::from_secs(1800);
/// Failures in a row after which an address is forgotten.
const MAX_FAILURES: u8 = 8;
/// Wait before an address that worked is tried again.
const RECONNECT: Duration = Duration::from_secs(10);

/// One address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) source: PeerSource,
    /// Connected, or being tried.
    pub(super) busy: bool,
    /// Never tried again.
    pub(super) banned: bool,
    /// Encryption failed last time, so plaintext comes first now, or the reverse.
    pub(super) other_encryption: bool,
    /// Has everything; useless once we do too.
    pub(super) seed: bool,
    failures: u8,
    /// When it may be tried; only idle addresses are in the order.
    due: Instant,
}

/// All addresses of one torrent, bounded; the longest-failing makes way for a new one.
#[derive(Debug)]
pub(super) struct Swarm {
    known: BTreeMap<SocketAddr, Known>,
    order: BTreeSet<(Instant, SocketAddr)>,
    cap: usize,
    /// Scatters attempts, so that two who turn each other away do not do so in step for ever.
    salt: u32,
}

impl Swarm {
    pub(super) const fn new(cap: usize, salt: u32) -> Self {
        Self {
            known: BTreeMap::new(),
            order: BTreeSet::new(),
            cap,
            salt,
        }
    }

    /// Learns an address. Returns whether it was news.
    pub(super) fn learn(&mut self, cx: &mut Cx<'_>, addr: SocketAddr, source: PeerSource) -> bool {
        let addr = canonical(addr);
        if self.known.contains_key(&addr) || !is_plausible(addr) {
            return false;
        }
        if self.known.len() >= self.cap && !self.make_room() {
            return false;
        }
        // A little scatter, so that a swarm does not knock on one door in the same order.
        let due = match source {
            PeerSource::Manual | PeerSource::Incoming => cx.now,
            _ => cx.now + Duration::from_micros(u64::from(cx.below(1000))),
        };
        self.known.insert(
            addr,
            Known {
                source,
                busy: false,
                banned: false,
                other_encryption: false,
                seed: false,
                failures: 0,
                due,
            },
        );
        self.order.insert((due, addr));
        true
    }

    fn make_room(&mut self) -> bool {
        // The last in the order has waited longest for its next attempt because it failed most.
        let Some(&(due, addr)) = self.order.last() else {
            return false;
        };
        if self.known.get(&addr).is_some_and(|k| k.failures == 0) {
            return false;
        }
        self.order.remove(&(due, addr));
        self.known.remove(&addr);
        true
    }

    /// Forgets the idle addresses that came from there.
    pub(super) fn forget(&mut self, source: PeerSource) {
        let order = &mut self.order;
        self.known.retain(|addr, known| {
            let kept = known.busy || known.banned || known.source != source;
            if !kept {
                order.remove(&(known.due, *addr));
            }
            kept
        });
    }

    /// When the next address may be tried.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.order.first().map(|(due, _)| *due)
    }

    /// Takes the next address that may be tried now; it counts as busy from here on.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(SocketAddr, Known)> {
        let &(due, addr) = self.order.first()?;
        if due > now {
            return None;
        }
        self.order.remove(&(due, addr));
        let known = self.known.get_mut(&addr)?;
        known.busy = true;
        Some((addr, *known))
    }

    /// Marks an address as connected without having been taken (they came to us).
    pub(super) fn occupy(&mut self, addr: SocketAddr) {
        if let Some(known) = self.known.get_mut(&addr) {
            self.order.remove(&(known.due, addr));
            known.busy = true;
        }
    }

    /// The connection to `addr` ended, or was never made.
    pub(super) fn released(&mut self, now: Instant, addr: SocketAddr, how: Released) {
        let Some(known) = self.known.get_mut(&addr) else {
            return;
        };
        known.busy = false;
        let wait = match how {
            Released::Worked => {
                known.failures = 0;
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
            Released::Resting => RECONNECT,
            Released::Useless => MAX_RETRY,
            Released::Banned => {
                known.banned = true;
                return;
            }
        };
        if known.failures >= MAX_FAILURES && known.source != PeerSource::Manual {
            self.known.remove(&addr);
            return;
        }
        if !known.banned {
            known.due = now + wait;
            self.order.insert((known.due, addr));
        }
    }

    /// Remembers that a peer has everything.
    pub(super) fn mark_seed(&mut self, addr: SocketAddr) {
        if let Some(known) = self.known.get_mut(&addr) {
            known.seed = true;
        }
    }

    /// Whether an address is refused.
    pub(super) fn is_banned(&self, addr: SocketAddr) -> bool {
        self.known.get(&addr).is_some_and(|k| k.banned)
    }

    /// Refuses an address from now on. Returns whether it was not refused before.
    pub(super) fn ban(&mut self, addr: SocketAddr) -> bool {
        let Some(known) = self.known.get_mut(&addr) else {
            return true;
        };
        self.order.remove(&(known.due, addr));
        !core::mem::replace(&mut known.banned, true)
    }

    /// Makes every idle address due at once (the application asked, or the torrent woke up).
    pub(super) fn hurry(&mut self, now: Instant) {
        let waiting: Vec<_> = core::mem::take(&mut self.order).into_iter().collect();
        for (due, addr) in waiting {
            let due = due.min(now);
            if let Some(known) = self.known.get_mut(&addr) {
                known.due = due;
                self.order.insert((due, addr));
            }
        }
    }

    /// All addresses.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &Known)> {
        self.known.iter().map(|(addr, known)| (*addr, known))
    }

    /// How many idle addresses are known.
    pub(super) fn available(&self) -> usize {
        self.order.len()
    }

    /// How many addresses are known.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Addresses worth keeping in a resume record: those that worked first.
    pub(super) fn best(&self, most: usize) -> Vec<SocketAddr> {
        let mut good: Vec<_> = self.known.iter().filter(|(_, k)| !k.banned).collect();
        good.sort_by_key(|(_, k)| (!k.busy, k.failures));
        good.into_iter().take(most).map(|(a, _)| *a).collect()
    }
}

/// How a connection to a known address ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Released {
    /// Handshakes had been through.
    Worked,
    /// It broke during the handshake: the other kind of encryption may work.
    TryOtherEncryption,
    /// No connection.
    Failed,
    /// We had to let it go, for reasons of our own.
    Resting,
    /// Nothing to gain from each other.
    Useless,
    /// It broke the protocol or sent bad data.
    Banned,
}

/// IPv4 addresses in IPv6 clothing are the IPv4 ones.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Whether an address can be a peer at all.
fn is_plausible(addr: SocketAddr) -> bool {
    let ip = addr.ip();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;

    fn addr(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 6881))
    }

    fn swarm_of(n: u16, cap: usize) -> (Swarm, ChaCha8Rng) {
        let (mut swarm, mut rng) = (Swarm::new(cap, 0), ChaCha8Rng::seed_from_u64(1));
        let mut cx = Cx {
            now: Instant::ORIGIN,
            rng: &mut rng,
        };
        for i in 0..n {
            swarm.learn(&mut cx, addr(i), PeerSource::Tracker);
        }
        (swarm, rng)
    }

    #[test]
    fn each_address_is_tried_once_until_released() {
        let (mut swarm, _) = swarm_of(5, 100);
        let soon = Instant::ORIGIN + Duration::from_millis(2);
        let tried: BTreeSet<_> = core::iter::from_fn(|| swarm.take_due(soon))
            .map(|(a, _)| a)
            .collect();
        assert_eq!(tried.len(), 5);
        swarm.released(soon, addr(0), Released::Failed);
        assert!(swarm.take_due(soon).is_none());
        assert_eq!(swarm.next_due(), Some(soon + RETRY));
        swarm.released(soon, addr(1), Released::TryOtherEncryption);
        assert!(
            swarm
                .take_due(soon)
                .is_some_and(|(a, k)| a == addr(1) && k.other_encryption)
        );
    }

    #[test]
    fn an_address_that_a_person_named_is_tried_again_sooner() {
        let (mut swarm, mut rng) = swarm_of(1, 100);
        let now = Instant::ORIGIN + Duration::from_millis(2);
        let mut cx = Cx { now, rng: &mut rng };
        swarm.learn(&mut cx, addr(9), PeerSource::Manual);
        while swarm.take_due(now).is_some() {}
        for (failed, wait) in [(0, RETRY), (9, RETRY_MANUAL)] {
            swarm.released(now, addr(failed), Released::Failed);
            assert_eq!(swarm.next_due(), Some(now + wait));
        }
        assert!(RETRY_MANUAL < RETRY);
    }

    #[test]
    fn a_dead_address_is_forgotten_and_a_banned_one_stays_away() {
        let (mut swarm, mut rng) = swarm_of(2, 100);
        let mut now = Instant::ORIGIN + Duration::from_millis(2);
        swarm.occupy(addr(1));
        swarm.released(now, addr(1), Released::Banned);
        for _ in 0..MAX_FAILURES {
            now = swarm.next_due().unwrap().max(now);
            assert_eq!(swarm.take_due(now).unwrap().0, addr(0));
            swarm.released(now, addr(0), Released::Failed);
        }
        assert_eq!((swarm.len(), swarm.next_due()), (1, None));
        assert!(!swarm.learn(&mut Cx { now, rng: &mut rng }, addr(1), PeerSource::Tracker));
    }

    #[test]
    fn a_full_table_gives_up_failing_addresses_only() {
        let (mut swarm, mut rng) = swarm_of(3, 3);
        let now = Instant::ORIGIN + Duration::from_millis(2);
        let mut cx = Cx { now, rng: &mut rng };
        assert!(!swarm.learn(&mut cx, addr(9), PeerSource::Pex));
        let (first, _) = swarm.take_due(now).unwrap();
        swarm.released(now, first, Released::Failed);
        assert!(swarm.learn(&mut cx, addr(9), PeerSource::Pex));
        assert_eq!(swarm.len(), 3);
    }

    #[test]
    fn impossible_addresses_are_not_learned() {
        let (mut swarm, mut rng) = swarm_of(0, 3);
        let mut cx = Cx {
            now: Instant::ORIGIN,
            rng: &mut rng,
        };
        for bad in [
            "0.0.0.0:1",
            "1.2.3.4:0",
            "224.0.0.1:5",
            "255.255.255.255:5",
            "[ff02::1]:5",
        ] {
            assert!(
                !swarm.learn(&mut cx, bad.parse().unwrap(), PeerSource::Tracker),
                "{bad}"
            );
        }
    }
}
