//! The stack: one interface, its sockets, and what they are used for.

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

/// Times each socket may send a packet before the driver looks at something else.
const EGRESS_ROUNDS: usize = 64;

/// The stack.
pub(crate) struct Net {
    pub(crate) iface: Interface,
    pub(crate) sockets: SocketSet<'static>,
    pub(crate) ready: Ready,
    /// Something happened that may let a socket send.
    pub(crate) dirty: bool,
    /// When the stack wants to be called.
    deadline: Option<Instant>,
    /// The stack was called since the deadline was asked for.
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

    /// A TCP socket; `bit` is the one that its wakers set from now on.
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

    /// Whether a packet to `to` can leave: smoltcp would hold it, and all behind it, forever.
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

    /// Takes in one packet, if there is one.
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

    /// Lets sockets send; whether any did.
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

    /// Asks the stack anew when it wants to be called.
    pub(crate) fn settle(&mut self, now: Instant) {
        if core::mem::take(&mut self.stale) {
            let at = self.iface.poll_at(to_stack(now), &self.sockets);
            // What is due but did not happen waits for the device to take packets.
            self.deadline = at.map(|at| crate::time::to_engine(at).max(now + BLOCKED));
        }
    }

    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

/// How long to wait for a device that takes no packets, if it does not wake the driver itself.
const BLOCKED: core::time::Duration = core::time::Duration::from_micros(100);

/// An address as the engine has it.
pub(crate) fn socket_addr(endpoint: IpEndpoint) -> SocketAddr {
    SocketAddr::new(endpoint.addr.into(), endpoint.port)
}
