//! What the DHT's store and its guards cost for each packet.
//!
//! `cargo bench -p dunlin-core --bench dht_store`

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use dunlin_core::dht::budget::Budget;
use dunlin_core::dht::guard::{Guard, GuardLimits};
use dunlin_core::dht::store::{ItemStore, PeerLimits, PeerStore};
use dunlin_core::dht::token::Tokens;
use dunlin_core::wire::krpc::Item;
use dunlin_core::{Cx, Instant, NodeId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const NOW: Instant = Instant::from_micros(1_000_000_000);
const HASHES: u32 = 2_000;
const LIMITS: PeerLimits = PeerLimits {
    max_hashes: HASHES,
    max_peers: 100_000,
    max_per_hash: 128,
};

fn hash(n: u32) -> NodeId {
    let mut id = NodeId([9; 20]);
    id.0[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_be_bytes());
    id
}

fn addr(n: u32) -> SocketAddr {
    SocketAddr::from(((n | 1 << 29).to_be_bytes(), 6881))
}

/// As full as the default limits allow.
fn full(rng: &mut ChaCha8Rng) -> PeerStore {
    let mut store = PeerStore::new((1, 2), LIMITS);
    for _ in 0..200_000 {
        let (hash, addr) = (hash(rng.next_u32() % HASHES), addr(rng.next_u32()));
        store.announce(NOW, &hash, addr, false);
    }
    store
}

fn peers(c: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut store = full(&mut rng);
    let mut group = c.benchmark_group("peers");
    let mut n = 0_u32;
    group.bench_function("announce to a full store", |b| {
        b.iter(|| {
            n = n.wrapping_add(0x9e37);
            store.announce(NOW, &hash(n % HASHES), addr(n), false)
        });
    });
    let mut flood = store.clone();
    group.bench_function("announce of another hash each time", |b| {
        b.iter(|| {
            n = n.wrapping_add(1);
            flood.announce(NOW, &hash(n), addr(n), false)
        });
    });
    let mut out = [0; 30 * 6];
    for (name, noseed) in [("values, 30 of 50", false), ("values without seeds", true)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                n = n.wrapping_add(0x9e37);
                let mut cx = Cx {
                    now: NOW,
                    rng: &mut rng,
                };
                let hash = hash(n % HASHES);
                store.values(&mut cx, &hash, false, noseed, black_box(&mut out))
            });
        });
    }
    group.bench_function("values of a hash that is not there", |b| {
        b.iter(|| {
            n = n.wrapping_add(1);
            let mut cx = Cx {
                now: NOW,
                rng: &mut rng,
            };
            let hash = hash(HASHES + n % HASHES);
            store.values(&mut cx, &hash, false, false, black_box(&mut out))
        });
    });
    group.bench_function("scrape of 50", |b| {
        b.iter(|| store.scrape(&hash(7), &mut [0; 256], &mut [0; 256]));
    });
    group.bench_function("sample", |b| {
        b.iter(|| {
            let mut cx = Cx {
                now: NOW,
                rng: &mut rng,
            };
            store.sample(&mut cx, black_box(&mut [0; 400]))
        });
    });
    group.finish();
}

fn items(c: &mut Criterion) {
    let mut store = ItemStore::new((1, 2), 700);
    for n in 0..700 {
        let v = format!("i{n}e");
        let item = Item {
            v: Some(v.as_bytes()),
            ..Item::default()
        };
        assert!(store.put(NOW, &item).is_ok());
    }
    let mut group = c.benchmark_group("items");
    let mut n = 0_u32;
    group.bench_function("get of one that is not there", |b| {
        b.iter(|| {
            n = n.wrapping_add(1);
            store.get(&hash(n)).is_some()
        });
    });
    group.bench_function("put that finds it full", |b| {
        b.iter(|| {
            n = n.wrapping_add(1);
            let v = format!("i{n}e");
            let item = Item {
                v: Some(v.as_bytes()),
                ..Item::default()
            };
            store.put(NOW, &item).is_ok()
        });
    });
    group.finish();
}

fn guards(c: &mut Criterion) {
    let limits = GuardLimits {
        max_sources: 1_024,
        local: false,
        rate: Some(50),
        burst: 200,
    };
    let mut guard = Guard::new((1, 2), limits);
    let mut budget = Budget::new((1, 2), Some(25), 100, Duration::from_secs(30), 2_048);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let tokens = Tokens::new(&mut Cx {
        now: NOW,
        rng: &mut rng,
    });
    let mut group = c.benchmark_group("guards");
    let (mut n, mut now) = (0_u32, NOW);
    let mut step = || {
        n = n.wrapping_add(0x9e37_79b9);
        now += Duration::from_micros(10);
        (now, addr(n))
    };
    group.bench_function("admit", |b| {
        b.iter(|| {
            let (now, addr) = step();
            guard.admit(now, &addr)
        });
    });
    group.bench_function("charge", |b| {
        b.iter(|| {
            let (now, addr) = step();
            guard.charge(now, &addr, 92, 277)
        });
    });
    group.bench_function("may_send", |b| {
        b.iter(|| {
            let (now, addr) = step();
            guard.may_send(now, &addr)
        });
    });
    group.bench_function("heard and spend", |b| {
        b.iter(|| {
            let (now, addr) = step();
            budget.heard(now, &addr);
            budget.spend(now, &addr)
        });
    });
    group.bench_function("token made", |b| {
        b.iter(|| tokens.make(black_box(addr(5).ip())));
    });
    group.bench_function("token checked", |b| {
        let token = tokens.make(addr(5).ip());
        b.iter(|| tokens.check(black_box(addr(5).ip()), &token));
    });
    group.finish();
}

criterion_group!(benches, peers, items, guards);
criterion_main!(benches);
