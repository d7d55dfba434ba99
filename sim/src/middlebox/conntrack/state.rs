//! The states of a TCP connection as a middlebox sees them, and the segments that lead from one to
//! another.

use crate::packet::TcpFlags;

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    /// The flow is not TCP.
    None,
    /// The originator sent a SYN.
    SynSent,
    /// Both sides sent a SYN: a simultaneous open (RFC 5382 REQ-2).
    SynCrossed,
    /// A SYN was answered by a SYN with ACK.
    SynReceived,
    /// The connection is open.
    Established,
    /// One side has sent its FIN.
    FinWait,
    /// That FIN was acknowledged.
    CloseWait,
    /// Both sides have sent their FIN.
    LastAck,
    /// Both FINs were acknowledged.
    TimeWait,
    /// The connection was reset.
    Closed,
    /// A HEARTBEAT was sent, over SCTP only.
    Heartbeat,
}

impl State {
    /// The name that Linux has for the state.
    pub(super) const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::None => return None,
            Self::SynSent => "SYN_SENT",
            Self::SynCrossed => "SYN_SENT2",
            Self::SynReceived => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Closed => "CLOSE",
            Self::Heartbeat => "HEARTBEAT_SENT",
        })
    }
}

/// What a segment does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The connection is in this state now.
    To(State),
    /// The segment passes without any effect; it does not prolong the flow either.
    Ignore,
    /// The segment does not belong to the connection.
    Invalid,
    /// The segment opens a new connection in place of one that is over.
    Reopen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rst,
    Syn,
    SynAck,
    Fin,
    Ack,
    Bare,
}

pub(super) const fn kind(flags: TcpFlags) -> Kind {
    if flags.has(TcpFlags::RST) {
        Kind::Rst
    } else if flags.has(TcpFlags::SYN) && flags.has(TcpFlags::ACK) {
        Kind::SynAck
    } else if flags.has(TcpFlags::SYN) {
        Kind::Syn
    } else if flags.has(TcpFlags::FIN) {
        Kind::Fin
    } else if flags.has(TcpFlags::ACK) {
        Kind::Ack
    } else {
        Kind::Bare
    }
}

/// The state of a connection that begins with this segment; `None` when none may. With `loose`, a
/// segment from the middle of a connection may begin one.
pub(super) fn first(flags: TcpFlags, loose: bool) -> Option<State> {
    match kind(flags) {
        Kind::Syn => Some(State::SynSent),
        Kind::Ack if loose => Some(State::Established),
        _ => None,
    }
}

/// What a segment does; `began` is `true` when the originator sent it.
pub(super) fn next(state: State, began: bool, flags: TcpFlags) -> Step {
    use State::*;
    let to = match (kind(flags), began) {
        (Kind::Rst, _) => Closed,
        (Kind::Syn, true) => match state {
            SynSent => SynSent,
            SynCrossed => SynCrossed,
            TimeWait | Closed => return Step::Reopen,
            _ => return Step::Ignore,
        },
        (Kind::Syn, false) => match state {
            SynSent | SynCrossed => SynCrossed,
            TimeWait => return Step::Reopen,
            _ => return Step::Invalid,
        },
        (Kind::SynAck, true) => match state {
            SynReceived | SynCrossed => SynReceived,
            _ => return Step::Invalid,
        },
        (Kind::SynAck, false) => match state {
            SynSent | SynCrossed => SynReceived,
            _ => return Step::Ignore,
        },
        (Kind::Fin, _) => match state {
            SynReceived | Established => FinWait,
            FinWait | CloseWait | LastAck => LastAck,
            TimeWait => TimeWait,
            Closed => Closed,
            _ => return Step::Invalid,
        },
        (Kind::Ack, _) => match state {
            SynReceived if !began => SynReceived,
            SynReceived | Established => Established,
            FinWait | CloseWait => CloseWait,
            LastAck | TimeWait => TimeWait,
            Closed => Closed,
            _ if began => return Step::Invalid,
            _ => return Step::Ignore,
        },
        (Kind::Bare, _) => return Step::Invalid,
    };
    Step::To(to)
}
