//! The pool of TCP sockets: their owners, listening, and eviction.
//!
//! ```text
//!  slots   0 …………………………………………… base …………… len
//!          connections, and free ones │ listeners
//! ```
//!
//! smoltcp gives a SYN to the first socket, in order, that accepts it. A listener accepts it even
//! if a socket behind it has that very connection (a SYN that was sent again, or that crosses
//! another one, RFC 9293 §3.5). Listeners are therefore kept behind all other sockets: a listener
//! that has received a SYN is moved below `base`, and a socket that is to listen is moved above it.

mod room;

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec,
    vec::Vec,
};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use dunlin_core::engine::Readiness;
use dunlin_core::op::Close;
use dunlin_core::{CloseReason, ConnId, Instant};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{self, CongestionControl, State};
use smoltcp::wire::IpEndpoint;

use super::Net;
use super::ephemeral::{EPHEMERAL, free_port};
use crate::config::NetConfig;
use crate::stats::Stats;
use crate::time::to_stack_duration;

/// The most ports to listen on: one for each family.
const MAX_PORTS: usize = 2;

/// The owner of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The socket has no owner.
    Free,
    /// The socket listens on [`Slot::port`].
    Listener,
    /// The socket has received a SYN, and its handshake is not finished.
    HalfOpen,
    /// A stream of the engine.
    Peer(ConnId),
    /// An HTTP request.
    Http(usize),
    /// The connection has no owner any more, but the stack is not done with it.
    Ending,
}

/// One TCP socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) owner: Owner,
    /// The local port.
    pub(crate) port: u16,
    /// The handshake is finished.
    pub(crate) open: bool,
    pub(crate) readiness: Readiness,
    /// The slot is in the queue of slots to visit.
    pub(crate) queued: bool,
    /// When it became half-open or began to end.
    since: Instant,
    deadline: Option<Instant>,
    /// How the stack ended the connection.
    pub(crate) cause: Option<CloseReason>,
}

const VACANT: Slot = Slot {
    owner: Owner::Free,
    port: 0,
    open: false,
    readiness: Readiness {
        read: false,
        write: false,
    },
    queued: false,
    since: Instant::ORIGIN,
    deadline: None,
    cause: None,
};

/// What the stack was doing when a socket changed, which tells a reset from a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It received a packet.
    Ingress,
    /// It sent packets and ran timers.
    Egress,
}

/// The pool.
pub(crate) struct Pool {
    slots: Vec<Slot>,
    handles: Vec<SocketHandle>,
    /// The first slot of listeners; see the figure above.
    base: usize,
    /// The ports to listen on.
    ports: Vec<u16>,
    /// The families for which each of `ports` is used: IPv4, IPv6.
    families: Vec<[bool; 2]>,
    /// Listeners may be missing, and there may be sockets for them.
    short: bool,
    /// Listeners are missing, and no socket is left.
    missing: bool,
    /// The earliest deadline of a slot, or earlier.
    next_deadline: Option<Instant>,
    half_open: usize,
    by_conn: BTreeMap<u32, usize>,
    queue: VecDeque<usize>,
    /// The bit of the first slot.
    first_bit: usize,
    next_port: u16,
    config: Sizes,
}

/// The values of [`NetConfig`] that are needed later.
struct Sizes {
    connections: usize,
    reserve: usize,
    rx: usize,
    tx: usize,
    half_open: usize,
    half_open_timeout: Duration,
    linger: Duration,
    keep_alive: Duration,
    timeout: Duration,
    ack_delay: Duration,
    from_listen_port: bool,
}

impl Pool {
    /// The number of bits that a pool for `config` needs.
    pub(crate) const fn bits(config: &NetConfig) -> usize {
        config.connections + MAX_PORTS * config.reserve
    }

    pub(crate) fn new(config: &NetConfig, first_bit: usize, random: u32) -> Self {
        Self {
            slots: Vec::new(),
            handles: Vec::new(),
            base: 0,
            ports: Vec::new(),
            families: Vec::new(),
            short: false,
            missing: false,
            next_deadline: None,
            half_open: 0,
            by_conn: BTreeMap::new(),
            queue: VecDeque::new(),
            first_bit,
            next_port: EPHEMERAL + (random % u32::from(u16::MAX - EPHEMERAL)) as u16,
            config: Sizes {
                connections: config.connections,
                reserve: config.reserve,
                rx: config.tcp_rx,
                tx: config.tcp_tx,
                half_open: config.half_open,
                half_open_timeout: config.half_open_timeout,
                linger: config.linger,
                keep_alive: config.keep_alive,
                timeout: config.timeout,
                ack_delay: config.ack_delay,
                from_listen_port: config.connect_from_listen_port,
            },
        }
    }

    /// Creates all sockets that can be needed once the addresses of `listen` are bound.
    pub(crate) fn preallocate(&mut self, net: &mut Net, listen: &[SocketAddr]) {
        let new = |(i, addr): (usize, &SocketAddr)| {
            let same = |other: &SocketAddr| other.port() == addr.port();
            // For port 0, each family chooses a port of its own.
            addr.port() == 0 || !listen[..i].iter().any(same)
        };
        let ports = listen.iter().enumerate().filter(|&at| new(at)).count();
        let all = self.config.connections + self.config.reserve * ports.min(MAX_PORTS);
        while self.slots.len() < all {
            self.make(net);
        }
        self.base = self.slots.len();
    }

    /// The number of sockets that exist.
    pub(crate) fn made(&self) -> usize {
        self.slots.len()
    }

    /// The most sockets for the ports that are bound now.
    fn max(&self) -> usize {
        self.config.connections + self.config.reserve * self.ports.len()
    }

    /// Creates one more socket, at the end; `None` when there are enough.
    fn grow(&mut self, net: &mut Net) -> Option<usize> {
        (self.slots.len() < self.max()).then(|| self.make(net))
    }

    fn make(&mut self, net: &mut Net) -> usize {
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; self.config.rx]),
            tcp::SocketBuffer::new(vec![0; self.config.tx]),
        );
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(Some(to_stack_duration(self.config.ack_delay)));
        let index = self.slots.len();
        self.handles.push(net.sockets.add(socket));
        self.slots.push(VACANT);
        index
    }

    /// Listens on a port for another family. Returns `false` when it does so already.
    pub(crate) fn listen(&mut self, net: &mut Net, port: u16, v6: bool) -> bool {
        let at = match self.ports.iter().position(|p| *p == port) {
            Some(at) => at,
            // There are no bits for more ports.
            None if self.ports.len() == MAX_PORTS => return false,
            None => {
                self.ports.push(port);
                self.families.push([false; 2]);
                self.ports.len() - 1
            }
        };
        if core::mem::replace(&mut self.families[at][usize::from(v6)], true) {
            return false;
        }
        self.short = true;
        self.fill(net, &mut Stats::default());
        true
    }

    /// Returns `true` when a socket has this local port.
    pub(crate) fn uses(&self, port: u16) -> bool {
        self.ports.contains(&port) || self.slots.iter().any(|s| s.port == port)
    }

    /// The next ephemeral port that no socket has and that is not `taken`; `None` when there is
    /// none.
    pub(crate) fn ephemeral(&mut self, taken: impl Fn(u16) -> bool) -> Option<u16> {
        let port = free_port(self.next_port, |port| self.uses(port) || taken(port))?;
        self.next_port = port.checked_add(1).unwrap_or(EPHEMERAL);
        Some(port)
    }

    pub(crate) fn slot(&self, index: usize) -> &Slot {
        &self.slots[index]
    }

    pub(crate) fn slot_mut(&mut self, index: usize) -> &mut Slot {
        &mut self.slots[index]
    }

    pub(crate) fn handle(&self, index: usize) -> SocketHandle {
        self.handles[index]
    }

    /// The bit of a slot.
    pub(crate) const fn bit(&self, index: usize) -> usize {
        self.first_bit + index
    }

    /// The slot of a stream.
    pub(crate) fn of(&self, id: ConnId) -> Option<usize> {
        let index = *self.by_conn.get(&id.index)?;
        (self.slots[index].owner == Owner::Peer(id)).then_some(index)
    }

    /// The slot of an HTTP request.
    pub(crate) fn of_http(&self, job: usize) -> Option<usize> {
        self.slots.iter().position(|s| s.owner == Owner::Http(job))
    }

    /// The number of sockets by use: free, listening, half-open, in use, ending.
    pub(crate) fn usage(&self) -> [usize; 5] {
        // Preallocated sockets exist before the ports for which they are meant are bound.
        let unmade = self.max().saturating_sub(self.slots.len());
        let mut counts = [unmade, 0, 0, 0, 0];
        for slot in &self.slots {
            counts[match slot.owner {
                Owner::Free => 0,
                Owner::Listener => 1,
                Owner::HalfOpen => 2,
                Owner::Peer(_) | Owner::Http(_) => 3,
                Owner::Ending => 4,
            }] += 1;
        }
        counts
    }

    /// Exchanges two slots with everything that belongs to them.
    fn swap(&mut self, net: &mut Net, a: usize, b: usize) {
        if a == b {
            return;
        }
        let empty = || tcp::SocketBuffer::new(vec![]);
        let spare = tcp::Socket::new(empty(), empty());
        let (ha, hb) = (self.handles[a], self.handles[b]);
        let socket = core::mem::replace(net.tcp(ha), spare);
        let socket = core::mem::replace(net.tcp(hb), socket);
        *net.tcp(ha) = socket;
        self.slots.swap(a, b);
        for index in [a, b] {
            net.watch(self.handles[index], self.bit(index));
            if let Owner::Peer(id) = self.slots[index].owner {
                self.by_conn.insert(id.index, index);
            }
            if self.slots[index].queued {
                self.queue.push_back(index);
            }
        }
    }

    /// Adds a slot to the queue of slots to visit.
    pub(crate) fn enqueue(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if !core::mem::replace(&mut slot.queued, true) {
            self.queue.push_back(index);
        }
    }

    /// The length of the queue, in which some slots may be twice.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The next slot to visit.
    pub(crate) fn next_queued(&mut self) -> Option<usize> {
        while let Some(index) = self.queue.pop_front() {
            // Swapping slots may have left a second entry.
            if core::mem::take(&mut self.slots[index].queued) {
                return Some(index);
            }
        }
        None
    }

    /// Handles a socket that has become ready: updates the pool, and queues the slot if its owner
    /// must visit it.
    pub(crate) fn became_ready(
        &mut self,
        net: &mut Net,
        now: Instant,
        index: usize,
        stage: Stage,
        stats: &mut Stats,
    ) {
        let Some(slot) = self.slots.get(index).copied() else {
            return;
        };
        let state = net.watch(self.handles[index], self.bit(index)).state();
        match slot.owner {
            Owner::Free => {}
            Owner::Listener => {
                if state != State::Listen {
                    self.got_syn(net, now, index, stats);
                }
            }
            Owner::HalfOpen => match state {
                State::SynReceived => {}
                // A reset makes the socket listen again, but listeners must be above `base`.
                State::Listen | State::Closed => self.free(net, index),
                _ => self.enqueue(index),
            },
            Owner::Peer(_) | Owner::Http(_) => {
                if state == State::Closed && slot.cause.is_none() {
                    self.slots[index].cause = Some(match (stage, slot.open) {
                        (Stage::Egress, _) => CloseReason::TimedOut,
                        (Stage::Ingress, false) => CloseReason::Refused,
                        (Stage::Ingress, true) => CloseReason::Reset,
                    });
                }
                self.enqueue(index);
            }
            Owner::Ending => self.ending_became_ready(net, index, state),
        }
    }

    fn ending_became_ready(&mut self, net: &mut Net, index: usize, state: State) {
        let socket = net.tcp(self.handles[index]);
        if state == State::Closed && socket.remote_endpoint().is_none() {
            self.free(net, index);
        } else if socket.recv_queue() > 0 && state != State::Closed {
            // The other side still sends, and nobody will read it.
            socket.abort();
            net.dirty = true;
        }
    }

    /// Sets the options of a new connection, which the stack's own reset leaves unchanged.
    fn tune(&self, net: &mut Net, index: usize) {
        let socket = net.tcp(self.handles[index]);
        socket.set_congestion_control(CongestionControl::Reno);
        socket.set_timeout(Some(to_stack_duration(self.config.timeout)));
        socket.set_keep_alive(Some(to_stack_duration(self.config.keep_alive)));
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// When no socket is free, or there is no route to `remote`.
    pub(crate) fn connect(
        &mut self,
        net: &mut Net,
        now: Instant,
        remote: SocketAddr,
        owner: Owner,
        stats: &mut Stats,
    ) -> Result<usize, CloseReason> {
        // Addresses from peers may be anything, also multicast.
        let many = match remote.ip() {
            IpAddr::V4(ip) => ip.is_broadcast() || ip.is_multicast(),
            IpAddr::V6(ip) => ip.is_multicast(),
        };
        if many || !net.has_route(remote.ip()) {
            return Err(CloseReason::Unreachable);
        }
        let index = self.vacancy(net, stats).ok_or_else(|| {
            stats.exhausted += 1;
            CloseReason::Io
        })?;
        let peer = matches!(owner, Owner::Peer(_));
        let port = self
            .listen_port(net, remote, peer)
            .or_else(|| self.ephemeral(|_| false))
            .ok_or(CloseReason::Io)?;
        self.tune(net, index);
        let endpoint = IpEndpoint::new(remote.ip().into(), remote.port());
        let socket = net.sockets.get_mut::<tcp::Socket<'_>>(self.handles[index]);
        if socket.connect(net.iface.context(), endpoint, port).is_err() {
            return Err(CloseReason::Unreachable);
        }
        net.watch(self.handles[index], self.bit(index));
        net.dirty = true;
        let queued = self.slots[index].queued;
        self.slots[index] = Slot {
            owner,
            port,
            queued,
            ..VACANT
        };
        if let Owner::Peer(id) = owner {
            self.own(net, now, index, id);
        }
        Ok(index)
    }

    /// The port to connect from, if that is to be the one listened on and this is possible.
    fn listen_port(&self, net: &Net, remote: SocketAddr, peer: bool) -> Option<u16> {
        if !peer || !self.config.from_listen_port {
            return None;
        }
        let family = usize::from(remote.is_ipv6());
        let bound = self.families.iter().position(|f| f[family])?;
        let port = self.ports[bound];
        let used = (0..self.base).any(|index| {
            let socket = net.sockets.get::<tcp::Socket<'_>>(self.handles[index]);
            self.slots[index].port == port
                && socket.remote_endpoint().map(super::socket_addr) == Some(remote)
        });
        (!used).then_some(port)
    }

    /// Gives a slot to a stream of the engine.
    pub(crate) fn own(&mut self, net: &mut Net, now: Instant, index: usize, id: ConnId) {
        // The engine has given up an older stream with this index, and will close it.
        if let Some(old) = self.by_conn.insert(id.index, index)
            && old != index
            && matches!(self.slots[old].owner, Owner::Peer(o) if o.index == id.index)
        {
            self.close(net, now, old, Close::Flush);
            self.by_conn.insert(id.index, index);
        }
        if self.slots[index].owner == Owner::HalfOpen {
            self.half_open -= 1;
        }
        let slot = &mut self.slots[index];
        slot.owner = Owner::Peer(id);
        slot.deadline = None;
    }

    /// Closes a connection.
    pub(crate) fn close(&mut self, net: &mut Net, now: Instant, index: usize, how: Close) {
        let socket = net.tcp(self.handles[index]);
        let established = !matches!(socket.state(), State::SynSent | State::SynReceived);
        if how == Close::Abort || !established || socket.recv_queue() > 0 {
            self.abort(net, now, index);
            return;
        }
        socket.close();
        self.end(net, now, index);
    }

    /// Resets a connection.
    pub(crate) fn abort(&mut self, net: &mut Net, now: Instant, index: usize) {
        net.tcp(self.handles[index]).abort();
        self.end(net, now, index);
    }

    /// Takes a connection from its owner, and lets the stack finish it.
    fn end(&mut self, net: &mut Net, now: Instant, index: usize) {
        net.dirty = true;
        self.disown(index);
        self.short |= self.missing;
        let socket = net.watch(self.handles[index], self.bit(index));
        let gone = socket.state() == State::Closed && socket.remote_endpoint().is_none();
        let slot = &mut self.slots[index];
        slot.owner = Owner::Ending;
        slot.since = now;
        slot.queued = false;
        if gone {
            self.free(net, index);
        } else {
            self.set_deadline(index, now + self.config.linger);
        }
    }

    fn disown(&mut self, index: usize) {
        match self.slots[index].owner {
            Owner::Peer(id) if self.by_conn.get(&id.index) == Some(&index) => {
                self.by_conn.remove(&id.index);
            }
            Owner::HalfOpen => self.half_open -= 1,
            _ => {}
        }
    }

    /// Frees a slot, whatever its socket is doing.
    fn free(&mut self, net: &mut Net, index: usize) {
        self.disown(index);
        let socket = net.tcp(self.handles[index]);
        // The other side learns nothing if the socket is reused at once.
        socket.abort();
        net.dirty = true;
        self.slots[index] = VACANT;
        self.short |= self.missing;
    }

    fn set_deadline(&mut self, index: usize, at: Instant) {
        self.slots[index].deadline = Some(at);
        self.next_deadline = Some(self.next_deadline.map_or(at, |next| next.min(at)));
    }

    /// When [`Pool::tick`] has something to do, or earlier.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Ends handshakes and closing connections that take too long.
    pub(crate) fn tick(&mut self, net: &mut Net, now: Instant, stats: &mut Stats) {
        if self.next_deadline.is_none_or(|at| at > now) {
            return;
        }
        self.next_deadline = None;
        for index in 0..self.base {
            match self.slots[index].deadline {
                Some(at) if at <= now => {
                    stats.overdue += 1;
                    self.slots[index].deadline = None;
                    if self.slots[index].owner == Owner::Ending {
                        self.free(net, index);
                    } else {
                        self.abort(net, now, index);
                    }
                }
                Some(at) => self.set_deadline(index, at),
                None => {}
            }
        }
    }

    /// Ends connections whose local address the interface no longer has.
    pub(crate) fn drop_orphans(&mut self, net: &mut Net) {
        for index in 0..self.base {
            let local = net.tcp(self.handles[index]).local_endpoint();
            if local.is_none_or(|local| net.iface.has_ip_addr(local.addr)) {
                continue;
            }
            match self.slots[index].owner {
                Owner::Peer(_) | Owner::Http(_) => {
                    net.tcp(self.handles[index]).abort();
                    self.slots[index].cause = Some(CloseReason::Unreachable);
                    self.enqueue(index);
                }
                _ => self.free(net, index),
            }
        }
    }
}
