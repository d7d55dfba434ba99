//! Reads events, written out or random.

use std::{ops::Range, time::Duration};

use super::{
    entry::{
        Res, fill, goes_together, has, link_preset, link_works, names_of, need, one_of, take,
        unknown,
    },
    keys_link::LINK,
    keys_parts::{ACTIONS, EVENT, EventDraft, RANDOM},
    names::Names,
};
use crate::link::region::Region;
use crate::packet::Proto;
use crate::scenario::{
    model::{
        Action, Event, Link, Random, Scenario,
        gateway::{Using, WantedMapping},
        links, presets,
    },
    syntax::{
        document::{Document, Entry, Item},
        error::{Errors, suggest},
        value,
    },
};

/// The lease that is asked for when an event names none.
const LEASE: Duration = Duration::from_secs(3_600);

pub(super) fn event(
    doc: &Document,
    entry: &Entry,
    names: &Names,
    errors: &mut Errors,
) -> Option<Event> {
    let mut draft = EventDraft::default();
    let mut link = Link::default();
    let before = errors.len();
    for item in &entry.items {
        let taken = take(doc, item, EVENT, &mut draft);
        let taken = taken
            .or_else(|| take(doc, item, LINK, &mut link))
            .unwrap_or_else(|| {
                let known: Vec<&str> = names_of(EVENT).chain(names_of(LINK)).collect();
                Err(unknown(doc, entry, item, &known))
            });
        errors.keep(taken);
    }
    if errors.len() > before {
        // What seems to be missing may be the key that is wrong.
        return None;
    }
    errors.keep(need(doc, entry, "at"));
    let what = errors.keep(one_of(doc, entry, ACTIONS))?;
    let goes_with: Vec<&str> = match what.key.as_str() {
        "link" => names_of(LINK).chain(["preset"]).collect(),
        "change" => names_of(LINK).collect(),
        "unplug" => vec!["flows"],
        "renumber" => vec!["wan", "flows"],
        "send" => vec!["to", "to-port", "port", "size"],
        "map" => vec!["using", "protocol", "port", "external-port", "lease", "for"],
        _ => Vec::new(),
    };
    goes_together(doc, entry, what, &["at"], &goes_with, errors);
    let at = draft.at.unwrap_or_default();
    let action = action(doc, (entry, what), names, (draft, link), errors)?;
    (errors.len() == before).then_some(Event { at, action })
}

/// What an event does. Every reference is checked.
fn action(
    doc: &Document,
    (entry, what): (&Entry, &Item),
    names: &Names,
    (draft, mut link): (EventDraft, Link),
    errors: &mut Errors,
) -> Option<Action> {
    let at = || what.value.at.clone();
    let checked = |checked: Res<()>, action| checked.map(|()| action);
    let result = if let Some(name) = draft.reboot {
        checked(names.router(doc, at(), &name), Action::Reboot(name))
    } else if let Some(name) = draft.cut {
        checked(names.node(doc, at(), &name), Action::Cut(name))
    } else if let Some(name) = draft.mend {
        checked(names.node(doc, at(), &name), Action::Mend(name))
    } else if let Some(name) = draft.link {
        link.preset = errors.keep(link_preset(doc, entry, "preset", draft.preset))?;
        errors.keep(link_works(doc, entry, links::checked(&link)));
        checked(names.node(doc, at(), &name), Action::Link(name, link))
    } else if let Some(node) = draft.unplug {
        let keep = draft.keep.unwrap_or_default();
        let found = names.node(doc, at(), &node);
        checked(found, Action::Unplug { node, keep })
    } else if let Some(name) = draft.change {
        if link.is_default() {
            let help = "add what is to be otherwise, such as `loss = \"1%\"`";
            errors.keep::<()>(Err(doc.error(at(), "this changes nothing", help)));
        }
        checked(names.node(doc, at(), &name), Action::Change(name, link))
    } else if let Some(router) = draft.renumber {
        let (wan, keep) = (draft.wan, draft.keep.unwrap_or_default());
        let found = names.router(doc, at(), &router);
        checked(found, Action::Renumber { router, wan, keep })
    } else if let Some(regions) = draft.part.as_ref().or(draft.join.as_ref()) {
        let mut regions = regions.iter();
        for name in regions.clone() {
            errors.keep(region(doc, at(), name));
        }
        let (a, b) = (regions.next().cloned()?, regions.next().cloned());
        Ok(match draft.part {
            Some(_) => Action::Part(a, b),
            None => Action::Join(a, b),
        })
    } else if let Some(name) = draft.off {
        checked(names.host(doc, at(), &name).map(|_| ()), Action::Off(name))
    } else if let Some(name) = draft.on {
        checked(names.host(doc, at(), &name).map(|_| ()), Action::On(name))
    } else if let Some(host) = draft.map {
        let port = errors.keep(names.mapper(doc, at(), &host))?.port;
        let client = draft.client.unwrap_or_else(|| host.clone());
        let there = errors.keep(names.host(doc, entry.place("for"), &client))?;
        let using = draft.using.unwrap_or(Using::NatPmp);
        if client != host && using != Using::Upnp {
            let message = "a host asks for another by UPnP alone";
            errors.keep::<()>(Err(doc.error(
                entry.place("for"),
                message,
                "add `using = \"upnp\"`",
            )));
        }
        let port = draft
            .port
            .unwrap_or(if client == host { port } else { there.port });
        let wanted = WantedMapping {
            using,
            proto: draft.protocol.unwrap_or(Proto::Udp),
            port,
            external: draft.external_port.unwrap_or(port),
            lease: draft.lease.unwrap_or(LEASE),
        };
        Ok(Action::Map {
            host,
            client,
            wanted,
        })
    } else {
        let from = draft.send.unwrap_or_default();
        let own = errors.keep(names.sender(doc, at(), &from));
        errors.keep(need(doc, entry, "to"))?;
        let to = draft.to.unwrap_or_default();
        let there = errors.keep(names.port(doc, entry.place("to"), &to));
        if there == Some(None) {
            // For a router, the datagram goes to a port that it may have mapped.
            errors.keep(need(doc, entry, "to-port"));
        }
        Ok(Action::Send {
            from,
            port: draft.port.unwrap_or(own?.port),
            to,
            to_port: draft.to_port.or(there?).unwrap_or_default(),
            size: draft.size.unwrap_or(64),
        })
    };
    errors.keep(result)
}

/// Checks that there is a region of this name.
pub(super) fn region(doc: &Document, at: Range<usize>, name: &str) -> Res<()> {
    if presets::regions().any(|r| r == name) {
        return Ok(());
    }
    let help = suggest(name, presets::regions(), "regions");
    Err(doc.error(at, format!("there is no region `{name}`"), help))
}

/// Checks that links remain possible when events change them.
pub(super) fn links_change(doc: &Document, s: &Scenario, errors: &mut Errors) {
    let routers = s.routers.iter().map(|r| (r.name.as_str(), &r.link));
    let hosts = s.hosts.iter().map(|h| (h.name.as_str(), &h.link));
    let changed = |name: &&str| {
        let changes = |e: &Event| matches!(&e.action, Action::Change(n, _) if n == name);
        s.events.iter().any(changes)
    };
    for (name, link) in routers.chain(hosts).filter(|(name, _)| changed(name)) {
        let mut config = links::config(link);
        for event in &s.events {
            match &event.action {
                Action::Link(n, link) if n == name => config = links::config(link),
                Action::Change(n, link) if n == name => {
                    let result = links::change(&mut config, link);
                    let is_it = |e: &&Entry| {
                        let at = e.item("at").map(|i| value::duration(&i.value));
                        e.section == "event" && at == Some(Ok(event.at)) && has(e, "change", name)
                    };
                    if let Some(entry) = doc.entries.iter().find(is_it) {
                        errors.keep(link_works(doc, entry, result.map(|()| config.clone())));
                    }
                }
                _ => {}
            }
        }
    }
}

/// Checks that events part regions that somebody is in.
pub(super) fn regions_exist(doc: &Document, s: &Scenario, errors: &mut Errors) {
    let routers = s.routers.iter().map(|r| (&r.region, &r.behind));
    let hosts = s.hosts.iter().map(|h| (&h.region, &h.behind));
    let used: Vec<&str> = (routers.chain(hosts))
        .filter(|(_, behind)| behind.is_none())
        .map(|(region, _)| region.as_deref().unwrap_or(Region::default().name()))
        .collect();
    for entry in doc.entries.iter().filter(|e| e.section == "event") {
        for item in entry.items.iter().filter(|i| i.key == "part") {
            for name in value::names(&item.value).unwrap_or_default() {
                if !used.contains(&name.as_str()) && !errors.is_full() {
                    let message = format!("nobody is in the region `{name}`");
                    let help = "`region` of a router or host that is not behind a router";
                    errors.keep::<()>(Err(doc.error(item.value.at.clone(), message, help)));
                }
            }
        }
    }
}

pub(super) fn random(
    doc: &Document,
    entry: &Entry,
    names: &Names,
    errors: &mut Errors,
) -> Option<Random> {
    let mut random = Random {
        count: 0,
        from: Duration::ZERO,
        until: None,
        senders: Vec::new(),
        receivers: Vec::new(),
        ports: 16,
        to_port: None,
    };
    let before = errors.len();
    if fill(doc, entry, RANDOM, &mut random, errors) {
        for key in ["events", "senders", "receivers"] {
            errors.keep(need(doc, entry, key));
        }
    }
    for name in &random.senders {
        errors.keep(names.sender(doc, entry.place("senders"), name));
    }
    for name in &random.receivers {
        errors.keep(names.host(doc, entry.place("receivers"), name));
    }
    if random.until.is_some_and(|until| until < random.from) {
        let at = entry.place("until");
        errors.keep::<()>(Err(doc.error(at, "`until` is before `from`", "")));
    }
    (errors.len() == before).then_some(random)
}
