//! The choker: whom we upload to.
//!
//! Every ten seconds the slots are dealt anew.
//!
//! - While downloading: those who give us most get most of the slots (tit-for-tat); the rest,
//!   and whatever the givers leave, is *optimistic*: random peers, newcomers three times as
//!   likely, for thirty seconds each, so that better partners are found and newcomers get
//!   something to trade.
//! - While seeding: turns of a minute, whoever was choked longest next; a turn ends early for who
//!   takes nothing, and goes on if nobody waits. One slot in eight, at least one, is optimistic
//!   here, too.
//!
//! Under an upload limit slots that are not earned, the optimistic and those of a seed, go round after
//! a piece, see [`Pace`], and peers that have nothing yet come first: each of them is one more that
//! can pass pieces on.
//!
//! Between rounds free slots are filled and nobody else is choked, so peers do not flicker
//! (*fibrillation*); within a round whoever has a slot keeps it against rivals less than an eighth
//! better.

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::{cmp::Reverse, time::Duration};

use super::pace::Pace;
use super::picker::PeerKey;
use crate::{Cx, Instant};

/// Time between rounds: long enough for TCP to get up to speed, so that rates mean something.
pub const ROUND: Duration = Duration::from_secs(10);
/// How long an optimistic unchoke lasts: time to get a few pieces and give some back.
pub const OPTIMISTIC: Duration = Duration::from_secs(30);
/// A turn when seeding.
pub const TURN: Duration = Duration::from_secs(60);
/// A seeding turn ends after this if the peer takes nothing.
const IDLE_TURN: Duration = Duration::from_secs(20);
/// A peer is new for so long.
const NEW: Duration = Duration::from_secs(60);
/// How much likelier a new peer's optimistic unchoke is.
const NEW_WEIGHT: u32 = 3;
/// How much likelier the optimistic unchoke of a peer without a piece is, under an upload limit:
/// before all others in effect, in swarms of the usual size.
const EMPTY_WEIGHT: u32 = 64;
/// Fewest and most automatic slots.
const AUTO: core::ops::RangeInclusive<u64> = 4..=256;

/// How many peers are unchoked at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// So many; 0 uploads to nobody.
    Fixed(u32),
    /// As many as the upload rate feeds well: √(0.6 × KiB/s), at least 4, and at most
    /// [`Pace::slots`] under a limit.
    Auto,
}

/// A connected peer as the choker sees it. Rates in bytes per second.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Which.
    pub key: PeerKey,
    /// It wants something we have.
    pub interested: bool,
    /// It owes us blocks and has sent none for long: it gets no slot for giving.
    pub snubbed: bool,
    /// What it sends us.
    pub down_rate: u64,
    /// What it has sent us in all, in bytes.
    pub given: u64,
    /// What we send it.
    pub up_rate: u64,
    /// We upload to it.
    pub unchoked: bool,
    /// Since when it is unchoked, or choked.
    pub since: Instant,
    /// When it connected.
    pub connected: Instant,
    /// Payload it was sent since it was unchoked, in bytes.
    pub sent: u64,
    /// It has no piece yet, and has not had one's worth from us.
    pub empty: bool,
}

/// Deals the upload slots of one torrent.
#[derive(Debug)]
pub struct Choker {
    slots: Slots,
    pace: Option<Pace>,
    next_round: Option<Instant>,
    next_optimistic: Instant,
    /// Who holds an optimistic slot.
    optimistic: Vec<PeerKey>,
    /// The last round left a slot over, or one became free since.
    vacant: bool,
    /// Candidates looked at so far.
    work: u64,
    /// Per candidate of this round: whether it gets a slot.
    chosen: Vec<bool>,
    /// (rank, tie break, candidate), best first.
    ranking: Vec<(Reverse<u64>, u32, u32)>,
}

impl Choker {
    /// A choker; the first round is due at once.
    #[must_use]
    pub const fn new(slots: Slots) -> Self {
        Self {
            slots,
            pace: None,
            next_round: None,
            next_optimistic: Instant::ORIGIN,
            optimistic: Vec::new(),
            vacant: true,
            work: 0,
            chosen: Vec::new(),
            ranking: Vec::new(),
        }
    }

    /// Changes the number of slots, from the next round on.
    pub const fn set_slots(&mut self, slots: Slots) {
        self.slots = slots;
        self.vacant = true;
    }

    /// Says how uploads share their limit, if they have one.
    pub const fn set_pace(&mut self, pace: Option<Pace>) {
        self.pace = pace;
    }

    /// Whether a round before [`Choker::poll_timeout`] could give somebody a slot. A peer that
    /// becomes interested is worth a round only then: rounds look at every peer.
    #[must_use]
    pub const fn has_vacancy(&self) -> bool {
        self.vacant
    }

    /// A peer that had a slot is gone.
    pub const fn peer_gone(&mut self) {
        self.vacant = true;
    }

    /// How many candidates all rounds together have looked at: for tests of what a message costs.
    #[doc(hidden)]
    #[must_use]
    pub const fn work(&self) -> u64 {
        self.work
    }

    /// When the next round is due; `None` before the first: as soon as there is a peer.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.next_round
    }

    /// How many slots there are when we upload to these peers.
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

    /// Deals the slots. Appends only changes to `out`: (peer, unchoke). A call before
    /// [`Choker::poll_timeout`] fills free slots, and those of turns that are over: worth it when a peer
    /// becomes interested, and when one has been sent [`Pace::turn`].
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
            // Between rounds it is the turns of a seed that go round.
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

    /// Those with a claim to a regular slot, best first.
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

    /// Gives the slots that are left to those who hold an optimistic one, then to random others.
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
            // Who got a slot just before this round keeps it: unchokes last a round at least.
            let young = c.unchoked && c.since + ROUND > cx.now;
            let over = pace.is_some_and(|pace| is_over(pace, c));
            let keeps = !over && (held.contains(&c.key) || full && young);
            if self.chosen[i] {
                // In a full round it has earned a regular slot.
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

/// How likely its optimistic unchoke is, beside others.
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

/// Downloading: by what they give at present, then, where that is nothing, by what they gave: a
/// slot that no giver claims goes to one of old before it goes to somebody who never gave.
fn gift_rank(c: &Candidate) -> u64 {
    let bonus = if c.unchoked { c.down_rate / 8 } else { 0 };
    let rate = c.down_rate.saturating_add(bonus).min(MAX_RATE);
    rate << GIVEN_BITS | (c.given >> GIVEN_SHIFT).min((1 << GIVEN_BITS) - 1)
}

/// Bits of a rank for what was given in the past, in units of 16 KiB; the rest are for the rate.
const GIVEN_BITS: u32 = 24;
const GIVEN_SHIFT: u32 = 14;
const MAX_RATE: u64 = (1 << (64 - GIVEN_BITS)) - 1;

/// Seeding: running turns first, then the choked by how long they waited, then ended turns. Under a
/// limit those who have nothing wait least.
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
