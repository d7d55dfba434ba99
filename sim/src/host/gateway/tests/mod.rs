//! Gateways, seen by their clients: packets and HTTP through a simulated LAN.

mod net;
mod port_control;
mod quirks;
mod upnp;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use dunlin_core::Instant;

use super::{ELSEWHERE, Gateway, GatewayProfile};
use crate::{
    DeviceId, World,
    host::{
        Host, HostCx,
        light::Scripted,
        stack::{MTU, TcpClient},
    },
    link::LinkConfig,
    middlebox::{BoxConfig, GatewayConfig, firewall, nat::presets},
    packet::{Packet, Proto},
};

pub(super) const LAN: [u8; 4] = [192, 168, 1, 1];
pub(super) const LAN6: &str = "2001:db8:1::1";
pub(super) const WAN: [u8; 4] = [5, 5, 5, 11];
pub(super) const A: [u8; 4] = [192, 168, 1, 2];
pub(super) const A6: &str = "2001:db8:1::2";
pub(super) const B: [u8; 4] = [192, 168, 1, 3];

/// A machine of a person: it sends what it is told and keeps what it gets.
#[derive(Default)]
pub(super) struct Client {
    got: Vec<Packet>,
    tcp: Option<TcpClient>,
    /// The endpoint of its connection.
    local: Option<SocketAddr>,
    answer: Option<Vec<u8>>,
}

impl Client {
    fn run(&mut self, cx: &mut HostCx<'_>) {
        if let Some(tcp) = &mut self.tcp
            && let Some(answer) = tcp.run(cx)
        {
            self.answer = Some(answer);
        }
    }
}

impl Host for Client {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        match &mut self.tcp {
            Some(tcp) if Some(packet.flow().dst) == self.local => {
                tcp.arrive(packet);
                self.run(cx);
            }
            _ => self.got.push(packet),
        }
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        self.run(cx);
    }

    fn next_wake(&self) -> Option<Instant> {
        self.tcp.as_ref().and_then(TcpClient::next_wake)
    }
}

/// A home with a gateway and two machines, and a stranger outside.
pub(super) struct Home {
    pub(super) world: World,
    pub(super) router: DeviceId,
    pub(super) a: DeviceId,
    pub(super) b: DeviceId,
    stranger: DeviceId,
    port: u16,
}

impl Home {
    pub(super) fn new(profile: GatewayProfile) -> Self {
        Self::with(profile, presets::linux())
    }

    pub(super) fn with(profile: GatewayProfile, nat: crate::middlebox::nat::NatConfig) -> Self {
        let mut world = World::new(7);
        let core = world.core();
        let lan: IpAddr = LAN.into();
        let lan6: IpAddr = LAN6.parse().expect("an address");
        let config = BoxConfig {
            nat: Some(nat),
            firewall: Some(firewall::presets::home6()),
            gateway: GatewayConfig {
                lan: Some(lan),
                also: vec![lan6, ELSEWHERE.into()],
            },
        };
        let link = LinkConfig::perfect;
        let router = world.add_router(core, link(), config, &[WAN.into()]);
        let addrs = [lan, lan6, ELSEWHERE.into()];
        world.set_gateway(router, Gateway::new(&addrs, profile));
        let v6: IpAddr = A6.parse().expect("an address");
        let a = world.add_host(router, link(), &[A.into(), v6], Client::default());
        let b = world.add_host(router, link(), &[B.into()], Client::default());
        let stranger = [
            [8, 8, 0, 1].into(),
            "2001:db8:9::9".parse().expect("an address"),
        ];
        let stranger = world.add_host(core, link(), &stranger, Scripted::new());
        world.start();
        let mut home = Self {
            world,
            router,
            a,
            b,
            stranger,
            port: 50_000,
        };
        // What is announced at the start is over.
        home.wait(Duration::from_secs(1));
        home.heard(home.a);
        home.heard(home.b);
        home
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.world.run_for(time);
    }

    /// Takes what a machine has received.
    pub(super) fn heard(&mut self, who: DeviceId) -> Vec<Packet> {
        let got = self
            .world
            .call(who, |c: &mut Client, _| std::mem::take(&mut c.got));
        got.expect("a client")
    }

    fn address(&self, who: DeviceId) -> Ipv4Addr {
        if who == self.a { A.into() } else { B.into() }
    }

    /// Sends a datagram from a port of its own, and returns the answers within some seconds.
    pub(super) fn send(&mut self, who: DeviceId, to: SocketAddr, data: &[u8]) -> Vec<Vec<u8>> {
        self.port += 1;
        let port = self.port;
        let ip = match to {
            SocketAddr::V4(_) => self.address(who).into(),
            SocketAddr::V6(_) => A6.parse().expect("an address"),
        };
        let from = SocketAddr::new(ip, port);
        self.world
            .call(who, |_: &mut Client, cx| cx.send_udp(from, to, data));
        self.wait(Duration::from_secs(3));
        let got = self.heard(who).into_iter();
        got.filter(|p| p.flow().dst == from)
            .map(|p| p.payload().to_vec())
            .collect()
    }

    /// The answer to a request of NAT-PMP or PCP.
    pub(super) fn ask(&mut self, who: DeviceId, data: &[u8]) -> Option<Vec<u8>> {
        let answers = self.send(who, SocketAddr::from((LAN, 5_351)), data);
        assert!(answers.len() <= 1, "{answers:?}");
        answers.into_iter().next()
    }

    /// The answer to an HTTP request to `server`, of which the bytes from `split` on are sent later.
    pub(super) fn http_at(
        &mut self,
        who: DeviceId,
        server: SocketAddr,
        request: &str,
        split: Option<usize>,
    ) -> String {
        self.port += 1;
        let local = SocketAddr::new(self.address(who).into(), self.port);
        let request = request.as_bytes().to_vec();
        self.world.call(who, |c: &mut Client, cx| {
            c.local = Some(local);
            let tcp = TcpClient::new(local, server, request, MTU, 5).expect("a connection");
            c.tcp = Some(match split {
                Some(at) => tcp.split(at),
                None => tcp,
            });
            c.run(cx);
        });
        self.wait(Duration::from_secs(12));
        let answer = self.world.call(who, |c: &mut Client, _| c.answer.take());
        let answer = answer.flatten().expect("the connection is over");
        String::from_utf8(answer).expect("text")
    }

    pub(super) fn http(&mut self, who: DeviceId, request: &str) -> String {
        self.http_at(who, SocketAddr::from((LAN, 5_000)), request, None)
    }

    pub(super) fn get(&mut self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 192.168.1.1:5000\r\n\r\n");
        self.http(self.a, &request)
    }

    /// Whether a datagram or SYN of a stranger to this outer port reaches a machine, and which.
    pub(super) fn reached(&mut self, proto: Proto, port: u16) -> Option<SocketAddr> {
        self.port += 1;
        let from = SocketAddr::from(([8, 8, 0, 1], self.port));
        let to = SocketAddr::from((WAN, port));
        self.knock(proto, from, to)
    }

    pub(super) fn knock(
        &mut self,
        proto: Proto,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Option<SocketAddr> {
        let packet = match proto {
            Proto::Tcp => Packet::tcp(from, to, crate::packet::TcpFlags::SYN, 1, 0, b""),
            _ => Packet::udp(from, to, b"hello"),
        };
        let now = self.world.now();
        self.world
            .call(self.stranger, |s: &mut Scripted, _| s.plan(now, packet));
        self.wait(Duration::from_millis(100));
        let both = [self.heard(self.a), self.heard(self.b)].concat();
        both.iter()
            .map(|p| *p.flow())
            .find(|f| f.src == from)
            .map(|f| f.dst)
    }

    pub(super) fn gateway(&self) -> &Gateway {
        self.world.host(self.router).expect("a gateway")
    }
}

/// A request of SOAP.
pub(super) fn soap(control: &str, service: &str, action: &str, args: &[(&str, &str)]) -> String {
    let args: String = args
        .iter()
        .map(|(n, v)| format!("<{n}>{v}</{n}>"))
        .collect();
    let urn = format!("urn:schemas-upnp-org:service:{service}");
    let body = format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
         <u:{action} xmlns:u=\"{urn}\">{args}</u:{action}></s:Body></s:Envelope>"
    );
    format!(
        "POST {control} HTTP/1.1\r\nHost: 192.168.1.1:5000\r\nContent-Type: text/xml\r\n\
         Content-Length: {}\r\nSOAPAction: \"{urn}#{action}\"\r\n\r\n{body}",
        body.len()
    )
}

/// The arguments of `AddPortMapping`, of which some are replaced.
pub(super) fn mapping<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut args = vec![
        ("NewRemoteHost", ""),
        ("NewExternalPort", "7000"),
        ("NewProtocol", "UDP"),
        ("NewInternalPort", "7000"),
        ("NewInternalClient", "192.168.1.2"),
        ("NewEnabled", "1"),
        ("NewPortMappingDescription", "test"),
        ("NewLeaseDuration", "3600"),
    ];
    for (name, value) in changes {
        let arg = args.iter_mut().find(|(n, _)| n == name);
        arg.expect("a known argument").1 = value;
    }
    args
}

/// The value of an element, whatever its prefix or case.
pub(super) fn value(text: &str, name: &str) -> Option<String> {
    let lower = text.to_lowercase();
    let name = name.to_lowercase();
    let open = lower.find(&format!("{name}>"))? + name.len() + 1;
    let close = open + lower[open..].find("</")?;
    let value = &text[open..close];
    let value = value.strip_prefix("<![CDATA[").unwrap_or(value);
    Some(value.strip_suffix("]]>").unwrap_or(value).to_owned())
}

/// The status of a response, and the code of the UPnP error in it.
pub(super) fn outcome(response: &str) -> (u16, Option<u16>) {
    let status = response.split(' ').nth(1).and_then(|s| s.parse().ok());
    let code = value(response, "errorCode").and_then(|c| c.parse().ok());
    (status.unwrap_or(0), code)
}

pub(super) const CONTROL: &str = "/ctl/IPConn";
pub(super) const IP2: &str = "WANIPConnection:2";
pub(super) const IP1: &str = "WANIPConnection:1";

impl Home {
    /// The outcome of an action of WANIPConnection.
    pub(super) fn call(&mut self, action: &str, args: &[(&str, &str)]) -> String {
        let urn = match self.gateway().profile().igd {
            Some(super::Igd::V1) => IP1,
            _ => IP2,
        };
        self.http(self.a, &soap(CONTROL, urn, action, args))
    }

    /// The outcome of `AddPortMapping` with changed arguments.
    pub(super) fn add(&mut self, changes: &[(&str, &str)]) -> (u16, Option<u16>) {
        let response = self.call("AddPortMapping", &mapping(changes));
        outcome(&response)
    }
}
