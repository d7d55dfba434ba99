//! Loss by chance: packets one by one, or in bursts.

use rand_xoshiro::SplitMix64;

use super::chance;

/// A million: what chances are given in parts of.
const MILLION: u64 = 1_000_000;

/// How packets are lost by chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// No loss.
    #[default]
    None,
    /// Each packet is lost independently, with this chance in a million.
    Random(u32),
    /// Losses in bursts, after Gilbert (1960) and Elliott (1963): a good and a bad state, each left
    /// with its own chance before each packet. All chances are in a million.
    ///
    /// The line is in the bad state for a share of `worsen / (worsen + mend)` of all packets, and
    /// for `1 / mend` packets in a row on average. [`Loss::bursts`] chooses the chances for a mean
    /// loss and a mean length of bursts.
    Burst {
        /// The chance of going from the good state to the bad one, p.
        worsen: u32,
        /// The chance of going from the bad state to the good one, r.
        mend: u32,
        /// The chance of loss in the good state.
        good: u32,
        /// The chance of loss in the bad state.
        bad: u32,
    },
}

impl Loss {
    /// Losses in bursts, in which all packets are lost: `mean` packets in a million on average, and
    /// `burst` packets in a row on average (Gilbert's model). Returns `None` when bursts of this
    /// length cannot make up so much loss, or so little of it that there would be less than one
    /// burst in a million packets.
    ///
    /// ```
    /// use dunlin_sim::link::Loss;
    ///
    /// // A hundredth of all packets, ten in a row.
    /// let loss = Loss::bursts(10_000, 10).expect("possible");
    /// let expected = Loss::Burst { worsen: 1_010, mend: 100_000, good: 0, bad: 1_000_000 };
    /// assert_eq!(loss, expected);
    /// assert_eq!(loss.mean(), 9_999);
    /// ```
    #[must_use]
    pub const fn bursts(mean: u32, burst: u32) -> Option<Self> {
        if mean == 0 {
            return Some(Self::None);
        }
        if mean as u64 >= MILLION || burst == 0 || burst as u64 > MILLION {
            return None;
        }
        let mend = MILLION / burst as u64;
        // The share of the bad state is p / (p + r).
        let left = MILLION - mean as u64;
        let worsen = (mend * mean as u64 + left / 2) / left;
        if worsen == 0 || worsen > MILLION {
            return None;
        }
        Some(Self::Burst {
            worsen: worsen as u32,
            mend: mend as u32,
            good: 0,
            bad: MILLION as u32,
        })
    }

    /// The mean loss, in a million packets.
    #[must_use]
    pub const fn mean(&self) -> u32 {
        match *self {
            Self::None => 0,
            Self::Random(ppm) => ppm,
            Self::Burst {
                worsen,
                mend,
                good,
                bad,
            } => {
                let (p, r) = (worsen as u64, mend as u64);
                if p + r == 0 {
                    // The state in which the line begins is never left.
                    return good;
                }
                ((p * bad as u64 + r * good as u64) / (p + r)) as u32
            }
        }
    }

    /// Decides about a packet. `bad` is the state of the line.
    pub(super) fn takes(self, bad: &mut bool, dice: &mut SplitMix64) -> bool {
        match self {
            Self::None => false,
            Self::Random(ppm) => chance(dice, ppm),
            Self::Burst {
                worsen,
                mend,
                good,
                bad: worse,
            } => {
                let flip = if *bad { mend } else { worsen };
                *bad ^= chance(dice, flip);
                chance(dice, if *bad { worse } else { good })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::{TestResult, quickcheck};
    use rand_core::SeedableRng;

    use super::*;

    /// The share of packets that are lost, in a million, and the mean number of them in a row.
    fn measured(loss: Loss, packets: u32) -> (f64, f64) {
        let (mut bad, mut dice) = (false, SplitMix64::seed_from_u64(5));
        let (mut lost, mut bursts, mut before) = (0u32, 0u32, false);
        for _ in 0..packets {
            let now = loss.takes(&mut bad, &mut dice);
            lost += u32::from(now);
            bursts += u32::from(now && !before);
            before = now;
        }
        let share = f64::from(lost) / f64::from(packets) * 1e6;
        (share, f64::from(lost) / f64::from(bursts.max(1)))
    }

    /// Compares with the exact values: share of the bad state × loss in it, and 1 / r.
    #[test]
    fn mean_loss_and_burst_length_are_those_of_theory() {
        for (mean, burst) in [(1_000, 4), (10_000, 10), (50_000, 3), (200_000, 20)] {
            let loss = Loss::bursts(mean, burst).expect("possible");
            let (share, length) = measured(loss, 4_000_000);
            let (mean, burst) = (f64::from(mean), f64::from(burst));
            assert!((share / mean - 1.0).abs() < 0.06, "{share} for {mean}");
            assert!((length / burst - 1.0).abs() < 0.06, "{length} for {burst}");
        }
        // All four chances: π_bad = 1/6, so 1/6 × 40 % + 5/6 × 0.6 % are lost.
        let loss = Loss::Burst {
            worsen: 20_000,
            mend: 100_000,
            good: 6_000,
            bad: 400_000,
        };
        assert_eq!(loss.mean(), 71_666);
        let (share, _) = measured(loss, 4_000_000);
        assert!((share / 71_666.0 - 1.0).abs() < 0.02, "{share}");
    }

    #[test]
    fn what_bursts_cannot_do_is_refused() {
        assert_eq!(Loss::bursts(0, 5), Some(Loss::None));
        // Bursts of one packet are followed by one that arrives.
        assert!(Loss::bursts(500_000, 1).is_some());
        for (mean, burst) in [(500_001, 1), (1_000_000, 5), (10, 1_000_000), (10, 0)] {
            assert_eq!(
                Loss::bursts(mean, burst),
                None,
                "{mean} in bursts of {burst}"
            );
        }
    }

    quickcheck! {
        fn the_short_form_has_the_mean_that_was_asked_for(mean: u32, burst: u32) -> TestResult {
            let (mean, burst) = (mean % 1_000_000, burst % 1_000 + 1);
            match Loss::bursts(mean, burst) {
                Some(Loss::Burst { worsen, .. }) if worsen >= 1_000 => {
                    let off = u64::from(Loss::bursts(mean, burst).map_or(0, |l| l.mean()))
                        .abs_diff(mean.into());
                    // Half a millionth in a thousand, and the rounding of `mend`.
                    TestResult::from_bool(off * 500 <= u64::from(mean) + 500)
                }
                _ => TestResult::discard(),
            }
        }
    }
}
