//! How long a UDP tracker is waited for, and how much is asked at once.

use core::time::Duration;

/// First retransmission interval, doubled each time (BEP 15 "Time outs").
pub const INITIAL_RTO: Duration = Duration::from_secs(15);
/// Highest n of 15·2ⁿ (BEP 15 "Time outs").
pub const MAX_N: u8 = 8;
/// How long a connection id may be used (BEP 15 "Connect").
pub const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

/// Limits of a [`UdpTrackers`](super::UdpTrackers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpConfig {
    /// A query is given up when the wait of 15·2ⁿ seconds with this n is over; at most
    /// [`MAX_N`]. BEP 15 waits over two hours (n = 8), in which a torrent with several trackers
    /// could long have asked the next: 2 gives up after 15 + 30 + 60 seconds.
    pub last_n: u8,
    /// Most queries in progress, those included whose event was not fetched yet.
    pub max_queries: usize,
    /// Most queries to one address: a tracker that never answers holds each for as long as
    /// [`UdpConfig::patience`], and must leave room for the others.
    pub max_per_tracker: usize,
    /// Most tracker addresses whose connection id is remembered.
    pub max_connections: usize,
}

impl Default for UdpConfig {
    fn default() -> Self {
        Self {
            last_n: 2,
            max_queries: 1024,
            max_per_tracker: 256,
            max_connections: 512,
        }
    }
}

impl UdpConfig {
    /// How long a query to a silent tracker takes to fail.
    #[must_use]
    pub fn patience(&self) -> Duration {
        (0..=self.last_n).map(rto).sum()
    }
}

/// Most further addresses of a tracker that a query is made at.
pub(super) const MAX_ALTERNATIVES: usize = 3;

/// Bytes of a train of datagrams at most: what one datagram holds over IPv4, for a platform is handed it as one.
pub(super) const MAX_TRAIN: usize = 65_507;

/// 15·2ⁿ seconds.
pub(super) fn rto(n: u8) -> Duration {
    INITIAL_RTO * (1 << n.min(MAX_N))
}
