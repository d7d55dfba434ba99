use alloc::{collections::BTreeSet, format};

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::*;

const LATER: Instant = Instant::from_micros(1_000_000);

fn addr(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 6881))
}

fn port(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 9, 9, 9], n))
}

/// A peer_list that is told of addresses.
struct Bench {
    peer_list: PeerList,
    rng: ChaCha8Rng,
}

impl Bench {
    fn new(known: usize) -> Self {
        let limits = Limits {
            known,
            per_ip: 8,
            families: (true, true),
        };
        Self {
            peer_list: PeerList::new(limits, 7),
            rng: ChaCha8Rng::seed_from_u64(1),
        }
    }

    fn learn(&mut self, addr: SocketAddr, origin: impl Into<Origin>) -> bool {
        let mut cx = Cx {
            now: Instant::ORIGIN,
            rng: &mut self.rng,
        };
        let news = self.peer_list.learn(&mut cx, addr, origin);
        self.audit();
        news
    }

    fn learn_all(
        &mut self,
        all: impl IntoIterator<Item = SocketAddr>,
        origin: impl Into<Origin> + Copy,
    ) {
        for addr in all {
            self.learn(addr, origin);
        }
    }

    /// How many of these are known.
    fn count(&self, of: impl IntoIterator<Item = SocketAddr>) -> usize {
        let known = |addr: &SocketAddr| self.peer_list.known.contains_key(addr);
        of.into_iter().filter(known).count()
    }

    /// Tries whatever is due, in vain.
    fn fail_all(&mut self, now: Instant) {
        let due = core::iter::from_fn(|| self.peer_list.take_due(now));
        let tried: Vec<_> = due.map(|(addr, _)| addr).collect();
        for addr in tried {
            self.peer_list.released(now, addr, Released::Failed);
        }
        self.audit();
    }

    /// Compares every index and counter with the table.
    fn audit(&self) {
        let s = &self.peer_list;
        assert!(s.known.len() <= s.limits.known);
        let idle = s.known.values().filter(|k| !k.busy).count();
        assert_eq!(idle, s.available());
        for (class, idle) in s.idle.iter().enumerate() {
            assert_eq!(idle.worst().count(), idle.len());
            let of = s.known.values().filter(|k| k.class().index() == class);
            assert_eq!(of.count(), s.counts[class]);
        }
        assert_eq!(s.prefixes.values().sum::<u32>() as usize, s.known.len());
        let told = s.known.values().filter(|k| k.teller.is_some()).count();
        assert_eq!(s.tellers.values().sum::<u32>() as usize, told);
        assert!(
            s.tellers
                .values()
                .all(|n| n as usize <= s.limits.per_teller())
        );
        assert!(s.counts[Class::Gossip.index()] <= s.limits.most_gossip());
        assert!(s.others() <= s.limits.most_others());
    }
}

fn pex(teller: u8) -> Origin {
    Origin::pex(IpAddr::from([10, 7, 7, teller]))
}

#[test]
fn each_address_is_tried_once_until_released() {
    let mut b = Bench::new(100);
    b.learn_all((0..5).map(addr), PeerSource::Tracker);
    let peer_list = &mut b.peer_list;
    let tried: BTreeSet<_> = core::iter::from_fn(|| peer_list.take_due(LATER))
        .map(|(a, _)| a)
        .collect();
    assert_eq!(tried.len(), 5);
    peer_list.released(LATER, addr(0), Released::Failed);
    assert!(peer_list.take_due(LATER).is_none());
    assert!(peer_list.next_due().unwrap() >= LATER + RETRY);
    peer_list.released(LATER, addr(1), Released::TryOtherEncryption);
    assert!(
        peer_list
            .take_due(LATER)
            .is_some_and(|(a, k)| a == addr(1) && k.other_encryption)
    );
}

#[test]
fn what_is_useless_or_crowded_is_passed_over() {
    let mut b = Bench::new(100);
    b.learn_all((0..3).map(addr), PeerSource::Tracker);
    b.learn(port(1), PeerSource::Tracker);
    b.learn(port(2), PeerSource::Manual);
    b.peer_list.mark_seed(addr(1));
    let is_crowded = |ip| ip == port(0).ip();
    let mut next = |now, seeding| b.peer_list.next(now, seeding, is_crowded);
    let mut tried = BTreeSet::new();
    let due = loop {
        match next(LATER, true) {
            Next::Connect(addr, _) => assert!(tried.insert(addr)),
            Next::Wait(due) => break due,
            Next::Nothing => panic!("those that were passed over are tried later"),
        }
    };
    assert_eq!(tried, BTreeSet::from([addr(0), addr(2), port(2)]));
    assert_eq!(due, LATER + RETRY, "a connection may have ended");
    // The seed is useful again if there is more to download.
    let later = LATER + MAX_RETRY;
    assert!(matches!(next(later, false), Next::Connect(a, _) if a == addr(1)));
    assert!(matches!(next(later, false), Next::Wait(due) if due == later + RETRY));
    b.audit();
    let mut none = Bench::new(100).peer_list;
    assert!(matches!(none.next(LATER, false, |_| false), Next::Nothing));
}

#[test]
fn an_address_that_a_person_named_is_tried_again_sooner() {
    let mut b = Bench::new(100);
    b.learn(addr(0), PeerSource::Tracker);
    b.learn(addr(9), PeerSource::Manual);
    while b.peer_list.take_due(LATER).is_some() {}
    for (failed, wait) in [(0, RETRY), (9, RETRY_MANUAL)] {
        b.peer_list.released(LATER, addr(failed), Released::Failed);
        let due = b.peer_list.next_due().unwrap();
        assert!(due >= LATER + wait && due < LATER + wait * 5 / 4);
    }
    assert!(RETRY_MANUAL < RETRY);
}

#[test]
fn a_dead_address_is_forgotten() {
    let mut b = Bench::new(100);
    b.learn(addr(0), PeerSource::Tracker);
    let mut now = LATER;
    for _ in 0..MAX_FAILURES {
        now = b.peer_list.next_due().unwrap().max(now);
        b.fail_all(now);
    }
    assert_eq!((b.peer_list.len(), b.peer_list.next_due()), (0, None));
}

#[test]
fn a_banned_address_is_neither_kept_nor_learned_and_after_three_strikes_no_port_of_it() {
    let mut b = Bench::new(100);
    b.learn_all((1..5).map(port), PeerSource::Tracker);
    b.peer_list.occupy(port(1));
    assert!(b.peer_list.ban(port(1)));
    b.peer_list.released(LATER, port(1), Released::Banned);
    assert!(!b.learn(port(1), PeerSource::Manual));
    assert_eq!(b.count((1..5).map(port)), 3);
    assert!(!b.peer_list.ban(port(1)));
    assert!(b.peer_list.ban(port(2)) && b.peer_list.ban(port(3)));
    assert_eq!(b.peer_list.len(), 0);
    b.audit();
    assert!(!b.learn(port(77), PeerSource::Tracker));
    assert!(b.peer_list.is_ip_banned(port(0).ip()));
}

#[test]
fn a_full_table_keeps_learning_and_gives_up_what_fails_first() {
    let mut b = Bench::new(40);
    b.learn_all((0..30).map(addr), PeerSource::Tracker);
    assert_eq!(b.peer_list.len(), 30);
    // Never tried: a draw decides, so some of the new ones get in.
    b.learn_all((100..200).map(addr), PeerSource::Tracker);
    assert_eq!(b.peer_list.len(), 30);
    let new = b.count((100..200).map(addr));
    assert!((10..30).contains(&new), "{new}");
    // Tried in vain: each makes way for any new one.
    b.fail_all(LATER);
    (300..330).for_each(|n| assert!(b.learn(addr(n), PeerSource::Tracker)));
    assert_eq!(b.count((300..330).map(addr)), 30);
}

#[test]
fn an_address_that_worked_does_not_make_way_for_one_that_was_never_tried() {
    let mut b = Bench::new(40);
    b.learn_all((0..30).map(addr), PeerSource::Tracker);
    while let Some((addr, _)) = b.peer_list.take_due(LATER) {
        b.peer_list.released(LATER, addr, Released::Worked);
    }
    b.learn_all((100..200).map(addr), PeerSource::Tracker);
    assert_eq!(b.count((0..30).map(addr)), 30);
}

#[test]
fn peers_that_tell_of_peers_crowd_nobody_else_out() {
    let mut b = Bench::new(400);
    let others = [PeerSource::Tracker, PeerSource::Dht, PeerSource::Manual];
    for (n, source) in (0..60).flat_map(|n| others.map(|s| (n * 3 + s as u16 % 3, s))) {
        b.learn(addr(n), source);
    }
    let before = b.count((0..180).map(addr));
    for n in 1000..9000 {
        b.learn(addr(n), pex((n % 250) as u8));
        b.learn(addr(n + 20_000), PeerSource::Incoming);
    }
    assert_eq!(b.count((0..180).map(addr)), before);
    assert_eq!(b.peer_list.counts[Class::Gossip.index()], 200);
    // A tracker that speaks up later is heard, and its peers are dialled first.
    assert!(b.learn(addr(500), PeerSource::Tracker));
    let (first, _) = b.peer_list.take_due(LATER).unwrap();
    assert_ne!(Class::of(b.peer_list.known[&first].source), Class::Gossip);
}

#[test]
fn neither_the_dht_nor_a_tracker_crowds_the_other_out() {
    let mut b = Bench::new(400);
    b.learn_all((0..5_000).map(addr), PeerSource::Dht);
    assert_eq!(b.peer_list.len(), 300);
    (5_000..5_100).for_each(|n| assert!(b.learn(addr(n), PeerSource::Tracker)));
    b.learn_all((6_000..9_000).map(addr), PeerSource::Dht);
    assert_eq!(b.count((5_000..5_100).map(addr)), 100);
}

#[test]
fn one_peer_tells_of_a_part_of_the_table_only_however_often_it_comes() {
    let mut b = Bench::new(400);
    b.learn_all((0..2_000).map(addr), pex(1));
    assert_eq!(b.peer_list.len(), 20);
    (2_000..2_010).for_each(|n| assert!(b.learn(addr(n), pex(2))));
    // What it told of may be replaced by what it tells of once it failed.
    b.fail_all(LATER);
    assert!(b.learn(addr(3_000), pex(1)));
    assert_eq!(b.peer_list.len(), 30);
}

#[test]
fn few_ports_of_one_address_are_learned_and_fewest_from_peers() {
    for (source, most) in [
        (Origin::from(PeerSource::Tracker), 32),
        (PeerSource::Dht.into(), 8),
        (PeerSource::Incoming.into(), 8),
        (pex(1), 4),
        (PeerSource::Manual.into(), 50),
    ] {
        let mut b = Bench::new(400);
        b.learn_all((1..=50).map(port), source);
        assert_eq!(b.peer_list.len(), most, "{source:?}");
    }
    let mut b = Bench::new(400);
    for n in 1..=50 {
        let ip = format!("[2001:db8::{n}]:{n}");
        b.learn(ip.parse().unwrap(), pex(1));
    }
    assert_eq!(b.peer_list.len(), 4, "an IPv6 /64 is one");
}

#[test]
fn another_port_takes_the_place_of_one_that_does_not_answer() {
    let mut b = Bench::new(400);
    (1..=4).for_each(|n| assert!(b.learn(port(n), pex(1))));
    b.fail_all(LATER);
    assert!(!b.learn(port(5), pex(1)), "once does not prove it");
    b.fail_all(LATER + RETRY * 2);
    assert!(b.learn(port(5), pex(1)));
    assert_eq!(b.peer_list.len(), 4);
    assert!(
        b.peer_list.take_due(LATER + RETRY * 2).is_none(),
        "it waits as long as the one before"
    );
    // A more trusted source needs no proof.
    b.learn_all((1..=8).map(port), PeerSource::Tracker);
    assert_eq!(b.count((1..=8).map(port)), 8);
}

#[test]
fn the_most_trusted_source_of_an_address_counts() {
    let mut b = Bench::new(40);
    b.learn(addr(1), pex(1));
    assert!(!b.learn(addr(1), PeerSource::Tracker));
    assert_eq!(b.peer_list.known[&addr(1)].source, PeerSource::Tracker);
    b.learn(addr(1), pex(1));
    b.peer_list.occupy(addr(1));
    b.learn(addr(1), PeerSource::Manual);
    b.peer_list.released(LATER, addr(1), Released::Worked);
    assert_eq!(b.peer_list.known[&addr(1)].source, PeerSource::Manual);
    b.peer_list.forget(PeerSource::Pex);
    assert_eq!(b.peer_list.len(), 1);
    b.audit();
}

#[test]
fn everything_idle_is_due_when_one_hurries() {
    let mut b = Bench::new(40);
    b.learn_all((0..9).map(addr), PeerSource::Tracker);
    b.fail_all(LATER);
    assert!(b.peer_list.take_due(LATER).is_none());
    b.peer_list.hurry(LATER);
    b.audit();
    assert_eq!(
        core::iter::from_fn(|| b.peer_list.take_due(LATER)).count(),
        9
    );
}

#[test]
fn impossible_addresses_are_not_learned_nor_those_of_a_family_that_is_missing() {
    let mut b = Bench::new(3);
    for bad in [
        "0.0.0.0:1",
        "1.2.3.4:0",
        "224.0.0.1:5",
        "255.255.255.255:5",
        "[ff02::1]:5",
    ] {
        assert!(!b.learn(bad.parse().unwrap(), PeerSource::Tracker), "{bad}");
    }
    for families in [(true, false), (false, true)] {
        let mut b = Bench::new(40);
        b.peer_list.limits.families = families;
        let v6 = "[2001:db8::1]:5".parse().unwrap();
        assert_eq!(b.learn(addr(1), PeerSource::Manual), families.0);
        assert_eq!(b.learn(v6, PeerSource::Manual), families.1);
        let mapped = "[::ffff:10.0.0.2]:5".parse().unwrap();
        assert_eq!(b.learn(mapped, PeerSource::Manual), families.0);
    }
}

/// Any sequence of events keeps the bounds and the indices.
#[test]
fn random_events_keep_every_index_right() {
    fn holds(seed: u64, known: u8) -> bool {
        let mut b = Bench::new(usize::from(known % 50));
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut now = LATER;
        for _ in 0..100 {
            let mut cx = Cx { now, rng: &mut rng };
            let n = cx.below(60) as u16;
            let to = if n.is_multiple_of(3) {
                port(n + 1)
            } else {
                addr(n)
            };
            let origins = [
                PeerSource::Manual.into(),
                PeerSource::Tracker.into(),
                PeerSource::Dht.into(),
                PeerSource::Incoming.into(),
                pex(n as u8 % 5),
            ];
            let how = [
                Released::Worked,
                Released::TryOtherEncryption,
                Released::Failed,
                Released::Crowded,
                Released::Useless,
                Released::Banned,
            ];
            let (origin, how) = (origins[cx.below(5) as usize], how[cx.below(6) as usize]);
            match cx.below(9) {
                0..=3 => _ = b.peer_list.learn(&mut cx, to, origin),
                4 => _ = b.peer_list.take_due(now),
                5 => b.peer_list.occupy(to),
                6 => b.peer_list.released(now, to, how),
                7 if n.is_multiple_of(16) => _ = b.peer_list.ban(to),
                7 => b.peer_list.hurry(now),
                _ => now += RETRY,
            }
            b.audit();
        }
        true
    }
    quickcheck::quickcheck(holds as fn(u64, u8) -> bool);
}
