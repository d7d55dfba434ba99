//! How a limited uplink is shared: piece by piece.
//!
//! A peer can pass on a piece only once it has all of it. If all unchoked peers share the uplink block by block, all of
//! their pieces are completed at the same time, and late. If the pieces are sent one after the other, the first one is
//! completed early, and the last one no later than before. So a peer keeps its turn at the rate limit until it has been sent
//! a piece, and a slot that is not earned goes to another peer after each piece.

use crate::throttle::QUANTUM;

/// The longest time in seconds for which one peer has the whole uplink. Others wait meanwhile, some for as many turns as
/// there are slots, and a peer that is silent for a minute counts as snubbing.
const LONGEST_SECS: u64 = 3;
/// The maximum number of turns per second: several small pieces are sent in one turn, as every change of a slot costs a round
/// trip.
const MAX_TURNS_PER_SEC: u64 = 4;
/// The minimum share of the uplink of a slot in bytes per second. With smaller ones, a peer would wait for its turns for
/// longer than a choking round takes.
const SLOT: u64 = 64 << 10;
/// The minimum number of slots, so that there is always a peer to send to.
const LEAST_SLOTS: u64 = 4;
/// One part in this many of a turn is for headers and other messages: thirteen bytes for each block, and a few `have`s.
const OVERHEAD: u64 = 256;

/// How a torrent's peers share an upload limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    rate: u64,
    turn: u64,
}

impl Pace {
    /// Creates it for a limit in bytes per second and the length of the pieces.
    #[must_use]
    pub fn new(rate: u64, piece_len: u32) -> Self {
        let piece = u64::from(piece_len).max(1);
        let pieces = (rate / MAX_TURNS_PER_SEC).div_ceil(piece).max(1);
        Self {
            rate,
            turn: pieces.saturating_mul(piece),
        }
    }

    /// The bytes of payload, in whole pieces, after which a slot that is not earned may go to another peer.
    #[must_use]
    pub const fn turn(self) -> u64 {
        self.turn
    }

    /// The bytes, including headers, for which a peer keeps its turn at the rate limit.
    #[must_use]
    pub fn stint(self) -> u64 {
        let longest = self.rate.saturating_mul(LONGEST_SECS);
        let turn = self.turn.saturating_add(self.turn / OVERHEAD);
        turn.min(longest).max(u64::from(QUANTUM))
    }

    /// The maximum number of slots for this limit.
    #[must_use]
    pub fn slots(self) -> u64 {
        (self.rate / SLOT).max(LEAST_SLOTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_whole_pieces_and_takes_its_time() {
        let turn = |rate, piece| Pace::new(rate, piece).turn();
        assert_eq!(turn(100_000, 256 << 10), 256 << 10);
        assert_eq!(turn(100_000, 16 << 10), 32 << 10);
        assert_eq!(turn(5_000_000, 256 << 10), 5 * (256 << 10));
        assert_eq!(turn(0, 0), 1);
    }

    #[test]
    fn a_stint_lasts_no_longer_than_others_can_wait() {
        let stint = |rate, piece| Pace::new(rate, piece).stint();
        assert_eq!(stint(100_000, 256 << 10), 257 << 10);
        assert_eq!(stint(100_000, 16 << 20), 300_000);
        assert_eq!(stint(1_000, 256 << 10), u64::from(QUANTUM));
        assert!(stint(u64::MAX, u32::MAX) >= u64::MAX / 4);
    }

    #[test]
    fn thin_uplinks_have_few_slots() {
        let slots = |rate| Pace::new(rate, 256 << 10).slots();
        assert_eq!([slots(0), slots(200_000), slots(2_000_000)], [4, 4, 30]);
    }
}
