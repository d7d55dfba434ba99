//! One TCP connection, as far as opening it and exchanging short messages requires (RFC 9293
//! §3.10).

use std::time::Duration;

use dunlin_core::Instant;

use crate::packet::TcpFlags;

/// The first retransmission timeout, which doubles each time (RFC 6298 §2.1).
const RTO: Duration = Duration::from_secs(1);
/// The most retransmissions of one segment.
const MAX_RETRIES: u32 = 6;
/// The interval between acknowledgements of unacceptable segments (RFC 5961 §7). Without a limit,
/// two ends that each find the other's segments unacceptable would exchange them forever.
const CHALLENGES: Duration = Duration::from_millis(500);
/// The most data in one segment, and the most that may wait.
const MAX_UNSENT: usize = 1_200;
/// The window that is offered, which every segment of this stack carries.
const WINDOW: u32 = 65_535;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    SynSent,
    SynReceived,
    Established,
}

/// The fields of a segment that matter here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) flags: TcpFlags,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) data: &'a [u8],
}

impl Segment<'_> {
    /// The length of the segment in the sequence space.
    fn len(&self) -> u32 {
        self.data.len() as u32
            + u32::from(self.flags.has(TcpFlags::SYN))
            + u32::from(self.flags.has(TcpFlags::FIN))
    }

    /// The reset that answers the segment when no connection wants it (RFC 9293 §3.10.7.1).
    pub(super) fn reset(&self) -> Reply {
        if self.flags.has(TcpFlags::ACK) {
            Reply {
                flags: TcpFlags::RST,
                seq: self.ack,
                ack: 0,
                data: Vec::new(),
            }
        } else {
            Reply {
                flags: TcpFlags::RST.with(TcpFlags::ACK),
                seq: 0,
                ack: self.seq.wrapping_add(self.len()),
                data: Vec::new(),
            }
        }
    }
}

/// A segment to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) flags: TcpFlags,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) data: Vec<u8>,
}

/// The outcome of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Nothing,
    Established,
    Data(Vec<u8>),
    /// The connection has ended.
    Gone {
        refused: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Conn {
    pub(super) state: State,
    /// This side opened the connection.
    active: bool,
    iss: u32,
    una: u32,
    nxt: u32,
    rcv: u32,
    /// Data that was sent since `una`, or cannot be sent yet.
    unacked: Vec<u8>,
    retries: u32,
    timer: Option<Instant>,
    challenged: Option<Instant>,
}

/// Returns `true` when `a` is before `b` in the sequence space.
const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

impl Conn {
    /// Opens a connection: returns its SYN.
    pub(super) fn open(now: Instant, iss: u32) -> (Self, Reply) {
        let conn = Self {
            state: State::SynSent,
            active: true,
            iss,
            una: iss,
            nxt: iss.wrapping_add(1),
            rcv: 0,
            unacked: Vec::new(),
            retries: 0,
            timer: Some(now + RTO),
            challenged: None,
        };
        let syn = conn.syn();
        (conn, syn)
    }

    /// Accepts a SYN (RFC 9293 §3.10.7.2).
    pub(super) fn accept(now: Instant, iss: u32, syn: &Segment<'_>) -> (Self, Reply) {
        let (mut conn, _) = Self::open(now, iss);
        conn.active = false;
        conn.state = State::SynReceived;
        conn.rcv = syn.seq.wrapping_add(1);
        let reply = conn.syn();
        (conn, reply)
    }

    fn syn(&self) -> Reply {
        let flags = match self.state {
            State::SynSent => TcpFlags::SYN,
            State::SynReceived | State::Established => TcpFlags::SYN.with(TcpFlags::ACK),
        };
        Reply {
            flags,
            seq: self.iss,
            ack: self.rcv,
            data: Vec::new(),
        }
    }

    fn ack(&self) -> Reply {
        Reply {
            flags: TcpFlags::ACK,
            seq: self.nxt,
            ack: self.rcv,
            data: Vec::new(),
        }
    }

    fn data(&self) -> Reply {
        Reply {
            flags: TcpFlags::PSH.with(TcpFlags::ACK),
            seq: self.una,
            ack: self.rcv,
            data: self.unacked.clone(),
        }
    }

    pub(super) const fn timer(&self) -> Option<Instant> {
        self.timer
    }

    /// Sends bytes, now or when the connection is open. Bytes that do not fit are dropped.
    pub(super) fn send(&mut self, now: Instant, bytes: &[u8]) -> Option<Reply> {
        if self.unacked.len() + bytes.len() > MAX_UNSENT {
            return None;
        }
        let seq = self.nxt;
        self.unacked.extend_from_slice(bytes);
        if self.state != State::Established {
            return None;
        }
        self.nxt = self.nxt.wrapping_add(bytes.len() as u32);
        self.arm(now);
        Some(Reply {
            seq,
            data: bytes.to_vec(),
            ..self.data()
        })
    }

    fn arm(&mut self, now: Instant) {
        self.timer.get_or_insert(now + RTO);
    }

    /// The time of [`Conn::timer`] has come. Returns `None` when there were too many
    /// retransmissions.
    pub(super) fn timeout(&mut self, now: Instant) -> Option<Reply> {
        if self.retries == MAX_RETRIES {
            return None;
        }
        self.retries += 1;
        self.timer = Some(now + RTO * 2u32.pow(self.retries));
        Some(if self.state == State::Established {
            self.data()
        } else {
            self.syn()
        })
    }

    /// Handles a segment (RFC 9293 §3.10.7.3 and §3.10.7.4).
    pub(super) fn segment(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        out: &mut Vec<Reply>,
    ) -> Outcome {
        if self.state == State::SynSent {
            self.while_opening(now, segment, out)
        } else {
            self.while_open(now, segment, out)
        }
    }

    fn acceptable(&self, segment: &Segment<'_>) -> bool {
        before(self.una, segment.ack) && !before(self.nxt, segment.ack)
    }

    fn while_opening(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        out: &mut Vec<Reply>,
    ) -> Outcome {
        let flags = segment.flags;
        let acks = flags.has(TcpFlags::ACK);
        if acks && !self.acceptable(segment) {
            if !flags.has(TcpFlags::RST) {
                out.push(segment.reset());
            }
            return Outcome::Nothing;
        }
        if flags.has(TcpFlags::RST) {
            return if acks {
                Outcome::Gone { refused: true }
            } else {
                Outcome::Nothing
            };
        }
        if !flags.has(TcpFlags::SYN) {
            return Outcome::Nothing;
        }
        self.rcv = segment.seq.wrapping_add(1);
        if acks {
            return self.opened(now, segment.ack, out);
        }
        // Both sides opened at once.
        self.state = State::SynReceived;
        out.push(self.syn());
        Outcome::Nothing
    }

    /// Our SYN was acknowledged: acknowledges the other SYN, and sends what waited.
    fn opened(&mut self, now: Instant, ack: u32, out: &mut Vec<Reply>) -> Outcome {
        self.state = State::Established;
        self.una = ack;
        self.retries = 0;
        self.timer = None;
        if self.unacked.is_empty() {
            out.push(self.ack());
        } else {
            self.nxt = self.una.wrapping_add(self.unacked.len() as u32);
            out.push(self.data());
            self.arm(now);
        }
        Outcome::Established
    }

    fn while_open(&mut self, now: Instant, segment: &Segment<'_>, out: &mut Vec<Reply>) -> Outcome {
        let flags = segment.flags;
        // The SYN with ACK of a simultaneous open lies before the window, but it opens the
        // connection (RFC 9293 §3.5, figure 8).
        let crossing = self.state == State::SynReceived
            && flags.has(TcpFlags::SYN.with(TcpFlags::ACK))
            && segment.seq.wrapping_add(1) == self.rcv
            && self.acceptable(segment);
        let offset = segment.seq.wrapping_sub(self.rcv);
        let in_window = offset < WINDOW;
        if flags.has(TcpFlags::RST) {
            return if offset == 0 {
                Outcome::Gone {
                    refused: self.active && self.state == State::SynReceived,
                }
            } else {
                Outcome::Nothing
            };
        }
        if !crossing && (!in_window || flags.has(TcpFlags::SYN)) {
            // A repeated SYN with ACK, or repeated data, must be acknowledged again.
            let again = self.state == State::Established && before(segment.seq, self.rcv);
            self.challenge(now, again && segment.len() > 0, out);
            return Outcome::Nothing;
        }
        if !flags.has(TcpFlags::ACK) {
            return Outcome::Nothing;
        }
        let mut news = Outcome::Nothing;
        if self.state == State::SynReceived {
            if !self.acceptable(segment) {
                out.push(segment.reset());
                return Outcome::Nothing;
            }
            let replies = out.len();
            news = self.opened(now, segment.ack, out);
            if !crossing && self.unacked.is_empty() {
                // A bare acknowledgement is not acknowledged.
                out.truncate(replies);
            }
        } else if self.acceptable(segment) {
            let acked = segment.ack.wrapping_sub(self.una) as usize;
            self.unacked.drain(..acked.min(self.unacked.len()));
            self.una = segment.ack;
            self.retries = 0;
            self.timer = (!self.unacked.is_empty()).then(|| now + RTO);
        }
        if segment.data.is_empty() {
            return news;
        }
        if offset != 0 || crossing {
            self.challenge(now, false, out);
            return news;
        }
        self.rcv = self.rcv.wrapping_add(segment.data.len() as u32);
        out.push(self.ack());
        // The caller distinguishes `Established` from data that came in the same segment.
        Outcome::Data(segment.data.to_vec())
    }

    fn challenge(&mut self, now: Instant, always: bool, out: &mut Vec<Reply>) {
        if !always && self.challenged.is_some_and(|at| now < at + CHALLENGES) {
            return;
        }
        self.challenged = Some(now);
        out.push(self.ack());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: TcpFlags = TcpFlags::SYN;
    const ACK: TcpFlags = TcpFlags::ACK;
    const RST: TcpFlags = TcpFlags::RST;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1_000 + 1)
    }

    /// Gives a segment to a connection. Returns the outcome and the answers.
    fn give(conn: &mut Conn, now: Instant, sent: &Reply) -> (Outcome, Vec<Reply>) {
        let mut out = Vec::new();
        let segment = Segment {
            flags: sent.flags,
            seq: sent.seq,
            ack: sent.ack,
            data: &sent.data,
        };
        (conn.segment(now, &segment, &mut out), out)
    }

    fn bare(flags: TcpFlags, seq: u32, ack: u32) -> Reply {
        Reply {
            flags,
            seq,
            ack,
            data: Vec::new(),
        }
    }

    /// Exchanges segments until there are none left. Returns the outcomes on each side.
    fn talk(
        a: &mut Conn,
        b: &mut Conn,
        from_a: Vec<Reply>,
        from_b: Vec<Reply>,
    ) -> [Vec<Outcome>; 2] {
        let mut heard = [Vec::new(), Vec::new()];
        let mut wires = [from_a, from_b];
        for _ in 0..20 {
            let [to_b, to_a] = std::mem::take(&mut wires);
            for (n, conn, segments) in [(0, &mut *a, to_a), (1, &mut *b, to_b)] {
                for segment in segments {
                    let (news, replies) = give(conn, at(0), &segment);
                    if news != Outcome::Nothing {
                        heard[n].push(news);
                    }
                    wires[n].extend(replies);
                }
            }
        }
        assert_eq!(wires, [Vec::new(), Vec::new()], "they fell silent");
        heard
    }

    fn syn_of(reply: &Reply) -> Segment<'_> {
        Segment {
            flags: reply.flags,
            seq: reply.seq,
            ack: reply.ack,
            data: &[],
        }
    }

    #[test]
    fn one_dials_and_one_accepts() {
        let (mut a, syn) = Conn::open(at(0), u32::MAX);
        let (mut b, reply) = Conn::accept(at(0), 300, &syn_of(&syn));
        assert_eq!((reply.flags, reply.ack), (SYN.with(ACK), 0));
        let heard = talk(&mut a, &mut b, vec![], vec![reply]);
        assert_eq!(heard, [[Outcome::Established], [Outcome::Established]]);
        assert_eq!((a.timer(), b.timer()), (None, None));
    }

    #[test]
    fn syns_that_cross_open_one_connection() {
        let (mut a, from_a) = Conn::open(at(0), 100);
        let (mut b, from_b) = Conn::open(at(0), 300);
        let heard = talk(&mut a, &mut b, vec![from_a], vec![from_b]);
        assert_eq!(heard, [[Outcome::Established], [Outcome::Established]]);
        assert_eq!((a.nxt, a.rcv, b.nxt, b.rcv), (101, 301, 301, 101));
    }

    #[test]
    fn a_crossing_that_lost_a_segment_is_repaired() {
        let (mut a, from_a) = Conn::open(at(0), 100);
        let (mut b, from_b) = Conn::open(at(0), 300);
        let (_, lost) = give(&mut a, at(0), &from_b);
        assert_eq!(lost, [bare(SYN.with(ACK), 100, 301)]);
        let (_, answer) = give(&mut b, at(0), &from_a);
        assert_eq!(give(&mut a, at(0), &answer[0]).0, Outcome::Established);
        let again = b.timeout(at(1_000)).expect("tries again");
        let heard = talk(&mut a, &mut b, vec![], vec![again]);
        assert_eq!(heard, [vec![], vec![Outcome::Established]]);
    }

    #[test]
    fn data_waits_for_the_opening_and_is_sent_until_it_is_acknowledged() {
        let (mut a, syn) = Conn::open(at(0), 100);
        assert_eq!(a.send(at(0), b"hello"), None);
        let (mut b, reply) = Conn::accept(at(0), 300, &syn_of(&syn));
        let (_, sent) = give(&mut a, at(0), &reply);
        assert_eq!(sent[0].data, b"hello");
        let again = a.timeout(at(1_000)).expect("tries again");
        assert_eq!(again, sent[0]);
        let heard = talk(&mut a, &mut b, vec![sent[0].clone(), again], vec![]);
        assert_eq!(heard[1], [Outcome::Data(b"hello".to_vec())]);
        assert_eq!((a.timer(), a.una), (None, 106));
    }

    #[test]
    fn what_fits_while_opening() {
        for (segment, news, reply) in [
            (
                bare(RST.with(ACK), 0, 101),
                Outcome::Gone { refused: true },
                None,
            ),
            (bare(RST, 0, 0), Outcome::Nothing, None),
            (bare(RST.with(ACK), 0, 102), Outcome::Nothing, None),
            (bare(ACK, 7, 102), Outcome::Nothing, Some(bare(RST, 102, 0))),
            (bare(ACK, 7, 101), Outcome::Nothing, None),
        ] {
            let (mut a, _) = Conn::open(at(0), 100);
            let (heard, sent) = give(&mut a, at(0), &segment);
            assert_eq!((heard, sent), (news, reply.into_iter().collect::<Vec<_>>()));
        }
    }

    #[test]
    fn ends_that_are_out_of_place_do_not_argue_for_ever() {
        let accept = |iss, irs| Conn::accept(at(0), iss, &syn_of(&bare(SYN, irs, 0)));
        let ((mut a, from_a), (mut b, from_b)) = (accept(100, 7_000_000), accept(300, 9_000_000));
        let heard = talk(&mut a, &mut b, vec![from_a], vec![from_b]);
        assert_eq!(heard, [[], []]);
    }

    #[test]
    fn an_opening_in_vain_ends() {
        let (mut a, _) = Conn::open(at(0), 100);
        let times: Vec<u64> = std::iter::from_fn(|| {
            let due = a.timer()?;
            a.timeout(due)?;
            Some(due.as_micros() / 1_000_000)
        })
        .collect();
        assert_eq!(times, [1, 3, 7, 15, 31, 63]);
    }
}
