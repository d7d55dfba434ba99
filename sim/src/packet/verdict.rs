//! What a box decides about a packet, and the rule by which it decided, which `explain` names.

use crate::packet::Packet;

/// What a box decided about a packet. The packet itself was rewritten in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The packet goes on to the other side.
    Pass(Rule),
    /// The packet goes back to the side from which it came (RFC 4787 §6).
    Hairpin(Rule),
    /// The packet is for the box itself.
    Local(Rule),
    /// The packet is a fragment that the box keeps until its datagram is complete. The verdict on
    /// the last fragment to arrive is that on the datagram.
    Hold(Rule),
    /// The packet is dropped.
    Drop(Rule),
    /// The packet is dropped, and this one goes back to its sender.
    Answer(Rule, Box<Packet>),
}

impl Verdict {
    /// The rule that decided.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        match self {
            Self::Pass(rule)
            | Self::Hairpin(rule)
            | Self::Local(rule)
            | Self::Hold(rule)
            | Self::Drop(rule)
            | Self::Answer(rule, _) => *rule,
        }
    }
}

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Why a packet was passed, rewritten or dropped, anywhere in the network.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Rule {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its name, as traces and counters have it: `nat.filtered`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What a person should read.
            #[must_use]
            pub const fn explain(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

rules! {
    /// The packet of a known flow was translated.
    NatMapped = "nat.mapped",
    /// A new mapping was created for the flow.
    NatNewMapping = "nat.new-mapping",
    /// A new flow uses an existing mapping.
    NatReusedMapping = "nat.reused-mapping",
    /// The preferred port was taken, so the new mapping has another one.
    NatRemapped = "nat.remapped",
    /// A port mapping that was requested (UPnP, NAT-PMP, PCP) let the packet in.
    NatForwarded = "nat.forwarded",
    /// The packet was for an external endpoint of this NAT and came back in (hairpin).
    NatHairpin = "nat.hairpin",
    /// This NAT does not hairpin packets.
    NatNoHairpin = "nat.no-hairpin",
    /// The external endpoint has no mapping.
    NatNoMapping = "nat.no-mapping",
    /// The mapping exists, but its filtering does not admit this sender.
    NatFiltered = "nat.filtered",
    /// The two endpoints already have a flow through another mapping.
    NatClash = "nat.clash",
    /// The mapping had expired.
    NatExpired = "nat.expired",
    /// The box accepted the packet for itself and created a flow: a mapping that wants this port towards this
    /// sender will get another (the inbound-first collision).
    NatStray = "nat.stray",
    /// The segment belongs to no connection that the NAT knows, and opens none.
    NatTcpState = "nat.tcp-state",
    /// The NAT's table is full.
    NatTableFull = "nat.table-full",
    /// The internal host has reached its limit of flows.
    NatHostLimit = "nat.host-limit",
    /// No external port is free for the flow.
    NatNoPort = "nat.no-port",
    /// The SYN was not solicited.
    NatUnsolicitedSyn = "nat.unsolicited-syn",
    /// The NAT has forgotten the mapping in a restart.
    NatRebooted = "nat.rebooted",
    /// The NAT has forgotten the mapping because its link went down or its address changed.
    NatFlushed = "nat.flushed",
    /// An ICMP error about a known flow was translated.
    NatIcmp = "nat.icmp",
    /// The ICMP message belongs to no flow.
    NatIcmpUnknown = "nat.icmp-unknown",
    /// This NAT does not pass ICMP errors on.
    NatIcmpBlocked = "nat.icmp-blocked",
    /// This NAT does not pass the fragment on.
    NatFragment = "nat.fragment",
    /// This NAT does not pass the protocol on.
    NatProtocol = "nat.protocol",
    /// This NAT does not translate the protocol or family, so the packet passed unchanged.
    NatUntouched = "nat.untouched",
    /// The box keeps the fragment until the rest of its datagram has arrived.
    BoxFragmentHeld = "box.fragment-held",
    /// The fragment does not fit the others of its datagram, or too many wait.
    BoxFragmentBad = "box.fragment-bad",
    /// The packet is for the box itself.
    BoxLocal = "box.local",
    /// The firewall lets this through without regard to state.
    FirewallAllowed = "firewall.allowed",
    /// The firewall knows the flow.
    FirewallEstablished = "firewall.established",
    /// A new flow from inside.
    FirewallNew = "firewall.new",
    /// The firewall does not let in new flows from outside.
    FirewallUnsolicited = "firewall.unsolicited",
    /// The firewall blocks UDP.
    FirewallUdpBlocked = "firewall.udp-blocked",
    /// The firewall does not let out packets to this port.
    FirewallPortBlocked = "firewall.port-blocked",
    /// A rule of the firewall forbids the packet.
    FirewallRule = "firewall.rule",
    /// The firewall's table is full.
    FirewallTableFull = "firewall.table-full",
    /// The router sent the packet on.
    Forwarded = "route.forwarded",
    /// The packet stayed within one network and did not pass the router's box.
    Switched = "route.switched",
    /// The two regions cannot reach each other at this time.
    RegionsParted = "route.parted",
    /// Nobody has this address.
    NoRoute = "route.none",
    /// The hop limit ran out.
    HopLimit = "route.hop-limit",
    /// The link's queue was full.
    LinkQueueFull = "link.queue-full",
    /// The link's queue management (RED, CoDel) dropped the packet to keep the queue short.
    LinkManaged = "link.managed",
    /// The packet was lost on the link by chance.
    LinkLost = "link.lost",
    /// The packet is longer than the link's MTU.
    LinkTooBig = "link.too-big",
    /// The packet is longer than the link's MTU and was split.
    LinkFragmented = "link.fragmented",
    /// The link is cut at this time.
    LinkDown = "link.down",
    /// The link changed a bit of the packet.
    LinkCorrupted = "link.corrupted",
    /// The link delivered the packet twice.
    LinkDuplicated = "link.duplicated",
    /// The link carried the packet.
    LinkCarried = "link.carried",
    /// The packet reached the host.
    Delivered = "host.delivered",
    /// The host is switched off.
    HostOff = "host.off",
    /// A checksum revealed a bit error, so the packet was dropped.
    Checksum = "host.checksum",
    /// A fault that was planted for a test dropped the packet.
    PlantedFault = "fault.planted",
}
