//! The timers of the sending half: retransmission (RFC 6298 §5), tail loss probes (RFC 8985 §7),
//! reordering (RFC 8985 §6.2) and zero windows (RFC 9293 §3.8.6.1).

use super::{Ack, Outgoing, Phase, Sender};

/// Timeouts in a row after which the peer is given up, as in Linux.
const MAX_TIMEOUTS: u32 = 15;
/// How much later than two round trips a lone segment is probed for, because the peer may delay its
/// acknowledgement.
const LONE_SEGMENT: u64 = 200_000;
const PROBE_SLACK: u64 = 2_000;

/// What happens at [`Timers::main`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Retransmission,
    Probe,
    ZeroWindow,
}

/// What the last probe has sent.
#[derive(Clone, Copy, Debug)]
struct Probed {
    /// Everything that was sent by then ends here.
    high: u64,
    /// It sent a segment again.
    again: bool,
}

/// The timers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timers {
    main: Option<(u64, Kind)>,
    /// When a segment may be judged as lost.
    pub(super) reordering: Option<u64>,
    /// Timeouts in a row.
    pub(super) backoff: u32,
    /// A probe is to be sent.
    pub(super) probing: bool,
    probed: Option<Probed>,
}

/// What a timer requires of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Due {
    /// Nothing more.
    Nothing,
    /// Ask the peer for its window.
    AskWindow,
    /// The peer does not answer any more.
    GiveUp,
}

impl Sender {
    /// The earliest timer.
    pub(in super::super) fn deadline(&self) -> Option<u64> {
        let main = self.timers.main.map(|(at, _)| at);
        main.into_iter().chain(self.timers.reordering).min()
    }

    /// Runs the timers that are due.
    pub(in super::super) fn timeout(&mut self, now: u64) -> Due {
        if self.timers.reordering.is_some_and(|at| at <= now) {
            self.detect(now);
            if self.phase == Phase::Open && self.lost_bytes > 0 {
                self.enter_recovery();
                self.reduce(0, false);
            }
        }
        let Some((_, kind)) = self.timers.main.filter(|(at, _)| *at <= now) else {
            return Due::Nothing;
        };
        self.timers.main = None;
        match kind {
            Kind::Probe => {
                self.timers.probing = true;
                self.arm(now, Kind::Retransmission);
                Due::Nothing
            }
            _ if self.timers.backoff >= MAX_TIMEOUTS => Due::GiveUp,
            Kind::Retransmission => {
                self.all_lost();
                self.timers.backoff += 1;
                self.arm(now, Kind::Retransmission);
                Due::Nothing
            }
            Kind::ZeroWindow => {
                self.timers.backoff += 1;
                self.arm(now, Kind::ZeroWindow);
                Due::AskWindow
            }
        }
    }

    /// The peer has answered a question about its window, which is still closed.
    pub(in super::super) const fn heard(&mut self) {
        if matches!(self.timers.main, Some((_, Kind::ZeroWindow))) && self.timers.backoff > 8 {
            // It is alive, so it is not given up.
            self.timers.backoff = 8;
        }
    }

    fn arm(&mut self, now: u64, kind: Kind) {
        let wait = self.rtt.timeout(self.timers.backoff);
        self.timers.main = Some((now + wait, kind));
    }

    /// Sets the timer after an acknowledgement. `progress` when it was for new data.
    pub(super) fn rearm(&mut self, now: u64, progress: bool) {
        if self.segments.is_empty() {
            self.timers.main = None;
            self.arm_zero_window(now);
        } else if progress || matches!(self.timers.main, None | Some((_, Kind::Probe))) {
            self.arm(now, Kind::Retransmission);
            self.arm_probe(now);
        }
    }

    /// Sets the timer after a segment was sent.
    pub(super) fn arm_after_send(&mut self, now: u64) {
        match self.timers.main {
            Some((_, Kind::Retransmission)) if self.timers.backoff > 0 => {}
            Some((_, Kind::Retransmission)) if self.segments.len() > 1 => self.arm_probe(now),
            Some((_, Kind::Probe)) => {
                self.arm(now, Kind::Retransmission);
                self.arm_probe(now);
            }
            _ => {
                self.arm(now, Kind::Retransmission);
                self.arm_probe(now);
            }
        }
    }

    /// Asks for the window from time to time while it is closed and nothing is under way.
    pub(in super::super) fn arm_zero_window(&mut self, now: u64) {
        let waits = self.buffer.end() > self.nxt && self.edge <= self.nxt;
        if waits && self.segments.is_empty() && self.timers.main.is_none() {
            self.arm(now, Kind::ZeroWindow);
        }
    }

    /// Puts a probe before the retransmission timeout (RFC 8985 §7.2).
    fn arm_probe(&mut self, now: u64) {
        let Some(smooth) = self.rtt.smoothed() else {
            return;
        };
        if self.phase != Phase::Open || self.sacked_count > 0 || self.timers.probed.is_some() {
            return;
        }
        let slack = match self.segments.len() {
            1 => LONE_SEGMENT,
            _ => PROBE_SLACK,
        };
        let at = now + 2 * smooth + slack;
        if let Some((main, _)) = self.timers.main
            && at < main
        {
            self.timers.main = Some((at, Kind::Probe));
        }
    }

    /// Sends new data, or the last segment again, regardless of the congestion window.
    pub(super) fn probe(&mut self, now: u64) -> Option<Outgoing> {
        let len = (self.buffer.end().saturating_sub(self.nxt))
            .min(self.mss)
            .min(self.edge.saturating_sub(self.nxt));
        let high = self.nxt + len;
        self.timers.probed = Some(Probed {
            high,
            again: len == 0,
        });
        if len > 0 {
            return Some(self.send_new(now, len));
        }
        let last = self.segments.len().checked_sub(1)?;
        if self.segments[last].sacked {
            return None;
        }
        Some(self.send_again(now, last))
    }

    /// Ends a probe that is acknowledged. If it has repaired a loss, that loss counts (RFC 8985
    /// §7.4).
    pub(super) fn end_of_probe(&mut self, ack: &Ack<'_>, duplicate: bool) {
        let Some(probed) = self.timers.probed else {
            return;
        };
        if ack.una < probed.high && !duplicate {
            return;
        }
        self.timers.probed = None;
        if probed.again && !duplicate && self.phase == Phase::Open {
            self.control.on_loss();
            self.control.set_window(self.control.threshold());
        }
    }

    /// Everything that is not known to have arrived counts as lost (RFC 6298 §5.4).
    fn all_lost(&mut self) {
        if self.segments.front().is_some_and(|first| first.sacked) {
            // The peer has dropped data that it had acknowledged selectively (RFC 2018 §8).
            self.sacked.clear();
            (self.sacked_bytes, self.sacked_count) = (0, 0);
            for segment in &mut self.segments {
                segment.sacked = false;
            }
        }
        self.undo = None;
        let again = matches!(self.phase, Phase::Timeout { .. }) && self.timers.backoff > 0;
        self.control.on_timeout(again);
        self.phase = Phase::Timeout { high: self.nxt };
        self.lost_bytes = 0;
        for segment in self.segments.iter_mut().filter(|s| !s.sacked) {
            segment.lost = true;
            self.lost_bytes += segment.len();
        }
        self.retransmitted.clear();
        self.timers.probed = None;
        self.timers.reordering = None;
        (self.judged, self.lost_from) = (self.nxt, self.una);
    }
}
