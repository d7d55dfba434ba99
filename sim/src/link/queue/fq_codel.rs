//! Fair queues with controlled delay: RFC 8290.

use std::collections::VecDeque;

use super::{
    FqCodelConfig, Gone, Waiting,
    codel::{Control, Fifo},
};

/// The most packets that are dropped at once when there is no room (RFC 8290 §4.1).
const MAX_BATCH: usize = 64;

/// Queues that take turns.
#[derive(Clone, Debug)]
pub(crate) struct FqCodel<T> {
    config: FqCodelConfig,
    queues: Vec<Queue<T>>,
    /// The queues that became active a short time ago, and the others that are active.
    new: VecDeque<u16>,
    old: VecDeque<u16>,
    bytes: u64,
    len: usize,
    longest: u32,
}

#[derive(Clone, Debug)]
struct Queue<T> {
    fifo: Fifo<T>,
    control: Control,
    /// The bytes that it may send in this turn; below zero when it has sent more.
    credit: i64,
    active: bool,
}

impl<T> FqCodel<T> {
    pub(super) fn new(config: FqCodelConfig) -> Self {
        let queue = || Queue {
            fifo: Fifo::new(),
            control: Control::new(),
            credit: 0,
            active: false,
        };
        Self {
            queues: (0..config.queues.max(1)).map(|_| queue()).collect(),
            new: VecDeque::new(),
            old: VecDeque::new(),
            bytes: 0,
            len: 0,
            longest: 0,
            config,
        }
    }

    pub(super) const fn config(&self) -> &FqCodelConfig {
        &self.config
    }

    pub(super) fn push(&mut self, packet: Waiting<T>, flow: u64, gone: &mut Vec<Gone<T>>) {
        let n = (flow % self.queues.len() as u64) as u16;
        self.bytes += u64::from(packet.len);
        self.len += 1;
        self.longest = self.longest.max(packet.len);
        let queue = &mut self.queues[usize::from(n)];
        queue.fifo.push(packet);
        if !queue.active {
            queue.active = true;
            queue.credit = self.config.quantum.into();
            self.new.push_back(n);
        }
        if self.len > self.config.packets.max(1) as usize {
            self.make_room(gone);
        }
    }

    /// Drops half of the queue that has the most bytes, from its head (RFC 8290 §4.1).
    fn make_room(&mut self, gone: &mut Vec<Gone<T>>) {
        let longest = self.queues.iter_mut().max_by_key(|q| q.fifo.bytes);
        let Some(Queue { fifo, .. }) = longest else {
            return;
        };
        for _ in 0..fifo.len().div_ceil(2).min(MAX_BATCH) {
            if let Some(packet) = fifo.pop() {
                self.bytes -= u64::from(packet.len);
                self.len -= 1;
                gone.push(Gone::Full(packet.item));
            }
        }
    }

    pub(super) fn pop(&mut self, now: u64, gone: &mut Vec<Gone<T>>) -> Option<Waiting<T>> {
        loop {
            let is_new = !self.new.is_empty();
            let list = if is_new { &mut self.new } else { &mut self.old };
            let n = list.pop_front()?;
            let queue = &mut self.queues[usize::from(n)];
            if queue.credit <= 0 {
                queue.credit += i64::from(self.config.quantum.max(1));
                self.old.push_back(n);
                continue;
            }
            let (before, of_queue) = (queue.fifo.bytes, queue.fifo.len());
            let (codel, longest) = (&self.config.codel, self.longest);
            let packet = (queue.control).pop(codel, &mut queue.fifo, longest, now, gone);
            self.bytes -= before - queue.fifo.bytes;
            self.len -= of_queue - queue.fifo.len();
            let Some(packet) = packet else {
                // A new queue has a turn among the old ones before it is forgotten, so that a flow
                // that sends rarely does not starve them.
                if is_new {
                    self.old.push_back(n);
                } else {
                    queue.active = false;
                }
                continue;
            };
            queue.credit -= i64::from(packet.len);
            if is_new {
                self.new.push_front(n);
            } else {
                self.old.push_front(n);
            }
            return Some(packet);
        }
    }

    pub(super) fn drain(&mut self) -> Vec<T> {
        let mut all: Vec<Waiting<T>> = Vec::with_capacity(self.len);
        for queue in &mut self.queues {
            all.extend(queue.fifo.drain());
        }
        *self = Self::new(self.config);
        all.sort_by_key(|w| w.since);
        all.into_iter().map(|w| w.item).collect()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quickcheck::quickcheck;

    use super::*;

    const MS: u64 = 1_000_000;

    fn packet(flow: u64, len: u32, since: u64) -> Waiting<u64> {
        Waiting {
            item: flow,
            len,
            since,
        }
    }

    /// Each of the flows that always have packets gets the same number of bytes, whatever the
    /// length of its packets.
    #[test]
    fn flows_share_bytes_evenly() {
        let mut queue = FqCodel::new(FqCodelConfig::default());
        let lens = [1_500, 500, 100];
        let (mut sent, mut gone) = (BTreeMap::<u64, u64>::new(), Vec::new());
        for (flow, len) in lens.iter().enumerate() {
            for _ in 0..2_000 {
                queue.push(packet(flow as u64, *len, 0), flow as u64, &mut gone);
            }
        }
        for _ in 0..1_000 {
            // No time passes, so no delay is too long.
            let next = queue.pop(0, &mut gone).expect("they wait");
            *sent.entry(next.item).or_default() += u64::from(next.len);
        }
        assert!(gone.is_empty());
        let (least, most) = (sent.values().min(), sent.values().max());
        let (least, most) = (*least.expect("flows"), *most.expect("flows"));
        assert!(most - least <= 2 * 1_514, "{sent:?}");
    }

    /// A flow that sends a packet now and then is served at once, whatever waits of another flow.
    #[test]
    fn a_sparse_flow_does_not_wait_for_a_bulk_flow() {
        let mut queue = FqCodel::new(FqCodelConfig::default());
        let mut gone = Vec::new();
        for ms in 0..1_000 {
            queue.push(packet(1, 1_500, ms * MS), 1, &mut gone);
            queue.push(packet(1, 1_500, ms * MS), 1, &mut gone);
            if ms % 20 == 10 {
                queue.push(packet(2, 100, ms * MS), 2, &mut gone);
                let next = queue.pop(ms * MS, &mut gone).expect("both wait");
                assert_eq!(next.item, 2, "at {ms} ms");
            }
            queue.pop(ms * MS, &mut gone);
        }
        let managed = gone.iter().filter(|g| matches!(g, Gone::Managed(1)));
        assert!(managed.count() > 10, "the bulk flow is told");
        assert!(
            !gone
                .iter()
                .any(|g| matches!(g, Gone::Managed(2) | Gone::Full(2)))
        );
    }

    #[test]
    fn the_longest_queue_makes_room() {
        let config = FqCodelConfig {
            packets: 100,
            ..FqCodelConfig::default()
        };
        let mut queue = FqCodel::new(config);
        let mut gone = Vec::new();
        queue.push(packet(2, 100, 0), 2, &mut gone);
        for _ in 0..100 {
            queue.push(packet(1, 1_000, 0), 1, &mut gone);
        }
        assert_eq!(gone.len(), 50);
        assert!(gone.iter().all(|g| matches!(g, Gone::Full(1))));
        assert_eq!((queue.len(), queue.bytes()), (51, 50 * 1_000 + 100));
    }

    quickcheck! {
        fn every_packet_leaves_once_and_each_flow_is_in_order(arrivals: Vec<(u8, u8)>) -> bool {
            let config = FqCodelConfig { packets: 20, queues: 4, ..FqCodelConfig::default() };
            let mut queue = FqCodel::new(config);
            let (mut pushed, mut left, mut sent, mut now) = (0, Vec::new(), Vec::new(), 0);
            for (flow, more) in arrivals {
                let flow = u64::from(flow % 8);
                let mut gone = Vec::new();
                for _ in 0..more % 5 {
                    let each = Waiting { item: (flow, pushed), len: u32::from(more) * 5 + 40, since: now };
                    queue.push(each, flow, &mut gone);
                    pushed += 1;
                }
                now += MS * u64::from(more);
                if more % 3 > 0 {
                    sent.extend(queue.pop(now, &mut gone).map(|p| p.item));
                }
                left.extend(gone.into_iter().map(|g| match g {
                    Gone::Full(n) | Gone::Managed(n) => n.1,
                }));
                if queue.len() > 20 {
                    return false;
                }
            }
            let mut gone = Vec::new();
            while let Some(packet) = queue.pop(now, &mut gone) {
                sent.push(packet.item);
                now += MS;
            }
            left.extend(gone.into_iter().map(|g| match g {
                Gone::Full(n) | Gone::Managed(n) => n.1,
            }));
            left.extend(sent.iter().map(|(_, n)| *n));
            left.sort_unstable();
            let in_order = (0..8).all(|f| {
                let of_flow: Vec<_> = sent.iter().filter(|(flow, _)| *flow == f).collect();
                of_flow.is_sorted()
            });
            in_order && queue.bytes() == 0 && left == (0..pushed).collect::<Vec<i32>>()
        }
    }
}
