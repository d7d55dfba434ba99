//! What a swarm owes to its tracker.

use std::time::Duration;

use dunlin_sim::{
    BoxConfig, LinkConfig,
    experiment::swarm::{Home, Role, Swarm, SwarmConfig},
    middlebox::nat::presets,
};

const MINUTE: Duration = Duration::from_secs(60);

/// The tracker names nobody to who comes first. If that is a leecher that nobody can reach, it depends on its next announce,
/// which it does not put off until the end of the interval of half an hour.
#[test]
fn who_came_too_early_asks_again() {
    let mut config = SwarmConfig::new(1 << 20);
    let home = BoxConfig {
        nat: Some(presets::linux()),
        ..BoxConfig::default()
    };
    let leech = Home::new(Role::Leech, LinkConfig::cable()).behind(home);
    let seed = Home {
        joins: Duration::from_secs(10),
        ..Home::new(Role::Seed, LinkConfig::cable())
    };
    config.homes = vec![leech, seed];
    let result = Swarm::new(1, config).run(60 * MINUTE);
    let done = result.completed[0].expect("the leecher completes");
    assert!((5 * MINUTE..6 * MINUTE).contains(&done), "{done:?}");
}
