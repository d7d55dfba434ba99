//! Hosts that punch holes: a rendezvous, and ends that register with it and connect to each other
//! over UDP or TCP when it tells them to.
//!
//! They use a small protocol, which is the same over both transports:
//!
//! ```text
//!  A ──Register──▶ R ◀──Register── B      R sees both endpoints
//!  A ◀────Tell──── R ────Tell────▶ B      at one tick, or one of them only, or one later
//!  A ◀───────────Probe───────────▶ B      until each has had a probe that says "I heard you"
//! ```
//!
//! An end answers every probe at the endpoint from which it came, regardless of what it was told.

mod conn;
mod message;
mod rendezvous;
mod tcp;
mod tcp_end;
mod udp_end;

use std::{net::SocketAddr, time::Duration};

use dunlin_core::Instant;

pub use self::{
    rendezvous::{Introduction, LEAD, Rendezvous},
    tcp_end::TcpEnd,
    udp_end::UdpEnd,
};

/// When an end sends to the endpoints that it was told, relative to the time when it was told.
pub const TRIES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_millis(1_000),
    Duration::from_millis(2_000),
    Duration::from_millis(4_000),
];

/// The configuration of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndConfig {
    /// The name by which the rendezvous knows it.
    pub name: u8,
    /// The endpoint at which it listens and from which it sends.
    pub local: SocketAddr,
    /// The endpoint of the rendezvous.
    pub rendezvous: SocketAddr,
    /// Another endpoint at which it may be reachable, such as a forwarded port.
    pub advertised: Option<SocketAddr>,
}

/// A connection: each end has heard the other, and knows that it was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The endpoint of the peer, as seen from here.
    pub peer: SocketAddr,
    /// When the connection was certain.
    pub at: Instant,
}

/// What can be observed at an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// When the rendezvous introduced the peer.
    pub told: Option<Instant>,
    /// The first connection.
    pub connected: Option<Connected>,
    /// The counters.
    pub stats: EndStats,
}

/// Counters of an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndStats {
    /// Packets sent to anybody but the rendezvous.
    pub sent: u64,
    /// ICMP errors received.
    pub icmp_errors: u64,
    /// Attempts over TCP that were reset.
    pub refused: u64,
}
