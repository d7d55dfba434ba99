//! Rate limits: token buckets in a tree, global → group → torrent → peer.
//!
//! A byte is charged to every bucket from its leaf to the root, so the children of a node never
//! pass more than the node itself may. Who finds the buckets dry waits its turn:
//!
//! ```text
//!  available() = 0 ──▶ wait() ──tokens, and all who waited longer are served──▶ poll_ready()
//!        ▲                                                                          │
//!        └──────────── a grant of up to 16 KiB is held for it for a second ◀────────┘
//! ```
//!
//! The oldest waiter goes first at every bucket, so nobody starves; newcomers get nothing from a
//! bucket that others wait for. Who has much to pass can ask for a longer turn, and then stays the
//! oldest until that is over; between its grants those pass who asked for none. Over any window a node passes at most `rate × window + burst`,
//! see [`burst`]. Where no limit is on the path, a call is one load and a branch.

#[cfg(test)]
mod tests;

use alloc::{collections::BTreeSet, vec, vec::Vec};
use core::time::Duration;

use crate::{ConnId, Instant};

/// What one turn grants at most: one block, so that turns change often even at low rates.
pub(crate) const QUANTUM: u32 = 16 * 1024;
/// Smallest burst: two full Ethernet frames and then some, below which streams turn to dribbles.
pub(crate) const MIN_BURST: u64 = 4096;
/// Highest limit, in bytes per second; above it the arithmetic would not fit 64 bits.
pub(crate) const MAX_RATE: u64 = 1 << 40;
/// How long a grant is held for a waiter that does not use it.
const HOLD: Duration = Duration::from_secs(1);
/// All who wait for longer turns at a bucket have one within about so many seconds: a peer that is sent
/// nothing for a minute thinks that it is refused.
const CYCLE: u64 = 20;
/// Tickets of longer turns begin here: they come after all others.
const LONG: u64 = 1 << 63;
/// Tokens are counted in millionths of a byte: one microsecond at one byte per second.
const UNIT: i64 = 1_000_000;

/// The most a node with this limit (bytes per second) passes at once: an eighth of a second's
/// worth, at least [`MIN_BURST`]; nothing if the limit is 0.
#[must_use]
#[doc(hidden)]
pub const fn burst(rate: u64) -> u64 {
    let rate = if rate < MAX_RATE { rate } else { MAX_RATE };
    let eighth = rate / 8;
    if rate == 0 {
        0
    } else if eighth < MIN_BURST {
        MIN_BURST
    } else {
        eighth
    }
}

/// Names a bucket of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BucketId(u32);

impl BucketId {
    /// The root: the global limit.
    pub const ROOT: Self = Self(0);
}

/// Which way bytes flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the network to us.
    Down,
    /// From us to the network.
    Up,
}

#[derive(Debug, Default)]
struct Bucket {
    /// Bytes per second; `None` is unlimited.
    rate: Option<u64>,
    /// Tokens at `at`, in [`UNIT`]s; below zero after more was consumed than was available.
    level: i64,
    at: Option<Instant>,
    /// Bytes granted to waiters below and not used yet.
    held: u64,
    /// Who waits for this bucket, oldest first: (ticket, node).
    queue: BTreeSet<(u64, u32)>,
    /// When it is due, as in [`Throttle::due`].
    due: Option<Instant>,
    /// The last grant was not for a longer turn, so the next one is, if anyone waits for it.
    long_next: bool,
    // As a user of the tree, in this direction:
    /// The node or one above it has a limit.
    limited: bool,
    /// The bytes held for this node.
    credit: u32,
    /// When the credit lapses.
    lapses: Option<Instant>,
    /// What it waits for: (ticket, bucket).
    waits: Option<(u64, u32)>,
    /// The ticket of its longer turn, and the bytes that are left of it.
    turn: Option<(u64, u64)>,
    waiter: Option<Waiter>,
}

impl Bucket {
    fn cap(&self) -> i64 {
        self.rate.map_or(0, |rate| burst(rate) as i64 * UNIT)
    }

    /// Tokens at `now`.
    fn level_at(&self, now: Instant) -> i64 {
        let Some(rate) = self.rate else {
            return i64::MAX;
        };
        let micros = self
            .at
            .map_or(0, |at| now.saturating_since(at).as_micros() as u64);
        let gain = i64::try_from(rate.saturating_mul(micros)).unwrap_or(i64::MAX);
        self.level.saturating_add(gain).min(self.cap())
    }

    /// Longest turn of one more waiter that lets all of them have theirs within [`CYCLE`].
    fn share(&self) -> u64 {
        let waiters = self.queue.len() as u64 + 1;
        let all = self.rate.map_or(u64::MAX, |r| r.saturating_mul(CYCLE));
        (all / waiters).max(u64::from(QUANTUM))
    }

    /// Who goes next.
    fn first(&self) -> Option<u32> {
        let long = || self.queue.range((LONG, 0)..).next();
        let first = self.long_next.then(long).flatten();
        first.or_else(|| self.queue.first()).map(|&(_, node)| node)
    }

    fn refill(&mut self, now: Instant) {
        if self.at.is_none_or(|at| at < now) {
            self.level = self.level_at(now);
            self.at = Some(now);
        }
    }

    /// Bytes that can pass now and are held for nobody.
    fn spare(&self, now: Instant) -> u64 {
        match self.rate {
            None => u64::MAX,
            Some(_) => ((self.level_at(now) / UNIT).max(0) as u64).saturating_sub(self.held),
        }
    }

    /// What a waiter waits for: at most half of what the bucket holds, so that no tokens spill
    /// while it waits for another bucket.
    fn quantum(&self) -> u64 {
        self.rate.map_or(u64::from(QUANTUM), |r| {
            (burst(r) / 2).min(u64::from(QUANTUM))
        })
    }

    fn is_ready(&self, now: Instant) -> bool {
        self.rate != Some(0) && self.spare(now) >= self.quantum()
    }

    /// When it will be ready if nothing passes; `None` if not by waiting alone.
    fn ready_at(&self, now: Instant) -> Option<Instant> {
        let Some(rate) = self.rate else {
            return Some(now);
        };
        let goal = i64::try_from(self.held + self.quantum())
            .ok()?
            .checked_mul(UNIT)?;
        if rate == 0 || goal > self.cap() {
            return None;
        }
        let lack = goal.saturating_sub(self.level_at(now)).max(0) as u64;
        Some(now + Duration::from_micros(lack.div_ceil(rate)))
    }
}

#[derive(Debug)]
struct Node {
    /// The root's parent is itself.
    parent: u32,
    children: u32,
    /// By [`Direction`].
    ways: [Bucket; 2],
}

/// Who waits for a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// A stream.
    Conn(ConnId),
    /// The datagrams of the DHT.
    Dht,
}

/// The tree of limits.
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

    /// Adds an unlimited node below `parent`. Calls cost as much as the path to the root is long.
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

    /// Removes a node; its id must not be used again. What was below it is then below its parent:
    /// O(nodes), if there was anything. The root stays.
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
        // Without limits nobody waits here; held bytes are those of buckets further up, too.
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

    /// Limits a node to `rate` bytes per second: `None` lifts the limit, 0 stops all flow. A limit
    /// above [`MAX_RATE`] counts as that. O(nodes) when a limit comes or goes.
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

    /// How many of `want` bytes may pass through `node` now: all, none, or a part not worth less
    /// than a turn. 0 means: [`Throttle::wait`].
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

    /// Charges `bytes` that passed through `node`. More than was available is a debt that later
    /// bytes wait for.
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
            // What passes a stop all the same is not paid for once it is lifted.
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

    /// Queues `node` for a turn in one direction; [`Throttle::poll_ready`] names `waiter` when
    /// it has come. A node that waits already keeps its place.
    pub fn wait(&mut self, now: Instant, node: BucketId, dir: Direction, waiter: Waiter) {
        self.wait_long(now, node, dir, waiter, 0);
    }

    /// The same for a node that keeps its place, whenever it waits again, until `turn` bytes have
    /// passed: others that ask for long turns wait meanwhile. It is shorter, though [`QUANTUM`] at
    /// least, where many wait.
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

    /// Takes `node` out of the queue.
    pub(crate) fn cancel_wait(&mut self, now: Instant, node: BucketId, dir: Direction) {
        if let Some((ticket, bucket)) = self.way_mut(node.0, dir).waits.take() {
            self.way_mut(bucket, dir).queue.remove(&(ticket, node.0));
            self.schedule(now, bucket, dir);
        }
    }

    /// Gives back what is left of a grant: `node` has nothing more to pass for now. Without this
    /// a few bytes would keep a whole turn from the others until it lapses.
    pub(crate) fn release(&mut self, now: Instant, node: BucketId, dir: Direction) {
        self.revoke(now, node.0, dir);
    }

    /// When [`Throttle::poll_ready`] may have something next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|&(at, ..)| at)
    }

    /// The next whose turn it is. A grant is held for it: [`Throttle::available`] tells how much.
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
            // Each pass either grants, moves a waiter to a bucket that is not ready, or finds
            // this one not ready, which is then due later.
            let slowest = self.slowest(now, node, dir);
            if self.way(slowest, dir).is_ready(now) {
                return Some((self.grant(now, node, dir)?, dir));
            }
            self.enqueue(now, node, dir, slowest);
        }
    }

    /// The limited bucket on the path that will be ready last; of equals the one nearest the root,
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

    /// Puts a waiter into a bucket's queue, from whichever it is in, by its ticket.
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

    /// Works out anew when a bucket's first waiter may go.
    fn schedule(&mut self, now: Instant, bucket: u32, dir: Direction) {
        let lapse = self.grants.first().map(|&(at, ..)| at.max(now));
        let way = self.way_mut(bucket, dir);
        let due = if way.queue.is_empty() || way.rate == Some(0) {
            None
        } else {
            // What is held may fill the bucket: then a grant must be used or lapse first.
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

    /// Ends a wait with a grant; returns who waited.
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

    /// From a node up to the root.
    fn path(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        core::iter::successors(Some(node), |&n| {
            (n != 0).then(|| self.nodes[n as usize].parent)
        })
    }
}
