//! Rules that a firewall is given, in their order.

use crate::packet::{Flow, Proto};

/// A rule of a firewall. A packet that belongs to no known flow is decided by the first rule that
/// fits it; without one, by the rest of the configuration. A packet of a known flow passes, except
/// when a stateless rule says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallRule {
    /// What happens to the packet.
    pub action: RuleAction,
    /// The way of the packet.
    pub way: Way,
    /// The protocol; `None` for any.
    pub proto: Option<Proto>,
    /// The ranges of the receiver's port; any when empty. ICMP has no ports.
    pub to: Vec<(u16, u16)>,
    /// The ranges of the sender's port; any when empty.
    pub from: Vec<(u16, u16)>,
    /// The rule looks at each packet by itself, before the table of flows, and makes no flow.
    pub stateless: bool,
}

/// What a rule does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleAction {
    /// The packet passes, and begins a flow unless the rule is stateless.
    Allow,
    /// The packet is dropped.
    Drop,
    /// The packet is dropped, and its sender is told: by a reset for TCP, and by an ICMP error
    /// otherwise.
    Reject,
}

/// The way of packets through a firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From inside.
    Out,
    /// From outside.
    In,
    /// Both.
    Both,
}

impl FirewallRule {
    /// Returns `true` when the rule is about this packet.
    pub(super) fn fits(&self, flow: &Flow, out: bool) -> bool {
        let among = |ranges: &[(u16, u16)], port: u16| {
            ranges.is_empty()
                || ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&port))
        };
        let way = match self.way {
            Way::Out => out,
            Way::In => !out,
            Way::Both => true,
        };
        let ports = flow.proto == Proto::Icmp && self.to.is_empty() && self.from.is_empty()
            || flow.proto != Proto::Icmp
                && among(&self.to, flow.dst.port())
                && among(&self.from, flow.src.port());
        way && self.proto.is_none_or(|proto| proto == flow.proto) && ports
    }
}
