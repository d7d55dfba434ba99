//! The state of queries in progress.

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
    /// The other addresses to ask if `dst` does not answer, the next one last.
    pub(super) others: heapless::Vec<SocketAddr, MAX_ALTERNATIVES>,
    pub(super) body: Body,
    /// Retransmissions so far.
    pub(super) n: u8,
    /// Its transaction. `None` while it waits for a connection id.
    pub(super) transaction: Option<u32>,
    /// Whether it was sent again because the tracker did not know a cached connection id.
    pub(super) reconnected: bool,
}

/// The state of a tracker's address.
#[derive(Debug)]
pub(super) enum Connection {
    /// A connect is not answered yet.
    Connecting {
        transaction: u32,
        waiting: Vec<QueryId>,
    },
    /// When the connection id expires.
    Ready { id: u64, until: Instant },
}
