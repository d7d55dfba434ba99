//! Virtual time: the queue of events, ordered by time and by when they were planned.

use std::{collections::VecDeque, time::Duration};

use dunlin_core::Instant;

/// A clock and the events that are planned. Events of equal times keep the order in which they were
/// planned.
///
/// A radix heap: an event lies in the bucket of the highest bit in which its time differs from the
/// time of the event that was taken last. Nothing is ever planned before that time, so events only
/// move to lower buckets, and events of one time always lie together in the order of their
/// planning: no sequence number has to be stored or compared. `sim/benches/world.rs` compares it
/// with a binary heap.
pub struct Agenda<E> {
    now: Instant,
    /// The time of the event that was taken last. Buckets are relative to it.
    last: u64,
    len: usize,
    /// Bit `n - 1` is set when bucket `n` has events.
    occupied: u64,
    /// The events of the time `last`.
    due: VecDeque<E>,
    later: Vec<Bucket<E>>,
}

struct Bucket<E> {
    /// The earliest time of an event in the bucket.
    least: u64,
    events: Vec<(u64, E)>,
}

/// One bucket for each position of the highest bit in which two times can differ.
const BUCKETS: usize = u64::BITS as usize;

impl<E> Agenda<E> {
    /// Creates an empty agenda at the origin of time.
    #[must_use]
    pub fn new() -> Self {
        Self {
            now: Instant::ORIGIN,
            last: Instant::ORIGIN.as_micros(),
            len: 0,
            occupied: 0,
            due: VecDeque::new(),
            later: (0..BUCKETS)
                .map(|_| Bucket {
                    least: u64::MAX,
                    events: Vec::new(),
                })
                .collect(),
        }
    }

    /// The present: the time of the event that was taken last, or the time to which
    /// [`Agenda::advance`] has moved the clock since.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Plans an event. A time in the past counts as the present.
    pub fn plan(&mut self, at: Instant, event: E) {
        self.len += 1;
        self.put(at.max(self.now).as_micros(), event);
    }

    fn put(&mut self, at: u64, event: E) {
        match (at ^ self.last).checked_ilog2() {
            None => self.due.push_back(event),
            Some(bit) => {
                let bucket = &mut self.later[bit as usize];
                self.occupied |= 1 << bit;
                bucket.least = bucket.least.min(at);
                bucket.events.push((at, event));
            }
        }
    }

    /// Plans an event for `after` from now.
    pub fn plan_in(&mut self, after: Duration, event: E) {
        self.plan(self.now + after, event);
    }

    /// The time of the next event.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        if !self.due.is_empty() {
            return Some(self.now.max(Instant::from_micros(self.last)));
        }
        let first = self.later.get(self.occupied.trailing_zeros() as usize)?;
        Some(Instant::from_micros(first.least))
    }

    /// Moves the clock to the next event and takes that event.
    pub fn step(&mut self) -> Option<E> {
        if self.due.is_empty() {
            let first = self.occupied.trailing_zeros() as usize;
            let bucket = self.later.get_mut(first)?;
            self.occupied &= !(1 << first);
            self.last = std::mem::replace(&mut bucket.least, u64::MAX);
            // The events of this bucket belong into lower buckets now, which are all empty.
            let mut events = std::mem::take(&mut bucket.events);
            for (at, event) in events.drain(..) {
                self.put(at, event);
            }
            self.later[first].events = events;
        }
        let event = self.due.pop_front()?;
        self.len -= 1;
        self.now = self.now.max(Instant::from_micros(self.last));
        Some(event)
    }

    /// Moves the clock forward to `to`, or to the next event if that is earlier. Never moves it
    /// back.
    pub fn advance(&mut self, to: Instant) {
        let limit = self.next_at().unwrap_or(to);
        self.now = self.now.max(to.min(limit));
    }

    /// The number of planned events.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns `true` when no event is planned.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::{Arbitrary, Gen, quickcheck};

    use super::*;

    /// Something that a user of an agenda does.
    #[derive(Clone, Copy, Debug)]
    enum Op {
        /// Plans an event for so long from now.
        Plan(Duration),
        /// Takes the next event.
        Take,
        /// Moves the clock forward by this much, or to the next event.
        Wait(Duration),
    }

    /// A time of any magnitude up to 2^31 µs.
    fn span(g: &mut Gen) -> Duration {
        Duration::from_micros(u64::from(u16::arbitrary(g)) << (u8::arbitrary(g) % 16))
    }

    fn shorter(span: Duration) -> impl Iterator<Item = Duration> {
        let micros = u64::try_from(span.as_micros()).unwrap();
        micros.shrink().map(Duration::from_micros)
    }

    impl Arbitrary for Op {
        fn arbitrary(g: &mut Gen) -> Self {
            match u8::arbitrary(g) % 4 {
                0 => Self::Take,
                1 => Self::Wait(span(g)),
                _ => Self::Plan(span(g)),
            }
        }

        fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
            match *self {
                Self::Plan(after) => Box::new(shorter(after).map(Self::Plan)),
                Self::Take => quickcheck::empty_shrinker(),
                Self::Wait(time) => Box::new(shorter(time).map(Self::Wait)),
            }
        }
    }

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

        fn it_is_a_sorted_list(ops: Vec<Op>) -> bool {
            let mut agenda = Agenda::new();
            let mut model: Vec<(Instant, usize)> = Vec::new();
            let mut now = Instant::ORIGIN;
            for (n, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Take => {
                        let first = model.iter().enumerate().min_by_key(|(i, e)| (e.0, *i)).map(|(i, _)| i);
                        let expected = first.map(|i| model.remove(i));
                        if agenda.next_at() != expected.map(|e| e.0) || agenda.step() != expected.map(|e| e.1) {
                            return false;
                        }
                        now = expected.map_or(now, |e| e.0);
                    }
                    Op::Wait(time) => {
                        now = (now + time).min(model.iter().map(|e| e.0).min().unwrap_or(now + time));
                        agenda.advance(now);
                    }
                    Op::Plan(after) => {
                        agenda.plan_in(after, n);
                        model.push((now + after, n));
                    }
                }
                if agenda.now() != now || agenda.len() != model.len() {
                    return false;
                }
            }
            true
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
