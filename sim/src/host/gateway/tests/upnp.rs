//! UPnP, from the search to the pinhole.

use std::time::Duration;

use super::{A, A6, CONTROL, Home, IP1, IP2, mapping, outcome, soap, value};
use crate::{
    host::gateway::{Gateway, GatewayProfile, Igd, ssdp},
    packet::Proto,
};

/// The answers to a search.
pub(super) fn search(home: &mut Home, target: &str) -> Vec<String> {
    let text = format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\n\
         MX: 2\r\nST: {target}\r\n\r\n"
    );
    raw_search(home, &text)
}

fn raw_search(home: &mut Home, text: &str) -> Vec<String> {
    let a = home.a;
    let to = (ssdp::GROUP, ssdp::PORT).into();
    let answers = home.send(a, to, text.as_bytes()).into_iter();
    answers
        .map(|data| String::from_utf8(data).expect("text"))
        .collect()
}

pub(super) fn field<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = message.split("\r\n").skip(1);
    lines.find_map(|line| {
        let (field, value) = line.split_once(':')?;
        (field.eq_ignore_ascii_case(name)).then(|| value.trim())
    })
}

const DEVICE: &str = "urn:schemas-upnp-org:device:InternetGatewayDevice:";

#[test]
fn each_search_target_in_turn_finds_it() {
    let mut home = Home::new(GatewayProfile::default());
    for target in [
        "upnp:rootdevice",
        &format!("{DEVICE}2"),
        &format!("{DEVICE}1"),
        "urn:schemas-upnp-org:service:WANIPConnection:2",
        "urn:schemas-upnp-org:service:WANIPConnection:1",
        "uuid:00000000-0000-0000-0000-000000000001",
    ] {
        let answers = search(&mut home, target);
        assert_eq!(answers.len(), 1, "{target}");
        let answer = &answers[0];
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert_eq!(field(answer, "ST"), Some(target));
        let location = "http://192.168.1.1:5000/rootDesc.xml";
        assert_eq!(field(answer, "Location"), Some(location));
        assert!(field(answer, "USN").is_some_and(|usn| usn.ends_with(target)));
    }
    assert_eq!(search(&mut home, "ssdp:all").len(), 11);
    for silent in [
        &format!("{DEVICE}3"),
        "urn:schemas-upnp-org:service:WANPPPConnection:1",
        "x",
    ] {
        assert!(search(&mut home, silent).is_empty(), "{silent}");
    }
    // What is not a search, or says too little.
    for bad in [
        "M-SEARCH * HTTP/1.1\r\nMX: 2\r\nST: ssdp:all\r\n\r\n",
        "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nST: ssdp:all\r\n\r\n",
        "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\n\r\n",
        "NOTIFY * HTTP/1.1\r\nNTS: ssdp:alive\r\n\r\n",
        "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\nST: ssdp:all\r\n",
        "\u{fffd}\r\n\r\n",
    ] {
        assert!(raw_search(&mut home, bad).is_empty(), "{bad}");
    }
    let mut old = Home::new(GatewayProfile::preset("igd1").expect("a preset"));
    assert!(search(&mut old, &format!("{DEVICE}2")).is_empty());
    assert_eq!(search(&mut old, &format!("{DEVICE}1")).len(), 1);
}

#[test]
fn many_searches_wait_and_the_rest_is_dropped() {
    let mut home = Home::new(GatewayProfile::default());
    let a = home.a;
    let text = "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 5\r\nST: ssdp:all\r\n\r\n";
    for _ in 0..100 {
        home.world.call(a, |_: &mut super::Client, cx| {
            let group = (ssdp::GROUP, ssdp::PORT).into();
            cx.send_udp((A, 40_000).into(), group, text.as_bytes());
        });
    }
    home.wait(Duration::from_secs(10));
    let heard = home.heard(a);
    let answers = heard.iter().filter(|p| p.flow().dst.port() == 40_000);
    assert_eq!(answers.count(), 256);
}

#[test]
fn it_announces_itself_again_and_again_and_takes_its_leave() {
    let mut home = Home::new(GatewayProfile::default());
    let said = |home: &mut Home| {
        let b = home.b;
        let heard = home.heard(b).into_iter();
        let texts = heard.map(|p| String::from_utf8_lossy(p.payload()).into_owned());
        let root = texts.filter(|t| field(t, "NT") == Some("upnp:rootdevice"));
        root.filter_map(|t| field(&t, "NTS").map(str::to_owned))
            .collect::<Vec<_>>()
    };
    home.wait(Duration::from_secs(901));
    assert_eq!(said(&mut home), ["ssdp:alive"]);
    let router = home.router;
    home.world.perform(crate::world::Action::Reboot(router));
    home.wait(Duration::from_secs(300));
    assert_eq!(said(&mut home), ["ssdp:byebye", "ssdp:alive"]);
    home.world
        .call(router, |gateway: &mut Gateway, cx| gateway.leave(cx));
    home.wait(Duration::from_secs(1));
    assert_eq!(said(&mut home), ["ssdp:byebye"]);
}

#[test]
fn descriptions_lead_to_the_services() {
    for (igd, version) in [(Igd::V1, 1), (Igd::V2, 2)] {
        let mut home = Home::new(GatewayProfile {
            igd: Some(igd),
            ..GatewayProfile::default()
        });
        let root = home.get("/rootDesc.xml");
        assert!(root.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(root.contains(&format!("{DEVICE}{version}")));
        let service = format!("urn:schemas-upnp-org:service:WANIPConnection:{version}");
        let at = root.find(&service).expect("the service");
        assert_eq!(value(&root[at..], "controlURL").as_deref(), Some(CONTROL));
        assert_eq!(root.contains("WANIPv6FirewallControl"), igd == Igd::V2);
        let scpd = value(&root[at..], "SCPDURL").expect("a path");
        let scpd = home.get(&scpd);
        assert!(scpd.contains("<name>AddPortMapping</name>"));
        assert_eq!(
            scpd.contains("<name>AddAnyPortMapping</name>"),
            igd == Igd::V2
        );
        assert_eq!(outcome(&home.get("/nothing")).0, 404);
        assert_eq!(outcome(&home.get("//rootDesc.xml")).0, 404);
    }
}

#[test]
fn addresses_and_states_are_told() {
    let mut home = Home::new(GatewayProfile::default());
    for (action, name, expected) in [
        ("GetExternalIPAddress", "NewExternalIPAddress", "5.5.5.11"),
        ("GetStatusInfo", "NewConnectionStatus", "Connected"),
        ("GetConnectionTypeInfo", "NewConnectionType", "IP_Routed"),
        ("GetNATRSIPStatus", "NewNATEnabled", "1"),
    ] {
        let response = home.call(action, &[]);
        assert_eq!(outcome(&response), (200, None), "{action}");
        assert_eq!(value(&response, name).as_deref(), Some(expected));
    }
    // Version 1 of the service is served, too; what is not a service or an action is not.
    let a = home.a;
    for (control, service, action, expected) in [
        (CONTROL, IP1, "GetExternalIPAddress", (200, None)),
        (
            CONTROL,
            "WANIPConnection:3",
            "GetExternalIPAddress",
            (500, Some(401)),
        ),
        (
            CONTROL,
            "WANPPPConnection:1",
            "GetExternalIPAddress",
            (500, Some(401)),
        ),
        (CONTROL, IP2, "Nothing", (500, Some(401))),
        ("/ctl/L3F", IP2, "GetExternalIPAddress", (500, Some(401))),
        ("/ctl/Nope", IP2, "GetExternalIPAddress", (404, None)),
    ] {
        let response = home.http(a, &soap(control, service, action, &[]));
        assert_eq!(outcome(&response), expected, "{control} {service} {action}");
    }
}

#[test]
fn arguments_are_checked() {
    let mut home = Home::new(GatewayProfile::default());
    for (changes, code) in [
        (vec![("NewProtocol", "SCTP")], 402),
        (vec![("NewExternalPort", "70000")], 402),
        (vec![("NewExternalPort", "-1")], 402),
        (vec![("NewExternalPort", "x")], 402),
        (vec![("NewExternalPort", "0")], 716),
        (vec![("NewExternalPort", "80")], 606),
        (vec![("NewInternalPort", "0")], 732),
        (vec![("NewInternalClient", "nobody")], 402),
        (vec![("NewInternalClient", "")], 402),
        (vec![("NewInternalClient", "127.0.0.1")], 402),
        (vec![("NewEnabled", "maybe")], 402),
        (vec![("NewLeaseDuration", "604801")], 402),
        (vec![("NewRemoteHost", "9.9.9.9")], 726),
        (vec![("NewPortMappingDescription", LONG)], 605),
    ] {
        assert_eq!(home.add(&changes), (500, Some(code)), "{changes:?}");
    }
    let missing = home.call("AddPortMapping", &[("NewExternalPort", "7000")]);
    assert_eq!(outcome(&missing), (500, Some(402)));
    assert_eq!(home.gateway().mappings().count(), 0);
}

/// 260 characters.
const LONG: &str = concat!(
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
);

#[test]
fn a_taken_port_is_a_conflict_and_any_port_is_another() {
    let mut home = Home::new(GatewayProfile::default());
    let of_b = [("NewInternalClient", "192.168.1.3")];
    assert_eq!(home.add(&of_b), (200, None));
    assert_eq!(home.add(&[]), (500, Some(718)));
    let any = home.call("AddAnyPortMapping", &mapping(&[]));
    assert_eq!(value(&any, "NewReservedPort").as_deref(), Some("7001"));
    assert_eq!(home.reached(Proto::Udp, 7001), Some((A, 7000).into()));
    let any = home.call("AddAnyPortMapping", &mapping(&[("NewExternalPort", "0")]));
    let random: u16 = value(&any, "NewReservedPort")
        .and_then(|p| p.parse().ok())
        .expect("a port");
    assert_eq!(home.reached(Proto::Udp, random), Some((A, 7000).into()));
    // The same client may change its mapping.
    let moved = [("NewExternalPort", "7001"), ("NewInternalPort", "9")];
    assert_eq!(home.add(&moved), (200, None));
    assert_eq!(home.reached(Proto::Udp, 7001), Some((A, 9).into()));
    // A mapping that is not enabled is listed only.
    let off = [("NewExternalPort", "7005"), ("NewEnabled", "0")];
    assert_eq!(home.add(&off), (200, None));
    assert_eq!(home.reached(Proto::Udp, 7005), None);
    let mut old = Home::new(GatewayProfile::preset("igd1").expect("a preset"));
    let any = old.call("AddAnyPortMapping", &mapping(&[]));
    assert_eq!(outcome(&any), (500, Some(401)));
}

#[test]
fn mappings_are_listed_found_and_deleted() {
    let mut home = Home::new(GatewayProfile::default());
    for port in ["7000", "7001", "7002"] {
        let changes = [
            ("NewExternalPort", port),
            ("NewPortMappingDescription", "a&lt;b"),
        ];
        assert_eq!(home.add(&changes), (200, None));
    }
    let third = home.call(
        "GetGenericPortMappingEntry",
        &[("NewPortMappingIndex", "2")],
    );
    assert_eq!(value(&third, "NewExternalPort").as_deref(), Some("7002"));
    assert_eq!(
        value(&third, "NewInternalClient").as_deref(),
        Some("192.168.1.2")
    );
    assert_eq!(
        value(&third, "NewPortMappingDescription").as_deref(),
        Some("a&lt;b")
    );
    for (index, code) in [("3", 713), ("-1", 713), ("x", 402)] {
        let none = home.call(
            "GetGenericPortMappingEntry",
            &[("NewPortMappingIndex", index)],
        );
        assert_eq!(outcome(&none), (500, Some(code)), "{index}");
    }
    let place = |port| {
        [
            ("NewRemoteHost", ""),
            ("NewExternalPort", port),
            ("NewProtocol", "UDP"),
        ]
    };
    let found = home.call("GetSpecificPortMappingEntry", &place("7001"));
    assert_eq!(value(&found, "NewInternalPort").as_deref(), Some("7000"));
    let left: u32 = value(&found, "NewLeaseDuration")
        .and_then(|l| l.parse().ok())
        .expect("a lease");
    assert!((3_500..3_600).contains(&left), "{left}");
    let none = home.call("GetSpecificPortMappingEntry", &place("7009"));
    assert_eq!(outcome(&none), (500, Some(714)));
    let range = |from, to| {
        [
            ("NewStartPort", from),
            ("NewEndPort", to),
            ("NewProtocol", "UDP"),
            ("NewManage", "0"),
            ("NewNumberOfPorts", "2"),
        ]
    };
    let list = home.call("GetListOfPortMappings", &range("7000", "7009"));
    let listed: Vec<_> = list.matches("NewExternalPort&gt;70").collect();
    assert_eq!(listed.len(), 2, "{list}");
    for action in ["GetListOfPortMappings", "DeletePortMappingRange"] {
        let none = home.call(action, &range("8000", "8009"));
        assert_eq!(outcome(&none), (500, Some(730)), "{action}");
        let none = home.call(action, &range("8009", "8000"));
        assert_eq!(outcome(&none), (500, Some(733)), "{action}");
    }
    assert_eq!(
        outcome(&home.call("DeletePortMapping", &place("7000"))),
        (200, None)
    );
    let again = home.call("DeletePortMapping", &place("7000"));
    assert_eq!(outcome(&again), (500, Some(714)));
    let rest = home.call("DeletePortMappingRange", &range("7000", "7009"));
    assert_eq!(outcome(&rest), (200, None));
    assert_eq!(home.gateway().mappings().count(), 0);
    assert_eq!(home.reached(Proto::Udp, 7001), None);
}

#[test]
fn a_lease_of_zero_is_the_longest_or_forever() {
    for (igd, expected) in [(Igd::V1, "0"), (Igd::V2, "86400")] {
        let mut home = Home::new(GatewayProfile {
            igd: Some(igd),
            ..GatewayProfile::default()
        });
        assert_eq!(home.add(&[("NewLeaseDuration", "0")]), (200, None));
        let first = home.call(
            "GetGenericPortMappingEntry",
            &[("NewPortMappingIndex", "0")],
        );
        let left = value(&first, "NewLeaseDuration").expect("a lease");
        let left: u32 = left.parse().expect("a number");
        let expected: u32 = expected.parse().expect("a number");
        assert!(expected - left <= 60, "{left} of {expected}");
        home.wait(Duration::from_secs(90_000));
        let there = home.reached(Proto::Udp, 7000);
        assert_eq!(there.is_some(), igd == Igd::V1);
    }
}

#[test]
fn pinholes_are_opened_by_control_too() {
    let mut home = Home::new(GatewayProfile::default());
    let service = "WANIPv6FirewallControl:1";
    let args = |changes: &[(&'static str, &'static str)]| {
        let mut args = vec![
            ("RemoteHost", ""),
            ("RemotePort", "0"),
            ("InternalClient", A6),
            ("InternalPort", "7000"),
            ("Protocol", "17"),
            ("LeaseTime", "3600"),
        ];
        for (name, value) in changes {
            args.iter_mut().find(|(n, _)| n == name).expect("known").1 = value;
        }
        args
    };
    let a = home.a;
    let call = |home: &mut Home, action: &str, args: &[(&str, &str)]| {
        home.http(a, &soap("/ctl/IP6FCtl", service, action, args))
    };
    let stranger = |n: u16| std::net::SocketAddr::new("2001:db8:9::9".parse().expect("ok"), n);
    let target: std::net::SocketAddr = format!("[{A6}]:7000").parse().expect("an endpoint");
    assert_eq!(home.knock(Proto::Tcp, stranger(1), target), None);
    let added = call(&mut home, "AddPinhole", &args(&[]));
    let id = value(&added, "UniqueID").expect("a number");
    assert_eq!(home.knock(Proto::Udp, stranger(2), target), Some(target));
    let works = call(&mut home, "CheckPinholeWorking", &[("UniqueID", &id)]);
    assert_eq!(value(&works, "IsWorking").as_deref(), Some("1"));
    for (changes, code) in [
        ([("InternalClient", "")], 708),
        ([("InternalClient", "9.9.9.9")], 402),
        ([("InternalPort", "0")], 706),
        ([("Protocol", "65535")], 707),
        ([("Protocol", "132")], 705),
        ([("LeaseTime", "0")], 402),
        ([("LeaseTime", "86401")], 402),
    ] {
        let refused = call(&mut home, "AddPinhole", &args(&changes));
        assert_eq!(outcome(&refused), (500, Some(code)), "{changes:?}");
    }
    let longer = [("UniqueID", id.as_str()), ("NewLeaseTime", "7200")];
    assert_eq!(outcome(&call(&mut home, "UpdatePinhole", &longer)).0, 200);
    let gone = call(&mut home, "DeletePinhole", &[("UniqueID", &id)]);
    assert_eq!(outcome(&gone), (200, None));
    assert_eq!(home.knock(Proto::Udp, stranger(3), target), None);
    let gone = call(&mut home, "DeletePinhole", &[("UniqueID", &id)]);
    assert_eq!(outcome(&gone), (500, Some(704)));
}

#[test]
fn hostile_requests_are_answered_and_bounded() {
    let mut home = Home::new(GatewayProfile::default());
    let a = home.a;
    let huge = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(9_000));
    for (request, status) in [
        ("hello\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        ("GET /rootDesc.xml HTTP/1.1\r\n\r\n", 400),
        ("PUT /rootDesc.xml HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        ("SUBSCRIBE /evt/IPConn HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (
            "POST /ctl/IPConn HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            400,
        ),
        (
            "POST /ctl/IPConn HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
            413,
        ),
        (huge.as_str(), 431),
    ] {
        let response = home.http(a, request);
        assert_eq!(outcome(&response).0, status, "{request:.60}");
    }
    // The server goes on.
    assert_eq!(outcome(&home.get("/rootDesc.xml")).0, 200);
    assert_eq!(home.gateway().mappings().count(), 0);
}
