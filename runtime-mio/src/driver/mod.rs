//! The driver: a loop that owns the engine and does its I/O, on one thread.
//!
//! ```text
//!   callback ◀─events─┐                                  ┌──▶ disk threads
//!      └──Control──▶ Core { Engine, Conns, Sockets } ──ops──▶ names, HTTP: a thread each
//!   other threads          ▲          ▲      ▲           │
//!      └──Handle──commands─┘   epoll ─┘      └─ Bell ◀───┘ outcomes
//! ```
//!
//! A turn is one wait and the rounds that follow. A round has the order of the contract: timers; outcomes
//! and commands; ops; interest, writes and reads; datagrams and new connections; events. Rounds are
//! repeated while they make progress, within a budget, after which the kernel is asked again, without
//! waiting, what else became ready.

mod control;
mod handle;
mod reactor;
mod requests;

use std::{
    fmt,
    sync::{
        Arc, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use dunlin_core::{Instant, engine::Event};
use dunlin_std::{
    Error, Result,
    disk::Disk,
    driver::{EngineLoop, Parts, Prepared},
    net::{
        proxy,
        resolve::{Resolver, ResolverConfig},
    },
    pool::PoolConfig,
};

pub use self::{control::Control, handle::Handle};
use self::{
    handle::{Command, Shared},
    reactor::{Key, Sockets},
    requests::Requests,
};
use crate::{
    DriverConfig,
    bell::{Bell, Source},
    http::Http,
    poller::Poller,
};

/// The most rounds in one turn, after which the kernel is asked again.
const ROUNDS_PER_TURN: usize = 16;
/// The most turns in a row without any work that nothing from outside caused. A few are normal (an
/// interrupted wait, a timer that was postponed); more mean that the driver spins (law 3).
const MAX_SPIN: u32 = 100;
/// The most commands carried out in one round.
const COMMANDS_PER_ROUND: usize = 32;
/// The most events passed on in one round.
const EVENTS_PER_ROUND: usize = 256;

/// The driver: an engine, its sockets and its disk, run by the thread that calls it.
///
/// Dropping it before it has stopped closes everything at once: the disk finishes its work, but trackers
/// are not told and the last records are not saved.
pub struct Driver {
    core: Core,
    commands: SyncSender<Command>,
}

/// Everything except the callback.
pub(crate) struct Core {
    engine_loop: EngineLoop<Sockets, Requests>,
    sockets: Sockets,
    bell: Bell,
    /// `None` once the driver has ended, so that callers get an error.
    commands: Option<Receiver<Command>>,
    commands_ready: bool,
    shared: Arc<Shared>,
    thread: Option<thread::ThreadId>,
    /// More can be done at once.
    busy: bool,
    /// The engine has output that cannot be taken at present.
    blocked: bool,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("engine_loop", &self.core.engine_loop)
            .finish_non_exhaustive()
    }
}

impl Driver {
    /// Creates a driver. Its sockets are bound in the first turn;
    /// [`What::Bind`](dunlin_core::engine::What::Bind) reports a failure.
    ///
    /// # Errors
    /// [`Error::Folder`] if the session folder cannot be used or belongs to a daemon; [`Error::Start`] if
    /// the system has no threads, descriptors or random numbers left.
    pub fn new(config: impl Into<DriverConfig>) -> Result<Self> {
        let config: DriverConfig = config.into();
        let start = |error: std::io::Error| Error::Start(error.to_string());
        let session = config.session;
        let mut prepared = Prepared::new(&session)?;
        let poller = Poller::new().map_err(start)?;
        let bell = Bell::new(poller.waker());
        // Requests wait in the engine, which is fair between torrents and servers.
        let most = |limit: u32, threads: usize| limit.min(u32::try_from(threads).unwrap_or(limit));
        let engine = &mut prepared.config;
        engine.max_requests = most(engine.max_requests, config.http_threads);
        engine.max_lookups = most(engine.max_lookups, config.name_threads);
        let store = prepared.store.as_ref().map(Arc::downgrade);
        let names = ResolverConfig {
            threads: config.name_threads,
            ..ResolverConfig::default()
        };
        let pool = PoolConfig {
            name: "http",
            threads: config.http_threads,
            // The engine limits it.
            in_flight: usize::MAX,
        };
        let (sender, commands) = sync_channel(config.commands.max(1));
        let route = session.route.clone();
        let (watch, proxy_events) = proxy::watch(&route, bell.of(Source::Http));
        let http = Http::new(route.clone(), watch.clone());
        let parts = Parts {
            prepared,
            route,
            disk: Disk::new(session.disk, bell.of(Source::Disk)).map_err(start)?,
            names: Resolver::new(names, bell.of(Source::Names)),
            requests: Requests::new(http.clone(), pool, bell.of(Source::Http)),
            watch,
            proxy_events,
        };
        let core = Core {
            engine_loop: EngineLoop::new(poller.now(), parts),
            sockets: Sockets(poller),
            bell,
            commands: Some(commands),
            commands_ready: false,
            shared: Arc::new(Shared::new(session, http, store)),
            thread: None,
            // The engine asks for its sockets in the first turn.
            busy: true,
            blocked: false,
        };
        Ok(Self {
            core,
            commands: sender,
        })
    }

    /// A handle, for commands from other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(
            self.commands.clone(),
            self.core.bell.clone(),
            Arc::clone(&self.core.shared),
        )
    }

    /// For commands from this thread, before the first turn and between turns.
    pub fn control(&mut self) -> Control<'_> {
        Control::new(&mut self.core)
    }

    /// Runs until the driver has stopped; `on_event` is called with the events.
    ///
    /// # Errors
    /// [`Error::Poll`].
    pub fn run(mut self, mut on_event: impl FnMut(Event, &mut Control<'_>)) -> Result<()> {
        while self.turn(None, &mut on_event)? {}
        Ok(())
    }

    /// Runs one turn, for an application with a loop of its own: waits until something happens, for at most
    /// `limit` (`None`: forever; zero: not at all), and does what there is to do. Returns `false` when the
    /// driver has stopped.
    ///
    /// # Errors
    /// [`Error::Poll`].
    pub fn turn(
        &mut self,
        limit: Option<Duration>,
        mut on_event: impl FnMut(Event, &mut Control<'_>),
    ) -> Result<bool> {
        let core = &mut self.core;
        if core.engine_loop.has_stopped() {
            return Ok(false);
        }
        core.claim_thread();
        let mut outside = core.wait(limit)?;
        for _ in 0..ROUNDS_PER_TURN {
            outside |= core.listen();
            core.run_commands();
            let more = core.engine_loop.round(&core.sockets) || core.commands_ready;
            let more = core.pass_events(&mut on_event) || more;
            core.busy = more || core.engine_loop.can_go_on();
            if core.engine_loop.has_stopped() {
                core.finish();
                return Ok(false);
            }
            if !core.busy {
                break;
            }
        }
        core.engine_loop.stats.end_turn(outside, MAX_SPIN);
        core.blocked = core.engine_loop.engine.has_output();
        // From here on a bell that rings wakes the next wait.
        core.busy |= !core.bell.sleep();
        Ok(true)
    }

    /// The time until [`Driver::turn`] has something to do without anything from outside; `None` if there
    /// is no such time.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        let now = self.core.sockets.0.now();
        self.core.deadline().map(|at| at.saturating_since(now))
    }
}

/// Readable when [`Driver::turn`] has something to do, for applications whose own loop waits for several
/// things. A turn is also due when [`Driver::timeout`] has passed.
#[cfg(unix)]
impl std::os::fd::AsFd for Driver {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.core.sockets.0.as_fd()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.core.leave_thread();
    }
}

impl Core {
    /// Records the thread that runs the loop: on it, handles refuse to wait.
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

    /// The thread does not run the loop any more.
    fn leave_thread(&mut self) {
        self.thread = None;
        let mut shared = self
            .shared
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *shared = None;
    }

    /// The time of the next turn if nothing happens outside.
    fn deadline(&self) -> Option<Instant> {
        // A command between two turns may have left work to do.
        let output = self.engine_loop.engine.has_output() && !self.blocked;
        if self.busy || self.engine_loop.has_told() || output {
            return Some(Instant::ORIGIN);
        }
        self.engine_loop.poll_timeout()
    }

    /// Waits, and records what became ready. Returns whether anything did, or the caller's limit was
    /// reached.
    fn wait(&mut self, limit: Option<Duration>) -> Result<bool> {
        let limit = limit.map(|limit| self.sockets.0.now() + limit);
        let until = self.deadline().into_iter().chain(limit).min();
        let mut any = until == limit && limit.is_some();
        let engine_loop = &mut self.engine_loop;
        for ready in self.sockets.0.wait(until).map_err(Error::Poll)? {
            any = true;
            match Key::of(ready.key) {
                Some(Key::Udp(id)) => engine_loop.wake_udp(id, |udp| udp.note(ready)),
                Some(Key::Listener(id)) => engine_loop.wake_listener(id, |_| {}),
                Some(Key::Stream(slot)) => engine_loop.wake_stream(slot, |s| s.note(ready)),
                None => {}
            }
        }
        Ok(any)
    }

    /// Takes commands and outcomes of other threads; returns whether there were any.
    fn listen(&mut self) -> bool {
        let rung = self.bell.take();
        if rung.is_empty() {
            return false;
        }
        self.commands_ready |= rung.has(Source::Commands);
        if rung.has(Source::Disk) {
            self.engine_loop.drain_disk();
        }
        if rung.has(Source::Names) {
            self.engine_loop.drain_names();
        }
        if rung.has(Source::Http) {
            self.engine_loop.drain_requests();
        }
        true
    }

    fn run_commands(&mut self) {
        for _ in 0..COMMANDS_PER_ROUND {
            if !self.commands_ready {
                return;
            }
            match self.commands.as_ref().map(Receiver::try_recv) {
                Some(Ok(command)) => {
                    self.engine_loop.stats.note_progress();
                    command(self);
                }
                Some(Err(_)) | None => self.commands_ready = false,
            }
        }
    }

    /// Passes events on; returns whether there may be more.
    fn pass_events(&mut self, on_event: &mut impl FnMut(Event, &mut Control<'_>)) -> bool {
        for _ in 0..EVENTS_PER_ROUND {
            let now = self.sockets.0.now();
            let Some(event) = self.engine_loop.next_event(now) else {
                return false;
            };
            on_event(event, &mut Control::new(self));
        }
        true
    }

    /// The engine has no op in flight any more (law 1); only sockets are left.
    fn finish(&mut self) {
        self.engine_loop.close();
        // Callers that wait for an answer, or for a place in the queue, get an error.
        self.commands = None;
        self.commands_ready = false;
        self.leave_thread();
    }
}
