//! The configuration of a NAT: every property that RFC 4787, RFC 5382 and observed devices
//! distinguish.

use std::time::Duration;

use crate::middlebox::conntrack::Timeouts;

/// How outgoing flows share an external endpoint (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mapping {
    /// EIM: one external endpoint for each internal endpoint.
    EndpointIndependent,
    /// ADM: one external endpoint for each internal endpoint and remote address.
    AddressDependent,
    /// APDM, also called symmetric: one external endpoint for each internal and remote endpoint.
    AddressAndPortDependent,
}

/// Which remotes may send through an external endpoint (RFC 4787 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filtering {
    /// EIF: any remote.
    EndpointIndependent,
    /// ADF: any port of an address that was sent to.
    AddressDependent,
    /// APDF: only endpoints that were sent to.
    AddressAndPortDependent,
}

/// The external port that a new mapping asks for (RFC 4787 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortPolicy {
    /// The internal port.
    Preserve,
    /// The internal port, or another of the same parity (RFC 4787 §4.2.2).
    PreserveParity,
    /// The port given out last plus this number, which may be negative.
    Sequential(i32),
    /// A random port of the range.
    Random,
    /// A random port of the block of this size that belongs to the internal address (RFC 7422).
    Block(u16),
    /// Computed from the flow's key, so that a mapping that expired gets the same port again.
    Hash,
}

/// What happens when the port that a mapping asks for is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clash {
    /// The mapping gets the next free port.
    Next,
    /// The mapping gets a random free port.
    Random,
    /// The port is shared as long as the remote endpoints differ, and otherwise the mapping gets a
    /// random free port, as on Linux.
    Overload,
    /// The port is shared as long as the remote endpoints differ, and otherwise the packet is dropped,
    /// as in pf with `static-port`.
    Drop,
}

/// Whether and how a packet from inside to one of the box's own external endpoints comes back in
/// (RFC 4787 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hairpin {
    /// It does not come back.
    None,
    /// It comes back with the internal endpoint as its sender.
    InternalSource,
    /// It comes back with the external endpoint as its sender, as RFC 4787 requires.
    ExternalSource,
}

/// What the box does with packets to its external address for which it has no mapping. A kernel
/// that accepts them creates flows for them, and may then have to give another port to a mapping
/// that wants the same one: the inbound-first collision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WanInput {
    /// Drops them without a flow.
    Drop,
    /// Answers with an ICMP error, without a flow.
    Reject,
    /// Accepts them and creates a flow.
    Accept,
}

/// What becomes of fragments (RFC 4787 §11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragments {
    /// They are dropped.
    Drop,
    /// Those that follow the first fragment are translated like it, and those that overtake it are
    /// dropped.
    Ordered,
    /// They are put together first, in whatever order they arrive (RFC 4787 REQ-14). The box cuts
    /// the datagram again where its sender had cut it.
    Reassemble,
}

/// What becomes of SCTP, UDP-Lite, GRE and ESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherProtocols {
    /// They are dropped.
    Drop,
    /// They are translated by their addresses alone, so that one host inside may talk to a remote
    /// address by each of them.
    Addresses,
    /// As on Linux: SCTP is translated by its ports like UDP, GRE and ESP by their addresses, and
    /// UDP-Lite is dropped. (Linux 6.18 means to translate it, but takes every right checksum of
    /// it for a wrong one, because it computes that of UDP.)
    Ports,
}

/// What happens to a packet that needs a flow when the table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// It is dropped.
    DropNew,
    /// The flow that has been idle longest is removed.
    EvictOldest,
    /// The box restarts and forgets everything.
    Crash,
    /// New flows are dropped. Above this fill in per mille, every packet takes 1 ms longer for each
    /// per mille.
    Slowdown(u16),
}

/// How an unsolicited SYN from outside is answered (RFC 5382 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsolicitedSyn {
    /// Not at all.
    Drop,
    /// With a reset.
    Reset,
    /// With an ICMP port unreachable.
    Icmp,
    /// With an ICMP error after 6 s, unless a SYN went out in the meantime (RFC 5382 REQ-4).
    DelayedIcmp,
}

/// How an external address is chosen when there are several (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// An internal host always gets the same one.
    Paired,
    /// Any address.
    Arbitrary,
}

/// The translation of one transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// How external endpoints are shared.
    pub mapping: Mapping,
    /// Which remotes may send in.
    pub filtering: Filtering,
    /// The port that is asked for.
    pub ports: PortPolicy,
    /// What happens when that port is taken.
    pub clash: Clash,
}

/// The translation of ICMP identifiers, which is that of Linux in every box.
pub(super) const QUERIES: Translation = Translation {
    mapping: Mapping::EndpointIndependent,
    filtering: Filtering::AddressAndPortDependent,
    ports: PortPolicy::Preserve,
    clash: Clash::Overload,
};

/// The translation of protocols that have no ports, or whose ports are not looked at.
pub(super) const ADDRESSES: Translation = Translation {
    mapping: Mapping::EndpointIndependent,
    filtering: Filtering::AddressAndPortDependent,
    ports: PortPolicy::Preserve,
    clash: Clash::Drop,
};

/// A NAT. Presets are in [`super::presets`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// The translation of UDP.
    pub udp: Translation,
    /// The translation of TCP.
    pub tcp: Translation,
    /// The external ports that are given out, both ends included. Preserved ports may lie outside.
    pub port_range: (u16, u16),
    /// A port below 1024 that clashes is replaced by another one below: of 1 to 511 by one of these,
    /// of 512 to 1023 by one of 600 to 1023, as on Linux (RFC 4787 REQ-3 a).
    pub low_ports_stay: bool,
    /// What happens to packets from outside for the box itself.
    pub wan_input: WanInput,
    /// What happens to packets from inside for the box's external address that do not come back in.
    pub lan_input: WanInput,
    /// The lifetimes of flows.
    pub timeouts: Timeouts,
    /// How external addresses are chosen.
    pub pooling: Pooling,
    /// Whether packets between two hosts inside can use external endpoints.
    pub hairpin: Hairpin,
    /// The most flows in the table.
    pub max_entries: u32,
    /// The most flows of one internal address.
    pub max_per_host: Option<u32>,
    /// What happens when the table is full.
    pub full: Full,
    /// How an unsolicited SYN is answered.
    pub unsolicited_syn: UnsolicitedSyn,
    /// ICMP errors about a known flow are translated and passed on (RFC 5508).
    pub icmp_errors: bool,
    /// What becomes of fragments.
    pub fragments: Fragments,
    /// What becomes of protocols other than UDP, TCP and ICMP.
    pub other_protocols: OtherProtocols,
    /// A TCP segment from the inside that belongs to no known flow, and is not a SYN, begins a
    /// flow, as on Linux. Otherwise it is dropped.
    pub tcp_loose: bool,
    /// TCP segments outside the windows of their connection are dropped, as on Linux. Otherwise
    /// sequence numbers are ignored.
    pub tcp_windows: bool,
    /// An application-level gateway rewrites the sender's own address in payloads.
    pub alg: bool,
    /// Decrements the TTL.
    pub decrement_ttl: bool,
    /// How long a restart takes. Nothing passes until then.
    pub boot: Duration,
    /// A defect, for tests of the tools that find defects.
    pub fault: Option<Fault>,
}

/// A defect that is planted on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One mapping is forgotten, once. Packets that came in through it until then are dropped with
    /// [`Rule::PlantedFault`](crate::packet::verdict::Rule::PlantedFault).
    ForgetMapping {
        /// The number of the mapping, counted from 1 in the order of creation.
        nth: u32,
        /// The age at which it is forgotten.
        after: Duration,
    },
}
