//! The configuration of a firewall (RFC 6092).

use std::time::Duration;

use super::rules::FirewallRule;
use crate::middlebox::{
    conntrack::Timeouts,
    nat::{Filtering, UnsolicitedSyn},
};

/// The destination ports that may be reached from inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Every port.
    All,
    /// Only these ports. An empty list blocks the protocol.
    Only(Vec<u16>),
}

impl Ports {
    /// Returns `true` when `port` may be reached.
    #[must_use]
    pub fn allow(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Only(some) => some.contains(&port),
        }
    }
}

/// The packets that a firewall filters and keeps state for. Others pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 and IPv6.
    Both,
    /// IPv6 only; a NAT decides about IPv4.
    V6,
}

/// A stateful firewall. Presets are in [`super::presets`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallConfig {
    /// The address families that are filtered.
    pub families: Families,
    /// Anybody may send to the inside. Otherwise only remotes that [`Filtering`] lets answer may.
    pub open: bool,
    /// Which remotes may answer a flow from inside (RFC 6092 REC-16 and REC-33).
    pub filtering: Filtering,
    /// UDP ports that may be reached from inside.
    pub udp_out: Ports,
    /// TCP ports that may be reached from inside.
    pub tcp_out: Ports,
    /// Rules that come before all of this, in their order.
    pub rules: Vec<FirewallRule>,
    /// How an unsolicited SYN is answered (RFC 6092 REC-34).
    pub unsolicited_syn: UnsolicitedSyn,
    /// Echo requests from outside are let in.
    pub echo_in: bool,
    /// ICMP errors about a known flow pass (RFC 6092 REC-10 and REC-18).
    pub icmp_errors: bool,
    /// TCP segments outside the windows of their connection are dropped. Otherwise sequence numbers
    /// are ignored.
    pub tcp_windows: bool,
    /// The lifetimes of flows.
    pub timeouts: Timeouts,
    /// The most flows in the table; further ones are dropped.
    pub max_entries: u32,
    /// The most pinholes.
    pub max_pinholes: u32,
    /// The longest lifetime of a pinhole.
    pub max_lease: Duration,
}
