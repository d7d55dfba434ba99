//! The receiving half: puts data in order, says what has arrived, and sizes the window.
//!
//! Offsets count bytes from the SYN, which is at 0. Data beyond a gap is kept at its place in the
//! buffer, so that filling the gap moves nothing.

use std::collections::VecDeque;

use super::ranges::Ranges;

/// Full segments are acknowledged in twos (RFC 9293 §3.8.6.3); a single one waits this long. Linux
/// waits 40 ms to 200 ms.
const ACK_DELAY: u64 = 40_000;
/// The segments at the beginning that are acknowledged at once, so that slow start is not held up,
/// as in Linux.
const QUICK: u32 = 16;
/// The window at the beginning.
const FIRST_WINDOW: u64 = 64 << 10;
/// The most ranges beyond a gap. Data that would need more is dropped.
const MAX_RANGES: usize = 4_096;
/// Capacity beyond this is given back when the buffer is empty.
const KEPT: usize = 64 << 10;
/// The most blocks of an acknowledgement with timestamps (RFC 2018 §3).
pub(super) const MAX_BLOCKS: usize = 3;

/// When the data that has arrived must be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Nothing,
    /// At this time.
    At(u64),
    /// At once.
    Now,
}

/// How the window follows the application: twice what it reads in a round trip, and more while that
/// grows.
#[derive(Clone, Copy, Debug)]
struct Tuning {
    /// The bytes that unread data may take.
    limit: u64,
    most: u64,
    /// The smoothed round-trip time, as seen by the receiver.
    rtt: Option<u64>,
    /// The present measurement: its beginning, the offset that was read then, and the bytes of the
    /// one before.
    since: u64,
    from: u64,
    before: u64,
}

/// The receiving half of a connection.
#[derive(Clone, Debug)]
pub(super) struct Receiver {
    /// The next offset in order.
    nxt: u64,
    /// Everything before was read.
    read: u64,
    /// The bytes from `read` on, with gaps.
    bytes: VecDeque<u8>,
    /// What has arrived beyond `nxt`.
    beyond: Ranges,
    /// An offset in each of the last ranges that arrived, newest first.
    recent: Vec<u64>,
    /// A part that has arrived twice and was not reported yet (RFC 2883).
    duplicate: Option<(u64, u64)>,
    /// The offset of the FIN.
    fin: Option<u64>,
    /// The end of the window that the peer knows.
    edge: u64,
    shift: u8,
    mss: u64,
    owed: Owed,
    /// The bytes in order that are not acknowledged.
    unacked: u64,
    quick: u32,
    tuning: Tuning,
}

impl Receiver {
    /// A receiver whose buffer may grow to `most` bytes.
    pub(super) fn new(mss: u64, most: u64, shift: u8) -> Self {
        let limit = FIRST_WINDOW.min(most);
        Self {
            nxt: 1,
            read: 1,
            bytes: VecDeque::new(),
            beyond: Ranges::default(),
            recent: Vec::new(),
            duplicate: None,
            fin: None,
            edge: 1,
            shift,
            mss,
            owed: Owed::Nothing,
            unacked: 0,
            quick: QUICK,
            tuning: Tuning {
                limit,
                most,
                rtt: None,
                since: 0,
                from: 1,
                before: 0,
            },
        }
    }

    /// The next offset that is expected: behind the data, and behind the FIN once it is in order.
    pub(super) fn expected(&self) -> u64 {
        self.nxt + u64::from(self.ended())
    }

    /// Returns `true` when the FIN is in order.
    pub(super) fn ended(&self) -> bool {
        self.fin == Some(self.nxt)
    }

    /// The end of the window.
    pub(super) const fn edge(&self) -> u64 {
        self.edge
    }

    /// The peer does not scale its windows, so neither does this side.
    pub(super) fn no_scale(&mut self) {
        self.shift = 0;
        self.tuning.most = self.tuning.most.min(0xffff);
        self.tuning.limit = self.tuning.limit.min(0xffff);
    }

    /// A sample of the round-trip time: from the handshake, or by timestamps.
    pub(super) fn sample(&mut self, rtt: u64) {
        let rtt = rtt.max(1);
        self.tuning.rtt = Some(match self.tuning.rtt {
            None => rtt,
            Some(smooth) => (smooth * 7 + rtt) / 8,
        });
    }

    /// Data has arrived.
    pub(super) fn segment(&mut self, now: u64, start: u64, data: &[u8], fin: bool) {
        let end = start + data.len() as u64;
        if end < self.nxt || (end == self.nxt && !data.is_empty()) || (fin && self.ended()) {
            if start < end {
                self.duplicate = Some((start, end));
            }
            self.owed = Owed::Now;
            return;
        }
        if start > self.edge {
            self.owed = Owed::Now;
            return;
        }
        if fin && end <= self.edge && self.fin.is_none() && self.beyond.end().unwrap_or(0) <= end {
            self.fin = Some(end);
        }
        // Nothing lies beyond the FIN or the window.
        let last = end.min(self.edge).min(self.fin.unwrap_or(u64::MAX));
        let first = start.max(self.nxt);
        if first < last {
            let part = &data[(first - start) as usize..(last - start) as usize];
            if first == self.nxt {
                self.in_order(now, part);
            } else {
                self.out_of_order(first, part);
            }
        }
        if fin {
            self.owed = Owed::Now;
        }
    }

    fn in_order(&mut self, now: u64, part: &[u8]) {
        self.put(self.nxt, part);
        self.nxt += part.len() as u64;
        self.unacked += part.len() as u64;
        let gaps = self.beyond.len() > 0;
        if gaps {
            if let Some((start, end)) = self.beyond.around(self.nxt) {
                if start < self.nxt {
                    self.duplicate = Some((start, self.nxt));
                }
                self.nxt = end;
            }
            self.beyond.remove_before(self.nxt);
        }
        self.quick = self.quick.saturating_sub(1);
        self.owed = match self.owed {
            Owed::Now => Owed::Now,
            _ if gaps || self.quick > 0 || self.unacked > self.mss => Owed::Now,
            Owed::At(at) => Owed::At(at),
            Owed::Nothing => Owed::At(now + ACK_DELAY),
        };
    }

    fn out_of_order(&mut self, start: u64, part: &[u8]) {
        self.owed = Owed::Now;
        let end = start + part.len() as u64;
        if let Some((from, to)) = self.beyond.around(start)
            && from <= start
            && end <= to
        {
            self.duplicate = Some((start, end));
            return;
        }
        if self.beyond.len() >= MAX_RANGES {
            return;
        }
        self.put(start, part);
        self.beyond.insert(start, end, |_, _| ());
        self.recent.insert(0, start);
        self.recent.truncate(2 * MAX_BLOCKS);
    }

    /// Writes bytes at their place.
    fn put(&mut self, offset: u64, part: &[u8]) {
        let at = (offset - self.read) as usize;
        if at >= self.bytes.len() {
            self.bytes.resize(at, 0);
            self.bytes.extend(part);
            return;
        }
        let end = at + part.len();
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        let (a, b) = self.bytes.as_mut_slices();
        let split = a.len().saturating_sub(at).min(part.len());
        if split > 0 {
            a[at..at + split].copy_from_slice(&part[..split]);
        }
        if split < part.len() {
            let at = at + split - a.len();
            b[at..at + part.len() - split].copy_from_slice(&part[split..]);
        }
    }

    /// The bytes that can be read.
    pub(super) const fn readable(&self) -> usize {
        (self.nxt - self.read) as usize
    }

    /// The first `len` bytes that can be read, in two parts.
    pub(super) fn peek(&self, len: usize) -> [&[u8]; 2] {
        let len = len.min(self.readable());
        let (a, b) = self.bytes.as_slices();
        let first = a.len().min(len);
        [&a[..first], &b[..len - first]]
    }

    /// The application has read `len` bytes.
    pub(super) fn consume(&mut self, now: u64, len: usize) {
        let len = len.min(self.readable());
        self.bytes.drain(..len);
        self.read += len as u64;
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT {
            self.bytes = VecDeque::new();
        }
        self.tune(now);
        let known = self.edge.saturating_sub(self.nxt);
        let window = self.window();
        if known < self.tuning.limit / 2 && window >= 2 * known && window >= self.mss {
            self.owed = Owed::Now;
        }
    }

    /// Adapts the buffer once each round trip.
    fn tune(&mut self, now: u64) {
        let tuning = &mut self.tuning;
        let Some(rtt) = tuning.rtt else { return };
        if now - tuning.since < rtt {
            return;
        }
        let copied = self.read - tuning.from;
        if copied > tuning.before {
            let growth = copied - tuning.before.max(copied / 2);
            let wanted = 2 * copied + 4 * growth + 16 * self.mss;
            tuning.limit = tuning.limit.max(wanted).min(tuning.most);
        }
        tuning.before = copied;
        (tuning.since, tuning.from) = (now, self.read);
    }

    /// The bytes that the buffer has room for behind `nxt`.
    fn window(&self) -> u64 {
        self.tuning.limit.saturating_sub(self.nxt - self.read)
    }

    /// The window field of the next segment. The window never shrinks.
    pub(super) fn offer(&mut self) -> u16 {
        let wanted = self.nxt + self.window().min(0xffff << self.shift);
        // Small steps are not worth a segment at the peer (RFC 9293 §3.8.6.2.2).
        if wanted >= self.edge + self.mss.min(self.tuning.limit / 2) {
            self.edge = wanted;
        }
        // Rounding may take back a part of the last unit, which is accepted all the same (RFC 7323
        // §2.4).
        let open = self.edge.saturating_sub(self.expected());
        (open >> self.shift).min(0xffff) as u16
    }

    /// The window field of a SYN, which is not scaled.
    pub(super) fn offer_syn(&mut self) -> u16 {
        let field = self.tuning.limit.min(0xffff);
        self.edge = self.edge.max(1 + field);
        field as u16
    }

    /// An acknowledgement is owed at once.
    pub(super) const fn owe(&mut self) {
        self.owed = Owed::Now;
    }

    /// Returns `true` when an acknowledgement is to be sent now.
    pub(super) fn owes(&self, now: u64) -> bool {
        match self.owed {
            Owed::Nothing => false,
            Owed::At(at) => at <= now,
            Owed::Now => true,
        }
    }

    /// When a delayed acknowledgement is to be sent.
    pub(super) const fn deadline(&self) -> Option<u64> {
        match self.owed {
            Owed::At(at) => Some(at),
            Owed::Nothing | Owed::Now => None,
        }
    }

    /// A segment with the present acknowledgement is being sent.
    pub(super) fn acknowledged(&mut self) {
        self.owed = Owed::Nothing;
        self.unacked = 0;
    }

    /// Returns `true` when the next acknowledgement should have blocks.
    pub(super) const fn has_blocks(&self) -> bool {
        self.duplicate.is_some() || self.beyond.len() > 0
    }

    /// The blocks for the next acknowledgement: a duplicate first, then those that changed last.
    pub(super) fn blocks(&mut self) -> ([(u64, u64); MAX_BLOCKS], usize) {
        let (mut blocks, mut count) = ([(0, 0); MAX_BLOCKS], 0);
        if let Some(duplicate) = self.duplicate.take() {
            blocks[0] = duplicate;
            count = 1;
        }
        if self.beyond.len() == 0 {
            self.recent.clear();
            return (blocks, count);
        }
        let beyond = &self.beyond;
        let last = count;
        self.recent.retain(|offset| {
            let Some(block) = beyond.around(*offset) else {
                return false;
            };
            if blocks[last..count].contains(&block) {
                return false;
            }
            if count < MAX_BLOCKS {
                blocks[count] = block;
                count += 1;
            }
            true
        });
        // Older ranges fill what is left.
        for block in self.beyond.iter().rev() {
            if count == MAX_BLOCKS {
                break;
            }
            if !blocks[last..count].contains(&block) {
                blocks[count] = block;
                count += 1;
            }
        }
        (blocks, count)
    }

    /// The bytes of memory in use.
    #[cfg(test)]
    pub(super) fn held(&self) -> u64 {
        self.bytes.len() as u64
    }
}
