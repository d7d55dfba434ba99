//! What a firewall is like (RFC 6092).

use std::time::Duration;

use crate::middlebox::{
    conntrack::Timeouts,
    nat::{Filtering, UnsolicitedSyn},
};

/// Which destination ports may be reached from inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// All.
    All,
    /// These. With none, the protocol is blocked.
    Only(Vec<u16>),
}

impl Ports {
    /// Whether `port` is among them.
    #[must_use]
    pub fn allow(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Only(some) => some.contains(&port),
        }
    }
}

/// Which packets a firewall keeps state for and filters; others pass by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 and IPv6.
    Both,
    /// IPv6 alone: what IPv4 lets in is the NAT's affair.
    V6,
}

/// A stateful firewall. Presets are in [`super::presets`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallConfig {
    /// See [`Families`].
    pub families: Families,
    /// Who may send in without having been asked: nobody but those whom [`Filtering`] lets
    /// answer, or with `true` everybody.
    pub open: bool,
    /// Who may answer a flow from inside (RFC 6092 REC-16 and REC-33).
    pub filtering: Filtering,
    /// UDP ports that may be reached from inside.
    pub udp_out: Ports,
    /// TCP ports that may be reached from inside.
    pub tcp_out: Ports,
    /// How an unsolicited SYN is met (RFC 6092 REC-34).
    pub unsolicited_syn: UnsolicitedSyn,
    /// Echo requests from outside are let in.
    pub echo_in: bool,
    /// ICMP errors about a known flow pass (RFC 6092 REC-10 and REC-18).
    pub icmp_errors: bool,
    /// TCP segments outside the windows of their connection are dropped; else sequence numbers
    /// are not looked at.
    pub tcp_windows: bool,
    /// See [`Timeouts`].
    pub timeouts: Timeouts,
    /// Most flows in the table; a new one over it is dropped.
    pub max_entries: u32,
    /// Most pinholes.
    pub max_pinholes: u32,
    /// Longest life of a pinhole.
    pub max_lease: Duration,
}
