//! Values as people write them: `16 MiB`, `500 KiB/s`, `30s`. The command line accepts the same.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

/// What was expected instead of an invalid value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected(pub String);

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.0)
    }
}

impl std::error::Error for Expected {}

/// An error that says what was expected.
pub(super) fn expected<T>(what: &str) -> Result<T, Expected> {
    Err(Expected(what.into()))
}

/// A number with up to three decimals, as thousandths, and the text after it.
fn number(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if fraction.is_empty() || fraction.len() > 3 {
        return None;
    }
    let scale = 10u64.pow(3 - fraction.len() as u32);
    let thousandths = fraction.parse::<u64>().ok()?.checked_mul(scale)?;
    let whole = whole.parse::<u64>().ok()?.checked_mul(1000)?;
    Some((whole.checked_add(thousandths)?, rest.trim()))
}

/// Bytes: `4096`, `16 KiB`, `1.5 GiB`, `10 MB`.
pub fn size(text: &str) -> Result<u64, Expected> {
    const WHAT: &str = "a size such as 4096, \"16 KiB\", \"1.5 GiB\" or \"10 MB\"";
    let Some((thousandths, unit)) = number(text) else {
        return expected(WHAT);
    };
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return expected(WHAT),
    };
    let bytes = u128::from(thousandths) * u128::from(unit) / 1000;
    u64::try_from(bytes).or_else(|_| expected(WHAT))
}

/// The lowest rate that can be set, in bytes per second. Below it a block of 16 KiB takes longer than peers
/// wait; a limit of 0 or 2 would stop everything, which is rarely meant.
const MIN_RATE: u64 = 1024;

/// Bytes per second, `None` for `off`: `500 KiB/s`, `1 MB/s`.
pub fn rate(text: &str) -> Result<Option<u64>, Expected> {
    if text.trim().eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let text = text.trim();
    match size(text.strip_suffix("/s").unwrap_or(text)) {
        Ok(rate) if rate >= MIN_RATE => Ok(Some(rate)),
        Ok(_) => expected(
            "a rate of at least 1 KiB/s such as \"500 KiB/s\", below which nothing would be \
             transferred, or \"off\" for no limit",
        ),
        Err(_) => expected("a rate such as \"500 KiB/s\", or \"off\" for no limit"),
    }
}

/// A time: `250ms`, `30s`, `5min`, `1.5h`, `2d`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, Expected> {
    const WHAT: &str =
        "a time such as \"250ms\", \"30s\", \"5min\", \"1.5h\" or \"2d\", or a number of seconds";
    let Some((thousandths, unit)) = number(text) else {
        return expected(WHAT);
    };
    let micros: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return expected(WHAT),
    };
    match thousandths.checked_mul(micros) {
        Some(micros) => Ok(Duration::from_micros(micros)),
        None => expected(WHAT),
    }
}

/// [`duration`], or `None` for `off`.
pub fn duration_or_off(text: &str) -> Result<Option<Duration>, Expected> {
    if text.trim().eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    duration(text).map(Some)
}

/// A ratio as thousandths, `None` for `off`: `1.5` is 1500.
pub fn ratio(text: &str) -> Result<Option<u32>, Expected> {
    if text.trim().eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    match number(text) {
        Some((thousandths, "")) if u32::try_from(thousandths).is_ok() => {
            Ok(Some(thousandths as u32))
        }
        _ => expected("a ratio such as 1.5, or \"off\""),
    }
}

/// `on` or `off`.
pub fn switch(text: &str) -> Result<bool, Expected> {
    match text {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        _ => expected("\"on\" or \"off\""),
    }
}

/// A range of ports to try in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The first port; 0 lets the system choose.
    pub first: u16,
    /// The last port, not below the first.
    pub last: u16,
}

impl FromStr for Ports {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self { first, last }),
            _ => expected("a port such as 6881, a range such as \"6881-6889\", or 0 for any"),
        }
    }
}

/// An address, or all addresses of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interface {
    /// This address.
    Address(IpAddr),
    /// The addresses of the interface of this name.
    Name(String),
}

impl FromStr for Interface {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
        if text.is_empty() || text.parse::<f64>().is_ok() || !text.chars().all(plain) {
            return expected("an address such as \"192.0.2.1\" or an interface such as \"eth0\"");
        }
        Ok(Self::Name(text.into()))
    }
}

/// A SOCKS5 proxy (RFC 1928, 1929).
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Host name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// Whether the proxy resolves names (`socks5h`).
    pub remote_names: bool,
}

impl fmt::Debug for Proxy {
    /// Leaves the password out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

impl FromStr for Proxy {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let what = || Expected("\"socks5://host:port\", with user:password@ if need be".into());
        let (scheme, rest) = text.split_once("://").ok_or_else(what)?;
        let remote_names = match scheme {
            "socks5" => false,
            "socks5h" => true,
            _ => return Err(what()),
        };
        let rest = rest.trim_end_matches('/');
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let login = match login.map(|l| l.split_once(':').unwrap_or((l, ""))) {
            Some((user, password)) => Some((
                unescape(user).ok_or_else(what)?,
                unescape(password).ok_or_else(what)?,
            )),
            None => None,
        };
        let (host, port) = place.rsplit_once(':').ok_or_else(what)?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match bare {
            Some(v6) => v6.parse::<IpAddr>().map(|_| v6).map_err(|_| what())?,
            None if host.contains(':') => return Err(what()),
            None => host,
        };
        let port = port.parse().ok().filter(|p| *p != 0).ok_or_else(what)?;
        if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
            return Err(what());
        }
        Ok(Self {
            host: host.into(),
            port,
            login,
            remote_names,
        })
    }
}

/// Decodes `%40` and the like.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |b: u8| char::from(b).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A folder; `~/` stands for the user's home.
pub fn folder(text: &str) -> Result<PathBuf, Expected> {
    if text.is_empty() || text.contains('\0') {
        return expected("a folder");
    }
    let home = || directories::BaseDirs::new().map(|d| d.home_dir().to_path_buf());
    match text.strip_prefix("~/").or((text == "~").then_some("")) {
        Some(rest) => home().map_or_else(
            || expected("a folder that does not start with ~: there is no home folder"),
            |home| Ok(home.join(rest)),
        ),
        None => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    #[test]
    fn sizes_rates_and_times() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("16 MiB", 16 << 20),
            ("16mib", 16 << 20),
            ("1.5 GiB", 3 << 29),
            ("2k", 2048),
            ("10 MB", 10_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "x",
            "-1",
            "1.",
            ".5",
            "1.2.3",
            "5 XiB",
            "99999999 TiB",
            "1.2345k",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(rate("500 KiB/s"), Ok(Some(512_000)));
        assert_eq!((rate("off"), rate("1024")), (Ok(None), Ok(Some(1024))));
        for bad in ["fast", "0", "2", "1023", "0.5 KiB/s"] {
            let Err(Expected(says)) = rate(bad) else {
                panic!("{bad} is a rate");
            };
            assert!(says.contains("\"off\" for no limit"), "{says}");
        }
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert!(duration("1y").is_err() && duration("99999999999999999d").is_err());
        assert_eq!((ratio("1.5"), ratio("off")), (Ok(Some(1500)), Ok(None)));
    }

    #[test]
    fn ports_interfaces_and_proxies() {
        let ports = "6881-6889".parse::<Ports>().unwrap();
        assert_eq!((ports.first, ports.last), (6881, 6889));
        assert!("9-1".parse::<Ports>().is_err() && "70000".parse::<Ports>().is_err());
        assert_eq!("eth0".parse(), Ok(Interface::Name("eth0".into())));
        assert!(matches!("::1".parse(), Ok(Interface::Address(_))));
        assert!("1.2.3".parse::<Interface>().is_err() || "300.1.1.1".parse::<Interface>().is_ok());
        let proxy: Proxy = "socks5://me:p%40ss@[::1]:1080/".parse().unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("::1", 1080));
        assert_eq!(proxy.login.clone().unwrap(), ("me".into(), "p@ss".into()));
        assert!(!format!("{proxy:?}").contains("ss"), "no password in logs");
        for bad in [
            "http://a:1",
            "socks5://a",
            "socks5://:1",
            "socks5://a:0",
            "socks5://a:b:1",
            "a:1",
        ] {
            assert!(bad.parse::<Proxy>().is_err(), "{bad}");
        }
    }

    quickcheck! {
        fn no_text_panics(text: String) -> bool {
            let _ = (size(&text), rate(&text), duration(&text), ratio(&text), switch(&text));
            let _ = (text.parse::<Ports>(), text.parse::<Interface>(), text.parse::<Proxy>());
            let _ = text.parse::<Proxy>().map(|p| p.port) == Ok(0);
            size(&text).is_ok() == size(&format!(" {text} ")).is_ok()
        }
    }
}
