//! The owners of searches, pings and samples, and the searches that have not begun.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use crate::Instant;
use crate::dht::{LookupId, PingId};

/// Nodes that are enough to search with. Our choice: the first bucket's worth.
const ENOUGH_NODES: u32 = 8;
/// A search waits for the first node at most this long; then it begins, and fails by itself. Our choice: a name is looked
/// up and a node answers within that, or there is something wrong.
const PATIENCE: Duration = Duration::from_secs(10);
/// After the first node others are waited for this long, so that there are [`ENOUGH_NODES`].
const GATHERING: Duration = Duration::from_millis(500);

/// The owners of what is under way.
#[derive(Debug)]
pub(super) struct Requests<T> {
    lookups: BTreeMap<LookupId, T>,
    pings: BTreeMap<PingId, T>,
    /// A node is asked for samples once at a time: its answer says nothing else of the question.
    samples: Vec<(SocketAddr, T)>,
    waiting: VecDeque<Waiting<T>>,
    /// Searches wait for nodes to be gathered.
    gather: bool,
    /// When the first node was seen.
    first_node: Option<Instant>,
}

/// A search that has not begun.
#[derive(Debug)]
struct Waiting<T> {
    owner: T,
    since: Instant,
    /// It has enough nodes and waits only for its turn.
    gathered: bool,
}

impl<T: Copy + PartialEq> Requests<T> {
    pub(super) const fn new(gather: bool) -> Self {
        Self {
            lookups: BTreeMap::new(),
            pings: BTreeMap::new(),
            samples: Vec::new(),
            waiting: VecDeque::new(),
            gather,
            first_node: None,
        }
    }

    // ---- searches that wait ----

    /// Queues a search, unless its owner has one in the queue.
    pub(super) fn wait(&mut self, now: Instant, owner: T) {
        if self.waiting.iter().all(|w| w.owner != owner) {
            self.waiting.push_back(Waiting {
                owner,
                since: now,
                gathered: !self.gather,
            });
        }
    }

    /// Searches that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Finds the searches that need not wait for nodes any longer, now that there are `nodes`.
    pub(super) fn gather(&mut self, now: Instant, nodes: impl FnOnce() -> u32) {
        if self.waiting.iter().all(|w| w.gathered) {
            return;
        }
        let nodes = nodes();
        if nodes > 0 && self.first_node.is_none() {
            self.first_node = Some(now);
        }
        let late = self.first_node.is_some_and(|at| at + GATHERING <= now);
        let enough = nodes >= ENOUGH_NODES || (nodes > 0 && late);
        for waiting in &mut self.waiting {
            waiting.gathered |= enough || waiting.since + PATIENCE <= now;
        }
    }

    /// When [`Requests::gather`] may find more without any news.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let mut waiting = self.waiting.iter().filter(|w| !w.gathered);
        // The first has waited longest.
        let patience = waiting.next()?.since + PATIENCE;
        let gathered = self.first_node.map(|at| at + GATHERING);
        Some(gathered.map_or(patience, |at| at.min(patience)))
    }

    /// The owner whose search is to begin now.
    pub(super) fn next(&mut self) -> Option<T> {
        let at = self.waiting.iter().position(|w| w.gathered)?;
        self.waiting.remove(at).map(|w| w.owner)
    }

    // ---- what is under way ----

    pub(super) fn began(&mut self, lookup: LookupId, owner: T) {
        self.lookups.insert(lookup, owner);
    }

    pub(super) fn owner(&self, lookup: LookupId) -> Option<T> {
        self.lookups.get(&lookup).copied()
    }

    pub(super) fn ended(&mut self, lookup: LookupId) -> Option<T> {
        self.lookups.remove(&lookup)
    }

    /// Forgets the searches of an owner, also those that wait, and returns those that are under way.
    pub(super) fn withdraw(&mut self, owner: T) -> Vec<LookupId> {
        self.waiting.retain(|w| w.owner != owner);
        let own = self.lookups.iter().filter(|(_, of)| **of == owner);
        let lookups: Vec<LookupId> = own.map(|(lookup, _)| *lookup).collect();
        for lookup in &lookups {
            self.lookups.remove(lookup);
        }
        lookups
    }

    pub(super) fn pinged(&mut self, ping: PingId, owner: T) {
        self.pings.insert(ping, owner);
    }

    /// Pings that await their answer.
    pub(super) fn pings(&self) -> usize {
        self.pings.len()
    }

    pub(super) fn ponged(&mut self, ping: PingId) -> Option<T> {
        self.pings.remove(&ping)
    }

    /// Whether a node is being asked for samples.
    pub(super) fn is_sampling(&self, addr: SocketAddr) -> bool {
        self.samples.iter().any(|(to, _)| *to == addr)
    }

    /// Nodes that are being asked for samples.
    pub(super) fn sampling(&self) -> usize {
        self.samples.len()
    }

    pub(super) fn sampling_at(&mut self, addr: SocketAddr, owner: T) {
        self.samples.push((addr, owner));
    }

    pub(super) fn sampled(&mut self, addr: SocketAddr) -> Option<T> {
        let at = self.samples.iter().position(|(to, _)| *to == addr)?;
        Some(self.samples.swap_remove(at).1)
    }

    /// The node stops: forgets everything, and returns the searches that were under way.
    pub(super) fn stop(&mut self) -> BTreeMap<LookupId, T> {
        self.waiting.clear();
        self.pings.clear();
        self.samples.clear();
        self.first_node = None;
        core::mem::take(&mut self.lookups)
    }
}
