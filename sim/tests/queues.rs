//! The disciplines of queues under TCP, beside what theory says of each.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dunlin_core::Instant;
use dunlin_sim::{
    BoxConfig, BulkHost, DeviceId, LinkConfig, Packet, Rule, Scripted, TcpConfig, World,
    link::{CodelConfig, Discipline, FqCodelConfig, Rate, RedConfig},
};

const MS: Duration = Duration::from_millis(1);
/// Two seconds at 10 Mbit/s.
const QUEUE: u32 = 2_500_000;
const RATE: u64 = 10_000_000;

/// `flows` transfers behind a router with an uplink of 10 Mbit/s; round trips take 40 ms.
fn busy(flows: u8, discipline: Discipline, queue: u32) -> (World, DeviceId, Vec<DeviceId>) {
    let mut receivers = Vec::new();
    let mut world = World::new(1);
    let core = world.core();
    let mut uplink = LinkConfig::delayed(20 * MS);
    uplink.up.rate = Some(Rate {
        bits_per_second: RATE,
        queue,
    });
    uplink.up.discipline = discipline;
    let router = world.add_router(core, uplink, BoxConfig::default(), &[]);
    for n in 1..=flows {
        let (near, far): (SocketAddr, SocketAddr) =
            (([20, 0, 0, n], 4_000).into(), ([30, 0, 0, n], 5_000).into());
        let tcp = TcpConfig::default();
        world.add_host(
            router,
            LinkConfig::perfect(),
            &[near.ip()],
            BulkHost::sender(tcp, near, far),
        );
        receivers.push(world.add_host(
            core,
            LinkConfig::perfect(),
            &[far.ip()],
            BulkHost::receiver(tcp, far),
        ));
    }
    (world, router, receivers)
}

/// The delay of the queue in microseconds, sampled each millisecond of `seconds` after ten, in
/// order of size; and how full the line was, in per cent.
fn delays(run: &mut (World, DeviceId, Vec<DeviceId>), seconds: u64) -> (Vec<u64>, u64) {
    let (world, router, receivers) = run;
    world.start();
    world.run_for(Duration::from_secs(10));
    let carried = |world: &World| -> u64 {
        let of = receivers
            .iter()
            .filter_map(|id| world.host::<BulkHost>(*id));
        of.map(BulkHost::received).sum()
    };
    let before = carried(world);
    let mut all = Vec::new();
    for _ in 0..seconds * 1_000 {
        world.run_for(MS);
        all.push(world.backlog(*router).0 * 8_000_000 / RATE);
    }
    all.sort_unstable();
    let used = (carried(world) - before) * 8 * 100 / (RATE * seconds);
    (all, used)
}

/// RFC 8289 §3.2: the target is a twentieth of the interval, and the standing queue of one flow is
/// held near it, at full utilization. A plain queue stands as long as it is.
#[test]
fn codel_holds_the_queue_of_one_cubic_flow_near_its_target() {
    let codel = Discipline::Codel(CodelConfig::default());
    let mut run = busy(1, codel, QUEUE);
    let (held, used) = delays(&mut run, 60);
    let median = held[held.len() / 2];
    assert!((1_000..10_000).contains(&median), "{median} µs");
    let p95 = held[held.len() * 95 / 100];
    assert!(p95 < 40_000, "{p95} µs");
    assert!(used > 88, "{used} %");
    assert!(run.0.trace().count(Rule::LinkManaged) > 20);
    assert_eq!(run.0.trace().count(Rule::LinkQueueFull), 0);

    let mut run = busy(1, Discipline::DropTail, QUEUE / 4);
    let (held, _) = delays(&mut run, 60);
    assert!(
        held[held.len() / 2] > 200_000,
        "{} µs",
        held[held.len() / 2]
    );
}

/// The target is what the delay follows.
#[test]
fn another_target_is_another_delay() {
    let median = |target| {
        let config = CodelConfig {
            target: target * MS,
            interval: 100 * MS,
        };
        let mut run = busy(4, Discipline::Codel(config), QUEUE);
        let (held, _) = delays(&mut run, 30);
        held[held.len() / 2]
    };
    let (short, long) = (median(5), median(40));
    assert!(long > 3 * short, "{short} and {long} µs");
    assert!((20_000..60_000).contains(&long), "{long} µs");
}

/// The average queue stays between the thresholds, as in §7 of the paper, so long as the drops that
/// TCP needs at this load have a chance below the highest.
#[test]
fn red_keeps_the_mean_queue_between_its_thresholds() {
    let red = RedConfig::of(150_000);
    assert_eq!((red.min, red.max), (25_000, 75_000));
    let mut run = busy(4, Discipline::Red(red), 150_000);
    // The average lags behind the bursts of slow start, as it should.
    run.0.start();
    run.0.run_for(Duration::from_secs(10));
    let early = run.0.trace().count(Rule::LinkQueueFull);
    let (held, used) = delays(&mut run, 60);
    let mean = held.iter().sum::<u64>() / held.len() as u64 * RATE / 8_000_000;
    assert!(
        (u64::from(red.min)..u64::from(red.max)).contains(&mean),
        "{mean} bytes"
    );
    assert!(used > 93, "{used} %");
    assert!(run.0.trace().count(Rule::LinkManaged) > 50);
    assert_eq!(run.0.trace().count(Rule::LinkQueueFull), early);
}

/// A call beside four transfers: its packets take one packet's time at the line and not a queue's.
#[test]
fn a_call_beside_transfers_waits_for_nobody_in_fair_queues() {
    let longest = |discipline| {
        let (mut world, router, _) = busy(4, discipline, QUEUE);
        let (near, far): (SocketAddr, SocketAddr) =
            (([20, 0, 1, 1], 1).into(), ([30, 0, 1, 1], 1).into());
        let mut call = Scripted::new();
        for n in 0..1_500 {
            let when = Instant::ORIGIN + (n + 100) * 20 * MS;
            call = call.send(when, Packet::udp(near, far, &n.to_be_bytes()));
        }
        world.add_host(router, LinkConfig::perfect(), &[near.ip()], call);
        let b = world.add_host(
            world.core(),
            LinkConfig::perfect(),
            &[IpAddr::from([30, 0, 1, 1])],
            Scripted::new(),
        );
        world.start();
        world.run_for(Duration::from_secs(40));
        let got = world.host::<Scripted>(b).expect("there").received();
        assert!(got.len() >= 1_490, "{}", got.len());
        let of = |data: &[u8]| data.first_chunk().map_or(0, |n| u32::from_be_bytes(*n));
        let mut took: Vec<Duration> = (got.iter())
            .map(|(when, p)| {
                when.saturating_since(Instant::ORIGIN + (of(p.payload()) + 100) * 20 * MS)
            })
            .collect();
        took.sort_unstable();
        took[took.len() * 99 / 100]
    };
    let fair = longest(Discipline::FqCodel(FqCodelConfig::default()));
    // The delay, a packet of a transfer that is being sent, and one of each new queue.
    assert!(fair < 26 * MS, "{fair:?}");
    let plain = longest(Discipline::DropTail);
    assert!(plain > 500 * MS, "{plain:?}");
}
