//! Builds the world of a scenario.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::{
    built::{Built, Shared, at},
    engines,
    hosts::{Echo, Flood, Manual, Pace, Planned, Steady},
    mapper::{Mapper, PlannedMapping},
    services,
};
use crate::{
    host::{
        gateway::{ELSEWHERE, Gateway},
        punch::{EndConfig, Introduction, Rendezvous, TcpEnd, UdpEnd},
        service::StunClient,
    },
    id::DeviceId,
    link::region::RegionMatrix,
    middlebox::{BoxConfig, GatewayConfig},
    scenario::model::{
        Action, Advertise, Event, Host, Kind, Router, Scenario, gateway, links, plan::Plan,
    },
    world::{self, World},
};

/// The inner IPv6 address of every gateway, which is valid on one link only.
const INNER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// Builds the world of a scenario, with all events planned and without starting it.
pub(crate) fn build(s: &Scenario, seed: u64) -> Built {
    let mut world = World::new(seed);
    // A scenario in which packets travel in circles gets a message instead of a panic.
    world.set_panics(false);
    // A scenario that was read without errors has a plan.
    let plan = Plan::new(s).unwrap_or_default();
    let mut built = Built {
        world,
        nodes: BTreeMap::new(),
        plan,
        shared: Shared::new(s, seed),
    };
    if s.has_regions() {
        built.world.set_latency(RegionMatrix::earth());
    }
    for (n, r) in s.routers.iter().enumerate() {
        let inner = r.gateway_address.unwrap_or_else(|| gateway::chosen(n));
        let offered = r.gateway.as_ref();
        let config = BoxConfig {
            nat: r.nat.clone(),
            firewall: r.firewall.clone(),
            gateway: GatewayConfig {
                lan: offered.map(|_| inner),
                also: offered.map_or_else(Vec::new, |_| vec![INNER_V6, ELSEWHERE.into()]),
            },
        };
        let above = r
            .behind
            .as_deref()
            .map_or(DeviceId::CORE, |b| built.node(b));
        let wan = built.plan.of(&r.name).to_vec();
        let id = built
            .world
            .add_router(above, links::config(&r.link), config, &wan);
        built.named(id, &r.name, r.region.as_deref());
        if let Some(profile) = offered {
            let addrs = [inner, INNER_V6, ELSEWHERE.into()];
            let gateway = Gateway::new(&addrs, profile.clone());
            built.world.set_gateway(id, gateway);
        }
    }
    let events = s.all_events(seed);
    for h in &s.hosts {
        let id = built.add_host(s, h, &events);
        built.named(id, &h.name, h.region.as_deref());
        if !h.options.start.is_zero() && (h.kind.is_puncher() || h.kind.is_engine()) {
            built.world.set_off(id);
            let on = world::Action::SwitchOn(id);
            built.world.at(at(h.options.start), on);
        }
    }
    for r in &s.routers {
        forward(&mut built, r);
    }
    super::events::plan(&mut built, s, &events);
    built
}

/// Makes the port mappings of a router.
fn forward(built: &mut Built, r: &Router) {
    let now = built.world.now();
    for f in &r.forwards {
        let ip = built
            .plan
            .of(&f.host)
            .iter()
            .find(|ip| ip.is_ipv4())
            .copied();
        let nat = built.world.middlebox_mut(built.nodes[&r.name]);
        // The plan has checked that there is a host, and that each port is free.
        if let (Some(ip), Some(nat)) = (ip, nat.and_then(|b| b.nat_mut())) {
            for proto in f.protos() {
                let made = nat.forward(now, *proto, f.port, (ip, f.to).into(), None);
                debug_assert!(made.is_ok(), "{made:?}");
            }
        }
    }
}

impl Built {
    fn pace(&self, s: &Scenario, h: &Host, every: Duration) -> Pace {
        let o = &h.options;
        let to = o.to.as_deref().unwrap_or_default();
        let port = o.to_port.unwrap_or_else(|| port_of(s, to));
        let (from, to) = self.ends((&h.name, h.port()), (to, port));
        Pace {
            from,
            to,
            every,
            start: at(o.start),
            stop: o.stop.map(at),
            size: o.size,
        }
    }

    fn add_host(&mut self, s: &Scenario, h: &Host, events: &[Event]) -> DeviceId {
        let above = h.behind.as_deref().map_or(DeviceId::CORE, |b| self.node(b));
        let addrs = self.plan.of(&h.name).to_vec();
        let link = links::config(&h.link);
        let own = addrs.first().map(|ip| SocketAddr::new(*ip, h.port()));
        let own = own.unwrap_or_else(|| (std::net::Ipv4Addr::UNSPECIFIED, h.port()).into());
        let o = &h.options;
        match h.kind {
            Kind::Manual => {
                let plan = self.sends(h, events);
                let manual = Manual::new(plan).mapping(self.mapper(s, h, events));
                self.world.add_host(above, link, &addrs, manual)
            }
            Kind::Echo => {
                let echo = Echo::new(h.port(), o.reply_after);
                let echo = echo.mapping(self.mapper(s, h, events));
                self.world.add_host(above, link, &addrs, echo)
            }
            Kind::Steady => {
                let steady = Steady::new(self.pace(s, h, o.every));
                self.world.add_host(above, link, &addrs, steady)
            }
            Kind::Flood => {
                let every = Duration::from_secs(1) / o.flows.max(1);
                let flood = Flood::new(self.pace(s, h, every));
                self.world.add_host(above, link, &addrs, flood)
            }
            Kind::Rendezvous => {
                let server = Rendezvous::new(own, introductions(s, &h.name)).lead(o.lead);
                self.world.add_host(above, link, &addrs, server)
            }
            Kind::UdpPunch | Kind::TcpPunch => {
                let via = o.via.as_deref().unwrap_or_default();
                let (local, rendezvous) = self.ends((&h.name, h.port()), (via, port_of(s, via)));
                let config = EndConfig {
                    name: end_name(s, via, &h.name),
                    local,
                    rendezvous,
                    advertised: self.advertised(h, local),
                };
                if h.kind == Kind::UdpPunch {
                    let end = match o.keepalive {
                        Some(every) => {
                            let peer = o.to.as_deref().unwrap_or_default();
                            let peer = s.hosts.iter().find(|h| h.name == peer);
                            let theirs = peer.and_then(|h| h.options.keepalive);
                            UdpEnd::new(config).keepalive(every, theirs.unwrap_or(every))
                        }
                        None => UdpEnd::new(config),
                    };
                    self.world.add_host(above, link, &addrs, end)
                } else {
                    self.world
                        .add_host(above, link, &addrs, TcpEnd::new(config))
                }
            }
            Kind::Tracker => engines::add_tracker(self, h, above, link),
            Kind::Stun => {
                let server = services::stun(self, h);
                self.world.add_host(above, link, &addrs, server)
            }
            Kind::StunClient => {
                let to = o.to.as_deref().unwrap_or_default();
                let (local, server) = self.ends((&h.name, h.port()), (to, port_of(s, to)));
                let client = StunClient::new(local, server);
                self.world.add_host(above, link, &addrs, client)
            }
            Kind::Dns => {
                let server = services::dns(self, h);
                self.world.add_host(above, link, &addrs, server)
            }
            Kind::Dht => {
                let node = services::dht(self, s, h);
                self.world.add_host(above, link, &addrs, node)
            }
            Kind::EngineSeed | Kind::EngineLeech => {
                let shared = self.shared.clone();
                let shared = shared.expect("a scenario with engines has a torrent");
                engines::add(self, s, h, above, link, &shared)
            }
        }
    }

    /// The port mappings that events make a host ask for.
    fn mapper(&self, s: &Scenario, h: &Host, events: &[Event]) -> Mapper {
        let v4 = |name: &str| self.plan.of(name).iter().find(|ip| ip.is_ipv4()).copied();
        let of_host = events.iter().filter_map(|e| match &e.action {
            Action::Map {
                host,
                client,
                wanted,
            } if *host == h.name => Some(PlannedMapping {
                at: at(e.at),
                local: v4(host)?,
                gateway: s.gateway_of(host)?.1,
                wanted: *wanted,
                client: v4(client)?,
            }),
            _ => None,
        });
        Mapper::new(of_host.collect())
    }

    /// The address that an end tells beside the one that the rendezvous sees.
    fn advertised(&self, h: &Host, local: SocketAddr) -> Option<SocketAddr> {
        let tells = match h.options.advertise {
            Advertise::Always => true,
            Advertise::Never => false,
            Advertise::Useful => {
                let to = h.options.to.as_deref().unwrap_or_default();
                self.plan.is_hidden(&h.name, &local.ip())
                    && self.plan.between(to, &h.name).is_some()
            }
        };
        tells.then_some(local)
    }

    /// The datagrams that events make a host send.
    fn sends(&self, h: &Host, events: &[Event]) -> Vec<Planned> {
        let of_host = events.iter().filter_map(|e| match &e.action {
            Action::Send {
                from,
                port,
                to,
                to_port,
                size,
            } if *from == h.name => {
                let (from, to) = self.ends((from, *port), (to, *to_port));
                Some(Planned {
                    at: at(e.at),
                    from,
                    to,
                    size: *size,
                })
            }
            _ => None,
        });
        of_host.collect()
    }
}

fn port_of(s: &Scenario, name: &str) -> u16 {
    let host = s.hosts.iter().find(|h| h.name == name);
    host.map_or(0, Host::port)
}

/// The hosts that meet through a rendezvous server, in the order of the file.
fn ends<'a>(s: &'a Scenario, via: &'a str) -> impl Iterator<Item = &'a Host> {
    let of_server = move |h: &&Host| h.options.via.as_deref() == Some(via);
    s.hosts.iter().filter(of_server)
}

/// The name by which the server knows an end.
fn end_name(s: &Scenario, via: &str, name: &str) -> u8 {
    let place = ends(s, via).position(|h| h.name == name);
    place.and_then(|n| u8::try_from(n).ok()).unwrap_or(u8::MAX)
}

/// Introduces to each end the one that it wants to connect to.
fn introductions(s: &Scenario, server: &str) -> Vec<Introduction> {
    let wanted = |h: &Host| Introduction {
        to: end_name(s, server, &h.name),
        about: end_name(s, server, h.options.to.as_deref().unwrap_or_default()),
        after: h.options.told_after,
    };
    ends(s, server).map(wanted).collect()
}
