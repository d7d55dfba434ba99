//! The engine: the composition of all machines, and the contract with a driver.
//!
//! # The contract
//!
//! A driver owns one [`Engine`] and does all I/O: sockets, the disk, the clock, a source of randomness. It passes in what
//! happened, with the current time, and takes out what is to be done:
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
//! Any order of calls is legal. After a call of the left column, a driver polls the functions of the right column until they
//! return nothing, before it waits again. Doing so later is merely less timely.
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
//! This is a complete driver, with a world in memory in place of sockets and a disk:
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
//!     while let Some((conn, readiness)) = engine.poll_interest() {
//!         if readiness.write {
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

mod command;
mod dht;
mod network;
mod streams;
mod testing;
mod torrents;
mod views;

use alloc::{boxed::Box, vec::Vec};
use core::net::SocketAddr;

use rand_core::Rng;

pub use command::{Command, CommandError, Reply};
pub use dht::{DhtRef, DhtStatus, StatValue, ThrottleInUse};
pub use views::TorrentRef;

pub use crate::peer::MAX_IOV;
pub use crate::peer::crypto::StreamEncryption;
pub use crate::torrent::{
    AddError, AddTorrent, Changes, Check, DISK_RETRY, EngineStatus, Event, Existing, FilePriority,
    FileStatus, Level, Notice, PeerSource, PeerStatus, ReadBufs, Readiness, Scope, Source, State,
    TorrentStatus, What, WriteBufs,
};

use self::torrents::{Torrents, Why};
use crate::mux::{Pending, Proto, Sender, Turns, classify};
use crate::throttle::{BucketId, Direction, Throttle};
use crate::torrent::conn::table::Conns;
use crate::torrent::endpoints::Endpoints;
use crate::torrent::io::{DhtState, Io};
use crate::torrent::outbox::Outbox;
use crate::torrent::outbox::ops::Purpose;
use crate::torrent::outbox::timers::Timer;
use crate::torrent::setup::Setup;
use crate::torrent::tracker_queries::Trackers;
use crate::torrent::{Torrent, Wants, cx};
use crate::{
    BlockPool, BlockRef, Caps, Config, DhtMode, Handled, Instant, Machine, Op, OpId, Outcome,
    RecvMeta, TorrentId, Transmit,
};

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
    /// `None` if there is no DHT.
    dht: Option<Box<dht::Server>>,

    stop: Stop,
    endpoints: Endpoints,
    /// A buffer that the picker reuses, so that picking blocks does not allocate.
    picked: Vec<BlockRef>,
}

/// How far the shutdown has come.
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

impl Engine {
    /// Creates an engine without torrents. It requests its sockets by ops at once. `rng` has to be seeded well, as peers and
    /// trackers see some of its output.
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
            dht,
            stop: Stop::Running,
            endpoints: Endpoints::default(),
            picked: Vec::new(),
        };
        let (dht, torrents, mut io) = engine.parts();
        io.bind_all();
        match dht {
            Some(dht) => dht.begin(&mut io, torrents),
            None if matches!(io.setup.config.dht, DhtMode::On | DhtMode::Auto) => {
                io.out
                    .notice(None, None, Level::Info, What::DhtNeedsSession);
            }
            None => {}
        }
        engine.settle();
        engine
    }

    /// Law 5: time never runs backwards inside the engine.
    fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// A datagram was received. It may be changed in place.
    pub fn handle_udp(&mut self, now: Instant, meta: &RecvMeta, data: &mut [u8]) {
        self.tick(now);
        let (dht, torrents, mut io) = self.parts();
        let pending = Pending {
            trackers: &io.trackers.udp,
        };
        let handled = match classify(&pending, meta, data) {
            Some(Proto::Tracker) => {
                let udp = &mut io.trackers.udp;
                let handled = udp.handle_datagram(&mut cx!(io), meta, data);
                torrents.hear_trackers(&mut io);
                handled
            }
            Some(Proto::Dht) => dht.map_or(Handled::NotMine, |dht| {
                dht.handle_datagram(&mut io, torrents, meta, data)
            }),
            // There is no machine for them yet.
            Some(Proto::Stun | Proto::Utp) | None => Handled::NotMine,
        };
        io.out.stray_datagrams += u64::from(handled == Handled::NotMine);
        self.settle();
    }

    /// The platform refused to send a datagram to `addr`. If it was a query to a tracker or a DHT node, that query fails.
    pub fn handle_unsent(&mut self, now: Instant, addr: SocketAddr) {
        self.tick(now);
        let (dht, torrents, mut io) = self.parts();
        io.trackers.udp.handle_unsent(&mut cx!(io), addr);
        torrents.hear_trackers(&mut io);
        if let Some(dht) = dht {
            dht.handle_unsent(&mut io, torrents, addr);
        }
        self.settle();
    }

    /// Handles the timers that are due. A call that is too early does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.tick(now);
        // Bounded, as timers that are armed inside are later than now.
        while let Some(timer) = self.out.timers.pop_due(self.now) {
            let (dht, torrents, mut io) = self.parts();
            let io = &mut io;
            match timer {
                Timer::Conn(id) => self.conn_timeout(id),
                Timer::Torrent(id, timer) => {
                    if let Some(t) = torrents.get_mut(&id) {
                        t.handle_timeout(io, timer);
                    }
                }
                Timer::Udp => {
                    io.trackers.udp.handle_timeout(&mut cx!(io));
                    torrents.hear_trackers(io);
                }
                Timer::Dht => {
                    if let Some(dht) = dht {
                        dht.handle_timeout(io, torrents);
                    }
                }
                Timer::Throttle => self.throttle_ready(),
                Timer::Sweep => torrents.sweep_step(io),
                Timer::Stop => torrents.stop_overdue(io),
            }
            self.settle();
        }
    }

    /// When [`Engine::handle_timeout`] has to be called next. O(1).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.out.timers.next().map(|(at, _)| at)
    }

    /// The names of the next timer and of the last one that fired, to explain wake-ups.
    #[must_use]
    pub fn timeout_reason(&self) -> (Option<&'static str>, Option<&'static str>) {
        (
            self.out.timers.next().map(|(_, t)| t.name()),
            self.out.timers.last().map(Timer::name),
        )
    }

    /// Writes the next datagram into `buf`, which should hold at least 1500 bytes, or a train of up to `max_segments`
    /// datagrams to one destination. Trains are announces of many torrents to one UDP tracker. Datagrams of the DHT go to
    /// different nodes, or differ in length.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        max_segments: usize,
        buf: &mut [u8],
    ) -> Option<Transmit> {
        self.tick(now);
        if !self.has_transmit() {
            return None;
        }
        let (mut dht, torrents, mut io) = self.parts();
        let transmit = (0..Turns::MACHINES).find_map(|earlier| {
            let transmit = match io.out.turns.after(earlier) {
                Sender::Trackers => {
                    let udp = &mut io.trackers.udp;
                    let transmit = udp.poll_train(&mut cx!(io), max_segments, buf);
                    io.out.timers.set(Timer::Udp, udp.poll_timeout());
                    transmit
                }
                Sender::Dht => {
                    let dht = dht.as_mut();
                    dht.and_then(|dht| dht.poll_transmit(&mut io, torrents, buf))
                }
            }?;
            io.out.turns.sent(earlier);
            Some(transmit)
        });
        self.settle();
        transmit
    }

    /// Returns the next op. A job waits while [`Config::max_jobs`], [`Config::max_requests`] or [`Config::max_lookups`] of
    /// its class are in flight.
    pub fn poll_op(&mut self) -> Option<Op> {
        self.out.ops.poll()
    }

    /// Returns the next event for the application.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(notice) = self.out.poll_notice() {
            return Some(notice);
        }
        while let Some(torrent) = self.out.changed.pop_front() {
            if let Some(t) = self.torrents.get_mut(&torrent) {
                let what = t.intents.take_changes();
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

    /// Whether any `poll_` function except [`Engine::poll_timeout`] would return something.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.out.is_pending()
            || self.has_transmit()
            || self.dht.as_ref().is_some_and(|s| s.has_events())
            || self.is_stopped()
    }

    /// Whether a machine has a datagram to send.
    fn has_transmit(&self) -> bool {
        self.trackers.udp.has_transmit() || self.dht.as_ref().is_some_and(|s| s.has_transmit())
    }

    /// Whether the shutdown is complete, and the application was not told yet.
    fn is_stopped(&self) -> bool {
        self.stop == Stop::Stopping && self.torrents.is_empty() && self.out.ops.len() == 0
    }

    /// The outcome of an op. An unknown id is ignored, but its blocks return to the pool.
    pub fn handle_op(&mut self, now: Instant, op: OpId, outcome: Outcome) {
        self.tick(now);
        let (dht, torrents, mut io) = self.parts();
        let io = &mut io;
        let Some(purpose) = io.out.ops.answered(op) else {
            io.out.stray_outcomes += 1;
            io.take_home(outcome);
            return;
        };
        match purpose {
            Purpose::Bind(socket, kind) => {
                if io.bound(socket, kind, outcome) {
                    if let Some(dht) = dht {
                        dht.main_bound(io, torrents);
                    }
                    torrents.sweep(io, Why::Ready);
                }
            }
            Purpose::Resolve(id, key) => {
                if let Some(t) = torrents.get_mut(&id) {
                    t.sources.resolved(io, &mut t.intents, key, outcome);
                }
            }
            Purpose::Http(id, key) => {
                if let Some(t) = torrents.get_mut(&id) {
                    t.sources.fetched(io, &mut t.intents, key, outcome);
                }
            }
            Purpose::Fetch => io.fetched(outcome),
            Purpose::Disk(id, job) => match torrents.get_mut(&id) {
                Some(t) => t.handle_disk(io, job, outcome),
                None => io.take_home(outcome),
            },
            Purpose::Release(id) => {
                if let Some(dht) = dht {
                    dht.drop_search(io, torrents, id);
                }
                torrents.released(io, id, &outcome);
            }
            Purpose::DhtBind(epoch) => {
                if let Some(dht) = dht {
                    dht.own_bound(io, torrents, epoch, outcome);
                }
            }
            Purpose::DhtName(port, wanted) => {
                if let Some(dht) = dht {
                    dht.resolved(io, torrents, (port, wanted), &outcome);
                }
            }
            Purpose::DhtQuiet => dht::quietly_done(io, &outcome),
        }
        self.settle();
    }

    /// The parts of the engine that a call needs, borrowed side by side.
    fn parts(&mut self) -> (Option<&mut dht::Server>, &mut Torrents, Io<'_>) {
        let dht = self.dht.as_deref_mut();
        let io = Io {
            now: self.now,
            rng: &mut *self.rng,
            setup: &self.setup,
            endpoints: &mut self.endpoints,
            trackers: &mut self.trackers,
            dht: dht
                .as_deref()
                .map_or_else(DhtState::default, dht::Server::state_for_torrents),
            pool: &mut self.pool,
            throttle: &mut self.throttle,
            conns: &mut self.conns,
            out: &mut self.out,
            picked: &mut self.picked,
        };
        (dht, &mut self.torrents, io)
    }

    /// Returns a torrent with its context.
    fn at(&mut self, id: TorrentId) -> Option<(&mut Torrent, Io<'_>)> {
        let (_, torrents, io) = self.parts();
        Some((torrents.get_mut(&id)?, io))
    }

    /// Handles what a call has left in the outbox, until nothing is left.
    fn settle(&mut self) {
        loop {
            if let Some(id) = self.out.wanting.pop_front() {
                self.serve(id);
            } else if let Some(node) = self.out.dht_nodes.pop_front() {
                if let (Some(dht), torrents, mut io) = self.parts() {
                    dht.ping_quietly(&mut io, torrents, node);
                }
            } else if let Some(conn) = self.out.welcomed.pop_front() {
                self.deliver(conn);
            } else if core::mem::take(&mut self.out.next_check) {
                let (_, torrents, mut io) = self.parts();
                torrents.next_check(&mut io);
            } else if core::mem::take(&mut self.out.places) {
                let (_, torrents, mut io) = self.parts();
                torrents.deal_places(&mut io);
            } else if !self.out.starving.is_empty() && self.out.returned_seen != self.pool.given() {
                // A connection that still finds too few blocks waits until more return.
                self.out.returned_seen = self.pool.given();
                self.feed_starving();
            } else {
                return;
            }
        }
    }

    /// Does what a torrent wants from the engine.
    fn serve(&mut self, id: TorrentId) {
        let (dht, torrents, mut io) = self.parts();
        let io = &mut io;
        let mut torrent = torrents.get_mut(&id);
        let wants = torrent.as_mut().map(|t| t.intents.take_wants());
        let wants = wants.unwrap_or_default();
        if let Some(dht) = dht.filter(|_| wants.intersects(Wants::OF_DHT)) {
            dht.serve(io, torrents, id, wants);
            torrent = torrents.get_mut(&id);
        }
        if let Some(t) = torrent {
            if wants.contains(Wants::TRACKERS) {
                t.pump_trackers(io);
            }
            if wants.contains(Wants::PROCEED) {
                t.proceed(io);
            }
        }
        if wants.contains(Wants::PLACES) {
            torrents.queue_dialler(io, id);
        }
        if wants.contains(Wants::TO_SHARE) {
            torrents.share_places(io, id);
        }
    }
}
