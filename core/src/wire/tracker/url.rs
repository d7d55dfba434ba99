//! Tracker URLs, parsed without copying.

use alloc::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::TrackerError;
use crate::net::Family;

/// What is encoded in a path or query that was written with it. `%` stays: the rest is encoded
/// already. Whatever is beyond ASCII is encoded as UTF-8.
const AS_WRITTEN: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>');

/// The longest tracker URL that is accepted. Passkeys and queries stay far below it, and a UDP announce with
/// its path as BEP 41 options still fits the smallest IPv6 packet.
pub const MAX_URL: usize = 1000;

/// The schemes of trackers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http://`
    Http,
    /// `https://`
    Https,
    /// `udp://` (BEP 15)
    Udp,
}

/// A parsed tracker URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackerUrl<'a> {
    /// The scheme.
    pub scheme: Scheme,
    /// Name or address; an IPv6 address without its brackets. A name may have characters beyond
    /// ASCII: the platform's resolver encodes them (IDNA), if it can.
    pub host: &'a str,
    /// The port as written, or the default of the scheme.
    pub port: u16,
    /// Path and query as written, without the fragment; may be empty. See [`encoded`].
    pub path: &'a str,
}

impl TrackerUrl<'_> {
    /// The family of a host that is written as an address; `None` for a name.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        match self.host.parse().ok()? {
            core::net::IpAddr::V4(_) => Some(Family::V4),
            core::net::IpAddr::V6(_) => Some(Family::V6),
        }
    }
}

/// Parses a tracker URL.
///
/// # Errors
/// [`TrackerError::Unsupported`] for another scheme, [`TrackerError::BadUrl`] if it is not a URL.
pub fn parse_url(url: &str) -> Result<TrackerUrl<'_>, TrackerError> {
    if url.len() > MAX_URL {
        return Err(TrackerError::BadUrl("too long"));
    }
    // A URL with control characters is rejected, not cleaned: nobody types them.
    if url.chars().any(char::is_control) {
        return Err(TrackerError::BadUrl("control characters"));
    }
    let (scheme, rest) = url
        .split_once("://")
        .ok_or(TrackerError::BadUrl("no scheme"))?;
    let (scheme, default_port) = match scheme {
        s if s.eq_ignore_ascii_case("http") => (Scheme::Http, Some(80)),
        s if s.eq_ignore_ascii_case("https") => (Scheme::Https, Some(443)),
        s if s.eq_ignore_ascii_case("udp") => (Scheme::Udp, None),
        s => return Err(TrackerError::Unsupported { scheme: s.into() }),
    };
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, h)| h);
    let (host, port) = split_host(host_port)?;
    if host.is_empty() {
        return Err(TrackerError::BadUrl("no host"));
    }
    if authority.contains(char::is_whitespace) {
        return Err(TrackerError::BadUrl("a space in the host"));
    }
    let port = match port {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        Some(_) => None,
        None => default_port,
    };
    match port {
        Some(port) if port != 0 => Ok(TrackerUrl {
            scheme,
            host,
            port,
            path,
        }),
        _ => Err(TrackerError::BadUrl("no usable port")),
    }
}

/// A path and query, or a URL with ASCII before those, as it is sent: spaces and characters beyond
/// ASCII are encoded (RFC 3986 §2.1, RFC 3987 §3.1).
#[must_use]
pub fn encoded(path: &str) -> Cow<'_, str> {
    utf8_percent_encode(path, AS_WRITTEN).into()
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`; an empty port counts as none (RFC 3986 §3.2.3).
fn split_host(text: &str) -> Result<(&str, Option<&str>), TrackerError> {
    let (host, rest) = if let Some(inner) = text.strip_prefix('[') {
        inner
            .split_once(']')
            .ok_or(TrackerError::BadUrl("unclosed bracket"))?
    } else {
        text.split_at(text.find(':').unwrap_or(text.len()))
    };
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port).filter(|p| !p.is_empty()))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(TrackerError::BadUrl("text after the host")),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, scheme, host, port, path) in [
            (
                "http://t.example/announce",
                Scheme::Http,
                "t.example",
                80,
                "/announce",
            ),
            (
                "HTTPS://t.example:8443",
                Scheme::Https,
                "t.example",
                8443,
                "",
            ),
            (
                "udp://t.example:6969/a?k=1#frag",
                Scheme::Udp,
                "t.example",
                6969,
                "/a?k=1",
            ),
            (
                "udp://[2001:db8::1]:80/",
                Scheme::Udp,
                "2001:db8::1",
                80,
                "/",
            ),
            ("http://u:p@h:/x", Scheme::Http, "h", 80, "/x"),
            ("http://h?x=1/2@3", Scheme::Http, "h", 80, "?x=1/2@3"),
            ("http://h/my tracker", Scheme::Http, "h", 80, "/my tracker"),
            ("udp://трекер.рф:1/ё", Scheme::Udp, "трекер.рф", 1, "/ё"),
        ] {
            let parsed = TrackerUrl {
                scheme,
                host,
                port,
                path,
            };
            assert_eq!(parse_url(url), Ok(parsed), "{url}");
        }
    }

    #[test]
    fn wrong_urls_say_what_is_wrong() {
        assert_eq!(
            parse_url("wss://t.example"),
            Err(TrackerError::Unsupported {
                scheme: "wss".into()
            })
        );
        for (url, what) in [
            ("t.example/announce", "no scheme"),
            ("udp://t.example/announce", "no usable port"),
            ("http://h:99999/", "no usable port"),
            ("http://h:+1/", "no usable port"),
            ("http://h:0/", "no usable port"),
            ("http:///announce", "no host"),
            ("http://[::1/", "unclosed bracket"),
            ("http://[::1]x/", "text after the host"),
            ("http://h/a\r\nX: y", "control characters"),
            ("http://h/a\u{85}", "control characters"),
            ("http://my tracker/announce", "a space in the host"),
            ("http://u\u{3000}@h/", "a space in the host"),
        ] {
            assert_eq!(parse_url(url), Err(TrackerError::BadUrl(what)), "{url}");
        }
    }

    #[test]
    fn what_is_written_plainly_is_encoded_once() {
        for (path, sent) in [
            ("/my tracker/announce", "/my%20tracker/announce"),
            ("/my%20tracker?k=a b%", "/my%20tracker?k=a%20b%"),
            ("/ё?ß=\"<>", "/%D1%91?%C3%9F=%22%3C%3E"),
            ("/a~b/(c);d=1?e&f=%2F+", "/a~b/(c);d=1?e&f=%2F+"),
        ] {
            assert_eq!(encoded(path), sent);
            assert_eq!(encoded(sent), sent);
        }
    }

    #[test]
    fn an_address_tells_its_family() {
        let family = |url| parse_url(url).unwrap().family();
        assert_eq!(family("udp://10.0.0.1:1"), Some(Family::V4));
        assert_eq!(family("udp://[::1]:1"), Some(Family::V6));
        assert_eq!(family("udp://localhost:1"), None);
    }

    quickcheck! {
        /// Law 6: no text is too odd.
        fn any_url_is_survived(rest: String, scheme: u8) -> bool {
            let scheme = ["http://", "udp://", "https://[", ""][usize::from(scheme) % 4];
            parse_url(&alloc::format!("{scheme}{rest}")).map_or(true, |u| !u.host.is_empty())
        }
    }
}
