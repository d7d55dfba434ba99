//! The configuration of a service, and its events.

use alloc::vec::Vec;
use core::net::IpAddr;

#[cfg(doc)]
use super::Service;
use crate::dht::{DhtConfig, DhtEvent, DhtLog, DhtMode, Saved};
use crate::metainfo::HostPort;

/// The configuration of a service.
#[derive(Clone, Debug, Default)]
pub struct ServiceConfig {
    /// The limits and behaviour of the node. A family without a bound socket is left out.
    pub node: DhtConfig,
    /// Whether and when the node runs.
    pub mode: DhtMode,
    /// Nodes to begin with at each start.
    pub bootstrap: Vec<HostPort>,
    /// Nodes to begin with when none of the others answers.
    pub routers: Vec<HostPort>,
    /// What the last session saved, for the first start.
    pub saved: Option<Saved>,
    /// Whether the owner can look names up.
    pub resolve: bool,
    /// A search waits until some nodes are known, for 10 seconds at most. Without it a search that finds nobody to ask
    /// fails at once, and [`ServiceEvent::Heard`] tells when it is worth repeating.
    pub gather: bool,
}

/// The purpose of a name look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A node to begin with.
    Contact,
    /// A node that was added by name: it is pinged, and joins the table if that has space.
    Ping,
}

/// The events of a service, some of which ask its owner to do something.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceEvent<T> {
    /// Bind the node's sockets; answered by [`Service::bound`] or [`Service::not_bound`].
    Bind,
    /// Close the sockets of [`ServiceEvent::Bind`], or stop binding them.
    Unbind,
    /// Look a name up; answered by [`Service::resolved`].
    Resolve {
        /// Host and port.
        name: HostPort,
        /// What the addresses are for.
        wanted: Wanted,
    },
    /// Save the table for the next session.
    Save(Saved),
    /// In mode `auto`: does anything need the node? If nothing does, [`Service::unused`] stops it after a while.
    IsUsed,
    /// The node runs.
    Started,
    /// The node stopped. Searches that wait are forgotten; the end of those under way follows.
    Stopped,
    /// A search that [`Service::request`] queued can begin now, with [`Service::search`].
    Ready(T),
    /// A node answers, after a search failed because none did.
    Heard,
    /// An event for the owner of a search, of a ping or of samples.
    Answer {
        /// The owner of the search.
        owner: T,
        /// The event: peers, an item, the end of a search, the answer to a ping, or samples.
        event: DhtEvent,
    },
    /// Enough nodes agree on our address.
    External(IpAddr),
    /// A line for the log.
    Log(DhtLog),
}
