//! Token buckets for many sources in constant space and time: a set-associative table with a keyed hash.
//!
//! A full bucket need not be stored, so only buckets that are not full take a place. When a set is
//! full, the bucket that is closest to full makes room: a flood of single datagrams from everywhere
//! neither hides a source that asks too much nor locks out a new one.

use alloc::{boxed::Box, vec};
use core::time::Duration;

use crate::Instant;

/// Places of a set: one cache line.
const WAYS: usize = 8;
/// Microseconds of a unit of time, as a shift: 48 bits of them are 142 years.
const UNIT: u32 = 4;
/// Bits of an entry that hold time; those above hold a part of the hash.
const TIME_BITS: u32 = 48;
const TIME: u64 = (1 << TIME_BITS) - 1;

/// What an entry was made for; neither kind can crowd out the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dht) enum Half {
    /// A datagram that others sent, perhaps from a forged address.
    Theirs,
    /// A datagram that we sent.
    Ours,
}

/// A moment in units.
fn units(at: Instant) -> u64 {
    (at.as_micros() >> UNIT).min(TIME)
}

/// A duration in units.
fn span(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).map_or(TIME, |micros| (micros >> UNIT).min(TIME))
}

/// Entries of 64 bits: a tag of 16, and a moment of 48. Zero is an empty one.
#[derive(Clone, Debug)]
pub(in crate::dht) struct Assoc {
    sets: Box<[[u64; WAYS]]>,
}

impl Assoc {
    /// Room for at least `max` entries: a power of two, and 8 at least.
    pub(in crate::dht) fn new(max: u16) -> Self {
        let sets = usize::from(max).div_ceil(WAYS).next_power_of_two();
        Self {
            sets: vec![[0; WAYS]; sets].into_boxed_slice(),
        }
    }

    fn set(&mut self, hash: u64) -> &mut [u64; WAYS] {
        let mask = self.sets.len() as u64 - 1;
        &mut self.sets[(hash & mask) as usize]
    }

    /// Takes from the bucket of `hash` what takes `cost` to flow in; it holds what flows in within
    /// `depth`, both in microseconds. `false`, and nothing taken, if it holds less.
    pub(in crate::dht) fn take(&mut self, now: Instant, hash: u64, cost: u64, depth: u64) -> bool {
        let (now, tag) = (units(now), hash & !TIME);
        let set = self.set(hash);
        // An entry is the moment at which the bucket is full again. Without an entry of this source, the
        // bucket that is closest to full makes room.
        let way = find(set, tag).unwrap_or_else(|| least(set));
        let entry = &mut set[way];
        let full_at = if *entry & !TIME == tag {
            (*entry & TIME).max(now)
        } else {
            now
        };
        let then = full_at.saturating_add(cost >> UNIT);
        if then > now.saturating_add(depth >> UNIT) {
            return false;
        }
        *entry = tag | then.min(TIME);
        true
    }

    /// Remembers `hash` as of `now`, in its half of the set. One that moves leaves the other half.
    pub(in crate::dht) fn note(&mut self, now: Instant, hash: u64, half: Half) {
        let tag = hash & !TIME;
        let set = self.set(hash);
        let found = find(set, tag);
        let way = match (found, half) {
            // An entry for what we sent does not become one for what others sent.
            (Some(way), Half::Theirs) => way,
            (Some(way), Half::Ours) if way >= WAYS / 2 => way,
            (_, Half::Theirs) => least(&set[..WAYS / 2]),
            (_, Half::Ours) => WAYS / 2 + least(&set[WAYS / 2..]),
        };
        if let Some(old) = found {
            set[old] = 0;
        }
        set[way] = tag | units(now);
    }

    /// Whether `hash` was noted within `memory` before `now`.
    pub(in crate::dht) fn noted(&self, now: Instant, hash: u64, memory: Duration) -> bool {
        let mask = self.sets.len() as u64 - 1;
        let set = &self.sets[(hash & mask) as usize];
        find(set, hash & !TIME).is_some_and(|way| {
            let at = set[way] & TIME;
            at != 0 && units(now).saturating_sub(at) < span(memory)
        })
    }
}

#[inline]
fn find(set: &[u64; WAYS], tag: u64) -> Option<usize> {
    // Empty entries bear tag 0: they are found by a hash of that tag, and fit it. All are compared:
    // at once, where the processor can.
    let found = (0..WAYS).fold(0u32, |found, way| {
        found | u32::from(set[way] & !TIME == tag) << way
    });
    (found != 0).then(|| found.trailing_zeros() as usize)
}

/// Where the earliest moment is.
fn least(set: &[u64]) -> usize {
    let ways = set.iter().enumerate();
    ways.min_by_key(|(_, entry)| *entry & TIME)
        .map_or(0, |(way, _)| way)
}

#[cfg(test)]
impl Assoc {
    pub(in crate::dht) fn sets(&self) -> &[[u64; WAYS]] {
        &self.sets
    }
}
