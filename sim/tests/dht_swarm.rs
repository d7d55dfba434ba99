//! A DHT of real nodes. `dunlin-sim dht swarm` runs the same with any number of them.

#![allow(clippy::print_stdout, reason = "the figures are worth seeing")]

use std::time::Duration;

use dunlin_core::InfoHash;
use dunlin_sim::{
    Action,
    dht::{Reach, Swarm, SwarmConfig},
};

const PATIENCE: Duration = Duration::from_secs(30);

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// `nodes` nodes that have bootstrapped.
fn formed(nodes: u32, config: impl FnOnce(&mut SwarmConfig)) -> Swarm {
    let mut all = SwarmConfig::new(nodes);
    config(&mut all);
    let mut swarm = Swarm::new(5, all);
    swarm.run_for(minutes(6));
    swarm
}

/// The first node with this reachability.
fn like(swarm: &Swarm, reach: Reach) -> u32 {
    let all = 1..swarm.len();
    let mut such = all.filter(|n| swarm.is_up(*n) && swarm.reach(*n) == reach);
    such.next().expect("there is one")
}

const KINDS: [Reach; 4] = [
    Reach::Open,
    Reach::Firewalled,
    Reach::Restricted,
    Reach::Symmetric,
];

#[test]
fn whoever_announces_is_found_by_everybody_else() {
    let mut swarm = formed(400, |_| {});
    let known: Vec<u32> = (0..swarm.len()).map(|n| swarm.stats(n).nodes).collect();
    let ready = known.iter().filter(|n| **n >= 32).count();
    assert!(ready >= 380 && known.iter().all(|n| *n >= 16), "{known:?}");
    for giver in KINDS {
        for seeker in KINDS {
            let hash = swarm.hash();
            let (giver, seeker) = (like(&swarm, giver), {
                let like = |n: &u32| swarm.reach(*n) == seeker;
                (1..swarm.len()).rev().find(like).expect("there is one")
            });
            let told = swarm.announce(giver, hash, PATIENCE);
            let stored = told.report.as_ref().map_or(0, |r| r.stored);
            let who = swarm.reach(giver);
            assert!(stored >= 8, "{who:?} stored at {stored}: {told:?}");
            let found = swarm.find(seeker, hash, PATIENCE);
            let ip = swarm.addr(giver).ip();
            assert!(found.peers.iter().any(|p| p.ip() == ip), "{found:?}");
            assert!(found.first < Some(Duration::from_secs(3)), "{found:?}");
        }
    }
}

#[test]
fn nodes_that_come_and_go_leave_a_dht_that_finds() {
    let mut swarm = formed(400, |c| *c = c.clone().churning());
    swarm.run_for(minutes(54));
    let (mut found, mut ready, mut up) = (0, 0, 0);
    for n in 1..swarm.len() {
        if swarm.is_up(n) {
            up += 1;
            ready += u32::from(swarm.stats(n).nodes >= 32);
        }
    }
    println!("{ready} of {up} nodes have 32 nodes or more");
    assert!(ready * 100 >= up * 95, "{ready} of {up}");
    let hashes: Vec<(InfoHash, u32)> = (0..40).map(|_| (swarm.hash(), swarm.random())).collect();
    for (hash, giver) in &hashes {
        swarm.announce(*giver, *hash, PATIENCE);
    }
    swarm.run_for(minutes(10));
    for (hash, giver) in &hashes {
        let seeker = swarm.random();
        let got = swarm.find(seeker, *hash, PATIENCE);
        found += u32::from(got.peers.iter().any(|p| p.ip() == swarm.addr(*giver).ip()));
    }
    println!("{found} of 40 found");
    assert!(found >= 38, "{found} of 40");
}

/// The time until a new node knows 32 nodes.
fn cold_start(swarm: &mut Swarm, reach: Reach) -> Duration {
    let late = (1..swarm.len()).find(|n| !swarm.is_up(*n) && swarm.reach(*n) == reach);
    let n = late.expect("not all are there yet");
    swarm.come(n);
    let began = swarm.now();
    while swarm.stats(n).nodes < 32 && swarm.now() < began + Duration::from_secs(60) {
        swarm.run_for(Duration::from_millis(10));
    }
    swarm.now().saturating_since(began)
}

#[test]
fn who_comes_new_has_32_nodes_within_two_seconds() {
    let mut swarm = formed(400, |c| {
        *c = c.clone().open();
        c.joins = minutes(8);
    });
    let took = cold_start(&mut swarm, Reach::Open);
    println!("32 nodes after {took:?}");
    assert!(took <= Duration::from_secs(2), "{took:?}");
}

/// Two nodes of five cannot be reached, but others return them.
#[test]
fn and_soon_where_many_cannot_be_reached() {
    for reach in KINDS {
        let mut swarm = formed(400, |c| c.joins = minutes(8));
        let took = cold_start(&mut swarm, reach);
        println!("{reach:?}: 32 nodes after {took:?}");
        assert!(took <= Duration::from_secs(4), "{reach:?}: {took:?}");
    }
}

#[test]
fn an_outage_costs_no_entry_and_searches_go_on_at_once() {
    let mut swarm = formed(400, |_| {});
    for n in [like(&swarm, Reach::Open), like(&swarm, Reach::Restricted)] {
        let (giver, hash) = (swarm.random(), swarm.hash());
        let known = |s: &mut Swarm| {
            let mut nodes = s.node(n, |dht, _| dht.nodes().map(|c| c.addr).collect::<Vec<_>>());
            nodes.sort();
            nodes
        };
        let host = swarm.host(n);
        let link = match swarm.reach(n) {
            Reach::Open => host,
            _ => swarm.world().parent(host).expect("its box"),
        };
        let before = known(&mut swarm);
        swarm.world().perform(Action::Cut(link));
        // The node tries them all the same.
        let hopeless = swarm.hash();
        swarm.find(n, hopeless, Duration::from_secs(5));
        swarm.run_for(minutes(10));
        let during = known(&mut swarm);
        assert!(
            before.iter().all(|a| during.contains(a)),
            "{before:?} {during:?}"
        );
        swarm.announce(giver, hash, PATIENCE);
        swarm.world().perform(Action::Mend(link));
        let found = swarm.find(n, hash, PATIENCE);
        println!("{:?}: {:?} after the outage", swarm.reach(n), found.first);
        assert!(found.first <= Some(Duration::from_secs(1)), "{found:?}");
        assert!(!found.peers.is_empty(), "{found:?}");
    }
}

#[test]
fn a_node_that_is_idle_is_quiet() {
    let mut swarm = formed(400, |_| {});
    swarm.run_for(minutes(30));
    let n = like(&swarm, Reach::Symmetric);
    let parent = swarm.host(n);
    let nat = swarm.world().parent(parent).expect("its NAT");
    let flows = |s: &mut Swarm| {
        s.world()
            .middlebox(nat)
            .and_then(|b| b.nat())
            .map(|n| n.stats().flows)
    };
    let (before, entries) = (swarm.stats(n), flows(&mut swarm));
    swarm.run_for(minutes(60));
    let (after, entries_after) = (swarm.stats(n), flows(&mut swarm));
    let sent = after.queries_sent - before.queries_sent;
    let new = entries_after
        .zip(entries)
        .map(|(a, b)| a - b)
        .expect("a NAT");
    println!(
        "in an hour {sent} queries sent, {new} entries of the NAT, {} nodes known",
        after.nodes
    );
    assert!(sent <= 120, "{sent} queries in an hour");
    assert!(new <= 60, "{new} entries in an hour");
    assert!(after.nodes + 8 >= before.nodes, "{before:?} {after:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let mut swarm = Swarm::new(seed, SwarmConfig::new(60).churning());
        swarm.run_for(minutes(5));
        let (hash, n) = (swarm.hash(), swarm.random());
        swarm.announce(n, hash, PATIENCE);
        swarm.world().trace().hash()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
