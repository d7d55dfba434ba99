//! Connection tracking: how long a middlebox keeps a flow, and which packets belong to it.
//!
//! Of a TCP connection (RFC 9293 §3.3.2, RFC 5382 §4) a middlebox can tell enough to choose a
//! timeout and, if it follows the windows, to reject segments that do not belong. The model behaves
//! like Linux's connection tracking.
//!
//! The *originator* of a flow is the side that sent its first packet; parameters called `began` are
//! `true` for packets from that side.

mod sctp;
mod state;
#[cfg(test)]
mod tests;
mod window;

use std::time::Duration;

use dunlin_core::Instant;

use self::{
    state::{Kind, State, Step, first, kind, next},
    window::{Fit, Reset, Windows},
};

use crate::packet::{Proto, Segment};

/// So many copies of a segment in a row make a connection stall.
const RETRANSMISSIONS: u8 = 3;

/// How long flows live without traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A UDP flow that has not been answered yet.
    pub udp_first: Duration,
    /// A UDP flow that has been answered.
    pub udp_stream: Duration,
    /// The age that a UDP flow needs for `udp_stream` to apply; 2 s on Linux.
    pub udp_stream_after: Duration,
    /// Packets from outside keep a UDP mapping alive (RFC 4787 REQ-6).
    pub inbound_refresh: bool,
    /// A TCP connection of which only SYNs were seen.
    pub tcp_syn: Duration,
    /// A TCP connection whose SYN was accepted, and not more.
    pub tcp_syn_received: Duration,
    /// An open TCP connection.
    pub tcp_established: Duration,
    /// A TCP connection that stalls gets at most this long: data wait for their acknowledgement,
    /// a segment was sent four times, a window is closed, or the other side of a connection that
    /// was picked up in the middle has not answered. Only boxes that follow the windows know.
    pub tcp_stalled: Duration,
    /// A TCP connection of which one side has sent its FIN.
    pub tcp_fin: Duration,
    /// A TCP connection of which one side has closed its half, acknowledged by the other.
    pub tcp_close_wait: Duration,
    /// A TCP connection of which both sides have sent their FIN.
    pub tcp_last_ack: Duration,
    /// A TCP connection that is over.
    pub tcp_time_wait: Duration,
    /// A TCP connection that was reset after it had been answered. One whose first answer is a
    /// reset is forgotten at once.
    pub tcp_reset: Duration,
    /// An ICMP query.
    pub icmp: Duration,
    /// GRE that has not been answered yet.
    pub gre_first: Duration,
    /// GRE that has been answered.
    pub gre_stream: Duration,
    /// An SCTP association that is being opened.
    pub sctp_opening: Duration,
    /// An open SCTP association.
    pub sctp_established: Duration,
    /// An SCTP path of which only a HEARTBEAT was seen.
    pub sctp_heartbeat: Duration,
    /// An SCTP association that is being closed.
    pub sctp_closing: Duration,
    /// An SCTP association that was closed or aborted.
    pub sctp_closed: Duration,
    /// Any other protocol.
    pub generic: Duration,
}

impl Timeouts {
    /// Sets the lifetime of TCP connections that are being opened, in every state.
    pub const fn set_tcp_opening(&mut self, life: Duration) {
        self.tcp_syn = life;
        self.tcp_syn_received = life;
    }

    /// Sets the lifetime of TCP connections that are being closed, in every state but a reset.
    pub const fn set_tcp_closing(&mut self, life: Duration) {
        self.tcp_fin = life;
        self.tcp_close_wait = life;
        self.tcp_last_ack = life;
        self.tcp_time_wait = life;
    }

    /// Sets the lifetime of TCP connections of which only SYNs were seen. One whose SYN was
    /// accepted does not live longer.
    pub fn cap_tcp_opening(&mut self, life: Duration) {
        self.tcp_syn = life;
        self.tcp_syn_received = self.tcp_syn_received.min(life);
    }

    /// Sets the lifetime of TCP connections of which one side has sent its FIN. The states after
    /// that do not live longer.
    pub fn cap_tcp_closing(&mut self, life: Duration) {
        self.tcp_fin = life;
        for later in [
            &mut self.tcp_close_wait,
            &mut self.tcp_last_ack,
            &mut self.tcp_time_wait,
        ] {
            *later = (*later).min(life);
        }
    }
}

/// The configuration of connection tracking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) times: &'a Timeouts,
    /// A segment from the middle of a connection may begin a flow.
    pub(crate) loose: bool,
    /// Segments outside the windows are invalid.
    pub(crate) windows: bool,
}

/// The state of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Track {
    made: Instant,
    state: State,
    /// The other side has sent a packet.
    answered: bool,
    /// At least one side has sent its FIN.
    finished: bool,
    /// The last segment that passed, and whether the originator sent it.
    last: Option<(Kind, bool)>,
    /// Both sides sent a SYN before either was accepted.
    crossed: bool,
    /// A SYN passed while the last acknowledgement was awaited, so the next acknowledgement may be
    /// a challenge (RFC 5961 §4).
    challenged: bool,
    /// Both sides have shown that the connection was open.
    assured: bool,
    /// The windows of a TCP connection, if they are followed.
    windows: Option<Windows>,
}

/// What a packet does to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The flow lives for this long from now.
    Lives(Duration),
    /// The packet passes and does not prolong the flow.
    Passes,
    /// The packet does not belong to the flow.
    Invalid,
    /// The packet begins another flow, and this one is over.
    Over,
}

impl Track {
    /// Creates a flow, and returns it with its lifetime. Returns `None` when no flow may begin with
    /// this segment.
    pub(crate) fn begin(
        rules: &Rules<'_>,
        now: Instant,
        proto: Proto,
        segment: &Segment,
    ) -> Option<(Self, Duration)> {
        let times = rules.times;
        let (state, life) = match proto {
            Proto::Udp => (State::None, times.udp_first),
            Proto::Icmp => (State::None, times.icmp),
            Proto::UdpLite => (State::None, times.udp_first),
            Proto::Gre => (State::None, times.gre_first),
            Proto::Esp => (State::None, times.generic),
            Proto::Sctp => {
                let state = sctp::first(segment.chunk?)?;
                (state, sctp::life(times, state))
            }
            Proto::Tcp => {
                let state = first(segment.flags, rules.loose)?;
                (state, life(times, state))
            }
        };
        let windows = (rules.windows && proto == Proto::Tcp).then(|| Windows::begin(segment));
        let life = match windows {
            // Nobody has answered yet.
            Some(_) if state == State::Established => life.min(times.tcp_stalled),
            _ => life,
        };
        let track = Self {
            made: now,
            state,
            answered: false,
            finished: false,
            last: (proto == Proto::Tcp).then(|| (kind(segment.flags), true)),
            crossed: false,
            challenged: false,
            assured: false,
            windows,
        };
        Some((track, life))
    }

    /// What a segment does, given the segments before it.
    fn step(&mut self, began: bool, segment: &Segment) -> Step {
        let (old, what) = (self.state, kind(segment.flags));
        let mut step = next(old, began, segment.flags);
        let mut within = false;
        match step {
            Step::Invalid => return step,
            Step::Reopen | Step::Ignore => match self.ignored(step, began, segment) {
                Step::Ignore => return Step::Ignore,
                other => step = other,
            },
            Step::To(State::TimeWait) if old == State::LastAck && self.challenged => {
                if what == Kind::Ack && self.last == Some((Kind::Syn, !began)) {
                    self.challenged = false;
                    return Step::Ignore;
                }
            }
            Step::To(State::SynCrossed) => self.crossed = true,
            Step::To(State::SynReceived) if self.crossed && !began && what == Kind::Ack => {
                step = Step::To(State::Established);
            }
            Step::To(State::Closed) if what == Kind::Rst => match self.reset(began, segment) {
                Some((state, sure)) => (step, within) = (Step::To(state), sure),
                None => return Step::Invalid,
            },
            Step::To(_) => {}
        }
        if step == Step::Reopen {
            return step;
        }
        if let Some(windows) = &mut self.windows
            && !within
        {
            match windows.fit(began, old, segment) {
                Fit::In => {}
                Fit::Old => return Step::Ignore,
                Fit::Out => return Step::Invalid,
            }
        }
        self.last = Some((what, began));
        if let Some(windows) = &mut self.windows {
            windows.passed(began);
        }
        self.finished |= step == Step::To(State::FinWait);
        step
    }

    /// Handles a segment that changes no state by itself. A connection that was reset may be opened
    /// again by the side that reset it, and by the other side when its SYN is accepted.
    fn ignored(&mut self, step: Step, began: bool, segment: &Segment) -> Step {
        let what = kind(segment.flags);
        let aborted = self.last == Some((Kind::Rst, began));
        if step == Step::Reopen && (self.finished || aborted) {
            return Step::Reopen;
        }
        let accepts = self.windows.is_none_or(|w| w.accepts(segment));
        if what == Kind::SynAck && self.last == Some((Kind::Syn, !began)) && accepts {
            if let Some(windows) = &mut self.windows {
                windows.resync(began);
            }
            (self.finished, self.challenged) = (false, false);
            return Step::To(State::SynReceived);
        }
        let fresh = what == Kind::Syn && began;
        if fresh {
            self.crossed = false;
            self.challenged = self.state == State::LastAck;
        }
        if let Some(windows) = &mut self.windows {
            windows.ignored(began, segment, fresh);
            if self.state == State::SynSent && what == Kind::Ack && !began {
                windows.challenged(segment);
            }
        }
        self.last = Some((what, began));
        Step::Ignore
    }

    /// The state after a reset, and whether that holds regardless of the windows. Returns `None`
    /// for a reset of old data.
    fn reset(&self, began: bool, segment: &Segment) -> Option<(State, bool)> {
        let mut state = State::Closed;
        let closing = matches!(
            self.state,
            State::FinWait | State::CloseWait | State::LastAck | State::TimeWait | State::Closed
        );
        let windows = match &self.windows {
            Some(windows) if !closing => windows,
            _ => return Some((state, true)),
        };
        let open = self.state == State::Established && self.assured;
        match windows.reset(began, segment) {
            Reset::Unknown => {}
            Reset::Old => return None,
            Reset::Exact => return Some((state, false)),
            Reset::Next if self.last == Some((Kind::Ack, began)) => return Some((state, false)),
            _ if !open => return Some((state, false)),
            // The receiver answers such a reset with a challenge (RFC 5961 §3), so the connection
            // stays.
            Reset::Next | Reset::Ahead => state = self.state,
        }
        let strange = match self.last {
            Some((Kind::Syn, _)) => self.answered,
            Some((Kind::Ack, _)) => !self.assured,
            _ => false,
        };
        let asked = self.state == State::SynSent && self.last == Some((Kind::Ack, false));
        let sure =
            strange && windows.refuses(segment) || asked && windows.answers_challenge(segment);
        Some((state, sure))
    }

    /// Accounts for a packet of the flow; `began` is `true` when the originator sent it.
    pub(crate) fn account(
        &mut self,
        times: &Timeouts,
        now: Instant,
        proto: Proto,
        began: bool,
        segment: &Segment,
    ) -> Outcome {
        let (before, old) = (self.answered, self.state);
        let state = match proto {
            Proto::Icmp => return Outcome::Lives(times.icmp),
            Proto::Esp => return Outcome::Lives(times.generic),
            // As in UDP, the first answer itself does not extend the lifetime.
            Proto::UdpLite | Proto::Gre => {
                let (first, stream) = match proto {
                    Proto::Gre => (times.gre_first, times.gre_stream),
                    _ => (times.udp_first, times.udp_stream),
                };
                self.answered |= !began;
                return Outcome::Lives(if before { stream } else { first });
            }
            Proto::Sctp => {
                let chunk = segment.chunk.unwrap_or(sctp::DATA);
                let state = sctp::next(old, began, chunk);
                self.answered |= !began;
                self.state = state;
                return Outcome::Lives(sctp::life(times, state));
            }
            Proto::Udp => {
                // On Linux the first answer itself does not extend the lifetime.
                let wait = times.udp_stream_after;
                let answered = before || (!began && wait.is_zero());
                self.answered |= !began;
                return Outcome::Lives(if answered && now >= self.made + wait {
                    times.udp_stream
                } else {
                    times.udp_first
                });
            }
            Proto::Tcp => match self.step(began, segment) {
                Step::Invalid => return Outcome::Invalid,
                Step::Reopen => return Outcome::Over,
                Step::Ignore => {
                    self.answered |= !began;
                    return Outcome::Passes;
                }
                Step::To(state) => state,
            },
        };
        self.answered |= !began;
        self.state = state;
        let open = State::Established;
        self.assured |=
            before && state == open && matches!(old, State::SynReceived | State::Established);
        match kind(segment.flags) {
            // The connection was refused, so it never existed.
            Kind::Rst if !before => Outcome::Lives(Duration::ZERO),
            // The connection stays open, because the reset will be challenged.
            Kind::Rst if state == open && self.repeats() => Outcome::Lives(times.tcp_stalled),
            Kind::Rst => Outcome::Lives(times.tcp_reset),
            // Repeated SYNs must not keep a flow that nobody answers.
            Kind::Syn if !before && old == State::SynSent => Outcome::Passes,
            _ => Outcome::Lives(match self.windows {
                Some(windows) if !before && state == open || windows.waits() || self.repeats() => {
                    life(times, state).min(times.tcp_stalled)
                }
                _ => life(times, state),
            }),
        }
    }

    /// Returns `true` when one side has sent the same segment again and again.
    fn repeats(&self) -> bool {
        (self.windows).is_some_and(|windows| windows.copies() >= RETRANSMISSIONS)
    }

    /// The state of a TCP connection or SCTP association, by the name that Linux has for it in TCP.
    pub(crate) const fn state(&self) -> Option<&'static str> {
        self.state.name()
    }
}

const fn life(times: &Timeouts, state: State) -> Duration {
    match state {
        State::SynSent | State::SynCrossed => times.tcp_syn,
        State::SynReceived => times.tcp_syn_received,
        State::Established => times.tcp_established,
        State::None | State::FinWait | State::Heartbeat => times.tcp_fin,
        State::CloseWait => times.tcp_close_wait,
        State::LastAck => times.tcp_last_ack,
        State::TimeWait => times.tcp_time_wait,
        State::Closed => times.tcp_reset,
    }
}

#[cfg(test)]
mod steps {
    use super::*;
    use crate::packet::TcpFlags;

    const SYN: TcpFlags = TcpFlags::SYN;
    const ACK: TcpFlags = TcpFlags::ACK;
    const FIN: TcpFlags = TcpFlags::FIN;
    const RST: TcpFlags = TcpFlags::RST;

    fn bare(flags: TcpFlags) -> Segment {
        Segment {
            flags,
            ..Segment::default()
        }
    }

    fn begin(segment: &Segment, windows: bool) -> Track {
        let rules = Rules {
            times: &crate::middlebox::nat::presets::linux().timeouts,
            loose: true,
            windows,
        };
        let begun = Track::begin(&rules, Instant::ORIGIN, Proto::Tcp, segment);
        begun.expect("a connection begins so").0
    }

    fn walk(steps: &[(bool, TcpFlags)]) -> Vec<Step> {
        let mut state = first(steps[0].1, false).expect("begins");
        let mut all = Vec::new();
        for (began, flags) in &steps[1..] {
            let step = next(state, *began, *flags);
            if let Step::To(to) = step {
                state = to;
            }
            all.push(step);
        }
        all
    }

    #[test]
    fn a_connection_from_its_first_segment_to_its_last() {
        let (me, you) = (true, false);
        assert_eq!(
            walk(&[
                (me, SYN),
                (you, SYN.with(ACK)),
                (me, ACK),
                (me, FIN.with(ACK)),
                (you, ACK),
                (you, FIN.with(ACK)),
                (me, ACK),
                (me, SYN),
            ]),
            [
                Step::To(State::SynReceived),
                Step::To(State::Established),
                Step::To(State::FinWait),
                Step::To(State::CloseWait),
                Step::To(State::LastAck),
                Step::To(State::TimeWait),
                Step::Reopen,
            ]
        );
    }

    #[test]
    fn a_simultaneous_open_becomes_established() {
        let (me, you) = (true, false);
        assert_eq!(
            walk(&[
                (me, SYN),
                (you, SYN),
                (me, SYN.with(ACK)),
                (you, SYN.with(ACK)),
                (me, ACK)
            ]),
            [
                Step::To(State::SynCrossed),
                Step::To(State::SynReceived),
                Step::Ignore,
                Step::To(State::Established),
            ]
        );
    }

    #[test]
    fn only_a_syn_begins_unless_loose() {
        assert_eq!(first(SYN, false), Some(State::SynSent));
        for flags in [SYN.with(ACK), FIN, RST, TcpFlags::default()] {
            assert_eq!((first(flags, false), first(flags, true)), (None, None));
        }
        assert_eq!(first(ACK, false), None);
        assert_eq!(first(ACK, true), Some(State::Established));
    }

    #[test]
    fn a_reset_closes_and_a_syn_reopens() {
        assert_eq!(
            next(State::Established, false, RST),
            Step::To(State::Closed)
        );
        assert_eq!(next(State::Closed, true, SYN), Step::Reopen);
        assert_eq!(next(State::Established, true, SYN), Step::Ignore);
        assert_eq!(next(State::SynSent, true, ACK), Step::Invalid);
    }

    #[test]
    fn who_reset_a_connection_opens_it_anew_and_the_other_when_accepted() {
        let (me, you) = (true, false);
        let track = |segments: &[(bool, TcpFlags)]| {
            let mut track = begin(&bare(segments[0].1), false);
            track.answered = true;
            let steps: Vec<_> = segments[1..]
                .iter()
                .map(|(began, flags)| {
                    let step = track.step(*began, &bare(*flags));
                    if let Step::To(to) = step {
                        track.state = to;
                    }
                    step
                })
                .collect();
            steps[steps.len() - 1]
        };
        let syn_ack = SYN.with(ACK);
        assert_eq!(track(&[(me, SYN), (me, RST), (me, SYN)]), Step::Reopen);
        let by_you = [(me, SYN), (you, syn_ack), (you, RST), (me, SYN)];
        assert_eq!(track(&by_you), Step::Ignore);
        assert_eq!(
            track(&[&by_you[..], &[(you, syn_ack)]].concat()),
            Step::To(State::SynReceived)
        );
        assert_eq!(track(&[(me, SYN), (me, RST), (you, SYN)]), Step::Invalid);
    }
}
