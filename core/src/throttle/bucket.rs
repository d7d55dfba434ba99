//! One bucket of the tree: its tokens, and the nodes that wait for them.

use alloc::collections::BTreeSet;
use core::time::Duration;

use super::Waiter;
use crate::Instant;

/// The most bytes that one turn grants: one block, so that turns change often even at low rates.
pub(crate) const QUANTUM: u32 = 16 * 1024;
/// The smallest burst in bytes: more than two full Ethernet frames, as streams of less become inefficient.
const MIN_BURST: u64 = 4096;
/// The highest limit in bytes per second; the arithmetic with higher ones would not fit 64 bits.
pub(super) const MAX_RATE: u64 = 1 << 40;
/// The time in seconds within which all waiters of a bucket have their longer turn: a peer that is sent nothing for a
/// minute takes that for a refusal.
const CYCLE: u64 = 20;
/// Longer turns have tickets from here on. Grants alternate between them and the others.
pub(super) const LONG: u64 = 1 << 63;
/// Tokens are counted in millionths of a byte: one microsecond at one byte per second.
pub(super) const UNIT: i64 = 1_000_000;

/// The most a node with this limit (bytes per second) passes at once: an eighth of a second's
/// worth, at least `MIN_BURST`; nothing if the limit is 0.
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

/// The tokens of one node in one direction, and what the node waits for in that direction.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Bytes per second; `None` is unlimited.
    pub(super) rate: Option<u64>,
    /// Tokens at `at`, in [`UNIT`]s; below zero after more was consumed than was available.
    pub(super) level: i64,
    pub(super) at: Option<Instant>,
    /// Bytes granted to waiters below and not used yet.
    pub(super) held: u64,
    /// The nodes that wait for this bucket, oldest first: (ticket, node).
    pub(super) queue: BTreeSet<(u64, u32)>,
    /// When it is due, as in `Throttle::due`.
    pub(super) due: Option<Instant>,
    /// The last grant was not for a longer turn, so the next one is, if anyone waits for it.
    pub(super) long_next: bool,
    // As a user of the tree, in this direction:
    /// The node or one above it has a limit.
    pub(super) limited: bool,
    /// The bytes held for this node.
    pub(super) credit: u32,
    /// When the credit lapses.
    pub(super) lapses: Option<Instant>,
    /// What it waits for: (ticket, bucket).
    pub(super) waits: Option<(u64, u32)>,
    /// The ticket of its longer turn, and the bytes that are left of it.
    pub(super) turn: Option<(u64, u64)>,
    pub(super) waiter: Option<Waiter>,
}

impl Bucket {
    pub(super) fn cap(&self) -> i64 {
        self.rate.map_or(0, |rate| burst(rate) as i64 * UNIT)
    }

    /// Tokens at `now`.
    pub(super) fn level_at(&self, now: Instant) -> i64 {
        let Some(rate) = self.rate else {
            return i64::MAX;
        };
        let micros = self
            .at
            .map_or(0, |at| now.saturating_since(at).as_micros() as u64);
        let gain = i64::try_from(rate.saturating_mul(micros)).unwrap_or(i64::MAX);
        self.level.saturating_add(gain).min(self.cap())
    }

    /// The longest turn of one more waiter with which all of them have theirs within [`CYCLE`].
    pub(super) fn share(&self) -> u64 {
        let waiters = self.queue.len() as u64 + 1;
        let all = self.rate.map_or(u64::MAX, |r| r.saturating_mul(CYCLE));
        (all / waiters).max(u64::from(QUANTUM))
    }

    /// The node that goes next.
    pub(super) fn first(&self) -> Option<u32> {
        let long = || self.queue.range((LONG, 0)..).next();
        let first = self.long_next.then(long).flatten();
        first.or_else(|| self.queue.first()).map(|&(_, node)| node)
    }

    pub(super) fn refill(&mut self, now: Instant) {
        if self.at.is_none_or(|at| at < now) {
            self.level = self.level_at(now);
            self.at = Some(now);
        }
    }

    /// Bytes that can pass now and are not held for a node.
    pub(super) fn spare(&self, now: Instant) -> u64 {
        match self.rate {
            None => u64::MAX,
            Some(_) => ((self.level_at(now) / UNIT).max(0) as u64).saturating_sub(self.held),
        }
    }

    /// The bytes that a waiter waits for: at most half of what the bucket holds, so that no tokens are lost
    /// while it waits for another bucket.
    pub(super) fn quantum(&self) -> u64 {
        self.rate.map_or(u64::from(QUANTUM), |r| {
            (burst(r) / 2).min(u64::from(QUANTUM))
        })
    }

    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.rate != Some(0) && self.spare(now) >= self.quantum()
    }

    /// When it will be ready if nothing passes; `None` if waiting alone does not help.
    pub(super) fn ready_at(&self, now: Instant) -> Option<Instant> {
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
