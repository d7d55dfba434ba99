//! One node among 60 000 synthetic ones. `dunlin-sim dht farm` runs the same with other figures.

#![allow(clippy::print_stdout, reason = "the figures are worth seeing")]

use std::net::SocketAddr;
use std::time::Duration;

use dunlin_core::NodeId;
use dunlin_core::dht::{Contact, DhtConfig, DhtStats, Saved};
use dunlin_sim::dht::{Summary, SyntheticConfig, Trial};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The time between searches, after which the budget of new remotes is full again.
const GAP: Duration = Duration::from_secs(10);

fn trial(synthetic: SyntheticConfig) -> Trial {
    let mut trial = Trial::new(7, synthetic, DhtConfig::default());
    let took = trial.warm(8, Duration::from_secs(120), 32);
    assert!(took.is_some(), "it never found 32 nodes");
    trial
}

fn searches(synthetic: SyntheticConfig, count: u32) -> Summary {
    let searches = trial(synthetic).searches(count, GAP, false, |_| {});
    let summary = Summary::of(&searches);
    println!("{summary}");
    summary
}

fn dead(ppm: u32) -> SyntheticConfig {
    SyntheticConfig {
        dead_ppm: ppm,
        ..SyntheticConfig::default()
    }
}

/// The times after which new nodes had 32 nodes, sorted.
fn cold_starts(dead_ppm: u32) -> Vec<Duration> {
    let start = |seed| {
        let mut trial = Trial::new(seed, dead(dead_ppm), DhtConfig::default());
        trial.warm(8, Duration::from_secs(60), 32)
    };
    let mut took: Vec<_> = (1..=8).map(|n| start(n).expect("32 nodes")).collect();
    took.sort();
    println!("{dead_ppm} ppm dead: {took:?}");
    took
}

/// The id changes to the one that is derived from the address (BEP 42).
#[test]
fn a_cold_start_takes_less_than_a_second() {
    let took = cold_starts(0);
    assert!(took.iter().all(|t| *t <= ms(1_000)), "{took:?}");
}

/// Many of the packets that the budget allows go to dead nodes then.
#[test]
fn a_cold_start_among_dead_nodes_takes_two_seconds() {
    let took = cold_starts(500_000);
    assert!(took[4] <= ms(2_000), "half of them: {took:?}");
    assert!(took.iter().all(|t| *t <= ms(6_000)), "{took:?}");
}

/// `count` nodes of a session long ago, all of them gone.
fn dead_cache(count: u16) -> Saved {
    let node = |n: u16| {
        let [a, b] = n.to_be_bytes();
        let mut id = NodeId([a ^ b; 20]);
        id.0[..2].copy_from_slice(&n.wrapping_mul(0x9e37).to_be_bytes());
        let addr = SocketAddr::from(([60 + b % 100, b, a, 1], 6881));
        (Contact { id, addr }, 86_400)
    };
    Saved {
        nodes: (1..=count).map(node).collect(),
        ..Saved::default()
    }
}

/// The worst case: no node of the cache is up any more, and one other node is known.
#[test]
fn a_cache_of_dead_nodes_alone_costs_a_second() {
    for cached in [8, 16, 100, 400] {
        for seed in 1..=3 {
            let mut trial = Trial::new(seed, dead(500_000), DhtConfig::default());
            trial.node(|dht, cx| dht.restore(cx, &dead_cache(cached)));
            let began = trial.world().now();
            for addr in trial.synthetic().contacts(1) {
                trial.node(|dht, cx| dht.add_contact(cx, addr));
            }
            let mut wait = |wanted: fn(&DhtStats) -> bool| {
                while !wanted(&trial.stats()) {
                    let next = trial.world().now() + ms(10);
                    assert!(next <= began + ms(60_000), "{cached} cached, seed {seed}");
                    trial.world().run_until(next);
                }
                trial.world().now().saturating_since(began)
            };
            let first = wait(|stats| stats.replies_received > 0);
            let enough = wait(|stats| stats.good_nodes >= 32);
            println!(
                "{cached} dead nodes cached: first reply after {first:?}, 32 nodes after {enough:?}"
            );
            assert!(first <= ms(1_000), "{first:?}");
            assert!(enough <= ms(20_000), "{enough:?}");
        }
    }
}

#[test]
fn with_half_of_all_nodes_dead_searches_are_fast_and_frugal() {
    let s = searches(dead(500_000), 300);
    assert_eq!(s.found_milli, 1_000, "{s}");
    assert!(
        s.first_values.p50 <= ms(200) && s.first_values.p99 <= ms(600),
        "{s}"
    );
    assert!(s.reached_milli >= 7_800, "{s}");
    assert!(
        s.closest.p50 <= ms(450) && s.closest.p99 <= ms(1_200),
        "{s}"
    );
    assert!(s.done.p99 <= ms(1_500), "{s}");
    assert!(s.queries_milli <= 60_000, "{s}");
}

#[test]
fn with_two_of_three_dead_every_search_still_finds_peers() {
    let s = searches(dead(670_000), 300);
    assert_eq!(s.found_milli, 1_000, "{s}");
    assert!(s.first_values.p99 <= ms(1_000), "{s}");
}

#[test]
fn lost_packets_do_not_keep_it_from_finding() {
    let s = searches(
        SyntheticConfig {
            loss_ppm: 50_000,
            ..dead(200_000)
        },
        200,
    );
    assert_eq!(s.found_milli, 1_000, "{s}");
    assert!(
        s.first_values.p99 <= ms(1_000) && s.done.p99 <= ms(2_000),
        "{s}"
    );
}

/// Enough searches for two of them to be the 0.1 % that may fail.
#[test]
fn among_sybils_it_reaches_honest_nodes_near_the_target() {
    let s = searches(
        SyntheticConfig {
            sybil_ppm: 300_000,
            dead_ppm: 200_000,
            ..SyntheticConfig::default()
        },
        2_000,
    );
    assert!(s.honest_ppm >= 999_000, "{s}");
}

#[test]
fn announces_reach_the_closest_with_the_right_token() {
    let mut trial = trial(dead(200_000));
    let searches = trial.searches(50, GAP, true, |_| {});
    let summary = Summary::of(&searches);
    assert!(summary.announced_milli >= 7_500, "{summary}");
    for n in 0..50 {
        let track = trial.synthetic().track(n).expect("it was watched");
        assert_eq!(track.refused, 0, "{track:?}");
    }
}

#[test]
fn the_size_of_the_network_is_known_after_twelve_searches() {
    // Dead nodes answer nobody and are not counted.
    let mut trial = trial(dead(0));
    trial.searches(12, GAP, false, |_| {});
    let size = trial.stats().size_by_lookups;
    assert!((51_000..=69_000).contains(&size), "{size}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let synthetic = SyntheticConfig {
            nodes: 5_000,
            loss_ppm: 20_000,
            ..SyntheticConfig::default()
        };
        let mut trial = Trial::new(seed, synthetic, DhtConfig::default());
        trial.warm(8, Duration::from_secs(60), 32);
        let searches = trial.searches(5, GAP, true, |_| {});
        (searches, trial.world().trace().hash())
    };
    let (a, b, c) = (run(1), run(1), run(2));
    assert_eq!(a, b);
    assert_ne!(a.1, c.1);
}
