//! Limits how many new remote endpoints are contacted a second, because each takes an entry in every NAT and
//! firewall on the way.
//!
//! An entry lives for 30 seconds or more, and a home router has a few thousand of them; above a
//! hundred new ones a second it drops other flows. So maintenance, lookups and replies share
//! one token bucket. A datagram to an endpoint that the NAT does not know costs one token; a
//! datagram to an endpoint that was contacted recently is free.

use core::net::SocketAddr;
use core::time::Duration;

use super::guard::{Assoc, Half, hash_endpoint};
use crate::Instant;

/// A token bucket for new endpoints, and a memory of those that are not new.
#[derive(Clone, Debug)]
pub struct Budget {
    key: (u64, u64),
    rate: Option<u32>,
    burst: u32,
    memory: Duration,
    remotes: Assoc,
    /// When the bucket is full again.
    full_at: Instant,
}

impl Budget {
    /// `rate` new endpoints a second (`None`: no limit) and `burst` at once; `max_remotes` of them
    /// are remembered for `memory`. `key` is drawn from the node's randomness.
    #[must_use]
    pub fn new(
        key: (u64, u64),
        rate: Option<u32>,
        burst: u32,
        memory: Duration,
        max_remotes: u16,
    ) -> Self {
        Self {
            key,
            rate,
            burst,
            memory,
            remotes: Assoc::new(if rate.is_some() { max_remotes } else { 0 }),
            full_at: Instant::ORIGIN,
        }
    }

    /// Whether a datagram may leave for `to` now. If so, it counts as sent.
    pub fn spend(&mut self, now: Instant, to: &SocketAddr) -> bool {
        let Some(rate) = self.rate else {
            return true;
        };
        let hash = hash_endpoint(self.key, to);
        if !self.remotes.noted(now, hash, self.memory) {
            let full_at = self.full_at.max(now) + cost(rate);
            if full_at > now + self.depth(rate) {
                return false;
            }
            self.full_at = full_at;
        }
        self.remotes.note(now, hash, Half::Ours);
        true
    }

    /// A datagram came from `from`, so the NAT has an entry for it and an answer is free.
    /// A flood of such datagrams does not displace the endpoints that we contacted ourselves.
    pub fn heard(&mut self, now: Instant, from: &SocketAddr) {
        if self.rate.is_some() {
            let hash = hash_endpoint(self.key, from);
            self.remotes.note(now, hash, Half::Theirs);
        }
    }

    /// Whether a datagram to `addr` is free.
    #[must_use]
    pub fn is_known(&self, now: Instant, addr: &SocketAddr) -> bool {
        let known = |hash| self.remotes.noted(now, hash, self.memory);
        self.rate.is_none() || known(hash_endpoint(self.key, addr))
    }

    /// When there will be a token; `None` if there is one now.
    #[must_use]
    pub fn next_at(&self, now: Instant) -> Option<Instant> {
        let rate = self.rate?;
        let ahead = (self.full_at.max(now) + cost(rate)).saturating_since(now);
        let wait = ahead.saturating_sub(self.depth(rate));
        (!wait.is_zero()).then(|| now + wait)
    }

    fn depth(&self, rate: u32) -> Duration {
        cost(rate) * self.burst.max(1)
    }
}

/// How long one token takes to accrue, in whole microseconds like instants: a caller that waits for less than a
/// microsecond would not wait at all.
const fn cost(rate: u32) -> Duration {
    let micros = 1_000_000 / if rate == 0 { 1 } else { rate };
    Duration::from_micros(if micros == 0 { 1 } else { micros } as u64)
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use quickcheck::quickcheck;

    use super::*;

    const MEMORY: Duration = Duration::from_secs(30);
    const T0: Instant = Instant::from_micros(1_000_000);

    fn addr(n: u16) -> SocketAddr {
        SocketAddr::from(([11, 0, (n >> 8) as u8, n as u8], 6881))
    }

    fn budget(rate: u32, burst: u32) -> Budget {
        Budget::new((3, 4), Some(rate), burst, MEMORY, 1024)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut b = budget(25, 100);
        assert_eq!((0..200).filter(|n| b.spend(T0, &addr(*n))).count(), 100);
        let next = b.next_at(T0).unwrap();
        assert_eq!(next, T0 + Duration::from_millis(40));
        assert!(!b.spend(T0 + Duration::from_millis(39), &addr(500)));
        assert!(b.spend(next, &addr(500)));
        // Ten seconds of trying every 10 ms: 25 a second.
        let sent = (1..=1000_u16)
            .filter(|n| {
                b.spend(
                    next + Duration::from_millis(u64::from(*n) * 10),
                    &addr(500 + n),
                )
            })
            .count();
        assert_eq!(sent, 250);
    }

    #[test]
    fn at_the_time_it_tells_there_is_a_token_whatever_the_rate() {
        for rate in [3, 7, 15, 999, 3_000_000] {
            let mut b = budget(rate, 2);
            let mut now = T0;
            for n in 0..50 {
                while !b.spend(now, &addr(n)) {
                    let next = b.next_at(now).unwrap();
                    assert!(next > now);
                    now = next;
                }
            }
        }
    }

    #[test]
    fn whom_we_spoke_to_costs_nothing_while_the_nat_remembers() {
        let mut b = budget(1, 1);
        assert!(b.spend(T0, &addr(1)));
        assert!(!b.spend(T0, &addr(2)));
        let mut now = T0;
        for _ in 0..10 {
            now += Duration::from_secs(29);
            assert!(b.is_known(now, &addr(1)));
            assert!(b.spend(now, &addr(1)), "each datagram keeps the entry");
            assert!(b.spend(now, &addr(2)) != b.is_known(now, &addr(3)));
        }
        now += MEMORY;
        assert!(!b.is_known(now, &addr(1)));
    }

    #[test]
    fn an_answer_to_who_asked_costs_nothing() {
        let mut b = budget(1, 1);
        assert!(b.spend(T0, &addr(1)));
        b.heard(T0, &addr(2));
        assert!(b.spend(T0, &addr(2)) && !b.spend(T0, &addr(3)));
    }

    #[test]
    fn a_flood_of_askers_does_not_push_out_whom_we_spoke_to() {
        let mut b = budget(1, 100);
        for n in 0..100 {
            assert!(b.spend(T0, &addr(n)));
        }
        for n in 1000..u16::MAX {
            b.heard(T0 + Duration::from_millis(u64::from(n) / 10), &addr(n));
        }
        let later = T0 + Duration::from_secs(10);
        let known = (0..100).filter(|n| b.is_known(later, &addr(*n))).count();
        assert!(known >= 98, "{known}");
    }

    #[test]
    fn no_limit_is_no_limit() {
        let mut b = Budget::new((1, 2), None, 0, MEMORY, 64);
        assert!((0..5000).all(|n| b.spend(T0, &addr(n))));
        assert_eq!(b.next_at(T0), None);
        assert!(b.is_known(T0, &addr(9)));
    }

    quickcheck! {
        /// A naive budget that forgets nobody says the same, as long as the table has room.
        fn agrees_with_a_naive_one(steps: Vec<(u8, u16, bool)>) -> bool {
            let (rate, burst) = (4_u64, 6_u64);
            let mut b = budget(rate as u32, burst as u32);
            let (mut now, mut known) = (T0, BTreeMap::new());
            // In units of a token's 1/250 000 s: micros × rate.
            let mut level = burst * 1_000_000;
            steps.into_iter().all(|(who, wait, inbound)| {
                // Whole units of the table, so that both forget at the same moment.
                let wait = u64::from(wait) * 160;
                now += Duration::from_micros(wait);
                level = (level + wait * rate).min(burst * 1_000_000);
                let addr = addr(u16::from(who % 16));
                let fresh = |at: &Instant| now.saturating_since(*at) < MEMORY;
                let free = known.get(&addr).is_some_and(fresh);
                if inbound {
                    b.heard(now, &addr);
                    known.insert(addr, now);
                    return true;
                }
                let expect = free || level >= 1_000_000;
                if expect && !free {
                    level -= 1_000_000;
                }
                if expect {
                    known.insert(addr, now);
                }
                let next = b.next_at(now);
                let spent = b.spend(now, &addr);
                spent == expect && (spent || next.is_some_and(|at| at > now))
            })
        }
    }
}
