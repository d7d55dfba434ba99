//! The TCP of simulated hosts, of bulk hosts and of engines, through the whole simulator.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dunlin_sim::{
    Algorithm, BoxConfig, BulkHost, DeviceId, LinkConfig, Rule, TcpConfig, World,
    experiment::swarm::{Home, Role, Swarm, SwarmConfig},
    link::{Direction, Loss, Rate},
    middlebox::nat::presets,
};

const MIB: usize = 1 << 20;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A link with this delay and rate in each direction.
fn link(delay: Duration, mbit: u64, queue: u32) -> LinkConfig {
    let mut direction = Direction::delayed(delay);
    direction.rate = Some(Rate {
        bits_per_second: mbit * 1_000_000,
        queue,
    });
    LinkConfig::both(direction)
}

/// A sender and a receiver; the sender's uplink has this rate and queue.
fn bulk(mbit: u64, delay: u64, queue: u32) -> (World, DeviceId, DeviceId) {
    let mut world = World::new(1);
    let core = world.core();
    let (from, to) = ([20, 0, 0, 1], [30, 0, 0, 1]);
    let [near, far]: [SocketAddr; 2] = [(from, 4_000).into(), (to, 5_000).into()];
    let tcp = TcpConfig::default();
    let sender = BulkHost::sender(tcp, near, far);
    let a = world.add_host(
        core,
        link(ms(delay), mbit, queue),
        &[IpAddr::from(from)],
        sender,
    );
    let receiver = BulkHost::receiver(tcp, far);
    let b = world.add_host(core, LinkConfig::perfect(), &[IpAddr::from(to)], receiver);
    (world, a, b)
}

fn received(world: &World, host: DeviceId) -> u64 {
    world.host::<BulkHost>(host).map_or(0, BulkHost::received)
}

#[test]
fn an_uplink_of_1_mbit_with_a_queue_of_256_kib_is_two_seconds_long() {
    let (mut world, a, b) = bulk(1, 20, 256 << 10);
    world.start();
    let mut longest = Duration::ZERO;
    for _ in 0..60 {
        world.run_for(Duration::from_secs(1));
        let sender = world.host::<BulkHost>(a).expect("the sender");
        longest = longest.max(sender.round_trip().unwrap_or_default());
    }
    // 256 KiB at 1 Mbit/s are 2.1 s.
    assert!((ms(1_900)..ms(2_200)).contains(&longest), "{longest:?}");
    assert!(
        world.trace().count(Rule::LinkQueueFull) > 0,
        "the queue is never full"
    );
    assert!(received(&world, b) > 6_500_000, "the line is not in use");
}

#[test]
fn a_path_of_100_mbit_and_100_ms_is_filled() {
    let (mut world, _, b) = bulk(100, 50, 1_000_000);
    world.start();
    world.run_for(Duration::from_secs(20));
    // A window of 64 KiB would carry 6.5 Mbit/s.
    let rate = received(&world, b) * 8 / 20;
    assert!(rate > 80_000_000, "{rate}");
}

/// Two engines on a path of 50 Mbit/s and 100 ms. Returns the seconds of the transfer.
fn download(tcp: Option<TcpConfig>, behind: bool) -> u64 {
    let mut config = SwarmConfig::new(16 * MIB);
    config.tcp = tcp;
    let mut seed = Home::new(Role::Seed, link(ms(25), 50, 600_000));
    let mut leech = Home {
        joins: ms(1_000),
        ..Home::new(Role::Leech, link(ms(25), 50, 600_000))
    };
    if behind {
        let home = BoxConfig {
            nat: Some(presets::linux()),
            ..BoxConfig::default()
        };
        seed = seed.behind(home.clone());
        seed.forwarded = true;
        leech = leech.behind(home);
    }
    config.homes = vec![seed, leech];
    let result = Swarm::new(3, config).run(Duration::from_secs(600));
    assert!(result.all_exact(), "{:?}", result.completed);
    result.completed[1].map_or(0, |at| at.as_secs())
}

#[test]
fn an_engine_downloads_as_fast_as_the_path_allows() {
    // 64 KiB in each 100 ms are 5.2 Mbit/s, 26 s.
    assert!(download(None, false) > 20);
    for behind in [false, true] {
        let seconds = download(Some(TcpConfig::default()), behind);
        assert!(seconds <= 10, "{seconds} s, behind a NAT: {behind}");
    }
}

#[test]
fn swarms_with_losses_complete_and_runs_can_be_repeated() {
    for algorithm in [Algorithm::Cubic, Algorithm::Reno] {
        let run = || {
            let mut config = SwarmConfig::new(4 * MIB);
            config.tcp = Some(TcpConfig {
                algorithm,
                ..TcpConfig::default()
            });
            let mut access = LinkConfig::cable();
            access.down.loss = Loss::Random(5_000);
            access.down.reorder_ppm = 20_000;
            access.down.reorder_by = ms(10);
            access.down.duplicate_ppm = 5_000;
            access.down.corrupt_ppm = 1_000;
            let leech = |n: u64| Home {
                joins: ms(1_000 + 100 * n),
                ..Home::new(Role::Leech, access.clone())
            };
            config.homes = std::iter::once(Home::new(Role::Seed, access.clone()))
                .chain((0..4).map(leech))
                .collect();
            Swarm::new(9, config).run(Duration::from_secs(1_200))
        };
        let result = run();
        assert!(result.all_exact(), "{:?}", result.completed);
        assert_eq!(result, run());
    }
}
