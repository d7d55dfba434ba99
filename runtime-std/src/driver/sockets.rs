//! Datagram sockets and listeners: at most one of each for each family.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use dunlin_core::{Instant, SocketId, engine::Engine, op::SocketKind};

use super::{
    Stats,
    conns::Conns,
    datagrams::{Buffer, Lost, Udp},
    reactor::Reactor,
};
use crate::net::socket::{self, Route};

/// The most datagrams or trains sent in one round.
const TRANSMITS_PER_ROUND: usize = 64;
/// The most streams accepted in one round.
const ACCEPTS_PER_ROUND: usize = 32;
/// How long a socket is not used after an error that would repeat at once, such as having no descriptors
/// left. Short enough that no connecting peer notices, and long enough that the error costs only four
/// system calls a second.
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct Listener<L> {
    id: SocketId,
    io: L,
    bound: SocketAddr,
    /// A connection may be waiting.
    ready: bool,
    paused: Option<Instant>,
}

/// All sockets except streams.
#[derive(Debug)]
pub(super) struct Sockets<R: Reactor> {
    udp: Vec<Udp<R::Udp>>,
    listeners: Vec<Listener<R::Listener>>,
    buf: Buffer,
    route: Route,
}

impl<R: Reactor> Sockets<R> {
    pub(super) fn new(route: Route) -> Self {
        Self {
            udp: Vec::new(),
            listeners: Vec::new(),
            buf: Buffer::default(),
            route,
        }
    }

    /// Binds a socket and returns its address.
    ///
    /// # Errors
    /// The platform's error.
    pub(super) fn bind(
        &mut self,
        reactor: &R,
        id: SocketId,
        kind: SocketKind,
        local: SocketAddr,
    ) -> io::Result<SocketAddr> {
        match kind {
            SocketKind::Udp => self.bind_udp(reactor, id, local),
            SocketKind::TcpListener => self.bind_listener(reactor, id, local),
        }
    }

    fn bind_udp(&mut self, reactor: &R, id: SocketId, local: SocketAddr) -> io::Result<SocketAddr> {
        // If the system chooses the port, datagrams and streams use the same one, as peers are told only
        // one.
        let twin = self.listeners.iter().find(|listener| listener.id == id);
        let like = twin.filter(|_| local.port() == 0).map(|twin| {
            let local = SocketAddr::new(local.ip(), twin.bound.port());
            socket::udp(local, &self.route.egress)
        });
        let socket = match like {
            Some(Ok(socket)) => socket,
            _ => socket::udp(local, &self.route.egress)?,
        };
        let bound = socket::local_addr(&socket)?;
        self.unbind(id);
        self.udp.push(Udp::new(id, reactor.udp(id, socket)?)?);
        Ok(bound)
    }

    fn bind_listener(
        &mut self,
        reactor: &R,
        id: SocketId,
        local: SocketAddr,
    ) -> io::Result<SocketAddr> {
        let socket = socket::listener(local, &self.route.egress)?;
        let bound = socket::local_addr(&socket)?;
        self.listeners.retain(|listener| listener.id != id);
        self.listeners.push(Listener {
            id,
            io: reactor.listener(id, socket)?,
            bound,
            ready: true,
            paused: None,
        });
        Ok(bound)
    }

    /// Closes the datagram socket of this name, if there is one.
    pub(super) fn unbind(&mut self, id: SocketId) {
        self.udp.retain(|udp| udp.id != id);
    }

    /// Closes every socket.
    pub(super) fn clear(&mut self) {
        self.udp.clear();
        self.listeners.clear();
    }

    /// Records that a datagram socket may be ready again.
    pub(super) fn wake_udp(&mut self, id: SocketId, note: impl FnOnce(&mut R::Udp)) {
        if let Some(udp) = self.udp.iter_mut().find(|udp| udp.id == id) {
            udp.wake(note);
        }
    }

    /// Records that a listener may be ready again.
    pub(super) fn wake_listener(&mut self, id: SocketId, note: impl FnOnce(&mut R::Listener)) {
        if let Some(listener) = self.listeners.iter_mut().find(|l| l.id == id) {
            note(&mut listener.io);
            listener.ready = true;
        }
    }

    /// Whether something can be done at once.
    pub(super) fn is_busy(&self) -> bool {
        let waiting = |listener: &Listener<_>| listener.ready && listener.paused.is_none();
        self.udp.iter().any(Udp::is_busy) || self.listeners.iter().any(waiting)
    }

    /// When a paused socket is tried again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let listeners = self.listeners.iter().filter_map(|l| l.paused);
        let udp = self.udp.iter().filter_map(Udp::poll_timeout);
        udp.chain(listeners).min()
    }

    /// Sends the engine's datagrams as far as the sockets accept them. Returns whether the budget was too
    /// small for all of them.
    pub(super) fn send(
        &mut self,
        reactor: &R,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
    ) -> bool {
        for udp in &mut self.udp {
            if let Err(Lost(transmit)) = udp.send_unsent() {
                engine.handle_unsent(now, transmit.dst);
            }
        }
        for _ in 0..TRANSMITS_PER_ROUND {
            if self.udp.iter().any(Udp::has_unsent) {
                return false;
            }
            let segments = self.udp.iter().map(Udp::max_segments).min().unwrap_or(1);
            let Some(transmit) = engine.poll_transmit(now, segments, self.buf.one()) else {
                return false;
            };
            stats.progress = true;
            self.bind_for(reactor, transmit.socket, transmit.dst);
            // Without a socket the datagram is lost, as on a network that does not carry it.
            let udp = self.udp.iter_mut().find(|udp| udp.id == transmit.socket);
            match udp.map(|udp| udp.send(transmit, self.buf.one())) {
                Some(Ok(count)) => stats.datagrams_out += count,
                Some(Err(_)) | None => engine.handle_unsent(now, transmit.dst),
            }
        }
        true
    }

    /// Binds a socket to any port for a session that does not listen, so that it can ask UDP trackers.
    /// Never done with a proxy.
    fn bind_for(&mut self, reactor: &R, id: SocketId, dst: SocketAddr) {
        if self.route.proxy.is_some() || self.udp.iter().any(|udp| udp.id == id) {
            return;
        }
        let any: IpAddr = match dst {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let local = self.route.egress.listen(SocketAddr::new(any, 0));
        // Without this family on the platform, the datagram is lost.
        let _ = self.bind_udp(reactor, id, local);
    }

    /// Passes received datagrams to the engine.
    pub(super) fn receive(&mut self, engine: &mut Engine, now: Instant, stats: &mut Stats) {
        for udp in &mut self.udp {
            udp.receive(&mut self.buf, engine, now, stats, PAUSE);
        }
    }

    /// Accepts the connections that wait at the listeners.
    pub(super) fn accept(
        &mut self,
        reactor: &R,
        conns: &mut Conns<R>,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
    ) {
        for listener in &mut self.listeners {
            listener.accept(reactor, conns, engine, now, stats);
        }
    }
}

impl<L> Listener<L> {
    fn accept<R: Reactor<Listener = L>>(
        &mut self,
        reactor: &R,
        conns: &mut Conns<R>,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
    ) {
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
        }
        if !self.ready || self.paused.is_some() {
            return;
        }
        for _ in 0..ACCEPTS_PER_ROUND {
            match reactor.accept(&mut self.io) {
                Ok((stream, remote)) => {
                    stats.progress = true;
                    let Some(id) = engine.accept(now, remote) else {
                        socket::abort_on_drop(R::accepted_socket(&stream));
                        continue;
                    };
                    socket::tune(R::accepted_socket(&stream));
                    if let Err(error) = conns.accepted(reactor, id, remote, stream) {
                        engine.handle_closed(now, id, socket::close_reason(&error));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.ready = false;
                    return;
                }
                Err(error) if socket::out_of_resources(&error) => {
                    stats.accept_pauses += 1;
                    self.paused = Some(now + PAUSE);
                    return;
                }
                // This connection was closed before it was accepted; the next one may be waiting.
                Err(_) => {}
            }
        }
    }
}
