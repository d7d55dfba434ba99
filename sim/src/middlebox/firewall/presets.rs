//! Firewalls of common kinds.

use std::time::Duration;

use super::{Families, FirewallConfig, Ports};
use crate::middlebox::nat::{Filtering, UnsolicitedSyn, presets};

/// A named firewall.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name in scenario files.
    pub name: &'static str,
    /// A description in one line.
    pub about: &'static str,
    /// Makes the configuration.
    pub make: fn() -> FirewallConfig,
}

/// Every preset.
#[must_use]
pub const fn all() -> &'static [Preset] {
    ALL
}

/// The preset of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Preset> {
    ALL.iter().find(|p| p.name == name)
}

const ALL: &[Preset] = &[
    Preset {
        name: "home6",
        about: "IPv6 at home: only answers come in, the rest is dropped silently; IPv4 is left to the NAT (RFC 6092)",
        make: home6,
    },
    Preset {
        name: "no-inbound",
        about: "both families: only answers come in",
        make: no_inbound,
    },
    Preset {
        name: "udp-blocked",
        about: "a company or hotel: UDP to DNS only, any TCP out, only answers in",
        make: || FirewallConfig {
            udp_out: Ports::Only(vec![53]),
            ..no_inbound()
        },
    },
    Preset {
        name: "web-only",
        about: "TCP to ports 80 and 443 only, UDP to DNS only, only answers in",
        make: || FirewallConfig {
            udp_out: Ports::Only(vec![53]),
            tcp_out: Ports::Only(vec![80, 443]),
            ..no_inbound()
        },
    },
    Preset {
        name: "open",
        about: "keeps state and blocks nothing",
        make: || FirewallConfig {
            open: true,
            echo_in: true,
            ..no_inbound()
        },
    },
    Preset {
        name: "simple6",
        about: "IPv6 at home as RFC 6092 recommends: endpoint-independent filtering, SYNs refused after 6 s, pings let in",
        make: || FirewallConfig {
            filtering: Filtering::EndpointIndependent,
            unsolicited_syn: UnsolicitedSyn::DelayedIcmp,
            echo_in: true,
            ..home6()
        },
    },
    Preset {
        name: "no-inbound-reset",
        about: "like no-inbound, but refuses SYNs with a reset",
        make: || FirewallConfig {
            unsolicited_syn: UnsolicitedSyn::Reset,
            ..no_inbound()
        },
    },
];

/// A stateful firewall for both families that lets in no unsolicited packets.
#[must_use]
pub fn no_inbound() -> FirewallConfig {
    FirewallConfig {
        families: Families::Both,
        open: false,
        filtering: Filtering::AddressAndPortDependent,
        udp_out: Ports::All,
        tcp_out: Ports::All,
        unsolicited_syn: UnsolicitedSyn::Drop,
        echo_in: false,
        icmp_errors: true,
        tcp_windows: true,
        timeouts: presets::linux().timeouts,
        max_entries: 65_536,
        max_pinholes: 256,
        max_lease: Duration::from_secs(86_400),
    }
}

/// The same for IPv6 only.
#[must_use]
pub fn home6() -> FirewallConfig {
    FirewallConfig {
        families: Families::V6,
        ..no_inbound()
    }
}
