//! Iterative searches: from the nodes we know to the nodes closest to a target (BEP 5).
//!
//! ```text
//!  add ──▶ Fresh ──poll_query──▶ Asked ──stall──▶ Stalled ──stall──▶ GivenUp
//!            ▲                     │                 │                  │
//!            └──────unsent─────────┤                 │                  │
//!                                  └────────replied──┴──▶ Replied ◀─────┘    failed ──▶ forgotten
//! ```
//!
//! Candidates are kept in order of distance. The speed of a search depends on how it treats the many
//! nodes that never answer: a query has *stalled* when nine of ten replies would have come by now. It then
//! no longer counts as under way, so the closest candidate that was not asked is asked in its place;
//! its reply still counts when it comes. The search is over when the 8 closest nodes that are alive have answered.
//!
//! Against nodes that lie: only nodes that have answered count for the end; there is one contact per
//! address and two per subnet; nodes whose id does not follow from their address (BEP 42) count for half of
//! the 8 at most. Once the network's size is known, so is the density of nodes around the
//! target. Liars that only name each other leave a hole in the key space behind them, and the search goes on
//! until it is filled; a crowd that is too dense makes it go on behind that crowd. Before the size is
//! known, a search follows several branches, and each must come to an end of its own.

mod candidate;
mod endpoint;
mod step;
mod tally;
#[cfg(test)]
mod tests;

use core::net::SocketAddr;
use core::time::Duration;

use candidate::{Candidate, NONE, State};
use endpoint::Endpoint;
use step::Step;
use tally::Tally;

use super::Contact;
use super::estimate::{SizeEstimate, top64};
use super::guard::is_martian;
use super::secure_id::is_secure;
use crate::{Instant, NodeId};

/// Candidates that are kept. Our choice: 80 find a little more where two of three are dead (7.4 of the
/// closest 8 instead of 7.2), at 1.5 KiB more.
const MAX_CANDIDATES: usize = 48;
/// The most queries of one search. Our choice: half more than a search takes when half of the nodes are dead.
const MAX_QUERIES: usize = 96;
/// Responders whose token is kept: more than 8, since some are announced to besides.
const MAX_STORES: usize = 16;
/// Longest token that is kept (see [`MAX_TOKEN`](crate::wire::krpc::MAX_TOKEN)).
const TOKEN_LEN: usize = crate::wire::krpc::MAX_TOKEN;
/// Branches that are followed to their ends (S/Kademlia: 4 to 8 withstand a fifth of liars).
const BRANCHES: u32 = 4;
/// Nodes of a reply that are looked at. Our choice: no honest reply has more.
const MAX_NODES_SEEN: usize = 32;
/// Nodes of a reply that can be accepted.
const MAX_PER_REPLY: usize = 16;
/// Contacts of one subnet at a time, unless the network is local.
const PER_SUBNET: usize = 2;
/// Stall times that are waited when nobody else is left to ask.
const PATIENCE: u32 = 4;

/// A value that [`Endpoint::owner`] never has.
const UNSENT: u32 = 0;

/// The parameters of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Our own id, which is never asked.
    pub own: NodeId,
    /// Closest nodes to find.
    pub k: u8,
    /// Nodes behind them that must have answered, too: they know some of the closest that the
    /// closest do not.
    pub ring: u8,
    /// Queries under way at once to nodes closer than the next: counted are those that have not
    /// stalled, the older ones for less.
    pub alpha: u8,
    /// The same near the target, where all are to be asked anyway.
    pub alpha_near: u8,
    /// Queries under way, not counting those given up.
    pub max_in_flight: u8,
    /// Nodes that are accepted from one reply, at most 16.
    pub per_reply: u8,
    /// Queries in all, at most 96.
    pub max_queries: u8,
    /// A private network: any address is good, and several nodes may share one.
    pub local: bool,
    /// The expected distance of the `k`-th closest node, from
    /// [`SizeEstimate::expected_kth_distance`].
    pub expected: Option<u64>,
}

impl Params {
    /// The default parameters.
    #[must_use]
    pub const fn new(own: NodeId, local: bool) -> Self {
        Self {
            own,
            k: 8,
            ring: 5,
            alpha: 6,
            alpha_near: 12,
            max_in_flight: 32,
            per_reply: 8,
            max_queries: MAX_QUERIES as u8,
            local,
            expected: None,
        }
    }
}

/// A node to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Names the query to [`Lookup::replied`] and [`Lookup::failed`].
    pub slot: u8,
    /// Where to send it.
    pub addr: SocketAddr,
    /// The id of the node, if known.
    pub id: Option<NodeId>,
}

/// One search in one family's key space.
#[derive(Clone, Debug)]
pub struct Lookup {
    target: NodeId,
    params: Params,
    start: Instant,
    /// The latest time passed in.
    now: Instant,
    stall: Duration,
    /// Closest first; those of unknown id last.
    candidates: heapless::Vec<Candidate, MAX_CANDIDATES>,
    /// Where each query went, as [`Endpoint::owner`]; [`UNSENT`] for one that was not sent.
    asked: heapless::Vec<u32, MAX_QUERIES>,
    tokens: [heapless::Vec<u8, TOKEN_LEN, u8>; MAX_STORES],
    /// Tokens in use, a bit each.
    tokens_used: u16,
    seeds: u32,
    contacted: u32,
    replied: u32,
    found: u32,
    done: bool,
    next: Option<Instant>,
}

impl Lookup {
    /// A search without candidates yet: see [`Lookup::add`].
    #[must_use]
    pub fn new(now: Instant, target: NodeId, params: Params) -> Self {
        Self {
            target,
            params,
            start: now,
            now,
            stall: Duration::from_secs(1),
            candidates: heapless::Vec::new(),
            asked: heapless::Vec::new(),
            tokens: core::array::from_fn(|_| heapless::Vec::new()),
            tokens_used: 0,
            seeds: 0,
            contacted: 0,
            replied: 0,
            found: 0,
            done: false,
            next: None,
        }
    }

    /// The target.
    #[must_use]
    pub const fn target(&self) -> &NodeId {
        &self.target
    }

    /// When the search began.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.start
    }

    /// A node to begin with: one of our own table, or a router, whose id is not known.
    pub fn add(&mut self, id: Option<NodeId>, addr: SocketAddr) {
        let branch = 1 << (self.seeds % BRANCHES);
        if self.accept(id.as_ref(), addr, branch) {
            self.seeds += 1;
            self.done = false;
        }
        self.settle();
    }

    /// The next node to ask, if one may be asked now; call until `None`. `stall` is how long an
    /// answer may take before another node is asked besides
    /// ([`Rtt::stall`](super::rtt::Rtt::stall)).
    pub fn poll_query(&mut self, now: Instant, stall: Duration) -> Option<Ask> {
        self.advance(now, Some(stall));
        let step = self.step();
        let ask = match step {
            Step::Ask(index) if !self.done => self.ask(index),
            _ => None,
        };
        self.settle();
        ask
    }

    /// A query returned by [`Lookup::poll_query`] could not be sent for lack of budget: its node counts as
    /// not asked, and is returned again.
    pub fn unsent(&mut self, slot: u8) {
        let Some(candidate) = self.open(slot).and_then(|i| self.candidates.get_mut(i)) else {
            return;
        };
        candidate.state = State::Fresh;
        candidate.ask = NONE;
        if let Some(asked) = self.asked.get_mut(usize::from(slot)) {
            *asked = UNSENT;
        }
        self.contacted = self.contacted.saturating_sub(1);
        self.settle();
    }

    /// The node of a query answered: with its id, the nodes it knows, a token to store by, and
    /// whether it had what is searched for.
    pub fn replied(
        &mut self,
        now: Instant,
        slot: u8,
        id: NodeId,
        nodes: impl Iterator<Item = Contact>,
        token: Option<&[u8]>,
        found: bool,
    ) {
        self.advance(now, None);
        let Some(index) = self.open(slot) else {
            self.settle();
            return;
        };
        if self.done {
            // The nodes to store at are chosen already: stores may be on their way.
            self.replied += 1;
            self.found += u32::from(found);
            return self.forget(index);
        }
        let Some(branches) = self.answered(index, id, token) else {
            self.forget(index);
            self.settle();
            return;
        };
        self.replied += 1;
        self.found += u32::from(found);
        for node in self.nearest(nodes) {
            self.accept(Some(&node.id), node.addr, branches);
        }
        self.settle();
    }

    /// The node of a query will not answer: it timed out, answered with an error, or could not be
    /// sent to.
    pub fn failed(&mut self, now: Instant, slot: u8) {
        self.advance(now, None);
        if let Some(index) = self.open(slot) {
            self.forget(index);
        }
        self.settle();
    }

    /// When the next query stalls, so that another may be asked or the search may be over; `None`
    /// if there is nothing to wait for.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Whether the closest nodes that are alive have answered, or no node is left to ask.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done || (self.asked.is_empty() && self.candidates.is_empty())
    }

    /// The nodes to announce or put to: the closest ones that answered with a token, and their
    /// tokens. Usually 8; more if the search had reason to look behind the closest.
    pub fn stores(&self) -> impl Iterator<Item = (SocketAddr, NodeId, &[u8])> {
        let mut tally = Tally::new(&self.params);
        self.responders()
            .take_while(move |candidate| {
                let before = tally;
                tally = before.with(candidate);
                !before.is_full()
            })
            .filter_map(|c| {
                let token = self.tokens.get(usize::from(c.token))?;
                Some((c.addr(), c.contact(&self.target).id, token.as_slice()))
            })
    }

    /// The closest nodes that answered, closest first.
    pub fn closest<const N: usize>(&self, out: &mut heapless::Vec<Contact, N>) {
        out.clear();
        out.extend(
            self.responders()
                .take(N)
                .map(|candidate| candidate.contact(&self.target)),
        );
    }

    /// Nodes that were asked.
    #[must_use]
    pub const fn contacted(&self) -> u32 {
        self.contacted
    }

    /// Nodes that answered.
    #[must_use]
    pub const fn replied_count(&self) -> u32 {
        self.replied
    }

    /// Nodes that had what is searched for.
    #[must_use]
    pub const fn found_count(&self) -> u32 {
        self.found
    }

    /// Whether the nodes that answered are closer to the target than chance would have them in a
    /// network of that size: somebody may have chosen their ids.
    #[must_use]
    pub fn is_suspicious(&self, size: &SizeEstimate) -> bool {
        let k = u32::from(self.params.k);
        let kth = self.responders().nth(usize::from(self.params.k.max(1)) - 1);
        let expected = size.expected_kth_distance(k);
        kth.zip(expected)
            .is_some_and(|(kth, expected)| tally::is_crowd(top64(&kth.dist), expected))
    }

    fn responders(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|c| c.state == State::Replied)
    }

    /// The candidate that a query is open to.
    fn open(&self, slot: u8) -> Option<usize> {
        self.candidates
            .iter()
            .position(|c| c.ask == slot && c.is_open())
    }

    /// Advances the time: queries stall, and are given up.
    fn advance(&mut self, now: Instant, stall: Option<Duration>) {
        self.now = self.now.max(now);
        self.stall = stall.unwrap_or(self.stall);
        let age = micros(self.now.saturating_since(self.start));
        let stall = micros(self.stall);
        for candidate in self.candidates.iter_mut().filter(|c| c.is_open()) {
            let waited = age.saturating_sub(candidate.sent);
            candidate.state = match candidate.state {
                State::Asked | State::Stalled if waited >= stall.saturating_mul(2) => {
                    State::GivenUp
                }
                State::Asked if waited >= stall => State::Stalled,
                other => other,
            };
        }
    }

    /// Notes that a candidate is asked.
    fn ask(&mut self, index: usize) -> Option<Ask> {
        let sent = micros(self.now.saturating_since(self.start));
        let candidate = self.candidates.get_mut(index)?;
        let owner = candidate.at.owner(self.params.local);
        let slot = match self.asked.iter().position(|&o| o == UNSENT) {
            Some(slot) => {
                *self.asked.get_mut(slot)? = owner;
                slot
            }
            None => {
                self.asked.push(owner).ok()?;
                self.asked.len() - 1
            }
        };
        candidate.ask = slot as u8;
        candidate.sent = sent;
        candidate.state = State::Asked;
        self.contacted += 1;
        Some(Ask {
            slot: slot as u8,
            addr: candidate.addr(),
            id: candidate.id(&self.target),
        })
    }

    /// Takes the answer of a candidate. Returns its branches, or `None` if its id is not the expected one.
    fn answered(&mut self, index: usize, id: NodeId, token: Option<&[u8]>) -> Option<u8> {
        let candidate = self.candidates.get(index)?;
        let dist = id.distance(&self.target);
        let unknown = candidate.id(&self.target).is_none();
        if (candidate.dist != dist && !unknown) || id == self.params.own {
            return None;
        }
        let mut candidate = self.candidates.remove(index);
        candidate.dist = dist;
        candidate.state = State::Replied;
        candidate.secure = self.params.local || is_secure(&id, candidate.at.ip());
        candidate.token = token.map_or(NONE, |token| self.keep_token(&dist, token));
        let branches = candidate.branches;
        let index = self.candidates.partition_point(|c| c.dist < dist);
        // There is room: it was taken out above.
        let _ = self.candidates.insert(index, candidate);
        Some(branches)
    }

    /// Keeps the token of a responder at `dist`, at the cost of the farthest if need be.
    fn keep_token(&mut self, dist: &[u8; 20], token: &[u8]) -> u8 {
        let Ok(token) = heapless::Vec::from_slice(token) else {
            return NONE;
        };
        let free = self.tokens_used.trailing_ones() as usize;
        let at = if free < MAX_STORES {
            free as u8
        } else {
            let farthest = self.candidates.iter_mut().rfind(|c| c.token != NONE);
            match farthest {
                Some(farther) if farther.dist > *dist => {
                    core::mem::replace(&mut farther.token, NONE)
                }
                _ => return NONE,
            }
        };
        let Some(place) = self.tokens.get_mut(usize::from(at)) else {
            return NONE;
        };
        *place = token;
        self.tokens_used |= 1 << at;
        at
    }

    /// The nodes of a reply that are closest to the target, as many as are accepted.
    fn nearest(
        &self,
        nodes: impl Iterator<Item = Contact>,
    ) -> heapless::Vec<Contact, MAX_PER_REPLY> {
        let most = usize::from(self.params.per_reply).min(MAX_PER_REPLY);
        let mut nearest = heapless::Vec::<Contact, MAX_PER_REPLY>::new();
        for node in nodes.take(MAX_NODES_SEEN) {
            let dist = node.id.distance(&self.target);
            let at = nearest
                .iter()
                .rposition(|n| n.id.distance(&self.target) <= dist)
                .map_or(0, |i| i + 1);
            if at < most {
                if nearest.len() >= most {
                    nearest.pop();
                }
                // There is room now.
                let _ = nearest.insert(at, node);
            }
        }
        nearest
    }

    /// Adds a node that a reply names, unless a rule forbids it.
    fn accept(&mut self, id: Option<&NodeId>, addr: SocketAddr, branches: u8) -> bool {
        let Params { own, local, .. } = self.params;
        if id == Some(&own) || is_martian(&addr, local) {
            return false;
        }
        let at = Endpoint::new(addr);
        let new = Candidate::new(
            id,
            &self.target,
            at,
            branches,
            local || id.is_some_and(|id| is_secure(id, at.ip())),
        );
        let (owner, subnet) = (at.owner(local), at.subnet());
        let mut neighbours = 0;
        for known in &mut self.candidates {
            if known.at.owner(local) == owner {
                // Named by one branch more, if it is the same node.
                if known.at == at && known.dist == new.dist {
                    known.branches |= branches;
                }
                return false;
            }
            neighbours += usize::from(known.at.subnet() == subnet);
        }
        if (neighbours >= PER_SUBNET && !local) || self.asked.contains(&owner) {
            return false;
        }
        if self.candidates.is_full() && !self.make_room(&new.dist) {
            return false;
        }
        let index = self.candidates.partition_point(|c| c.dist <= new.dist);
        self.candidates.insert(index, new).is_ok()
    }

    /// Makes room for a candidate at `dist`: of those given up, the one that was silent for longest is
    /// removed; otherwise the farthest, if it is farther.
    fn make_room(&mut self, dist: &[u8; 20]) -> bool {
        let given_up = |(_, c): &(usize, &Candidate)| c.state == State::GivenUp;
        let farther = |c: &Candidate| !c.is_open() && c.dist > *dist;
        let all = self.candidates.iter().enumerate();
        let silent = all.filter(given_up).min_by_key(|(_, c)| c.sent);
        let index = silent
            .map(|(index, _)| index)
            .or_else(|| self.candidates.iter().rposition(farther));
        if let Some(index) = index {
            self.forget(index);
        }
        index.is_some()
    }

    fn forget(&mut self, index: usize) {
        if index < self.candidates.len() {
            let gone = self.candidates.remove(index);
            if gone.token != NONE {
                self.tokens_used &= !(1 << gone.token);
            }
        }
    }
}

/// Microseconds in 32 bits: a search is over long before they run out.
fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
