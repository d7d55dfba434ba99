//! What has arrived, and what is lost.

use super::{Ack, Phase, Sender, Sent};

/// Without reordering, this many segments that have arrived beyond a gap show that it is a loss.
const ENOUGH: u64 = 3;
/// The most quarters of a round trip by which segments may be reordered.
const MAX_STEPS: u64 = 255;

/// What an acknowledgement has told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    /// The bytes that were not known to have arrived.
    pub(super) bytes: u64,
    /// The bytes that are acknowledged cumulatively for the first time.
    pub(super) cumulative: u64,
    /// The round-trip time of the first and of the last of them that was sent only once.
    pub(super) oldest: Option<u64>,
    pub(super) newest: Option<u64>,
    /// Something has arrived twice (RFC 2883).
    pub(super) duplicate: bool,
}

impl Sender {
    /// Records what has arrived.
    pub(super) fn deliver(&mut self, now: u64, ack: &Ack<'_>) -> News {
        let mut news = News::default();
        let highest = self.sacked.end().unwrap_or(0);
        news.cumulative = ack.una.saturating_sub(self.una);
        while let Some(first) = self.segments.front().copied() {
            if first.end <= ack.una {
                self.segments.pop_front();
                self.arrived(now, &first, highest, &mut news);
                if first.sacked {
                    self.sacked_bytes -= first.len();
                    self.sacked_count -= 1;
                }
                continue;
            }
            if first.start < ack.una {
                // A part of the segment.
                let gone = ack.una - first.start;
                self.segments[0].start = ack.una;
                if first.sacked {
                    self.sacked_bytes -= gone;
                } else {
                    news.bytes += gone;
                }
                if first.lost {
                    self.lost_bytes -= gone;
                }
            }
            break;
        }
        if news.cumulative > 0 {
            self.una = ack.una;
            self.sacked.remove_before(ack.una);
            self.buffer.remove_before(ack.una);
        }
        if let Some(first) = ack.blocks.first() {
            // RFC 2883 §4: the first block lies before the acknowledgement or in the second block.
            let within = |outer: &(u64, u64)| outer.0 <= first.0 && first.1 <= outer.1;
            news.duplicate = first.1 <= ack.una || ack.blocks.get(1).is_some_and(within);
        }
        for (start, end) in ack.blocks {
            if *end <= self.una {
                continue;
            }
            self.arrived_beyond(
                now,
                (*start).max(self.una),
                (*end).min(self.nxt),
                highest,
                &mut news,
            );
        }
        news
    }

    /// The offsets `start..end` have arrived.
    fn arrived_beyond(&mut self, now: u64, start: u64, end: u64, highest: u64, news: &mut News) {
        let mut sacked = std::mem::take(&mut self.sacked);
        sacked.insert(start, end, |from, to| {
            let mut index = self.segments.partition_point(|s| s.start < from);
            while let Some(segment) = self.segments.get(index).copied() {
                if segment.end > to {
                    break;
                }
                if !segment.sacked {
                    self.arrived(now, &segment, highest, news);
                    let segment = &mut self.segments[index];
                    (segment.sacked, segment.lost) = (true, false);
                    self.sacked_bytes += segment.len();
                    self.sacked_count += 1;
                }
                index += 1;
            }
        });
        self.sacked = sacked;
    }

    /// One segment has arrived; `highest` is the end of those known before.
    fn arrived(&mut self, now: u64, segment: &Sent, highest: u64, news: &mut News) {
        if segment.sacked {
            return;
        }
        news.bytes += segment.len();
        if segment.lost {
            self.lost_bytes -= segment.len();
        }
        let rtt = now - segment.at;
        if segment.again {
            // The original may have arrived instead (RFC 8985 §6.2, step 2).
            if self.rtt.least().is_some_and(|least| rtt < least) {
                return;
            }
        } else {
            news.oldest.get_or_insert(rtt);
            news.newest = Some(rtt);
            self.reordered |= segment.end <= highest;
        }
        if (segment.at, segment.end) > self.newest {
            self.newest = (segment.at, segment.end);
            self.newest_rtt = rtt;
        }
    }

    /// How much later a segment must have been sent to show that this one is lost (RFC 8985 §6.2,
    /// step 4).
    fn patience(&self) -> u64 {
        if !self.reordered && (self.phase != Phase::Open || self.sacked_count >= ENOUGH) {
            return 0;
        }
        let least = self.rtt.least().unwrap_or(0) / 4 * self.steps;
        least.min(self.rtt.smoothed().unwrap_or(0))
    }

    /// Something has arrived twice: what was sent again was not lost. The patience grows (RFC 8985
    /// §6.2, step 4), and once that holds for all that was sent again, so is the reduction undone
    /// (RFC 3708 §3).
    pub(super) fn was_not_lost(&mut self) {
        if self.una >= self.stepped {
            self.steps = (self.steps + 1).min(MAX_STEPS);
            self.stepped = self.nxt;
        }
        let Some(undo) = &mut self.undo else { return };
        undo.again = undo.again.saturating_sub(1);
        if undo.again == 0
            && undo.used
            && let Some(undo) = self.undo.take()
        {
            let window = self.control.window().max(undo.control.window());
            self.control = undo.control;
            self.control.set_window(window);
            if matches!(self.phase, Phase::Recovery { .. }) && self.lost_bytes == 0 {
                self.phase = Phase::Open;
            }
        }
    }

    /// Finds the segments that are lost.
    pub(super) fn detect(&mut self, now: u64) {
        self.timers.reordering = None;
        if self.segments.is_empty() {
            self.retransmitted.clear();
            return;
        }
        let patience = self.patience() + self.newest_rtt;
        let judge = |newest: (u64, u64), segment: &Sent| {
            let before = (segment.at, segment.end) < newest;
            before.then_some(segment.at + patience)
        };
        let mut index = self.segments.partition_point(|s| s.end <= self.judged);
        while let Some(segment) = self.segments.get(index).copied() {
            if !segment.sacked && !segment.lost && !segment.again {
                match judge(self.newest, &segment) {
                    None => break,
                    Some(at) if at > now => {
                        self.timers.reordering = Some(at);
                        break;
                    }
                    Some(_) => self.lose(index),
                }
            }
            self.judged = segment.end;
            index += 1;
        }
        while let Some((start, at)) = self.retransmitted.front().copied() {
            let index = self.segments.partition_point(|s| s.end <= start);
            if let Some(segment) = self.segments.get(index).copied()
                && !segment.sacked
                && !segment.lost
                && segment.at == at
            {
                match judge(self.newest, &segment) {
                    None => break,
                    Some(at) if at > now => {
                        let earlier = self.timers.reordering.map_or(at, |other| other.min(at));
                        self.timers.reordering = Some(earlier);
                        break;
                    }
                    Some(_) => self.lose(index),
                }
            }
            self.retransmitted.pop_front();
        }
    }

    fn lose(&mut self, index: usize) {
        let segment = &mut self.segments[index];
        segment.lost = true;
        self.lost_bytes += segment.len();
        self.lost_from = self.lost_from.min(segment.start);
    }

    /// The first segment that is to be sent again.
    pub(super) fn next_lost(&mut self) -> Option<usize> {
        let mut index = self.segments.partition_point(|s| s.end <= self.lost_from);
        while let Some(segment) = self.segments.get(index) {
            if segment.lost {
                self.lost_from = segment.start;
                return Some(index);
            }
            index += 1;
        }
        None
    }
}
