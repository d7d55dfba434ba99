//! A bucket of eight nodes, laid out as they are sent.

use super::K;
use super::entry::{Entry, State, Tick};
use crate::NodeId;

/// A bucket: those of its nodes that are ready come first. Columns, so that no byte is padding.
#[derive(Clone, Debug)]
pub(super) struct Bucket<const S: usize> {
    nodes: [[u8; S]; K],
    heard: [u32; K],
    /// When somebody was last asked for nodes of this bucket, in seconds.
    pub(super) refreshed: u32,
    asked: [Tick; K],
    rtt: [u8; K],
    state: [State; K],
    len: u8,
    ready: u8,
    /// Refreshes in a row that did not fill it.
    pub(super) tries: u8,
}

impl<const S: usize> Bucket<S> {
    pub(super) const fn new() -> Self {
        Self {
            nodes: [[0; S]; K],
            heard: [0; K],
            refreshed: 0,
            asked: [Tick::never(0); K],
            rtt: [0; K],
            state: [State::VERIFIED; K],
            len: 0,
            ready: 0,
            tries: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// How many nodes are ready to be handed out; they are the first ones.
    pub(super) fn ready(&self) -> usize {
        usize::from(self.ready)
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() == K
    }

    pub(super) fn nodes(&self) -> &[[u8; S]] {
        self.nodes.get(..self.len()).unwrap_or_default()
    }

    /// A whole answer, if all eight nodes are ready.
    pub(super) fn answer(&self) -> Option<&[[u8; S]; K]> {
        (self.ready() == K).then_some(&self.nodes)
    }

    /// The nodes that are ready, as they are sent.
    pub(super) fn ready_bytes(&self) -> &[u8] {
        self.nodes
            .as_flattened()
            .get(..self.ready() * S)
            .unwrap_or_default()
    }

    pub(super) fn states(&self) -> &[State] {
        self.state.get(..self.len()).unwrap_or_default()
    }

    /// The node to replace first, if any may be replaced: the one that failed most, then the one not heard of for longest.
    pub(super) fn worst(&self) -> Option<usize> {
        // Nodes that are ready are not worse than any other.
        let rest = self.ready()..self.len();
        let worse = rest.filter(|i| self.state[*i].is_worse());
        worse.max_by_key(|i| (self.state[*i].fails(), u32::MAX - self.heard[*i]))
    }

    /// The node to replace first among those whose id does not follow from their address (BEP 42).
    pub(super) fn loosest(&self) -> Option<usize> {
        let loose = (0..self.len()).filter(|i| !self.state[*i].has(State::SECURE));
        loose.max_by_key(|i| (*i >= self.ready(), self.rtt[*i]))
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<S>> + '_ {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    pub(super) fn get(&self, i: usize) -> Option<Entry<S>> {
        Some(Entry {
            node: *self.nodes().get(i)?,
            heard: *self.heard.get(i)?,
            asked: *self.asked.get(i)?,
            rtt: *self.rtt.get(i)?,
            state: *self.state.get(i)?,
        })
    }

    /// Where the node with this id is.
    pub(super) fn find(&self, id: &NodeId) -> Option<usize> {
        self.nodes()
            .iter()
            .position(|n| n.first_chunk() == Some(&id.0))
    }

    /// A node was heard of without having been asked.
    pub(super) fn hear(&mut self, i: usize, seconds: u32) {
        if let Some(heard) = self.heard.get_mut(i) {
            *heard = seconds;
        }
    }

    /// Sets the time at which all nodes were last asked.
    pub(super) fn forget_asked(&mut self, when: Tick) {
        self.asked = [when; K];
    }

    /// Adds a node; nothing if the bucket is full.
    pub(super) fn push(&mut self, entry: &Entry<S>) {
        let i = self.len();
        if i < K {
            self.len += 1;
            self.write(i, entry);
            self.promote(i);
        }
    }

    /// Changes a node; it changes its place only if it becomes ready or ceases to be.
    pub(super) fn set(&mut self, i: usize, entry: &Entry<S>) {
        if i >= self.len() {
            return;
        }
        let was_ready = i < self.ready();
        if was_ready == entry.state.is_ready() {
            self.write(i, entry);
        } else if was_ready {
            let i = self.demote(i);
            self.write(i, entry);
        } else {
            self.write(i, entry);
            self.promote(i);
        }
    }

    pub(super) fn remove(&mut self, i: usize) {
        if i >= self.len() {
            return;
        }
        let i = self.demote(i);
        self.len -= 1;
        self.swap(i, self.len());
    }

    fn write(&mut self, i: usize, entry: &Entry<S>) {
        self.nodes[i] = entry.node;
        self.heard[i] = entry.heard;
        self.asked[i] = entry.asked;
        self.rtt[i] = entry.rtt;
        self.state[i] = entry.state;
    }

    /// Moves a node from the ready ones to the others; returns where it is now.
    fn demote(&mut self, i: usize) -> usize {
        if i >= self.ready() {
            return i;
        }
        self.ready -= 1;
        self.swap(i, self.ready());
        self.ready()
    }

    /// Moves a node to the ready ones, if it is.
    fn promote(&mut self, i: usize) {
        if self.state[i].is_ready() {
            self.swap(i, self.ready());
            self.ready += 1;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        if a != b {
            self.nodes.swap(a, b);
            self.heard.swap(a, b);
            self.asked.swap(a, b);
            self.rtt.swap(a, b);
            self.state.swap(a, b);
        }
    }
}
