//! Parses KRPC messages in one pass, without allocation or recursion.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::scan::{Int, Scan};
use super::*;
use crate::wire::tracker::dialable;

/// Shortest message there is: `d1:rde1:t0:1:y1:re` is 18 bytes, and nobody sends less than
/// `d1:t1:x1:y1:qe`.
const MIN_DATAGRAM: usize = 15;

/// Why a datagram is not a KRPC message. None of these is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("this is not a message of the DHT")
    }
}

impl core::error::Error for Malformed {}

/// The keys of a dictionary that were seen, as the first of duplicates counts.
#[derive(Default)]
struct Seen(u32);

impl Seen {
    const fn first(&mut self, key: u32) -> bool {
        let new = self.0 & 1 << key == 0;
        self.0 |= 1 << key;
        new
    }
}

/// Reads a message. Unsorted and unknown keys are tolerated, as are bytes after the dictionary; of
/// duplicate keys the first counts.
///
/// # Errors
/// [`Malformed`] if it is not a bencoded dictionary, lacks what every message has (`t` and `y`), or is
/// longer, deeper or fuller than any message.
pub fn parse(data: &[u8]) -> Result<Message<'_>, Malformed> {
    if data.len() < MIN_DATAGRAM || data.len() > MAX_DATAGRAM {
        return Err(Malformed);
    }
    let mut scan = Scan::new(data);
    if !scan.enter(b'd')? {
        return Err(Malformed);
    }
    let (mut tid, mut version, mut kind, mut read_only, mut ip) = (None, None, None, false, None);
    let (mut method, mut error) = (Method::Unknown, (0, &[][..]));
    let mut args = RawArgs::default();
    let mut reply = None;
    let mut seen = Seen::default();
    while !scan.leave()? {
        match scan.string()? {
            b"a" if seen.first(0) => args.read(&mut scan)?,
            b"q" if seen.first(1) => method = scan.bytes(1)?.map_or(Method::Unknown, method_of),
            b"t" if seen.first(2) => tid = scan.bytes(1)?,
            b"v" if seen.first(3) => version = scan.bytes(1)?,
            b"y" if seen.first(4) => kind = scan.bytes(1)?,
            b"r" if seen.first(5) => reply = self::reply(&mut scan)?,
            b"e" if seen.first(6) => error = self::error(&mut scan)?,
            b"ip" if seen.first(7) => ip = scan.bytes(1)?.and_then(compact_addr),
            b"ro" if seen.first(8) => read_only = flag(&mut scan, 1)?,
            _ => scan.skip(1)?,
        }
    }
    let tid = tid.filter(|tid| tid.len() <= MAX_TID).ok_or(Malformed)?;
    let body = match kind {
        Some(b"q") => Body::Query(method, args.finish()),
        Some(b"r") => Body::Reply(reply.unwrap_or_default()),
        Some(b"e") => Body::Error(error.0, error.1),
        _ => return Err(Malformed),
    };
    Ok(Message {
        tid,
        version,
        read_only,
        ip,
        body,
    })
}

#[inline]
fn method_of(name: &[u8]) -> Method {
    match name {
        b"ping" => Method::Ping,
        b"find_node" => Method::FindNode,
        b"get_peers" => Method::GetPeers,
        b"announce_peer" => Method::AnnouncePeer,
        b"get" => Method::Get,
        b"put" => Method::Put,
        b"sample_infohashes" => Method::SampleInfohashes,
        _ => Method::Unknown,
    }
}

/// The arguments of a query as references into it, so that little is moved while they are parsed.
#[derive(Default)]
struct RawArgs<'a> {
    id: Option<&'a [u8; 20]>,
    target: Option<&'a [u8; 20]>,
    info_hash: Option<&'a [u8; 20]>,
    token: Option<&'a [u8]>,
    want: Option<Want>,
    port: Option<u16>,
    implied_port: bool,
    seed: bool,
    noseed: bool,
    scrape: bool,
    item: Item<'a>,
}

impl<'a> RawArgs<'a> {
    #[inline(always)]
    fn finish(&self) -> Args<'a> {
        let id = |id: Option<&[u8; 20]>| id.map(|id| NodeId(*id));
        Args {
            id: id(self.id),
            target: id(self.target),
            info_hash: id(self.info_hash),
            want: self.want,
            token: self.token,
            port: self.port,
            implied_port: self.implied_port,
            seed: self.seed,
            noseed: self.noseed,
            scrape: self.scrape,
            item: self.item,
        }
    }

    /// Reads them; nothing is filled in if they are not a dictionary.
    #[inline(always)]
    fn read(&mut self, scan: &mut Scan<'a>) -> Result<(), Malformed> {
        if !scan.enter(b'd')? {
            return scan.skip(1);
        }
        let mut seen = Seen::default();
        while !scan.leave()? {
            match scan.string()? {
                b"id" if seen.first(0) => self.id = scan.array(2)?,
                b"target" if seen.first(1) => self.target = scan.array(2)?,
                b"info_hash" if seen.first(2) => self.info_hash = scan.array(2)?,
                b"token" if seen.first(3) => self.token = scan.bytes(2)?,
                key => self.read_more(key, scan, &mut seen)?,
            }
        }
        Ok(())
    }

    /// The rarer arguments.
    fn read_more(
        &mut self,
        key: &[u8],
        scan: &mut Scan<'a>,
        seen: &mut Seen,
    ) -> Result<(), Malformed> {
        match key {
            b"want" if seen.first(4) => self.want = want(scan)?,
            b"port" if seen.first(5) => self.port = port(scan)?,
            b"implied_port" if seen.first(6) => self.implied_port = flag(scan, 2)?,
            b"seed" if seen.first(7) => self.seed = flag(scan, 2)?,
            b"noseed" if seen.first(8) => self.noseed = flag(scan, 2)?,
            b"scrape" if seen.first(9) => self.scrape = flag(scan, 2)?,
            key => item_field(scan, key, &mut self.item, seen)?,
        }
        Ok(())
    }
}

/// The values of a reply; `None` if they are not a dictionary.
fn reply<'a>(scan: &mut Scan<'a>) -> Result<Option<Reply<'a>>, Malformed> {
    if !scan.enter(b'd')? {
        scan.skip(1)?;
        return Ok(None);
    }
    let mut reply = Reply::default();
    let mut seen = Seen::default();
    while !scan.leave()? {
        match scan.string()? {
            b"id" if seen.first(0) => reply.id = node_id(scan)?,
            b"nodes" if seen.first(1) => reply.nodes = nodes(scan, COMPACT_V4)?,
            b"nodes6" if seen.first(2) => reply.nodes6 = nodes(scan, COMPACT_V6)?,
            b"token" if seen.first(3) => reply.token = scan.bytes(2)?,
            b"values" if seen.first(4) => {
                let raw = scan.raw(2)?;
                reply.values = if raw.starts_with(b"l") { raw } else { &[] };
            }
            b"BFsd" if seen.first(5) => reply.seeds = scan.array(2)?,
            b"BFpe" if seen.first(6) => reply.leeches = scan.array(2)?,
            b"samples" if seen.first(7) => {
                reply.samples = scan.bytes(2)?.filter(|s| s.len().is_multiple_of(20));
            }
            b"num" if seen.first(8) => reply.num = scan.int(2)?.and_then(Int::unsigned),
            b"interval" if seen.first(9) => {
                reply.interval = scan.int(2)?.and_then(Int::unsigned);
            }
            key => item_field(scan, key, &mut reply.item, &mut seen)?,
        }
    }
    Ok(Some(reply))
}

/// The value of `key`, if it is one of BEP 44; else it is skipped. Bits 16 and up of `seen` are
/// for these keys.
fn item_field<'a>(
    scan: &mut Scan<'a>,
    key: &[u8],
    item: &mut Item<'a>,
    seen: &mut Seen,
) -> Result<(), Malformed> {
    let sound = match key {
        b"v" if seen.first(16) => {
            item.v = Some(scan.raw(2)?);
            true
        }
        b"k" if seen.first(17) => {
            item.k = scan.array(2)?;
            item.k.is_some()
        }
        b"sig" if seen.first(18) => {
            item.sig = scan.array(2)?;
            item.sig.is_some()
        }
        b"seq" if seen.first(19) => {
            item.seq = scan.int(2)?.and_then(Int::signed);
            item.seq.is_some()
        }
        b"cas" if seen.first(20) => {
            item.cas = scan.int(2)?.and_then(Int::signed);
            item.cas.is_some()
        }
        b"salt" if seen.first(21) => {
            item.salt = scan.bytes(2)?;
            item.salt.is_some()
        }
        _ => {
            scan.skip(2)?;
            true
        }
    };
    item.malformed |= !sound;
    Ok(())
}

fn node_id(scan: &mut Scan<'_>) -> Result<Option<NodeId>, Malformed> {
    Ok(scan.array(2)?.copied().map(NodeId))
}

/// Compact nodes. BEP 5's own examples have a string of 9 bytes: it counts as empty, not as an error.
fn nodes<'a>(scan: &mut Scan<'a>, len: usize) -> Result<&'a [u8], Malformed> {
    let nodes = scan.bytes(2)?.unwrap_or_default();
    Ok(if nodes.len().is_multiple_of(len) {
        nodes
    } else {
        &[]
    })
}

fn flag(scan: &mut Scan<'_>, depth: u32) -> Result<bool, Malformed> {
    Ok(scan.int(depth)?.is_some_and(|n| !n.is_zero()))
}

fn port(scan: &mut Scan<'_>) -> Result<Option<u16>, Malformed> {
    let port = scan.int(2)?.and_then(Int::unsigned);
    Ok(port
        .and_then(|n| u16::try_from(n).ok())
        .filter(|&port| port != 0))
}

fn want(scan: &mut Scan<'_>) -> Result<Option<Want>, Malformed> {
    if !scan.enter(b'l')? {
        scan.skip(2)?;
        return Ok(None);
    }
    let mut want = Want::default();
    while !scan.leave()? {
        match scan.bytes(3)? {
            Some(b"n4") => want.v4 = true,
            Some(b"n6") => want.v6 = true,
            _ => {}
        }
    }
    Ok(Some(want))
}

/// Code and text of an error; 0 and nothing if it is not a list, or lacks them.
fn error<'a>(scan: &mut Scan<'a>) -> Result<(i64, &'a [u8]), Malformed> {
    if !scan.enter(b'l')? {
        scan.skip(1)?;
        return Ok((0, &[]));
    }
    let (mut code, mut text) = (0, &[][..]);
    if !scan.leave()? {
        code = scan.int(2)?.and_then(Int::signed).unwrap_or_default();
        if !scan.leave()? {
            text = scan.bytes(2)?.unwrap_or_default();
            while !scan.leave()? {
                scan.skip(2)?;
            }
        }
    }
    Ok((code, text))
}

/// An address of 6 or 18 bytes, port last (BEP 5, 32). An IPv4-mapped IPv6 address becomes IPv4.
#[inline]
fn compact_addr(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    if let Ok(v4) = <[u8; 4]>::try_from(ip) {
        return Some(SocketAddr::new(Ipv4Addr::from(v4).into(), port));
    }
    let v6 = Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?);
    Some(SocketAddr::new(
        core::net::IpAddr::V6(v6).to_canonical(),
        port,
    ))
}

impl<'a> Reply<'a> {
    /// The peers of `values`, IPv4 and IPv6, those that can be dialled.
    pub fn peers(&self) -> impl Iterator<Item = SocketAddr> + use<'a> {
        let mut scan = Scan::new(self.values);
        let list = scan.enter(b'l') == Ok(true);
        core::iter::from_fn(move || {
            while list && !scan.leave().ok()? {
                let peer = scan.bytes(3).ok()?.and_then(compact_addr);
                if peer.as_ref().is_some_and(dialable) {
                    return peer;
                }
            }
            scan.finish();
            None
        })
    }
}
