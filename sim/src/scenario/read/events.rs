//! Reads events, written out or random.

use std::time::Duration;

use super::{
    entry::{Res, fill, goes_together, link_preset, names_of, need, one_of, take, unknown},
    keys::LINK,
    keys_parts::{ACTIONS, EVENT, EventDraft, RANDOM},
    names::Names,
};
use crate::scenario::{
    model::{Action, Event, Link, Random},
    syntax::{
        document::{Document, Entry, Item},
        error::Errors,
    },
};

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
        "send" => vec!["to", "to-port", "port", "size"],
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
        checked(names.node(doc, at(), &name), Action::Link(name, link))
    } else if let Some(name) = draft.off {
        checked(names.host(doc, at(), &name).map(|_| ()), Action::Off(name))
    } else if let Some(name) = draft.on {
        checked(names.host(doc, at(), &name).map(|_| ()), Action::On(name))
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
