//! SCTP associations as a middlebox sees them (RFC 9260 §4 and §5), by the first chunk of each packet,
//! as Linux has them. The states have the names of TCP's: `SynSent` and `SynReceived` wait for a cookie
//! and for its acknowledgement, `FinWait` and `CloseWait` have seen a SHUTDOWN of the originator and
//! of the other side, `LastAck` its acknowledgement. Verification tags are not compared.

use std::time::Duration;

use super::{Timeouts, state::State};

pub(super) const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// The state of an association that begins with this chunk; `None` when none may. An INIT is not
/// trusted before it is answered.
pub(super) const fn first(chunk: u8) -> Option<State> {
    match chunk {
        HEARTBEAT => Some(State::Heartbeat),
        SHUTDOWN_ACK => Some(State::LastAck),
        INIT | INIT_ACK | ABORT | SHUTDOWN | ERROR | COOKIE_ECHO | COOKIE_ACK
        | SHUTDOWN_COMPLETE | HEARTBEAT_ACK => Some(State::Closed),
        _ => None,
    }
}

/// The state after a chunk; `began` is `true` when the originator sent it.
pub(super) const fn next(state: State, began: bool, chunk: u8) -> State {
    use State::{
        CloseWait, Closed, Established, FinWait, Heartbeat, LastAck, SynReceived, SynSent,
    };
    match (chunk, began, state) {
        (ABORT, ..) => Closed,
        (INIT, _, FinWait | CloseWait) | (INIT_ACK, false, FinWait | CloseWait) => Closed,
        (INIT, true, Heartbeat) => SynSent,
        (INIT_ACK, false, Closed) => SynSent,
        (COOKIE_ECHO, _, SynSent) => SynReceived,
        (COOKIE_ACK, _, SynReceived) => Established,
        (ERROR, false, SynReceived) => Closed,
        (HEARTBEAT_ACK, false, Heartbeat) => Established,
        (HEARTBEAT | HEARTBEAT_ACK, true, Heartbeat) => Heartbeat,
        (SHUTDOWN, true, Established) => FinWait,
        (SHUTDOWN, false, Established) => CloseWait,
        (SHUTDOWN_ACK, _, FinWait | CloseWait) | (SHUTDOWN_ACK, true, Heartbeat) => LastAck,
        (SHUTDOWN_COMPLETE, _, LastAck) => Closed,
        (
            INIT_ACK | ERROR | SHUTDOWN | COOKIE_ECHO | COOKIE_ACK | SHUTDOWN_COMPLETE,
            true,
            Heartbeat,
        ) => Closed,
        _ => state,
    }
}

pub(super) const fn life(times: &Timeouts, state: State) -> Duration {
    match state {
        State::SynSent | State::SynReceived => times.sctp_opening,
        State::Established => times.sctp_established,
        State::Heartbeat => times.sctp_heartbeat,
        State::Closed => times.sctp_closed,
        _ => times.sctp_closing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_association_from_its_first_chunk_to_its_last() {
        use State::{CloseWait, Closed, Established, LastAck, SynReceived, SynSent};
        let (me, you) = (true, false);
        let mut state = first(INIT).expect("begins");
        assert_eq!(state, Closed);
        for (began, chunk, expected) in [
            (you, INIT_ACK, SynSent),
            (me, COOKIE_ECHO, SynReceived),
            (you, COOKIE_ACK, Established),
            (me, DATA, Established),
            (you, HEARTBEAT, Established),
            (you, SHUTDOWN, CloseWait),
            (me, SHUTDOWN_ACK, LastAck),
            (you, SHUTDOWN_COMPLETE, Closed),
        ] {
            state = next(state, began, chunk);
            assert_eq!(state, expected, "after {chunk}");
        }
    }

    #[test]
    fn data_begin_nothing_and_an_abort_ends_all() {
        assert_eq!(first(DATA), None);
        assert_eq!(first(HEARTBEAT), Some(State::Heartbeat));
        assert_eq!(
            next(State::Heartbeat, false, HEARTBEAT_ACK),
            State::Established
        );
        assert_eq!(next(State::Established, true, ABORT), State::Closed);
    }
}
