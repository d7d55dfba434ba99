//! The time-outs and limits of UDP trackers.

use core::time::Duration;

/// The first retransmission interval. It doubles each time (BEP 15 "Time outs").
pub const INITIAL_RTO: Duration = Duration::from_secs(15);
/// The highest n of 15·2ⁿ (BEP 15 "Time outs").
pub const MAX_N: u8 = 8;
/// How long a connection id may be used (BEP 15 "Connect").
pub const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

/// The limits of a [`UdpTrackers`](super::UdpTrackers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpConfig {
    /// A query fails when the wait of 15·2ⁿ seconds with this n is over; at most [`MAX_N`]. BEP 15 waits for over two hours
    /// (n = 8), although the torrent may have other trackers. 2 means that a query fails after 15 + 30 + 60 seconds.
    pub last_n: u8,
    /// The maximum number of queries in progress, including those whose event was not polled yet.
    pub max_queries: usize,
    /// The maximum number of queries to one address. A tracker that never answers holds each of them until
    /// [`UdpConfig::patience`] is over, and must leave room for other trackers.
    pub max_per_tracker: usize,
    /// The maximum number of tracker addresses whose connection ids are remembered.
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

/// The maximum number of further addresses of a query's tracker.
pub(super) const MAX_ALTERNATIVES: usize = 3;

/// The maximum length of a train in bytes: that of one datagram over IPv4, as a platform is given it as one.
pub(super) const MAX_TRAIN: usize = 65_507;

/// The retransmission interval of 15·2ⁿ seconds.
pub(super) fn rto(n: u8) -> Duration {
    INITIAL_RTO * (1 << n.min(MAX_N))
}
