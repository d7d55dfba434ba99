use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quickcheck::{Arbitrary, Gen, quickcheck};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::*;

const T0: Instant = Instant::from_micros(1_000_000);
const LIMITS: PeerLimits = PeerLimits {
    max_hashes: 100,
    max_peers: 1_000,
    max_per_hash: 128,
};

fn hash(n: u8) -> NodeId {
    let mut id = NodeId([0x11; 20]);
    id.0[0] = n;
    id
}

fn v4(n: u16) -> SocketAddr {
    let [a, b] = n.to_be_bytes();
    SocketAddr::from(([11, 0, a, b], 6000 + n % 7))
}

fn v6(n: u16) -> SocketAddr {
    SocketAddr::from(([0x2a00, 0, 0, 0, 0, 0, 0, n], 7000))
}

fn secs(n: u64) -> Instant {
    T0 + Duration::from_secs(n)
}

fn store(limits: PeerLimits) -> PeerStore {
    PeerStore::new((5, 6), limits)
}

fn unpack(bytes: &[u8], v6: bool) -> Vec<SocketAddr> {
    let unpack = |peer: &[u8]| {
        let (ip, port) = peer.split_at(peer.len() - 2);
        let ip = match <[u8; 4]>::try_from(ip) {
            Ok(ip) => IpAddr::from(ip),
            Err(_) => IpAddr::from(<[u8; 16]>::try_from(ip).unwrap()),
        };
        SocketAddr::new(ip, u16::from_be_bytes(port.try_into().unwrap()))
    };
    bytes.chunks(if v6 { 18 } else { 6 }).map(unpack).collect()
}

/// What a reply with room for `room` peers would tell.
fn values(s: &PeerStore, seed: u64, hash: &NodeId, noseed: bool, room: usize) -> Vec<SocketAddr> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (now, rng) = (T0, &mut rng);
    let mut all = Vec::new();
    for v6 in [false, true] {
        let mut out = [0; 18 * 300];
        let len = room * if v6 { 18 } else { 6 };
        let cx = &mut Cx { now, rng };
        let used = s.values(cx, hash, v6, noseed, &mut out[..len]);
        all.extend(unpack(&out[..used], v6));
    }
    all
}

fn sample(s: &mut PeerStore, now: Instant, room: usize) -> (Vec<NodeId>, u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(now.as_micros());
    let mut out = [0; 600];
    let (used, num) = s.sample(&mut Cx { now, rng: &mut rng }, &mut out[..room]);
    let ids = out[..used].chunks(20);
    (ids.map(|id| NodeId(id.try_into().unwrap())).collect(), num)
}

#[test]
fn one_peer_for_each_address_and_none_without_a_port() {
    let mut s = store(LIMITS);
    assert!(s.announce(T0, &hash(1), v4(1), false));
    let mut moved = v4(1);
    moved.set_port(9);
    assert!(s.announce(T0, &hash(1), moved, false));
    assert!(s.announce(T0, &hash(1), v6(1), false));
    moved.set_port(0);
    assert!(!s.announce(T0, &hash(1), moved, false));
    moved.set_port(9);
    assert_eq!(values(&s, 1, &hash(1), false, 50), [moved, v6(1)]);
    assert_eq!((s.count(&hash(1)), s.peers(), s.hashes()), (2, 2, 1));
    assert_eq!(
        (s.count(&hash(2)), values(&s, 1, &hash(2), false, 9).len()),
        (0, 0)
    );
}

#[test]
fn of_one_hash_the_oldest_gives_way() {
    let mut s = store(LIMITS);
    for n in 0..128 {
        assert!(s.announce(T0, &hash(1), v4(n), false));
    }
    // The first is the newest now.
    assert!(s.announce(T0, &hash(1), v4(0), false));
    assert!(s.announce(T0, &hash(1), v4(500), false));
    let all = values(&s, 1, &hash(1), false, 200);
    assert_eq!((all.len(), s.count(&hash(1))), (128, 128));
    assert!(all.contains(&v4(0)) && all.contains(&v4(500)) && !all.contains(&v4(1)));
    // Another family does not crowd this one out: each gets its half.
    for n in 0..500 {
        assert!(s.announce(T0, &hash(1), v6(n), false));
    }
    let all = values(&s, 1, &hash(1), false, 200);
    assert_eq!(all.len(), 128);
    assert_eq!(all.iter().filter(|a| a.is_ipv4()).count(), 64);
}

#[test]
fn a_random_block_is_told_if_not_all_fit() {
    let mut s = store(LIMITS);
    for n in 0..50 {
        s.announce(T0, &hash(1), v4(n), n % 2 == 0);
    }
    let mut starts = BTreeSet::new();
    for seed in 0..500 {
        let told = values(&s, seed, &hash(1), false, 20);
        let first = (0..50).position(|n| v4(n) == told[0]).unwrap() as u16;
        let block: Vec<_> = (first..first + 20).map(|n| v4(n % 50)).collect();
        assert_eq!(told, block);
        starts.insert(first);
        let leeches = values(&s, seed, &hash(1), true, 20);
        assert_eq!(leeches.len(), 20);
        assert!((0..50).step_by(2).all(|n| !leeches.contains(&v4(n))));
    }
    assert_eq!(starts.len(), 50, "a block may begin anywhere");
    assert_eq!(values(&s, 0, &hash(1), true, 40).len(), 25);
}

#[test]
fn a_peer_is_kept_for_thirty_minutes() {
    let mut s = store(LIMITS);
    for n in 0..40 {
        s.announce(secs(u64::from(n) * 60), &hash(1), v4(n), false);
        s.expire(secs(u64::from(n) * 60));
    }
    let now = secs(39 * 60);
    let told = values(&s, 1, &hash(1), false, 100);
    assert!(
        (9..40).all(|n| told.contains(&v4(n))),
        "at most 30 minutes old"
    );
    assert!(
        (0..7).all(|n| !told.contains(&v4(n))),
        "32 minutes and more"
    );
    // Nobody announces any more: from timeout to timeout, until nothing is left.
    let (mut last, mut looks) = (now, 0);
    while let Some(next) = s.next_expiry() {
        assert!(next > last, "no spin");
        s.expire(next);
        (last, looks) = (next, looks + 1);
    }
    assert_eq!(
        (s.peers(), s.hashes(), s.peers_max()),
        (0, 0, told.len() as u32)
    );
    assert!(last >= now + PEER_LIFETIME && last < now + PEER_LIFETIME + Duration::from_secs(90));
    assert!(looks <= 31, "{looks}");
}

#[test]
fn after_a_long_sleep_nobody_seems_young() {
    for asleep in (32..300).step_by(3) {
        let mut s = store(LIMITS);
        s.announce(T0, &hash(1), v4(1), false);
        s.announce(T0, &hash(2), v4(1), false);
        let later = secs(asleep * 60 + 30);
        s.announce(later, &hash(1), v4(2), false);
        assert_eq!(values(&s, 1, &hash(1), false, 9), [v4(2)], "{asleep}");
        s.expire(later);
        s.expire(later + EXPIRE_PAUSE);
        assert_eq!((s.peers(), s.hashes()), (1, 1), "{asleep}");
    }
}

#[test]
fn much_that_is_due_at_once_is_done_in_parts() {
    let limits = PeerLimits {
        max_hashes: 10_000,
        max_peers: 10_000,
        ..LIMITS
    };
    let mut s = store(limits);
    for n in 0..10_000_u32 {
        let mut id = hash(0);
        id.0[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_be_bytes());
        s.announce(T0, &id, v4(n as u16), false);
    }
    let (mut now, mut calls) = (secs(3600), 0);
    s.expire(now);
    assert_eq!(s.hashes(), 10_000 - EXPIRE_BATCH as u32);
    while let Some(next) = s.next_expiry() {
        assert!(next > now, "no spin");
        now = next;
        s.expire(now);
        calls += 1;
    }
    assert_eq!((s.peers(), calls), (0, 10_000 / EXPIRE_BATCH));
}

#[test]
fn a_full_store_keeps_what_is_close() {
    let mut s = store(LIMITS);
    s.set_own(NodeId([0x11; 20]));
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let cx = Cx {
        now: T0,
        rng: &mut rng,
    };
    // Ten that are ours to keep.
    for n in 0..10 {
        let mut near = NodeId([0x11; 20]);
        near.0[4] = n;
        assert!(s.announce(T0, &near, v4(1), false));
    }
    let mut taken = 0;
    for _ in 0..20_000 {
        let mut far = NodeId([0; 20]);
        cx.rng.fill_bytes(&mut far.0);
        taken += u32::from(s.announce(T0, &far, v4(2), false));
        assert!(s.hashes() <= LIMITS.max_hashes);
    }
    assert_eq!(s.hashes(), LIMITS.max_hashes);
    assert!(taken < 2000, "{taken}: the farther, the less is taken");
    for n in 0..10 {
        let mut near = NodeId([0x11; 20]);
        near.0[4] = n;
        assert_eq!(s.count(&near), 1);
    }
}

#[test]
fn when_all_places_are_taken_the_farthest_hash_gives_one() {
    let limits = PeerLimits {
        max_peers: 50,
        ..LIMITS
    };
    let mut s = store(limits);
    s.set_own(hash(0));
    for n in 0..40 {
        assert!(s.announce(T0, &hash(0x80), v4(n), false));
        if n < 10 {
            assert!(s.announce(T0, &hash(0x40), v4(n), false));
        }
    }
    assert!(
        s.announce(T0, &hash(1), v4(1), false),
        "close: room is made"
    );
    assert_eq!((s.count(&hash(0x80)), s.count(&hash(1))), (39, 1));
    assert!(
        !s.announce(T0, &hash(0xff), v4(1), false),
        "far: there is none"
    );
    assert!(
        s.announce(T0, &hash(0x80), v4(100), false),
        "its own oldest"
    );
    assert_eq!(s.count(&hash(0x80)), 39);
    for n in 0..60 {
        assert!(s.announce(T0, &hash(1), v4(n), false));
        assert_eq!(s.peers(), 50);
    }
    assert_eq!((s.hashes(), s.count(&hash(1))), (1, 50));
}

#[test]
fn a_sample_stays_the_same_for_its_interval() {
    let mut s = store(LIMITS);
    for n in 0..90 {
        s.announce(T0, &hash(n), v4(1), false);
    }
    let (first, num) = sample(&mut s, T0, 400);
    assert_eq!((first.len(), num), (20, 90));
    let distinct: BTreeSet<_> = first.iter().collect();
    assert_eq!(distinct.len(), 20);
    assert!(first.iter().all(|id| s.count(id) == 1));
    let late = T0 + PeerStore::sample_interval();
    assert_eq!(sample(&mut s, secs(899), 400).0, first);
    assert_eq!(sample(&mut s, secs(899), 405 - 200).0, first[..10]);
    assert_ne!(sample(&mut s, late, 400).0, first);
    // Over time all are told.
    let mut told = BTreeSet::new();
    for n in 2..40 {
        told.extend(sample(&mut s, secs(n * 900), 400).0);
    }
    assert_eq!(told.len(), 90);
}

#[test]
fn a_sample_of_few_is_all_of_them_at_any_time() {
    let mut s = store(LIMITS);
    assert_eq!(sample(&mut s, T0, 400), (Vec::new(), 0));
    for n in 0..20 {
        s.announce(T0, &hash(n), v4(1), false);
        let (told, num) = sample(&mut s, T0, 400);
        assert_eq!(
            (told.len() as u64, num),
            (u64::from(n) + 1, u64::from(n) + 1)
        );
    }
}

#[test]
fn a_scrape_counts_seeds_and_leeches() {
    let mut s = store(LIMITS);
    for n in 0..100 {
        s.announce(T0, &hash(1), v4(n), n < 30);
    }
    for n in 0..20 {
        s.announce(T0, &hash(1), v6(n), false);
    }
    let (mut seeds, mut leeches) = ([0; BLOOM_LEN], [0; BLOOM_LEN]);
    assert!(s.scrape(&hash(1), &mut seeds, &mut leeches));
    assert!((29..=31).contains(&bloom::estimate(&seeds)));
    assert!((87..=93).contains(&bloom::estimate(&leeches)));
    let mut one = [0; BLOOM_LEN];
    bloom::insert(&mut one, v6(3).ip());
    assert!(one.iter().zip(&leeches).all(|(a, b)| a & b == *a));
    assert!(!s.scrape(&hash(2), &mut seeds, &mut leeches));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Announce {
        hash: u8,
        peer: u8,
        v6: bool,
        seed: bool,
    },
    Wait(u16),
    Expire,
    SetOwn(u8),
}

impl Arbitrary for Step {
    fn arbitrary(g: &mut Gen) -> Self {
        match u8::arbitrary(g) % 16 {
            0..12 => Self::Announce {
                hash: u8::arbitrary(g) % 12,
                peer: u8::arbitrary(g) % 24,
                v6: bool::arbitrary(g),
                seed: bool::arbitrary(g),
            },
            12 | 13 => Self::Wait(u16::arbitrary(g) % 900),
            14 => Self::Expire,
            _ => Self::SetOwn(u8::arbitrary(g)),
        }
    }
}

/// Every cap holds after every step, counts are true, and whatever is told was announced for that
/// hash within 32 minutes (once expired), with the last word on who is a seed.
fn obeys(steps: &[Step], limits: PeerLimits) -> bool {
    let (mut s, mut now) = (store(limits), T0);
    let mut model: BTreeMap<(u8, SocketAddr), (Instant, bool)> = BTreeMap::new();
    for step in steps {
        match *step {
            Step::Announce {
                hash: h,
                peer,
                v6: is_v6,
                seed,
            } => {
                let addr = if is_v6 {
                    v6(peer.into())
                } else {
                    v4(peer.into())
                };
                let taken = s.announce(now, &hash(h), addr, seed);
                let there = values(&s, 1, &hash(h), false, 200).contains(&addr);
                if taken != there {
                    return false;
                }
                if taken {
                    model.insert((h, addr), (now, seed));
                }
            }
            Step::Wait(secs) => now += Duration::from_secs(secs.into()),
            Step::Expire => {
                now += EXPIRE_PAUSE;
                s.expire(now);
                let lifetime = PEER_LIFETIME + Duration::from_secs(2 * AGE_TICK + 64);
                model.retain(|_, (at, _)| now < *at + lifetime);
                let told = |h| values(&s, 1, &hash(h), false, 200);
                if (0..12).any(|h| told(h).iter().any(|a| !model.contains_key(&(h, *a)))) {
                    return false;
                }
            }
            Step::SetOwn(n) => s.set_own(hash(n)),
        }
        let (mut peers, mut hashes) = (0, 0);
        for h in 0..12 {
            let told = values(&s, 1, &hash(h), false, 200);
            let mut leeches = values(&s, 1, &hash(h), true, 200);
            let mut expect: Vec<_> = told
                .iter()
                .copied()
                .filter(|addr| model.get(&(h, *addr)).is_some_and(|(_, seed)| !seed))
                .collect();
            leeches.sort();
            expect.sort();
            if told.len() != s.count(&hash(h))
                || told.len() > limits.max_per_hash as usize
                || leeches != expect
            {
                return false;
            }
            peers += told.len() as u32;
            hashes += u32::from(!told.is_empty());
        }
        if (s.peers(), s.hashes()) != (peers, hashes)
            || peers > limits.max_peers
            || hashes > limits.max_hashes
            || s.next_expiry().is_some() != (hashes > 0)
        {
            return false;
        }
    }
    true
}

quickcheck! {
    fn agrees_with_a_naive_store(steps: Vec<Step>) -> bool {
        obeys(&steps, LIMITS)
    }

    fn every_cap_holds(steps: Vec<Step>, hashes: u8, peers: u8, each: u8) -> bool {
        obeys(&steps, PeerLimits {
            max_hashes: (hashes % 10).into(),
            max_peers: (peers % 40).into(),
            max_per_hash: (each % 20).into(),
        })
    }

    /// Without a cap in the way, nobody younger than 30 minutes is missing.
    fn nobody_young_is_dropped(steps: Vec<Step>) -> bool {
        let (mut s, mut now, mut model) = (store(LIMITS), T0, BTreeMap::new());
        steps.into_iter().all(|step| {
            match step {
                Step::Announce { hash: h, peer, v6: is_v6, seed } => {
                    let addr = if is_v6 { v6(peer.into()) } else { v4(peer.into()) };
                    s.announce(now, &hash(h), addr, seed);
                    model.insert((h, addr), now);
                }
                Step::Wait(secs) => now += Duration::from_secs(secs.into()),
                Step::Expire | Step::SetOwn(_) => s.expire(now),
            }
            model.iter().all(|((h, addr), at)| {
                now > *at + PEER_LIFETIME || values(&s, 1, &hash(*h), false, 200).contains(addr)
            })
        })
    }
}
