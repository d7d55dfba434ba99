//! The sockets of the node: the main sockets, or two of its own.
//!
//! ```text
//!   None ──▶ Awaited (main sockets) ──▶ Shared ──▶ None
//!     └────▶ Binding (its own) ───────▶ Own ─────▶ None
//! ```

use alloc::string::String;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::super::torrents::Torrents;
use super::Server;
use crate::dht::DhtLog;
use crate::net::Ports;
use crate::op::SocketKind;
use crate::torrent::cx;
use crate::torrent::io::Io;
use crate::torrent::outbox::event::{Level, What};
use crate::torrent::outbox::ops::Purpose;
use crate::{Op, OpError, OpErrorKind, Outcome, SocketId};

/// The sockets of the node.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    state: State,
    /// The number of starts, which distinguishes sockets of an earlier start.
    epoch: u32,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    None,
    /// The main sockets, which are not bound yet.
    Awaited,
    /// The main sockets.
    Shared,
    /// Its own sockets, which are not bound yet.
    Binding {
        left: u8,
        bound: Ports,
        error: Option<OpError>,
    },
    /// Its own sockets.
    Own,
}

impl Sockets {
    /// Whether a socket is one of the node's.
    pub(super) fn has(&self, socket: SocketId) -> bool {
        let own_socket = socket == SocketId::DHT_V4 || socket == SocketId::DHT_V6;
        match self.state {
            State::Own => own_socket,
            State::Shared => !own_socket,
            _ => false,
        }
    }

    /// The socket for datagrams to `addr`.
    pub(super) const fn towards(&self, addr: &SocketAddr) -> SocketId {
        match self.state {
            State::Own => own_socket(addr.ip()),
            _ => SocketId::for_addr(addr),
        }
    }
}

/// The id of the DHT's own socket of an address family.
const fn own_socket(ip: IpAddr) -> SocketId {
    match ip {
        IpAddr::V4(_) => SocketId::DHT_V4,
        IpAddr::V6(_) => SocketId::DHT_V6,
    }
}

/// The addresses for the DHT's own sockets: the configured listening addresses, if there are any.
fn families(io: &Io<'_>) -> heapless::Vec<IpAddr, 2> {
    let (config, caps) = (&io.setup.config, &io.setup.caps);
    let wanted = [
        (
            config.dht_config.ipv4 && caps.ipv4,
            IpAddr::from(Ipv4Addr::UNSPECIFIED),
        ),
        (
            config.dht_config.ipv6 && caps.ipv6,
            IpAddr::from(Ipv6Addr::UNSPECIFIED),
        ),
    ];
    let wanted = wanted.iter().filter(|(wanted, _)| *wanted);
    let listened = |any: IpAddr| {
        let mut listen = config.listen.iter().map(SocketAddr::ip);
        listen
            .find(|ip| ip.is_ipv4() == any.is_ipv4())
            .unwrap_or(any)
    };
    wanted.map(|(_, any)| listened(*any)).collect()
}

fn say_starting(io: &mut Io<'_>, port: u16) {
    let log = What::Dht(DhtLog::Starting { port });
    io.out.notice(None, None, Level::Info, log);
}

/// Requests one of the DHT's own sockets.
fn ask_to_bind(io: &mut Io<'_>, epoch: u32, local: SocketAddr) {
    let socket = own_socket(local.ip());
    io.out.ops.job(Purpose::DhtBind(epoch), |op| Op::Bind {
        op,
        socket,
        kind: SocketKind::Udp,
        local,
    });
}

impl Server {
    /// The service wants sockets. The main sockets are used if they have the port of the DHT.
    pub(super) fn bind(&mut self, io: &mut Io<'_>) {
        let main = |port: u16| {
            let bound = io.endpoints.udp_bound.values().any(|a| a.port() == port);
            bound || io.setup.config.listen.iter().any(|a| a.port() == port)
        };
        let shares = self.port.map_or(!io.setup.config.listen.is_empty(), main);
        if shares {
            self.sockets.state = State::Awaited;
            if io.endpoints.binding == 0 {
                self.share(io);
            }
            return;
        }
        let port = self.port.unwrap_or(0);
        self.sockets.epoch += 1;
        let families = families(io);
        if families.is_empty() {
            return self.failed_to_start(
                io,
                OpError {
                    kind: OpErrorKind::Unsupported,
                    detail: String::from("neither IPv4 nor IPv6 is to be used"),
                },
            );
        }
        self.sockets.state = State::Binding {
            left: families.len() as u8,
            bound: Ports::default(),
            error: None,
        };
        if port != 0 {
            say_starting(io, port);
        }
        for ip in families {
            ask_to_bind(io, self.sockets.epoch, SocketAddr::new(ip, port));
        }
    }

    /// The main sockets were bound, or could not be bound.
    pub(in super::super) fn main_bound(&mut self, io: &mut Io<'_>, torrents: &mut Torrents) {
        self.share(io);
        self.settle(io, torrents);
    }

    /// Starts the node on the main sockets, if it waits for them.
    fn share(&mut self, io: &mut Io<'_>) {
        if !matches!(self.sockets.state, State::Awaited) {
            return;
        }
        let configured = self
            .port
            .or_else(|| Some(io.setup.config.listen.first()?.port()));
        let ports = Ports::bound(io.endpoints.udp_bound.values());
        match ports.any() {
            Some(port) => {
                say_starting(io, port);
                self.run(io, ports, State::Shared);
            }
            None => {
                say_starting(io, configured.unwrap_or(0));
                self.failed_to_start(
                    io,
                    OpError {
                        kind: OpErrorKind::Denied,
                        detail: String::from("the UDP port is in use or invalid"),
                    },
                );
            }
        }
    }

    /// One of its own sockets was bound, or could not be bound. If the node was stopped in the meantime, a later start may
    /// use the socket already; otherwise, its closing was requested by the stop.
    pub(in super::super) fn own_bound(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        epoch: u32,
        outcome: Outcome,
    ) {
        if self.sockets.epoch != epoch {
            return;
        }
        let State::Binding { left, bound, error } = &mut self.sockets.state else {
            return;
        };
        *left = left.saturating_sub(1);
        let failed = match outcome {
            Outcome::Bound(addr) => {
                bound.set(addr);
                None
            }
            Outcome::Failed { error, .. } => Some(error),
            _ => None,
        };
        if let Some(failed) = failed {
            error.get_or_insert(failed);
        }
        if *left > 0 {
            return;
        }
        let (ports, error) = (*bound, error.take());
        match ports.any() {
            Some(port) => {
                if self.port.is_none() {
                    say_starting(io, port);
                }
                if let Some(OpError { detail, .. }) = error {
                    let message = detail;
                    io.out
                        .notice(None, None, Level::Warning, What::Bind { message });
                }
                self.run(io, ports, State::Own);
            }
            None => {
                let error = error.unwrap_or(OpError {
                    kind: OpErrorKind::Io,
                    detail: String::from("no UDP socket could be bound"),
                });
                self.failed_to_start(io, error);
            }
        }
        self.settle(io, torrents);
    }

    /// The network is available again: the DHT's own sockets, if it has any, are bound again on the same ports.
    pub(in super::super) fn rebind(&self, io: &mut Io<'_>) {
        if !matches!(self.sockets.state, State::Own) {
            return;
        }
        let Some(ports) = self.service.ports() else {
            return;
        };
        for ip in families(io) {
            if let Some(port) = ports.towards(ip) {
                // No start waits for it, so its outcome does not matter.
                ask_to_bind(io, u32::MAX, SocketAddr::new(ip, port));
            }
        }
    }

    fn failed_to_start(&mut self, io: &mut Io<'_>, error: OpError) {
        self.sockets.state = State::None;
        self.service.not_bound();
        let (message, cause) = (error.detail, error.kind);
        let what = What::DhtError { message, cause };
        io.out.notice(None, None, Level::Error, what);
    }

    /// Starts the node on bound sockets.
    fn run(&mut self, io: &mut Io<'_>, ports: Ports, sockets: State) {
        self.sockets.state = sockets;
        self.service.bound(&mut cx!(io), ports);
    }

    /// The node was stopped, or is not started any more: closes its own sockets.
    pub(super) fn unbind(&mut self, io: &mut Io<'_>) {
        let state = core::mem::take(&mut self.sockets.state);
        if !matches!(state, State::Binding { .. } | State::Own) {
            return;
        }
        for ip in families(io) {
            let socket = own_socket(ip);
            io.out
                .ops
                .job(Purpose::DhtQuiet, |op| Op::Unbind { op, socket });
        }
    }
}
