//! The TCP of simulated hosts: a pure state machine in integer arithmetic, so that its traces are
//! the same in every build and on every machine.
//!
//! It has what hosts have: window scaling and timestamps (RFC 7323), buffers that grow with the
//! path up to a limit, selective acknowledgements (RFC 2018, RFC 2883), losses found by time and
//! probed for at the end (RACK-TLP, RFC 8985), proportional rate reduction (RFC 6937), CUBIC with
//! HyStart (RFC 9438) or Reno (RFC 5681), delayed acknowledgements, and Linux's timeouts (RFC 6298
//! with a least variance of 200 ms). A reduction whose retransmissions prove needless
//! is undone (RFC 3708). It has no Nagle algorithm, no ECN, no pacing and no path MTU discovery.
//!
//! smoltcp's own TCP would not do: its windows do not adapt, its sender does not read selective
//! acknowledgements and repairs one loss in each round trip, and its CUBIC computes in floating
//! point.
//!
//! ```text
//!   conn      states, acceptability, timers            header   options
//!   sender    buffer, scoreboard, loss, recovery       rtt      RFC 6298
//!   receiver  reassembly, blocks, window               ranges
//!   control   Reno, CUBIC, HyStart
//! ```

mod conn;
mod control;
mod header;
mod ranges;
mod receiver;
mod rtt;
mod sender;
#[cfg(test)]
mod tests;

pub(crate) use conn::{Conn, End};
pub use control::Algorithm;
pub(crate) use header::Header;

/// The most bytes that a buffer grows to, in each direction.
pub const MOST_BUFFER: u64 = 16 << 20;

/// How a host's TCP behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpConfig {
    /// The congestion control.
    pub algorithm: Algorithm,
    /// The most bytes that wait to be sent or acknowledged, and the most that wait to be read. At
    /// most [`MOST_BUFFER`].
    pub buffer: u64,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Cubic,
            buffer: MOST_BUFFER,
        }
    }
}

impl TcpConfig {
    /// The shift that lets the window be as large as the buffer.
    const fn shift(&self) -> u8 {
        let mut shift = 0;
        while shift < 14 && (0xffff_u64 << shift) < self.buffer {
            shift += 1;
        }
        shift
    }
}
