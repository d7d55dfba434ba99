//! What a node of the DHT's routing table takes in memory, counted by the allocator.
//!
//! One test: the counters are the process's.

use std::alloc::System;
use std::net::SocketAddr;
use std::time::Duration;

use dunlin_core::dht::table::{Limits, Routes};
use dunlin_core::net::Family;
use dunlin_core::{Instant, NodeId};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_live_node_takes_forty_bytes() {
    let own = NodeId([0xa5; 20]);
    let limits = Limits {
        max_buckets: 50,
        max_replacements: 128,
        local: true,
    };
    let region = Region::new(ALLOCATOR);
    let mut routes = Routes::new(Family::V4, own, limits);
    let now = Instant::from_micros(1_000_000);
    // Eight nodes for each number of bits that an id can share with ours; not one bucket after the
    // other, so that there is always somebody beyond, and a bucket may split.
    for n in 0..8 {
        for bit in 0..37 {
            let mut id = own;
            id.0[bit / 8] ^= 0x80 >> (bit % 8);
            id.0[19] = n;
            let addr = SocketAddr::from(([11, bit as u8, n, 1], 6881));
            routes.replied(now, &id, addr, Duration::from_millis(30));
        }
    }
    let change = region.change();
    let heap = change.bytes_allocated - change.bytes_deallocated;
    let (nodes, all) = (routes.len() as usize, heap + size_of::<Routes>());
    println!(
        "{nodes} nodes in {} buckets: {all} bytes, {} a node",
        routes.buckets(),
        all.div_ceil(nodes)
    );
    assert!(nodes >= 290, "{nodes}");
    assert!(all <= 40 * nodes, "{all} bytes for {nodes} nodes");
}
