//! Tracker requests and answers, over HTTP (BEP 3, 7, 23, 24, 31, 48) and UDP (BEP 15, 41).
//!
//! The types here serve both transports; [`http`] and [`udp`] encode and decode them.

pub mod http;
mod peers;
pub mod udp;
mod url;

use alloc::{string::String, vec::Vec};
use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use crate::{
    id::{InfoHash, PeerId},
    outcome::{OpError, OpErrorKind},
};

pub use peers::{compact_v4, compact_v6, dialable};
pub use url::{MAX_URL, Scheme, TrackerUrl, encoded, parse_url};

/// Most peers taken from one answer. Trackers send 50 to 200; the rest of a longer list is
/// dropped, so that an answer costs at most 64 KiB.
pub const MAX_PEERS: usize = 2000;

/// Most characters kept of a text a tracker sends (failure reason, warning).
pub const MAX_TEXT: usize = 300;

/// Why an announce is made (BEP 3); the values are BEP 15's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnnounceEvent {
    /// A regular announce.
    #[default]
    None = 0,
    /// The download has just finished.
    Completed = 1,
    /// First announce.
    Started = 2,
    /// Last announce.
    Stopped = 3,
    /// A regular announce of a partial seed: it has all that it wants, but not all (BEP 21).
    Paused = 4,
}

impl AnnounceEvent {
    /// The value of the `event` parameter; `None` for a regular announce, which carries none.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Completed => Some("completed"),
            Self::Started => Some("started"),
            Self::Stopped => Some("stopped"),
            Self::Paused => Some("paused"),
        }
    }
}

/// The encryption that an announce asks the tracker to consider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Crypto {
    /// Not mentioned.
    #[default]
    Plain,
    /// `supportcrypto=1`: we support encryption.
    Supported,
    /// `requirecrypto=1`: we accept encrypted connections only.
    Required,
}

/// One announce, independent of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The info-hash of the torrent.
    pub info_hash: InfoHash,
    /// Our peer id.
    pub peer_id: PeerId,
    /// Payload bytes received since `started`.
    pub downloaded: u64,
    /// Payload bytes sent since `started`.
    pub uploaded: u64,
    /// Bytes still missing of the whole torrent; 0 makes us a seed.
    pub left: u64,
    /// The reason for the announce.
    pub event: AnnounceEvent,
    /// Secret that proves we are the same client after an address change.
    pub key: u32,
    /// The number of peers wanted; `None` leaves it to the tracker.
    pub numwant: Option<u32>,
    /// The port on which we accept connections.
    pub port: u16,
    /// The encryption we support or require (HTTP only).
    pub crypto: Crypto,
    /// Our IPv4 address, where it has to be told (BEP 7; the `IP address` field of BEP 15).
    pub ipv4: Option<Ipv4Addr>,
    /// Our IPv6 address, where it has to be told (BEP 7; HTTP only).
    pub ipv6: Option<Ipv6Addr>,
}

/// An answer of a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To an announce.
    Announce(AnnounceAnswer),
    /// To a scrape.
    Scrape(ScrapeAnswer),
}

/// The answer to an announce. Absent fields were not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceAnswer {
    /// The time between regular announces.
    pub interval: Option<Duration>,
    /// The minimum time between announces.
    pub min_interval: Option<Duration>,
    /// To be sent back with the next announce, byte for byte.
    pub tracker_id: Option<Vec<u8>>,
    /// A warning to show to the user; the answer is valid nevertheless.
    pub warning: Option<String>,
    /// Seeds.
    pub complete: Option<u32>,
    /// Leeches.
    pub incomplete: Option<u32>,
    /// Times the download was completed.
    pub downloaded: Option<u32>,
    /// Our address as the tracker sees it (BEP 24).
    pub external_ip: Option<IpAddr>,
    /// At most [`MAX_PEERS`], of either family.
    pub peers: Vec<SocketAddr>,
}

/// The answer to a scrape (BEP 48).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrapeAnswer {
    /// One entry for each hash of the request, in that order; `None` if the tracker does not know it.
    pub files: Vec<Option<ScrapeFile>>,
    /// `flags.min_request_interval`.
    pub min_interval: Option<Duration>,
}

/// A tracker's figures for one torrent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeFile {
    /// Seeds.
    pub complete: u32,
    /// Leeches.
    pub incomplete: u32,
    /// Times the download was completed.
    pub downloaded: u32,
}

/// When a tracker that refused may be asked again (BEP 31 `retry in`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After this long.
    After(Duration),
    /// Not at all.
    Never,
}

/// Why a tracker gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrackerError {
    /// No answer in time.
    Timeout,
    /// The name could not be resolved.
    Dns(String),
    /// The name has no address of the family that was asked for.
    NoAddress,
    /// Nobody listens there.
    Refused,
    /// The certificate or the TLS handshake failed; the text is the platform's.
    Tls(String),
    /// The server answered with this status and nothing useful.
    Http(u16),
    /// The tracker refused, with this text.
    Failure {
        /// `failure reason`, or the message of a UDP error.
        reason: String,
        /// `retry in`, or the intervals sent with the refusal.
        retry: Option<Retry>,
    },
    /// The answer is malformed.
    Malformed {
        /// What is wrong with it.
        what: &'static str,
        /// The printable beginning of the answer; may be empty.
        start: String,
    },
    /// The answer is larger than we accept.
    TooLarge,
    /// The scheme is not supported (`wss`, `dht`, …).
    Unsupported {
        /// The scheme.
        scheme: String,
    },
    /// The URL itself is wrong.
    BadUrl(&'static str),
    /// The request was cancelled.
    Cancelled,
    /// Too many queries are in progress already: no request was sent.
    Busy,
    /// The machine could not send the datagram.
    Unsent,
    /// The DHT found no peers, or does not run; the text is that of rTorrent.
    Dht(&'static str),
    /// Any other failure; the text is the platform's.
    Io(String),
}

impl TrackerError {
    /// Whether asking again is pointless until somebody changes something.
    #[must_use]
    pub(crate) const fn is_permanent(&self) -> bool {
        matches!(
            self,
            Self::Unsupported { .. }
                | Self::BadUrl(_)
                | Self::Failure {
                    retry: Some(Retry::Never),
                    ..
                }
        )
    }
}

impl fmt::Display for TrackerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::Dns(detail) => write!(f, "the name cannot be resolved: {detail}"),
            Self::NoAddress => f.write_str("no address of this family"),
            Self::Refused => f.write_str("connection refused"),
            Self::Tls(detail) => write!(f, "no secure connection: {detail}"),
            Self::Http(status) => write!(f, "HTTP status {status}"),
            Self::Failure { reason, .. } => write!(f, "the tracker refuses: {reason}"),
            Self::Malformed { what, start } if start.is_empty() => {
                write!(f, "the answer makes no sense: {what}")
            }
            Self::Malformed { what, start } => {
                write!(
                    f,
                    "the answer makes no sense: {what}; it begins \"{start}\""
                )
            }
            Self::TooLarge => f.write_str("the answer is too large"),
            Self::Unsupported { scheme } => write!(f, "unsupported kind of tracker: {scheme}"),
            Self::BadUrl(what) => write!(f, "bad URL: {what}"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Busy => f.write_str("too many trackers are being asked already"),
            Self::Unsent => f.write_str("the request cannot be sent: no route, or a firewall"),
            Self::Dht(words) => f.write_str(words),
            Self::Io(detail) => f.write_str(detail),
        }
    }
}

impl core::error::Error for TrackerError {}

impl From<OpError> for TrackerError {
    /// The meaning of a failed resolve or HTTP op for the tracker. Messages show it together with the
    /// tracker's URL, with which the detail of a failed HTTP op begins.
    fn from(mut error: OpError) -> Self {
        let is_url = |start: &str| start.starts_with("http://") || start.starts_with("https://");
        if let Some((start, reason)) = error.detail.split_once(": ")
            && is_url(start)
        {
            error.detail = reason.into();
        }
        match error.kind {
            OpErrorKind::TimedOut => Self::Timeout,
            OpErrorKind::NotFound => Self::Dns(error.detail),
            OpErrorKind::Refused => Self::Refused,
            OpErrorKind::Tls => Self::Tls(error.detail),
            OpErrorKind::TooLarge => Self::TooLarge,
            OpErrorKind::Cancelled => Self::Cancelled,
            _ => Self::Io(error.detail),
        }
    }
}

/// A tracker's text, made safe to show: lossy UTF-8, no control characters, [`MAX_TEXT`] at most.
#[must_use]
pub fn printable(text: &[u8]) -> String {
    // Four bytes a character at most: what is cut off here could not be shown anyway.
    let text = &text[..text.len().min(4 * MAX_TEXT)];
    let mut shown = String::new();
    for c in String::from_utf8_lossy(text).chars().take(MAX_TEXT) {
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            c if c.is_control() => {}
            c => shown.push(c),
        }
    }
    shown.truncate(shown.trim_end().len());
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_lose_control_characters_and_excess() {
        assert_eq!(printable(b"un\x1b[31mregistered\r\n"), "un[31mregistered");
        assert_eq!(printable(b"\xffok"), "\u{fffd}ok");
        assert_eq!(printable(&[b'x'; 5000]).len(), MAX_TEXT);
    }

    #[test]
    fn an_error_does_not_repeat_the_url() {
        for (kind, detail, shown) in [
            (
                OpErrorKind::NotFound,
                "http://host/announce: Name or service not known",
                "the name cannot be resolved: Name or service not known",
            ),
            (
                OpErrorKind::Io,
                "https://host:1/a: redirected to http://other/b: no route",
                "redirected to http://other/b: no route",
            ),
            (
                OpErrorKind::Io,
                "the proxy [::1]:9: no route",
                "the proxy [::1]:9: no route",
            ),
        ] {
            let detail = detail.into();
            let error = TrackerError::from(OpError { kind, detail });
            assert_eq!(alloc::format!("{error}"), shown);
        }
    }

    #[test]
    fn errors_read_as_sentences() {
        let error = TrackerError::Malformed {
            what: "not bencode",
            start: "<html>".into(),
        };
        assert_eq!(
            alloc::format!("{error}"),
            "the answer makes no sense: not bencode; it begins \"<html>\""
        );
        assert_eq!(
            TrackerError::from(OpError {
                kind: OpErrorKind::TimedOut,
                detail: "x".into()
            }),
            TrackerError::Timeout
        );
    }
}
