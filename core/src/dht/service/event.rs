//! What a service is made with, and what it asks its owner for and tells it.

use alloc::vec::Vec;
use core::net::IpAddr;

#[cfg(doc)]
use super::Service;
use crate::dht::{DhtConfig, DhtEvent, DhtLog, DhtMode, Saved};
use crate::metainfo::HostPort;

/// What a service is made with.
#[derive(Clone, Debug, Default)]
pub struct ServiceConfig {
    /// Limits and habits of the node. A family without a bound socket is left out.
    pub node: DhtConfig,
    /// Whether and when the node runs.
    pub mode: DhtMode,
    /// Nodes to begin with at each start.
    pub bootstrap: Vec<HostPort>,
    /// Nodes to begin with when the others are of no help.
    pub routers: Vec<HostPort>,
    /// What the last session saved, for the first start.
    pub saved: Option<Saved>,
    /// Names can be looked up.
    pub resolve: bool,
    /// A search waits until some nodes are known, for 10 seconds at most. Without it a search that finds nobody to ask
    /// fails at once, and [`ServiceEvent::Heard`] tells when it is worth repeating.
    pub gather: bool,
}

/// What a name is looked up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A node to begin with.
    Contact,
    /// A node that was added by name: it is pinged, and joins the table if that has space.
    Ping,
}

/// What the owner of a service is told, and asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceEvent<T> {
    /// Bind the node's sockets; answered by [`Service::bound`] or [`Service::not_bound`].
    Bind,
    /// The sockets of [`ServiceEvent::Bind`] are not needed any more, or their binding is not.
    Unbind,
    /// Look a name up; answered by [`Service::resolved`].
    Resolve {
        /// Host and port.
        name: HostPort,
        /// What the addresses are for.
        wanted: Wanted,
    },
    /// Keep the table for the next session.
    Save(Saved),
    /// In mode `auto`: does anything need the node? If nothing does, [`Service::unused`] stops it after a while.
    IsUsed,
    /// The node runs.
    Started,
    /// The node stopped. Searches that wait are forgotten; the end of those under way follows.
    Stopped,
    /// The turn of a search has come that [`Service::request`] queued: [`Service::search`] begins it.
    Ready(T),
    /// Somebody answers, after a search failed because nobody did.
    Heard,
    /// Something for the owner of a search, of a ping or of samples.
    Answer {
        /// The owner of the search.
        owner: T,
        /// What: peers, an item, the end of a search, the answer to a ping, or samples.
        event: DhtEvent,
    },
    /// Enough nodes agree on our address.
    External(IpAddr),
    /// Something for the log.
    Log(DhtLog),
}
