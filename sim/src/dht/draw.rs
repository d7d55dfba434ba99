//! Random durations in integers, the same on every machine.

use std::time::Duration;

use rand_core::Rng;

/// Draws a time whose logarithm is normally distributed. `median` is its median and `sigma_milli`
/// the deviation of the logarithm in thousandths (600 for the σ = 0.6 of round trips in the wide
/// area).
///
/// The normal number is the sum of twelve uniform ones, so that nothing lies beyond six deviations.
pub fn lognormal(dice: &mut dyn Rng, median: Duration, sigma_milli: u32) -> Duration {
    let power = normal(dice) * i64::from(sigma_milli) / 1_000;
    let factor = exp(power);
    let micros = (median.as_micros().min(1 << 60) * u128::from(factor)) >> ONE;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// The number of bits of the fraction.
const ONE: u32 = 16;

/// Draws a number with mean 0 and deviation 1, in units of 2^-16.
fn normal(dice: &mut dyn Rng) -> i64 {
    // Twelve numbers below 2^16 have the variance 12 × 2^32 / 12.
    let sum: u64 = (0..3)
        .map(|_| dice.next_u64())
        .map(|w| (w & 0xffff) + ((w >> 16) & 0xffff) + ((w >> 32) & 0xffff) + (w >> 48))
        .sum();
    sum as i64 - 6 * 0xffff
}

/// e to the power of `x`, both in units of 2^-16. Saturates.
fn exp(x: i64) -> u64 {
    // log2(e), then the Taylor coefficients of 2^f, in units of 2^-16.
    const LOG2_E: i64 = 94_548;
    const TERMS: [u64; 5] = [65_536, 45_426, 15_743, 3_638, 630];
    let y = (x.clamp(-(40 << ONE), 30 << ONE) * LOG2_E) >> ONE;
    let (whole, part) = (y >> ONE, (y & 0xffff) as u64);
    let power = (TERMS.iter().rev()).fold(0, |sum, term| term + ((sum * part) >> ONE));
    match u32::try_from(whole) {
        Ok(up) => power << up.min(46),
        Err(_) => power >> whole.unsigned_abs().min(63),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SimRng;

    #[test]
    fn powers_of_e_are_right_to_a_thousandth() {
        for (x, want) in [
            (0.0, 1.0),
            (0.5, 1.648_721),
            (-0.5, 0.606_531),
            (0.6, 1.822_119),
            (3.5, 33.115_45),
        ] {
            let got = exp((x * 65_536.0) as i64) as f64 / 65_536.0;
            assert!((got / want - 1.0f64).abs() < 1e-3, "{x}: {got} {want}");
        }
    }

    #[test]
    fn round_trips_have_the_median_and_the_spread() {
        let mut dice = SimRng::new(5);
        let draw = |_| lognormal(&mut dice, Duration::from_millis(90), 600).as_micros() as u64;
        let mut all: Vec<u64> = (0..20_000).map(draw).collect();
        all.sort_unstable();
        // e^(0.6 × 1.2816) = 2.157 at the 90th percentile.
        let near = |got: u64, want: u64| got.abs_diff(want) * 50 < want;
        assert!(near(all[10_000], 90_000), "{}", all[10_000]);
        assert!(near(all[18_000], 194_200), "{}", all[18_000]);
        assert!(near(all[2_000], 41_700), "{}", all[2_000]);
    }
}
