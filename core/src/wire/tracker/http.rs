//! The HTTP tracker protocol: writes URLs (BEP 3, 7, 23, 48) and parses bencoded answers (also BEP 24, 31).

use alloc::{string::String, vec::Vec};
use core::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::{
    AnnounceAnswer, AnnounceRequest, Crypto, MAX_PEERS, Retry, ScrapeAnswer, ScrapeFile,
    TrackerError, compact_v4, compact_v6, dialable, encoded, printable,
};
use crate::{
    id::InfoHash,
    wire::bencode::{Dict, Limits, Value},
};

/// The longest body that is accepted: [`MAX_PEERS`] dictionaries of some 100 bytes.
pub const MAX_BODY: usize = 256 * 1024;
/// Longest `tracker id` kept, as it goes into the next URL.
pub const MAX_TRACKER_ID: usize = 256;

/// Everything but the unreserved characters (RFC 3986 §2.3) is encoded.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A dictionary peer has eight values; the answer around them has a few dozen.
const LIMITS: Limits = Limits {
    depth: 8,
    items: 8 * MAX_PEERS as u32 + 1000,
};

/// The URL to GET for an announce. `base` is the tracker's URL, whose own query is kept.
#[must_use]
pub fn announce_url(base: &str, r: &AnnounceRequest, tracker_id: Option<&[u8]>) -> String {
    let mut url = Query::new(base);
    url.bytes("info_hash", &r.info_hash.0);
    url.bytes("peer_id", &r.peer_id.0);
    url.display("port", r.port);
    url.display("uploaded", r.uploaded);
    url.display("downloaded", r.downloaded);
    url.display("left", r.left);
    url.display("key", format_args!("{:08x}", r.key));
    url.display("compact", 1);
    url.display("no_peer_id", 1);
    if let Some(numwant) = r.numwant {
        url.display("numwant", numwant);
    }
    if let Some(event) = r.event.name() {
        url.display("event", event);
    }
    match r.crypto {
        Crypto::Plain => {}
        Crypto::Supported => url.display("supportcrypto", 1),
        Crypto::Required => url.display("requirecrypto", 1),
    }
    if let Some(ip) = r.ipv4 {
        url.display("ipv4", ip);
    }
    if let Some(ip) = r.ipv6 {
        let mut text = heapless::String::<39>::new();
        // 39 characters hold any IPv6 address without embedded IPv4; a longer one is not sent.
        if write!(text, "{ip}").is_ok() {
            url.bytes("ipv6", text.as_bytes());
        }
    }
    if let Some(id) = tracker_id {
        url.bytes("trackerid", id);
    }
    url.0
}

/// The URL to GET for a scrape; `None` if the tracker's URL does not allow one (BEP 48: the
/// text after the last slash has to begin with `announce`).
#[must_use]
pub fn scrape_url(base: &str, hashes: &[InfoHash]) -> Option<String> {
    let (before, last) = base.rsplit_once('/')?;
    let rest = last.strip_prefix("announce")?;
    let mut scrape = String::with_capacity(base.len() + 80 * hashes.len());
    scrape.push_str(before);
    scrape.push_str("/scrape");
    scrape.push_str(rest);
    let mut url = Query::new(&scrape);
    for hash in hashes {
        url.bytes("info_hash", &hash.0);
    }
    Some(url.0)
}

/// A URL to whose query parameters are appended.
struct Query(String);

impl Query {
    fn new(base: &str) -> Self {
        let base = base.split_once('#').map_or(base, |(before, _)| before);
        let mut url = String::with_capacity(base.len() + 400);
        // The host may have characters beyond ASCII; the platform encodes them (IDNA).
        let host = base.find("://").map_or(0, |at| at + 3);
        let path = base[host..]
            .find(['/', '?'])
            .map_or(base.len(), |at| host + at);
        url.push_str(&base[..path]);
        url.push_str(&encoded(&base[path..]));
        Self(url)
    }

    fn name(&mut self, name: &str) {
        match self.0.bytes().last() {
            Some(b'?' | b'&') => {}
            _ if self.0.contains('?') => self.0.push('&'),
            _ => self.0.push('?'),
        }
        self.0.push_str(name);
        self.0.push('=');
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.0.extend(percent_encode(value, RESERVED));
    }

    /// Appends a value that needs no encoding.
    fn display(&mut self, name: &str, value: impl core::fmt::Display) {
        self.name(name);
        // Writing to a `String` cannot fail.
        let _ = write!(self.0, "{value}");
    }
}

/// Reads the answer to an announce.
///
/// # Errors
/// [`TrackerError::Failure`] if the tracker says so, whatever the status; else
/// [`TrackerError::Http`] for a status that is not 200; else [`TrackerError::Malformed`].
pub fn parse_announce(status: u16, body: &[u8]) -> Result<AnnounceAnswer, TrackerError> {
    let answer = dictionary(status, body)?;
    let mut peers = Vec::new();
    if let Some(list) = answer.get(b"peers") {
        read_peers(list, &mut peers);
    }
    if let Some(list) = answer.bytes(b"peers6") {
        peers.extend(compact_v6(list).take(MAX_PEERS.saturating_sub(peers.len())));
    }
    Ok(AnnounceAnswer {
        interval: seconds(&answer, b"interval"),
        min_interval: seconds(&answer, b"min interval"),
        tracker_id: answer
            .bytes(b"tracker id")
            .filter(|id| !id.is_empty() && id.len() <= MAX_TRACKER_ID)
            .map(Into::into),
        warning: answer
            .bytes(b"warning message")
            .map(printable)
            .filter(|text| !text.is_empty()),
        complete: count(&answer, b"complete"),
        incomplete: count(&answer, b"incomplete"),
        downloaded: count(&answer, b"downloaded"),
        external_ip: answer.bytes(b"external ip").and_then(packed_ip),
        peers,
    })
}

/// Reads the answer to a scrape of `hashes`.
///
/// # Errors
/// As [`parse_announce`].
pub fn parse_scrape(
    status: u16,
    body: &[u8],
    hashes: &[InfoHash],
) -> Result<ScrapeAnswer, TrackerError> {
    let answer = dictionary(status, body)?;
    let Some(files) = answer.get(b"files").and_then(Value::dict) else {
        return Err(malformed("no files", body));
    };
    let file = |hash: &InfoHash| {
        let file = files.get(&hash.0)?.dict()?;
        Some(ScrapeFile {
            complete: count(&file, b"complete").unwrap_or(0),
            incomplete: count(&file, b"incomplete").unwrap_or(0),
            downloaded: count(&file, b"downloaded").unwrap_or(0),
        })
    };
    Ok(ScrapeAnswer {
        files: hashes.iter().map(file).collect(),
        min_interval: answer
            .get(b"flags")
            .and_then(Value::dict)
            .and_then(|flags| seconds(&flags, b"min_request_interval")),
    })
}

/// The dictionary of the answer, if it is not a refusal. Trackers send refusals with any status, so
/// the body is checked before the status.
fn dictionary(status: u16, body: &[u8]) -> Result<Dict<'_>, TrackerError> {
    let parsed = Dict::parse(body, LIMITS);
    if let Ok((answer, _)) = &parsed
        && let Some(reason) = answer.bytes(b"failure reason")
    {
        return Err(TrackerError::Failure {
            reason: printable(reason),
            retry: retry(answer),
        });
    }
    if status != 200 {
        return Err(TrackerError::Http(status));
    }
    match parsed {
        Ok((answer, _)) => Ok(answer),
        Err(_) if body.is_empty() => Err(malformed("empty", body)),
        Err(_) => Err(malformed("not a bencoded dictionary", body)),
    }
}

/// When a tracker that refuses may be asked again: as `retry in` says (BEP 31), else after the
/// longer of the intervals, which many trackers send with a refusal too.
fn retry(answer: &Dict<'_>) -> Option<Retry> {
    retry_in(answer).or_else(|| {
        let interval = seconds(answer, b"interval").max(seconds(answer, b"min interval"));
        interval.filter(|i| !i.is_zero()).map(Retry::After)
    })
}

/// `retry in`: minutes, or `never` (BEP 31).
fn retry_in(answer: &Dict<'_>) -> Option<Retry> {
    let value = answer.get(b"retry in")?;
    let minutes = match value.bytes() {
        Some(b"never") => return Some(Retry::Never),
        Some(text) => core::str::from_utf8(text).ok()?.parse::<u32>().ok()?,
        None => u32::try_from(value.uint()?).ok()?,
    };
    Some(Retry::After(Duration::from_secs(60 * u64::from(minutes))))
}

/// Peers in compact form or as dictionaries. Anything else counts as no peers, so that the rest of the
/// answer is not lost.
fn read_peers(list: Value<'_>, peers: &mut Vec<SocketAddr>) {
    if let Some(compact) = list.bytes() {
        peers.extend(compact_v4(compact).take(MAX_PEERS));
    } else if let Some(list) = list.list() {
        peers.extend(list.iter().filter_map(dictionary_peer).take(MAX_PEERS));
    }
}

/// A peer as BEP 3 has it. `ip` may be a name there; those are not looked up, as a hostile
/// tracker could make us resolve anything.
fn dictionary_peer(peer: Value<'_>) -> Option<SocketAddr> {
    let peer = peer.dict()?;
    let ip: IpAddr = peer.get(b"ip")?.str()?.parse().ok()?;
    let port = u16::try_from(peer.get(b"port")?.uint()?).ok()?;
    Some(SocketAddr::new(ip.to_canonical(), port)).filter(dialable)
}

/// 4 or 16 bytes (BEP 24).
fn packed_ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes)
        .ok()
        .map(|v6| IpAddr::from(v6).to_canonical())
}

fn seconds(dict: &Dict<'_>, key: &[u8]) -> Option<Duration> {
    count(dict, key).map(|secs| Duration::from_secs(secs.into()))
}

fn count(dict: &Dict<'_>, key: &[u8]) -> Option<u32> {
    dict.get(key)?
        .uint()
        .map(|n| u32::try_from(n).unwrap_or(u32::MAX))
}

fn malformed(what: &'static str, body: &[u8]) -> TrackerError {
    /// Enough to recognise a login page or an error message.
    const SHOWN: usize = 60;
    TrackerError::Malformed {
        what,
        start: printable(&body[..body.len().min(SHOWN)]),
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
