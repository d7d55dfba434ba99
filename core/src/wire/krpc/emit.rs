//! Writes KRPC messages with sorted keys: what we send is canonical bencode.

use super::*;

/// Our client and version in `v`: two letters, two bytes of version.
pub const VERSION: [u8; 4] = [b'D', b'N', 0, 1];

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
    /// BEP 44; `item.v` is bencode. The BEP derives the target from the item; some nodes refuse a query that does not
    /// name it.
    Put {
        target: NodeId,
        token: &'a [u8],
        item: Item<'a>,
    },
    /// BEP 51
    SampleInfohashes { target: NodeId, want: Option<Want> },
}

/// A reply to send; fields that are empty or `None` are omitted.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplyOut<'a> {
    /// `nodes`; an empty `Some` is sent as an empty string.
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

/// The caller's buffer and the number of bytes written so far.
struct Out<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl<'a> Out<'a> {
    const fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, len: 0 }
    }

    /// Bytes of a length known to the compiler: a few moves.
    #[inline(always)]
    fn put<const N: usize>(&mut self, bytes: &[u8; N]) -> Option<()> {
        let (room, _) = self.buf.get_mut(self.len..)?.split_first_chunk_mut::<N>()?;
        *room = *bytes;
        self.len += N;
        Some(())
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len.checked_add(bytes.len())?;
        self.buf.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }

    fn decimal(&mut self, n: u64) -> Option<()> {
        if n < 10 {
            return self.put(&[b'0' + n as u8]);
        }
        // As many digits as the largest number has.
        let mut digits = [0; 20];
        let (mut at, mut n) = (digits.len(), n);
        while n != 0 && at > 0 {
            at -= 1;
            *digits.get_mut(at)? = b'0' + (n % 10) as u8;
            n /= 10;
        }
        self.bytes(digits.get(at..)?)
    }

    #[inline]
    fn string(&mut self, string: &[u8]) -> Option<()> {
        self.decimal(string.len() as u64)?;
        self.put(b":")?;
        self.bytes(string)
    }

    /// A number of at most 64 bits.
    #[inline]
    fn int(&mut self, n: impl Into<i128>) -> Option<()> {
        let n = n.into();
        self.put(b"i")?;
        if n < 0 {
            self.put(b"-")?;
        }
        self.decimal(n.unsigned_abs() as u64)?;
        self.put(b"e")
    }

    /// A pair whose value has a length that `key` ends with, if there is one.
    #[inline]
    fn fixed<const K: usize, const N: usize>(
        &mut self,
        key: &[u8; K],
        value: Option<&[u8; N]>,
    ) -> Option<()> {
        let Some(value) = value else { return Some(()) };
        self.put(key)?;
        self.put(value)
    }

    /// A pair of `key` and a string, if there is one.
    #[inline]
    fn pair<const K: usize>(&mut self, key: &[u8; K], value: Option<&[u8]>) -> Option<()> {
        let Some(value) = value else { return Some(()) };
        self.put(key)?;
        self.string(value)
    }

    /// A pair of `key` and a number, if there is one.
    #[inline]
    fn number<const K: usize>(
        &mut self,
        key: &[u8; K],
        value: Option<impl Into<i128>>,
    ) -> Option<()> {
        let Some(value) = value else { return Some(()) };
        self.put(key)?;
        self.int(value)
    }

    /// A pair of `key` and a value that is already bencode, if there is one.
    #[inline]
    fn value<const K: usize>(&mut self, key: &[u8; K], value: Option<&[u8]>) -> Option<()> {
        let Some(value) = value else { return Some(()) };
        self.put(key)?;
        self.bytes(value)
    }

    fn want(&mut self, want: Option<Want>) -> Option<()> {
        match want {
            None => Some(()),
            Some(Want { v4: true, v6: true }) => self.put(b"4:wantl2:n42:n6e"),
            Some(Want { v4: true, .. }) => self.put(b"4:wantl2:n4e"),
            Some(Want { v6: true, .. }) => self.put(b"4:wantl2:n6e"),
            Some(_) => self.put(b"4:wantle"),
        }
    }

    /// `t` and `v`, the same in queries and replies.
    #[inline]
    fn tid_and_version(&mut self, tid: &[u8]) -> Option<()> {
        self.put(b"1:t")?;
        self.string(tid)?;
        self.put(b"1:v4:")?;
        self.put(&VERSION)
    }
}

/// Writes a query; `None` if `buf` is too short. Returns the length.
pub fn query(
    buf: &mut [u8],
    tid: &[u8],
    id: &NodeId,
    read_only: bool,
    query: &QueryOut<'_>,
) -> Option<usize> {
    let mut out = Out::new(buf);
    match query {
        QueryOut::Put { item, .. } => {
            out.put(b"d1:ad")?;
            out.number(b"3:cas", item.cas)?;
            out.put(b"2:id20:")?;
        }
        _ => out.put(b"d1:ad2:id20:")?,
    }
    out.put(&id.0)?;
    match *query {
        QueryOut::Ping => out.put(b"e1:q4:ping")?,
        QueryOut::FindNode { target, want } => {
            out.put(b"6:target20:")?;
            out.put(&target.0)?;
            out.want(want)?;
            out.put(b"e1:q9:find_node")?;
        }
        QueryOut::GetPeers {
            info_hash,
            want,
            scrape,
            noseed,
        } => {
            out.put(b"9:info_hash20:")?;
            out.put(&info_hash.0)?;
            if noseed {
                out.put(b"6:noseedi1e")?;
            }
            if scrape {
                out.put(b"6:scrapei1e")?;
            }
            out.want(want)?;
            out.put(b"e1:q9:get_peers")?;
        }
        QueryOut::AnnouncePeer {
            info_hash,
            token,
            port,
            implied_port,
            seed,
        } => {
            if implied_port {
                out.put(b"12:implied_porti1e")?;
            }
            out.put(b"9:info_hash20:")?;
            out.put(&info_hash.0)?;
            out.number(b"4:port", Some(port))?;
            if seed {
                out.put(b"4:seedi1e")?;
            }
            out.pair(b"5:token", Some(token))?;
            out.put(b"e1:q13:announce_peer")?;
        }
        QueryOut::Get { target, seq, want } => {
            out.number(b"3:seq", seq)?;
            out.put(b"6:target20:")?;
            out.put(&target.0)?;
            out.want(want)?;
            out.put(b"e1:q3:get")?;
        }
        QueryOut::Put {
            target,
            token,
            item,
        } => {
            out.fixed(b"1:k32:", item.k)?;
            out.pair(b"4:salt", item.salt.filter(|salt| !salt.is_empty()))?;
            out.number(b"3:seq", item.seq)?;
            out.fixed(b"3:sig64:", item.sig)?;
            out.put(b"6:target20:")?;
            out.put(&target.0)?;
            out.pair(b"5:token", Some(token))?;
            out.value(b"1:v", item.v)?;
            out.put(b"e1:q3:put")?;
        }
        QueryOut::SampleInfohashes { target, want } => {
            out.put(b"6:target20:")?;
            out.put(&target.0)?;
            out.want(want)?;
            out.put(b"e1:q17:sample_infohashes")?;
        }
    }
    if read_only {
        out.put(b"2:roi1e")?;
    }
    out.tid_and_version(tid)?;
    out.put(b"1:y1:qe")?;
    Some(out.len)
}

/// Writes a reply; `to` is its recipient's address, sent in `ip` (BEP 42). `None` if `buf` is too short. Returns the length.
pub fn reply(
    buf: &mut [u8],
    tid: &[u8],
    id: &NodeId,
    to: &SocketAddr,
    reply: &ReplyOut<'_>,
) -> Option<usize> {
    let mut out = Out::new(buf);
    match to {
        SocketAddr::V4(to) => {
            out.put(b"d2:ip6:")?;
            out.put(&to.ip().octets())?;
        }
        SocketAddr::V6(to) => {
            out.put(b"d2:ip18:")?;
            out.put(&to.ip().octets())?;
        }
    }
    out.put(&to.port().to_be_bytes())?;
    out.put(b"1:rd")?;
    out.fixed(b"4:BFpe256:", reply.leeches)?;
    out.fixed(b"4:BFsd256:", reply.seeds)?;
    out.put(b"2:id20:")?;
    out.put(&id.0)?;
    out.number(b"8:interval", reply.interval)?;
    let item = &reply.item;
    out.fixed(b"1:k32:", item.k)?;
    out.pair(b"5:nodes", reply.nodes)?;
    out.pair(b"6:nodes6", reply.nodes6)?;
    out.number(b"3:num", reply.num)?;
    out.pair(b"7:samples", reply.samples)?;
    out.number(b"3:seq", item.seq)?;
    out.fixed(b"3:sig64:", item.sig)?;
    out.pair(b"5:token", (!reply.token.is_empty()).then_some(reply.token))?;
    out.value(b"1:v", item.v)?;
    values(&mut out, reply)?;
    out.put(b"e")?;
    out.tid_and_version(tid)?;
    out.put(b"1:y1:re")?;
    Some(out.len)
}

/// `values`, if there are any.
fn values(out: &mut Out<'_>, reply: &ReplyOut<'_>) -> Option<()> {
    if reply.values.len() < reply.value_len.max(1) {
        return Some(());
    }
    out.put(b"6:valuesl")?;
    match reply.value_len {
        6 => {
            for &[a, b, c, d, e, f] in reply.values.as_chunks::<6>().0 {
                out.put(&[b'6', b':', a, b, c, d, e, f])?;
            }
        }
        18 => {
            for peer in reply.values.as_chunks::<18>().0 {
                out.put(b"18:")?;
                out.put(peer)?;
            }
        }
        _ => {}
    }
    out.put(b"e")
}

/// Writes an error of at most `max` bytes, the text being cut as needed; `None` if one without any
/// text is too long for `max` or `buf`. Returns the length.
///
/// With the length of the query as `max`, a forged source is never sent more bytes than the query had.
pub fn error(buf: &mut [u8], tid: &[u8], code: u32, text: &str, max: usize) -> Option<usize> {
    let max = buf.len().min(max);
    let mut out = Out::new(buf.get_mut(..max)?);
    out.put(b"d1:eli")?;
    out.decimal(code.into())?;
    out.put(b"e")?;
    // What comes after the text: e1:t<tid>1:y1:ee
    let after = 11 + string_len(tid.len());
    let room = (max - out.len).checked_sub(after)?;
    let mut keep = text.len().min(room);
    while string_len(keep) > room {
        keep = keep.checked_sub(1)?;
    }
    out.string(text.as_bytes().get(..keep)?)?;
    out.put(b"e1:t")?;
    out.string(tid)?;
    out.put(b"1:y1:ee")?;
    Some(out.len)
}

/// Length of a string of `len` bytes as bencode.
const fn string_len(len: usize) -> usize {
    let digits = match len.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    };
    digits + 1 + len
}
