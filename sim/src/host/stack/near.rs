//! The near side of a connection: what the card says to the machine's stack, which is as on a
//! perfect link.

use dunlin_core::Instant;

use super::tcp::{Conn, End, Header};
use crate::packet::TcpFlags;

/// The longest piece of data in one segment, in both directions.
const PIECE: u16 = 16 << 10;
/// The longest packet of a segment, with the headers of IPv6 and TCP.
pub(super) const NEAR_MTU: usize = PIECE as usize + 60;
/// The machine is told of more room when it is this much.
const STEP: u32 = 4 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The machine has sent a SYN; the peer has not answered.
    Opening,
    /// The peer has sent a SYN, which the machine is to be shown.
    Offering,
    /// The machine was shown the SYN.
    Offered,
    /// The machine has answered the SYN; the peer has not.
    Admitted,
    Open,
    Over,
}

/// The near side of a connection.
#[derive(Debug)]
pub(super) struct Near {
    state: State,
    /// The next sequence number of the machine.
    theirs: u32,
    /// The next sequence number of the card.
    ours: u32,
    /// The end of the machine's window, and of the card's.
    edge: u32,
    offered: u32,
    owed: bool,
    fin_given: bool,
    /// How often the peer had been heard when the machine asked for a sign of life.
    asked: Option<u64>,
}

impl Near {
    fn new(state: State) -> Self {
        Self {
            state,
            theirs: 0,
            ours: 0,
            edge: 0,
            offered: 0,
            owed: false,
            fin_given: false,
            asked: None,
        }
    }

    /// The machine has sent this SYN.
    pub(super) fn opening(syn: &Header) -> Self {
        Self {
            theirs: syn.seq.wrapping_add(1),
            // Relative to the card's sequence numbers, which are not known yet.
            edge: u32::from(syn.window),
            ..Self::new(State::Opening)
        }
    }

    /// The peer has sent a SYN with this sequence number.
    pub(super) fn offering(seq: u32) -> Self {
        Self {
            ours: seq,
            ..Self::new(State::Offering)
        }
    }

    /// Returns `true` when a SYN with this sequence number belongs to this connection.
    pub(super) const fn is_opening(&self, seq: u32) -> bool {
        matches!(self.state, State::Opening) && self.theirs == seq.wrapping_add(1)
    }

    /// Returns `true` when the machine has been told everything.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.state, State::Over) || self.fin_given
    }

    /// A segment of the machine.
    pub(super) fn segment(&mut self, now: Instant, conn: &mut Conn, header: &Header, data: &[u8]) {
        if header.has(TcpFlags::RST) {
            conn.abort();
            self.state = State::Over;
            return;
        }
        match self.state {
            State::Offered if header.has(TcpFlags::SYN.with(TcpFlags::ACK)) => {
                self.theirs = header.seq.wrapping_add(1);
                self.edge = header.ack.wrapping_add(u32::from(header.window));
                self.state = State::Admitted;
                conn.admit(header.seq);
            }
            State::Open => self.while_open(now, conn, header, data),
            State::Opening | State::Offering | State::Offered | State::Admitted | State::Over => {}
        }
    }

    fn while_open(&mut self, now: Instant, conn: &mut Conn, header: &Header, data: &[u8]) {
        if header.has(TcpFlags::ACK) {
            let edge = header.ack.wrapping_add(u32::from(header.window));
            if before(self.edge, edge) {
                self.edge = edge;
            }
        }
        let fin = header.has(TcpFlags::FIN);
        if header.seq != self.theirs {
            if data.len() <= 1 && !fin && header.seq.wrapping_add(1) == self.theirs {
                self.asked = Some(conn.heard());
                conn.probe();
            } else {
                self.owed |= fin || !data.is_empty();
            }
            return;
        }
        let taken = conn.write(now, data);
        self.theirs = self.theirs.wrapping_add(taken as u32);
        self.owed |= !data.is_empty();
        if fin && taken == data.len() {
            conn.close();
            self.theirs = self.theirs.wrapping_add(1);
            self.owed = true;
        }
    }

    /// The next segment for the machine: its header, and how many of the bytes that can be read it
    /// carries.
    pub(super) fn poll(&mut self, conn: &Conn) -> Option<(Header, usize)> {
        match self.state {
            State::Offering => {
                self.state = State::Offered;
                let mut syn = Header::new(TcpFlags::SYN, self.ours, 0, u16::MAX);
                syn.mss = Some(PIECE);
                self.ours = self.ours.wrapping_add(1);
                Some((syn, 0))
            }
            State::Opening | State::Offered | State::Admitted if conn.end().is_some() => {
                Some(self.reset())
            }
            State::Opening if conn.is_open() => {
                self.state = State::Open;
                let window = self.offer(conn);
                let flags = TcpFlags::SYN.with(TcpFlags::ACK);
                let mut answer = Header::new(flags, conn.irs(), self.theirs, window);
                answer.mss = Some(PIECE);
                self.ours = conn.irs().wrapping_add(1);
                self.edge = self.ours.wrapping_add(self.edge);
                Some((answer, 0))
            }
            State::Admitted if conn.is_open() => {
                self.state = State::Open;
                Some((self.header(conn), 0))
            }
            State::Open => self.poll_open(conn),
            State::Opening | State::Offered | State::Admitted | State::Over => None,
        }
    }

    fn poll_open(&mut self, conn: &Conn) -> Option<(Header, usize)> {
        if matches!(conn.end(), Some(End::Reset | End::TimedOut | End::Aborted)) {
            return Some(self.reset());
        }
        let open = match before(self.ours, self.edge) {
            true => self.edge.wrapping_sub(self.ours) as usize,
            false => 0,
        };
        let len = conn.readable().min(open).min(PIECE.into());
        if len > 0 {
            let mut header = self.header(conn);
            header.flags = header.flags.with(TcpFlags::PSH);
            self.ours = self.ours.wrapping_add(len as u32);
            return Some((header, len));
        }
        if conn.ended() && conn.readable() == 0 && !self.fin_given {
            self.fin_given = true;
            let mut header = self.header(conn);
            header.flags = header.flags.with(TcpFlags::FIN);
            self.ours = self.ours.wrapping_add(1);
            return Some((header, 0));
        }
        if self.asked.is_some_and(|heard| conn.heard() > heard) {
            self.asked = None;
            self.owed = true;
        }
        let left = self.left();
        let room = room(conn);
        let more = room > left && room - left >= STEP && left < room / 2;
        (self.owed || more).then(|| (self.header(conn), 0))
    }

    fn reset(&mut self) -> (Header, usize) {
        self.state = State::Over;
        let flags = TcpFlags::RST.with(TcpFlags::ACK);
        (Header::new(flags, self.ours, self.theirs, 0), 0)
    }

    fn header(&mut self, conn: &Conn) -> Header {
        self.owed = false;
        let window = self.offer(conn);
        Header::new(TcpFlags::ACK, self.ours, self.theirs, window)
    }

    /// What is left of the window that was offered.
    const fn left(&self) -> u32 {
        match before(self.theirs, self.offered) {
            true => self.offered.wrapping_sub(self.theirs),
            false => 0,
        }
    }

    /// The window field of the next segment. The window never shrinks.
    fn offer(&mut self, conn: &Conn) -> u16 {
        let window = room(conn).max(self.left()).min(0xffff);
        self.offered = self.theirs.wrapping_add(window);
        window as u16
    }
}

fn room(conn: &Conn) -> u32 {
    conn.room().min(0xffff) as u32
}

/// Returns `true` when `a` is before `b` in the sequence space.
const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}
