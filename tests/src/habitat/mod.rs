//! Where an engine can live, seen the same way whichever driver it lives in.
//!
//! The suite in `tests/tests/drivers.rs` is written once, over [`Habitat`], and runs in each of
//! them:
//!
//! | habitat | network | disk | time |
//! |---|---|---|---|
//! | [`Tokio`] | loopback | a folder | the machine's |
//! | [`Mio`] | loopback | a folder | the machine's |
//! | [`Smoltcp`] | packets handed over in memory | memory | its own |
//! | [`Sim`] | a simulated network | a simulated disk | its own |
//!
//! Beside the engines stands a [`Guest`]: a machine that speaks TCP and UDP and does what a test
//! tells it, be it a tracker or an attacker.

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
    /// Its limits and habits; where it listens is decided by the next fields.
    pub config: Config,
    /// It listens on IPv6, else on IPv4.
    pub v6: bool,
    /// It listens there; `None` is a place of its own.
    pub listen: Option<SocketAddr>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            config: Config {
                // All habitats are rebooted within one boot, or none.
                boot: Some([7; 16]),
                // A loopback has one address.
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
    /// By its hash alone.
    pub magnet: bool,
    /// The peers to connect to.
    pub peers: Vec<SocketAddr>,
    /// Trackers, a tier each.
    pub trackers: Vec<String>,
    /// At rest.
    pub paused: bool,
    /// What to believe of what is on the disk.
    pub check: Check,
    /// What may become of it.
    pub existing: Existing,
    /// Bytes per second in.
    pub down: Option<u64>,
    /// Bytes per second out.
    pub up: Option<u64>,
}

impl Spec {
    /// Fetch from these.
    #[must_use]
    pub fn from(peers: &[SocketAddr]) -> Self {
        Self {
            peers: peers.to_vec(),
            ..Self::default()
        }
    }
}

/// What is wrong with a node's disk from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing can be written: it is full, or a file stands where a folder has to be.
    Unwritable,
    /// The files of the torrent are gone.
    Missing,
}

/// How an engine ended.
#[derive(Clone, Debug)]
pub struct End {
    /// Its last state.
    pub engine: EngineStatus,
    /// Ops that were taken from it, and outcomes that were handed to it, where the driver counts.
    pub ops: Option<(u64, u64)>,
}

/// What a driver did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Times that the driver was woken or polled.
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

/// A place where engines live, with a network between them.
pub trait Habitat: Sized {
    /// What it is called.
    const NAME: &'static str;
    /// Time is its own: it passes by [`Habitat::step`] alone, and the same seed gives the same
    /// run.
    const VIRTUAL: bool;

    /// An empty one.
    fn new(seed: u64) -> Self;

    /// Starts an engine with an empty disk.
    fn boot(&mut self, setup: Setup) -> Node;
    /// Starts an engine anew on the disk of one that has ended or was killed.
    fn reboot(&mut self, node: Node, setup: Setup);
    /// Ends the process at once, as a signal would.
    fn kill(&mut self, node: Node);
    /// Begins to end an engine in good order.
    fn stop(&mut self, node: Node);
    /// How it ended, once it has.
    fn ended(&mut self, node: Node) -> Option<End>;

    /// Runs `f` on the engine.
    fn with_engine<R: Send + 'static>(
        &mut self,
        node: Node,
        f: impl FnOnce(&mut Engine, Instant) -> R + Send + 'static,
    ) -> R;
    /// Where the engine listens, if it does yet.
    fn listening(&mut self, node: Node) -> Option<SocketAddr>;
    /// Writes a content to the node's disk.
    fn put(&mut self, node: Node, content: &Content);
    /// Adds a torrent.
    fn add(&mut self, node: Node, content: &Content, spec: Spec) -> TorrentId;
    /// Takes a torrent out, with its files if `delete`.
    fn remove(&mut self, node: Node, torrent: TorrentId, delete: bool);
    /// Events since they were last asked for.
    fn events(&mut self, node: Node) -> Vec<Event>;
    /// What the node's disk has of a content; `None` if its files are not all there.
    fn bytes(&mut self, node: Node, content: &Content) -> Option<Vec<u8>>;
    /// Whether any file of a content is on the node's disk.
    fn exists(&mut self, node: Node, content: &Content) -> bool;
    /// Breaks the disk, as far as `content` is concerned.
    fn break_disk(&mut self, node: Node, content: &Content, fault: Fault);
    /// Mends it.
    fn mend_disk(&mut self, node: Node, content: &Content);
    /// What the driver did.
    fn effort(&mut self, node: Node) -> Effort;
    /// Keeps the machine from running its driver for a while.
    fn stall(&mut self, node: Node, time: Duration);

    /// Lets the guest act.
    fn guest<R>(&mut self, f: impl FnOnce(&mut dyn Guest) -> R) -> R;
    /// A host name that exists, and is the guest's.
    fn known_name(&self) -> String;
    /// A host name that does not exist.
    fn unknown_name(&self) -> String;
    /// An address where nobody answers, not even with a refusal.
    fn silent_addr(&mut self) -> SocketAddr;

    /// An address that no engine can have: it is in use, or another machine's.
    fn taken_addr(&mut self) -> SocketAddr;
    /// Lets time jump, as after a suspend; `false` where the clock is not ours to move.
    fn jump(&mut self, time: Duration) -> bool;
    /// Everything that was sent so far and when, folded; `None` where that is not the same from
    /// one run to the next.
    fn trace(&self) -> Option<u64>;

    /// Lets things go on for a moment.
    fn step(&mut self);
    /// Time since the beginning.
    fn elapsed(&self) -> Duration;
}

/// Longest wait for anything; what takes this long will not come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What all habitats can do by the above.
pub trait HabitatExt: Habitat {
    /// Lets things go on until `condition` yields something.
    ///
    /// # Panics
    /// After [`PATIENCE`], naming `what` was waited for.
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

    /// Lets things go on until `condition` holds.
    fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        self.wait(what, |h| condition(h).then_some(()));
    }

    /// Lets `time` pass, while `watch` looks on.
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

    /// Where an engine listens.
    fn addr(&mut self, node: Node) -> SocketAddr {
        self.wait("the engine to listen", |h| h.listening(node))
    }

    /// A node that has all of `content`, and says so.
    fn seed(&mut self, setup: Setup, content: &Content) -> (Node, SocketAddr, TorrentId) {
        let (node, addr) = self.listen(setup);
        self.put(node, content);
        let id = self.add(node, content, Spec::default());
        self.complete(node, id);
        (node, addr, id)
    }

    /// The torrent, now.
    fn torrent(&mut self, node: Node, id: TorrentId) -> Option<TorrentStatus> {
        self.with_engine(node, move |engine, now| {
            engine.torrent(id).map(|t| t.status(now))
        })
    }

    /// The engine, now.
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
        // Written is what the engine was told; what a reader sees is the same.
        let got = self.bytes(node, content);
        assert!(got.as_deref() == wanted, "{name}: the content differs");
        let status = self.torrent(node, id).unwrap();
        assert_eq!(status.pieces_done, status.pieces, "{name}");
    }

    /// Ends an engine in good order. Law 1: nothing is left unanswered or on loan.
    ///
    /// # Panics
    /// If anything is.
    fn end(&mut self, node: Node) -> End {
        self.end_with(node, |_| ())
    }

    /// The same, with `tick` for what has to go on meanwhile.
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

impl<H: Habitat> HabitatExt for H {}
