//! Devices of the tree and what routers know.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use dunlin_core::Instant;
use rustc_hash::FxBuildHasher;

use super::machine::Machine;
use crate::{
    id::DeviceId,
    link::{Line, region::Region},
    middlebox::{BoxConfig, Middlebox},
};

/// Errors that a router sends in a second (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)).
pub(super) const ERRORS_PER_SECOND: u32 = 100;

pub(super) struct Device {
    pub(super) parent: u32,
    /// Its link's configuration, see `World::links`.
    pub(super) link: u32,
    pub(super) up: Line,
    pub(super) down: Line,
    pub(super) key: u64,
    pub(super) name: Option<Box<str>>,
    /// Packets that it made.
    pub(super) sent: u32,
    /// Children without an address.
    pub(super) nameless: u32,
    /// Its capture, see `World::captures`.
    pub(super) capture: Option<u32>,
    pub(super) region: Region,
    /// Its link is cut.
    pub(super) cut: bool,
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
            key,
            name: None,
            sent: 0,
            nameless: 0,
            capture: None,
            region: Region::default(),
            cut: false,
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
    /// Which child leads to an address. Looked up, never iterated.
    pub(super) routes: HashMap<u128, u32, FxBuildHasher>,
    pub(super) children: Vec<u32>,
    pub(super) wan: Vec<IpAddr>,
    pub(super) lan: Option<IpAddr>,
    pub(super) gateway: Option<Machine>,
    pub(super) middlebox: Option<Middlebox>,
    /// When the box's one timer that counts is planned.
    pub(super) planned: Option<Instant>,
    /// ICMP errors that it may still send, and since when.
    pub(super) errors: (u32, Instant),
}

impl Router {
    pub(super) fn new(wan: &[IpAddr]) -> Self {
        Self {
            routes: HashMap::default(),
            children: Vec::new(),
            wan: wan.to_vec(),
            lan: None,
            gateway: None,
            middlebox: None,
            planned: None,
            errors: (ERRORS_PER_SECOND, Instant::ORIGIN),
        }
    }

    pub(super) fn with_box(config: BoxConfig, wan: &[IpAddr], seed: u64) -> Self {
        let mut router = Self::new(wan);
        router.lan = config.gateway.lan;
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

    /// Whether a packet of this family is translated.
    pub(super) fn translates(&self, v4: bool) -> bool {
        v4 && self.middlebox.as_ref().is_some_and(|b| b.nat().is_some())
    }

    /// Whether what is above must not know `addr`, which is below: a NAT translates it, or it
    /// means something on one link alone.
    pub(super) fn hides(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => self.translates(true) || addr.is_link_local(),
            IpAddr::V6(addr) => addr.is_unicast_link_local(),
        }
    }

    /// Whether what it does with a packet depends on others.
    pub(super) fn has_state(&self) -> bool {
        self.middlebox.is_some() || self.gateway.is_some()
    }

    /// Whether `addr` is the router's own.
    pub(super) fn owns(&self, addr: IpAddr) -> bool {
        self.lan == Some(addr) || self.wan.contains(&addr)
    }
}

/// An address as the key of a table, both families in one space.
pub(super) fn route_key(addr: IpAddr) -> u128 {
    match addr {
        // What RFC 4291 §2.5.5.2 maps IPv4 to; never on a wire.
        IpAddr::V4(addr) => 0xffff_0000_0000 | u128::from(u32::from(addr)),
        IpAddr::V6(addr) => u128::from(addr),
    }
}

/// Whether a packet to `addr` is for many: multicast, or IPv4's limited broadcast.
pub(super) fn is_for_many(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_multicast() || addr.is_broadcast(),
        IpAddr::V6(addr) => addr.is_multicast(),
    }
}

/// Whether `addr` can be an answer's receiver.
pub(super) fn is_answerable(addr: IpAddr) -> bool {
    !addr.is_unspecified() && !addr.is_loopback() && !is_for_many(addr)
}
