//! Nodes that answered but found no place in the table; they replace nodes that fail.

use alloc::vec::Vec;

use super::K;
use super::entry::{Entry, State, Tick, endpoint, head, id, ip, subnet};
use crate::NodeId;

/// A candidate that was not heard of for this many seconds may be gone. Our choice: the median session of a node,
/// after which it is alive with even odds.
const STALE: u32 = 15 * 60;
/// After this many seconds it is forgotten.
const FORGOTTEN: u32 = 60 * 60;

/// What is kept of a candidate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<const S: usize> {
    pub(super) node: [u8; S],
    rtt: u8,
    secure: bool,
    heard: u32,
}

/// The order of preference, lowest first: recently heard of, a secure id (BEP 42), in a gap, near.
pub(super) type Rank = (bool, bool, bool, u8);

impl<const S: usize> Candidate<S> {
    fn new(entry: &Entry<S>) -> Self {
        Self {
            node: entry.node,
            rtt: entry.rtt,
            secure: entry.state.has(State::SECURE),
            heard: entry.heard,
        }
    }

    pub(super) fn rank(&self, seconds: u32, diverse: bool) -> Rank {
        let stale = seconds.saturating_sub(self.heard) > STALE;
        (stale, !self.secure, !diverse, self.rtt)
    }

    /// The candidate as an entry of the table.
    pub(super) fn entry(&self) -> Entry<S> {
        let state = State::default().answered();
        Entry {
            node: self.node,
            heard: self.heard,
            asked: Tick::at(self.heard),
            rtt: self.rtt,
            state: if self.secure {
                state.with(State::SECURE)
            } else {
                state
            },
        }
    }

    /// How many leading bits it shares with us, 64 at most.
    fn depth(&self, own: u64) -> u32 {
        (head(&id(&self.node)) ^ own).leading_zeros()
    }
}

/// Candidates of one depth, at most. The buckets far from us cover most of the network: what is
/// kept beside them also shortens the first step of a search. Not more, since most that answer
/// are far, and would fill the list.
const fn most(depth: u32) -> usize {
    match depth {
        0 => 5 * K,
        1 => 4 * K,
        2 => 2 * K,
        _ => K,
    }
}

/// At most `max` candidates, and at most [`most`] of one depth.
#[derive(Clone, Debug)]
pub(super) struct Candidates<const S: usize> {
    list: Vec<Candidate<S>>,
    max: usize,
}

impl<const S: usize> Candidates<S> {
    pub(super) const fn new(max: u16) -> Self {
        Self {
            list: Vec::new(),
            max: max as usize,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Candidate<S>)> {
        self.list.iter().enumerate()
    }

    /// The candidates that were heard of recently.
    pub(super) fn fresh(&self, seconds: u32) -> impl Iterator<Item = &[u8; S]> {
        let fresh = move |c: &&Candidate<S>| seconds.saturating_sub(c.heard) <= STALE;
        self.list.iter().filter(fresh).map(|c| &c.node)
    }

    pub(super) fn remove(&mut self, i: usize) -> Option<Candidate<S>> {
        (i < self.list.len()).then(|| self.list.swap_remove(i))
    }

    /// Removes the candidate with this id or this endpoint.
    pub(super) fn forget(&mut self, node: &[u8; S]) {
        self.list
            .retain(|c| id(&c.node) != id(node) && endpoint(&c.node) != endpoint(node));
    }

    /// Removes the candidate with this id, which is ours now.
    pub(super) fn forget_id(&mut self, own: &NodeId) {
        self.list.retain(|c| id(&c.node) != *own);
    }

    /// Removes the candidate with this endpoint, which did not answer.
    pub(super) fn forget_endpoint(&mut self, at: &[u8]) {
        self.list.retain(|c| endpoint(&c.node) != at);
    }

    pub(super) fn expire(&mut self, seconds: u32) {
        self.list
            .retain(|c| seconds.saturating_sub(c.heard) <= FORGOTTEN);
    }

    /// Keeps a node that answered, if it is better than what would have to go.
    pub(super) fn offer(&mut self, entry: &Entry<S>, own: u64, seconds: u32, local: bool) -> bool {
        let new = Candidate::new(entry);
        self.forget(&new.node);
        let depth = new.depth(own);
        // One candidate for each address, and one for each subnet at this depth.
        if !local
            && self.list.iter().any(|c| {
                ip(&c.node) == ip(&new.node)
                    || (subnet(&c.node) == subnet(&new.node) && c.depth(own) == depth)
            })
        {
            return false;
        }
        let mut count = [0u8; 65];
        for c in &self.list {
            count[c.depth(own) as usize] += 1;
        }
        let mine = count[depth as usize];
        let crowd = if usize::from(mine) >= most(depth) {
            depth
        } else if self.list.len() < self.max {
            if self.list.len() == self.list.capacity() {
                // In small steps: doubling would leave half of the memory unused.
                self.list.reserve_exact(K.min(self.max - self.list.len()));
            }
            self.list.push(new);
            return true;
        } else {
            // Depths with more candidates than a bucket holds give way first.
            (0u32..)
                .zip(count)
                .max_by_key(|(_, n)| *n)
                .map_or(depth, |(depth, _)| depth)
        };
        let same = usize::from(mine) >= most(depth) || count[crowd as usize] <= mine;
        let crowd = if same && mine > 0 { depth } else { crowd };
        let worst = self
            .list
            .iter_mut()
            .filter(|c| c.depth(own) == crowd)
            .max_by_key(|c| c.rank(seconds, false));
        match worst {
            Some(worst)
                if crowd != depth || worst.rank(seconds, false) > new.rank(seconds, false) =>
            {
                *worst = new;
                true
            }
            _ => false,
        }
    }
}
