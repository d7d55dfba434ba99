//! A node that a search knows of.

use core::net::SocketAddr;

use super::endpoint::Endpoint;
use crate::NodeId;
use crate::dht::Contact;

/// What became of the query to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not asked.
    Fresh,
    /// Asked less than one stall time ago.
    Asked,
    /// Silent for a stall time: another may be asked in its place.
    Stalled,
    /// Silent for two: the search ends without it, but takes its answer if it comes.
    GivenUp,
    /// Answered.
    Replied,
}

/// No query or token.
pub(super) const NONE: u8 = u8::MAX;
/// The distance of those whose id is not known: after all others.
const UNKNOWN: [u8; 20] = [u8::MAX; 20];

/// A node that a search knows of. Its distance is kept in place of its id.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) dist: [u8; 20],
    pub(super) at: Endpoint,
    /// When it was asked, in µs since the search began.
    pub(super) sent: u32,
    /// Number of the query that asked it.
    pub(super) ask: u8,
    /// Where its token is kept.
    pub(super) token: u8,
    pub(super) state: State,
    /// The branches of the search that lead to it, a bit each.
    pub(super) branches: u8,
    /// Its id follows from its address (BEP 42).
    pub(super) secure: bool,
}

impl Candidate {
    pub(super) fn new(
        id: Option<&NodeId>,
        target: &NodeId,
        at: Endpoint,
        branches: u8,
        secure: bool,
    ) -> Self {
        Self {
            dist: id.map_or(UNKNOWN, |id| id.distance(target)),
            at,
            sent: 0,
            ask: NONE,
            token: NONE,
            state: State::Fresh,
            branches,
            secure,
        }
    }

    /// Its id, if it is known.
    pub(super) fn id(&self, target: &NodeId) -> Option<NodeId> {
        (self.dist != UNKNOWN).then(|| NodeId(NodeId(self.dist).distance(target)))
    }

    pub(super) fn contact(&self, target: &NodeId) -> Contact {
        Contact {
            id: NodeId(NodeId(self.dist).distance(target)),
            addr: self.addr(),
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.at.addr()
    }

    /// Asked, and neither answered nor failed.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Asked | State::Stalled | State::GivenUp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_is_small() {
        assert!(size_of::<Candidate>() <= 48);
    }
}
