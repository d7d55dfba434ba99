//! What concerns all protocols: traffic follows mappings, and restarts and new addresses are told.

use std::{net::SocketAddr, time::Duration};

use dunlin_core::wire::{natpmp, pcp};

use super::{A, B, Home, LAN, WAN};
use crate::{
    host::gateway::{Gateway, GatewayProfile, Igd, Owner, Quirk, Quirks},
    middlebox::nat::presets,
    packet::Proto,
    world::Action,
};

fn pmp(protocol: natpmp::Protocol, internal: u16, lifetime: u32) -> Vec<u8> {
    let mut buf = [0; natpmp::MAX_LEN];
    let map = natpmp::Map {
        protocol,
        internal,
        external: internal,
        lifetime,
    };
    let len = natpmp::Request::Map(map).emit(&mut buf).expect("room");
    buf[..len].to_vec()
}

#[test]
fn traffic_follows_a_mapping_until_it_ends() {
    let mut home = Home::new(GatewayProfile::default());
    assert_eq!(home.reached(Proto::Udp, 6881), None);
    for (protocol, proto) in [
        (natpmp::Protocol::Udp, Proto::Udp),
        (natpmp::Protocol::Tcp, Proto::Tcp),
    ] {
        home.ask(home.a, &pmp(protocol, 6881, 120))
            .expect("an answer");
        assert_eq!(home.reached(proto, 6881), Some((A, 6881).into()));
    }
    assert_eq!(home.add(&[]), (200, None));
    assert_eq!(home.reached(Proto::Udp, 7000), Some((A, 7000).into()));
    // The lease of the first two is over, and the third one is deleted.
    home.wait(Duration::from_secs(120));
    assert_eq!(home.reached(Proto::Udp, 6881), None);
    assert_eq!(home.reached(Proto::Tcp, 6881), None);
    let args = [
        ("NewRemoteHost", ""),
        ("NewExternalPort", "7000"),
        ("NewProtocol", "UDP"),
    ];
    assert_eq!(
        super::outcome(&home.call("DeletePortMapping", &args)).0,
        200
    );
    assert_eq!(home.reached(Proto::Udp, 7000), None);
}

#[test]
fn a_table_has_a_limit_and_so_has_a_client() {
    let profile = GatewayProfile {
        max_mappings: 3,
        max_per_client: Some(2),
        ..GatewayProfile::default()
    };
    let mut home = Home::new(profile);
    let result = |answer: Option<Vec<u8>>| {
        natpmp::Response::parse(&answer.expect("an answer"))
            .expect("NAT-PMP")
            .result
    };
    for (who, port, expected) in [
        (home.a, 7001, natpmp::ResultCode::Success),
        (home.a, 7002, natpmp::ResultCode::Success),
        (home.a, 7003, natpmp::ResultCode::OutOfResources),
        (home.b, 7003, natpmp::ResultCode::Success),
        (home.b, 7004, natpmp::ResultCode::OutOfResources),
        // A renewal needs no room.
        (home.a, 7001, natpmp::ResultCode::Success),
    ] {
        let answer = home.ask(who, &pmp(natpmp::Protocol::Udp, port, 600));
        assert_eq!(result(answer), expected, "{port}");
    }
    assert_eq!(home.add(&[("NewExternalPort", "7009")]), (500, Some(728)));
    assert_eq!(home.gateway().mappings().count(), 3);
}

/// The announcements that a machine heard: the protocol's version, the epoch, and when.
fn announcements(home: &mut Home) -> Vec<(u8, u32)> {
    let heard = home.heard(home.b);
    let group = SocketAddr::from((natpmp::ALL_HOSTS, natpmp::CLIENT_PORT));
    let of_group = heard.iter().filter(|p| p.flow().dst == group);
    of_group
        .map(|p| {
            assert_eq!(p.flow().src, SocketAddr::from((LAN, natpmp::PORT)));
            match p.payload()[0] {
                0 => {
                    let response = natpmp::Response::parse(p.payload()).expect("NAT-PMP");
                    (0, response.epoch)
                }
                _ => {
                    let response = pcp::Response::parse(p.payload()).expect("PCP");
                    assert_eq!(response.body, pcp::Body::Announce);
                    (2, response.epoch)
                }
            }
        })
        .collect()
}

#[test]
fn a_restart_forgets_mappings_and_is_announced_ten_times() {
    let mut nat = presets::linux();
    nat.boot = Duration::from_secs(2);
    let mut home = Home::with(GatewayProfile::default(), nat);
    home.wait(Duration::from_secs(600));
    home.ask(home.a, &pmp(natpmp::Protocol::Udp, 6881, 3600))
        .expect("an answer");
    assert_eq!(home.add(&[]), (200, None));
    home.heard(home.b);
    home.world.perform(Action::Reboot(home.router));
    // Nobody answers while it boots.
    assert_eq!(
        home.send(home.a, (LAN, 5351).into(), &[0, 0])[..],
        [[0u8; 0]; 0]
    );
    assert_eq!(home.gateway().mappings().count(), 0);
    home.wait(Duration::from_secs(300));
    let said = announcements(&mut home);
    assert_eq!(home.reached(Proto::Udp, 6881), None);
    assert_eq!(home.reached(Proto::Udp, 7000), None);
    // 0, 0.25, 0.75, 1.75 … 127.75 s after the start.
    let epochs = [0, 0, 0, 1, 3, 7, 15, 31, 63, 127];
    let of = |version| said.iter().filter(move |s| s.0 == version).map(|s| s.1);
    assert_eq!(of(0).collect::<Vec<_>>(), epochs);
    assert_eq!(of(2).collect::<Vec<_>>(), epochs);
}

#[test]
fn what_is_stored_survives_a_restart_with_the_epoch() {
    let profile = GatewayProfile {
        quirks: Quirks::NONE,
        igd: Some(Igd::V1),
        ..GatewayProfile::default()
    };
    let mut home = Home::new(profile);
    home.wait(Duration::from_secs(600));
    home.ask(home.a, &pmp(natpmp::Protocol::Udp, 6881, 3600))
        .expect("an answer");
    assert_eq!(home.add(&[("NewLeaseDuration", "0")]), (200, None));
    home.world.perform(Action::Reboot(home.router));
    home.wait(presets::linux().boot + Duration::from_secs(5));
    assert_eq!(home.reached(Proto::Udp, 6881), Some((A, 6881).into()));
    assert_eq!(home.reached(Proto::Udp, 7000), Some((A, 7000).into()));
    let answer = home.ask(home.b, &[0, 0]).expect("an answer");
    assert!(natpmp::Response::parse(&answer).expect("NAT-PMP").epoch > 600);
    // The lease did not begin again.
    home.wait(Duration::from_secs(3_600));
    assert_eq!(home.reached(Proto::Udp, 6881), None);
    assert_eq!(home.reached(Proto::Udp, 7000), Some((A, 7000).into()));
}

#[test]
fn a_new_address_is_told_and_mappings_move_there() {
    let mut home = Home::new(GatewayProfile::default());
    home.wait(Duration::from_secs(600));
    home.ask(home.a, &pmp(natpmp::Protocol::Udp, 6881, 3600))
        .expect("an answer");
    home.heard(home.b);
    let new = std::net::Ipv4Addr::new(6, 6, 6, 12);
    home.world.renumber(home.router, &[new.into()], false);
    home.wait(Duration::from_secs(300));
    let said = announcements(&mut home);
    let epochs: Vec<u32> = said.iter().filter(|s| s.0 == 0).map(|s| s.1).collect();
    assert_eq!(epochs, [0, 0, 0, 1, 3, 7, 15, 31, 63, 127]);
    let told = home.ask(home.a, &[0, 0]).expect("an answer");
    let told = natpmp::Response::parse(&told).expect("NAT-PMP");
    assert_eq!(told.body, natpmp::Body::Address(new));
    let stranger = ([8, 8, 0, 1], 77).into();
    let reached = home.knock(Proto::Udp, stranger, (new, 6881).into());
    assert_eq!(reached, Some((A, 6881).into()));
    // The lease did not begin again.
    home.wait(Duration::from_secs(3_300));
    let stranger = ([8, 8, 0, 1], 78).into();
    assert_eq!(home.knock(Proto::Udp, stranger, (new, 6881).into()), None);
}

#[test]
fn what_is_forwarded_by_hand_stays_with_its_owner() {
    for (igd, code) in [(Igd::V1, 718), (Igd::V2, 729)] {
        let mut home = Home::new(GatewayProfile {
            igd: Some(igd),
            ..GatewayProfile::default()
        });
        let (now, router) = (home.world.now(), home.router);
        let nat = home.world.middlebox_mut(router).and_then(|b| b.nat_mut());
        let by_hand = nat
            .expect("a NAT")
            .forward(now, Proto::Udp, 7000, (B, 1).into(), None);
        assert_eq!(by_hand, Ok((WAN, 7000).into()));
        assert_eq!(home.add(&[]), (500, Some(code)));
        // The other protocols give the next port.
        let answer = home.ask(home.a, &pmp(natpmp::Protocol::Udp, 7000, 600));
        let answer = natpmp::Response::parse(&answer.expect("an answer"));
        let natpmp::Body::Map(map) = answer.expect("NAT-PMP").body else {
            panic!("no mapping");
        };
        assert_eq!(map.external, 7001);
        assert_eq!(home.reached(Proto::Udp, 7000), Some((B, 1).into()));
        assert_eq!(home.reached(Proto::Udp, 7001), Some((A, 7000).into()));
    }
}

#[test]
fn a_gateway_without_the_protocol_is_silent() {
    let none = GatewayProfile {
        igd: None,
        nat_pmp: false,
        pcp: false,
        ..GatewayProfile::default()
    };
    let mut home = Home::new(none);
    assert_eq!(home.ask(home.a, &[0, 0]), None);
    assert_eq!(home.ask(home.a, &pmp(natpmp::Protocol::Udp, 1, 600)), None);
    let search = "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n";
    let group = ([239, 255, 255, 250], 1900).into();
    assert!(home.send(home.a, group, search.as_bytes()).is_empty());
    home.wait(Duration::from_secs(600));
    assert_eq!(
        home.heard(home.b).len(),
        1,
        "only the neighbour's own search"
    );
    assert_eq!(home.gateway().stats(), Default::default());
}

#[test]
fn two_runs_are_equal() {
    let run = || {
        let mut home = Home::new(GatewayProfile::default().with(Quirk::NamespacePrefixes));
        home.ask(home.a, &pmp(natpmp::Protocol::Udp, 6881, 600));
        home.add(&[]);
        let group = ([239, 255, 255, 250], 1900).into();
        let search =
            "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\nST: ssdp:all\r\n\r\n";
        home.send(home.a, group, search.as_bytes());
        home.world.trace().hash()
    };
    assert_eq!(run(), run());
}

#[test]
fn mappings_can_be_inspected() {
    let mut home = Home::new(GatewayProfile::default());
    home.add(&[]);
    let gateway: &Gateway = home.gateway();
    let found: Vec<_> = gateway.mappings().map(|m| (m.external, m.owner)).collect();
    assert_eq!(found, [(7000, Owner::Upnp)]);
    assert_eq!(gateway.stats().requests, 1);
}
