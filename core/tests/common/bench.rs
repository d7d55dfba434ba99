//! One engine without a world: the test is its driver, and plays its peers byte by byte.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::engine::{AddTorrent, Engine, ReadBufs, Source, WriteBufs};
use dunlin_core::hash::sha1;
use dunlin_core::metainfo::Info;
use dunlin_core::op::{FileStat, ReadJob};
use dunlin_core::wire::krpc;
use dunlin_core::{
    Caps, CloseReason, Config, ConnId, Ecn, InfoHash, Instant, Op, OpError, OpErrorKind, OpId,
    Outcome, RecvMeta, TorrentId,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::add;

/// A file that is long enough for whatever was written to it.
pub const LONG: FileStat = FileStat {
    len: 1 << 40,
    mtime_ns: 1,
    id: None,
};

/// What every name leads to: a node of the DHT.
pub const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));

/// One engine, and strangers made of bytes.
pub struct Bench {
    pub e: Engine,
    pub now: Instant,
    /// What it opened and did not close, and what it opened ever, the oldest first.
    pub dialled: BTreeMap<ConnId, SocketAddr>,
    pub calls: Vec<(ConnId, SocketAddr)>,
    pub closed: BTreeSet<ConnId>,
    /// The peers that every HTTP tracker names, and every node of the DHT.
    pub tracker_peers: Vec<SocketAddr>,
    pub dht_peers: Vec<SocketAddr>,
    /// Whether the disk is slow to open files, and what it owes.
    pub opens_slowly: bool,
    opening: Vec<OpId>,
    /// What the disk finds where the file of a torrent belongs.
    pub found: Option<FileStat>,
    /// Why reads fail; `None`: they do not.
    pub reads: Reads,
    /// Whether the engine's counters are checked whenever it has worked.
    pub audited: bool,
}

/// How reads end.
#[derive(Clone, Copy, Debug)]
pub enum Reads {
    Done,
    Fail(OpErrorKind),
    /// With the outcome of a write: a fault of the driver.
    AsWritten,
    /// With one block fewer than was asked for: a fault of the driver, which drops the block.
    Short,
}

impl Reads {
    fn outcome(self, job: ReadJob) -> Outcome {
        if let Self::Fail(kind) = self {
            let detail = "the file: a fault of the test's".into();
            return job.fail(OpError { kind, detail });
        }
        let Outcome::Read(mut blocks) = job.done() else {
            panic!("a read is done as a read");
        };
        match self {
            Self::AsWritten => Outcome::Written {
                blocks,
                hasher: None,
            },
            Self::Short => {
                blocks.pop();
                Outcome::Read(blocks)
            }
            Self::Done | Self::Fail(_) => Outcome::Read(blocks),
        }
    }
}

impl Bench {
    pub fn new(config: Config) -> Self {
        let now = Instant::from_micros(10);
        let rng = Box::new(ChaCha8Rng::seed_from_u64(1));
        Self {
            e: Engine::new(now, config, Caps::all(), rng),
            now,
            dialled: BTreeMap::new(),
            calls: Vec::new(),
            closed: BTreeSet::new(),
            tracker_peers: Vec::new(),
            dht_peers: Vec::new(),
            opens_slowly: false,
            opening: Vec::new(),
            found: None,
            reads: Reads::Done,
            audited: true,
        }
    }

    pub fn with(info: &Arc<Info>, config: Config) -> (Self, TorrentId) {
        let mut this = Self::new(config);
        let id = this.add(Source::Info(info.clone()), &[]);
        (this, id)
    }

    pub fn add(&mut self, source: Source, peers: &[SocketAddr]) -> TorrentId {
        let peers = peers.to_vec();
        let torrent = AddTorrent {
            peers,
            ..add(source)
        };
        let id = self.e.add(self.now, torrent).unwrap();
        self.pump();
        id
    }

    /// A disk without files, on which nothing goes wrong, trackers and a DHT.
    pub fn pump(&mut self) {
        while let Some(op) = self.e.poll_op() {
            let id = op.id();
            let outcome = match op {
                Op::TcpConnect { conn, remote } => {
                    self.dialled.insert(conn, remote);
                    self.calls.push((conn, remote));
                    continue;
                }
                Op::TcpClose { conn, .. } => {
                    self.dialled.remove(&conn);
                    self.closed.insert(conn);
                    continue;
                }
                Op::Bind { local, .. } => Outcome::Bound(local),
                Op::Resolve { .. } => Outcome::Resolved(vec![NODE]),
                Op::Http { .. } => Outcome::Http {
                    status: 200,
                    body: announce_reply(&self.tracker_peers),
                },
                Op::Open { op, .. } if self.opens_slowly => {
                    self.opening.push(op);
                    continue;
                }
                Op::Open { .. } => Outcome::Opened(vec![self.found]),
                Op::Flush { .. } => Outcome::Flushed(vec![Some(LONG)]),
                Op::Read(job) => self.reads.outcome(job),
                Op::Write(mut job) => {
                    job.feed();
                    job.done()
                }
                _ => Outcome::Done,
            };
            if let Some(id) = id {
                self.e.handle_op(self.now, id, outcome);
            }
        }
        let mut buf = [0; 1500];
        while let Some(t) = self.e.poll_transmit(self.now, 1, &mut buf) {
            if let Some(mut reply) = self.dht_reply(t.dst, &buf[..t.len]) {
                let meta = RecvMeta {
                    socket: t.socket,
                    from: t.dst,
                    local: None,
                    ecn: Ecn::NotEct,
                };
                self.e.handle_udp(self.now, &meta, &mut reply);
            }
        }
        if self.audited {
            self.e.audit().unwrap();
        }
    }

    /// What the node at `addr` replies to `query`.
    fn dht_reply(&self, addr: SocketAddr, query: &[u8]) -> Option<Vec<u8>> {
        let message = krpc::parse(query).ok()?;
        let id = sha1(addr.to_string().as_bytes());
        let mut reply = [b"d1:rd2:id20:", &id[..], b"5:token2:ab6:valuesl"].concat();
        for peer in &self.dht_peers {
            reply.extend_from_slice(b"6:");
            reply.extend(compact(*peer));
        }
        reply.extend(format!("ee1:t{}:", message.tid.len()).bytes());
        reply.extend(message.tid);
        reply.extend_from_slice(b"1:y1:re");
        Some(reply)
    }

    /// The slow disk has opened the files.
    pub fn open(&mut self) {
        for op in std::mem::take(&mut self.opening) {
            self.e
                .handle_op(self.now, op, Outcome::Opened(vec![self.found]));
        }
        self.pump();
    }

    pub fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.e.poll_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.e.handle_timeout(at);
            self.pump();
        }
        self.now = end;
    }

    pub fn accept(&mut self, from: SocketAddr) -> Option<ConnId> {
        let conn = self.e.accept(self.now, from);
        self.pump();
        conn
    }

    /// Somebody comes from there and says hello.
    pub fn peer(&mut self, from: SocketAddr, torrent: InfoHash, id: u8) -> Option<ConnId> {
        let conn = self.accept(from)?;
        self.hello(conn, torrent, id);
        (!self.closed.contains(&conn)).then_some(conn)
    }

    pub fn hello(&mut self, conn: ConnId, torrent: InfoHash, id: u8) {
        let mut peer_id = *b"-XX0001-abcdefghijk?";
        peer_id[19] = id;
        self.handshake(conn, torrent, &peer_id);
    }

    /// A handshake that offers the fast extension (BEP 6), a DHT (BEP 5) and extensions (BEP 10).
    pub fn handshake(&mut self, conn: ConnId, torrent: InfoHash, peer_id: &[u8; 20]) {
        let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05".to_vec();
        hello.extend_from_slice(&torrent.0);
        hello.extend_from_slice(peer_id);
        self.say(conn, &hello);
    }

    /// All of it in as few reads as the engine lets us.
    pub fn say(&mut self, conn: ConnId, bytes: &[u8]) {
        self.say_quietly(conn, bytes);
        self.pump();
    }

    /// The same, and nothing is looked at afterwards.
    pub fn say_quietly(&mut self, conn: ConnId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let mut bufs = ReadBufs::new();
            self.e.read_bufs(self.now, conn, &mut bufs);
            let mut len = 0;
            for buf in &mut bufs {
                let n = buf.len().min(bytes.len());
                buf[..n].copy_from_slice(&bytes[..n]);
                bytes = &bytes[n..];
                len += n;
            }
            drop(bufs);
            if len == 0 {
                break;
            }
            self.e.handle_read(self.now, conn, len);
        }
    }

    /// What the engine says to it.
    pub fn hear(&mut self, conn: ConnId) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let mut bufs = WriteBufs::new();
            self.e.write_bufs(self.now, conn, &mut bufs);
            let bytes: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
            drop(bufs);
            if bytes.is_empty() {
                return all;
            }
            self.e.handle_written(self.now, conn, bytes.len());
            all.extend(bytes);
        }
    }

    /// Nobody answers at any of the addresses dialled.
    pub fn refuse_all(&mut self) {
        for conn in std::mem::take(&mut self.dialled).into_keys() {
            self.e.handle_closed(self.now, conn, CloseReason::Refused);
        }
        self.pump();
    }

    /// Every address dialled, the oldest first.
    pub fn dials(&self) -> Vec<SocketAddr> {
        self.calls.iter().map(|(_, addr)| *addr).collect()
    }

    pub fn known(&self, id: TorrentId) -> u32 {
        self.e.torrent(id).unwrap().status(self.now).known
    }

    pub fn connections(&self) -> u32 {
        self.e.status(self.now).connections
    }
}

/// What a tracker answers that knows these peers (BEP 23).
fn announce_reply(peers: &[SocketAddr]) -> Vec<u8> {
    let mut reply = format!("d8:intervali1800e5:peers{}:", peers.len() * 6).into_bytes();
    reply.extend(peers.iter().copied().flat_map(compact));
    reply.push(b'e');
    reply
}

/// Address and port as six bytes.
pub fn compact(addr: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(addr) = addr else {
        panic!("an IPv4 address");
    };
    [&addr.ip().octets()[..], &addr.port().to_be_bytes()].concat()
}

/// The payload of a message of peer exchange that goes under `number`.
pub fn pex_payload(number: u8, peers: &[SocketAddr]) -> Vec<u8> {
    let mut payload = vec![number];
    payload.extend(format!("d5:added{}:", 6 * peers.len()).bytes());
    payload.extend(peers.iter().copied().flat_map(compact));
    payload.push(b'e');
    payload
}

/// The number under which the engine hears an extension, by its extension handshake in `heard`.
pub fn number_of(heard: &[u8], extension: &str) -> Option<u8> {
    let text = String::from_utf8_lossy(heard);
    let name = format!("{}:{extension}i", extension.len());
    let at = text.rfind(&name)? + name.len();
    let number = text[at..].split('e').next()?.parse().ok()?;
    Some(number).filter(|n| *n > 0)
}

/// A message of the peer wire.
pub fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32 + 1).to_be_bytes().to_vec();
    out.push(id);
    out.extend_from_slice(payload);
    out
}
