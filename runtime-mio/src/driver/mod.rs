//! The driver: a loop that owns the engine and does its I/O, on one thread.
//!
//! ```text
//!   callback ◀─events─┐                                  ┌──▶ disk threads
//!      └──Control──▶ Core { Engine, Conns, Sockets } ──ops──▶ names, HTTP: a thread each
//!   other threads          ▲          ▲      ▲           │
//!      └──Handle──commands─┘   epoll ─┘      └─ Bell ◀───┘ outcomes
//! ```
//!
//! A turn is one wait and the rounds that follow. A round goes in the order of the contract:
//! timers; outcomes and commands; ops; interest, writes and reads; datagrams and newcomers;
//! events. Rounds repeat while they make progress, within a budget, after which the kernel is
//! asked again, without waiting, who else has come.

mod asides;
mod conns;
mod control;
mod handle;
mod ops;
mod sockets;
mod stats;

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, PoisonError,
        mpsc::{Receiver, SyncSender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

use dunlin_core::{
    Instant, OpId, TorrentId,
    engine::{AddError, Engine, Event, What},
    op::Outcome,
};
use dunlin_std::{
    Error, Result,
    config::Proxy,
    disk::Disk,
    driver::torrents::{Torrents, warning},
    net::interfaces::{InterfaceWatch, Turn},
    net::proxy::Watch,
    net::resolve::{Resolver, ResolverConfig},
    pool::{Pool, PoolConfig},
    session::add::Ready,
    session::store::Store,
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use self::{
    asides::{Aside, Asides},
    conns::Conns,
    handle::{Command, Shared},
    sockets::Sockets,
};
pub use self::{control::Control, handle::Handle, stats::Stats};
use crate::{
    DriverConfig,
    bell::{Bell, Source},
    http::Http,
    poller::Poller,
};

/// Rounds in one turn before the kernel is asked again.
const ROUNDS_PER_TURN: usize = 16;
/// Commands carried out in one round.
const COMMANDS_PER_ROUND: usize = 32;
/// Events passed on in one round.
const EVENTS_PER_ROUND: usize = 256;

/// The driver: an engine, its sockets and its disk, run by the thread that calls it.
///
/// Dropping it before it was stopped closes everything at once: what the disk was given is
/// still written, but trackers hear nothing and the last records are not saved.
pub struct Driver {
    core: Core,
    commands: SyncSender<Command>,
}

/// All of it but the callback.
pub(crate) struct Core {
    engine: Engine,
    poller: Poller,
    conns: Conns,
    sockets: Sockets,
    disk: Disk,
    names: Resolver,
    /// HTTP requests under way.
    requests: Pool,
    torrents: Torrents,
    /// Over the interface that traffic is bound to, if it is.
    interface: Option<InterfaceWatch>,
    asides: Asides,
    proxy: Option<Proxy>,
    watch: Option<Arc<Watch>>,
    /// What is said of the proxy, by whichever thread met it.
    proxy_events: Receiver<Event>,
    bell: Bell,
    /// `None` once the driver has ended: whoever calls then, or waits, hears of it.
    commands: Option<Receiver<Command>>,
    commands_ready: bool,
    outcomes: Vec<(OpId, Outcome)>,
    /// Events that are not the engine's.
    told: VecDeque<Event>,
    shared: Arc<Shared>,
    thread: Option<thread::ThreadId>,
    stats: Stats,
    /// There is more to do at once.
    busy: bool,
    /// The engine has output that nobody takes at present.
    blocked: bool,
    stopping: bool,
    /// The engine has ended, and the application is to hear of it last.
    ended: bool,
    stopped: bool,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("engine", &self.core.engine)
            .field("stats", &self.core.stats)
            .finish_non_exhaustive()
    }
}

impl Driver {
    /// Makes a driver. Its sockets are bound in the first turn; one that cannot be is told of by
    /// [`What::Bind`].
    ///
    /// # Errors
    /// [`Error::Folder`] if the session's folder cannot be used or belongs to a daemon,
    /// [`Error::Start`] if the system lacks threads, descriptors or random numbers.
    pub fn new(config: impl Into<DriverConfig>) -> Result<Self> {
        let config: DriverConfig = config.into();
        let start = |error: std::io::Error| Error::Start(error.to_string());
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| Error::Start(error.to_string()))?;
        let session = config.session;
        let store = match &session.folder {
            None => None,
            Some(dir) => Some(Arc::new(Store::open(dir)?)),
        };
        let poller = Poller::new().map_err(start)?;
        let bell = Bell::new(poller.waker());
        let (mut for_engine, note) = session.for_engine_with(store.as_deref());
        // What waits does so in the engine, which is fair between torrents and servers.
        let most = |limit: u32, threads: usize| limit.min(u32::try_from(threads).unwrap_or(limit));
        for_engine.max_requests = most(for_engine.max_requests, config.http_threads);
        for_engine.max_lookups = most(for_engine.max_lookups, config.name_threads);
        let told = note.map(|message| warning(What::Disk { message }));
        let engine = Engine::new(
            poller.now(),
            for_engine,
            session.caps(),
            Box::new(ChaCha8Rng::from_seed(seed)),
        );
        let names = ResolverConfig {
            threads: config.name_threads,
            ..ResolverConfig::default()
        };
        let requests = PoolConfig {
            name: "http",
            threads: config.http_threads,
            // The engine keeps to its own limit.
            in_flight: usize::MAX,
        };
        let (sender, commands) = sync_channel(config.commands.max(1));
        let route = session.route.clone();
        let (tell, proxy_events) = channel();
        let watch = route.proxy.as_ref().map(|proxy| {
            let tell = move |event| tell.send(event).unwrap_or_default();
            Arc::new(Watch::new(proxy, tell))
        });
        let interface = InterfaceWatch::new(&route.egress, poller.now());
        let core = Core {
            interface,
            engine,
            poller,
            conns: Conns::new(route.clone(), watch.clone(), sockets::KEYS),
            sockets: Sockets::new(route.clone()),
            disk: Disk::new(session.disk, bell.of(Source::Disk)).map_err(start)?,
            names: Resolver::new(names, bell.of(Source::Names)),
            requests: Pool::new(requests, bell.of(Source::Http)),
            torrents: Torrents::new(store.clone(), route.proxy.is_some()),
            asides: Asides::default(),
            proxy: route.proxy.clone(),
            watch: watch.clone(),
            proxy_events,
            bell,
            commands: Some(commands),
            commands_ready: false,
            outcomes: Vec::new(),
            told: told.into_iter().collect(),
            shared: Arc::new(Shared::new(
                session,
                Http::new(route, watch),
                store.as_ref().map(Arc::downgrade),
            )),
            thread: None,
            stats: Stats::default(),
            // The engine asks for its sockets.
            busy: true,
            blocked: false,
            stopping: false,
            ended: false,
            stopped: false,
        };
        Ok(Self {
            core,
            commands: sender,
        })
    }

    /// For commands from other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(
            self.commands.clone(),
            self.core.bell.clone(),
            Arc::clone(&self.core.shared),
        )
    }

    /// For commands from this thread, between turns and before the first.
    pub fn control(&mut self) -> Control<'_> {
        Control::new(&mut self.core)
    }

    /// Runs until the driver has stopped; `on_event` hears what happens.
    ///
    /// # Errors
    /// [`Error::Poll`].
    pub fn run(mut self, mut on_event: impl FnMut(Event, &mut Control<'_>)) -> Result<()> {
        while self.turn(None, &mut on_event)? {}
        Ok(())
    }

    /// One turn, for an application with a loop of its own: waits until something happens,
    /// `limit` at most (`None`: without limit; zero: not at all), and does what is to be done.
    /// Returns whether to go on: `false` when the driver has stopped.
    ///
    /// # Errors
    /// [`Error::Poll`].
    pub fn turn(
        &mut self,
        limit: Option<Duration>,
        mut on_event: impl FnMut(Event, &mut Control<'_>),
    ) -> Result<bool> {
        let core = &mut self.core;
        if core.stopped {
            return Ok(false);
        }
        core.claim_thread();
        core.stats.progress = false;
        let mut outside = core.wait(limit)?;
        for _ in 0..ROUNDS_PER_TURN {
            let before = std::mem::take(&mut core.stats.progress);
            outside |= core.listen();
            let more = core.round();
            let more = core.pass_events(&mut on_event) || more;
            // Output that nobody takes (all jobs in flight, a full socket) is not a reason to go
            // on: it shows as a round without progress.
            core.busy = more || core.stats.progress && core.engine.has_output();
            core.stats.progress |= before;
            core.stats.rounds += 1;
            if core.stopped {
                core.finish();
                return Ok(false);
            }
            if !core.busy {
                break;
            }
        }
        core.stats.end_turn(outside);
        core.blocked = core.engine.has_output();
        // From here on whoever rings wakes the next wait.
        core.busy |= !core.bell.sleep();
        Ok(true)
    }

    /// How long until [`Driver::turn`] has something to do by itself; `None` if only an event
    /// from outside can tell.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        let now = self.core.poller.now();
        self.core.deadline().map(|at| at.saturating_since(now))
    }
}

/// Readable when [`Driver::turn`] has something to do, for applications whose own loop waits for
/// the driver among other things: until then, or until [`Driver::timeout`] has passed.
#[cfg(unix)]
impl std::os::fd::AsFd for Driver {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.core.poller.as_fd()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.core.leave_thread();
    }
}

impl Core {
    /// Handles refuse to wait on the thread that they would wait for.
    fn claim_thread(&mut self) {
        let own = thread::current().id();
        if self.thread != Some(own) {
            self.thread = Some(own);
            let mut shared = self
                .shared
                .thread
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *shared = Some(own);
        }
    }

    /// No thread runs the loop any more.
    fn leave_thread(&mut self) {
        self.thread = None;
        let mut shared = self
            .shared
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *shared = None;
    }

    /// When the next turn has something to do, whatever happens outside.
    fn deadline(&self) -> Option<Instant> {
        // A command between two turns may have left something to do.
        let told = !self.told.is_empty() || self.engine.has_output() && !self.blocked;
        if self.busy || told {
            return Some(Instant::ORIGIN);
        }
        let engine = self.engine.poll_timeout();
        let interface = self.interface.as_ref().map(InterfaceWatch::poll_timeout);
        let others = self.sockets.poll_timeout().into_iter().chain(interface);
        engine.into_iter().chain(others).min()
    }

    /// Waits, and takes note of what became ready; whether anything did, or the caller would not
    /// wait longer.
    fn wait(&mut self, limit: Option<Duration>) -> Result<bool> {
        let limit = limit.map(|limit| self.poller.now() + limit);
        let until = self.deadline().into_iter().chain(limit).min();
        let mut any = until == limit && limit.is_some();
        for ready in self.poller.wait(until).map_err(Error::Poll)? {
            any = true;
            match ready.key.checked_sub(sockets::KEYS) {
                None => self.sockets.ready(ready),
                Some(index) => {
                    if let Ok(index) = u32::try_from(index) {
                        self.conns.ready(index, ready);
                    }
                }
            }
        }
        Ok(any)
    }

    /// Takes what other threads have for us; whether there was anything.
    fn listen(&mut self) -> bool {
        let rung = self.bell.take();
        if rung.is_empty() {
            return false;
        }
        self.commands_ready |= rung.has(Source::Commands);
        if rung.has(Source::Disk) {
            self.disk.drain(&mut self.outcomes);
            for message in self.disk.take_notes() {
                self.told.push_back(warning(What::Disk { message }));
            }
        }
        if rung.has(Source::Names) {
            self.names.drain(&mut self.outcomes);
        }
        if rung.has(Source::Http) {
            self.requests.drain(&mut self.outcomes);
        }
        true
    }

    /// One round but for the events; whether anything is left to do at once.
    fn round(&mut self) -> bool {
        let mut now = self.poller.now();
        self.run_timer(now);
        self.watch_interface(now);
        self.take_outcomes(now);
        self.run_commands();
        let more_ops = self.start_ops(now);

        now = self.poller.now();
        while let Some((id, interest)) = self.engine.poll_interest() {
            self.stats.progress = true;
            self.conns.interest(id, interest);
        }
        let (engine, stats) = (&mut self.engine, &mut self.stats);
        self.conns.round(&self.poller, engine, now, stats);
        let more_datagrams = self.sockets.send(&self.poller, engine, now, stats);
        self.sockets.receive(engine, now, stats);
        self.sockets
            .accept(&self.poller, &mut self.conns, engine, now, stats);
        more_ops
            || more_datagrams
            || self.commands_ready
            || self.conns.busy()
            || self.sockets.busy()
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

    fn run_commands(&mut self) {
        for _ in 0..COMMANDS_PER_ROUND {
            if !self.commands_ready {
                return;
            }
            match self.commands.as_ref().map(Receiver::try_recv) {
                Some(Ok(command)) => {
                    self.stats.progress = true;
                    command(self);
                }
                Some(Err(_)) | None => self.commands_ready = false,
            }
        }
    }

    /// Passes events on; whether there are more.
    fn pass_events(&mut self, on_event: &mut impl FnMut(Event, &mut Control<'_>)) -> bool {
        self.told.extend(self.proxy_events.try_iter());
        for _ in 0..EVENTS_PER_ROUND {
            let Some(event) = self.next_event() else {
                return false;
            };
            self.stats.progress = true;
            on_event(event, &mut Control::new(self));
        }
        true
    }

    fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Some(event);
            }
            let now = self.poller.now();
            let Some(event) = self.engine.poll_event() else {
                if self.ended && !self.stopped && !self.asides.telling() {
                    self.stopped = true;
                    return Some(Event::Stopped);
                }
                return None;
            };
            if event == Event::Stopped {
                self.ended = true;
                continue;
            }
            let Some(job) = self.torrents.event(&mut self.engine, now, &event) else {
                return Some(event);
            };
            let aside = match event {
                Event::Removed(_) => Aside::Tell(event.clone()),
                _ => Aside::Nothing,
            };
            let late = matches!(aside, Aside::Tell(_));
            let op = self.asides.open(aside);
            let job = move || {
                job();
                Outcome::Done
            };
            self.disk.run(op, job);
            if !late {
                return Some(event);
            }
        }
    }

    /// Gives a torrent to the engine and the disk, and has the names of its peers looked up.
    fn insert(&mut self, ready: Ready, hosts: Vec<(String, u16)>) -> Result<TorrentId, AddError> {
        let (now, told) = (self.poller.now(), &mut self.told);
        let mut tell = |event| told.push_back(event);
        let (engine, disk) = (&mut self.engine, &self.disk);
        let id = self.torrents.add(engine, disk, now, ready, &mut tell)?;
        // Names are not looked up around a proxy.
        if self.proxy.is_none() {
            for (host, port) in hosts {
                let op = self.asides.open(Aside::Peer(id, port));
                self.names.submit(op, host);
            }
        }
        Ok(id)
    }

    /// Begins to stop.
    fn stop(&mut self) {
        if !self.stopping {
            self.stopping = true;
            self.engine.shutdown(self.poller.now());
        }
    }

    /// The engine has no op in flight any more (law 1); what is left are sockets.
    fn finish(&mut self) {
        self.conns.clear();
        self.sockets.clear();
        // Whoever waits for an answer, or for room in the queue, hears that the driver has stopped.
        self.commands = None;
        self.commands_ready = false;
        self.leave_thread();
    }
}
