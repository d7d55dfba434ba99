//! A connection: its states (RFC 9293 §3.3.2), which segments are acceptable, and what is sent.

mod input;
mod output;

use std::time::Duration;

use dunlin_core::Instant;

use super::{
    TcpConfig,
    header::Header,
    receiver::Receiver,
    rtt::FIRST_RTO,
    sender::{Due, Sender},
};
use crate::packet::TcpFlags;

/// How long an old connection is remembered, as in Linux.
const TIME_WAIT: u64 = 60_000_000;
/// How often a SYN, and a SYN with ACK, are sent again, as in Linux.
const SYN_RETRIES: u32 = 6;
const SYN_ACK_RETRIES: u32 = 5;
/// The interval between answers to unacceptable segments (RFC 5961 §7), as in Linux.
const CHALLENGES: u64 = 500_000;
/// What the timestamps take of each segment.
const TIME_OPTION: u64 = 12;
/// The maximum segment size of a peer that does not tell (RFC 9293 §3.7.1).
const DEFAULT_MSS: u16 = 536;
/// The least data in a segment, whatever the peer says.
const LEAST_MSS: u64 = 64;

/// How a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides have closed it.
    Closed,
    /// The peer has reset or refused it.
    Reset,
    /// The peer does not answer.
    TimedOut,
    /// It was aborted here.
    Aborted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    SynSent,
    /// `admitted` once the host has agreed to the connection.
    SynReceived {
        admitted: bool,
    },
    /// Every state from ESTABLISHED to the last acknowledgement.
    Open,
    TimeWait {
        until: u64,
    },
    Over(End),
}

/// The handshake's timer.
#[derive(Clone, Copy, Debug)]
struct Knock {
    at: Option<u64>,
    tries: u32,
    /// The SYN, or the SYN with ACK, is to be sent.
    due: bool,
    /// When it was sent first.
    since: u64,
}

/// A connection.
#[derive(Clone, Debug)]
pub(crate) struct Conn {
    config: TcpConfig,
    phase: Phase,
    /// The initial sequence numbers: ours and the peer's.
    iss: u32,
    irs: u32,
    /// The longest segment that this side takes, without options.
    own_mss: u16,
    sender: Sender,
    receiver: Receiver,
    /// The options that both sides use.
    timestamps: bool,
    sacks: bool,
    scaled: bool,
    /// The shift of the peer's windows.
    shift: u8,
    /// The peer's last time that is to be echoed, and when it arrived.
    recent: u32,
    recent_at: u64,
    /// The acknowledgement number that was sent last.
    last_ack: u64,
    knock: Knock,
    /// A probe is to be sent: a segment before the window, which the peer answers.
    ask: bool,
    /// A reset that is to be sent.
    reset: Option<Header>,
    challenged: Option<u64>,
    /// This side has closed first.
    first: bool,
    /// The segments that the peer has sent.
    heard: u64,
}

impl Conn {
    fn new(config: &TcpConfig, phase: Phase, iss: u32, own_mss: u16) -> Self {
        let mss = u64::from(own_mss);
        Self {
            config: *config,
            phase,
            iss,
            irs: 0,
            own_mss,
            sender: Sender::new(config.algorithm, mss, config.buffer),
            receiver: Receiver::new(mss, config.buffer, config.shift()),
            timestamps: false,
            sacks: false,
            scaled: false,
            shift: 0,
            recent: 0,
            recent_at: 0,
            last_ack: 0,
            knock: Knock {
                at: None,
                tries: 0,
                due: false,
                since: 0,
            },
            ask: false,
            reset: None,
            challenged: None,
            first: false,
            heard: 0,
        }
    }

    /// Opens a connection. `mss` is the most data in a segment without options that the interface
    /// carries.
    pub(crate) fn connect(config: &TcpConfig, now: Instant, iss: u32, mss: u16) -> Self {
        let mut conn = Self::new(config, Phase::SynSent, iss, mss);
        conn.knock.due = true;
        conn.knock.since = now.as_micros();
        conn
    }

    /// A peer has sent this SYN. Nothing is answered before [`Conn::admit`].
    pub(crate) fn accept(config: &TcpConfig, now: Instant, mss: u16, syn: &Header) -> Self {
        let mut conn = Self::new(config, Phase::SynReceived { admitted: false }, 0, mss);
        conn.knock.since = now.as_micros();
        conn.options(now.as_micros(), syn);
        conn
    }

    /// The host agrees to the connection.
    pub(crate) fn admit(&mut self, iss: u32) {
        if self.phase == (Phase::SynReceived { admitted: false }) {
            self.phase = Phase::SynReceived { admitted: true };
            self.iss = iss;
            self.knock.due = true;
        }
    }

    /// Takes what the peer's SYN says.
    fn options(&mut self, now: u64, syn: &Header) {
        self.irs = syn.seq;
        self.scaled = syn.shift.is_some();
        self.shift = syn.shift.unwrap_or(0);
        self.sacks = syn.sack_permitted;
        self.timestamps = syn.time.is_some();
        if let Some((theirs, _)) = syn.time {
            (self.recent, self.recent_at) = (theirs, now);
        }
        if !self.scaled {
            self.receiver.no_scale();
        }
        let mss = u64::from(syn.mss.unwrap_or(DEFAULT_MSS).min(self.own_mss));
        let taken = if self.timestamps { TIME_OPTION } else { 0 };
        let mss = mss.saturating_sub(taken).max(LEAST_MSS);
        self.sender.negotiated(mss, 1 + u64::from(syn.window));
        self.last_ack = 1;
    }

    /// Returns `true` when the handshake is finished and the connection is not over.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::TimeWait { .. })
    }

    /// Returns `true` while only a late segment of the peer could need it.
    pub(crate) const fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::TimeWait { .. })
    }

    /// How the connection has ended.
    pub(crate) const fn end(&self) -> Option<End> {
        match self.phase {
            Phase::Over(end) => Some(end),
            _ => None,
        }
    }

    /// The peer's initial sequence number.
    pub(crate) const fn irs(&self) -> u32 {
        self.irs
    }

    /// Returns `true` when a new SYN may replace this old connection (RFC 9293 §3.10.7.4).
    pub(crate) fn may_reopen(&self, syn: &Header) -> bool {
        let next = self.irs.wrapping_add(self.receiver.expected() as u32);
        self.is_waiting() && (syn.seq.wrapping_sub(next) as i32) > 0
    }

    /// How often the peer was heard.
    pub(crate) const fn heard(&self) -> u64 {
        self.heard
    }

    /// The smoothed round-trip time.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.sender.smoothed().map(Duration::from_micros)
    }

    /// Asks the peer for a sign of life.
    pub(crate) const fn probe(&mut self) {
        if matches!(self.phase, Phase::Open) {
            self.ask = true;
        }
    }

    /// How many bytes should be written now.
    pub(crate) fn room(&self) -> usize {
        self.sender.room()
    }

    /// Takes bytes to be sent, up to the limit of the buffer. Returns how many.
    pub(crate) fn write(&mut self, now: Instant, bytes: &[u8]) -> usize {
        let taken = self.sender.write(bytes);
        if self.phase == Phase::Open {
            self.sender.arm_zero_window(now.as_micros());
        }
        taken
    }

    /// Ends the stream of this side.
    pub(crate) fn close(&mut self) {
        self.first |= !self.receiver.ended();
        self.sender.close();
    }

    /// Ends the connection with a reset, if the peer knows of it.
    pub(crate) fn abort(&mut self) {
        let seq = match self.phase {
            Phase::SynReceived { admitted: false } => Some(0),
            Phase::SynReceived { admitted: true } | Phase::Open => {
                Some(self.iss.wrapping_add(self.sender.nxt() as u32))
            }
            Phase::SynSent | Phase::TimeWait { .. } | Phase::Over(_) => None,
        };
        let ack = self.irs.wrapping_add(self.receiver.expected() as u32);
        let flags = TcpFlags::RST.with(TcpFlags::ACK);
        self.reset = seq.map(|seq| Header::new(flags, seq, ack, 0));
        self.phase = Phase::Over(End::Aborted);
    }

    /// The bytes that can be read.
    pub(crate) const fn readable(&self) -> usize {
        self.receiver.readable()
    }

    /// The first `len` bytes that can be read, in two parts.
    pub(crate) fn peek(&self, len: usize) -> [&[u8]; 2] {
        self.receiver.peek(len)
    }

    /// Removes `len` bytes that were read.
    pub(crate) fn consume(&mut self, now: Instant, len: usize) {
        self.receiver.consume(now.as_micros(), len);
    }

    /// Returns `true` when the peer has ended its stream; unread bytes may be left.
    pub(crate) fn ended(&self) -> bool {
        self.receiver.ended()
    }

    /// The bytes that both buffers hold.
    #[cfg(test)]
    pub(super) fn held(&self) -> [u64; 2] {
        [self.sender.held(), self.receiver.held()]
    }

    /// When [`Conn::timeout`] is to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let at = match self.phase {
            Phase::SynSent | Phase::SynReceived { .. } => self.knock.at,
            Phase::Open => {
                let own = [self.sender.deadline(), self.receiver.deadline()];
                own.into_iter().flatten().min()
            }
            Phase::TimeWait { until } => Some(until),
            Phase::Over(_) => None,
        };
        at.map(Instant::from_micros)
    }

    /// Runs the timers that are due.
    pub(crate) fn timeout(&mut self, now: Instant) {
        let now = now.as_micros();
        match self.phase {
            Phase::SynSent | Phase::SynReceived { .. } => {
                if self.knock.at.is_some_and(|at| at <= now) {
                    let most = match self.phase {
                        Phase::SynSent => SYN_RETRIES,
                        _ => SYN_ACK_RETRIES,
                    };
                    if self.knock.tries > most {
                        self.phase = Phase::Over(End::TimedOut);
                    } else {
                        self.knock.due = true;
                    }
                }
            }
            Phase::Open => match self.sender.timeout(now) {
                Due::Nothing => {}
                Due::AskWindow => self.ask = true,
                Due::GiveUp => self.phase = Phase::Over(End::TimedOut),
            },
            Phase::TimeWait { until } if until <= now => self.phase = Phase::Over(End::Closed),
            Phase::TimeWait { .. } | Phase::Over(_) => {}
        }
    }

    /// Sends the SYN, or the SYN with ACK, later again.
    fn knocked(&mut self, now: u64) {
        self.knock.due = false;
        self.knock.at = Some(now + (FIRST_RTO << self.knock.tries.min(10)));
        self.knock.tries += 1;
    }

    /// The handshake is finished.
    fn opened(&mut self, now: u64) {
        self.phase = Phase::Open;
        self.knock.at = None;
        self.knock.due = false;
        if self.knock.tries == 1 {
            let rtt = now.saturating_sub(self.knock.since);
            self.sender.sample(now, rtt);
            self.receiver.sample(rtt);
        }
    }

    /// Moves on when both streams have ended.
    fn settle(&mut self, now: u64) {
        if self.phase == Phase::Open && self.sender.finished() && self.receiver.ended() {
            self.phase = match self.first {
                true => Phase::TimeWait {
                    until: now + TIME_WAIT,
                },
                false => Phase::Over(End::Closed),
            };
        }
    }
}

/// The offset of a sequence number, as the one nearest to `near`; `None` before the first.
fn offset(seq: u32, initial: u32, near: u64) -> Option<u64> {
    let expected = initial.wrapping_add(near as u32);
    near.checked_add_signed(i64::from(seq.wrapping_sub(expected) as i32))
}
