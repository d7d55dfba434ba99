//! Attempts to assemble the metadata of a magnet (BEP 9).
//!
//! The size of the metadata is only known from peers, and a peer may claim a wrong size. Each claimed size is therefore an
//! attempt of its own, and a few attempts run side by side: a peer contributes to the attempt of the size that it claims.
//! After several peers together assembled metadata with a wrong hash, each attempt belongs to a single peer, which shows who
//! sends bad pieces. An attempt that is too slow makes way for the next one.

use alloc::{collections::BTreeMap, vec, vec::Vec};
use core::cmp::Reverse;
use core::net::SocketAddr;
use core::time::Duration;

use crate::torrent::member_id::MemberId;
use crate::{BLOCK_LEN, Instant};

/// The maximum number of attempts at once: enough that a few peers with wrong claims do not delay an honest one.
const MAX_ATTEMPTS: usize = 4;
/// How long an attempt keeps its place whatever it achieves: time for two answers of a slow peer.
const TURN: Duration = Duration::from_secs(30);
/// How much longer an attempt keeps its place for each piece that it received.
const TURN_PER_PIECE: Duration = Duration::from_secs(2);

/// What a peer claims about the metadata.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) member: MemberId,
    /// The size of the metadata in bytes.
    pub(crate) size: u32,
    /// How many of its attempts lost their place. Peers with fewer go first.
    pub(crate) turns: u32,
}

/// An attempt to assemble the metadata.
#[derive(Debug)]
pub(crate) struct Attempt {
    size: u32,
    /// The only peer that may contribute, if it is restricted.
    only: Option<MemberId>,
    pieces: Vec<Option<Vec<u8>>>,
    /// The sender of each piece. If one peer sent all of them and the hash is wrong, that peer is to blame.
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

    /// Whether a peer with this claim contributes to it.
    pub(crate) fn serves(&self, member: MemberId, size: u32) -> bool {
        self.size == size && self.only.is_none_or(|only| only == member)
    }

    /// The missing pieces from `from` on.
    pub(crate) fn missing_from(&self, from: u32) -> impl Iterator<Item = u32> + '_ {
        // In this order, the iterator does not look at one number more than there are pieces.
        let pieces = self.pieces.iter().skip(from as usize).zip(from..);
        pieces.filter(|(piece, _)| piece.is_none()).map(|(_, n)| n)
    }

    /// The length of piece `index` in bytes.
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

    /// The metadata, and its sender if there was only one.
    fn into_whole(self) -> (Vec<u8>, Option<SocketAddr>) {
        let whole = self.pieces.into_iter().flatten().flatten().collect();
        let first = self.senders.first().copied().flatten();
        let alone = self.senders.iter().all(|s| *s == first);
        (whole, first.filter(|_| alone))
    }
}

/// The result of receiving a piece.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// Its length does not match the size that its sender claims.
    Wrong,
    /// It is kept, or was not needed.
    Taken,
    /// It was the last one: the metadata, and its sender if there was only one.
    Whole(Vec<u8>, Option<SocketAddr>),
}

/// All attempts of a torrent.
#[derive(Debug, Default)]
pub(crate) struct Fetch {
    attempts: Vec<Attempt>,
    /// Several senders assembled wrong metadata: from then on, each attempt belongs to one peer.
    alone: bool,
}

impl Fetch {
    /// The attempt that a peer contributes to, and its index.
    pub(crate) fn attempt(&self, member: MemberId, size: u32) -> Option<(usize, &Attempt)> {
        let mut all = self.attempts.iter().enumerate();
        all.find(|(_, attempt)| attempt.serves(member, size))
    }

    /// Starts attempts for claims that wait, as far as there are places: peers that were not tried first, then the size that
    /// most peers claim. Returns the attempts that lost their places.
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

    /// Adds a piece from a peer that claims `size`. All attempts together keep at most `most` bytes.
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

    /// Drops the largest other attempts until all together keep at most `most` bytes.
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

    /// Several peers together assembled wrong metadata: restarts with one peer for each attempt.
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
        // A piece does not go to the attempt of another size.
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
        // A peer whose attempt lost its place comes after the others.
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
