//! What the routing table costs for each packet.
//!
//! `cargo bench -p dunlin-core --bench dht_table`

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use dunlin_core::dht::Contact;
use dunlin_core::dht::table::{Limits, Routes};
use dunlin_core::net::Family;
use dunlin_core::{Instant, NodeId};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

const NOW: Instant = Instant::from_micros(1);
const TARGETS: usize = 1024;

fn random(rng: &mut ChaCha8Rng) -> NodeId {
    let mut id = NodeId([0; 20]);
    rng.fill_bytes(&mut id.0);
    id
}

fn addr(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(0x0b00_0001 + (n << 8)), 6881))
}

/// As in a network of ten million: 20 full buckets and a few more nodes near home.
fn table(rng: &mut ChaCha8Rng) -> (Routes, Vec<Contact>) {
    let own = random(rng);
    let limits = Limits {
        max_buckets: 50,
        max_replacements: 128,
        local: false,
    };
    let mut routes = Routes::new(Family::V4, own, limits);
    for n in 0..168 {
        let mut id = random(rng);
        let bits = n / 8;
        for i in 0..=bits {
            let bit = 0x80 >> (i % 8);
            let ours = own.0[i / 8] & bit;
            id.0[i / 8] = (id.0[i / 8] & !bit) | if i == bits { ours ^ bit } else { ours };
        }
        let _ = routes.replied(NOW, &id, addr(n as u32), Duration::from_millis(90));
    }
    let all = routes.nodes(NOW).map(|(c, ..)| c).collect();
    (routes, all)
}

fn costs(c: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut routes, known) = table(&mut rng);
    assert_eq!(routes.good(), 168);
    let targets: Vec<_> = (0..TARGETS).map(|_| random(&mut rng)).collect();
    // The neighbours ask most often, for what is near us.
    let near: Vec<_> = (0..TARGETS)
        .map(|_| {
            let mut id = *routes.own();
            id.0[17..].copy_from_slice(&random(&mut rng).0[17..]);
            id
        })
        .collect();
    let mut group = c.benchmark_group("dht_table");
    let mut out = [0; 208];
    for (name, targets) in [("far", &targets), ("near", &near)] {
        let mut i = 0;
        group.bench_function(format!("write_closest/{name}"), |b| {
            b.iter(|| {
                i = (i + 1) % TARGETS;
                routes.write_closest(black_box(&targets[i]), &mut out)
            });
        });
    }
    let mut i = 0;
    group.bench_function("queried/known", |b| {
        b.iter(|| {
            i = (i + 1) % known.len();
            routes.queried(NOW, black_box(&known[i].id), known[i].addr)
        });
    });
    for (name, ids) in [("unknown", &targets), ("unknown near", &near)] {
        let mut i = 0;
        group.bench_function(format!("queried/{name}"), |b| {
            b.iter(|| {
                i = (i + 1) % TARGETS;
                routes.queried(NOW, black_box(&ids[i]), addr(100_000 + i as u32))
            });
        });
    }
    group.bench_function("replied/known", |b| {
        b.iter(|| {
            i = (i + 1) % known.len();
            let c = &known[i];
            routes.replied(NOW, black_box(&c.id), c.addr, Duration::from_millis(90))
        });
    });
    group.finish();
}

criterion_group!(benches, costs);
criterion_main!(benches);
