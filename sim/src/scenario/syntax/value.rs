//! Values as people write them: `250ms`, `10 Mbit/s`, `64 KiB`, `1%`.

use std::{net::IpAddr, time::Duration};

use super::{
    document::{Value, ValueKind},
    error::nearest,
};

/// A description of what was expected, to follow the word "expected".
pub(crate) type Wrong = String;

/// The longest time that is accepted: a hundred years.
const MAX_SECONDS: u64 = 100 * 366 * 86_400;

/// A value as text, so that `5`, `"5"` and `"5s"` are read the same way.
pub(crate) fn text(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Text(s) | ValueKind::Number(s) => Some(s.trim().to_owned()),
        ValueKind::Bool(b) => Some(b.to_string()),
        ValueKind::List(_) | ValueKind::Other => None,
    }
}

/// Reads a number with up to six decimals as millionths. Also returns the rest of the text.
fn number(text: &str) -> Option<(u128, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if fraction.is_empty() || fraction.len() > 6 {
        return None;
    }
    let scale = 10u128.pow(6 - fraction.len() as u32);
    let millionths = fraction.parse::<u32>().ok()?;
    let whole = whole.parse::<u64>().ok()?;
    Some((
        u128::from(whole) * 1_000_000 + u128::from(millionths) * scale,
        rest.trim(),
    ))
}

/// A number with one of `units`, each given in multiples of the smallest.
fn with_unit(value: &Value, units: &[(&str, u64)]) -> Option<u64> {
    let text = text(value)?;
    let (millionths, unit) = number(&text)?;
    let unit = unit.to_ascii_lowercase();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    u64::try_from(millionths.checked_mul(u128::from(*factor))? / 1_000_000).ok()
}

pub(crate) fn duration(value: &Value) -> Result<Duration, Wrong> {
    const UNITS: &[(&str, u64)] = &[
        ("us", 1),
        ("µs", 1),
        ("ms", 1_000),
        ("", 1_000_000),
        ("s", 1_000_000),
        ("min", 60_000_000),
        ("h", 3_600_000_000),
        ("d", 86_400_000_000),
    ];
    with_unit(value, UNITS)
        .map(Duration::from_micros)
        .filter(|d| d.as_secs() <= MAX_SECONDS)
        .ok_or_else(|| "a time such as \"250ms\", \"30s\", \"5min\" or \"2h\"".into())
}

/// A time as [`duration`] reads it, in the largest unit of which it is a whole number.
pub(crate) fn written(time: Duration) -> String {
    const UNITS: &[(&str, u128)] = &[
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("min", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
        ("us", 1),
    ];
    let micros = time.as_micros();
    let fits = |(_, unit): &&(&str, u128)| micros >= *unit && micros.is_multiple_of(*unit);
    match UNITS.iter().find(fits) {
        Some((name, unit)) => format!("{}{name}", micros / unit),
        None => "0s".into(),
    }
}

pub(crate) fn size(value: &Value) -> Result<u64, Wrong> {
    const UNITS: &[(&str, u64)] = &[
        ("", 1),
        ("b", 1),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
    ];
    with_unit(value, UNITS)
        .ok_or_else(|| "a size in bytes such as 4096, \"16 KiB\" or \"4 MiB\"".into())
}

/// Bits per second; `None` means unlimited.
pub(crate) fn rate(value: &Value) -> Result<Option<u64>, Wrong> {
    const UNITS: &[(&str, u64)] = &[
        ("bit/s", 1),
        ("kbit/s", 1_000),
        ("mbit/s", 1_000_000),
        ("gbit/s", 1_000_000_000),
        ("b/s", 8),
        ("kb/s", 8_000),
        ("mb/s", 8_000_000),
        ("kib/s", 8 << 10),
        ("mib/s", 8 << 20),
    ];
    if text(value).is_some_and(|t| t == "off") {
        return Ok(None);
    }
    with_unit(value, UNITS)
        .filter(|n| *n > 0)
        .map(Some)
        .ok_or_else(|| {
            "a rate such as \"10 Mbit/s\" or \"500 KiB/s\", or \"off\" for no limit".into()
        })
}

/// A share, in parts per million.
pub(crate) fn share(value: &Value) -> Result<u32, Wrong> {
    let ppm = with_unit(value, &[("%", 10_000), ("", 1_000_000), ("ppm", 1)]);
    ppm.filter(|n| *n <= 1_000_000)
        .and_then(|n| u32::try_from(n).ok())
        .ok_or_else(|| "a share from 0 to 1, such as \"1%\", \"0.5%\" or 0.01".into())
}

pub(crate) fn whole(value: &Value, low: u64, high: u64) -> Result<u64, Wrong> {
    text(value)
        .and_then(|t| t.parse::<u64>().ok())
        .filter(|n| (low..=high).contains(n))
        .ok_or_else(|| format!("a whole number from {low} to {high}"))
}

/// A whole number of 16 bits, like [`whole`].
pub(crate) fn short(value: &Value, low: u16, high: u16) -> Result<u16, Wrong> {
    whole(value, low.into(), high.into()).map(|n| u16::try_from(n).unwrap_or(high))
}

/// A whole number of 32 bits, like [`whole`].
pub(crate) fn word(value: &Value, low: u32, high: u32) -> Result<u32, Wrong> {
    whole(value, low.into(), high.into()).map(|n| u32::try_from(n).unwrap_or(high))
}

pub(crate) fn switch(value: &Value) -> Result<bool, Wrong> {
    match &value.kind {
        ValueKind::Bool(b) => Ok(*b),
        ValueKind::Text(t) if t == "on" || t == "yes" => Ok(true),
        ValueKind::Text(t) if t == "off" || t == "no" => Ok(false),
        _ => Err("true or false".into()),
    }
}

/// A text of 1 to 200 characters.
pub(crate) fn line(value: &Value) -> Result<String, Wrong> {
    match &value.kind {
        ValueKind::Text(t) if !t.is_empty() && t.chars().count() <= 200 => Ok(t.clone()),
        _ => Err("a text of 1 to 200 characters, in quotes".into()),
    }
}

/// A text of any length.
pub(crate) fn prose(value: &Value) -> Result<String, Wrong> {
    match &value.kind {
        ValueKind::Text(t) => Ok(t.clone()),
        _ => Err("a text in quotes".into()),
    }
}

/// One or more texts of 1 to 200 characters.
pub(crate) fn lines(value: &Value) -> Result<Vec<String>, Wrong> {
    match &value.kind {
        ValueKind::List(list) if !list.is_empty() => list.iter().map(line).collect(),
        _ => line(value).map(|text| vec![text]),
    }
}

/// The name of a router or host.
pub(crate) fn name(value: &Value) -> Result<String, Wrong> {
    match &value.kind {
        ValueKind::Text(t)
            if !t.is_empty() && t.chars().count() <= 64 && !t.contains(char::is_control) =>
        {
            Ok(t.clone())
        }
        _ => Err("a name of 1 to 64 characters without control characters, in quotes".into()),
    }
}

/// One or more names.
pub(crate) fn names(value: &Value) -> Result<Vec<String>, Wrong> {
    match &value.kind {
        ValueKind::List(list) if !list.is_empty() => list.iter().map(name).collect(),
        ValueKind::Text(_) => name(value).map(|n| vec![n]),
        _ => Err("a name, or a list of names such as [\"alice\", \"bob\"]".into()),
    }
}

/// Exactly two names.
pub(crate) fn pair(value: &Value) -> Result<(String, String), Wrong> {
    const WHAT: &str = "two names, such as [\"alice\", \"bob\"]";
    match &value.kind {
        ValueKind::List(list) => match &list[..] {
            [a, b] => Ok((name(a)?, name(b)?)),
            _ => Err(WHAT.into()),
        },
        _ => Err(WHAT.into()),
    }
}

/// Two ports, the first not above the second.
pub(crate) fn port_range(value: &Value) -> Result<(u16, u16), Wrong> {
    let range = text(value).and_then(|t| {
        let (low, high) = t.split_once('-')?;
        Some((low.trim().parse().ok()?, high.trim().parse().ok()?))
    });
    range
        .filter(|(low, high)| 0 < *low && low <= high)
        .ok_or_else(|| "a range of ports such as \"1024-65535\"".into())
}

pub(crate) fn address(value: &Value) -> Result<IpAddr, Wrong> {
    text(value)
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| "an address such as \"203.0.113.7\" or \"2001:db8::7\"".into())
}

/// One or more addresses.
pub(crate) fn addresses(value: &Value) -> Result<Vec<IpAddr>, Wrong> {
    match &value.kind {
        ValueKind::List(list) if !list.is_empty() => list.iter().map(address).collect(),
        ValueKind::Text(_) => address(value).map(|a| vec![a]),
        _ => Err("an address or a list of them, such as [\"203.0.113.7\", \"2001:db8::7\"]".into()),
    }
}

/// One of the names in `table`.
pub(crate) fn choice<T: Clone>(value: &Value, table: &[(&str, T)]) -> Result<T, Wrong> {
    let text = text(value).unwrap_or_default();
    let found = table.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| value.clone()).ok_or_else(|| {
        let names: Vec<_> = table.iter().map(|(n, _)| format!("\"{n}\"")).collect();
        let near = nearest(&text, table.iter().map(|(name, _)| *name));
        let near = near.map_or(String::new(), |n| format!(" (did you mean \"{n}\"?)"));
        format!("one of {}{near}", names.join(", "))
    })
}

/// `name` or `name(number)`, as in `sequential(2)`.
pub(crate) fn call(value: &Value) -> Option<(String, Option<i64>)> {
    let text = text(value)?;
    match text.split_once('(') {
        None => Some((text, None)),
        Some((name, rest)) => {
            let argument = rest.strip_suffix(')')?.trim().parse().ok()?;
            Some((name.trim().to_owned(), Some(argument)))
        }
    }
}

/// `name` or `name(value, value)`, as in `codel(5ms, 100ms)`. The values have the place of the whole.
pub(crate) fn arguments(value: &Value) -> Option<(String, Vec<Value>)> {
    let text = text(value)?;
    let Some((name, rest)) = text.split_once('(') else {
        return Some((text, Vec::new()));
    };
    let of = |text: &str| Value {
        kind: ValueKind::Text(text.trim().into()),
        at: value.at.clone(),
    };
    let rest = rest.strip_suffix(')')?;
    Some((name.trim().to_owned(), rest.split(',').map(of).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Value {
        Value {
            kind: ValueKind::Text(text.into()),
            at: 0..0,
        }
    }

    #[test]
    fn units() {
        let ms = |t| duration(&of(t)).map(|d| d.as_micros());
        assert_eq!(ms("1.5ms"), Ok(1_500));
        assert_eq!(ms("2"), Ok(2_000_000));
        assert_eq!(ms("0.000001h"), Ok(3_600));
        assert!(ms("5 parsecs").is_err() && ms("-1s").is_err() && ms("999999999d").is_err());
        assert_eq!(size(&of("1.5 KiB")), Ok(1536));
        assert_eq!(rate(&of("10 Mbit/s")), Ok(Some(10_000_000)));
        assert_eq!(rate(&of("1 KiB/s")), Ok(Some(8_192)));
        assert_eq!(rate(&of("off")), Ok(None));
        assert!(rate(&of("10")).is_err(), "bits or bytes?");
        assert_eq!(share(&of("0.5%")), Ok(5_000));
        assert_eq!(share(&of("1")), Ok(1_000_000));
        assert!(share(&of("101%")).is_err());
        assert_eq!(port_range(&of("5000 - 5063")), Ok((5000, 5063)));
        assert!(port_range(&of("9-8")).is_err());
        assert_eq!(
            call(&of("sequential(-2)")),
            Some(("sequential".into(), Some(-2)))
        );
        assert_eq!(call(&of("random")), Some(("random".into(), None)));
        assert_eq!(call(&of("block(x)")), None);
    }

    #[test]
    fn times_are_written_in_the_largest_unit_that_fits() {
        for (text, micros) in [
            ("0s", 0),
            ("1us", 1),
            ("1500us", 1_500),
            ("250ms", 250_000),
            ("90s", 90_000_000),
            ("5min", 300_000_000),
            ("2h", 7_200_000_000),
            ("5d", 432_000_000_000),
        ] {
            let time = Duration::from_micros(micros);
            assert_eq!(written(time), text);
            assert_eq!(duration(&of(text)), Ok(time));
        }
    }

    #[test]
    fn a_near_miss_is_guessed() {
        let e = choice(&of("evict-older"), &[("drop-new", 1), ("evict-oldest", 2)]);
        assert!(e.is_err_and(|e| e.contains("did you mean \"evict-oldest\"?")));
    }
}
