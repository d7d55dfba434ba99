//! NATs of common devices, and every combination of mapping and filtering.
//!
//! Where a preset's description names no other source, its values are those of Linux, measured on
//! 6.18.

use std::time::Duration;

use super::{
    Clash, Filtering, Full, Hairpin, Mapping, NatConfig, Pooling, PortPolicy, Translation,
    UnsolicitedSyn, WanInput,
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
    /// Makes the configuration.
    pub make: fn() -> NatConfig,
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

/// The preset of this name.
///
/// # Errors
/// [`Unknown`], with up to three similar names.
/// With up to three names that are like it.
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
    tcp_established: secs(432_000),
    tcp_fin: secs(120),
    tcp_reset: secs(10),
    icmp: secs(30),
};

/// The shortest timeouts that RFC 4787 REQ-5 (as recommended), RFC 5382 REQ-5 and RFC 5508 REQ-1
/// allow.
const RFC_TIMES: Timeouts = Timeouts {
    udp_first: secs(300),
    udp_stream: secs(300),
    udp_stream_after: secs(0),
    inbound_refresh: true,
    tcp_syn: secs(240),
    tcp_established: secs(7_440),
    tcp_fin: secs(240),
    tcp_reset: secs(240),
    icmp: secs(60),
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
        wan_input: WanInput::Drop,
        timeouts: LINUX_TIMES,
        pooling: Pooling::Paired,
        hairpin: Hairpin::None,
        max_entries: 65_536,
        max_per_host: None,
        full: Full::DropNew,
        unsolicited_syn: UnsolicitedSyn::Drop,
        icmp_errors: true,
        fragments: true,
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

const fn pf() -> NatConfig {
    NatConfig {
        timeouts: Timeouts {
            udp_first: secs(60),
            udp_stream: secs(60),
            udp_stream_after: secs(0),
            tcp_established: secs(86_400),
            tcp_fin: secs(90),
            tcp_reset: secs(90),
            icmp: secs(20),
            ..LINUX_TIMES
        },
        port_range: (50_001, 65_535),
        ..with(Apdm, Apdf, Random, Clash::Random)
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
        tcp_windows: false,
        ..with(Eim, Eif, PortPolicy::Block(512), Clash::Random)
    }
}

macro_rules! presets {
    ($($name:literal, $about:literal, $make:expr;)+) => {
        &[$(Preset { name: $name, about: $about, make: || $make }),+]
    };
}

/// The number of grid presets in [`ALL`].
const GRID: usize = 18;

#[rustfmt::skip]
const ALL: &[Preset] = presets! {
    "linux", "Linux masquerade, INPUT dropped: EIM/APDF, port kept, shared by destination on a clash", linux();
    "linux-accept", "Linux masquerade, INPUT accepted, as on Docker and NAS hosts: whoever sends first takes the port", NatConfig { wan_input: WanInput::Accept, ..linux() };
    "linux-reject", "Linux masquerade, INPUT rejected: an ICMP error and no flow", NatConfig { wan_input: WanInput::Reject, unsolicited_syn: UnsolicitedSyn::Icmp, ..linux() };
    "linux-random", "Linux `masquerade random`: another port for each destination", with(Apdm, Apdf, Random, Overload);
    "linux-hash", "nftables `snat to : jhash ip saddr . udp sport`: EIM, port not kept", with(Eim, Apdf, Hash, Overload);
    "linux-hash-adm", "nftables `jhash` with `ip daddr`: ADM, the same port again each time", with(Adm, Apdf, Hash, Overload);
    "linux-hash-apdm", "nftables `jhash` with `ip daddr` and `udp dport`: APDM, the same port again each time", with(Apdm, Apdf, Hash, Overload);
    "linux-sequential", "nftables `snat to : numgen inc`: each flow gets the next port", with(Apdm, Apdf, Sequential(1), Overload);
    "linux-block", "nftables `snat to X:5000-5063`: 64 ports at random, EIM", NatConfig { port_range: (5_000, 5_063), ..with(Eim, Apdf, Random, Overload) };
    "linux-eif", "nftables with a map of ports, full cone", with(Eim, Eif, Preserve, Overload);
    "linux-adf", "nftables with a set of peers, restricted cone", with(Eim, Adf, Preserve, Overload);
    "linux-hairpin", "Linux with `dnat` for its own address from inside: the sender stays internal", NatConfig { hairpin: Hairpin::InternalSource, ..with(Eim, Eif, Preserve, Overload) };
    "openwrt", "OpenWrt: INPUT rejected, TCP refused with a reset (its firewall's defaults, from memory)", NatConfig { wan_input: WanInput::Reject, unsolicited_syn: UnsolicitedSyn::Reset, max_entries: 16_384, ..linux() };
    "pf", "pf and pfSense: APDM, random of 50001 to 65535, UDP 60 s (from memory)", pf();
    "pf-eim", "pf with `endpoint-independent`, FreeBSD since 2024 (D11137), pfSense 25.11", NatConfig { udp: Translation { mapping: Eim, ..pf().udp }, ..pf() };
    "pf-static", "pf with `static-port`: APDM by state, but the port is kept", with(Apdm, Apdf, Preserve, Clash::Drop);
    "cgnat-good", "a carrier's NAT after RFC 6888: EIM/EIF, 512 ports for each subscriber, hairpin", cgnat();
    "cgnat-bad", "a carrier's NAT that saves ports: APDM/APDF random, arbitrary addresses, UDP 30 s (Richter 2016)", NatConfig { timeouts: Timeouts { udp_stream: secs(30), ..LINUX_TIMES }, pooling: Pooling::Arbitrary, max_per_host: Some(1_000), icmp_errors: false, fragments: false, ..with(Apdm, Apdf, Random, Clash::Random) };
    "cgnat-hash", "a carrier's NAT with ports computed from the subscriber's flow (RFC 7422): EIM/APDF", NatConfig { max_per_host: Some(2_048), ..with(Eim, Apdf, Hash, Clash::Next) };
    "cloud", "a cloud provider's NAT gateway: APDM/APDF, 350 s (patchbay)", NatConfig { timeouts: Timeouts { udp_first: secs(350), udp_stream: secs(350), udp_stream_after: secs(0), tcp_established: secs(350), ..LINUX_TIMES }, unsolicited_syn: UnsolicitedSyn::Reset, ..with(Apdm, Apdf, Random, Clash::Random) };
    "voip-helper", "a router made for telephony: EIM/ADF (\"most Zyxel-type\", Tailscale), port parity kept", with(Eim, Adf, PreserveParity, Clash::Next);
    "fritzbox", "like a FRITZ!Box: EIM/APDF, 7000 flows (kubo#3320), UDP 300 s", NatConfig { timeouts: Timeouts { udp_first: secs(300), udp_stream: secs(300), udp_stream_after: secs(0), tcp_established: secs(900), ..LINUX_TIMES }, max_entries: 7_000, full: Full::EvictOldest, unsolicited_syn: UnsolicitedSyn::Reset, ..with(Eim, Apdf, Preserve, Clash::Random) };
    "tiny", "an old router: at most 1024 flows, new ones are dropped (kubo#3320)", tiny();
    "tiny-evict", "an old router: at most 1024 flows, the one idle longest is removed", NatConfig { full: Full::EvictOldest, ..tiny() };
    "tiny-crash", "an old router: at most 1024 flows, it restarts when the table is full", NatConfig { full: Full::Crash, ..tiny() };
    "slow", "8192 flows, and slower with each above a third of them, like a BGW320 (qBittorrent#18713)", NatConfig { max_entries: 8_192, full: Full::Slowdown(333), ..linux() };
    "full-cone", "EIM/EIF, port kept, nothing shared (RFC 3489's name)", with(Eim, Eif, Preserve, Clash::Next);
    "restricted-cone", "EIM/ADF, port kept, nothing shared (RFC 3489's name)", with(Eim, Adf, Preserve, Clash::Next);
    "port-restricted", "EIM/APDF, port kept, nothing shared (RFC 3489's name)", with(Eim, Apdf, Preserve, Clash::Next);
    "symmetric", "APDM/APDF, random (RFC 3489's name)", with(Apdm, Apdf, Random, Clash::Next);
    "symmetric-sequential", "APDM/APDF, each flow gets the next port, which is predictable", with(Apdm, Apdf, Sequential(1), Clash::Next);
    "symmetric-down", "APDM/APDF, each flow gets the port two below the last", with(Apdm, Apdf, Sequential(-2), Clash::Next);
    "adm", "ADM/ADF, random", with(Adm, Adf, Random, Clash::Next);
    "parity", "EIM/APDF, the parity of the port is kept (RFC 4787 section 4.2.2)", with(Eim, Apdf, PreserveParity, Clash::Random);
    "sequential", "EIM/APDF, each mapping gets the next port", with(Eim, Apdf, Sequential(1), Clash::Next);
    "non-preserving", "EIM/APDF, computed port, the internal one only by chance", with(Eim, Apdf, Hash, Clash::Next);
    "block", "EIM/APDF, 64 ports for each internal address", with(Eim, Apdf, PortPolicy::Block(64), Clash::Random);
    "rfc4787", "everything that RFC 4787, 5382 and 5508 require: EIM/ADF, external hairpin, UDP 300 s", rfc();
    "rfc7857", "like rfc4787 with random ports and EIF, as RFC 7857 and 6888 prefer", NatConfig { ..{ let mut c = rfc(); c.udp = with(Eim, Eif, Random, Clash::Random).udp; c.tcp = c.udp; c } };
    "hairpin-internal", "full cone that hairpins with the internal sender", NatConfig { hairpin: Hairpin::InternalSource, ..with(Eim, Eif, Preserve, Clash::Next) };
    "hairpin-external", "port-restricted that hairpins with the external sender", NatConfig { hairpin: Hairpin::ExternalSource, ..with(Eim, Apdf, Preserve, Clash::Next) };
    "outbound-refresh", "port-restricted, UDP mappings kept alive by outgoing packets only, 30 s", NatConfig { timeouts: Timeouts { udp_stream: secs(30), inbound_refresh: false, ..LINUX_TIMES }, ..with(Eim, Apdf, Preserve, Clash::Next) };
    "udp-cone-tcp-symmetric", "UDP EIM/EIF, TCP APDM/APDF random", NatConfig { tcp: with(Apdm, Apdf, Random, Clash::Random).tcp, ..with(Eim, Eif, Preserve, Clash::Next) };
    "tcp-reset", "port-restricted, answers unsolicited SYNs with a reset", NatConfig { unsolicited_syn: UnsolicitedSyn::Reset, ..with(Eim, Apdf, Preserve, Clash::Next) };
    "tcp-delayed", "port-restricted, refuses unsolicited SYNs after 6 s (RFC 5382 REQ-4)", NatConfig { unsolicited_syn: UnsolicitedSyn::DelayedIcmp, ..with(Eim, Apdf, Preserve, Clash::Next) };
    "alg", "port-restricted, with an application-level gateway that rewrites payloads", NatConfig { alg: true, ..with(Eim, Apdf, Preserve, Clash::Next) };
    "eim-eif-preserve", "grid", with(Eim, Eif, Preserve, Clash::Random);
    "eim-eif-random", "grid", with(Eim, Eif, Random, Clash::Random);
    "eim-adf-preserve", "grid", with(Eim, Adf, Preserve, Clash::Random);
    "eim-adf-random", "grid", with(Eim, Adf, Random, Clash::Random);
    "eim-apdf-preserve", "grid", with(Eim, Apdf, Preserve, Clash::Random);
    "eim-apdf-random", "grid", with(Eim, Apdf, Random, Clash::Random);
    "adm-eif-preserve", "grid", with(Adm, Eif, Preserve, Clash::Random);
    "adm-eif-random", "grid", with(Adm, Eif, Random, Clash::Random);
    "adm-adf-preserve", "grid", with(Adm, Adf, Preserve, Clash::Random);
    "adm-adf-random", "grid", with(Adm, Adf, Random, Clash::Random);
    "adm-apdf-preserve", "grid", with(Adm, Apdf, Preserve, Clash::Random);
    "adm-apdf-random", "grid", with(Adm, Apdf, Random, Clash::Random);
    "apdm-eif-preserve", "grid", with(Apdm, Eif, Preserve, Clash::Random);
    "apdm-eif-random", "grid", with(Apdm, Eif, Random, Clash::Random);
    "apdm-adf-preserve", "grid", with(Apdm, Adf, Preserve, Clash::Random);
    "apdm-adf-random", "grid", with(Apdm, Adf, Random, Clash::Random);
    "apdm-apdf-preserve", "grid", with(Apdm, Apdf, Preserve, Clash::Random);
    "apdm-apdf-random", "grid", with(Apdm, Apdf, Random, Clash::Random);
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
