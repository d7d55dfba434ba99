//! The keys that change a firewall preset, and its rules.

use super::keys::{Key, keys};
use crate::{
    middlebox::{
        firewall::{Families, FirewallConfig, FirewallRule, Ports, RuleAction, Way},
        nat::{Filtering, UnsolicitedSyn},
    },
    packet::Proto,
    scenario::syntax::{
        document::{Value, ValueKind},
        value::{self, Wrong},
    },
};

/// The most rules of a firewall.
const MAX_RULES: usize = 1_000;

/// The additional keys of a `[[router]]` that has a firewall.
pub(crate) const FIREWALL: &[Key<FirewallConfig>] = keys! {
    "firewall-rules", "rules", "the preset's", "[\"allow out tcp 80,443\", \"allow out udp 53\", \"reject out any\"]", "Rules that come before all else, in their order: `allow`, `drop` or `reject`; `in`, `out` or `both`; `udp`, `tcp`, `icmp` or `any`; then the ports of the receiver, such as `80,6881-6889`, those of the sender after `from`, and `stateless`. A packet of a known flow passes, unless a stateless rule, which looks at each packet by itself and makes no flow, says otherwise."
        => |s, v| s.rules = rules(v)?;
    "firewall-families", "both or v6", "the preset's", "\"v6\"", "The IP versions that are filtered."
        => |s, v| s.families = value::choice(v, &[("both", Families::Both), ("v6", Families::V6)])?;
    "firewall-open", "true or false", "the preset's", "true", "Whether anybody may send in."
        => |s, v| s.open = value::switch(v)?;
    "firewall-udp-out", "all, none or ports", "the preset's", "\"53,443\"", "The UDP ports that may be reached from inside."
        => |s, v| s.udp_out = ports_out(v)?;
    "firewall-tcp-out", "all, none or ports", "the preset's", "\"80,443\"", "The TCP ports that may be reached from inside."
        => |s, v| s.tcp_out = ports_out(v)?;
    "firewall-filtering", "EIF, ADF or APDF", "the preset's", "\"EIF\"", "Which remotes may answer a flow from inside: any, addresses that were sent to, or endpoints that were sent to."
        => |s, v| s.filtering = value::choice(v, &[("EIF", Filtering::EndpointIndependent), ("ADF", Filtering::AddressDependent), ("APDF", Filtering::AddressAndPortDependent)])?;
    "firewall-unsolicited-syn", "drop, reset, icmp or delayed-icmp", "the preset's", "\"reset\"", "How an unsolicited SYN is answered."
        => |s, v| s.unsolicited_syn = value::choice(v, &[("drop", UnsolicitedSyn::Drop), ("reset", UnsolicitedSyn::Reset), ("icmp", UnsolicitedSyn::Icmp), ("delayed-icmp", UnsolicitedSyn::DelayedIcmp)])?;
    "firewall-echo-in", "true or false", "the preset's", "true", "Whether pings from outside are let in."
        => |s, v| s.echo_in = value::switch(v)?;
    "firewall-icmp-errors", "true or false", "the preset's", "true", "Whether ICMP errors about a known flow pass."
        => |s, v| s.icmp_errors = value::switch(v)?;
    "firewall-tcp-windows", "true or false", "the preset's", "false", "Whether TCP segments outside the windows of their connection are dropped."
        => |s, v| s.tcp_windows = value::switch(v)?;
    "firewall-udp-first", "time", "the preset's", "\"30s\"", "The lifetime of a UDP flow that was not answered."
        => |s, v| s.timeouts.udp_first = value::duration(v)?;
    "firewall-udp-stream", "time", "the preset's", "\"120s\"", "The lifetime of a UDP flow that was answered."
        => |s, v| s.timeouts.udp_stream = value::duration(v)?;
    "firewall-udp-stream-after", "time", "the preset's", "\"2s\"", "The age that a flow needs for `firewall-udp-stream` to apply."
        => |s, v| s.timeouts.udp_stream_after = value::duration(v)?;
    "firewall-inbound-refresh", "true or false", "the preset's", "false", "Whether packets from outside keep a UDP flow alive."
        => |s, v| s.timeouts.inbound_refresh = value::switch(v)?;
    "firewall-tcp-syn", "time", "the preset's", "\"120s\"", "The lifetime of a TCP connection that is being opened."
        => |s, v| s.timeouts.cap_tcp_opening(value::duration(v)?);
    "firewall-tcp-established", "time", "the preset's", "\"2h\"", "The lifetime of an open TCP connection."
        => |s, v| s.timeouts.tcp_established = value::duration(v)?;
    "firewall-tcp-fin", "time", "the preset's", "\"120s\"", "The lifetime of a TCP connection that is being closed."
        => |s, v| s.timeouts.cap_tcp_closing(value::duration(v)?);
    "firewall-tcp-reset", "time", "the preset's", "\"10s\"", "The lifetime of a TCP connection that was reset."
        => |s, v| s.timeouts.tcp_reset = value::duration(v)?;
    "firewall-icmp-timeout", "time", "the preset's", "\"30s\"", "The lifetime of an ICMP echo."
        => |s, v| s.timeouts.icmp = value::duration(v)?;
    "firewall-max-entries", "whole number", "the preset's", "1024", "The most flows in the table; further ones are dropped."
        => |s, v| s.max_entries = value::word(v, 1, 10_000_000)?;
};

fn rules(v: &Value) -> Result<Vec<FirewallRule>, Wrong> {
    let one = std::slice::from_ref(v);
    let list = match &v.kind {
        ValueKind::List(list) => list,
        _ => one,
    };
    if list.len() > MAX_RULES {
        return Err(format!("at most {MAX_RULES} rules"));
    }
    list.iter().map(rule).collect()
}

/// Reads `allow out tcp 80,443 from 1024-65535 stateless`.
fn rule(v: &Value) -> Result<FirewallRule, Wrong> {
    let text = value::text(v).unwrap_or_default();
    let wrong = |what: &str| {
        format!(
            "a rule such as \"allow out tcp 80,443\" or \"drop in udp from 53 stateless\"; \"{text}\" {what}"
        )
    };
    let mut words = text.split_whitespace();
    let action = match words.next() {
        Some("allow") => RuleAction::Allow,
        Some("drop") => RuleAction::Drop,
        Some("reject") => RuleAction::Reject,
        _ => return Err(wrong("does not begin with allow, drop or reject")),
    };
    let way = match words.next() {
        Some("in") => Way::In,
        Some("out") => Way::Out,
        Some("both") => Way::Both,
        _ => return Err(wrong("does not say in, out or both next")),
    };
    let proto = match words.next() {
        Some("udp") => Some(Proto::Udp),
        Some("tcp") => Some(Proto::Tcp),
        Some("icmp") => Some(Proto::Icmp),
        Some("any") => None,
        _ => return Err(wrong("does not say udp, tcp, icmp or any next")),
    };
    let mut rule = FirewallRule {
        action,
        way,
        proto,
        to: Vec::new(),
        from: Vec::new(),
        stateless: false,
    };
    let mut words = words.peekable();
    if words
        .peek()
        .is_some_and(|w| w.starts_with(|c: char| c.is_ascii_digit()))
    {
        rule.to = ports(words.next().unwrap_or_default()).ok_or_else(|| wrong("has odd ports"))?;
    }
    if words.next_if_eq(&"from").is_some() {
        let list = words.next().and_then(ports);
        rule.from = list.ok_or_else(|| wrong("has no ports after `from`"))?;
    }
    rule.stateless = words.next_if_eq(&"stateless").is_some();
    if let Some(word) = words.next() {
        return Err(wrong(&format!("has a `{word}` that nothing takes")));
    }
    if proto == Some(Proto::Icmp) && !(rule.to.is_empty() && rule.from.is_empty()) {
        return Err(wrong("gives ports to ICMP, which has none"));
    }
    Ok(rule)
}

/// Reads `all`, `none` or `80,443`.
fn ports_out(v: &Value) -> Result<Ports, Wrong> {
    let text = value::text(v).unwrap_or_default();
    let list = match text.as_str() {
        "all" => return Ok(Ports::All),
        "none" => Some(Vec::new()),
        list => list.split(',').map(|p| p.trim().parse().ok()).collect(),
    };
    list.map(Ports::Only)
        .ok_or_else(|| "\"all\", \"none\" or ports such as \"80,443\"; rules take ranges".into())
}

/// Reads `80,443,6881-6889`.
fn ports(text: &str) -> Option<Vec<(u16, u16)>> {
    let range = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high): (u16, u16) = (low.parse().ok()?, high.parse().ok()?);
        (0 < low && low <= high).then_some((low, high))
    };
    text.split(',').map(range).collect()
}

/// The parameters of a firewall as keys and values.
pub(crate) fn written(c: &FirewallConfig) -> Vec<(&'static str, String)> {
    let time = |d: std::time::Duration| format!("\"{}\"", value::written(d));
    let text = |t: &str| format!("\"{t}\"");
    let t = &c.timeouts;
    let rules: Vec<String> = c.rules.iter().map(|r| text(&rule_written(r))).collect();
    let ports = |ports: &Ports| match ports {
        Ports::All => "all".into(),
        Ports::Only(some) if some.is_empty() => "none".into(),
        Ports::Only(some) => {
            let some: Vec<String> = some.iter().map(u16::to_string).collect();
            some.join(",")
        }
    };
    let families = match c.families {
        Families::Both => "both",
        Families::V6 => "v6",
    };
    let filtering = match c.filtering {
        Filtering::EndpointIndependent => "EIF",
        Filtering::AddressDependent => "ADF",
        Filtering::AddressAndPortDependent => "APDF",
    };
    let syn = match c.unsolicited_syn {
        UnsolicitedSyn::Drop => "drop",
        UnsolicitedSyn::Reset => "reset",
        UnsolicitedSyn::Icmp => "icmp",
        UnsolicitedSyn::DelayedIcmp => "delayed-icmp",
    };
    vec![
        ("firewall-rules", format!("[{}]", rules.join(", "))),
        ("firewall-families", text(families)),
        ("firewall-open", c.open.to_string()),
        ("firewall-udp-out", text(&ports(&c.udp_out))),
        ("firewall-tcp-out", text(&ports(&c.tcp_out))),
        ("firewall-filtering", text(filtering)),
        ("firewall-unsolicited-syn", text(syn)),
        ("firewall-echo-in", c.echo_in.to_string()),
        ("firewall-icmp-errors", c.icmp_errors.to_string()),
        ("firewall-tcp-windows", c.tcp_windows.to_string()),
        ("firewall-udp-first", time(t.udp_first)),
        ("firewall-udp-stream", time(t.udp_stream)),
        ("firewall-udp-stream-after", time(t.udp_stream_after)),
        ("firewall-inbound-refresh", t.inbound_refresh.to_string()),
        ("firewall-tcp-syn", time(t.tcp_syn)),
        ("firewall-tcp-established", time(t.tcp_established)),
        ("firewall-tcp-fin", time(t.tcp_fin)),
        ("firewall-tcp-reset", time(t.tcp_reset)),
        ("firewall-icmp-timeout", time(t.icmp)),
        ("firewall-max-entries", c.max_entries.to_string()),
    ]
}

/// A rule as [`rule`] reads it.
fn rule_written(rule: &FirewallRule) -> String {
    let list = |ranges: &[(u16, u16)]| {
        let range = |(low, high): &(u16, u16)| match low == high {
            true => low.to_string(),
            false => format!("{low}-{high}"),
        };
        ranges.iter().map(range).collect::<Vec<_>>().join(",")
    };
    let action = match rule.action {
        RuleAction::Allow => "allow",
        RuleAction::Drop => "drop",
        RuleAction::Reject => "reject",
    };
    let way = match rule.way {
        Way::In => "in",
        Way::Out => "out",
        Way::Both => "both",
    };
    let proto = match rule.proto {
        Some(Proto::Udp) => "udp",
        Some(Proto::Tcp) => "tcp",
        Some(Proto::Icmp) => "icmp",
        _ => "any",
    };
    let mut text = format!("{action} {way} {proto}");
    if !rule.to.is_empty() {
        text.push_str(&format!(" {}", list(&rule.to)));
    }
    if !rule.from.is_empty() {
        text.push_str(&format!(" from {}", list(&rule.from)));
    }
    if rule.stateless {
        text.push_str(" stateless");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<FirewallRule, Wrong> {
        rule(&Value {
            kind: ValueKind::Text(text.into()),
            at: 0..0,
        })
    }

    #[test]
    fn rules_are_read_and_written() {
        for text in [
            "allow out tcp 80,443",
            "drop in udp 6881-6889,7000 from 53 stateless",
            "reject both any",
            "allow in icmp stateless",
            "drop out any from 1024-65535",
        ] {
            assert_eq!(read(text).map(|r| rule_written(&r)), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_told() {
        for (text, what) in [
            ("", "allow, drop or reject"),
            ("permit out tcp", "allow, drop or reject"),
            ("allow tcp out", "in, out or both"),
            ("allow out sctp", "udp, tcp, icmp or any"),
            ("allow out tcp 80-70", "odd ports"),
            ("allow out tcp 0", "odd ports"),
            ("allow out tcp 80 from", "no ports after `from`"),
            ("allow out tcp 80 443", "`443` that nothing takes"),
            ("allow out icmp 80", "has none"),
        ] {
            let wrong = read(text).expect_err(text);
            assert!(wrong.contains(what), "{text}: {wrong}");
        }
    }
}
