//! What a box in the middle can tell of a TCP connection (RFC 9293 §3.3.2, RFC 5382 §4): enough
//! to choose a timeout, without sequence numbers. Behaves as Linux's connection tracking does.

use crate::TcpFlags;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
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
pub(crate) enum Step {
    /// The connection is in this state now.
    To(State),
    /// Passed, and counts for nothing: not even as a sign of life.
    Ignore,
    /// It does not belong there.
    Invalid,
    /// It opens a new connection in the place of one that is over.
    Reopen,
}

#[derive(Clone, Copy, PartialEq, Eq)]
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
pub(crate) fn first(flags: TcpFlags, loose: bool) -> Option<State> {
    match segment(flags) {
        Segment::Syn => Some(State::SynSent),
        Segment::Ack if loose => Some(State::Established),
        _ => None,
    }
}

/// What a segment does; `began` if it comes from the side that sent the first.
pub(crate) fn next(state: State, began: bool, flags: TcpFlags) -> Step {
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
            TimeWait | Closed => return Step::Reopen,
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
}
