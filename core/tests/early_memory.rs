//! What peers can make an engine keep, before it knows their torrent and when nothing happens any
//! more, counted by the allocator.
//!
//! One test: the counters are the process's.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::alloc::System;
use std::net::SocketAddr;

use common::bench::{Bench, message};
use common::torrent;
use dunlin_core::engine::Source;
use dunlin_core::{Config, InfoHash};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn live(region: &Region<'_, System>) -> usize {
    let change = region.change();
    change.bytes_allocated - change.bytes_deallocated
}

/// Bytes per peer of a magnet that says the most it may and stops in the middle of more.
fn per_peer(config: Config, peers: u32) -> usize {
    let mut b = Bench::new(config);
    let (info_hash, name) = (InfoHash([1; 20]), None);
    b.add(Source::Hash { info_hash, name }, &[]);
    let most = message(5, &[0xff; 1 << 18]);
    let haves: Vec<u8> = (0..5000_u32)
        .flat_map(|n| message(4, &n.to_be_bytes()))
        .collect();
    let long = message(20, &[7; 32 << 10]);
    let mut talkers = Vec::with_capacity(peers as usize);
    let region = Region::new(ALLOCATOR);
    for n in 0..peers {
        let from = SocketAddr::from(([10, 1, (n / 250) as u8, (n % 250) as u8], 9));
        talkers.push(b.peer(from, info_hash, n as u8).unwrap());
    }
    for &talker in &talkers {
        for said in [&most[..], &haves, &most[..most.len() - 1]] {
            b.say(talker, said);
        }
    }
    let bitfields = live(&region) / peers as usize;
    for talker in talkers {
        b.say(talker, &[0xff]);
        b.say(talker, &long[..long.len() - 1]);
    }
    bitfields.max(live(&region) / peers as usize)
}

#[test]
fn peers_fill_no_more_memory_than_they_should() {
    magnets();
    idle_connections();
}

/// Peers of a magnet fill no more than the configuration says.
fn magnets() {
    let few = Config {
        max_connections_per_torrent: 500,
        ..Config::default()
    };
    // An equal part of sixteen megabytes, an unfinished message, and the connection itself.
    let default = per_peer(few, 100);
    assert!(default < (33 + 32 + 10) << 10, "{default}");
    let tiny = per_peer(Config::tiny(), 2);
    assert!(tiny < 12 << 10, "{tiny}");
}

/// A connection in plaintext on which nothing happens takes less than five kilobytes.
fn idle_connections() {
    const PEERS: u32 = 400;
    let config = Config {
        max_connections: PEERS,
        max_connections_per_torrent: PEERS,
        ..Config::default()
    };
    let (info, _) = torrent(1000 << 14, 1 << 14);
    let (mut b, _) = Bench::with(&info, config);
    b.audited = false;
    let mut closed = Vec::with_capacity(PEERS as usize);
    let region = Region::new(ALLOCATOR);
    for n in 0..PEERS {
        let from = SocketAddr::from(([10, 1, (n / 250) as u8, (n % 250) as u8], 9));
        let conn = b.accept(from).unwrap();
        let mut peer_id = *b"-XX0001-abcdefgh----";
        peer_id[16..].copy_from_slice(&n.to_be_bytes());
        b.handshake(conn, info.info_hash(), &peer_id);
        b.say(conn, &message(14, &[]));
        b.say(conn, &message(20, b"\0d1:md6:ut_pexi1ee4:reqqi500ee"));
        b.hear(conn);
        b.pump();
        closed.push(b.closed.contains(&conn));
    }
    let each = live(&region) / PEERS as usize;
    assert_eq!(b.connections(), PEERS);
    assert!(!closed.contains(&true));
    assert!(each < 5 << 10, "{each}");
}
