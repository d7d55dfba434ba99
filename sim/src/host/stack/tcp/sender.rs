//! The sending half: what was sent and not acknowledged, what is lost, and what may be sent now.
//!
//! Losses are found as in RACK (RFC 8985): a segment is lost when one that was sent sufficiently
//! later has arrived. Selective acknowledgements (RFC 2018) say which have arrived, the window is
//! reduced proportionally to what arrives (RFC 6937), and a probe (RFC 8985 §7) finds losses at the
//! end. Offsets count bytes from the SYN, which is at 0.

mod buffer;
mod loss;
mod timers;

use std::collections::VecDeque;

use super::{
    control::{Acked, Algorithm, Control},
    ranges::Ranges,
    rtt::Rtt,
};

use buffer::Buffer;
pub(super) use timers::Due;
use timers::Timers;

/// What the buffer may hold however small the window is.
const LEAST_BUFFER: u64 = 32 << 10;

/// A segment that was sent and is not acknowledged cumulatively.
#[derive(Clone, Copy, Debug)]
struct Sent {
    start: u64,
    end: u64,
    /// When it was sent last.
    at: u64,
    /// It has arrived.
    sacked: bool,
    /// It is lost and was not sent again yet.
    lost: bool,
    /// It was sent more than once.
    again: bool,
}

impl Sent {
    const fn len(&self) -> u64 {
        self.end - self.start
    }
}

/// How the sender reacts to what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is lost.
    Open,
    /// Fast recovery, until everything before `high` is acknowledged.
    Recovery {
        high: u64,
        /// The window before the reduction.
        prior: u64,
        /// The bytes that have arrived and that were sent, since the beginning.
        delivered: u64,
        out: u64,
    },
    /// After a timeout, until everything before `high` is acknowledged.
    Timeout { high: u64 },
}

/// What was before a reduction, in case nothing was lost.
#[derive(Clone, Debug)]
struct Undo {
    control: Control,
    /// The segments that were sent again, less those that had arrived.
    again: u64,
    used: bool,
}

/// A segment to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) start: u64,
    /// The bytes of data.
    pub(super) len: usize,
    /// It ends the stream.
    pub(super) fin: bool,
    /// No more data waits behind it.
    pub(super) push: bool,
}

/// What an acknowledgement contains.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack<'a> {
    /// Everything before this offset has arrived.
    pub(super) una: u64,
    /// The end of the peer's window.
    pub(super) edge: u64,
    /// What else has arrived.
    pub(super) blocks: &'a [(u64, u64)],
    /// The round-trip time that the timestamps tell.
    pub(super) echo: Option<u64>,
}

/// The sending half of a connection.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    mss: u64,
    una: u64,
    nxt: u64,
    /// The end of the peer's window.
    edge: u64,
    buffer: Buffer,
    /// The application has closed the stream.
    closed: bool,
    segments: VecDeque<Sent>,
    sacked: Ranges,
    /// The bytes and the number of segments that have arrived out of order.
    sacked_bytes: u64,
    sacked_count: u64,
    /// The bytes that are lost and were not sent again.
    lost_bytes: u64,
    /// The segments that were sent again, by start and time, in the order of that time.
    retransmitted: VecDeque<(u64, u64)>,
    /// Every original before this offset was judged.
    judged: u64,
    /// No segment before this offset waits to be sent again.
    lost_from: u64,
    /// The time and the end of the newest segment that has arrived, and its round-trip time.
    newest: (u64, u64),
    newest_rtt: u64,
    reordered: bool,
    /// The quarters of a round trip by which segments may be reordered, and the offset up to which
    /// that grows no more.
    steps: u64,
    stepped: u64,
    phase: Phase,
    undo: Option<Undo>,
    /// The congestion window kept the sender from sending.
    limited: bool,
    /// When a segment was sent last.
    last_sent: u64,
    rtt: Rtt,
    control: Control,
    timers: Timers,
    /// The most bytes that the buffer may hold.
    most: u64,
}

impl Sender {
    pub(super) fn new(algorithm: Algorithm, mss: u64, most: u64) -> Self {
        Self {
            mss,
            una: 1,
            nxt: 1,
            edge: 1,
            buffer: Buffer::new(1),
            closed: false,
            segments: VecDeque::new(),
            sacked: Ranges::default(),
            sacked_bytes: 0,
            sacked_count: 0,
            lost_bytes: 0,
            retransmitted: VecDeque::new(),
            judged: 1,
            lost_from: 1,
            newest: (0, 0),
            newest_rtt: 0,
            reordered: false,
            steps: 1,
            stepped: 1,
            phase: Phase::Open,
            undo: None,
            limited: false,
            last_sent: 0,
            rtt: Rtt::default(),
            control: Control::new(algorithm, mss),
            timers: Timers::default(),
            most,
        }
    }

    /// The next offset to be sent for the first time.
    pub(super) const fn nxt(&self) -> u64 {
        self.nxt
    }

    pub(super) const fn una(&self) -> u64 {
        self.una
    }

    pub(super) const fn smoothed(&self) -> Option<u64> {
        self.rtt.smoothed()
    }

    /// A sample from the handshake.
    pub(super) fn sample(&mut self, now: u64, rtt: u64) {
        self.rtt.sample(now, rtt);
    }

    /// The peer's SYN has told how long segments are, and the end of its window.
    pub(super) const fn negotiated(&mut self, mss: u64, edge: u64) {
        self.mss = mss;
        self.control.set_mss(mss);
        self.edge = edge;
    }

    /// How many bytes the application should write: enough to keep two windows of data.
    pub(super) fn room(&self) -> usize {
        let limit = (2 * self.control.window()).clamp(LEAST_BUFFER.min(self.most), self.most);
        match self.closed {
            true => 0,
            false => limit.saturating_sub(self.buffer.len()) as usize,
        }
    }

    /// Takes bytes of the application, also more than [`Sender::room`] up to the limit of the
    /// buffer. Returns how many.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let most = self.most.saturating_sub(self.buffer.len()) as usize;
        let taken = bytes.len().min(if self.closed { 0 } else { most });
        self.buffer.push(&bytes[..taken]);
        taken
    }

    /// Ends the stream behind the bytes that were written.
    pub(super) const fn close(&mut self) {
        self.closed = true;
    }

    /// The bytes of the buffer.
    #[cfg(test)]
    pub(super) const fn held(&self) -> u64 {
        self.buffer.len()
    }

    /// The data of a segment, in two parts.
    pub(super) fn data(&self, outgoing: &Outgoing) -> [&[u8]; 2] {
        self.buffer.range(outgoing.start, outgoing.len)
    }

    /// The offset behind the last byte, or behind the FIN.
    const fn end(&self) -> u64 {
        self.buffer.end() + self.closed as u64
    }

    /// Returns `true` when everything up to the FIN has arrived.
    pub(super) const fn finished(&self) -> bool {
        self.closed && self.una == self.end()
    }

    /// The bytes that are under way.
    pub(super) const fn flight(&self) -> u64 {
        self.nxt - self.una - self.sacked_bytes - self.lost_bytes
    }

    /// Handles an acknowledgement. `ack.una` must not be beyond [`Sender::nxt`].
    pub(super) fn ack(&mut self, now: u64, ack: &Ack<'_>) {
        let (edge, flight) = (self.edge, self.flight());
        self.edge = self.edge.max(ack.edge);
        let progress = ack.una > self.una;
        let news = self.deliver(now, ack);
        let lost = self.lost_bytes;
        self.detect(now);
        if let Some(rtt) = news.oldest.or(ack.echo.filter(|_| progress)) {
            self.rtt.sample(now, rtt);
        }
        self.end_of_probe(ack, news.duplicate);
        if news.duplicate {
            self.was_not_lost();
        }
        if let Phase::Recovery { high, .. } | Phase::Timeout { high } = self.phase
            && self.una >= high
        {
            if matches!(self.phase, Phase::Recovery { .. }) {
                self.control.set_window(self.control.threshold());
            }
            self.phase = Phase::Open;
        }
        if self.phase == Phase::Open && self.lost_bytes > 0 {
            self.enter_recovery();
        }
        match self.phase {
            Phase::Recovery { .. } => {
                self.reduce(news.bytes, progress && self.lost_bytes <= lost);
            }
            Phase::Open | Phase::Timeout { .. } => {
                let starting = self.control.slow_start() && 2 * flight > self.control.window();
                if news.cumulative > 0 && (self.limited || starting) {
                    self.control.on_ack(&Acked {
                        now,
                        bytes: news.cumulative,
                        rtt: news.newest,
                        smoothed: self.rtt.smoothed().unwrap_or(0),
                        una: self.una,
                        nxt: self.nxt,
                    });
                }
            }
        }
        if progress || self.edge > edge {
            self.timers.backoff = 0;
        }
        if progress || news.bytes > 0 || self.edge > edge {
            self.rearm(now, progress);
        }
    }

    fn enter_recovery(&mut self) {
        let prior = self.control.window();
        self.undo = Some(Undo {
            control: self.control.clone(),
            again: 0,
            used: false,
        });
        self.control.on_loss();
        self.phase = Phase::Recovery {
            high: self.nxt,
            prior,
            delivered: 0,
            out: 0,
        };
    }

    /// Sets the window in fast recovery, in proportion to what has arrived (RFC 6937 §3).
    fn reduce(&mut self, bytes: u64, good: bool) {
        let flight = self.flight();
        let threshold = self.control.threshold();
        let Phase::Recovery {
            prior,
            delivered,
            out,
            ..
        } = &mut self.phase
        else {
            return;
        };
        *delivered += bytes;
        let may = if flight > threshold {
            (*delivered * threshold)
                .div_ceil(*prior)
                .saturating_sub(*out)
        } else {
            // Slow start while losses end, and packet conservation otherwise.
            let more = if good { self.mss } else { 0 };
            let limit = delivered.saturating_sub(*out).max(bytes) + more;
            limit.min(threshold - flight)
        };
        // The first retransmission does not wait.
        let may = if *out == 0 { may.max(self.mss) } else { may };
        self.control.set_window(flight + may);
    }

    /// The next segment to be sent now, which is recorded as sent.
    pub(super) fn poll(&mut self, now: u64) -> Option<Outgoing> {
        if self.timers.probing {
            self.timers.probing = false;
            if let Some(outgoing) = self.probe(now) {
                return Some(outgoing);
            }
        }
        let window = self.control.window();
        if self.lost_bytes > 0
            && let Some(index) = self.next_lost()
        {
            let len = self.segments[index].len();
            if self.flight() + len > window && self.flight() > 0 {
                self.limited = true;
                return None;
            }
            return Some(self.send_again(now, index));
        }
        let waits = self.end().saturating_sub(self.nxt);
        let data = self.buffer.end().saturating_sub(self.nxt);
        let open = self.edge.saturating_sub(self.nxt);
        let len = data.min(self.mss).min(open);
        // A short segment is sent only when the peer's window is not the reason (RFC 9293
        // §3.8.6.2.1), unless nothing else is under way.
        let silly = len < data.min(self.mss) && self.nxt > self.una;
        if waits == 0 || silly || (len == 0 && data > 0) {
            self.limited = false;
            return None;
        }
        self.after_idle(now);
        let window = self.control.window();
        if self.flight() > 0 && self.flight() + len.max(1) > window {
            self.limited = true;
            return None;
        }
        Some(self.send_new(now, len))
    }

    fn after_idle(&mut self, now: u64) {
        let rto = self.rtt.timeout(0);
        let idle = now - self.last_sent;
        if self.segments.is_empty() && self.last_sent > 0 && idle > rto {
            self.control.on_idle(idle, rto);
        }
    }

    fn send_new(&mut self, now: u64, len: u64) -> Outgoing {
        let start = self.nxt;
        let fin = self.closed && start + len == self.buffer.end();
        self.nxt += len + u64::from(fin);
        self.segments.push_back(Sent {
            start,
            end: self.nxt,
            at: now,
            sacked: false,
            lost: false,
            again: false,
        });
        self.sent(now, self.nxt - start);
        self.outgoing(start, self.nxt)
    }

    fn send_again(&mut self, now: u64, index: usize) -> Outgoing {
        let segment = &mut self.segments[index];
        let (start, end, len) = (segment.start, segment.end, segment.len());
        if segment.lost {
            self.lost_bytes -= len;
        }
        (segment.lost, segment.again, segment.at) = (false, true, now);
        self.retransmitted.push_back((start, now));
        if let Some(undo) = &mut self.undo {
            undo.again += 1;
            undo.used = true;
        }
        self.sent(now, len);
        self.outgoing(start, end)
    }

    fn sent(&mut self, now: u64, len: u64) {
        self.last_sent = now;
        if let Phase::Recovery { out, .. } = &mut self.phase {
            *out += len;
        }
        self.arm_after_send(now);
    }

    fn outgoing(&self, start: u64, end: u64) -> Outgoing {
        let fin = self.closed && end == self.end();
        Outgoing {
            start,
            len: (end - start) as usize - usize::from(fin),
            fin,
            push: end >= self.buffer.end(),
        }
    }
}
