//! Reduces a scenario that fails to the smallest one that fails in the same way.

use std::collections::BTreeSet;

use super::{
    model::{Scenario, random::written_out},
    run::{RunOptions, run},
    syntax::{
        document::{Document, Entry, ValueKind},
        error::ScenarioErrors,
        value,
    },
};
use crate::experiment::shrink;

/// The limit of runs.
const MAX_RUNS: u64 = 20_000;

/// A reduced scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Small {
    /// The scenario, with its seed and without `[random]`.
    pub document: Document,
    /// The expectations that fail.
    pub failed: Vec<String>,
    /// The number of events that are left.
    pub events: usize,
    /// The number of events before, including random ones.
    pub events_before: usize,
    /// The number of routers, hosts, events and expectations that are left.
    pub tables: usize,
    /// The number of these tables before.
    pub tables_before: usize,
    /// How often a scenario was run.
    pub runs: u64,
}

/// The expectations that fail with a seed; `None` when the document is not a valid scenario.
fn failures(doc: &Document, seed: u64) -> Option<BTreeSet<String>> {
    let s = Scenario::from_document(doc).ok()?;
    let result = run(&s, seed, &RunOptions::default());
    let failed = result
        .outcomes
        .into_iter()
        .filter(|o| !o.held)
        .map(|o| o.what);
    Some(
        failed
            .chain(result.stuck.map(|_| "the run ends early".into()))
            .collect(),
    )
}

/// The document without the tables of these sections that name a router or host that is not there,
/// because it was left out: with a router goes what is behind it, and with a host what it alone was to
/// connect to.
fn without_dangling(doc: &Document, sections: &[&str]) -> Document {
    let text = |e: &Entry, key: &str| match e.item(key).map(|i| &i.value.kind) {
        Some(ValueKind::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let mut doc = doc.clone();
    loop {
        let nodes = doc
            .entries
            .iter()
            .filter(|e| matches!(e.section.as_str(), "host" | "router"));
        let named = |e: &Entry| {
            let groups = e.item("group").and_then(|i| value::names(&i.value).ok());
            text(e, "name")
                .into_iter()
                .chain(groups.into_iter().flatten())
                .collect::<Vec<_>>()
        };
        let known: BTreeSet<String> = nodes.flat_map(named).collect();
        let dangles = |e: &Entry| {
            let pair = e.item("connected").and_then(|i| value::pair(&i.value).ok());
            let pair = pair.into_iter().flat_map(|(a, b)| [a, b]);
            let single = ["behind", "to", "via"]
                .into_iter()
                .filter_map(|key| text(e, key));
            single.chain(pair).any(|name| !known.contains(&name))
        };
        let before = doc.entries.len();
        doc = doc.only(|_, e| !sections.contains(&e.section.as_str()) || !dangles(e));
        if doc.entries.len() == before {
            return doc;
        }
    }
}

/// Leaves out events, then expectations, hosts and routers, as long as one of the expectations that
/// failed still fails. Returns `None` when nothing fails with this seed.
///
/// # Errors
/// When the document is not a valid scenario.
pub fn shrink(doc: &Document, seed: u64) -> Result<Option<Small>, ScenarioErrors> {
    let doc = written_out(doc, seed)?;
    Scenario::from_document(&doc)?;
    let before = failures(&doc, seed).unwrap_or_default();
    if before.is_empty() {
        return Ok(None);
    }
    let mut runs = 1;
    let mut best = doc.clone();
    // Events come first: there are many of them, and each needs few hosts and routers.
    for sections in [&["event"][..], &["expect", "host", "router"], &["event"]] {
        let numbers = |d: &Document| -> Vec<usize> {
            let all = d.entries.iter().enumerate();
            let these = all.filter(|(_, e)| sections.contains(&e.section.as_str()));
            these.map(|(n, _)| n).collect()
        };
        let fails = |kept: &[usize]| {
            let kept: BTreeSet<usize> = kept.iter().copied().collect();
            let less =
                best.only(|n, e| !sections.contains(&e.section.as_str()) || kept.contains(&n));
            let less = without_dangling(&less, sections);
            failures(&less, seed).is_some_and(|f| !f.is_disjoint(&before))
        };
        let shrunk = shrink::shrink_with(numbers(&best), |_| Vec::new(), fails, MAX_RUNS);
        runs += shrunk.runs;
        let kept: BTreeSet<usize> = shrunk.events.into_iter().collect();
        best = best.only(|n, e| !sections.contains(&e.section.as_str()) || kept.contains(&n));
        best = without_dangling(&best, sections);
    }
    let failed = failures(&best, seed).unwrap_or_default();
    let events = |d: &Document| d.entries.iter().filter(|e| e.section == "event").count();
    Ok(Some(Small {
        failed: failed.into_iter().collect(),
        events: events(&best),
        events_before: events(&doc),
        tables: best.entries.len() - 1,
        tables_before: doc.entries.len() - 1,
        document: best,
        runs,
    }))
}
