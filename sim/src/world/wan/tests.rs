use std::{net::SocketAddr, time::Duration};

use dunlin_core::Instant;

use crate::{
    DeviceId, LinkConfig,
    host::light::Scripted,
    middlebox::{BoxConfig, firewall, nat::presets},
    packet::{Packet, Proto, verdict::Rule},
    world::{Action, World},
};

const INSIDE: ([u8; 4], u16) = ([192, 168, 1, 2], 5_000);
const OLD: [u8; 4] = [20, 0, 0, 1];
const NEW: [u8; 4] = [21, 0, 0, 1];
const SERVER: ([u8; 4], u16) = ([30, 0, 0, 1], 7);

fn at(ms: u64) -> Instant {
    Instant::ORIGIN + Duration::from_millis(ms)
}

fn udp(from: impl Into<SocketAddr>, to: impl Into<SocketAddr>) -> Packet {
    Packet::udp(from.into(), to.into(), b"x")
}

/// A host behind a NAT that sends to an echo server each 10 ms from 0 to `until`.
fn home(until: u64) -> (World, [DeviceId; 3]) {
    let mut world = World::new(1);
    let core = world.core();
    let config = BoxConfig {
        nat: Some(presets::linux()),
        firewall: Some(firewall::presets::no_inbound()),
        ..BoxConfig::default()
    };
    let link = || LinkConfig::delayed(Duration::from_millis(1));
    let router = world.add_router(core, link(), config, &[OLD.into()]);
    let mut script = Scripted::new();
    for ms in (0..until).step_by(10) {
        script = script.send(at(ms), udp(INSIDE, SERVER));
    }
    let inside = world.add_host(router, LinkConfig::perfect(), &[INSIDE.0.into()], script);
    let server = world.add_host(core, link(), &[SERVER.0.into()], Scripted::echo());
    (world, [router, inside, server])
}

fn sources(world: &World, server: DeviceId) -> Vec<[u8; 4]> {
    let got = world.host::<Scripted>(server).expect("there").received();
    let v4 = |p: &Packet| match p.flow().src.ip() {
        std::net::IpAddr::V4(ip) => ip.octets(),
        std::net::IpAddr::V6(_) => [0; 4],
    };
    // Errors about answers come, too.
    let datagrams = got.iter().filter(|(_, p)| p.flow().proto == Proto::Udp);
    datagrams.map(|(_, p)| v4(p)).collect()
}

fn renumber(router: DeviceId, keep: bool) -> Action {
    Action::Renumber {
        router,
        wan: vec![NEW.into()],
        keep,
    }
}

#[test]
fn after_a_new_dial_up_flows_have_the_new_address() {
    let (mut world, [router, inside, server]) = home(200);
    world.at(at(101), renumber(router, false));
    world.start();
    world.run_until(at(400));
    let expected: Vec<[u8; 4]> = (0..20).map(|n| if n <= 10 { OLD } else { NEW }).collect();
    assert_eq!(sources(&world, server), expected);
    // The answer to the packet of 100 ms was for the old address, which nobody has any more.
    let answered = world.host::<Scripted>(inside).expect("there").received();
    assert_eq!(answered.len(), 19);
    assert_eq!(world.trace().count_at(DeviceId::CORE, Rule::NoRoute), 1);
    assert_eq!(world.trace().count_at(router, Rule::NatNewMapping), 2);
}

/// As with static translation, which has no reason to look at the interface's address.
#[test]
fn flows_that_stay_get_no_answers() {
    let (mut world, [router, inside, server]) = home(200);
    world.at(at(101), renumber(router, true));
    let other = ([30, 0, 0, 2], 7);
    let far = world.add_host(
        world.core(),
        LinkConfig::perfect(),
        &[other.0.into()],
        Scripted::echo(),
    );
    world.start();
    world.run_until(at(150));
    world.call(inside, |host: &mut Scripted, cx| {
        host.plan(cx.now, udp(INSIDE, other));
    });
    world.run_until(at(400));
    assert_eq!(sources(&world, server), [OLD; 20]);
    // Ten answers are lost; a new flow of the same endpoint has the new address.
    assert_eq!(sources(&world, far), [NEW]);
    let answered = world.host::<Scripted>(inside).expect("there").received();
    assert_eq!(
        answered
            .iter()
            .filter(|(_, p)| p.flow().proto == Proto::Udp)
            .count(),
        10 + 1
    );
}

#[test]
fn port_mappings_move_to_the_new_address() {
    let (mut world, [router, inside, _]) = home(0);
    let nat = |world: &mut World| {
        world
            .middlebox_mut(router)
            .and_then(|b| b.nat_mut().cloned())
    };
    world
        .middlebox_mut(router)
        .and_then(|b| b.nat_mut())
        .expect("a NAT")
        .forward(at(0), Proto::Udp, 80, INSIDE.into(), None)
        .expect("free");
    world.perform(renumber(router, false));
    let all: Vec<_> = nat(&mut world).expect("a NAT").forwards().collect();
    assert_eq!((all.len(), all[0].external), (1, (NEW, 80).into()));
    let caller = ([40, 0, 0, 1], 9);
    let script = Scripted::new()
        .send(at(1), udp(caller, (NEW, 80)))
        .send(at(1), udp(caller, (OLD, 80)));
    world.add_host(
        world.core(),
        LinkConfig::perfect(),
        &[caller.0.into()],
        script,
    );
    world.start();
    world.run_until(at(100));
    let got = world.host::<Scripted>(inside).expect("there").received();
    assert_eq!(got.len(), 1);
    assert_eq!(world.trace().count(Rule::NatForwarded), 1);
}

/// A router below a router that does not translate is known to the core, too.
#[test]
fn routers_above_learn_of_the_change() {
    let mut world = World::new(1);
    let core = world.core();
    let link = LinkConfig::perfect;
    let isp = world.add_router(core, link(), BoxConfig::default(), &[]);
    let nat = BoxConfig {
        nat: Some(presets::linux()),
        ..BoxConfig::default()
    };
    let router = world.add_router(isp, link(), nat, &[OLD.into()]);
    let caller = ([40, 0, 0, 1], 9);
    let script = Scripted::new()
        .send(at(1), udp(caller, (OLD, 1)))
        .send(at(3), udp(caller, (OLD, 1)))
        .send(at(3), udp(caller, (NEW, 1)));
    world.add_host(core, link(), &[caller.0.into()], script);
    world.at(at(2), renumber(router, false));
    world.start();
    world.run_until(at(10));
    assert_eq!(world.trace().count_at(router, Rule::NatNoMapping), 2);
    assert_eq!(world.trace().count_at(core, Rule::NoRoute), 1);
}

/// A box that sees its link go down tells the inside and forgets; one that does not see it lets
/// packets run into the gap, and flows outlast it.
#[test]
fn an_outage_is_noticed_or_not() {
    for noticed in [true, false] {
        let (mut world, [router, inside, _]) = home(400);
        let cut = match noticed {
            true => Action::Unplug {
                device: router,
                keep: false,
            },
            false => Action::Cut(router),
        };
        world.at(at(101), cut);
        world.at(at(201), Action::Mend(router));
        world.start();
        world.run_until(at(500));
        let got = world.host::<Scripted>(inside).expect("there").received();
        let errors = got.iter().filter(|(_, p)| p.flow().proto == Proto::Icmp);
        let errors: Vec<_> = errors.map(|(when, p)| (*when, p.quoted())).collect();
        // What was on the link at 101 ms is lost, and the ten packets from 110 to 200 ms.
        assert_eq!(got.len() - errors.len(), 29, "{noticed}");
        let new = world.trace().count_at(router, Rule::NatNewMapping);
        let down = world.trace().count(Rule::LinkDown);
        if noticed {
            assert_eq!((errors.len(), new, down), (10, 2, 11));
            let quoted = Some((INSIDE.into(), SERVER.into()));
            let of = |e: &Option<crate::Flow>| e.map(|flow| (flow.src, flow.dst));
            assert!(errors.iter().all(|(_, flow)| of(flow) == quoted));
        } else {
            assert_eq!((errors.len(), new, down), (0, 1, 11));
        }
    }
}

#[test]
fn a_box_with_an_inner_address_says_that_there_is_no_way_out() {
    let mut world = World::new(1);
    let core = world.core();
    let mut config = BoxConfig {
        nat: Some(presets::linux()),
        ..BoxConfig::default()
    };
    config.gateway.lan = Some([192, 168, 1, 1].into());
    let router = world.add_router(core, LinkConfig::perfect(), config, &[OLD.into()]);
    let script = Scripted::new().send(at(5), udp(INSIDE, SERVER));
    let inside = world.add_host(router, LinkConfig::perfect(), &[INSIDE.0.into()], script);
    // A host on the internet has only itself to tell.
    let alone = Scripted::new().send(at(5), udp(SERVER, (OLD, 1)));
    let alone = world.add_host(core, LinkConfig::perfect(), &[SERVER.0.into()], alone);
    for device in [router, alone] {
        world.at(at(1), Action::Unplug { device, keep: true });
    }
    world.start();
    world.run_until(at(100));
    for (id, from) in [(inside, [192, 168, 1, 1]), (alone, SERVER.0)] {
        let got = world.host::<Scripted>(id).expect("there").received();
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].1.flow().src.ip(), std::net::IpAddr::from(from));
        assert!(got[0].1.quoted().is_some());
    }
    assert!(
        world
            .middlebox(router)
            .and_then(|b| b.nat())
            .is_some_and(crate::middlebox::nat::Nat::is_empty)
    );
}
