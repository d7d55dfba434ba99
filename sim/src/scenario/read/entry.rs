//! The steps that are common to all tables: setting fields, and errors about keys.

use super::keys::Key;
use crate::link::LinkConfig;
use crate::scenario::{
    model::{links, presets},
    syntax::{
        document::{Document, Entry, Item, ValueKind},
        error::{Errors, ScenarioError, suggest},
    },
};

pub(super) type Res<T> = Result<T, ScenarioError>;

/// Sets the field of an item; returns `None` when `keys` do not contain its key.
pub(super) fn take<S>(
    doc: &Document,
    item: &Item,
    keys: &[Key<S>],
    target: &mut S,
) -> Option<Res<()>> {
    let key = keys.iter().find(|k| k.name == item.key)?;
    Some((key.set)(target, &item.value).map_err(|wrong| {
        let message = format!("`{}` is wrong", item.key);
        doc.error(item.value.at.clone(), message, format!("expected {wrong}"))
    }))
}

pub(super) fn unknown(doc: &Document, entry: &Entry, item: &Item, known: &[&str]) -> ScenarioError {
    let place = match entry.section.as_str() {
        "" => "before the first table".to_owned(),
        name if entry.listed => format!("of [[{name}]]"),
        name => format!("of [{name}]"),
    };
    let help = suggest(&item.key, known.iter().copied(), "its keys");
    doc.error(
        item.at.clone(),
        format!("`{}` is not a key {place}", item.key),
        help,
    )
}

/// Sets the fields of all items. Returns `true` when no item was wrong.
pub(super) fn fill<S>(
    doc: &Document,
    entry: &Entry,
    keys: &[Key<S>],
    target: &mut S,
    errors: &mut Errors,
) -> bool {
    let before = errors.len();
    for item in &entry.items {
        let taken = take(doc, item, keys, target).unwrap_or_else(|| {
            let known: Vec<&str> = keys.iter().map(|k| k.name).collect();
            Err(unknown(doc, entry, item, &known))
        });
        errors.keep(taken);
    }
    errors.len() == before
}

pub(super) fn names_of<S>(keys: &[Key<S>]) -> impl Iterator<Item = &'static str> {
    keys.iter().map(|k| k.name)
}

pub(super) fn need(doc: &Document, entry: &Entry, key: &str) -> Res<()> {
    if entry.item(key).is_some() {
        return Ok(());
    }
    let message = format!("`{key}` is missing from this [[{}]]", entry.section);
    Err(doc.error(entry.at.clone(), message, format!("add `{key} = …`")))
}

pub(super) fn link_preset(
    doc: &Document,
    entry: &Entry,
    key: &str,
    name: Option<String>,
) -> Res<Option<String>> {
    if let Some(name) = &name
        && !presets::links().any(|(n, _)| n == name)
    {
        let help = suggest(name, presets::links().map(|(n, _)| n), "presets");
        return Err(doc.error(
            entry.place(key),
            format!("there is no link preset `{name}`"),
            help,
        ));
    }
    Ok(name)
}

/// Checks that the keys of a link do not contradict one another.
pub(super) fn link_works(
    doc: &Document,
    entry: &Entry,
    config: Result<LinkConfig, links::Wrong>,
) -> Res<LinkConfig> {
    config.map_err(|(key, message, help)| {
        let about = |i: &&Item| i.key == key || i.key.split_once('-').is_some_and(|k| k.1 == key);
        let item = entry.items.iter().find(about);
        let at = item.map_or_else(|| entry.at.clone(), |i| i.at.clone());
        doc.error(at, message, help)
    })
}

/// The one key of `known` that the entry has.
pub(super) fn one_of<'a>(doc: &Document, entry: &'a Entry, known: &[&str]) -> Res<&'a Item> {
    let mut found = entry
        .items
        .iter()
        .filter(|i| known.contains(&i.key.as_str()));
    let all = || format!("exactly one of: {}", known.join(", "));
    let Some(first) = found.next() else {
        let message = format!("this [[{}]] does not say what", entry.section);
        return Err(doc.error(entry.at.clone(), message, all()));
    };
    if let Some(second) = found.next() {
        let message = format!("`{}` beside `{}`", second.key, first.key);
        return Err(doc.error(second.at.clone(), message, all()));
    }
    Ok(first)
}

/// Checks that the other keys of an entry go with the one that says what it is about. The keys in
/// `always` go with any.
pub(super) fn goes_together(
    doc: &Document,
    entry: &Entry,
    what: &Item,
    always: &[&str],
    with: &[&str],
    errors: &mut Errors,
) {
    for item in &entry.items {
        let key = item.key.as_str();
        if key != what.key && !always.contains(&key) && !with.contains(&key) {
            let message = format!("`{key}` does not go with `{}`", what.key);
            let help = match with {
                [] => "take it out".into(),
                keys => format!("what does: {}", keys.join(", ")),
            };
            errors.keep::<()>(Err(doc.error(item.at.clone(), message, help)));
        }
    }
}

/// Returns `true` when the value of a key is this text.
pub(super) fn has(entry: &Entry, key: &str, text: &str) -> bool {
    let value = entry.item(key).map(|i| &i.value.kind);
    matches!(value, Some(ValueKind::Text(t)) if t == text)
}
