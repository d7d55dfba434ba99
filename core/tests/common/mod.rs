//! A world in memory: engines joined by streams with a delay, each with a disk that is a `Vec`,
//! and virtual time. It drives engines exactly as the module documentation says a driver should.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses a part of it"
)]

pub mod bench;
pub mod commands;
mod platform;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::dht::Saved;
use dunlin_core::engine::{AddTorrent, Engine, Event, ReadBufs, Readiness, Source, WriteBufs};
use dunlin_core::metainfo::{Builder, Info};
use dunlin_core::op::{Claim, FileStat};
use dunlin_core::{
    Caps, CloseReason, Config, ConnId, Ecn, Instant, OpErrorKind, OpId, Outcome, RecvMeta,
    SocketId, TorrentId,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// One-way delay of every stream.
pub const LATENCY: Duration = Duration::from_millis(5);

/// A torrent of one file with predictable content.
pub fn torrent(len: usize, piece_len: u32) -> (Arc<Info>, Vec<u8>) {
    let data: Vec<u8> = (0..len)
        .map(|i| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    let hashes: Vec<[u8; 20]> = data
        .chunks(piece_len as usize)
        .map(dunlin_core::hash::sha1)
        .collect();
    let mut builder = Builder::file("payload.bin", len as u64);
    builder.piece_len = Some(piece_len);
    let torrent = builder.draft().unwrap().finish(&hashes).unwrap();
    (torrent.info, data)
}

/// What [`Engine::add`] needs for a torrent without trackers.
pub fn add(source: Source) -> AddTorrent {
    AddTorrent::new(source)
}

/// A torrent's files on a node, as one run of bytes.
#[derive(Clone, Default)]
pub struct Store {
    pub data: Vec<u8>,
    pub exists: bool,
    pub mtime: i64,
    /// Which file it is.
    pub id: u64,
    /// Files have no numbers, as on FAT.
    pub no_ids: bool,
    /// It is not the torrent's.
    pub foreign: bool,
    /// It is not at its path any more.
    pub gone: bool,
}

/// One end of a stream.
struct Stream {
    peer: (usize, ConnId),
    inbox: VecDeque<u8>,
    readiness: Readiness,
    eof: bool,
}

/// Something that happens later.
enum Later {
    Bytes(usize, ConnId, Vec<u8>),
    Eof(usize, ConnId),
    Connect {
        from: usize,
        conn: ConnId,
        to: SocketAddr,
    },
    Connected(usize, ConnId),
    Refused(usize, ConnId),
    Outcome(usize, OpId, Outcome),
    /// From where, to where.
    Datagram(SocketAddr, SocketAddr, Vec<u8>),
}

impl Later {
    /// The node whose engine is told.
    fn node(&self) -> Option<usize> {
        Some(match self {
            Self::Bytes(n, ..)
            | Self::Eof(n, _)
            | Self::Connect { from: n, .. }
            | Self::Connected(n, _)
            | Self::Refused(n, _)
            | Self::Outcome(n, ..) => *n,
            Self::Datagram(..) => return None,
        })
    }
}

/// One engine and its platform.
pub struct Node {
    pub engine: Engine,
    pub addr: SocketAddr,
    pub stores: BTreeMap<TorrentId, Store>,
    /// Content that is on disk before a torrent is added, by info-hash.
    pub shelf: BTreeMap<[u8; 20], Store>,
    infos: BTreeMap<TorrentId, Arc<Info>>,
    pub saved: BTreeMap<TorrentId, Vec<u8>>,
    pub events: Vec<Event>,
    streams: BTreeMap<ConnId, Stream>,
    /// Every op that awaits an outcome.
    pub open_ops: BTreeMap<OpId, &'static str>,
    /// Disk writes and flushes fail with this while set.
    pub disk_error: Option<OpErrorKind>,
    /// Writes fail with this while set, and flushes do not.
    pub write_error: Option<OpErrorKind>,
    pub disk_delay: Duration,
    /// Flushes fail with this while set, and writes do not.
    pub flush_error: Option<OpErrorKind>,
    /// How long a flush takes, if not as long as everything else.
    pub flush_delay: Option<Duration>,
    /// Selections fail with this while set.
    pub select_error: Option<OpErrorKind>,
    pub selects: u32,
    pub confirms: u32,
    /// How long a selection takes, if not as long as everything else.
    pub select_delay: Option<Duration>,
    /// Hashing fails with this while set.
    pub hash_error: Option<OpErrorKind>,
    pub hashes: u32,
    /// Files are not there; their bytes are kept apart, as these or not at all.
    pub apart: Option<Option<FileStat>>,
    /// Records are not saved while set.
    pub save_error: Option<OpErrorKind>,
    pub saves: u32,
    pub bytes_written: u64,
    /// What its files were claimed for, in order.
    pub claims: Vec<Claim>,
    pub flushes: u32,
    /// Longest list of ops seen in flight.
    pub most_jobs: usize,
    /// Datagram sockets.
    pub udp: BTreeMap<SocketId, SocketAddr>,
    /// Ports that somebody else has.
    pub taken: Vec<u16>,
    /// What the DHT had saved, and how often.
    pub dht_saved: Option<Saved>,
    pub dht_saves: u32,
    /// Names that are known.
    pub names: BTreeMap<String, IpAddr>,
    /// Names that were asked for.
    pub asked: Vec<String>,
    /// What every HTTP request is answered, and how late.
    pub http: Option<Vec<u8>>,
    pub http_delay: Duration,
    /// HTTP requests that were made, and when.
    pub requested: Vec<(Instant, String)>,
    /// Requests and look-ups that name this time out, half a minute later.
    pub silent: Option<&'static str>,
    /// Datagrams it sent: the time, the socket, the destination, the number of bytes.
    pub sent: Vec<(Instant, SocketId, SocketAddr, usize)>,
}

/// The world.
pub struct World {
    pub now: Instant,
    pub nodes: Vec<Node>,
    later: BTreeMap<(Instant, u64), Later>,
    seq: u64,
    rng: ChaCha8Rng,
    /// Everything a driver could see, folded: law 7.
    pub trace: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            now: Instant::from_micros(1_000_000),
            nodes: Vec::new(),
            later: BTreeMap::new(),
            seq: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Adds a node at 10.0.0.n:6881.
    pub fn node(&mut self, config: Config) -> usize {
        self.node_on(config, true)
    }

    /// The same; `session` says whether its platform keeps what is saved.
    pub fn node_on(&mut self, config: Config, session: bool) -> usize {
        let n = self.nodes.len();
        let addr = SocketAddr::from(([10, 0, (n / 250) as u8, (n % 250) as u8 + 1], 6881));
        let engine = self.engine_on(addr, config, session);
        self.nodes.push(Node {
            engine,
            addr,
            stores: BTreeMap::new(),
            shelf: BTreeMap::new(),
            infos: BTreeMap::new(),
            saved: BTreeMap::new(),
            events: Vec::new(),
            streams: BTreeMap::new(),
            open_ops: BTreeMap::new(),
            disk_error: None,
            write_error: None,
            disk_delay: Duration::from_micros(200),
            flush_error: None,
            select_error: None,
            selects: 0,
            confirms: 0,
            select_delay: None,
            hash_error: None,
            hashes: 0,
            apart: None,
            flush_delay: None,
            save_error: None,
            saves: 0,
            bytes_written: 0,
            claims: Vec::new(),
            flushes: 0,
            most_jobs: 0,
            udp: BTreeMap::new(),
            taken: Vec::new(),
            dht_saved: None,
            dht_saves: 0,
            names: BTreeMap::new(),
            asked: Vec::new(),
            http: None,
            http_delay: LATENCY,
            requested: Vec::new(),
            silent: None,
            sent: Vec::new(),
        });
        n
    }

    fn engine(&mut self, addr: SocketAddr, config: Config) -> Engine {
        self.engine_on(addr, config, true)
    }

    fn engine_on(&mut self, addr: SocketAddr, mut config: Config, session: bool) -> Engine {
        config.listen.clear();
        let _ = config.listen.push(addr);
        let rng = ChaCha8Rng::seed_from_u64(self.rng.next_u64());
        let mut caps = Caps::all();
        caps.ipv6 = false;
        caps.session = session;
        Engine::new(self.now, config, caps, Box::new(rng))
    }

    /// Kills a node and starts it anew: its disk and its records are all that stays.
    pub fn restart(&mut self, n: usize, config: Config) {
        for (_, s) in std::mem::take(&mut self.nodes[n].streams) {
            let (there, conn) = s.peer;
            self.nodes[there].streams.remove(&conn);
            self.nodes[there]
                .engine
                .handle_closed(self.now, conn, CloseReason::Reset);
        }
        self.later.retain(|_, what| what.node() != Some(n));
        let engine = self.engine(self.nodes[n].addr, config);
        let node = &mut self.nodes[n];
        node.engine = engine;
        for (id, store) in std::mem::take(&mut node.stores) {
            if let Some(info) = node.infos.remove(&id) {
                node.shelf.insert(info.info_hash().0, store);
            }
        }
        node.events.clear();
        node.udp.clear();
        node.open_ops.clear();
    }

    /// Adds a node that has all of `info` on disk and seeds it.
    pub fn seed(&mut self, config: Config, info: &Arc<Info>, data: &[u8]) -> (usize, TorrentId) {
        let n = self.node(config);
        self.put(n, info, data.to_vec());
        let id = self.nodes[n]
            .engine
            .add(self.now, add(Source::Info(info.clone())))
            .unwrap();
        (n, id)
    }

    /// Adds a node that fetches `info` from `peers`.
    pub fn leech(
        &mut self,
        config: Config,
        info: &Arc<Info>,
        peers: &[usize],
    ) -> (usize, TorrentId) {
        let n = self.node(config);
        let peers = peers.iter().map(|p| self.nodes[*p].addr).collect();
        let torrent = AddTorrent {
            peers,
            ..add(Source::Info(info.clone()))
        };
        let id = self.nodes[n].engine.add(self.now, torrent).unwrap();
        (n, id)
    }

    /// Puts content on a node's disk.
    pub fn put(&mut self, n: usize, info: &Info, data: Vec<u8>) {
        let store = Store {
            data,
            exists: true,
            mtime: 1,
            ..Store::default()
        };
        self.nodes[n].shelf.insert(info.info_hash().0, store);
    }

    pub fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.rng
    }

    fn at(&mut self, after: Duration, what: Later) {
        self.seq += 1;
        self.later.insert((self.now + after, self.seq), what);
    }

    fn fold(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.trace = (self.trace ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Runs until `done` or until `limit` of virtual time has passed; returns whether `done`.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            self.settle();
            if done(self) {
                return true;
            }
            let next = [
                self.later.first_key_value().map(|((at, _), _)| *at),
                self.nodes
                    .iter()
                    .filter_map(|n| n.engine.poll_timeout())
                    .min(),
            ];
            let Some(next) = next.into_iter().flatten().min() else {
                return false;
            };
            if next > end {
                self.now = end;
                return false;
            }
            self.now = self.now.max(next);
            self.step();
        }
    }

    /// Runs for a while.
    pub fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Whatever is due now.
    fn step(&mut self) {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let what = entry.remove();
            self.happen(what);
        }
        for n in 0..self.nodes.len() {
            let engine = &mut self.nodes[n].engine;
            if engine.poll_timeout().is_some_and(|at| at <= self.now) {
                engine.handle_timeout(self.now);
                let next = engine.poll_timeout();
                assert!(
                    next.is_none_or(|at| at > self.now) || engine.has_output(),
                    "law 3: the timer for {:?} spins",
                    engine.timeout_reason()
                );
            }
        }
    }

    fn happen(&mut self, what: Later) {
        let now = self.now;
        match what {
            Later::Bytes(n, conn, bytes) => {
                self.fold(&bytes);
                if let Some(s) = self.nodes[n].streams.get_mut(&conn) {
                    s.inbox.extend(bytes);
                }
            }
            Later::Eof(n, conn) => {
                if let Some(s) = self.nodes[n].streams.get_mut(&conn) {
                    s.eof = true;
                }
            }
            Later::Connect { from, conn, to } => {
                let target = self.nodes.iter().position(|n| n.addr == to);
                let port = 40_000 + (conn.index % 20_000) as u16;
                let remote = SocketAddr::new(self.nodes[from].addr.ip(), port);
                let accepted =
                    target.and_then(|t| Some((t, self.nodes[t].engine.accept(now, remote)?)));
                match accepted {
                    Some((t, there)) => {
                        self.nodes[t].streams.insert(there, Stream::to(from, conn));
                        self.nodes[from].streams.insert(conn, Stream::to(t, there));
                        self.at(LATENCY, Later::Connected(from, conn));
                    }
                    None => self.at(LATENCY, Later::Refused(from, conn)),
                }
            }
            Later::Datagram(from, to, mut data) => {
                self.fold(&data);
                let bound = |n: &Node| n.udp.iter().find(|(_, a)| **a == to).map(|(s, _)| *s);
                let found = self.nodes.iter_mut().find_map(|n| Some((bound(n)?, n)));
                if let Some((socket, node)) = found {
                    let meta = RecvMeta {
                        socket,
                        from,
                        local: None,
                        ecn: Ecn::NotEct,
                    };
                    node.engine.handle_udp(now, &meta, &mut data);
                }
            }
            Later::Connected(n, conn) => self.nodes[n].engine.handle_connected(now, conn),
            Later::Refused(n, conn) => {
                self.nodes[n]
                    .engine
                    .handle_closed(now, conn, CloseReason::Refused);
            }
            Later::Outcome(n, op, outcome) => {
                assert!(
                    self.nodes[n].open_ops.remove(&op).is_some(),
                    "law 1: {op:?} is answered twice"
                );
                self.nodes[n].engine.handle_op(now, op, outcome);
            }
        }
    }

    /// Drives every node until nothing more happens at this instant.
    fn settle(&mut self) {
        let mut rounds = 0;
        loop {
            let mut busy = false;
            for n in 0..self.nodes.len() {
                busy |= self.pump(n);
            }
            if !busy {
                return;
            }
            rounds += 1;
            assert!(rounds < 100_000, "the world does not come to rest");
        }
    }

    fn pump(&mut self, n: usize) -> bool {
        let mut busy = false;
        while let Some(op) = self.nodes[n].engine.poll_op() {
            busy = true;
            self.op(n, op);
        }
        while let Some((conn, readiness)) = self.nodes[n].engine.poll_interest() {
            busy = true;
            if let Some(s) = self.nodes[n].streams.get_mut(&conn) {
                s.readiness = readiness;
            }
        }
        let conns: Vec<ConnId> = self.nodes[n].streams.keys().copied().collect();
        for conn in conns {
            busy |= self.write(n, conn);
            busy |= self.read(n, conn);
        }
        let mut buf = [0; 1500];
        while let Some(t) = self.nodes[n].engine.poll_transmit(self.now, 1, &mut buf) {
            busy = true;
            let node = &mut self.nodes[n];
            node.sent.push((self.now, t.socket, t.dst, t.len));
            if let Some(from) = node.udp.get(&t.socket).copied() {
                let datagram = Later::Datagram(from, t.dst, buf[..t.len].to_vec());
                self.at(LATENCY, datagram);
            }
        }
        while let Some(event) = self.nodes[n].engine.poll_event() {
            busy = true;
            self.nodes[n].events.push(event);
        }
        busy
    }

    fn write(&mut self, n: usize, conn: ConnId) -> bool {
        let now = self.now;
        let node = &mut self.nodes[n];
        let Some(stream) = node.streams.get_mut(&conn).filter(|s| s.readiness.write) else {
            return false;
        };
        let mut bufs = WriteBufs::new();
        node.engine.write_bufs(now, conn, &mut bufs);
        let bytes: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
        drop(bufs);
        if bytes.is_empty() {
            stream.readiness.write = false;
            return false;
        }
        let (peer, there) = stream.peer;
        node.engine.handle_written(now, conn, bytes.len());
        self.at(LATENCY, Later::Bytes(peer, there, bytes));
        true
    }

    fn read(&mut self, n: usize, conn: ConnId) -> bool {
        let now = self.now;
        // Reads come in random sizes: no fragmentation may matter.
        let most = match self.rng.next_u32() % 4 {
            0 => 1 + self.rng.next_u32() as usize % 40,
            1 => 1 + self.rng.next_u32() as usize % 20_000,
            _ => usize::MAX,
        };
        let node = &mut self.nodes[n];
        let Some(stream) = node.streams.get_mut(&conn) else {
            return false;
        };
        if stream.inbox.is_empty() {
            if stream.eof {
                node.streams.remove(&conn);
                node.engine.handle_closed(now, conn, CloseReason::Eof);
                return true;
            }
            return false;
        }
        if !stream.readiness.read {
            return false;
        }
        let mut bufs = ReadBufs::new();
        node.engine.read_bufs(now, conn, &mut bufs);
        let mut len = 0;
        for buf in &mut bufs {
            for byte in buf.iter_mut() {
                if len == most {
                    break;
                }
                let Some(b) = stream.inbox.pop_front() else {
                    break;
                };
                *byte = b;
                len += 1;
            }
        }
        drop(bufs);
        if len == 0 {
            stream.readiness.read = false;
            return false;
        }
        node.engine.handle_read(now, conn, len);
        true
    }

    /// Cuts every stream of a node, as a cable would.
    pub fn cut(&mut self, n: usize) {
        let streams = std::mem::take(&mut self.nodes[n].streams);
        for (conn, s) in streams {
            self.nodes[n]
                .engine
                .handle_closed(self.now, conn, CloseReason::Reset);
            self.at(LATENCY, Later::Eof(s.peer.0, s.peer.1));
        }
    }

    /// Whether a node has all of a torrent, bit for bit.
    pub fn has(&self, n: usize, id: TorrentId, data: &[u8]) -> bool {
        let done = self.nodes[n]
            .engine
            .torrent(id)
            .map(|t| t.status(self.now))
            .is_some_and(|t| t.pieces == t.pieces_done && t.pieces > 0);
        done && self.nodes[n].stores[&id].data == data
    }
}

impl Stream {
    fn to(node: usize, conn: ConnId) -> Self {
        Self {
            peer: (node, conn),
            inbox: VecDeque::new(),
            readiness: Readiness::default(),
            eof: false,
        }
    }
}
