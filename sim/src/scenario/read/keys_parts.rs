//! The keys of routers, hosts, events and expectations.

use std::{net::IpAddr, time::Duration};

use super::keys::{Key, keys};
use crate::{
    packet::verdict::Rule,
    scenario::{
        model::{Bound, Kind, Random, kinds::KINDS},
        syntax::value,
    },
};

/// The keys of a `[[router]]` or `[[host]]`, before references are resolved.
#[derive(Default)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) behind: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) link: Option<String>,
    pub(crate) nat: Option<String>,
    pub(crate) firewall: Option<String>,
    pub(crate) wan: Vec<IpAddr>,
    pub(crate) wan_count: Option<u16>,
    pub(crate) kind: Option<Kind>,
    pub(crate) addresses: Vec<IpAddr>,
}

/// The keys of `[[router]]`, besides [`super::keys::LINK`] and [`super::keys_nat::NAT`].
pub(crate) const ROUTER: &[Key<Node>] = keys! {
    "name", "name", "none: needed", "\"home\"", "Its name, different from every other router's and host's."
        => |s, v| s.name = value::name(v)?;
    "behind", "router", "the core", "\"isp\"", "The router above it: a home router behind a carrier's."
        => |s, v| s.behind = Some(value::name(v)?);
    "region", "region", "none", "\"eu-west\"", "Where in the world it is, if it is right below the core: what a packet takes through the core goes by the regions."
        => |s, v| s.region = Some(value::name(v)?);
    "link", "link preset", "\"lan\"", "\"dsl\"", "The link to what is above it; the keys below change the preset."
        => |s, v| s.link = Some(value::name(v)?);
    "nat", "NAT preset", "none", "\"linux\"", "Its NAT. Every parameter of the preset can be changed by the keys below."
        => |s, v| s.nat = Some(value::name(v)?);
    "firewall", "firewall preset", "none", "\"udp-blocked\"", "Its firewall."
        => |s, v| s.firewall = Some(value::name(v)?);
    "wan", "addresses", "chosen for it", "[\"203.0.113.1\"]", "Its addresses on the upper side."
        => |s, v| s.wan = value::addresses(v)?;
    "wan-count", "whole number", "1", "2", "How many addresses are chosen for it, from 1 to 64."
        => |s, v| s.wan_count = Some(value::short(v, 1, 64)?);
};

/// The keys of `[[host]]`, besides [`super::keys::LINK`] and [`super::keys::OPTIONS`].
pub(crate) const HOST: &[Key<Node>] = keys! {
    "name", "name", "none: needed", "\"alice\"", "Its name, different from every other router's and host's."
        => |s, v| s.name = value::name(v)?;
    "behind", "router", "the core", "\"home\"", "The router above it; without one it stands on the open internet."
        => |s, v| s.behind = Some(value::name(v)?);
    "kind", "kind of host", "none: needed", "\"echo\"", "What it does; see the kinds of hosts below."
        => |s, v| s.kind = Some({
            let names: Vec<(&str, Kind)> = KINDS.iter().map(|k| (k.name, k.kind)).collect();
            value::choice(v, &names)?
        });
    "region", "region", "none", "\"india\"", "As for a router."
        => |s, v| s.region = Some(value::name(v)?);
    "link", "link preset", "\"lan\"", "\"cable\"", "The link to what is above it; the keys below change the preset."
        => |s, v| s.link = Some(value::name(v)?);
    "address", "addresses", "chosen for it", "[\"198.51.100.7\"]", "Its own addresses."
        => |s, v| s.addresses = value::addresses(v)?;
};

/// The keys of an `[[event]]`, before references are resolved.
#[derive(Default)]
pub(crate) struct EventDraft {
    pub(crate) at: Option<Duration>,
    pub(crate) reboot: Option<String>,
    pub(crate) cut: Option<String>,
    pub(crate) mend: Option<String>,
    pub(crate) link: Option<String>,
    pub(crate) off: Option<String>,
    pub(crate) on: Option<String>,
    pub(crate) send: Option<String>,
    pub(crate) preset: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) to: Option<String>,
    pub(crate) to_port: Option<u16>,
    pub(crate) size: Option<u16>,
}

/// The keys that select the action of an event. Exactly one is required.
pub(crate) const ACTIONS: &[&str] = &["reboot", "cut", "mend", "link", "off", "on", "send"];

/// The keys of `[[event]]`, besides [`super::keys::LINK`] for `link`.
pub(crate) const EVENT: &[Key<EventDraft>] = keys! {
    "at", "time", "none: needed", "\"12s\"", "When it happens, from the start of the scenario."
        => |s, v| s.at = Some(value::duration(v)?);
    "reboot", "router", "", "\"home\"", "The router restarts and forgets every flow."
        => |s, v| s.reboot = Some(value::name(v)?);
    "cut", "router or host", "", "\"home\"", "The link above it is cut: nothing passes."
        => |s, v| s.cut = Some(value::name(v)?);
    "mend", "router or host", "", "\"home\"", "The link above it is joined again."
        => |s, v| s.mend = Some(value::name(v)?);
    "link", "router or host", "", "\"home\"", "The link above it changes to `preset` with the keys of a link."
        => |s, v| s.link = Some(value::name(v)?);
    "off", "host", "", "\"alice\"", "The host is switched off: what is for it is dropped."
        => |s, v| s.off = Some(value::name(v)?);
    "on", "host", "", "\"alice\"", "It is switched on again and starts anew."
        => |s, v| s.on = Some(value::name(v)?);
    "send", "host", "", "\"alice\"", "The host, of kind `manual`, sends a datagram to `to`."
        => |s, v| s.send = Some(value::name(v)?);
    "preset", "link preset", "\"lan\"", "\"dsl\"", "With `link`: what the link becomes."
        => |s, v| s.preset = Some(value::name(v)?);
    "to", "host or router", "none: needed", "\"server\"", "With `send`: to whom; a router stands for what it maps to its outer address."
        => |s, v| s.to = Some(value::name(v)?);
    "to-port", "port", "that host's port", "7000", "With `send`: to which port; needed if that is a router."
        => |s, v| s.to_port = Some(value::short(v, 1, u16::MAX)?);
    "port", "port", "the sender's port", "40001", "With `send`: from which port."
        => |s, v| s.port = Some(value::short(v, 1, u16::MAX)?);
    "size", "whole number", "64", "100", "With `send`: bytes of data, from 16 to 1400."
        => |s, v| s.size = Some(value::short(v, 16, 1_400)?);
};

/// The keys of `[random]`.
pub(crate) const RANDOM: &[Key<Random>] = keys! {
    "events", "whole number", "none: needed", "100", "How many datagrams are sent at times, by hosts and from ports that are drawn from the seed; at most 100000."
        => |s, v| s.count = value::word(v, 1, 100_000)?;
    "senders", "hosts", "none: needed", "[\"alice\", \"bob\"]", "Who sends: hosts of kind `manual`."
        => |s, v| s.senders = value::names(v)?;
    "receivers", "hosts", "none: needed", "\"server\"", "To whom."
        => |s, v| s.receivers = value::names(v)?;
    "from", "time", "0s", "\"1s\"", "Not before this."
        => |s, v| s.from = value::duration(v)?;
    "until", "time", "the end", "\"50s\"", "Not after this."
        => |s, v| s.until = Some(value::duration(v)?);
    "ports", "whole number", "16", "8", "From how many different ports, counted from 40000."
        => |s, v| s.ports = value::short(v, 1, 20_000)?;
    "to-port", "port", "that host's port", "7000", "To which port."
        => |s, v| s.to_port = Some(value::short(v, 1, u16::MAX)?);
};

/// The keys of an `[[expect]]`, before references are resolved.
#[derive(Default)]
pub(crate) struct ExpectDraft {
    pub(crate) connected: Option<(String, String)>,
    pub(crate) not_connected: Option<(String, String)>,
    pub(crate) completed: Option<Vec<String>>,
    pub(crate) not_completed: Option<Vec<String>>,
    pub(crate) sooner: Option<(String, String)>,
    pub(crate) rule: Option<Rule>,
    pub(crate) delivered: Option<(String, String)>,
    pub(crate) answered: Option<String>,
    pub(crate) unbroken: Option<String>,
    pub(crate) broken: Option<String>,
    pub(crate) trace: Option<u64>,
    pub(crate) within: Option<Duration>,
    pub(crate) gap: Option<Duration>,
    pub(crate) at: Option<String>,
    pub(crate) bound: Bound,
}

/// The keys that select the condition of an expectation, and the keys that go with each.
pub(crate) const CHECKS: &[(&str, &[&str])] = &[
    ("connected", &["within"]),
    ("not-connected", &[]),
    ("completed", &["within"]),
    ("not-completed", &[]),
    ("sooner", &[]),
    ("rule", &["at", "at-least", "at-most", "exactly"]),
    ("delivered", &["at-least", "at-most", "exactly"]),
    ("answered", &[]),
    ("unbroken", &["gap"]),
    ("broken", &["gap"]),
    ("trace", &[]),
];

/// The keys of `[[expect]]`.
pub(crate) const EXPECT: &[Key<ExpectDraft>] = keys! {
    "connected", "two hosts", "", "[\"alice\", \"bob\"]", "The two get a direct connection."
        => |s, v| s.connected = Some(value::pair(v)?);
    "not-connected", "two hosts", "", "[\"alice\", \"bob\"]", "They get none, to the end."
        => |s, v| s.not_connected = Some(value::pair(v)?);
    "completed", "hosts", "", "[\"alice\", \"bob\"]", "Each has the whole torrent."
        => |s, v| s.completed = Some(value::names(v)?);
    "not-completed", "hosts", "", "\"alice\"", "None has it, to the end."
        => |s, v| s.not_completed = Some(value::names(v)?);
    "sooner", "two hosts", "", "[\"alice\", \"bob\"]", "The first has the whole torrent, and sooner than the second, if that ever has."
        => |s, v| s.sooner = Some(value::pair(v)?);
    "rule", "rule", "", "\"nat.filtered\"", "Packets met this rule; see the rules below."
        => |s, v| s.rule = Some({
            let names: Vec<(&str, Rule)> = Rule::ALL.iter().map(|r| (r.name(), *r)).collect();
            value::choice(v, &names).map_err(|wrong| match wrong.split_once("(did you mean ") {
                Some((_, near)) => format!("a rule: did you mean {}", near.trim_end_matches(')')),
                None => "the name of a rule, such as \"nat.filtered\"; SCENARIOS.md lists them".into(),
            })?
        });
    "delivered", "two hosts", "", "[\"alice\", \"bob\"]", "Packets that the first sent reached the second."
        => |s, v| s.delivered = Some(value::pair(v)?);
    "answered", "host", "", "\"alice\"", "Every datagram that this `manual` or `steady` host sent came back."
        => |s, v| s.answered = Some(value::name(v)?);
    "unbroken", "host", "", "\"caller\"", "This `steady` host never waited longer than `gap` for an answer."
        => |s, v| s.unbroken = Some(value::name(v)?);
    "broken", "host", "", "\"caller\"", "It did, at least once."
        => |s, v| s.broken = Some(value::name(v)?);
    "trace", "hash", "", "\"0123456789abcdef\"", "With the scenario's own seed the trace has this hash, 16 hexadecimal digits as `run` prints them."
        => |s, v| s.trace = Some({
            let text = value::line(v).unwrap_or_default();
            match u64::from_str_radix(&text, 16) {
                Ok(hash) if text.len() == 16 => hash,
                _ => return Err("a hash of 16 hexadecimal digits, in quotes".into()),
            }
        });
    "within", "time", "the end", "\"5s\"", "With `connected` and `completed`: at the latest, from the start of the scenario."
        => |s, v| s.within = Some(value::duration(v)?);
    "gap", "time", "3s", "\"3s\"", "With `unbroken` and `broken`: the longest time without an answer."
        => |s, v| s.gap = Some(value::duration(v)?);
    "at", "router or host", "anywhere", "\"home\"", "With `rule`: where."
        => |s, v| s.at = Some(value::name(v)?);
    "at-least", "whole number", "1 if nothing is said", "3", "With `rule` and `delivered`: so many packets or more."
        => |s, v| s.bound.at_least = Some(value::whole(v, 0, u64::MAX)?);
    "at-most", "whole number", "no limit", "10", "… or fewer."
        => |s, v| s.bound.at_most = Some(value::whole(v, 0, u64::MAX)?);
    "exactly", "whole number", "", "0", "… no more and no fewer."
        => |s, v| {
            let n = value::whole(v, 0, u64::MAX)?;
            s.bound = Bound { at_least: Some(n), at_most: Some(n) };
        };
};
