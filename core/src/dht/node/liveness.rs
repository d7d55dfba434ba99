//! Whether nodes of one family answer at all.
//!
//! ```text
//!   Unheard ──a reply──▶ Heard ──16 queries and a minute without a reply──▶ Unheard
//! ```
//!
//! While nobody answers, nodes to begin with are asked along with those of the table: a cache may be
//! full of nodes that are gone, and so may a table after a long sleep. A family in which nobody
//! answers while the other one does is not asked in the owner's searches: many hosts have IPv6 in
//! the kernel and no way out.

use core::time::Duration;

use super::queries::TIMEOUT;
use crate::Instant;

/// Queries without a reply after which nobody seems to be there any more. Our choice: more than a search
/// begins with at a time, so that one search among dead nodes is not enough.
const MANY: u32 = 16;
/// How long nobody has answered then. Our choice: a network that is restarted is back sooner.
const SILENCE: Duration = Duration::from_secs(60);
/// Queries without a reply after which a family is silent. Our choice: eight nodes are seldom all dead.
const FEW: u32 = 8;
/// How long the first of them was awaited then: two nodes one after the other.
const AWAITED: Duration = Duration::from_secs(TIMEOUT.as_secs() * 2);
/// Datagrams that the platform refused after which a family is silent, if they were all there were.
const REFUSED: u32 = 4;
/// A silent family gets another chance after this time. Our choice: as often as the table is looked after.
const REST: Duration = Duration::from_secs(15 * 60);

/// Queries of one family, and whether they are answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Liveness {
    heard: bool,
    /// When the first of `asked` left.
    since: Instant,
    /// Queries that left since the last reply, and those of them that the platform refused.
    asked: u32,
    refused: u32,
}

impl Liveness {
    pub(super) const fn new() -> Self {
        Self {
            heard: false,
            since: Instant::ORIGIN,
            asked: 0,
            refused: 0,
        }
    }

    /// A query left.
    pub(super) fn sent(&mut self, now: Instant) {
        if self.asked == 0 {
            self.since = now;
        }
        self.asked = self.asked.saturating_add(1);
    }

    /// The platform refused one that was taken to have left.
    pub(super) const fn refused(&mut self) {
        self.refused = self.refused.saturating_add(1);
    }

    /// A reply came.
    pub(super) const fn replied(&mut self) {
        (self.heard, self.asked, self.refused) = (true, 0, 0);
    }

    /// Whether somebody answers.
    pub(super) const fn is_heard(&self) -> bool {
        self.heard
    }

    /// Queries since the last reply, and those of them that the platform refused.
    pub(super) const fn unanswered(&self) -> (u32, u32) {
        (self.asked, self.refused)
    }

    /// Advances the time; returns `true` if this makes the family unheard.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        let age = now.saturating_since(self.since);
        if !self.heard {
            if age >= REST {
                (self.asked, self.refused) = (0, 0);
            }
            return false;
        }
        self.heard = self.asked < MANY || age < SILENCE;
        !self.heard
    }

    /// Whether enough queries were sent for long enough without any reply.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        let awaited = now.saturating_since(self.since) >= AWAITED;
        !self.heard
            && ((self.asked >= FEW && awaited)
                || (self.refused >= REFUSED && self.refused >= self.asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::from_micros(1_000_000);

    fn asked(liveness: &mut Liveness, now: Instant, count: u32) {
        (0..count).for_each(|_| liveness.sent(now));
    }

    #[test]
    fn who_answered_is_lost_after_many_queries_and_a_minute() {
        let mut liveness = Liveness::new();
        liveness.replied();
        // Neither a long time without queries nor one search is enough.
        let morning = T0 + Duration::from_secs(36_000);
        asked(&mut liveness, morning, MANY);
        assert!(!liveness.handle_timeout(morning + Duration::from_secs(59)));
        assert!(liveness.handle_timeout(morning + SILENCE));
        assert!(!liveness.handle_timeout(morning + SILENCE), "said once");
        assert!(!liveness.is_heard());
        liveness.replied();
        assert!(liveness.is_heard());

        let mut quiet = Liveness::new();
        quiet.replied();
        asked(&mut quiet, T0, MANY - 1);
        assert!(!quiet.handle_timeout(morning), "too few to tell");
    }

    #[test]
    fn silence_takes_time_unless_the_platform_refuses() {
        let mut liveness = Liveness::new();
        asked(&mut liveness, T0, 100);
        assert!(!liveness.is_silent(T0 + (AWAITED - Duration::from_micros(1))));
        assert!(liveness.is_silent(T0 + AWAITED));

        let mut liveness = Liveness::new();
        for n in 1..=REFUSED {
            asked(&mut liveness, T0, 1);
            liveness.refused();
            assert_eq!(liveness.is_silent(T0), n == REFUSED);
        }
        asked(&mut liveness, T0, 1);
        assert!(!liveness.is_silent(T0), "one has left");
    }

    #[test]
    fn a_silent_family_gets_another_chance() {
        let mut liveness = Liveness::new();
        asked(&mut liveness, T0, FEW);
        assert!(!liveness.handle_timeout(T0 + (REST - Duration::from_micros(1))));
        assert!(liveness.is_silent(T0 + AWAITED));
        liveness.handle_timeout(T0 + REST);
        assert!(!liveness.is_silent(T0 + REST));
    }
}
