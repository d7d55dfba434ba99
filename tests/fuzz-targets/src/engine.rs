//! A whole engine, driven by an arbitrary sequence of operations like those of a hostile network, a faulty
//! disk and an application.
//!
//! Checked are the laws that can be: 1 (every op is answered once, and every block comes home), 3 (no
//! spin), 6 (no panic) and 8 (bounds), and that the engine's counters are right.

mod ops;
mod words;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::Unstructured;
use dunlin_core::dht::{DhtConfig, Goal};
use dunlin_core::engine::{
    AddTorrent, Check, Command, Engine, Event, FilePriority, ReadBufs, Scope, Source, WriteBufs,
};
use dunlin_core::{
    Caps, CloseReason, Config, ConnId, DhtMode, Ecn, EncryptionPolicy, Instant, NodeId, Op, OpId,
    RecvMeta, SocketId, TorrentId,
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::payload::{PIECE, torrents};

/// Operations of one run.
const MAX_STEPS: u32 = 3_000;
/// Virtual time an engine may take to stop when everything is answered at once.
const STOP: Duration = Duration::from_secs(600);

/// The first two bytes choose the configuration, the rest is what happens.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut rig = Rig::new(u.arbitrary().unwrap_or(0), u.arbitrary().unwrap_or(0));
    for _ in 0..MAX_STEPS {
        if u.is_empty() {
            break;
        }
        let _ = rig.step(&mut u);
        rig.check();
    }
    rig.stop();
}

/// An engine and the world around it.
struct Rig {
    engine: Engine,
    config: Config,
    now: Instant,
    /// Ops that wait for their outcome.
    open: BTreeMap<OpId, Op>,
    torrents: Vec<TorrentId>,
    conns: Vec<ConnId>,
    /// Datagrams that the engine sent last: to whom, and what.
    sent: Vec<(SocketId, SocketAddr, Vec<u8>)>,
    stopped: bool,
}

fn config(a: u8, b: u8) -> Config {
    Config {
        listen: [SocketAddr::from(([10, 0, 0, 1], 6881))]
            .into_iter()
            .collect(),
        encryption: [
            EncryptionPolicy::Off,
            EncryptionPolicy::Allowed,
            EncryptionPolicy::Preferred,
            EncryptionPolicy::Required,
        ][usize::from(a & 3)],
        dht: if a & 4 == 0 {
            DhtMode::Off
        } else {
            DhtMode::On
        },
        dht_config: DhtConfig {
            local: true,
            ..DhtConfig::tiny()
        },
        dht_port: (a & 8 != 0).then_some(7000),
        max_torrents: 3,
        max_connections: if b & 1 == 0 { 8 } else { 2 },
        max_connections_per_torrent: 5,
        max_half_open: if b & 2 == 0 { 4 } else { 1 },
        max_known_peers: 16,
        max_blocks: if b & 4 == 0 { 12 } else { 3 },
        max_jobs: if b & 8 == 0 { 8 } else { 1 },
        max_requests: if b & 8 == 0 { 4 } else { 1 },
        max_lookups: 2,
        max_notices: 16,
        write_run: 1 + u32::from(b >> 4 & 3),
        reqq: 8,
        max_metadata: 64 << 10,
        limit_down: (b & 0x40 != 0).then_some(30_000),
        limit_up: (b & 0x80 != 0).then_some(30_000),
        announce_to_all: a & 16 != 0,
        boot: (a & 32 != 0).then_some([9; 16]),
        ..Config::default()
    }
}

/// Addresses of peers, trackers and nodes: few, so that they meet again.
fn address(n: u8) -> SocketAddr {
    match n % 16 {
        0 => SocketAddr::from(([10, 1, 1, 1], 80)),
        1 => "[fd00::7]:6881".parse().expect("an address"),
        2 => SocketAddr::from(([10, 0, 0, 1], 6881)),
        3 => SocketAddr::from(([0, 0, 0, 0], 0)),
        n => SocketAddr::from(([10, 8, 0, n & 7], 6000 + u16::from(n & 8))),
    }
}

impl Rig {
    fn new(a: u8, b: u8) -> Self {
        let now = Instant::from_micros(1_000_000);
        let config = config(a, b);
        let mut caps = Caps::all();
        caps.ipv6 = a & 64 != 0;
        let rng = Box::new(ChaCha8Rng::seed_from_u64(u64::from(a)));
        let engine = Engine::new(now, config.clone(), caps, rng);
        let mut rig = Self {
            engine,
            config,
            now,
            open: BTreeMap::new(),
            torrents: Vec::new(),
            conns: Vec::new(),
            sent: Vec::new(),
            stopped: false,
        };
        if a & 128 == 0 {
            // The usual beginning, so that short inputs get somewhere.
            rig.add(0);
            rig.take_ops();
            rig.answer_all();
        }
        rig
    }

    /// One operation; `Err` if the input ends in the middle of it.
    fn step(&mut self, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (what, n): (u8, u8) = (u.arbitrary()?, u.arbitrary()?);
        match what % 20 {
            0 => self.pass(Duration::from_millis(u64::from(n) * 50)),
            1 => self.pass(Duration::from_secs(u64::from(n) * 3)),
            2 => {
                if let Some(at) = self.engine.poll_timeout() {
                    self.now = self.now.max(at);
                }
                self.timeout();
            }
            3 | 4 => {
                let (meta, mut data) = self.datagram(n, u)?;
                self.engine.handle_udp(self.now, &meta, &mut data);
            }
            5 => self.take_ops(),
            6 => self.answer(n, u)?,
            7 => self.answer_all(),
            8 => self.conns.extend(self.engine.accept(self.now, address(n))),
            9 => {
                if let Some(conn) = self.conn(n) {
                    self.engine.handle_connected(self.now, conn);
                }
            }
            10 if n % 4 == 0 => {
                if let Some(conn) = self.conn(n / 4) {
                    let why = [CloseReason::Eof, CloseReason::Reset, CloseReason::TimedOut];
                    self.engine
                        .handle_closed(self.now, conn, why[usize::from(n) % 3]);
                }
            }
            11..=14 => {
                if let Some(conn) = self.conn(n) {
                    let said = words::said(what, n, u)?;
                    self.read(conn, &said, if n & 0x80 == 0 { usize::MAX } else { 9 });
                }
            }
            15 => {
                if let Some(conn) = self.conn(n) {
                    self.write(conn, if n & 0x80 == 0 { usize::MAX } else { 100 });
                }
            }
            16 => self.poll(),
            17 => {
                for conn in self.conns.clone() {
                    self.write(conn, usize::MAX);
                }
            }
            _ => self.command(n, u)?,
        }
        Ok(())
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if self.engine.poll_timeout().is_some_and(|at| at <= self.now) {
            self.timeout();
        }
    }

    /// Law 3.
    fn timeout(&mut self) {
        self.engine.handle_timeout(self.now);
        let next = self.engine.poll_timeout();
        assert!(
            next.is_none_or(|at| at > self.now) || self.engine.has_output(),
            "law 3: the timer for {:?} spins",
            self.engine.timeout_reason()
        );
    }

    fn conn(&self, n: u8) -> Option<ConnId> {
        let conns = self.conns.len();
        (conns > 0).then(|| self.conns[usize::from(n & 0x3f) % conns])
    }

    fn torrent(&self, n: u8) -> TorrentId {
        let torrents = self.torrents.len();
        let known = (torrents > 0).then(|| self.torrents[usize::from(n) % torrents]);
        known.unwrap_or(TorrentId(77))
    }

    /// A datagram: any bytes, an answer to what the engine sent, a query, a tracker's answer.
    fn datagram(&self, n: u8, u: &mut Unstructured<'_>) -> arbitrary::Result<(RecvMeta, Vec<u8>)> {
        let from: u8 = u.arbitrary()?;
        let len = usize::from(u.arbitrary::<u8>()?).min(u.len());
        let body = u.bytes(len)?.to_vec();
        let last = self.sent.get(usize::from(n >> 4) % self.sent.len().max(1));
        let socket = [SocketId::V4, SocketId::V6, SocketId::DHT_V4][usize::from(n >> 2) % 3];
        let (socket, from, data) = match (n % 4, last) {
            (0, Some((socket, to, sent))) => (*socket, *to, words::krpc_reply(sent, &body)),
            (1, Some((socket, to, sent))) => (*socket, *to, words::tracker_reply(sent, &body)),
            (2, _) => (socket, address(from), words::krpc_query(&body)),
            _ => (socket, address(from), body),
        };
        let meta = RecvMeta {
            socket,
            from,
            local: None,
            ecn: Ecn::NotEct,
        };
        Ok((meta, data))
    }

    fn read(&mut self, conn: ConnId, mut bytes: &[u8], most: usize) {
        loop {
            let mut bufs = ReadBufs::new();
            self.engine.read_bufs(self.now, conn, &mut bufs);
            let mut n = 0;
            for buf in bufs {
                let len = buf.len().min(bytes.len()).min(most - n);
                buf[..len].copy_from_slice(&bytes[..len]);
                bytes = &bytes[len..];
                n += len;
            }
            self.engine.handle_read(self.now, conn, n);
            if n == 0 {
                return;
            }
        }
    }

    fn write(&mut self, conn: ConnId, most: usize) {
        for _ in 0..64 {
            let mut bufs = WriteBufs::new();
            self.engine.write_bufs(self.now, conn, &mut bufs);
            let len = bufs.iter().map(|b| b.len()).sum::<usize>().min(most);
            drop(bufs);
            self.engine.handle_written(self.now, conn, len);
            if len == 0 || most != usize::MAX {
                return;
            }
        }
    }

    fn command(&mut self, n: u8, u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let what: u8 = u.arbitrary()?;
        let (now, torrent) = (self.now, self.torrent(n));
        let limit = [None, Some(0), Some(20_000)][usize::from(n) % 3];
        let limits = |scope| Command::SetLimits {
            scope,
            down: limit,
            up: limit,
        };
        let commands = match what % 20 {
            0 | 1 => {
                self.add(n);
                vec![]
            }
            2 => vec![Command::Remove {
                torrent,
                delete: n & 0x80 != 0,
            }],
            3 => vec![Command::Pause(torrent)],
            4 | 5 => vec![Command::Resume(torrent)],
            6 => vec![Command::Recheck(torrent)],
            7 => {
                let p = [FilePriority::Skip, FilePriority::High, FilePriority::Normal];
                let priorities = [n, n >> 2, n >> 4].map(|n| p[usize::from(n) % 3]).into();
                vec![Command::SetPriorities {
                    torrent,
                    priorities,
                }]
            }
            8 => vec![limits(Scope::Torrent(torrent))],
            9 => vec![limits(Scope::Global)],
            10 | 11 => vec![Command::AddPeers {
                torrent,
                peers: vec![address(n), address(n >> 4)],
            }],
            12 => vec![
                Command::SetSequential {
                    torrent,
                    on: n & 16 == 0,
                },
                Command::SetDeadline {
                    torrent,
                    piece: u32::from(n % 7),
                    by: Some(now + Duration::from_secs(2)),
                },
            ],
            13 => vec![Command::Reannounce(torrent), Command::Scrape(torrent)],
            14 => {
                let modes = [DhtMode::On, DhtMode::Auto, DhtMode::Off, DhtMode::On];
                vec![Command::SetDht(modes[usize::from(n) % 4])]
            }
            15 => vec![
                Command::Search(Goal::Nodes(NodeId([n; 20]))),
                Command::Ping(address(n)),
            ],
            16 => vec![Command::SaveAll],
            17 => {
                self.engine.handle_unsent(now, address(n));
                vec![Command::AddDhtNode("node.example:6881".into())]
            }
            18 => vec![Command::AddTrackers {
                torrent,
                urls: vec!["http://more.example/announce".into()],
            }],
            // Once in a while only: nothing much happens afterwards.
            _ if n == 0 => vec![Command::Shutdown],
            _ => vec![],
        };
        for command in commands {
            // It may be refused: torrents come and go, and the DHT does.
            let _ = self.engine.command(now, command);
        }
        Ok(())
    }

    fn add(&mut self, n: u8) {
        let info = &torrents()[usize::from(n) % 3];
        let source = if n & 4 == 0 {
            Source::Info(info.clone())
        } else {
            Source::Hash {
                info_hash: info.info_hash(),
                name: None,
            }
        };
        let mut torrent = AddTorrent::new(source);
        torrent.check =
            [Check::Doubted, Check::All, Check::Nothing, Check::Doubted][usize::from(n >> 3 & 3)];
        torrent.paused = n & 0xe0 == 0x20;
        if n & 0x40 != 0 {
            torrent.trackers = vec![
                vec![
                    "http://tracker.example/announce".into(),
                    "udp://10.1.1.1:80/a".into(),
                ],
                vec!["udp://tracker.example:80".into()],
            ];
            torrent.peers = vec![address(n >> 2)];
        }
        self.torrents.extend(self.engine.add(self.now, torrent));
    }

    /// Fetches what the engine has to say, but for ops.
    fn poll(&mut self) {
        while self.engine.poll_interest().is_some() {}
        let mut notices = 0;
        while let Some(event) = self.engine.poll_event() {
            assert!(!self.stopped, "{event:?} after the end");
            match event {
                Event::Notice(_) => notices += 1,
                Event::Removed(id) => self.torrents.retain(|t| *t != id),
                Event::Stopped => self.stopped = true,
                _ => {}
            }
        }
        assert!(
            notices <= self.config.max_notices,
            "law 8: {notices} notices"
        );
        let mut buf = [0; 1500];
        for sent in 0.. {
            let Some(t) = self.engine.poll_transmit(self.now, 1, &mut buf) else {
                break;
            };
            assert!(sent < 2_000, "datagrams without an end");
            self.sent.push((t.socket, t.dst, buf[..t.len].to_vec()));
        }
        let old = self.sent.len().saturating_sub(8);
        self.sent.drain(..old);
    }

    /// Law 8, and the books.
    fn check(&self) {
        let (status, config) = (self.engine.status(self.now), &self.config);
        assert!(status.torrents <= config.max_torrents, "law 8: {status:?}");
        assert!(
            status.connections <= config.max_connections,
            "law 8: {status:?}"
        );
        assert!(status.blocks_lent <= config.max_blocks, "law 8: {status:?}");
        let jobs = config.max_jobs + config.max_requests + config.max_lookups;
        assert!(status.jobs <= jobs, "law 8: {status:?}");
        for id in self.engine.torrents() {
            let t = self
                .engine
                .torrent(id)
                .expect("it is there")
                .status(self.now);
            assert!(t.known <= config.max_known_peers, "law 8: {t:?}");
            assert!(t.pieces_done <= t.pieces && t.done <= t.total, "{t:?}");
            assert!(t.total <= u64::from(t.pieces) * u64::from(PIECE), "{t:?}");
        }
        self.engine.audit().expect("the books are right");
    }

    /// Law 1: once everything is answered, all is home.
    fn stop(&mut self) {
        self.engine
            .command(self.now, Command::Shutdown)
            .expect("it is always carried out");
        let end = self.now + STOP;
        loop {
            loop {
                self.take_ops();
                self.poll();
                if self.open.is_empty() {
                    break;
                }
                self.answer_all();
            }
            let next = self.engine.poll_timeout().filter(|at| *at <= end);
            let Some(at) = next.filter(|_| !self.stopped) else {
                break;
            };
            self.now = self.now.max(at);
            self.timeout();
        }
        assert!(
            self.stopped,
            "it does not stop: {:?}",
            self.engine.status(self.now)
        );
        let status = self.engine.status(self.now);
        assert_eq!(
            (status.jobs, status.blocks_lent),
            (0, 0),
            "law 1: {status:?}"
        );
    }
}
