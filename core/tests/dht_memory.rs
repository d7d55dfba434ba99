//! What the DHT's store keeps in memory, counted by the allocator.
//!
//! One test: the counters are the process's.

use std::alloc::System;
use std::net::SocketAddr;
use std::time::Duration;

use dunlin_core::dht::store::{PeerLimits, PeerStore};
use dunlin_core::{Cx, Instant, NodeId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PEERS: u32 = 1_000_000;
const HASHES: u32 = 20_000;
const LIMITS: PeerLimits = PeerLimits {
    max_hashes: HASHES,
    max_peers: PEERS,
    max_per_hash: 128,
};

fn live(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.bytes_allocated - change.bytes_deallocated
}

fn hash(n: u32) -> NodeId {
    let mut id = NodeId([9; 20]);
    id.0[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_be_bytes());
    id
}

#[test]
fn a_million_peers_in_twelve_megabytes() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut now = Instant::from_micros(1_000_000);
    let region = Region::new(ALLOCATOR);
    let mut store = PeerStore::new((1, 2), LIMITS);
    assert_eq!(live(&region), 0, "an empty store takes nothing");

    // One peer each, the worst case.
    for n in 0..HASHES {
        let addr = SocketAddr::from((n.to_be_bytes(), 6881));
        assert!(store.announce(now, &hash(n), addr, false));
    }
    let single = live(&region) / HASHES as usize;
    println!("{single} bytes for an info-hash with one peer");
    assert!(single <= 160, "{single}");

    // Ten minutes in which a million announce themselves, each somewhere.
    while store.peers() < PEERS {
        now += Duration::from_micros(600);
        let addr = SocketAddr::from(((rng.next_u32() | 1 << 29).to_be_bytes(), 6881));
        assert!(store.announce(now, &hash(rng.next_u32() % HASHES), addr, false));
    }
    let full = live(&region);
    println!(
        "{full} bytes for {PEERS} peers of {HASHES} info-hashes: {}.{:02} bytes a peer",
        full / PEERS as usize,
        full % PEERS as usize / 10_000
    );
    assert!(full <= 10 * PEERS as usize, "{full}");

    // Answering takes no memory at all; nor does a peer that comes back.
    let answering = Region::new(ALLOCATOR);
    let (mut out, mut told) = ([0; 180], 0);
    for n in 0..10_000 {
        let cx = &mut Cx { now, rng: &mut rng };
        told += store.values(cx, &hash(n), false, false, &mut out);
        store.sample(cx, &mut out);
    }
    assert!(told > 10_000 * 150);
    assert_eq!(answering.change().allocations, 0);

    // All announced hashes that are not near us make room for as many others: no growth.
    store.set_own(hash(HASHES));
    for _ in 0..200_000 {
        now += Duration::from_micros(600);
        let addr = SocketAddr::from((rng.next_u32().to_be_bytes(), 6881));
        store.announce(now, &hash(rng.next_u32() % (4 * HASHES)), addr, false);
    }
    assert!(store.peers() <= PEERS && store.hashes() <= HASHES);
    assert!(live(&region) <= 12 * PEERS as usize);

    // Half an hour later all of it is given back.
    now += Duration::from_secs(40 * 60);
    while let Some(next) = store.next_expiry() {
        now = next.max(now);
        store.expire(now);
    }
    assert_eq!((store.peers(), store.hashes()), (0, 0));
    assert!(live(&region) < 10_000, "{}", live(&region));
}
