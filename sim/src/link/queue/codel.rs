//! Controlled delay: RFC 8289.

use std::collections::VecDeque;

use super::{CodelConfig, Gone, Waiting};

/// An interval counts as recent for this many intervals (RFC 8289 §5.5).
const RECENT: u64 = 16;

/// One queue with controlled delay.
#[derive(Clone, Debug)]
pub(crate) struct Codel<T> {
    config: CodelConfig,
    queue: Fifo<T>,
    control: Control,
}

impl<T> Codel<T> {
    pub(super) const fn new(config: CodelConfig) -> Self {
        Self {
            config,
            queue: Fifo::new(),
            control: Control::new(),
        }
    }

    pub(super) const fn config(&self) -> &CodelConfig {
        &self.config
    }

    pub(super) fn push(&mut self, packet: Waiting<T>) {
        self.queue.push(packet);
    }

    pub(super) fn pop(&mut self, now: u64, gone: &mut Vec<Gone<T>>) -> Option<Waiting<T>> {
        let max_packet = self.queue.longest;
        (self.control).pop(&self.config, &mut self.queue, max_packet, now, gone)
    }

    pub(super) fn drain(&mut self) -> Vec<T> {
        self.control = Control::new();
        self.queue.drain().map(|w| w.item).collect()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.queue.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

/// Packets in the order in which they came.
#[derive(Clone, Debug)]
pub(super) struct Fifo<T> {
    packets: VecDeque<Waiting<T>>,
    pub(super) bytes: u64,
    /// The longest packet so far: `maxpacket` of the RFC.
    longest: u32,
}

impl<T> Fifo<T> {
    pub(super) const fn new() -> Self {
        Self {
            packets: VecDeque::new(),
            bytes: 0,
            longest: 0,
        }
    }

    pub(super) fn push(&mut self, packet: Waiting<T>) {
        self.bytes += u64::from(packet.len);
        self.longest = self.longest.max(packet.len);
        self.packets.push_back(packet);
    }

    pub(super) fn pop(&mut self) -> Option<Waiting<T>> {
        let packet = self.packets.pop_front()?;
        self.bytes -= u64::from(packet.len);
        Some(packet)
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Waiting<T>> {
        self.bytes = 0;
        self.packets.drain(..)
    }

    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }
}

/// The state of the control law. Times are in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Control {
    /// When the delay will have been above the target for an interval; `None` while it is below.
    first_above: Option<u64>,
    /// When the next packet is dropped, in the dropping state.
    drop_next: u64,
    /// The packets dropped since the dropping state was entered.
    count: u32,
    /// `count` when the dropping state was entered last.
    last_count: u32,
    dropping: bool,
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The time of the next drop: `interval / √count` after `since` (RFC 8289 §5.3), rounded down to a
/// whole nanosecond.
pub(super) fn control_law(interval: u64, since: u64, count: u32) -> u64 {
    let square = u128::from(interval) * u128::from(interval) / u128::from(count.max(1));
    since.saturating_add(square.isqrt() as u64)
}

impl Control {
    pub(super) const fn new() -> Self {
        Self {
            first_above: None,
            drop_next: 0,
            count: 0,
            last_count: 0,
            dropping: false,
        }
    }

    /// Takes a packet (RFC 8289 §5.6). Returns it, and whether it may be dropped.
    fn take<T>(
        &mut self,
        config: &CodelConfig,
        queue: &mut Fifo<T>,
        max_packet: u32,
        now: u64,
    ) -> (Option<Waiting<T>>, bool) {
        let Some(packet) = queue.pop() else {
            self.first_above = None;
            return (None, false);
        };
        let stayed = now.saturating_sub(packet.since);
        if stayed < nanos(config.target) || queue.bytes <= u64::from(max_packet) {
            self.first_above = None;
            return (Some(packet), false);
        }
        let above = match self.first_above {
            Some(first) => now >= first,
            None => {
                self.first_above = Some(now.saturating_add(nanos(config.interval)));
                false
            }
        };
        (Some(packet), above)
    }

    /// Takes the packet that is sent next (RFC 8289 §5.5).
    pub(super) fn pop<T>(
        &mut self,
        config: &CodelConfig,
        queue: &mut Fifo<T>,
        max_packet: u32,
        now: u64,
        gone: &mut Vec<Gone<T>>,
    ) -> Option<Waiting<T>> {
        let interval = nanos(config.interval);
        let (mut packet, mut may_drop) = self.take(config, queue, max_packet, now);
        let mut drop = |packet: Option<Waiting<T>>| {
            gone.extend(packet.map(|p| Gone::Managed(p.item)));
        };
        if self.dropping {
            if !may_drop {
                self.dropping = false;
            }
            while self.dropping && now >= self.drop_next {
                drop(packet);
                self.count = self.count.saturating_add(1);
                (packet, may_drop) = self.take(config, queue, max_packet, now);
                if may_drop {
                    self.drop_next = control_law(interval, self.drop_next, self.count);
                } else {
                    self.dropping = false;
                }
            }
        } else if may_drop {
            drop(packet);
            (packet, _) = self.take(config, queue, max_packet, now);
            self.dropping = true;
            // When it was in the dropping state a short time ago, it goes on with about the rate
            // of drops that held the queue then.
            let recent = now.saturating_sub(self.drop_next) < RECENT.saturating_mul(interval);
            let delta = self.count.saturating_sub(self.last_count);
            self.count = if recent && delta > 1 { delta } else { 1 };
            self.drop_next = control_law(interval, now, self.count);
            self.last_count = self.count;
        }
        packet
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    const MS: u64 = 1_000_000;

    fn packet(n: u64, since: u64) -> Waiting<u64> {
        Waiting {
            item: n,
            len: 1_000,
            since,
        }
    }

    /// A line that takes a packet each millisecond while more come in: when each packet was
    /// dropped, in milliseconds.
    fn drops(
        queue: &mut Codel<u64>,
        from: u64,
        until: u64,
        arrivals: impl Fn(u64) -> u64,
    ) -> Vec<u64> {
        let mut all = Vec::new();
        for ms in from..until {
            for _ in 0..arrivals(ms) {
                queue.push(packet(ms, ms * MS));
            }
            let mut gone = Vec::new();
            queue.pop(ms * MS, &mut gone);
            all.extend(gone.iter().map(|_| ms));
        }
        all
    }

    #[test]
    fn the_control_law_is_the_interval_over_the_root_of_the_count() {
        let at = |count| control_law(100 * MS, 0, count);
        assert_eq!(at(1), 100 * MS);
        assert_eq!(at(2), 70_710_678);
        assert_eq!(at(3), 57_735_026);
        assert_eq!(at(4), 50 * MS);
        assert_eq!(at(10_000), MS);
    }

    /// Overload from the start: the first drop comes one interval after the delay was first above
    /// the target, and the others follow the law.
    #[test]
    fn drops_come_as_the_rfc_says() {
        let mut queue = Codel::new(CodelConfig::default());
        let overload = |ms| 1 + u64::from(ms % 2 == 0);
        let dropped = drops(&mut queue, 0, 600, overload);
        // Half a packet more comes in a millisecond than goes out. A packet that is taken in
        // millisecond 11 has waited for 5 ms: 1.5 × 6 packets came before it.
        let first = dropped[0];
        assert!((105..120).contains(&first), "{first}");
        let mut expected = vec![first * MS];
        for count in 1..dropped.len() as u32 {
            expected.push(control_law(100 * MS, expected[count as usize - 1], count));
        }
        let expected: Vec<u64> = expected.iter().map(|t| t.div_ceil(MS)).collect();
        assert_eq!(dropped, expected);
    }

    #[test]
    fn a_burst_that_is_over_within_an_interval_is_left_alone() {
        let mut queue = Codel::new(CodelConfig::default());
        let burst = |ms| if ms == 0 { 90 } else { 0 };
        assert_eq!(drops(&mut queue, 0, 300, burst), Vec::<u64>::new());
        assert_eq!(queue.bytes(), 0);
    }

    /// After a short time below the target, dropping goes on at the rate that held the queue; after
    /// a long time it begins anew.
    #[test]
    fn dropping_goes_on_where_it_stopped() {
        for (pause, again) in [(200, true), (4_000, false)] {
            let mut queue = Codel::new(CodelConfig::default());
            let dropped = drops(&mut queue, 0, 2_000, |ms| 1 + u64::from(ms % 8 == 0));
            assert!(dropped.len() > 20, "{}", dropped.len());
            while queue.len() > 0 {
                queue.queue.pop();
            }
            let from = 2_000 + pause;
            let dropped = drops(&mut queue, from, from + 400, |ms| {
                1 + u64::from(ms % 2 == 0)
            });
            let gap = dropped[1] - dropped[0];
            assert_eq!(gap < 50, again, "{gap} ms after a pause of {pause} ms");
        }
    }

    #[test]
    fn the_last_packet_is_never_dropped() {
        let mut queue = Codel::new(CodelConfig::default());
        // Each waits for longer than any interval, but nothing waits behind it.
        for n in 0..100 {
            queue.push(packet(n, 0));
            let mut gone = Vec::new();
            let got = queue.pop((n + 1) * 1_000 * MS, &mut gone);
            assert_eq!(got.map(|p| p.item), Some(n));
            assert!(gone.is_empty());
        }
    }

    quickcheck! {
        fn every_packet_leaves_once_and_in_order(arrivals: Vec<u8>) -> bool {
            let mut queue = Codel::new(CodelConfig::default());
            let (mut sent, mut left, mut now) = (0, Vec::new(), 0);
            let take = |queue: &mut Codel<u64>, now, left: &mut Vec<u64>| {
                let mut gone = Vec::new();
                let got = queue.pop(now, &mut gone);
                left.extend(gone.into_iter().map(|g| match g {
                    Gone::Full(n) | Gone::Managed(n) => n,
                }));
                left.extend(got.map(|p| p.item));
            };
            for more in arrivals {
                for _ in 0..more % 4 {
                    queue.push(packet(sent, now));
                    sent += 1;
                }
                take(&mut queue, now, &mut left);
                now += MS * u64::from(more);
            }
            while queue.len() > 0 {
                take(&mut queue, now, &mut left);
                now += MS;
            }
            queue.bytes() == 0 && left == (0..sent).collect::<Vec<_>>()
        }
    }
}
