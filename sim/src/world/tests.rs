use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};

use super::*;
use crate::{
    host::{HostCx, light::Scripted},
    link::{Direction, Loss, Rate},
    packet::{Proto, TcpFlags, verdict::Rule},
    world::trace::Filter,
};

const MS: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Instant {
    Instant::ORIGIN + MS * ms as u32
}

fn v4(d: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([9, 0, 0, d], port))
}

fn v6(d: u16, port: u16) -> SocketAddr {
    SocketAddr::from(([0x2a00, 0, 0, 0, 0, 0, 0, d], port))
}

fn udp(from: SocketAddr, to: SocketAddr, len: usize) -> Packet {
    Packet::udp(from, to, &vec![7; len])
}

/// Two scripted hosts at the core, with these links.
fn pair(seed: u64, a: LinkConfig, b: LinkConfig) -> (World, DeviceId, DeviceId) {
    let mut world = World::new(seed);
    let core = world.core();
    let addrs = |d: u8| [v4(d, 0).ip(), v6(d.into(), 0).ip()];
    let a = world.add_host(core, a, &addrs(1), Scripted::new());
    let b = world.add_host(core, b, &addrs(2), Scripted::new());
    (world, a, b)
}

fn plan(world: &mut World, host: DeviceId, when: Instant, packet: Packet) {
    let done = world.call(host, |h: &mut Scripted, _| h.plan(when, packet));
    assert!(done.is_some(), "{host:?} is not scripted");
}

fn times(world: &World, host: DeviceId) -> Vec<Instant> {
    let host = world.host::<Scripted>(host).expect("a scripted host");
    host.received().iter().map(|(at, _)| *at).collect()
}

fn last(world: &World, host: DeviceId) -> Packet {
    let host = world.host::<Scripted>(host).expect("a scripted host");
    host.received().last().expect("a packet").1.clone()
}

#[test]
fn delays_add_up_along_the_way() {
    let (mut world, a, b) = pair(1, LinkConfig::delayed(3 * MS), LinkConfig::delayed(4 * MS));
    world.set_region(a, Region::Africa);
    world.set_region(b, Region::India);
    let mut matrix = RegionMatrix::none();
    matrix.set(Region::Africa, Region::India, 100 * MS);
    world.set_latency(matrix);
    plan(&mut world, a, at(5), udp(v4(1, 1), v4(2, 2), 10));
    plan(&mut world, b, at(5), udp(v6(2, 1), v6(1, 2), 10));
    world.start();
    world.run_for(Duration::from_secs(1));
    assert_eq!(times(&world, b), [at(112)]);
    assert_eq!(
        times(&world, a),
        [at(12)],
        "the other way no distance is set"
    );
    assert_eq!(last(&world, b).ttl(), 63);
    assert_eq!(world.now(), Instant::ORIGIN + Duration::from_secs(1));
}

#[test]
fn unknown_addresses_and_spent_hops_are_answered() {
    let (mut world, a, _) = pair(1, LinkConfig::perfect(), LinkConfig::perfect());
    for to in [v4(77, 1), v6(77, 1)] {
        let from = if to.is_ipv4() { v4(1, 5) } else { v6(1, 5) };
        plan(&mut world, a, at(1), udp(from, to, 5));
        let mut spent = udp(from, if to.is_ipv4() { v4(2, 1) } else { v6(2, 1) }, 5);
        while spent.hop() {}
        plan(&mut world, a, at(2), spent);
    }
    world.start();
    world.run_until(at(10));
    assert_eq!(world.trace().count(Rule::NoRoute), 2);
    assert_eq!(world.trace().count(Rule::HopLimit), 2);
    let got = world.host::<Scripted>(a).expect("scripted").received();
    let kinds: Vec<_> = got
        .iter()
        .map(|(_, p)| (p.flow().src.is_ipv4(), p.transport()[0], p.transport()[1]))
        .collect();
    assert_eq!(
        kinds,
        [(true, 3, 0), (false, 1, 0), (true, 11, 0), (false, 3, 0)]
    );
    assert!(got.iter().all(|(_, p)| p.checksums_hold() && p.ttl() > 60));
}

#[test]
fn a_packet_too_long_for_a_link_is_answered_with_its_mtu() {
    let mut narrow = LinkConfig::delayed(MS);
    narrow.down.mtu = 600;
    let (mut world, a, b) = pair(1, LinkConfig::perfect(), narrow);
    plan(&mut world, a, at(1), udp(v4(1, 1), v4(2, 2), 800));
    plan(&mut world, a, at(2), udp(v6(1, 1), v6(2, 2), 800));
    plan(&mut world, a, at(3), udp(v4(1, 1), v4(2, 2), 500));
    world.start();
    world.run_until(at(10));
    assert_eq!(times(&world, b).len(), 1);
    let got = world.host::<Scripted>(a).expect("scripted").received();
    let said: Vec<_> = got
        .iter()
        .map(|(_, p)| p.transport()[..8].to_vec())
        .collect();
    assert_eq!((said[0][0], said[0][1]), (3, 4));
    assert_eq!(said[0][6..8], 600_u16.to_be_bytes());
    assert_eq!((said[1][0], said[1][1]), (2, 0));
    assert_eq!(said[1][4..8], 600_u32.to_be_bytes());
    // The quote begins with the packet as it was sent, but for the hop.
    assert_eq!(
        got[0].1.payload()[12..28],
        udp(v4(1, 1), v4(2, 2), 800).bytes()[12..28]
    );
}

#[test]
fn errors_are_not_answered_and_not_too_many() {
    let (mut world, a, _) = pair(1, LinkConfig::perfect(), LinkConfig::perfect());
    for n in 0..300 {
        plan(&mut world, a, at(1), udp(v4(1, 1), v4(77, n), 5));
    }
    let error = icmp::error(
        v4(1, 0).ip(),
        crate::packet::IcmpError::NoRoute,
        &udp(v4(77, 1), v4(1, 1), 5),
    );
    plan(&mut world, a, at(2_000), error.expect("an error"));
    plan(
        &mut world,
        a,
        at(2_001),
        udp(v4(1, 1), "224.0.0.9:5".parse().expect("an address"), 5),
    );
    world.start();
    world.run_until(at(4_000));
    assert_eq!(world.trace().count(Rule::NoRoute), 302);
    assert_eq!(times(&world, a).len(), 100);
}

#[test]
fn neighbours_are_switched_and_groups_reach_the_whole_network() {
    let mut world = World::new(1);
    let router = world.add_router(
        world.core(),
        LinkConfig::perfect(),
        BoxConfig::default(),
        &[],
    );
    let hosts: Vec<DeviceId> = (1..=3)
        .map(|d| {
            world.add_host(
                router,
                LinkConfig::perfect(),
                &[v4(d, 0).ip()],
                Scripted::new(),
            )
        })
        .collect();
    let far = world.add_host(
        world.core(),
        LinkConfig::perfect(),
        &[v4(9, 0).ip()],
        Scripted::new(),
    );
    plan(&mut world, hosts[0], at(1), udp(v4(1, 1), v4(2, 1), 5));
    let group = SocketAddr::from(([239, 192, 152, 143], 6_771));
    plan(&mut world, hosts[0], at(2), udp(v4(1, 1), group, 5));
    plan(&mut world, hosts[0], at(3), udp(v4(1, 1), v4(9, 1), 5));
    world.start();
    world.run_until(at(10));
    assert_eq!(times(&world, hosts[0]), []);
    assert_eq!(times(&world, hosts[1]), [at(1), at(2)]);
    assert_eq!(times(&world, hosts[2]), [at(2)]);
    assert_eq!(times(&world, far), [at(3)]);
    assert_eq!(last(&world, hosts[1]).ttl(), 64, "a switch takes no hop");
    assert_eq!(last(&world, far).ttl(), 62);
    assert_eq!(world.trace().count_at(router, Rule::Switched), 2);
}

#[test]
fn the_timetable_cuts_mends_changes_and_parts() {
    let (mut world, a, b) = pair(1, LinkConfig::delayed(MS), LinkConfig::delayed(MS));
    world.set_region(b, Region::Oceania);
    for ms in (0..100).step_by(10) {
        plan(&mut world, a, at(ms + 5), udp(v4(1, 1), v4(2, 2), 5));
    }
    world.at(at(10), Action::Cut(b));
    // What is under way when the link is cut is lost, too.
    world.at(at(26), Action::Mend(b));
    world.at(at(26), Action::Cut(a));
    world.at(at(30), Action::Mend(a));
    world.at(at(40), Action::Part(Region::EuropeWest, Region::Oceania));
    world.at(at(50), Action::Join(Region::Oceania, Region::EuropeWest));
    world.at(at(60), Action::SwitchOff(b));
    world.at(at(70), Action::SwitchOn(b));
    world.at(at(70), Action::SetLink(a, LinkConfig::delayed(3 * MS)));
    world.at(at(80), Action::Mark("nearly done".into()));
    world.start();
    world.run_until(at(200));
    let ms = [7, 37, 57, 79, 89, 99];
    assert_eq!(times(&world, b), ms.map(at));
    let trace = world.trace();
    assert_eq!(trace.count(Rule::LinkDown), 2);
    assert_eq!(trace.count(Rule::RegionsParted), 1);
    assert_eq!(trace.count(Rule::HostOff), 1);
    let marks: Vec<_> = trace.marks().iter().map(|m| (m.at, &*m.text)).collect();
    assert_eq!(marks, [(at(80), "nearly done")]);
}

/// Ten packets of a second each wait before a line when it becomes a thousand times as fast, and ten of a millisecond each
/// when it becomes a thousand times as slow.
#[test]
fn what_waits_before_a_line_follows_a_change_of_its_rate() {
    let link = |bits_per_second| {
        let mut link = LinkConfig::delayed(MS);
        link.up.rate = Some(Rate {
            bits_per_second,
            queue: 1 << 20,
        });
        link
    };
    // 1000 bytes with their headers.
    let packet = || udp(v4(1, 1), v4(2, 2), 972);
    let (slow, fast) = (8_000, 8_000_000);
    let (mut world, a, b) = pair(1, link(slow), LinkConfig::delayed(MS));
    for _ in 0..10 {
        plan(&mut world, a, at(0), packet());
    }
    world.at(at(2_500), Action::SetLink(a, link(fast)));
    plan(&mut world, a, at(2_505), packet());
    world.start();
    world.run_until(at(60_000));
    // Two went at the old pace and half of the third; then one a millisecond, and what came later is behind them.
    let mut expected = vec![at(1_002), at(2_002)];
    expected.extend((0..9).map(|n| Instant::from_micros(at(2_502 + n).as_micros() + 500)));
    assert_eq!(times(&world, b), expected);

    let (mut world, a, b) = pair(1, link(fast), LinkConfig::delayed(MS));
    for _ in 0..10 {
        plan(&mut world, a, at(0), packet());
    }
    world.at(at(5), Action::SetLink(a, link(slow)));
    world.start();
    world.run_until(at(60_000));
    let mut expected: Vec<Instant> = (3..8).map(at).collect();
    expected.extend((1..6).map(|n| at(5 + 1_000 * n + 2)));
    assert_eq!(times(&world, b), expected);
    assert_eq!(world.in_flight(), 0);
}

#[test]
fn corrupted_packets_end_at_the_checksum() {
    let mut bad = LinkConfig::delayed(MS);
    bad.down.corrupt_ppm = 1_000_000;
    let (mut world, a, b) = pair(1, LinkConfig::perfect(), bad);
    for ms in 1..100 {
        plan(
            &mut world,
            a,
            at(ms),
            udp(v4(1, 1), v4(2, 2), ms as usize % 9),
        );
        let segment = Packet::tcp(v6(1, 1), v6(2, 2), TcpFlags::ACK, 1, 1, b"data");
        plan(&mut world, a, at(ms), segment);
    }
    world.start();
    world.run_until(at(200));
    assert_eq!(times(&world, b), []);
    assert_eq!(world.trace().count(Rule::Checksum), 198);
    assert_eq!(world.trace().count_at(b, Rule::LinkCorrupted), 198);
}

/// A busy world with every kind of link fault. `more` adds hosts that have nothing to do with
/// the others.
fn busy(seed: u64, more: bool, watched: bool) -> World {
    let mut world = World::new(seed);
    world.set_latency(RegionMatrix::earth().with_jitter(50));
    let fill = |world: &mut World, net: u8| {
        let mut lossy = LinkConfig::mobile_4g();
        lossy.up.duplicate_ppm = 100_000;
        lossy.down.reorder_ppm = 100_000;
        lossy.down.reorder_by = 30 * MS;
        lossy.down.loss = Loss::Random(50_000);
        let own = [IpAddr::from([9, net, 0, 8])];
        let router = world.add_router(world.core(), LinkConfig::dsl(), BoxConfig::default(), &own);
        let addr = |d: u8| SocketAddr::from(([9, net, 0, d], 1_000));
        let far = world.add_host(
            world.core(),
            lossy.clone(),
            &[addr(9).ip()],
            Scripted::echo(),
        );
        world.set_region(far, Region::Oceania);
        world.set_name(far, &format!("far{net}"));
        for d in 1..4 {
            let mut host = Scripted::new();
            for ms in 0..200 {
                host.plan(at(ms * 2), udp(addr(d), addr(9), 100 + ms as usize));
            }
            let host = world.add_host(router, lossy.clone(), &[addr(d).ip()], host);
            world.set_name(host, &format!("near{net}.{d}"));
        }
    };
    if more {
        fill(&mut world, 5);
    }
    fill(&mut world, 0);
    if more {
        fill(&mut world, 6);
    }
    if watched {
        for n in 0..world.len() {
            world.capture(DeviceId::at(n));
        }
        world.record_journeys(100);
    }
    world.start();
    world.run_for(Duration::from_secs(3));
    world
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_another() {
    let hash = |seed, watched| busy(seed, false, watched).trace().hash();
    assert_eq!(hash(1, false), hash(1, false));
    assert_eq!(hash(1, false), hash(1, true), "looking changes nothing");
    assert_ne!(hash(1, false), hash(2, false));
}

#[test]
fn a_stranger_changes_nothing_between_others() {
    let (alone, among) = (busy(3, false, false), busy(3, true, false));
    for name in ["far0", "near0.1", "near0.2", "near0.3"] {
        let got = |world: &World| {
            let id = world.by_name(name).expect("it was named");
            let host = world.host::<Scripted>(id).expect("scripted");
            assert!(host.received().len() > 100, "{name}");
            host.received().to_vec()
        };
        assert!(got(&alone) == got(&among), "{name}");
    }
}

#[test]
fn journeys_tell_every_hop() {
    let mut full = LinkConfig::delayed(MS);
    full.down.rate = Some(Rate {
        bits_per_second: 8_000,
        queue: 10,
    });
    let (mut world, a, b) = pair(1, LinkConfig::delayed(MS), full);
    world.record_journeys(1_000);
    world.set_name(b, "server");
    for _ in 0..2 {
        plan(&mut world, a, at(1), udp(v4(1, 1), v4(2, 2), 10));
    }
    plan(&mut world, a, at(1), udp(v6(1, 3), v6(2, 4), 10));
    world.start();
    world.run_until(at(500));
    let all = world.explain(&Filter::default(), 10);
    assert_eq!(all.len(), 3);
    let rules: Vec<Rule> = all[0].hops.iter().map(|h| h.rule).collect();
    let carried = Rule::LinkCarried;
    assert_eq!(rules, [carried, Rule::Forwarded, carried, Rule::Delivered]);
    let filter = Filter {
        rule: Some(Rule::LinkQueueFull),
        endpoints: vec![v4(2, 0)],
        ..Filter::default()
    };
    let dropped = world.explain(&filter, 10);
    assert_eq!(dropped.len(), 1);
    let text = world.describe(&dropped[0]);
    assert!(
        text.contains("server") && text.contains("queue was full"),
        "{text}"
    );
    let none = Filter {
        proto: Some(Proto::Tcp),
        ..Filter::default()
    };
    assert_eq!(world.explain(&none, 10), []);
}

/// Wakes at the times it is told, and says so.
struct Sleeper {
    next: Rc<Cell<Option<Instant>>>,
    woken: Vec<Instant>,
    forever: bool,
}

impl Host for Sleeper {
    fn packet(&mut self, _: &mut HostCx<'_>, _: Packet) {}
    fn wake(&mut self, cx: &mut HostCx<'_>) {
        self.woken.push(cx.now);
        if !self.forever {
            self.next.set(None);
        }
    }
    fn next_wake(&self) -> Option<Instant> {
        self.next.get()
    }
}

fn sleeper(forever: bool) -> (World, DeviceId, Rc<Cell<Option<Instant>>>) {
    let next = Rc::new(Cell::new(None));
    let host = Sleeper {
        next: next.clone(),
        woken: Vec::new(),
        forever,
    };
    let mut world = World::new(1);
    let id = world.add_host(world.core(), LinkConfig::perfect(), &[v4(1, 0).ip()], host);
    world.set_name(id, "sleeper");
    world.start();
    (world, id, next)
}

#[test]
fn a_wake_up_follows_what_the_host_wants_last() {
    let (mut world, id, next) = sleeper(false);
    let want = |world: &mut World, ms: Option<u64>| {
        next.set(ms.map(at));
        world.call(id, |_: &mut Sleeper, _| ());
    };
    want(&mut world, Some(50));
    want(&mut world, Some(20)); // earlier
    world.run_until(at(10));
    want(&mut world, Some(30)); // later
    world.run_until(at(40));
    want(&mut world, Some(60));
    want(&mut world, None);
    world.run_until(at(70));
    want(&mut world, Some(5)); // the past
    world.run_until(at(80));
    let host = world.host::<Sleeper>(id).expect("the sleeper");
    assert_eq!(host.woken, [at(30), at(70)]);
}

#[test]
fn a_host_that_never_sleeps_is_named() {
    let (mut world, id, next) = sleeper(true);
    next.set(Some(at(3)));
    world.set_panics(false);
    world.call(id, |_: &mut Sleeper, _| ());
    world.run_until(at(10));
    let stuck = world.stuck().expect("it is stuck");
    assert_eq!(stuck, Stuck::Wakes(id, at(3)));
    assert!(world.explain_stuck(stuck).starts_with("sleeper "));
    assert!(!world.step());
}

#[test]
#[should_panic(expected = "sleeper asks again and again to be woken at once")]
fn and_by_default_that_is_a_panic() {
    let (mut world, id, next) = sleeper(true);
    next.set(Some(at(3)));
    world.call(id, |_: &mut Sleeper, _| ());
    world.run_until(at(10));
}

#[test]
fn packets_that_go_round_without_time_are_caught() {
    let mut world = World::new(1);
    for d in 1..=2 {
        let host = Scripted::echo().send(at(1), udp(v4(d, 1), v4(3 - d, 1), 1));
        world.add_host(world.core(), LinkConfig::perfect(), &[v4(d, 0).ip()], host);
    }
    world.set_panics(false);
    world.start();
    world.run_until(at(10));
    assert!(matches!(world.stuck(), Some(Stuck::Packets(_, t)) if t == at(1)));
}

#[test]
#[should_panic(expected = "9.0.0.1 is there twice, below core")]
fn an_address_cannot_be_there_twice() {
    let mut world = World::new(1);
    for _ in 0..2 {
        world.add_host(
            world.core(),
            LinkConfig::perfect(),
            &[v4(1, 0).ip()],
            Scripted::new(),
        );
    }
}

#[test]
fn captures_hold_each_interface_and_say_what_was_dropped() {
    let (mut world, a, b) = pair(1, LinkConfig::perfect(), LinkConfig::perfect());
    world.capture(a);
    world.capture(world.core());
    plan(&mut world, a, at(1), udp(v4(1, 1), v4(2, 2), 5));
    plan(&mut world, a, at(2), udp(v4(1, 1), v4(77, 2), 5));
    world.start();
    world.run_until(at(10));
    assert_eq!(times(&world, b).len(), 1);
    let captures = world.captures();
    let names: Vec<&str> = captures.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["host1", "core"]);
    let text = String::from_utf8_lossy(&captures[1].1);
    assert!(text.contains("dropped: route.none: Nobody has this address."));
    assert!(!String::from_utf8_lossy(&captures[0].1).contains("dropped"));
}

#[test]
fn every_direction_is_its_own() {
    let mut link = LinkConfig::perfect();
    link.up = Direction::delayed(9 * MS);
    let (mut world, a, b) = pair(1, link, LinkConfig::perfect());
    plan(&mut world, a, at(1), udp(v4(1, 1), v4(2, 2), 5));
    plan(&mut world, b, at(1), udp(v4(2, 2), v4(1, 1), 5));
    world.start();
    world.run_until(at(100));
    assert_eq!(
        (times(&world, a), times(&world, b)),
        (vec![at(1)], vec![at(10)])
    );
}
