//! A histogram of how long replies take.
//!
//! What a search needs to know is not the mean but the tail: after how long is a node that has not
//! answered unlikely to answer at all? Octaves of milliseconds, each in four parts, answer that in
//! 100 bytes; old samples fade as new ones come in, so a change of network is soon learned.

use core::time::Duration;

/// Parts of the histogram: four to an octave of milliseconds, up to 8 s.
const PARTS: usize = 48;
/// Longest reply that is told from longer ones, in milliseconds.
const MAX_MS: u32 = 8_191;
/// Samples at which all counts are halved. Our choice: after a change of network a few searches are enough to forget the
/// one before.
const FADE_AT: u16 = 256;
/// Samples before the histogram is used. Our choice: with fewer, its tail is a guess.
const ENOUGH: u16 = 8;
/// The stall time before there are samples. Our choice: nine tenths of the replies of a usual network are faster.
const DEFAULT_STALL: Duration = Duration::from_millis(300);
/// The median before there are samples. Our choice: roughly that of nodes across the Internet.
const DEFAULT_MEDIAN: Duration = Duration::from_millis(100);
/// Shortest stall time: a burst of replies from nearby must not make the others look dead.
const MIN_STALL: Duration = Duration::from_millis(100);
/// Longest stall time: dead nodes must not hold up a search for longer.
const MAX_STALL: Duration = Duration::from_secs(1);

/// Round-trip times of the nodes that answered.
#[derive(Clone, Debug)]
pub struct Rtt {
    counts: [u16; PARTS],
    total: u16,
    p50: Duration,
    p90: Duration,
}

impl Default for Rtt {
    fn default() -> Self {
        Self::new()
    }
}

impl Rtt {
    /// A histogram without samples.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            counts: [0; PARTS],
            total: 0,
            p50: DEFAULT_MEDIAN,
            p90: DEFAULT_STALL,
        }
    }

    /// Counts a reply that took `rtt`.
    pub fn add(&mut self, rtt: Duration) {
        let ms = u32::try_from(rtt.as_millis()).map_or(MAX_MS, |ms| ms.min(MAX_MS));
        if let Some(count) = self.counts.get_mut(part(ms)) {
            *count += 1;
            self.total += 1;
        }
        if self.total >= FADE_AT {
            self.total = 0;
            for count in &mut self.counts {
                *count /= 2;
                self.total += *count;
            }
        }
        if self.total >= ENOUGH {
            self.p50 = self.quantile(50);
            self.p90 = self.quantile(90);
        }
    }

    /// After how long a query counts as stalled: nine of ten replies are faster. Between 100 ms
    /// and 1 s.
    #[must_use]
    pub fn stall(&self) -> Duration {
        self.p90.clamp(MIN_STALL, MAX_STALL)
    }

    /// The median: half of the replies are faster.
    #[must_use]
    pub const fn p50(&self) -> Duration {
        self.p50
    }

    /// The time that `percent` of the samples do not exceed, to about a tenth.
    fn quantile(&self, percent: u32) -> Duration {
        let wanted = (u32::from(self.total) * percent).div_ceil(100).max(1);
        let mut below = 0;
        for (i, &count) in self.counts.iter().enumerate() {
            let count = u32::from(count);
            if below + count >= wanted {
                let (low, high) = (lowest(i), lowest(i + 1));
                let within = (high - low) * 1_000 * (wanted - below) / count.max(1);
                return Duration::from_micros(u64::from(low * 1_000 + within));
            }
            below += count;
        }
        Duration::from_millis(u64::from(MAX_MS))
    }
}

/// The part that `ms` falls into.
const fn part(ms: u32) -> usize {
    if ms < 4 {
        return ms as usize;
    }
    let octave = ms.ilog2();
    ((octave - 1) * 4 + ((ms >> (octave - 2)) & 3)) as usize
}

/// The lowest value of a part, in milliseconds.
const fn lowest(part: usize) -> u32 {
    let part = part as u32;
    if part < 4 {
        return part;
    }
    (4 + part % 4) << (part / 4 - 1)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use quickcheck::quickcheck;

    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn each_part_begins_where_the_one_before_ends() {
        for ms in 0..=MAX_MS {
            let i = part(ms);
            assert!(lowest(i) <= ms && ms < lowest(i + 1), "{ms} in {i}");
        }
        assert_eq!(part(MAX_MS), PARTS - 1);
    }

    #[test]
    fn without_samples_there_is_a_sane_default() {
        let mut rtt = Rtt::new();
        assert_eq!(rtt.stall(), DEFAULT_STALL);
        for _ in 1..ENOUGH {
            rtt.add(ms(20));
        }
        assert_eq!(rtt.stall(), DEFAULT_STALL);
        rtt.add(ms(20));
        assert_eq!(rtt.stall(), MIN_STALL);
    }

    #[test]
    fn quantiles_are_within_a_tenth() {
        let mut rtt = Rtt::new();
        for i in 0..200 {
            rtt.add(ms(i * 4));
        }
        let (p50, p90) = (rtt.p50(), rtt.stall());
        assert!(ms(360) <= p50 && p50 <= ms(440), "{p50:?}");
        assert!(ms(650) <= p90 && p90 <= ms(790), "{p90:?}");
    }

    #[test]
    fn a_new_network_is_soon_learned() {
        let mut rtt = Rtt::new();
        for _ in 0..10_000 {
            rtt.add(ms(700));
        }
        assert!(rtt.stall() > ms(600));
        for _ in 0..1_200 {
            rtt.add(ms(30));
        }
        assert_eq!(rtt.stall(), MIN_STALL);
    }

    quickcheck! {
        fn stall_stays_in_bounds_and_above_the_median_or_at_its_floor(samples: Vec<u32>) -> bool {
            let mut rtt = Rtt::new();
            samples.iter().all(|&us| {
                rtt.add(Duration::from_micros(us.into()));
                let total: u16 = rtt.counts.iter().sum();
                (MIN_STALL..=MAX_STALL).contains(&rtt.stall())
                    && total == rtt.total
                    && rtt.total < FADE_AT
                    && (rtt.p50() <= rtt.p90)
            })
        }
    }
}
