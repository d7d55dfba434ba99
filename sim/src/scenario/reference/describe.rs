//! Describes presets in full, with the keys of a scenario that are equivalent to them.

use std::fmt::Write;

use crate::{
    middlebox::nat::{
        Clash, Fault, Filtering, Fragments, Full, Hairpin, Mapping, NatConfig, OtherProtocols,
        Pooling, PortPolicy, UnsolicitedSyn, WanInput,
    },
    scenario::{
        model::{links, presets},
        read::keys_firewall,
        syntax::{error::nearest, value},
    },
};

/// A heading, and names with their descriptions.
pub type PresetList = (&'static str, Vec<(String, String)>);

/// Every preset, by kind.
#[must_use]
pub fn all_presets() -> Vec<PresetList> {
    let owned = |(name, about): (&str, &str)| (name.to_owned(), about.to_owned());
    let links = presets::links().map(|(name, about)| (name.to_owned(), about));
    let regions = presets::regions().map(|r| (r.to_owned(), String::new()));
    vec![
        ("NATs", presets::nats().map(owned).collect()),
        ("Firewalls", presets::firewalls().map(owned).collect()),
        ("Links", links.collect()),
        ("Regions", regions.collect()),
    ]
}

/// The preset with the most similar name.
#[must_use]
pub fn nearest_preset(name: &str) -> Option<String> {
    let lists = all_presets();
    let names = lists
        .iter()
        .flat_map(|(_, list)| list.iter().map(|(n, _)| n.as_str()));
    nearest(name, names).map(Into::into)
}

/// Describes a preset; a NAT is written as the keys of a `[[router]]`.
#[must_use]
pub fn preset_in_full(name: &str) -> Option<String> {
    let mut out = String::new();
    if let Some(config) = presets::nat(name) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "# {}", about(presets::nats(), name));
        let _ = writeln!(out, "# {}\nnat = \"{name}\"", source(name));
        for (key, value) in nat(&config) {
            let _ = writeln!(out, "{key} = {value}");
        }
        return Some(out);
    }
    if let Some(config) = presets::firewall(name) {
        let _ = writeln!(out, "# {}", about(presets::firewalls(), name));
        let _ = writeln!(out, "# {}\nfirewall = \"{name}\"", source(name));
        for (key, value) in keys_firewall::written(&config) {
            let _ = writeln!(out, "{key} = {value}");
        }
        return Some(out);
    }
    let link = crate::link::LinkConfig::preset(name)?;
    let _ = writeln!(out, "# {}", links::about(&link));
    let _ = writeln!(
        out,
        "# a guess: of the order of public measurements\nlink = \"{name}\""
    );
    Some(out)
}

fn source(name: &str) -> String {
    presets::source(name).map_or_else(String::new, |source| source.to_string())
}

fn about(mut list: impl Iterator<Item = (&'static str, &'static str)>, name: &str) -> &'static str {
    list.find(|(n, _)| *n == name)
        .map_or("", |(_, about)| about)
}

fn mapping(m: Mapping) -> &'static str {
    match m {
        Mapping::EndpointIndependent => "\"EIM\"",
        Mapping::AddressDependent => "\"ADM\"",
        Mapping::AddressAndPortDependent => "\"APDM\"",
    }
}

fn filtering(f: Filtering) -> &'static str {
    match f {
        Filtering::EndpointIndependent => "\"EIF\"",
        Filtering::AddressDependent => "\"ADF\"",
        Filtering::AddressAndPortDependent => "\"APDF\"",
    }
}

fn ports(p: PortPolicy) -> String {
    match p {
        PortPolicy::Preserve => "\"preserve\"".into(),
        PortPolicy::PreserveParity => "\"preserve-parity\"".into(),
        PortPolicy::Sequential(step) => format!("\"sequential({step})\""),
        PortPolicy::Random => "\"random\"".into(),
        PortPolicy::Block(size) => format!("\"block({size})\""),
        PortPolicy::Hash => "\"hash\"".into(),
    }
}

fn input(input: WanInput) -> &'static str {
    match input {
        WanInput::Drop => "\"drop\"",
        WanInput::Reject => "\"reject\"",
        WanInput::Accept => "\"accept\"",
    }
}

fn clash(c: Clash) -> &'static str {
    match c {
        Clash::Next => "\"next\"",
        Clash::Random => "\"random\"",
        Clash::Overload => "\"overload\"",
        Clash::Drop => "\"drop\"",
    }
}

/// The parameters of a NAT as keys and values. The policies for ports and clashes are those for
/// UDP.
pub(crate) fn nat(c: &NatConfig) -> Vec<(&'static str, String)> {
    let time = |d: std::time::Duration| format!("\"{}\"", value::written(d));
    let t = &c.timeouts;
    let mut all = vec![
        ("udp-mapping", mapping(c.udp.mapping).into()),
        ("tcp-mapping", mapping(c.tcp.mapping).into()),
        ("udp-filtering", filtering(c.udp.filtering).into()),
        ("tcp-filtering", filtering(c.tcp.filtering).into()),
        ("udp-ports", ports(c.udp.ports)),
        ("tcp-ports", ports(c.tcp.ports)),
        ("udp-clash", clash(c.udp.clash).into()),
        ("tcp-clash", clash(c.tcp.clash).into()),
        (
            "port-range",
            format!("\"{}-{}\"", c.port_range.0, c.port_range.1),
        ),
        ("low-ports-stay", c.low_ports_stay.to_string()),
        ("wan-input", input(c.wan_input).into()),
        ("lan-input", input(c.lan_input).into()),
        ("udp-first", time(t.udp_first)),
        ("udp-stream", time(t.udp_stream)),
        ("udp-stream-after", time(t.udp_stream_after)),
        ("inbound-refresh", t.inbound_refresh.to_string()),
        ("tcp-syn", time(t.tcp_syn)),
        ("tcp-syn-received", time(t.tcp_syn_received)),
        ("tcp-established", time(t.tcp_established)),
        ("tcp-fin", time(t.tcp_fin)),
        ("tcp-close-wait", time(t.tcp_close_wait)),
        ("tcp-last-ack", time(t.tcp_last_ack)),
        ("tcp-time-wait", time(t.tcp_time_wait)),
        ("tcp-stalled", time(t.tcp_stalled)),
        ("tcp-reset", time(t.tcp_reset)),
        ("icmp-timeout", time(t.icmp)),
        (
            "pooling",
            match c.pooling {
                Pooling::Paired => "\"paired\"",
                Pooling::Arbitrary => "\"arbitrary\"",
            }
            .into(),
        ),
        (
            "hairpin",
            match c.hairpin {
                Hairpin::None => "\"none\"",
                Hairpin::InternalSource => "\"internal-source\"",
                Hairpin::ExternalSource => "\"external-source\"",
            }
            .into(),
        ),
        ("max-entries", c.max_entries.to_string()),
        (
            "max-per-host",
            c.max_per_host.map_or("\"off\"".into(), |n| n.to_string()),
        ),
        (
            "full",
            match c.full {
                Full::DropNew => "\"drop-new\"".into(),
                Full::EvictOldest => "\"evict-oldest\"".into(),
                Full::Crash => "\"crash\"".into(),
                Full::Slowdown(n) => format!("\"slowdown({n})\""),
            },
        ),
        (
            "unsolicited-syn",
            match c.unsolicited_syn {
                UnsolicitedSyn::Drop => "\"drop\"",
                UnsolicitedSyn::Reset => "\"reset\"",
                UnsolicitedSyn::Icmp => "\"icmp\"",
                UnsolicitedSyn::DelayedIcmp => "\"delayed-icmp\"",
            }
            .into(),
        ),
        ("icmp-errors", c.icmp_errors.to_string()),
        (
            "fragments",
            match c.fragments {
                Fragments::Drop => "\"drop\"",
                Fragments::Ordered => "\"ordered\"",
                Fragments::Reassemble => "\"reassemble\"",
            }
            .into(),
        ),
        (
            "other-protocols",
            match c.other_protocols {
                OtherProtocols::Drop => "\"drop\"",
                OtherProtocols::Addresses => "\"addresses\"",
                OtherProtocols::Ports => "\"ports\"",
            }
            .into(),
        ),
        ("tcp-loose", c.tcp_loose.to_string()),
        ("tcp-windows", c.tcp_windows.to_string()),
        ("alg", c.alg.to_string()),
        ("decrement-ttl", c.decrement_ttl.to_string()),
        ("boot", time(c.boot)),
    ];
    if let Some(Fault::ForgetMapping { nth, after }) = c.fault {
        all.push(("forget-mapping", nth.to_string()));
        all.push(("forget-after", time(after)));
    }
    all
}

#[cfg(test)]
mod tests {
    use crate::scenario::Scenario;

    use super::*;

    #[test]
    fn every_nat_in_full_is_that_nat() {
        for (name, _) in presets::nats() {
            let config = presets::nat(name).expect("a preset");
            // All keys replace another preset, of which nothing may remain.
            let keys: Vec<String> = nat(&config)
                .iter()
                .map(|(k, v)| format!("{k} = {v}"))
                .collect();
            let text = format!("[[router]]\nname = 'r'\nnat = 'linux'\n{}", keys.join("\n"));
            let s = Scenario::parse(&text, name).expect("valid");
            assert_eq!(s.routers[0].nat.as_ref(), Some(&config), "{name}");
        }
    }

    #[test]
    fn every_firewall_in_full_is_that_firewall() {
        for (name, _) in presets::firewalls() {
            let mut config = presets::firewall(name).expect("a preset");
            let rule = "allow out tcp 80,443 from 1024-65535 stateless";
            let rules = format!("firewall-rules = [\"{rule}\"]");
            let keys: Vec<String> = keys_firewall::written(&config)
                .iter()
                .map(|(k, v)| format!("{k} = {v}"))
                .filter(|line| !line.starts_with("firewall-rules"))
                .collect();
            let keys = keys.join("\n");
            let text = format!("[[router]]\nname = 'r'\nfirewall = 'web-only'\n{rules}\n{keys}");
            let s = Scenario::parse(&text, name).unwrap_or_else(|e| panic!("{e}"));
            let read = s.routers[0].firewall.clone().expect("a firewall");
            let again = keys_firewall::written(&read);
            assert_eq!(again[0].1, format!("[\"{rule}\"]"));
            config.rules.clone_from(&read.rules);
            assert_eq!(read, config, "{name}");
        }
    }

    #[test]
    fn every_preset_can_be_shown() {
        for (_, list) in all_presets().iter().take(3) {
            for (name, about) in list {
                assert!(!about.is_empty(), "{name}");
                assert!(preset_in_full(name).is_some(), "{name}");
            }
        }
        let linux = preset_in_full("linux").expect("a preset");
        assert!(linux.contains("tcp-established = \"5d\"\n"), "{linux}");
        assert_eq!(preset_in_full("lunix"), None);
        assert_eq!(nearest_preset("lunix").as_deref(), Some("linux"));
    }
}
