//! The engine: the composition of all machines, and the contract with a driver.
//!
//! # The contract
//!
//! A driver owns one [`Engine`] and everything that touches the world: sockets, the disk, the
//! clock, a source of randomness. It hands in what happened, with the current time, and takes
//! out what is to be done:
//!
//! | in | out |
//! |---|---|
//! | [`handle_udp`](Engine::handle_udp) | [`poll_transmit`](Engine::poll_transmit) |
//! | [`accept`](Engine::accept), [`handle_connected`](Engine::handle_connected), [`handle_closed`](Engine::handle_closed) | [`poll_op`](Engine::poll_op) (connect, close) |
//! | [`read_bufs`](Engine::read_bufs) + [`handle_read`](Engine::handle_read), [`write_bufs`](Engine::write_bufs) + [`handle_written`](Engine::handle_written) | [`poll_interest`](Engine::poll_interest) |
//! | [`handle_op`](Engine::handle_op) | [`poll_op`](Engine::poll_op) (disk, names, HTTP) |
//! | [`handle_timeout`](Engine::handle_timeout) | [`poll_timeout`](Engine::poll_timeout) |
//! | [`command`](Engine::command) | [`poll_event`](Engine::poll_event) |
//!
//! Any order of calls is legal. After calling anything on the left, a driver empties the right
//! column before it waits again; doing so later is merely less timely.
//!
//! # The laws
//!
//! 1. Every [`OpId`] gets exactly one [`Outcome`], also after a cancel, so buffers come home.
//! 2. Any call order is legal: calling late is merely less timely.
//! 3. After `handle_timeout(t)`, `poll_timeout()` is `None`, later than `t`, or output is pending.
//! 4. Every `handle_*` does bounded work; an idle poll is O(1).
//! 5. `now` is clamped monotonic inside; a jump forward is survived.
//! 6. Hostile bytes never panic and never surface as `Err` to the driver.
//! 7. Same inputs, same seed, same outputs, byte for byte.
//! 8. Memory is bounded by [`Config`].
//!
//! # The loop
//!
//! This is all of a driver, with a world in memory in place of sockets and a disk:
//!
//! ```
//! use core::time::Duration;
//! use dunlin_core::engine::{Engine, Event, ReadBufs, WriteBufs};
//! use dunlin_core::{Caps, Config, ConnId, Instant, Op, OpErrorKind, Outcome};
//! # use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
//! # struct World { now: Instant, streams: Vec<ConnId> }
//! # impl World {
//! #     fn wait(&mut self, until: Option<Instant>) -> bool { self.now = until.unwrap_or(self.now); false }
//! #     fn readable(&self) -> Vec<ConnId> { self.streams.clone() }
//! #     fn read(&mut self, _: ConnId, _: &mut ReadBufs<'_>) -> usize { 0 }
//! #     fn write(&mut self, _: ConnId, _: &WriteBufs<'_>) -> usize { 0 }
//! #     fn send(&mut self, _: dunlin_core::Transmit, _: &[u8]) {}
//! # }
//! # let mut world = World { now: Instant::ORIGIN, streams: Vec::new() };
//! let rng = Box::new(ChaCha8Rng::seed_from_u64(7)); // a driver seeds it from the platform
//! let mut engine = Engine::new(world.now, Config::default(), Caps::all(), rng);
//! let mut datagram = [0; 1500];
//! loop {
//!     // Timers first: with the present time, never with the deadline that fired.
//!     if engine.poll_timeout().is_some_and(|at| at <= world.now) {
//!         engine.handle_timeout(world.now);
//!     }
//!     // Jobs. What is quick may be answered on the spot, the rest when it is done.
//!     while let Some(op) = engine.poll_op() {
//!         let Some(id) = op.id() else {
//!             continue; // TcpConnect, TcpClose, Cancel: no outcome
//!         };
//!         let outcome = match op {
//!             Op::Bind { local, .. } => Outcome::Bound(local),
//!             Op::Save { .. } | Op::Release { .. } => Outcome::Done,
//!             _ => Outcome::failed(OpErrorKind::Unsupported, "not on this platform"),
//!         };
//!         engine.handle_op(world.now, id, outcome);
//!     }
//!     // Streams that have something to say, or may read again.
//!     while let Some((conn, interest)) = engine.poll_interest() {
//!         if interest.write {
//!             let written = {
//!                 let mut bufs = WriteBufs::new();
//!                 engine.write_bufs(world.now, conn, &mut bufs);
//!                 world.write(conn, &bufs)
//!             };
//!             engine.handle_written(world.now, conn, written);
//!         }
//!     }
//!     while let Some(transmit) = engine.poll_transmit(world.now, 1, &mut datagram) {
//!         world.send(transmit, &datagram[..transmit.len]);
//!     }
//!     while let Some(event) = engine.poll_event() {
//!         if let Event::Notice(notice) = event {
//!             println!("{}", notice.what);
//!         }
//!     }
//!     // Sleep until something happens, then let streams read.
//!     if !world.wait(engine.poll_timeout()) {
//!         break;
//!     }
//!     for conn in world.readable() {
//!         let len = {
//!             let mut bufs = ReadBufs::new();
//!             engine.read_bufs(world.now, conn, &mut bufs);
//!             world.read(conn, &mut bufs)
//!         };
//!         engine.handle_read(world.now, conn, len);
//!     }
//! }
//! ```

mod adding;
mod assembly;
mod audit;
mod checking;
mod claim;
mod command;
mod commands;
mod conn;
mod connect;
mod conns;
mod counts;
mod deadlines;
mod dht;
mod download;
mod durability;
mod end;
mod ending;
mod endpoints;
mod event;
mod fetch;
mod io;
mod lifecycle;
mod member;
mod member_id;
mod metadata;
mod network;
mod ops;
mod outbox;
mod peers;
mod prefix;
mod queries;
mod request;
mod resume;
mod rounds;
mod saving;
mod search;
mod setup;
mod snapshots;
mod status;
mod stream;
mod streams;
mod swarm;
mod sweep;
mod tally;
mod timers;
mod torrent;
mod torrents;
mod tracker_queries;
mod trackers;
mod upload;

use alloc::{boxed::Box, vec::Vec};

use rand_core::Rng;

pub use command::{Command, CommandError, Reply};
pub use dht::{DhtNodeError, DhtStatus, StatValue, ThrottleInUse};
pub use download::DISK_RETRY;
pub use event::{Changes, Event, Level, Notice, What};
pub use request::{AddError, AddTorrent, Check, Existing, Interest, Scope, Source};
pub use status::{
    EngineStatus, FilePriority, FileStatus, PeerSource, PeerStatus, State, TorrentStatus,
};

use self::conns::Conns;
use self::endpoints::Endpoints;
use self::io::{DhtState, Io};
use self::ops::Purpose;
use self::outbox::Outbox;
use self::setup::Setup;
use self::sweep::{Sweep, Why};
use self::timers::Timer;
use self::torrent::{Torrent, Wants};
use self::torrents::Torrents;
use self::tracker_queries::Trackers;
use crate::op::SocketKind;
use crate::throttle::{BucketId, Direction, Throttle};
use crate::{
    BlockPool, BlockRef, Caps, Config, Handled, Instant, Machine, Op, OpId, Outcome, RecvMeta,
    SocketId, TorrentId, Transmit,
};

pub use crate::peer::MAX_IOV;
pub use crate::peer::crypto::StreamEncryption;

/// A list of buffers to read into, in order.
pub type ReadBufs<'a> = heapless::Vec<&'a mut [u8], MAX_IOV>;
/// A list of buffers to write from, in order.
pub type WriteBufs<'a> = heapless::Vec<&'a [u8], MAX_IOV>;

/// The engine: one owner, plain `&mut self`, no locks, no callbacks.
///
/// The driver's contract is described in the [module documentation](self).
pub struct Engine {
    now: Instant,
    rng: Box<dyn Rng + Send>,
    setup: Setup,
    pool: BlockPool,
    conns: Conns,
    torrents: Torrents,
    out: Outbox,
    trackers: Trackers,
    throttle: Throttle,
    sweep: Sweep,
    /// `None`: there is no DHT at all.
    dht: Option<Box<dht::Server>>,

    stop: Stop,
    endpoints: Endpoints,
    /// Reused by the picker, so that asking for blocks allocates nothing.
    picked: Vec<BlockRef>,
}

/// How far shutting down has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Running,
    Stopping,
    Told,
}

impl core::fmt::Debug for Engine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Engine")
            .field("now", &self.now)
            .field("torrents", &self.torrents.len())
            .field("connections", &self.conns.len())
            .finish_non_exhaustive()
    }
}

/// The context of a call, from disjoint fields.
macro_rules! cx {
    ($engine:expr) => {
        crate::Cx {
            now: $engine.now,
            rng: &mut *$engine.rng,
        }
    };
}
use cx;

impl Engine {
    /// An engine without torrents; it asks for its sockets by ops at once. `rng` must be well
    /// seeded: peers and trackers see what it yields.
    #[must_use]
    pub fn new(now: Instant, mut config: Config, caps: Caps, mut rng: Box<dyn Rng + Send>) -> Self {
        let mut throttle = Throttle::new();
        throttle.set_rate(now, BucketId::ROOT, Direction::Down, config.limit_down);
        throttle.set_rate(now, BucketId::ROOT, Direction::Up, config.limit_up);
        let dht = dht::Server::new(&mut config, &caps, &mut throttle, now);
        let out = Outbox::new(&config);
        let trackers = Trackers::new(&config);
        let pool = BlockPool::new(config.max_blocks.max(1) as usize);
        let mut engine = Self {
            now,
            setup: Setup::new(config, caps, &mut *rng),
            rng,
            pool,
            conns: Conns::default(),
            torrents: Torrents::default(),
            out,
            trackers,
            throttle,
            sweep: Sweep::default(),
            dht,
            stop: Stop::Running,
            endpoints: Endpoints::default(),
            picked: Vec::new(),
        };
        engine.bind_all();
        engine.dht_begin();
        engine.settle();
        engine
    }

    fn bind_all(&mut self) {
        for local in self.setup.config.listen.clone() {
            let socket = SocketId::for_addr(&local);
            for kind in [SocketKind::TcpListener, SocketKind::Udp] {
                self.endpoints.binding += 1;
                self.out
                    .ops
                    .job(Purpose::Bind(socket, kind), |op| Op::Bind {
                        op,
                        socket,
                        kind,
                        local,
                    });
            }
        }
    }

    /// Law 5: time never runs backwards inside.
    fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Hands the engine a datagram. It may be changed in place.
    pub fn handle_udp(&mut self, now: Instant, meta: &RecvMeta, data: &mut [u8]) {
        self.tick(now);
        if self.dht_datagram(meta, data) == Handled::Consumed {
            return self.settle();
        }
        if self
            .trackers
            .udp
            .handle_datagram(&mut cx!(self), meta, data)
            == Handled::NotMine
        {
            self.out.stray_datagrams += 1;
        }
        self.after_udp();
        self.settle();
    }

    /// Lets due timers act. A call too early does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.tick(now);
        // Bounded: what is re-armed inside is later than now.
        while let Some(timer) = self.out.timers.pop_due(self.now) {
            match timer {
                Timer::Conn(id) => self.conn_timeout(id),
                Timer::Torrent(id, timer) => {
                    if let Some((t, mut io)) = self.at(id) {
                        t.handle_timeout(&mut io, timer);
                    }
                }
                Timer::Udp => {
                    self.trackers.udp.handle_timeout(&mut cx!(self));
                    self.after_udp();
                }
                Timer::Dht => self.dht_timeout(),
                Timer::Throttle => self.throttle_ready(),
                Timer::Sweep => self.sweep_step(),
                Timer::Stop => self.stop_overdue(),
            }
            self.settle();
        }
    }

    /// When [`Engine::handle_timeout`] wants to be called next. O(1).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.out.timers.next().map(|(at, _)| at)
    }

    /// What the next timeout is for, and what the last one was for: to explain wake-ups.
    #[must_use]
    pub fn timeout_reason(&self) -> (Option<&'static str>, Option<&'static str>) {
        (
            self.out.timers.next().map(|(_, t)| t.name()),
            self.out.timers.last().map(Timer::name),
        )
    }

    /// Writes the next datagram into `buf`, which should hold 1500 bytes at least. Trains of
    /// more than one segment are for uTP, which is to come.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        _max_segments: usize,
        buf: &mut [u8],
    ) -> Option<Transmit> {
        self.tick(now);
        let transmit = self.trackers.udp.poll_transmit(&mut cx!(self), buf);
        self.out
            .timers
            .set(Timer::Udp, self.trackers.udp.poll_timeout());
        let transmit = transmit.or_else(|| self.dht_transmit(buf));
        self.settle();
        transmit
    }

    /// The next job. A job waits while [`Config::max_jobs`], [`Config::max_requests`] or
    /// [`Config::max_lookups`] of its class are in flight.
    pub fn poll_op(&mut self) -> Option<Op> {
        self.out.ops.poll()
    }

    /// The next thing the application may want to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(notice) = self.out.poll_notice() {
            return Some(notice);
        }
        while let Some(torrent) = self.out.changed.pop_front() {
            if let Some(t) = self.torrents.get_mut(&torrent) {
                let what = core::mem::take(&mut t.changes);
                return Some(Event::Changed { torrent, what });
            }
        }
        if let Some(id) = self.out.removed.pop_front() {
            return Some(Event::Removed(id));
        }
        if let Some(event) = self.dht.as_mut().and_then(|s| s.poll_event()) {
            return Some(Event::Dht(event));
        }
        if self.is_stopped() {
            self.stop = Stop::Told;
            return Some(Event::Stopped);
        }
        None
    }

    /// Whether anything waits in one of the `poll_` functions but the timer.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.out.is_pending()
            || self.trackers.udp.has_transmit()
            || self.dht.as_ref().is_some_and(|s| s.has_output())
            || self.is_stopped()
    }

    /// Whether all is done after [`Engine::shutdown`], and the application was not told yet.
    fn is_stopped(&self) -> bool {
        self.stop == Stop::Stopping && self.torrents.is_empty() && self.out.ops.len() == 0
    }

    /// What came of an op. An unknown id is ignored, but blocks are taken home all the same.
    pub fn handle_op(&mut self, now: Instant, op: OpId, outcome: Outcome) {
        self.tick(now);
        let Some(purpose) = self.out.ops.answered(op) else {
            self.out.stray_outcomes += 1;
            self.parts().1.take_home(outcome);
            return;
        };
        match purpose {
            Purpose::Bind(socket, kind) => self.bound(socket, kind, outcome),
            Purpose::Resolve(id, key) => {
                if let Some((t, mut io)) = self.at(id) {
                    t.resolved(&mut io, key, outcome);
                }
            }
            Purpose::Http(id, key) => {
                if let Some((t, mut io)) = self.at(id) {
                    t.fetched(&mut io, key, outcome);
                }
            }
            Purpose::Disk(id, job) => match self.at(id) {
                Some((t, mut io)) => t.handle_disk(&mut io, job, outcome),
                None => self.parts().1.take_home(outcome),
            },
            Purpose::Release(id) => self.released(id, &outcome),
            Purpose::DhtBind(epoch) => self.dht_bound(epoch, outcome),
            Purpose::DhtName(port, wanted) => self.dht_resolved(port, wanted, &outcome),
            Purpose::DhtQuiet => self.dht_quietly_done(&outcome),
        }
        self.settle();
    }

    /// What a torrent works with, beside all torrents.
    fn parts(&mut self) -> (&mut Torrents, Io<'_>) {
        let io = Io {
            now: self.now,
            rng: &mut *self.rng,
            setup: &self.setup,
            endpoints: &mut self.endpoints,
            trackers: &mut self.trackers,
            dht: self
                .dht
                .as_deref()
                .map_or_else(DhtState::default, dht::Server::state_for_torrents),
            pool: &mut self.pool,
            throttle: &mut self.throttle,
            conns: &mut self.conns,
            out: &mut self.out,
            picked: &mut self.picked,
        };
        (&mut self.torrents, io)
    }

    /// A torrent, and what it works with.
    fn at(&mut self, id: TorrentId) -> Option<(&mut Torrent, Io<'_>)> {
        let (torrents, io) = self.parts();
        Some((torrents.get_mut(&id)?, io))
    }

    /// Does something with a torrent, and what follows from it; `false` if there is none of this name.
    fn with(
        &mut self,
        now: Instant,
        id: TorrentId,
        what: impl FnOnce(&mut Torrent, &mut Io<'_>),
    ) -> bool {
        self.tick(now);
        let Some((t, mut io)) = self.at(id) else {
            return false;
        };
        what(t, &mut io);
        self.settle();
        true
    }

    /// Deals with what a call has left for others, until nothing is left.
    fn settle(&mut self) {
        loop {
            if let Some(id) = self.out.wanting.pop_front() {
                self.serve(id);
            } else if let Some(node) = self.out.dht_nodes.pop_front() {
                self.dht_ping_quietly(node);
            } else if let Some(conn) = self.out.welcomed.pop_front() {
                self.deliver(conn);
            } else if core::mem::take(&mut self.out.next_check) {
                self.next_check();
            } else if core::mem::take(&mut self.out.places) {
                self.deal_places();
            } else if !self.out.starving.is_empty() && self.out.fed != self.pool.given() {
                // A connection that still finds too few waits until more come home.
                self.out.fed = self.pool.given();
                self.feed_starving();
            } else {
                return;
            }
        }
    }

    /// What a torrent wants because others are concerned.
    fn serve(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let wants = core::mem::take(&mut t.wants);
        if wants.contains(Wants::DHT_TRACKER) {
            self.dht_tracker(id);
        }
        if wants.contains(Wants::DHT_END) {
            self.dht_drop_search(id);
        }
        if wants.contains(Wants::DHT) {
            self.dht_wanted(id);
        }
        if wants.contains(Wants::DHT_SEARCH) {
            self.dht_request(id);
        }
        if wants.contains(Wants::TRACKERS)
            && let Some((t, mut io)) = self.at(id)
        {
            t.pump_trackers(&mut io);
        }
        if wants.contains(Wants::PROCEED)
            && let Some((t, mut io)) = self.at(id)
        {
            t.proceed(&mut io);
        }
        if wants.contains(Wants::PLACES) {
            self.queue_dialler(id);
        }
        if wants.contains(Wants::TO_SHARE) {
            self.share_places(id);
        }
    }

    /// Hashes on, one torrent at a time: a disk with a moving head would suffer otherwise.
    fn next_check(&mut self) {
        while let Some(id) = self.out.checks.front().copied() {
            let (torrents, mut io) = self.parts();
            let t = torrents.get_mut(&id);
            if t.is_some_and(|t| t.check_on(&mut io)) {
                return;
            }
            self.out.checks.pop_front();
        }
    }

    fn bound(&mut self, socket: SocketId, kind: SocketKind, outcome: Outcome) {
        self.endpoints.binding = self.endpoints.binding.saturating_sub(1);
        match (outcome, kind) {
            (Outcome::Bound(addr), SocketKind::TcpListener) => {
                self.endpoints.listening.insert(socket, addr);
            }
            (Outcome::Bound(addr), SocketKind::Udp) => {
                self.endpoints.udp_bound.insert(socket, addr);
            }
            (Outcome::Failed { error, .. }, _) => {
                let message = error.detail;
                self.out
                    .notice(None, None, Level::Warning, What::Bind { message });
            }
            _ => {}
        }
        if self.endpoints.binding == 0 {
            self.dht_share();
            self.sweep_trackers(Why::Ready);
        }
    }
}
