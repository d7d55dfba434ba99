//! The DHT (BEP 5, 32, 33, 42, 43, 44, 45, 51): a node that is usable without the engine.
//!
//! ```text
//!               ┌────────────── Dht ──────────────┐
//!  datagrams ──▶│ server ──▶ table  store  items  │──▶ replies
//!               │ lookups ◀─ table, transactions  │──▶ queries
//!               │ upkeep: bootstrap, refresh      │──▶ events
//!               └─────────────────────────────────┘
//! ```
//!
//! [`Dht`] is a [`Machine`](crate::Machine): feed it datagrams, call it at its timeout, send what
//! it writes. IPv4 and IPv6 are two tables under two ids, one node (BEP 32).
//!
//! [`Service`] is a node with its policy: when it runs, which nodes it begins with, who owns a search, and when its table
//! is saved.

#[doc(hidden)]
pub mod budget;
pub mod cache;
mod config;
#[doc(hidden)]
pub mod estimate;
mod event;
#[doc(hidden)]
pub mod guard;
pub mod item;
#[doc(hidden)]
pub mod lookup;
mod mode;
mod node;
mod node_name;
#[doc(hidden)]
pub mod rtt;
mod saved;
#[doc(hidden)]
pub mod secure_id;
mod service;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod table;
#[doc(hidden)]
pub mod token;
#[doc(hidden)]
pub mod vote;

pub use config::{DhtConfig, ReadOnly};
pub use event::{
    Announce, Cause, DhtEvent, DhtLog, DhtStats, Failure, FoundItem, Goal, LookupId, LookupReport,
    PingId,
};
pub use mode::{DhtMode, InvalidArgument};
pub use node::{Dht, Full};
pub use node_name::{DEFAULT_PORT, NodeNameError, parse_node};
pub use saved::Saved;
pub use service::{Service, ServiceConfig, ServiceEvent, Wanted};

use crate::NodeId;
use core::net::{IpAddr, SocketAddr};

/// A node's id and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The node's id.
    pub id: NodeId,
    /// The node's address.
    pub addr: SocketAddr,
}

impl Contact {
    /// Reads the compact form (BEP 5, BEP 32): 26 or 38 bytes. `None` for another length.
    #[must_use]
    pub(crate) fn from_compact(node: &[u8]) -> Option<Self> {
        let (id, rest) = node.split_first_chunk::<20>()?;
        let (ip, port) = rest.split_last_chunk::<2>()?;
        let ip = match ip.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
            16 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
            _ => return None,
        };
        Some(Self {
            id: NodeId(*id),
            addr: SocketAddr::new(ip, u16::from_be_bytes(*port)),
        })
    }
}
