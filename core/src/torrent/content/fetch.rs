//! Attempts to put the metadata of a magnet together (BEP 9).
//!
//! Nobody knows the size of the metadata but the peers, and some of them lie. So each claimed
//! size is an attempt of its own, and a few attempts run side by side: whoever claims a size
//! fills that attempt and no other. Once several peers made a wrong whole together, each attempt
//! belongs to one peer alone, which shows who lies. An attempt that is too slow gives its place
//! to the next one that waits.

use alloc::{collections::BTreeMap, vec, vec::Vec};
use core::cmp::Reverse;
use core::net::SocketAddr;
use core::time::Duration;

use crate::torrent::member_id::MemberId;
use crate::{BLOCK_LEN, Instant};

/// Most attempts at once: enough that a few liars do not keep an honest peer waiting.
const MAX_ATTEMPTS: usize = 4;
/// An attempt keeps its place for so long whatever it achieves: two answers of a slow peer.
const TURN: Duration = Duration::from_secs(30);
/// And so much longer for each piece it got.
const TURN_PER_PIECE: Duration = Duration::from_secs(2);

/// What a peer says of the metadata it would send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) member: MemberId,
    /// Bytes of the whole.
    pub(crate) size: u32,
    /// Attempts it took part in that lost their place: others go before it.
    pub(crate) turns: u32,
}

/// A whole in the making.
#[derive(Debug)]
pub(crate) struct Attempt {
    size: u32,
    /// The only peer that may fill it.
    only: Option<MemberId>,
    pieces: Vec<Option<Vec<u8>>>,
    /// Who sent each piece: one sender of all is guilty if the hash is wrong.
    senders: Vec<Option<SocketAddr>>,
    received: u32,
    begun: Instant,
}

impl Attempt {
    fn new(now: Instant, size: u32, only: Option<MemberId>) -> Self {
        let pieces = (size as usize).div_ceil(BLOCK_LEN);
        Self {
            size,
            only,
            pieces: vec![None; pieces],
            senders: vec![None; pieces],
            received: 0,
            begun: now,
        }
    }

    /// Whether a peer that makes this claim takes part.
    pub(crate) fn serves(&self, member: MemberId, size: u32) -> bool {
        self.size == size && self.only.is_none_or(|only| only == member)
    }

    /// Pieces from `from` on that it lacks.
    pub(crate) fn missing_from(&self, from: u32) -> impl Iterator<Item = u32> + '_ {
        // In this order: the numbers are not asked for one more than there are pieces.
        let pieces = self.pieces.iter().skip(from as usize).zip(from..);
        pieces.filter(|(piece, _)| piece.is_none()).map(|(_, n)| n)
    }

    /// Bytes that piece `index` has to have.
    fn piece_len(&self, index: u32) -> usize {
        (self.size as usize)
            .saturating_sub(index as usize * BLOCK_LEN)
            .min(BLOCK_LEN)
    }

    fn has_lost_its_turn(&self, now: Instant) -> bool {
        self.begun + TURN + TURN_PER_PIECE * self.received <= now
    }

    fn is_complete(&self) -> bool {
        self.received as usize == self.pieces.len()
    }

    /// The whole, and its sender if there was only one.
    fn into_whole(self) -> (Vec<u8>, Option<SocketAddr>) {
        let whole = self.pieces.into_iter().flatten().flatten().collect();
        let first = self.senders.first().copied().flatten();
        let alone = self.senders.iter().all(|s| *s == first);
        (whole, first.filter(|_| alone))
    }
}

/// What became of a piece.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// It has not the length that its sender's claim gives it.
    Wrong,
    /// Kept, or of no use.
    Taken,
    /// The last one: the whole, and its sender if there was only one.
    Whole(Vec<u8>, Option<SocketAddr>),
}

/// All attempts of a torrent.
#[derive(Debug, Default)]
pub(crate) struct Fetch {
    attempts: Vec<Attempt>,
    /// Several senders made a wrong whole: from here on, each attempt is one peer's.
    alone: bool,
}

impl Fetch {
    /// The attempt that a peer takes part in, and its place.
    pub(crate) fn attempt(&self, member: MemberId, size: u32) -> Option<(usize, &Attempt)> {
        let mut all = self.attempts.iter().enumerate();
        all.find(|(_, attempt)| attempt.serves(member, size))
    }

    /// Begins attempts for those who wait, the untried first and then the size that most peers
    /// claim, as far as there are places. Returns the attempts that lost theirs.
    pub(crate) fn schedule(&mut self, now: Instant, offers: &[Offer]) -> Vec<Attempt> {
        let mut lost = Vec::new();
        let mut claimers: BTreeMap<u32, u32> = BTreeMap::new();
        for offer in offers {
            *claimers.entry(offer.size).or_default() += 1;
        }
        let waits = |c: &&Offer| self.attempt(c.member, c.size).is_none();
        let mut waiting: Vec<&Offer> = offers.iter().filter(waits).collect();
        waiting.sort_by_key(|c| (c.turns, Reverse(claimers.get(&c.size).copied())));
        for next in waiting {
            if self.attempt(next.member, next.size).is_some() {
                continue;
            }
            if self.attempts.len() >= MAX_ATTEMPTS {
                let served = |a: &Attempt| offers.iter().any(|c| a.serves(c.member, c.size));
                let place = self.attempts.iter().position(|a| !served(a)).or_else(|| {
                    let mut all = self.attempts.iter();
                    all.position(|a| a.has_lost_its_turn(now))
                });
                let Some(place) = place else {
                    break;
                };
                lost.push(self.attempts.remove(place));
            }
            let only = self.alone.then_some(next.member);
            self.attempts.push(Attempt::new(now, next.size, only));
        }
        lost
    }

    /// Takes a piece from a peer that claims `size`. All attempts together keep at most `most`
    /// bytes.
    pub(crate) fn accept(
        &mut self,
        (member, size): (MemberId, u32),
        (index, data): (u32, Vec<u8>),
        from: SocketAddr,
        most: usize,
    ) -> Accepted {
        let Some((place, attempt)) = self.attempt(member, size) else {
            return Accepted::Taken;
        };
        if data.is_empty() || data.len() != attempt.piece_len(index) {
            return Accepted::Wrong;
        }
        let attempt = &mut self.attempts[place];
        let piece = &mut attempt.pieces[index as usize];
        if piece.is_some() {
            return Accepted::Taken;
        }
        *piece = Some(data);
        attempt.senders[index as usize] = Some(from);
        attempt.received += 1;
        if attempt.is_complete() {
            let (whole, sender) = self.attempts.remove(place).into_whole();
            return Accepted::Whole(whole, sender);
        }
        self.shrink(place, most);
        Accepted::Taken
    }

    /// Gives the largest other attempts up while all together keep more than `most` bytes.
    fn shrink(&mut self, mut place: usize, most: usize) {
        let held = |all: &[Attempt]| {
            let pieces: usize = all.iter().map(|a| a.received as usize).sum();
            pieces * BLOCK_LEN
        };
        while self.attempts.len() > 1 && held(&self.attempts) > most {
            let others = (0..self.attempts.len()).filter(|n| *n != place);
            let Some(largest) = others.max_by_key(|n| self.attempts[*n].received) else {
                return;
            };
            self.attempts.remove(largest);
            if largest < place {
                place -= 1;
            }
        }
    }

    /// Several peers made a wrong whole together: all start again, each alone.
    pub(crate) fn part(&mut self) {
        self.alone = true;
        self.attempts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u32 = BLOCK_LEN as u32 + 5;

    fn offer(index: u32, size: u32) -> Offer {
        Offer {
            member: MemberId::numbered(index),
            size,
            turns: 0,
        }
    }

    fn addr(n: u32) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n as u8], 1))
    }

    fn send(fetch: &mut Fetch, who: u32, size: u32, index: u32, len: usize) -> Accepted {
        let piece = (index, vec![index as u8; len]);
        fetch.accept((MemberId::numbered(who), size), piece, addr(who), 1 << 24)
    }

    #[test]
    fn pieces_must_have_their_exact_size() {
        let mut fetch = Fetch::default();
        fetch.schedule(Instant::ORIGIN, &[offer(1, SIZE)]);
        assert_eq!(send(&mut fetch, 1, SIZE, 0, 5), Accepted::Wrong);
        assert_eq!(send(&mut fetch, 1, SIZE, 2, 5), Accepted::Wrong);
        assert_eq!(send(&mut fetch, 1, SIZE, u32::MAX, 5), Accepted::Wrong);
        assert_eq!(send(&mut fetch, 1, SIZE, 1, 5), Accepted::Taken);
        let Accepted::Whole(whole, sender) = send(&mut fetch, 1, SIZE, 0, BLOCK_LEN) else {
            panic!("both pieces are there");
        };
        assert_eq!(
            (whole.len(), whole.last(), sender),
            (BLOCK_LEN + 5, Some(&1), Some(addr(1)))
        );
    }

    #[test]
    fn sizes_are_tried_side_by_side_and_the_commonest_first() {
        let mut fetch = Fetch::default();
        let mut offers: Vec<Offer> = (0..10).map(|n| offer(n, 1000 + n)).collect();
        offers.extend((10..13).map(|n| offer(n, SIZE)));
        assert!(fetch.schedule(Instant::ORIGIN, &offers).is_empty());
        assert_eq!(fetch.attempts.len(), MAX_ATTEMPTS);
        assert_eq!(fetch.attempts[0].size, SIZE);
        // What one sends does not end up in the attempt of another size.
        assert_eq!(send(&mut fetch, 10, SIZE, 1, 5), Accepted::Taken);
        assert!(matches!(
            send(&mut fetch, 0, 1000, 0, 1000),
            Accepted::Whole(..)
        ));
        let whole = send(&mut fetch, 11, SIZE, 0, BLOCK_LEN);
        assert!(matches!(whole, Accepted::Whole(_, None)), "two senders");
    }

    #[test]
    fn an_attempt_that_drips_gives_its_place_to_one_that_waits() {
        let mut fetch = Fetch::default();
        let big = 1 << 24;
        let mut offers: Vec<Offer> = (0..4).map(|n| offer(n, big - n)).collect();
        let mut now = Instant::ORIGIN;
        fetch.schedule(now, &offers);
        offers.push(offer(9, SIZE));
        for piece in 0..2 {
            now += Duration::from_secs(13);
            for who in 0..4 {
                send(&mut fetch, who, big - who, piece, BLOCK_LEN);
            }
            assert!(fetch.schedule(now, &offers).is_empty());
        }
        now += Duration::from_secs(13);
        let lost = fetch.schedule(now, &offers);
        assert_eq!(lost.len(), 1);
        assert!(fetch.attempt(MemberId::numbered(9), SIZE).is_some());
        // Whoever lost a turn comes after whoever did not.
        for offer in &mut offers {
            let passed = |a: &Attempt| a.serves(offer.member, offer.size);
            offer.turns += u32::from(lost.iter().any(passed));
        }
        offers.push(offer(8, 77));
        fetch.schedule(now, &offers);
        assert!(fetch.attempt(MemberId::numbered(8), 77).is_some());
    }

    #[test]
    fn once_several_made_a_wrong_whole_each_sends_its_own() {
        let mut fetch = Fetch::default();
        let offers = [offer(1, SIZE), offer(2, SIZE)];
        fetch.schedule(Instant::ORIGIN, &offers);
        send(&mut fetch, 1, SIZE, 1, 5);
        fetch.part();
        fetch.schedule(Instant::ORIGIN, &offers);
        send(&mut fetch, 1, SIZE, 1, 5);
        assert_eq!(send(&mut fetch, 2, SIZE, 0, BLOCK_LEN), Accepted::Taken);
        let whole = send(&mut fetch, 1, SIZE, 0, BLOCK_LEN);
        assert!(matches!(whole, Accepted::Whole(_, Some(who)) if who == addr(1)));
    }

    #[test]
    fn memory_is_bounded_however_many_sizes_are_claimed() {
        let mut fetch = Fetch::default();
        let offers: Vec<Offer> = (0..4).map(|n| offer(n, (1 << 24) - n)).collect();
        fetch.schedule(Instant::ORIGIN, &offers);
        for index in 0..1000 {
            for offer in &offers {
                let piece = (index, vec![0; BLOCK_LEN]);
                fetch.accept((offer.member, offer.size), piece, addr(1), 1 << 24);
                let held: usize = fetch.attempts.iter().map(|a| a.received as usize).sum();
                assert!(held * BLOCK_LEN <= 1 << 24);
            }
        }
    }
}
