//! How fast a DHT node answers, without sockets: what comes in is parsed, judged and answered into
//! a buffer, as a driver has it done. Also counts what that allocates: nothing.

#![allow(
    unsafe_code,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a counting allocator and a clock"
)]

#[path = "../tests/dht_world/mod.rs"]
mod dht_world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant as Clock};

use criterion::{Criterion, criterion_group, criterion_main};
use dht_world::{World, meta, public_ip};
use dunlin_core::dht::DhtConfig;
use dunlin_core::wire::krpc::{self, MAX_DATAGRAM, QueryOut, ReplyOut};
use dunlin_core::{Cx, Machine, NodeId};
use rand_chacha::rand_core::Rng;

/// Counts allocations.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Buckets of the table: 8 nodes each, 290 in all.
const DEPTH: u32 = 40;
/// Nodes in the table.
const NODES: u32 = 290;
/// Distinct queries that come round and round, each from a network of its own.
/// Few enough to stay in the processor's cache, as what a socket just delivered does.
const SOURCES: u32 = 1_024;
/// Time between two queries: 20 a second from every network, which no limit minds.
const GAP: Duration = Duration::from_micros(50);
/// Queries for which allocations are counted: 10⁶. The median batch is told, too: other than the
/// mean it does not see the moments in which the machine did something else.
const BATCHES: usize = 10_000;
const BATCH: u32 = 100;
/// Info-hashes with peers, and how many each.
const HASHES: u32 = 1_000;
const PEERS: u32 = 60;

type Query = (SocketAddr, Vec<u8>);

fn hash(n: u32) -> NodeId {
    let mut id = [0; 20];
    for (i, part) in id.chunks_exact_mut(4).enumerate() {
        part.copy_from_slice(&(n + i as u32).wrapping_mul(0x9e37_79b1).to_be_bytes());
    }
    NodeId(id)
}

/// A node with a full table and some torrents' peers.
fn world() -> World {
    let mut world = World::new(DhtConfig::default(), DEPTH, 10);
    world.settle(NODES);
    for n in 0..HASHES {
        for peer in 0..PEERS {
            world.announce(&hash(n), SocketAddr::from((public_ip(n * 97 + peer), 6881)));
        }
    }
    let stats = world.dht.stats();
    assert_eq!((stats.torrents, stats.peers), (HASHES, HASHES * PEERS));
    world
}

fn queries(make: impl Fn(NodeId, u32) -> QueryOut<'static>) -> Vec<Query> {
    let mut rng =
        <rand_chacha::ChaCha8Rng as rand_chacha::rand_core::SeedableRng>::seed_from_u64(3);
    let queries = (0..SOURCES).map(|n| {
        let (mut id, mut target, mut buf) = ([0; 20], [0; 20], [0; MAX_DATAGRAM]);
        rng.fill_bytes(&mut id);
        rng.fill_bytes(&mut target);
        let query = make(NodeId(target), n);
        let tid = (n as u16).to_be_bytes();
        let len = krpc::query(&mut buf, &tid, &NodeId(id), false, &query).expect("room");
        (SocketAddr::from((public_ip(n), 6881)), buf[..len].to_vec())
    });
    queries.collect()
}

/// One query, answered; how many datagrams that made.
#[inline]
fn answer(world: &mut World, (from, query): &Query, buf: &mut [u8]) -> u32 {
    world.now += GAP;
    let cx = &mut Cx {
        now: world.now,
        rng: &mut world.rng,
    };
    world.dht.handle_datagram(cx, &meta(*from), query);
    let mut sent = 0;
    while let Some(transmit) = world.dht.poll_transmit(cx, buf) {
        black_box(&buf[..transmit.len]);
        sent += 1;
    }
    sent
}

fn tick(world: &mut World) {
    let cx = &mut Cx {
        now: world.now,
        rng: &mut world.rng,
    };
    if world.dht.poll_timeout().is_some_and(|at| at <= cx.now) {
        world.dht.handle_timeout(cx);
    }
    while world.dht.poll_event().is_some() {}
}

/// A million times: how long each took, and what that allocated; `between` batches is not counted.
fn counted<T>(with: &mut T, mut each: impl FnMut(&mut T), between: impl Fn(&mut T)) -> String {
    let (mut took, mut allocated) = ([Duration::ZERO; BATCHES], 0);
    for took in &mut took {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let began = Clock::now();
        for _ in 0..BATCH {
            each(with);
        }
        *took = began.elapsed() / BATCH;
        allocated += ALLOCATIONS.load(Ordering::Relaxed) - before;
        between(with);
    }
    took.sort_unstable();
    let (median, best) = (took[BATCHES / 2], took[BATCHES / 10]);
    format!("{median:?} each (best tenth {best:?}), {allocated} allocations")
}

fn run(c: &mut Criterion) {
    let mut world = world();
    let mut buf = [0; MAX_DATAGRAM];
    let mut group = c.benchmark_group("dht answers");
    group.sample_size(100);
    let kinds: [(&str, Vec<Query>); 4] = [
        ("ping", queries(|_, _| QueryOut::Ping)),
        (
            "find_node",
            queries(|target, _| QueryOut::FindNode { target, want: None }),
        ),
        (
            "get_peers, none known",
            queries(|info_hash, _| QueryOut::GetPeers {
                info_hash,
                want: None,
                scrape: false,
                noseed: false,
            }),
        ),
        (
            "get_peers, 60 known",
            queries(|_, n| QueryOut::GetPeers {
                info_hash: hash(n % HASHES),
                want: None,
                scrape: false,
                noseed: false,
            }),
        ),
    ];
    for (name, queries) in &kinds {
        let mut round = queries.iter().cycle();
        group.bench_function(*name, |b| {
            b.iter(|| {
                let query = round.next().expect("endless");
                answer(&mut world, query, &mut buf)
            });
            tick(&mut world);
        });
        let limited = world.dht.stats().limited;
        let mut sent = 0;
        let told = counted(
            &mut world,
            |world| sent += answer(world, round.next().expect("endless"), &mut buf),
            tick,
        );
        let limited = world.dht.stats().limited - limited;
        eprintln!("{name}: {told}; {sent} datagrams, {limited} limited");
    }
    eprintln!(
        "{} nodes in {} buckets",
        world.dht.stats().nodes,
        world.dht.stats().buckets
    );
}

/// The messages alone.
fn messages(c: &mut Criterion) {
    let mut group = c.benchmark_group("krpc");
    let (id, mut buf) = (NodeId([7; 20]), [0; MAX_DATAGRAM]);
    let target = NodeId([9; 20]);
    let find = QueryOut::FindNode { target, want: None };
    let len = krpc::query(&mut buf, b"aa", &id, false, &find).expect("room");
    let query = buf[..len].to_vec();
    group.bench_function("parse a find_node query", |b| {
        b.iter(|| krpc::parse(black_box(&query)));
    });
    let parse = |data: &mut &[u8]| _ = black_box(krpc::parse(black_box(data)));
    let told = counted(&mut &query[..], parse, |_| ());
    eprintln!("parse a find_node query: {told}");
    let to = SocketAddr::from((public_ip(1), 6881));
    let out = ReplyOut {
        nodes: Some(&[1; 208]),
        token: b"tokentok",
        values: &[2; 180],
        value_len: 6,
        ..ReplyOut::default()
    };
    group.bench_function("write a get_peers reply", |b| {
        b.iter(|| krpc::reply(&mut buf, b"aa", &id, &to, black_box(&out)));
    });
    let write = |buf: &mut [u8; MAX_DATAGRAM]| {
        black_box(krpc::reply(buf, b"aa", &id, &to, black_box(&out)));
    };
    let told = counted(&mut buf, write, |_| ());
    eprintln!("write a get_peers reply: {told}");
    let len = krpc::reply(&mut buf, b"aa", &id, &to, &out).expect("room");
    let reply = buf[..len].to_vec();
    group.bench_function("parse a get_peers reply", |b| {
        b.iter(|| krpc::parse(black_box(&reply)));
    });
    let told = counted(&mut &reply[..], parse, |_| ());
    eprintln!("parse a get_peers reply: {told}");
}

criterion_group!(benches, messages, run);
criterion_main!(benches);
