//! The choker: whom we upload to.
//!
//! Every ten seconds the slots are dealt anew.
//!
//! - While downloading: those who give us most get most of the slots (tit-for-tat); the rest,
//!   and whatever the givers leave, is *optimistic*: random peers, newcomers three times as
//!   likely, for thirty seconds each, so that better partners are found and newcomers get
//!   something to trade.
//! - While seeding: turns of a minute, whoever was choked longest next; a turn ends early for who
//!   takes nothing, and goes on if nobody waits. One slot in eight, at least one, is optimistic
//!   here, too.
//!
//! Between rounds free slots are filled and nobody is choked, so peers do not flicker
//! (*fibrillation*); within a round whoever has a slot keeps it against rivals less than an eighth
//! better.

use alloc::vec::Vec;
use core::{cmp::Reverse, time::Duration};

use super::picker::PeerKey;
use crate::{Cx, Instant};

/// Time between rounds: long enough for TCP to get up to speed, so that rates mean something.
pub const ROUND: Duration = Duration::from_secs(10);
/// How long an optimistic unchoke lasts: time to get a few pieces and give some back.
pub const OPTIMISTIC: Duration = Duration::from_secs(30);
/// A turn when seeding.
pub const TURN: Duration = Duration::from_secs(60);
/// A seeding turn ends after this if the peer takes nothing.
const IDLE_TURN: Duration = Duration::from_secs(20);
/// A peer is new for so long.
const NEW: Duration = Duration::from_secs(60);
/// How much likelier a new peer's optimistic unchoke is.
const NEW_WEIGHT: u32 = 3;
/// Fewest and most automatic slots.
const AUTO: core::ops::RangeInclusive<u64> = 4..=256;

/// How many peers are unchoked at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// So many; 0 uploads to nobody.
    Fixed(u32),
    /// As many as the upload rate feeds well: √(0.6 × KiB/s), at least 4.
    Auto,
}

/// A connected peer as the choker sees it. Rates in bytes per second.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Which.
    pub key: PeerKey,
    /// It wants something we have.
    pub interested: bool,
    /// It owes us blocks and has sent none for long: it gets no slot for giving.
    pub snubbed: bool,
    /// What it sends us.
    pub down_rate: u64,
    /// What it has sent us in all, in bytes.
    pub given: u64,
    /// What we send it.
    pub up_rate: u64,
    /// We upload to it.
    pub unchoked: bool,
    /// Since when it is unchoked, or choked.
    pub since: Instant,
    /// When it connected.
    pub connected: Instant,
}

/// Deals the upload slots of one torrent.
#[derive(Debug)]
pub struct Choker {
    slots: Slots,
    next_round: Option<Instant>,
    next_optimistic: Instant,
    /// Who holds an optimistic slot.
    optimistic: Vec<PeerKey>,
    /// The last round left a slot over, or one became free since.
    vacant: bool,
    /// Candidates looked at so far.
    work: u64,
    /// Per candidate of this round: whether it gets a slot.
    chosen: Vec<bool>,
    /// (rank, tie break, candidate), best first.
    ranking: Vec<(Reverse<u64>, u32, u32)>,
}

impl Choker {
    /// A choker; the first round is due at once.
    #[must_use]
    pub const fn new(slots: Slots) -> Self {
        Self {
            slots,
            next_round: None,
            next_optimistic: Instant::ORIGIN,
            optimistic: Vec::new(),
            vacant: true,
            work: 0,
            chosen: Vec::new(),
            ranking: Vec::new(),
        }
    }

    /// Changes the number of slots, from the next round on.
    pub const fn set_slots(&mut self, slots: Slots) {
        self.slots = slots;
        self.vacant = true;
    }

    /// Whether a round before [`Choker::poll_timeout`] could give somebody a slot. A peer that
    /// becomes interested is worth a round only then: rounds look at every peer.
    #[must_use]
    pub const fn has_vacancy(&self) -> bool {
        self.vacant
    }

    /// A peer that had a slot is gone.
    pub const fn peer_gone(&mut self) {
        self.vacant = true;
    }

    /// How many candidates all rounds together have looked at: for tests of what a message costs.
    #[doc(hidden)]
    #[must_use]
    pub const fn work(&self) -> u64 {
        self.work
    }

    /// When the next round is due; `None` before the first: as soon as there is a peer.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.next_round
    }

    /// How many slots there are when we upload to these peers.
    #[must_use]
    pub fn slots(&self, candidates: &[Candidate]) -> u32 {
        match self.slots {
            Slots::Fixed(n) => n,
            Slots::Auto => {
                let rate = candidates
                    .iter()
                    .fold(0u64, |sum, c| sum.saturating_add(c.up_rate));
                let fed = (rate / 1024).saturating_mul(6) / 10;
                fed.isqrt().clamp(*AUTO.start(), *AUTO.end()) as u32
            }
        }
    }

    /// Deals the slots. Appends only changes to `out`: (peer, unchoke). A call before
    /// [`Choker::poll_timeout`] fills free slots only: worth it when a peer becomes interested.
    pub fn round(
        &mut self,
        cx: &mut Cx<'_>,
        seeding: bool,
        candidates: &[Candidate],
        out: &mut Vec<(PeerKey, bool)>,
    ) {
        let full = self.next_round.is_none_or(|at| at <= cx.now);
        if full {
            self.next_round = Some(cx.now + ROUND);
        }
        if self.next_optimistic <= cx.now {
            self.next_optimistic = cx.now + OPTIMISTIC;
            self.optimistic.clear();
        }
        let slots = self.slots(candidates) as usize;
        self.work += candidates.len() as u64;
        self.chosen.clear();
        self.chosen.resize(candidates.len(), false);
        if full {
            let optimistic = if slots > 1 { (slots / 8).max(1) } else { 0 };
            self.rank(cx, seeding, candidates);
            let regular = self.ranking.iter().take(slots - optimistic);
            for &(_, _, i) in regular {
                self.chosen[i as usize] = true;
            }
        } else {
            for (chosen, c) in self.chosen.iter_mut().zip(candidates) {
                *chosen = c.unchoked;
            }
        }
        self.choose_optimistic(cx, full, slots, candidates);
        for (c, &chosen) in candidates.iter().zip(&self.chosen) {
            if chosen != c.unchoked {
                out.push((c.key, chosen));
            }
        }
    }

    /// Those with a claim to a regular slot, best first.
    fn rank(&mut self, cx: &mut Cx<'_>, seeding: bool, candidates: &[Candidate]) {
        self.ranking.clear();
        for (i, c) in candidates.iter().enumerate().filter(|(_, c)| c.interested) {
            let rank = if seeding {
                Some(turn_rank(cx.now, c))
            } else {
                ((c.down_rate > 0 || c.given > 0) && !c.snubbed).then(|| gift_rank(c))
            };
            if let Some(rank) = rank {
                self.ranking
                    .push((Reverse(rank), cx.rng.next_u32(), i as u32));
            }
        }
        self.ranking.sort_unstable();
    }

    /// Gives the slots that are left to those who hold an optimistic one, then to random others.
    fn choose_optimistic(
        &mut self,
        cx: &mut Cx<'_>,
        full: bool,
        slots: usize,
        candidates: &[Candidate],
    ) {
        let mut left = slots.saturating_sub(self.chosen.iter().filter(|c| **c).count());
        let held = core::mem::take(&mut self.optimistic);
        let mut weights = 0;
        for (i, c) in candidates.iter().enumerate() {
            // Who got a slot just before this round keeps it: unchokes last a round at least.
            let young = c.unchoked && c.since + ROUND > cx.now;
            let keeps = held.contains(&c.key) || full && young;
            if self.chosen[i] {
                // In a full round it has earned a regular slot.
                if !full && held.contains(&c.key) {
                    self.optimistic.push(c.key);
                }
            } else if c.interested && keeps && left > 0 {
                left -= 1;
                self.chosen[i] = true;
                self.optimistic.push(c.key);
            } else if c.interested {
                weights += weight(cx.now, c);
            }
        }
        while left > 0 && weights > 0 {
            let mut at = cx.below(weights);
            for (i, c) in candidates.iter().enumerate() {
                if self.chosen[i] || !c.interested {
                    continue;
                }
                let weight = weight(cx.now, c);
                if at < weight {
                    self.chosen[i] = true;
                    self.optimistic.push(c.key);
                    weights -= weight;
                    left -= 1;
                    break;
                }
                at -= weight;
            }
        }
        self.vacant = left > 0;
    }
}

fn weight(now: Instant, c: &Candidate) -> u32 {
    if c.connected + NEW > now {
        NEW_WEIGHT
    } else {
        1
    }
}

/// Downloading: by what they give at present, then, where that is nothing, by what they gave: a
/// slot that no giver claims goes to one of old before it goes to somebody who never gave.
fn gift_rank(c: &Candidate) -> u64 {
    let bonus = if c.unchoked { c.down_rate / 8 } else { 0 };
    let rate = c.down_rate.saturating_add(bonus).min(MAX_RATE);
    rate << GIVEN_BITS | (c.given >> GIVEN_SHIFT).min((1 << GIVEN_BITS) - 1)
}

/// Bits of a rank for what was given in the past, in units of 16 KiB; the rest are for the rate.
const GIVEN_BITS: u32 = 24;
const GIVEN_SHIFT: u32 = 14;
const MAX_RATE: u64 = (1 << (64 - GIVEN_BITS)) - 1;

/// Seeding: running turns first, then the choked by how long they waited, then ended turns.
fn turn_rank(now: Instant, c: &Candidate) -> u64 {
    let waited = now.saturating_since(c.since);
    let turn = if c.up_rate > 0 { TURN } else { IDLE_TURN };
    if !c.unchoked {
        1 + waited.as_micros() as u64
    } else if waited < turn {
        u64::MAX
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use alloc::{collections::BTreeMap, vec};

    use quickcheck::quickcheck;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_micros(1 + secs * 1_000_000)
    }

    fn peer(key: PeerKey, down_rate: u64) -> Candidate {
        Candidate {
            key,
            interested: true,
            snubbed: false,
            down_rate,
            given: 0,
            up_rate: 0,
            unchoked: false,
            since: at(0),
            connected: at(0),
        }
    }

    /// A choker with its peers; applies what it decides.
    struct Bench {
        choker: Choker,
        rng: ChaCha8Rng,
        peers: Vec<Candidate>,
    }

    impl Bench {
        fn new(slots: u32, seed: u64, peers: Vec<Candidate>) -> Self {
            Self {
                choker: Choker::new(Slots::Fixed(slots)),
                rng: ChaCha8Rng::seed_from_u64(seed),
                peers,
            }
        }

        fn round(&mut self, now: Instant, seeding: bool) -> Vec<(PeerKey, bool)> {
            let mut out = Vec::new();
            let mut cx = Cx {
                now,
                rng: &mut self.rng,
            };
            self.choker.round(&mut cx, seeding, &self.peers, &mut out);
            for &(key, unchoke) in &out {
                let p = self.peers.iter_mut().find(|p| p.key == key).unwrap();
                assert_ne!(p.unchoked, unchoke, "not a change");
                (p.unchoked, p.since) = (unchoke, now);
            }
            out
        }

        fn unchoked(&self) -> Vec<PeerKey> {
            let all = self.peers.iter().filter(|p| p.unchoked);
            all.map(|p| p.key).collect()
        }
    }

    #[test]
    fn the_best_givers_have_the_regular_slots() {
        let peers = (0..10).map(|k| peer(k, u64::from(k) * 1000)).collect();
        let mut bench = Bench::new(4, 1, peers);
        bench.round(at(100), false);
        let unchoked = bench.unchoked();
        assert_eq!(unchoked.len(), 4);
        assert!(
            [7, 8, 9].iter().all(|k| unchoked.contains(k)),
            "{unchoked:?}"
        );
    }

    #[test]
    fn one_slot_of_four_is_optimistic() {
        let lucky = (0..20).filter(|seed| {
            let peers = (0..10).map(|k| peer(k, 1000 + u64::from(k))).collect();
            let mut bench = Bench::new(4, *seed, peers);
            bench.round(at(100), false);
            bench.unchoked().iter().any(|k| *k < 6)
        });
        assert!(lucky.count() > 5, "the four best have all slots");
    }

    #[test]
    fn who_gave_before_comes_before_who_never_did() {
        for seed in 0..10 {
            let mut peers: Vec<_> = (0..20).map(|k| peer(k, 0)).collect();
            for giver in &mut peers[..3] {
                giver.given = 1 << 20;
            }
            let mut bench = Bench::new(4, seed, peers);
            bench.round(at(100), false);
            let unchoked = bench.unchoked();
            assert!([0, 1, 2].iter().all(|k| unchoked.contains(k)));
        }
    }

    #[test]
    fn a_seed_unchokes_whoever_waited_longest() {
        for seed in 0..10 {
            let mut peers: Vec<_> = (0..20).map(|k| peer(k, 0)).collect();
            for p in &mut peers {
                p.since = at(50 - u64::from(p.key));
            }
            let mut bench = Bench::new(4, seed, peers);
            bench.round(at(100), true);
            let unchoked = bench.unchoked();
            assert!([17, 18, 19].iter().all(|k| unchoked.contains(k)));
        }
    }

    #[test]
    fn a_round_between_two_full_ones_chokes_nobody() {
        for seed in 0..10 {
            let peers = (0..10).map(|k| peer(k, u64::from(k) * 1000)).collect();
            let mut bench = Bench::new(4, seed, peers);
            bench.round(at(100), false);
            bench.peers.retain(|p| p.key != 9);
            bench.choker.peer_gone();
            let changes = bench.round(at(101), false);
            assert!(matches!(changes[..], [(_, true)]), "{changes:?}");
        }
    }

    #[test]
    fn an_unchoke_just_before_a_full_round_outlasts_it() {
        for seed in 0..20 {
            let peers = (0..30).map(|k| peer(k, 0)).collect();
            let mut bench = Bench::new(4, seed, peers);
            bench.round(at(100), false);
            let leaves = bench.unchoked()[0];
            bench.peers.retain(|p| p.key != leaves);
            bench.choker.peer_gone();
            bench.round(at(110), false);
            bench.round(at(120), false);
            let leaves = bench.unchoked()[0];
            bench.peers.retain(|p| p.key != leaves);
            bench.choker.peer_gone();
            let changes = bench.round(at(129), false);
            let [(young, true)] = changes[..] else {
                panic!("one free slot: {changes:?}");
            };
            // The optimistic slots are dealt anew here.
            bench.round(at(130), false);
            assert!(bench.unchoked().contains(&young));
        }
    }

    #[test]
    fn a_snubbed_or_uninterested_giver_has_no_regular_slot() {
        let mut peers: Vec<_> = (0..10).map(|k| peer(k, 1000)).collect();
        (peers[0].down_rate, peers[0].interested) = (9000, false);
        let mut bench = Bench::new(4, 1, peers);
        bench.round(at(100), false);
        assert!(!bench.unchoked().contains(&0));
        bench.peers[0].interested = true;
        bench.round(at(110), false);
        assert!(bench.unchoked().contains(&0));
        bench.peers[0].snubbed = true;
        bench.round(at(130), false);
        bench.round(at(160), false);
        let lost = (0..20).any(|i| {
            bench.round(at(170 + i * 10), false);
            !bench.unchoked().contains(&0)
        });
        assert!(lost);
    }

    #[test]
    fn small_differences_move_nobody() {
        let mut bench = Bench::new(3, 1, vec![peer(0, 1000), peer(1, 1001), peer(2, 1002)]);
        bench.peers.push(peer(3, 0));
        bench.round(at(0), false);
        for i in 1..100u64 {
            let holders = bench.unchoked();
            for p in bench.peers.iter_mut().take(3) {
                p.down_rate = 1000 + (i * 7 + u64::from(p.key) * 13) % 100;
            }
            bench.round(at(i * 10), false);
            let regular: Vec<_> = bench.unchoked().into_iter().filter(|k| *k < 3).collect();
            let kept = holders.iter().filter(|k| regular.contains(k)).count();
            assert!(kept >= 2, "round {i}: {holders:?} {regular:?}");
        }
    }

    #[test]
    fn between_rounds_free_slots_are_filled_and_nobody_is_choked() {
        let mut bench = Bench::new(2, 1, vec![peer(0, 0)]);
        bench.round(at(100), false);
        bench.peers.push(peer(1, 500));
        assert_eq!(bench.round(at(101), false), [(1, true)]);
        bench.peers.push(peer(2, 9000));
        assert_eq!(bench.round(at(102), false), []);
        assert_eq!(bench.choker.poll_timeout(), Some(at(110)));
        bench.round(at(110), false);
        assert!(bench.unchoked().contains(&2));
    }

    #[test]
    fn newcomers_are_three_times_as_likely() {
        let mut new = 0;
        for seed in 0..4000 {
            let mut bench = Bench::new(1, seed, vec![peer(0, 0), peer(1, 0)]);
            bench.peers[1].connected = at(990);
            bench.round(at(1000), false);
            new += usize::from(bench.unchoked() == [1]);
        }
        assert!((2900..3100).contains(&new), "{new} of 4000");
    }

    #[test]
    fn seeding_gives_everyone_a_turn_and_none_to_idlers() {
        let mut bench = Bench::new(3, 1, (0..9).map(|k| peer(k, 0)).collect());
        let mut served = BTreeMap::<PeerKey, u64>::new();
        for i in 0..360u64 {
            bench.round(at(i * 10), true);
            assert_eq!(bench.unchoked().len(), 3);
            for p in &mut bench.peers {
                // Peer 8 asks for nothing, though it says it is interested.
                p.up_rate = u64::from(p.unchoked && p.key != 8);
                *served.entry(p.key).or_default() += u64::from(p.unchoked);
            }
        }
        let active: Vec<_> = (0..8).map(|k| served[&k]).collect();
        let (low, high) = (active.iter().min().unwrap(), active.iter().max().unwrap());
        assert!(high * 2 < low * 3, "{served:?}");
        assert!(served[&8] < low * 3 / 4, "{served:?}");
    }

    #[test]
    fn automatic_slots_follow_the_upload_rate() {
        let choker = Choker::new(Slots::Auto);
        let with = |up_rate| {
            choker.slots(&[Candidate {
                up_rate,
                ..peer(0, 0)
            }])
        };
        assert_eq!([with(0), with(1 << 20), with(u64::MAX)], [4, 24, 256]);
    }

    /// Twelve peers who all want something of each other for an hour; the last gives nothing.
    #[test]
    fn tit_for_tat_beats_a_free_rider() {
        const PEERS: u32 = 12;
        const CAPACITY: u64 = 120_000;
        let mut swarm: Vec<Bench> = (0..PEERS)
            .map(|me| {
                let others = (0..PEERS).filter(|&k| k != me);
                Bench::new(4, u64::from(me), others.map(|k| peer(k, 0)).collect())
            })
            .collect();
        let mut got = vec![0; PEERS as usize];
        for i in 0..360 {
            for bench in &mut swarm {
                bench.round(at(i * 10), false);
            }
            for me in 0..PEERS - 1 {
                let served = swarm[me as usize].unchoked();
                let each = CAPACITY / served.len().max(1) as u64;
                for to in 0..PEERS {
                    let rate = if served.contains(&to) { each } else { 0 };
                    got[to as usize] += rate * 10;
                    let view = &mut swarm[to as usize].peers;
                    if let Some(p) = view.iter_mut().find(|p| p.key == me) {
                        p.down_rate = rate;
                    }
                }
            }
        }
        let worst_giver = got[..11].iter().min().unwrap();
        assert!(got[11] * 2 < *worst_giver, "{got:?}");
        assert!(got[11] > 0, "even the free rider is tried now and then");
    }

    quickcheck! {
        fn never_more_than_the_slots_and_only_the_interested(
            slots: u8, seeding: bool, seed: u64, peers: Vec<(bool, bool, u32)>, steps: Vec<u8>
        ) -> bool {
            let peers: Vec<_> = (0..).zip(&peers).map(|(k, &(interested, snubbed, rate))| Candidate {
                interested, snubbed, ..peer(k, rate.into())
            }).collect();
            let slots = u32::from(slots) % 10;
            let mut bench = Bench::new(slots, seed, peers);
            let wanted = bench.peers.iter().filter(|p| p.interested).count();
            let mut now = 0;
            for step in steps {
                bench.round(at(now), seeding);
                now += u64::from(step) % 40;
                let unchoked = bench.unchoked();
                if unchoked.len() != wanted.min(slots as usize) { return false; }
                if bench.peers.iter().any(|p| p.unchoked && !p.interested) { return false; }
            }
            true
        }
    }
}
