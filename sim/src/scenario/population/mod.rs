//! Populations: a router or host with `count` stands for many of them.
//!
//! They are written out as one table for each member, before a scenario is read: members have names
//! of their own (`home-17`) and their base name as their group, and what is drawn is drawn by the
//! seed. So whatever a table can say can be said of a population, and shrinking can leave members out.

pub(crate) mod arrive;
mod draw;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use self::arrive::Arrivals;
use super::{
    limits::{MAX_DEPTH, MAX_NODES},
    syntax::{
        document::{Document, Entry, Item, Value, ValueKind},
        error::Errors,
        value,
    },
};
use crate::{rng::SimRng, world::trace::digest};

/// Separates what populations draw from everything else that is derived from the seed.
const PART: u64 = 0x706f_7075_6c61_7465;
/// The most bytes of keys and values that are written out.
const MAX_WRITTEN: usize = 64 << 20;
/// The keys that name one other host.
const REFERENCES: [&str; 2] = ["to", "via"];
/// The keys that say of a table what is not said of its members.
const OWN: [&str; 2] = ["count", "arrive"];

/// Returns `true` when a document has populations.
pub(crate) fn is_used(doc: &Document) -> bool {
    doc.entries
        .iter()
        .any(|e| is_node(e) && e.item("count").is_some())
}

/// The document with every member of every population as a table of its own.
pub(crate) fn written_out<'a>(
    doc: &'a Document,
    seed: u64,
    errors: &mut Errors,
) -> Cow<'a, Document> {
    let tables = Tables::read(doc, errors);
    let mut out = Vec::with_capacity(doc.entries.len());
    // The others count as well.
    let alone = doc
        .entries
        .iter()
        .filter(|e| is_node(e) && tables.dims(e).is_empty());
    let mut room = MAX_NODES.saturating_sub(alone.count());
    let mut bytes = MAX_WRITTEN;
    for entry in &doc.entries {
        let dims = match is_node(entry) {
            true => tables.dims(entry),
            false => Vec::new(),
        };
        if dims.is_empty() {
            out.push(single(doc, entry, errors));
            continue;
        }
        let members = dims
            .iter()
            .fold(1usize, |n, d| n.saturating_mul(*d as usize));
        let weight: usize = entry.items.iter().map(Item::weight).sum();
        let written = members.saturating_mul(weight + 64);
        if members > room || written > bytes {
            let message = format!("this stands for {members} of them, which is too much");
            let help = format!("at most {MAX_NODES} routers and hosts in all");
            let at = entry.item("count").or_else(|| entry.item("behind"));
            let at = at.map_or(entry.at.clone(), |i| i.value.at.clone());
            errors.keep::<()>(Err(doc.error(at, message, help)));
            continue;
        }
        room -= members;
        bytes -= written;
        Population {
            doc,
            tables: &tables,
            entry,
            dims: &dims,
            members,
            seed,
        }
        .write(&mut out, errors);
    }
    match tables.is_used {
        true => Cow::Owned(doc.with_entries(out)),
        false => Cow::Borrowed(doc),
    }
}

fn is_node(entry: &Entry) -> bool {
    matches!(entry.section.as_str(), "router" | "host")
}

fn text_of<'a>(entry: &'a Entry, key: &str) -> Option<&'a str> {
    match &entry.item(key)?.value.kind {
        ValueKind::Text(text) => Some(text),
        _ => None,
    }
}

/// A table that is no population. Says so where a value has shares.
fn single(doc: &Document, entry: &Entry, errors: &mut Errors) -> Entry {
    if is_node(entry) {
        for item in &entry.items {
            let key = item.key.as_str();
            let of_many = match key {
                "name" | "group" => false,
                _ => draw::is_drawn(&item.value) || key == "arrive",
            };
            if of_many {
                let message =
                    format!("`{key}` differs between the members of a population, and this is one");
                let help = "add `count = …`, or write the value";
                errors.keep::<()>(Err(doc.error(item.value.at.clone(), message, help)));
            }
        }
    }
    let mut entry = entry.clone();
    entry.items.retain(|i| !OWN.contains(&i.key.as_str()));
    entry
}

/// The name of a member.
fn member(base: &str, place: &[u32]) -> String {
    let mut name = base.to_owned();
    for number in place {
        name.push_str(&format!("-{number}"));
    }
    name
}

/// The place of the member with this number, counted from 0: a number for each dimension, counted from
/// 1.
fn place(dims: &[u32], mut n: usize) -> Vec<u32> {
    let mut place = vec![0; dims.len()];
    for (at, dim) in place.iter_mut().zip(dims).rev() {
        let dim = *dim as usize;
        *at = (n % dim) as u32 + 1;
        n /= dim;
    }
    place
}

/// A router or host as it was written.
struct Table<'a> {
    count: Option<u32>,
    behind: Option<&'a str>,
}

impl<'a> Table<'a> {
    /// A table, without a count that is wrong.
    fn of(entry: &'a Entry) -> Self {
        Self {
            count: entry.item("count").and_then(|i| count(&i.value).ok()),
            behind: text_of(entry, "behind"),
        }
    }
}

fn count(value: &Value) -> Result<u32, String> {
    value::word(value, 1, u32::try_from(MAX_NODES).unwrap_or(u32::MAX))
}

/// The routers and hosts, by name.
struct Tables<'a> {
    by_name: BTreeMap<&'a str, Table<'a>>,
    is_used: bool,
}

impl<'a> Tables<'a> {
    fn read(doc: &'a Document, errors: &mut Errors) -> Self {
        let mut by_name = BTreeMap::new();
        let mut is_used = false;
        for entry in doc.entries.iter().filter(|e| is_node(e)) {
            if let Some(item) = entry.item("count") {
                is_used = true;
                let wrong = |wrong| {
                    let help = format!("expected {wrong}");
                    doc.error(item.value.at.clone(), "`count` is wrong", help)
                };
                errors.keep(count(&item.value).map_err(wrong));
            }
            if let Some(name) = text_of(entry, "name") {
                by_name.entry(name).or_insert_with(|| Table::of(entry));
            }
        }
        Self { by_name, is_used }
    }

    /// How many there are of a table: for each population that it is behind, and for itself.
    fn dims(&self, entry: &Entry) -> Vec<u32> {
        self.dims_of(&Table::of(entry))
    }

    fn dims_of(&self, table: &Table<'_>) -> Vec<u32> {
        let mut dims: Vec<u32> = table.count.into_iter().collect();
        let mut behind = table.behind;
        // Routers in a circle are told of later.
        for _ in 0..MAX_DEPTH {
            let Some(above) = behind.and_then(|name| self.by_name.get(name)) else {
                break;
            };
            dims.extend(above.count);
            behind = above.behind;
        }
        dims.reverse();
        dims
    }
}

/// A table that stands for many.
struct Population<'a> {
    doc: &'a Document,
    tables: &'a Tables<'a>,
    entry: &'a Entry,
    dims: &'a [u32],
    members: usize,
    seed: u64,
}

impl Population<'_> {
    fn write(&self, out: &mut Vec<Entry>, errors: &mut Errors) {
        let base = text_of(self.entry, "name").unwrap_or_default();
        let mut columns: Vec<Vec<Option<ValueKind>>> = Vec::new();
        let mut drawn: BTreeMap<&str, usize> = BTreeMap::new();
        for item in &self.entry.items {
            let key = item.key.as_str();
            let column = match key {
                "name" | "group" | "arrive" | "count" => None,
                "behind" => self.numbered(item, false, errors),
                _ if REFERENCES.contains(&key) => self.numbered(item, true, errors),
                _ => self.drawn(item, errors),
            };
            if let Some(column) = column {
                drawn.insert(key, columns.len());
                columns.push(column);
            }
        }
        let starts = self.starts(errors);
        let groups = self.groups(base);
        for n in 0..self.members {
            let mut items = Vec::with_capacity(self.entry.items.len() + 1);
            for item in &self.entry.items {
                let key = item.key.as_str();
                match key {
                    "name" => {
                        let name = member(base, &place(self.dims, n));
                        items.push(item.with(ValueKind::Text(name)));
                        items.push(Item::derived(
                            "group",
                            item.value.at.clone(),
                            groups.clone(),
                        ));
                    }
                    "group" | "count" => {}
                    "start" if starts.is_some() => {}
                    "arrive" => items.extend(starts.as_ref().map(|starts| {
                        let micros = starts[n].as_micros();
                        let at = item.value.at.clone();
                        Item::derived("start", at, ValueKind::Text(format!("{micros}us")))
                    })),
                    _ => match drawn.get(key) {
                        Some(column) => {
                            let value = columns[*column][n].clone();
                            items.extend(value.map(|v| item.with(v)));
                        }
                        None => items.push(item.clone()),
                    },
                }
            }
            out.push(Entry {
                section: self.entry.section.clone(),
                listed: self.entry.listed,
                at: self.entry.at.clone(),
                items,
            });
        }
    }

    /// The groups of the members: those that are written, and their base name.
    fn groups(&self, base: &str) -> ValueKind {
        let written = self.entry.item("group").map(|i| &i.value);
        let mut groups: BTreeSet<String> = written
            .and_then(|v| value::names(v).ok())
            .into_iter()
            .flatten()
            .collect();
        groups.insert(base.into());
        let value = |text: String| Value {
            kind: ValueKind::Text(text),
            at: 0..0,
        };
        ValueKind::List(groups.into_iter().map(value).collect())
    }

    fn rng(&self, key: &str) -> SimRng {
        let name = text_of(self.entry, "name").unwrap_or_default();
        let of = format!("{name}\n{key}");
        SimRng::part(self.seed ^ PART, digest(of.as_bytes()))
    }

    fn drawn(&self, item: &Item, errors: &mut Errors) -> Option<Vec<Option<ValueKind>>> {
        if !draw::is_drawn(&item.value) {
            return None;
        }
        let drawn = draw::draw(&item.value, self.members, &mut self.rng(&item.key));
        let drawn = drawn.map_err(|(at, message, help)| self.doc.error(at, message, help));
        // Without a value of its own, the key is left out.
        Some(
            errors
                .keep(drawn)
                .unwrap_or_else(|| vec![None; self.members]),
        )
    }

    /// The members of another population that the members of this one name, number by number.
    fn numbered(
        &self,
        item: &Item,
        any: bool,
        errors: &mut Errors,
    ) -> Option<Vec<Option<ValueKind>>> {
        let ValueKind::Text(name) = &item.value.kind else {
            return None;
        };
        let dims = self.tables.dims_of(self.tables.by_name.get(name.as_str())?);
        if dims.is_empty() {
            return None;
        }
        let there = dims
            .iter()
            .fold(1usize, |n, d| n.saturating_mul(*d as usize));
        let within = self.dims.starts_with(&dims);
        if !within && (!any || self.is_mutual(&item.key) && there != self.members) {
            let message = format!(
                "there are {} of these, and {there} of `{name}`",
                self.members
            );
            let help = "as many of both, so that each has its own";
            errors.keep::<()>(Err(self.doc.error(item.value.at.clone(), message, help)));
        }
        let name_of = |n: usize| {
            let place = match within {
                true => place(self.dims, n)[..dims.len()].to_vec(),
                // In turn.
                false => place(&dims, n % there),
            };
            Some(ValueKind::Text(member(name, &place)))
        };
        Some((0..self.members).map(name_of).collect())
    }

    /// Returns `true` when the host that this key names is to name this one in turn.
    fn is_mutual(&self, key: &str) -> bool {
        key == "to" && text_of(self.entry, "kind").is_some_and(|k| k.ends_with("-punch"))
    }

    /// When the members start, if they arrive one by one.
    fn starts(&self, errors: &mut Errors) -> Option<Vec<Duration>> {
        let item = self.entry.item("arrive")?;
        let wrong =
            |message: String, help: String| (self.doc).error(item.value.at.clone(), message, help);
        let arrivals = Arrivals::read(&item.value)
            .map_err(|expected| wrong("`arrive` is wrong".into(), format!("expected {expected}")));
        let arrivals = errors.keep(arrivals)?;
        if let Arrivals::At(times) = &arrivals
            && times.len() != self.members
        {
            let message = format!(
                "there are {} times for {} of them",
                times.len(),
                self.members
            );
            errors.keep::<()>(Err(wrong(message, "as many of both".into())));
            return None;
        }
        if self.entry.section == "router" {
            errors.keep::<()>(Err(wrong(
                "routers do not arrive".into(),
                "hosts do".into(),
            )));
            return None;
        }
        let first = match self.entry.item("start").map(|i| value::duration(&i.value)) {
            Some(Ok(start)) => start,
            Some(Err(_)) => {
                let message = "`arrive` counts from one `start`".into();
                errors.keep::<()>(Err(wrong(message, "give it as a time".into())));
                return None;
            }
            None => Duration::ZERO,
        };
        let times = arrivals.times(self.members, &mut self.rng("arrive"));
        Some(times.into_iter().map(|t| t.saturating_add(first)).collect())
    }
}
