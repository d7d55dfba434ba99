//! Finds the nodes closest to an id, exactly and without sorting the table.

use super::K;
use super::bucket::Bucket;
use super::entry::{State, head, seconds, unpack};
use super::routing::Table;
use crate::dht::Contact;
use crate::{Instant, NodeId};

/// The buckets of a table in the order of their distance from a target.
///
/// Write d for own ⊕ target. The nodes of bucket i differ from us first in bit i, so their distance
/// from the target has the bits of d up to there, and bit i the other way round. Where d has a one,
/// bucket i is closer than all deeper ones; where it has a zero, it is farther than all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    ones: u64,
    zeros: u64,
    own: Option<usize>,
}

impl Order {
    /// For a table of `buckets` (1 to 64) and the first bits of own ⊕ target.
    pub(super) const fn new(d: u64, buckets: usize) -> Self {
        let own = buckets.saturating_sub(1);
        let mask = if own == 0 { 0 } else { u64::MAX << (64 - own) };
        Self {
            ones: d & mask,
            zeros: !d & mask,
            own: Some(own),
        }
    }

    /// The bucket to begin with.
    fn first(mut self) -> Option<usize> {
        self.next()
    }
}

impl Iterator for Order {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.ones != 0 {
            let i = self.ones.leading_zeros();
            self.ones &= !(1 << (63 - i));
            Some(i as usize)
        } else if let Some(own) = self.own.take() {
            Some(own)
        } else if self.zeros != 0 {
            let i = 63 - self.zeros.trailing_zeros();
            self.zeros &= self.zeros - 1;
            Some(i as usize)
        } else {
            None
        }
    }
}

/// The nodes of one bucket that `want`, closest first.
fn sorted<const S: usize>(
    bucket: &Bucket<S>,
    target: &NodeId,
    want: impl Fn(State) -> bool,
) -> heapless::Vec<(NodeId, usize), K> {
    let mut sorted = heapless::Vec::<(NodeId, usize), K>::new();
    for (i, (node, state)) in bucket.nodes().iter().zip(bucket.states()).enumerate() {
        if want(*state) {
            let distance = NodeId(super::entry::id(node).distance(target));
            let at = sorted
                .iter()
                .position(|(d, _)| *d > distance)
                .unwrap_or(sorted.len());
            let _ = sorted.insert(at, (distance, i));
        }
    }
    sorted
}

impl<const S: usize> Table<S> {
    fn order(&self, target: &NodeId) -> Order {
        Order::new(head(self.own()) ^ head(target), self.buckets.len())
    }

    /// See [`Routes::write_closest`](super::Routes::write_closest).
    pub(super) fn write_closest(&self, target: &NodeId, out: &mut [u8]) -> usize {
        let order = self.order(target);
        // Nearly always the closest bucket is the whole answer: one copy of a constant length.
        if let Some(first) = order.first().and_then(|i| self.buckets.get(i))
            && let Some(answer) = first.answer()
            && let Some((free, _)) = out.as_chunks_mut::<S>().0.split_first_chunk_mut()
        {
            *free = *answer;
            return K * S;
        }
        let room = out.len().min(K * S) / S * S;
        let mut at = 0;
        for i in order {
            let Some(bucket) = self.buckets.get(i) else {
                break;
            };
            let ready = bucket.ready_bytes();
            let Some(free) = out.get_mut(at..room).filter(|free| !free.is_empty()) else {
                break;
            };
            if let Some(free) = free.get_mut(..ready.len()) {
                free.copy_from_slice(ready);
                at += ready.len();
                continue;
            }
            // More nodes than fit: the closest of them.
            let (free, _) = free.as_chunks_mut::<S>();
            for (to, (_, from)) in free.iter_mut().zip(sorted(bucket, target, State::is_ready)) {
                if let Some(node) = bucket.nodes().get(from) {
                    *to = *node;
                }
            }
            return room;
        }
        at
    }

    /// See [`Routes::closest`](super::Routes::closest).
    pub(super) fn closest<const N: usize>(
        &self,
        target: &NodeId,
        out: &mut heapless::Vec<Contact, N>,
    ) {
        self.take(target, out, State::is_ready);
        self.take(target, out, |s| {
            s.has(State::VERIFIED) && !s.is_ready() && !s.is_bad()
        });
        if out.is_empty() {
            self.take(target, out, |s| !s.has(State::VERIFIED) && !s.is_bad());
        }
        if out.is_empty() {
            self.take(target, out, State::is_bad);
        }
    }

    /// See [`Routes::spares`](super::Routes::spares).
    pub(super) fn spares<const N: usize>(
        &self,
        now: Instant,
        target: &NodeId,
        out: &mut heapless::Vec<Contact, N>,
    ) {
        let far = |c: &Contact| c.id.distance(target);
        for node in self.candidates.fresh(seconds(now)) {
            let new = unpack(node);
            if out.is_full() {
                let farthest = out.iter_mut().max_by_key(|c| far(c));
                if let Some(farthest) = farthest.filter(|c| far(c) > far(&new)) {
                    *farthest = new;
                }
            } else {
                let _ = out.push(new);
            }
        }
    }

    fn take<const N: usize>(
        &self,
        target: &NodeId,
        out: &mut heapless::Vec<Contact, N>,
        want: impl Fn(State) -> bool + Copy,
    ) {
        for bucket in self.order(target).filter_map(|i| self.buckets.get(i)) {
            for (_, i) in sorted(bucket, target, want) {
                let Some(node) = bucket.nodes().get(i) else {
                    continue;
                };
                if out.push(unpack(node)).is_err() {
                    return;
                }
            }
        }
    }
}
