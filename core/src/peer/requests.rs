//! Our requests: what is in flight, how much more should be, and which were forgotten.
//!
//! ```text
//! slow start: one more in flight per block received, until the rate stops growing
//! then:       rate × (shortest answer delay seen + slack)
//! ```
//!
//! The shortest delay, not the usual one: with a full pipeline the usual delay is the pipeline
//! itself divided by the rate, and would justify any depth.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::{BLOCK_LEN, BlockRef, Instant};

/// Fewest requests in flight once the rate is known.
const MIN_DEPTH: u32 = 4;
/// Requests in flight with a fresh peer.
const FIRST_DEPTH: u32 = 16;
/// A peer that does not say how many requests it queues gets at most this many; it is the
/// default of clients that do not say so (libtorrent before `reqq`, BitTorrent 4.x).
const DEFAULT_REQQ: u32 = 250;
/// Time the pipeline must outlast beyond the answer delay: several seeders answer only every
/// 500 ms, and our own reads may be throttled in bursts.
const SLACK: Duration = Duration::from_millis(1500);
/// Longest answer delay believed.
const MAX_DELAY: Duration = Duration::from_secs(4);
/// How often slow start asks whether the rate still grows.
const TICK: Duration = Duration::from_secs(1);
/// A request this old, while later ones were answered since this long, was forgotten: libtorrent
/// drops what its queue cannot hold without a word.
const FORGOTTEN: Duration = Duration::from_secs(15);
/// The most requests kept that were cancelled or given up, and may be answered nevertheless.
const MAX_LATE: usize = 1024;
/// How long such an answer is still expected.
const LATE: Duration = Duration::from_secs(120);
/// A request is given up after so many times the patience with a silent peer, whatever else the
/// peer sends meanwhile: one that answers a request a minute may not keep a whole pipeline.
const OVERDUE: u32 = 2;
/// A peer that refuses what it was asked for is left alone for so long, doubled with each further
/// refusal until it sends something: it would be asked for the same blocks every round trip.
const REFUSED: Duration = Duration::from_secs(1);
/// Most times that [`REFUSED`] is doubled: about a minute.
const MAX_REFUSALS: u32 = 6;

#[derive(Clone, Copy, Debug)]
struct Request {
    at: BlockRef,
    /// When its bytes left; until then, when it was queued.
    sent: Instant,
    /// Where it ends in the stream of control bytes.
    end: u64,
    seq: u64,
}

/// Whether a block was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It is in flight.
    Yes,
    /// It was, and was given up.
    Late,
    No,
}

#[derive(Debug)]
pub(super) struct Requests {
    queue: VecDeque<Request>,
    late: VecDeque<(BlockRef, Instant)>,
    next_seq: u64,
    /// Control bytes that have left.
    left: u64,
    /// The newest request that was answered.
    answered: u64,
    /// Since when the oldest one in flight is older than an answered one.
    overtaken: Option<Instant>,
    /// When a whole block or an unchoke came last.
    progress: Instant,
    /// A block came since the last unchoke.
    progressed: bool,
    /// Reading was last paused by ourselves.
    excused: Instant,
    /// Nothing is asked for until then, as the peer refused what it was asked for.
    held: Option<Instant>,
    /// How often it did since it sent something.
    refusals: u32,
    snubbed: bool,
    slow_start: bool,
    window: u32,
    delay: Duration,
    ticked: Instant,
    last_rate: u64,
    flat: u8,
}

impl Requests {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            queue: VecDeque::new(),
            late: VecDeque::new(),
            next_seq: 1,
            left: 0,
            answered: 0,
            overtaken: None,
            progress: now,
            progressed: false,
            excused: now,
            held: None,
            refusals: 0,
            snubbed: false,
            slow_start: true,
            window: FIRST_DEPTH,
            delay: MAX_DELAY,
            ticked: now,
            last_rate: 0,
            flat: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether a block may come.
    pub(super) fn may_be_answered(&self) -> bool {
        !self.queue.is_empty() || !self.late.is_empty()
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = BlockRef> + '_ {
        self.queue.iter().map(|r| r.at)
    }

    pub(super) const fn snubbed(&self) -> bool {
        self.snubbed
    }

    /// Takes note of a request that is queued and ends at `end` of the stream of control bytes.
    pub(super) fn push(&mut self, now: Instant, at: BlockRef, end: u64) {
        if self.queue.is_empty() {
            self.progress = now;
        }
        self.queue.push_back(Request {
            at,
            sent: now,
            end,
            seq: self.next_seq,
        });
        self.next_seq += 1;
    }

    /// `left` control bytes have left since the stream began: the clocks of the requests among
    /// them start.
    pub(super) fn written(&mut self, now: Instant, left: u64) {
        for request in self.queue.iter_mut().rev() {
            if request.end <= self.left {
                break;
            }
            if request.end <= left {
                request.sent = now;
            }
        }
        self.left = left;
    }

    fn remove(&mut self, at: BlockRef) -> Option<Request> {
        // Answers mostly come in order, so this looks at one element.
        let i = self.queue.iter().position(|r| r.at == at)?;
        let request = self.queue.remove(i);
        if i == 0 {
            self.overtaken = None;
        }
        request
    }

    /// Whether a block of this length may begin to arrive, without taking note of it.
    pub(super) fn asked(&self, at: BlockRef) -> Asked {
        if self.queue.iter().any(|r| r.at == at) {
            Asked::Yes
        } else if self.late.iter().any(|(late, _)| *late == at) {
            Asked::Late
        } else {
            Asked::No
        }
    }

    /// The header of this block arrived: it is no longer in flight.
    pub(super) fn answer(&mut self, now: Instant, at: BlockRef) -> Asked {
        if let Some(request) = self.remove(at) {
            self.delay = self.delay.min(now.saturating_since(request.sent));
            self.answered = self.answered.max(request.seq);
            let behind = self.queue.front().is_some_and(|r| r.seq < self.answered);
            if behind && self.overtaken.is_none() {
                self.overtaken = Some(now);
            }
            if self.slow_start {
                self.window = self.window.saturating_add(1);
            }
            return Asked::Yes;
        }
        match self.late.iter().position(|(late, _)| *late == at) {
            Some(i) => {
                self.late.remove(i);
                Asked::Late
            }
            None => Asked::No,
        }
    }

    /// A whole block arrived.
    pub(super) const fn progress(&mut self, now: Instant) {
        self.progress = now;
        self.progressed = true;
        self.snubbed = false;
        self.held = None;
        self.refusals = 0;
    }

    /// The peer could have answered a request and did not want to.
    pub(super) fn refused(&mut self, now: Instant) {
        if self.held.is_none_or(|until| until <= now) {
            self.held = Some(now + REFUSED * (1 << self.refusals));
            self.refusals = (self.refusals + 1).min(MAX_REFUSALS);
        }
    }

    /// Until when nothing is asked for.
    pub(super) const fn held(&self) -> Option<Instant> {
        self.held
    }

    /// Asks again if it is time to.
    pub(super) fn resume(&mut self, now: Instant) {
        if self.held.is_some_and(|until| until <= now) {
            self.held = None;
        }
    }

    /// A block takes too long to arrive.
    pub(super) const fn snub(&mut self) {
        self.snubbed = true;
    }

    /// We were unchoked: the peer's clock starts again.
    pub(super) const fn unchoked(&mut self, now: Instant) {
        self.progress = now;
        self.progressed = false;
    }

    /// Whether a block came since the last unchoke.
    pub(super) const fn progressed(&self) -> bool {
        self.progressed
    }

    /// We take a request back; the block may be under way.
    pub(super) fn cancel(&mut self, now: Instant, at: BlockRef) -> bool {
        let found = self.remove(at).is_some();
        if found {
            self.retire(now, at);
        }
        found
    }

    /// The peer will not answer this request.
    pub(super) fn reject(&mut self, at: BlockRef) -> bool {
        self.late.retain(|(late, _)| *late != at);
        self.remove(at).is_some()
    }

    /// Gives up the oldest request.
    pub(super) fn give_up(&mut self, now: Instant) -> Option<BlockRef> {
        let at = self.queue.pop_front()?.at;
        self.overtaken = None;
        self.retire(now, at);
        Some(at)
    }

    fn retire(&mut self, now: Instant, at: BlockRef) {
        while self.late.len() >= MAX_LATE
            || self
                .late
                .front()
                .is_some_and(|(_, since)| *since + LATE <= now)
        {
            self.late.pop_front();
        }
        self.late.push_back((at, now));
    }

    /// Gives up the oldest request if later ones were answered long ago. If its answer arrives, it counts
    /// as late, not as unwanted.
    pub(super) fn give_up_forgotten(&mut self, now: Instant) -> Option<BlockRef> {
        let front = self.queue.front()?;
        if self.overtaken? + FORGOTTEN > now || front.sent + FORGOTTEN > now {
            return None;
        }
        let since = self.overtaken;
        let at = self.give_up(now)?;
        if self.queue.front().is_some_and(|r| r.seq < self.answered) {
            self.overtaken = since;
        }
        Some(at)
    }

    /// Gives up the oldest request if nothing at all came for `patience`.
    pub(super) fn give_up_snubbed(&mut self, now: Instant, patience: Duration) -> Option<BlockRef> {
        if self.snub_due(patience)? > now {
            return None;
        }
        self.snubbed = true;
        self.give_up(now)
    }

    /// Gives up the oldest request if it has waited for too long, whatever else came.
    pub(super) fn give_up_overdue(&mut self, now: Instant, patience: Duration) -> Option<BlockRef> {
        if self.overdue(patience)? > now {
            return None;
        }
        self.slow_start = false;
        self.give_up(now)
    }

    fn overdue(&self, patience: Duration) -> Option<Instant> {
        Some(self.queue.front()?.sent.max(self.excused) + patience * OVERDUE)
    }

    fn snub_due(&self, patience: Duration) -> Option<Instant> {
        let front = self.queue.front()?;
        // Before it has left, the peer cannot answer; but it is not kept for ever.
        let patience = if front.end <= self.left {
            patience
        } else {
            patience * 2
        };
        Some(front.sent.max(self.progress) + patience)
    }

    /// When one of the above may have something.
    pub(super) fn timeout(&self, patience: Duration) -> Option<Instant> {
        let snub = self.snub_due(patience)?.min(self.overdue(patience)?);
        let forgotten = self
            .overtaken
            .and_then(|since| Some(since.max(self.queue.front()?.sent) + FORGOTTEN));
        Some(forgotten.map_or(snub, |at| at.min(snub)))
    }

    /// Reading was paused by ourselves, which the peer is not to blame for.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.progress = now;
        self.excused = now;
        if self.overtaken.is_some() {
            self.overtaken = Some(now);
        }
    }

    /// Ends slow start once the rate has not grown by an eighth for two ticks in a row.
    pub(super) fn tick(&mut self, now: Instant, rate: u64) {
        if !self.slow_start || now < self.ticked + TICK {
            return;
        }
        self.ticked = now;
        let grown = rate > self.last_rate.saturating_add(self.last_rate / 8);
        self.flat = if grown { 0 } else { self.flat + 1 };
        self.last_rate = rate;
        self.slow_start = self.flat < 2;
    }

    /// How many more requests are wanted now; 0 until it is worth a batch.
    pub(super) fn room(&self, rate: u64, reqq: Option<u32>, cap: u32) -> u32 {
        let target = self.target(rate, reqq, cap);
        let deficit = target.saturating_sub(u32::try_from(self.queue.len()).unwrap_or(u32::MAX));
        if deficit >= (target / 8).max(1) {
            deficit
        } else {
            0
        }
    }

    fn target(&self, rate: u64, reqq: Option<u32>, cap: u32) -> u32 {
        let cap = reqq.unwrap_or(DEFAULT_REQQ).min(cap).max(1);
        if self.snubbed {
            return 1;
        }
        let time = (self.delay + SLACK).as_micros();
        let by_rate = u128::from(rate) * time / (1_000_000 * BLOCK_LEN as u128);
        let by_rate = u32::try_from(by_rate).unwrap_or(u32::MAX);
        let target = if self.slow_start {
            by_rate.max(self.window)
        } else {
            by_rate.max(MIN_DEPTH)
        };
        target.min(cap)
    }
}
