//! The requests. Each one finds what those before it left behind.

use std::net::{IpAddr, Ipv4Addr};

use dunlin_core::wire::{natpmp, pcp};

/// The gateway, the two clients, and the address outside: the daemon wants one that looks public.
pub(crate) const GATEWAY: [u8; 4] = [10, 1, 0, 1];
pub(crate) const CLIENTS: [[u8; 4]; 2] = [[10, 1, 0, 2], [10, 1, 0, 3]];
pub(crate) const WAN: [u8; 4] = [5, 5, 5, 11];

/// A request.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// A datagram of one of the clients for the port of NAT-PMP and PCP.
    Control(usize, Vec<u8>),
    /// A datagram for the group of SSDP.
    Search(String),
    /// A request over a TCP connection of its own.
    Http(String),
}

type Asks = Vec<(&'static str, Ask)>;

/// All requests, by name.
pub(crate) fn all() -> Asks {
    let mut all = nat_pmp();
    all.extend(pcp());
    all.extend(between_protocols());
    all.extend(searches());
    all.extend(pages());
    all.extend(actions());
    all
}

const N: pcp::Nonce = pcp::Nonce([7; 12]);
const M: pcp::Nonce = pcp::Nonce([8; 12]);

fn pmp(opcode: u8, internal: u16, external: u16, lifetime: u32) -> Vec<u8> {
    let protocol = match opcode {
        1 => natpmp::Protocol::Udp,
        _ => natpmp::Protocol::Tcp,
    };
    let map = natpmp::Map {
        protocol,
        internal,
        external,
        lifetime,
    };
    let mut buf = [0; natpmp::MAX_LEN];
    let len = natpmp::Request::Map(map).emit(&mut buf).expect("room");
    buf[..len].to_vec()
}

fn nat_pmp() -> Asks {
    let one = |data: &[u8]| Ask::Control(0, data.to_vec());
    let mut cut = pmp(1, 6881, 6881, 3600);
    cut.truncate(11);
    let mut version_1 = pmp(1, 6881, 6881, 3600);
    version_1[0] = 1;
    vec![
        ("pmp address", one(&[0, 0])),
        ("pmp address, padded", one(&[0; 12])),
        ("pmp one byte", one(&[0])),
        ("pmp a response", one(&[0, 0x80])),
        ("pmp udp", one(&pmp(1, 6881, 6881, 3600))),
        ("pmp tcp", one(&pmp(2, 6881, 6881, 3600))),
        ("pmp short lease", one(&pmp(1, 6900, 6900, 10))),
        ("pmp long lease", one(&pmp(1, 6901, 6901, 1_000_000))),
        ("pmp any port", one(&pmp(1, 6902, 0, 3600))),
        ("pmp reserved port", one(&pmp(1, 6903, 80, 3600))),
        ("pmp internal port 0", one(&pmp(1, 0, 6904, 3600))),
        ("pmp cut", one(&cut)),
        (
            "pmp padded",
            one(&[&pmp(1, 6905, 6905, 3600)[..], b"xxxx"].concat()),
        ),
        ("pmp opcode 3", one(&[0, 3, 0, 0])),
        ("pmp opcode 127", one(&[0, 127, 0, 0])),
        ("pmp version 1", one(&version_1)),
        ("pmp other port", one(&pmp(1, 6881, 7881, 3600))),
        (
            "pmp of another client",
            Ask::Control(1, pmp(1, 6881, 6881, 3600)),
        ),
        ("pmp delete", one(&pmp(1, 6881, 0, 0))),
        ("pmp delete again", one(&pmp(1, 6881, 0, 0))),
        ("pmp delete with port", one(&pmp(2, 6881, 6881, 0))),
        ("pmp delete nothing", one(&pmp(2, 9999, 0, 0))),
        ("pmp delete all", one(&pmp(1, 0, 0, 0))),
        ("pmp delete all again", one(&pmp(1, 0, 0, 0))),
    ]
}

/// A MAP request, with options after it.
#[derive(Clone, Copy)]
struct Map<'a> {
    client: usize,
    claims: [u8; 4],
    lifetime: u32,
    nonce: pcp::Nonce,
    protocol: u8,
    internal: u16,
    external: u16,
    address: [u8; 4],
    options: &'a [u8],
}

impl Map<'_> {
    fn bytes(&self) -> Vec<u8> {
        let map = pcp::Map {
            nonce: self.nonce,
            protocol: self.protocol,
            internal: self.internal,
            external: self.external,
            external_ip: IpAddr::V4(Ipv4Addr::from(self.address)),
            prefer_failure: false,
        };
        let request = pcp::Request {
            lifetime: self.lifetime,
            client: self.claims.into(),
            ask: pcp::Ask::Map(map),
        };
        let mut buf = [0; pcp::MAX_LEN];
        let len = request.emit(&mut buf).expect("room");
        [&buf[..len], self.options].concat()
    }

    fn ask(&self) -> Ask {
        Ask::Control(self.client, self.bytes())
    }
}

const fn map(port: u16) -> Map<'static> {
    Map {
        client: 0,
        claims: CLIENTS[0],
        lifetime: 3600,
        nonce: N,
        protocol: 17,
        internal: port,
        external: port,
        address: [0; 4],
        options: &[],
    }
}

fn pcp() -> Asks {
    let announce = |claims: [u8; 4]| {
        let request = pcp::Request {
            lifetime: 0,
            client: claims.into(),
            ask: pcp::Ask::Announce,
        };
        let mut buf = [0; pcp::MAX_LEN];
        let len = request.emit(&mut buf).expect("room");
        Ask::Control(0, buf[..len].to_vec())
    };
    let changed = |at: usize, to: u8| {
        let mut data = map(6882).bytes();
        data[at] = to;
        Ask::Control(0, data)
    };
    let cut = |len: usize| Ask::Control(0, map(7016).bytes()[..len].to_vec());
    let with = |port, options: &[u8]| {
        Map {
            options,
            ..map(port)
        }
        .ask()
    };
    let third = [&[1, 0, 0, 16][..], &[0; 10], &[0xff, 0xff], &CLIENTS[1]].concat();
    let filter = [
        &[3, 0, 0, 20, 0, 128, 0, 0][..],
        &[0; 10],
        &[0xff, 0xff, 9, 9, 9, 9],
    ]
    .concat();
    let mut peer = map(7020).bytes();
    peer[1] = 2;
    peer.extend([0, 53, 0, 0]);
    peer.extend([&[0; 10][..], &[0xff, 0xff, 9, 9, 9, 9]].concat());
    vec![
        ("pcp announce", announce(CLIENTS[0])),
        ("pcp announce of another", announce([10, 9, 0, 2])),
        ("pcp map", map(6882).ask()),
        (
            "pcp renew",
            Map {
                lifetime: 7200,
                ..map(6882)
            }
            .ask(),
        ),
        (
            "pcp another nonce",
            Map {
                nonce: M,
                ..map(6882)
            }
            .ask(),
        ),
        (
            "pcp address mismatch",
            Map {
                claims: [10, 1, 0, 9],
                ..map(7000)
            }
            .ask(),
        ),
        (
            "pcp short lease",
            Map {
                lifetime: 10,
                ..map(7001)
            }
            .ask(),
        ),
        (
            "pcp long lease",
            Map {
                lifetime: 1_000_000,
                ..map(7002)
            }
            .ask(),
        ),
        (
            "pcp any port",
            Map {
                external: 0,
                ..map(7003)
            }
            .ask(),
        ),
        (
            "pcp tcp",
            Map {
                protocol: 6,
                ..map(6882)
            }
            .ask(),
        ),
        (
            "pcp proto 132",
            Map {
                protocol: 132,
                ..map(7004)
            }
            .ask(),
        ),
        (
            "pcp all protocols",
            Map {
                protocol: 0,
                ..map(0)
            }
            .ask(),
        ),
        ("pcp all protocols, one port", changed(36, 0)),
        (
            "pcp reserved port",
            Map {
                external: 80,
                ..map(7006)
            }
            .ask(),
        ),
        (
            "pcp low internal port",
            Map {
                external: 7007,
                ..map(80)
            }
            .ask(),
        ),
        (
            "pcp another address",
            Map {
                address: [9, 9, 9, 9],
                ..map(7008)
            }
            .ask(),
        ),
        ("pcp prefer failure", with(7009, &[2, 0, 0, 0])),
        ("pcp option 200", with(7010, &[200, 0, 0, 0])),
        ("pcp option 5", with(7011, &[5, 0, 0, 0])),
        ("pcp option too long", with(7012, &[2, 0, 0, 9])),
        (
            "pcp prefer failure with data",
            with(7012, &[2, 0, 0, 4, 1, 2, 3, 4]),
        ),
        (
            "pcp prefer failure twice",
            with(7013, &[2, 0, 0, 0, 2, 0, 0, 0]),
        ),
        ("pcp third party", with(7014, &third)),
        ("pcp filter", with(7015, &filter)),
        ("pcp short", cut(56)),
        ("pcp header alone", cut(24)),
        ("pcp 20 bytes", cut(20)),
        ("pcp 4 bytes", cut(4)),
        ("pcp 2 bytes", cut(2)),
        ("pcp 61 bytes", with(7016, &[0])),
        ("pcp version 1", changed(0, 1)),
        ("pcp version 3", changed(0, 3)),
        ("pcp opcode 5", changed(1, 5)),
        ("pcp peer", Ask::Control(0, peer)),
        ("pcp a response", changed(1, 0x81)),
        (
            "pcp delete",
            Map {
                nonce: M,
                lifetime: 0,
                ..map(6882)
            }
            .ask(),
        ),
        (
            "pcp delete with another nonce",
            Map {
                lifetime: 0,
                ..map(7001)
            }
            .ask(),
        ),
        (
            "pcp delete nothing",
            Map {
                lifetime: 0,
                ..map(9999)
            }
            .ask(),
        ),
    ]
}

fn between_protocols() -> Asks {
    let other = |port| Map {
        client: 1,
        claims: CLIENTS[1],
        ..map(port)
    };
    vec![
        ("both: pmp first", Ask::Control(0, pmp(1, 6950, 6950, 3600))),
        (
            "both: pmp of another",
            Ask::Control(1, pmp(1, 6950, 6950, 3600)),
        ),
        ("both: pcp of another", other(6950).ask()),
        (
            "both: pcp would rather fail",
            Map {
                external: 6950,
                options: &[2, 0, 0, 0],
                ..other(6951)
            }
            .ask(),
        ),
        ("both: pcp after pmp", map(6950).ask()),
        ("both: pmp deletes it", Ask::Control(0, pmp(1, 6950, 0, 0))),
    ]
}

fn searches() -> Asks {
    let device = "urn:schemas-upnp-org:device:InternetGatewayDevice";
    let service = "urn:schemas-upnp-org:service";
    let search = |target: &str| {
        Ask::Search(format!(
            "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
             ST: {target}\r\n\r\n"
        ))
    };
    let raw = |text: &str| Ask::Search(text.into());
    vec![
        ("ssdp all", search("ssdp:all")),
        ("ssdp root", search("upnp:rootdevice")),
        ("ssdp igd 1", search(&format!("{device}:1"))),
        ("ssdp igd 2", search(&format!("{device}:2"))),
        ("ssdp igd 3", search(&format!("{device}:3"))),
        ("ssdp ip 1", search(&format!("{service}:WANIPConnection:1"))),
        ("ssdp ip 2", search(&format!("{service}:WANIPConnection:2"))),
        ("ssdp ppp", search(&format!("{service}:WANPPPConnection:1"))),
        (
            "ssdp pinholes",
            search(&format!("{service}:WANIPv6FirewallControl:1")),
        ),
        (
            "ssdp uuid",
            search("uuid:00000000-0000-0000-0000-000000000001"),
        ),
        ("ssdp unknown", search("urn:example:nothing:1")),
        (
            "ssdp no reason",
            raw("M-SEARCH * HTTP/1.1\r\nMX: 1\r\nST: upnp:rootdevice\r\n\r\n"),
        ),
        (
            "ssdp no delay",
            raw("M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nST: upnp:rootdevice\r\n\r\n"),
        ),
        (
            "ssdp no target",
            raw("M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\r\n"),
        ),
        ("ssdp garbage", raw("garbage\r\n\r\n")),
    ]
}

fn pages() -> Asks {
    let http = |text: &str| Ask::Http(text.into());
    let get = |path: &str| {
        Ask::Http(format!(
            "GET {path} HTTP/1.1\r\nHost: 10.1.0.1:5000\r\n\r\n"
        ))
    };
    vec![
        ("http root", get("/rootDesc.xml")),
        ("http connection", get("/WANIPCn.xml")),
        ("http pinholes", get("/WANIP6FC.xml")),
        ("http slash", get("/")),
        ("http nothing", get("/nothing")),
        ("http no host", http("GET /rootDesc.xml HTTP/1.1\r\n\r\n")),
        ("http 1.0", http("GET /rootDesc.xml HTTP/1.0\r\n\r\n")),
        ("http 2.0", http("GET /rootDesc.xml HTTP/2.0\r\n\r\n")),
        (
            "http another host",
            http("GET /rootDesc.xml HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        ),
        (
            "http put",
            http("PUT /ctl/IPConn HTTP/1.1\r\nHost: 10.1.0.1:5000\r\n\r\n"),
        ),
        ("http garbage", http("hello\r\n\r\n")),
        (
            "http no action",
            http("POST /ctl/IPConn HTTP/1.1\r\nHost: 10.1.0.1:5000\r\nContent-Length: 2\r\n\r\nxx"),
        ),
    ]
}

const IP2: &str = "urn:schemas-upnp-org:service:WANIPConnection:2";

fn post(path: &str, service: &str, action: &str, body: &str) -> Ask {
    Ask::Http(format!(
        "POST {path} HTTP/1.1\r\nHost: 10.1.0.1:5000\r\nContent-Type: text/xml\r\n\
         Content-Length: {}\r\nSOAPAction: \"{service}#{action}\"\r\n\r\n{body}",
        body.len()
    ))
}

fn call_at(path: &str, service: &str, action: &str, args: &[(&str, &str)]) -> Ask {
    let args: String = args
        .iter()
        .map(|(n, v)| format!("<{n}>{v}</{n}>"))
        .collect();
    let body = format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
         <u:{action} xmlns:u=\"{service}\">{args}</u:{action}></s:Body></s:Envelope>"
    );
    post(path, service, action, &body)
}

fn call(action: &str, args: &[(&str, &str)]) -> Ask {
    call_at("/ctl/IPConn", IP2, action, args)
}

/// `AddPortMapping` or `AddAnyPortMapping` of the first client, with changes.
fn add(action: &str, changes: &[(&str, &str)]) -> Ask {
    let mut args = vec![
        ("NewRemoteHost", ""),
        ("NewExternalPort", "7100"),
        ("NewProtocol", "UDP"),
        ("NewInternalPort", "7100"),
        ("NewInternalClient", "10.1.0.2"),
        ("NewEnabled", "1"),
        ("NewPortMappingDescription", "test"),
        ("NewLeaseDuration", "300"),
    ];
    for (name, value) in changes {
        let name = format!("New{name}");
        let arg = args.iter_mut().find(|(n, _)| *n == name);
        arg.expect("a known argument").1 = value;
    }
    call(action, &args)
}

fn actions() -> Asks {
    let one = |changes: &[(&str, &str)]| add("AddPortMapping", changes);
    let any = |changes: &[(&str, &str)]| add("AddAnyPortMapping", changes);
    let at = |port: &str| {
        call(
            "GetSpecificPortMappingEntry",
            &[
                ("NewRemoteHost", ""),
                ("NewExternalPort", port),
                ("NewProtocol", "UDP"),
            ],
        )
    };
    let entry = |index: &str| {
        call(
            "GetGenericPortMappingEntry",
            &[("NewPortMappingIndex", index)],
        )
    };
    let delete = |port: &str, protocol: &str| {
        call(
            "DeletePortMapping",
            &[
                ("NewRemoteHost", ""),
                ("NewExternalPort", port),
                ("NewProtocol", protocol),
            ],
        )
    };
    let range = |action: &str, from: &str, to: &str, protocol: &str| {
        call(
            action,
            &[
                ("NewStartPort", from),
                ("NewEndPort", to),
                ("NewProtocol", protocol),
                ("NewManage", "1"),
                ("NewNumberOfPorts", "2"),
            ],
        )
    };
    let list =
        |from: &str, to: &str, protocol: &str| range("GetListOfPortMappings", from, to, protocol);
    let delete_range = |from: &str, to: &str| range("DeletePortMappingRange", from, to, "UDP");
    let common = "urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1";
    let pinholes = "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1";
    // What exceeds 64 bytes comes back with bytes of the daemon's memory after it.
    let long = "x".repeat(60);
    let two = |first, port, client| {
        [
            ("ExternalPort", first),
            ("InternalPort", port),
            ("InternalClient", client),
        ]
    };
    vec![
        ("soap address", call("GetExternalIPAddress", &[])),
        (
            "soap address, version 1",
            call_at(
                "/ctl/IPConn",
                "urn:schemas-upnp-org:service:WANIPConnection:1",
                "GetExternalIPAddress",
                &[],
            ),
        ),
        ("soap status", call("GetStatusInfo", &[])),
        ("soap type", call("GetConnectionTypeInfo", &[])),
        ("soap nat", call("GetNATRSIPStatus", &[])),
        (
            "soap link",
            call_at("/ctl/CmnIfCfg", common, "GetCommonLinkProperties", &[]),
        ),
        ("soap add", one(&[])),
        ("soap add again", one(&[])),
        (
            "soap add lower-case",
            one(&[
                ("ExternalPort", "7101"),
                ("InternalPort", "7101"),
                ("Protocol", "udp"),
            ]),
        ),
        (
            "soap add for another",
            one(&two("7102", "7102", "10.1.0.3")),
        ),
        (
            "soap add, another port inside",
            one(&[("InternalPort", "7999")]),
        ),
        (
            "soap add, lease 0",
            one(&[("ExternalPort", "7103"), ("LeaseDuration", "0")]),
        ),
        (
            "soap add, short lease",
            one(&[("ExternalPort", "7104"), ("LeaseDuration", "200")]),
        ),
        (
            "soap add, long lease",
            one(&[("ExternalPort", "7105"), ("LeaseDuration", "1000000")]),
        ),
        (
            "soap add, negative lease",
            one(&[("ExternalPort", "7106"), ("LeaseDuration", "-1")]),
        ),
        ("soap add, wildcard", one(&[("ExternalPort", "0")])),
        (
            "soap add, wildcard inside",
            one(&[("ExternalPort", "7107"), ("InternalPort", "0")]),
        ),
        ("soap add, reserved", one(&[("ExternalPort", "80")])),
        (
            "soap add, low inside",
            one(&[("ExternalPort", "7108"), ("InternalPort", "80")]),
        ),
        (
            "soap add, no description",
            one(&[("ExternalPort", "7109"), ("PortMappingDescription", "")]),
        ),
        (
            "soap add, disabled",
            one(&[("ExternalPort", "7110"), ("Enabled", "0")]),
        ),
        (
            "soap add, remote host",
            one(&[("ExternalPort", "7111"), ("RemoteHost", "9.9.9.9")]),
        ),
        (
            "soap add, no client",
            one(&[("ExternalPort", "7113"), ("InternalClient", "")]),
        ),
        (
            "soap add, protocol",
            one(&[("ExternalPort", "7114"), ("Protocol", "SCTP")]),
        ),
        ("soap add, port too big", one(&[("ExternalPort", "70000")])),
        ("soap add, port is text", one(&[("ExternalPort", "abc")])),
        (
            "soap add, long description",
            one(&[("ExternalPort", "7115"), ("PortMappingDescription", &long)]),
        ),
        (
            "soap add, missing",
            call("AddPortMapping", &[("NewExternalPort", "7116")]),
        ),
        ("soap any, own port", any(&[("InternalPort", "7120")])),
        (
            "soap any, free",
            any(&[("ExternalPort", "7121"), ("InternalPort", "7121")]),
        ),
        (
            "soap any, reserved",
            any(&[("ExternalPort", "80"), ("InternalPort", "7123")]),
        ),
        ("soap specific", at("7100")),
        ("soap specific, long description", at("7115")),
        ("soap specific, disabled", at("7110")),
        ("soap specific, lease 0", at("7103")),
        ("soap specific, none", at("7999")),
        ("soap specific, wrapped", at("4464")),
        ("soap entry 0", entry("0")),
        ("soap entry 1", entry("1")),
        ("soap entry 500", entry("500")),
        ("soap entry x", entry("x")),
        ("soap entry -1", entry("-1")),
        ("soap entry, empty", entry("")),
        ("soap list", list("7100", "7105", "UDP")),
        ("soap list, none", list("100", "105", "TCP")),
        ("soap list, reversed", list("200", "105", "TCP")),
        ("soap delete", delete("7100", "UDP")),
        ("soap delete again", delete("7100", "UDP")),
        ("soap delete lower-case", delete("7103", "udp")),
        ("soap delete range", delete_range("7104", "7105")),
        ("soap delete range, none", delete_range("7104", "7105")),
        ("soap delete range, reversed", delete_range("7105", "7104")),
        ("soap unknown action", call("Nothing", &[])),
        (
            "soap unknown path",
            call_at("/ctl/Nope", IP2, "GetNATRSIPStatus", &[]),
        ),
        (
            "soap unknown service",
            call_at("/ctl/IPConn", "urn:example:Nope:1", "GetNATRSIPStatus", &[]),
        ),
        (
            "soap junk",
            post("/ctl/IPConn", IP2, "GetExternalIPAddress", "junk"),
        ),
        (
            "soap firewall",
            call_at("/ctl/IP6FCtl", pinholes, "GetFirewallStatus", &[]),
        ),
    ]
}
