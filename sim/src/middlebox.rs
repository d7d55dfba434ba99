//! What stands between two links: a NAT, a firewall, both or neither, and what the box itself
//! offers to its own side.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use dunlin_core::Instant;

use crate::{
    Packet, Rule, Verdict,
    firewall::FirewallConfig,
    nat::{Nat, NatConfig},
};

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

/// A box at work.
#[derive(Clone, Debug)]
pub struct Middlebox {
    nat: Option<Nat>,
    gateway: GatewayConfig,
}

impl Middlebox {
    /// A box with these external IPv4 addresses, which only a NAT needs.
    ///
    /// # Panics
    /// As [`Nat::new`].
    #[must_use]
    pub fn new(config: BoxConfig, public: &[Ipv4Addr], seed: u64) -> Self {
        Self {
            nat: config.nat.map(|nat| Nat::new(nat, public, seed)),
            gateway: config.gateway,
        }
    }

    /// A packet from its inner side.
    pub fn outbound(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        if self.gateway.lan == Some(packet.flow().dst.ip()) {
            return Verdict::Local(Rule::BoxLocal);
        }
        match &mut self.nat {
            Some(nat) => nat.outbound(now, packet),
            None => Verdict::Pass(Rule::NatUntouched),
        }
    }

    /// A packet from its outer side.
    pub fn inbound(&mut self, now: Instant, packet: &mut Packet) -> Verdict {
        match &mut self.nat {
            Some(nat) => nat.inbound(now, packet),
            None => Verdict::Pass(Rule::NatUntouched),
        }
    }

    /// Its NAT, for looking at and for port mappings.
    #[must_use]
    pub const fn nat(&self) -> Option<&Nat> {
        self.nat.as_ref()
    }

    /// As [`Middlebox::nat`].
    pub const fn nat_mut(&mut self) -> Option<&mut Nat> {
        self.nat.as_mut()
    }

    /// Restarts it.
    pub fn reboot(&mut self, now: Instant) {
        if let Some(nat) = &mut self.nat {
            nat.reboot(now);
        }
    }

    /// How much longer each packet takes now; see [`crate::nat::Full::Slowdown`].
    #[must_use]
    pub fn penalty(&self) -> Duration {
        self.nat.as_ref().map_or(Duration::ZERO, Nat::penalty)
    }
}
