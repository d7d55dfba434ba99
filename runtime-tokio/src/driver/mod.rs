//! The driver: one task that owns the engine and does its I/O.
//!
//! ```text
//!   application ──commands──▶ ┌────────────────────────────┐ ◀──readiness── tokio
//!               ◀──events──── │ Driver { Engine, streams,  │
//!                             │   sockets, jobs, timer }   │ ──disk ops──▶ disk threads
//!                             └────────────────────────────┘ ◀──outcomes──
//! ```
//!
//! The task is a hand-written future. There is no lock around the engine and no task for each connection:
//! everything that can become ready has its own waker, which puts it into a list (see [`ready`]), and
//! polling the future looks at the list.
//!
//! A turn has the order of the contract: timers; outcomes and commands; ops; interest, writes and reads;
//! datagrams and new connections; events. It is repeated while it makes progress, within a budget, after
//! which the task yields and asks to be woken again.

mod jobs;
mod reactor;
mod ready;
mod watch;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use dunlin_core::{
    Instant, OpErrorKind, Outcome, TorrentId,
    engine::{AddError, Command, CommandError, Engine, EngineStatus, Event, Reply},
};
use dunlin_std::{
    disk::Disk,
    driver::{EngineLoop, Parts, Prepared, Stats},
    net::{
        proxy,
        resolve::{Resolver, ResolverConfig},
    },
    session::{add::Ready, setup::SessionConfig},
};
use tokio::{
    sync::{broadcast, mpsc},
    time::{Sleep, sleep_until},
};

use self::{
    jobs::Jobs,
    reactor::Reactor,
    ready::{Bell, List, Source},
    watch::Watches,
};
use crate::{net::Http, platform::Clock};

/// The most rounds in one turn, after which other tasks can run.
const ROUNDS_PER_TURN: usize = 16;
/// The most commands carried out in one round.
const COMMANDS_PER_ROUND: usize = 32;
/// The most events passed on in one round.
const EVENTS_PER_ROUND: usize = 256;
/// The most turns in a row without any work. A few are normal (a timer that was postponed, a socket that
/// was already empty); more mean that the driver spins (law 3).
const MAX_SPIN: u32 = 1_000;

/// Code that an application runs in the engine's task.
pub(crate) type Call = Box<dyn FnOnce(&mut Driver) + Send>;

/// The result of a session. See [`Session::shutdown`](crate::Session::shutdown).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// The state of the engine at its end: no torrents, no connections, nothing in flight.
    pub engine: EngineStatus,
    /// The counters of the driver.
    pub stats: Stats,
}

/// The engine's task.
#[derive(Debug)]
pub(crate) struct Driver {
    engine_loop: EngineLoop<Reactor, Jobs>,
    watches: Watches,
    reactor: Reactor,
    clock: Clock,
    list: List,
    batch: Vec<Source>,
    calls: mpsc::Receiver<Call>,
    calls_bell: Bell,
    calls_ready: bool,
    events: broadcast::Sender<Event>,
    disk_bell: Bell,
    names_bell: Bell,
    proxy_bell: Bell,
    timer: Pin<Box<Sleep>>,
    timer_bell: Bell,
    /// The time that the timer is set to; `None` if it need not fire.
    armed: Option<Instant>,
}

impl Driver {
    /// Creates a driver, to be spawned. Its HTTP client is shared with the session.
    ///
    /// # Errors
    /// The disk's threads could not be started.
    pub(crate) fn new(
        prepared: Prepared,
        session: &SessionConfig,
        calls: mpsc::Receiver<Call>,
        events: broadcast::Sender<Event>,
    ) -> io::Result<(Self, Arc<Http>)> {
        let (list, clock) = (List::default(), Clock::start());
        let bell = |source| Bell::new(source, &list);
        let (disk_bell, names_bell) = (bell(Source::Disk), bell(Source::Names));
        let proxy_bell = bell(Source::Proxy);
        let route = session.route.clone();
        let (watch, proxy_events) = proxy::watch(&route, proxy_bell.ringer());
        let http = Http::new(route.clone(), watch.clone());
        let parts = Parts {
            prepared,
            route,
            disk: Disk::new(session.disk, disk_bell.ringer())?,
            names: Resolver::new(ResolverConfig::default(), names_bell.ringer()),
            requests: Jobs::new(Arc::clone(&http), &list),
            watch,
            proxy_events,
        };
        let driver = Self {
            engine_loop: EngineLoop::new(clock.now(), parts),
            watches: Watches::new(&list),
            reactor: Reactor::new(list.clone(), clock),
            clock,
            batch: Vec::new(),
            calls,
            calls_bell: bell(Source::Calls),
            calls_ready: true,
            events,
            disk_bell,
            names_bell,
            proxy_bell,
            timer: Box::pin(sleep_until(tokio::time::Instant::now())),
            timer_bell: bell(Source::Timer),
            armed: None,
            list,
        };
        Ok((driver, http))
    }

    /// The current time in the engine's terms.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The engine.
    pub(crate) const fn engine(&mut self) -> &mut Engine {
        &mut self.engine_loop.engine
    }

    /// The counters since the start.
    pub(crate) const fn stats(&self) -> Stats {
        self.engine_loop.stats
    }

    /// Watches a torrent; `None` if it does not exist.
    pub(crate) fn watch(&mut self, torrent: TorrentId) -> Option<watch::Receiver> {
        let now = self.clock.now();
        self.watches.add(&self.engine_loop.engine, now, torrent)
    }

    /// Adds a torrent.
    ///
    /// # Errors
    /// See [`AddError`].
    pub(crate) fn add(&mut self, ready: Ready) -> Result<TorrentId, AddError> {
        self.engine_loop.add(self.clock.now(), ready)
    }

    /// Carries out a command.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub(crate) fn command(&mut self, command: Command) -> Result<Reply, CommandError> {
        self.engine_loop.command(self.clock.now(), command)
    }

    /// Starts to stop.
    pub(crate) fn stop(&mut self) {
        self.engine_loop.stop(self.clock.now());
    }

    /// Runs one round; returns whether something can be done at once.
    fn round(&mut self, cx: &Context<'_>) -> bool {
        self.list.take(cx, &mut self.batch);
        self.sort_batch();
        self.run_calls();
        let more = self.engine_loop.round(&self.reactor);
        let more_events = self.pass_events();
        let now = self.clock.now();
        let refreshed = self.watches.poll(&self.engine_loop.engine, now);
        more || more_events || refreshed || self.calls_ready || self.engine_loop.can_go_on()
    }

    /// Notes the sources that became ready.
    fn sort_batch(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        let engine_loop = &mut self.engine_loop;
        for source in batch.drain(..) {
            match source {
                Source::Conn(slot) => engine_loop.wake_stream(slot, |stream| stream.clear()),
                Source::Udp(id) => engine_loop.wake_udp(id, |udp| udp.clear()),
                Source::Listener(id) => engine_loop.wake_listener(id, |l| l.clear()),
                Source::Calls => {
                    self.calls_bell.own.clear();
                    self.calls_ready = true;
                }
                Source::Disk => {
                    self.disk_bell.own.clear();
                    engine_loop.drain_disk();
                }
                Source::Names => {
                    self.names_bell.own.clear();
                    engine_loop.drain_names();
                }
                Source::Jobs => engine_loop.drain_requests(),
                // Messages about the proxy are among the events.
                Source::Proxy => self.proxy_bell.own.clear(),
                Source::Timer => {
                    self.timer_bell.own.clear();
                    self.armed = None;
                }
                Source::Watch => self.watches.rang(),
            }
        }
        // Reuses the memory in the next round.
        self.batch = batch;
    }

    fn run_calls(&mut self) {
        if !self.calls_ready {
            return;
        }
        let waker = self.calls_bell.waker.clone();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..COMMANDS_PER_ROUND {
            match self.calls.poll_recv(&mut cx) {
                Poll::Ready(Some(call)) => {
                    self.engine_loop.stats.note_progress();
                    call(self);
                }
                // All handles were dropped: the session ends.
                Poll::Ready(None) => {
                    self.calls_ready = false;
                    return self.stop();
                }
                Poll::Pending => {
                    self.calls_ready = false;
                    return;
                }
            }
        }
    }

    /// Passes events to the application; returns whether there may be more.
    fn pass_events(&mut self) -> bool {
        for _ in 0..EVENTS_PER_ROUND {
            let now = self.clock.now();
            let Some(event) = self.engine_loop.next_event(now) else {
                return false;
            };
            self.watches.event(&event, &self.engine_loop.engine, now);
            // An error means that nobody listens.
            let _ = self.events.send(event);
        }
        true
    }

    /// Sets the timer to the earliest deadline. It is moved only if it would fire too late: one that fires
    /// too early costs less than moving it in every turn.
    fn arm(&mut self) {
        let Some(at) = self.engine_loop.poll_timeout() else {
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

    /// Law 1: ops that will not be carried out any more are answered, so that blocks come home.
    fn finish(&mut self) -> Ended {
        let now = self.clock.now();
        self.engine_loop.close();
        for op in self.engine_loop.requests.stop() {
            let outcome = Outcome::failed(OpErrorKind::Cancelled, "stopped");
            self.engine_loop.engine.handle_op(now, op, outcome);
        }
        self.watches.clear();
        Ended {
            engine: self.engine_loop.engine.status(now),
            stats: self.engine_loop.stats,
        }
    }
}

impl Future for Driver {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = self.get_mut();
        let mut more = true;
        for _ in 0..ROUNDS_PER_TURN {
            more = this.round(cx);
            if this.engine_loop.has_stopped() {
                return Poll::Ready(this.finish());
            }
            if !more {
                break;
            }
        }
        this.engine_loop.stats.end_turn(false, MAX_SPIN);
        this.arm();
        if more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
