//! NAT-PMP and PCP, request by request.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dunlin_core::wire::{natpmp, pcp};

use super::{A, A6, B, Home, LAN, LAN6, WAN};
use crate::{
    host::gateway::{GatewayProfile, Quirk},
    packet::Proto,
};

const UDP: u8 = 17;
const N: pcp::Nonce = pcp::Nonce([7; 12]);
const M: pcp::Nonce = pcp::Nonce([8; 12]);

fn pmp(home: &mut Home, who: crate::DeviceId, data: &[u8]) -> natpmp::Response {
    let answer = home.ask(who, data).expect("an answer");
    natpmp::Response::parse(&answer).expect("NAT-PMP")
}

/// The result, external port and lifetime of a mapping of UDP.
fn pmp_map(
    home: &mut Home,
    who: crate::DeviceId,
    (internal, external, lifetime): (u16, u16, u32),
) -> (natpmp::ResultCode, u16, u32) {
    let map = natpmp::Map {
        protocol: natpmp::Protocol::Udp,
        internal,
        external,
        lifetime,
    };
    let mut buf = [0; natpmp::MAX_LEN];
    let len = natpmp::Request::Map(map).emit(&mut buf).expect("room");
    let response = pmp(home, who, &buf[..len]);
    match response.body {
        natpmp::Body::Map(given) => {
            assert_eq!(given.internal, internal);
            (response.result, given.external, given.lifetime)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn nat_pmp_says_its_address_and_maps() {
    use natpmp::ResultCode::Success;
    let mut home = Home::new(GatewayProfile::default());
    let (a, b) = (home.a, home.b);
    let address = pmp(&mut home, a, &[0, 0]);
    assert_eq!(address.body, natpmp::Body::Address(WAN.into()));
    assert_eq!(address.result, Success);
    // A lease has bounds; a mapping that exists keeps its port.
    assert_eq!(
        pmp_map(&mut home, a, (6881, 6881, 10)),
        (Success, 6881, 120)
    );
    assert_eq!(
        pmp_map(&mut home, a, (6881, 9999, 1_000_000)),
        (Success, 6881, 86_400)
    );
    assert_eq!(pmp_map(&mut home, a, (6882, 0, 600)), (Success, 6882, 600));
    // A port of another client, and one that is reserved, become the next free one.
    assert_eq!(
        pmp_map(&mut home, b, (6881, 6881, 600)),
        (Success, 6883, 600)
    );
    assert_eq!(pmp_map(&mut home, b, (80, 80, 600)), (Success, 1024, 600));
    // Deleting one, what is not there, and all.
    assert_eq!(pmp_map(&mut home, a, (6881, 0, 0)), (Success, 0, 0));
    assert_eq!(pmp_map(&mut home, a, (6881, 0, 0)), (Success, 0, 0));
    assert_eq!(home.reached(Proto::Udp, 6881), None);
    assert_eq!(home.reached(Proto::Udp, 6882), Some((A, 6882).into()));
    assert_eq!(pmp_map(&mut home, a, (0, 0, 0)), (Success, 0, 0));
    assert_eq!(home.reached(Proto::Udp, 6882), None);
    assert_eq!(home.reached(Proto::Udp, 6883), Some((B, 6881).into()));
}

#[test]
fn nat_pmp_refuses_what_it_does_not_know() {
    let mut home = Home::new(GatewayProfile::preset("nat-pmp").expect("a preset"));
    let a = home.a;
    let result = |home: &mut Home, data: &[u8]| pmp(home, a, data).result;
    let version = natpmp::ResultCode::UnsupportedVersion;
    assert_eq!(result(&mut home, &[2, 1, 0, 0]), version);
    assert_eq!(result(&mut home, &[1, 0]), version);
    let opcode = natpmp::ResultCode::UnsupportedOpcode;
    assert_eq!(result(&mut home, &[0, 3]), opcode);
    let refused = natpmp::ResultCode::NotAuthorized;
    assert_eq!(pmp_map(&mut home, a, (0, 5, 600)).0, refused);
    for ignored in [&[0][..], &[0, 0x80], &[0, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1]] {
        assert_eq!(home.ask(a, ignored), None, "{ignored:?}");
    }
}

fn map(internal: u16) -> pcp::Map {
    pcp::Map {
        nonce: N,
        protocol: UDP,
        internal,
        external: internal,
        external_ip: Ipv4Addr::UNSPECIFIED.into(),
        prefer_failure: false,
    }
}

fn request(client: IpAddr, lifetime: u32, ask: pcp::Ask) -> Vec<u8> {
    let mut buf = [0; pcp::MAX_LEN];
    let request = pcp::Request {
        lifetime,
        client,
        ask,
    };
    let len = request.emit(&mut buf).expect("room");
    buf[..len].to_vec()
}

/// The result of a MAP, and the body and lifetime if it succeeded.
fn pcp_map(
    home: &mut Home,
    who: crate::DeviceId,
    lifetime: u32,
    map: pcp::Map,
) -> Result<(u16, IpAddr, u32), pcp::ResultCode> {
    let client = if who == home.a { A } else { B };
    let data = request(client.into(), lifetime, pcp::Ask::Map(map));
    let answer = home.ask(who, &data).expect("an answer");
    let response = pcp::Response::parse(&answer).expect("PCP");
    let pcp::Body::Map(given) = response.body else {
        panic!("{response:?}");
    };
    assert_eq!((given.nonce, given.internal), (map.nonce, map.internal));
    match response.result {
        pcp::ResultCode::Success => Ok((given.external, given.external_ip, response.lifetime)),
        code => {
            assert!(response.lifetime >= 30, "{response:?}");
            Err(code)
        }
    }
}

#[test]
fn pcp_maps_renews_and_deletes_for_the_nonce_that_it_knows() {
    let mut home = Home::new(GatewayProfile::default());
    let (a, b) = (home.a, home.b);
    let wan = IpAddr::from(WAN);
    assert_eq!(pcp_map(&mut home, a, 10, map(6881)), Ok((6881, wan, 120)));
    assert_eq!(home.reached(Proto::Udp, 6881), Some((A, 6881).into()));
    // A renewal keeps the port, whatever it suggests.
    let other_port = pcp::Map {
        external: 7777,
        ..map(6881)
    };
    assert_eq!(
        pcp_map(&mut home, a, 7200, other_port),
        Ok((6881, wan, 7200))
    );
    let other_nonce = pcp::Map {
        nonce: M,
        ..map(6881)
    };
    let refused = Err(pcp::ResultCode::NotAuthorized);
    assert_eq!(pcp_map(&mut home, a, 600, other_nonce), refused);
    assert_eq!(pcp_map(&mut home, a, 0, other_nonce), refused);
    assert_eq!(pcp_map(&mut home, b, 600, map(6881)), Ok((6882, wan, 600)));
    assert_eq!(pcp_map(&mut home, a, 0, map(6881)).map(|m| m.2), Ok(0));
    assert_eq!(home.reached(Proto::Udp, 6881), None);
    // What is not there is deleted already.
    assert_eq!(pcp_map(&mut home, a, 0, map(6881)).map(|m| m.2), Ok(0));
    let all = pcp::Map {
        protocol: 0,
        internal: 0,
        external: 0,
        ..map(0)
    };
    assert_eq!(pcp_map(&mut home, b, 0, all).map(|m| m.2), Ok(0));
    assert_eq!(home.gateway().mappings().count(), 0);
}

#[test]
fn pcp_would_rather_fail_when_told_so() {
    let mut home = Home::new(GatewayProfile::default());
    let (a, b) = (home.a, home.b);
    let exactly = |port| pcp::Map {
        prefer_failure: true,
        ..map(port)
    };
    let wan = IpAddr::from(WAN);
    assert_eq!(
        pcp_map(&mut home, a, 600, exactly(6881)),
        Ok((6881, wan, 600))
    );
    let cannot = Err(pcp::ResultCode::CannotProvideExternal);
    assert_eq!(pcp_map(&mut home, b, 600, exactly(6881)), cannot);
    assert_eq!(pcp_map(&mut home, b, 600, exactly(80)), cannot);
    let elsewhere = pcp::Map {
        external_ip: Ipv4Addr::new(9, 9, 9, 9).into(),
        ..exactly(6890)
    };
    assert_eq!(pcp_map(&mut home, b, 600, elsewhere), cannot);
    // Without the option another address is given.
    let elsewhere = pcp::Map {
        prefer_failure: false,
        ..elsewhere
    };
    assert_eq!(pcp_map(&mut home, b, 600, elsewhere), Ok((6890, wan, 600)));
}

#[test]
fn pcp_has_limits() {
    let mut home = Home::new(GatewayProfile {
        max_mappings: 2,
        max_per_client: Some(1),
        ..GatewayProfile::default()
    });
    let (a, b) = (home.a, home.b);
    assert!(pcp_map(&mut home, a, 600, map(7001)).is_ok());
    let quota = Err(pcp::ResultCode::UserExceededQuota);
    assert_eq!(pcp_map(&mut home, a, 600, map(7002)), quota);
    assert!(pcp_map(&mut home, b, 600, map(7002)).is_ok());
    let full = Err(pcp::ResultCode::NoResources);
    assert_eq!(pcp_map(&mut home, b, 600, map(7003)), full);
}

#[test]
fn pcp_refuses_with_the_code_that_fits() {
    use pcp::ResultCode::*;
    let mut home = Home::new(GatewayProfile::preset("pcp").expect("a preset"));
    let a = home.a;
    let good = request(A.into(), 600, pcp::Ask::Map(map(6881)));
    let changed = |at: usize, to: u8| {
        let mut data = good.clone();
        data[at] = to;
        data
    };
    let option = |bytes: &[u8]| [&good, bytes].concat();
    let third_party = option(&[&[1, 0, 0, 16][..], &[0; 16]].concat());
    for (data, code) in [
        (changed(0, 3), UnsupportedVersion),
        (changed(0, 1), UnsupportedVersion),
        (changed(0, 0), UnsupportedVersion),
        (changed(1, 2), UnsupportedOpcode),
        (changed(1, 99), UnsupportedOpcode),
        (good[..56].to_vec(), MalformedRequest),
        (good[..24].to_vec(), MalformedRequest),
        (option(&[0]), MalformedRequest),
        (changed(23, 99), AddressMismatch),
        (changed(36, 132), UnsupportedProtocol),
        (option(&[5, 0, 0, 0]), UnsupportedOption),
        (third_party, UnsupportedOption),
        (option(&[2, 0, 0, 9]), MalformedOption),
    ] {
        let answer = home.ask(a, &data).expect("an answer");
        assert_eq!((answer[0], answer[3]), (2, code.into()), "{data:?}");
        assert_eq!(answer[1], data[1] | 0x80);
    }
    assert_eq!(home.gateway().mappings().count(), 0);
    // An option that may be ignored is.
    let answer = home.ask(a, &option(&[200, 0, 0, 0])).expect("an answer");
    assert_eq!(
        pcp::Response::parse(&answer).map(|r| r.result),
        Some(Success)
    );
    let announce = request(A.into(), 0, pcp::Ask::Announce);
    let answer = home.ask(a, &announce).expect("an answer");
    let response = pcp::Response::parse(&answer).expect("PCP");
    assert_eq!(
        (response.result, response.body),
        (Success, pcp::Body::Announce)
    );
    for ignored in [&[2][..], &[2, 0x81, 0, 0]] {
        assert_eq!(home.ask(a, ignored), None);
    }
}

#[test]
fn pcp_opens_pinholes_for_version_6() {
    let mut home = Home::new(GatewayProfile::default());
    let a = home.a;
    let inside: IpAddr = A6.parse().expect("an address");
    let gateway = SocketAddr::new(LAN6.parse().expect("an address"), 5351);
    let stranger: SocketAddr = "[2001:db8:9::9]:9".parse().expect("an endpoint");
    let target = SocketAddr::new(inside, 6881);
    assert_eq!(home.knock(Proto::Udp, stranger, target), None);
    let six = pcp::Map {
        external_ip: std::net::Ipv6Addr::UNSPECIFIED.into(),
        ..map(6881)
    };
    let ask = |home: &mut Home, lifetime, map| {
        let data = request(inside, lifetime, pcp::Ask::Map(map));
        let answers = home.send(a, gateway, &data);
        let response = pcp::Response::parse(&answers[0]).expect("PCP");
        (response.result, response.lifetime, response.body)
    };
    let (result, lifetime, body) = ask(&mut home, 600, six);
    assert_eq!((result, lifetime), (pcp::ResultCode::Success, 600));
    let pcp::Body::Map(given) = body else {
        panic!("{body:?}");
    };
    // Nothing is translated.
    assert_eq!((given.external, given.external_ip), (6881, inside));
    assert_eq!(home.knock(Proto::Udp, stranger, target), Some(target));
    let strange = pcp::Map { nonce: M, ..six };
    let (result, ..) = ask(&mut home, 0, strange);
    assert_eq!(result, pcp::ResultCode::NotAuthorized);
    let (result, ..) = ask(&mut home, 0, six);
    assert_eq!(result, pcp::ResultCode::Success);
    let other: SocketAddr = "[2001:db8:9::9]:10".parse().expect("an endpoint");
    assert_eq!(home.knock(Proto::Udp, other, target), None);
}

#[test]
fn mappings_of_other_protocols_are_shared_or_strange() {
    for (quirks, external) in [(None, 6881), (Some(Quirk::SeparateMappings), 6882)] {
        let profile = GatewayProfile::default();
        let profile = quirks.map_or(profile.clone(), |q| profile.with(q));
        let mut home = Home::new(profile);
        let changes = [("NewExternalPort", "6881"), ("NewInternalPort", "6881")];
        assert_eq!(home.add(&changes), (200, None));
        let a = home.a;
        let (result, port, _) = pmp_map(&mut home, a, (6881, 6881, 600));
        assert_eq!((result, port), (natpmp::ResultCode::Success, external));
        // Deleting what NAT-PMP made deletes UPnP's mapping, or not.
        pmp_map(&mut home, a, (6881, 0, 0));
        let left = home.reached(Proto::Udp, 6881);
        assert_eq!(left.is_some(), quirks.is_some());
    }
}

#[test]
fn requests_to_other_addresses_are_not_answered() {
    let mut home = Home::new(GatewayProfile::default());
    let (a, group) = (home.a, ([224, 0, 0, 1], 5351).into());
    assert!(home.send(a, group, &[0, 0]).is_empty());
    assert_eq!(home.send(a, (LAN, 5351).into(), &[0, 0]).len(), 1);
}
