//! Smoothed rates, in integers.

use crate::Instant;

/// The time constant of the average in microseconds: traffic that is this old has the weight 1/e.
const MEMORY: u64 = 2_000_000;
/// Bytes are added to the average at most this often, in microseconds.
const GRAIN: u64 = 100_000;

/// A decaying average of bytes per second.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// The average at the time `folded`.
    per_second: u64,
    /// The bytes since `folded`.
    bytes: u64,
    folded: Instant,
    /// The time that the average covers so far; it grows to [`MEMORY`], so that the rate of a young
    /// connection is not underestimated.
    age: u64,
}

impl Rate {
    /// A rate without traffic so far.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self {
            per_second: 0,
            bytes: 0,
            folded: now,
            age: 0,
        }
    }

    /// Adds bytes that passed at `now`.
    pub fn add(&mut self, now: Instant, bytes: u64) {
        // The time before the first byte does not count.
        if self.age == 0 && self.bytes == 0 {
            self.folded = now;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        let elapsed = self.elapsed(now);
        if elapsed >= GRAIN {
            self.per_second = self.mean(self.per_second >> halvings(elapsed), elapsed);
            self.age = self.age.saturating_add(elapsed).min(MEMORY);
            self.bytes = 0;
            self.folded = now;
        }
    }

    /// Bytes per second at `now`.
    #[must_use]
    pub fn get(&self, now: Instant) -> u64 {
        let elapsed = self.elapsed(now);
        self.mean(self.per_second, elapsed) >> halvings(elapsed)
    }

    /// The mean of the traffic since `folded` and of the past, weighted by time.
    fn mean(&self, past: u64, elapsed: u64) -> u64 {
        let elapsed = elapsed.max(GRAIN);
        let past = u128::from(past) * u128::from(self.age);
        let recent = u128::from(self.bytes) * 1_000_000;
        u64::try_from((past + recent) / u128::from(self.age + elapsed)).unwrap_or(u64::MAX)
    }

    fn elapsed(&self, now: Instant) -> u64 {
        now.as_micros().saturating_sub(self.folded.as_micros())
    }
}

/// The mean alone would take minutes to follow a flow that stopped.
fn halvings(elapsed: u64) -> u32 {
    (elapsed / MEMORY).min(63) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn follows_a_steady_flow_and_decays_after_it() {
        let mut now = Instant::from_micros(5_000_000);
        let mut rate = Rate::new(Instant::ORIGIN);
        for _ in 0..500 {
            now += Duration::from_millis(10);
            rate.add(now, 10_000);
        }
        let steady = rate.get(now);
        assert!((950_000..=1_050_000).contains(&steady), "{steady}");
        let later = rate.get(now + Duration::from_secs(4));
        assert!((50_000..steady / 4).contains(&later), "{later}");
        assert_eq!(rate.get(now + Duration::from_secs(60)), 0);
    }

    #[test]
    fn a_young_flow_is_not_measured_too_slow() {
        let mut now = Instant::from_micros(60_000_000);
        let mut rate = Rate::new(Instant::ORIGIN);
        for _ in 0..30 {
            rate.add(now, 10_000);
            now += Duration::from_millis(10);
        }
        let young = rate.get(now);
        assert!((800_000..=1_200_000).contains(&young), "{young}");
    }
}
