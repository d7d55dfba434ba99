//! How long a box in the middle keeps a flow: of a TCP connection (RFC 9293 §3.3.2, RFC 5382 §4)
//! it can tell enough to choose a timeout, without sequence numbers. Behaves as Linux's
//! connection tracking does.

use std::time::Duration;

use dunlin_core::Instant;

use crate::{Proto, TcpFlags, nat::Timeouts};

/// A connection that was taken up in its midst is not trusted for longer than this until it is
/// answered.
const UNANSWERED: Duration = Duration::from_secs(300);

/// What is known of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Track {
    made: Instant,
    state: State,
    /// A packet came back from the side that did not begin.
    answered: bool,
    /// One side said that it is done.
    finished: bool,
    /// The last segment that passed, and whether it came from the side that began.
    last: Option<(Segment, bool)>,
}

/// What a packet does to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It lives for so long from now.
    Lives(Duration),
    /// It passes, and lives no longer for it.
    Passes,
    /// It does not belong there.
    Invalid,
    /// It begins another flow; this one is over.
    Over,
}

impl Track {
    /// A new flow and how long it lives; `None` if no flow begins with such a segment.
    pub(crate) fn begin(
        times: &Timeouts,
        now: Instant,
        proto: Proto,
        flags: TcpFlags,
        loose: bool,
    ) -> Option<(Self, Duration)> {
        let (state, life) = match proto {
            Proto::Udp => (State::None, times.udp_first),
            Proto::Icmp => (State::None, times.icmp),
            Proto::Tcp => {
                let state = first(flags, loose)?;
                (state, life(times, state, false))
            }
        };
        let track = Self {
            made: now,
            state,
            answered: false,
            finished: false,
            last: None,
        };
        Some((track, life))
    }

    /// What a segment does, in the light of what came before: a connection that was reset is
    /// opened anew by the side that reset it, and by the other when its SYN is accepted.
    fn step(&mut self, began: bool, flags: TcpFlags) -> Step {
        let segment = segment(flags);
        let mut step = next(self.state, began, flags);
        let aborted = self.last == Some((Segment::Rst, began));
        if step == Step::Reopen && !self.finished && !aborted {
            step = Step::Ignore;
        }
        let accepted = segment == Segment::SynAck && self.last == Some((Segment::Syn, !began));
        if step == Step::Ignore && accepted {
            step = Step::To(State::SynReceived);
            self.finished = false;
        }
        self.finished |= step == Step::To(State::FinWait);
        if step != Step::Invalid {
            self.last = Some((segment, began));
        }
        step
    }

    /// A packet of the flow; `began` if it comes from the side that sent the first.
    pub(crate) fn sign(
        &mut self,
        times: &Timeouts,
        now: Instant,
        proto: Proto,
        began: bool,
        flags: TcpFlags,
    ) -> Sign {
        let before = self.answered;
        let state = match proto {
            Proto::Icmp => return Sign::Lives(times.icmp),
            Proto::Udp => {
                // On Linux the first answer itself does not count.
                let wait = times.udp_stream_after;
                let answered = before || (!began && wait.is_zero());
                self.answered |= !began;
                return Sign::Lives(if answered && now >= self.made + wait {
                    times.udp_stream
                } else {
                    times.udp_first
                });
            }
            Proto::Tcp => match self.step(began, flags) {
                Step::Invalid => return Sign::Invalid,
                Step::Reopen => return Sign::Over,
                Step::Ignore => {
                    self.answered |= !began;
                    return Sign::Passes;
                }
                Step::To(state) => state,
            },
        };
        self.answered |= !began;
        self.state = state;
        Sign::Lives(if state == State::Closed && !before {
            // Refused: there never was a connection.
            Duration::ZERO
        } else {
            life(times, state, self.answered)
        })
    }
}

fn life(times: &Timeouts, state: State, answered: bool) -> Duration {
    match state {
        State::SynSent | State::SynCrossed | State::SynReceived => times.tcp_syn,
        State::Established if answered => times.tcp_established,
        State::Established => times.tcp_established.min(UNANSWERED),
        State::None | State::FinWait | State::CloseWait | State::LastAck | State::TimeWait => {
            times.tcp_fin
        }
        State::Closed => times.tcp_reset,
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// Not TCP.
    None,
    /// A SYN went from the side that began.
    SynSent,
    /// A SYN went from either side: a simultaneous open (RFC 5382 REQ-2).
    SynCrossed,
    /// A SYN was acknowledged by a SYN.
    SynReceived,
    /// Open.
    Established,
    /// One side is done.
    FinWait,
    /// Its end was acknowledged.
    CloseWait,
    /// Both are done.
    LastAck,
    /// Both know.
    TimeWait,
    /// Reset.
    Closed,
}

/// What a segment does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The connection is in this state now.
    To(State),
    /// Passed, and counts for nothing: not even as a sign of life.
    Ignore,
    /// It does not belong there.
    Invalid,
    /// It opens a new connection in the place of one that is over.
    Reopen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment {
    Rst,
    Syn,
    SynAck,
    Fin,
    Ack,
    Bare,
}

const fn segment(flags: TcpFlags) -> Segment {
    if flags.has(TcpFlags::RST) {
        Segment::Rst
    } else if flags.has(TcpFlags::SYN) && flags.has(TcpFlags::ACK) {
        Segment::SynAck
    } else if flags.has(TcpFlags::SYN) {
        Segment::Syn
    } else if flags.has(TcpFlags::FIN) {
        Segment::Fin
    } else if flags.has(TcpFlags::ACK) {
        Segment::Ack
    } else {
        Segment::Bare
    }
}

/// The state of a connection whose first segment this is; `None` if none begins so. With `loose`
/// a segment from the middle of one is taken for its first.
fn first(flags: TcpFlags, loose: bool) -> Option<State> {
    match segment(flags) {
        Segment::Syn => Some(State::SynSent),
        Segment::Ack if loose => Some(State::Established),
        _ => None,
    }
}

/// What a segment does; `began` if it comes from the side that sent the first.
fn next(state: State, began: bool, flags: TcpFlags) -> Step {
    use State::*;
    let to = match (segment(flags), began) {
        (Segment::Rst, _) => Closed,
        (Segment::Syn, true) => match state {
            SynSent => SynSent,
            SynCrossed => SynCrossed,
            TimeWait | Closed => return Step::Reopen,
            _ => return Step::Ignore,
        },
        (Segment::Syn, false) => match state {
            SynSent | SynCrossed => SynCrossed,
            TimeWait => return Step::Reopen,
            _ => return Step::Invalid,
        },
        (Segment::SynAck, true) => match state {
            SynReceived | SynCrossed => SynReceived,
            _ => return Step::Invalid,
        },
        (Segment::SynAck, false) => match state {
            SynSent | SynCrossed => SynReceived,
            _ => return Step::Ignore,
        },
        (Segment::Fin, _) => match state {
            SynReceived | Established => FinWait,
            FinWait | CloseWait | LastAck => LastAck,
            TimeWait => TimeWait,
            Closed => Closed,
            _ => return Step::Invalid,
        },
        (Segment::Ack, _) => match state {
            SynReceived if !began => SynReceived,
            SynReceived | Established => Established,
            FinWait | CloseWait => CloseWait,
            LastAck | TimeWait => TimeWait,
            Closed => Closed,
            _ if began => return Step::Invalid,
            _ => return Step::Ignore,
        },
        (Segment::Bare, _) => return Step::Invalid,
    };
    Step::To(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: TcpFlags = TcpFlags::SYN;
    const ACK: TcpFlags = TcpFlags::ACK;
    const FIN: TcpFlags = TcpFlags::FIN;
    const RST: TcpFlags = TcpFlags::RST;

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
            let state = first(segments[0].1, false).expect("begins");
            let mut track = Track {
                made: Instant::ORIGIN,
                state,
                answered: true,
                finished: false,
                last: None,
            };
            let steps: Vec<_> = segments[1..]
                .iter()
                .map(|(began, flags)| {
                    let step = track.step(*began, *flags);
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
