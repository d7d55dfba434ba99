//! The interface of a small machine that exchanges datagrams, and the context of its calls.

use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroUsize;

use rand_core::Rng;

use crate::time::Instant;

/// The context of a call: passed into every call, never stored.
pub struct Cx<'a> {
    /// The current time, which may be later than the deadline that passed.
    pub now: Instant,
    /// The source of all random numbers, seeded by the driver.
    pub rng: &'a mut dyn Rng,
}

impl Cx<'_> {
    /// A number below `bound` (0 if `bound` is 0); the modulo bias is negligible.
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.rng.next_u32()) * u64::from(bound)) >> 32) as u32
    }
}

impl core::fmt::Debug for Cx<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Cx")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// The driver's socket that a datagram belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u8);

impl SocketId {
    /// The main IPv4 socket; the TCP listener with the same port has this id as well.
    pub const V4: Self = Self(0);
    /// The main IPv6 socket.
    pub const V6: Self = Self(1);
    /// The DHT's own IPv4 socket, if it has a port of its own.
    pub const DHT_V4: Self = Self(2);
    /// The DHT's own IPv6 socket, if it has a port of its own.
    pub const DHT_V6: Self = Self(3);

    /// The main socket of `addr`'s family.
    #[must_use]
    pub const fn for_addr(addr: &SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }
}

/// The congestion mark of a datagram (RFC 3168).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ecn {
    /// Not capable.
    #[default]
    NotEct,
    /// Capable, codepoint 01.
    Ect1,
    /// Capable, codepoint 10.
    Ect0,
    /// Congestion experienced.
    Ce,
}

/// Where a datagram came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvMeta {
    /// The socket it arrived on.
    pub socket: SocketId,
    /// Its sender.
    pub from: SocketAddr,
    /// The local address it was sent to, where the platform reports it.
    pub local: Option<IpAddr>,
    /// Its congestion mark.
    pub ecn: Ecn,
}

/// A datagram, or a train of datagrams of equal size, that was written into the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a transmit that is not sent is lost"]
pub struct Transmit {
    /// The socket to send from.
    pub socket: SocketId,
    /// The local address to send from; `None` lets the platform choose.
    pub src: Option<IpAddr>,
    /// The destination.
    pub dst: SocketAddr,
    /// The congestion mark to set.
    pub ecn: Ecn,
    /// The number of bytes in the buffer.
    pub len: usize,
    /// The size of each datagram of a train, the last of which may be shorter; `None` for one datagram.
    pub segment: Option<NonZeroUsize>,
}

impl Transmit {
    /// One datagram of `len` bytes to `dst`, from the main socket of its family.
    pub const fn to(dst: SocketAddr, len: usize) -> Self {
        Self {
            socket: SocketId::for_addr(&dst),
            src: None,
            dst,
            ecn: Ecn::NotEct,
            len,
            segment: None,
        }
    }
}

/// Whether a datagram was for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It was for this machine, even if it was invalid.
    Consumed,
    /// It is not for this machine.
    NotMine,
}

/// A small machine that exchanges datagrams. It is driven alone or as a part of another.
pub trait Machine {
    /// What the machine reports to its owner.
    type Event;

    /// Passes a datagram to the machine.
    fn handle_datagram(&mut self, cx: &mut Cx<'_>, meta: &RecvMeta, data: &[u8]) -> Handled;
    /// Runs timers that are due. A call that comes too early does nothing.
    fn handle_timeout(&mut self, cx: &mut Cx<'_>);
    /// The next time at which [`Machine::handle_timeout`] has to be called.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Writes the next datagram into `buf`, if there is one to send.
    fn poll_transmit(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit>;
    /// The next event for the owner.
    fn poll_event(&mut self) -> Option<Self::Event>;
}
