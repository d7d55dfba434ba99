//! How fast bytes flow: a decaying average in integers.

use core::time::Duration;

use crate::Instant;

/// Length of one step.
const STEP: Duration = Duration::from_millis(500);
/// Weight of the newest step is 1 / 2³: the average follows the last four seconds or so.
const SHIFT: u32 = 3;
/// After so many steps without a byte nothing of the average is left that matters.
const FORGET: u64 = 128;

/// Bytes per second, averaged over the last few seconds.
///
/// Bytes are counted in steps of half a second; each full step moves the average by an eighth of
/// the difference. The first steps weigh more, so a young rate is a plain mean.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// Bytes since `since`.
    fresh: u64,
    /// Start of the running step.
    since: Option<Instant>,
    /// Bytes per step, in 1/256.
    average: u64,
    /// Full steps seen, up to `1 << SHIFT`.
    steps: u32,
}

impl Rate {
    /// Counts bytes that passed at `now`.
    pub fn add(&mut self, now: Instant, bytes: u64) {
        self.advance(now);
        self.fresh = self.fresh.saturating_add(bytes);
    }

    /// Bytes per second at `now`.
    #[must_use]
    pub fn get(&self, now: Instant) -> u64 {
        let mut ahead = *self;
        ahead.advance(now);
        if ahead.steps == 0 {
            return ahead.fresh.saturating_mul(2);
        }
        ahead.average * 2 / 256
    }

    fn advance(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let mut full = (now.saturating_since(since).as_micros() / STEP.as_micros()) as u64;
        if full == 0 {
            return;
        }
        self.since = Some(since + STEP.saturating_mul(u32::try_from(full).unwrap_or(u32::MAX)));
        if full > FORGET {
            *self = Self {
                since: Some(now),
                ..Self::default()
            };
            return;
        }
        while full > 0 {
            let step = core::mem::take(&mut self.fresh).min(1 << 48) * 256;
            self.steps = (self.steps + 1).min(1 << SHIFT);
            let weight = u64::from(self.steps);
            if step >= self.average {
                self.average += (step - self.average) / weight;
            } else {
                self.average -= (self.average - step).div_ceil(weight);
            }
            full -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use quickcheck::quickcheck;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(1 + ms * 1000)
    }

    #[test]
    fn a_steady_flow_is_measured_exactly() {
        let mut rate = Rate::default();
        for ms in (0..10_000).step_by(100) {
            rate.add(at(ms), 1000);
        }
        assert_eq!(rate.get(at(10_000)), 10_000);
    }

    #[test]
    fn a_flow_that_stops_decays_to_nothing() {
        let mut rate = Rate::default();
        for ms in (0..10_000).step_by(100) {
            rate.add(at(ms), 100_000);
        }
        let before = rate.get(at(10_000));
        let after = rate.get(at(14_000));
        assert!(
            after < before * 2 / 5 && after > before / 5,
            "{after} of {before}"
        );
        assert_eq!(rate.get(at(100_000)), 0);
    }

    quickcheck! {
        fn stays_below_the_fastest_step(adds: Vec<(u16, u16)>) -> bool {
            let (mut rate, mut now) = (Rate::default(), 0);
            let total: u64 = adds.iter().map(|a| u64::from(a.1)).sum();
            for (gap, bytes) in adds {
                now += u64::from(gap) % 2000;
                rate.add(at(now), bytes.into());
                if rate.get(at(now)) > 2 * total { return false; }
            }
            rate.get(at(now + 200_000)) == 0
        }

        fn hostile_numbers_do_not_overflow(adds: Vec<(u64, u64)>) -> bool {
            let mut rate = Rate::default();
            for (micros, bytes) in adds {
                rate.add(Instant::from_micros(micros), bytes);
                let _ = rate.get(Instant::from_micros(micros ^ bytes));
            }
            true
        }
    }
}
