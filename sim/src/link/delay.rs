//! Distributions of delay, in integers.

use std::time::Duration;

use rand_core::Rng;
use rand_xoshiro::SplitMix64;

use super::below;

/// How long a packet travels after it was sent, in whole microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// The same for every packet.
    Fixed(Duration),
    /// Any time between two limits, evenly distributed.
    Uniform {
        /// The shortest delay.
        from: Duration,
        /// The longest delay.
        to: Duration,
    },
    /// Bell-shaped: the sum of eight uniform numbers (Irwin–Hall), within five deviations of the
    /// mean and never below zero.
    Normal {
        /// The mean.
        mean: Duration,
        /// The standard deviation.
        deviation: Duration,
    },
    /// Mostly short and sometimes very long: `least` plus a Pareto (Lomax) tail.
    Pareto {
        /// The shortest delay.
        least: Duration,
        /// The scale of the tail: about half of the packets take at most this much more than
        /// `least`.
        scale: Duration,
        /// The shape of the tail.
        tail: Tail,
        /// The longest delay: no real queue is endless.
        most: Duration,
    },
}

/// The shape of a Pareto tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// α = 1: one packet in a hundred takes 99 times the scale.
    Heavy,
    /// α = 2: one packet in a hundred takes 9 times the scale.
    Medium,
    /// α = 4: one packet in a hundred takes 2.2 times the scale.
    Light,
}

impl Delay {
    /// Draws the delay of one packet.
    pub(super) fn sample(&self, dice: &mut SplitMix64) -> Duration {
        match *self {
            Self::Fixed(delay) => delay,
            Self::Uniform { from, to } => from + below(dice, to.saturating_sub(from)),
            Self::Normal { mean, deviation } => {
                let words = [dice.next_u64(), dice.next_u64()];
                let sum: i64 = words
                    .iter()
                    .flat_map(|w| [w & 0xffff, (w >> 16) & 0xffff, (w >> 32) & 0xffff, w >> 48])
                    .map(|n| n as i64)
                    .sum();
                // Eight numbers below 2^16 have the mean 4 × 65535 and the deviation 65536 ×
                // √(8/12).
                let away = i128::from(sum - 4 * 65_535);
                let by = deviation.as_micros() as i128 * away / 53_510;
                let micros = (mean.as_micros() as i128 + by).max(0);
                Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
            }
            Self::Pareto {
                least,
                scale,
                tail,
                most,
            } => {
                // `u` is in (0, 1] in units of 2^-32; the result is u^(-1/α) in units of 2^-16.
                let u = u128::from(dice.next_u32()) + 1;
                let power = match tail {
                    Tail::Heavy => (1 << 48) / u,
                    Tail::Medium => ((1 << 64) / u).isqrt(),
                    Tail::Light => ((1 << 96) / u).isqrt().isqrt(),
                };
                let micros = (scale.as_micros().min(1 << 64) * (power - (1 << 16))) >> 16;
                let more = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
                least.saturating_add(more).min(most.max(least))
            }
        }
    }

    /// The shortest delay that can occur, for estimates.
    #[must_use]
    pub fn least(&self) -> Duration {
        match *self {
            Self::Fixed(delay) => delay,
            Self::Uniform { from, .. } => from,
            Self::Normal { mean, deviation } => mean.saturating_sub(deviation * 5),
            Self::Pareto { least, .. } => least,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    fn sorted(delay: &Delay) -> Vec<u64> {
        let mut dice = SplitMix64::seed_from_u64(7);
        let mut all: Vec<u64> = (0..10_000)
            .map(|_| delay.sample(&mut dice).as_micros() as u64)
            .collect();
        all.sort_unstable();
        all
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn uniform_reaches_both_ends() {
        let all = sorted(&Delay::Uniform {
            from: MS,
            to: 2 * MS,
        });
        assert!(all[0] >= 1_000 && all[0] < 1_010 && all[9_999] <= 2_000 && all[9_999] > 1_990);
        assert!((1_480..1_520).contains(&all[5_000]));
    }

    #[test]
    fn normal_has_its_mean_and_its_deviation() {
        let all = sorted(&Delay::Normal {
            mean: 100 * MS,
            deviation: 10 * MS,
        });
        let mean = all.iter().sum::<u64>() / 10_000;
        assert!((99_500..100_500).contains(&mean), "{mean}");
        // 68.3 % lie within one deviation, and 95.4 % within two.
        let within = |n: u64| all.iter().filter(|d| d.abs_diff(100_000) <= n).count();
        assert!(
            (6_650..7_000).contains(&within(10_000)),
            "{}",
            within(10_000)
        );
        assert!(
            (9_450..9_650).contains(&within(20_000)),
            "{}",
            within(20_000)
        );
        let all = sorted(&Delay::Normal {
            mean: MS,
            deviation: 10 * MS,
        });
        assert_eq!(all[0], 0);
    }

    #[test]
    fn pareto_tails_are_as_heavy_as_they_say() {
        for (tail, median, percentile99) in [
            (Tail::Heavy, 2_000, 100_000),
            (Tail::Medium, 1_414, 10_000),
            (Tail::Light, 1_189, 3_162),
        ] {
            let all = sorted(&Delay::Pareto {
                least: MS,
                scale: MS,
                tail,
                most: 500 * MS,
            });
            let near = |got: u64, want: u64| got.abs_diff(want) * 5 < want;
            assert!(
                all[0] >= 1_000 && near(all[5_000], median),
                "{tail:?} {}",
                all[5_000]
            );
            assert!(near(all[9_900], percentile99), "{tail:?} {}", all[9_900]);
            assert!(all[9_999] <= 500_000);
        }
    }
}
