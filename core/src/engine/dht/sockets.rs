//! The sockets of the node: the main ones, or two of its own.
//!
//! ```text
//!   None ──▶ Awaited (main sockets) ──▶ Shared ──▶ None
//!     └────▶ Binding (its own) ───────▶ Own ─────▶ None
//! ```

use alloc::string::String;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::super::Engine;
use super::super::cx;
use super::super::event::{Level, What};
use super::super::ops::Purpose;
use super::super::timers::Timer;
use crate::dht::DhtLog;
use crate::net::Ports;
use crate::op::SocketKind;
use crate::{Op, OpError, OpErrorKind, Outcome, SocketId};

/// Which sockets the node has.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    state: State,
    /// Counts the bindings, so that sockets of an earlier one are told apart.
    epoch: u32,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    None,
    /// The main ones, which are not bound yet.
    Awaited,
    /// The main ones.
    Shared,
    /// Its own, which are not bound yet.
    Binding {
        left: u8,
        bound: Ports,
        error: Option<OpError>,
    },
    /// Its own.
    Own,
}

impl Sockets {
    /// Whether the datagrams of a socket are the node's.
    pub(super) fn has(&self, socket: SocketId) -> bool {
        let own_socket = socket == SocketId::DHT_V4 || socket == SocketId::DHT_V6;
        match self.state {
            State::Own => own_socket,
            State::Shared => !own_socket,
            _ => false,
        }
    }

    /// The socket that datagrams to `addr` leave from.
    pub(super) const fn towards(&self, addr: &SocketAddr) -> SocketId {
        match self.state {
            State::Own => own_socket(addr.ip()),
            _ => SocketId::for_addr(addr),
        }
    }
}

/// The DHT's own socket of a family.
const fn own_socket(ip: IpAddr) -> SocketId {
    match ip {
        IpAddr::V4(_) => SocketId::DHT_V4,
        IpAddr::V6(_) => SocketId::DHT_V6,
    }
}

impl Engine {
    /// The service wants sockets: the main ones, if those have the port that it is to use.
    pub(super) fn dht_bind(&mut self) {
        let Some(server) = &mut self.dht else {
            return;
        };
        let main = |port: u16| {
            let bound = self.endpoints.udp_bound.values().any(|a| a.port() == port);
            bound || self.setup.config.listen.iter().any(|a| a.port() == port)
        };
        let shares = server
            .port
            .map_or(!self.setup.config.listen.is_empty(), main);
        if shares {
            server.sockets.state = State::Awaited;
            if self.endpoints.binding == 0 {
                self.dht_share();
            }
            return;
        }
        let port = server.port.unwrap_or(0);
        server.sockets.epoch += 1;
        let epoch = server.sockets.epoch;
        let families = self.dht_families();
        if families.is_empty() {
            return self.dht_error(OpError {
                kind: OpErrorKind::Unsupported,
                detail: String::from("neither IPv4 nor IPv6 is to be used"),
            });
        }
        if let Some(server) = &mut self.dht {
            server.sockets.state = State::Binding {
                left: families.len() as u8,
                bound: Ports::default(),
                error: None,
            };
        }
        if port != 0 {
            self.dht_starting(port);
        }
        for ip in families {
            let (socket, kind, local) =
                (own_socket(ip), SocketKind::Udp, SocketAddr::new(ip, port));
            self.out.ops.job(Purpose::DhtBind(epoch), |op| Op::Bind {
                op,
                socket,
                kind,
                local,
            });
        }
    }

    /// Where its own sockets are bound: the addresses that are listened on, if any are.
    fn dht_families(&self) -> heapless::Vec<IpAddr, 2> {
        let config = &self.setup.config.dht_config;
        let wanted = [
            (
                config.ipv4 && self.setup.caps.ipv4,
                IpAddr::from(Ipv4Addr::UNSPECIFIED),
            ),
            (
                config.ipv6 && self.setup.caps.ipv6,
                IpAddr::from(Ipv6Addr::UNSPECIFIED),
            ),
        ];
        let wanted = wanted.iter().filter(|(wanted, _)| *wanted);
        let listened = |any: IpAddr| {
            let mut listen = self.setup.config.listen.iter().map(SocketAddr::ip);
            listen
                .find(|ip| ip.is_ipv4() == any.is_ipv4())
                .unwrap_or(any)
        };
        wanted.map(|(_, any)| listened(*any)).collect()
    }

    /// The DHT's own sockets and where they are bound; none while it shares the main ones.
    pub(in super::super) fn dht_own_sockets(&self) -> heapless::Vec<(SocketId, SocketAddr), 2> {
        let server = self.dht.as_ref();
        let server = server.filter(|s| matches!(s.sockets.state, State::Own));
        let Some(ports) = server.and_then(|s| s.service.ports()) else {
            return heapless::Vec::new();
        };
        let families = self.dht_families();
        let bound = families.iter().filter_map(|ip| {
            let local = SocketAddr::new(*ip, ports.towards(*ip)?);
            Some((own_socket(*ip), local))
        });
        bound.collect()
    }

    fn dht_starting(&mut self, port: u16) {
        let log = What::Dht(DhtLog::Starting { port });
        self.out.notice(None, None, Level::Info, log);
    }

    /// The main sockets are bound, or could not be.
    pub(in super::super) fn dht_share(&mut self) {
        let Some(server) = &mut self.dht else {
            return;
        };
        if !matches!(server.sockets.state, State::Awaited) {
            return;
        }
        let configured = server
            .port
            .or_else(|| Some(self.setup.config.listen.first()?.port()));
        let ports = Ports::bound(self.endpoints.udp_bound.values());
        match ports.any() {
            Some(port) => {
                self.dht_starting(port);
                self.dht_run(ports, State::Shared);
            }
            None => {
                self.dht_starting(configured.unwrap_or(0));
                self.dht_error(OpError {
                    kind: OpErrorKind::Denied,
                    detail: String::from("the UDP port is in use or invalid"),
                });
            }
        }
    }

    /// One of its own sockets is bound, or could not be. If it was stopped meanwhile, the socket may serve a later start
    /// already: if it does not, its closing was asked for when that stop came.
    pub(in super::super) fn dht_bound(&mut self, epoch: u32, outcome: Outcome) {
        let Some(server) = self.dht.as_mut().filter(|s| s.sockets.epoch == epoch) else {
            return;
        };
        let State::Binding { left, bound, error } = &mut server.sockets.state else {
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
        let (ports, configured) = (*bound, server.port);
        let error = error.take();
        match ports.any() {
            Some(port) => {
                if configured.is_none() {
                    self.dht_starting(port);
                }
                if let Some(OpError { detail, .. }) = error {
                    let message = detail;
                    self.out
                        .notice(None, None, Level::Warning, What::Bind { message });
                }
                self.dht_run(ports, State::Own);
            }
            None => self.dht_error(error.unwrap_or(OpError {
                kind: OpErrorKind::Io,
                detail: String::from("no UDP socket could be bound"),
            })),
        }
    }

    /// It could not be started.
    fn dht_error(&mut self, error: OpError) {
        if let Some(server) = &mut self.dht {
            server.sockets.state = State::None;
            server.service.not_bound();
        }
        let (message, cause) = (error.detail, error.kind);
        let what = What::DhtError { message, cause };
        self.out.notice(None, None, Level::Error, what);
    }

    /// Runs the node on bound sockets.
    fn dht_run(&mut self, ports: Ports, sockets: State) {
        if let Some(server) = &mut self.dht {
            server.sockets.state = sockets;
            server.service.bound(&mut cx!(self), ports);
            self.after_dht();
        }
    }

    /// The node has stopped, or is not to start any more: its own sockets are closed.
    pub(super) fn dht_unbind(&mut self) {
        let Some(server) = &mut self.dht else {
            return;
        };
        let state = core::mem::take(&mut server.sockets.state);
        if !matches!(state, State::Binding { .. } | State::Own) {
            return;
        }
        for ip in self.dht_families() {
            let socket = own_socket(ip);
            self.out
                .ops
                .job(Purpose::DhtQuiet, |op| Op::Unbind { op, socket });
        }
    }

    /// The node has stopped: it sends nothing more, and torrents search no longer.
    pub(super) fn dht_stopped(&mut self) {
        if let Some(server) = &mut self.dht {
            server.leave_throttle(self.now, &mut self.throttle);
            self.out
                .timers
                .set(Timer::Throttle, self.throttle.poll_timeout());
        }
        self.dht_end_searches();
    }
}
