//! The choker: decides which peers we upload to.
//!
//! The upload slots are assigned every ten seconds.
//!
//! - While downloading, the peers that send us most get most of the slots (tit-for-tat). The others, and those that are
//!   left, are *optimistic*: they go to random peers for thirty seconds each, to new peers three times as often, so that
//!   better partners are found and new peers get something to trade.
//! - While seeding, each peer has a turn of a minute, and the peer that was choked longest is next. A turn ends early if the
//!   peer takes nothing, and continues if no other peer waits. One slot in eight, at least one, is optimistic here, too.
//!
//! Under an upload limit, slots that are not earned (optimistic ones and those of a seed) change after each piece, see
//! [`Pace`], and peers without any piece come first: each of them is one more peer that can pass pieces on.
//!
//! Peers without a slot may be promised a few pieces, see `Choker::promise`.
//!
//! Between rounds, free slots are assigned and no peer is choked, to avoid *fibrillation* (BEP 3: frequent choking and
//! unchoking). Within a round, a peer keeps its slot unless another one is better by an eighth.

mod allowance;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::{cmp::Reverse, time::Duration};

use self::allowance::Allowance;
use super::pace::Pace;
use super::picker::PeerKey;
use crate::{Cx, Instant};

/// The time between rounds: long enough for TCP to reach its rate.
pub const ROUND: Duration = Duration::from_secs(10);
/// How long an optimistic unchoke lasts: time to receive a few pieces and send some back.
pub const OPTIMISTIC: Duration = Duration::from_secs(30);
/// The length of a turn while seeding.
pub const TURN: Duration = Duration::from_secs(60);
/// A turn of a seed ends after this time if the peer takes nothing.
const IDLE_TURN: Duration = Duration::from_secs(20);
/// How long a peer is new.
const NEW: Duration = Duration::from_secs(60);
/// How much more often a new peer is unchoked optimistically.
const NEW_WEIGHT: u32 = 3;
/// How much more often a peer without any piece is unchoked optimistically under an upload limit: in swarms of the usual
/// size, before all others.
const EMPTY_WEIGHT: u32 = 64;
/// The minimum and maximum number of automatic slots.
const AUTO: core::ops::RangeInclusive<u64> = 4..=256;

/// How many peers are unchoked at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// A fixed number. 0 uploads to no peer.
    Fixed(u32),
    /// √(0.6 × upload rate in KiB/s), at least 4, and at most [`Pace::slots`] under a limit.
    Auto,
}

/// What the choker has to know of a connected peer. Rates are in bytes per second.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its key.
    pub key: PeerKey,
    /// Whether it is interested in our pieces.
    pub interested: bool,
    /// Whether it has not sent blocks for a long time although we requested some. It does not earn a slot then.
    pub snubbed: bool,
    /// The rate at which it sends to us.
    pub down_rate: u64,
    /// How many bytes of payload it has sent to us.
    pub given: u64,
    /// The rate at which we send to it.
    pub up_rate: u64,
    /// Whether it is unchoked.
    pub unchoked: bool,
    /// When it was last choked or unchoked.
    pub since: Instant,
    /// When it connected.
    pub connected: Instant,
    /// How many bytes of payload it was sent since it was unchoked.
    pub sent: u64,
    /// Whether it has no piece, and was sent less than one piece by us.
    pub empty: bool,
}

/// Assigns the upload slots of a torrent.
#[derive(Debug)]
pub struct Choker {
    slots: Slots,
    pace: Option<Pace>,
    next_round: Option<Instant>,
    next_optimistic: Instant,
    /// The peers with an optimistic slot.
    optimistic: Vec<PeerKey>,
    /// What may be promised to choked peers.
    allowance: Allowance,
    /// Whether the last round left a slot free, or one became free since.
    vacant: bool,
    /// The number of candidates that were examined so far.
    work: u64,
    /// Whether each candidate of this round gets a slot.
    chosen: Vec<bool>,
    /// Rank, tie break and index of the candidates, best first.
    ranking: Vec<(Reverse<u64>, u32, u32)>,
}

impl Choker {
    /// Creates a choker. The first round is due at once.
    #[must_use]
    pub const fn new(slots: Slots) -> Self {
        Self {
            slots,
            pace: None,
            next_round: None,
            next_optimistic: Instant::ORIGIN,
            optimistic: Vec::new(),
            allowance: Allowance::new(),
            vacant: true,
            work: 0,
            chosen: Vec::new(),
            ranking: Vec::new(),
        }
    }

    /// Changes the number of slots from the next round on.
    pub const fn set_slots(&mut self, slots: Slots) {
        self.slots = slots;
        self.vacant = true;
    }

    /// Sets how uploads share their limit, if there is one.
    pub const fn set_pace(&mut self, pace: Option<Pace>) {
        self.pace = pace;
    }

    /// Whether a round before [`Choker::poll_timeout`] could assign a slot. Only then is a round worth its cost when a peer
    /// becomes interested, as rounds examine every peer.
    #[must_use]
    pub const fn has_vacancy(&self) -> bool {
        self.vacant
    }

    /// A peer with a slot disconnected.
    pub const fn peer_gone(&mut self) {
        self.vacant = true;
    }

    /// Whether a choked peer may have `bytes` of payload. All that is promised is at most an eighth of what was `uploaded`, and
    /// at most `most` at once.
    pub(crate) const fn promise(&mut self, uploaded: u64, bytes: u64, most: u64) -> bool {
        self.allowance.take(uploaded, bytes, most)
    }

    /// How many candidates all rounds together have examined. Tests use it to measure the cost of a message.
    #[doc(hidden)]
    #[must_use]
    pub const fn work(&self) -> u64 {
        self.work
    }

    /// When the next round is due. `None` before the first one, which is due as soon as there is a peer.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.next_round
    }

    /// The number of slots when we upload to these peers.
    #[must_use]
    pub fn slots(&self, candidates: &[Candidate]) -> u32 {
        match self.slots {
            Slots::Fixed(n) => n,
            Slots::Auto => {
                let rate = candidates
                    .iter()
                    .fold(0u64, |sum, c| sum.saturating_add(c.up_rate));
                let fed = (rate / 1024).saturating_mul(6) / 10;
                let slots = fed.isqrt().clamp(*AUTO.start(), *AUTO.end());
                self.pace.map_or(slots, |pace| slots.min(pace.slots())) as u32
            }
        }
    }

    /// Assigns the slots. Appends the changes to `out`, as the peer and whether it is unchoked. A call before
    /// [`Choker::poll_timeout`] assigns free slots and those of turns that are over, which is useful when a peer becomes
    /// interested, and when a peer has been sent [`Pace::turn`].
    pub fn round(
        &mut self,
        cx: &mut Cx<'_>,
        seeding: bool,
        candidates: &[Candidate],
        out: &mut Vec<(PeerKey, bool)>,
    ) {
        let full = self.next_round.is_none_or(|at| at <= cx.now);
        if full {
            self.next_round = Some(cx.now + ROUND);
        }
        if self.next_optimistic <= cx.now {
            self.next_optimistic = cx.now + OPTIMISTIC;
            self.optimistic.clear();
        }
        let slots = self.slots(candidates) as usize;
        self.work += candidates.len() as u64;
        self.chosen.clear();
        self.chosen.resize(candidates.len(), false);
        let over = |c: &Candidate| self.pace.is_some_and(|pace| is_over(pace, c));
        if full || seeding && candidates.iter().any(over) {
            // Between rounds, the slots of a seed change.
            let optimistic = if full && slots > 1 {
                (slots / 8).max(1)
            } else {
                0
            };
            self.rank(cx, seeding, candidates);
            let regular = self.ranking.iter().take(slots - optimistic);
            for &(_, _, i) in regular {
                self.chosen[i as usize] = true;
            }
        } else {
            for (chosen, c) in self.chosen.iter_mut().zip(candidates) {
                *chosen = c.unchoked && !(over(c) && self.optimistic.contains(&c.key));
            }
        }
        self.choose_optimistic(cx, full, slots, candidates);
        for (c, &chosen) in candidates.iter().zip(&self.chosen) {
            if chosen != c.unchoked {
                out.push((c.key, chosen));
            }
        }
    }

    /// The candidates for a regular slot, best first.
    fn rank(&mut self, cx: &mut Cx<'_>, seeding: bool, candidates: &[Candidate]) {
        self.ranking.clear();
        for (i, c) in candidates.iter().enumerate().filter(|(_, c)| c.interested) {
            let rank = if seeding {
                Some(turn_rank(cx.now, self.pace, c))
            } else {
                ((c.down_rate > 0 || c.given > 0) && !c.snubbed).then(|| gift_rank(c))
            };
            if let Some(rank) = rank {
                self.ranking
                    .push((Reverse(rank), cx.rng.next_u32(), i as u32));
            }
        }
        self.ranking.sort_unstable();
    }

    /// Assigns the remaining slots: to peers with an optimistic slot, then to random others.
    fn choose_optimistic(
        &mut self,
        cx: &mut Cx<'_>,
        full: bool,
        slots: usize,
        candidates: &[Candidate],
    ) {
        let mut left = slots.saturating_sub(self.chosen.iter().filter(|c| **c).count());
        let pace = self.pace;
        let held = core::mem::take(&mut self.optimistic);
        let mut weights = 0;
        for (i, c) in candidates.iter().enumerate() {
            // A peer that got a slot just before this round keeps it: an unchoke lasts for one round at least.
            let young = c.unchoked && c.since + ROUND > cx.now;
            let over = pace.is_some_and(|pace| is_over(pace, c));
            let keeps = !over && (held.contains(&c.key) || full && young);
            if self.chosen[i] {
                // In a regular round, it has earned a regular slot.
                if !full && held.contains(&c.key) {
                    self.optimistic.push(c.key);
                }
            } else if c.interested && keeps && left > 0 {
                left -= 1;
                self.chosen[i] = true;
                self.optimistic.push(c.key);
            } else if c.interested {
                weights += weight(cx.now, pace, c);
            }
        }
        while left > 0 && weights > 0 {
            let mut at = cx.below(weights);
            for (i, c) in candidates.iter().enumerate() {
                if self.chosen[i] || !c.interested {
                    continue;
                }
                let weight = weight(cx.now, pace, c);
                if at < weight {
                    self.chosen[i] = true;
                    self.optimistic.push(c.key);
                    weights -= weight;
                    left -= 1;
                    break;
                }
                at -= weight;
            }
        }
        // No other peer waits, so a peer whose turn is over keeps its slot.
        for (i, c) in candidates.iter().enumerate() {
            if left > 0 && c.interested && !self.chosen[i] {
                left -= 1;
                self.chosen[i] = true;
                self.optimistic.push(c.key);
            }
        }
        self.vacant = left > 0;
    }
}

/// Whether a peer's turn is over, if others wait for its slot.
const fn is_over(pace: Pace, c: &Candidate) -> bool {
    c.unchoked && c.sent >= pace.turn()
}

/// The relative probability that a peer is unchoked optimistically.
fn weight(now: Instant, pace: Option<Pace>, c: &Candidate) -> u32 {
    if pace.is_some_and(|pace| is_over(pace, c)) {
        0
    } else if pace.is_some() && c.empty {
        EMPTY_WEIGHT
    } else if c.connected + NEW > now {
        NEW_WEIGHT
    } else {
        1
    }
}

/// The rank while downloading: the present rate from the peer and then, if that is 0, what it has sent so far. A slot that
/// is not earned at present goes to a peer that earned one before.
fn gift_rank(c: &Candidate) -> u64 {
    let bonus = if c.unchoked { c.down_rate / 8 } else { 0 };
    let rate = c.down_rate.saturating_add(bonus).min(MAX_RATE);
    rate << GIVEN_BITS | (c.given >> GIVEN_SHIFT).min((1 << GIVEN_BITS) - 1)
}

/// The bits of a rank for what the peer has sent so far, in units of 16 KiB. The others are for the rate.
const GIVEN_BITS: u32 = 24;
const GIVEN_SHIFT: u32 = 14;
const MAX_RATE: u64 = (1 << (64 - GIVEN_BITS)) - 1;

/// The rank while seeding: running turns first, then the choked peers by how long they waited, then ended turns. Under a
/// limit, peers without any piece wait least.
fn turn_rank(now: Instant, pace: Option<Pace>, c: &Candidate) -> u64 {
    match pace {
        Some(pace) if is_over(pace, c) => return 0,
        Some(_) if c.empty && !c.unchoked => return u64::MAX - 1,
        _ => {}
    }
    let waited = now.saturating_since(c.since);
    let turn = if c.up_rate > 0 { TURN } else { IDLE_TURN };
    if !c.unchoked {
        1 + waited.as_micros() as u64
    } else if waited < turn {
        u64::MAX
    } else {
        0
    }
}
