//! Gateways in scenarios: their addresses, and the mappings that events ask for.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::Scenario;
use crate::packet::Proto;

/// The protocol by which a host asks for a port mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Using {
    /// UPnP: a call of `AddPortMapping`, without a search before.
    Upnp,
    /// NAT-PMP.
    NatPmp,
    /// PCP.
    Pcp,
}

/// A port mapping that a host asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedMapping {
    /// The protocol by which it asks.
    pub using: Using,
    /// The transport, UDP or TCP.
    pub proto: Proto,
    /// The port inside.
    pub port: u16,
    /// The port outside.
    pub external: u16,
    /// The lease.
    pub lease: Duration,
}

/// The inner address of the gateway of the router with this number, unless the scenario gives one. No
/// address of a host is chosen like this.
pub(crate) const fn chosen(router: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, (router % 250) as u8, 0, 1))
}

impl Scenario {
    /// The router whose gateway a host asks, with its inner address: the nearest one above it that
    /// has a gateway.
    pub(crate) fn gateway_of(&self, host: &str) -> Option<(&str, IpAddr)> {
        let host = self.hosts.iter().find(|h| h.name == host)?;
        let mut above = host.behind.as_deref();
        while let Some(name) = above {
            let (n, router) = (self.routers.iter().enumerate()).find(|(_, r)| r.name == name)?;
            if router.gateway.is_some() {
                return Some((name, router.gateway_address.unwrap_or_else(|| chosen(n))));
            }
            // Nothing is asked beyond a NAT.
            if router.nat.is_some() {
                return None;
            }
            above = router.behind.as_deref();
        }
        None
    }
}
