//! Which segments belong to a connection whose windows are followed.

use dunlin_core::Instant;
use quickcheck::quickcheck;

use super::*;
use crate::packet::TcpFlags;

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const SYN_ACK: TcpFlags = SYN.with(ACK);
const FIN: TcpFlags = TcpFlags::FIN.with(ACK);
const RST: TcpFlags = TcpFlags::RST;

const WINDOW: u32 = 1_000;
const ME: bool = true;
const YOU: bool = false;

/// A connection with the next sequence number of each side.
#[derive(Clone, Copy)]
struct Lab {
    track: Track,
    me: u32,
    you: u32,
}

fn segment(flags: TcpFlags, seq: u32, ack: u32, len: u32) -> Segment {
    let marks = u32::from(flags.has(SYN)) + u32::from(flags.has(TcpFlags::FIN));
    Segment {
        flags,
        seq,
        end: seq.wrapping_add(len + marks),
        ack,
        sack: ack,
        window: WINDOW as u16,
        ..Segment::default()
    }
}

fn begin(first: &Segment, windows: bool) -> Track {
    let rules = Rules {
        times: &crate::middlebox::nat::presets::linux().timeouts,
        loose: true,
        windows,
    };
    let begun = Track::begin(&rules, Instant::ORIGIN, Proto::Tcp, first);
    begun.expect("a connection begins so").0
}

fn account(track: &mut Track, began: bool, segment: &Segment) -> Outcome {
    let times = crate::middlebox::nat::presets::linux().timeouts;
    track.account(&times, Instant::ORIGIN, Proto::Tcp, began, segment)
}

impl Lab {
    /// Opens a connection with these initial sequence numbers.
    fn open(me: u32, you: u32) -> Self {
        Self::open_with(me, you, |_, _| {})
    }

    fn open_with(me: u32, you: u32, options: fn(bool, &mut Segment)) -> Self {
        let (mut syn, mut syn_ack) = (
            segment(SYN, me, 0, 0),
            segment(SYN_ACK, you, me.wrapping_add(1), 0),
        );
        options(ME, &mut syn);
        options(YOU, &mut syn_ack);
        let mut lab = Self {
            track: begin(&syn, true),
            me: syn.end,
            you: syn_ack.end,
        };
        assert!(lives(account(&mut lab.track, YOU, &syn_ack)));
        assert!(lives(lab.send(ME, ACK, 0, 0, 0)));
        assert_eq!(lab.track.state, State::Established);
        lab
    }

    /// Sends a segment with numbers relative to the next ones of the two sides, which stay as they
    /// are.
    fn send(&mut self, began: bool, flags: TcpFlags, seq: i32, ack: i32, len: u32) -> Outcome {
        let (mine, theirs) = if began {
            (self.me, self.you)
        } else {
            (self.you, self.me)
        };
        let (seq, ack) = (
            mine.wrapping_add_signed(seq),
            theirs.wrapping_add_signed(ack),
        );
        account(&mut self.track, began, &segment(flags, seq, ack, len))
    }
}

fn lives(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Lives(_))
}

quickcheck! {
    /// Segments of well-behaved ends are in the window for all initial numbers, also around zero.
    fn a_connection_without_loss_is_in_the_window(me: u32, you: u32, sizes: Vec<(bool, u16)>) -> bool {
        let edge = |n: u32| if n.is_multiple_of(2) { 0_u32.wrapping_sub(n % 5_000) } else { n };
        let mut lab = Lab::open(edge(me), edge(you));
        for (began, len) in sizes {
            let len = u32::from(len) % (WINDOW + 1);
            if !lives(lab.send(began, ACK, 0, 0, len)) {
                return false;
            }
            let side = if began { &mut lab.me } else { &mut lab.you };
            *side = side.wrapping_add(len);
            if !lives(lab.send(!began, ACK, 0, 0, 0)) {
                return false;
            }
        }
        lives(lab.send(ME, FIN, 0, 0, 0))
    }
}

#[test]
fn what_is_outside_the_window_does_not_belong_to_it() {
    let open = Lab::open(7, 70_000);
    let send = |began, flags, seq, ack, len| open.clone().send(began, flags, seq, ack, len);
    // None of this was sent yet.
    assert!(lives(send(ME, ACK, 0, 0, 10)));
    assert_eq!(send(ME, ACK, 0, 1, 10), Outcome::Invalid);
    assert_eq!(send(YOU, FIN, 0, 1, 0), Outcome::Invalid);
    // The segment exceeds the window.
    assert!(lives(send(ME, ACK, WINDOW as i32, 0, 0)));
    assert_eq!(send(ME, ACK, 5 * WINDOW as i32, 0, 10), Outcome::Invalid);
    // The segment belongs to another connection.
    assert_eq!(send(YOU, ACK, i32::MAX, 0, 10), Outcome::Invalid);
    // An old segment or acknowledgement does no harm, but does not prolong the flow either.
    assert_eq!(send(ME, ACK, -2 * WINDOW as i32, 0, 10), Outcome::Passes);
    assert_eq!(send(ME, ACK, 0, -70_000, 0), Outcome::Passes);
}

#[test]
fn a_segment_outside_changes_nothing() {
    let mut lab = Lab::open(1, 2);
    let before = lab.track;
    assert_eq!(lab.send(YOU, FIN, 0, 1, 0), Outcome::Invalid);
    assert_eq!(lab.track, before);
}

#[test]
fn an_old_reset_is_refused_and_a_guessed_one_closes_nothing() {
    let mut lab = Lab::open(1, 2);
    assert!(lives(lab.send(YOU, ACK, 0, 0, 10)));
    lab.you += 10;
    assert!(lives(lab.send(ME, ACK, 0, 0, 0)));
    // The segment precedes what was acknowledged.
    assert_eq!(lab.send(YOU, RST, -1, 0, 0), Outcome::Invalid);
    assert_eq!(lab.track.state, State::Established);
    // The reset is in the window but not at the next sequence number.
    assert!(lives(lab.send(YOU, RST, 5, 0, 0)));
    assert_eq!(lab.track.state, State::Established);
    let mut closing = lab;
    assert!(lives(lab.send(YOU, RST, 0, 0, 0)));
    assert_eq!(lab.track.state, State::Closed);
    // After a FIN a reset does no harm.
    assert!(lives(closing.send(ME, FIN, 0, 0, 0)));
    assert!(lives(closing.send(YOU, RST, -1, 0, 0)));
    assert_eq!(closing.track.state, State::Closed);
}

#[test]
fn a_window_is_shifted_if_both_sides_can() {
    let far = 3 * WINDOW as i32;
    let both: fn(bool, &mut Segment) = |_, segment| {
        segment.options = true;
        segment.scale = Some(3);
    };
    let one: fn(bool, &mut Segment) = |began, segment| {
        segment.options = true;
        segment.scale = began.then_some(3);
    };
    for (options, fits) in [(both, true), (one, false)] {
        let mut lab = Lab::open_with(1, 2, options);
        assert_eq!(lives(lab.send(YOU, ACK, far, 0, 0)), fits);
    }
}

#[test]
fn of_a_connection_whose_begin_was_missed_everything_passes() {
    let mut track = begin(&segment(ACK, 5, 6, 10), true);
    for (began, seq, ack) in [(YOU, 1 << 30, 1 << 29), (ME, 1 << 31, 9), (YOU, 3, 3)] {
        assert!(lives(account(
            &mut track,
            began,
            &segment(ACK, seq, ack, 10)
        )));
    }
}

#[test]
fn a_syn_that_is_accepted_begins_the_windows_anew() {
    let mut lab = Lab::open(1, 2);
    let other = 1 << 30;
    // The originator has restarted. The box cannot know that until the other side accepts.
    assert_eq!(
        account(&mut lab.track, ME, &segment(SYN, other, 0, 0)),
        Outcome::Passes
    );
    let mut same = lab;
    let wrong = segment(SYN_ACK, other, other, 0);
    assert_eq!(account(&mut same.track, YOU, &wrong), Outcome::Passes);
    assert_eq!(same.track.state, State::Established);
    let right = segment(SYN_ACK, other, other + 1, 0);
    assert!(lives(account(&mut lab.track, YOU, &right)));
    assert_eq!(lab.track.state, State::SynReceived);
    (lab.me, lab.you) = (other + 1, other + 1);
    assert!(lives(lab.send(ME, ACK, 0, 0, 10)));
    assert_eq!(lab.track.state, State::Established);
}

#[test]
fn a_simultaneous_open_is_in_the_window() {
    let mut track = begin(&segment(SYN, 100, 0, 0), true);
    for (began, flags, seq, ack) in [
        (YOU, SYN, 9_000, 0),
        (ME, SYN_ACK, 100, 9_001),
        (YOU, SYN_ACK, 9_000, 101),
        (ME, ACK, 101, 9_001),
        (YOU, ACK, 9_001, 101),
    ] {
        let outcome = account(&mut track, began, &segment(flags, seq, ack, 0));
        assert_ne!(outcome, Outcome::Invalid, "{flags:?} {began}");
    }
    assert_eq!(track.state, State::Established);
    let astray = segment(ACK, 9_001, 5_000, 0);
    assert_eq!(account(&mut track, YOU, &astray), Outcome::Invalid);
}

#[test]
fn without_windows_numbers_do_not_count() {
    let mut track = begin(&segment(SYN, 100, 0, 0), false);
    for (began, flags) in [(YOU, SYN_ACK), (ME, ACK), (YOU, ACK), (ME, RST)] {
        let astray = segment(flags, 1 << 31, 1 << 30, 10);
        assert!(lives(account(&mut track, began, &astray)));
    }
    assert_eq!(track.state, State::Closed);
}
