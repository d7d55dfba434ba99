//! The network stack: one interface, its sockets, and their uses.

mod ephemeral;
pub(crate) mod pool;
pub(crate) mod streams;
pub(crate) mod udp;

use alloc::vec;
use core::net::{IpAddr, SocketAddr};

use dunlin_core::Instant;
use smoltcp::iface::{Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::Device;
use smoltcp::socket::tcp;
use smoltcp::wire::IpEndpoint;

use crate::ready::Ready;
use crate::time::to_stack;

/// How many times each socket may send before the driver does something else.
const EGRESS_ROUNDS: usize = 64;

/// The interface and its sockets.
pub(crate) struct Net {
    pub(crate) iface: Interface,
    pub(crate) sockets: SocketSet<'static>,
    pub(crate) ready: Ready,
    /// Something has happened that may let a socket send.
    pub(crate) dirty: bool,
    /// When the stack must be called.
    deadline: Option<Instant>,
    /// The stack was called since the deadline was computed.
    stale: bool,
}

impl Net {
    pub(crate) fn new(iface: Interface, ready: Ready) -> Self {
        Self {
            iface,
            sockets: SocketSet::new(vec![]),
            ready,
            dirty: true,
            deadline: None,
            stale: true,
        }
    }

    /// A TCP socket, whose wakers set `bit` from now on.
    pub(crate) fn watch(&mut self, handle: SocketHandle, bit: usize) -> &mut tcp::Socket<'static> {
        let socket = self.sockets.get_mut::<tcp::Socket<'static>>(handle);
        let waker = self.ready.waker(bit);
        socket.register_recv_waker(waker);
        socket.register_send_waker(waker);
        socket
    }

    pub(crate) fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Returns `true` when a packet to `to` can be sent. smoltcp would hold a packet without a
    /// route, and all packets behind it, forever.
    pub(crate) fn has_route(&self, to: IpAddr) -> bool {
        let on_link = || {
            self.iface
                .ip_addrs()
                .iter()
                .any(|c| c.contains_addr(&to.into()))
        };
        let routes = self.iface.routes();
        let default = match to {
            IpAddr::V4(v4) if v4.is_broadcast() || v4.is_multicast() => {
                return self.iface.ipv4_addr().is_some();
            }
            IpAddr::V6(v6) if v6.is_multicast() => return self.iface.ipv6_addr().is_some(),
            IpAddr::V4(_) => routes.get_default_ipv4_route().is_some(),
            IpAddr::V6(_) => routes.get_default_ipv6_route().is_some(),
        };
        default || on_link()
    }

    /// Receives one packet, if there is one.
    pub(crate) fn ingress<D: Device + ?Sized>(&mut self, now: Instant, device: &mut D) -> bool {
        let at = to_stack(now);
        match self
            .iface
            .poll_ingress_single(at, device, &mut self.sockets)
        {
            PollIngressSingleResult::None => false,
            _ => {
                self.dirty = true;
                self.stale = true;
                true
            }
        }
    }

    /// Lets sockets send. Returns whether any did.
    pub(crate) fn egress<D: Device + ?Sized>(&mut self, now: Instant, device: &mut D) -> bool {
        if !self.dirty && self.deadline.is_none_or(|at| at > now) {
            return false;
        }
        self.dirty = false;
        self.stale = true;
        let at = to_stack(now);
        self.iface.poll_maintenance(at);
        for round in 0..EGRESS_ROUNDS {
            if self.iface.poll_egress(at, device, &mut self.sockets) == PollResult::None {
                return round > 0;
            }
        }
        self.dirty = true;
        true
    }

    /// Computes the deadline of the stack again.
    pub(crate) fn settle(&mut self, now: Instant) {
        if core::mem::take(&mut self.stale) {
            let at = self.iface.poll_at(to_stack(now), &self.sockets);
            // Whatever is due and did not happen waits for the device to accept packets.
            self.deadline = at.map(|at| crate::time::to_engine(at).max(now + BLOCKED));
        }
    }

    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

/// How long to wait for a device that accepts no packets and does not wake the driver.
const BLOCKED: core::time::Duration = core::time::Duration::from_micros(100);

/// Converts an endpoint of the stack.
pub(crate) fn socket_addr(endpoint: IpEndpoint) -> SocketAddr {
    SocketAddr::new(endpoint.addr.into(), endpoint.port)
}
