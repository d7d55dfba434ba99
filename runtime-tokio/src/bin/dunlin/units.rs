//! Sizes, rates and times as text.

use std::time::Duration;

/// Parses a number of bytes: `500`, `500k`, `1.5MiB`, `2GB`. Decimal prefixes count as binary ones, as is
/// usual for BitTorrent clients.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write it like 500k, 1.5MiB or 2GiB");
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("/s").unwrap_or(&unit);
    let shift = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or_else(wrong);
    }
    let fraction: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = fraction * (1u64 << shift) as f64;
    if bytes.is_finite() && bytes < u64::MAX as f64 {
        Ok(bytes as u64)
    } else {
        Err(wrong())
    }
}

/// The lowest limit in bytes per second, the same as in the configuration file.
const MIN_LIMIT: u64 = 1024;

/// Parses a rate limit. 0 is refused: people use it for "unlimited" as often as for "stop".
pub(crate) fn parse_limit(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        0 => Err("at 0 nothing would be transferred; leave the option out for no limit".into()),
        1..MIN_LIMIT => Err(format!(
            "at {text} bytes a second nothing would be transferred; at least 1 KiB, such as 500k or \
             2MiB"
        )),
        limit => Ok(limit),
    }
}

/// Parses a ratio: a number that is not negative, or `inf`.
pub(crate) fn parse_ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if ratio >= 0.0 => Ok(ratio),
        _ => Err(format!(
            "`{text}` is not a ratio; write it like 1.5, or inf"
        )),
    }
}

/// Parses a number of seconds, possibly with a fraction.
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| format!("`{text}` is not a number of seconds"))
}

/// `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// `1.5 MiB/s`.
pub(crate) fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", size(bytes_per_second))
}

/// `1 peer`, `2 peers`.
pub(crate) fn count(n: u64, what: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {what}{s}")
}

/// `1h02m`, `3m20s`, `12s`, `0.3s`.
pub(crate) fn time(duration: Duration) -> String {
    let s = duration.as_secs();
    if s < 10 && duration.subsec_millis() >= 100 {
        return format!("{s}.{}s", duration.subsec_millis() / 100);
    }
    match (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s:02}s"),
        (0, h, m, _) => format!("{h}h{m:02}m"),
        (d, h, _, _) => format!("{d}d{h:02}h"),
    }
}

/// Per cent with one decimal, rounded down: 100 % means all.
pub(crate) fn percent(done: u64, of: u64) -> String {
    if of == 0 {
        return "100.0 %".into();
    }
    let tenths = u128::from(done.min(of)) * 1000 / u128::from(of);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("500", 500),
            ("500k", 500 << 10),
            ("2MiB", 2 << 20),
            ("2 MB/s", 2 << 20),
            ("1.5g", 3 << 29),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "-1", "1x", "1e400g", "99999999999t", "."] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_fitting_unit() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size((1 << 20) - 1), "1.0 MiB");
        assert_eq!(size(u64::MAX), "16384.0 PiB");
    }

    #[test]
    fn times_are_short_and_short_ones_are_not_nothing() {
        for (ms, text) in [
            (0, "0s"),
            (340, "0.3s"),
            (9_999, "9.9s"),
            (12_900, "12s"),
            (200_000, "3m20s"),
            (3_720_000, "1h02m"),
            (90_000_000, "1d01h"),
        ] {
            assert_eq!(time(Duration::from_millis(ms)), text);
        }
        assert_eq!(
            (count(1, "peer"), count(0, "peer")),
            ("1 peer".into(), "0 peers".into())
        );
    }

    #[test]
    fn a_hundred_per_cent_means_all() {
        assert_eq!(percent(999_999, 1_000_000), "99.9 %");
        assert_eq!(percent(u64::MAX, u64::MAX), "100.0 %");
        assert_eq!(percent(0, 0), "100.0 %");
    }
}
