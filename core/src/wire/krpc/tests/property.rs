//! Properties of arbitrary messages.

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;
use crate::wire::bencode::{Kind, Value};

/// Owned material of every kind of message.
#[derive(Clone, Debug)]
struct Material {
    which: u8,
    tid: Vec<u8>,
    id: [u8; 20],
    target: [u8; 20],
    token: Vec<u8>,
    flags: [bool; 8],
    port: u16,
    seq: i64,
    num: u64,
    k: [u8; 32],
    sig: [u8; 64],
    salt: Vec<u8>,
    v: Vec<u8>,
    nodes: Vec<u8>,
    values: Vec<u8>,
    v6: bool,
    bloom: [u8; BLOOM_LEN],
}

fn bytes(g: &mut Gen, len: usize) -> Vec<u8> {
    (0..len).map(|_| u8::arbitrary(g)).collect()
}

fn below(g: &mut Gen, n: usize) -> usize {
    usize::arbitrary(g) % n
}

impl Arbitrary for Material {
    fn arbitrary(g: &mut Gen) -> Self {
        let (tid, token, salt, v) = (below(g, 21), below(g, 65), below(g, 65), below(g, 200));
        let v = bytes(g, v);
        let mut bencoded = format!("{}:", v.len()).into_bytes();
        bencoded.extend(v);
        let (nodes, values) = (below(g, 9) * 26 * 38, below(g, 20) * 6 * 18);
        Self {
            which: u8::arbitrary(g),
            tid: bytes(g, tid),
            id: core::array::from_fn(|_| u8::arbitrary(g)),
            target: core::array::from_fn(|_| u8::arbitrary(g)),
            token: bytes(g, token),
            flags: core::array::from_fn(|_| bool::arbitrary(g)),
            port: u16::arbitrary(g).max(1),
            seq: i64::arbitrary(g),
            num: u64::arbitrary(g),
            k: core::array::from_fn(|_| u8::arbitrary(g)),
            sig: core::array::from_fn(|_| u8::arbitrary(g)),
            salt: bytes(g, salt),
            v: bencoded,
            nodes: bytes(g, nodes.min(26 * 8)),
            values: bytes(g, values.min(180)),
            v6: bool::arbitrary(g),
            bloom: core::array::from_fn(|_| u8::arbitrary(g)),
        }
    }
}

impl Material {
    fn want(&self) -> Option<Want> {
        self.flags[0].then_some(Want {
            v4: self.flags[1],
            v6: self.flags[2],
        })
    }

    fn item(&self) -> Item<'_> {
        Item {
            v: Some(&self.v),
            k: self.flags[3].then_some(&self.k),
            sig: self.flags[3].then_some(&self.sig),
            seq: self.flags[3].then_some(self.seq),
            cas: self.flags[4].then_some(self.seq ^ 1),
            salt: (self.flags[5] && !self.salt.is_empty()).then_some(&self.salt),
            malformed: false,
        }
    }

    /// A query, and what should be read of it.
    fn query(&self) -> (QueryOut<'_>, Method, Args<'_>) {
        let target = NodeId(self.target);
        let want = self.want();
        let (seed, implied_port, scrape, noseed) =
            (self.flags[3], self.flags[4], self.flags[5], self.flags[6]);
        let args = Args {
            id: Some(NodeId(self.id)),
            ..Args::default()
        };
        match self.which % 7 {
            0 => (QueryOut::Ping, Method::Ping, args),
            1 => (
                QueryOut::FindNode { target, want },
                Method::FindNode,
                Args {
                    target: Some(target),
                    want,
                    ..args
                },
            ),
            2 => (
                QueryOut::GetPeers {
                    info_hash: target,
                    want,
                    scrape,
                    noseed,
                },
                Method::GetPeers,
                Args {
                    info_hash: Some(target),
                    want,
                    scrape,
                    noseed,
                    ..args
                },
            ),
            3 => (
                QueryOut::AnnouncePeer {
                    info_hash: target,
                    token: &self.token,
                    port: self.port,
                    implied_port,
                    seed,
                },
                Method::AnnouncePeer,
                Args {
                    info_hash: Some(target),
                    token: Some(&self.token),
                    port: Some(self.port),
                    implied_port,
                    seed,
                    ..args
                },
            ),
            4 => {
                let seq = self.flags[3].then_some(self.seq);
                let item = Item {
                    seq,
                    ..Item::default()
                };
                (
                    QueryOut::Get { target, seq, want },
                    Method::Get,
                    Args {
                        target: Some(target),
                        want,
                        item,
                        ..args
                    },
                )
            }
            5 => (
                QueryOut::Put {
                    target,
                    token: &self.token,
                    item: self.item(),
                },
                Method::Put,
                Args {
                    target: Some(target),
                    token: Some(&self.token),
                    item: self.item(),
                    ..args
                },
            ),
            _ => (
                QueryOut::SampleInfohashes { target, want },
                Method::SampleInfohashes,
                Args {
                    target: Some(target),
                    want,
                    ..args
                },
            ),
        }
    }

    fn reply(&self) -> ReplyOut<'_> {
        ReplyOut {
            nodes: self.flags[0].then_some(&self.nodes[..]),
            nodes6: self.flags[1].then_some(&self.nodes[..self.nodes.len() / 38 * 38]),
            token: &self.token,
            values: &self.values,
            value_len: if self.v6 { 18 } else { 6 },
            item: if self.flags[2] {
                Item {
                    cas: None,
                    salt: None,
                    ..self.item()
                }
            } else {
                Item::default()
            },
            seeds: self.flags[4].then_some(&self.bloom),
            leeches: self.flags[5].then_some(&self.bloom),
            samples: self.flags[6].then_some(&self.values[..self.values.len() / 20 * 20]),
            num: self.flags[7].then_some(self.num),
            interval: self.flags[7].then_some(self.num / 3),
        }
    }

    fn to(&self) -> SocketAddr {
        let ip: IpAddr = if self.v6 {
            "2001:db8::7".parse().unwrap()
        } else {
            "198.51.100.7".parse().unwrap()
        };
        SocketAddr::new(ip, self.port)
    }

    /// Some message as bytes.
    fn emit(&self, buf: &mut [u8]) -> Option<usize> {
        let id = NodeId(self.id);
        match self.which % 9 {
            0..=4 => query(buf, &self.tid, &id, self.v6, &self.query().0),
            5..=7 => reply(buf, &self.tid, &id, &self.to(), &self.reply()),
            _ => error(buf, &self.tid, 203, "Bad token.", 1500),
        }
    }
}

/// Whether an integer that is written in another way than BEP 3 has it, or is too large, stands in `value`: the general
/// reader passes over it, for torrent files have such, and that of KRPC refuses it.
fn holds_odd_integer(value: Value<'_>) -> bool {
    match value.kind() {
        Kind::Int => {
            value.raw().contains(&b'+') || (value.int().is_none() && value.uint().is_none())
        }
        Kind::List => value
            .list()
            .is_some_and(|list| list.iter().any(holds_odd_integer)),
        Kind::Dict => value
            .dict()
            .is_some_and(|dict| dict.iter().any(|(_, v)| holds_odd_integer(v))),
        Kind::Bytes => false,
    }
}

quickcheck! {
    fn queries_come_back_as_they_went(m: Material) -> bool {
        let mut buf = [0; MAX_DATAGRAM];
        let (out, method, args) = m.query();
        let id = NodeId(m.id);
        let len = query(&mut buf, &m.tid, &id, m.v6, &out).unwrap();
        let message = parse(&buf[..len]).unwrap();
        message.body == Body::Query(method, args)
            && message.tid == m.tid
            && message.read_only == m.v6
            && message.version == Some(&VERSION)
            && is_canonical(&buf[..len])
            && (0..len).all(|n| query(&mut [0; MAX_DATAGRAM][..n], &m.tid, &id, m.v6, &out).is_none())
    }

    fn replies_come_back_as_they_went(m: Material) -> bool {
        let mut buf = [0; 4096];
        let (out, id) = (m.reply(), NodeId(m.id));
        let len = reply(&mut buf, &m.tid, &id, &m.to(), &out).unwrap();
        if !is_canonical(&buf[..len]) || reply(&mut [0; 4096][..len - 1], &m.tid, &id, &m.to(), &out).is_some() {
            return false;
        }
        if len > MAX_DATAGRAM {
            return parse(&buf[..len]) == Err(Malformed);
        }
        let message = parse(&buf[..len]).unwrap();
        let got = reply_of(&buf[..len]);
        let sent: Vec<_> = m
            .values
            .chunks_exact(out.value_len)
            .filter_map(|chunk| {
                let (ip, port) = chunk.split_last_chunk::<2>().unwrap();
                let ip = match ip.len() {
                    4 => IpAddr::from(<[u8; 4]>::try_from(ip).unwrap()),
                    _ => IpAddr::from(<[u8; 16]>::try_from(ip).unwrap()).to_canonical(),
                };
                Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
                    .filter(crate::wire::tracker::dialable)
            })
            .collect();
        message.ip == Some(m.to())
            && message.tid == m.tid
            && got.peers().collect::<Vec<_>>() == sent
            && got.id == Some(id)
            && got.nodes == out.nodes.unwrap_or_default()
            && got.nodes6 == out.nodes6.unwrap_or_default()
            && got.token.unwrap_or_default() == m.token
            && got.item == out.item
            && (got.seeds, got.leeches) == (out.seeds, out.leeches)
            && (got.samples, got.num, got.interval) == (out.samples, out.num, out.interval)
    }

    /// Never a panic; what is read lies within what was sent.
    fn mutated_messages_are_read_safely(m: Material, changes: Vec<(u16, u8)>, cut: u16) -> bool {
        let mut buf = [0; 4096];
        let len = m.emit(&mut buf).unwrap().min(MAX_DATAGRAM);
        let data = &mut buf[..len];
        // Bytes that mean something in bencode are the likelier to make a difference.
        let meaning = b"0123456789:ilde-";
        for (at, to) in changes {
            data[usize::from(at) % len] =
                if to < 128 { meaning[usize::from(to) % meaning.len()] } else { to };
        }
        let data = &data[..len - usize::from(cut) % len.min(4)];
        let inside = |part: &[u8]| part.is_empty() || data.as_ptr_range().contains(&part.as_ptr());
        _ = is_canonical(data);
        match parse(data) {
            Err(Malformed) => true,
            Ok(message) => inside(message.tid) && match message.body {
                Body::Query(_, args) => args.item.v.is_none_or(inside),
                Body::Reply(reply) => {
                    reply.peers().count() <= 600 && inside(reply.nodes) && reply.nodes.len() % 26 == 0
                }
                Body::Error(_, text) => inside(text),
            },
        }
    }

    fn noise_is_read_safely(noise: Vec<u8>) -> bool {
        let framed = [b"d1:t2:aa1:rd", &noise[..], b"e1:y1:re"].concat();
        _ = (parse(&noise), is_canonical(&noise), is_canonical(&framed));
        parse(&framed).is_err() || framed.len() <= MAX_DATAGRAM
    }

    /// Both readers agree on what is sound.
    fn agrees_with_the_general_reader(m: Material, at: u16, to: u8) -> bool {
        use crate::wire::bencode::{Dict, Limits};
        let mut buf = [0; 4096];
        let len = m.emit(&mut buf).unwrap().min(MAX_DATAGRAM);
        buf[usize::from(at) % len] = to;
        let limits = Limits { depth: scan::MAX_DEPTH, items: scan::MAX_ITEMS };
        match (parse(&buf[..len]), Dict::parse(&buf[..len], limits)) {
            (Ok(message), Ok((dict, _))) => dict.bytes(b"t") == Some(message.tid),
            (Ok(_), Err(_)) => false,
            (Err(_), Ok((dict, _))) => {
                dict.bytes(b"t").is_none_or(|t| t.len() > MAX_TID)
                    || !matches!(dict.bytes(b"y"), Some(b"q" | b"r" | b"e"))
                    || dict.iter().any(|(_, value)| holds_odd_integer(value))
            }
            (Err(_), Err(_)) => true,
        }
    }
}
