//! The devices of the tree, and the routes that routers know.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use dunlin_core::Instant;
use rustc_hash::FxBuildHasher;

use super::{machine::Machine, queues::Queues};
use crate::{
    id::DeviceId,
    link::{Line, region::Region},
    middlebox::{BoxConfig, Middlebox},
};

/// The most errors that a router sends in a second (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)).
pub(super) const ERRORS_PER_SECOND: u32 = 100;

pub(super) struct Device {
    pub(super) parent: u32,
    /// The index of its link's configuration in `World::links`.
    pub(super) link: u32,
    pub(super) up: Line,
    pub(super) down: Line,
    /// The queues of its link, if they keep packets.
    pub(super) queues: Option<Box<Queues>>,
    pub(super) key: u64,
    pub(super) name: Option<Box<str>>,
    /// The number of packets that it made.
    pub(super) sent: u32,
    /// The bytes of these packets.
    pub(super) sent_bytes: u64,
    /// The packets that were delivered to it, and their bytes.
    pub(super) received: (u32, u64),
    /// The number of its children without an address.
    pub(super) nameless: u32,
    /// The index of its capture in `World::captures`.
    pub(super) capture: Option<u32>,
    pub(super) region: Region,
    /// Its link to the parent is cut.
    pub(super) cut: bool,
    /// It knows that its link is cut.
    pub(super) unplugged: bool,
    pub(super) off: bool,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Core(Box<Router>),
    Router(Box<Router>),
    Host(Machine),
}

impl Device {
    pub(super) fn new(parent: u32, link: u32, key: u64, kind: Kind) -> Self {
        Self {
            parent,
            link,
            up: Line::new(key ^ 2),
            down: Line::new(key ^ 3),
            queues: None,
            key,
            name: None,
            sent: 0,
            sent_bytes: 0,
            received: (0, 0),
            nameless: 0,
            capture: None,
            region: Region::default(),
            cut: false,
            unplugged: false,
            off: false,
            kind,
        }
    }

    pub(super) fn label(&self, id: DeviceId) -> String {
        match (&self.name, &self.kind) {
            (Some(name), _) => name.to_string(),
            (None, Kind::Core(_)) => "core".into(),
            (None, Kind::Router(_)) => format!("router{}", id.0),
            (None, Kind::Host(_)) => format!("host{}", id.0),
        }
    }

    pub(super) fn router(&self) -> Option<&Router> {
        match &self.kind {
            Kind::Core(router) | Kind::Router(router) => Some(router),
            Kind::Host(_) => None,
        }
    }

    pub(super) fn router_mut(&mut self) -> Option<&mut Router> {
        match &mut self.kind {
            Kind::Core(router) | Kind::Router(router) => Some(router),
            Kind::Host(_) => None,
        }
    }

    pub(super) fn machine(&self) -> Option<&Machine> {
        match &self.kind {
            Kind::Host(machine) => Some(machine),
            Kind::Core(router) | Kind::Router(router) => router.gateway.as_ref(),
        }
    }

    pub(super) fn machine_mut(&mut self) -> Option<&mut Machine> {
        match &mut self.kind {
            Kind::Host(machine) => Some(machine),
            Kind::Core(router) | Kind::Router(router) => router.gateway.as_mut(),
        }
    }
}

pub(super) struct Router {
    /// The child that leads to an address. The map is never iterated.
    pub(super) routes: HashMap<u128, u32, FxBuildHasher>,
    pub(super) children: Vec<u32>,
    pub(super) wan: Vec<IpAddr>,
    /// Its own addresses on the inner side.
    pub(super) lan: Vec<IpAddr>,
    pub(super) gateway: Option<Machine>,
    pub(super) middlebox: Option<Middlebox>,
    /// When the box's timer that is in force fires.
    pub(super) planned: Option<Instant>,
    /// The ICMP errors that it may still send in the current second, and when that began.
    pub(super) errors: (u32, Instant),
}

impl Router {
    pub(super) fn new(wan: &[IpAddr]) -> Self {
        Self {
            routes: HashMap::default(),
            children: Vec::new(),
            wan: wan.to_vec(),
            lan: Vec::new(),
            gateway: None,
            middlebox: None,
            planned: None,
            errors: (ERRORS_PER_SECOND, Instant::ORIGIN),
        }
    }

    pub(super) fn with_box(config: BoxConfig, wan: &[IpAddr], seed: u64) -> Self {
        let mut router = Self::new(wan);
        router.lan = config.gateway.addresses().collect();
        if config.nat.is_some() || config.firewall.is_some() {
            let v4 = wan.iter().filter_map(|addr| match addr {
                IpAddr::V4(addr) => Some(*addr),
                IpAddr::V6(_) => None,
            });
            let public: Vec<Ipv4Addr> = v4.collect();
            router.middlebox = Some(Middlebox::new(config, &public, seed));
        }
        router
    }

    /// Returns `true` when packets of this family are translated.
    pub(super) fn translates(&self, v4: bool) -> bool {
        v4 && self.middlebox.as_ref().is_some_and(|b| b.nat().is_some())
    }

    /// Returns `true` when routers above must not know `addr`, an address below: a NAT translates
    /// it, or it is valid on one link only.
    pub(super) fn hides(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => self.translates(true) || addr.is_link_local(),
            IpAddr::V6(addr) => addr.is_unicast_link_local(),
        }
    }

    /// Returns `true` when the treatment of a packet depends on other packets.
    pub(super) fn has_state(&self) -> bool {
        self.middlebox.is_some() || self.gateway.is_some()
    }

    /// The address of a translating router in the network of a host inside, where none is
    /// configured: the first one, or the last one if the first is a host's.
    pub(super) fn inner_address(&self, inside: IpAddr) -> Option<IpAddr> {
        let IpAddr::V4(host) = inside else {
            return None;
        };
        let [a, b, c, _] = host.octets();
        let free = |n| {
            Some(IpAddr::from([a, b, c, n])).filter(|a| !self.routes.contains_key(&route_key(*a)))
        };
        self.translates(true)
            .then(|| free(1).or_else(|| free(254)))?
    }

    /// Returns `true` when `addr` is the router's own.
    pub(super) fn owns(&self, addr: IpAddr) -> bool {
        self.lan.contains(&addr) || self.wan.contains(&addr)
    }
}

/// An address as a key, with both families in one space.
pub(super) fn route_key(addr: IpAddr) -> u128 {
    match addr {
        // The IPv4-mapped form of RFC 4291 §2.5.5.2, which is never on a wire.
        IpAddr::V4(addr) => 0xffff_0000_0000 | u128::from(u32::from(addr)),
        IpAddr::V6(addr) => u128::from(addr),
    }
}

/// Returns `true` when packets to `addr` have many receivers: multicast, or IPv4's limited
/// broadcast.
pub(super) fn is_for_many(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_multicast() || addr.is_broadcast(),
        IpAddr::V6(addr) => addr.is_multicast(),
    }
}

/// Returns `true` when an answer can be sent to `addr`.
pub(super) fn is_answerable(addr: IpAddr) -> bool {
    !addr.is_unspecified() && !addr.is_loopback() && !is_for_many(addr)
}
