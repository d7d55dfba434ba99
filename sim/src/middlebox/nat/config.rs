//! What a NAT box is like: every property that RFC 4787, RFC 5382 and the field tell apart.

use std::time::Duration;

use crate::middlebox::conntrack::Timeouts;

/// How outgoing flows share an external endpoint (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mapping {
    /// EIM: one external endpoint for one internal endpoint.
    EndpointIndependent,
    /// ADM: one for each remote address.
    AddressDependent,
    /// APDM: one for each remote address and port; "symmetric".
    AddressAndPortDependent,
}

/// Who may answer through an external endpoint (RFC 4787 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filtering {
    /// EIF: anybody.
    EndpointIndependent,
    /// ADF: any port of an address that was sent to.
    AddressDependent,
    /// APDF: an endpoint that was sent to.
    AddressAndPortDependent,
}

/// Which external port a new mapping asks for (RFC 4787 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortPolicy {
    /// The internal one.
    Preserve,
    /// The internal one, or another of the same parity (RFC 4787 §4.2.2).
    PreserveParity,
    /// The last one given plus this; may be negative.
    Sequential(i32),
    /// Any of the range.
    Random,
    /// Random within a block of this size that the internal address has to itself (RFC 7422).
    Block(u16),
    /// Computed from the flow's key, so that a mapping that expired comes back the same.
    Hash,
}

/// What happens when the port that is asked for is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clash {
    /// The next free one.
    Next,
    /// A random free one.
    Random,
    /// It is shared as long as the remote endpoints differ; else a random free one. Linux.
    Overload,
    /// The packet is dropped.
    Drop,
}

/// Whether, and how, a packet from inside to the box's own external endpoint comes back in
/// (RFC 4787 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hairpin {
    /// It does not.
    None,
    /// With the internal endpoint as its sender.
    InternalSource,
    /// With the external endpoint as its sender, as RFC 4787 asks.
    ExternalSource,
}

/// What the box does with packets for itself on the WAN side that nothing maps. A kernel that
/// takes them in remembers them, and may then have to move a mapping that wants the same port:
/// the inbound-first collision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WanInput {
    /// Dropped and forgotten.
    Drop,
    /// Answered with an ICMP error, and forgotten.
    Reject,
    /// Taken in and remembered.
    Accept,
}

/// What becomes of a packet that needs an entry when the table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// It is dropped.
    DropNew,
    /// The entry that was idle longest makes room.
    EvictOldest,
    /// The box restarts and forgets everything.
    Crash,
    /// New flows are dropped, and above this many per mille every packet takes 1 ms more for
    /// each per mille above.
    Slowdown(u16),
}

/// How an unsolicited SYN from outside is met (RFC 5382 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsolicitedSyn {
    /// In silence.
    Drop,
    /// With a reset.
    Reset,
    /// With an ICMP port unreachable.
    Icmp,
    /// With an ICMP error 6 s later, unless a SYN went out meanwhile (RFC 5382 REQ-4).
    DelayedIcmp,
}

/// How external addresses are chosen when there are several (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// One internal host always gets the same.
    Paired,
    /// Any.
    Arbitrary,
}

/// How one transport protocol is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// See [`Mapping`].
    pub mapping: Mapping,
    /// See [`Filtering`].
    pub filtering: Filtering,
    /// See [`PortPolicy`].
    pub ports: PortPolicy,
    /// See [`Clash`].
    pub clash: Clash,
}

/// Echo identifiers are translated as Linux does, whatever the box does with ports.
pub(super) const ECHO: Translation = Translation {
    mapping: Mapping::EndpointIndependent,
    filtering: Filtering::AddressAndPortDependent,
    ports: PortPolicy::Preserve,
    clash: Clash::Overload,
};

/// A NAT box. Presets are in [`super::presets`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// UDP.
    pub udp: Translation,
    /// TCP.
    pub tcp: Translation,
    /// External ports that are given out, ends included. Preserved ports may lie outside.
    pub port_range: (u16, u16),
    /// See [`WanInput`].
    pub wan_input: WanInput,
    /// See [`Timeouts`].
    pub timeouts: Timeouts,
    /// See [`Pooling`].
    pub pooling: Pooling,
    /// See [`Hairpin`].
    pub hairpin: Hairpin,
    /// Most flows in the table.
    pub max_entries: u32,
    /// Most flows of one internal address.
    pub max_per_host: Option<u32>,
    /// See [`Full`].
    pub full: Full,
    /// See [`UnsolicitedSyn`].
    pub unsolicited_syn: UnsolicitedSyn,
    /// ICMP errors about a mapped flow are passed on, translated (RFC 5508).
    pub icmp_errors: bool,
    /// Fragments are passed on (RFC 4787 REQ-14).
    pub fragments: bool,
    /// A TCP segment from inside that opens nothing and belongs to no known connection is taken
    /// for one of a connection that was forgotten, as Linux does; else it is dropped.
    pub tcp_loose: bool,
    /// TCP segments outside the windows of their connection are dropped, as Linux does; else
    /// sequence numbers are not looked at.
    pub tcp_windows: bool,
    /// An application-level gateway rewrites addresses in payloads that equal the sender's own.
    pub alg: bool,
    /// Takes a hop from the TTL.
    pub decrement_ttl: bool,
    /// How long a restart takes; meanwhile nothing passes.
    pub boot: Duration,
    /// A defect, for tests of what finds defects.
    pub fault: Option<Fault>,
}

/// A defect that is planted on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One mapping is forgotten, once. What came in by it until then is dropped with
    /// [`crate::packet::verdict::Rule::PlantedFault`].
    ForgetMapping {
        /// Which one, counted from 1 in the order in which they are made.
        nth: u32,
        /// How old it becomes.
        after: Duration,
    },
}
