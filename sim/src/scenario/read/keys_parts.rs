//! The keys of routers, hosts, events and expectations.

use std::{net::IpAddr, time::Duration};

use super::{
    keys::{Key, keys},
    keys_nat,
};
use crate::{
    middlebox::nat::{Filtering, Mapping},
    packet::{Proto, verdict::Rule},
    scenario::{
        model::{Bound, IpVersions, Kind, PortForward, Random, gateway::Using, kinds::KINDS},
        population::arrive::Arrivals,
        syntax::{
            document::{Value, ValueKind},
            value::{self, Wrong},
        },
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
    pub(crate) gateway_address: Option<IpAddr>,
    pub(crate) wan: Vec<IpAddr>,
    pub(crate) wan_count: Option<u16>,
    pub(crate) forwards: Vec<PortForward>,
    pub(crate) kind: Option<Kind>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) address_count: Option<u16>,
    pub(crate) ip: IpVersions,
    pub(crate) groups: Vec<String>,
}

/// Reads `count`. Nothing is left to set when a table is read, because populations are written out
/// before.
fn count(v: &Value) -> Result<(), Wrong> {
    value::word(v, 1, u32::MAX).map(drop)
}

/// The keys of `[[router]]`, besides [`super::keys_link::LINK`] and [`super::keys_nat::NAT`].
pub(crate) const ROUTER: &[Key<Node>] = keys! {
    "name", "name", "required", "\"home\"", "The name, which must be unique among routers and hosts."
        => |s, v| s.name = value::name(v)?;
    "count", "whole number", "one alone", "50", "How many there are: `home-1`, `home-2` and so on, each with what is behind it. The values of other keys may be shares or ranges; see \"Populations\"."
        => |_s, v| count(v)?;
    "group", "names", "none", "\"homes\"", "Groups that it belongs to. The name of a population is a group of its members."
        => |s, v| s.groups = value::names(v)?;
    "behind", "router", "the core", "\"isp\"", "The router above it, such as a carrier's above a home router."
        => |s, v| s.behind = Some(value::name(v)?);
    "region", "region", "none", "\"eu-west\"", "Its region, if it is directly below the core. Delays through the core depend on the regions."
        => |s, v| s.region = Some(value::name(v)?);
    "link", "link preset", "\"lan\"", "\"dsl\"", "The link to the router above it, or to the core. The keys below change the preset."
        => |s, v| s.link = Some(value::name(v)?);
    "nat", "NAT preset", "none", "\"linux\"", "Its NAT. The keys below change any parameter of the preset."
        => |s, v| s.nat = Some(value::name(v)?);
    "firewall", "firewall preset", "none", "\"udp-blocked\"", "Its firewall."
        => |s, v| s.firewall = Some(value::name(v)?);
    "gateway", "gateway preset", "none", "\"standard\"", "The services by which the hosts behind it make port mappings in its NAT. The keys below change the preset."
        => |_s, v| value::name(v).map(drop)?;
    "gateway-address", "address", "chosen for it", "\"192.168.1.1\"", "The address of its gateway on the inner side."
        => |s, v| s.gateway_address = Some(match value::addresses(v)?.as_slice() {
            [one @ IpAddr::V4(_)] => *one,
            _ => return Err("one IPv4 address".into()),
        });
    "wan", "addresses", "chosen for it", "[\"203.0.113.1\"]", "Its addresses on the outer side."
        => |s, v| s.wan = value::addresses(v)?;
    "wan-count", "whole number", "1", "2", "The number of addresses to choose, from 1 to 64."
        => |s, v| s.wan_count = Some(value::short(v, 1, 64)?);
    "forward", "port forwards", "none", "[\"tcp 8080 alice:80\", \"6881 alice\"]", "Port mappings that were made by hand: the protocol, or none for both, the outer port, and a host behind this NAT, with its port if that is another one. They outlast a restart."
        => |s, v| s.forwards = forwards(v)?;
};

/// Reads `tcp 8080 alice:80`, or a list.
fn forwards(v: &Value) -> Result<Vec<PortForward>, Wrong> {
    let one = std::slice::from_ref(v);
    let list = match &v.kind {
        ValueKind::List(list) => list,
        _ => one,
    };
    let forward = |v: &Value| {
        let text = value::text(v)?;
        let (proto, rest) = match text.split_once(char::is_whitespace) {
            Some(("tcp", rest)) => (Some(Proto::Tcp), rest.trim()),
            Some(("udp", rest)) => (Some(Proto::Udp), rest.trim()),
            _ => (None, text.as_str()),
        };
        let (port, host) = rest.split_once(char::is_whitespace)?;
        let port = port.parse().ok().filter(|p| *p > 0)?;
        let (host, to) = match host.rsplit_once(':') {
            Some((host, to)) => (host, to.parse().ok().filter(|p| *p > 0)?),
            None => (host, port),
        };
        let host = host.trim().to_owned();
        (!host.is_empty()).then_some(PortForward {
            proto,
            port,
            host,
            to,
        })
    };
    let wrong =
        || "port forwards such as \"tcp 8080 alice:80\", \"udp 6881 alice\" or \"6881 alice\"";
    list.iter()
        .map(|v| forward(v).ok_or_else(|| wrong().into()))
        .collect()
}

/// The keys of `[[host]]`, besides [`super::keys_link::LINK`] and [`super::keys::OPTIONS`].
pub(crate) const HOST: &[Key<Node>] = keys! {
    "name", "name", "required", "\"alice\"", "The name, which must be unique among routers and hosts."
        => |s, v| s.name = value::name(v)?;
    "count", "whole number", "one alone", "50", "How many there are, behind each router of that name: `alice-1`, `alice-2` and so on. The values of other keys may be shares or ranges; see \"Populations\"."
        => |_s, v| count(v)?;
    "arrive", "arrivals", "all at `start`", "\"poisson 2/min\"", "With `count`: when they begin, counted from `start`: `\"evenly over 10min\"`, `\"poisson 2/min\"`, or a list with a time for each."
        => |_s, v| Arrivals::read(v).map(drop)?;
    "group", "names", "none", "\"peers\"", "Groups that it belongs to. Expectations, `peers` and `trackers` may name a group. The name of a population is a group of its members."
        => |s, v| s.groups = value::names(v)?;
    "behind", "router", "the core", "\"home\"", "The router above it. Without one the host is on the open internet."
        => |s, v| s.behind = Some(value::name(v)?);
    "kind", "kind of host", "required", "\"echo\"", "What the host does; see the kinds of hosts below."
        => |s, v| s.kind = Some({
            let names: Vec<(&str, Kind)> = KINDS.iter().map(|k| (k.name, k.kind)).collect();
            value::choice(v, &names)?
        });
    "region", "region", "none", "\"india\"", "Its region, like a router's."
        => |s, v| s.region = Some(value::name(v)?);
    "link", "link preset", "\"lan\"", "\"cable\"", "The link to the router above it, or to the core. The keys below change the preset."
        => |s, v| s.link = Some(value::name(v)?);
    "address", "addresses", "chosen for it", "[\"198.51.100.7\"]", "The host's addresses."
        => |s, v| s.addresses = value::addresses(v)?;
    "address-count", "whole number", "1, of kind `stun` 2", "2", "The number of addresses to choose, of each version, from 1 to 64."
        => |s, v| s.address_count = Some(value::short(v, 1, 64)?);
    "ip", "v4, v6 or both", "\"v4\"", "\"both\"", "Which addresses are chosen if `address` gives none."
        => |s, v| s.ip = value::choice(v, &[("v4", IpVersions::V4), ("v6", IpVersions::V6), ("both", IpVersions::Both)])?;
};

/// The keys of an `[[event]]`, before references are resolved.
#[derive(Default)]
pub(crate) struct EventDraft {
    pub(crate) at: Option<Duration>,
    pub(crate) reboot: Option<String>,
    pub(crate) cut: Option<String>,
    pub(crate) unplug: Option<String>,
    pub(crate) mend: Option<String>,
    pub(crate) change: Option<String>,
    pub(crate) renumber: Option<String>,
    pub(crate) part: Option<Vec<String>>,
    pub(crate) join: Option<Vec<String>>,
    pub(crate) wan: Vec<IpAddr>,
    pub(crate) keep: Option<bool>,
    pub(crate) link: Option<String>,
    pub(crate) off: Option<String>,
    pub(crate) on: Option<String>,
    pub(crate) send: Option<String>,
    pub(crate) map: Option<String>,
    pub(crate) using: Option<Using>,
    pub(crate) protocol: Option<Proto>,
    pub(crate) external_port: Option<u16>,
    pub(crate) lease: Option<Duration>,
    pub(crate) client: Option<String>,
    pub(crate) preset: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) to: Option<String>,
    pub(crate) to_port: Option<u16>,
    pub(crate) size: Option<u16>,
}

/// The keys that select the action of an event. Exactly one is required.
pub(crate) const ACTIONS: &[&str] = &[
    "reboot", "cut", "unplug", "mend", "link", "change", "renumber", "part", "join", "off", "on",
    "send", "map",
];

/// The keys of `[[event]]`, besides [`super::keys_link::LINK`] for `link` and `change`.
pub(crate) const EVENT: &[Key<EventDraft>] = keys! {
    "at", "time", "required", "\"12s\"", "The time of the event, from the start of the scenario."
        => |s, v| s.at = Some(value::duration(v)?);
    "reboot", "router", "", "\"home\"", "The router restarts and forgets every flow."
        => |s, v| s.reboot = Some(value::name(v)?);
    "cut", "router or host", "", "\"home\"", "The link above it is cut, and nothing passes."
        => |s, v| s.cut = Some(value::name(v)?);
    "unplug", "router or host", "", "\"home\"", "The link above it is cut, and it notices: a router answers that there is no way out, and a NAT forgets the flows that it translated, as Linux does when the interface goes down."
        => |s, v| s.unplug = Some(value::name(v)?);
    "mend", "router or host", "", "\"home\"", "The link above it works again, whichever way it was cut."
        => |s, v| s.mend = Some(value::name(v)?);
    "link", "router or host", "", "\"home\"", "The link above it changes to `preset` with the keys of a link."
        => |s, v| s.link = Some(value::name(v)?);
    "change", "router or host", "", "\"home\"", "The link above it changes in the keys of a link that the event has, and in nothing else. What waits goes on at the new rate."
        => |s, v| s.change = Some(value::name(v)?);
    "renumber", "router", "", "\"home\"", "The router gets other outer addresses, like a provider's customer who dials anew. The old ones are nobody's. A NAT forgets the flows that it translated; its port forwards move."
        => |s, v| s.renumber = Some(value::name(v)?);
    "part", "one or two regions", "", "[\"eu-west\", \"na-east\"]", "The two regions no longer reach each other, or one region no other."
        => |s, v| s.part = Some(regions(v)?);
    "join", "one or two regions", "", "[\"eu-west\", \"na-east\"]", "They reach each other again."
        => |s, v| s.join = Some(regions(v)?);
    "off", "host", "", "\"alice\"", "The host is switched off, and packets for it are dropped."
        => |s, v| s.off = Some(value::name(v)?);
    "on", "host", "", "\"alice\"", "The host is switched on and starts anew."
        => |s, v| s.on = Some(value::name(v)?);
    "send", "host", "", "\"alice\"", "The host, of kind `manual`, sends a datagram to `to`."
        => |s, v| s.send = Some(value::name(v)?);
    "map", "host", "", "\"alice\"", "The host, of kind `manual` or `echo`, asks its gateway for a port mapping."
        => |s, v| s.map = Some(value::name(v)?);
    "using", "upnp, nat-pmp or pcp", "nat-pmp", "\"pcp\"", "With `map`: the protocol by which it asks."
        => |s, v| s.using = Some(value::choice(v, &[("upnp", Using::Upnp), ("nat-pmp", Using::NatPmp), ("pcp", Using::Pcp)])?);
    "protocol", "udp or tcp", "udp", "\"tcp\"", "With `map`: the transport whose port is mapped."
        => |s, v| s.protocol = Some(value::choice(v, &[("udp", Proto::Udp), ("tcp", Proto::Tcp)])?);
    "external-port", "port", "the port inside", "7000", "With `map`: the port outside."
        => |s, v| s.external_port = Some(value::short(v, 1, u16::MAX)?);
    "lease", "time", "1h", "\"10min\"", "With `map`: how long the mapping is to last."
        => |s, v| s.lease = Some(value::duration(v)?);
    "for", "host", "the host itself", "\"alice\"", "With `map` by UPnP: the host that gets the mapping."
        => |s, v| s.client = Some(value::name(v)?);
    "preset", "link preset", "\"lan\"", "\"dsl\"", "With `link`: the preset of the new link."
        => |s, v| s.preset = Some(value::name(v)?);
    "wan", "addresses", "chosen for it", "[\"203.0.113.9\"]", "With `renumber`: the new addresses."
        => |s, v| s.wan = value::addresses(v)?;
    "flows", "forgotten or kept", "forgotten", "\"kept\"", "With `unplug` and `renumber`: whether a NAT keeps the flows that it translated. Kept ones go on from the old address, and are not answered there."
        => |s, v| s.keep = Some(value::choice(v, &[("forgotten", false), ("kept", true)])?);
    "to", "host or router", "required", "\"server\"", "With `send`: the receiver. A router stands for its outer address, and what is mapped there."
        => |s, v| s.to = Some(value::name(v)?);
    "to-port", "port", "that host's port", "7000", "With `send`: the port of the receiver, which is required for a router."
        => |s, v| s.to_port = Some(value::short(v, 1, u16::MAX)?);
    "port", "port", "that host's port", "40001", "With `send`: the port of the sender. With `map`: the port inside, which is that of the host by default."
        => |s, v| s.port = Some(value::short(v, 1, u16::MAX)?);
    "size", "whole number", "64", "100", "With `send`: the bytes of data, from 16 to 1400."
        => |s, v| s.size = Some(value::short(v, 16, 1_400)?);
};

/// A host, a mapping and a filtering.
fn behaviour(v: &Value) -> Result<(String, Mapping, Filtering), Wrong> {
    let ValueKind::List(list) = &v.kind else {
        return Err("a list such as [\"alice\", \"EIM\", \"APDF\"]".into());
    };
    let [host, mapping, filtering] = &list[..] else {
        return Err("a host, a mapping and a filtering: [\"alice\", \"EIM\", \"APDF\"]".into());
    };
    Ok((
        value::name(host)?,
        keys_nat::mapping(mapping)?,
        keys_nat::filtering(filtering)?,
    ))
}

/// One region, or two.
fn regions(v: &Value) -> Result<Vec<String>, Wrong> {
    value::names(v)
        .ok()
        .filter(|names| names.len() <= 2 && names.first() != names.get(1))
        .ok_or_else(|| "a region, or two of them: [\"eu-west\", \"na-east\"]".into())
}

/// The keys of `[random]`.
pub(crate) const RANDOM: &[Key<Random>] = keys! {
    "events", "whole number", "required", "100", "The number of datagrams whose times, senders and ports are drawn from the seed; at most 100000."
        => |s, v| s.count = value::word(v, 1, 100_000)?;
    "senders", "hosts", "required", "[\"alice\", \"bob\"]", "The senders: hosts of kind `manual`."
        => |s, v| s.senders = value::names(v)?;
    "receivers", "hosts", "required", "\"server\"", "The receivers."
        => |s, v| s.receivers = value::names(v)?;
    "from", "time", "0s", "\"1s\"", "The earliest time."
        => |s, v| s.from = value::duration(v)?;
    "until", "time", "the end", "\"50s\"", "The latest time."
        => |s, v| s.until = Some(value::duration(v)?);
    "ports", "whole number", "16", "8", "The number of source ports, counted from 40000."
        => |s, v| s.ports = value::short(v, 1, 20_000)?;
    "to-port", "port", "that host's port", "7000", "The port of the receivers."
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
    pub(crate) share: Option<u32>,
    pub(crate) stays_connected: Option<(String, String)>,
    pub(crate) mappings_kept: Option<String>,
    pub(crate) flows_kept: Option<String>,
    pub(crate) new_flows: Option<String>,
    pub(crate) queue_delay: Option<String>,
    pub(crate) behaviour: Option<(String, Mapping, Filtering)>,
    pub(crate) until: Option<Duration>,
    pub(crate) below: Option<Duration>,
    pub(crate) quantile: Option<u32>,
    pub(crate) down: bool,
}

/// The keys that select the condition of an expectation, and the keys that go with each.
pub(crate) const CHECKS: &[(&str, &[&str])] = &[
    (
        "connected",
        &["within", "share", "at-least", "at-most", "exactly"],
    ),
    ("not-connected", &[]),
    (
        "completed",
        &["within", "share", "at-least", "at-most", "exactly"],
    ),
    ("not-completed", &[]),
    ("sooner", &[]),
    ("rule", &["at", "at-least", "at-most", "exactly"]),
    ("delivered", &["at-least", "at-most", "exactly"]),
    ("answered", &["share", "at-least", "at-most", "exactly"]),
    (
        "unbroken",
        &["gap", "share", "at-least", "at-most", "exactly"],
    ),
    (
        "broken",
        &["gap", "share", "at-least", "at-most", "exactly"],
    ),
    (
        "stays-connected",
        &["until", "gap", "share", "at-least", "at-most", "exactly"],
    ),
    ("mappings-kept", &["share"]),
    ("flows-kept", &["share"]),
    ("new-flows", &["at-least", "at-most", "exactly", "share"]),
    ("queue-delay", &["way", "quantile", "below", "share"]),
    ("behaviour", &[]),
    ("trace", &[]),
];

/// The keys of `[[expect]]`.
pub(crate) const EXPECT: &[Key<ExpectDraft>] = keys! {
    "connected", "two hosts or groups", "", "[\"alice\", \"bob\"]", "The two hosts get a direct connection. Two populations stand for their pairs, number by number."
        => |s, v| s.connected = Some(value::pair(v)?);
    "not-connected", "two hosts", "", "[\"alice\", \"bob\"]", "The two hosts have no direct connection at the end."
        => |s, v| s.not_connected = Some(value::pair(v)?);
    "completed", "hosts or groups", "", "[\"alice\", \"bob\"]", "Each of the hosts completes the torrent, or as many as `share` or `at-least` says."
        => |s, v| s.completed = Some(value::names(v)?);
    "not-completed", "hosts", "", "\"alice\"", "None of the hosts has the complete torrent at the end."
        => |s, v| s.not_completed = Some(value::names(v)?);
    "sooner", "two hosts", "", "[\"alice\", \"bob\"]", "The first host completes the torrent, and sooner than the second, if that one ever does."
        => |s, v| s.sooner = Some(value::pair(v)?);
    "rule", "rule", "", "\"nat.filtered\"", "This rule decided about packets; see the rules below."
        => |s, v| s.rule = Some({
            let names: Vec<(&str, Rule)> = Rule::ALL.iter().map(|r| (r.name(), *r)).collect();
            value::choice(v, &names).map_err(|wrong| match wrong.split_once("(did you mean ") {
                Some((_, near)) => format!("a rule: did you mean {}", near.trim_end_matches(')')),
                None => "the name of a rule, such as \"nat.filtered\"; SCENARIOS.md lists them".into(),
            })?
        });
    "delivered", "two hosts", "", "[\"alice\", \"bob\"]", "Packets that the first sent reached the second."
        => |s, v| s.delivered = Some(value::pair(v)?);
    "answered", "host or group", "", "\"alice\"", "Every datagram that this `manual` or `steady` host sent came back, except those that may still be under way at the end."
        => |s, v| s.answered = Some(value::name(v)?);
    "unbroken", "host or group", "", "\"caller\"", "This `steady` host never waited longer than `gap` for an answer."
        => |s, v| s.unbroken = Some(value::name(v)?);
    "broken", "host or group", "", "\"caller\"", "This `steady` host waited longer than `gap` for an answer at least once."
        => |s, v| s.broken = Some(value::name(v)?);
    "stays-connected", "two hosts or groups", "", "[\"alice\", \"bob\"]", "The two `udp-punch` hosts, which have a `keepalive`, hear each other from their first connection on, without a silence that is longer than that by more than `gap`."
        => |s, v| s.stays_connected = Some(value::pair(v)?);
    "mappings-kept", "router or group", "", "\"home\"", "No packet meets a NAT mapping missing that was there before: expired, evicted or forgotten in a restart."
        => |s, v| s.mappings_kept = Some(value::name(v)?);
    "flows-kept", "host or group", "", "\"bystander\"", "No flow that this host has opened through the boxes above it is refused or mapped anew, and none of its answers, unless its hosts have ended it."
        => |s, v| s.flows_kept = Some(value::name(v)?);
    "new-flows", "host, router or group", "", "\"home\"", "The flows that the host opens, or the hosts behind the router, in any second; with `at-most`."
        => |s, v| s.new_flows = Some(value::name(v)?);
    "queue-delay", "router, host or group", "", "\"home\"", "How long packets wait for the link above it: `quantile` of those that it carries wait less than `below`."
        => |s, v| s.queue_delay = Some(value::name(v)?);
    "until", "time", "the end", "\"30s\"", "With `stays-connected`: the time until which they do."
        => |s, v| s.until = Some(value::duration(v)?);
    "below", "time", "required", "\"150ms\"", "With `queue-delay`: the time that packets wait less than."
        => |s, v| s.below = Some(value::duration(v)?);
    "quantile", "share", "95%", "\"99%\"", "With `queue-delay`: the share of packets."
        => |s, v| s.quantile = Some(value::share(v)?);
    "way", "up or down", "up", "\"down\"", "With `queue-delay`: towards the core, or towards the host."
        => |s, v| s.down = value::choice(v, &[("up", false), ("down", true)])?;
    "behaviour", "host, mapping and filtering", "", "[\"alice\", \"EIM\", \"APDF\"]", "This `stun-client` found out how the NATs before it map and filter."
        => |s, v| s.behaviour = Some(behaviour(v)?);
    "trace", "hash", "", "\"0123456789abcdef\"", "The hash of the trace with the scenario's own seed: 16 hexadecimal digits, as `run` prints them."
        => |s, v| s.trace = Some({
            let text = value::line(v).unwrap_or_default();
            match u64::from_str_radix(&text, 16) {
                Ok(hash) if text.len() == 16 => hash,
                _ => return Err("a hash of 16 hexadecimal digits, in quotes".into()),
            }
        });
    "within", "time", "the end", "\"5s\"", "With `connected` and `completed`: the latest time, from the start of the scenario."
        => |s, v| s.within = Some(value::duration(v)?);
    "gap", "time", "3s", "\"3s\"", "With `unbroken` and `broken`: the longest time without an answer. With `stays-connected`: how much later than due the other host may be heard."
        => |s, v| s.gap = Some(value::duration(v)?);
    "at", "router or host", "anywhere", "\"home\"", "With `rule`: the router or host that decided; all members of a group together."
        => |s, v| s.at = Some(value::name(v)?);
    "share", "share", "all of them", "\"70%\"", "With hosts or groups that are to do something: at least this share of them, or of the pairs."
        => |s, v| s.share = Some(value::share(v)?);
    "at-least", "whole number", "1 packet, or all hosts", "3", "With `rule` and `delivered`: at least this many packets. With hosts or groups: at least this many of them, or of the pairs."
        => |s, v| s.bound.at_least = Some(value::whole(v, 0, u64::MAX)?);
    "at-most", "whole number", "no limit", "10", "Like `at-least`: at most this many."
        => |s, v| s.bound.at_most = Some(value::whole(v, 0, u64::MAX)?);
    "exactly", "whole number", "", "0", "Like `at-least`: exactly this many."
        => |s, v| {
            let n = value::whole(v, 0, u64::MAX)?;
            s.bound = Bound { at_least: Some(n), at_most: Some(n) };
        };
};
