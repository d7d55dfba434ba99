//! Drivers on one link under virtual time. Frames may be delayed, lost or reordered.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses a part of it"
)]

pub mod dhcp;
pub mod disk;
pub mod raw;
pub mod server;
pub mod wire;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::engine::{AddTorrent, Command, Source, State};
use dunlin_core::metainfo::{Builder, Info};
use dunlin_core::{Config, Instant, TorrentId};
use dunlin_smoltcp::{Driver, Hardware, NetConfig, Polled};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use disk::SlowDisk;
pub use wire::Wire;
use wire::is_for;

/// The port on which every driver listens.
pub const PORT: u16 = 6881;

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

/// Another machine on the link: a server or an attacker.
pub trait Station {
    /// Handles a frame that has arrived. Frames to send go into `out`.
    fn frame(&mut self, now: Instant, frame: &[u8], out: &mut Vec<Vec<u8>>);
    /// Handles its timer.
    fn tick(&mut self, _now: Instant, _out: &mut Vec<Vec<u8>>) {}
    /// When its timer is due.
    fn timeout(&self) -> Option<Instant> {
        None
    }
    /// Returns `true` when it wants to see a frame.
    fn hears(&self, frame: &[u8]) -> bool;
}

/// One driver.
pub struct Node {
    pub driver: Driver<SlowDisk>,
    pub wire: Wire,
    pub net: NetConfig,
    pub polls: u64,
}

/// The faults of the link.
#[derive(Clone, Copy)]
pub struct Link {
    pub delay: Duration,
    /// The largest additional delay, at random, so that frames are reordered.
    pub jitter: Duration,
    /// The number of lost frames in a thousand.
    pub loss: u32,
    /// The number of duplicated frames in a thousand.
    pub twice: u32,
    /// The number of frames in a thousand that arrive with one bit changed.
    pub corrupt: u32,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(2),
            jitter: Duration::ZERO,
            loss: 0,
            twice: 0,
            corrupt: 0,
        }
    }
}

pub struct World {
    pub now: Instant,
    pub nodes: Vec<Node>,
    pub stations: Vec<Box<dyn Station>>,
    pub link: Link,
    air: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    seq: u64,
    rng: ChaCha8Rng,
    /// A hash of all frames with their times.
    pub trace: u64,
    pub frames: u64,
    /// Nodes created from now on verify no checksums.
    pub unchecked: bool,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            now: Instant::from_micros(1_000_000),
            nodes: Vec::new(),
            stations: Vec::new(),
            link: Link::default(),
            air: BTreeMap::new(),
            seq: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            trace: 0xcbf2_9ce4_8422_2325,
            frames: 0,
            unchecked: false,
        }
    }

    /// The address of node `n`.
    pub fn ip(n: usize, v6: bool) -> IpAddr {
        match v6 {
            false => IpAddr::from([10, 0, 0, n as u8 + 1]),
            true => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n as u16 + 1]),
        }
    }

    /// The configuration of node `n`'s interface, with both families, before a test changes it.
    pub fn net(n: usize, ethernet: bool, config: &Config) -> NetConfig {
        let hardware = match ethernet {
            true => Hardware::Ethernet([2, 0, 0, 0, 0, n as u8 + 1]),
            false => Hardware::Ip,
        };
        NetConfig {
            tcp_rx: 64 << 10,
            tcp_tx: 64 << 10,
            ..NetConfig::for_engine(hardware, config)
        }
        .address(Self::ip(n, false), 24)
        .address(Self::ip(n, true), 64)
    }

    /// Adds a driver, and returns its number.
    pub fn node(&mut self, net: NetConfig, mut config: Config) -> usize {
        if config.listen.is_empty() {
            for unspecified in [IpAddr::from([0, 0, 0, 0]), IpAddr::from([0u16; 8])] {
                let _ = config.listen.push(SocketAddr::new(unspecified, PORT));
            }
        }
        let mut wire = Wire::new(&net);
        wire.unchecked = self.unchecked;
        let rng = Box::new(ChaCha8Rng::seed_from_u64(self.rng.next_u64()));
        let disk = SlowDisk::default();
        let driver = Driver::new(self.now, &mut wire, &net, config, disk, rng).unwrap();
        self.nodes.push(Node {
            driver,
            wire,
            net,
            polls: 0,
        });
        self.nodes.len() - 1
    }

    /// Adds a node with both families that listens on [`PORT`].
    pub fn plain(&mut self, ethernet: bool) -> usize {
        let config = Config::default();
        let net = Self::net(self.nodes.len(), ethernet, &config);
        self.node(net, config)
    }

    /// Gives a node the content to seed.
    pub fn seed(&mut self, n: usize, info: &Arc<Info>, data: &[u8]) -> TorrentId {
        let node = &mut self.nodes[n];
        let disk = node.driver.storage_mut();
        disk.inner.put(info, data.to_vec()).unwrap();
        let add = AddTorrent::new(Source::Info(info.clone()));
        node.driver.engine_mut().add(self.now, add).unwrap()
    }

    /// Makes a node download the content from peers.
    pub fn leech(&mut self, n: usize, info: &Arc<Info>, peers: &[SocketAddr]) -> TorrentId {
        let add = AddTorrent {
            peers: peers.to_vec(),
            ..AddTorrent::new(Source::Info(info.clone()))
        };
        let engine = self.nodes[n].driver.engine_mut();
        engine.add(self.now, add).unwrap()
    }

    /// Returns `true` when a node has the complete and correct content.
    pub fn has(&self, n: usize, id: TorrentId, info: &Info, data: &[u8]) -> bool {
        let driver = &self.nodes[n].driver;
        let status = driver.engine().torrent(id).map(|t| t.status(self.now));
        let done = status.is_some_and(|t| t.state == State::Seeding && t.pieces_done == t.pieces);
        let content = driver.storage().inner.content(info.info_hash());
        done && content == Some(data)
    }

    fn fold(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.trace = (self.trace ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Puts a frame on the link.
    pub fn send(&mut self, from: usize, frame: Vec<u8>) {
        self.frames += 1;
        let at = self.now.as_micros().to_be_bytes();
        self.fold(&at);
        self.fold(&frame);
        let hear = |to: usize, w: &Self| match w.nodes.get(to) {
            Some(node) => is_for(&node.net, node.driver.addresses(), &frame),
            None => w.stations[to - w.nodes.len()].hears(&frame),
        };
        for to in 0..self.nodes.len() + self.stations.len() {
            if to == from || !hear(to, self) || self.rng.next_u32() % 1000 < self.link.loss {
                continue;
            }
            let copies = 1 + u32::from(self.rng.next_u32() % 1000 < self.link.twice);
            for _ in 0..copies {
                let jitter = self.link.jitter.as_micros() as u64 + 1;
                let late = Duration::from_micros(self.rng.next_u64() % jitter);
                self.seq += 1;
                let at = self.now + self.link.delay + late;
                let mut frame = frame.clone();
                if self.rng.next_u32() % 1000 < self.link.corrupt {
                    let bit = self.rng.next_u64() as usize % (frame.len() * 8);
                    frame[bit / 8] ^= 1 << (bit % 8);
                }
                self.air.insert((at, self.seq), (to, frame));
            }
        }
    }

    /// Runs until `done` returns `true` or `limit` has passed. Returns whether it was `done`.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + limit;
        let mut at_once = 0;
        loop {
            self.step();
            if done(self) {
                return true;
            }
            let nodes = self.nodes.iter().filter_map(|n| n.driver.poll_timeout());
            let stations = self.stations.iter().filter_map(|s| s.timeout());
            let air = self.air.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = nodes.chain(stations).chain(air).min() else {
                return false;
            };
            if next > end {
                self.now = end;
                return false;
            }
            at_once = if next > self.now { 0 } else { at_once + 1 };
            assert!(at_once < 10_000, "somebody spins: {:?}", self.spinning());
            self.now = self.now.max(next);
        }
    }

    fn spinning(&self) -> Vec<(usize, Option<Instant>)> {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .map(|(n, node)| (n, node.driver.poll_timeout()))
            .collect()
    }

    /// Runs for `time`.
    pub fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Handles everything that happens now.
    fn step(&mut self) {
        let mut out = Vec::new();
        while let Some(entry) = self.air.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (to, frame) = entry.remove();
            match self.nodes.get_mut(to) {
                Some(node) => node.wire.rx.push_back(frame),
                None => {
                    let index = to - self.nodes.len();
                    if let Some(station) = self.stations.get_mut(index) {
                        station.frame(self.now, &frame, &mut out);
                    }
                    for frame in out.drain(..) {
                        self.send(to, frame);
                    }
                }
            }
        }
        for index in 0..self.stations.len() {
            if self.stations[index]
                .timeout()
                .is_some_and(|at| at <= self.now)
            {
                self.stations[index].tick(self.now, &mut out);
                for frame in out.drain(..) {
                    self.send(self.nodes.len() + index, frame);
                }
            }
        }
        for n in 0..self.nodes.len() {
            let node = &mut self.nodes[n];
            let due = node.driver.poll_timeout().is_some_and(|at| at <= self.now);
            if !due && node.wire.rx.is_empty() {
                continue;
            }
            node.polls += 1;
            let mut rounds = 0;
            while node.driver.poll(self.now, &mut node.wire) == Polled::Busy {
                rounds += 1;
                assert!(rounds < 1000, "node {n} does not come to rest");
            }
            for frame in std::mem::take(&mut node.wire.tx) {
                self.send(n, frame);
            }
        }
    }

    /// Law 1: shuts every node down, and checks that every op was answered.
    pub fn audit(&mut self) {
        for node in &mut self.nodes {
            node.driver
                .engine_mut()
                .command(self.now, Command::Shutdown)
                .unwrap();
        }
        self.run(Duration::from_secs(60));
        for (n, node) in self.nodes.iter().enumerate() {
            let stats = node.driver.stats();
            assert_eq!(stats.ops, stats.outcomes, "node {n}: {stats:?}");
            let disk = node.driver.storage();
            assert!(disk.is_idle(), "node {n} has disk ops out");
            node.driver.engine().audit().unwrap();
        }
    }
}

/// The endpoint on which node `n` listens.
pub fn addr(n: usize, v6: bool) -> SocketAddr {
    SocketAddr::new(World::ip(n, v6), PORT)
}
