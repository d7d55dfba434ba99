//! The routing table: how soon it is useful, what it costs at rest, and what an outage costs it.
//!
//! `cargo test -p dunlin-sim --test dht_table -- --nocapture` prints the figures.

use std::collections::BTreeSet;
use std::time::Duration;

use dunlin_core::dht::{Contact, DhtConfig};
use dunlin_sim::Action;
use dunlin_sim::dht::{Swarm, SwarmConfig};

/// A table with this many nodes is useful.
const ENOUGH: u32 = 32;
const MINUTE: Duration = Duration::from_secs(60);

/// Nodes with the defaults of a desktop, of which one joins every two seconds and stays.
fn desktops(nodes: u32) -> SwarmConfig {
    SwarmConfig {
        dht: DhtConfig::default(),
        joins: Duration::from_secs(2) * nodes,
        ..SwarmConfig::new(nodes).open()
    }
}

/// When node `n` joins by default.
fn arrival(nodes: u32, n: u32) -> dunlin_core::Instant {
    dunlin_core::Instant::ORIGIN + Duration::from_secs(2) * nodes * n / nodes
}

fn table(swarm: &mut Swarm, n: u32) -> Vec<Contact> {
    swarm.node(n, |dht, _| dht.nodes().collect())
}

/// How many of the nodes in `n`'s table are up.
fn alive(swarm: &mut Swarm, n: u32) -> usize {
    let up = (0..swarm.len()).filter(|m| swarm.is_up(*m));
    let up: BTreeSet<_> = up.map(|m| swarm.addr(m)).collect();
    let table = table(swarm, n);
    table.iter().filter(|c| up.contains(&c.addr)).count()
}

/// From one node to 32 in two seconds.
#[test]
fn a_cold_start_takes_two_seconds() {
    const NODES: u32 = 300;
    let mut times = Vec::new();
    for seed in 1..=3 {
        let mut swarm = Swarm::new(seed, desktops(NODES));
        let came = arrival(NODES, NODES - 1);
        swarm.run_until(came);
        let mut took = Duration::ZERO;
        while swarm.stats(NODES - 1).good_nodes < ENOUGH && took < MINUTE {
            took += Duration::from_millis(50);
            swarm.run_until(came + took);
        }
        let sent = swarm.stats(NODES - 1).queries_sent;
        println!("seed {seed}: 32 nodes after {took:?}, {sent} queries");
        times.push(took);
    }
    let enough = |t: &Duration| *t <= Duration::from_secs(2);
    assert!(times.iter().all(enough), "{times:?}");
}

/// Nine tenths of the cached nodes are gone, and so is the router.
#[test]
fn an_old_cache_is_of_use_in_three_seconds_and_healthy_in_a_minute() {
    const NODES: u32 = 400;
    const OLD: u32 = NODES / 2;
    const WHO: u32 = 150;
    for seed in 1..=2 {
        let mut swarm = Swarm::new(seed, desktops(NODES));
        swarm.run_until(arrival(NODES, OLD));
        swarm.go(WHO);
        swarm.run_until(arrival(NODES, NODES) + MINUTE);
        // A tenth of the nodes that it knows stays; those have gradually forgotten the rest.
        for n in (0..OLD).filter(|n| n % 10 != 3 && *n != WHO) {
            swarm.go(n);
        }
        swarm.run_for(MINUTE * 30);
        let hash = swarm.hash();
        let announced = swarm.announce(OLD + 7, hash, MINUTE);
        assert!(announced.report.is_some_and(|r| r.stored >= 8));

        let cached = table(&mut swarm, WHO).len();
        let share = alive(&mut swarm, WHO) * 100 / cached.max(1);
        // The precondition of the test: over six seeds a cache has 40 to 52 nodes.
        let large = cached >= ENOUGH as usize;
        assert!(large && share <= 20, "{share} % of {cached}");
        let came = swarm.now();
        swarm.come(WHO);
        let found = swarm.find(WHO, hash, MINUTE);
        println!(
            "seed {seed}: {share} % of {cached} alive; found after {:?}",
            found.first
        );
        assert!(
            found.first.is_some_and(|t| t <= Duration::from_secs(3)),
            "seed {seed}"
        );
        swarm.run_until(came + MINUTE);
        let stats = swarm.stats(WHO);
        let alive = alive(&mut swarm, WHO);
        println!(
            "seed {seed}: after a minute {} nodes, {} good, {alive} alive, {} queries",
            stats.nodes, stats.good_nodes, stats.queries_sent
        );
        // The table is as good as that of a node that was up all the time.
        let other = swarm.stats(OLD + 7).good_nodes;
        assert!(
            stats.good_nodes * 10 >= other * 9,
            "{} of {other}",
            stats.good_nodes
        );
        assert!(alive * 10 >= stats.good_nodes as usize * 9, "seed {seed}");
    }
}

/// A query and its reply count as two packets.
#[test]
fn a_table_at_rest_sends_one_query_a_minute() {
    const NODES: u32 = 200;
    let mut swarm = Swarm::new(1, desktops(NODES));
    swarm.run_for(Duration::from_secs(2 * 3600));
    let before: Vec<_> = (0..NODES).map(|n| swarm.stats(n).queries_sent).collect();
    swarm.run_for(Duration::from_secs(3600));
    let sent = |n: u32| swarm.stats(n).queries_sent - before[n as usize];
    let (most, all) = (
        (0..NODES).map(sent).max(),
        (0..NODES).map(sent).sum::<u64>(),
    );
    println!(
        "in an hour: {most:?} queries at most, {} on average",
        all / u64::from(NODES)
    );
    assert!(most.is_some_and(|m| m <= 60), "{most:?}");
}

/// Ten minutes without a network.
#[test]
fn an_outage_of_ten_minutes_loses_nothing() {
    const WHO: u32 = 77;
    let mut swarm = Swarm::new(1, desktops(300));
    swarm.run_for(Duration::from_secs(3600));
    let hash = swarm.hash();
    let _ = swarm.announce(5, hash, MINUTE);
    // Except nodes that took another id since, and are different nodes now.
    let ids: BTreeSet<_> = (0..300)
        .map(|n| swarm.node(n, |dht, _| dht.id(false).0))
        .collect();
    let known = table(&mut swarm, WHO).into_iter().map(|c| c.id.0);
    let before: BTreeSet<_> = known.filter(|id| ids.contains(id)).collect();
    assert!(before.len() >= ENOUGH as usize, "{} nodes", before.len());
    let host = swarm.host(WHO);
    swarm.world().perform(Action::Cut(host));
    for _ in 0..10 {
        // Its torrents go on searching.
        let failed = swarm.find(WHO, hash, MINUTE);
        assert!(failed.first.is_none());
        let rest = MINUTE.saturating_sub(failed.done.unwrap_or(MINUTE));
        swarm.run_for(rest);
    }
    let meanwhile: BTreeSet<_> = table(&mut swarm, WHO).iter().map(|c| c.id.0).collect();
    assert!(
        meanwhile.is_superset(&before),
        "nothing is lost while it lasts"
    );
    swarm.world().perform(Action::Mend(host));
    let found = swarm.find(WHO, hash, MINUTE);
    println!("first values {:?} after the return", found.first);
    assert!(found.first.is_some_and(|t| t <= Duration::from_secs(1)));
    swarm.run_for(MINUTE);
    let after: BTreeSet<_> = table(&mut swarm, WHO).iter().map(|c| c.id.0).collect();
    let lost: Vec<_> = before.difference(&after).collect();
    assert!(
        lost.is_empty(),
        "{} of {} lost after it",
        lost.len(),
        before.len()
    );
    let stats = swarm.stats(WHO);
    assert_eq!(stats.good_nodes, stats.nodes, "nobody is blamed");
}
