//! A torrent file: an info dictionary and how to find its swarm.

use alloc::{string::String, vec::Vec};
use core::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use bendy::encoding::{Encoder, Error as EmitError, SingleItemEncoder, SortedDictEncoder};

use super::{
    Error, Info, MAX_ADDRESSES, Place, Problem,
    info::{keys, parse},
    names::Charset,
};
use crate::{
    sync::Arc,
    wire::bencode::{List, Value},
};

/// A torrent file (BEP 3). What its hash does not cover is plain data, to be changed at will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torrent {
    /// What the hash covers.
    pub info: Arc<Info>,
    /// Trackers by tier, in the order to be tried (BEP 12); `announce` alone is one tier.
    pub trackers: Vec<Vec<String>>,
    /// URLs of web seeds (BEP 19, `url-list`).
    pub web_seeds: Vec<String>,
    /// DHT nodes to start from (BEP 5).
    pub nodes: Vec<HostPort>,
    /// Whatever the author wrote.
    pub comment: Option<String>,
    /// The program that made it.
    pub created_by: Option<String>,
    /// When it was made, in seconds since 1970.
    pub creation_date: Option<i64>,
    /// What encoding names without `.utf-8` have if they are not UTF-8. The names in
    /// [`Torrent::info`] were read with it.
    pub encoding: Option<String>,
}

keys!(TorrentKeys {
    announce: b"announce",
    announce_list: b"announce-list",
    comment: b"comment",
    comment_utf8: b"comment.utf-8",
    created_by: b"created by",
    creation_date: b"creation date",
    encoding: b"encoding",
    info: b"info",
    nodes: b"nodes",
    url_list: b"url-list",
});

impl Torrent {
    /// A torrent of which nothing is known but its info dictionary.
    #[must_use]
    pub const fn new(info: Arc<Info>) -> Self {
        Self {
            info,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            nodes: Vec::new(),
            comment: None,
            created_by: None,
            creation_date: None,
            encoding: None,
        }
    }

    /// Reads a torrent file. `info` must be right in every part. Around it the reader is as
    /// tolerant as for the network: keys in any order, bytes after the end, and keys whose values
    /// make no sense are passed over, as none of them is needed to fetch the files.
    pub fn parse(data: &[u8]) -> Result<Self, Error> {
        let (dict, _) = parse(data)?;
        let keys = TorrentKeys::read(dict);
        let info = keys
            .info
            .ok_or_else(|| Problem::Missing.at(Place::Top("info"), 0))?;
        let info = info
            .dict()
            .ok_or_else(|| Problem::WrongType("a dictionary").at(Place::Top("info"), info.at()))?;
        let encoding = text(keys.encoding, Charset::default());
        let charset = Charset::declared(encoding.as_deref());
        Ok(Self {
            info: Arc::new(Info::from_dict(info, charset)?),
            trackers: read_tiers(&keys),
            web_seeds: read_urls(keys.url_list).collect(),
            nodes: read_nodes(keys.nodes),
            comment: text(keys.comment_utf8, charset).or_else(|| text(keys.comment, charset)),
            created_by: text(keys.created_by, charset),
            creation_date: keys.creation_date.and_then(|v| v.int()),
            encoding,
        })
    }

    /// The torrent file, in canonical bencode around [`Info::raw`]. Keys that [`Torrent`] has no
    /// field for are not written.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // bendy cannot emit what is bencode already, and an info dictionary must keep its bytes:
        // so the keys before and after `info` are emitted apart, and joined around it.
        let before = emit_dict(|mut d| {
            let first = self.trackers.iter().flatten().next();
            pair(&mut d, b"announce", first)?;
            if self.trackers.iter().flatten().nth(1).is_some() {
                d.emit_pair_with(b"announce-list", |e| emit_tiers(e, &self.trackers))?;
            }
            pair(&mut d, b"comment", self.comment.as_ref())?;
            pair(&mut d, b"created by", self.created_by.as_ref())?;
            if let Some(date) = self.creation_date {
                d.emit_pair(b"creation date", date)?;
            }
            pair(&mut d, b"encoding", self.encoding.as_ref())
        });
        let after = emit_dict(|mut d| {
            if !self.nodes.is_empty() {
                d.emit_pair_with(b"nodes", |e| emit_nodes(e, &self.nodes))?;
            }
            if !self.web_seeds.is_empty() {
                d.emit_pair_with(b"url-list", |e| emit_strings(e, &self.web_seeds))?;
            }
            Ok(())
        });
        let before = before.strip_suffix(b"e").unwrap_or_default();
        let after = after.strip_prefix(b"d").unwrap_or_default();
        [before, b"4:info", self.info.raw(), after].concat()
    }
}

/// A host by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// DNS name, IPv4 address, or IPv6 address without brackets.
    pub host: String,
    /// UDP or TCP port, not 0.
    pub port: u16,
}

impl HostPort {
    /// Longest name that DNS has.
    const MAX_HOST_LEN: usize = 253;

    /// `None` if the port is 0 or the host no name at all.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Option<Self> {
        let sound = !host.is_empty()
            && host.len() <= Self::MAX_HOST_LEN
            && !host.contains(|c: char| c.is_whitespace() || c.is_control() || "[]/@".contains(c));
        (sound && port != 0).then(|| Self {
            host: host.into(),
            port,
        })
    }

    /// The address, if the host needs no resolving.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }
}

impl From<SocketAddr> for HostPort {
    fn from(addr: SocketAddr) -> Self {
        Self {
            host: alloc::format!("{}", addr.ip()),
            port: addr.port(),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Text that is not a `host:port`, `v4:port` or `[v6]:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotHostPort;

impl fmt::Display for NotHostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this is not a host and a port, like `host:6881` or `[2001:db8::1]:6881`")
    }
}

impl core::error::Error for NotHostPort {}

impl FromStr for HostPort {
    type Err = NotHostPort;

    fn from_str(s: &str) -> Result<Self, NotHostPort> {
        let (host, port) = s.rsplit_once(':').ok_or(NotHostPort)?;
        let port = port.parse().map_err(|_| NotHostPort)?;
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').ok_or(NotHostPort)?,
            None if host.contains(':') => return Err(NotHostPort),
            None => host,
        };
        Self::new(host, port).ok_or(NotHostPort)
    }
}

// ---- reading ----

fn text(value: Option<Value<'_>>, charset: Charset) -> Option<String> {
    value?.bytes().map(|bytes| charset.text(bytes))
}

fn url(value: Value<'_>) -> Option<String> {
    let url = value.str()?.trim();
    (!url.is_empty()).then(|| url.into())
}

/// One URL, or a list of them.
fn read_urls<'a>(value: Option<Value<'a>>) -> impl Iterator<Item = String> + use<'a> {
    let list = value.and_then(Value::list);
    let one = value.and_then(url);
    list.into_iter()
        .flat_map(|l| l.iter().filter_map(url))
        .chain(one)
        .take(MAX_ADDRESSES)
}

/// BEP 12: `announce-list` if it names a tracker, else `announce`. A tier that is written as a
/// string instead of a list is taken for a tier of one.
fn read_tiers(keys: &TorrentKeys<'_>) -> Vec<Vec<String>> {
    let mut tiers: Vec<Vec<String>> = Vec::new();
    let mut left = MAX_ADDRESSES;
    for tier in keys
        .announce_list
        .and_then(Value::list)
        .iter()
        .flat_map(List::iter)
        .take(MAX_ADDRESSES)
    {
        let mut urls = Vec::new();
        for url in read_urls(Some(tier)) {
            if left > 0 && !urls.contains(&url) && !tiers.iter().any(|t| t.contains(&url)) {
                left -= 1;
                urls.push(url);
            }
        }
        if !urls.is_empty() {
            tiers.push(urls);
        }
    }
    if tiers.is_empty() {
        tiers.extend(keys.announce.and_then(url).map(|url| Vec::from([url])));
    }
    tiers
}

fn read_nodes(value: Option<Value<'_>>) -> Vec<HostPort> {
    let node = |v: Value<'_>| {
        let mut pair = v.list()?.iter();
        let host = pair.next()?.str()?;
        HostPort::new(host, pair.next()?.uint()?.try_into().ok()?)
    };
    let list = value.and_then(Value::list);
    list.iter()
        .flat_map(List::iter)
        .filter_map(node)
        .take(MAX_ADDRESSES)
        .collect()
}

// ---- emitting ----

/// A dictionary in canonical bencode.
pub(super) fn emit_dict(
    content: impl FnOnce(SortedDictEncoder<'_>) -> Result<(), EmitError>,
) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder
        .emit_dict(content)
        .and_then(|()| encoder.get_output())
        .expect("callers write constant keys in order, each with its value")
}

/// The pair, if there is a value.
pub(super) fn pair(
    dict: &mut SortedDictEncoder<'_>,
    key: &[u8],
    value: Option<&String>,
) -> Result<(), EmitError> {
    value.map_or(Ok(()), |value| {
        dict.emit_pair_with(key, |e| e.emit_str(value))
    })
}

pub(super) fn emit_strings(e: SingleItemEncoder<'_>, strings: &[String]) -> Result<(), EmitError> {
    e.emit_list(|e| strings.iter().try_for_each(|s| e.emit_str(s)))
}

fn emit_tiers(e: SingleItemEncoder<'_>, tiers: &[Vec<String>]) -> Result<(), EmitError> {
    e.emit_list(|e| {
        let mut tiers = tiers.iter().filter(|tier| !tier.is_empty());
        tiers.try_for_each(|tier| e.emit_with(|e| emit_strings(e, tier)))
    })
}

fn emit_nodes(e: SingleItemEncoder<'_>, nodes: &[HostPort]) -> Result<(), EmitError> {
    e.emit_list(|e| {
        nodes.iter().try_for_each(|node| {
            e.emit_list(|e| {
                e.emit_str(&node.host)?;
                e.emit_int(node.port)
            })
        })
    })
}
