//! When the members of a population begin.

use std::{ops::Range, time::Duration};

use rand_core::Rng;

use crate::{
    rng::SimRng,
    scenario::syntax::{
        document::{Value, ValueKind},
        value,
    },
};

/// What a value of `arrive` is to be.
pub(crate) const FORMS: &str =
    "\"evenly over 10min\", \"poisson 2/min\", or a list with a time for each of them";

/// How members arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// Evenly over a time, the first at its beginning.
    Evenly(Duration),
    /// At random, this many in an hour on average (a Poisson process).
    Poisson {
        /// The mean time between two arrivals.
        every: Duration,
    },
    /// Each at a given time.
    At(Vec<Duration>),
}

impl Arrivals {
    pub(crate) fn read(value: &Value) -> Result<Self, String> {
        let of = |text: &str| Value {
            kind: ValueKind::Text(text.trim().into()),
            at: Range::default(),
        };
        match &value.kind {
            ValueKind::List(list) => {
                let times: Result<_, _> = list.iter().map(value::duration).collect();
                times.map(Self::At)
            }
            ValueKind::Text(text) => {
                let evenly = || {
                    Some(Self::Evenly(
                        value::duration(&of(text.strip_prefix("evenly over ")?)).ok()?,
                    ))
                };
                let poisson = || {
                    let (n, unit) = text.strip_prefix("poisson ")?.split_once('/')?;
                    let number = value::whole(&of(n), 1, 1_000_000).ok()?;
                    // A unit alone, such as `min`, or a time, such as `10s`.
                    let time = value::duration(&of(unit))
                        .or_else(|_| value::duration(&of(&format!("1{}", unit.trim()))));
                    let every = time.ok()? / u32::try_from(number).ok()?;
                    (!every.is_zero()).then_some(Self::Poisson { every })
                };
                evenly().or_else(poisson).ok_or_else(|| FORMS.into())
            }
            _ => Err(FORMS.into()),
        }
    }

    /// The times of `n` members, in order.
    pub(super) fn times(&self, n: usize, rng: &mut SimRng) -> Vec<Duration> {
        match self {
            Self::Evenly(over) => {
                let micros = over.as_micros();
                let at =
                    |i: usize| u64::try_from(micros * i as u128 / n as u128).unwrap_or(u64::MAX);
                (0..n).map(|i| Duration::from_micros(at(i))).collect()
            }
            Self::Poisson { every } => {
                let mut at = Duration::ZERO;
                let mut next = || {
                    at = at.saturating_add(exponential(*every, rng.next_u64()));
                    at
                };
                (0..n).map(|_| next()).collect()
            }
            Self::At(times) => times.clone(),
        }
    }
}

/// A time from the exponential distribution with this mean: `-mean · ln(u)`, where `u` is drawn
/// evenly from (0, 1]. In integers, so that it is the same on every machine.
pub(crate) fn exponential(mean: Duration, drawn: u64) -> Duration {
    /// ln 2 in 2^-32.
    const LN_2: u128 = 2_977_044_471;
    // u = (drawn + 1) / 2^64, and -log2(u) = 64 - log2(drawn + 1).
    let u = u128::from(drawn) + 1;
    let whole = u.ilog2();
    // The mantissa, from 2^63 to 2^64, is squared again and again: each bit of its logarithm is
    // whether the square is 2 or more.
    let mut mantissa = if whole >= 63 {
        u >> (whole - 63)
    } else {
        u << (63 - whole)
    };
    let mut fraction: u128 = 0;
    for _ in 0..32 {
        mantissa = (mantissa * mantissa) >> 63;
        fraction <<= 1;
        if mantissa >= 1 << 64 {
            mantissa >>= 1;
            fraction |= 1;
        }
    }
    let log2 = (u128::from(whole) << 32) | fraction;
    let minus = (64u128 << 32).saturating_sub(log2);
    let micros = mean.as_micros().min(1 << 50) * ((minus * LN_2) >> 32);
    Duration::from_micros(u64::try_from(micros >> 32).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Arrivals, String> {
        Arrivals::read(&Value {
            kind: ValueKind::Text(text.into()),
            at: 0..0,
        })
    }

    #[test]
    fn the_three_kinds_of_arrivals() {
        let secs = Duration::from_secs;
        let mut rng = SimRng::new(1);
        let even = read("evenly over 10min").expect("valid");
        assert_eq!(even.times(4, &mut rng), [0, 150, 300, 450].map(secs));
        assert_eq!(
            read("poisson 2/min"),
            Ok(Arrivals::Poisson { every: secs(30) })
        );
        assert_eq!(
            read("poisson 5/10s"),
            Ok(Arrivals::Poisson { every: secs(2) })
        );
        for wrong in [
            "poisson",
            "poisson 0/s",
            "poisson 2/parsec",
            "evenly",
            "at once",
            "evenly over x",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let list = Value {
            kind: ValueKind::List(vec![Value {
                kind: ValueKind::Number("3".into()),
                at: 0..0,
            }]),
            at: 0..0,
        };
        let list = Arrivals::read(&list).expect("valid");
        assert_eq!(list.times(1, &mut rng), [secs(3)]);
    }

    #[test]
    fn poisson_arrivals_have_their_rate_and_are_as_irregular() {
        let mut rng = SimRng::new(7);
        let n = 4_000;
        let times = Arrivals::Poisson {
            every: Duration::from_secs(1),
        }
        .times(n, &mut rng);
        let last = times.last().expect("some").as_secs();
        assert!((3_800..4_200).contains(&last), "{last}");
        let gaps = || times.windows(2).map(|w| w[1] - w[0]);
        // A share of e^-1 is longer than the mean, and e^-2 longer than twice that.
        let longer = |secs| gaps().filter(|g| *g > Duration::from_secs(secs)).count();
        assert!((1_370..1_575).contains(&longer(1)), "{}", longer(1));
        assert!((470..615).contains(&longer(2)), "{}", longer(2));
    }

    #[test]
    fn the_logarithm_is_that_of_the_reals() {
        let mean = Duration::from_secs(1_000);
        for drawn in [
            0,
            1,
            12_345,
            u64::MAX / 3,
            u64::MAX / 2,
            u64::MAX - 1,
            u64::MAX,
        ] {
            let real = -((drawn as f64 + 1.0) / 18_446_744_073_709_551_616.0).ln() * 1e9;
            let ours = exponential(mean, drawn).as_micros() as f64;
            assert!(
                (real - ours).abs() < 4.0 + real * 1e-9,
                "{drawn}: {real} and {ours}"
            );
        }
    }
}
