//! When enough nodes have answered.

use super::Params;
use super::candidate::Candidate;
use crate::dht::estimate::top64;

/// How much closer than expected the k-th node may be. Our choice: chance alone does this once in 4 000
/// searches (a Poisson count of 8 where 1.6 are expected).
const CROWD: u64 = 5;

/// How much farther than expected the last node of the ring may be. Our choice: chance alone does this
/// once in 200 searches (a Poisson count below 12 where 24 are expected), and then costs queries.
const HOLE: u64 = 2;

/// Whether a k-th node at `distance` is closer than chance would have it.
pub(super) const fn is_crowd(distance: u64, expected: u64) -> bool {
    distance < expected / CROWD
}

/// Counts the nodes that answered, from the closest outwards, until they are enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    k: u8,
    ring: u8,
    expected: Option<u64>,
    /// Nodes that count.
    counted: u8,
    /// Nodes whose id does not follow from their address (BEP 42).
    insecure: u8,
    all: u8,
    /// The k-th node is too close.
    crowd: bool,
    /// The last node is too far: nodes between it and the target are missing.
    hole: bool,
    full: bool,
}

impl Tally {
    pub(super) const fn new(params: &Params) -> Self {
        Self {
            k: params.k,
            ring: params.ring,
            expected: params.expected,
            counted: 0,
            insecure: 0,
            all: 0,
            crowd: false,
            hole: false,
            full: params.k == 0,
        }
    }

    /// Whether the closest nodes are found.
    pub(super) const fn is_full(&self) -> bool {
        self.full
    }

    /// Whether the ring around them is found, too.
    pub(super) const fn is_ended(&self) -> bool {
        self.full && !self.hole && self.all >= self.k.saturating_add(self.ring)
    }

    /// Counts one more node that answered, farther than those before.
    pub(super) fn with(mut self, candidate: &Candidate) -> Self {
        let distance = top64(&candidate.dist);
        self.all = self.all.saturating_add(1);
        if candidate.secure || self.insecure < self.k / 2 {
            self.counted = self.counted.saturating_add(1);
        }
        self.insecure = self.insecure.saturating_add(u8::from(!candidate.secure));
        self.hole = self.expected.is_some_and(|expected| {
            let gap = expected / u64::from(self.k.max(1));
            distance / HOLE > gap.saturating_mul(self.all.into())
        });
        if self.all == self.k {
            self.crowd = self
                .expected
                .is_some_and(|expected| is_crowd(distance, expected));
        }
        self.full = if self.crowd {
            // The honest nodes are behind the crowd.
            self.all >= self.k.saturating_mul(2) || self.expected.is_some_and(|e| distance > e)
        } else {
            self.counted >= self.k || self.all >= self.k.saturating_add(self.k / 2)
        };
        self
    }
}
