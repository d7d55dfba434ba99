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
    /// A flow that the NAT knows was translated.
    NatMapped = "nat.mapped",
    /// A new mapping was made for it.
    NatNewMapping = "nat.new-mapping",
    /// A new flow uses a mapping that exists.
    NatReusedMapping = "nat.reused-mapping",
    /// The port that it asked for was taken; it got another.
    NatRemapped = "nat.remapped",
    /// A port mapping that was asked for (UPnP, NAT-PMP, PCP) led it in.
    NatForwarded = "nat.forwarded",
    /// Sent back in by its external endpoint (hairpin).
    NatHairpin = "nat.hairpin",
    /// This NAT does not send packets back in (no hairpin).
    NatNoHairpin = "nat.no-hairpin",
    /// Nothing maps the external endpoint that it is for.
    NatNoMapping = "nat.no-mapping",
    /// The mapping exists, but its filtering does not let this sender in.
    NatFiltered = "nat.filtered",
    /// The two endpoints speak through another mapping already.
    NatClash = "nat.clash",
    /// The mapping had expired.
    NatExpired = "nat.expired",
    /// Taken for the box itself and remembered: a mapping that wants this port towards this
    /// sender will get another (the inbound-first collision).
    NatStray = "nat.stray",
    /// The segment belongs to no connection that the NAT knows, and opens none.
    NatTcpState = "nat.tcp-state",
    /// The NAT's table is full.
    NatTableFull = "nat.table-full",
    /// The internal host has as many flows as one host may have.
    NatHostLimit = "nat.host-limit",
    /// No external port is free for it.
    NatNoPort = "nat.no-port",
    /// An unsolicited SYN.
    NatUnsolicitedSyn = "nat.unsolicited-syn",
    /// The NAT restarted and forgot it.
    NatRebooted = "nat.rebooted",
    /// An ICMP error about a flow that is mapped.
    NatIcmp = "nat.icmp",
    /// An ICMP message that belongs to no flow.
    NatIcmpUnknown = "nat.icmp-unknown",
    /// ICMP errors are not passed on by this NAT.
    NatIcmpBlocked = "nat.icmp-blocked",
    /// A fragment, which this NAT does not pass.
    NatFragment = "nat.fragment",
    /// A protocol or family that this NAT does not translate: passed as it is.
    NatUntouched = "nat.untouched",
    /// For the box itself.
    BoxLocal = "box.local",
    /// The firewall lets this through without regard to state.
    FirewallAllowed = "firewall.allowed",
    /// The firewall knows the flow.
    FirewallEstablished = "firewall.established",
    /// A new flow from inside.
    FirewallNew = "firewall.new",
    /// A new flow from outside, which the firewall does not let in.
    FirewallUnsolicited = "firewall.unsolicited",
    /// UDP is blocked.
    FirewallUdpBlocked = "firewall.udp-blocked",
    /// The port is not among those that are allowed out.
    FirewallPortBlocked = "firewall.port-blocked",
    /// The firewall's table is full.
    FirewallTableFull = "firewall.table-full",
    /// Sent on by a router.
    Forwarded = "route.forwarded",
    /// Handed on within one network, past the box of its router.
    Switched = "route.switched",
    /// The two regions cannot reach one another at this time.
    RegionsParted = "route.parted",
    /// Nobody has this address.
    NoRoute = "route.none",
    /// The hop limit ran out.
    HopLimit = "route.hop-limit",
    /// The link's queue was full.
    LinkQueueFull = "link.queue-full",
    /// Lost on the link, by chance.
    LinkLost = "link.lost",
    /// Longer than the link carries.
    LinkTooBig = "link.too-big",
    /// Longer than the link carries, and split.
    LinkFragmented = "link.fragmented",
    /// The link is cut at this time.
    LinkDown = "link.down",
    /// A bit was changed on the link.
    LinkCorrupted = "link.corrupted",
    /// The link delivered it twice.
    LinkDuplicated = "link.duplicated",
    /// Carried by the link.
    LinkCarried = "link.carried",
    /// Reached the host.
    Delivered = "host.delivered",
    /// The host is switched off.
    HostOff = "host.off",
    /// A bit error was found by a checksum, and the packet dropped.
    Checksum = "host.checksum",
    /// A fault that was planted for a test dropped it.
    PlantedFault = "fault.planted",
}
