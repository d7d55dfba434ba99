//! The node: all parts together.

use alloc::vec::Vec;
use core::net::SocketAddr;

use super::{Contact, DhtConfig, DhtEvent, DhtStats, Goal, LookupId, PingId};
use crate::metainfo::HostPort;
use crate::{Cx, Handled, Instant, Machine, NodeId, RecvMeta, Transmit};

/// The limit was reached: see [`DhtConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What of a node is worth keeping between sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Our id in the IPv4 DHT.
    pub id: Option<NodeId>,
    /// Our id in the IPv6 DHT.
    pub id6: Option<NodeId>,
    /// Nodes, each with the seconds since it was last heard of.
    pub nodes: Vec<(Contact, u32)>,
    /// Nodes to begin with that were not reached yet: known by name or address.
    pub contacts: Vec<HostPort>,
}

/// A DHT node.
#[derive(Debug)]
pub struct Dht {
    config: DhtConfig,
}

impl Dht {
    /// A node that does nothing until [`Dht::start`].
    #[must_use]
    pub fn new(cx: &mut Cx<'_>, config: DhtConfig) -> Self {
        let _ = cx;
        Self { config }
    }

    /// Begins to take part; `port` is what the socket is bound to. Counters begin anew.
    pub fn start(&mut self, cx: &mut Cx<'_>, port: u16) {
        let _ = (cx, port);
    }

    /// Ends it: searches end without a word, table, peers and items are kept.
    pub fn stop(&mut self, cx: &mut Cx<'_>) {
        let _ = cx;
    }

    /// Whether it runs.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        false
    }

    /// Our id among the nodes of `addr`'s family.
    #[must_use]
    pub fn id(&self, v6: bool) -> NodeId {
        let _ = v6;
        NodeId([0; 20])
    }

    /// Limits and habits.
    #[must_use]
    pub const fn config(&self) -> &DhtConfig {
        &self.config
    }

    /// Takes up what was saved: before the start, or at any time.
    pub fn restore(&mut self, cx: &mut Cx<'_>, saved: &Saved) {
        let _ = (cx, saved);
    }

    /// What is worth keeping.
    #[must_use]
    pub fn save(&self, now: Instant) -> Saved {
        let _ = now;
        Saved::default()
    }

    /// A node to begin with, from a torrent file or a router; tried only while bootstrapping.
    /// At most 64 are kept, the newest.
    pub fn add_contact(&mut self, cx: &mut Cx<'_>, addr: SocketAddr) {
        let _ = (cx, addr);
    }

    /// Asks a node for a sign of life; it joins the table if that has space (PORT messages,
    /// `dht_add_node`).
    ///
    /// # Errors
    /// [`Full`] if too many queries are under way.
    pub fn ping(&mut self, cx: &mut Cx<'_>, addr: SocketAddr) -> Result<PingId, Full> {
        let _ = (cx, addr);
        Err(Full)
    }

    /// Asks one node which info-hashes it knows (BEP 51).
    ///
    /// # Errors
    /// [`Full`] if too many queries are under way.
    pub fn sample(
        &mut self,
        cx: &mut Cx<'_>,
        addr: SocketAddr,
        target: NodeId,
    ) -> Result<(), Full> {
        let _ = (cx, addr, target);
        Err(Full)
    }

    /// Begins a search.
    ///
    /// # Errors
    /// [`Full`] if too many are under way.
    pub fn search(&mut self, cx: &mut Cx<'_>, goal: Goal) -> Result<LookupId, Full> {
        let _ = (cx, goal);
        Err(Full)
    }

    /// Ends a search without a word.
    pub fn cancel(&mut self, lookup: LookupId) {
        let _ = lookup;
    }

    /// How a search goes: nodes that replied, nodes asked, and whether it is announcing.
    #[must_use]
    pub fn progress(&self, lookup: LookupId) -> Option<(u32, u32, bool)> {
        let _ = lookup;
        None
    }

    /// Counters and state.
    #[must_use]
    pub fn stats(&self) -> DhtStats {
        DhtStats::default()
    }

    /// Whether queries of others reach us, as far as is known (S17).
    #[must_use]
    pub const fn is_reachable(&self) -> bool {
        false
    }

    /// The nodes of the tables.
    pub fn nodes(&self) -> impl Iterator<Item = Contact> + '_ {
        core::iter::empty()
    }

    /// The platform could not send a datagram to `addr`.
    pub fn send_failed(&mut self, cx: &mut Cx<'_>, addr: SocketAddr) {
        let _ = (cx, addr);
    }

    /// Whether [`Machine::poll_transmit`] has something now.
    #[must_use]
    pub fn has_transmit(&self) -> bool {
        false
    }
}

impl Machine for Dht {
    type Event = DhtEvent;

    fn handle_datagram(&mut self, cx: &mut Cx<'_>, meta: &RecvMeta, data: &[u8]) -> Handled {
        let _ = (cx, meta, data);
        Handled::NotMine
    }

    fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        let _ = cx;
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_transmit(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit> {
        let _ = (cx, buf);
        None
    }

    fn poll_event(&mut self) -> Option<DhtEvent> {
        None
    }
}
