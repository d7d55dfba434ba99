//! Firewalls of common kinds.

use std::time::Duration;

use super::{Families, FirewallConfig, Ports};
use crate::middlebox::nat::{
    Filtering, UnsolicitedSyn,
    presets::{self, Source},
};

/// A named firewall.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name in scenario files.
    pub name: &'static str,
    /// A description in one line.
    pub about: &'static str,
    /// Where its values come from.
    pub source: Source,
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
        source: Source::Document(
            "RFC 6092 sections 3.2.3 and 3.3.1; APDF, which is stricter than recommended, is what Linux does",
        ),
        make: home6,
    },
    Preset {
        name: "no-inbound",
        about: "both families: only answers come in",
        source: Source::Definition("RFC 4787 section 5 (APDF), without translation"),
        make: no_inbound,
    },
    Preset {
        name: "udp-blocked",
        about: "a company or hotel: UDP to DNS only, any TCP out, only answers in",
        source: Source::Guess("what people report of hotels and companies; no survey is known"),
        make: || FirewallConfig {
            udp_out: Ports::Only(vec![53]),
            ..no_inbound()
        },
    },
    Preset {
        name: "web-only",
        about: "TCP to ports 80, 443 and DNS only, UDP to DNS only, only answers in",
        source: Source::Guess("as udp-blocked"),
        make: || FirewallConfig {
            udp_out: Ports::Only(vec![53]),
            tcp_out: Ports::Only(vec![53, 80, 443]),
            ..no_inbound()
        },
    },
    Preset {
        name: "open",
        about: "keeps state and blocks nothing",
        source: Source::Measured("Linux 6.18: connection tracking without a rule that drops"),
        make: || FirewallConfig {
            open: true,
            echo_in: true,
            ..no_inbound()
        },
    },
    Preset {
        name: "simple6",
        about: "IPv6 at home as RFC 6092 recommends: endpoint-independent filtering, SYNs refused after 6 s, pings let in",
        source: Source::Definition("RFC 6092 sections 3.2.3 and 3.3.1"),
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
        source: Source::Definition(
            "RFC 9293 section 3.10.7.1, which the firewall does in the host's place",
        ),
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
        rules: Vec::new(),
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
