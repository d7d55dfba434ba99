//! Virtual time: what happens next, in an order that never depends on chance.

use std::{cmp::Ordering, collections::BinaryHeap, time::Duration};

use dunlin_core::Instant;

/// An event and its place in time. Equal times keep the order in which they were planned.
struct Entry<E> {
    at: Instant,
    seq: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    /// Reversed: the heap's greatest is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.seq).cmp(&(self.at, self.seq))
    }
}

/// A clock and what it has in store.
pub struct Agenda<E> {
    now: Instant,
    seq: u64,
    heap: BinaryHeap<Entry<E>>,
}

impl<E> Agenda<E> {
    /// An empty agenda at the origin of time.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            now: Instant::ORIGIN,
            seq: 0,
            heap: BinaryHeap::new(),
        }
    }

    /// The present: the time of the event that was taken last.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Plans an event; the past counts as the present.
    pub fn plan(&mut self, at: Instant, event: E) {
        self.seq += 1;
        self.heap.push(Entry {
            at: at.max(self.now),
            seq: self.seq,
            event,
        });
    }

    /// Plans an event for a while from now.
    pub fn plan_in(&mut self, after: Duration, event: E) {
        self.plan(self.now + after, event);
    }

    /// When the next event is.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|e| e.at)
    }

    /// Moves the clock to the next event and takes it.
    pub fn step(&mut self) -> Option<E> {
        let entry = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }

    /// How many events are planned.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is planned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    quickcheck! {
        fn events_come_in_order_of_time_then_of_planning(times: Vec<u8>) -> bool {
            let mut agenda = Agenda::new();
            for (n, t) in times.iter().enumerate() {
                agenda.plan(Instant::from_micros(u64::from(*t)), (*t, n));
            }
            let mut expected: Vec<(u8, usize)> = times.iter().copied().zip(0..).collect();
            expected.sort_by_key(|(t, n)| (Instant::from_micros(u64::from(*t)), *n));
            std::iter::from_fn(|| agenda.step()).eq(expected)
        }
    }

    #[test]
    fn the_past_is_now() {
        let mut agenda = Agenda::new();
        agenda.plan(Instant::from_micros(50), "late");
        assert_eq!(agenda.step(), Some("late"));
        agenda.plan(Instant::from_micros(10), "early");
        assert_eq!(
            (agenda.step(), agenda.now()),
            (Some("early"), Instant::from_micros(50))
        );
    }
}
