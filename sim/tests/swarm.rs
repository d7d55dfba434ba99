//! Swarms of real engines in simulated homes.

use std::time::Duration;

use dunlin_sim::{
    BoxConfig, LinkConfig,
    engine::{Home, Role, Swarm, SwarmConfig},
    nat::presets,
};

const MIB: usize = 1 << 20;

fn linux() -> BoxConfig {
    BoxConfig {
        nat: Some(presets::linux()),
        ..BoxConfig::default()
    }
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// One seed that can be reached, and leechers that cannot. They come when the seed is there:
/// who asks the tracker before it knows anybody is told to ask again in half an hour.
fn homes(leechers: usize) -> Vec<Home> {
    let mut seed = Home::new(Role::Seed, LinkConfig::cable()).behind(linux());
    seed.forwarded = true;
    let leech = |n| Home {
        joins: Duration::from_millis(1_000 + 100 * n as u64),
        ..Home::new(Role::Leech, LinkConfig::cable()).behind(linux())
    };
    std::iter::once(seed)
        .chain((0..leechers).map(leech))
        .collect()
}

#[test]
fn leechers_behind_nats_complete_from_a_seed_that_can_be_reached() {
    for udp_tracker in [false, true] {
        let mut config = SwarmConfig::new(4 * MIB);
        config.homes = homes(4);
        config.udp_tracker = udp_tracker;
        let result = Swarm::new(7, config).run(minutes(10));
        assert!(result.all_exact(), "{:?}", result.completed);
        assert!(result.curves[1].windows(2).all(|w| w[0].1 <= w[1].1));
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let mut config = SwarmConfig::new(MIB);
        config.homes = homes(3);
        Swarm::new(seed, config).run(minutes(5))
    };
    let (a, b, c) = (run(1), run(1), run(2));
    assert_eq!(a, b);
    assert_ne!(a.trace, c.trace);
    assert!(c.all_exact());
}
