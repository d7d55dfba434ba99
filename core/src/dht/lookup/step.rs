//! Whom to ask next, and when it is over.

use core::time::Duration;

use super::candidate::State;
use super::tally::Tally;
use super::{BRANCHES, Lookup, MAX_QUERIES, PATIENCE, micros};

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
                    busy += 1;
                    waits = true;
                }
                State::Stalled => waits = true,
                State::GivenUp => {}
                State::Fresh => {
                    fresh = Some(index);
                    break;
                }
            }
            if tally.is_full() {
                break;
            }
        }
        if !tally.is_full() && fresh.is_none() {
            let patience = micros(self.stall).saturating_mul(PATIENCE);
            let age = micros(self.now.saturating_since(self.start));
            waits |= self.candidates.iter().any(|c| {
                c.is_open() && (self.replied == 0 || age.saturating_sub(c.sent) < patience)
            });
        }
        if fresh.is_none() && tally.is_full() {
            for branch in 0..BRANCHES {
                match self.branch(1 << branch) {
                    Step::Ask(index) => fresh = fresh.or(Some(index)),
                    Step::Wait => waits = true,
                    Step::End => {}
                }
            }
        }
        let in_flight = self
            .candidates
            .iter()
            .filter(|c| matches!(c.state, State::Asked | State::Stalled))
            .count();
        let exhausted = self.contacted >= u32::from(self.params.max_queries)
            || self.contacted as usize >= MAX_QUERIES;
        match fresh {
            Some(index) if !exhausted => {
                if busy < self.params.alpha && in_flight < usize::from(self.params.max_in_flight) {
                    Step::Ask(index)
                } else {
                    Step::Wait
                }
            }
            _ if waits || (exhausted && in_flight > 0) => Step::Wait,
            _ => Step::End,
        }
    }

    /// Whether a branch has come to an end of its own: its closest two have answered.
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
                State::Asked | State::Stalled => waits = true,
                State::GivenUp => {}
                State::Fresh if waits => return Step::Wait,
                State::Fresh => return Step::Ask(index),
            }
            if ends == ENDS {
                break;
            }
        }
        if waits { Step::Wait } else { Step::End }
    }

    /// After anything happened: whether the search is over, and when to look again.
    pub(super) fn settle(&mut self) {
        self.done = self.done || (!self.asked.is_empty() && matches!(self.step(), Step::End));
        self.next = None;
        if self.done {
            return;
        }
        let stall = micros(self.stall);
        let now = micros(self.now.saturating_since(self.start));
        let next = self
            .candidates
            .iter()
            .filter_map(|c| {
                let times = match c.state {
                    State::Asked => 1,
                    State::Stalled => 2,
                    State::GivenUp => PATIENCE,
                    State::Fresh | State::Replied => return None,
                };
                Some(c.sent.saturating_add(stall.saturating_mul(times)))
            })
            .filter(|&at| at > now)
            .min();
        self.next = next.map(|at| self.start + Duration::from_micros(at.into()));
    }
}
