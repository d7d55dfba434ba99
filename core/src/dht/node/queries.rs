//! Our queries that await their reply.
//!
//! A transaction id has 4 bytes: nodes of the `mainline` crate answer no others. They are 16 random
//! bits, then the slot, masked with a keyed hash of those bits and of the endpoint that is asked. A
//! reply counts only if all of them match and it comes from that endpoint.
//!
//! Whoever is not on the path and forges the reply of an endpoint has to guess all
//! 32 bits: the mask is as good as random without the key, and what we send to other endpoints tells
//! nothing of it. With n queries awaiting a reply of one endpoint a forged datagram hits with a
//! probability of n·2⁻³²; `Guard::may_send` keeps n below 20. So 100 000 datagrams a second for the
//! 5 s of [`TIMEOUT`] hit one query with a probability of 1.2·10⁻⁴, and only if the attacker
//! knows our port and the endpoint we asked. A hit gains no more than any node gains that is asked: one reply.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use crate::dht::guard::hash_endpoint;
use crate::dht::{LookupId, PingId};
use crate::{Cx, Instant, NodeId};

/// The time after which a query has failed. Searches go on earlier, by their own stall timer; 98 % of the
/// nodes that answer at all do so within 2 s.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// Slots that are there from the start. Our choice: as many as a node with little memory may have, so that
/// it never needs the old and the new ones at once while they grow.
const FEW: u16 = 64;
/// Bytes of our transaction ids.
pub(super) const TID_LEN: usize = 4;
const NONE: u16 = u16::MAX;

/// What a query is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// A ping; with an id, for the owner of the node.
    Ping(Option<PingId>),
    /// Nodes for a bucket.
    Refresh { target: NodeId },
    /// A step of a search.
    Step {
        search: LookupId,
        v6: bool,
        slot: u8,
    },
    /// The end of a search: announce or put at the `nth` of its stores.
    Store { search: LookupId, v6: bool, nth: u8 },
    /// Samples for the owner.
    Sample { target: NodeId },
}

/// One query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query {
    pub(super) task: Task,
    pub(super) addr: SocketAddr,
    /// The id of the node, if known.
    pub(super) id: Option<NodeId>,
    /// When it was sent; `None` while it waits to be sent.
    pub(super) sent: Option<Instant>,
    /// The random part of its transaction id.
    nonce: u16,
    /// Neighbours in the order of sending.
    prev: u16,
    next: u16,
}

/// All of them, at most as many as there are slots.
#[derive(Debug)]
pub(super) struct Queries {
    /// The key of the hash that masks slots.
    key: (u64, u64),
    slots: Vec<Option<Query>>,
    max: u16,
    free: Vec<u16>,
    /// Sent first and last: they time out in this order.
    head: u16,
    tail: u16,
    len: u16,
}

impl Queries {
    /// At most `max` queries; `key` is drawn from the node's randomness.
    pub(super) fn new(key: (u64, u64), max: u16) -> Self {
        let max = max.clamp(1, NONE - 1);
        let few = usize::from(max.min(FEW));
        Self {
            key,
            slots: Vec::with_capacity(few),
            max,
            free: Vec::with_capacity(few),
            head: NONE,
            tail: NONE,
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> u16 {
        self.len
    }

    pub(super) const fn is_full(&self) -> bool {
        self.len >= self.max
    }

    /// Makes a query that is still to be sent; `None` if there are too many.
    pub(super) fn open(
        &mut self,
        cx: &mut Cx<'_>,
        task: Task,
        addr: SocketAddr,
        id: Option<NodeId>,
    ) -> Option<u16> {
        let query = Query {
            task,
            addr,
            id,
            sent: None,
            nonce: (cx.rng.next_u32() >> 16) as u16,
            prev: NONE,
            next: NONE,
        };
        let slot = if let Some(slot) = self.free.pop() {
            *self.slots.get_mut(usize::from(slot))? = Some(query);
            slot
        } else {
            let slot = u16::try_from(self.slots.len())
                .ok()
                .filter(|s| *s < self.max)?;
            self.slots.push(Some(query));
            slot
        };
        self.len += 1;
        Some(slot)
    }

    pub(super) fn get(&self, slot: u16) -> Option<&Query> {
        self.slots.get(usize::from(slot))?.as_ref()
    }

    fn get_mut(&mut self, slot: u16) -> Option<&mut Query> {
        self.slots.get_mut(usize::from(slot))?.as_mut()
    }

    /// The bytes that a reply has to repeat.
    pub(super) fn tid(&self, slot: u16) -> [u8; TID_LEN] {
        let Some(query) = self.get(slot) else {
            return [0; TID_LEN];
        };
        let masked = slot ^ self.mask(query.nonce, &query.addr);
        let ([a, b], [c, d]) = (query.nonce.to_be_bytes(), masked.to_be_bytes());
        [a, b, c, d]
    }

    fn mask(&self, nonce: u16, addr: &SocketAddr) -> u16 {
        hash_endpoint((self.key.0 ^ u64::from(nonce), self.key.1), addr) as u16
    }

    /// The query is sent now.
    pub(super) fn sent(&mut self, now: Instant, slot: u16) {
        let tail = self.tail;
        let Some(query) = self.get_mut(slot).filter(|q| q.sent.is_none()) else {
            return;
        };
        (query.sent, query.prev) = (Some(now), tail);
        match self.get_mut(tail) {
            Some(last) => last.next = slot,
            None => self.head = slot,
        }
        self.tail = slot;
    }

    /// The query that a reply with this id from there answers.
    pub(super) fn find(&self, tid: &[u8], from: SocketAddr) -> Option<u16> {
        let [a, b, c, d] = <[u8; TID_LEN]>::try_from(tid).ok()?;
        let nonce = u16::from_be_bytes([a, b]);
        let slot = u16::from_be_bytes([c, d]) ^ self.mask(nonce, &from);
        let query = self.get(slot)?;
        let matches = query.nonce == nonce && query.addr == from && query.sent.is_some();
        matches.then_some(slot)
    }

    /// The query that was sent last to `addr` and awaits its reply.
    pub(super) fn last_to(&self, addr: SocketAddr) -> Option<u16> {
        let mut slot = self.tail;
        while let Some(query) = self.get(slot) {
            if query.addr == addr {
                return Some(slot);
            }
            slot = query.prev;
        }
        None
    }

    /// Ends a query.
    pub(super) fn close(&mut self, slot: u16) -> Option<Query> {
        let query = self.slots.get_mut(usize::from(slot))?.take()?;
        self.len -= 1;
        self.free.push(slot);
        if query.sent.is_some() {
            match self.get_mut(query.prev) {
                Some(prev) => prev.next = query.next,
                None => self.head = query.next,
            }
            match self.get_mut(query.next) {
                Some(next) => next.prev = query.prev,
                None => self.tail = query.prev,
            }
        }
        Some(query)
    }

    /// When the oldest times out.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        Some(self.get(self.head)?.sent? + TIMEOUT)
    }

    /// The oldest, if it has timed out.
    pub(super) fn pop_timeout(&mut self, now: Instant) -> Option<Query> {
        if self.next_timeout()? > now {
            return None;
        }
        self.close(self.head)
    }

    /// The step that has been silent for longest, if that is longer than `patience`: others need
    /// its place.
    pub(super) fn pop_silent(&mut self, now: Instant, patience: Duration) -> Option<Query> {
        let mut slot = self.head;
        while let Some(query) = self.get(slot) {
            if query.sent? + patience > now {
                return None;
            }
            if matches!(query.task, Task::Step { .. }) {
                return self.close(slot);
            }
            slot = query.next;
        }
        None
    }

    /// Gives up steps of a search that is through, until there is room for so many queries more.
    pub(super) fn make_room(&mut self, id: LookupId, wanted: u16) {
        for slot in 0..self.slots.len() as u16 {
            if self.max - self.len >= wanted {
                return;
            }
            let step = |q: &Query| matches!(q.task, Task::Step { search, .. } if search == id);
            if self.get(slot).is_some_and(|q| q.sent.is_some() && step(q)) {
                self.close(slot);
            }
        }
    }

    /// Ends all queries.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.key, self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    fn addr(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 6881))
    }

    #[test]
    fn only_the_endpoint_that_was_asked_answers_and_only_what_was_asked() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut cx = Cx {
            now: Instant::ORIGIN,
            rng: &mut rng,
        };
        let mut queries = Queries::new((1, 2), 4);
        let slot = queries
            .open(&mut cx, Task::Ping(None), addr(1), None)
            .unwrap();
        let tid = queries.tid(slot);
        assert_eq!(queries.find(&tid, addr(1)), None, "not sent yet");
        assert_eq!(queries.last_to(addr(1)), None);
        queries.sent(cx.now, slot);
        assert_eq!(queries.last_to(addr(1)), Some(slot));
        assert_eq!(queries.last_to(addr(2)), None);
        assert_eq!(queries.find(&tid, addr(1)), Some(slot));
        assert_eq!(queries.find(&tid, addr(2)), None);
        assert_eq!(
            queries.find(&tid, SocketAddr::from(([192, 0, 2, 1], 6882))),
            None
        );
        assert_eq!(queries.find(&tid[..3], addr(1)), None);
        assert_eq!(queries.find(&[&tid[..], &[0]].concat(), addr(1)), None);
        for bit in 0..32 {
            let mut forged = tid;
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(queries.find(&forged, addr(1)), None, "bit {bit}");
        }
        queries.close(slot);
        assert_eq!(queries.find(&tid, addr(1)), None, "answered once");
    }

    /// The next query to the same endpoint takes the same slot.
    #[test]
    fn a_reply_that_comes_too_late_does_not_answer_the_next_query() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut cx = Cx {
            now: Instant::ORIGIN,
            rng: &mut rng,
        };
        let mut queries = Queries::new((1, 2), 4);
        let mut ask = |queries: &mut Queries| {
            let slot = queries.open(&mut cx, Task::Ping(None), addr(1), None);
            queries.sent(cx.now, slot.unwrap());
            (slot, queries.tid(slot.unwrap()))
        };
        let (slot, late) = ask(&mut queries);
        queries.close(slot.unwrap());
        let (again, next) = ask(&mut queries);
        assert_eq!(again, slot);
        assert_eq!(queries.find(&late, addr(1)), None);
        assert_eq!(queries.find(&next, addr(1)), slot);
    }

    /// Slots are assigned in order: the transaction id that one node sees must not tell those that others see.
    #[test]
    fn all_bits_of_a_transaction_id_differ_from_endpoint_to_endpoint() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let now = Instant::ORIGIN;
        let mut queries = Queries::new((1, 2), 256);
        let mut ones = [0; 32];
        for n in 0..=255 {
            let rng = &mut rng;
            let open = queries.open(&mut Cx { now, rng }, Task::Ping(None), addr(n), None);
            let tid = u32::from_be_bytes(queries.tid(open.unwrap()));
            for (bit, ones) in ones.iter_mut().enumerate() {
                *ones += tid >> bit & 1;
            }
        }
        // A fair coin is outside of these bounds once in 10⁵ runs of 256.
        assert!(ones.iter().all(|n| (93..=163).contains(n)), "{ones:?}");
    }

    quickcheck! {
        /// Against a plain list: order of timeouts, cap, counting.
        fn behaves_like_a_list(steps: Vec<(u8, u8)>) -> bool {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let mut queries = Queries::new((1, 2), 8);
            let (mut open, mut sent): (Vec<u16>, Vec<(u16, Instant)>) = Default::default();
            let mut now = Instant::ORIGIN;
            let step = Task::Step { search: LookupId(0), v6: false, slot: 0 };
            for (what, which) in steps {
                now += Duration::from_millis(u64::from(which) * 20);
                match what % 5 {
                    0 => {
                        let mut cx = Cx { now, rng: &mut rng };
                        let task = if which % 2 == 0 { step } else { Task::Ping(None) };
                        let got = queries.open(&mut cx, task, addr(which), None);
                        assert_eq!(got.is_some(), open.len() + sent.len() < 8);
                        open.extend(got);
                    }
                    1 if !open.is_empty() => {
                        let slot = open.remove(usize::from(which) % open.len());
                        queries.sent(now, slot);
                        sent.push((slot, now));
                    }
                    2 if !sent.is_empty() => {
                        let (slot, _) = sent.remove(usize::from(which) % sent.len());
                        assert!(queries.close(slot).is_some());
                    }
                    3 => {
                        let patience = Duration::from_millis(200);
                        let late = |(slot, at): &(u16, Instant)| {
                            let query = queries.get(*slot).unwrap();
                            *at + patience <= now && query.task == step
                        };
                        let late = sent.iter().position(late).map(|i| sent.remove(i).0);
                        let addr = late.and_then(|slot| Some(queries.get(slot)?.addr));
                        let got = queries.pop_silent(now, patience);
                        assert_eq!(got.map(|q| q.addr), addr);
                    }
                    _ => {
                        while queries.pop_timeout(now).is_some() {
                            assert!(sent.remove(0).1 + TIMEOUT <= now);
                        }
                        assert!(sent.first().is_none_or(|(_, at)| *at + TIMEOUT > now));
                    }
                }
                assert_eq!(usize::from(queries.len()), open.len() + sent.len());
                assert_eq!(queries.next_timeout(), sent.first().map(|(_, at)| *at + TIMEOUT));
            }
            true
        }
    }
}
