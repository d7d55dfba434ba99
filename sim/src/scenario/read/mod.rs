//! Reads a document into a scenario: checks that every key is known, every value is valid, and
//! every name that is referred to exists.

mod entry;
mod events;
mod expects;
pub(crate) mod keys;
pub(crate) mod keys_nat;
pub(crate) mod keys_parts;
pub(crate) mod names;

use std::{collections::BTreeSet, time::Duration};

use self::{
    entry::{Res, fill, link_preset, names_of, need, take, unknown},
    events::{event, random},
    expects::expect,
    keys::{LINK, OPTIONS, TOP, TORRENT},
    keys_nat::NAT,
    keys_parts::{HOST, Node, ROUTER},
    names::Names,
};
use super::{
    model::{Host, Link, Options, Router, Scenario, Torrent, kinds::KINDS, plan::Plan, presets},
    syntax::{
        document::{Document, Entry, ValueKind},
        error::suggest,
    },
};

/// The most routers and hosts.
pub const MAX_NODES: usize = 20_000;
/// The most routers one behind another. A packet can make 64 hops.
pub const MAX_DEPTH: usize = 16;
/// The most events that a file lists.
pub const MAX_EVENTS: usize = 200_000;
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
    /// Says what is invalid, where, and what would be valid.
    pub fn parse(text: &str, file: &str) -> Res<Self> {
        Self::from_document(&Document::parse(text, file)?)
    }

    /// Reads a scenario from a document.
    ///
    /// # Errors
    /// Like [`Scenario::parse`].
    pub fn from_document(doc: &Document) -> Res<Self> {
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
        };
        check_sections(doc)?;
        let names = Names::read(doc)?;
        for entry in &doc.entries {
            match entry.section.as_str() {
                "" => fill(doc, entry, TOP, &mut s)?,
                "torrent" => fill(doc, entry, TORRENT, &mut s.torrent)?,
                "router" => s.routers.push(router(doc, entry, &names)?),
                "host" => s.hosts.push(host(doc, entry, &names)?),
                "event" => s.events.push(event(doc, entry, &names)?),
                "random" => s.random = Some(random(doc, entry, &names)?),
                _ => s.expects.push(expect(doc, entry, &names)?),
            }
        }
        for entry in doc.entries.iter().filter(|e| e.section == "event") {
            let at = entry
                .item("at")
                .map(|i| super::syntax::value::duration(&i.value));
            if let Some(Ok(at)) = at
                && at > s.duration
            {
                let help = format!(
                    "the scenario ends at {}",
                    crate::report::units::time(s.duration)
                );
                return Err(doc.error(entry.place("at"), "this never happens", help));
            }
        }
        s.events.sort_by_key(|e| e.at);
        s.routers = parents_first(doc, s.routers)?;
        if let Err(conflict) = Plan::new(&s) {
            let entry = doc.entries.iter().find(|e| is_named(e, &conflict.node));
            let at = entry.map_or(0..0, |e| e.place(conflict.key));
            return Err(doc.error(at, conflict.message, conflict.help));
        }
        Ok(s)
    }
}

fn check_sections(doc: &Document) -> Res<()> {
    let mut seen = BTreeSet::new();
    let (mut nodes, mut events) = (0, 0);
    for entry in doc.entries.iter().skip(1) {
        let name = entry.section.as_str();
        let Some((_, several)) = SECTIONS.iter().find(|(s, _)| *s == name) else {
            let known = SECTIONS.iter().map(|(s, _)| *s);
            let help = suggest(name, known, "tables");
            let shape = if entry.listed {
                format!("[[{name}]]")
            } else {
                format!("[{name}]")
            };
            return Err(doc.error(
                entry.at.clone(),
                format!("`{shape}` is not a table here"),
                help,
            ));
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
            return Err(doc.error(entry.at.clone(), message, format!("write `{should}`")));
        }
        seen.insert(name);
        nodes += usize::from(name == "router" || name == "host");
        events += usize::from(name == "event");
        if nodes > MAX_NODES || events > MAX_EVENTS {
            let help = format!("at most {MAX_NODES} routers and hosts and {MAX_EVENTS} events");
            return Err(doc.error(entry.at.clone(), "this is too much", help));
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
            return Err(doc.error(item.at.clone(), format!("`{name}` is a table"), should));
        }
    }
    Ok(())
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
    if !presets::regions().any(|r| r == region) {
        let help = suggest(region, presets::regions(), "regions");
        return Err(doc.error(
            entry.place("region"),
            format!("there is no region `{region}`"),
            help,
        ));
    }
    Ok(())
}

fn router(doc: &Document, entry: &Entry, names: &Names) -> Res<Router> {
    need(doc, entry, "name")?;
    let mut node = Node::default();
    let mut link = Link::default();
    // The preset is read first, wherever it is, because the other keys change it.
    let mut nat = match entry.item("nat") {
        None => None,
        Some(item) => {
            take(doc, item, ROUTER, &mut node).unwrap_or(Ok(()))?;
            let name = node.nat.clone().unwrap_or_default();
            Some(presets::nat(&name).ok_or_else(|| {
                let help = suggest(&name, presets::nats().map(|(n, _)| n), "presets");
                doc.error(
                    item.value.at.clone(),
                    format!("there is no NAT preset `{name}`"),
                    help,
                )
            })?)
        }
    };
    for item in &entry.items {
        let taken = take(doc, item, ROUTER, &mut node)
            .or_else(|| take(doc, item, LINK, &mut link))
            .or_else(|| take(doc, item, NAT, nat.as_mut()?));
        taken.unwrap_or_else(|| {
            if NAT.iter().any(|k| k.name == item.key) {
                let message = format!("`{}` changes a NAT, and this router has none", item.key);
                return Err(doc.error(item.at.clone(), message, "add `nat = \"linux\"`"));
            }
            let known: Vec<&str> = names_of(ROUTER)
                .chain(names_of(LINK))
                .chain(names_of(NAT))
                .collect();
            Err(unknown(doc, entry, item, &known))
        })?;
    }
    if let Some(behind) = &node.behind {
        names.router(doc, entry.place("behind"), behind)?;
    }
    region(doc, entry, &node)?;
    let firewall = match &node.firewall {
        None => None,
        Some(name) => Some(presets::firewall(name).ok_or_else(|| {
            let help = suggest(name, presets::firewalls().map(|(n, _)| n), "presets");
            let message = format!("there is no firewall preset `{name}`");
            doc.error(entry.place("firewall"), message, help)
        })?),
    };
    link.preset = link_preset(doc, entry, "link", node.link)?;
    Ok(Router {
        name: node.name,
        behind: node.behind,
        nat,
        nat_name: node.nat.unwrap_or_default(),
        firewall,
        firewall_name: node.firewall.unwrap_or_default(),
        wan: node.wan,
        wan_count: node.wan_count.unwrap_or(1),
        region: node.region,
        link,
    })
}

fn host(doc: &Document, entry: &Entry, names: &Names) -> Res<Host> {
    need(doc, entry, "name")?;
    need(doc, entry, "kind")?;
    let mut node = Node::default();
    let mut link = Link::default();
    let mut options = Options::default();
    if let Some(item) = entry.item("kind") {
        take(doc, item, HOST, &mut node).unwrap_or(Ok(()))?;
    }
    let Some(kind) = node.kind else {
        return Err(doc.error(entry.at.clone(), "`kind` is missing", ""));
    };
    let info = kind.info();
    let options_of = || info.needs.iter().chain(info.takes).copied();
    for item in &entry.items {
        let taken = take(doc, item, HOST, &mut node).or_else(|| take(doc, item, LINK, &mut link));
        let taken = taken.or_else(|| {
            options_of().find(|o| *o == item.key)?;
            take(doc, item, OPTIONS, &mut options)
        });
        taken.unwrap_or_else(|| {
            if OPTIONS.iter().any(|k| k.name == item.key) {
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
        })?;
    }
    for key in info.needs {
        need(doc, entry, key)?;
    }
    if let Some(behind) = &node.behind {
        names.router(doc, entry.place("behind"), behind)?;
    }
    region(doc, entry, &node)?;
    names.options(doc, entry, kind, &node.name, &options)?;
    link.preset = link_preset(doc, entry, "link", node.link)?;
    Ok(Host {
        name: node.name,
        behind: node.behind,
        kind,
        addresses: node.addresses,
        ip: node.ip,
        region: node.region,
        link,
        options,
    })
}

fn is_named(entry: &Entry, name: &str) -> bool {
    let named = entry.item("name").map(|i| &i.value.kind);
    matches!(entry.section.as_str(), "router" | "host")
        && matches!(named, Some(ValueKind::Text(t)) if t == name)
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
