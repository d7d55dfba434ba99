//! Swarms of real engines in simulated homes.

use std::time::Duration;

use dunlin_core::Instant;
use dunlin_sim::{
    Action, BoxConfig, LinkConfig,
    experiment::swarm::{Home, Role, Swarm, SwarmConfig},
    host::disk::DiskConfig,
    link::Rate,
    middlebox::nat::presets,
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

/// One reachable seed, and leechers that are not reachable. They join after the seed, because a
/// peer that announces before anybody else is told to announce again in half an hour.
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

/// Homes that upload 0.3 Mbit/s, and a seed with little more, so that leechers have to exchange
/// pieces. Home 4 uploads nothing.
fn slow_lines(seed: u64, slots: u32) -> (Duration, Vec<Duration>) {
    let mut config = SwarmConfig::new(8 * MIB);
    config.piece_len = 64 << 10;
    config.engine.upload_slots = Some(slots);
    let line = |kbit: u64| {
        let mut link = LinkConfig::dsl();
        link.up.rate = Some(Rate::buffered(kbit * 1_000, Duration::from_millis(250)));
        link
    };
    config.homes = vec![Home::new(Role::Seed, line(500))];
    for n in 1..=24 {
        let role = if n == RIDER {
            Role::FreeRider
        } else {
            Role::Leech
        };
        let mut home = Home::new(role, line(300));
        home.joins = Duration::from_millis(1_000 + 10 * n as u64);
        config.homes.push(home);
    }
    let result = Swarm::new(seed, config).run(minutes(20));
    assert!(result.all_exact(), "{:?}", result.completed);
    assert_eq!(result.uploaded[RIDER], 0);
    let mut times: Vec<Duration> = result.completed.into_iter().flatten().collect();
    let rider = times.remove(RIDER);
    times.remove(0);
    times.sort();
    (rider, times)
}

const RIDER: usize = 4;

#[test]
#[ignore = "two hours of a swarm of 25; `tests/run sim` runs it"]
fn tit_for_tat_beats_a_free_rider() {
    // Each home has four slots, three of them for peers that upload to it. Which peers meet, and
    // so who is first, differs from seed to seed: the rider is early where the seed of the torrent
    // happens to choose it often.
    const SEEDS: u64 = 16;
    let ahead_of =
        |(rider, honest): (Duration, Vec<Duration>)| honest.iter().filter(|t| **t < rider).count();
    let halves = [1, 2].map(|first| {
        std::thread::spawn(move || -> Vec<usize> {
            let seeds = (first..=SEEDS).step_by(2);
            seeds.map(|seed| ahead_of(slow_lines(seed, 4))).collect()
        })
    });
    let ahead = halves.map(|half| half.join().unwrap());
    let mean = ahead.iter().flatten().sum::<usize>() / SEEDS as usize;
    assert!(mean >= 14, "of 23 came before the rider: {ahead:?}");
    // When everybody serves everybody, it pays to upload nothing, because the line is free for
    // requests.
    let ahead = ahead_of(slow_lines(1, 30));
    assert!(
        ahead <= 3,
        "without choking {ahead} of 23 came before the rider"
    );
}

#[test]
fn a_slow_disk_stalls_nobody_else() {
    let run = |disk: DiskConfig| {
        let mut config = SwarmConfig::new(4 * MIB);
        config.homes = homes(4);
        for home in &mut config.homes {
            home.forwarded = true;
        }
        config.homes[2].disk = disk;
        let result = Swarm::new(3, config).run(minutes(30));
        assert!(result.all_exact(), "{:?}", result.completed);
        result.completed
    };
    let slow = DiskConfig {
        bandwidth: Some(50_000),
        ..DiskConfig::slow()
    };
    let (all_fast, one_slow) = (run(DiskConfig::ssd()), run(slow));
    for n in [1, 3, 4] {
        assert!(
            one_slow[n] <= all_fast[n].map(|t| t * 2),
            "{one_slow:?} {all_fast:?}"
        );
    }
    assert!(
        one_slow[2] > all_fast[2].map(|t| t * 4),
        "{one_slow:?} {all_fast:?}"
    );
}

#[test]
fn a_machine_whose_power_fails_resumes_and_completes() {
    let mut config = SwarmConfig::new(8 * MIB);
    config.homes = homes(2);
    let mut swarm = Swarm::new(5, config);
    let victim = swarm.homes[1].0;
    for second in 2..4 {
        let at = Instant::ORIGIN + Duration::from_secs(second);
        swarm.world.at(at, Action::Reboot(victim));
    }
    let before = swarm.run(Duration::from_millis(2_100));
    assert_eq!(
        before.completed[1], None,
        "it was complete before its power failed"
    );
    let result = swarm.run(minutes(10));
    assert!(result.all_exact(), "{:?}", result.completed);
}
