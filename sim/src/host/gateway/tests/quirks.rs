//! Each quirk, seen by a client: with it, and without it.

use std::time::Duration;

use dunlin_core::wire::natpmp;

use super::{
    A, B, CONTROL, Home, IP1, IP2, mapping, outcome, soap,
    upnp::{field, search},
    value,
};
use crate::{
    host::gateway::{ELSEWHERE, GatewayProfile, Igd, Quirk},
    packet::Proto,
    world::Action,
};

/// A gateway of version 1 or 2 with a quirk, and without.
fn both(igd: Igd, quirk: Quirk) -> (Home, Home) {
    let profile = GatewayProfile {
        igd: Some(igd),
        ..GatewayProfile::default()
    };
    let without = GatewayProfile {
        quirks: profile.quirks.without(quirk),
        ..profile.clone()
    };
    (Home::new(profile.with(quirk)), Home::new(without))
}

/// `AddPortMapping` is refused with a code where it would succeed.
fn refuses(quirk: Quirk, igd: Igd, changes: &[(&str, &str)], code: u16) {
    let (mut with, mut without) = both(igd, quirk);
    assert_eq!(with.add(changes), (500, Some(code)), "{quirk:?}");
    assert_eq!(without.add(changes), (200, None), "without {quirk:?}");
    assert_eq!(with.gateway().mappings().count(), 0);
}

#[test]
fn group_1_the_protocol_is_upper_case() {
    refuses(
        Quirk::UpperCaseProtocol,
        Igd::V1,
        &[("NewProtocol", "udp")],
        402,
    );
}

#[test]
fn groups_2_and_3_leases_are_refused_with_one_code_or_another() {
    for (quirk, code) in [
        (Quirk::PermanentLeasesOnly, 725),
        (Quirk::LeaseIsInvalid, 402),
    ] {
        refuses(quirk, Igd::V1, &[], code);
        let (mut with, _) = both(Igd::V1, quirk);
        assert_eq!(with.add(&[("NewLeaseDuration", "0")]), (200, None));
        assert_eq!(with.reached(Proto::Udp, 7000), Some((A, 7000).into()));
    }
}

#[test]
fn group_4_conflicts_and_wildcards_have_codes() {
    refuses(
        Quirk::SamePortsOnly,
        Igd::V1,
        &[("NewExternalPort", "7001")],
        724,
    );
    refuses(Quirk::ExternalWildcardOnly, Igd::V1, &[], 727);
    refuses(Quirk::OtherMechanism, Igd::V2, &[], 729);
    refuses(Quirk::RemoteHostRequired, Igd::V1, &[], 715);
    for (quirk, code) in [
        (Quirk::ConflictIsFailure, 501),
        (Quirk::ConflictIsWildcard, 716),
    ] {
        let (mut with, mut without) = both(Igd::V1, quirk);
        for (home, expected) in [(&mut with, code), (&mut without, 718)] {
            assert_eq!(
                home.add(&[("NewInternalClient", "192.168.1.3")]),
                (200, None)
            );
            assert_eq!(home.add(&[]), (500, Some(expected)), "{quirk:?}");
            // Another port is free.
            assert_eq!(home.add(&[("NewExternalPort", "7001")]), (200, None));
        }
    }
}

#[test]
fn group_5_leases_are_acknowledged_and_not_kept() {
    let (mut with, _) = both(Igd::V1, Quirk::LeasesSilentlyRefused);
    assert_eq!(with.add(&[]), (200, None));
    assert_eq!(with.reached(Proto::Udp, 7000), None);
    let place = [
        ("NewRemoteHost", ""),
        ("NewExternalPort", "7000"),
        ("NewProtocol", "UDP"),
    ];
    let found = with.call("GetSpecificPortMappingEntry", &place);
    assert_eq!(outcome(&found), (500, Some(714)));
    let (mut with, mut without) = both(Igd::V1, Quirk::LeasesNeverEnd);
    for (home, stays) in [(&mut with, true), (&mut without, false)] {
        assert_eq!(home.add(&[("NewLeaseDuration", "120")]), (200, None));
        home.wait(Duration::from_secs(200_000));
        assert_eq!(home.reached(Proto::Udp, 7000).is_some(), stays);
    }
}

#[test]
fn group_6_the_address_is_not_a_public_one() {
    for (quirk, address) in [
        (Quirk::AddressUnspecified, [0, 0, 0, 0]),
        (Quirk::AddressLoopback, [127, 0, 0, 1]),
        (Quirk::AddressPrivate, [192, 168, 100, 2]),
    ] {
        let (mut home, _) = both(Igd::V2, quirk);
        let expected = std::net::Ipv4Addr::from(address);
        let told = home.call("GetExternalIPAddress", &[]);
        let told = value(&told, "NewExternalIPAddress");
        assert_eq!(told, Some(expected.to_string()), "{quirk:?}");
        let a = home.a;
        let told = home.ask(a, &[0, 0]).expect("an answer");
        let told = natpmp::Response::parse(&told).expect("NAT-PMP");
        assert_eq!(told.body, natpmp::Body::Address(expected));
        // What it maps works all the same.
        assert_eq!(home.add(&[]), (200, None));
        assert_eq!(home.reached(Proto::Udp, 7000), Some((A, 7000).into()));
    }
}

#[test]
fn group_7_the_description_is_said_to_be_elsewhere() {
    for (quirk, host) in [
        (Quirk::LocationElsewhere, "10.255.255.1"),
        (Quirk::LocationLoopback, "127.0.0.1"),
        (Quirk::LocationLinkLocal, "169.254.1.1"),
        (Quirk::LocationMulticast, "239.255.255.250"),
    ] {
        let (mut home, _) = both(Igd::V1, quirk);
        let answers = search(&mut home, "upnp:rootdevice");
        let location = field(&answers[0], "LOCATION").expect("a field");
        assert_eq!(location, format!("http://{host}:5000/rootDesc.xml"));
    }
    // The first of them is right.
    let (mut home, _) = both(Igd::V1, Quirk::LocationElsewhere);
    let request = "GET /rootDesc.xml HTTP/1.1\r\nHost: 10.255.255.1:5000\r\n\r\n";
    let a = home.a;
    let root = home.http_at(a, (ELSEWHERE, 5000).into(), request, None);
    assert_eq!(outcome(&root).0, 200);
}

#[test]
fn group_8_the_names_of_fields_are_lower_case() {
    let (mut with, mut without) = both(Igd::V1, Quirk::LowerCaseHeaders);
    for (home, lower) in [(&mut with, true), (&mut without, false)] {
        let answer = &search(home, "upnp:rootdevice")[0];
        assert_eq!(answer.contains("\r\nlocation: "), lower, "{answer}");
        assert_eq!(answer.contains("\r\nLOCATION: "), !lower, "{answer}");
        let root = home.get("/rootDesc.xml");
        assert_eq!(root.contains("\r\ncontent-length: "), lower, "{root}");
        assert_eq!(root.contains("\r\nContent-Length: "), !lower, "{root}");
    }
}

#[test]
fn group_9_urls_are_relative_or_absolute_and_slashes_count() {
    for (quirk, base, control) in [
        (
            Quirk::UrlBase,
            Some("http://192.168.1.1:5000/"),
            "ctl/IPConn",
        ),
        (
            Quirk::UrlBaseSlash,
            Some("http://192.168.1.1:5000/"),
            "/ctl/IPConn",
        ),
        (
            Quirk::AbsoluteUrls,
            None,
            "http://192.168.1.1:5000/ctl/IPConn",
        ),
    ] {
        let (mut home, mut without) = both(Igd::V1, quirk);
        let root = home.get("/rootDesc.xml");
        assert_eq!(value(&root, "URLBase").as_deref(), base, "{quirk:?}");
        let at = root.find(IP1).expect("the service");
        assert_eq!(value(&root[at..], "controlURL").as_deref(), Some(control));
        assert_eq!(value(&without.get("/rootDesc.xml"), "URLBase"), None);
        let a = home.a;
        let call = |path| soap(path, IP1, "GetExternalIPAddress", &[]);
        assert_eq!(outcome(&home.http(a, &call("/ctl/IPConn"))).0, 200);
        assert_eq!(outcome(&home.http(a, &call("//ctl/IPConn"))).0, 404);
    }
}

#[test]
fn group_10_xml_is_written_in_other_ways() {
    for (quirk, in_root, in_answer) in [
        (
            Quirk::NamespacePrefixes,
            "<d:controlURL>/ctl/IPConn<",
            "<ns1:GetExternalIPAddressResponse",
        ),
        (
            Quirk::CdataValues,
            "<controlURL><![CDATA[/ctl/IPConn]]><",
            "<NewExternalIPAddress><![CDATA[5.5.5.11]]><",
        ),
        (
            Quirk::UpperCaseTags,
            "<CONTROLURL>/ctl/IPConn<",
            "<NEWEXTERNALIPADDRESS>5.5.5.11<",
        ),
    ] {
        let (mut with, mut without) = both(Igd::V1, quirk);
        for (home, there) in [(&mut with, true), (&mut without, false)] {
            let root = home.get("/rootDesc.xml");
            assert_eq!(root.contains(in_root), there, "{quirk:?} {root}");
            let answer = home.call("GetExternalIPAddress", &[]);
            assert_eq!(answer.contains(in_answer), there, "{quirk:?} {answer}");
            // It says the same.
            assert_eq!(
                value(&answer, "NewExternalIPAddress").as_deref(),
                Some("5.5.5.11")
            );
            let refused = home.add(&[("NewExternalPort", "80")]);
            assert_eq!(refused, (500, Some(606)));
        }
    }
}

#[test]
fn group_11_the_first_of_two_wan_devices_is_not_connected() {
    let (mut home, _) = both(Igd::V1, Quirk::TwoWanDevices);
    let root = home.get("/rootDesc.xml");
    let controls: Vec<String> = root
        .match_indices(&format!("{IP1}<"))
        .filter_map(|(at, _)| value(&root[at..], "controlURL"))
        .collect();
    assert_eq!(controls, ["/ctl/IPConn0", "/ctl/IPConn"]);
    let a = home.a;
    for (control, status, ip, added) in [
        ("/ctl/IPConn0", "Disconnected", "0.0.0.0", (500, Some(501))),
        ("/ctl/IPConn", "Connected", "5.5.5.11", (200, None)),
    ] {
        let call = |action, args: &[_]| soap(control, IP1, action, args);
        let told = home.http(a, &call("GetStatusInfo", &[]));
        assert_eq!(value(&told, "NewConnectionStatus").as_deref(), Some(status));
        let told = home.http(a, &call("GetExternalIPAddress", &[]));
        assert_eq!(value(&told, "NewExternalIPAddress").as_deref(), Some(ip));
        let made = home.http(a, &call("AddPortMapping", &mapping(&[])));
        assert_eq!(outcome(&made), added);
    }
}

#[test]
fn group_12_the_only_service_is_that_of_ppp() {
    let (mut home, _) = both(Igd::V1, Quirk::PppOnly);
    let ppp = "WANPPPConnection:1";
    let target = format!("urn:schemas-upnp-org:service:{ppp}");
    assert_eq!(search(&mut home, &target).len(), 1);
    let ip = format!("urn:schemas-upnp-org:service:{IP1}");
    assert!(search(&mut home, &ip).is_empty());
    let root = home.get("/rootDesc.xml");
    assert!(!root.contains("WANIPConnection"), "{root}");
    let at = root.find(ppp).expect("the service");
    let control = value(&root[at..], "controlURL").expect("a path");
    let a = home.a;
    let made = home.http(a, &soap(&control, ppp, "AddPortMapping", &mapping(&[])));
    assert_eq!(outcome(&made), (200, None));
    assert_eq!(home.reached(Proto::Udp, 7000), Some((A, 7000).into()));
}

#[test]
fn group_13_a_description_is_required() {
    let blank = [("NewPortMappingDescription", "")];
    refuses(Quirk::DescriptionRequired, Igd::V1, &blank, 402);
}

#[test]
fn group_14_the_wildcard_exposes_a_host_to_everything() {
    let (mut with, mut without) = both(Igd::V1, Quirk::WildcardExposes);
    let wildcard = [("NewExternalPort", "0")];
    assert_eq!(without.add(&wildcard), (500, Some(716)));
    assert_eq!(with.add(&wildcard), (200, None));
    for port in [22, 7000, 60_000] {
        assert_eq!(with.reached(Proto::Tcp, port), Some((A, port).into()));
        assert_eq!(without.reached(Proto::Tcp, port), None);
    }
}

#[test]
fn group_15_the_content_type_is_another_or_none() {
    for (quirk, expected) in [
        (None, Some("text/xml; charset=\"utf-8\"")),
        (
            Some(Quirk::SoapContentType),
            Some("application/soap+xml; charset=\"utf-8\""),
        ),
        (Some(Quirk::NoContentType), None),
    ] {
        let profile = GatewayProfile::default();
        let mut home = Home::new(quirk.map_or(profile.clone(), |q| profile.with(q)));
        for answer in [home.get("/rootDesc.xml"), home.call("GetStatusInfo", &[])] {
            let head = answer.split("\r\n\r\n").next().expect("a head");
            assert_eq!(field(head, "Content-Type"), expected);
        }
    }
}

#[test]
fn group_16_an_error_comes_with_status_500_or_200() {
    let (mut with, mut without) = both(Igd::V1, Quirk::ErrorsAreOk);
    let bad = [("NewInternalClient", "nobody")];
    assert_eq!(without.add(&bad), (500, Some(402)));
    assert_eq!(with.add(&bad), (200, Some(402)));
}

#[test]
fn group_17_a_restart_forgets_mappings() {
    let (mut with, mut without) = both(Igd::V1, Quirk::ForgetsMappings);
    for (home, stays) in [(&mut with, false), (&mut without, true)] {
        assert_eq!(home.add(&[("NewLeaseDuration", "0")]), (200, None));
        let router = home.router;
        home.world.perform(Action::Reboot(router));
        home.wait(Duration::from_secs(300));
        assert_eq!(home.reached(Proto::Udp, 7000).is_some(), stays);
        let place = [
            ("NewRemoteHost", ""),
            ("NewExternalPort", "7000"),
            ("NewProtocol", "UDP"),
        ];
        let found = home.call("GetSpecificPortMappingEntry", &place);
        assert_eq!(outcome(&found).0 == 200, stays);
    }
}

#[test]
fn group_18_the_gateway_is_off_the_subnet() {
    let (mut home, _) = both(Igd::V1, Quirk::OffSubnet);
    let a = home.a;
    home.heard(a);
    let answers = search(&mut home, "upnp:rootdevice");
    let location = format!("http://{ELSEWHERE}:5000/rootDesc.xml");
    assert_eq!(field(&answers[0], "LOCATION"), Some(location.as_str()));
    let call = soap(CONTROL, IP1, "AddPortMapping", &mapping(&[]));
    let made = home.http_at(a, (ELSEWHERE, 5000).into(), &call, None);
    assert_eq!(outcome(&made), (200, None));
    assert_eq!(home.reached(Proto::Udp, 7000), Some((A, 7000).into()));
}

#[test]
fn group_19_a_client_maps_for_itself_alone() {
    let other = [("NewInternalClient", "192.168.1.3")];
    refuses(Quirk::CallerOnly, Igd::V2, &other, 606);
    let (mut home, _) = both(Igd::V2, Quirk::CallerOnly);
    let b = home.b;
    let own = soap(CONTROL, IP2, "AddPortMapping", &mapping(&other));
    assert_eq!(outcome(&home.http(b, &own)), (200, None));
    assert_eq!(home.reached(Proto::Udp, 7000), Some((B, 7000).into()));
    let place = [
        ("NewRemoteHost", ""),
        ("NewExternalPort", "7000"),
        ("NewProtocol", "UDP"),
    ];
    let strange = home.call("DeletePortMapping", &place);
    assert_eq!(outcome(&strange), (500, Some(606)));
}

#[test]
fn group_20_each_protocol_has_mappings_of_its_own() {
    // NAT-PMP and UPnP are in the tests of NAT-PMP; here are two mappings of one endpoint.
    let (mut home, _) = both(Igd::V2, Quirk::SeparateMappings);
    assert_eq!(home.add(&[]), (200, None));
    let a = home.a;
    let request = [0, 1, 0, 0, 0x1b, 0x58, 0x1b, 0x58, 0, 0, 2, 0x58];
    let answer = home.ask(a, &request).expect("an answer");
    let answer = natpmp::Response::parse(&answer).expect("NAT-PMP");
    let natpmp::Body::Map(map) = answer.body else {
        panic!("{answer:?}");
    };
    assert_eq!((map.internal, map.external), (7000, 7001));
    for port in [7000, 7001] {
        assert_eq!(home.reached(Proto::Udp, port), Some((A, 7000).into()));
    }
}

#[test]
fn group_21_a_body_in_a_second_segment_is_lost() {
    let call = soap(CONTROL, IP1, "AddPortMapping", &mapping(&[]));
    let split = call.find("\r\n\r\n").map(|at| at + 4);
    let (mut with, mut without) = both(Igd::V1, Quirk::OneSegment);
    for (home, code) in [(&mut with, (500, Some(401))), (&mut without, (200, None))] {
        let a = home.a;
        let server = ([192, 168, 1, 1], 5000).into();
        assert_eq!(outcome(&home.http_at(a, server, &call, split)), code);
        // In one segment it is read.
        assert_eq!(outcome(&home.http_at(a, server, &call, None)), (200, None));
    }
}

#[test]
fn group_21_http_1_0_is_the_only_version() {
    let (mut with, mut without) = both(Igd::V1, Quirk::Http10Only);
    assert_eq!(outcome(&with.get("/rootDesc.xml")).0, 505);
    for (home, version) in [(&mut with, "HTTP/1.0"), (&mut without, "HTTP/1.0")] {
        let a = home.a;
        let root = home.http(a, "GET /rootDesc.xml HTTP/1.0\r\n\r\n");
        assert!(root.starts_with(&format!("{version} 200 OK\r\n")), "{root}");
    }
    let a = with.a;
    let root = with.http(a, "GET /rootDesc.xml HTTP/1.0\r\n\r\n");
    let head = root.split("\r\n\r\n").next().expect("a head");
    assert_eq!(
        (field(head, "Content-Length"), field(head, "Connection")),
        (None, None)
    );
    assert!(root.ends_with("</root>\r\n"));
}
