//! NATs of common devices, and every combination of mapping and filtering.
//!
//! Each preset names its [`Source`]. What a source leaves open has the values of Linux, measured on
//! 6.18. `tests/presets.rs` has a scenario for each, with the outcome that its source states.

use std::time::Duration;

use super::{
    Clash, Filtering, Fragments, Full, Hairpin, Mapping, NatConfig, OtherProtocols, Pooling,
    PortPolicy, Translation, UnsolicitedSyn, WanInput,
};
use crate::middlebox::conntrack::Timeouts;
use Clash::Overload;
use Filtering::{
    AddressAndPortDependent as Apdf, AddressDependent as Adf, EndpointIndependent as Eif,
};
use Mapping::{
    AddressAndPortDependent as Apdm, AddressDependent as Adm, EndpointIndependent as Eim,
};
use PortPolicy::{Hash, Preserve, PreserveParity, Random, Sequential};

/// A named NAT.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name in scenario files.
    pub name: &'static str,
    /// A description in one line.
    pub about: &'static str,
    /// Where its values come from.
    pub source: Source,
    /// Makes the configuration.
    pub make: fn() -> NatConfig,
}

/// Where the values of a preset come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A document of the maker, or the code of the device: which one, and where in it.
    Document(&'static str),
    /// A measurement: what was measured.
    Measured(&'static str),
    /// The preset models no device. It isolates the behaviour that this document defines.
    Definition(&'static str),
    /// Nothing dependable is known; what the values rest on nevertheless.
    Guess(&'static str),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, text) = match self {
            Self::Document(text) => ("documented", text),
            Self::Measured(text) => ("measured", text),
            Self::Definition(text) => ("models no device", text),
            Self::Guess(text) => ("a guess", text),
        };
        write!(f, "{kind}: {text}")
    }
}

/// The error when no preset has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Similar names, the most similar first.
    pub close: Vec<&'static str>,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no NAT box has this name")?;
        if !self.close.is_empty() {
            write!(f, "; did you mean {}?", self.close.join(" or "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Unknown {}

/// Every preset in a fixed order, with those of [`grid`] at the end.
#[must_use]
pub const fn all() -> &'static [Preset] {
    ALL
}

/// Presets that model no device: each mapping with each filtering, once with preserved ports (a
/// random one on a clash) and once with random ports.
#[must_use]
pub fn grid() -> &'static [Preset] {
    &ALL[ALL.len() - GRID..]
}

impl NatConfig {
    /// The configuration of the preset of this name.
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        find(name).ok().map(|p| (p.make)())
    }
}

/// The preset of this name.
///
/// # Errors
/// [`Unknown`], with up to three similar names.
pub fn find(name: &str) -> Result<&'static Preset, Unknown> {
    if let Some(preset) = ALL.iter().find(|p| p.name == name) {
        return Ok(preset);
    }
    let mut close: Vec<(usize, &'static str)> = (ALL.iter())
        .map(|p| (strsim::osa_distance(name, p.name), p.name))
        .filter(|(distance, near)| *distance <= 2 + near.len() / 4 || near.contains(name))
        .collect();
    close.sort_unstable();
    close.truncate(3);
    Err(Unknown {
        close: close.into_iter().map(|(_, name)| name).collect(),
    })
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The timeouts of Linux: the defaults of its `nf_conntrack`.
const LINUX_TIMES: Timeouts = Timeouts {
    udp_first: secs(30),
    udp_stream: secs(120),
    udp_stream_after: secs(2),
    inbound_refresh: true,
    tcp_syn: secs(120),
    tcp_syn_received: secs(60),
    tcp_established: secs(432_000),
    tcp_stalled: secs(300),
    tcp_fin: secs(120),
    tcp_close_wait: secs(60),
    tcp_last_ack: secs(30),
    tcp_time_wait: secs(120),
    tcp_reset: secs(10),
    icmp: secs(30),
    gre_first: secs(30),
    gre_stream: secs(180),
    sctp_opening: secs(3),
    sctp_established: secs(210),
    sctp_heartbeat: secs(30),
    sctp_closing: secs(3),
    sctp_closed: secs(10),
    generic: secs(600),
};

/// The shortest timeouts that RFC 4787 REQ-5 (as recommended), RFC 5382 REQ-5 and RFC 5508 REQ-1
/// allow.
const RFC_TIMES: Timeouts = Timeouts {
    udp_first: secs(300),
    udp_stream: secs(300),
    udp_stream_after: secs(0),
    inbound_refresh: true,
    tcp_syn: secs(240),
    tcp_syn_received: secs(240),
    tcp_established: secs(7_440),
    tcp_stalled: secs(7_440),
    tcp_fin: secs(240),
    tcp_close_wait: secs(240),
    tcp_last_ack: secs(240),
    tcp_time_wait: secs(240),
    tcp_reset: secs(240),
    icmp: secs(60),
    ..LINUX_TIMES
};

/// The same translation for UDP and TCP, with everything else as in [`linux`].
#[must_use]
pub const fn with(
    mapping: Mapping,
    filtering: Filtering,
    ports: PortPolicy,
    clash: Clash,
) -> NatConfig {
    let one = Translation {
        mapping,
        filtering,
        ports,
        clash,
    };
    NatConfig {
        udp: one,
        tcp: one,
        port_range: (1_024, 65_535),
        low_ports_stay: matches!(ports, Preserve | PreserveParity),
        wan_input: WanInput::Drop,
        lan_input: WanInput::Drop,
        timeouts: LINUX_TIMES,
        pooling: Pooling::Paired,
        hairpin: Hairpin::None,
        max_entries: 65_536,
        max_per_host: None,
        full: Full::DropNew,
        unsolicited_syn: UnsolicitedSyn::Drop,
        icmp_errors: true,
        fragments: Fragments::Reassemble,
        other_protocols: OtherProtocols::Ports,
        tcp_loose: true,
        tcp_windows: true,
        alg: false,
        decrement_ttl: true,
        boot: secs(30),
        fault: None,
    }
}

/// Linux with `masquerade` and an INPUT chain that drops unsolicited packets.
#[must_use]
pub const fn linux() -> NatConfig {
    with(Eim, Apdf, Preserve, Overload)
}

/// A home router that follows the recommendations of RFC 4787.
const fn rfc() -> NatConfig {
    NatConfig {
        timeouts: RFC_TIMES,
        hairpin: Hairpin::ExternalSource,
        unsolicited_syn: UnsolicitedSyn::DelayedIcmp,
        tcp_loose: false,
        tcp_windows: false,
        ..with(Eim, Adf, Preserve, Clash::Random)
    }
}

/// pf, with `nat on $ext from $int to any -> ($ext)`. Ports are free for every remote endpoint to which
/// they have no state, so hosts share them.
///
/// Not modelled: `udp.single` (30 s), to which a mapping that was used twice and not answered falls.
const fn pf() -> NatConfig {
    NatConfig {
        timeouts: Timeouts {
            udp_first: secs(60),
            udp_stream: secs(60),
            udp_stream_after: secs(0),
            tcp_syn: secs(120),
            tcp_syn_received: secs(30),
            tcp_established: secs(86_400),
            tcp_stalled: secs(86_400),
            tcp_fin: secs(900),
            tcp_close_wait: secs(900),
            tcp_last_ack: secs(45),
            tcp_time_wait: secs(90),
            tcp_reset: secs(90),
            icmp: secs(20),
            ..LINUX_TIMES
        },
        port_range: (50_001, 65_535),
        low_ports_stay: false,
        other_protocols: OtherProtocols::Addresses,
        max_entries: 100_000,
        tcp_loose: false,
        ..with(Apdm, Apdf, Random, Overload)
    }
}

/// pf with `static-port`. Two hosts inside conflict only when they use the same port to the same remote
/// endpoint.
const fn pf_static() -> NatConfig {
    let one = with(Apdm, Apdf, Preserve, Clash::Drop).udp;
    NatConfig {
        udp: one,
        tcp: one,
        ..pf()
    }
}

/// OpenWrt as it is installed, on a device with 256 MiB.
const fn openwrt() -> NatConfig {
    NatConfig {
        timeouts: Timeouts {
            udp_first: secs(60),
            udp_stream: secs(180),
            tcp_established: secs(7_440),
            ..LINUX_TIMES
        },
        wan_input: WanInput::Reject,
        lan_input: WanInput::Accept,
        unsolicited_syn: UnsolicitedSyn::Reset,
        max_entries: 16_384,
        ..linux()
    }
}

/// The NAT gateway of Amazon VPC.
const fn cloud() -> NatConfig {
    NatConfig {
        timeouts: Timeouts {
            udp_first: secs(350),
            udp_stream: secs(350),
            udp_stream_after: secs(0),
            tcp_syn: secs(350),
            tcp_syn_received: secs(350),
            tcp_established: secs(350),
            tcp_stalled: secs(350),
            icmp: secs(350),
            ..LINUX_TIMES
        },
        other_protocols: OtherProtocols::Drop,
        tcp_loose: false,
        ..with(Apdm, Apdf, Random, Overload)
    }
}

const fn tiny() -> NatConfig {
    NatConfig {
        max_entries: 1_024,
        ..linux()
    }
}

const fn cgnat() -> NatConfig {
    NatConfig {
        timeouts: RFC_TIMES,
        hairpin: Hairpin::ExternalSource,
        max_entries: 1_048_576,
        max_per_host: Some(2_048),
        other_protocols: OtherProtocols::Drop,
        tcp_windows: false,
        ..with(Eim, Eif, PortPolicy::Block(512), Clash::Random)
    }
}

macro_rules! presets {
    ($($name:literal, $about:literal, $source:expr, $make:expr;)+) => {
        &[$(Preset { name: $name, about: $about, source: $source, make: || $make }),+]
    };
}

/// The number of grid presets in [`ALL`].
const GRID: usize = 18;

/// The kernel of the project's NAT laboratory: network namespaces, with nftables 1.0.6.
const KERNEL: Source = Source::Measured("Linux 6.18, nftables 1.0.6");
/// The terms of RFC 4787.
const TERMS: Source = Source::Definition("RFC 4787 sections 4.1 (mapping) and 5 (filtering)");
/// The terms of RFC 3489. It does not say which ports are chosen.
const CONES: Source = Source::Definition("RFC 3489 section 5; ports kept is our choice");
/// What RFC 4787 says about ports.
const PORTS: Source = Source::Definition("RFC 4787 section 4.2 (port assignment)");

#[rustfmt::skip]
const ALL: &[Preset] = presets! {
    "linux", "Linux masquerade, INPUT dropped: EIM/APDF, port kept, shared by destination on a clash", KERNEL, linux();
    "linux-accept", "Linux masquerade, INPUT accepted, as on Docker and NAS hosts: whoever sends first takes the port", KERNEL, NatConfig { wan_input: WanInput::Accept, lan_input: WanInput::Accept, ..linux() };
    "linux-reject", "Linux masquerade, INPUT rejected: an ICMP error and no flow", KERNEL, NatConfig { wan_input: WanInput::Reject, lan_input: WanInput::Reject, unsolicited_syn: UnsolicitedSyn::Icmp, ..linux() };
    "linux-random", "Linux `masquerade random`: another port for each destination", KERNEL, NatConfig { low_ports_stay: true, ..with(Apdm, Apdf, Random, Overload) };
    "linux-hash", "nftables `snat to : jhash ip saddr . udp sport`: EIM, port not kept", KERNEL, with(Eim, Apdf, Hash, Overload);
    "linux-hash-adm", "nftables `jhash` with `ip daddr`: ADM, the same port again each time", KERNEL, with(Adm, Apdf, Hash, Overload);
    "linux-hash-apdm", "nftables `jhash` with `ip daddr` and `udp dport`: APDM, the same port again each time", KERNEL, with(Apdm, Apdf, Hash, Overload);
    "linux-sequential", "nftables `snat to : numgen inc`: each flow gets the next port", KERNEL, with(Apdm, Apdf, Sequential(1), Overload);
    "linux-block", "nftables `snat to X:5000-5063`: 64 ports at random, EIM", KERNEL, NatConfig { port_range: (5_000, 5_063), ..with(Eim, Apdf, Random, Overload) };
    "linux-eif", "nftables with a map of ports, full cone", KERNEL, with(Eim, Eif, Preserve, Overload);
    "linux-adf", "nftables with a set of peers, restricted cone", KERNEL, with(Eim, Adf, Preserve, Overload);
    "linux-hairpin", "Linux with `dnat` for its own address from inside: the sender stays internal", KERNEL, NatConfig { hairpin: Hairpin::InternalSource, ..with(Eim, Eif, Preserve, Overload) };
    "openwrt", "OpenWrt: INPUT rejected, TCP refused with a reset, UDP 60 and 180 s, TCP 2 h 4 min", Source::Document("openwrt.git, package/kernel/linux/files/sysctl-nf-conntrack.conf; firewall4.git, root/etc/config/firewall (zone wan) and ruleset.uc (handle_reject); table: kernel, nf_conntrack-sysctl.rst, nf_conntrack_buckets at 256 MiB"), openwrt();
    "pf", "pf on OpenBSD and FreeBSD: APDM, random of 50001 to 65535, UDP 60 s", Source::Document("FreeBSD src, sys/netpfil/pf/pf.h (PFTM_*_VAL), pf_lb.c (pf_get_sport), sbin/pfctl/pfctl_parser.h (PF_NAT_PROXY_PORT_*); pf.conf(5), timeout and limit states"), pf();
    "pf-eim", "pf with `endpoint-independent`, FreeBSD since 2024, pfSense 25.11", Source::Document("FreeBSD review D11137; pf.conf(5), endpoint-independent: for UDP, ports as in pf"), NatConfig { udp: Translation { mapping: Eim, clash: Clash::Random, ..pf().udp }, ..pf() };
    "pf-static", "pf with `static-port`: the port is kept; a clash at the same remote endpoint is dropped", Source::Document("pf.conf(5), static-port; FreeBSD src, sys/netpfil/pf/pf_lb.c, pf_get_sport with low and high 0"), pf_static();
    "cgnat-good", "a carrier's NAT after RFC 6888: EIM/EIF, 512 ports for each subscriber, hairpin", Source::Document("RFC 6888 section 3, REQ-1, 2, 4 and 7, with RFC 4787 and 5382; the sizes of blocks and shares are guesses"), cgnat();
    "cgnat-bad", "a carrier's NAT that saves ports: APDM/APDF random, arbitrary addresses, UDP 30 s", Source::Guess("symmetric mapping and arbitrary addresses occur (Richter et al., IMC 2016, section 6); the numbers are invented"), NatConfig { timeouts: Timeouts { udp_stream: secs(30), ..LINUX_TIMES }, pooling: Pooling::Arbitrary, max_per_host: Some(1_000), icmp_errors: false, fragments: Fragments::Drop, other_protocols: OtherProtocols::Drop, ..with(Apdm, Apdf, Random, Clash::Random) };
    "cgnat-hash", "a carrier's NAT with ports computed from the subscriber's endpoint: EIM/APDF", Source::Guess("the idea of RFC 7422, applied to each endpoint in place of blocks; no device is known to do so"), NatConfig { max_per_host: Some(2_048), ..with(Eim, Apdf, Hash, Clash::Next) };
    "cloud", "the NAT gateway of Amazon VPC: ports shared by destination, everything idle for 350 s ends", Source::Document("Amazon VPC User Guide, NAT gateways (55 000 connections to each destination; nothing comes in) and its troubleshooting (350 s); APDM random is a guess"), cloud();
    "voip-helper", "a router made for telephony: EIM/ADF, port parity kept", Source::Guess("Tailscale's natlab calls EIM/ADF that of most Zyxel routers; parity is RFC 4787 section 4.2.2"), with(Eim, Adf, PreserveParity, Clash::Next);
    "fritzbox", "like a FRITZ!Box: EIM/APDF, 7000 flows, UDP 300 s", Source::Guess("7000 flows is a user's observation (ipfs/kubo issue 3320); the rest is from memory"), NatConfig { timeouts: Timeouts { udp_first: secs(300), udp_stream: secs(300), udp_stream_after: secs(0), tcp_established: secs(900), ..LINUX_TIMES }, max_entries: 7_000, full: Full::EvictOldest, unsolicited_syn: UnsolicitedSyn::Reset, ..with(Eim, Apdf, Preserve, Clash::Random) };
    "tiny", "an old router: at most 1024 flows, new ones are dropped", Source::Guess("1024 is a user's observation (ipfs/kubo issue 3320); that new flows are dropped is Linux's way"), tiny();
    "tiny-evict", "an old router: at most 1024 flows, the one idle longest is removed", Source::Guess("as tiny, with the other usual policy"), NatConfig { full: Full::EvictOldest, ..tiny() };
    "tiny-crash", "an old router: at most 1024 flows, it restarts when the table is full", Source::Guess("as tiny; users report routers that restart (ipfs/kubo issue 3320)"), NatConfig { full: Full::Crash, ..tiny() };
    "slow", "8192 flows, and slower with each above a third of them, like a BGW320", Source::Guess("a user's observation (qBittorrent issue 18713); how much slower is invented"), NatConfig { max_entries: 8_192, full: Full::Slowdown(333), ..linux() };
    "full-cone", "EIM/EIF, port kept, nothing shared (RFC 3489's name)", CONES, with(Eim, Eif, Preserve, Clash::Next);
    "restricted-cone", "EIM/ADF, port kept, nothing shared (RFC 3489's name)", CONES, with(Eim, Adf, Preserve, Clash::Next);
    "port-restricted", "EIM/APDF, port kept, nothing shared (RFC 3489's name)", CONES, with(Eim, Apdf, Preserve, Clash::Next);
    "symmetric", "APDM/APDF, random (RFC 3489's name)", Source::Definition("RFC 3489 section 5; random ports are our choice"), with(Apdm, Apdf, Random, Clash::Next);
    "symmetric-sequential", "APDM/APDF, each flow gets the next port, which is predictable", PORTS, with(Apdm, Apdf, Sequential(1), Clash::Next);
    "symmetric-down", "APDM/APDF, each flow gets the port two below the last", PORTS, with(Apdm, Apdf, Sequential(-2), Clash::Next);
    "adm", "ADM/ADF, random", TERMS, with(Adm, Adf, Random, Clash::Next);
    "parity", "EIM/APDF, the parity of the port is kept (RFC 4787 section 4.2.2)", PORTS, with(Eim, Apdf, PreserveParity, Clash::Random);
    "sequential", "EIM/APDF, each mapping gets the next port", PORTS, with(Eim, Apdf, Sequential(1), Clash::Next);
    "non-preserving", "EIM/APDF, computed port, the internal one only by chance", PORTS, with(Eim, Apdf, Hash, Clash::Next);
    "block", "EIM/APDF, 64 ports for each internal address", Source::Definition("RFC 7422 section 2"), with(Eim, Apdf, PortPolicy::Block(64), Clash::Random);
    "rfc4787", "everything that RFC 4787, 5382 and 5508 require: EIM/ADF, external hairpin, UDP 300 s", Source::Definition("RFC 4787 section 12, RFC 5382 section 8, RFC 5508; UDP as recommended by REQ-5 c"), rfc();
    "rfc7857", "like rfc4787 with random ports and EIF, as RFC 7857 and 6888 prefer", Source::Definition("RFC 7857; RFC 6888 section 3, REQ-7"), NatConfig { ..{ let mut c = rfc(); c.udp = with(Eim, Eif, Random, Clash::Random).udp; c.tcp = c.udp; c } };
    "hairpin-internal", "full cone that hairpins with the internal sender", Source::Definition("RFC 4787 section 6, internal source address and port"), NatConfig { hairpin: Hairpin::InternalSource, ..with(Eim, Eif, Preserve, Clash::Next) };
    "hairpin-external", "port-restricted that hairpins with the external sender", Source::Definition("RFC 4787 section 6, REQ-9 a"), NatConfig { hairpin: Hairpin::ExternalSource, ..with(Eim, Apdf, Preserve, Clash::Next) };
    "outbound-refresh", "port-restricted, UDP mappings kept alive by outgoing packets only, 30 s", Source::Definition("RFC 4787 section 4.3, REQ-6 without its b; 30 s is the least of 34 home gateways (Hätönen et al., IMC 2010)"), NatConfig { timeouts: Timeouts { udp_stream: secs(30), inbound_refresh: false, ..LINUX_TIMES }, ..with(Eim, Apdf, Preserve, Clash::Next) };
    "udp-cone-tcp-symmetric", "UDP EIM/EIF, TCP APDM/APDF random", TERMS, NatConfig { tcp: with(Apdm, Apdf, Random, Clash::Random).tcp, ..with(Eim, Eif, Preserve, Clash::Next) };
    "tcp-reset", "port-restricted, answers unsolicited SYNs with a reset", Source::Definition("RFC 5382 section 4.3, what REQ-4 forbids"), NatConfig { unsolicited_syn: UnsolicitedSyn::Reset, ..with(Eim, Apdf, Preserve, Clash::Next) };
    "tcp-delayed", "port-restricted, refuses unsolicited SYNs after 6 s (RFC 5382 REQ-4)", Source::Definition("RFC 5382 section 4.3, REQ-4"), NatConfig { unsolicited_syn: UnsolicitedSyn::DelayedIcmp, ..with(Eim, Apdf, Preserve, Clash::Next) };
    "alg", "port-restricted, with an application-level gateway that rewrites payloads", Source::Definition("RFC 4787 section 7; which payloads are rewritten is our choice"), NatConfig { alg: true, ..with(Eim, Apdf, Preserve, Clash::Next) };
    "eim-eif-preserve", "grid", TERMS, with(Eim, Eif, Preserve, Clash::Random);
    "eim-eif-random", "grid", TERMS, with(Eim, Eif, Random, Clash::Random);
    "eim-adf-preserve", "grid", TERMS, with(Eim, Adf, Preserve, Clash::Random);
    "eim-adf-random", "grid", TERMS, with(Eim, Adf, Random, Clash::Random);
    "eim-apdf-preserve", "grid", TERMS, with(Eim, Apdf, Preserve, Clash::Random);
    "eim-apdf-random", "grid", TERMS, with(Eim, Apdf, Random, Clash::Random);
    "adm-eif-preserve", "grid", TERMS, with(Adm, Eif, Preserve, Clash::Random);
    "adm-eif-random", "grid", TERMS, with(Adm, Eif, Random, Clash::Random);
    "adm-adf-preserve", "grid", TERMS, with(Adm, Adf, Preserve, Clash::Random);
    "adm-adf-random", "grid", TERMS, with(Adm, Adf, Random, Clash::Random);
    "adm-apdf-preserve", "grid", TERMS, with(Adm, Apdf, Preserve, Clash::Random);
    "adm-apdf-random", "grid", TERMS, with(Adm, Apdf, Random, Clash::Random);
    "apdm-eif-preserve", "grid", TERMS, with(Apdm, Eif, Preserve, Clash::Random);
    "apdm-eif-random", "grid", TERMS, with(Apdm, Eif, Random, Clash::Random);
    "apdm-adf-preserve", "grid", TERMS, with(Apdm, Adf, Preserve, Clash::Random);
    "apdm-adf-random", "grid", TERMS, with(Apdm, Adf, Random, Clash::Random);
    "apdm-apdf-preserve", "grid", TERMS, with(Apdm, Apdf, Preserve, Clash::Random);
    "apdm-apdf-random", "grid", TERMS, with(Apdm, Apdf, Random, Clash::Random);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_boxes_are_distinct() {
        let made: Vec<NatConfig> = all().iter().map(|p| (p.make)()).collect();
        for (n, one) in all().iter().enumerate() {
            assert!(find(one.name).is_ok_and(|p| p.about == one.about));
            for (m, other) in all().iter().enumerate().skip(n + 1) {
                assert_ne!(one.name, other.name);
                assert!(made[n] != made[m], "{} is {}", one.name, other.name);
            }
        }
        assert!(all().len() - grid().len() >= 24 && all().len() >= 40);
        let named = |p: &Preset| p.about.starts_with("grid");
        assert!(grid().iter().all(named) && !all()[..all().len() - GRID].iter().any(named));
    }

    #[test]
    fn a_wrong_name_is_told_what_is_like_it() {
        let close = |name| find(name).expect_err("unknown").close;
        assert_eq!(close("linxu").first(), Some(&"linux"));
        assert_eq!(close("simetric").first(), Some(&"symmetric"));
        assert!(close("cgnat").contains(&"cgnat-good"));
        assert!(close("quite something else").is_empty());
        let told = find("fullcone").expect_err("unknown").to_string();
        assert!(told.ends_with("did you mean full-cone?"), "{told}");
    }
}
