//! Reads events, written out or random.

use std::time::Duration;

use super::{
    entry::{Res, fill, link_preset, names_of, need, one_of, take, unknown},
    keys::LINK,
    keys_parts::{ACTIONS, EVENT, EventDraft, RANDOM},
    names::Names,
};
use crate::scenario::{
    model::{Action, Event, Link, Random},
    syntax::document::{Document, Entry},
};

pub(super) fn event(doc: &Document, entry: &Entry, names: &Names) -> Res<Event> {
    let mut draft = EventDraft::default();
    let mut link = Link::default();
    for item in &entry.items {
        let taken = take(doc, item, EVENT, &mut draft);
        taken
            .or_else(|| take(doc, item, LINK, &mut link))
            .unwrap_or_else(|| {
                let known: Vec<&str> = names_of(EVENT).chain(names_of(LINK)).collect();
                Err(unknown(doc, entry, item, &known))
            })?;
    }
    need(doc, entry, "at")?;
    let what = one_of(doc, entry, ACTIONS)?;
    let goes_with: Vec<&str> = match what.key.as_str() {
        "link" => names_of(LINK).chain(["preset"]).collect(),
        "send" => vec!["to", "to-port", "port", "size"],
        _ => Vec::new(),
    };
    for item in &entry.items {
        let key = item.key.as_str();
        if key != "at" && key != what.key && !goes_with.contains(&key) {
            let message = format!("`{key}` does not go with `{}`", what.key);
            let help = match &goes_with[..] {
                [] => "take it out".into(),
                keys => format!("what does: {}", keys.join(", ")),
            };
            return Err(doc.error(item.at.clone(), message, help));
        }
    }
    let at = || what.value.at.clone();
    let action = if let Some(name) = draft.reboot {
        names.router(doc, at(), &name)?;
        Action::Reboot(name)
    } else if let Some(name) = draft.cut {
        names.node(doc, at(), &name)?;
        Action::Cut(name)
    } else if let Some(name) = draft.mend {
        names.node(doc, at(), &name)?;
        Action::Mend(name)
    } else if let Some(name) = draft.link {
        names.node(doc, at(), &name)?;
        link.preset = link_preset(doc, entry, "preset", draft.preset)?;
        Action::Link(name, link)
    } else if let Some(name) = draft.off {
        names.host(doc, at(), &name)?;
        Action::Off(name)
    } else if let Some(name) = draft.on {
        names.host(doc, at(), &name)?;
        Action::On(name)
    } else {
        need(doc, entry, "to")?;
        let from = draft.send.unwrap_or_default();
        let to = draft.to.unwrap_or_default();
        let own = names.sender(doc, at(), &from)?;
        let there = names.port(doc, entry.place("to"), &to)?;
        if there.is_none() {
            // For a router, the datagram goes to a port that it may have mapped.
            need(doc, entry, "to-port")?;
        }
        Action::Send {
            from,
            port: draft.port.unwrap_or(own.port),
            to,
            to_port: draft.to_port.or(there).unwrap_or_default(),
            size: draft.size.unwrap_or(64),
        }
    };
    Ok(Event {
        at: draft.at.unwrap_or_default(),
        action,
    })
}

pub(super) fn random(doc: &Document, entry: &Entry, names: &Names) -> Res<Random> {
    let mut random = Random {
        count: 0,
        from: Duration::ZERO,
        until: None,
        senders: Vec::new(),
        receivers: Vec::new(),
        ports: 16,
        to_port: None,
    };
    fill(doc, entry, RANDOM, &mut random)?;
    for key in ["events", "senders", "receivers"] {
        need(doc, entry, key)?;
    }
    for name in &random.senders {
        names.sender(doc, entry.place("senders"), name)?;
    }
    for name in &random.receivers {
        names.host(doc, entry.place("receivers"), name)?;
    }
    if random.until.is_some_and(|until| until < random.from) {
        return Err(doc.error(entry.place("until"), "`until` is before `from`", ""));
    }
    Ok(random)
}
