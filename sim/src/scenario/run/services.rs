//! Servers of a scenario, and nodes of its DHT.

use std::net::SocketAddr;

use dunlin_core::{
    Cx, Instant,
    dht::{Dht, DhtConfig},
};

use super::built::Built;
use crate::{
    host::{
        light::Light,
        service::{Dns, DnsAnswer, StunServer},
    },
    rng::SimRng,
    scenario::model::{Host, NameAnswer, Scenario},
    world::trace,
};

/// Separates the random numbers of nodes' tables from everything else that is derived from the
/// seed.
const PART: u64 = 0x6468_7420;

/// A STUN server on the first two addresses of one version, or on one.
pub(super) fn stun(built: &Built, h: &Host) -> StunServer {
    let addrs = built.plan.of(&h.name);
    // The plan gives every host an address.
    let first = addrs[0];
    let other = (addrs[1..].iter()).find(|a| a.is_ipv4() == first.is_ipv4());
    StunServer::new([first, *other.unwrap_or(&first)]).on(h.port())
}

/// A name server.
pub(super) fn dns(built: &Built, h: &Host) -> Dns {
    let entries = h.options.names.iter();
    entries.fold(Dns::default(), |dns, entry| {
        let answer = match &entry.answer {
            NameAnswer::Node(node) => DnsAnswer::Addresses(built.plan.of(node).to_vec()),
            NameAnswer::Other(answer) => answer.clone(),
        };
        dns.with(&entry.name, answer)
    })
}

/// The nodes from which a host joins the DHT.
pub(super) fn bootstrap<'a>(
    built: &'a Built,
    s: &'a Scenario,
    h: &'a Host,
) -> impl Iterator<Item = SocketAddr> + 'a {
    let nodes = h.options.bootstrap.iter();
    nodes.filter_map(|name| {
        let port = s.hosts.iter().find(|o| o.name == *name).map(Host::port)?;
        let (_, ip) = built.plan.between(&h.name, name)?;
        Some(SocketAddr::new(ip, port))
    })
}

/// A node of the DHT, which joins it at the start.
pub(super) fn dht(built: &Built, s: &Scenario, h: &Host) -> Light<Dht> {
    let addrs = built.plan.of(&h.name);
    let of_version = |v4: bool| addrs.iter().find(|a| a.is_ipv4() == v4);
    let config = DhtConfig {
        ipv4: of_version(true).is_some(),
        ipv6: of_version(false).is_some(),
        ..DhtConfig::default()
    };
    // The name is the key, so that adding a host does not change another host's node.
    let name = trace::digest(h.name.as_bytes());
    let mut rng = SimRng::part(built.world.seed() ^ PART, name);
    let mut cx = Cx {
        now: Instant::ORIGIN,
        rng: &mut rng,
    };
    let mut dht = Dht::new(&mut cx, config);
    dht.start(&mut cx, h.port());
    for node in bootstrap(built, s, h) {
        dht.add_contact(&mut cx, node);
    }
    let mut own = [true, false].into_iter().filter_map(of_version);
    // The plan gives every host an address.
    let first = own.next().unwrap_or(&addrs[0]);
    let light = Light::new(dht, (*first, h.port()).into());
    match own.next() {
        Some(second) => light.and((*second, h.port()).into()),
        None => light,
    }
}
