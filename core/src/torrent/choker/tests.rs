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
        sent: 0,
        empty: false,
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

const PIECE: u64 = 256 << 10;

fn pace() -> Option<Pace> {
    Some(Pace::new(100_000, PIECE as u32))
}

#[test]
fn under_a_limit_a_seed_serves_a_piece_to_each_in_turn() {
    let mut bench = Bench::new(2, 1, (0..6).map(|k| peer(k, 0)).collect());
    bench.choker.set_pace(pace());
    bench.round(at(0), true);
    let mut served = BTreeMap::<PeerKey, u64>::new();
    for i in 1..=12 {
        // The one of the two that was unchoked first is sent its piece.
        let served_first = bench.peers.iter().filter(|p| p.unchoked);
        let key = served_first.min_by_key(|p| p.since).unwrap().key;
        *served.entry(key).or_default() += 1;
        bench.peers[key as usize].sent = PIECE;
        let changes = bench.round(at(i), true);
        bench.peers[key as usize].sent = 0;
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert!(changes.contains(&(key, false)));
    }
    assert!(
        served.values().all(|turns| (1..=3).contains(turns)),
        "{served:?}"
    );
    assert_eq!(served.len(), 6, "{served:?}");
}

#[test]
fn under_a_limit_an_optimistic_slot_goes_round_after_a_piece_and_an_earned_one_stays() {
    let mut bench = Bench::new(2, 1, vec![peer(0, 9000), peer(1, 0), peer(2, 0)]);
    bench.choker.set_pace(pace());
    bench.round(at(0), false);
    let holder = bench.unchoked()[1];
    let other = 3 - holder;
    bench.peers[0].sent = 9 * PIECE;
    bench.peers[holder as usize].sent = PIECE - 1;
    assert_eq!(bench.round(at(1), false), []);
    bench.peers[holder as usize].sent = PIECE;
    let mut changes = bench.round(at(2), false);
    changes.sort_unstable();
    let mut wanted = [(holder, false), (other, true)];
    wanted.sort_unstable();
    assert_eq!(changes, wanted);
    // No other peer waits, so it keeps its slot.
    bench.peers[holder as usize].interested = false;
    bench.peers[other as usize].sent = PIECE;
    assert_eq!(bench.round(at(3), false), []);
    // Without a limit a turn lasts half a minute.
    bench.peers[holder as usize].interested = true;
    bench.choker.set_pace(None);
    assert_eq!(bench.round(at(4), false), []);
}

#[test]
fn under_a_limit_those_who_have_nothing_come_first() {
    for seeding in [false, true] {
        let mut first = 0;
        for seed in 0..200 {
            let mut bench = Bench::new(1, seed, (0..9).map(|k| peer(k, 0)).collect());
            bench.choker.set_pace(pace());
            bench.peers[4].empty = true;
            bench.round(at(1000), seeding);
            first += u32::from(bench.unchoked() == [4]);
        }
        assert!(first > 160, "{first} of 200");
    }
}

#[test]
fn a_thin_uplink_has_no_more_slots_than_it_feeds() {
    let mut choker = Choker::new(Slots::Auto);
    let mut with = |limit| {
        choker.set_pace(Some(Pace::new(limit, PIECE as u32)));
        choker.slots(&[Candidate {
            up_rate: limit,
            ..peer(0, 0)
        }])
    };
    assert_eq!([with(10_000), with(200_000), with(500_000)], [4, 4, 7]);
    assert_eq!(with(10 << 20), 78);
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
        slots: u8, seeding: bool, limited: bool, seed: u64, peers: Vec<(bool, bool, u32)>,
        steps: Vec<u8>
    ) -> bool {
        let peers: Vec<_> = (0..).zip(&peers).map(|(k, &(interested, snubbed, rate))| Candidate {
            interested, snubbed, empty: rate % 3 == 0, ..peer(k, rate.into())
        }).collect();
        let slots = u32::from(slots) % 10;
        let mut bench = Bench::new(slots, seed, peers);
        bench.choker.set_pace(pace().filter(|_| limited));
        let wanted = bench.peers.iter().filter(|p| p.interested).count();
        let mut now = 0;
        for step in steps {
            bench.round(at(now), seeding);
            now += u64::from(step) % 40;
            for p in &mut bench.peers {
                p.sent = if p.unchoked { p.sent + u64::from(step) * 4096 } else { 0 };
            }
            let unchoked = bench.unchoked();
            if unchoked.len() != wanted.min(slots as usize) { return false; }
            if bench.peers.iter().any(|p| p.unchoked && !p.interested) { return false; }
        }
        true
    }
}
