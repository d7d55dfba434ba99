//! What is known of queries under way.

use core::net::SocketAddr;

use alloc::{boxed::Box, vec::Vec};

use super::{QueryId, limits::MAX_ALTERNATIVES};
use crate::{id::InfoHash, time::Instant, wire::tracker::AnnounceRequest};

#[derive(Debug)]
pub(super) enum Body {
    Announce(AnnounceRequest, Box<str>),
    Scrape(Vec<InfoHash>),
}

/// A query, in progress.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) dst: SocketAddr,
    /// Other addresses to query if `dst` does not answer, the next one last.
    pub(super) others: heapless::Vec<SocketAddr, MAX_ALTERNATIVES>,
    pub(super) body: Body,
    /// Retransmissions so far.
    pub(super) n: u8,
    /// Its transaction while it is asked; `None` while it waits for a connection.
    pub(super) transaction: Option<u32>,
    /// Was asked again because the tracker did not know a cached connection id.
    pub(super) reconnected: bool,
}

/// What is known of one tracker address.
#[derive(Debug)]
pub(super) enum Connection {
    /// A connect is on its way.
    Connecting {
        transaction: u32,
        waiting: Vec<QueryId>,
    },
    /// May be used until then.
    Ready { id: u64, until: Instant },
}

/// One datagram that wants an answer.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) dst: SocketAddr,
    /// The query, or `None` for a connect to `dst`.
    pub(super) query: Option<QueryId>,
    /// Retransmissions so far.
    pub(super) n: u8,
    /// When the wait is over; also its entry in `timers`.
    pub(super) due: Instant,
    /// Waits in `outbox`.
    pub(super) queued: bool,
}
