//! The driver: one task that owns the engine and does its I/O.
//!
//! ```text
//!   application ──commands──▶ ┌────────────────────────────┐ ◀──readiness── tokio
//!               ◀──events──── │ Driver { Engine, streams,  │
//!                             │   sockets, jobs, timer }   │ ──disk ops──▶ disk threads
//!                             └────────────────────────────┘ ◀──outcomes──
//! ```
//!
//! The task is a hand-written future. There is no lock around the engine and no task per
//! connection: everything that can become ready has a waker of its own that puts it into a list
//! (see [`ready`]), and a poll of the future looks at what is in the list.
//!
//! A turn goes in the order of the contract: timers; outcomes and commands; ops; interest,
//! writes and reads; datagrams and newcomers; events. It repeats while it makes progress, within
//! a budget, after which the task yields and asks to be woken again.

mod conns;
mod jobs;
mod ready;
mod sockets;
mod watch;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use dunlin_core::{
    Instant, Op, OpId, TorrentId,
    engine::{AddError, Engine, EngineStatus, Event, What},
    op::{OpErrorKind, Outcome},
};
use dunlin_std::{
    disk::Disk,
    driver::torrents::{Torrents, warning},
    net::interfaces::{InterfaceWatch, Turn},
    net::resolve::{Resolver, ResolverConfig},
    net::socket::{self, Route},
    session::add::Ready,
    session::store::Store,
};
use tokio::{
    sync::{broadcast, mpsc},
    time::{Sleep, sleep_until},
};

use self::{
    conns::Conns,
    jobs::Jobs,
    ready::{Bell, List, Source},
    sockets::Sockets,
    watch::Watches,
};
use crate::{
    net::{Dialer, Http},
    platform::Clock,
};

/// Turns in one poll of the task before others get their chance.
const TURNS_PER_POLL: usize = 16;
/// Commands carried out in one turn.
const COMMANDS_PER_TURN: usize = 32;
/// Ops taken from the engine in one turn.
const OPS_PER_TURN: usize = 256;
/// Events taken from the engine in one turn.
const EVENTS_PER_TURN: usize = 256;
/// Polls in a row that may do nothing. A few are in order (a timer that was put off, a socket
/// that turned out to be drained); a row this long means that something spins (law 3).
const MAX_IDLE_POLLS: u32 = 1_000;

/// What an application wants done with the engine, in the engine's task.
pub(crate) type Command = Box<dyn FnOnce(&mut Driver) + Send>;

/// What the driver did. Counters since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Times the task was polled.
    pub polls: u64,
    /// Turns within these polls.
    pub turns: u64,
    /// Polls that found nothing to do.
    pub idle_polls: u64,
    /// Most of these in a row. Thousands mean a spin.
    pub idle_polls_in_a_row: u32,
    /// `readv` calls on streams.
    pub reads: u64,
    /// Bytes they returned.
    pub read_bytes: u64,
    /// `writev` calls on streams.
    pub writes: u64,
    /// Bytes they took.
    pub written_bytes: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Disk ops handed to the disk's threads.
    pub disk_ops: u64,
    /// Times that accepting paused for want of descriptors or memory.
    pub accept_pauses: u64,
    /// Whether this poll did anything.
    progress: bool,
    idle_now: u32,
}

/// What a session came to. See [`Session::shutdown`](crate::Session::shutdown).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// The engine at its end: no torrents, no connections, nothing in flight.
    pub engine: EngineStatus,
    /// What the driver did in all.
    pub stats: Stats,
}

/// What a driver is made of.
pub(crate) struct Parts {
    pub(crate) engine: Engine,
    pub(crate) clock: Clock,
    pub(crate) route: Route,
    pub(crate) http: Arc<Http>,
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: broadcast::Sender<Event>,
}

/// The engine's task.
pub(crate) struct Driver {
    pub(crate) engine: Engine,
    pub(crate) disk: Disk,
    pub(crate) watches: Watches,
    pub(crate) stats: Stats,
    clock: Clock,
    list: List,
    batch: Vec<Source>,
    conns: Conns,
    sockets: Sockets,
    jobs: Jobs,
    proxied: bool,
    http: Arc<Http>,
    commands: mpsc::Receiver<Command>,
    commands_bell: Bell,
    commands_ready: bool,
    /// Told to stop, by command or because nobody is left to command.
    stopping: bool,
    events: broadcast::Sender<Event>,
    outcomes: Vec<(OpId, Outcome)>,
    disk_bell: Bell,
    names: Resolver,
    names_bell: Bell,
    timer: Pin<Box<Sleep>>,
    timer_bell: Bell,
    /// What the timer is set to; `None` if it need not fire.
    armed: Option<Instant>,
    stopped: bool,
    torrents: Torrents,
    /// Over the interface that traffic is bound to, if it is.
    interface: Option<InterfaceWatch>,
}

impl Driver {
    /// Makes a driver; to be spawned.
    ///
    /// # Errors
    /// The disk's threads could not be started.
    pub(crate) fn new(
        parts: Parts,
        disk: impl FnOnce(Arc<dyn Fn() + Send + Sync>) -> std::io::Result<Disk>,
    ) -> std::io::Result<Self> {
        let list = List::default();
        let disk_bell = Bell::new(Source::Disk, &list);
        let ring = Arc::clone(&disk_bell.own);
        let names_bell = Bell::new(Source::Names, &list);
        let ring_names = Arc::clone(&names_bell.own);
        let names = Resolver::new(
            ResolverConfig::default(),
            Arc::new(move || ring_names.ring()),
        );
        let commands_bell = Bell::new(Source::Commands, &list);
        let timer_bell = Bell::new(Source::Timer, &list);
        let proxied = parts.route.proxy.is_some();
        let interface = InterfaceWatch::new(&parts.route.egress, parts.clock.now());
        let dialer = Dialer::new(parts.route.clone(), parts.http.watch());
        Ok(Self {
            engine: parts.engine,
            disk: disk(Arc::new(move || ring.ring()))?,
            watches: Watches::new(&list),
            stats: Stats::default(),
            clock: parts.clock,
            batch: Vec::new(),
            conns: Conns::new(list.clone(), dialer),
            proxied,
            sockets: Sockets::new(list.clone(), parts.route),
            jobs: Jobs::new(&list),
            http: parts.http,
            commands: parts.commands,
            commands_bell,
            commands_ready: true,
            stopping: false,
            events: parts.events,
            outcomes: Vec::new(),
            disk_bell,
            names,
            names_bell,
            timer: Box::pin(sleep_until(tokio::time::Instant::now())),
            timer_bell,
            armed: None,
            stopped: false,
            torrents: Torrents::new(parts.store, proxied),
            interface,
            list,
        })
    }

    /// The current time, as the engine counts it.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Adds a torrent.
    ///
    /// # Errors
    /// See [`AddError`].
    pub(crate) fn add(&mut self, ready: Ready) -> Result<TorrentId, AddError> {
        let (now, events) = (self.clock.now(), &self.events);
        // Nobody listens: fine.
        let mut tell = |event| drop(events.send(event));
        self.torrents
            .add(&mut self.engine, &self.disk, now, ready, &mut tell)
    }

    /// Takes those trackers out of `urls` that could only be asked around the proxy, and says so.
    pub(crate) fn keep_reachable(&self, urls: &mut Vec<String>) {
        self.torrents
            .keep_reachable(urls, &mut |event| drop(self.events.send(event)));
    }

    /// Begins to stop.
    pub(crate) fn stop(&mut self) {
        if !self.stopping {
            self.stopping = true;
            self.engine.shutdown(self.clock.now());
        }
    }

    /// One turn; returns whether anything is left to do at once.
    fn turn(&mut self, cx: &Context<'_>) -> bool {
        let before = std::mem::take(&mut self.stats.progress);
        self.list.take(cx, &mut self.batch);
        self.sort_batch();
        let mut now = self.clock.now();
        self.run_timer(now);
        self.watch_interface(now);
        self.take_outcomes(now);
        self.run_commands();
        let more_ops = self.start_ops(now);

        now = self.clock.now();
        while let Some((id, interest)) = self.engine.poll_interest() {
            self.stats.progress = true;
            self.conns.interest(id, interest);
        }
        self.conns.turn(&mut self.engine, now, &mut self.stats);
        let more_datagrams = self.sockets.send(&mut self.engine, now, &mut self.stats);
        self.sockets.receive(&mut self.engine, now, &mut self.stats);
        self.sockets
            .accept(&mut self.conns, &mut self.engine, now, &mut self.stats);
        let more_events = self.pass_events(now);
        self.stats.progress |= self.watches.poll(&self.engine, now);
        let progress = self.stats.progress;
        self.stats.progress |= before;
        // Output that nobody takes (all jobs in flight, a full socket) is not a reason to go on: it
        // shows as a turn without progress.
        (progress && self.engine.has_output())
            || more_ops
            || more_datagrams
            || more_events
            || self.commands_ready
            || self.conns.busy()
            || self.sockets.busy()
    }

    /// Hands what rang to those concerned.
    fn sort_batch(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        for source in batch.drain(..) {
            match source {
                Source::Conn(index) => self.conns.rang(index),
                Source::Udp(id) => self.sockets.udp_rang(id),
                Source::Listener(id) => self.sockets.listener_rang(id),
                Source::Commands => {
                    self.commands_bell.own.clear();
                    self.commands_ready = true;
                }
                Source::Disk => {
                    self.disk_bell.own.clear();
                    self.disk.drain(&mut self.outcomes);
                    for note in self.disk.take_notes() {
                        let _ = self.events.send(warning(What::Disk { message: note }));
                    }
                }
                Source::Names => {
                    self.names_bell.own.clear();
                    self.names.drain(&mut self.outcomes);
                }
                Source::Jobs => {
                    self.jobs.rang();
                    while let Some(done) = self.jobs.poll() {
                        self.outcomes.push(done);
                    }
                }
                Source::Timer => {
                    self.timer_bell.own.clear();
                    self.armed = None;
                }
                Source::Watch => self.watches.rang(),
            }
        }
        // Its memory serves the next turn.
        self.batch = batch;
    }

    fn run_timer(&mut self, now: Instant) {
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now);
            // Law 3: either it is later now, or there is output, which counts as progress.
            self.stats.progress |= self.engine.poll_timeout().is_none_or(|at| at > now);
        }
    }

    fn watch_interface(&mut self, now: Instant) {
        let Some(watch) = &mut self.interface else {
            return;
        };
        let Some(turn) = watch.look(now) else {
            return;
        };
        self.stats.progress = true;
        if matches!(turn, Turn::Gone | Turn::Replaced) {
            self.engine.network_lost(now, watch.name());
        }
        if matches!(turn, Turn::Back | Turn::Replaced) {
            // Those that were bound for a datagram have no successors yet.
            self.sockets.clear();
            self.engine.network_back(now, watch.name());
        }
    }

    fn take_outcomes(&mut self, now: Instant) {
        self.stats.progress |= !self.outcomes.is_empty();
        for (op, outcome) in self.outcomes.drain(..) {
            self.engine.handle_op(now, op, outcome);
        }
    }

    fn run_commands(&mut self) {
        if !self.commands_ready {
            return;
        }
        let waker = self.commands_bell.waker.clone();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..COMMANDS_PER_TURN {
            match self.commands.poll_recv(&mut cx) {
                Poll::Ready(Some(command)) => {
                    self.stats.progress = true;
                    command(self);
                }
                // Every handle is gone: nobody can want anything any more.
                Poll::Ready(None) => {
                    self.commands_ready = false;
                    return self.stop();
                }
                Poll::Pending => {
                    self.commands_ready = false;
                    return;
                }
            }
        }
    }

    fn start_ops(&mut self, now: Instant) -> bool {
        for _ in 0..OPS_PER_TURN {
            let Some(op) = self.engine.poll_op() else {
                return false;
            };
            self.stats.progress = true;
            // What the system has in memory costs less to copy than to hand to a thread.
            match self.disk.read_cached(op) {
                Ok((id, outcome)) => {
                    self.stats.disk_ops += 1;
                    self.engine.handle_op(now, id, outcome);
                }
                Err(op) => match self.disk.submit(op) {
                    None => self.stats.disk_ops += 1,
                    Some(op) => self.start_op(op, now),
                },
            }
        }
        true
    }

    fn start_op(&mut self, op: Op, now: Instant) {
        match op {
            Op::Bind {
                op,
                socket,
                kind,
                local,
            } => {
                let outcome = if self.proxied {
                    Outcome::failed(
                        OpErrorKind::Unsupported,
                        format!("{local}: with a proxy nothing is bound beside it"),
                    )
                } else {
                    match self.sockets.bind(socket, kind, local) {
                        Ok(bound) => Outcome::Bound(bound),
                        Err(error) => socket::bind_failure(local, &error),
                    }
                };
                self.engine.handle_op(now, op, outcome);
            }
            Op::Unbind { op, socket } => {
                self.sockets.unbind(socket);
                self.engine.handle_op(now, op, Outcome::Done);
            }
            Op::TcpConnect { conn, remote } => self.conns.connect(conn, remote),
            Op::TcpClose { conn, how } => self.conns.close(conn, how),
            Op::Resolve { op, host } => {
                if self.proxied {
                    let reason = format!("{host}: with a proxy names are not looked up here");
                    let outcome = Outcome::failed(OpErrorKind::Unsupported, reason);
                    self.engine.handle_op(now, op, outcome);
                } else {
                    self.names.submit(op, host);
                }
            }
            Op::Http { op, request } => {
                self.jobs.spawn(op, Arc::clone(&self.http).answer(request));
            }
            Op::Save {
                op,
                torrent,
                record,
            } => {
                let saved = self.torrents.save(&self.disk, op, torrent, record);
                if let Some(outcome) = saved {
                    self.engine.handle_op(now, op, outcome);
                }
            }
            Op::SaveDht { op, saved } => {
                if let Some(outcome) = self.torrents.save_dht(&self.disk, op, saved) {
                    self.engine.handle_op(now, op, outcome);
                }
            }
            Op::Cancel { op } => {
                self.jobs.cancel(op);
                self.names.cancel(op);
            }
            other => {
                // Law 1 holds for ops that are newer than this driver, too.
                if let Some(op) = other.id() {
                    let reason = "this driver does not know the op";
                    let outcome = Outcome::failed(OpErrorKind::Unsupported, reason);
                    self.engine.handle_op(now, op, outcome);
                }
            }
        }
    }

    fn pass_events(&mut self, now: Instant) -> bool {
        for _ in 0..EVENTS_PER_TURN {
            let Some(event) = self.engine.poll_event() else {
                return false;
            };
            self.stats.progress = true;
            self.stopped |= event == Event::Stopped;
            if let Some(job) = self.torrents.event(&mut self.engine, now, &event) {
                tokio::task::spawn_blocking(job);
            }
            self.watches.event(&event, &self.engine, now);
            // Nobody listens: fine.
            let _ = self.events.send(event);
        }
        true
    }

    /// Sets the timer to the earliest deadline. It is moved only if it would fire too late: one
    /// that fires too early costs less than moving it on every turn.
    fn arm(&mut self) {
        let engine = self.engine.poll_timeout();
        let interface = self.interface.as_ref().map(InterfaceWatch::poll_timeout);
        let others = self.sockets.poll_timeout().into_iter().chain(interface);
        let Some(at) = engine.into_iter().chain(others).min() else {
            return;
        };
        if self.armed.is_some_and(|armed| armed <= at) {
            return;
        }
        self.timer.as_mut().reset(self.clock.deadline(at));
        self.armed = Some(at);
        let mut cx = Context::from_waker(&self.timer_bell.waker);
        if self.timer.as_mut().poll(&mut cx).is_ready() {
            self.armed = None;
            self.timer_bell.own.ring();
        }
    }

    /// Law 1 at the end: what will not be done any more is answered, so that blocks come home.
    fn finish(&mut self) -> Ended {
        let now = self.clock.now();
        self.conns.clear();
        self.sockets.clear();
        for op in self.jobs.stop() {
            let outcome = Outcome::failed(OpErrorKind::Cancelled, "stopped");
            self.engine.handle_op(now, op, outcome);
        }
        self.watches.clear();
        Ended {
            engine: self.engine.status(now),
            stats: self.stats,
        }
    }

    /// Law 3, seen from here: being woken again and again for nothing is a bug in this crate or
    /// in the engine.
    fn count_poll(&mut self) {
        let stats = &mut self.stats;
        stats.polls += 1;
        if stats.progress {
            stats.idle_now = 0;
            return;
        }
        stats.idle_polls += 1;
        stats.idle_now = stats.idle_now.saturating_add(1);
        stats.idle_polls_in_a_row = stats.idle_polls_in_a_row.max(stats.idle_now);
        debug_assert!(
            stats.idle_now < MAX_IDLE_POLLS,
            "law 3: woken {} times in a row for nothing",
            stats.idle_now
        );
    }
}

impl Future for Driver {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = self.get_mut();
        this.stats.progress = false;
        let mut more = true;
        for _ in 0..TURNS_PER_POLL {
            this.stats.turns += 1;
            more = this.turn(cx);
            if this.stopped {
                return Poll::Ready(this.finish());
            }
            if !more {
                break;
            }
        }
        this.count_poll();
        this.arm();
        if more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
