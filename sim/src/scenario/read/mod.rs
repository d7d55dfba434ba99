//! Reads a document into a scenario: checks that every key is known, every value is valid, and
//! every name that is referred to exists.

mod entry;
mod events;
pub(crate) mod expects;
pub(crate) mod keys;
pub(crate) mod keys_firewall;
pub(crate) mod keys_gateway;
pub(crate) mod keys_link;
pub(crate) mod keys_nat;
pub(crate) mod keys_parts;
pub(crate) mod names;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use self::{
    entry::{Res, fill, has, link_preset, link_works, names_of, need, take, unknown},
    events::{event, links_change, random, regions_exist},
    expects::expect,
    keys::{OPTIONS, TOP, TORRENT},
    keys_firewall::FIREWALL,
    keys_gateway::GATEWAY,
    keys_link::LINK,
    keys_nat::NAT,
    keys_parts::{HOST, Node, ROUTER},
    names::Names,
};
use super::{
    limits::{MAX_DEPTH, MAX_EVENTS, MAX_NODES},
    model::{
        Host, Kind, Link, Options, Router, Scenario, Torrent,
        kinds::{KINDS, KindInfo},
        links,
        plan::{Place, Plan},
        presets,
    },
    population,
    syntax::{
        document::{Document, Entry},
        error::{Errors, ScenarioErrors, suggest},
        value,
    },
};
use crate::host::gateway::GatewayProfile;

/// The tables of a scenario, and whether each may occur several times.
const SECTIONS: &[(&str, bool)] = &[
    ("torrent", false),
    ("random", false),
    ("router", true),
    ("host", true),
    ("event", true),
    ("expect", true),
];

impl Scenario {
    /// Reads a scenario. `file` is its name in messages.
    ///
    /// # Errors
    /// Tells everything that is invalid: where, and what would be valid.
    pub fn parse(text: &str, file: &str) -> Result<Self, ScenarioErrors> {
        Self::from_document(&Document::parse(text, file)?)
    }

    /// Reads a scenario from a document.
    ///
    /// # Errors
    /// Like [`Scenario::parse`].
    pub fn from_document(doc: &Document) -> Result<Self, ScenarioErrors> {
        Self::drawn_from(doc, seed_of(doc))
    }

    /// Reads a scenario with what its populations draw with a seed.
    pub(crate) fn drawn_from(source: &Document, seed: u64) -> Result<Self, ScenarioErrors> {
        let mut errors = Errors::default();
        check_sections(source, &mut errors);
        if population::is_used(source) {
            errors.once_for_each_place();
        }
        let doc = &*population::written_out(source, seed, &mut errors);
        let file_name = std::path::Path::new(&doc.file).file_stem();
        let mut s = Self {
            name: file_name.map_or_else(String::new, |n| n.to_string_lossy().into_owned()),
            about: String::new(),
            seed: 1,
            duration: Duration::from_secs(60),
            torrent: Torrent {
                size: 1 << 20,
                piece: 64 << 10,
            },
            routers: Vec::new(),
            hosts: Vec::new(),
            events: Vec::new(),
            random: None,
            expects: Vec::new(),
            groups: BTreeMap::new(),
            drawn_from: population::is_used(source).then(|| Arc::new(source.clone())),
        };
        let names = Names::read(doc, &mut errors);
        let mut lasts = true;
        for entry in &doc.entries {
            if errors.is_full() {
                break;
            }
            match entry.section.as_str() {
                "" => lasts = fill(doc, &plain(entry), TOP, &mut s, &mut errors),
                "torrent" => {
                    fill(doc, entry, TORRENT, &mut s.torrent, &mut errors);
                }
                "router" => s.routers.extend(router(doc, entry, &names, &mut errors)),
                "host" => s.hosts.extend(host(doc, entry, &names, &mut errors)),
                "event" => s.events.extend(event(doc, entry, &names, &mut errors)),
                "random" => s.random = random(doc, entry, &names, &mut errors),
                "expect" => s.expects.extend(expect(doc, entry, &names, &mut errors)),
                // The table was rejected.
                _ => {}
            }
        }
        if lasts {
            all_happens(doc, s.duration, &mut errors);
        }
        s.events.sort_by_key(|e| e.at);
        let of_routers = |e: &&Entry| e.section == "router";
        if s.routers.len() == doc.entries.iter().filter(of_routers).count() {
            let sorted = parents_first(doc, std::mem::take(&mut s.routers));
            s.routers = errors.keep(sorted).unwrap_or_default();
        }
        if errors.is_empty() {
            links_change(doc, &s, &mut errors);
            regions_exist(doc, &s, &mut errors);
        }
        // Addresses make sense when all else does.
        if errors.is_empty()
            && let Err(conflicts) = Plan::new(&s)
        {
            for conflict in conflicts {
                let at = place_of(doc, &conflict.place);
                errors.keep::<()>(Err(doc.error(at, conflict.message, conflict.help)));
            }
        }
        s.groups = names.into_groups();
        errors.or(s)
    }
}

/// The seed that a document gives, or the default.
fn seed_of(doc: &Document) -> u64 {
    let seed = doc.entries.first().and_then(|top| top.item("seed"));
    seed.and_then(|i| value::whole(&i.value, 0, u64::MAX).ok())
        .unwrap_or(1)
}

/// The keys before the first table, without those that are tables and were rejected as such.
fn plain(top: &Entry) -> Entry {
    let mut top = top.clone();
    let is_table = |key: &str| SECTIONS.iter().any(|(section, _)| *section == key);
    top.items.retain(|i| !is_table(&i.key));
    top
}

/// Checks that what has a time happens before the end, and that what stops has started.
fn all_happens(doc: &Document, end: Duration, errors: &mut Errors) {
    let time = |entry: &Entry, key: &str| value::duration(&entry.item(key)?.value).ok();
    let ends = || format!("the scenario ends at {}", crate::report::units::time(end));
    for entry in &doc.entries {
        let (key, message) = match entry.section.as_str() {
            "event" => ("at", "this never happens"),
            "host" => ("start", "it never starts"),
            "expect" => ("until", "this is after the end"),
            _ => continue,
        };
        if time(entry, key).is_some_and(|at| at > end) && !errors.is_full() {
            errors.keep::<()>(Err(doc.error(entry.place(key), message, ends())));
        }
        if entry.section == "host"
            && let Some((start, stop)) = time(entry, "start").zip(time(entry, "stop"))
            && stop <= start
            && !errors.is_full()
        {
            let help = "give it a later `stop`, or an earlier `start`";
            errors.keep::<()>(Err(doc.error(
                entry.place("stop"),
                "it stops before it starts",
                help,
            )));
        }
    }
}

fn check_sections(doc: &Document, errors: &mut Errors) {
    let (mut nodes, mut events) = (0, 0);
    for entry in doc.entries.iter().skip(1) {
        if errors.is_full() {
            return;
        }
        let name = entry.section.as_str();
        let mut wrong = |message: String, help: String| {
            errors.keep::<()>(Err(doc.error(entry.at.clone(), message, help)));
        };
        let Some((_, several)) = SECTIONS.iter().find(|(s, _)| *s == name) else {
            let known = SECTIONS.iter().map(|(s, _)| *s);
            let help = suggest(name, known, "tables");
            let shape = if entry.listed {
                format!("[[{name}]]")
            } else {
                format!("[{name}]")
            };
            wrong(format!("`{shape}` is not a table here"), help);
            continue;
        };
        if *several != entry.listed {
            let (is, should) = if *several {
                (format!("[{name}]"), format!("[[{name}]]"))
            } else {
                (format!("[[{name}]]"), format!("[{name}]"))
            };
            let message = if *several {
                format!("`{is}` is one of a list")
            } else {
                format!("`{is}` is there once")
            };
            wrong(message, format!("write `{should}`"));
        }
        nodes += usize::from(name == "router" || name == "host");
        events += usize::from(name == "event");
        if nodes > MAX_NODES || events > MAX_EVENTS {
            let help = format!("at most {MAX_NODES} routers and hosts and {MAX_EVENTS} events");
            wrong("this is too much".into(), help);
            return;
        }
    }
    // A table that was written as a key before the first table, such as `router = 5`.
    for item in &doc.entries[0].items {
        if let Some((name, several)) = SECTIONS.iter().find(|(s, _)| *s == item.key) {
            let should = if *several {
                format!("write `[[{name}]]` and its keys below")
            } else {
                format!("write `[{name}]` and its keys below")
            };
            let message = format!("`{name}` is a table");
            errors.keep::<()>(Err(doc.error(item.at.clone(), message, should)));
        }
    }
}

fn region(doc: &Document, entry: &Entry, node: &Node) -> Res<()> {
    let Some(region) = &node.region else {
        return Ok(());
    };
    if node.behind.is_some() {
        let help =
            "only what is right below the core has a region; give it to the outermost router";
        return Err(doc.error(entry.place("region"), "this is behind a router", help));
    }
    events::region(doc, entry.place("region"), region)
}

fn router(doc: &Document, entry: &Entry, names: &Names, errors: &mut Errors) -> Option<Router> {
    let before = errors.len();
    let mut node = Node::default();
    let mut link = Link::default();
    // The preset is read first, wherever it is, because the other keys change it.
    let mut nat = entry.item("nat").and_then(|item| {
        // The value is read again below, where errors are told.
        let _ = take(doc, item, ROUTER, &mut node);
        let name = node.nat.clone()?;
        let found = presets::nat(&name).ok_or_else(|| {
            let help = suggest(&name, presets::nats().map(|(n, _)| n), "presets");
            let message = format!("there is no NAT preset `{name}`");
            doc.error(item.value.at.clone(), message, help)
        });
        // The other keys are checked with another one.
        errors.keep(found).or_else(|| presets::nat("linux"))
    });
    let mut firewall = entry.item("firewall").and_then(|item| {
        let _ = take(doc, item, ROUTER, &mut node);
        let name = node.firewall.clone()?;
        let found = presets::firewall(&name).ok_or_else(|| {
            let help = suggest(&name, presets::firewalls().map(|(n, _)| n), "presets");
            let message = format!("there is no firewall preset `{name}`");
            doc.error(item.value.at.clone(), message, help)
        });
        errors
            .keep(found)
            .or_else(|| presets::firewall("no-inbound"))
    });
    let mut gateway = gateway(doc, entry, errors);
    for item in &entry.items {
        let taken = take(doc, item, ROUTER, &mut node)
            .or_else(|| take(doc, item, LINK, &mut link))
            .or_else(|| take(doc, item, NAT, nat.as_mut()?))
            .or_else(|| take(doc, item, FIREWALL, firewall.as_mut()?))
            .or_else(|| take(doc, item, GATEWAY, gateway.as_mut()?));
        let taken = taken.unwrap_or_else(|| {
            if NAT.iter().any(|k| k.name == item.key) {
                let message = format!("`{}` changes a NAT, and this router has none", item.key);
                return Err(doc.error(item.at.clone(), message, "add `nat = \"linux\"`"));
            }
            if FIREWALL.iter().any(|k| k.name == item.key) {
                let message = format!(
                    "`{}` changes a firewall, and this router has none",
                    item.key
                );
                let help = "add `firewall = \"no-inbound\"`, or `firewall = \"open\"`";
                return Err(doc.error(item.at.clone(), message, help));
            }
            if GATEWAY.iter().any(|k| k.name == item.key) {
                let message = format!("`{}` changes a gateway, and this has none", item.key);
                return Err(doc.error(item.at.clone(), message, "add `gateway = \"standard\"`"));
            }
            let known: Vec<&str> = names_of(ROUTER)
                .chain(names_of(LINK))
                .chain(names_of(NAT))
                .chain(names_of(FIREWALL))
                .chain(names_of(GATEWAY))
                .collect();
            Err(unknown(doc, entry, item, &known))
        });
        errors.keep(taken);
    }
    if errors.len() == before {
        errors.keep(need(doc, entry, "name"));
    }
    if let Some(behind) = &node.behind {
        errors.keep(names.router(doc, entry.place("behind"), behind));
    }
    errors.keep(region(doc, entry, &node));
    for forward in &node.forwards {
        errors.keep(names.host(doc, entry.place("forward"), &forward.host));
    }
    if nat.is_none() && !node.forwards.is_empty() {
        let message = "`forward` is for a NAT, and this router has none";
        let at = entry.place("forward");
        errors.keep::<()>(Err(doc.error(at, message, "add `nat = \"linux\"`")));
    }
    if gateway.is_some() && nat.is_none() {
        let message = "a gateway maps the ports of a NAT, and this router has none";
        let help = "add `nat = \"linux\"`";
        errors.keep::<()>(Err(doc.error(entry.place("gateway"), message, help)));
    }
    link.preset = errors.keep(link_preset(doc, entry, "link", node.link))?;
    errors.keep(link_works(doc, entry, links::checked(&link)));
    (errors.len() == before).then_some(Router {
        name: node.name,
        behind: node.behind,
        nat,
        nat_name: node.nat.unwrap_or_default(),
        firewall,
        firewall_name: node.firewall.unwrap_or_default(),
        wan: node.wan,
        wan_count: node.wan_count.unwrap_or(1),
        forwards: node.forwards,
        region: node.region,
        gateway,
        gateway_address: node.gateway_address,
        link,
        groups: node.groups,
    })
}

/// The gateway preset that a router names.
fn gateway(doc: &Document, entry: &Entry, errors: &mut Errors) -> Option<GatewayProfile> {
    let item = entry.item("gateway")?;
    let name = errors.keep(value::name(&item.value).map_err(|wrong| {
        let message = "`gateway` is wrong";
        doc.error(item.value.at.clone(), message, format!("expected {wrong}"))
    }))?;
    let found = GatewayProfile::preset(&name).ok_or_else(|| {
        let names = GatewayProfile::PRESETS.iter().map(|(name, ..)| *name);
        let help = suggest(&name, names, "presets");
        let message = format!("there is no gateway preset `{name}`");
        doc.error(item.value.at.clone(), message, help)
    });
    // The other keys are checked with another one.
    errors
        .keep(found)
        .or_else(|| Some(GatewayProfile::default()))
}

fn host(doc: &Document, entry: &Entry, names: &Names, errors: &mut Errors) -> Option<Host> {
    let before = errors.len();
    let mut node = Node::default();
    let mut link = Link::default();
    let mut options = Options::default();
    if let Some(item) = entry.item("kind") {
        // The value is read again below, where errors are told.
        let _ = take(doc, item, HOST, &mut node);
    }
    let info = node.kind.map(Kind::info);
    let options_of = || {
        let of_kind = |info: &'static KindInfo| info.needs.iter().chain(info.takes).copied();
        info.into_iter().flat_map(of_kind)
    };
    for item in &entry.items {
        let taken = take(doc, item, HOST, &mut node).or_else(|| take(doc, item, LINK, &mut link));
        let taken = taken.or_else(|| {
            options_of().find(|o| *o == item.key)?;
            take(doc, item, OPTIONS, &mut options)
        });
        let taken = taken.unwrap_or_else(|| {
            if OPTIONS.iter().any(|k| k.name == item.key) {
                let Some(info) = info else {
                    // It may be right for the kind that is meant.
                    return Ok(());
                };
                let who: Vec<&str> = KINDS
                    .iter()
                    .filter(|k| k.needs.iter().chain(k.takes).any(|o| *o == item.key))
                    .map(|k| k.name)
                    .collect();
                let message = format!("a host of kind `{}` has no `{}`", info.name, item.key);
                let help = format!("that is for {}", who.join(", "));
                return Err(doc.error(item.at.clone(), message, help));
            }
            let known: Vec<&str> = names_of(HOST)
                .chain(names_of(LINK))
                .chain(options_of())
                .collect();
            Err(unknown(doc, entry, item, &known))
        });
        errors.keep(taken);
    }
    if errors.len() == before {
        // What seems to be missing may be a key that is wrong.
        let needs = info.map_or(&[][..], |info| info.needs);
        for key in ["name", "kind"].iter().chain(needs) {
            errors.keep(need(doc, entry, key));
        }
    }
    if let Some(behind) = &node.behind {
        errors.keep(names.router(doc, entry.place("behind"), behind));
    }
    errors.keep(region(doc, entry, &node));
    if let Some(kind) = node.kind {
        names.resolve(doc, entry, &node.name, &mut options, errors);
        names.options(doc, entry, kind, &node.name, &options, errors);
    }
    link.preset = errors.keep(link_preset(doc, entry, "link", node.link))?;
    errors.keep(link_works(doc, entry, links::checked(&link)));
    (errors.len() == before).then_some(Host {
        name: node.name,
        behind: node.behind,
        kind: node.kind?,
        addresses: node.addresses,
        // The second address of a STUN server is what its clients need.
        address_count: node
            .address_count
            .unwrap_or(if node.kind == Some(Kind::Stun) { 2 } else { 1 }),
        ip: node.ip,
        region: node.region,
        link,
        options,
        groups: node.groups,
    })
}

fn is_named(entry: &Entry, name: &str) -> bool {
    matches!(entry.section.as_str(), "router" | "host") && has(entry, "name", name)
}

/// The bytes of the file that a contradiction is about.
fn place_of(doc: &Document, place: &Place) -> Range<usize> {
    let find = |fits: &dyn Fn(&Entry) -> bool, key| {
        let entry = doc.entries.iter().find(|e| fits(e));
        entry.map_or(0..0, |e| e.place(key))
    };
    match place {
        Place::Node(name, key) => find(&|e| is_named(e, name), key),
        Place::Send(from, to) => find(&|e| has(e, "send", from) && has(e, "to", to), "to"),
        Place::Map(host) => find(&|e| has(e, "map", host), "map"),
        Place::Random => find(&|e| e.section == "random", "receivers"),
        Place::Renumber(router) => find(&|e| has(e, "renumber", router), "wan"),
    }
}

/// Sorts routers so that each comes after the one that it is behind.
fn parents_first(doc: &Document, mut left: Vec<Router>) -> Res<Vec<Router>> {
    let mut sorted: Vec<Router> = Vec::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut depth = 0;
    while !left.is_empty() {
        let before = left.len();
        let (ready, rest): (Vec<_>, Vec<_>) = left
            .into_iter()
            .partition(|r| r.behind.as_ref().is_none_or(|b| known.contains(b)));
        known.extend(ready.iter().map(|r| r.name.clone()));
        sorted.extend(ready);
        left = rest;
        depth += 1;
        if left.len() == before || !left.is_empty() && depth >= MAX_DEPTH {
            let name = &left[0].name;
            let it = doc.entries.iter().find(|e| is_named(e, name));
            let at = it.map_or(0..0, |e| e.place("behind"));
            if left.len() < before {
                let help = format!("at most {MAX_DEPTH} one behind another");
                return Err(doc.error(at, "there are too many routers above this one", help));
            }
            let message = format!("`{name}` is behind itself, directly or through other routers");
            return Err(doc.error(at, message, "remove `behind` from the outermost router"));
        }
    }
    Ok(sorted)
}
