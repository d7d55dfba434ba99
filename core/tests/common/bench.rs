//! One engine without a world: the test is its driver, and plays its peers byte by byte.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::engine::{AddTorrent, Engine, ReadBufs, Source, WriteBufs};
use dunlin_core::metainfo::Info;
use dunlin_core::{
    BLOCK_LEN, Caps, CloseReason, Config, ConnId, InfoHash, Instant, Op, Outcome, TorrentId,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::add;

/// A file that is long enough for whatever was written to it.
const LONG: dunlin_core::op::FileStat = dunlin_core::op::FileStat {
    len: 1 << 40,
    mtime_ns: 1,
    id: None,
};

/// One engine, and strangers made of bytes.
pub struct Bench {
    pub e: Engine,
    pub now: Instant,
    /// What it opened and did not close, and what it opened ever.
    pub dialled: BTreeMap<ConnId, SocketAddr>,
    pub dials: Vec<SocketAddr>,
    pub closed: BTreeSet<ConnId>,
}

impl Bench {
    pub fn new(config: Config) -> Self {
        let now = Instant::from_micros(10);
        let rng = Box::new(ChaCha8Rng::seed_from_u64(1));
        Self {
            e: Engine::new(now, config, Caps::all(), rng),
            now,
            dialled: BTreeMap::new(),
            dials: Vec::new(),
            closed: BTreeSet::new(),
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

    /// A disk without files, on which nothing goes wrong.
    pub fn pump(&mut self) {
        while let Some(op) = self.e.poll_op() {
            let id = op.id();
            let outcome = match op {
                Op::TcpConnect { conn, remote } => {
                    self.dialled.insert(conn, remote);
                    self.dials.push(remote);
                    continue;
                }
                Op::TcpClose { conn, .. } => {
                    self.dialled.remove(&conn);
                    self.closed.insert(conn);
                    continue;
                }
                Op::Open { .. } => Outcome::Opened(vec![None]),
                Op::Flush { .. } => Outcome::Flushed(vec![Some(LONG)]),
                Op::Write {
                    blocks,
                    len,
                    mut hasher,
                    ..
                } => {
                    let mut left = len as usize;
                    for block in &blocks {
                        let part = &block[..left.min(BLOCK_LEN)];
                        left -= part.len();
                        if let Some(hasher) = &mut hasher {
                            hasher.update(part);
                        }
                    }
                    Outcome::Written { blocks, hasher }
                }
                _ => Outcome::Done,
            };
            if let Some(id) = id {
                self.e.handle_op(self.now, id, outcome);
            }
        }
        self.e.audit().unwrap();
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
        let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05".to_vec();
        hello.extend_from_slice(&torrent.0);
        hello.extend_from_slice(b"-XX0001-abcdefghijk");
        hello.push(id);
        self.say(conn, &hello);
    }

    pub fn say(&mut self, conn: ConnId, mut bytes: &[u8]) {
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
        self.pump();
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

    pub fn known(&self, id: TorrentId) -> u32 {
        self.e.torrent(self.now, id).unwrap().known
    }

    pub fn connections(&self) -> u32 {
        self.e.status(self.now).connections
    }
}

/// A message of the peer wire.
pub fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32 + 1).to_be_bytes().to_vec();
    out.push(id);
    out.extend_from_slice(payload);
    out
}
