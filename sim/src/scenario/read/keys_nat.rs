//! The keys that change a NAT preset: every parameter of [`NatConfig`].

use super::keys::{Key, keys};
use crate::{
    middlebox::nat::{
        Clash, Fault, Filtering, Fragments, Full, Hairpin, Mapping, NatConfig, OtherProtocols,
        Pooling, PortPolicy, UnsolicitedSyn, WanInput,
    },
    scenario::syntax::{
        document::Value,
        value::{self, Wrong},
    },
};

/// The additional keys of a `[[router]]` that has a NAT.
pub(crate) const NAT: &[Key<NatConfig>] = keys! {
    "mapping", "EIM, ADM or APDM", "the preset's", "\"EIM\"", "How flows share an external port: endpoint-independent, address-dependent, or address-and-port-dependent (\"symmetric\"). For UDP and TCP."
        => |s, v| { s.udp.mapping = mapping(v)?; s.tcp.mapping = s.udp.mapping };
    "udp-mapping", "EIM, ADM or APDM", "the preset's", "\"ADM\"", "The same for UDP only."
        => |s, v| s.udp.mapping = mapping(v)?;
    "tcp-mapping", "EIM, ADM or APDM", "the preset's", "\"APDM\"", "The same for TCP only."
        => |s, v| s.tcp.mapping = mapping(v)?;
    "filtering", "EIF, ADF or APDF", "the preset's", "\"EIF\"", "Which remotes may send in through a mapping: any, addresses that were sent to, or endpoints that were sent to. For UDP and TCP."
        => |s, v| { s.udp.filtering = filtering(v)?; s.tcp.filtering = s.udp.filtering };
    "udp-filtering", "EIF, ADF or APDF", "the preset's", "\"ADF\"", "The same for UDP only."
        => |s, v| s.udp.filtering = filtering(v)?;
    "tcp-filtering", "EIF, ADF or APDF", "the preset's", "\"APDF\"", "The same for TCP only."
        => |s, v| s.tcp.filtering = filtering(v)?;
    "ports", "preserve, preserve-parity, sequential(step), random, block(size) or hash", "the preset's", "\"sequential(1)\"", "The external port that a new mapping asks for. For UDP and TCP."
        => |s, v| { s.udp.ports = ports(v)?; s.tcp.ports = s.udp.ports };
    "udp-ports", "the same", "the preset's", "\"random\"", "The same for UDP only."
        => |s, v| s.udp.ports = ports(v)?;
    "tcp-ports", "the same", "the preset's", "\"hash\"", "The same for TCP only."
        => |s, v| s.tcp.ports = ports(v)?;
    "clash", "next, random, overload or drop", "the preset's", "\"overload\"", "What happens when that port is taken: the next free one is used, a random one, the same one as long as the remote endpoints differ and else a random one, or the same one as long as they differ and else none. For UDP and TCP."
        => |s, v| { s.udp.clash = clash(v)?; s.tcp.clash = s.udp.clash };
    "udp-clash", "the same", "the preset's", "\"next\"", "The same for UDP only."
        => |s, v| s.udp.clash = clash(v)?;
    "tcp-clash", "the same", "the preset's", "\"drop\"", "The same for TCP only."
        => |s, v| s.tcp.clash = clash(v)?;
    "port-range", "\"low-high\"", "the preset's", "\"1024-65535\"", "The external ports that are given out."
        => |s, v| s.port_range = value::port_range(v)?;
    "low-ports-stay", "true or false", "the preset's", "false", "A port below 1024 that is taken is replaced by another one below."
        => |s, v| s.low_ports_stay = value::switch(v)?;
    "wan-input", "drop, reject or accept", "the preset's", "\"accept\"", "What happens to packets from outside for which there is no mapping. A box that accepts them creates flows for them, and may then have to give another port to a mapping that wants the same one: the inbound-first collision."
        => |s, v| s.wan_input = input(v)?;
    "lan-input", "the same", "the preset's", "\"accept\"", "What happens to packets from inside for the box's own external address that do not come back in: they are dropped, rejected, or answered by the box, which has nothing on its ports."
        => |s, v| s.lan_input = input(v)?;
    "udp-first", "time", "the preset's", "\"30s\"", "The lifetime of a UDP flow that was not answered."
        => |s, v| s.timeouts.udp_first = value::duration(v)?;
    "udp-stream", "time", "the preset's", "\"120s\"", "The lifetime of a UDP flow that was answered."
        => |s, v| s.timeouts.udp_stream = value::duration(v)?;
    "udp-stream-after", "time", "the preset's", "\"2s\"", "The age that a flow needs for `udp-stream` to apply."
        => |s, v| s.timeouts.udp_stream_after = value::duration(v)?;
    "inbound-refresh", "true or false", "the preset's", "true", "Whether packets from outside keep a UDP mapping alive."
        => |s, v| s.timeouts.inbound_refresh = value::switch(v)?;
    "tcp-syn", "time", "the preset's", "\"120s\"", "The lifetime of a TCP connection that is being opened."
        => |s, v| s.timeouts.set_tcp_opening(value::duration(v)?);
    "tcp-syn-received", "time", "the preset's", "\"60s\"", "The same after the SYN was accepted, behind `tcp-syn`."
        => |s, v| s.timeouts.tcp_syn_received = value::duration(v)?;
    "tcp-established", "time", "the preset's", "\"2h\"", "The lifetime of an open TCP connection."
        => |s, v| s.timeouts.tcp_established = value::duration(v)?;
    "tcp-fin", "time", "the preset's", "\"120s\"", "The lifetime of a TCP connection that is being closed."
        => |s, v| s.timeouts.set_tcp_closing(value::duration(v)?);
    "tcp-close-wait", "time", "the preset's", "\"60s\"", "The same after the first FIN was acknowledged, behind `tcp-fin`."
        => |s, v| s.timeouts.tcp_close_wait = value::duration(v)?;
    "tcp-last-ack", "time", "the preset's", "\"30s\"", "The same after both FINs, behind `tcp-fin`."
        => |s, v| s.timeouts.tcp_last_ack = value::duration(v)?;
    "tcp-time-wait", "time", "the preset's", "\"2min\"", "The same after both FINs were acknowledged, behind `tcp-fin`."
        => |s, v| s.timeouts.tcp_time_wait = value::duration(v)?;
    "tcp-stalled", "time", "the preset's", "\"5min\"", "With `tcp-windows`: the longest lifetime of a connection that waits for an acknowledgement, repeats itself, or has closed its window."
        => |s, v| s.timeouts.tcp_stalled = value::duration(v)?;
    "tcp-reset", "time", "the preset's", "\"10s\"", "The lifetime of a TCP connection that was reset."
        => |s, v| s.timeouts.tcp_reset = value::duration(v)?;
    "icmp-timeout", "time", "the preset's", "\"30s\"", "The lifetime of an ICMP echo."
        => |s, v| s.timeouts.icmp = value::duration(v)?;
    "pooling", "paired or arbitrary", "the preset's", "\"paired\"", "Whether an internal host always gets the same external address."
        => |s, v| s.pooling = value::choice(v, &[("paired", Pooling::Paired), ("arbitrary", Pooling::Arbitrary)])?;
    "hairpin", "none, internal-source or external-source", "the preset's", "\"external-source\"", "Whether a packet to the box's own external endpoint comes back in, and with which sender."
        => |s, v| s.hairpin = value::choice(v, &[("none", Hairpin::None), ("internal-source", Hairpin::InternalSource), ("external-source", Hairpin::ExternalSource)])?;
    "max-entries", "whole number", "the preset's", "1024", "The most flows in the table."
        => |s, v| s.max_entries = value::word(v, 1, 16 << 20)?;
    "max-per-host", "whole number or off", "the preset's", "256", "The most flows of one internal host."
        => |s, v| s.max_per_host = if is_off(v) { None } else {
            Some(value::word(v, 1, 16 << 20).map_err(|w| format!("{w}, or \"off\""))?)
        };
    "full", "drop-new, evict-oldest, crash or slowdown(per mille)", "the preset's", "\"evict-oldest\"", "What happens when the table is full: new flows are dropped, the flow that has been idle longest is removed, or the box restarts. `slowdown` drops new flows, and delays all packets when the table is filled above that many thousandths."
        => |s, v| s.full = full(v)?;
    "unsolicited-syn", "drop, reset, icmp or delayed-icmp", "the preset's", "\"reset\"", "How a SYN from outside for which there is no mapping is answered."
        => |s, v| s.unsolicited_syn = value::choice(v, &[("drop", UnsolicitedSyn::Drop), ("reset", UnsolicitedSyn::Reset), ("icmp", UnsolicitedSyn::Icmp), ("delayed-icmp", UnsolicitedSyn::DelayedIcmp)])?;
    "icmp-errors", "true or false", "the preset's", "true", "ICMP errors about a known flow are passed on."
        => |s, v| s.icmp_errors = value::switch(v)?;
    "fragments", "drop, ordered or reassemble", "the preset's", "\"ordered\"", "What becomes of fragments: they are dropped, translated unless they overtake the first, or put together first."
        => |s, v| s.fragments = value::choice(v, &[("drop", Fragments::Drop), ("ordered", Fragments::Ordered), ("reassemble", Fragments::Reassemble)])?;
    "other-protocols", "drop, addresses or ports", "the preset's", "\"drop\"", "What becomes of SCTP, UDP-Lite, GRE and ESP: they are dropped, translated by their addresses, or by their ports where they have some."
        => |s, v| s.other_protocols = value::choice(v, &[("drop", OtherProtocols::Drop), ("addresses", OtherProtocols::Addresses), ("ports", OtherProtocols::Ports)])?;
    "tcp-loose", "true or false", "the preset's", "true", "A TCP segment from inside that belongs to no known connection begins a flow."
        => |s, v| s.tcp_loose = value::switch(v)?;
    "tcp-windows", "true or false", "the preset's", "true", "TCP segments outside the windows of their connection are dropped."
        => |s, v| s.tcp_windows = value::switch(v)?;
    "alg", "true or false", "the preset's", "false", "An application-level gateway rewrites the sender's address in payloads."
        => |s, v| s.alg = value::switch(v)?;
    "decrement-ttl", "true or false", "the preset's", "true", "The TTL is decremented."
        => |s, v| s.decrement_ttl = value::switch(v)?;
    "boot", "time", "the preset's", "\"20s\"", "How long a restart takes. Nothing passes until then."
        => |s, v| s.boot = value::duration(v)?;
    "forget-mapping", "whole number", "none", "3", "A planted fault: the mapping with this number, counted from 1 in the order of creation, is forgotten once."
        => |s, v| s.fault = Some(Fault::ForgetMapping { nth: value::word(v, 1, u32::MAX)?, after: forget_after(s) });
    "forget-after", "time", "1s", "\"30s\"", "With `forget-mapping`: the age at which it is forgotten."
        => |s, v| s.fault = match s.fault {
            Some(Fault::ForgetMapping { nth, .. }) => Some(Fault::ForgetMapping { nth, after: value::duration(v)? }),
            None => return Err("`forget-mapping` before it".into()),
        };
};

fn forget_after(nat: &NatConfig) -> std::time::Duration {
    match nat.fault {
        Some(Fault::ForgetMapping { after, .. }) => after,
        None => std::time::Duration::from_secs(1),
    }
}

fn input(v: &Value) -> Result<WanInput, Wrong> {
    value::choice(
        v,
        &[
            ("drop", WanInput::Drop),
            ("reject", WanInput::Reject),
            ("accept", WanInput::Accept),
        ],
    )
}

fn is_off(v: &Value) -> bool {
    value::choice(v, &[("off", ())]).is_ok()
}

pub(super) fn mapping(v: &Value) -> Result<Mapping, Wrong> {
    value::choice(
        v,
        &[
            ("EIM", Mapping::EndpointIndependent),
            ("ADM", Mapping::AddressDependent),
            ("APDM", Mapping::AddressAndPortDependent),
        ],
    )
}

pub(super) fn filtering(v: &Value) -> Result<Filtering, Wrong> {
    value::choice(
        v,
        &[
            ("EIF", Filtering::EndpointIndependent),
            ("ADF", Filtering::AddressDependent),
            ("APDF", Filtering::AddressAndPortDependent),
        ],
    )
}

fn ports(v: &Value) -> Result<PortPolicy, Wrong> {
    let call = value::call(v);
    let call = call.as_ref().map(|(name, n)| (name.as_str(), *n));
    Ok(match call {
        Some(("preserve", None)) => PortPolicy::Preserve,
        Some(("preserve-parity", None)) => PortPolicy::PreserveParity,
        Some(("random", None)) => PortPolicy::Random,
        Some(("hash", None)) => PortPolicy::Hash,
        Some(("sequential", Some(step))) if step != 0 && (-1024..=1024).contains(&step) => {
            PortPolicy::Sequential(i32::try_from(step).unwrap_or(1))
        }
        Some(("block", Some(size))) if (1..=65_535).contains(&size) => {
            PortPolicy::Block(u16::try_from(size).unwrap_or(u16::MAX))
        }
        _ => {
            return Err(
                "one of \"preserve\", \"preserve-parity\", \"sequential(1)\", \"random\", \
                        \"block(64)\", \"hash\"; a step from -1024 to 1024, a size from 1 to 65535"
                    .into(),
            );
        }
    })
}

fn clash(v: &Value) -> Result<Clash, Wrong> {
    value::choice(
        v,
        &[
            ("next", Clash::Next),
            ("random", Clash::Random),
            ("overload", Clash::Overload),
            ("drop", Clash::Drop),
        ],
    )
}

fn full(v: &Value) -> Result<Full, Wrong> {
    let call = value::call(v);
    let call = call.as_ref().map(|(name, n)| (name.as_str(), *n));
    Ok(match call {
        Some(("drop-new", None)) => Full::DropNew,
        Some(("evict-oldest", None)) => Full::EvictOldest,
        Some(("crash", None)) => Full::Crash,
        Some(("slowdown", Some(n))) if (0..=1000).contains(&n) => {
            Full::Slowdown(u16::try_from(n).unwrap_or(1000))
        }
        _ => {
            return Err(
                "one of \"drop-new\", \"evict-oldest\", \"crash\", \"slowdown(333)\" with a \
                        number from 0 to 1000"
                    .into(),
            );
        }
    })
}
