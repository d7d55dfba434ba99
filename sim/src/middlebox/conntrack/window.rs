//! The windows of a connection as a middlebox sees them: which segments its ends can have sent (G.
//! van Rooij, "Real stateful TCP packet filtering in IP Filter", 2000).
//!
//! A segment is in the window when it ends no earlier than the receiver's window reaches back,
//! begins no later than the receiver has allowed, and acknowledges neither data that were not sent
//! nor data that were acknowledged very long ago.

use super::state::{Kind, State, kind};
use crate::packet::{Segment, TcpFlags};

/// An acknowledgement may lag behind by at least this much: somewhat more than the largest window
/// without scaling.
const LAG: u32 = 66_000;

const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

const fn after(a: u32, b: u32) -> bool {
    before(b, a)
}

/// What one side has sent and may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Side {
    /// The first sequence number after everything that it sent.
    end: u32,
    /// The first sequence number after everything that it may send.
    max_end: u32,
    /// The largest window that it offered; 0 while nothing is known of this side.
    max_win: u32,
    /// The latest number that it acknowledged, if any.
    max_ack: Option<u32>,
    /// The shift of its windows.
    scale: u8,
    /// Its SYN had the window scale option.
    scales: bool,
    /// Its SYN permitted selective acknowledgements.
    sacks: bool,
    /// Everything that it sends counts as in the window.
    liberal: bool,
    /// It has sent data that the other side has not acknowledged.
    waits: bool,
}

impl Side {
    /// Takes the numbers of a SYN.
    fn start(&mut self, segment: &Segment) {
        self.end = segment.end;
        self.max_end = segment.end;
        self.max_win = u32::from(segment.window).max(1);
        self.options(segment);
    }

    fn options(&mut self, segment: &Segment) {
        if segment.options {
            self.max_ack = None;
            self.scale = segment.scale.unwrap_or(0);
            self.scales = segment.scale.is_some();
            self.sacks = segment.sacks;
        }
    }
}

/// The last acknowledgement, or the last segment that was passed unverified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Last {
    /// The originator sent the last segment of any kind.
    began: bool,
    seq: u32,
    end: u32,
    ack: u32,
    /// The window field, not shifted.
    window: u16,
    /// How often it came again in a row.
    copies: u8,
}

/// A SYN that was passed although it is not known to belong to the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Unverified {
    scale: Option<u8>,
    sacks: bool,
}

/// Whether a segment belongs to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    In,
    /// The segment is old and does no harm: it passes without any effect.
    Old,
    Out,
}

/// The sequence numbers of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Windows {
    /// The originator, and the other side.
    sides: [Side; 2],
    last: Last,
    unverified: Unverified,
}

impl Windows {
    /// Begins with the first segment: a SYN, or a segment from the middle of a connection, which is
    /// not verified.
    pub(super) fn begin(segment: &Segment) -> Self {
        let mut first = Side::default();
        let mut second = Side::default();
        first.start(segment);
        if !segment.flags.has(TcpFlags::SYN) {
            first.max_end = segment.end.wrapping_add(first.max_win);
            for side in [&mut first, &mut second] {
                side.sacks = true;
                side.liberal = true;
            }
        }
        let mut windows = Self {
            sides: [first, second],
            last: Last::default(),
            unverified: Unverified::default(),
        };
        windows.fit(true, State::None, segment);
        windows.passed(true);
        windows
    }

    /// The sender and the receiver of a segment.
    const fn ends(&mut self, began: bool) -> (&mut Side, &mut Side) {
        let [a, b] = &mut self.sides;
        if began { (a, b) } else { (b, a) }
    }

    /// Judges a segment of a connection in this state, and updates the numbers.
    pub(super) fn fit(&mut self, began: bool, state: State, segment: &Segment) -> Fit {
        let flags = segment.flags;
        let opening = matches!(state, State::SynSent | State::SynReceived);
        let syn = flags.has(TcpFlags::SYN);
        let (from, to) = self.ends(began);
        if segment.torn {
            from.liberal = true;
            to.liberal = true;
        }
        let (mut seq, mut end, mut ack) = (segment.seq, segment.end, segment.ack);
        let mut sack = if to.sacks { segment.sack } else { ack };
        let again = syn && opening && after(end, from.end);
        if syn && (from.max_win == 0 || again) {
            let new = from.max_win == 0;
            from.start(segment);
            let scales = from.scales && to.scales;
            if !began && !scales {
                from.scale = 0;
                to.scale = 0;
            }
            if !flags.has(TcpFlags::ACK) && (new || !began) {
                return Fit::In;
            }
        } else if from.max_win == 0 {
            from.end = end;
            from.max_win = (u32::from(segment.window) << from.scale).max(1);
            from.max_end = end.wrapping_add(from.max_win);
            if to.max_win == 0 {
                to.end = sack;
                to.max_end = sack;
            } else if sack == to.end.wrapping_add(1) {
                // The segment answers a keep-alive.
                to.end = sack;
            }
        }
        let nothing = !flags.has(TcpFlags::ACK) || (flags.has(TcpFlags::RST) && ack == 0);
        if nothing {
            ack = to.end;
            sack = to.end;
        }
        if flags.has(TcpFlags::RST) && seq == 0 && state == State::SynSent {
            // The segment answers a SYN.
            seq = from.end;
            end = from.end;
        }
        let no = |from: &Side, fit| if from.liberal { Fit::In } else { fit };
        let lag = from.max_win.max(LAG);
        let not_old = after(sack, to.end.wrapping_sub(lag).wrapping_sub(1));
        let not_new = before(sack, to.end.wrapping_add(1));
        let reaches = after(end, from.end.wrapping_sub(to.max_win).wrapping_sub(1));
        if !before(seq, from.max_end.wrapping_add(1)) {
            let over = end.wrapping_sub(from.max_end).wrapping_add(1);
            if to.max_win > 0 && reaches && not_old && not_new && over <= to.max_win {
                // The segment exceeds what was allowed, but it may be acknowledged all the same.
                from.end = end;
                return no(from, Fit::Old);
            }
            return no(from, Fit::Out);
        }
        if !not_new {
            return no(from, Fit::Out);
        }
        if (to.max_win > 0 && !reaches) || !not_old {
            return no(from, Fit::Old);
        }

        let win = u32::from(segment.window) << if syn { 0 } else { from.scale };
        from.max_win = from.max_win.max(win.wrapping_add(sack.wrapping_sub(ack)));
        if after(end, from.end) {
            from.end = end;
            from.waits = true;
        }
        if flags.has(TcpFlags::ACK) && from.max_ack.is_none_or(|old| after(ack, old)) {
            from.max_ack = Some(ack);
        }
        if to.max_win > 0 && after(end, from.max_end) {
            to.max_win = to.max_win.wrapping_add(end.wrapping_sub(from.max_end));
        }
        let allowed = sack.wrapping_add(win);
        if after(allowed, to.max_end.wrapping_sub(1)) {
            to.max_end = allowed.wrapping_add(u32::from(win == 0));
        }
        if ack == to.end {
            to.waits = false;
        }
        if kind(flags) == Kind::Ack {
            let new = Last {
                began,
                seq,
                end,
                ack,
                window: segment.window,
                copies: 0,
            };
            let again = new
                == Last {
                    copies: 0,
                    ..self.last
                };
            let copies = if again {
                self.last.copies.saturating_add(1)
            } else {
                0
            };
            self.last = Last { copies, ..new };
        }
        Fit::In
    }

    /// Notes who sent a segment that belongs to the connection.
    pub(super) const fn passed(&mut self, began: bool) {
        self.last.began = began;
    }

    /// Returns `true` when one side waits for an acknowledgement, or may not send.
    pub(super) fn waits(&self) -> bool {
        self.sides.iter().any(|side| side.waits) || self.last.window == 0
    }

    /// How often the last acknowledgement came again in a row.
    pub(super) const fn copies(&self) -> u8 {
        self.last.copies
    }

    /// Notes a segment that was passed although the two ends may know more than the box; `fresh`
    /// marks a SYN from the originator.
    pub(super) const fn ignored(&mut self, began: bool, segment: &Segment, fresh: bool) {
        self.last.began = began;
        self.last.seq = segment.seq;
        self.last.end = segment.end;
        self.last.window = segment.window;
        if fresh {
            self.unverified.scale = segment.scale;
            self.unverified.sacks = segment.sacks;
        }
    }

    /// Notes an acknowledgement that challenges a SYN.
    pub(super) const fn challenged(&mut self, segment: &Segment) {
        self.last.ack = segment.ack;
    }

    /// Returns `true` when a SYN with ACK accepts the SYN that was passed unverified.
    pub(super) const fn accepts(&self, segment: &Segment) -> bool {
        segment.ack == self.last.end
    }

    /// Begins again with the SYN that was passed unverified and that this side, `began`, has
    /// accepted.
    pub(super) fn resync(&mut self, began: bool) {
        let (last, unverified) = (self.last, self.unverified);
        let (from, to) = self.ends(began);
        *from = Side::default();
        *to = Side {
            end: last.end,
            max_end: last.end,
            max_win: u32::from(last.window).max(1),
            max_ack: None,
            scale: unverified.scale.unwrap_or(0),
            scales: unverified.scale.is_some(),
            sacks: unverified.sacks,
            liberal: false,
            waits: false,
        };
    }

    /// How the sequence number of a reset relates to what the other side has acknowledged.
    pub(super) fn reset(&self, began: bool, segment: &Segment) -> Reset {
        match self.sides[usize::from(began)].max_ack {
            None => Reset::Unknown,
            Some(ack) if before(segment.seq, ack) => Reset::Old,
            Some(ack) if segment.seq == ack => Reset::Exact,
            Some(_) if segment.seq == self.last.end => Reset::Next,
            Some(_) => Reset::Ahead,
        }
    }

    /// Returns `true` when a reset acknowledges the segment that was passed unverified.
    pub(super) const fn refuses(&self, segment: &Segment) -> bool {
        segment.ack == self.last.end
    }

    /// Returns `true` when a reset answers a challenge.
    pub(super) const fn answers_challenge(&self, segment: &Segment) -> bool {
        segment.seq == self.last.ack
    }
}

/// The sequence number of a reset, relative to what the other side has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reset {
    /// The other side has acknowledged nothing.
    Unknown,
    /// It lies before what was acknowledged.
    Old,
    /// It is the number that the other side expects.
    Exact,
    /// It follows the last segment.
    Next,
    /// It lies further ahead.
    Ahead,
}
