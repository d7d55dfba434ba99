//! What stands between two links: a NAT, a firewall, both or neither, and what the box itself
//! offers to its own side.

use std::net::IpAddr;

use crate::{firewall::FirewallConfig, nat::NatConfig};

/// A version of UPnP's internet gateway device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Igd {
    /// WANIPConnection:1: leases may be refused, a taken port is an error.
    V1,
    /// WANIPConnection:2: leases are mandatory, `AddAnyPortMapping` finds a free port.
    V2,
}

/// What the box offers to the machines on its inner side: the place of the port-mapping
/// protocols. All off by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayConfig {
    /// The box's own address on its inner side. What is sent there is
    /// [`Verdict::Local`](crate::Verdict::Local).
    pub lan: Option<IpAddr>,
    /// UPnP IGD.
    pub upnp: Option<Igd>,
    /// NAT-PMP (RFC 6886).
    pub nat_pmp: bool,
    /// PCP (RFC 6887).
    pub pcp: bool,
}

/// A box: what a router of the network's tree is configured with. By default it only routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoxConfig {
    /// Translates IPv4, if there.
    pub nat: Option<NatConfig>,
    /// Filters, if there.
    pub firewall: Option<FirewallConfig>,
    /// See [`GatewayConfig`].
    pub gateway: GatewayConfig,
}
