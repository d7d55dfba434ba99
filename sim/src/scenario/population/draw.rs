//! Values that are drawn for the members of a population: exact shares, in an order that the seed
//! shuffles.

use std::time::Duration;

use rand_core::Rng;

use super::arrive::exponential;
use crate::{
    rng::SimRng,
    scenario::syntax::{
        document::{Value, ValueKind},
        value,
    },
};

/// What is wrong with a drawn value: where, what, and what would be right.
pub(super) type Wrong = (std::ops::Range<usize>, String, String);

/// How far the sum of shares may be from the whole, in millionths, so that thirds can be written.
const TOLERANCE: u32 = 1_000;
const WHOLE: u32 = 1_000_000;

/// Returns `true` when a value says how to draw one for each member.
pub(super) fn is_drawn(value: &Value) -> bool {
    match &value.kind {
        ValueKind::List(list) => list.iter().any(|v| weighted(v).is_some()),
        ValueKind::Text(text) => Span::parse(text).is_some() || mean(text).is_some(),
        _ => false,
    }
}

/// The values of `n` members; `None` for those that do without.
pub(super) fn draw(
    value: &Value,
    n: usize,
    rng: &mut SimRng,
) -> Result<Vec<Option<ValueKind>>, Wrong> {
    let mut drawn = match &value.kind {
        ValueKind::List(list) => shares(value, list, n)?,
        _ => spread(value, n)?,
    };
    for last in (1..drawn.len()).rev() {
        let other = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        drawn.swap(last, other as usize);
    }
    Ok(drawn)
}

/// The share and the rest of `"60% linux"`.
fn weighted(value: &Value) -> Option<(u32, Value)> {
    let ValueKind::Text(text) = &value.kind else {
        return None;
    };
    let (share, rest) = text.split_once('%')?;
    if rest.trim().is_empty() || !rest.starts_with(char::is_whitespace) {
        return None;
    }
    let of = |text: String| Value {
        kind: ValueKind::Text(text),
        at: value.at.clone(),
    };
    let share = value::share(&of(format!("{}%", share.trim()))).ok()?;
    Some((share, of(rest.trim().into())))
}

fn shares(whole: &Value, list: &[Value], n: usize) -> Result<Vec<Option<ValueKind>>, Wrong> {
    let mut parts = Vec::new();
    for value in list {
        let part = weighted(value).ok_or_else(|| {
            let message = "the others have a share, and this has none".into();
            (value.at.clone(), message, "such as \"60% linux\"".into())
        })?;
        parts.push(part);
    }
    let weights: Vec<u64> = parts.iter().map(|(share, _)| u64::from(*share)).collect();
    let sum: u64 = weights.iter().sum();
    if sum.abs_diff(WHOLE.into()) > TOLERANCE.into() {
        let message = format!("the shares add up to {} %", percent(sum));
        return Err((whole.at.clone(), message, "they are to make 100 %".into()));
    }
    let mut drawn = Vec::with_capacity(n);
    for (count, (_, value)) in apportion(&weights, n).into_iter().zip(&parts) {
        drawn.extend(spread(value, count)?);
    }
    Ok(drawn)
}

/// Millionths as a percentage.
fn percent(ppm: u64) -> String {
    let text = format!("{}.{:04}", ppm / 10_000, ppm % 10_000);
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// Divides `n` by weights as exactly as whole numbers can (largest remainders; of equal ones the
/// first).
fn apportion(weights: &[u64], n: usize) -> Vec<usize> {
    let sum = weights.iter().map(|w| u128::from(*w)).sum::<u128>().max(1);
    let exact = |w: &u64| u128::from(*w) * n as u128;
    let mut counts: Vec<usize> = weights.iter().map(|w| (exact(w) / sum) as usize).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(exact(&weights[*i]) % sum));
    let left = n - counts.iter().sum::<usize>();
    for i in order.into_iter().take(left) {
        counts[i] += 1;
    }
    counts
}

/// One value `n` times, or `n` values evenly spread over a range.
fn spread(value: &Value, n: usize) -> Result<Vec<Option<ValueKind>>, Wrong> {
    let text = match &value.kind {
        ValueKind::Text(text) if text == "none" => return Ok(vec![None; n]),
        ValueKind::Text(text) => text,
        kind => return Ok(vec![Some(kind.clone()); n]),
    };
    if let Some(mean) = mean(text) {
        let at = |i: usize| {
            // The middle of each `n`th of the distribution.
            let part = ((2 * i as u128 + 1) << 64) / (2 * n as u128);
            let micros = exponential(mean, u64::try_from(part).unwrap_or(u64::MAX)).as_micros();
            Some(ValueKind::Text(format!("{micros}us")))
        };
        return Ok((0..n).map(at).collect());
    }
    let Some(span) = Span::parse(text) else {
        return Ok(vec![Some(value.kind.clone()); n]);
    };
    if span.low > span.high {
        let message = "the range ends before it begins".into();
        return Err((
            value.at.clone(),
            message,
            "write the lower end first".into(),
        ));
    }
    Ok((0..n).map(|i| Some(span.at(i, n))).collect())
}

/// The mean of `"exponential 10min"`.
fn mean(text: &str) -> Option<Duration> {
    let mean = text.strip_prefix("exponential ")?;
    let value = Value {
        kind: ValueKind::Text(mean.into()),
        at: 0..0,
    };
    value::duration(&value).ok()
}

/// A range of values: `"1 Mbit/s to 20 Mbit/s"`.
struct Span {
    low: u64,
    high: u64,
    unit: &'static str,
}

impl Span {
    fn parse(text: &str) -> Option<Self> {
        let (low, high) = text.split_once(" to ")?;
        let of = |text: &str| Value {
            kind: ValueKind::Text(text.trim().into()),
            at: 0..0,
        };
        let (low, high) = (of(low), of(high));
        let both = |read: &dyn Fn(&Value) -> Option<u64>, unit| {
            let (low, high) = (read(&low)?, read(&high)?);
            Some(Self { low, high, unit })
        };
        let micros = |v: &Value| u64::try_from(value::duration(v).ok()?.as_micros()).ok();
        both(&|v| value::whole(v, 0, u64::MAX).ok(), "")
            .or_else(|| both(&|v| value::rate(v).ok()?, " bit/s"))
            .or_else(|| both(&micros, "us"))
            .or_else(|| both(&|v| value::share(v).ok().map(u64::from), "ppm"))
            .or_else(|| both(&|v| value::size(v).ok(), " b"))
    }

    /// The `i`th of `n` values that are evenly spread: the middle of each `n`th of the range.
    fn at(&self, i: usize, n: usize) -> ValueKind {
        let wide = u128::from(self.high - self.low);
        let up = wide * (2 * i as u128 + 1) / (2 * n as u128);
        let value = self.low + up as u64;
        match self.unit {
            "" => ValueKind::Number(value.to_string()),
            unit => ValueKind::Text(format!("{value}{unit}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quickcheck::quickcheck;

    use super::*;

    fn text(text: &str) -> Value {
        Value {
            kind: ValueKind::Text(text.into()),
            at: 0..0,
        }
    }

    fn list(parts: &[&str]) -> Value {
        Value {
            kind: ValueKind::List(parts.iter().map(|p| text(p)).collect()),
            at: 0..0,
        }
    }

    fn drawn(value: &Value, n: usize, seed: u64) -> Vec<String> {
        let drawn = draw(value, n, &mut SimRng::new(seed)).expect("valid");
        let text = |kind| match kind {
            Some(ValueKind::Text(text) | ValueKind::Number(text)) => text,
            None => "-".into(),
            other => format!("{other:?}"),
        };
        drawn.into_iter().map(text).collect()
    }

    #[test]
    fn shares_are_exact_and_the_seed_shuffles_them() {
        let mix = list(&["60% linux", "15% none", "10% symmetric", "15% full-cone"]);
        let mut orders = BTreeMap::new();
        for seed in 0..20 {
            let all = drawn(&mix, 200, seed);
            let count = |name: &str| all.iter().filter(|n| *n == name).count();
            let counts = ["linux", "-", "symmetric", "full-cone"].map(count);
            assert_eq!(counts, [120, 30, 20, 30]);
            orders.insert(all, seed);
        }
        assert_eq!(orders.len(), 20);
        assert_eq!(drawn(&mix, 200, 3), drawn(&mix, 200, 3));
    }

    #[test]
    fn ranges_are_spread_evenly_in_their_units() {
        let mut rates = drawn(&text("1 Mbit/s to 5 Mbit/s"), 4, 1);
        rates.sort();
        let wanted = ["1500000", "2500000", "3500000", "4500000"];
        assert_eq!(rates, wanted.map(|n| format!("{n} bit/s")));
        assert_eq!(drawn(&text("10 to 12"), 1, 1), ["11"]);
        assert_eq!(drawn(&text("1ms to 1s"), 1, 1), ["500500us"]);
        assert_eq!(drawn(&text("0% to 2%"), 1, 1), ["10000ppm"]);
        assert_eq!(drawn(&text("1 KiB to 3 KiB"), 1, 1), ["2048 b"]);
        let mixed = list(&["50% 1ms to 3ms", "50% 1s"]);
        let mut delays = drawn(&mixed, 4, 1);
        delays.sort();
        assert_eq!(delays, ["1500us", "1s", "1s", "2500us"]);
        let mut times = drawn(&text("exponential 100s"), 3, 1);
        times.sort();
        // -100 s · ln of 5/6, 1/2 and 1/6.
        assert_eq!(times, ["179175946us", "18232155us", "69314718us"]);
        for word in [
            "exponential a",
            "from a to b",
            "to",
            "1 to b",
            "1 KiB to 2s",
        ] {
            assert!(!is_drawn(&text(word)), "{word}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let mut rng = SimRng::new(1);
        let mut wrong = |value: &Value| draw(value, 10, &mut rng).expect_err("wrong").1;
        assert_eq!(
            wrong(&list(&["60% a", "30.5% b"])),
            "the shares add up to 90.5 %"
        );
        assert_eq!(
            wrong(&list(&["60% a", "b"])),
            "the others have a share, and this has none"
        );
        assert_eq!(wrong(&text("2s to 1s")), "the range ends before it begins");
        assert!(!is_drawn(&list(&["alice", "bob"])));
        assert!(is_drawn(&list(&["33.333% a", "33.333% b", "33.334% c"])));
    }

    quickcheck! {
        fn every_member_gets_a_part_and_no_part_is_off_by_one(weights: Vec<u16>, n: u16) -> bool {
            let weights: Vec<u64> = weights.into_iter().map(|w| u64::from(w) + 1).collect();
            if weights.is_empty() {
                return true;
            }
            let sum: u64 = weights.iter().sum();
            let counts = apportion(&weights, n.into());
            let near = |(w, c): (&u64, &usize)| {
                let (exact, given) = (w * u64::from(n), *c as u64 * sum);
                exact.abs_diff(given) < sum
            };
            counts.iter().sum::<usize>() == usize::from(n) && weights.iter().zip(&counts).all(near)
        }
    }
}
