//! Reads expectations.

use std::time::Duration;

use super::{
    entry::{Res, fill, one_of},
    keys_parts::{CHECKS, EXPECT, ExpectDraft},
    names::Names,
};
use crate::scenario::{
    model::{Bound, Check, Expect},
    syntax::document::{Document, Entry},
};

/// The longest time without an answer for a flow to count as unbroken, unless the scenario says
/// otherwise.
const DEFAULT_GAP: Duration = Duration::from_secs(3);

pub(super) fn expect(doc: &Document, entry: &Entry, names: &Names) -> Res<Expect> {
    let mut draft = ExpectDraft::default();
    fill(doc, entry, EXPECT, &mut draft)?;
    let known: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
    let what = one_of(doc, entry, &known)?;
    let with = CHECKS.iter().find(|(name, _)| *name == what.key);
    let with = with.map_or(&[][..], |(_, with)| *with);
    for item in &entry.items {
        let key = item.key.as_str();
        if key != what.key && !with.contains(&key) {
            let message = format!("`{key}` does not go with `{}`", what.key);
            let help = match with {
                [] => "take it out".into(),
                with => format!("what does: {}", with.join(", ")),
            };
            return Err(doc.error(item.at.clone(), message, help));
        }
    }
    let at = what.value.at.clone();
    let bound = if draft.bound == Bound::default() {
        Bound {
            at_least: Some(1),
            at_most: None,
        }
    } else {
        draft.bound
    };
    if let (Some(low), Some(high)) = (bound.at_least, bound.at_most)
        && low > high
    {
        let message = "`at-least` is greater than `at-most`";
        return Err(doc.error(entry.place("at-most"), message, format!("at least {low}")));
    }
    let gap = draft.gap.unwrap_or(DEFAULT_GAP);
    let within = draft.within;
    let check = if let Some((a, b)) = draft.connected {
        names.puncher(doc, at.clone(), &a)?;
        names.puncher(doc, at, &b)?;
        Check::Connected { a, b, within }
    } else if let Some((a, b)) = draft.not_connected {
        names.puncher(doc, at.clone(), &a)?;
        names.puncher(doc, at, &b)?;
        Check::NotConnected { a, b }
    } else if let Some(hosts) = draft.completed {
        hosts
            .iter()
            .try_for_each(|h| names.engine(doc, at.clone(), h))?;
        Check::Completed { hosts, within }
    } else if let Some(hosts) = draft.not_completed {
        hosts
            .iter()
            .try_for_each(|h| names.engine(doc, at.clone(), h))?;
        Check::NotCompleted { hosts }
    } else if let Some((first, second)) = draft.sooner {
        names.engine(doc, at.clone(), &first)?;
        names.engine(doc, at, &second)?;
        Check::Sooner { first, second }
    } else if let Some(rule) = draft.rule {
        if let Some(node) = &draft.at {
            names.node(doc, entry.place("at"), node)?;
        }
        let node = draft.at;
        Check::Rule { rule, node, bound }
    } else if let Some((from, to)) = draft.delivered {
        names.host(doc, at.clone(), &from)?;
        names.host(doc, at, &to)?;
        Check::Delivered { from, to, bound }
    } else if let Some(host) = draft.answered {
        names.asker(doc, at, &host)?;
        Check::Answered { host }
    } else if let Some(host) = draft.unbroken {
        names.steady(doc, at, &host)?;
        Check::Unbroken { host, gap }
    } else if let Some(host) = draft.broken {
        names.steady(doc, at, &host)?;
        Check::Broken { host, gap }
    } else {
        Check::Trace(draft.trace.unwrap_or_default())
    };
    let line = doc.error(what.at.clone(), "", "").line;
    Ok(Expect { check, line })
}
