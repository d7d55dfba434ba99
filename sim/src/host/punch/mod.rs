//! Hosts that punch holes: a rendezvous, and hosts that register with it and connect to each
//! other over UDP or TCP as it tells them to.
//!
//! They speak a small protocol of their own, alike over both transports:
//!
//! ```text
//!  A ──Register──▶ R ◀──Register── B      R sees both endpoints
//!  A ◀────Tell──── R ────Tell────▶ B      at one tick, or one of them only, or one later
//!  A ◀───────────Probe───────────▶ B      until each has had a probe that says "I heard you"
//! ```
//!
//! An end answers to wherever a probe came from, whatever it was told.

mod conn;
mod message;
mod rendezvous;
mod tcp;
mod tcp_end;
mod udp_end;

use std::{net::SocketAddr, time::Duration};

use dunlin_core::Instant;

pub use self::{
    rendezvous::{Introduction, Rendezvous},
    tcp_end::TcpEnd,
    udp_end::UdpEnd,
};

/// When an end sends to the endpoints it was told, counted from then.
pub const TRIES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_millis(1_000),
    Duration::from_millis(2_000),
    Duration::from_millis(4_000),
];

/// What an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndConfig {
    /// By what the rendezvous knows it.
    pub name: u8,
    /// Where it listens, and sends from.
    pub local: SocketAddr,
    /// Where the rendezvous is.
    pub rendezvous: SocketAddr,
    /// Where it believes to be reachable besides: a port that was forwarded to it.
    pub advertised: Option<SocketAddr>,
}

/// A connection that came about: each heard the other, and knows that it was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Where the peer is, as seen from here.
    pub peer: SocketAddr,
    /// When it was certain.
    pub at: Instant,
}

/// What an end did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndStats {
    /// Packets that it sent to others than the rendezvous.
    pub sent: u64,
    /// ICMP errors that it got.
    pub icmp_errors: u64,
    /// Attempts over TCP that were reset.
    pub refused: u64,
}
