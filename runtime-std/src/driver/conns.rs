//! The streams, by the engine's slot numbers, and the queue of those that can make progress.
//!
//! A stream is in the queue exactly while both the kernel and the engine are ready.
//! [`conn`](super::conn) says what a visit does.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use dunlin_core::{
    CloseReason, ConnId, Instant,
    engine::{Engine, Readiness},
    op::Close,
};

use super::{
    Stats,
    conn::{Conn, State, Visit},
    reactor::Reactor,
};
use crate::net::{
    proxy::Watch,
    socket::{self, Route},
    socks::{Handshake, Target},
};

/// The most connections visited in one round; the rest stay in the queue.
const VISITS_PER_ROUND: usize = 64;
/// How long an address of the proxy may take to accept a connection: shorter than the engine waits for a
/// peer, so that a silent proxy is not taken for a silent peer.
const PROXY_TIMEOUT: Duration = Duration::from_secs(5);

/// The streams of a driver.
#[derive(Debug)]
pub(super) struct Conns<R: Reactor> {
    slots: Vec<Option<Conn<R::Stream>>>,
    /// Slots to visit, some of which may be empty by now.
    queue: VecDeque<u32>,
    /// The times at which attempts to reach the proxy are given up, in order. Some may have ended before.
    proxy_timeouts: VecDeque<(Instant, ConnId)>,
    route: Route,
    /// Watches the proxy, if there is one.
    watch: Option<Arc<Watch>>,
}

/// What the caller of [`Conns::connect`] has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Dial {
    /// Nothing: the stream is being opened.
    Begun,
    /// Call [`Conns::proxy_found`] with the proxy's addresses.
    FindProxy,
    /// Report the failure: the attempt failed at once.
    Failed(CloseReason),
}

impl<R: Reactor> Conns<R> {
    pub(super) const fn new(route: Route, watch: Option<Arc<Watch>>) -> Self {
        Self {
            slots: Vec::new(),
            queue: VecDeque::new(),
            proxy_timeouts: VecDeque::new(),
            route,
            watch,
        }
    }

    /// Begins to connect.
    pub(super) fn connect(&mut self, reactor: &R, id: ConnId, remote: SocketAddr) -> Dial {
        if self.route.proxy.is_some() {
            self.insert(id, remote, State::Resolving);
            return Dial::FindProxy;
        }
        match self.open(reactor, id.index, remote) {
            Ok(stream) => {
                self.insert(id, remote, State::Connecting { stream });
                Dial::Begun
            }
            Err(error) => Dial::Failed(socket::close_reason(&error)),
        }
    }

    /// Continues with the proxy's addresses, unless the stream has ended meanwhile.
    ///
    /// # Errors
    /// None of the addresses could be tried.
    pub(super) fn proxy_found(
        &mut self,
        reactor: &R,
        id: ConnId,
        mut addresses: Vec<SocketAddr>,
    ) -> Result<(), CloseReason> {
        if self.get(id.index).is_none_or(|conn| conn.id != id) {
            return Ok(());
        }
        addresses.reverse();
        self.try_proxy(reactor, id, addresses).map_err(|error| {
            if let Some(watch) = &self.watch {
                watch.fails(&error);
            }
            self.remove(id.index);
            socket::close_reason(&error)
        })
    }

    /// Connects to the last of `addresses`, or to the next one if that fails at once.
    fn try_proxy(
        &mut self,
        reactor: &R,
        id: ConnId,
        mut addresses: Vec<SocketAddr>,
    ) -> io::Result<()> {
        let none = "the proxy has no address";
        let mut last = io::Error::new(ErrorKind::HostUnreachable, none);
        while let (Some(address), Some(proxy)) = (addresses.pop(), &self.route.proxy) {
            let Some(Some(conn)) = self.slots.get(id.index as usize) else {
                return Ok(());
            };
            let target = Target::Address(conn.remote);
            let begun = Handshake::new(proxy, target)
                .and_then(|greeting| Ok((greeting, self.open(reactor, id.index, address)?)));
            match (begun, self.get(id.index)) {
                (Ok((greeting, stream)), Some(conn)) => {
                    let until = reactor.now() + PROXY_TIMEOUT;
                    conn.state = State::Reaching {
                        stream,
                        greeting: Box::new(greeting),
                        others: addresses,
                        until,
                    };
                    self.proxy_timeouts.push_back((until, id));
                    self.enqueue(id.index);
                    return Ok(());
                }
                (Err(error), _) => last = error,
                (_, None) => return Ok(()),
            }
        }
        Err(last)
    }

    /// Handles a stream that could not be opened: tries another address of the proxy, if there is one.
    fn failed(&mut self, reactor: &R, id: ConnId, error: io::Error) -> Visit {
        let why = Visit::Over(socket::close_reason(&error));
        let Some(conn) = self.get(id.index) else {
            return why;
        };
        let others = conn.other_proxies();
        let reached = conn.has_reached_proxy();
        if !others.is_empty() && self.try_proxy(reactor, id, others).is_ok() {
            return Visit::Waits;
        }
        match (&self.watch, reached) {
            (Some(watch), true) => watch.works(),
            (Some(watch), false) => drop(watch.fails(&error)),
            (None, _) => {}
        }
        why
    }

    fn open(&self, reactor: &R, slot: u32, remote: SocketAddr) -> io::Result<R::Stream> {
        let socket = socket::outgoing(remote, &self.route.egress)?;
        socket::connect(&socket, remote)?;
        reactor.stream(slot, socket)
    }

    /// Takes over an accepted stream.
    ///
    /// # Errors
    /// The reactor cannot watch it.
    pub(super) fn accepted(
        &mut self,
        reactor: &R,
        id: ConnId,
        remote: SocketAddr,
        accepted: R::Accepted,
    ) -> io::Result<()> {
        let stream = reactor.accepted(id.index, accepted)?;
        self.insert(id, remote, State::Open(stream));
        Ok(())
    }

    fn insert(&mut self, id: ConnId, remote: SocketAddr, state: State<R::Stream>) {
        let index = id.index as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        // A stream that is still in this slot was given up by the engine: its TcpClose, still to come,
        // names another generation. Dropping the stream closes it.
        self.slots[index] = Some(Conn::new(id, remote, state));
        self.enqueue(id.index);
    }

    fn remove(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            *slot = None;
        }
    }

    /// Ends a stream as the engine asked; a stale id means that it has ended already.
    pub(super) fn close(&mut self, id: ConnId, how: Close) {
        let Some(slot) = self.slots.get_mut(id.index as usize) else {
            return;
        };
        if let Some(conn) = slot.take_if(|conn| conn.id == id) {
            conn.close(how);
        }
    }

    /// Closes every stream.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.queue.clear();
        self.proxy_timeouts.clear();
    }

    /// Records a change of readiness; makes no system call.
    pub(super) fn set_readiness(&mut self, id: ConnId, readiness: Readiness) {
        if let Some(conn) = self.get(id.index).filter(|conn| conn.id == id) {
            conn.readiness = readiness;
            self.enqueue(id.index);
        }
    }

    /// Records that the stream in a slot may be ready again.
    pub(super) fn wake(&mut self, index: u32, note: impl FnOnce(&mut R::Stream)) {
        if let Some(conn) = self.get(index) {
            if let Some(stream) = conn.stream_mut() {
                note(stream);
            }
            self.enqueue(index);
        }
    }

    fn get(&mut self, index: u32) -> Option<&mut Conn<R::Stream>> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    /// Puts a stream into the queue if a visit would make progress.
    fn enqueue(&mut self, index: u32) {
        if let Some(Some(conn)) = self.slots.get_mut(index as usize)
            && !conn.queued
            && conn.can_go_on()
        {
            conn.queued = true;
            self.queue.push_back(index);
        }
    }

    /// Whether a stream is in the queue.
    pub(super) fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The next time at which an attempt to reach the proxy is given up.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.proxy_timeouts.front().map(|(until, _)| *until)
    }

    /// Visits the streams in the queue, once each, within the budget.
    pub(super) fn round(
        &mut self,
        reactor: &R,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
    ) {
        self.give_up_silent_proxies(reactor, engine, now, stats);
        let watch = self.watch.clone();
        for _ in 0..self.queue.len().min(VISITS_PER_ROUND) {
            let Some(index) = self.queue.pop_front() else {
                return;
            };
            let Some(conn) = self.get(index) else {
                continue;
            };
            conn.queued = false;
            let id = conn.id;
            let visit = conn.visit(engine, now, stats, watch.as_deref());
            self.settle(reactor, engine, now, stats, id, visit);
        }
    }

    /// Acts on the result of a visit.
    fn settle(
        &mut self,
        reactor: &R,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
        id: ConnId,
        visit: Visit,
    ) {
        let visit = match visit {
            Visit::Failed(error) => self.failed(reactor, id, error),
            visit => visit,
        };
        match visit {
            Visit::Waits | Visit::Failed(_) => {}
            Visit::More => self.enqueue(id.index),
            Visit::Over(why) => {
                self.remove(id.index);
                engine.handle_closed(now, id, why);
                stats.progress = true;
            }
        }
    }

    fn give_up_silent_proxies(
        &mut self,
        reactor: &R,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
    ) {
        while let Some(&(until, id)) = self.proxy_timeouts.front()
            && until <= now
        {
            self.proxy_timeouts.pop_front();
            let overdue = |conn: &mut Conn<_>| conn.id == id && conn.is_overdue(now);
            if self.get(id.index).is_some_and(overdue) {
                let silent = Visit::Failed(ErrorKind::TimedOut.into());
                self.settle(reactor, engine, now, stats, id, silent);
            }
        }
    }
}
