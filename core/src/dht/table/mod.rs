//! The routing table (BEP 5): the nodes that are asked, and those that are handed out.
//!
//! ```text
//!  own id 1011…        shared bits       a bucket: 8 nodes as they go on the wire, best first
//!  ┌───────────┐                         ┌────────────────────────────┬──────────────────────┐
//!  │ bucket 0  │ 0 (ids 0…)              │ id │ ip │ port │ id │ ip …  │ heard asked rtt state│
//!  │ bucket 1  │ 1 (ids 11…)             └────────────────────────────┴──────────────────────┘
//!  │ bucket 2  │ 2 (ids 100…)             └─ ready: verified, no failure since ─┘ └ the rest ┘
//!  │ own       │ 3 or more (ids 101…)
//!  └───────────┘ splits when full        candidates: one list, for the holes that failures leave
//! ```
//!
//! A node enters only by a reply to a query of ours; a query of its own earns it a ping at most.
//! Nodes that are handed out have answered, and have not failed since: they are *ready*. They lie at the
//! front of their bucket as bytes of the answer, so that most answers are one copy.
//!
//! A query without a reply may be the network's fault: a failure counts once another node is heard at about
//! the same time, and a node leaves only when a living one takes its place, or after hours.

mod bucket;
mod candidates;
mod entry;
mod near;
mod routing;
mod schedule;
mod upkeep;

use core::net::SocketAddr;
use core::time::Duration;

use self::routing::Table;
use super::Contact;
use crate::net::Family;
use crate::wire::krpc::{COMPACT_V4, COMPACT_V6};
use crate::{Cx, Instant, NodeId};

/// Nodes of a bucket, and of an answer (BEP 5 "K").
pub const K: usize = 8;
/// The most buckets, whatever [`Limits`] say. Our choice: more would only be needed beyond 2⁶⁴ nodes.
pub const MAX_BUCKETS: u8 = 64;

/// The limits of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most buckets, 1 to [`MAX_BUCKETS`].
    pub max_buckets: u8,
    /// Most candidates for a place.
    pub max_replacements: u16,
    /// A private network: several nodes may share an address or a subnet, and ids need not follow
    /// BEP 42.
    pub local: bool,
}

/// The result of a reply of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// The node was in the table, and is refreshed.
    Known,
    /// The node took a free place.
    New,
    /// The node took the place of a worse one.
    Replaced,
    /// There is no place now; the node is kept as a candidate.
    Candidate,
    /// The node is not wanted: our own id, a shared address or subnet, a known id elsewhere.
    Refused,
    /// The same endpoint had another id: that node is evicted, and this one not trusted yet.
    IdChanged,
}

/// The actions that the table requests from its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ping this node; then call [`Routes::replied`] or [`Routes::failed`].
    Ping(Contact),
    /// Ask a node for nodes near this id, and ping those that [`Routes::wants`].
    Refresh(NodeId),
}

/// The routing table of one family.
#[derive(Clone, Debug)]
pub struct Routes {
    inner: Inner,
}

#[derive(Clone, Debug)]
enum Inner {
    V4(Table<COMPACT_V4>),
    V6(Table<COMPACT_V6>),
}

/// The same expression for either table.
macro_rules! each {
    ($routes:expr, $table:ident => $do:expr) => {
        match $routes {
            Inner::V4($table) => $do,
            Inner::V6($table) => $do,
        }
    };
}

impl Routes {
    /// An empty table around `own`.
    #[must_use]
    pub fn new(family: Family, own: NodeId, limits: Limits) -> Self {
        let inner = match family {
            Family::V4 => Inner::V4(Table::new(own, limits)),
            Family::V6 => Inner::V6(Table::new(own, limits)),
        };
        Self { inner }
    }

    /// The family of the nodes.
    #[must_use]
    pub const fn family(&self) -> Family {
        match &self.inner {
            Inner::V4(_) => Family::V4,
            Inner::V6(_) => Family::V6,
        }
    }

    /// The id that the table is built around.
    #[must_use]
    pub const fn own(&self) -> &NodeId {
        each!(&self.inner, t => t.own())
    }

    /// How many nodes there are, whatever their state.
    #[must_use]
    pub fn len(&self) -> u32 {
        each!(&self.inner, t => t.len())
    }

    /// Whether there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many nodes answered us and did not fail since.
    #[must_use]
    pub fn good(&self) -> u32 {
        each!(&self.inner, t => t.ready())
    }

    /// How many buckets there are, at least 1.
    #[must_use]
    pub fn buckets(&self) -> u32 {
        each!(&self.inner, t => t.buckets.len() as u32)
    }

    /// Takes another id (BEP 42): the nodes are kept, as far as the new shape has room.
    pub fn set_own(&mut self, now: Instant, own: NodeId) {
        each!(&mut self.inner, t => t.set_own(now, own));
    }

    /// A reply of (`id`, `addr`) to one of our queries, `rtt` after it: the only way in.
    pub fn replied(&mut self, now: Instant, id: &NodeId, addr: SocketAddr, rtt: Duration) -> Added {
        each!(&mut self.inner, t => t.replied(now, id, addr, rtt))
    }

    /// A query came from (`id`, `addr`): refreshes that node if it is known and has replied
    /// before. Returns whether it is worth a ping, because the table would like to have it or to
    /// know whether it lives.
    pub fn queried(&mut self, now: Instant, id: &NodeId, addr: SocketAddr) -> bool {
        each!(&mut self.inner, t => t.queried(now, id, addr))
    }

    /// Whether the table would like to have a node that it was told of, if that answers a ping.
    #[must_use]
    pub fn wants(&self, id: &NodeId, addr: SocketAddr) -> bool {
        each!(&self.inner, t => t.wants(id, addr))
    }

    /// A query of ours was not answered. That counts once a reply of somebody else shows that the
    /// network is up (S22).
    pub fn failed(&mut self, now: Instant, addr: SocketAddr) {
        each!(&mut self.inner, t => t.failed(now, addr));
    }

    /// Adds the nodes closest to `target` to `out` until it is full: those that are ready, closest
    /// first; then those that failed, closest first; the unverified and the bad ones only if there
    /// is nobody else.
    pub fn closest<const N: usize>(&self, target: &NodeId, out: &mut heapless::Vec<Contact, N>) {
        each!(&self.inner, t => t.closest(target, out));
    }

    /// Fills `out` with nodes that answered lately but found no place: those closest to `target`, in
    /// no order. A search begins with them, too.
    pub fn spares<const N: usize>(
        &self,
        now: Instant,
        target: &NodeId,
        out: &mut heapless::Vec<Contact, N>,
    ) {
        each!(&self.inner, t => t.spares(now, target, out));
    }

    /// Writes the nodes closest to `target` that are ready, at most [`K`], in compact form (26 or
    /// 38 bytes each, in no order); returns how many bytes. Fewer if `out` is too short for all.
    #[must_use]
    pub fn write_closest(&self, target: &NodeId, out: &mut [u8]) -> usize {
        each!(&self.inner, t => t.write_closest(target, out))
    }

    /// A node from a cache, last heard of `age` ago: not verified, so not handed out, but asked
    /// soon. Dropped if there is no place.
    pub fn restore(&mut self, now: Instant, contact: &Contact, age: Duration) {
        each!(&mut self.inner, t => t.restore(now, contact, age));
    }

    /// All nodes but the bad ones, each with the time since it was heard of, and whether it is
    /// good as of `now`: it has answered, did not fail since, and was heard of within 15 minutes.
    pub fn nodes(&self, now: Instant) -> impl Iterator<Item = (Contact, Duration, bool)> + '_ {
        let (v4, v6) = match &self.inner {
            Inner::V4(t) => (Some(t), None),
            Inner::V6(t) => (None, Some(t)),
        };
        let v4 = v4.into_iter().flat_map(move |t| t.nodes(now));
        v4.chain(v6.into_iter().flat_map(move |t| t.nodes(now)))
    }

    /// When to call [`Routes::next_action`]; `None` while there is no node to ask.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        each!(&self.inner, t => t.due())
    }

    /// What should be done now, if it is time; then [`Routes::due`] is later.
    pub fn next_action(&mut self, cx: &mut Cx<'_>) -> Option<Action> {
        each!(&mut self.inner, t => t.next_action(cx))
    }

    /// Every 15 minutes: drops bad nodes that were not heard of for 4 hours, unless the network
    /// is silent altogether.
    pub fn housekeeping(&mut self, now: Instant, network_up: bool) {
        each!(&mut self.inner, t => t.housekeeping(now, network_up));
    }

    /// The nodes may be gone (old cache, outage, another network): verify all of them now.
    pub fn hurry(&mut self, now: Instant) {
        each!(&mut self.inner, t => t.hurry(now));
    }
}

#[cfg(test)]
mod tests;
