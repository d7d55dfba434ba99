//! Which candidate a search asks next, and when it is over.

use core::time::Duration;

use super::candidate::{Candidate, State};
use super::tally::Tally;
use super::{BRANCHES, Lookup, MAX_QUERIES, PATIENCE, Params, micros};
use crate::dht::estimate::top64;

/// How much a query under way counts that was sent less than half a stall time ago.
const WEIGHT: u32 = 4;
/// How much an older one counts.
const WEIGHT_LATE: u32 = 1;
/// A candidate is near the target if it is closer than this many times the distance of the k-th closest node. Our
/// choice: when half of the nodes are dead, that many are asked in any case.
const NEAR: u64 = 4;

/// What a search should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Ask(usize),
    Wait,
    End,
}

impl Lookup {
    /// What to do now: walks from the closest candidate outwards.
    pub(super) fn step(&self) -> Step {
        let mut tally = Tally::new(&self.params);
        let (mut busy, mut waits) = (0, false);
        let mut fresh = None;
        for (index, candidate) in self.candidates.iter().enumerate() {
            match candidate.state {
                State::Replied => tally = tally.with(candidate),
                State::Asked => {
                    busy += self.weight(candidate);
                    waits = true;
                }
                // The ring behind the closest is optional, so its silent nodes are not waited for.
                State::Stalled => waits |= !tally.is_full(),
                State::GivenUp => {}
                State::Fresh => {
                    fresh = Some(index);
                    break;
                }
            }
            if tally.is_ended() {
                break;
            }
        }
        if fresh.is_none() && !tally.is_full() {
            waits |= self.candidates.iter().any(|c| self.is_hope(c));
        }
        if fresh.is_none() && self.params.expected.is_none() {
            for branch in 0..BRANCHES {
                match self.branch(1 << branch) {
                    Step::Ask(index) => fresh = fresh.or(Some(index)),
                    Step::Wait => waits = true,
                    Step::End => {}
                }
            }
        }
        match fresh {
            Some(index) if !self.is_exhausted() => {
                if busy < self.alpha(index) && self.in_flight() < self.params.max_in_flight.into() {
                    Step::Ask(index)
                } else {
                    Step::Wait
                }
            }
            Some(_) if self.in_flight() > 0 => Step::Wait,
            _ if waits => Step::Wait,
            _ => Step::End,
        }
    }

    /// How much a query under way counts, in quarters: the longer it takes, the less likely it is
    /// to be answered.
    fn weight(&self, candidate: &Candidate) -> u32 {
        if self.age().saturating_sub(candidate.sent) < micros(self.stall) / 2 {
            WEIGHT
        } else {
            WEIGHT_LATE
        }
    }

    /// How much may be under way to candidates closer than this one.
    fn alpha(&self, index: usize) -> u32 {
        let Params {
            alpha, alpha_near, ..
        } = self.params;
        let distance = self.candidates.get(index).map(|c| top64(&c.dist));
        let near = self.params.expected.map(|e| e.saturating_mul(NEAR));
        let alpha = if distance.zip(near).is_some_and(|(d, near)| d < near) {
            alpha_near
        } else {
            alpha
        };
        u32::from(alpha) * WEIGHT
    }

    /// Whether this candidate may still answer when nobody else is left.
    fn is_hope(&self, candidate: &Candidate) -> bool {
        let patience = micros(self.stall).saturating_mul(PATIENCE);
        let waited = self.age().saturating_sub(candidate.sent);
        candidate.is_open() && (self.replied == 0 || waited < patience)
    }

    fn in_flight(&self) -> usize {
        self.candidates
            .iter()
            .filter(|c| matches!(c.state, State::Asked | State::Stalled))
            .count()
    }

    fn is_exhausted(&self) -> bool {
        let most = usize::from(self.params.max_queries).min(MAX_QUERIES);
        self.contacted as usize >= most
    }

    /// Time since the search began.
    fn age(&self) -> u32 {
        micros(self.now.saturating_since(self.start))
    }

    /// What a branch needs to come to its own end, which is when its closest two have answered.
    fn branch(&self, bit: u8) -> Step {
        const ENDS: u8 = 2;
        let mut ends = 0;
        let mut waits = false;
        for (index, candidate) in self.candidates.iter().enumerate() {
            if candidate.branches & bit == 0 {
                continue;
            }
            match candidate.state {
                State::Replied => ends += 1,
                State::Asked => waits = true,
                State::Stalled | State::GivenUp => {}
                State::Fresh if waits => return Step::Wait,
                State::Fresh => return Step::Ask(index),
            }
            if ends == ENDS {
                break;
            }
        }
        if waits { Step::Wait } else { Step::End }
    }

    /// Decides whether the search is over, and when to look again; called after every change.
    pub(super) fn settle(&mut self) {
        self.done = self.done || (!self.asked.is_empty() && matches!(self.step(), Step::End));
        self.next = None;
        if self.done {
            return;
        }
        let stall = micros(self.stall);
        let now = self.age();
        let next = self
            .candidates
            .iter()
            .filter_map(|c| {
                // When it counts for less, stalls, is given up, and cannot help any more.
                let waits = match c.state {
                    State::Asked => [stall / 2, stall],
                    State::Stalled => [stall.saturating_mul(2); 2],
                    State::GivenUp => [stall.saturating_mul(PATIENCE); 2],
                    State::Fresh | State::Replied => return None,
                };
                let mut times = waits.into_iter().map(|wait| c.sent.saturating_add(wait));
                times.find(|&at| at > now)
            })
            .min();
        self.next = next.map(|at| self.start + Duration::from_micros(at.into()));
    }
}
