//! NAT boxes as they are found.

use std::time::Duration;

use super::{
    Clash, Filtering, Full, Hairpin, Mapping, NatConfig, Pooling, PortPolicy, Timeouts,
    Translation, UnsolicitedSyn, WanInput,
};

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The same translation for UDP and TCP, the rest as [`linux`] has it.
#[must_use]
pub fn with(mapping: Mapping, filtering: Filtering, ports: PortPolicy, clash: Clash) -> NatConfig {
    let translation = Translation {
        mapping,
        filtering,
        ports,
        clash,
    };
    NatConfig {
        udp: translation.clone(),
        tcp: translation,
        port_range: (1_024, 65_535),
        wan_input: WanInput::Drop,
        timeouts: Timeouts {
            udp_first: secs(30),
            udp_stream: secs(120),
            udp_stream_after: secs(2),
            inbound_refresh: true,
            tcp_syn: secs(120),
            tcp_established: secs(432_000),
            tcp_fin: secs(120),
            tcp_reset: secs(10),
            icmp: secs(30),
        },
        pooling: Pooling::Paired,
        hairpin: Hairpin::None,
        max_entries: 65_536,
        max_per_host: None,
        full: Full::DropNew,
        unsolicited_syn: UnsolicitedSyn::Drop,
        icmp_errors: true,
        fragments: true,
        tcp_loose: true,
        alg: false,
        decrement_ttl: true,
        boot: secs(30),
        fault: None,
    }
}

/// Linux with `masquerade` and a WAN that is dropped.
#[must_use]
pub fn linux() -> NatConfig {
    with(
        Mapping::EndpointIndependent,
        Filtering::AddressAndPortDependent,
        PortPolicy::Preserve,
        Clash::Overload,
    )
}
