//! `http://` and `https://` URLs (RFC 3986), as far as a GET needs them.

use alloc::{format, string::String, vec::Vec};
use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use data_encoding::BASE64;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::{Fault, MAX_URL, Platform};
use crate::{outcome::OpErrorKind, wire::tracker::printable};

/// Port of `http`, or with `tls` of `https` (RFC 9110 §4.2).
const fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// Longest host name (RFC 1035 §2.3.4), with the dot of the root.
const MAX_NAME: usize = 254;
/// What browsers encode in a path; `%` stays, as the URL is encoded already.
const IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'}');
/// What browsers encode in a query.
const IN_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\'');

/// Whom to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// A name to be resolved, in lower case.
    Name(&'a str),
    /// A literal address.
    Ip(IpAddr),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Name(String),
    Ip(IpAddr),
}

/// An absolute `http://` or `https://` URL, fit to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) tls: bool,
    /// User and password as the `Basic` scheme wants them (RFC 7617).
    pub(super) login: Option<String>,
    host: Owned,
    pub(super) port: u16,
    path: String,
    query: Option<String>,
}

impl Url {
    /// Reads an absolute URL. A fragment is dropped.
    pub(super) fn parse(url: &str, platform: Platform) -> Result<Self, Fault> {
        if url.len() > MAX_URL {
            let reason = format!("the URL is longer than {MAX_URL} bytes");
            return Err(Fault::new(OpErrorKind::TooLarge, reason));
        }
        let url = url.trim_matches(|c: char| c.is_ascii_whitespace());
        let Some((scheme, rest)) = split_scheme(url) else {
            return Err(Fault::protocol("not an absolute URL (http://…)"));
        };
        let tls = scheme.eq_ignore_ascii_case("https");
        if !(scheme.eq_ignore_ascii_case("http") || (tls && platform.tls)) {
            let reason = format!(
                "{}: URLs are not supported here, only {}",
                scheme.to_ascii_lowercase(),
                if platform.tls {
                    "http: and https:"
                } else {
                    "http:"
                }
            );
            return Err(Fault::new(OpErrorKind::Unsupported, reason));
        }
        let Some(rest) = rest.strip_prefix("//") else {
            return Err(Fault::protocol("`//` is missing behind the scheme"));
        };
        let rest = without_fragment(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (login, authority) = match authority.rsplit_once('@') {
            Some((login, authority)) => (Some(basic(login)), authority),
            None => (None, authority),
        };
        let (host, port) = split_port(authority)?;
        let (path, query) = split_query(rest);
        Ok(Self {
            tls,
            login,
            host: read_host(host, platform)?,
            port: port.unwrap_or(default_port(tls)),
            path: normal_path(path),
            query: query.map(normal_query),
        })
    }

    /// What a `Location` of an answer from here names (RFC 3986 §5.2.2).
    pub(super) fn join(&self, location: &str, platform: Platform) -> Result<Self, Fault> {
        if location.len() > MAX_URL {
            let reason = format!("the Location is longer than {MAX_URL} bytes");
            return Err(Fault::new(OpErrorKind::TooLarge, reason));
        }
        let location = location.trim_matches(|c: char| c.is_ascii_whitespace());
        if split_scheme(location).is_some() {
            return Self::parse(location, platform);
        }
        if location.starts_with("//") {
            return Self::parse(&format!("{}:{location}", self.scheme()), platform);
        }
        let (path, query) = split_query(without_fragment(location));
        let mut to = self.clone();
        if path.is_empty() {
            if query.is_some() {
                to.query = query.map(normal_query);
            }
            return Ok(to);
        }
        to.query = query.map(normal_query);
        to.path = if path.starts_with('/') {
            normal_path(path)
        } else {
            let folder = self.path.rfind('/').map_or("/", |at| &self.path[..=at]);
            normal_path(&format!("{folder}{path}"))
        };
        Ok(to)
    }

    pub(super) fn host(&self) -> Host<'_> {
        match &self.host {
            Owned::Name(name) => Host::Name(name),
            Owned::Ip(ip) => Host::Ip(*ip),
        }
    }

    const fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The request target in origin form (RFC 9112 §3.2.1).
    pub(super) fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// Host and port, the latter only if it is not the usual one: a `Host` field (RFC 9110 §7.2).
    pub(super) fn authority(&self) -> String {
        let mut authority = match &self.host {
            Owned::Name(name) => name.clone(),
            Owned::Ip(IpAddr::V4(ip)) => format!("{ip}"),
            Owned::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
        };
        if self.port != default_port(self.tls) {
            authority.push_str(&format!(":{}", self.port));
        }
        authority
    }
}

/// For messages: without the query, which is long, binary and may hold a secret key.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.path)
    }
}

/// A URL that may not be one, for messages: without its query and without credentials.
pub(super) fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    let authority = url.find("://").map_or(0, |at| at + 3);
    let (before, rest) = url.split_at(authority);
    let end = rest.find('/').unwrap_or(rest.len());
    let bare = rest[..end].rfind('@').map_or(rest, |at| &rest[at + 1..]);
    printable(format!("{before}{bare}").as_bytes())
}

/// The scheme and what stands behind its colon (RFC 3986 §3.1).
fn split_scheme(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once(':')?;
    let mut bytes = scheme.bytes();
    let named = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    named.then_some((scheme, rest))
}

fn without_fragment(url: &str) -> &str {
    url.split_once('#').map_or(url, |(before, _)| before)
}

fn split_query(rest: &str) -> (&str, Option<&str>) {
    match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    }
}

/// `user:password`, percent-encoded in a URL (RFC 3986 §3.2.1), as RFC 7617 wants it.
fn basic(login: &str) -> String {
    let mut plain: Vec<u8> = percent_decode_str(login).collect();
    if !plain.contains(&b':') {
        plain.push(b':');
    }
    BASE64.encode(&plain)
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), Fault> {
    // The colons of an IPv6 address stand within its brackets.
    let at = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority[at..].find(':') else {
        return Ok((authority, None));
    };
    let (host, port) = (&authority[..at + colon], &authority[at + colon + 1..]);
    if port.is_empty() {
        return Ok((host, None));
    }
    match port.parse() {
        Ok(number @ 1..) if port.bytes().all(|b| b.is_ascii_digit()) => Ok((host, Some(number))),
        _ => Err(Fault::protocol("the port is not a number from 1 to 65535")),
    }
}

fn read_host(host: &str, platform: Platform) -> Result<Owned, Fault> {
    if let Some(rest) = host.strip_prefix('[') {
        let address = rest.strip_suffix(']').map(str::parse::<Ipv6Addr>);
        return match address {
            Some(Ok(ip)) => Ok(Owned::Ip(ip.into())),
            _ => Err(Fault::protocol("no IPv6 address in the brackets")),
        };
    }
    let ascii;
    let host = match platform.to_ascii {
        _ if host.is_ascii() => host,
        Some(to_ascii) => {
            let Some(name) = to_ascii(host) else {
                return Err(Fault::protocol("not a host name"));
            };
            ascii = name;
            ascii.as_str()
        }
        None => {
            let reason = "a host name beyond ASCII is not supported: write it as xn--…";
            return Err(Fault::new(OpErrorKind::Unsupported, reason));
        }
    };
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(Owned::Ip(ip.into()));
    }
    if host.is_empty() {
        return Err(Fault::protocol("the host is missing"));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if host.len() > MAX_NAME || host.starts_with('.') || !host.bytes().all(allowed) {
        return Err(Fault::protocol("not a host name"));
    }
    // `127.1`, `0x7f.0.0.1`: addresses to some, names to others, so neither here.
    let mut labels = host.trim_end_matches('.').rsplit('.');
    let last = labels.next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let numeric = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
    if numeric || hex.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit())) {
        return Err(Fault::protocol("neither a host name nor an IPv4 address"));
    }
    Ok(Owned::Name(host.to_ascii_lowercase()))
}

/// The path encoded and without dot segments (RFC 3986 §5.2.4).
fn normal_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut open = false; // ends in a slash
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        open = true;
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            name => {
                segments.push(name);
                open = false;
            }
        }
    }
    let mut normal = String::with_capacity(path.len() + 1);
    for segment in segments {
        normal.push('/');
        normal.extend(utf8_percent_encode(segment, IN_PATH));
    }
    if open || normal.is_empty() {
        normal.push('/');
    }
    normal
}

fn normal_query(query: &str) -> String {
    utf8_percent_encode(query, IN_QUERY).collect()
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    const PLAIN: Platform = Platform {
        tls: false,
        compression: false,
        to_ascii: None,
    };

    fn url(text: &str) -> Url {
        Url::parse(text, PLAIN).unwrap()
    }

    fn refused(text: &str) -> OpErrorKind {
        Url::parse(text, PLAIN).unwrap_err().kind
    }

    #[test]
    fn a_url_is_taken_apart() {
        let u = url("HTTP://Tracker.Example:6969/a/b?info_hash=%ff&x=1#top");
        assert_eq!((u.host(), u.port), (Host::Name("tracker.example"), 6969));
        assert_eq!(u.target(), "/a/b?info_hash=%ff&x=1");
        assert_eq!(u.authority(), "tracker.example:6969");
        assert_eq!(u.to_string(), "http://tracker.example:6969/a/b");

        let u = url("http://192.0.2.7");
        assert_eq!((u.host(), u.port), (Host::Ip([192, 0, 2, 7].into()), 80));
        assert_eq!(u.target(), "/");
        assert_eq!(u.authority(), "192.0.2.7");

        let u = url("http://[2001:db8::1]:8080?q");
        let ip: Ipv6Addr = "2001:db8::1".parse().unwrap();
        assert_eq!((u.host(), u.port), (Host::Ip(ip.into()), 8080));
        assert_eq!(u.target(), "/?q");
        assert_eq!(u.authority(), "[2001:db8::1]:8080");
        assert_eq!(url("http://a:/").port, 80);
    }

    #[test]
    fn what_is_no_plain_http_url_is_refused_for_what_it_is() {
        for text in ["https://a/", "udp://a:1/", "http://ü/"] {
            assert_eq!(refused(text), OpErrorKind::Unsupported, "{text}");
        }
        for text in [
            "",
            "a/b",
            "//a",
            "http:/a",
            "http://",
            "http://:80/",
            "http://a:0/",
            "http://a:65536/",
            "http://a:+1/",
            "http://a:b/",
            "http://[::1",
            "http://[::1%25eth0]/",
            "http://::1/",
            "http://[1.2.3.4]/",
            "http://127.1/",
            "http://0x7f.0.0.0x1/",
            "http://1.2.3.4.5/",
            "http://a b/",
            "http://a%20/",
            "http://.a/",
            "http://a\\b/",
            "http://256.0.0.1/",
        ] {
            assert_eq!(refused(text), OpErrorKind::Io, "{text}");
        }
        let long = alloc::format!("http://a/{}", "x".repeat(MAX_URL));
        assert_eq!(refused(&long), OpErrorKind::TooLarge);
    }

    #[test]
    fn nothing_in_a_url_gets_out_of_the_request_line() {
        let u = url("http://a/b c\r\nX: y/é?q r\r\n\u{7f}<>");
        let target = u.target();
        assert_eq!(target, "/b%20c%0D%0AX:%20y/%C3%A9?q%20r%0D%0A%7F%3C%3E");
    }

    #[test]
    fn locations_are_resolved_as_the_standard_does() {
        // RFC 3986 §5.4, as far as http goes.
        let base = url("http://a/b/c/d;p?q");
        for (location, expected) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("g#s", "http://a/b/c/g"),
            (";x", "http://a/b/c/;x"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("http://h:1/i?j", "http://h:1/i?j"),
        ] {
            let to = base.join(location, PLAIN).unwrap();
            let whole = format!("http://{}{}", to.authority(), to.target());
            assert_eq!(whole, expected, "{location}");
        }
        assert!(base.join("https://a/", PLAIN).is_err());
        assert!(base.join("mailto:x", PLAIN).is_err());
    }

    #[test]
    fn a_platform_adds_tls_and_names_beyond_ascii() {
        let more = Platform {
            tls: true,
            to_ascii: Some(|name| match name {
                "bücher.example" => Some("xn--bcher-kva.example".into()),
                "１.2.3.4" => Some("1.2.3.4".into()),
                _ => None,
            }),
            ..PLAIN
        };
        let parse = |text: &str| Url::parse(text, more);
        let u = parse("HTTPS://bücher.example/a b/ü?q=ß x").unwrap();
        let name = "xn--bcher-kva.example";
        assert_eq!((u.host(), u.port, u.tls), (Host::Name(name), 443, true));
        assert_eq!(u.target(), "/a%20b/%C3%BC?q=%C3%9F%20x");
        assert_eq!(u.to_string(), format!("https://{name}/a%20b/%C3%BC"));
        assert_eq!(parse("https://a:8443/").unwrap().authority(), "a:8443");
        assert_eq!(parse("https://a:80/").unwrap().authority(), "a:80");
        // This looks like a name, but is an address.
        let ip = Host::Ip([1, 2, 3, 4].into());
        assert_eq!(parse("http://１.2.3.4/").unwrap().host(), ip);
        assert_eq!(parse("http://ü/").unwrap_err().kind, OpErrorKind::Io);
        let to = |location: &str| u.join(location, more).unwrap();
        assert!(to("//b/").tls && to("/x").tls && !to("http://b/").tls);
    }

    #[test]
    fn a_login_is_taken_out_of_the_url() {
        let login = |text: &str| url(text).login;
        let basic = |text: &str| Some(BASE64.encode(text.as_bytes()));
        assert_eq!(login("http://user:p%40ss@a/"), basic("user:p@ss"));
        assert_eq!(login("http://user@a/"), basic("user:"));
        assert_eq!(login("http://a/x@y"), None);
        assert_eq!(url("http://u:p@h:81/x").to_string(), "http://h:81/x");
        assert_eq!(
            url("http://u:p@h/").join("/y", PLAIN).unwrap().login,
            basic("u:p")
        );
        assert_eq!(
            url("http://u:p@h/").join("http://h/", PLAIN).unwrap().login,
            None
        );
    }

    #[test]
    fn a_message_shows_neither_query_nor_password() {
        assert_eq!(shown("http://me:pw@a/b?key=1"), "http://a/b");
        assert_eq!(shown("nonsense?x"), "nonsense");
    }
}
