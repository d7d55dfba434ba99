//! The TCP of simulated hosts, through the whole simulator.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dunlin_sim::{
    BulkHost, DeviceId, LinkConfig, Rule, TcpConfig, World,
    link::{Direction, Rate},
};

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
