//! Rate limits: token buckets in a tree, global → torrent → peer at present. The tree may be deeper.
//!
//! A byte is charged to every bucket from its leaf to the root, so the children of a node never
//! pass more than the node itself may. A user that finds a bucket on its path empty waits for a turn:
//!
//! ```text
//!  available() = 0 ──▶ wait() ──tokens, and all who waited longer are served──▶ poll_ready()
//!        ▲                                                                          │
//!        └──────────── a grant of up to 16 KiB is held for it for a second ◀────────┘
//! ```
//!
//! The oldest waiter goes first at every bucket, so nobody starves; newcomers get nothing from a
//! bucket that others wait for. A user with much to pass can ask for a longer turn, and then stays the
//! oldest until that is over; between its grants, waiters without a longer turn have theirs. Over any window a node
//! passes at most `rate × window + burst`, where the burst is an eighth of a second's worth, at least 4 KiB. Where no
//! limit is on the path, a call is one load and a branch.

mod bucket;
#[cfg(test)]
mod tests;

use alloc::{collections::BTreeSet, vec, vec::Vec};
use core::time::Duration;

pub(crate) use self::bucket::QUANTUM;
#[doc(hidden)]
pub use self::bucket::burst;
use self::bucket::{Bucket, LONG, MAX_RATE, UNIT};
use crate::{ConnId, Instant};

/// How long a grant is held for a waiter that does not use it.
const HOLD: Duration = Duration::from_secs(1);

/// Identifies a bucket of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BucketId(u32);

impl BucketId {
    /// The root: the global limit.
    pub const ROOT: Self = Self(0);
}

/// The direction in which bytes flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the network to us.
    Down,
    /// From us to the network.
    Up,
}

#[derive(Debug)]
struct Node {
    /// The root's parent is itself.
    parent: u32,
    children: u32,
    /// By [`Direction`].
    ways: [Bucket; 2],
}

/// A user that waits for a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// A stream.
    Conn(ConnId),
    /// The datagrams of the DHT.
    Dht,
}

/// A tree of rate limits.
#[derive(Debug)]
pub struct Throttle {
    nodes: Vec<Node>,
    idle: Vec<u32>,
    /// Buckets with waiters: (when the first may go, bucket, direction).
    due: BTreeSet<(Instant, u32, Direction)>,
    /// Grants out: (when it lapses, node, direction).
    grants: BTreeSet<(Instant, u32, Direction)>,
    ticket: u64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new()
    }
}

impl Throttle {
    /// A tree of one node, the root, without limits.
    #[must_use]
    pub fn new() -> Self {
        Self {
            nodes: vec![Node {
                parent: 0,
                children: 0,
                ways: Default::default(),
            }],
            idle: Vec::new(),
            due: BTreeSet::new(),
            grants: BTreeSet::new(),
            ticket: 0,
        }
    }

    /// Adds an unlimited node below `parent`. The cost of a call is proportional to the length of the path
    /// to the root.
    pub fn add(&mut self, parent: BucketId) -> BucketId {
        let mut node = Node {
            parent: parent.0,
            children: 0,
            ways: Default::default(),
        };
        let above = &mut self.nodes[parent.0 as usize];
        above.children += 1;
        for (way, above) in node.ways.iter_mut().zip(&above.ways) {
            way.limited = above.limited;
        }
        match self.idle.pop() {
            Some(index) => {
                self.nodes[index as usize] = node;
                BucketId(index)
            }
            None => {
                self.nodes.push(node);
                BucketId(self.nodes.len() as u32 - 1)
            }
        }
    }

    /// Removes a node; its id must not be used again. Nodes below it move to its parent, which costs
    /// O(nodes) if there are any. The root cannot be removed.
    pub(crate) fn remove(&mut self, now: Instant, node: BucketId) {
        if node == BucketId::ROOT {
            return;
        }
        for dir in [Direction::Down, Direction::Up] {
            self.cancel_wait(now, node, dir);
            self.revoke(now, node.0, dir);
        }
        let parent = self.nodes[node.0 as usize].parent;
        self.nodes[parent as usize].children -= 1;
        if self.nodes[node.0 as usize].children > 0 {
            self.orphan(now, node.0, parent);
        }
        self.idle.push(node.0);
    }

    fn orphan(&mut self, now: Instant, node: u32, parent: u32) {
        // A node without limits has no waiters. Held bytes belong to the buckets above as well.
        self.set_rate(now, BucketId(node), Direction::Down, None);
        self.set_rate(now, BucketId(node), Direction::Up, None);
        for dir in [Direction::Down, Direction::Up] {
            for (_, waiter) in core::mem::take(&mut self.way_mut(node, dir).queue) {
                self.enqueue(now, waiter, dir, parent);
            }
            self.schedule(now, node, dir);
        }
        for child in 1..self.nodes.len() {
            if self.nodes[child].parent == node {
                self.nodes[child].parent = parent;
                self.nodes[parent as usize].children += 1;
            }
        }
    }

    /// Limits a node to `rate` bytes per second; `None` removes the limit, 0 stops all traffic. Higher
    /// limits than 2^40 bytes per second count as that. Costs O(nodes) when a limit is added or removed.
    pub fn set_rate(&mut self, now: Instant, node: BucketId, dir: Direction, rate: Option<u64>) {
        let rate = rate.map(|r| r.min(MAX_RATE));
        let way = self.way_mut(node.0, dir);
        way.refill(now);
        let old = way.rate;
        way.rate = rate;
        way.level = match (old, rate) {
            (_, None) => 0,
            (None, Some(_)) => way.cap(),
            (Some(_), Some(_)) => way.level.min(way.cap()),
        };
        if old.is_some() != rate.is_some() {
            self.mark_limited(dir);
        }
        self.schedule(now, node.0, dir);
    }

    /// Whether a limit of 0 on the path stops `node`: waiting does not help.
    #[must_use]
    pub(crate) fn is_stopped(&self, node: BucketId, dir: Direction) -> bool {
        self.is_limited(node, dir) && self.path(node.0).any(|n| self.way(n, dir).rate == Some(0))
    }

    /// Whether there is a limit on the path.
    #[must_use]
    pub(crate) fn is_limited(&self, node: BucketId, dir: Direction) -> bool {
        self.way(node.0, dir).limited
    }

    /// The lowest limit on the path, if there is one.
    #[must_use]
    pub(crate) fn limit(&self, node: BucketId, dir: Direction) -> Option<u64> {
        self.path(node.0)
            .filter_map(|n| self.way(n, dir).rate)
            .min()
    }

    fn mark_limited(&mut self, dir: Direction) {
        for node in 0..self.nodes.len() as u32 {
            let limited = self.path(node).any(|n| self.way(n, dir).rate.is_some());
            self.way_mut(node, dir).limited = limited;
        }
    }

    // ---- passing bytes ----

    /// How many of `want` bytes may pass through `node` now: all of them, none, what is left of a grant, or a part that is
    /// not less than a turn. After 0, use [`Throttle::wait`].
    #[must_use]
    pub fn available(&self, now: Instant, node: BucketId, dir: Direction, want: u32) -> u32 {
        let way = self.way(node.0, dir);
        if !way.limited {
            return want;
        }
        let (mut spare, mut solid, mut least) = (u64::MAX, u64::MAX, u64::from(want));
        for n in self.path(node.0) {
            let bucket = self.way(n, dir);
            if bucket.rate.is_none() {
                continue;
            }
            least = least.min(bucket.quantum());
            solid = solid.min((bucket.level_at(now) / UNIT).max(0) as u64);
            spare = if bucket.queue.is_empty() {
                spare.min(bucket.spare(now))
            } else {
                0
            };
        }
        if spare < least {
            spare = 0;
        }
        let may = (u64::from(way.credit) + spare).min(solid);
        may.min(u64::from(want)) as u32
    }

    /// Charges `bytes` that passed through `node`. Bytes beyond what was available are a debt that delays
    /// later ones.
    pub fn consume(&mut self, now: Instant, node: BucketId, dir: Direction, bytes: u32) {
        let way = self.way_mut(node.0, dir);
        if !way.limited {
            return;
        }
        way.turn = way.turn.and_then(|(ticket, left)| {
            let left = left.saturating_sub(u64::from(bytes));
            (left > 0).then_some((ticket, left))
        });
        let used = way.credit.min(bytes);
        way.credit -= used;
        if used > 0 && way.credit == 0 {
            self.drop_grant(node.0, dir);
        }
        let mut n = node.0;
        loop {
            let bucket = self.way_mut(n, dir);
            // Bytes that pass although traffic is stopped are not charged after the stop.
            if bucket.rate.is_some_and(|rate| rate > 0) {
                bucket.refill(now);
                bucket.level = bucket.level.saturating_sub(i64::from(bytes) * UNIT);
            }
            bucket.held = bucket.held.saturating_sub(u64::from(used));
            if !bucket.queue.is_empty() {
                self.schedule(now, n, dir);
            }
            if n == 0 {
                return;
            }
            n = self.nodes[n as usize].parent;
        }
    }

    // ---- waiting ----

    /// Queues `node` for a turn in one direction; [`Throttle::poll_ready`] returns `waiter` when it has
    /// come. A node that waits already keeps its place.
    pub fn wait(&mut self, now: Instant, node: BucketId, dir: Direction, waiter: Waiter) {
        self.wait_long(now, node, dir, waiter, 0);
    }

    /// The same for a node that keeps its place, whenever it waits again, until `turn` bytes have passed;
    /// others that ask for long turns wait meanwhile. The turn is shorter, but at least one block, if many
    /// wait.
    pub(crate) fn wait_long(
        &mut self,
        now: Instant,
        node: BucketId,
        dir: Direction,
        waiter: Waiter,
        turn: u64,
    ) {
        let next = self.ticket;
        let way = self.way_mut(node.0, dir);
        way.waiter = Some(waiter);
        if way.waits.is_none() {
            let begun = way.turn;
            let bucket = self.slowest(now, node.0, dir);
            let ticket = match (turn, begun) {
                (0, _) => next,
                (_, Some((ticket, _))) => ticket,
                (_, None) => LONG | next,
            };
            if turn > 0 && begun.is_none() {
                let share = self.way(bucket, dir).share();
                self.way_mut(node.0, dir).turn = Some((ticket, turn.min(share)));
            }
            self.way_mut(node.0, dir).waits = Some((ticket, node.0));
            self.ticket += 1;
            self.enqueue(now, node.0, dir, bucket);
        }
    }

    /// Removes `node` from the queue.
    pub(crate) fn cancel_wait(&mut self, now: Instant, node: BucketId, dir: Direction) {
        if let Some((ticket, bucket)) = self.way_mut(node.0, dir).waits.take() {
            self.way_mut(bucket, dir).queue.remove(&(ticket, node.0));
            self.schedule(now, bucket, dir);
        }
    }

    /// Returns the rest of a grant: `node` has nothing more to send for now. Without this, a few bytes
    /// would keep a whole turn from others until it lapses.
    pub(crate) fn release(&mut self, now: Instant, node: BucketId, dir: Direction) {
        self.revoke(now, node.0, dir);
    }

    /// The next time at which [`Throttle::poll_ready`] may return something.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|&(at, ..)| at)
    }

    /// The next waiter whose turn it is. A grant is held for it; [`Throttle::available`] returns its size.
    pub fn poll_ready(&mut self, now: Instant) -> Option<(Waiter, Direction)> {
        loop {
            let &(at, bucket, dir) = self.due.first()?;
            if at > now {
                return None;
            }
            self.lapse(now);
            let Some(node) = self.way(bucket, dir).first() else {
                self.schedule(now, bucket, dir);
                continue;
            };
            // Each pass grants, moves a waiter to a bucket that is not ready, or finds that this one is not
            // ready; then it is due later.
            let slowest = self.slowest(now, node, dir);
            if self.way(slowest, dir).is_ready(now) {
                return Some((self.grant(now, node, dir)?, dir));
            }
            self.enqueue(now, node, dir, slowest);
        }
    }

    /// The limited bucket on the path that will be ready last; of equal ones the one nearest to the root,
    /// where most others wait.
    fn slowest(&self, now: Instant, node: u32, dir: Direction) -> u32 {
        let mut slowest = (Some(now), node);
        for n in self.path(node) {
            let bucket = self.way(n, dir);
            if bucket.rate.is_none() {
                continue;
            }
            let at = if bucket.is_ready(now) {
                Some(now)
            } else {
                bucket.ready_at(now)
            };
            slowest = match (slowest.0, at) {
                (Some(old), Some(new)) if new >= old => (at, n),
                (Some(_), None) => (at, n),
                _ => slowest,
            };
        }
        slowest.1
    }

    /// Moves a waiter into a bucket's queue, in the order of tickets.
    fn enqueue(&mut self, now: Instant, node: u32, dir: Direction, bucket: u32) {
        let Some((ticket, old)) = self.way(node, dir).waits else {
            return;
        };
        if self.way_mut(old, dir).queue.remove(&(ticket, node)) && old != bucket {
            self.schedule(now, old, dir);
        }
        self.way_mut(node, dir).waits = Some((ticket, bucket));
        self.way_mut(bucket, dir).queue.insert((ticket, node));
        self.schedule(now, bucket, dir);
    }

    /// Computes when the first waiter of a bucket may go.
    fn schedule(&mut self, now: Instant, bucket: u32, dir: Direction) {
        let lapse = self.grants.first().map(|&(at, ..)| at.max(now));
        let way = self.way_mut(bucket, dir);
        let due = if way.queue.is_empty() || way.rate == Some(0) {
            None
        } else {
            // Held bytes may fill the bucket: then a grant must be used or lapse first.
            way.ready_at(now).or(lapse)
        };
        if due == way.due {
            return;
        }
        let old = core::mem::replace(&mut way.due, due);
        if let Some(at) = old {
            self.due.remove(&(at, bucket, dir));
        }
        if let Some(at) = due {
            self.due.insert((at, bucket, dir));
        }
    }

    /// Ends a wait with a grant; returns the waiter.
    fn grant(&mut self, now: Instant, node: u32, dir: Direction) -> Option<Waiter> {
        if let Some((ticket, bucket)) = self.way(node, dir).waits {
            self.way_mut(bucket, dir).long_next = ticket < LONG;
        }
        self.cancel_wait(now, BucketId(node), dir);
        self.revoke(now, node, dir);
        let way = self.way(node, dir);
        if !way.limited {
            return way.waiter;
        }
        let least = self.path(node).map(|n| self.way(n, dir).quantum()).min();
        let bytes = least.unwrap_or(0) as u32;
        let at = now + HOLD;
        let way = self.way_mut(node, dir);
        way.credit = bytes;
        way.lapses = Some(at);
        let waiter = way.waiter;
        self.grants.insert((at, node, dir));
        let mut n = node;
        loop {
            self.way_mut(n, dir).held += u64::from(bytes);
            self.schedule(now, n, dir);
            if n == 0 {
                return waiter;
            }
            n = self.nodes[n as usize].parent;
        }
    }

    /// Takes back grants that were not used in time.
    fn lapse(&mut self, now: Instant) {
        while let Some(&(at, node, dir)) = self.grants.first() {
            if at > now {
                return;
            }
            self.revoke(now, node, dir);
        }
    }

    /// Takes back what is held for a node.
    fn revoke(&mut self, now: Instant, node: u32, dir: Direction) {
        self.drop_grant(node, dir);
        let credit = core::mem::take(&mut self.way_mut(node, dir).credit);
        if credit == 0 {
            return;
        }
        let mut n = node;
        loop {
            let bucket = self.way_mut(n, dir);
            bucket.held = bucket.held.saturating_sub(u64::from(credit));
            self.schedule(now, n, dir);
            if n == 0 {
                return;
            }
            n = self.nodes[n as usize].parent;
        }
    }

    fn drop_grant(&mut self, node: u32, dir: Direction) {
        if let Some(at) = self.way_mut(node, dir).lapses.take() {
            self.grants.remove(&(at, node, dir));
        }
    }

    // ---- the tree ----

    fn way(&self, node: u32, dir: Direction) -> &Bucket {
        &self.nodes[node as usize].ways[dir as usize]
    }

    fn way_mut(&mut self, node: u32, dir: Direction) -> &mut Bucket {
        &mut self.nodes[node as usize].ways[dir as usize]
    }

    /// The nodes from this one to the root.
    fn path(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        core::iter::successors(Some(node), |&n| {
            (n != 0).then(|| self.nodes[n as usize].parent)
        })
    }
}
