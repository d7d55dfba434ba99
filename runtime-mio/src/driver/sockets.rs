//! Datagram sockets and listeners: at most one of each per family.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use dunlin_core::{Ecn, Instant, RecvMeta, SocketId, Transmit, engine::Engine, op::SocketKind};
use dunlin_std::net::socket::{self, Route};
use mio::{
    event::Source,
    net::{TcpListener, UdpSocket},
};
use quinn_udp::{EcnCodepoint, UdpSockRef, UdpSocketState};

use super::{Stats, conns::Conns};
use crate::poller::{Poller, Ready};

/// Datagrams (or trains of them) that one call receives at most, where the platform can.
const BATCH: usize = if quinn_udp::BATCH_SIZE < 8 {
    quinn_udp::BATCH_SIZE
} else {
    8
};
/// Calls that receive from one socket in one round.
const RECEIVES_PER_ROUND: usize = 8;
/// Datagrams (or trains) sent in one round.
const TRANSMITS_PER_ROUND: usize = 64;
/// Streams accepted in one round.
const ACCEPTS_PER_ROUND: usize = 32;
/// How long a socket is left alone after an error that trying again at once would only repeat,
/// such as having no descriptors left.
const PAUSE: Duration = Duration::from_millis(250);
/// The largest datagram there is, and the largest train. The memory is only touched as far as
/// datagrams reach.
const MAX_DATAGRAM: usize = 64 << 10;
/// [`SocketId`]s of one kind.
const IDS: usize = 1 << u8::BITS;

/// Numbers of the poller that belong to these sockets are below this one.
pub(super) const KEYS: usize = 2 * IDS;

struct Socket<T> {
    id: SocketId,
    io: T,
    /// Something may be there: an edge said so, and no call has found otherwise since.
    readable: bool,
    paused: Option<Instant>,
}

impl<T: Source> Socket<T> {
    /// # Errors
    /// The system refuses to watch it.
    fn new(poller: &Poller, id: SocketId, key: usize, mut io: T) -> io::Result<Self> {
        poller.add(&mut io, key)?;
        Ok(Self {
            id,
            io,
            readable: false,
            paused: None,
        })
    }

    fn usable(&mut self, now: Instant) -> bool {
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
        }
        self.readable && self.paused.is_none()
    }
}

/// One datagram, or train of them, that the socket would not take yet.
struct Unsent {
    transmit: Transmit,
    data: Vec<u8>,
}

/// What became of a datagram, or a train of them.
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
    /// What the platform can do with datagrams, and how.
    state: UdpSocketState,
    writable: bool,
    unsent: Option<Unsent>,
}

/// All sockets that are not streams.
pub(super) struct Sockets {
    udp: Vec<Udp>,
    listeners: Vec<Socket<TcpListener>>,
    /// For [`BATCH`] datagrams at once; made with the first socket.
    buf: Vec<u8>,
    route: Route,
}

impl Sockets {
    pub(super) const fn new(route: Route) -> Self {
        Self {
            udp: Vec::new(),
            listeners: Vec::new(),
            buf: Vec::new(),
            route,
        }
    }

    /// Binds a socket and tells its address.
    ///
    /// # Errors
    /// What the platform says.
    pub(super) fn bind(
        &mut self,
        poller: &Poller,
        id: SocketId,
        kind: SocketKind,
        local: SocketAddr,
    ) -> io::Result<SocketAddr> {
        let key = usize::from(id.0);
        match kind {
            SocketKind::Udp => {
                // One port for datagrams and streams where the system chooses: peers are told one.
                let twin = self.listeners.iter().find(|l| l.id == id);
                let twin = twin.and_then(|l| l.io.local_addr().ok());
                let like = twin.filter(|_| local.port() == 0).map(|twin| {
                    let local = SocketAddr::new(local.ip(), twin.port());
                    socket::udp(local, &self.route.egress)
                });
                let io = match like {
                    Some(Ok(io)) => io,
                    _ => socket::udp(local, &self.route.egress)?,
                };
                let io = UdpSocket::from_std(io.into());
                let bound = io.local_addr()?;
                let state = UdpSocketState::new(UdpSockRef::from(&io))?;
                self.udp.retain(|udp| udp.socket.id != id);
                self.udp.push(Udp {
                    socket: Socket::new(poller, id, key, io)?,
                    state,
                    writable: true,
                    unsent: None,
                });
                self.buf.resize(BATCH * MAX_DATAGRAM, 0);
                Ok(bound)
            }
            SocketKind::TcpListener => {
                let io = socket::listener(local, &self.route.egress)?;
                let io = TcpListener::from_std(io.into());
                let bound = io.local_addr()?;
                self.listeners.retain(|listener| listener.id != id);
                self.listeners.push(Socket::new(poller, id, IDS + key, io)?);
                Ok(bound)
            }
        }
    }

    /// Closes a datagram socket, if there is one of this name.
    pub(super) fn unbind(&mut self, id: SocketId) {
        // A socket that is closed is watched no more.
        self.udp.retain(|udp| udp.socket.id != id);
    }

    /// Closes everything.
    pub(super) fn clear(&mut self) {
        self.udp.clear();
        self.listeners.clear();
    }

    /// Takes note of an edge.
    pub(super) fn ready(&mut self, ready: Ready) {
        if let Some(key) = ready.key.checked_sub(IDS) {
            for listener in &mut self.listeners {
                listener.readable |= usize::from(listener.id.0) == key && ready.read;
            }
            return;
        }
        for udp in &mut self.udp {
            if usize::from(udp.socket.id.0) == ready.key {
                udp.socket.readable |= ready.read;
                udp.writable |= ready.write;
            }
        }
    }

    /// Whether there is something to do at once.
    pub(super) fn busy(&self) -> bool {
        let udp = |udp: &Udp| {
            udp.socket.readable && udp.socket.paused.is_none()
                || udp.writable && udp.unsent.is_some()
        };
        self.udp.iter().any(udp)
            || self
                .listeners
                .iter()
                .any(|listener| listener.readable && listener.paused.is_none())
    }

    /// When a paused socket wants to be tried again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let udp = self.udp.iter().filter_map(|udp| udp.socket.paused);
        udp.chain(self.listeners.iter().filter_map(|l| l.paused))
            .min()
    }

    /// Sends what the engine has, as far as the sockets take it; whether the budget was too
    /// small for all of it.
    pub(super) fn send(
        &mut self,
        poller: &Poller,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
    ) -> bool {
        for udp in &mut self.udp {
            let Some(unsent) = udp.unsent.take() else {
                continue;
            };
            match udp.send(&unsent.transmit, &unsent.data) {
                Sent::Yes => {}
                Sent::NotYet => udp.unsent = Some(unsent),
                Sent::Lost => engine.handle_unsent(now, unsent.transmit.dst),
            }
        }
        for _ in 0..TRANSMITS_PER_ROUND {
            // One unsent datagram is kept; nothing is built behind it.
            if self.udp.iter().any(|udp| udp.unsent.is_some()) {
                return false;
            }
            // Before a datagram socket is bound there may be something to send already.
            if self.buf.is_empty() {
                self.buf.resize(BATCH * MAX_DATAGRAM, 0);
            }
            let segments = self.udp.iter().map(|udp| udp.state.max_gso_segments());
            let segments = segments.min().unwrap_or(1);
            let buf = &mut self.buf[..MAX_DATAGRAM];
            let Some(transmit) = engine.poll_transmit(now, segments, buf) else {
                return false;
            };
            stats.progress = true;
            match self.transmit(poller, transmit) {
                Some(count) => stats.datagrams_out += count,
                None => engine.handle_unsent(now, transmit.dst),
            }
        }
        true
    }

    /// How many datagrams there were; `None` if they are lost: the platform refused, or there is
    /// no socket to send from.
    fn transmit(&mut self, poller: &Poller, transmit: Transmit) -> Option<u64> {
        self.bind_quietly(poller, transmit.socket, transmit.dst);
        let named = |udp: &&mut Udp| udp.socket.id == transmit.socket;
        let udp = self.udp.iter_mut().find(named)?;
        let data = &self.buf[..transmit.len.min(MAX_DATAGRAM)];
        let segments = transmit
            .segment
            .map_or(1, |segment| data.len().div_ceil(segment.get()));
        match udp.send(&transmit, data) {
            Sent::Yes => {}
            Sent::Lost => return None,
            Sent::NotYet => {
                udp.unsent = Some(Unsent {
                    transmit,
                    data: data.to_vec(),
                });
            }
        }
        Some(segments as u64)
    }

    /// A driver that does not listen still asks UDP trackers: from any port. Never beside a
    /// proxy.
    fn bind_quietly(&mut self, poller: &Poller, id: SocketId, dst: SocketAddr) {
        if self.route.proxy.is_some() || self.udp.iter().any(|u| u.socket.id == id) {
            return;
        }
        let any: IpAddr = match dst {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let local = self.route.egress.listen(SocketAddr::new(any, 0));
        // Where the family is missing there is nothing to be done.
        let _ = self.bind(poller, id, SocketKind::Udp, local);
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
        poller: &Poller,
        conns: &mut Conns,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
    ) {
        for listener in &mut self.listeners {
            if listener.usable(now) {
                listener.accept(poller, conns, engine, now, stats);
            }
        }
    }
}

impl Udp {
    fn send(&mut self, transmit: &Transmit, data: &[u8]) -> Sent {
        if !self.writable {
            return Sent::NotYet;
        }
        let out = quinn_udp::Transmit {
            destination: transmit.dst,
            ecn: match transmit.ecn {
                Ecn::NotEct => None,
                Ecn::Ect0 => Some(EcnCodepoint::Ect0),
                Ecn::Ect1 => Some(EcnCodepoint::Ect1),
                Ecn::Ce => Some(EcnCodepoint::Ce),
            },
            contents: data,
            segment_size: transmit.segment.map(std::num::NonZeroUsize::get),
            src_ip: transmit.src,
        };
        let io = &self.socket.io;
        match io.try_io(|| self.state.try_send(UdpSockRef::from(io), &out)) {
            Ok(()) => Sent::Yes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Sent::NotYet
            }
            Err(_) => Sent::Lost,
        }
    }

    fn receive(&mut self, buf: &mut [u8], engine: &mut Engine, now: Instant, stats: &mut Stats) {
        let (id, io) = (self.socket.id, &self.socket.io);
        for _ in 0..RECEIVES_PER_ROUND {
            let mut metas = [quinn_udp::RecvMeta::default(); BATCH];
            let received = {
                let mut bufs: heapless::Vec<IoSliceMut<'_>, BATCH> =
                    buf.chunks_mut(MAX_DATAGRAM).map(IoSliceMut::new).collect();
                io.try_io(|| self.state.recv(UdpSockRef::from(io), &mut bufs, &mut metas))
            };
            let count = match received {
                Ok(count) => count,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.socket.readable = false;
                        return;
                    }
                    // Some platforms report an earlier send's failure here; the socket is fine.
                    io::ErrorKind::Interrupted
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionRefused => continue,
                    _ => {
                        self.socket.paused = Some(now + PAUSE);
                        return;
                    }
                },
            };
            stats.receives += 1;
            stats.progress = true;
            for (meta, place) in metas[..count].iter().zip(buf.chunks_mut(MAX_DATAGRAM)) {
                let from = RecvMeta {
                    socket: id,
                    from: meta.addr,
                    local: meta.dst_ip,
                    ecn: match meta.ecn {
                        None => Ecn::NotEct,
                        Some(EcnCodepoint::Ect0) => Ecn::Ect0,
                        Some(EcnCodepoint::Ect1) => Ecn::Ect1,
                        Some(EcnCodepoint::Ce) => Ecn::Ce,
                    },
                };
                let train = &mut place[..meta.len.min(MAX_DATAGRAM)];
                for datagram in train.chunks_mut(meta.stride.max(1)) {
                    stats.datagrams_in += 1;
                    engine.handle_udp(now, &from, datagram);
                }
            }
            // Fewer than there was room for: the queue was empty.
            if count < BATCH && cfg!(unix) && BATCH > 1 {
                self.socket.readable = false;
                return;
            }
        }
    }
}

impl Socket<TcpListener> {
    fn accept(
        &mut self,
        poller: &Poller,
        conns: &mut Conns,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
    ) {
        for _ in 0..ACCEPTS_PER_ROUND {
            match self.io.accept() {
                Ok((stream, remote)) => {
                    stats.progress = true;
                    let Some(id) = engine.accept(now, remote) else {
                        socket::abort_on_drop(&stream);
                        continue;
                    };
                    socket::tune(&stream);
                    if let Err(error) = conns.accepted(poller, id, remote, stream) {
                        engine.handle_closed(now, id, socket::close_reason(&error));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return;
                }
                Err(error) if socket::out_of_resources(&error) => {
                    stats.accept_pauses += 1;
                    self.paused = Some(now + PAUSE);
                    return;
                }
                // The one who came is gone again; the next may be there.
                Err(_) => {}
            }
        }
    }
}
