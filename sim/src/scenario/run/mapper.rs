//! Requests for port mappings that events make hosts send: one message each, without a search before
//! and without another try.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use dunlin_core::{
    Instant,
    wire::{natpmp, pcp},
};
use rand_core::Rng;

use crate::{
    host::{
        HostCx,
        stack::{MTU, TcpClient},
    },
    packet::{Packet, Proto},
    scenario::model::gateway::{Using, WantedMapping},
};

/// The port of the web server of a gateway preset.
const HTTP_PORT: u16 = 5_000;
/// The port from which the first request is sent; the others follow.
const FIRST_PORT: u16 = 61_000;

/// A request for a port mapping at a given time.
#[derive(Clone, Debug)]
pub(crate) struct PlannedMapping {
    pub(crate) at: Instant,
    /// The host's own address.
    pub(crate) local: IpAddr,
    /// The gateway.
    pub(crate) gateway: IpAddr,
    pub(crate) wanted: WantedMapping,
    /// The machine that gets the mapping, if it is another one.
    pub(crate) client: IpAddr,
}

/// Asks for port mappings. The answers are in the packets of the run.
#[derive(Debug, Default)]
pub(crate) struct Mapper {
    plan: VecDeque<PlannedMapping>,
    asked: u16,
    tcp: Vec<(SocketAddr, TcpClient)>,
}

impl Mapper {
    /// `plan` must be in order of time.
    pub(crate) fn new(plan: Vec<PlannedMapping>) -> Self {
        Self {
            plan: plan.into(),
            ..Self::default()
        }
    }

    /// Forgets what was due while the host was off.
    pub(crate) fn start(&mut self, now: Instant) {
        self.tcp.clear();
        while self.plan.front().is_some_and(|p| p.at < now) {
            self.plan.pop_front();
        }
    }

    /// Handles a packet. Returns it when it is not an answer of the gateway.
    pub(crate) fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) -> Option<Packet> {
        let flow = *packet.flow();
        match flow.proto {
            Proto::Tcp => {
                let mut found = self.tcp.iter_mut();
                let Some((_, tcp)) = found.find(|(local, _)| *local == flow.dst) else {
                    return Some(packet);
                };
                tcp.arrive(packet);
                self.run(cx);
                None
            }
            Proto::Udp
                if flow.src.port() == natpmp::PORT
                    && (FIRST_PORT..FIRST_PORT.saturating_add(self.asked))
                        .contains(&flow.dst.port()) =>
            {
                cx.recycle(packet);
                None
            }
            _ => Some(packet),
        }
    }

    pub(crate) fn wake(&mut self, cx: &mut HostCx<'_>) {
        while let Some(p) = self.plan.front().cloned().filter(|p| p.at <= cx.now) {
            self.plan.pop_front();
            let local = SocketAddr::new(p.local, FIRST_PORT + self.asked % 4_000);
            self.asked += 1;
            match p.wanted.using {
                Using::NatPmp => {
                    let data = nat_pmp(&p.wanted);
                    cx.send_udp(local, (p.gateway, natpmp::PORT).into(), &data);
                }
                Using::Pcp => {
                    let data = pcp_map(&p, cx.rng);
                    cx.send_udp(local, (p.gateway, pcp::PORT).into(), &data);
                }
                Using::Upnp => {
                    let server = SocketAddr::new(p.gateway, HTTP_PORT);
                    let seed = cx.rng.next_u64();
                    let tcp = TcpClient::new(local, server, upnp(&p, server), MTU, seed);
                    self.tcp.extend(tcp.map(|tcp| (local, tcp)));
                }
            }
        }
        self.run(cx);
    }

    fn run(&mut self, cx: &mut HostCx<'_>) {
        self.tcp.retain_mut(|(_, tcp)| tcp.run(cx).is_none());
    }

    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let planned = self.plan.front().map(|p| p.at);
        let busy = self.tcp.iter().filter_map(|(_, tcp)| tcp.next_wake());
        busy.chain(planned).min()
    }
}

fn seconds(wanted: &WantedMapping) -> u32 {
    u32::try_from(wanted.lease.as_secs()).unwrap_or(u32::MAX)
}

fn nat_pmp(wanted: &WantedMapping) -> Vec<u8> {
    let mut buf = [0; natpmp::MAX_LEN];
    let map = natpmp::Map {
        protocol: match wanted.proto {
            Proto::Tcp => natpmp::Protocol::Tcp,
            _ => natpmp::Protocol::Udp,
        },
        internal: wanted.port,
        external: wanted.external,
        lifetime: seconds(wanted),
    };
    let len = natpmp::Request::Map(map).emit(&mut buf).unwrap_or(0);
    buf[..len].to_vec()
}

fn pcp_map(p: &PlannedMapping, rng: &mut dyn Rng) -> Vec<u8> {
    let mut nonce = [0; 12];
    rng.fill_bytes(&mut nonce);
    let map = pcp::Map {
        nonce: pcp::Nonce(nonce),
        protocol: match p.wanted.proto {
            Proto::Tcp => 6,
            _ => 17,
        },
        internal: p.wanted.port,
        external: p.wanted.external,
        external_ip: Ipv4Addr::UNSPECIFIED.into(),
        prefer_failure: false,
    };
    let request = pcp::Request {
        lifetime: seconds(&p.wanted),
        client: p.local,
        ask: pcp::Ask::Map(map),
    };
    let mut buf = [0; pcp::MAX_LEN];
    let len = request.emit(&mut buf).unwrap_or(0);
    buf[..len].to_vec()
}

/// A call of `AddPortMapping`, which every gateway of a scenario understands at this path.
fn upnp(p: &PlannedMapping, server: SocketAddr) -> Vec<u8> {
    const URN: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";
    let proto = if p.wanted.proto == Proto::Tcp {
        "TCP"
    } else {
        "UDP"
    };
    let WantedMapping { port, external, .. } = p.wanted;
    let args = [
        ("RemoteHost", String::new()),
        ("ExternalPort", external.to_string()),
        ("Protocol", proto.into()),
        ("InternalPort", port.to_string()),
        ("InternalClient", p.client.to_string()),
        ("Enabled", "1".into()),
        ("PortMappingDescription", "dunlin".into()),
        ("LeaseDuration", seconds(&p.wanted).to_string()),
    ];
    let args = args.map(|(name, value)| format!("<New{name}>{value}</New{name}>"));
    let body = format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
         <u:AddPortMapping xmlns:u=\"{URN}\">{}</u:AddPortMapping></s:Body></s:Envelope>",
        args.concat()
    );
    let head = format!(
        "POST /ctl/IPConn HTTP/1.1\r\nHost: {server}\r\nContent-Type: text/xml\r\n\
         Content-Length: {}\r\nSOAPAction: \"{URN}#AddPortMapping\"\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}
