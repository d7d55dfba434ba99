//! Random early detection: Floyd and Jacobson, "Random Early Detection Gateways for Congestion
//! Avoidance", IEEE/ACM Transactions on Networking 1(4), 1993, with Floyd's gentle variant.

use rand_core::Rng;
use rand_xoshiro::SplitMix64;

use super::RedConfig;

/// One, in the fixed-point numbers of this file.
const ONE: u64 = 1 << 32;
/// The average has this many bits behind the point.
const FINE: u32 = 20;

/// The average of a queue, and the packets since the last drop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Average {
    /// In units of 2^-20 bytes.
    average: u64,
    /// The packets that were let through since the last drop, or since the average was below the
    /// lower threshold.
    count: u32,
}

impl Average {
    pub(crate) const fn new() -> Self {
        Self {
            average: 0,
            count: 0,
        }
    }

    /// The average, in bytes.
    #[cfg(test)]
    const fn bytes(&self) -> u64 {
        self.average >> FINE
    }

    /// Decides about a packet that finds `waiting` bytes. `idle` is the number of packets that
    /// could have been sent since the queue was empty. Returns `true` when the packet is dropped.
    pub(crate) fn drops(
        &mut self,
        config: &RedConfig,
        waiting: u64,
        idle: u64,
        dice: &mut SplitMix64,
    ) -> bool {
        self.account(config, waiting, idle);
        let (min, max) = (u64::from(config.min) << FINE, u64::from(config.max) << FINE);
        let max = max.max(min + 1);
        let most = u64::from(config.chance.min(1_000_000)) * ONE / 1_000_000;
        let part = |whole: u64, of: u64, in_all: u64| {
            (u128::from(whole) * u128::from(of) / u128::from(in_all)) as u64
        };
        let chance = if self.average < min {
            self.count = 0;
            return false;
        } else if self.average < max {
            part(most, self.average - min, max - min)
        } else if self.average < 2 * max {
            most + part(ONE - most, self.average - max, max)
        } else {
            self.count = 0;
            return true;
        };
        // The chance rises with each packet that is let through, so that drops are evenly spread.
        let after = u128::from(chance) * u128::from(self.count);
        let left = u128::from(ONE).saturating_sub(after);
        let drawn = u128::from(dice.next_u32());
        let drops = drawn * left < u128::from(chance) * u128::from(ONE) || left == 0;
        self.count = if drops {
            0
        } else {
            self.count.saturating_add(1)
        };
        drops
    }

    fn account(&mut self, config: &RedConfig, waiting: u64, idle: u64) {
        let weight = u32::from(config.weight.min(31));
        if waiting > 0 {
            let now = waiting << FINE;
            if now >= self.average {
                self.average += (now - self.average) >> weight;
            } else {
                self.average -= (self.average - now) >> weight;
            }
            return;
        }
        // (1 - w) to the power of the packets that could have been sent.
        let (mut base, mut power, mut left) = (ONE - (ONE >> weight), ONE, idle);
        while left > 0 && power > 0 {
            if left & 1 == 1 {
                power = ((u128::from(power) * u128::from(base)) >> 32) as u64;
            }
            base = ((u128::from(base) * u128::from(base)) >> 32) as u64;
            left >>= 1;
        }
        self.average = ((u128::from(self.average) * u128::from(power)) >> 32) as u64;
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;
    use rand_core::SeedableRng;

    use super::*;

    const CONFIG: RedConfig = RedConfig {
        min: 10_000,
        max: 30_000,
        chance: 100_000,
        weight: 9,
    };

    /// The share of packets that are dropped, and the number between drops, while the queue has
    /// this length and always had.
    fn steady(waiting: u64) -> (f64, Vec<u32>) {
        let mut average = Average::new();
        let mut dice = SplitMix64::seed_from_u64(3);
        for _ in 0..20_000 {
            average.drops(&CONFIG, waiting, 0, &mut dice);
        }
        let (mut gaps, mut since) = (Vec::new(), 0);
        for _ in 0..200_000 {
            since += 1;
            if average.drops(&CONFIG, waiting, 0, &mut dice) {
                gaps.push(since);
                since = 0;
            }
        }
        (gaps.len() as f64 / 200_000.0, gaps)
    }

    /// The number of packets between two drops is evenly distributed from 1 to 1/p (§8 of the
    /// paper), so that 2 p / (1 + p) of all packets are dropped.
    #[test]
    fn drops_are_as_frequent_as_the_paper_says() {
        for (waiting, chance) in [(20_000, 0.05), (28_000, 0.09), (45_000, 0.55)] {
            let (share, gaps) = steady(waiting);
            let expected = 2.0 * chance / (1.0 + chance);
            assert!(
                (share / expected - 1.0).abs() < 0.05,
                "{share} of {expected} at {waiting}"
            );
            let longest = gaps.iter().max().copied().unwrap_or_default();
            assert!(
                f64::from(longest) <= 1.0 / chance + 2.0,
                "{longest} at {waiting}"
            );
        }
        assert_eq!(steady(9_000).0, 0.0);
        assert_eq!(steady(60_100).0, 1.0);
    }

    #[test]
    fn the_average_follows_with_its_weight_and_falls_while_idle() {
        let mut average = Average::new();
        // After n packets it is (1 - (1 - w)^n) of the queue.
        for _ in 0..512 {
            average.account(&CONFIG, 10_000, 0);
        }
        assert!(
            (6_310..6_340).contains(&average.bytes()),
            "{}",
            average.bytes()
        );
        let mut other = average;
        for _ in 0..100 {
            other.account(&CONFIG, 0, 1);
        }
        average.account(&CONFIG, 0, 100);
        assert!(average.bytes().abs_diff(other.bytes()) <= 1);
        assert!(
            (5_180..5_220).contains(&average.bytes()),
            "{}",
            average.bytes()
        );
        average.account(&CONFIG, 0, u64::MAX);
        assert_eq!(average.bytes(), 0);
    }

    quickcheck! {
        fn any_numbers_are_survived(config: (u32, u32, u32, u8), packets: Vec<(u32, u64)>) -> bool {
            let (min, max, chance, weight) = config;
            let config = RedConfig { min, max, chance, weight };
            let (mut average, mut dice) = (Average::new(), SplitMix64::seed_from_u64(1));
            let mut most = 0;
            packets.into_iter().all(|(waiting, idle)| {
                most = most.max(u64::from(waiting));
                average.drops(&config, waiting.into(), idle, &mut dice);
                average.bytes() <= most
            })
        }
    }
}
