//! KRPC, the DHT's messages (BEP 5, with the keys of BEP 32, 33, 42, 43, 44, 51).
//!
//! A message is one dictionary in one datagram. It is parsed in one pass, borrowed, without
//! allocation, and written into the caller's buffer with sorted keys, as canonical bencode.

pub mod bloom;
mod emit;
mod parse;
mod scan;

use core::net::SocketAddr;

pub use emit::{QueryOut, ReplyOut, VERSION, error, query, reply};
pub use parse::{Malformed, parse};
pub use scan::is_canonical;

use crate::NodeId;

/// Longest transaction id that is echoed; a longer one is not an honest query.
pub const MAX_TID: usize = 20;
/// Longest token that is worth keeping for an announce.
pub const MAX_TOKEN: usize = 64;
/// The longest datagram that is parsed.
pub const MAX_DATAGRAM: usize = 1500;
/// Bytes of a node of `nodes`: id, IPv4 address, port (BEP 5).
pub const COMPACT_V4: usize = 26;
/// Bytes of a node of `nodes6`: id, IPv6 address, port (BEP 32).
pub const COMPACT_V6: usize = 38;
/// Longest salt in bytes (BEP 44).
pub const MAX_SALT: usize = 64;
/// Bytes of a bloom filter (BEP 33).
pub const BLOOM_LEN: usize = 256;

/// The methods of queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `ping`
    Ping,
    /// `find_node`
    FindNode,
    /// `get_peers`
    GetPeers,
    /// `announce_peer`
    AnnouncePeer,
    /// `get` (BEP 44)
    Get,
    /// `put` (BEP 44)
    Put,
    /// `sample_infohashes` (BEP 51)
    SampleInfohashes,
    /// An unknown method.
    Unknown,
}

/// Which tables a querier wants nodes from (BEP 32 `want`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// `n4`
    pub v4: bool,
    /// `n6`
    pub v6: bool,
}

/// A message: valid bencode, with fields that are not interpreted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `t`: at most [`MAX_TID`] bytes.
    pub tid: &'a [u8],
    /// `v`: client and version, as sent.
    pub version: Option<&'a [u8]>,
    /// `ro`: the sender answers no queries (BEP 43).
    pub read_only: bool,
    /// `ip`: our address as the sender sees it (BEP 42).
    pub ip: Option<SocketAddr>,
    /// Its kind.
    pub body: Body<'a>,
}

/// The kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// `y` = `q`
    Query(Method, Args<'a>),
    /// `y` = `r`
    Reply(Reply<'a>),
    /// `y` = `e`: code and text.
    Error(i64, &'a [u8]),
}

/// The arguments of a query. A field of the wrong type or length counts as absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Args<'a> {
    /// `id`
    pub id: Option<NodeId>,
    /// `target`
    pub target: Option<NodeId>,
    /// `info_hash`
    pub info_hash: Option<NodeId>,
    /// `want`, if given.
    pub want: Option<Want>,
    /// `token`
    pub token: Option<&'a [u8]>,
    /// `port`, if it is within 1 to 65535.
    pub port: Option<u16>,
    /// `implied_port` is not 0.
    pub implied_port: bool,
    /// `seed` is not 0 (BEP 33).
    pub seed: bool,
    /// `noseed` is not 0 (BEP 33).
    pub noseed: bool,
    /// `scrape` is not 0 (BEP 33).
    pub scrape: bool,
    /// The item of a `put`, and `seq` of a `get`.
    pub item: Item<'a>,
}

/// The fields of BEP 44, in a `put` and in the reply to a `get`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Item<'a> {
    /// `v`: the value, as bencode, as sent.
    pub v: Option<&'a [u8]>,
    /// `k`
    pub k: Option<&'a [u8; 32]>,
    /// `sig`
    pub sig: Option<&'a [u8; 64]>,
    /// `seq`
    pub seq: Option<i64>,
    /// `cas`
    pub cas: Option<i64>,
    /// `salt`
    pub salt: Option<&'a [u8]>,
    /// Whether one of the fields above was present with a wrong type or length.
    pub malformed: bool,
}

/// The values of a reply. A field of the wrong type or length counts as absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply<'a> {
    /// `id`
    pub id: Option<NodeId>,
    /// `nodes`: a multiple of [`COMPACT_V4`] bytes, else empty.
    pub nodes: &'a [u8],
    /// `nodes6`: a multiple of [`COMPACT_V6`] bytes, else empty.
    pub nodes6: &'a [u8],
    /// `token`
    pub token: Option<&'a [u8]>,
    /// `values`: a list as bencode; see [`Reply::peers`]. Empty if there is none.
    pub values: &'a [u8],
    /// The item of a `get`.
    pub item: Item<'a>,
    /// `BFsd`: seeds (BEP 33).
    pub seeds: Option<&'a [u8; BLOOM_LEN]>,
    /// `BFpe`: peers (BEP 33).
    pub leeches: Option<&'a [u8; BLOOM_LEN]>,
    /// `samples`: 20 bytes each (BEP 51).
    pub samples: Option<&'a [u8]>,
    /// `num`: info-hashes that the node knows (BEP 51).
    pub num: Option<u64>,
    /// `interval`: seconds until the sample changes (BEP 51).
    pub interval: Option<u64>,
}

#[cfg(test)]
mod tests;
