//! The drivers under test, with one interface.
//!
//! The suite in `tests/tests/drivers/` is written once, over [`TestDriver`], and runs with each of them:
//!
//! | driver | network | disk | time |
//! |---|---|---|---|
//! | [`Tokio`] | loopback | a folder | the machine's |
//! | [`Mio`] | loopback | a folder | the machine's |
//! | [`Smoltcp`] | packets passed in memory | memory | virtual |
//! | [`Sim`] | a simulated network | a simulated disk | virtual |
//!
//! Next to the engines there is a [`Guest`]: a machine with TCP and UDP that is controlled by the test, as
//! a tracker or an attacker.

#![allow(
    clippy::unwrap_used,
    reason = "a test that goes on without its answer proves nothing"
)]

mod content;
mod guest;
mod link;
mod loopback;
mod mio;
mod real;
mod service;
mod sim;
mod smoltcp;
mod stack;
mod tokio;
mod transcript;

use std::net::SocketAddr;
use std::time::Duration;

use dunlin_core::engine::{Check, Engine, EngineStatus, Event, Existing, State, TorrentStatus};
use dunlin_core::{Config, Instant, TorrentId};

pub use content::{Content, PIECE};
pub use guest::{Door, Guest, Life, Line, Post};
pub use mio::Mio;
pub use real::Loopback;
pub use service::{Answer, HttpServer, UdpTracker, announced, peers_answer};
pub use sim::Sim;
pub use smoltcp::Smoltcp;
pub use tokio::Tokio;
pub use transcript::Transcript;

/// One machine with an engine on it, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node(pub usize);

/// How an engine is started.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its limits and options; the next fields say where it listens.
    pub config: Config,
    /// Whether it listens on IPv6 instead of IPv4.
    pub v6: bool,
    /// The address to listen on; `None` chooses one.
    pub listen: Option<SocketAddr>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            config: Config {
                // All drivers restart engines within one boot.
                boot: Some([7; 16]),
                // All peers on loopback have one address.
                max_connections_per_ip: 500,
                ..Config::default()
            },
            v6: false,
            listen: None,
        }
    }
}

/// How a torrent is added.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// Only its info-hash is known.
    pub magnet: bool,
    /// The peers to connect to.
    pub peers: Vec<SocketAddr>,
    /// Trackers, one tier each.
    pub trackers: Vec<String>,
    /// Whether it is added paused.
    pub paused: bool,
    /// What is trusted of the content on the disk.
    pub check: Check,
    /// What may be done with existing files.
    pub existing: Existing,
    /// The limit for downloading in bytes per second.
    pub down: Option<u64>,
    /// The limit for uploading in bytes per second.
    pub up: Option<u64>,
}

impl Spec {
    /// A download from these peers.
    #[must_use]
    pub fn from(peers: &[SocketAddr]) -> Self {
        Self {
            peers: peers.to_vec(),
            ..Self::default()
        }
    }
}

/// A fault of a node's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing can be written: it is full, or a file stands where a folder has to be.
    Unwritable,
    /// The files of the torrent are missing.
    Missing,
}

/// How an engine ended.
#[derive(Clone, Debug)]
pub struct End {
    /// Its last status.
    pub engine: EngineStatus,
    /// The numbers of ops taken from it and of outcomes passed to it, if the driver counts them.
    pub ops: Option<(u64, u64)>,
}

/// The counters of a driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// How often the driver was woken or polled.
    pub wakes: u64,
    /// Bytes read from streams.
    pub read: u64,
    /// Bytes written to streams.
    pub written: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
}

/// A driver with a network on which it runs several engines.
pub trait TestDriver: Sized {
    /// The name of the driver.
    const NAME: &'static str;
    /// Whether time is virtual: it passes only in [`TestDriver::step`], and the same seed gives the same
    /// run.
    const VIRTUAL: bool;

    /// A network without engines.
    fn new(seed: u64) -> Self;

    /// Starts an engine with an empty disk.
    fn boot(&mut self, setup: Setup) -> Node;
    /// Starts an engine on the disk of one that has ended or was killed.
    fn reboot(&mut self, node: Node, setup: Setup);
    /// Ends an engine at once, as a signal would.
    fn kill(&mut self, node: Node);
    /// Starts to stop an engine.
    fn stop(&mut self, node: Node);
    /// The result of an engine that has stopped.
    fn ended(&mut self, node: Node) -> Option<End>;

    /// Runs `f` on the engine.
    fn with_engine<R: Send + 'static>(
        &mut self,
        node: Node,
        f: impl FnOnce(&mut Engine, Instant) -> R + Send + 'static,
    ) -> R;
    /// The address on which the engine listens, once it does.
    fn listening(&mut self, node: Node) -> Option<SocketAddr>;
    /// Writes content to the node's disk.
    fn put(&mut self, node: Node, content: &Content);
    /// Adds a torrent.
    fn add(&mut self, node: Node, content: &Content, spec: Spec) -> TorrentId;
    /// Removes a torrent, with its files if `delete`.
    fn remove(&mut self, node: Node, torrent: TorrentId, delete: bool);
    /// The events since the last call.
    fn events(&mut self, node: Node) -> Vec<Event>;
    /// What the node's disk holds of a content; `None` if a file is missing.
    fn bytes(&mut self, node: Node, content: &Content) -> Option<Vec<u8>>;
    /// Whether any file of a content is on the node's disk.
    fn exists(&mut self, node: Node, content: &Content) -> bool;
    /// Makes the disk fail for `content`.
    fn break_disk(&mut self, node: Node, content: &Content, fault: Fault);
    /// Ends that fault.
    fn mend_disk(&mut self, node: Node, content: &Content);
    /// The counters of the driver.
    fn effort(&mut self, node: Node) -> Effort;
    /// Stops running the driver for a while.
    fn stall(&mut self, node: Node, time: Duration);

    /// Lets the guest act.
    fn guest<R>(&mut self, f: impl FnOnce(&mut dyn Guest) -> R) -> R;
    /// A host name that exists; it is the guest's.
    fn known_name(&self) -> String;
    /// A host name that does not exist.
    fn unknown_name(&self) -> String;
    /// An address that never answers.
    fn silent_addr(&mut self) -> SocketAddr;

    /// An address that no engine can bind: it is in use, or another machine's.
    fn taken_addr(&mut self) -> SocketAddr;
    /// Moves the clock forward, as after a suspend; `false` if the clock is the machine's.
    fn jump(&mut self, time: Duration) -> bool;
    /// A hash of everything that was sent and when; `None` if that differs from run to run.
    fn trace(&self) -> Option<u64>;

    /// Lets a moment pass.
    fn step(&mut self);
    /// The time since the start.
    fn elapsed(&self) -> Duration;
}

/// The longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Functions on top of [`TestDriver`].
pub trait TestDriverExt: TestDriver {
    /// Lets time pass until `condition` returns something.
    ///
    /// # Panics
    /// After [`PATIENCE`]; the message names `what` was waited for.
    fn wait<T>(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> Option<T>) -> T {
        let start = self.elapsed();
        loop {
            if let Some(value) = condition(self) {
                return value;
            }
            let waited = self.elapsed() - start;
            assert!(waited < PATIENCE, "{}: waited in vain: {what}", Self::NAME);
            self.step();
        }
    }

    /// Lets time pass until `condition` holds.
    fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        self.wait(what, |h| condition(h).then_some(()));
    }

    /// Lets `time` pass, calling `watch` meanwhile.
    fn pass(&mut self, time: Duration, mut watch: impl FnMut(&mut Self)) {
        let start = self.elapsed();
        while self.elapsed() - start < time {
            watch(self);
            self.step();
        }
    }

    /// Starts an engine and waits until it listens.
    fn listen(&mut self, setup: Setup) -> (Node, SocketAddr) {
        let node = self.boot(setup);
        (node, self.addr(node))
    }

    /// The address on which an engine listens.
    fn addr(&mut self, node: Node) -> SocketAddr {
        self.wait("the engine to listen", |h| h.listening(node))
    }

    /// A node that seeds all of `content`.
    fn seed(&mut self, setup: Setup, content: &Content) -> (Node, SocketAddr, TorrentId) {
        let (node, addr) = self.listen(setup);
        self.put(node, content);
        let id = self.add(node, content, Spec::default());
        self.complete(node, id);
        (node, addr, id)
    }

    /// The status of the torrent.
    fn torrent(&mut self, node: Node, id: TorrentId) -> Option<TorrentStatus> {
        self.with_engine(node, move |engine, now| {
            engine.torrent(id).map(|t| t.status(now))
        })
    }

    /// The status of the engine.
    fn status(&mut self, node: Node) -> EngineStatus {
        self.with_engine(node, |engine, now| engine.status(now))
    }

    /// Waits until a torrent is in a state.
    fn state(&mut self, node: Node, id: TorrentId, wanted: &str, is: impl Fn(&State) -> bool) {
        self.until(wanted, |h| {
            h.torrent(node, id).is_some_and(|t| is(&t.state))
        });
    }

    /// Waits until a torrent is complete.
    fn complete(&mut self, node: Node, id: TorrentId) {
        let mut last = None;
        let start = self.elapsed();
        while self.elapsed() - start < PATIENCE {
            last = self.torrent(node, id);
            if last.as_ref().is_some_and(|t| t.state == State::Seeding) {
                return;
            }
            self.step();
        }
        panic!("{}: not complete: {last:?}", Self::NAME);
    }

    /// Waits until a torrent is complete, and compares every byte.
    ///
    /// # Panics
    /// If one differs.
    fn exact(&mut self, node: Node, id: TorrentId, content: &Content) {
        self.complete(node, id);
        let name = Self::NAME;
        let wanted = Some(&content.data[..]);
        // The engine was told that it is written; compare what a reader sees.
        let got = self.bytes(node, content);
        assert!(got.as_deref() == wanted, "{name}: the content differs");
        let status = self.torrent(node, id).unwrap();
        assert_eq!(status.pieces_done, status.pieces, "{name}");
    }

    /// Stops an engine. Law 1: nothing is left unanswered or on loan.
    ///
    /// # Panics
    /// If anything is.
    fn end(&mut self, node: Node) -> End {
        self.end_with(node, |_| ())
    }

    /// The same, calling `tick` meanwhile.
    ///
    /// # Panics
    /// If anything is left.
    fn end_with(&mut self, node: Node, mut tick: impl FnMut(&mut Self)) -> End {
        let name = Self::NAME;
        self.with_engine(node, |engine, _| engine.audit()).unwrap();
        self.stop(node);
        let end = self.wait("the engine to end", |h| {
            tick(h);
            h.ended(node)
        });
        assert_eq!(end.engine.jobs, 0, "{name}: law 1, ops at the end");
        assert_eq!(
            end.engine.blocks_lent, 0,
            "{name}: law 1, blocks at the end"
        );
        assert_eq!(end.engine.torrents, 0, "{name}: torrents at the end");
        assert_eq!(
            end.engine.stray_outcomes, 0,
            "{name}: law 1, answered twice"
        );
        if let Some((ops, outcomes)) = end.ops {
            assert_eq!(ops, outcomes, "{name}: law 1, outcomes");
        }
        end
    }
}

impl<H: TestDriver> TestDriverExt for H {}
