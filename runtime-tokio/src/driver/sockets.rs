//! Datagram sockets and listeners: at most one of each per family.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    task::{Context, Poll},
    time::Duration,
};

use dunlin_core::{Ecn, Instant, RecvMeta, SocketId, Transmit, engine::Engine, op::SocketKind};
use dunlin_std::net::socket::{self, Route};
use tokio::net::{TcpListener, UdpSocket};

use super::{
    Stats,
    conns::Conns,
    ready::{Bell, List, Source},
};
use crate::platform;

/// Datagrams taken from one socket in one turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// Datagrams sent in one turn.
const TRANSMITS_PER_TURN: usize = 64;
/// Streams accepted in one turn.
const ACCEPTS_PER_TURN: usize = 32;
/// How long a socket is left alone after an error that trying again at once would only repeat,
/// such as having no descriptors left.
const PAUSE: Duration = Duration::from_millis(250);
/// The largest datagram there is. The memory is only touched as far as datagrams reach.
const MAX_DATAGRAM: usize = 64 << 10;

struct Socket<T> {
    id: SocketId,
    io: T,
    bell: Bell,
    /// Rang, and has not been drained since.
    ready: bool,
    paused: Option<Instant>,
}

impl<T> Socket<T> {
    fn new(id: SocketId, io: T, source: Source, list: &List) -> Self {
        Self {
            id,
            io,
            bell: Bell::new(source, list),
            ready: true,
            paused: None,
        }
    }

    fn usable(&mut self, now: Instant) -> bool {
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
        }
        self.ready && self.paused.is_none()
    }
}

/// One datagram that the socket would not take yet.
struct Unsent {
    to: SocketAddr,
    data: Vec<u8>,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Yes,
    /// The socket takes none at present.
    NotYet,
    /// The platform refused; it is lost, as the network may lose it.
    Lost,
}

struct Udp {
    socket: Socket<UdpSocket>,
    unsent: Option<Unsent>,
}

/// All sockets that are not streams.
pub(super) struct Sockets {
    udp: Vec<Udp>,
    listeners: Vec<Socket<TcpListener>>,
    buf: Vec<u8>,
    list: List,
    route: Route,
}

impl Sockets {
    pub(super) fn new(list: List, route: Route) -> Self {
        Self {
            udp: Vec::new(),
            listeners: Vec::new(),
            buf: vec![0; MAX_DATAGRAM],
            list,
            route,
        }
    }

    /// Binds a socket and tells its address.
    ///
    /// # Errors
    /// What the platform says.
    pub(super) fn bind(
        &mut self,
        id: SocketId,
        kind: SocketKind,
        local: SocketAddr,
    ) -> io::Result<SocketAddr> {
        match kind {
            SocketKind::Udp => {
                // One port for datagrams and streams where the system chooses: peers are told one.
                let twin = self.listeners.iter().find(|l| l.id == id);
                let twin = twin.and_then(|l| l.io.local_addr().ok());
                let like = twin.filter(|_| local.port() == 0).map(|twin| {
                    let local = SocketAddr::new(local.ip(), twin.port());
                    platform::udp(local, &self.route.egress)
                });
                let io = match like {
                    Some(Ok(io)) => io,
                    _ => platform::udp(local, &self.route.egress)?,
                };
                let bound = io.local_addr()?;
                self.udp.retain(|udp| udp.socket.id != id);
                self.udp.push(Udp {
                    socket: Socket::new(id, io, Source::Udp(id), &self.list),
                    unsent: None,
                });
                Ok(bound)
            }
            SocketKind::TcpListener => {
                let io = platform::listener(local, &self.route.egress)?;
                let bound = io.local_addr()?;
                self.listeners.retain(|listener| listener.id != id);
                self.listeners
                    .push(Socket::new(id, io, Source::Listener(id), &self.list));
                Ok(bound)
            }
        }
    }

    /// Closes a datagram socket, if there is one of this name.
    pub(super) fn unbind(&mut self, id: SocketId) {
        self.udp.retain(|udp| udp.socket.id != id);
    }

    /// Closes everything.
    pub(super) fn clear(&mut self) {
        self.udp.clear();
        self.listeners.clear();
    }

    /// A datagram socket rang.
    pub(super) fn udp_rang(&mut self, id: SocketId) {
        for udp in self.udp.iter_mut().filter(|udp| udp.socket.id == id) {
            udp.socket.bell.own.clear();
            udp.socket.ready = true;
        }
    }

    /// A listener rang.
    pub(super) fn listener_rang(&mut self, id: SocketId) {
        for listener in self.listeners.iter_mut().filter(|l| l.id == id) {
            listener.bell.own.clear();
            listener.ready = true;
        }
    }

    /// Whether there is something to do at once.
    pub(super) fn busy(&self) -> bool {
        self.udp
            .iter()
            .any(|udp| udp.socket.ready && udp.socket.paused.is_none())
            || self
                .listeners
                .iter()
                .any(|listener| listener.ready && listener.paused.is_none())
    }

    /// When a paused socket wants to be tried again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let udp = self.udp.iter().filter_map(|udp| udp.socket.paused);
        udp.chain(self.listeners.iter().filter_map(|l| l.paused))
            .min()
    }

    /// Sends what the engine has, as far as the sockets take it.
    pub(super) fn send(&mut self, engine: &mut Engine, now: Instant, stats: &mut Stats) -> bool {
        for udp in &mut self.udp {
            let Some(unsent) = udp.unsent.take() else {
                continue;
            };
            match udp.send(unsent.to, &unsent.data) {
                Sent::Yes => {}
                Sent::NotYet => udp.unsent = Some(unsent),
                Sent::Lost => engine.handle_unsent(now, unsent.to),
            }
        }
        for _ in 0..TRANSMITS_PER_TURN {
            // One unsent datagram is kept; nothing is built behind it.
            if self.udp.iter().any(|udp| udp.unsent.is_some()) {
                return false;
            }
            let Some(transmit) = engine.poll_transmit(now, 1, &mut self.buf) else {
                return false;
            };
            stats.progress = true;
            match self.transmit(&transmit) {
                Sent::Lost => engine.handle_unsent(now, transmit.dst),
                Sent::Yes | Sent::NotYet => stats.datagrams_out += 1,
            }
        }
        true
    }

    /// Without a socket to send from the datagram is lost, as on any network that does not carry
    /// it.
    fn transmit(&mut self, transmit: &Transmit) -> Sent {
        self.bind_quietly(transmit.socket, transmit.dst);
        let Some(udp) = self.udp.iter_mut().find(|u| u.socket.id == transmit.socket) else {
            return Sent::Lost;
        };
        let data = &self.buf[..transmit.len.min(self.buf.len())];
        let sent = udp.send(transmit.dst, data);
        if sent == Sent::NotYet {
            udp.unsent = Some(Unsent {
                to: transmit.dst,
                data: data.to_vec(),
            });
        }
        sent
    }

    /// A session that does not listen still asks UDP trackers: from any port. Never beside a
    /// proxy.
    fn bind_quietly(&mut self, id: SocketId, dst: SocketAddr) {
        if self.route.proxy.is_some() || self.udp.iter().any(|u| u.socket.id == id) {
            return;
        }
        let any: IpAddr = match dst {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let local = self.route.egress.listen(SocketAddr::new(any, 0));
        // Where the family is missing there is nothing to be done.
        let _ = self.bind(id, SocketKind::Udp, local);
    }

    /// Takes what has arrived.
    pub(super) fn receive(&mut self, engine: &mut Engine, now: Instant, stats: &mut Stats) {
        for udp in &mut self.udp {
            if udp.socket.usable(now) {
                udp.receive(&mut self.buf, engine, now, stats);
            }
        }
    }

    /// Accepts who has come.
    pub(super) fn accept(
        &mut self,
        conns: &mut Conns,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
    ) {
        for listener in &mut self.listeners {
            if listener.usable(now) {
                listener.accept(conns, engine, now, stats);
            }
        }
    }
}

impl Udp {
    fn send(&self, to: SocketAddr, data: &[u8]) -> Sent {
        let mut cx = Context::from_waker(&self.socket.bell.waker);
        loop {
            match self.socket.io.poll_send_ready(&mut cx) {
                Poll::Pending => return Sent::NotYet,
                Poll::Ready(Err(_)) => return Sent::Lost,
                Poll::Ready(Ok(())) => {}
            }
            match self.socket.io.try_send_to(data, to) {
                Ok(_) => return Sent::Yes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Sent::Lost,
            }
        }
    }

    fn receive(&mut self, buf: &mut [u8], engine: &mut Engine, now: Instant, stats: &mut Stats) {
        let socket = &mut self.socket;
        let mut cx = Context::from_waker(&socket.bell.waker);
        for _ in 0..DATAGRAMS_PER_TURN {
            if socket.io.poll_recv_ready(&mut cx).is_pending() {
                socket.ready = false;
                return;
            }
            match socket.io.try_recv_from(buf) {
                Ok((len, from)) => {
                    stats.datagrams_in += 1;
                    stats.progress = true;
                    let meta = RecvMeta {
                        socket: socket.id,
                        from,
                        local: None,
                        ecn: Ecn::NotEct,
                    };
                    engine.handle_udp(now, &meta, &mut buf[..len]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Some platforms report an earlier send's failure here; the socket is fine.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(_) => {
                    socket.paused = Some(now + PAUSE);
                    return;
                }
            }
        }
    }
}

impl Socket<TcpListener> {
    fn accept(&mut self, conns: &mut Conns, engine: &mut Engine, now: Instant, stats: &mut Stats) {
        let mut cx = Context::from_waker(&self.bell.waker);
        for _ in 0..ACCEPTS_PER_TURN {
            match self.io.poll_accept(&mut cx) {
                Poll::Pending => {
                    self.ready = false;
                    return;
                }
                Poll::Ready(Ok((stream, remote))) => {
                    stats.progress = true;
                    match engine.accept(now, remote) {
                        Some(id) => {
                            socket::tune(&stream);
                            conns.accepted(id, stream);
                        }
                        None => socket::abort_on_drop(&stream),
                    }
                }
                Poll::Ready(Err(error)) if socket::out_of_resources(&error) => {
                    stats.accept_pauses += 1;
                    self.paused = Some(now + PAUSE);
                    return;
                }
                // The one who came is gone again; the next may be there.
                Poll::Ready(Err(_)) => {}
            }
        }
    }
}
