//! Quantities formatted for people.

use std::time::Duration;

/// Formats a time with about three digits: `250 ms`, `1.5 s`, `2 min 5 s`.
#[must_use]
pub fn time(d: Duration) -> String {
    let micros = d.as_micros();
    let (whole, thousandths, unit) = match micros {
        0..1_000 => return format!("{micros} µs"),
        1_000..1_000_000 => (micros / 1_000, micros % 1_000, "ms"),
        1_000_000..60_000_000 => (micros / 1_000_000, micros / 1_000 % 1_000, "s"),
        _ => {
            let s = d.as_secs();
            let (h, min, s) = (s / 3_600, s / 60 % 60, s % 60);
            let parts = [(h, "h"), (min, "min"), (s, "s")];
            let parts = parts.iter().filter(|(n, _)| *n > 0);
            let parts: Vec<String> = parts.map(|(n, unit)| format!("{n} {unit}")).collect();
            return parts.join(" ");
        }
    };
    let fraction = format!("{thousandths:03}");
    let digits = match whole {
        100.. => 0,
        10.. => 1,
        _ => 3,
    };
    let fraction = fraction[..digits].trim_end_matches('0');
    if fraction.is_empty() {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{fraction} {unit}")
    }
}

/// Formats a time to the millisecond, or to the microsecond below one: `112 ms`, `6.602 s`,
/// `2 min 5.071 s`.
#[must_use]
pub fn exact(d: Duration) -> String {
    let ms = d.as_millis();
    if ms < 1_000 {
        return time(d);
    }
    let (s, rest) = (ms / 1_000, ms % 1_000);
    let (h, min, s) = (s / 3_600, s / 60 % 60, s % 60);
    let mut parts = Vec::new();
    if h > 0 {
        parts.push(format!("{h} h"));
    }
    if min > 0 {
        parts.push(format!("{min} min"));
    }
    if rest > 0 {
        let fraction = format!("{rest:03}");
        parts.push(format!("{s}.{} s", fraction.trim_end_matches('0')));
    } else if s > 0 {
        parts.push(format!("{s} s"));
    }
    parts.join(" ")
}

/// Formats a number of bytes: `1.5 MiB`.
#[must_use]
pub fn size(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let power = ((n.ilog2() / 10) as usize).min(UNITS.len());
    let unit = 1u64 << (10 * power);
    let tenths = u128::from(n) * 10 / u128::from(unit);
    match tenths % 10 {
        0 => format!("{} {}", tenths / 10, UNITS[power - 1]),
        tenth if tenths < 1_000 => format!("{}.{tenth} {}", tenths / 10, UNITS[power - 1]),
        _ => format!("{} {}", tenths / 10, UNITS[power - 1]),
    }
}

/// Formats bits per second: `10 Mbit/s`.
#[must_use]
pub fn rate(bits: u64) -> String {
    const UNITS: [(u64, &str); 3] = [
        (1_000_000_000, "Gbit/s"),
        (1_000_000, "Mbit/s"),
        (1_000, "kbit/s"),
    ];
    for (unit, name) in UNITS {
        if bits >= unit {
            return match bits / (unit / 10) % 10 {
                0 => format!("{} {name}", bits / unit),
                tenth => format!("{}.{tenth} {name}", bits / unit),
            };
        }
    }
    format!("{bits} bit/s")
}

/// Formats a count with thin spaces between groups of three digits.
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(c);
    }
    out
}

/// Binds each number to the unit after it, so that no line ends between them.
#[must_use]
pub fn unbroken(text: &str) -> String {
    const UNITS: [&str; 14] = [
        "µs", "ms", "s", "min", "h", "d", "%", "B", "KiB", "MiB", "GiB", "kbit/s", "Mbit/s",
        "KiB/s",
    ];
    let mut out = String::with_capacity(text.len() + 8);
    for (n, word) in text.split(' ').enumerate() {
        if n > 0 {
            let unit = word.trim_end_matches([',', ';', '.', ':', ')']);
            let number = out.ends_with(|c: char| c.is_ascii_digit());
            out.push(match number && UNITS.contains(&unit) {
                true => '\u{a0}',
                false => ' ',
            });
        }
        out.push_str(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures() {
        let t = |us| time(Duration::from_micros(us));
        assert_eq!(t(0), "0 µs");
        assert_eq!(t(1_500), "1.5 ms");
        assert_eq!(t(250_000), "250 ms");
        assert_eq!(t(12_340_000), "12.3 s");
        assert_eq!(t(60_000_000), "1 min");
        assert_eq!(t(3_725_000_000), "1 h 2 min 5 s");
        let e = |us| exact(Duration::from_micros(us));
        assert_eq!((e(40), e(112_900)), ("40 µs".into(), "112 ms".into()));
        assert_eq!(
            (e(12_340_900), e(60_000_000)),
            ("12.34 s".into(), "1 min".into())
        );
        assert_eq!(e(3_720_071_000), "1 h 2 min 0.071 s");
        assert_eq!(
            (size(1023), size(1536)),
            ("1023 B".into(), "1.5 KiB".into())
        );
        assert_eq!(size(64 << 20), "64 MiB");
        assert_eq!(
            unbroken("alice waits 1.5 s, 2 hosts do not (177 ms)"),
            "alice waits 1.5\u{a0}s, 2 hosts do not (177\u{a0}ms)"
        );
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
