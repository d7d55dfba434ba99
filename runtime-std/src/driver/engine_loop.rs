//! An engine, and everything that a driver does for it.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, mpsc::Receiver},
};

use dunlin_core::{
    Instant, OpErrorKind, OpId, Outcome, SocketId, TorrentId,
    engine::{AddError, Command, CommandError, Engine, Event, Reply, What},
};

use super::{
    Prepared, Reactor, Requests, Stats, conns::Conns, own_ops::FollowUp, own_ops::OwnOps,
    sockets::Sockets, torrents::Torrents,
};
use crate::{
    config::Proxy,
    disk::Disk,
    net::{
        interfaces::{InterfaceWatch, Turn},
        proxy::Watch,
        resolve::Resolver,
        socket::Route,
    },
    session::{add::Ready, store::Store},
};

/// The arguments of [`EngineLoop::new`].
#[derive(Debug)]
pub struct Parts<Q> {
    /// Configuration and session folder.
    pub prepared: Prepared,
    /// Proxy, source addresses and interface.
    pub route: Route,
    /// The threads of the disk.
    pub disk: Disk,
    /// The threads that resolve names.
    pub names: Resolver,
    /// The HTTP client.
    pub requests: Q,
    /// Watches the proxy, if there is one.
    pub watch: Option<Arc<Watch>>,
    /// The events of `watch`.
    pub proxy_events: Receiver<Event>,
}

/// An engine with its sockets, its disk and what the session folder keeps of its torrents.
pub struct EngineLoop<R: Reactor, Q> {
    /// The engine. Torrents are added and removed by [`EngineLoop::add`] and
    /// [`EngineLoop::command`], which also see to their files and to the session folder.
    pub engine: Engine,
    /// Counters since the start.
    pub stats: Stats,
    /// The HTTP client.
    pub requests: Q,
    pub(super) disk: Disk,
    pub(super) names: Resolver,
    pub(super) torrents: Torrents,
    pub(super) conns: Conns<R>,
    pub(super) sockets: Sockets<R>,
    pub(super) own_ops: OwnOps,
    pub(super) proxy: Option<Proxy>,
    pub(super) watch: Option<Arc<Watch>>,
    proxy_events: Receiver<Event>,
    /// Watches the interface that traffic is bound to, if it is bound to one.
    interface: Option<InterfaceWatch>,
    pub(super) outcomes: Vec<(OpId, Outcome)>,
    /// Events of the driver itself.
    pub(super) told: VecDeque<Event>,
    end: End,
}

/// The progress of stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Running,
    Stopping,
    /// The engine has stopped; [`Event::Stopped`] is the last event.
    Stopped,
    Told,
}

impl<R: Reactor, Q> fmt::Debug for EngineLoop<R, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineLoop")
            .field("engine", &self.engine)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

impl<R: Reactor, Q: Requests> EngineLoop<R, Q> {
    /// Creates the engine. Its sockets are bound in the first round; a failure to bind is reported by
    /// [`What::Bind`].
    pub fn new(now: Instant, parts: Parts<Q>) -> Self {
        let Parts {
            mut prepared,
            route,
            disk,
            names,
            requests,
            watch,
            proxy_events,
        } = parts;
        let note = prepared.note.take();
        let note = note.map(|message| Event::warning(What::Disk { message }));
        let proxy = route.proxy.clone();
        Self {
            torrents: Torrents::new(prepared.store.clone(), proxy.is_some()),
            engine: prepared.engine(now),
            stats: Stats::default(),
            requests,
            disk,
            names,
            interface: InterfaceWatch::new(&route.egress, now),
            conns: Conns::new(route.clone(), watch.clone()),
            sockets: Sockets::new(route),
            own_ops: OwnOps::default(),
            proxy,
            watch,
            proxy_events,
            outcomes: Vec::new(),
            told: note.into_iter().collect(),
            end: End::Running,
        }
    }

    /// The session folder, if there is one.
    #[must_use]
    pub const fn store(&self) -> Option<&Arc<Store>> {
        self.torrents.store()
    }

    // ---- readiness ----

    /// Records that the datagram socket `id` may be ready again; `note` is called with it.
    pub fn wake_udp(&mut self, id: SocketId, note: impl FnOnce(&mut R::Udp)) {
        self.sockets.wake_udp(id, note);
    }

    /// Records that the listener `id` may be ready again; `note` is called with it.
    pub fn wake_listener(&mut self, id: SocketId, note: impl FnOnce(&mut R::Listener)) {
        self.sockets.wake_listener(id, note);
    }

    /// Records that the stream in `slot` may be ready again; `note` is called with it.
    pub fn wake_stream(&mut self, slot: u32, note: impl FnOnce(&mut R::Stream)) {
        self.conns.wake(slot, note);
    }

    /// Takes the outcomes of the disk.
    pub fn drain_disk(&mut self) {
        self.disk.drain(&mut self.outcomes);
        for message in self.disk.take_notes() {
            self.told.push_back(Event::warning(What::Disk { message }));
        }
    }

    /// Takes the outcomes of the resolver.
    pub fn drain_names(&mut self) {
        self.names.drain(&mut self.outcomes);
    }

    /// Takes the outcomes of the HTTP client.
    pub fn drain_requests(&mut self) {
        self.requests.drain(&mut self.outcomes);
    }

    // ---- commands ----

    /// Adds a torrent, and resolves the names of its peers.
    ///
    /// # Errors
    /// See [`AddError`].
    pub fn add(&mut self, now: Instant, mut ready: Ready) -> Result<TorrentId, AddError> {
        let hosts = std::mem::take(&mut ready.hosts);
        let told = &mut self.told;
        let mut tell = |event| told.push_back(event);
        let (engine, disk) = (&mut self.engine, &self.disk);
        let id = self.torrents.add(engine, disk, now, ready, &mut tell)?;
        // With a proxy, names are not resolved locally.
        if self.proxy.is_none() {
            for (host, port) in hosts {
                let op = self.own_ops.begin(FollowUp::Peer(id, port));
                self.names.submit(op, host);
            }
        }
        Ok(id)
    }

    /// Carries out a command and its effects outside the engine: the session folder forgets a torrent that
    /// is removed, and trackers that could not be asked through the proxy are left out.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn command(&mut self, now: Instant, mut command: Command) -> Result<Reply, CommandError> {
        let mut removed = None;
        match &mut command {
            Command::AddTrackers { urls, .. } => {
                let told = &mut self.told;
                self.torrents
                    .keep_reachable(urls, &mut |event| told.push_back(event));
            }
            Command::Remove { torrent, .. } => removed = Some(*torrent),
            Command::Shutdown => self.stop(now),
            _ => {}
        }
        let reply = self.engine.command(now, command)?;
        if let Some(torrent) = removed {
            self.torrents.forget(torrent);
        }
        Ok(reply)
    }

    /// Starts to stop.
    pub fn stop(&mut self, now: Instant) {
        if self.end == End::Running {
            self.end = End::Stopping;
            // It is always carried out.
            let _ = self.engine.command(now, Command::Shutdown);
        }
    }

    // ---- rounds ----

    /// When the next round is due without anything from outside.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let interface = self.interface.as_ref().map(InterfaceWatch::poll_timeout);
        let sockets = self.sockets.poll_timeout();
        let conns = self.conns.poll_timeout();
        let all = [self.engine.poll_timeout(), sockets, conns, interface];
        all.into_iter().flatten().min()
    }

    /// Runs one round in the order of the contract: timers, outcomes, ops, readiness, writes and reads,
    /// datagrams, new connections. Returns whether something can be done at once. Events are left for
    /// [`EngineLoop::next_event`].
    pub fn round(&mut self, reactor: &R) -> bool {
        self.stats.begin_round();
        let mut now = reactor.now();
        self.run_timer(now);
        self.watch_interface(now);
        self.take_outcomes(reactor, now);
        let more_ops = self.start_ops(reactor, now);

        now = reactor.now();
        while let Some((id, readiness)) = self.engine.poll_interest() {
            self.stats.progress = true;
            self.conns.set_readiness(id, readiness);
        }
        let (engine, stats) = (&mut self.engine, &mut self.stats);
        self.conns.round(reactor, engine, now, stats);
        let more_datagrams = self.sockets.send(reactor, engine, now, stats);
        self.sockets.receive(engine, now, stats);
        self.sockets
            .accept(reactor, &mut self.conns, engine, now, stats);
        more_ops || more_datagrams || self.conns.is_busy() || self.sockets.is_busy()
    }

    /// Whether another round would make progress. Output that nobody can take (all jobs in flight, a full
    /// socket) does not count: it shows as a round without progress.
    #[must_use]
    pub fn can_go_on(&self) -> bool {
        self.stats.progress && self.engine.has_output()
    }

    /// Whether there are events of the driver itself.
    #[must_use]
    pub fn has_told(&self) -> bool {
        !self.told.is_empty()
    }

    /// The next event for the application; [`Event::Stopped`] is the last.
    pub fn next_event(&mut self, now: Instant) -> Option<Event> {
        let event = self.find_event(now);
        self.stats.progress |= event.is_some();
        event
    }

    fn find_event(&mut self, now: Instant) -> Option<Event> {
        self.told.extend(self.proxy_events.try_iter());
        loop {
            if let Some(event) = self.told.pop_front() {
                return Some(event);
            }
            let Some(event) = self.engine.poll_event() else {
                if self.end == End::Stopped && !self.own_ops.is_telling() {
                    self.end = End::Told;
                    return Some(Event::Stopped);
                }
                return None;
            };
            if event == Event::Stopped {
                self.end = End::Stopped;
                continue;
            }
            let Some(job) = self.torrents.event(&mut self.engine, now, &event) else {
                return Some(event);
            };
            // The session folder forgets a torrent before its removal is reported.
            let late = matches!(event, Event::Removed(_));
            let op = self.own_ops.begin(match late {
                true => FollowUp::Tell(event.clone()),
                false => FollowUp::Report,
            });
            self.disk.run(op, move || match job() {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::failed(OpErrorKind::Io, error.to_string()),
            });
            if !late {
                return Some(event);
            }
        }
    }

    /// Whether [`Event::Stopped`] was returned.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.end == End::Told
    }

    /// Closes all sockets.
    pub fn close(&mut self) {
        self.conns.clear();
        self.sockets.clear();
    }

    fn run_timer(&mut self, now: Instant) {
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now);
            // Law 3: either time has passed, or there is output, which counts as progress.
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
            // The sockets that were bound for outgoing datagrams have no successors yet.
            self.sockets.clear();
            self.engine.network_back(now, watch.name());
        }
    }
}
