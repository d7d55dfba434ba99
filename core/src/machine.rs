//! The shape of a small machine that speaks datagrams, and the context it is handed.

use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroUsize;

use rand_core::Rng;

use crate::time::Instant;

/// Ambient context: passed into every call, never stored.
pub struct Cx<'a> {
    /// The current time, not the deadline that fired.
    pub now: Instant,
    /// Source of all randomness; seeded by the driver.
    pub rng: &'a mut dyn Rng,
}

impl Cx<'_> {
    /// A number below `bound` (0 if `bound` is 0), without modulo bias worth naming.
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

/// Which of the driver's sockets a datagram belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u8);

impl SocketId {
    /// The main IPv4 socket (UDP and the TCP listener beside it).
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

/// Explicit congestion notification of a datagram (RFC 3168).
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
    /// The local address it was sent to, where the platform tells.
    pub local: Option<IpAddr>,
    /// Its congestion mark.
    pub ecn: Ecn,
}

/// A datagram (or a train of equal ones) that was written into the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a transmit that is not sent is lost"]
pub struct Transmit {
    /// The socket to send from.
    pub socket: SocketId,
    /// The local address to send from; `None` leaves it to the platform.
    pub src: Option<IpAddr>,
    /// Where to.
    pub dst: SocketAddr,
    /// Congestion mark to set.
    pub ecn: Ecn,
    /// Bytes of the buffer in use.
    pub len: usize,
    /// Size of each datagram of a train, the last may be shorter; `None` for one datagram.
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

/// Whether a machine took a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It was for this machine, whatever came of it.
    Consumed,
    /// Somebody else's.
    NotMine,
}

/// A small machine that speaks datagrams, driven alone or composed.
pub trait Machine {
    /// What the owner learns.
    type Event;

    /// Offers a datagram.
    fn handle_datagram(&mut self, cx: &mut Cx<'_>, meta: &RecvMeta, data: &[u8]) -> Handled;
    /// Lets due timers act. A call too early does nothing.
    fn handle_timeout(&mut self, cx: &mut Cx<'_>);
    /// When [`Machine::handle_timeout`] wants to be called next.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Writes the next datagram into `buf`, if one is due.
    fn poll_transmit(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit>;
    /// The next thing the owner should know.
    fn poll_event(&mut self) -> Option<Self::Event>;
}
