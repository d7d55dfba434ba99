//! Values to bytes.
use super::*;

/// A query to send.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the keys of the BEPs")]
pub enum QueryOut<'a> {
    /// BEP 5
    Ping,
    /// BEP 5, 32
    FindNode { target: NodeId, want: Option<Want> },
    /// BEP 5, 32, 33
    GetPeers {
        info_hash: NodeId,
        want: Option<Want>,
        scrape: bool,
        noseed: bool,
    },
    /// BEP 5, 33. `port` is sent also if it is implied.
    AnnouncePeer {
        info_hash: NodeId,
        token: &'a [u8],
        port: u16,
        implied_port: bool,
        seed: bool,
    },
    /// BEP 44
    Get {
        target: NodeId,
        seq: Option<i64>,
        want: Option<Want>,
    },
    /// BEP 44; `item.v` is bencode.
    Put { token: &'a [u8], item: Item<'a> },
    /// BEP 51
    SampleInfohashes { target: NodeId, want: Option<Want> },
}

/// A reply to send; what is empty or `None` is left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplyOut<'a> {
    /// `nodes`; `Some` of nothing is sent as an empty string.
    pub nodes: Option<&'a [u8]>,
    /// `nodes6`
    pub nodes6: Option<&'a [u8]>,
    /// `token`
    pub token: &'a [u8],
    /// `values`: compact peers of `value_len` bytes each, one after the other.
    pub values: &'a [u8],
    /// 6 or 18.
    pub value_len: usize,
    /// The item of a `get`: `v`, `k`, `sig`, `seq`.
    pub item: Item<'a>,
    /// `BFsd`
    pub seeds: Option<&'a [u8; BLOOM_LEN]>,
    /// `BFpe`
    pub leeches: Option<&'a [u8; BLOOM_LEN]>,
    /// `samples`
    pub samples: Option<&'a [u8]>,
    /// `num`
    pub num: Option<u64>,
    /// `interval`
    pub interval: Option<u64>,
}

/// Writes a query; `None` if `buf` is too short. Returns the length.
pub fn query(
    buf: &mut [u8],
    tid: &[u8],
    id: &NodeId,
    read_only: bool,
    query: &QueryOut<'_>,
) -> Option<usize> {
    let _ = (buf, tid, id, read_only, query);
    None
}

/// Writes a reply; `to` is told in `ip` (BEP 42). `None` if `buf` is too short. Returns the length.
pub fn reply(
    buf: &mut [u8],
    tid: &[u8],
    id: &NodeId,
    to: &SocketAddr,
    reply: &ReplyOut<'_>,
) -> Option<usize> {
    let _ = (buf, tid, id, to, reply);
    None
}

/// Writes an error; `None` if `buf` is too short. Returns the length.
pub fn error(buf: &mut [u8], tid: &[u8], code: u32, text: &str) -> Option<usize> {
    let _ = (buf, tid, code, text);
    None
}
