//! Boxes in the tree: translation, hairpins, ICMP errors through them, and what is inside.

use std::{net::SocketAddr, time::Duration};

use super::*;
use crate::{
    host::{HostCx, light::Scripted},
    middlebox::{
        GatewayConfig, Middlebox,
        nat::{Hairpin, NatConfig, presets},
    },
    packet::{TcpFlags, verdict::Rule},
};

const MS: Duration = Duration::from_millis(1);

fn at(ms: u32) -> Instant {
    Instant::ORIGIN + MS * ms
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A home: a NAT with a public address, and two hosts behind it.
struct Home {
    router: DeviceId,
    hosts: [DeviceId; 2],
}

fn home(world: &mut World, public: &str, nat: NatConfig, wan: LinkConfig) -> Home {
    let config = BoxConfig {
        nat: Some(nat),
        gateway: GatewayConfig {
            lan: Some(addr("192.168.1.1:0").ip()),
            ..GatewayConfig::default()
        },
        ..BoxConfig::default()
    };
    let public = addr(&format!("{public}:0")).ip();
    let router = world.add_router(world.core(), wan, config, &[public]);
    let hosts = ["192.168.1.2:0", "192.168.1.3:0"].map(|inside| {
        let inside = addr(inside).ip();
        world.add_host(router, LinkConfig::perfect(), &[inside], Scripted::new())
    });
    Home { router, hosts }
}

fn send(world: &mut World, host: DeviceId, ms: u32, from: &str, to: &str, len: usize) {
    let packet = Packet::udp(addr(from), addr(to), &vec![7; len]);
    let done = world.call(host, |h: &mut Scripted, _| h.plan(at(ms), packet));
    assert!(done.is_some(), "{host:?} is not scripted");
}

/// Senders of what a host received, with when.
fn heard(world: &World, host: DeviceId) -> Vec<(Instant, String)> {
    let host = world.host::<Scripted>(host).expect("a scripted host");
    let packets = host.received().iter();
    packets
        .map(|(at, p)| (*at, p.flow().src.to_string()))
        .collect()
}

#[test]
fn two_homes_punch_through_their_nats() {
    let mut world = World::new(1);
    let wan = LinkConfig::delayed(5 * MS);
    let a = home(&mut world, "20.0.0.1", presets::linux(), wan.clone());
    let b = home(&mut world, "20.0.0.2", presets::linux(), wan);
    send(&mut world, a.hosts[0], 1, "192.168.1.2:5", "20.0.0.2:6", 9);
    // Nothing maps this.
    send(&mut world, a.hosts[1], 1, "192.168.1.3:5", "20.0.0.2:9", 9);
    send(&mut world, b.hosts[0], 4, "192.168.1.2:6", "20.0.0.1:5", 9);
    send(&mut world, a.hosts[0], 20, "192.168.1.2:5", "20.0.0.2:6", 9);
    world.start();
    world.run_until(at(100));
    assert_eq!(heard(&world, a.hosts[0]), [(at(14), "20.0.0.2:6".into())]);
    // The first one came at 11 ms, after the hole was made at 4 ms.
    let both = [11, 30].map(|ms| (at(ms), "20.0.0.1:5".to_owned()));
    assert_eq!(heard(&world, b.hosts[0]), both);
    assert_eq!(world.trace().count_at(b.router, Rule::NatNoMapping), 1);
    let seen = world.middlebox(a.router).and_then(Middlebox::nat);
    assert_eq!(seen.map(crate::middlebox::nat::Nat::len), Some(2));
}

#[test]
fn a_host_behind_two_nats_speaks_to_the_core() {
    let mut world = World::new(1);
    let carrier = BoxConfig {
        nat: Some(presets::linux()),
        ..BoxConfig::default()
    };
    let public = addr("20.0.0.9:0").ip();
    let carrier = world.add_router(world.core(), LinkConfig::fibre(), carrier, &[public]);
    let config = BoxConfig {
        nat: Some(presets::linux()),
        ..BoxConfig::default()
    };
    let shared = addr("100.64.0.7:0").ip();
    let cpe = world.add_router(carrier, LinkConfig::lan(), config, &[shared]);
    let inside = addr("192.168.1.2:0").ip();
    let host = world.add_host(cpe, LinkConfig::lan(), &[inside], Scripted::new());
    let server = addr("20.1.0.1:0").ip();
    let server = world.add_host(
        world.core(),
        LinkConfig::fibre(),
        &[server],
        Scripted::echo(),
    );
    send(&mut world, host, 1, "192.168.1.2:5", "20.1.0.1:7", 9);
    world.start();
    world.run_until(at(100));
    assert_eq!(heard(&world, server)[0].1, "20.0.0.9:5");
    assert_eq!(heard(&world, host)[0].1, "20.1.0.1:7");
}

#[test]
fn hairpins_come_back_and_neighbours_do_not_pass_the_nat() {
    let mut nat = presets::linux();
    nat.hairpin = Hairpin::ExternalSource;
    nat.udp.filtering = crate::middlebox::nat::Filtering::EndpointIndependent;
    let mut world = World::new(1);
    let a = home(&mut world, "20.0.0.1", nat, LinkConfig::perfect());
    send(&mut world, a.hosts[0], 1, "192.168.1.2:5", "20.9.9.9:6", 9);
    send(&mut world, a.hosts[1], 2, "192.168.1.3:8", "20.0.0.1:5", 9);
    send(
        &mut world,
        a.hosts[1],
        3,
        "192.168.1.3:8",
        "192.168.1.2:5",
        9,
    );
    world.start();
    world.run_until(at(100));
    let heard = heard(&world, a.hosts[0]);
    // The first is the core's answer that there is no such address, by way of the NAT.
    let senders: Vec<&str> = heard.iter().map(|(_, from)| &**from).collect();
    assert_eq!(senders, ["198.19.255.254:0", "20.0.0.1:8", "192.168.1.3:8"]);
    assert_eq!(world.trace().count_at(a.router, Rule::NatHairpin), 1);
    assert_eq!(world.trace().count_at(a.router, Rule::Switched), 1);
}

#[test]
fn the_sender_behind_a_nat_learns_of_a_narrow_link() {
    let mut world = World::new(1);
    let mut narrow = LinkConfig::delayed(MS);
    narrow.up.mtu = 1_000;
    let a = home(&mut world, "20.0.0.1", presets::linux(), narrow);
    let server = addr("20.1.0.1:0").ip();
    let mut link = LinkConfig::delayed(MS);
    link.down.mtu = 500;
    world.add_host(world.core(), link, &[server], Scripted::new());
    // Too long for the home's own line, then for the server's.
    send(
        &mut world,
        a.hosts[0],
        1,
        "192.168.1.2:5",
        "20.1.0.1:7",
        1_200,
    );
    send(
        &mut world,
        a.hosts[0],
        9,
        "192.168.1.2:5",
        "20.1.0.1:7",
        700,
    );
    world.start();
    world.run_until(at(100));
    let host = world.host::<Scripted>(a.hosts[0]).expect("scripted");
    let got = host.received();
    assert_eq!(
        got.len(),
        2,
        "{:?}",
        world.trace().counters().collect::<Vec<_>>()
    );
    // The home's router tells from its inner address.
    assert_eq!(got[0].1.flow().src.ip(), addr("192.168.1.1:0").ip());
    for ((when, packet), (ms, mtu)) in got.iter().zip([(1, 1_000_u16), (11, 500)]) {
        assert_eq!(*when, at(ms));
        let body = packet.transport();
        assert_eq!((body[0], body[1]), (3, 4));
        assert_eq!(body[6..8], mtu.to_be_bytes());
        // What it quotes is the packet as this host sent it.
        assert_eq!(body[8 + 12..8 + 16], [192, 168, 1, 2]);
        assert_eq!(body[8 + 20..8 + 22], 5_u16.to_be_bytes());
        assert!(packet.checksums_hold());
    }
}

#[test]
fn a_spent_hop_is_answered_from_the_inner_side() {
    let mut nat = presets::linux();
    nat.decrement_ttl = true;
    let mut world = World::new(1);
    let a = home(&mut world, "20.0.0.1", nat, LinkConfig::perfect());
    let mut spent = Packet::udp(addr("192.168.1.2:5"), addr("20.1.0.1:7"), b"x");
    while spent.hop() {}
    world.call(a.hosts[0], |h: &mut Scripted, _| h.plan(at(1), spent));
    world.start();
    world.run_until(at(10));
    assert_eq!(
        heard(&world, a.hosts[0]),
        [(at(1), "192.168.1.1:0".to_owned())]
    );
}

/// Maps the port that it is asked for, in the first byte, and answers with what it mapped.
struct Mapper;

impl Host for Mapper {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        let flow = *packet.flow();
        let nat = cx.middlebox.as_mut().and_then(|b| b.nat_mut());
        let mapped = nat.expect("it is inside a NAT").len();
        cx.mark(format!("asked by {} with {mapped} flows", flow.src));
        cx.send_udp(flow.dst, flow.src, packet.payload());
    }
    fn wake(&mut self, _: &mut HostCx<'_>) {}
    fn next_wake(&self) -> Option<Instant> {
        None
    }
}

#[test]
fn a_gateway_answers_its_side_and_reaches_its_box() {
    let mut world = World::new(1);
    let a = home(
        &mut world,
        "20.0.0.1",
        presets::linux(),
        LinkConfig::perfect(),
    );
    world.set_gateway(a.router, Mapper);
    send(
        &mut world,
        a.hosts[0],
        1,
        "192.168.1.2:5",
        "192.168.1.1:5351",
        2,
    );
    // The group of SSDP reaches it, too, and the neighbour.
    send(
        &mut world,
        a.hosts[0],
        2,
        "192.168.1.2:5",
        "239.255.255.250:1900",
        2,
    );
    world.start();
    world.run_until(at(10));
    let marks: Vec<&str> = world.trace().marks().iter().map(|m| &*m.text).collect();
    assert_eq!(marks, ["asked by 192.168.1.2:5 with 0 flows"; 2]);
    assert_eq!(heard(&world, a.hosts[0])[0].1, "192.168.1.1:5351");
    assert_eq!(heard(&world, a.hosts[1])[0].1, "192.168.1.2:5");
    assert!(world.host::<Mapper>(a.router).is_some());
}

#[test]
fn a_reboot_forgets_the_mappings() {
    let mut nat = presets::linux();
    nat.boot = Duration::from_secs(1);
    let mut world = World::new(1);
    let a = home(&mut world, "20.0.0.1", nat, LinkConfig::perfect());
    let server = addr("20.1.0.1:0").ip();
    let server = world.add_host(
        world.core(),
        LinkConfig::perfect(),
        &[server],
        Scripted::new(),
    );
    send(&mut world, a.hosts[0], 1, "192.168.1.2:5", "20.1.0.1:7", 9);
    send(&mut world, server, 10, "20.1.0.1:7", "20.0.0.1:5", 9);
    send(&mut world, server, 5_000, "20.1.0.1:7", "20.0.0.1:5", 9);
    world.at(at(100), Action::Reboot(a.router));
    world.start();
    world.run_until(at(9_000));
    assert_eq!(
        heard(&world, a.hosts[0]),
        [(at(10), "20.1.0.1:7".to_owned())]
    );
    assert_eq!(world.trace().count_at(a.router, Rule::NatRebooted), 1);
}

#[test]
fn version_6_passes_a_nat_and_its_addresses_are_known_above() {
    let mut world = World::new(1);
    let config = BoxConfig {
        nat: Some(presets::linux()),
        ..BoxConfig::default()
    };
    let own = [addr("20.0.0.1:0").ip(), addr("[2a00:1::1]:0").ip()];
    let router = world.add_router(world.core(), LinkConfig::perfect(), config, &own);
    let inside = ["192.168.1.2:0", "[2a00:1::2]:0", "[fe80::2]:0"].map(|a| addr(a).ip());
    let host = world.add_host(router, LinkConfig::perfect(), &inside, Scripted::echo());
    let far = addr("[2a00:9::1]:0").ip();
    let far = world.add_host(world.core(), LinkConfig::perfect(), &[far], Scripted::new());
    send(&mut world, far, 1, "[2a00:9::1]:5", "[2a00:1::2]:6", 9);
    // Nobody above knows a link-local address.
    send(&mut world, far, 2, "[2a00:9::1]:5", "[fe80::2]:6", 9);
    let syn = Packet::tcp(
        addr("[2a00:9::1]:5"),
        addr("[2a00:1::2]:6"),
        TcpFlags::SYN,
        1,
        0,
        b"",
    );
    world.call(far, |h: &mut Scripted, _| h.plan(at(3), syn));
    world.start();
    world.run_until(at(10));
    let got = world.host::<Scripted>(host).expect("scripted").received();
    assert_eq!(got.len(), 2);
    assert_eq!(got[0].1.ttl(), 62, "the core and the router");
    assert_eq!(heard(&world, far)[0].1, "[2a00:1::2]:6");
}

#[test]
fn a_refusal_that_was_put_off_comes_six_seconds_later() {
    let mut nat = presets::linux();
    nat.unsolicited_syn = crate::middlebox::nat::UnsolicitedSyn::DelayedIcmp;
    let mut world = World::new(1);
    let a = home(&mut world, "20.0.0.1", nat, LinkConfig::delayed(MS));
    let server = addr("20.1.0.1:0").ip();
    let server = world.add_host(
        world.core(),
        LinkConfig::delayed(MS),
        &[server],
        Scripted::new(),
    );
    for (ms, port) in [(1, 5), (1_001, 6)] {
        let to = SocketAddr::new(addr("20.0.0.1:0").ip(), port);
        let syn = Packet::tcp(addr("20.1.0.1:7"), to, TcpFlags::SYN, 1, 0, b"");
        world.call(server, |h: &mut Scripted, _| h.plan(at(ms), syn));
    }
    world.start();
    world.run_until(at(20_000));
    let times: Vec<Instant> = heard(&world, server)
        .into_iter()
        .map(|(at, _)| at)
        .collect();
    assert_eq!(times, [at(6_005), at(7_005)]);
    assert_eq!(heard(&world, a.hosts[0]), []);
}

#[test]
fn what_may_be_split_is_split() {
    let mut world = World::new(1);
    let mut narrow = LinkConfig::perfect();
    narrow.up.mtu = 600;
    let [from, to] = ["20.1.0.1:5", "20.1.0.2:6"].map(addr);
    let mut bytes = Packet::udp(from, to, &[7; 1_000]).into_bytes();
    bytes[6] &= !0x40;
    let mut packet = Packet::parse(bytes).expect("a packet");
    packet.fill_checksums();
    let host = Scripted::new().send(at(1), packet);
    world.add_host(world.core(), narrow, &[from.ip()], host);
    let far = world.add_host(
        world.core(),
        LinkConfig::perfect(),
        &[to.ip()],
        Scripted::new(),
    );
    world.start();
    world.run_until(at(10));
    let got = world.host::<Scripted>(far).expect("scripted").received();
    let parts: Vec<_> = got.iter().map(|(_, p)| p.fragment()).collect();
    let offsets: Vec<_> = parts.iter().flatten().map(|f| (f.offset, f.more)).collect();
    assert_eq!(offsets, [(0, true), (576, false)]);
    assert!(got.iter().all(|(_, p)| p.checksums_hold()));
}
